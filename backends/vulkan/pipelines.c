#include "backends/vulkan/vulkan.h"

#include "runtime/checksum.h"
#include "runtime/mutant.h"
#include "runtime/store.h"

#include <stdio.h>
#include <string.h>

// What glslc made of shaders/vulkan, by the fast paths that a kernel has variants for.
#include "shaders/vulkan/kernels.h"

// Pipelines that a device without a queue keeps for its next one; threads that share a page.
enum { UNUSED_MAX = 256, LANES = 8 };

static const char *const kernel_names[SKIM_VULKAN_KERNELS] = {
    "append", "centre", "estimate", "select", "attend", "merge", "prefill",
};

#define BIT(constant) (1u << SKIM_SPEC_##constant)

// The constants that each kernel looks at: shapes that agree on these share it.
static const uint32_t kernel_constants[SKIM_VULKAN_KERNELS] = {
    [SKIM_VULKAN_APPEND] =
        BIT(TYPE) | BIT(DIM) | BIT(PAGE_SIZE) | BIT(BOUNDS) | BIT(BOUNDS_TYPE) | BIT(CHUNK_SHIFT),
    [SKIM_VULKAN_CENTRE] = BIT(TYPE) | BIT(DIM) | BIT(PAGE_SIZE) | BIT(CHUNK_SHIFT),
    [SKIM_VULKAN_ESTIMATE] = BIT(TYPE) | BIT(DIM) | BIT(GROUP) | BIT(HEADS) | BIT(LANES) |
                             BIT(TOKENS) | BIT(BOUNDS) | BIT(BOUNDS_TYPE) | BIT(CHUNK_SHIFT),
    [SKIM_VULKAN_SELECT] = BIT(KEYS) | BIT(LISTS), // general: one serves all groups
    [SKIM_VULKAN_ATTEND] = BIT(TYPE) | BIT(DIM) | BIT(PAGE_SIZE) | BIT(GROUP) | BIT(HEADS) |
                           BIT(LANES) | BIT(TOKENS) | BIT(LISTS) | BIT(CHUNK_SHIFT),
    [SKIM_VULKAN_MERGE] = BIT(DIM) | BIT(PAGE_SIZE) | BIT(PARTS),
    [SKIM_VULKAN_PREFILL] =
        BIT(TYPE) | BIT(DIM) | BIT(PAGE_SIZE) | BIT(GROUP) | BIT(TOKENS) | BIT(CHUNK_SHIFT),
};

typedef struct shader {
    const uint32_t *words;
    size_t size;
} shader;

#define SHADER(name)                                                                               \
    (shader)                                                                                       \
    {                                                                                              \
        skim_spirv_##name, sizeof skim_spirv_##name                                                \
    }

static shader find_shader(const skim_device *device, skim_vulkan_kernel kernel)
{
    bool subgroups = device->limits.features & SKIM_FEATURE_SUBGROUPS;
    bool fp16 = device->limits.features & SKIM_FEATURE_FP16;
    switch (kernel) {
    case SKIM_VULKAN_APPEND:
        return SHADER(append);
    case SKIM_VULKAN_CENTRE:
        return SHADER(centre);
    case SKIM_VULKAN_ESTIMATE:
        if (subgroups)
            return fp16 ? SHADER(estimate_subgroups_fp16) : SHADER(estimate_subgroups);
        return fp16 ? SHADER(estimate_fp16) : SHADER(estimate);
    case SKIM_VULKAN_SELECT:
        return SHADER(select);
    case SKIM_VULKAN_ATTEND:
        if (subgroups)
            return fp16 ? SHADER(attend_subgroups_fp16) : SHADER(attend_subgroups);
        return fp16 ? SHADER(attend_fp16) : SHADER(attend);
    case SKIM_VULKAN_MERGE:
        return SHADER(merge);
    case SKIM_VULKAN_PREFILL:
    default:
        return fp16 ? SHADER(prefill_fp16) : SHADER(prefill);
    }
}

// ---- what is kept between runs

