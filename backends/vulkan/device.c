#include "backends/vulkan/vulkan.h"

#include "backends/vulkan/queue.h"

#include <stdio.h>
#include <string.h>

enum { SHARED_MEMORY = 32768 };

// What is asked of a physical device, in one piece.
typedef struct physical_device {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties2 properties;
    VkPhysicalDeviceIDProperties ids;
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceSubgroupProperties subgroups;
    VkPhysicalDeviceMaintenance3Properties memory_limits;
    VkPhysicalDeviceMaintenance4PropertiesKHR buffer_limits; // zero without the extension
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes;  // the same
    VkPhysicalDeviceFeatures2 features;
    VkPhysicalDeviceVulkan11Features features11;
    VkPhysicalDeviceVulkan12Features features12;
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT size_control; // the same
    uint32_t family;                                             // that computes
    uint32_t timestamp_bits;
} physical_device;

skim_status skim_vulkan_fail(skim_device *device, skim_error *error, VkResult result,
                             const char *call)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return skim_fail(error, SKIM_NO_MEMORY, "%s: out of host memory", call);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return skim_fail(error, SKIM_NO_MEMORY, "%s: out of device memory", call);
    case VK_ERROR_DEVICE_LOST:
        if (device)
            atomic_store(&device->lost, true);
        return skim_fail(error, SKIM_DEVICE_LOST, "%s: the device is lost", call);
    default:
        return skim_fail(error, SKIM_FAILED, "%s failed with VkResult %d", call, (int)result);
    }
}

// ---- what is there

static bool has_extension(const skim_vulkan_instance *instance, VkPhysicalDevice physical,
                          const char *name)
{
    VkExtensionProperties properties[512];
    uint32_t count = sizeof properties / sizeof *properties;
    if (instance->EnumerateDeviceExtensionProperties(physical, NULL, &count, properties) <
        VK_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(properties[i].extensionName, name) == 0)
            return true;
    return false;
}

static void query(const skim_vulkan_instance *instance, VkPhysicalDevice handle,
                  physical_device *physical)
{
    *physical = (physical_device){
        .handle = handle,
        .properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                       .pNext = &physical->ids},
        .ids = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                .pNext = &physical->driver},
        .driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                   .pNext = &physical->subgroups},
        .subgroups = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
                      .pNext = &physical->memory_limits},
        .memory_limits = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES},
        .features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                     .pNext = &physical->features11},
        .features11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                       .pNext = &physical->features12},
        .features12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES},
    };
    if (has_extension(instance, handle, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME)) {
        physical->size_control.sType =
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT;
        physical->features12.pNext = &physical->size_control;
        physical->sizes.sType =
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT;
        physical->memory_limits.pNext = &physical->sizes;
    }
    if (has_extension(instance, handle, VK_KHR_MAINTENANCE_4_EXTENSION_NAME)) {
        physical->buffer_limits.sType =
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES_KHR;
        physical->buffer_limits.pNext = physical->memory_limits.pNext;
        physical->memory_limits.pNext = &physical->buffer_limits;
    }
    instance->GetPhysicalDeviceProperties2(handle, &physical->properties);
    if (physical->properties.properties.apiVersion >= VK_API_VERSION_1_2)
        instance->GetPhysicalDeviceFeatures2(handle, &physical->features);
}

// Takes the family if it computes.
static bool take_family(const skim_vulkan_instance *instance, physical_device *physical,
                        uint32_t family)
{
    VkQueueFamilyProperties families[32];
    uint32_t count = sizeof families / sizeof *families;
    instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &count, families);
    if (family >= count || !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        return false;
    physical->family = family;
    physical->timestamp_bits = families[family].timestampValidBits;
    return true;
}

// A family that computes, one without graphics first: it does not wait for what is drawn.
static bool find_family(const skim_vulkan_instance *instance, physical_device *physical)
{
    VkQueueFamilyProperties families[32];
    uint32_t count = sizeof families / sizeof *families;
    instance->GetPhysicalDeviceQueueFamilyProperties(physical->handle, &count, families);
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || families[i].queueCount == 0)
            continue;
        bool alone = !(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT);
        if (found && !alone)
            continue;
        physical->family = i;
        physical->timestamp_bits = families[i].timestampValidBits;
        found = true;
        if (alone)
            break;
    }
    return found;
}

