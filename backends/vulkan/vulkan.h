// The Vulkan backend's own objects, shared by its files.
#ifndef SKIM_VULKAN_VULKAN_H
#define SKIM_VULKAN_VULKAN_H

#include "backends/gpu/launch.h"
#include "backends/vulkan/loader.h"
#include "runtime/backend.h"
#include "runtime/memory.h"
#include "shaders/layout.h"

extern const skim_backend skim_backend_vulkan;

enum { SKIM_VULKAN_PHYSICAL_MAX = 64 };

// How every buffer is used, the host's too.
#define SKIM_VULKAN_BUFFER_USAGE                                                                   \
    (VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |                         \
     VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT)

// Bytes of the largest buffer: kernels count 31 bits of units of 16 bytes.
#define SKIM_VULKAN_ADDRESSABLE ((uint64_t)1 << 35)

// ---- kernels and pipelines

typedef enum skim_vulkan_kernel {
    SKIM_VULKAN_APPEND,
    SKIM_VULKAN_CENTRE,
    SKIM_VULKAN_ESTIMATE,
    SKIM_VULKAN_SELECT,
    SKIM_VULKAN_ATTEND,
    SKIM_VULKAN_MERGE,
    SKIM_VULKAN_PREFILL,
    SKIM_VULKAN_KERNELS
} skim_vulkan_kernel;

// Values of the SKIM_SPEC_* constants.
typedef struct skim_vulkan_constants {
    uint32_t value[SKIM_SPEC_COUNT];
} skim_vulkan_constants;

typedef struct skim_vulkan_pipeline {
    skim_vulkan_kernel kernel;
    skim_vulkan_constants constants;
    VkPipeline handle;
} skim_vulkan_pipeline;

typedef struct skim_vulkan_pipelines {
    VkPipelineLayout layout;
    VkPipelineCache cache;
    skim_mutex mutex;                            // of all below but the name
    VkShaderModule modules[SKIM_VULKAN_KERNELS]; // made when they are first needed
    skim_vulkan_pipeline *items;
    uint32_t count, capacity;
    int queues;     // that may use them
    uint32_t saved; // pipelines made when the cache was last saved
    uint64_t kept;  // checksum of what the host's store has; 0: nothing
    char name[96];  // of the cache in the host's store
} skim_vulkan_pipelines;

// ---- the device

struct skim_vulkan_chunk;

typedef struct skim_vulkan_device {
    skim_device *base;
    skim_vulkan_instance instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    skim_vulkan_functions vk;
    bool imported;              // instance, device and queue are the host's
    bool is_complete;           // vk is, and what was made with it is to be destroyed
    skim_mutex queue_mutex;     // of the VkQueue, which is everybody's
    skim_vulkan_lock host_lock; // of the host's, taken within it; may be none
    VkQueue queue;
    skim_mutex idle_mutex;   // of what follows
    VkCommandPool wipe_pool; // of the command buffer that zeroes memory before it is released
    VkCommandBuffer wipe_commands;
    VkSemaphore idle; // a timeline, signalled by those who wait for all that was submitted
    uint64_t idle_value;
    uint32_t family;
    VkPhysicalDeviceMemoryProperties memory;
    bool has_budget;
    atomic_ullong held;      // bytes of device memory
    uint64_t allocation_max; // bytes of the driver's largest allocation
    uint64_t chunk_size;     // bytes of a chunk of a buffer that is larger
    uint32_t chunk_shift;    // log2 of its units
    uint32_t subgroup_size;
    double timestamp_period; // nanoseconds
    uint64_t timestamp_mask;
    double submission_work; // multiplications that a submission may hold
    skim_vulkan_pipelines pipelines;
} skim_vulkan_device;

// A pool and a command buffer of it. One that fails leaves nothing.
skim_status skim_vulkan_commands_create(skim_vulkan_device *device, skim_error *error,
                                        VkCommandPool *pool, VkCommandBuffer *commands);
// A timeline semaphore at 0.
VkResult skim_vulkan_timeline_create(skim_vulkan_device *device, VkSemaphore *timeline);
// vkQueueSubmit of one batch, within the locks.
VkResult skim_vulkan_submit(skim_vulkan_device *device, const VkSubmitInfo *info);
// Submits commands (or none) and waits, outside the locks, until they and all that was submitted
// before are done. With idle_mutex held. Notes a lost device.
VkResult skim_vulkan_submit_and_wait(skim_vulkan_device *device, uint32_t count,
                                     const VkCommandBuffer *commands);
