#include "host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

host_spy spy;

// ---- instance and device

static bool load(host_app *host)
{
    host->library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!host->library)
        return false;
    void *symbol = dlsym(host->library, "vkGetInstanceProcAddr");
    memcpy(&host->get, &symbol, sizeof symbol);
    return symbol;
}

static bool create_instance(host_app *host, uint32_t version)
{
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)host->get(NULL, "vkCreateInstance");
    const VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "a host of Skim",
        .apiVersion = version,
    };
    const VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    if (!create || create(&info, NULL, &host->instance) != VK_SUCCESS) {
        host->instance = VK_NULL_HANDLE;
        return false;
    }
#define FILL(name) host->name = (PFN_vk##name)host->get(host->instance, "vk" #name);
    HOST_INSTANCE_FUNCTIONS(FILL)
#undef FILL
    return true;
}

// The first physical device that has what is required, and its family that computes.
static bool find_physical(host_app *host, uint32_t queue_flags)
{
    VkPhysicalDevice devices[16];
    uint32_t count = 16;
    if (host->EnumeratePhysicalDevices(host->instance, &count, devices) < VK_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        VkQueueFamilyProperties families[16];
        uint32_t family_count = 16;
        host->GetPhysicalDeviceQueueFamilyProperties(devices[i], &family_count, families);
        for (uint32_t f = 0; f < family_count; f++) {
            if ((families[f].queueFlags & queue_flags) != queue_flags)
                continue;
            host->physical = devices[i];
            host->family = f;
            return true;
        }
    }
    return false;
}

typedef struct host_features {
    VkPhysicalDeviceVulkan11Features of_11;
    VkPhysicalDeviceVulkan12Features of_12;
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT subgroups;
} host_features;

// A feature by the names that the requirements have it under.
static VkBool32 *find_feature(host_features *features, const char *structure, const char *name)
{
    const struct {
        const char *structure, *name;
        VkBool32 *value;
    } known[] = {
        {"VkPhysicalDeviceVulkan11Features", "storageBuffer16BitAccess",
         &features->of_11.storageBuffer16BitAccess},
        {"VkPhysicalDeviceVulkan12Features", "bufferDeviceAddress",
         &features->of_12.bufferDeviceAddress},
        {"VkPhysicalDeviceVulkan12Features", "timelineSemaphore",
         &features->of_12.timelineSemaphore},
        {"VkPhysicalDeviceVulkan12Features", "shaderFloat16", &features->of_12.shaderFloat16},
        {"VkPhysicalDeviceSubgroupSizeControlFeatures", "subgroupSizeControl",
         &features->subgroups.subgroupSizeControl},
        {"VkPhysicalDeviceSubgroupSizeControlFeatures", "computeFullSubgroups",
         &features->subgroups.computeFullSubgroups},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].structure, structure) == 0 && strcmp(known[i].name, name) == 0)
            return known[i].value;
    fail_msg("Skim requires %s of %s, which this host has never heard of", name, structure);
    return NULL;
}

// subgroups: with the structure of an extension.
static void chain(host_features *features, bool subgroups)
{
    memset(features, 0, sizeof *features);
    features->of_11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    features->of_11.pNext = &features->of_12;
    features->of_12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    features->of_12.pNext = subgroups ? &features->subgroups : NULL;
    features->subgroups.sType =
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT;
}

static bool has_extension(const host_app *host, const char *name)
{
    VkExtensionProperties properties[512];
    uint32_t count = 512;
    if (host->EnumerateDeviceExtensionProperties(host->physical, NULL, &count, properties) <
        VK_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(properties[i].extensionName, name) == 0)
            return true;
    return false;
}