// NULL if the device will do, else why not.
static const char *find_fault(const skim_vulkan_instance *instance, physical_device *physical)
{
    const VkPhysicalDeviceLimits *limits = &physical->properties.properties.limits;
    if (physical->properties.properties.apiVersion < VK_API_VERSION_1_2)
        return "its driver's Vulkan is older than 1.2";
    if (!physical->features11.storageBuffer16BitAccess)
        return "its driver has no 16-bit storage (storageBuffer16BitAccess)";
    if (!physical->features12.bufferDeviceAddress)
        return "its driver has no buffer addresses (bufferDeviceAddress)";
    if (!physical->features12.timelineSemaphore)
        return "its driver has no timeline semaphores";
    if (limits->maxComputeSharedMemorySize < SHARED_MEMORY)
        return "it has less than 32 KiB of shared memory";
    if (limits->maxComputeWorkGroupInvocations < SKIM_SELECT_THREADS ||
        limits->maxComputeWorkGroupSize[0] < SKIM_SELECT_THREADS)
        return "its workgroups have fewer than 256 threads";
    if (limits->maxPushConstantsSize < 128)
        return "its push constants have fewer than 128 bytes";
    if (!find_family(instance, physical))
        return "it has no queue that computes";
    return NULL;
}

static skim_device_type type_of(const physical_device *physical)
{
    switch (physical->properties.properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return SKIM_DEVICE_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return SKIM_DEVICE_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return SKIM_DEVICE_SOFTWARE;
    default:
        return SKIM_DEVICE_OTHER;
    }
}

// The devices that will do, real ones first; returns how many. reason says why there are none, and
// is empty if there are some.
static uint32_t list_devices(const skim_vulkan_instance *instance, VkPhysicalDevice *devices,
                             char *reason, size_t reason_size)
{
    VkPhysicalDevice handles[SKIM_VULKAN_PHYSICAL_MAX];
    uint32_t count = SKIM_VULKAN_PHYSICAL_MAX, kept = 0;
    VkResult result = instance->EnumeratePhysicalDevices(instance->handle, &count, handles);
    if (result < VK_SUCCESS) {
        snprintf(reason, reason_size, "vkEnumeratePhysicalDevices failed with %d", (int)result);
        return 0;
    }
    snprintf(reason, reason_size, "the Vulkan loader knows no device");
    for (int software = 0; software < 2; software++) {
        for (uint32_t i = 0; i < count; i++) {
            physical_device physical;
            query(instance, handles[i], &physical);
            if ((type_of(&physical) == SKIM_DEVICE_SOFTWARE) != software)
                continue;
            const char *fault = find_fault(instance, &physical);
            if (fault)
                snprintf(reason, reason_size, "%.100s cannot be used: %s",
                         physical.properties.properties.deviceName, fault);
            else
                devices[kept++] = handles[i];
        }
    }
    if (kept > 0)
        reason[0] = '\0';
    return kept;
}

static void fill_info(const skim_vulkan_instance *instance, const physical_device *physical,
                      uint32_t index, skim_device_info *info)
{
    const VkPhysicalDeviceProperties *properties = &physical->properties.properties;
    size_t size_of = info->size_of;
    memset(info, 0, sizeof *info);
    info->size_of = size_of;
    snprintf(info->selector, sizeof info->selector, "vulkan:%u", index);
    snprintf(info->backend, sizeof info->backend, "vulkan");
    snprintf(info->name, sizeof info->name, "%.*s", (int)sizeof info->name - 1,
             properties->deviceName);
    snprintf(info->driver, sizeof info->driver, "%.60s %.60s", physical->driver.driverName,
             physical->driver.driverInfo);
    info->type = type_of(physical);
    memcpy(info->uuid, physical->ids.deviceUUID, sizeof info->uuid);
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    instance->GetPhysicalDeviceMemoryProperties2(physical->handle, &memory);
    const uint32_t heap = skim_vulkan_main_heap(&memory.memoryProperties);
    info->memory_total = memory.memoryProperties.memoryHeaps[heap].size;
    info->memory_available = info->memory_total;
}

