// Instance, physical device, device, memory and the objects that are only made and destroyed.
#include "tests/fault/vulkan/objects.h"

#include <stdlib.h>
#include <string.h>

enum { MEMORY_ALIGNMENT = 256, DEVICE_EXTENSIONS_MAX = 4 };

#define ENTER(name, device) VkResult result_ = fake_enter(FAKE_##name, device)
// The specification leaves undefined what a failed call writes to.
#define POISON(type) FAKE_HANDLE(type, 0xdead00000badull)
#define OR(value, otherwise) ((value) ? (value) : (otherwise))

static const fake_lies *lies = &fake.lies;

// ---- the loader

typedef struct entry {
    const char *name;
    PFN_vkVoidFunction function;
} entry;

static const entry global_entries[] = {
#define ENTRY(name) {"vk" #name, (PFN_vkVoidFunction)fake_##name},
    FAKE_GLOBAL_FUNCTIONS(ENTRY)};
static const entry instance_entries[] = {SKIM_VULKAN_INSTANCE_FUNCTIONS(ENTRY)};
static const entry device_entries[] = {SKIM_VULKAN_DEVICE_FUNCTIONS(ENTRY)
#undef ENTRY
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static PFN_vkVoidFunction look_up(const entry *entries, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            return entries[i].function;
    return NULL;
}

static bool is_missing(const char *name)
{
    return lies->missing && strcmp(lies->missing, name) == 0;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance,
                                                               const char *name);

__attribute__((visibility("default"))) PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance,
                                                                                const char *name)
{
    PFN_vkVoidFunction found = look_up(global_entries, COUNT(global_entries), name);
    if (!found && instance && fake_find(KIND_instance, FAKE_NUMBER(instance), name)) {
        found = look_up(instance_entries, COUNT(instance_entries), name);
        // Of these it has trampolines, whatever the driver has.
        if (!found)
            return look_up(device_entries, COUNT(device_entries), name);
    }
    return is_missing(name) ? NULL : found;
}

PFN_vkVoidFunction fake_GetDeviceProcAddr(VkDevice device, const char *name)
{
    fake_enter(FAKE_GetDeviceProcAddr, FAKE_NUMBER(device));
    if (!fake_find(KIND_device, FAKE_NUMBER(device), "vkGetDeviceProcAddr") || is_missing(name))
        return NULL;
    return look_up(device_entries, COUNT(device_entries), name);
}

VkResult fake_EnumerateInstanceVersion(uint32_t *version)
{
    ENTER(EnumerateInstanceVersion, 0);
    if (result_ == VK_SUCCESS)
        *version = OR(lies->loader_version, VK_API_VERSION_1_2);
    return result_;
}

// Gives count names to a caller with room for *room, as the specification has it.
static VkResult give_extensions(const char *const *names, uint32_t count, uint32_t *room,
                                VkExtensionProperties *properties)
{
    if (!properties) {
        *room = count;
        return VK_SUCCESS;
    }
    uint32_t given = count < *room ? count : *room;
    for (uint32_t i = 0; i < given; i++) {
        memset(&properties[i], 0, sizeof properties[i]);
        strcpy(properties[i].extensionName, names[i]);
        properties[i].specVersion = 1;
    }
    *room = given;
    return given < count ? VK_INCOMPLETE : VK_SUCCESS;
}

VkResult fake_EnumerateInstanceExtensionProperties(const char *layer, uint32_t *count,
                                                   VkExtensionProperties *properties)
{
    (void)layer;
    static const char *const names[] = {"VK_KHR_surface", "VK_KHR_portability_enumeration"};
    ENTER(EnumerateInstanceExtensionProperties, 0);
    if (result_ != VK_SUCCESS)
        return result_;
    return give_extensions(names, lies->has_portability ? 2 : 1, count, properties);
}

VkResult fake_CreateInstance(const VkInstanceCreateInfo *info,
                             const VkAllocationCallbacks *allocator, VkInstance *instance)
{
    (void)allocator;
    ENTER(CreateInstance, 0);
    *instance = POISON(VkInstance);
    if (result_ != VK_SUCCESS)
        return result_;
    if (info->enabledExtensionCount > (lies->has_portability ? 1u : 0u))
        return VK_ERROR_EXTENSION_NOT_PRESENT;
    // Without asking, nothing is shown.
    if (lies->has_portability && !(info->flags & 1))
        return VK_ERROR_INCOMPATIBLE_DRIVER;
    uint64_t made = fake_make(KIND_instance, 0);
    fake_make(KIND_physical_device, made);
    *instance = FAKE_HANDLE(VkInstance, made);
    return VK_SUCCESS;
}

