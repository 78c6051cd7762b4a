// A Vulkan driver that computes on the host, fails when told to, lies about what it can do, and
// keeps exact books: whatever the specification forbids is noted as a violation. It is built as a
// library named like the loader, so that dlopen finds it in place of the real one.
//
// Calls come from one thread at a time.
#ifndef FAKE_VULKAN_H
#define FAKE_VULKAN_H

#include "backends/vulkan/loader.h"

#include <stdint.h>

// Calls that the loader has beside its table.
#define FAKE_GLOBAL_FUNCTIONS(X)                                                                   \
    X(EnumerateInstanceVersion)                                                                    \
    X(EnumerateInstanceExtensionProperties)                                                        \
    X(CreateInstance)

typedef enum fake_call {
#define FAKE_CALL(name) FAKE_##name,
    FAKE_GLOBAL_FUNCTIONS(FAKE_CALL) SKIM_VULKAN_INSTANCE_FUNCTIONS(FAKE_CALL)
        SKIM_VULKAN_DEVICE_FUNCTIONS(FAKE_CALL)
#undef FAKE_CALL
            FAKE_CALLS
} fake_call;

// What fails: the index-th call of an entry point since the plan was set (and all after it).
typedef struct fake_plan {
    bool set;
    fake_call call;
    uint32_t index;
    bool persistent;
    VkResult result;
} fake_plan;

// What the driver says of itself; all zero is a device that will do.
typedef struct fake_lies {
    uint32_t loader_version, device_version; // 0: 1.2
    bool no_16bit, no_addresses, no_timeline;
    bool no_compute;      // no queue family that computes
    bool no_type;         // no memory type for a buffer
    bool no_budget;       // extension
    bool zero_address;    // of every buffer
    bool odd_address;     // not aligned
    bool has_portability; // and wants it to be asked for
    bool is_software;
    bool other_cache; // pipelines kept by it are none of the usual driver's
    bool no_device;
    bool incomplete;                        // VK_INCOMPLETE with the devices
    uint32_t vanishes_after;                // lists of devices; 0: never
    uint32_t timestamp_bits;                // less 1; 0: 64
    uint32_t subgroup_size;                 // 0: 32
    bool no_size_control;                   // extension
    bool no_chosen_size, no_full_subgroups; // its features
    bool no_size_of_compute;                // its limits: a size may be chosen elsewhere only
    uint32_t workgroup_subgroups;           // 0: 64
    uint32_t shared_memory, threads, push_constants;
    uint64_t allocation_max; // 0: 1 GiB
    uint64_t buffer_max;     // 0: no VK_KHR_maintenance4, which tells it
    uint64_t heap_size;      // 0: 4 GiB
    uint64_t budget, usage;  // budget 0: the truth
    const char *missing;     // an entry point, "vk" included
    bool eager;              // work is done when it is submitted, not when it is waited for
} fake_lies;

typedef struct fake_control {
    fake_lies lies;
    fake_plan plan;
    // Since the plan was set.
    uint32_t calls[FAKE_CALLS];
    uint32_t fired;
    fake_call fired_call; // the last
    // What is alive, device memory in bytes, and the first violation.
    uint32_t objects;
    uint64_t memory;
    uint64_t dirty; // bytes of device memory that were released as something had left them
    char violation[256];
    uint32_t caches_handed; // to it, since the process began
    uint64_t dispatches, submissions;
    uint64_t split_dispatches; // of kernels for buffers in pieces

    // The test's: told of each failure that the plan brings about, and of each violation.
    void (*fires)(void);
    void (*notes)(const char *violation);

    const char *(*name)(fake_call call);
    // Results that the call may return besides VK_SUCCESS, the last one 0; none for void functions.
    const VkResult *(*errors)(fake_call call);
    // Zeroes counts and sets the plan.
    void (*reset)(const fake_plan *plan);
    // Writes what is alive to text, kind by kind.
    void (*list)(char *text, size_t size);
    // Forgets everything, as when the process ends.
    void (*forget)(void);
} fake_control;

// The one symbol besides vkGetInstanceProcAddr: fake_control *fake_vulkan(void).
typedef fake_control *fake_vulkan_function(void);

#endif
