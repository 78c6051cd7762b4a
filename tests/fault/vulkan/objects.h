// The fake driver's objects and books, shared by its files.
#ifndef FAKE_VULKAN_OBJECTS_H
#define FAKE_VULKAN_OBJECTS_H

#include "shaders/layout.h"
#include "tests/fault/vulkan/fake.h"

#define FAKE_KINDS(X)                                                                              \
    X(nothing)                                                                                     \
    X(instance)                                                                                    \
    X(physical_device)                                                                             \
    X(device)                                                                                      \
    X(queue)                                                                                       \
    X(memory)                                                                                      \
    X(buffer)                                                                                      \
    X(module)                                                                                      \
    X(layout)                                                                                      \
    X(cache)                                                                                       \
    X(pipeline)                                                                                    \
    X(pool)                                                                                        \
    X(commands)                                                                                    \
    X(semaphore)                                                                                   \
    X(queries)

typedef enum fake_kind {
#define FAKE_KIND(name) KIND_##name,
    FAKE_KINDS(FAKE_KIND)
#undef FAKE_KIND
        KIND_COUNT
} fake_kind;

typedef enum fake_kernel {
    KERNEL_NONE,
    KERNEL_APPEND,
    KERNEL_CENTRE,
    KERNEL_ESTIMATE,
    KERNEL_SELECT,
    KERNEL_ATTEND,
    KERNEL_MERGE,
    KERNEL_PREFILL
} fake_kernel;

typedef enum fake_state { INITIAL, RECORDING, EXECUTABLE, PENDING, INVALID } fake_state;

enum { QUERIES_MAX = 64, PUSH_MAX = 128 };

typedef enum fake_what {
    DO_BARRIER,
    DO_COPY,
    DO_FILL,
    DO_RESET,
    DO_TIMESTAMP,
    DO_DISPATCH
} fake_what;

// A recorded command.
typedef struct fake_command {
    fake_what what;
    uint64_t one, other; // buffers, query pool or pipeline
    uint64_t one_at, other_at, size;
    uint32_t word;                            // of a fill
    uint32_t base[3], groups[3];              // of a dispatch
    _Alignas(8) unsigned char push[PUSH_MAX]; // of a dispatch
    bool to_host;                             // of a barrier
} fake_command;

// All kinds in one: what a kind does not need stays zero.
typedef struct fake_object {
    fake_kind kind;
    uint32_t generation;
    bool alive;
    uint64_t parent;  // handle
    uint64_t used_by; // number of the last submission that uses it
    uint64_t size;    // memory, buffer; cache: pipelines that it began with
    char *bytes;      // memory
    bool mapped;      // memory
    uint64_t memory;  // buffer: what it is bound to
    uint64_t memory_at;
    uint64_t address;   // buffer
    fake_kernel kernel; // module, pipeline
    uint32_t constants[SKIM_SPEC_COUNT];
    bool in_subgroups; // module: adds up in them; device: can make them full and of a size
    // Command buffers.
    fake_state state;
    fake_command *commands;
    uint32_t command_count, command_capacity;
    uint64_t bound; // pipeline
    unsigned char push[PUSH_MAX];
    uint64_t submission;
    // Semaphores.
    uint64_t value;
    // Queries.
    uint64_t times[QUERIES_MAX];
    bool available[QUERIES_MAX];
} fake_object;

extern fake_control fake;

void fake_violation(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

// First in every call: counts it, and gives the result that it was told to return. On a lost device
// calls that can say so do.
VkResult fake_enter(fake_call call, uint64_t device);
bool fake_is_lost(uint64_t device);
void fake_lose(uint64_t device);

uint64_t fake_make(fake_kind kind, uint64_t parent);
// NULL, and a violation, if the handle is not of a living object of the kind.
fake_object *fake_find(fake_kind kind, uint64_t handle, const char *call);
void fake_destroy(fake_kind kind, uint64_t handle, uint64_t device, const char *call);
// Calls visit for every living object of the kind.
void fake_each(fake_kind kind, void (*visit)(uint64_t handle, fake_object *object, void *user),
               void *user);

// The host's view of size bytes of device memory at an address; NULL, and a violation, if they are
// not all in one living buffer.
// Where a buffer is, offset bytes after where it might be.
uint64_t fake_give_address(uint64_t buffer, uint64_t offset);
void *fake_reach(uint64_t address, uint64_t size);

// Executes a dispatch.
void fake_compute(const fake_object *pipeline, const fake_command *command);
// Which kernel some SPIR-V is, with its size in bytes, and whether it needs full subgroups.
fake_kernel fake_kernel_of(const uint32_t *words, size_t size, bool *adds_in_subgroups);

// Work that is submitted (work.c): the last submission that the host knows to be done; a device
// that is lost drops what is left.
uint64_t fake_observed(void);
void fake_abandon(void);
void fake_forget_work(void);

// Every entry point, as the table of the loader has it.
#define FAKE_DECLARE(name) extern __typeof__(*(PFN_vk##name)0) fake_##name;
FAKE_GLOBAL_FUNCTIONS(FAKE_DECLARE)
SKIM_VULKAN_INSTANCE_FUNCTIONS(FAKE_DECLARE)
SKIM_VULKAN_DEVICE_FUNCTIONS(FAKE_DECLARE)
#undef FAKE_DECLARE

#define FAKE_HANDLE(type, handle) ((type)(uintptr_t)(handle))
#define FAKE_NUMBER(handle) ((uint64_t)(uintptr_t)(handle))

#endif