void fake_DestroyInstance(VkInstance instance, const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyInstance, 0);
    fake_destroy(KIND_instance, FAKE_NUMBER(instance), 0, "vkDestroyInstance");
}

// ---- the physical device

typedef struct search {
    uint64_t parent, found;
} search;

static void note_child(uint64_t handle, fake_object *object, void *user)
{
    search *own = user;
    if (object->parent == own->parent)
        own->found = handle;
}

VkResult fake_EnumeratePhysicalDevices(VkInstance instance, uint32_t *count,
                                       VkPhysicalDevice *devices)
{
    ENTER(EnumeratePhysicalDevices, 0);
    search own = {.parent = FAKE_NUMBER(instance)};
    if (!fake_find(KIND_instance, own.parent, "vkEnumeratePhysicalDevices"))
        return VK_ERROR_INITIALIZATION_FAILED;
    if (result_ != VK_SUCCESS) {
        *count = 7;
        return result_;
    }
    bool gone = lies->vanishes_after > 0 &&
                fake.calls[FAKE_EnumeratePhysicalDevices] > lies->vanishes_after;
    fake_each(KIND_physical_device, note_child, &own);
    uint32_t there = lies->no_device || gone ? 0 : 1;
    if (devices && there > 0 && *count > 0)
        devices[0] = FAKE_HANDLE(VkPhysicalDevice, own.found);
    *count = there;
    return lies->incomplete ? VK_INCOMPLETE : VK_SUCCESS;
}

static void fill_limits(VkPhysicalDeviceLimits *limits)
{
    limits->maxComputeSharedMemorySize = OR(lies->shared_memory, 32768);
    limits->maxComputeWorkGroupInvocations = OR(lies->threads, 1024);
    for (int i = 0; i < 3; i++) {
        limits->maxComputeWorkGroupSize[i] = OR(lies->threads, 1024);
        limits->maxComputeWorkGroupCount[i] = 65535;
    }
    limits->maxPushConstantsSize = OR(lies->push_constants, 128);
    limits->timestampPeriod = 1.0f;
    limits->maxStorageBufferRange = 1u << 27;
}

static const char *cache_uuid(void)
{
    return lies->other_cache ? "another's cache" : "a fake cache!!!";
}