// All that the cache's bytes depend on besides what the store looks at itself.
static void name_cache(skim_vulkan_device *device, const VkPhysicalDeviceIDProperties *ids)
{
    skim_checksum kernels;
    skim_checksum_begin(&kernels, 0);
    for (int k = 0; k < SKIM_VULKAN_KERNELS; k++) {
        shader of = find_shader(device->base, (skim_vulkan_kernel)k);
        skim_checksum_add(&kernels, of.words, of.size);
    }
    char uuid[2 * VK_UUID_SIZE + 1];
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", ids->driverUUID[i]);
    snprintf(device->pipelines.name, sizeof device->pipelines.name, "pipelines-%s-%016llx", uuid,
             (unsigned long long)skim_checksum_value(&kernels));
}

// Whether the header of a pipeline cache is that of this device: a driver need not check.
static bool is_own_cache(const VkPhysicalDeviceProperties *properties, const void *data,
                         size_t size)
{
    VkPipelineCacheHeaderVersionOne header;
    if (size < sizeof header)
        return false;
    memcpy(&header, data, sizeof header);
    return header.headerSize >= sizeof header && header.headerSize <= size &&
           header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           header.vendorID == properties->vendorID && header.deviceID == properties->deviceID &&
           memcmp(header.pipelineCacheUUID, properties->pipelineCacheUUID, VK_UUID_SIZE) == 0;
}

static VkResult create_cache(skim_vulkan_device *device)
{
    VkPhysicalDeviceIDProperties ids = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &ids};
    device->instance.GetPhysicalDeviceProperties2(device->physical, &properties);
    name_cache(device, &ids);
    size_t size = 0;
    void *data = skim_store_load(device->base, device->pipelines.name, &size);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    if (data && is_own_cache(&properties.properties, data, size)) {
        info.initialDataSize = size;
        info.pInitialData = data;
        device->pipelines.kept = skim_checksum_of(data, size);
    } else if (data) {
        skim_log_write(device->base->host, SKIM_LOG_WARNING,
                       "kept pipelines are another device's; they are made again");
    }
    VkResult result =
        device->vk.CreatePipelineCache(device->handle, &info, NULL, &device->pipelines.cache);
    if (result != VK_SUCCESS)
        device->pipelines.cache = VK_NULL_HANDLE;
    skim_release(device->base->host, data, size);
    return result;
}

void skim_vulkan_pipelines_save(skim_vulkan_device *device)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    const skim_host *host = device->base->host;
    if (!host->store.save)
        return;
    skim_mutex_lock(&pipelines->mutex);
    bool changed = pipelines->count > pipelines->saved;
    pipelines->saved = pipelines->count;
    skim_mutex_unlock(&pipelines->mutex);
    // It may grow between the two calls: then whoever makes it grow saves it.
    size_t size = 0;
    void *data = NULL;
    if (changed && device->vk.GetPipelineCacheData(device->handle, pipelines->cache, &size, NULL) ==
                       VK_SUCCESS)
        data = size > 0 ? skim_allocate(host, size) : NULL;
    size_t written = size;
    bool read = data && device->vk.GetPipelineCacheData(device->handle, pipelines->cache, &written,
                                                        data) == VK_SUCCESS;
    if (read) {
        // What was there already has not changed it.
        const uint64_t made = skim_checksum_of(data, written);
        skim_mutex_lock(&pipelines->mutex);
        const bool is_kept = pipelines->kept == made;
        pipelines->kept = made;
        skim_mutex_unlock(&pipelines->mutex);
        if (!is_kept)
            skim_store_save(device->base, pipelines->name, data, written);
    }
    skim_release(host, data, size);
}

// ---- making

skim_status skim_vulkan_pipelines_init(skim_vulkan_device *device, skim_error *error)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    const VkPushConstantRange range = {
        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .offset = 0, .size = 128};
    const VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    skim_mutex_init(&pipelines->mutex);
    VkResult result =
        device->vk.CreatePipelineLayout(device->handle, &info, NULL, &pipelines->layout);
    if (result != VK_SUCCESS)
        pipelines->layout = VK_NULL_HANDLE; // a call that failed may have written anything
    else
        result = create_cache(device);
    if (result != VK_SUCCESS)
        return skim_vulkan_fail(device->base, error, result, "the pipeline layout or cache");
    return SKIM_OK;
}