// What Skim's requirements name, and nothing else. False if the driver lacks what is required.
static bool choose_features(host_app *host, uint32_t items, bool optional, host_features *features,
                            const char **extensions, uint32_t *extension_count)
{
    host_features there;
    const bool subgroups = has_extension(host, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    chain(&there, subgroups);
    chain(features, subgroups && optional);
    VkPhysicalDeviceFeatures2 query = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                       .pNext = &there.of_11};
    host->GetPhysicalDeviceFeatures2(host->physical, &query);
    for (uint32_t i = 0; i < items; i++) {
        skim_vulkan_requirement item = {.size_of = sizeof item};
        assert_int_equal(skim_vulkan_requirement_info(i, &item), SKIM_OK);
        if (!item.required && !optional)
            continue;
        if (!item.structure) {
            if (has_extension(host, item.name))
                extensions[(*extension_count)++] = item.name;
            else if (item.required)
                return false;
        } else if (*find_feature(&there, item.structure, item.name)) {
            *find_feature(features, item.structure, item.name) = VK_TRUE;
            host->features |= item.feature;
        } else if (item.required) {
            return false;
        }
    }
    return true;
}

static bool create_device(host_app *host, bool optional)
{
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    host_features features;
    const char *extensions[8];
    uint32_t extension_count = 0;
    if (!find_physical(host, needs.queue_flags) ||
        !choose_features(host, needs.item_count, optional, &features, extensions, &extension_count))
        return false;
    const float priority = 1.0f;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = host->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    const VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features.of_11,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = extension_count,
        .ppEnabledExtensionNames = extensions,
    };
    if (host->CreateDevice(host->physical, &info, NULL, &host->device) != VK_SUCCESS) {
        host->device = VK_NULL_HANDLE;
        return false;
    }
#define FILL(name) host->name = (PFN_vk##name)host->GetDeviceProcAddr(host->device, "vk" #name);
    HOST_DEVICE_FUNCTIONS(FILL)
#undef FILL
    host->GetDeviceQueue(host->device, host->family, 0, &host->queue);
    return true;
}

bool host_open(host_app *host, uint32_t version, bool optional, char *reason, size_t reason_size)
{
    memset(host, 0, sizeof *host);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&host->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    const char *why = !load(host)                       ? "there is no Vulkan loader"
                      : !create_instance(host, version) ? "there is no Vulkan instance"
                      : !create_device(host, optional)  ? "no device has what Skim needs"
                                                        : NULL;
    snprintf(reason, reason_size, "%s", why ? why : "");
    if (why) {
        host_close(host);
        return false;
    }
    host->pool = host_pool_create(host);
    return true;
}

void host_close(host_app *host)
{
    if (host->device) {
        host->DeviceWaitIdle(host->device);
        host->DestroyCommandPool(host->device, host->pool, NULL);
        host->DestroyDevice(host->device, NULL);
    }
    if (host->instance)
        host->DestroyInstance(host->instance, NULL);
    if (host->library)
        dlclose(host->library);
    pthread_mutex_destroy(&host->mutex);
    memset(host, 0, sizeof *host);
}

// ---- the lock

static _Thread_local int locks_held;

void host_lock(void *user)
{
    host_app *of = user;
    if (pthread_mutex_lock(&of->mutex) != 0)
        fail_msg("the lock was taken twice by one thread");
    locks_held++;
}

void host_unlock(void *user)
{
    host_app *of = user;
    locks_held--;
    if (pthread_mutex_unlock(&of->mutex) != 0)
        fail_msg("the lock was released by a thread that does not hold it");
}

bool host_holds_lock(void)
{
    return locks_held > 0;
}

// ---- the spy

static VKAPI_ATTR VkResult VKAPI_CALL spied_submit(VkQueue queue, uint32_t count,
                                                   const VkSubmitInfo *infos, VkFence fence)
{
    atomic_fetch_add(&spy.submissions, 1);
    if (!host_holds_lock())
        atomic_fetch_add(&spy.unlocked_submissions, 1);
    return spy.host->QueueSubmit(queue, count, infos, fence);
}

static VKAPI_ATTR void VKAPI_CALL spied_destroy_device(VkDevice device,
                                                       const VkAllocationCallbacks *allocator)
{
    (void)device;
    (void)allocator;
    atomic_fetch_add(&spy.destroyed, 1);
}

static VKAPI_ATTR void VKAPI_CALL spied_destroy_instance(VkInstance instance,
                                                         const VkAllocationCallbacks *allocator)
{
    (void)instance;
    (void)allocator;
    atomic_fetch_add(&spy.destroyed, 1);
}