static void fill_structure(VkBaseOutStructure *structure)
{
    switch ((int)structure->sType) {
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES: {
        VkPhysicalDeviceIDProperties *ids = (void *)structure;
        memcpy(ids->deviceUUID, "a fake device!!", VK_UUID_SIZE);
        memcpy(ids->driverUUID, "a fake driver!!", VK_UUID_SIZE);
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES: {
        VkPhysicalDeviceDriverProperties *driver = (void *)structure;
        strcpy(driver->driverName, "fake");
        strcpy(driver->driverInfo, "1.0");
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES: {
        VkPhysicalDeviceSubgroupProperties *subgroups = (void *)structure;
        subgroups->subgroupSize = OR(lies->subgroup_size, 32);
        subgroups->supportedStages = VK_SHADER_STAGE_COMPUTE_BIT;
        subgroups->supportedOperations =
            VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT: {
        VkPhysicalDeviceSubgroupSizeControlPropertiesEXT *sizes = (void *)structure;
        if (lies->no_size_control)
            break;
        sizes->minSubgroupSize = sizes->maxSubgroupSize = OR(lies->subgroup_size, 32);
        sizes->maxComputeWorkgroupSubgroups = OR(lies->workgroup_subgroups, 64);
        sizes->requiredSubgroupSizeStages =
            lies->no_size_of_compute ? VK_SHADER_STAGE_FRAGMENT_BIT : VK_SHADER_STAGE_COMPUTE_BIT;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT: {
        VkPhysicalDeviceSubgroupSizeControlFeaturesEXT *features = (void *)structure;
        if (lies->no_size_control)
            break;
        features->subgroupSizeControl = !lies->no_chosen_size;
        features->computeFullSubgroups = !lies->no_full_subgroups;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES: {
        VkPhysicalDeviceMaintenance3Properties *maintenance = (void *)structure;
        maintenance->maxMemoryAllocationSize = OR(lies->allocation_max, (uint64_t)1 << 30);
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES_KHR: {
        VkPhysicalDeviceMaintenance4PropertiesKHR *maintenance = (void *)structure;
        if (lies->buffer_max > 0)
            maintenance->maxBufferSize = lies->buffer_max;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES: {
        VkPhysicalDeviceVulkan11Features *features = (void *)structure;
        features->storageBuffer16BitAccess = !lies->no_16bit;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES: {
        VkPhysicalDeviceVulkan12Features *features = (void *)structure;
        features->bufferDeviceAddress = !lies->no_addresses;
        features->timelineSemaphore = !lies->no_timeline;
        features->shaderFloat16 = VK_TRUE;
        break;
    }
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT: {
        VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = (void *)structure;
        budget->heapBudget[0] = OR(lies->budget, OR(lies->heap_size, (uint64_t)4 << 30));
        budget->heapUsage[0] = lies->usage + fake.memory;
        break;
    }
    default:
        break; // a driver leaves alone what it does not know
    }
}

static void fill_chain(void *first)
{
    for (VkBaseOutStructure *one = first; one; one = one->pNext)
        fill_structure(one);
}

void fake_GetPhysicalDeviceProperties2(VkPhysicalDevice device,
                                       VkPhysicalDeviceProperties2 *properties)
{
    fake_enter(FAKE_GetPhysicalDeviceProperties2, 0);
    fake_find(KIND_physical_device, FAKE_NUMBER(device), "vkGetPhysicalDeviceProperties2");
    VkPhysicalDeviceProperties *own = &properties->properties;
    memset(own, 0, sizeof *own);
    own->apiVersion = OR(lies->device_version, VK_API_VERSION_1_2);
    own->vendorID = 0xfa4e;
    own->deviceID = 1;
    own->deviceType =
        lies->is_software ? VK_PHYSICAL_DEVICE_TYPE_CPU : VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
    strcpy(own->deviceName, "Fake GPU");
    memcpy(own->pipelineCacheUUID, cache_uuid(), VK_UUID_SIZE);
    fill_limits(&own->limits);
    fill_chain(properties->pNext);
}

void fake_GetPhysicalDeviceFeatures2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *features)
{
    fake_enter(FAKE_GetPhysicalDeviceFeatures2, 0);
    fake_find(KIND_physical_device, FAKE_NUMBER(device), "vkGetPhysicalDeviceFeatures2");
    memset(&features->features, 0, sizeof features->features);
    fill_chain(features->pNext);
}

// Type 0 is the device's own, type 1 the host's to see.
static void fill_memory(VkPhysicalDeviceMemoryProperties *memory)
{
    memset(memory, 0, sizeof *memory);
    memory->memoryHeapCount = 2;
    memory->memoryHeaps[0] =
        (VkMemoryHeap){OR(lies->heap_size, (uint64_t)4 << 30), VK_MEMORY_HEAP_DEVICE_LOCAL_BIT};
    memory->memoryHeaps[1] = (VkMemoryHeap){(uint64_t)1 << 30, 0};
    memory->memoryTypeCount = 2;
    memory->memoryTypes[0] = (VkMemoryType){VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
    memory->memoryTypes[1] =
        (VkMemoryType){VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                           VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                       1};
}

void fake_GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice device,
                                             VkPhysicalDeviceMemoryProperties2 *properties)
{
    fake_enter(FAKE_GetPhysicalDeviceMemoryProperties2, 0);
    fake_find(KIND_physical_device, FAKE_NUMBER(device), "vkGetPhysicalDeviceMemoryProperties2");
    fill_memory(&properties->memoryProperties);
    fill_chain(properties->pNext);
}

void fake_GetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice device, uint32_t *count,
                                                 VkQueueFamilyProperties *families)
{
    fake_enter(FAKE_GetPhysicalDeviceQueueFamilyProperties, 0);
    fake_find(KIND_physical_device, FAKE_NUMBER(device),
              "vkGetPhysicalDeviceQueueFamilyProperties");
    const VkQueueFlags compute = lies->no_compute ? 0 : VK_QUEUE_COMPUTE_BIT;
    const uint32_t bits = lies->timestamp_bits ? lies->timestamp_bits - 1 : 64;
    const VkQueueFamilyProperties own[] = {
        {.queueFlags = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_TRANSFER_BIT | compute,
         .queueCount = 1,
         .timestampValidBits = bits},
        {.queueFlags = VK_QUEUE_TRANSFER_BIT | compute,
         .queueCount = 1,
         .timestampValidBits = bits},
    };
    for (uint32_t i = 0; families && i < 2 && i < *count; i++)
        families[i] = own[i];
    *count = families && *count < 2 ? *count : 2;
}

// Names those of the device; returns how many.
static uint32_t list_extensions(const char **names)
{
    uint32_t count = 0;
    names[count++] = "VK_KHR_shader_clock";
    if (!lies->no_budget)
        names[count++] = "VK_EXT_memory_budget";
    if (!lies->no_size_control)
        names[count++] = "VK_EXT_subgroup_size_control";
    if (lies->buffer_max > 0)
        names[count++] = "VK_KHR_maintenance4";
    return count;
}

VkResult fake_EnumerateDeviceExtensionProperties(VkPhysicalDevice device, const char *layer,
                                                 uint32_t *count, VkExtensionProperties *properties)
{
    (void)layer;
    const char *names[DEVICE_EXTENSIONS_MAX];
    ENTER(EnumerateDeviceExtensionProperties, 0);
    fake_find(KIND_physical_device, FAKE_NUMBER(device), "vkEnumerateDeviceExtensionProperties");
    if (result_ != VK_SUCCESS)
        return result_;
    return give_extensions(names, list_extensions(names), count, properties);
}

// ---- the device

static bool is_enabled(const VkDeviceCreateInfo *info, const char *name)
{
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (strcmp(info->ppEnabledExtensionNames[i], name) == 0)
            return true;
    return false;
}

static bool are_extensions_there(const VkDeviceCreateInfo *info)
{
    const char *names[DEVICE_EXTENSIONS_MAX];
    uint32_t count = list_extensions(names), found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += is_enabled(info, names[i]);
    return found == info->enabledExtensionCount;
}

// Notes features that are not there; returns whether subgroups are to be full and of a size.
static bool check_features(const VkDeviceCreateInfo *info)
{
    bool in_subgroups = false;
    for (const VkBaseInStructure *one = info->pNext; one; one = one->pNext) {
        if (one->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES) {
            const VkPhysicalDeviceVulkan11Features *features = (const void *)one;
            if (features->storageBuffer16BitAccess && lies->no_16bit)
                fake_violation("vkCreateDevice: 16-bit storage is not there");
        } else if (one->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES) {
            const VkPhysicalDeviceVulkan12Features *features = (const void *)one;
            if ((features->bufferDeviceAddress && lies->no_addresses) ||
                (features->timelineSemaphore && lies->no_timeline))
                fake_violation("vkCreateDevice: a feature is not there");
        } else if (one->sType ==
                   VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT) {
            const VkPhysicalDeviceSubgroupSizeControlFeaturesEXT *features = (const void *)one;
            if (!is_enabled(info, "VK_EXT_subgroup_size_control") ||
                (features->subgroupSizeControl && lies->no_chosen_size) ||
                (features->computeFullSubgroups && lies->no_full_subgroups))
                fake_violation("vkCreateDevice: control of subgroups is not there");
            in_subgroups = features->subgroupSizeControl && features->computeFullSubgroups;
        }
    }
    return in_subgroups;
}

VkResult fake_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                           const VkAllocationCallbacks *allocator, VkDevice *device)
{
    (void)allocator;
    ENTER(CreateDevice, 0);
    fake_object *own = fake_find(KIND_physical_device, FAKE_NUMBER(physical), "vkCreateDevice");
    *device = POISON(VkDevice);
    if (result_ != VK_SUCCESS || !own)
        return result_ == VK_SUCCESS ? VK_ERROR_INITIALIZATION_FAILED : result_;
    const bool in_subgroups = check_features(info);
    if (info->queueCreateInfoCount != 1 || info->pQueueCreateInfos[0].queueFamilyIndex > 1)
        fake_violation("vkCreateDevice: there is no such queue family");
    if (!are_extensions_there(info))
        return VK_ERROR_EXTENSION_NOT_PRESENT;
    uint64_t made = fake_make(KIND_device, own->parent);
    fake_find(KIND_device, made, "vkCreateDevice")->in_subgroups = in_subgroups;
    fake_make(KIND_queue, made);
    *device = FAKE_HANDLE(VkDevice, made);
    return VK_SUCCESS;
}

void fake_DestroyDevice(VkDevice device, const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyDevice, FAKE_NUMBER(device));
    fake_destroy(KIND_device, FAKE_NUMBER(device), 0, "vkDestroyDevice");
}

void fake_GetDeviceQueue(VkDevice device, uint32_t family, uint32_t index, VkQueue *queue)
{
    fake_enter(FAKE_GetDeviceQueue, FAKE_NUMBER(device));
    search own = {.parent = FAKE_NUMBER(device)};
    if (family > 1 || index > 0)
        fake_violation("vkGetDeviceQueue: there is no such queue");
    fake_each(KIND_queue, note_child, &own);
    *queue = FAKE_HANDLE(VkQueue, own.found);
}

// ---- memory

enum { FRESH_BYTE = 0xa5 };

VkResult fake_AllocateMemory(VkDevice device, const VkMemoryAllocateInfo *info,
                             const VkAllocationCallbacks *allocator, VkDeviceMemory *memory)
{
    (void)allocator;
    ENTER(AllocateMemory, FAKE_NUMBER(device));
    *memory = POISON(VkDeviceMemory);
    if (result_ != VK_SUCCESS)
        return result_;
    if (!fake_find(KIND_device, FAKE_NUMBER(device), "vkAllocateMemory"))
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (info->memoryTypeIndex > 1 || info->allocationSize == 0)
        fake_violation("vkAllocateMemory: there is no such type, or no size");
    if (info->allocationSize > OR(lies->allocation_max, (uint64_t)1 << 30))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (fake.memory + info->allocationSize > OR(lies->heap_size, (uint64_t)4 << 30))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    char *bytes = malloc(info->allocationSize);
    if (!bytes)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    memset(bytes, FRESH_BYTE, info->allocationSize);
    uint64_t made = fake_make(KIND_memory, FAKE_NUMBER(device));
    fake_object *own = fake_find(KIND_memory, made, "vkAllocateMemory");
    own->bytes = bytes;
    own->size = info->allocationSize;
    own->value = info->memoryTypeIndex;
    fake.memory += own->size;
    *memory = FAKE_HANDLE(VkDeviceMemory, made);
    return VK_SUCCESS;
}

typedef struct bound {
    uint64_t memory, user;
} bound;

static void note_user(uint64_t handle, fake_object *object, void *user)
{
    (void)handle;
    bound *own = user;
    if (object->memory == own->memory && object->used_by > own->user)
        own->user = object->used_by;
}

void fake_FreeMemory(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_FreeMemory, FAKE_NUMBER(device));
    bound own = {.memory = FAKE_NUMBER(memory)};
    fake_each(KIND_buffer, note_user, &own);
    if (own.user > fake_observed())
        fake_violation("vkFreeMemory: submitted work may use a buffer in this memory");
    const fake_object *released =
        memory ? fake_find(KIND_memory, FAKE_NUMBER(memory), "vkFreeMemory") : NULL;
    for (uint64_t i = 0; released && i < released->size; i++) {
        const unsigned char byte = (unsigned char)released->bytes[i];
        fake.dirty += byte != 0 && byte != FRESH_BYTE;
    }
    fake_destroy(KIND_memory, FAKE_NUMBER(memory), FAKE_NUMBER(device), "vkFreeMemory");
}

VkResult fake_MapMemory(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                        VkDeviceSize size, VkMemoryMapFlags flags, void **data)
{
    (void)flags;
    ENTER(MapMemory, FAKE_NUMBER(device));
    fake_object *own = fake_find(KIND_memory, FAKE_NUMBER(memory), "vkMapMemory");
    *data = POISON(void *);
    if (result_ != VK_SUCCESS || !own)
        return result_ == VK_SUCCESS ? VK_ERROR_MEMORY_MAP_FAILED : result_;
    if (own->mapped || own->value != 1 || offset > own->size ||
        (size != VK_WHOLE_SIZE && offset + size > own->size))
        fake_violation("vkMapMemory: the memory is mapped, or cannot be, or has no such range");
    own->mapped = true;
    *data = own->bytes + offset;
    return VK_SUCCESS;
}

VkResult fake_CreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                           const VkAllocationCallbacks *allocator, VkBuffer *buffer)
{
    (void)allocator;
    ENTER(CreateBuffer, FAKE_NUMBER(device));
    *buffer = POISON(VkBuffer);
    if (result_ != VK_SUCCESS)
        return result_;
    if (!fake_find(KIND_device, FAKE_NUMBER(device), "vkCreateBuffer"))
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (info->size == 0 || !(info->usage & VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT))
        fake_violation("vkCreateBuffer: no size, or no address");
    if (lies->buffer_max > 0 && info->size > lies->buffer_max)
        fake_violation("vkCreateBuffer: the driver's buffers are smaller");
    uint64_t made = fake_make(KIND_buffer, FAKE_NUMBER(device));
    fake_find(KIND_buffer, made, "vkCreateBuffer")->size = info->size;
    *buffer = FAKE_HANDLE(VkBuffer, made);
    return VK_SUCCESS;
}

void fake_DestroyBuffer(VkDevice device, VkBuffer buffer, const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyBuffer, FAKE_NUMBER(device));
    fake_destroy(KIND_buffer, FAKE_NUMBER(buffer), FAKE_NUMBER(device), "vkDestroyBuffer");
}

static uint64_t needed(uint64_t size)
{
    return (size + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
}

void fake_GetBufferMemoryRequirements(VkDevice device, VkBuffer buffer,
                                      VkMemoryRequirements *requirements)
{
    fake_enter(FAKE_GetBufferMemoryRequirements, FAKE_NUMBER(device));
    const fake_object *own =
        fake_find(KIND_buffer, FAKE_NUMBER(buffer), "vkGetBufferMemoryRequirements");
    *requirements = (VkMemoryRequirements){.size = own ? needed(own->size) : MEMORY_ALIGNMENT,
                                           .alignment = MEMORY_ALIGNMENT,
                                           .memoryTypeBits = lies->no_type ? 4 : 3};
}

VkResult fake_BindBufferMemory(VkDevice device, VkBuffer buffer, VkDeviceMemory memory,
                               VkDeviceSize offset)
{
    ENTER(BindBufferMemory, FAKE_NUMBER(device));
    if (result_ != VK_SUCCESS)
        return result_;
    fake_object *own = fake_find(KIND_buffer, FAKE_NUMBER(buffer), "vkBindBufferMemory");
    const fake_object *to = fake_find(KIND_memory, FAKE_NUMBER(memory), "vkBindBufferMemory");
    if (!own || !to)
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (own->memory || offset % MEMORY_ALIGNMENT != 0 || offset + needed(own->size) > to->size)
        fake_violation("vkBindBufferMemory: the buffer is bound, or does not fit");
    own->memory = FAKE_NUMBER(memory);
    own->memory_at = offset;
    return VK_SUCCESS;
}

VkDeviceAddress fake_GetBufferDeviceAddress(VkDevice device, const VkBufferDeviceAddressInfo *info)
{
    fake_enter(FAKE_GetBufferDeviceAddress, FAKE_NUMBER(device));
    fake_object *own =
        fake_find(KIND_buffer, FAKE_NUMBER(info->buffer), "vkGetBufferDeviceAddress");
    if (!own || lies->zero_address)
        return 0;
    if (!own->memory)
        fake_violation("vkGetBufferDeviceAddress: the buffer is not bound");
    if (!own->address)
        fake_give_address(FAKE_NUMBER(info->buffer), lies->odd_address ? 4 : 0);
    return own->address;
}

// ---- pipelines

VkResult fake_CreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo *info,
                                 const VkAllocationCallbacks *allocator, VkShaderModule *module)
{
    (void)allocator;
    ENTER(CreateShaderModule, FAKE_NUMBER(device));
    *module = POISON(VkShaderModule);
    if (result_ != VK_SUCCESS)
        return result_;
    bool in_subgroups = false;
    fake_kernel kernel = fake_kernel_of(info->pCode, info->codeSize, &in_subgroups);
    if (kernel == KERNEL_NONE)
        fake_violation("vkCreateShaderModule: this is none of the kernels");
    uint64_t made = fake_make(KIND_module, FAKE_NUMBER(device));
    fake_object *own = fake_find(KIND_module, made, "vkCreateShaderModule");
    own->kernel = kernel;
    own->in_subgroups = in_subgroups;
    *module = FAKE_HANDLE(VkShaderModule, made);
    return VK_SUCCESS;
}

void fake_DestroyShaderModule(VkDevice device, VkShaderModule module,
                              const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyShaderModule, FAKE_NUMBER(device));
    fake_destroy(KIND_module, FAKE_NUMBER(module), FAKE_NUMBER(device), "vkDestroyShaderModule");
}