static void clear(skim_vulkan_device *device)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    for (uint32_t i = 0; i < pipelines->count; i++)
        device->vk.DestroyPipeline(device->handle, pipelines->items[i].handle, NULL);
    pipelines->count = pipelines->saved = 0;
}

void skim_vulkan_pipelines_hold(skim_vulkan_device *device, int queues)
{
    skim_mutex_lock(&device->pipelines.mutex);
    device->pipelines.queues += queues;
    if (device->pipelines.queues == 0 && device->pipelines.count > UNUSED_MAX)
        clear(device);
    skim_mutex_unlock(&device->pipelines.mutex);
}

void skim_vulkan_pipelines_deinit(skim_vulkan_device *device)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    clear(device);
    for (int k = 0; k < SKIM_VULKAN_KERNELS; k++)
        if (pipelines->modules[k])
            device->vk.DestroyShaderModule(device->handle, pipelines->modules[k], NULL);
    if (pipelines->cache)
        device->vk.DestroyPipelineCache(device->handle, pipelines->cache, NULL);
    if (pipelines->layout)
        device->vk.DestroyPipelineLayout(device->handle, pipelines->layout, NULL);
    skim_release(device->base->host, pipelines->items,
                 pipelines->capacity * sizeof *pipelines->items);
    skim_mutex_deinit(&pipelines->mutex);
}

static VkResult create_module(skim_vulkan_device *device, skim_vulkan_kernel kernel)
{
    VkShaderModule *module = &device->pipelines.modules[kernel];
    if (*module)
        return VK_SUCCESS;
    shader of = find_shader(device->base, kernel);
    const VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = of.size,
        .pCode = of.words,
    };
    VkResult result = device->vk.CreateShaderModule(device->handle, &info, NULL, module);
    if (result != VK_SUCCESS)
        *module = VK_NULL_HANDLE;
    return result;
}

static bool adds_in_subgroups(skim_vulkan_kernel kernel)
{
    return kernel == SKIM_VULKAN_ESTIMATE || kernel == SKIM_VULKAN_ATTEND;
}

static VkResult create_pipeline(skim_vulkan_device *device, skim_vulkan_pipeline *made)
{
    VkSpecializationMapEntry entries[SKIM_SPEC_COUNT];
    uint32_t count = 0;
    for (uint32_t i = 0; i < SKIM_SPEC_COUNT; i++)
        if (made->constants.value[i] > 0)
            entries[count++] = (VkSpecializationMapEntry){.constantID = i,
                                                          .offset = i * (uint32_t)sizeof(uint32_t),
                                                          .size = sizeof(uint32_t)};
    const VkSpecializationInfo constants = {
        .mapEntryCount = count,
        .pMapEntries = entries,
        .dataSize = sizeof made->constants.value,
        .pData = made->constants.value,
    };
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_DISPATCH_BASE_BIT,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = device->pipelines.modules[made->kernel],
                  .pName = "main",
                  .pSpecializationInfo = &constants},
        .layout = device->pipelines.layout,
    };
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = device->subgroup_size,
    };
    if (adds_in_subgroups(made->kernel) && device->base->limits.features & SKIM_FEATURE_SUBGROUPS) {
        info.stage.pNext = &size;
        info.stage.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT;
    }
    return device->vk.CreateComputePipelines(device->handle, device->pipelines.cache, 1, &info,
                                             NULL, &made->handle);
}

static skim_vulkan_pipeline *find(skim_vulkan_pipelines *pipelines, skim_vulkan_kernel kernel,
                                  const skim_vulkan_constants *constants)
{
    for (uint32_t i = 0; i < pipelines->count; i++) {
        skim_vulkan_pipeline *item = &pipelines->items[i];
        if (item->kernel == kernel && memcmp(&item->constants, constants, sizeof *constants) == 0)
            return item;
    }
    return NULL;
}