static uint32_t enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                          char *reason, size_t reason_size)
{
    (void)host;
    skim_vulkan_instance instance;
    VkPhysicalDevice devices[SKIM_VULKAN_PHYSICAL_MAX];
    if (!skim_vulkan_instance_open(&instance, reason, reason_size))
        return 0;
    uint32_t count = list_devices(&instance, devices, reason, reason_size);
    count = count < capacity ? count : capacity;
    for (uint32_t i = 0; i < count; i++) {
        physical_device physical;
        query(&instance, devices[i], &physical);
        fill_info(&instance, &physical, i, &infos[i]);
    }
    skim_vulkan_instance_close(&instance);
    return count;
}

// ---- opening

// Sums through registers need subgroups that are full and of a known size: neither is promised
// without the extension, and with it only for the stages and sizes that it names.
static bool adds_in_subgroups(const physical_device *physical)
{
    const VkSubgroupFeatureFlags wanted =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    const VkPhysicalDeviceSubgroupProperties *subgroups = &physical->subgroups;
    const VkPhysicalDeviceSubgroupSizeControlPropertiesEXT *sizes = &physical->sizes;
    const uint32_t size = subgroups->subgroupSize;
    return (subgroups->supportedOperations & wanted) == wanted &&
           subgroups->supportedStages & VK_SHADER_STAGE_COMPUTE_BIT && size >= 8 &&
           size <= SKIM_THREADS && physical->size_control.subgroupSizeControl &&
           physical->size_control.computeFullSubgroups &&
           sizes->requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT &&
           SKIM_THREADS / size <= sizes->maxComputeWorkgroupSubgroups;
}

// Fast paths, as far as the driver has them and nobody turned them off; own may be NULL.
static uint64_t find_features(const physical_device *physical, uint64_t disable,
                              const skim_vulkan_options *own)
{
    const uint64_t enabled = own && own->device ? own->features : UINT64_MAX;
    const uint64_t of_subgroups =
        SKIM_VULKAN_FEATURE_SUBGROUP_SIZE | SKIM_VULKAN_FEATURE_FULL_SUBGROUPS;
    uint64_t features = SKIM_FEATURE_WIDE;
    if (adds_in_subgroups(physical) && (enabled & of_subgroups) == of_subgroups)
        features |= SKIM_FEATURE_SUBGROUPS;
    if (physical->features12.shaderFloat16 && enabled & SKIM_VULKAN_FEATURE_FLOAT16)
        features |= SKIM_FEATURE_FP16;
    return features & ~disable;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void fill_limits(skim_limits *limits, const physical_device *physical, uint64_t features,
                        uint64_t memory)
{
    const uint32_t *groups = physical->properties.properties.limits.maxComputeWorkGroupCount;
    *limits = skim_gpu_limits();
    limits->features = features;
    limits->rows_max = smaller(groups[2], groups[1]);
    limits->pages_max = smaller(groups[0], (uint32_t)1 << 22);
    limits->buffer_size_max = memory < SKIM_VULKAN_ADDRESSABLE ? memory : SKIM_VULKAN_ADDRESSABLE;
    limits->timestamps = physical->timestamp_bits > 0 ? SKIM_GPU_MARKS : 0;
}

// Chunks are powers of two, so that a shift finds the chunk of a unit.
static void set_chunks(skim_vulkan_device *device, uint64_t most)
{
    uint64_t size = 65536;
    device->chunk_shift = 12;
    while (size <= most / 2 && size < SKIM_VULKAN_ADDRESSABLE) {
        size *= 2;
        device->chunk_shift++;
    }
    device->chunk_size = size;
}

static skim_status fill_functions(skim_vulkan_device *device, skim_error *error)
{
    const char *missing = NULL;
    if (skim_vulkan_functions_fill(&device->vk, &device->instance, device->handle, &missing))
        return SKIM_OK;
    if (device->imported)
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "the host's device has no %s: its instance must be made for Vulkan 1.2 or "
                         "later (VkApplicationInfo.apiVersion)",
                         missing);
    // What is there may not include what destroys it: the loader has that.
    PFN_vkDestroyDevice destroy =
        (PFN_vkDestroyDevice)device->instance.get(device->instance.handle, "vkDestroyDevice");
    if (destroy)
        destroy(device->handle, NULL);
    device->handle = VK_NULL_HANDLE;
    return skim_fail(error, SKIM_FAILED, "the driver has no %s", missing);
}