static VKAPI_ATTR void VKAPI_CALL spied_destroy_buffer(VkDevice device, VkBuffer buffer,
                                                       const VkAllocationCallbacks *allocator)
{
    if (buffer && buffer == spy.guarded)
        atomic_fetch_add(&spy.destroyed, 1);
    else
        spy.host->DestroyBuffer(device, buffer, allocator);
}

static VKAPI_ATTR void VKAPI_CALL spied_properties(VkPhysicalDevice device,
                                                   VkPhysicalDeviceProperties2 *properties)
{
    spy.host->GetPhysicalDeviceProperties2(device, properties);
    if (spy.version > 0)
        properties->properties.apiVersion = spy.version;
}

static VKAPI_ATTR void VKAPI_CALL spied_features(VkPhysicalDevice device,
                                                 VkPhysicalDeviceFeatures2 *features)
{
    spy.host->GetPhysicalDeviceFeatures2(device, features);
    host_features copy;
    for (VkBaseOutStructure *next = features->pNext; next && spy.missing_feature;
         next = next->pNext) {
        if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES &&
            strcmp(spy.missing_feature, "storageBuffer16BitAccess") == 0)
            ((VkPhysicalDeviceVulkan11Features *)next)->storageBuffer16BitAccess = VK_FALSE;
        if (next->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES ||
            strcmp(spy.missing_feature, "storageBuffer16BitAccess") == 0)
            continue;
        // The member has the same place in a copy.
        chain(&copy, false);
        size_t place = (size_t)((char *)find_feature(&copy, "VkPhysicalDeviceVulkan12Features",
                                                     spy.missing_feature) -
                                (char *)&copy.of_12);
        *(VkBool32 *)((char *)next + place) = VK_FALSE;
    }
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL spied_device_get(VkDevice device, const char *name)
{
    if (spy.missing_function && strcmp(name, spy.missing_function) == 0)
        return NULL;
    if (strcmp(name, "vkQueueSubmit") == 0)
        return (PFN_vkVoidFunction)spied_submit;
    if (strcmp(name, "vkDestroyDevice") == 0)
        return (PFN_vkVoidFunction)spied_destroy_device;
    if (strcmp(name, "vkDestroyBuffer") == 0)
        return (PFN_vkVoidFunction)spied_destroy_buffer;
    return spy.host->GetDeviceProcAddr(device, name);
}

skim_vulkan_function SKIM_VULKAN_CALL host_spied_get(struct VkInstance_T *instance,
                                                     const char *name)
{
    if (spy.missing_function && strcmp(name, spy.missing_function) == 0)
        return NULL;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)spied_device_get;
    if (strcmp(name, "vkDestroyInstance") == 0)
        return (PFN_vkVoidFunction)spied_destroy_instance;
    if (strcmp(name, "vkGetPhysicalDeviceProperties2") == 0)
        return (PFN_vkVoidFunction)spied_properties;
    if (strcmp(name, "vkGetPhysicalDeviceFeatures2") == 0)
        return (PFN_vkVoidFunction)spied_features;
    return spy.host->get(instance, name);
}

void host_spy_reset(const host_app *host)
{
    memset(&spy, 0, sizeof spy);
    spy.host = host;
}

skim_vulkan_options host_options(host_app *host)
{
    return (skim_vulkan_options){
        .size_of = sizeof(skim_vulkan_options),
        .disable = SKIM_FEATURE_WIDE, // what lavapipe compiles fastest
        .instance = host->instance,
        .physical_device = host->physical,
        .device = host->device,
        .queue = host->queue,
        .queue_family = host->family,
        .features = host->features,
        .get_instance_proc_addr = host_spied_get,
        .lock = {.lock = host_lock, .unlock = host_unlock, .user = host},
    };
}

// ---- objects and work of the host's

#define DO(call) assert_int_equal(call, VK_SUCCESS)

static uint32_t find_memory(const host_app *host, uint32_t allowed, VkMemoryPropertyFlags wanted)
{
    VkPhysicalDeviceMemoryProperties memory;
    host->GetPhysicalDeviceMemoryProperties(host->physical, &memory);
    for (uint32_t i = 0; i < memory.memoryTypeCount; i++)
        if (allowed & 1u << i && (memory.memoryTypes[i].propertyFlags & wanted) == wanted)
            return i;
    fail_msg("no memory of the type wanted");
    return 0;
}

