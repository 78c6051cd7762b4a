// The public calls of skim/vulkan.h: the checks, then the backend's entry. Here, and not with the
// backend, so that they are there in every build.
#include "runtime/interop.h"

#define FEATURES_11 "VkPhysicalDeviceVulkan11Features"
#define FEATURES_12 "VkPhysicalDeviceVulkan12Features"
#define FEATURES_SUBGROUPS "VkPhysicalDeviceSubgroupSizeControlFeatures"

static const skim_vulkan_requirement items[] = {
    {.name = "storageBuffer16BitAccess",
     .structure = FEATURES_11,
     .feature = SKIM_VULKAN_FEATURE_STORAGE_16BIT,
     .required = 1},
    {.name = "bufferDeviceAddress",
     .structure = FEATURES_12,
     .feature = SKIM_VULKAN_FEATURE_BUFFER_ADDRESS,
     .required = 1},
    {.name = "timelineSemaphore",
     .structure = FEATURES_12,
     .feature = SKIM_VULKAN_FEATURE_TIMELINE,
     .required = 1},
    {.name = "shaderFloat16",
     .structure = FEATURES_12,
     .feature = SKIM_VULKAN_FEATURE_FLOAT16,
     .required = 0},
    {.name = "VK_EXT_subgroup_size_control", .required = 0}, // what the next two are of before 1.3
    {.name = "subgroupSizeControl",
     .structure = FEATURES_SUBGROUPS,
     .feature = SKIM_VULKAN_FEATURE_SUBGROUP_SIZE,
     .required = 0},
    {.name = "computeFullSubgroups",
     .structure = FEATURES_SUBGROUPS,
     .feature = SKIM_VULKAN_FEATURE_FULL_SUBGROUPS,
     .required = 0},
    {.name = "VK_EXT_memory_budget", .required = 0},
};

enum { ITEMS = sizeof items / sizeof *items, SMALLEST_ALLOCATION = 65536 };

skim_status skim_vulkan_get_requirements(skim_vulkan_requirements *requirements)
{
    const skim_vulkan_requirements filled = {
        .api_version = 1u << 22 | 2u << 12, // 1.2
        .queue_flags = 0x2,                 // VK_QUEUE_COMPUTE_BIT
        // VK_BUFFER_USAGE_TRANSFER_SRC_BIT, TRANSFER_DST, STORAGE_BUFFER, SHADER_DEVICE_ADDRESS
        .buffer_usage = 0x1 | 0x2 | 0x20 | 0x20000,
        .memory_flags = 0x2, // VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT
        .item_count = ITEMS,
    };
    return skim_give(requirements, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

skim_status skim_vulkan_requirement_info(uint32_t index, skim_vulkan_requirement *item)
{
    if (index >= ITEMS)
        return SKIM_INVALID;
    return skim_give(item, &items[index], sizeof *items) ? SKIM_OK : SKIM_INVALID;
}

// ---- devices

skim_status skim_vulkan_options_check(const skim_vulkan_options *options, skim_error *error)
{
    const bool any =
        options->instance || options->physical_device || options->device || options->queue;
    const bool all =
        options->instance && options->physical_device && options->device && options->queue;
    if (any != all)
        return skim_fail(error, SKIM_INVALID,
                         "instance, physical_device, device and queue are given together; %s is "
                         "NULL",
                         !options->instance          ? "instance"
                         : !options->physical_device ? "physical_device"
                         : !options->device          ? "device"
                                                     : "queue");
    if (any && options->selector)
        return skim_fail(error, SKIM_INVALID,
                         "a selector and a device of the host's were given; give one of them");
    if (!options->lock.lock != !options->lock.unlock)
        return skim_fail(error, SKIM_INVALID, "lock and unlock are given together");
    if (options->allocation_max > 0 && options->allocation_max < SMALLEST_ALLOCATION)
        return skim_fail(error, SKIM_INVALID, "allocation_max is %llu; it is 0 or at least %d",
                         (unsigned long long)options->allocation_max, SMALLEST_ALLOCATION);
    for (int i = 0; i < ITEMS && any; i++)
        if (items[i].required && (options->features & items[i].feature) != items[i].feature)
            return skim_fail(error, SKIM_UNSUPPORTED,
                             "the device was created without %s (%s), or features does not say "
                             "that it was created with it",
                             items[i].name, items[i].structure);
    return SKIM_OK;
}

// ---- buffers and semaphores

skim_status skim_vulkan_buffer_wrap(skim_device *device, uint64_t handle, uint64_t size,
                                    skim_buffer **buffer)
{
    return skim_interop_wrap(device, SKIM_OF_VULKAN, "VkBuffer", handle, size, buffer);
}

skim_status skim_vulkan_queue_wait_semaphore(skim_queue *queue, uint64_t semaphore, uint64_t value)
{
    return skim_interop_semaphore(queue, SKIM_OF_VULKAN, "VkSemaphore", semaphore, value, false);
}

skim_status skim_vulkan_queue_signal_semaphore(skim_queue *queue, uint64_t semaphore,
                                               uint64_t value)
{
    return skim_interop_semaphore(queue, SKIM_OF_VULKAN, "VkSemaphore", semaphore, value, true);
}
