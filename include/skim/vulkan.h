// The Vulkan backend beside the application's own Vulkan: its device and queue, its buffers and its
// timeline semaphores.
//
// The header declares the few handles itself, so that it needs no Vulkan header and goes with any,
// included before it or after it. Dispatchable handles are pointers to the structs that Vulkan's
// own headers name (VkInstance is struct VkInstance_T *), so that they are passed as they are. The
// others, which are pointers on some machines and numbers on others, are numbers here: pass
// (uint64_t)buffer and (uint64_t)semaphore.
//
// In a build of Skim without Vulkan all functions are there; opening a device answers
// SKIM_NO_DEVICE.
#ifndef SKIM_VULKAN_H
#define SKIM_VULKAN_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct VkInstance_T;
struct VkPhysicalDevice_T;
struct VkDevice_T;
struct VkQueue_T;

#if defined(_WIN32)
#define SKIM_VULKAN_CALL __stdcall
#else
#define SKIM_VULKAN_CALL
#endif

// PFN_vkVoidFunction and PFN_vkGetInstanceProcAddr.
typedef void(SKIM_VULKAN_CALL *skim_vulkan_function)(void);
typedef skim_vulkan_function(SKIM_VULKAN_CALL *skim_vulkan_get_function)(
    struct VkInstance_T *instance, const char *name);

// ---- what Skim needs of a device

// Features that a host says it has enabled (skim_vulkan_options.features).
#define SKIM_VULKAN_FEATURE_STORAGE_16BIT ((uint64_t)1 << 0)  // storageBuffer16BitAccess
#define SKIM_VULKAN_FEATURE_BUFFER_ADDRESS ((uint64_t)1 << 1) // bufferDeviceAddress
#define SKIM_VULKAN_FEATURE_TIMELINE ((uint64_t)1 << 2)       // timelineSemaphore
#define SKIM_VULKAN_FEATURE_FLOAT16 ((uint64_t)1 << 3)        // shaderFloat16
#define SKIM_VULKAN_FEATURE_SUBGROUP_SIZE ((uint64_t)1 << 4)  // subgroupSizeControl
#define SKIM_VULKAN_FEATURE_FULL_SUBGROUPS ((uint64_t)1 << 5) // computeFullSubgroups

// Numbers are Vulkan's.
typedef struct skim_vulkan_requirements {
    size_t size_of;
    uint32_t api_version;  // least apiVersion, of VkApplicationInfo and of the physical device
    uint32_t queue_flags;  // VkQueueFlagBits that the queue's family has
    uint32_t buffer_usage; // VkBufferUsageFlagBits that a wrapped buffer was created with
    uint32_t memory_flags; // VkMemoryAllocateFlagBits that its memory was allocated with
    uint32_t item_count;   // features and extensions: skim_vulkan_requirement_info
} skim_vulkan_requirements;

// A feature, or an extension, of the device.
typedef struct skim_vulkan_requirement {
    size_t size_of;
    const char *name;      // "bufferDeviceAddress", "VK_EXT_memory_budget"; static
    const char *structure; // that the feature is a member of, such as
                           // "VkPhysicalDeviceVulkan12Features" (or of the smaller structure that
                           // has it); static; NULL: an extension
    uint64_t feature;      // SKIM_VULKAN_FEATURE_*; 0: an extension
    uint32_t required;     // 1: no device without it; 0: enable it if it is there
} skim_vulkan_requirement;

// Fills requirements (size_of set) with what this version of the library needs. Needs no driver.
// Any thread. Errors: SKIM_INVALID.
SKIM_API skim_status skim_vulkan_get_requirements(skim_vulkan_requirements *requirements);

// Fills item (size_of set) for index < skim_vulkan_requirements.item_count. Any thread.
// Errors: SKIM_INVALID.
SKIM_API skim_status skim_vulkan_requirement_info(uint32_t index, skim_vulkan_requirement *item);

// ---- devices

// How the host guards a VkQueue that it uses too. Skim calls lock before and unlock after each
// vkQueueSubmit on it, on the thread that called into Skim, and does not wait for the GPU in
// between (but for a vkQueueWaitIdle where the driver could not wait for a semaphore). Neither may
// call into Skim, nor may the host call into Skim while it holds the lock, unless the lock may be
// taken twice by one thread.
typedef struct skim_vulkan_lock {
    void (*lock)(void *user);
    void (*unlock)(void *user);
    void *user;
} skim_vulkan_lock;