// Adds a pipeline to those there are, unless another thread made the same meanwhile: then that one
// is taken.
static bool keep(skim_vulkan_device *device, skim_vulkan_pipeline *made)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    VkPipeline surplus = made->handle;
    skim_mutex_lock(&pipelines->mutex);
    const skim_vulkan_pipeline *found = find(pipelines, made->kernel, &made->constants);
    skim_vulkan_pipeline *items = NULL;
    if (found)
        made->handle = found->handle;
    else
        items = skim_gpu_grow(device->base->host, pipelines->items, pipelines->count,
                              &pipelines->capacity, sizeof *items);
    if (items) {
        pipelines->items = items;
        items[pipelines->count++] = *made;
        surplus = VK_NULL_HANDLE;
    }
    skim_mutex_unlock(&pipelines->mutex);
    if (surplus)
        device->vk.DestroyPipeline(device->handle, surplus, NULL);
    return found || items;
}

skim_status skim_vulkan_pipeline_get(skim_vulkan_device *device, skim_vulkan_kernel kernel,
                                     const skim_vulkan_constants *constants, skim_error *error,
                                     VkPipeline *pipeline)
{
    skim_vulkan_pipelines *pipelines = &device->pipelines;
    skim_vulkan_constants wanted = {0};
    for (uint32_t i = 0; i < SKIM_SPEC_COUNT; i++)
        if (kernel_constants[kernel] & 1u << i)
            wanted.value[i] = constants->value[i];
#ifdef SKIM_MUTANTS
    wanted.value[SKIM_SPEC_MUTANT] = skim_mutant;
#endif
    skim_mutex_lock(&pipelines->mutex);
    const skim_vulkan_pipeline *found = find(pipelines, kernel, &wanted);
    VkResult result = found ? VK_SUCCESS : create_module(device, kernel);
    if (found)
        *pipeline = found->handle;
    skim_mutex_unlock(&pipelines->mutex);
    if (found)
        return SKIM_OK;

    // Without the lock: a step on another queue must not wait for a compiler.
    skim_vulkan_pipeline made = {.kernel = kernel, .constants = wanted};
    if (result == VK_SUCCESS)
        result = create_pipeline(device, &made);
    if (result != VK_SUCCESS) {
        char text[64];
        snprintf(text, sizeof text, "building the kernel %s", kernel_names[kernel]);
        return skim_vulkan_fail(device->base, error, result, text);
    }
    if (!keep(device, &made))
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a kernel");
    *pipeline = made.handle;
    return SKIM_OK;
}

// ---- constants

void skim_vulkan_set_lists(skim_vulkan_constants *constants, const skim_vulkan_device *device,
                           const skim_shape *shape, skim_select_mode select)
{
    bool head = skim_gpu_has_head_lists(shape, select);
    constants->value[SKIM_SPEC_LISTS] = head ? SKIM_LISTS_HEAD : SKIM_LISTS_GROUP;
    if (head)
        constants->value[SKIM_SPEC_HEADS] = 1;
    // What attend adds up for many heads would not fit in the registers of 8 threads.
    bool many = constants->value[SKIM_SPEC_HEADS] * shape->key_dim > 512;
    if (many && device->base->limits.features & SKIM_FEATURE_SUBGROUPS &&
        device->subgroup_size >= 2 * LANES)
        constants->value[SKIM_SPEC_LANES] = 2 * LANES;
}

skim_vulkan_constants skim_vulkan_constants_of(const skim_vulkan_device *device,
                                               const skim_shape *shape)
{
    skim_vulkan_constants constants = {0};
    uint32_t *value = constants.value;
    const bool wide = device->base->limits.features & SKIM_FEATURE_WIDE;
    value[SKIM_SPEC_TYPE] = shape->type;
    value[SKIM_SPEC_BOUNDS] = shape->bounds;
    value[SKIM_SPEC_BOUNDS_TYPE] = shape->bounds_type;
    value[SKIM_SPEC_KEYS] = skim_gpu_near_keys(shape);
    value[SKIM_SPEC_LANES] = LANES;
    value[SKIM_SPEC_TOKENS] = wide ? 4 : 1;
    value[SKIM_SPEC_HEADS] = wide ? skim_gpu_heads_at_once(shape) : 1;
    if (wide) { // else a general kernel
        value[SKIM_SPEC_DIM] = shape->key_dim;
        value[SKIM_SPEC_PAGE_SIZE] = shape->page_size;
        value[SKIM_SPEC_GROUP] = shape->q_heads / shape->kv_heads;
        value[SKIM_SPEC_PARTS] = skim_gpu_parts(shape);
    }
    return constants;
}