host_buffer host_buffer_create(const host_app *host, VkDeviceSize size, VkBufferUsageFlags usage,
                               bool mapped)
{
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    host_buffer made = {.size = size};
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = size, .usage = usage};
    DO(host->CreateBuffer(host->device, &info, NULL, &made.handle));
    VkMemoryRequirements wanted;
    host->GetBufferMemoryRequirements(host->device, made.handle, &wanted);
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                             .flags = needs.memory_flags};
    const VkMemoryAllocateInfo allocation = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = wanted.size,
        .memoryTypeIndex = find_memory(host, wanted.memoryTypeBits,
                                       mapped ? VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                                    VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
                                              : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT),
    };
    DO(host->AllocateMemory(host->device, &allocation, NULL, &made.memory));
    DO(host->BindBufferMemory(host->device, made.handle, made.memory, 0));
    void *bytes = NULL;
    if (mapped)
        DO(host->MapMemory(host->device, made.memory, 0, VK_WHOLE_SIZE, 0, &bytes));
    made.bytes = bytes;
    return made;
}

void host_buffer_destroy(const host_app *host, host_buffer *buffer)
{
    host->DestroyBuffer(host->device, buffer->handle, NULL);
    host->FreeMemory(host->device, buffer->memory, NULL);
    memset(buffer, 0, sizeof *buffer);
}

VkSemaphore host_timeline_create(const host_app *host)
{
    const VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                        .pNext = &type};
    VkSemaphore made = VK_NULL_HANDLE;
    DO(host->CreateSemaphore(host->device, &info, NULL, &made));
    return made;
}

VkCommandPool host_pool_create(const host_app *host)
{
    const VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .queueFamilyIndex = host->family};
    VkCommandPool made = VK_NULL_HANDLE;
    DO(host->CreateCommandPool(host->device, &info, NULL, &made));
    return made;
}

VkCommandBuffer host_begin(const host_app *host, VkCommandPool pool)
{
    const VkCommandBufferAllocateInfo allocation = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    const VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    VkCommandBuffer commands = VK_NULL_HANDLE;
    DO(host->AllocateCommandBuffers(host->device, &allocation, &commands));
    DO(host->BeginCommandBuffer(commands, &begin));
    return commands;
}

void host_submit(host_app *host, VkCommandBuffer commands, VkSemaphore wait, uint64_t wait_value,
                 VkSemaphore signal, uint64_t signal_value)
{
    const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = wait ? 1 : 0,
        .pWaitSemaphoreValues = &wait_value,
        .signalSemaphoreValueCount = signal ? 1 : 0,
        .pSignalSemaphoreValues = &signal_value,
    };
    const VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .waitSemaphoreCount = wait ? 1 : 0,
        .pWaitSemaphores = &wait,
        .pWaitDstStageMask = &stage,
        .commandBufferCount = 1,
        .pCommandBuffers = &commands,
        .signalSemaphoreCount = signal ? 1 : 0,
        .pSignalSemaphores = &signal,
    };
    DO(host->EndCommandBuffer(commands));
    host_lock(host);
    DO(host->QueueSubmit(host->queue, 1, &info, VK_NULL_HANDLE));
    host_unlock(host);
}

void host_record_copy(const host_app *host, VkCommandBuffer commands, VkBuffer from,
                      VkDeviceSize from_offset, VkBuffer to, VkDeviceSize to_offset,
                      VkDeviceSize size)
{
    const VkBufferCopy region = {from_offset, to_offset, size};
    const VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    host->CmdCopyBuffer(commands, from, to, 1, &region);
    host->CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                             0, 1, &barrier, 0, NULL, 0, NULL);
}

void host_wait(const host_app *host, VkSemaphore semaphore, uint64_t value)
{
    const VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &semaphore,
        .pValues = &value,
    };
    DO(host->WaitSemaphores(host->device, &info, (uint64_t)30 * 1000 * 1000 * 1000));
}