VkResult fake_CreatePipelineLayout(VkDevice device, const VkPipelineLayoutCreateInfo *info,
                                   const VkAllocationCallbacks *allocator, VkPipelineLayout *layout)
{
    (void)allocator;
    ENTER(CreatePipelineLayout, FAKE_NUMBER(device));
    *layout = POISON(VkPipelineLayout);
    if (result_ != VK_SUCCESS)
        return result_;
    for (uint32_t i = 0; i < info->pushConstantRangeCount; i++)
        if (info->pPushConstantRanges[i].size > OR(lies->push_constants, 128))
            fake_violation("vkCreatePipelineLayout: there are no so many push constants");
    *layout = FAKE_HANDLE(VkPipelineLayout, fake_make(KIND_layout, FAKE_NUMBER(device)));
    return VK_SUCCESS;
}

void fake_DestroyPipelineLayout(VkDevice device, VkPipelineLayout layout,
                                const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyPipelineLayout, FAKE_NUMBER(device));
    fake_destroy(KIND_layout, FAKE_NUMBER(layout), FAKE_NUMBER(device), "vkDestroyPipelineLayout");
}

typedef struct kept_cache {
    VkPipelineCacheHeaderVersionOne header;
    uint32_t pipelines;
} kept_cache;

static kept_cache own_cache(uint32_t pipelines)
{
    kept_cache cache = {.header = {.headerSize = sizeof cache.header,
                                   .headerVersion = VK_PIPELINE_CACHE_HEADER_VERSION_ONE,
                                   .vendorID = 0xfa4e,
                                   .deviceID = 1},
                        .pipelines = pipelines};
    memcpy(cache.header.pipelineCacheUUID, cache_uuid(), VK_UUID_SIZE);
    return cache;
}

