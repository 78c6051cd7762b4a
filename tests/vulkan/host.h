// An application with a Vulkan of its own: instance, device, queue, buffers, semaphores and work,
// made with exactly what Skim's header asks for, and a spy between Skim and the driver.
#ifndef VULKAN_HOST_H
#define VULKAN_HOST_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "skim/skim.h"
#include "skim/vulkan.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define HOST_INSTANCE_FUNCTIONS(X)                                                                 \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties)                                                           \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

#define HOST_DEVICE_FUNCTIONS(X)                                                                   \
    X(DestroyDevice)                                                                               \
    X(GetDeviceQueue)                                                                              \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(GetBufferMemoryRequirements)                                                                 \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(BindBufferMemory)                                                                            \
    X(MapMemory)                                                                                   \
    X(CreateSemaphore)                                                                             \
    X(DestroySemaphore)                                                                            \
    X(SignalSemaphore)                                                                             \
    X(WaitSemaphores)                                                                              \
    X(GetSemaphoreCounterValue)                                                                    \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(AllocateCommandBuffers)                                                                      \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CmdPipelineBarrier)                                                                          \
    X(QueueSubmit)                                                                                 \
    X(DeviceWaitIdle)

#define HOST_MEMBER(name) PFN_vk##name name;

typedef struct host_app {
    void *library;
    PFN_vkGetInstanceProcAddr get;
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    uint64_t features;     // SKIM_VULKAN_FEATURE_*: what the device was created with
    pthread_mutex_t mutex; // of the queue
    VkCommandPool pool;    // of the thread that opened the host
    HOST_INSTANCE_FUNCTIONS(HOST_MEMBER)
    HOST_DEVICE_FUNCTIONS(HOST_MEMBER)
} host_app;

// What Skim was seen to do to the host's device, and lies it is told about it.
typedef struct host_spy {
    const host_app *host;
    atomic_uint submissions, unlocked_submissions; // of Skim's
    atomic_uint destroyed;                         // objects of the host's that Skim destroyed
    VkBuffer guarded;                              // one of those
    uint32_t version;                              // 0: the driver's
    const char *missing_feature;                   // NULL: none
    const char *missing_function;
} host_spy;
extern host_spy spy;

typedef struct host_buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    VkDeviceSize size;
    char *bytes; // mapped; NULL if it was not asked for
} host_buffer;

// Opens the loader, an instance of that version, a device and its queue. optional: with the
// features that Skim can do without as well. False, with a reason, if there is no such thing here.
bool host_open(host_app *host, uint32_t version, bool optional, char *reason, size_t reason_size);
void host_close(host_app *host);

void host_lock(void *host);
void host_unlock(void *host);
// Whether the calling thread holds the lock of some host.
bool host_holds_lock(void);

// vkGetInstanceProcAddr of spy.host, with the spy in between.
skim_vulkan_function SKIM_VULKAN_CALL host_spied_get(struct VkInstance_T *instance,
                                                     const char *name);
void host_spy_reset(const host_app *host);

// Options that import the host's device, through the spy.
skim_vulkan_options host_options(host_app *host);

host_buffer host_buffer_create(const host_app *host, VkDeviceSize size, VkBufferUsageFlags usage,
                               bool mapped);
void host_buffer_destroy(const host_app *host, host_buffer *buffer);
VkSemaphore host_timeline_create(const host_app *host);
VkCommandPool host_pool_create(const host_app *host);

// Work of the host's: begin, record, then submit under the lock. wait and signal may be null.
VkCommandBuffer host_begin(const host_app *host, VkCommandPool pool);
void host_submit(host_app *host, VkCommandBuffer commands, VkSemaphore wait, uint64_t wait_value,
                 VkSemaphore signal, uint64_t signal_value);
// Copies and makes the copy visible to the host.
void host_record_copy(const host_app *host, VkCommandBuffer commands, VkBuffer from,
                      VkDeviceSize from_offset, VkBuffer to, VkDeviceSize to_offset,
                      VkDeviceSize size);
void host_wait(const host_app *host, VkSemaphore semaphore, uint64_t value);

#endif