// Waits for all that was submitted, where a timeline cannot be waited for. A queue that will not
// say that it is idle counts as lost: nothing could be released any more.
VkResult skim_vulkan_wait_idle(skim_vulkan_device *device);
// Zeroes the first bytes of a buffer in so many pieces and waits for it. What is lost is not
// zeroed.
void skim_vulkan_wipe(skim_vulkan_device *device, const struct skim_vulkan_chunk *chunks,
                      uint32_t count, uint64_t bytes);

static inline skim_vulkan_device *skim_vulkan_device_of(const skim_device *device)
{
    return device->impl;
}

// A result of Vulkan's that is no success, as a status with a sentence. Notes a lost device.
skim_status skim_vulkan_fail(skim_device *device, skim_error *error, VkResult result,
                             const char *call);

skim_status skim_vulkan_pipelines_init(skim_vulkan_device *device, skim_error *error);
void skim_vulkan_pipelines_deinit(skim_vulkan_device *device);
// Finds a pipeline, or makes it.
skim_status skim_vulkan_pipeline_get(skim_vulkan_device *device, skim_vulkan_kernel kernel,
                                     const skim_vulkan_constants *constants, skim_error *error,
                                     VkPipeline *pipeline);
// One queue more or less that may use pipelines: without any, only a few are kept.
void skim_vulkan_pipelines_hold(skim_vulkan_device *device, int queues);
// Keeps what was made in the host's store.
void skim_vulkan_pipelines_save(skim_vulkan_device *device);

// The constants that follow from a shape.
skim_vulkan_constants skim_vulkan_constants_of(const skim_vulkan_device *device,
                                               const skim_shape *shape);
// Sets, for select and attend, those that follow from how pages are selected.
void skim_vulkan_set_lists(skim_vulkan_constants *constants, const skim_vulkan_device *device,
                           const skim_shape *shape, skim_select_mode select);

// ---- the host's own objects (interop.c)

// Takes the host's instance and physical device, and notes that the rest is the host's, too.
skim_status skim_vulkan_import(skim_vulkan_device *device, const skim_vulkan_options *options,
                               skim_error *error);
skim_status skim_vulkan_buffer_wrap_handle(skim_buffer *buffer, uint64_t handle);
skim_status skim_vulkan_queue_semaphore(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                                        bool signals);

// ---- memory

// A buffer's memory: one piece, or several of chunk_size bytes (the last may be smaller).
typedef struct skim_vulkan_chunk {
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkDeviceAddress address;
    uint64_t size;
} skim_vulkan_chunk;

typedef struct skim_vulkan_buffer {
    uint32_t count;
    bool wrapped; // the host's
    skim_vulkan_chunk chunks[];
} skim_vulkan_buffer;

static inline bool skim_vulkan_is_split(const skim_buffer *buffer)
{
    return ((const skim_vulkan_buffer *)buffer->impl)->count > 1;
}

// Where a byte of a buffer is.
uint64_t skim_vulkan_address(const skim_vulkan_device *device, const skim_vulkan_buffer *buffer,
                             uint64_t offset);
// The table that kernels find the pieces of a buffer by: struct Chunks of
// shaders/vulkan/common.glsl. offset, a multiple of 16, is where what they look for begins.
uint64_t skim_vulkan_table_size(const skim_vulkan_device *device, const skim_buffer *buffer);
void skim_vulkan_fill_table(const skim_vulkan_device *device, const skim_buffer *buffer,
                            uint64_t offset, char *table);

// Memory that the host has mapped, coherent, with an address.
typedef struct skim_vulkan_mapping {
    skim_vulkan_chunk chunk;
    char *bytes;
} skim_vulkan_mapping;

// The heap that buffers live in: the largest that is the device's own.
uint32_t skim_vulkan_main_heap(const VkPhysicalDeviceMemoryProperties *memory);
uint64_t skim_vulkan_memory_available(const skim_device *device);
skim_status skim_vulkan_chunk_create(skim_device *device, uint64_t size, skim_error *error,
                                     skim_vulkan_chunk *chunk);
void skim_vulkan_chunk_destroy(skim_vulkan_device *device, skim_vulkan_chunk *chunk);
skim_status skim_vulkan_mapping_create(skim_device *device, uint64_t size, skim_error *error,
                                       skim_vulkan_mapping *mapping);
skim_status skim_vulkan_buffer_create(skim_buffer *buffer);
void skim_vulkan_buffer_destroy(skim_buffer *buffer);

// ---- verbs

skim_status skim_vulkan_append(skim_backend_queue *queue, const skim_append_args *args);
skim_status skim_vulkan_estimate(skim_backend_queue *queue, const skim_estimate_args *args);
skim_status skim_vulkan_select(skim_backend_queue *queue, const skim_select_args *args);
skim_status skim_vulkan_attend(skim_backend_queue *queue, const skim_attend_args *args);

#endif