VkResult fake_CreatePipelineCache(VkDevice device, const VkPipelineCacheCreateInfo *info,
                                  const VkAllocationCallbacks *allocator, VkPipelineCache *cache)
{
    (void)allocator;
    ENTER(CreatePipelineCache, FAKE_NUMBER(device));
    *cache = POISON(VkPipelineCache);
    if (result_ != VK_SUCCESS)
        return result_;
    const kept_cache own = own_cache(0);
    fake.caches_handed += info->initialDataSize > 0;
    if (info->initialDataSize > 0 &&
        (info->initialDataSize != sizeof own ||
         memcmp(info->pInitialData, &own.header, sizeof own.header) != 0))
        fake_violation("vkCreatePipelineCache was given what this driver never wrote");
    uint64_t made = fake_make(KIND_cache, FAKE_NUMBER(device));
    if (info->initialDataSize == sizeof own) {
        kept_cache handed;
        memcpy(&handed, info->pInitialData, sizeof handed);
        fake_find(KIND_cache, made, "vkCreatePipelineCache")->size = handed.pipelines;
    }
    *cache = FAKE_HANDLE(VkPipelineCache, made);
    return VK_SUCCESS;
}

void fake_DestroyPipelineCache(VkDevice device, VkPipelineCache cache,
                               const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyPipelineCache, FAKE_NUMBER(device));
    fake_destroy(KIND_cache, FAKE_NUMBER(cache), FAKE_NUMBER(device), "vkDestroyPipelineCache");
}