static skim_status create_device(skim_vulkan_device *device, const physical_device *physical,
                                 uint64_t features, skim_error *error)
{
    const float priority = 0.5f;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = physical->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkPhysicalDeviceVulkan12Features features12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .bufferDeviceAddress = VK_TRUE,
        .timelineSemaphore = VK_TRUE,
        .shaderFloat16 = (features & SKIM_FEATURE_FP16) != 0,
    };
    VkPhysicalDeviceVulkan11Features features11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &features12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT size_control = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE,
    };
    const char *extensions[3];
    uint32_t count = 0;
    if (features & SKIM_FEATURE_SUBGROUPS) {
        features12.pNext = &size_control;
        extensions[count++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    }
    if (device->has_budget)
        extensions[count++] = "VK_EXT_memory_budget";
    // A driver that has it demands that it is asked for.
    if (has_extension(&device->instance, device->physical, "VK_KHR_portability_subset"))
        extensions[count++] = "VK_KHR_portability_subset";
    const VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features11,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = count,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result = device->instance.CreateDevice(device->physical, &info, NULL, &device->handle);
    if (result != VK_SUCCESS) {
        device->handle = VK_NULL_HANDLE;
        return skim_vulkan_fail(NULL, error, result, "vkCreateDevice");
    }
    skim_status status = fill_functions(device, error);
    if (status == SKIM_OK)
        device->vk.GetDeviceQueue(device->handle, device->family, 0, &device->queue);
    return status;
}

static void destroy_device(skim_vulkan_device *device)
{
    const skim_host *host = device->base->host;
    if (device->handle && device->is_complete) {
        if (device->idle)
            device->vk.DestroySemaphore(device->handle, device->idle, NULL);
        if (device->wipe_pool)
            device->vk.DestroyCommandPool(device->handle, device->wipe_pool, NULL);
        skim_vulkan_pipelines_deinit(device);
        if (!device->imported)
            device->vk.DestroyDevice(device->handle, NULL);
    }
    if (device->imported)
        device->instance.handle = VK_NULL_HANDLE;
    skim_vulkan_instance_close(&device->instance);
    skim_mutex_deinit(&device->queue_mutex);
    skim_mutex_deinit(&device->idle_mutex);
    skim_release(host, device, sizeof *device);
}

