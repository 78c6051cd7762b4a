// The host's own instance, device, queue, buffers and semaphores.
#include "backends/vulkan/queue.h"

#include <inttypes.h>
#include <stdio.h>

// What skim/vulkan.h declares for itself is what Vulkan's headers do.
_Static_assert(sizeof(VkBuffer) <= sizeof(uint64_t), "handles are numbers of 64 bits");
_Static_assert(SKIM_VULKAN_BUFFER_USAGE == (0x1 | 0x2 | 0x20 | 0x20000), "buffer_usage");
_Static_assert(VK_QUEUE_COMPUTE_BIT == 0x2, "queue_flags");
_Static_assert(VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT == 0x2, "memory_flags");
_Static_assert(VK_API_VERSION_1_2 == (1u << 22 | 2u << 12), "api_version");

// ---- the device

static bool is_of_instance(const skim_vulkan_instance *instance, VkPhysicalDevice wanted)
{
    VkPhysicalDevice handles[SKIM_VULKAN_PHYSICAL_MAX];
    uint32_t count = SKIM_VULKAN_PHYSICAL_MAX;
    if (instance->EnumeratePhysicalDevices(instance->handle, &count, handles) < VK_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (handles[i] == wanted)
            return true;
    return false;
}

skim_status skim_vulkan_import(skim_vulkan_device *device, const skim_vulkan_options *options,
                               skim_error *error)
{
    skim_vulkan_instance *instance = &device->instance;
    char reason[200] = "";
    device->imported = true;
    device->host_lock = options->lock;
    instance->get = options->get_instance_proc_addr;
    if (!instance->get && !skim_vulkan_library_open(instance, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "%s; or give get_instance_proc_addr", reason);
    instance->handle = options->instance;
    if (!skim_vulkan_instance_fill(instance, reason, sizeof reason))
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "%s: the host's instance must be one of Vulkan 1.2 or later", reason);
    if (!is_of_instance(instance, options->physical_device))
        return skim_fail(error, SKIM_INVALID, "physical_device is not of the instance");
    device->physical = options->physical_device;
    device->family = options->queue_family;
    return SKIM_OK;
}

// ---- buffers

skim_status skim_vulkan_buffer_wrap_handle(skim_buffer *buffer, uint64_t handle)
{
    skim_device *base = buffer->device;
    skim_vulkan_device *device = skim_vulkan_device_of(base);
    if (buffer->size > SKIM_VULKAN_ADDRESSABLE)
        return skim_fail(&base->error, SKIM_UNSUPPORTED,
                         "a buffer of %" PRIu64 " bytes exceeds the %" PRIu64
                         " that a kernel addresses",
                         buffer->size, SKIM_VULKAN_ADDRESSABLE);
    VkBuffer host = (VkBuffer)handle;
    VkMemoryRequirements needs;
    device->vk.GetBufferMemoryRequirements(device->handle, host, &needs);
    if (buffer->size > needs.size)
        return skim_fail(&base->error, SKIM_INVALID,
                         "the buffer to wrap has %" PRIu64 " bytes, not %" PRIu64,
                         (uint64_t)needs.size, buffer->size);
    const VkBufferDeviceAddressInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                            .buffer = host};
    const uint64_t address = device->vk.GetBufferDeviceAddress(device->handle, &info);
    if (address == 0 || address % 16 != 0)
        return skim_fail(&base->error, SKIM_UNSUPPORTED,
                         "the buffer to wrap is at the address %" PRIu64
                         ", which is no multiple of 16 above 0; skim_vulkan_requirements says how "
                         "to create it",
                         address);
    skim_vulkan_buffer *made = skim_allocate(base->host, sizeof *made + sizeof *made->chunks);
    if (!made)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    made->count = 1;
    made->wrapped = true;
    made->chunks[0] = (skim_vulkan_chunk){.buffer = host, .address = address};
    buffer->impl = made;
    return SKIM_OK;
}

// ---- semaphores

skim_status skim_vulkan_queue_semaphore(skim_backend_queue *base, uint64_t handle, uint64_t value,
                                        bool signals)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    skim_vulkan_device *device = queue->device;
    VkSemaphore semaphore = (VkSemaphore)handle;
    skim_vulkan_points *points = signals ? &queue->signals : &queue->waits;
    uint64_t now = 0;
    if (signals) {
        VkResult result = device->vk.GetSemaphoreCounterValue(device->handle, semaphore, &now);
        if (result != VK_SUCCESS)
            return skim_vulkan_fail(device->base, &base->error, result,
                                    "vkGetSemaphoreCounterValue");
        if (value <= now)
            return skim_fail(&base->error, SKIM_INVALID,
                             "the semaphore is at %" PRIu64
                             " and cannot be signalled with %" PRIu64,
                             now, value);
    }
    uint32_t i = 0;
    while (i < points->count && points->semaphores[i] != semaphore)
        i++;
    if (i == SKIM_VULKAN_SEMAPHORES)
        return skim_fail(&base->error, SKIM_STATE,
                         "%d semaphores are in the next submission already; submit first",
                         SKIM_VULKAN_SEMAPHORES);
    if (i == points->count) {
        points->count++;
        points->values[i] = value;
    }
    points->semaphores[i] = semaphore;
    points->values[i] = value > points->values[i] ? value : points->values[i];
    return SKIM_OK;
}