typedef struct skim_vulkan_options {
    size_t size_of;
    uint64_t disable; // fast paths not to use, as in skim_device_options

    // Bytes of the largest piece of device memory, at least 65536; 0: what the driver says. Rounded
    // down to a power of two. A larger buffer lies in several pieces. Keys, values and bounds may
    // lie anywhere; any other tensor of a call must lie within one piece, counted from the start of
    // its buffer, or the call is SKIM_UNSUPPORTED. What the library keeps beside those is not
    // limited by it: staging, scratch, a cache's tables, scores and lists.
    uint64_t allocation_max;

    // Without a device of the host's: which one to open, "vulkan", "vulkan:1" or a UUID. NULL:
    // "vulkan".
    const char *selector;

    // The host's: all four, or none. They stay the host's, which destroys them after
    // skim_device_close.
    struct VkInstance_T *instance;
    struct VkPhysicalDevice_T *physical_device; // of the instance
    struct VkDevice_T *device;                  // of the physical device
    struct VkQueue_T *queue;                    // of the device
    uint32_t queue_family;                      // that the queue was taken from
    uint64_t features; // SKIM_VULKAN_FEATURE_* bits of what the device was created with

    // The vkGetInstanceProcAddr that the instance came by. NULL: that of the system's loader.
    skim_vulkan_get_function get_instance_proc_addr;
    // Both NULL: nobody else uses the queue while a call into Skim runs.
    skim_vulkan_lock lock;
} skim_vulkan_options;

// Opens a device of Skim's own (selector), or uses the host's. Everything else as skim_device_open.
//   options  copied; may be NULL for the defaults
//   device   receives the device; close it with skim_device_close, before the host destroys its own
// All queues of a device of the host's share its VkQueue. Several devices of Skim's may use one
// VkDevice; if they share a VkQueue too, they need the same lock.
// What a VkDevice was created with cannot be asked: besides options.features, Skim finds out what
// the physical device, the queue's family and the table of functions tell.
// Blocks while the driver initialises. Thread-safe.
// skim_device_info.selector is empty if the host's device is none of those that were found.
// Errors: SKIM_INVALID (some of the handles without the others, handles that do not belong
// together, only one of lock and unlock, allocation_max below 65536, a selector of no Vulkan
// device), SKIM_NO_DEVICE (without a device of the host's: none that is usable, see the runtime's
// error), SKIM_UNSUPPORTED (the host's device lacks something: the error on the runtime names it),
// SKIM_NO_MEMORY, SKIM_FAILED.
SKIM_API skim_status skim_vulkan_device_open(skim_runtime *runtime,
                                             const skim_vulkan_options *options,
                                             skim_device **device);

// ---- buffers

// Makes a buffer of Skim's of a VkBuffer of the host's, for use with all calls that take one.
//   handle  (uint64_t)buffer: of the VkDevice that the device uses, created with
//           skim_vulkan_requirements.buffer_usage, bound to memory allocated with memory_flags, its
//           device address a multiple of 16; exclusive to the queue's family, or concurrent
//   size    bytes of it to use, from its start, at most what it was created with
//   buffer  receives the buffer; destroy it with skim_buffer_destroy, before the host destroys its
//           own. That frees and zeroes nothing of the host's.
// Whatever the host does to it elsewhere is ordered with Skim's work by semaphores (below), or by
// waiting. Thread-safe.
// Errors: SKIM_INVALID, SKIM_UNSUPPORTED (the device is not a Vulkan device; the buffer has no
// usable address, or 2^35 bytes and more), SKIM_NO_MEMORY (of the host), SKIM_DEVICE_LOST.
SKIM_API skim_status skim_vulkan_buffer_wrap(skim_device *device, uint64_t handle, uint64_t size,
                                             skim_buffer **buffer);

// ---- semaphores

// Makes the queue's next submission wait until the host's timeline semaphore has a value of at
// least value: what is recorded after this call runs after that, and sees what was done before the
// semaphore was signalled. What was recorded before may wait as well. Counts as recorded work, so
// that a submission of nothing else has a point.
//   semaphore  (uint64_t)semaphore: a timeline semaphore of the VkDevice, which must live until the
//              submission's point is reached
// Does not block; but from then on, whatever blocks for this queue's work waits for the host as
// well, and a host that signals on the same VkQueue must have submitted that first. Dropped if the
// submission is (skim_queue_destroy, a wait that failed). At most 16 semaphores a submission.
// Errors: SKIM_INVALID, SKIM_UNSUPPORTED (not a Vulkan device), SKIM_STATE (a 17th semaphore:
// submit first), SKIM_DEVICE_LOST.
SKIM_API skim_status skim_vulkan_queue_wait_semaphore(skim_queue *queue, uint64_t semaphore,
                                                      uint64_t value);

// Makes the queue's next submission signal the host's timeline semaphore when all work recorded so
// far is done, with value, which is larger than the semaphore's own then. What goes to host memory
// (an out of the host's, a download) is there only after a call of Skim's that waits, such as
// skim_queue_wait, for the point. Everything else as for waiting. Errors: as above; SKIM_INVALID
// too if the semaphore has passed the value already.
SKIM_API skim_status skim_vulkan_queue_signal_semaphore(skim_queue *queue, uint64_t semaphore,
                                                        uint64_t value);

#ifdef __cplusplus
}
#endif
#endif