// Opens an instance of its own, and finds the device that had the index in it.
static skim_status find_physical(skim_vulkan_device *device, uint32_t index, skim_error *error)
{
    char reason[256] = "";
    VkPhysicalDevice devices[SKIM_VULKAN_PHYSICAL_MAX];
    if (!skim_vulkan_instance_open(&device->instance, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "%s", reason);
    if (index >= list_devices(&device->instance, devices, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "the device is there no longer%s%s",
                         reason[0] ? ": " : "", reason);
    device->physical = devices[index];
    return SKIM_OK;
}

static skim_status check_physical(skim_vulkan_device *device, physical_device *physical,
                                  skim_error *error)
{
    const uint32_t family = device->family;
    query(&device->instance, device->physical, physical);
    const char *fault = find_fault(&device->instance, physical);
    if (fault && device->imported)
        return skim_fail(error, SKIM_UNSUPPORTED, "the host's device cannot be used: %s", fault);
    if (fault)
        return skim_fail(error, SKIM_NO_DEVICE, "%s", fault);
    if (device->imported && !take_family(&device->instance, physical, family))
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "queue_family %u of the host's device cannot compute", family);
    return SKIM_OK;
}

static void fill_device(skim_vulkan_device *device, const physical_device *physical,
                        uint64_t allocation_max)
{
    const VkPhysicalDeviceLimits *limits = &physical->properties.properties.limits;
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    device->instance.GetPhysicalDeviceMemoryProperties2(device->physical, &memory);
    device->memory = memory.memoryProperties;
    device->has_budget = has_extension(&device->instance, device->physical, "VK_EXT_memory_budget");
    device->family = physical->family;
    device->timestamp_period = (double)limits->timestampPeriod;
    device->timestamp_mask =
        physical->timestamp_bits >= 64 ? UINT64_MAX : ((uint64_t)1 << physical->timestamp_bits) - 1;
    device->subgroup_size = physical->subgroups.subgroupSize;
    // A tenth of a second at 1 TFLOPS and at 100 GFLOPS: displays and watchdogs wait for it.
    device->submission_work = type_of(physical) == SKIM_DEVICE_DISCRETE ? 5e10 : 5e9;
    // One buffer takes one allocation.
    const uint64_t buffer_max = physical->buffer_limits.maxBufferSize;
    device->allocation_max = physical->memory_limits.maxMemoryAllocationSize;
    if (buffer_max > 0 && buffer_max < device->allocation_max)
        device->allocation_max = buffer_max;
    set_chunks(device, allocation_max > 0 && allocation_max < device->allocation_max
                           ? allocation_max
                           : device->allocation_max);
}

static skim_status create_objects(skim_vulkan_device *device, skim_error *error)
{
    device->is_complete = true;
    skim_status status = skim_vulkan_pipelines_init(device, error);
    if (status == SKIM_OK)
        status =
            skim_vulkan_commands_create(device, error, &device->wipe_pool, &device->wipe_commands);
    if (status != SKIM_OK)
        return status;
    VkResult result = skim_vulkan_timeline_create(device, &device->idle);
    return result == VK_SUCCESS
               ? SKIM_OK
               : skim_vulkan_fail(device->base, error, result, "vkCreateSemaphore");
}

static skim_status open_physical(skim_vulkan_device *device, skim_device *base, uint32_t index,
                                 const skim_open_options *options, skim_error *error)
{
    const skim_vulkan_options *own = options->vulkan;
    physical_device physical;
    skim_status status = own && own->device ? skim_vulkan_import(device, own, error)
                                            : find_physical(device, index, error);
    if (status == SKIM_OK)
        status = check_physical(device, &physical, error);
    if (status != SKIM_OK)
        return status;
    const uint64_t features = find_features(&physical, options->disable, own);
    fill_device(device, &physical, own ? own->allocation_max : 0);
    fill_info(&device->instance, &physical, index, &base->info);
    fill_limits(&base->limits, &physical, features, base->info.memory_total);
    if (device->imported) {
        // Selectors number what was found; the front knows whether this is among it.
        memset(base->info.selector, 0, sizeof base->info.selector);
        device->handle = own->device;
        device->queue = own->queue;
        status = fill_functions(device, error);
    } else {
        status = create_device(device, &physical, features, error);
    }
    return status == SKIM_OK ? create_objects(device, error) : status;
}

static skim_status open_device(skim_device *base, uint32_t index, const skim_open_options *options,
                               skim_error *error)
{
    skim_vulkan_device *device = skim_allocate(base->host, sizeof *device);
    if (!device)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a Vulkan device");
    device->base = base;
    base->impl = device;
    skim_mutex_init(&device->queue_mutex);
    skim_mutex_init(&device->idle_mutex);
    skim_status status = open_physical(device, base, index, options, error);
    if (status != SKIM_OK) {
        destroy_device(device);
        base->impl = NULL;
    }
    return status;
}

static void close_device(skim_device *base)
{
    if (base->impl)
        destroy_device(base->impl);
    base->impl = NULL;
}

const skim_backend skim_backend_vulkan = {
    .name = "vulkan",
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .memory_available = skim_vulkan_memory_available,
    .buffer_create = skim_vulkan_buffer_create,
    .buffer_destroy = skim_vulkan_buffer_destroy,
    .buffer_wrap = skim_vulkan_buffer_wrap_handle,
    .queue_create = skim_vulkan_queue_create,
    .queue_destroy = skim_vulkan_queue_destroy,
    .bounds_size = skim_gpu_bounds_size,
    .scratch_size = skim_gpu_scratch_size,
    .prepare = skim_vulkan_queue_prepare,
    .upload = skim_vulkan_record_upload,
    .download = skim_vulkan_record_download,
    .copy = skim_vulkan_record_copy,
    .zero = skim_vulkan_record_zero,
    .mark = skim_vulkan_record_mark,
    .append = skim_vulkan_append,
    .estimate = skim_vulkan_estimate,
    .select = skim_vulkan_select,
    .attend = skim_vulkan_attend,
    .submit = skim_vulkan_queue_submit,
    .wait = skim_vulkan_queue_wait,
    .discard = skim_vulkan_queue_discard,
    .mark_time = skim_vulkan_queue_mark_time,
    .semaphore = skim_vulkan_queue_semaphore,
};