VkResult fake_GetPipelineCacheData(VkDevice device, VkPipelineCache cache, size_t *size, void *data)
{
    ENTER(GetPipelineCacheData, FAKE_NUMBER(device));
    const fake_object *own = fake_find(KIND_cache, FAKE_NUMBER(cache), "vkGetPipelineCacheData");
    if (result_ != VK_SUCCESS || !own)
        return result_ == VK_SUCCESS ? VK_ERROR_OUT_OF_HOST_MEMORY : result_;
    // Those that it began with are taken for the first that are made.
    const kept_cache kept = own_cache((uint32_t)(own->value > own->size ? own->value : own->size));
    size_t room = data ? *size : sizeof kept;
    *size = room < sizeof kept ? 0 : sizeof kept;
    if (data && room >= sizeof kept)
        memcpy(data, &kept, sizeof kept);
    return room < sizeof kept ? VK_INCOMPLETE : VK_SUCCESS;
}

// What the kernels take a constant for that they are not given.
static const uint32_t defaults[SKIM_SPEC_COUNT] = {
    [SKIM_SPEC_TYPE] = 2, [SKIM_SPEC_HEADS] = 1, [SKIM_SPEC_LANES] = 8,  [SKIM_SPEC_PARTS] = 1,
    [SKIM_SPEC_KEYS] = 1, [SKIM_SPEC_LISTS] = 2, [SKIM_SPEC_TOKENS] = 4,
};

static void specialise(fake_object *pipeline, const VkSpecializationInfo *info)
{
    memcpy(pipeline->constants, defaults, sizeof defaults);
    for (uint32_t i = 0; info && i < info->mapEntryCount; i++) {
        const VkSpecializationMapEntry *one = &info->pMapEntries[i];
        if (one->constantID >= SKIM_SPEC_COUNT || one->size != sizeof(uint32_t) ||
            one->offset + one->size > info->dataSize) {
            fake_violation("vkCreateComputePipelines: there is no such constant");
            continue;
        }
        memcpy(&pipeline->constants[one->constantID], (const char *)info->pData + one->offset,
               one->size);
    }
}

// Full subgroups of a size that is there, if the kernel adds up in them, and nothing of it without
// the feature.
static void check_subgroups(const fake_object *device, const fake_object *module,
                            const VkPipelineShaderStageCreateInfo *stage)
{
    const uint32_t there = OR(lies->subgroup_size, 32);
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT *size = stage->pNext;
    if (size &&
        (size->sType !=
             VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT ||
         size->pNext))
        fake_violation("vkCreateComputePipelines: an unknown structure");
    const bool full = stage->flags & VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
    if ((full || size) && !(device && device->in_subgroups))
        fake_violation("vkCreateComputePipelines: control of subgroups was not asked for");
    if (size && (lies->no_size_of_compute || size->requiredSubgroupSize != there ||
                 SKIM_THREADS > there * OR(lies->workgroup_subgroups, 64)))
        fake_violation("vkCreateComputePipelines: compute has no subgroups of %u",
                       size->requiredSubgroupSize);
    if (module && module->in_subgroups && !(full && size))
        fake_violation("vkCreateComputePipelines: nothing makes this kernel's subgroups full");
}

VkResult fake_CreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                     const VkComputePipelineCreateInfo *infos,
                                     const VkAllocationCallbacks *allocator, VkPipeline *pipelines)
{
    (void)allocator;
    ENTER(CreateComputePipelines, FAKE_NUMBER(device));
    for (uint32_t i = 0; i < count; i++)
        pipelines[i] = VK_NULL_HANDLE; // this call writes that for those that failed
    if (result_ != VK_SUCCESS)
        return result_;
    fake_object *kept =
        cache ? fake_find(KIND_cache, FAKE_NUMBER(cache), "vkCreateComputePipelines") : NULL;
    if (kept)
        kept->value += count;
    for (uint32_t i = 0; i < count; i++) {
        const fake_object *module =
            fake_find(KIND_module, FAKE_NUMBER(infos[i].stage.module), "vkCreateComputePipelines");
        check_subgroups(fake_find(KIND_device, FAKE_NUMBER(device), "vkCreateComputePipelines"),
                        module, &infos[i].stage);
        fake_find(KIND_layout, FAKE_NUMBER(infos[i].layout), "vkCreateComputePipelines");
        uint64_t made = fake_make(KIND_pipeline, FAKE_NUMBER(device));
        fake_object *pipeline = fake_find(KIND_pipeline, made, "vkCreateComputePipelines");
        pipeline->kernel = module ? module->kernel : KERNEL_NONE;
        specialise(pipeline, infos[i].stage.pSpecializationInfo);
        pipelines[i] = FAKE_HANDLE(VkPipeline, made);
    }
    return VK_SUCCESS;
}

void fake_DestroyPipeline(VkDevice device, VkPipeline pipeline,
                          const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyPipeline, FAKE_NUMBER(device));
    fake_destroy(KIND_pipeline, FAKE_NUMBER(pipeline), FAKE_NUMBER(device), "vkDestroyPipeline");
}

// ---- the test's way in

fake_control *fake_vulkan(void);

__attribute__((visibility("default"))) fake_control *fake_vulkan(void)
{
    return &fake;
}
