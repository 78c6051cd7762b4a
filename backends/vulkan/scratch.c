// A queue's scratch, and what a shape needs before its verbs can be recorded.
#include "backends/vulkan/queue.h"

void skim_vulkan_scratch_deinit(skim_vulkan_queue *queue)
{
    skim_vulkan_chunk *scratch = &queue->scratch;
    if (scratch->buffer)
        skim_vulkan_wipe(queue->device, scratch, 1, queue->scratch_size);
    skim_vulkan_chunk_destroy(queue->device, scratch);
    queue->scratch_size = 0;
}

static skim_status grow_scratch(skim_vulkan_queue *queue, const skim_shape *shape)
{
    skim_device *device = queue->device->base;
    uint64_t size = skim_gpu_scratch_size(device, shape);
    if (size <= queue->scratch_size)
        return SKIM_OK;
    skim_vulkan_chunk grown;
    skim_status status = skim_vulkan_chunk_create(device, size, &queue->base->error, &grown);
    if (status != SKIM_OK)
        return status;
    skim_vulkan_scratch_deinit(queue);
    queue->scratch = grown;
    queue->scratch_size = size;
    return SKIM_OK;
}

static bool is_needed(const skim_shape *shape, skim_vulkan_kernel kernel, skim_select_mode select)
{
    switch (kernel) {
    case SKIM_VULKAN_CENTRE:
        return shape->bounds_type == SKIM_BOUNDS_I8;
    case SKIM_VULKAN_MERGE:
        return skim_gpu_parts(shape) > 1;
    case SKIM_VULKAN_PREFILL:
        return shape->max_tokens > 1;
    case SKIM_VULKAN_ESTIMATE:
        return select == SKIM_SELECT_GROUP; // it serves both
    default:
        return true;
    }
}

// Whether buffers of so many slots can be in several pieces.
static bool can_be_split(const skim_vulkan_queue *queue, const skim_shape *shape)
{
    uint64_t tokens = (uint64_t)shape->slots * shape->kv_heads * shape->page_size;
    uint64_t token = ((uint64_t)shape->key_dim + shape->value_dim) * skim_type_size(shape->type);
    const uint64_t size = queue->device->chunk_size;
    return tokens > size / token || skim_gpu_bounds_size(queue->device->base, shape) > size;
}

// Every pipeline that verbs of the shape can take, on buffers in one piece or in several.
static skim_status build(skim_vulkan_queue *queue, const skim_shape *shape, bool split)
{
    for (int kernel = 0; kernel < SKIM_VULKAN_KERNELS; kernel++) {
        for (int select = SKIM_SELECT_HEAD; select <= SKIM_SELECT_GROUP; select++) {
            if (!is_needed(shape, (skim_vulkan_kernel)kernel, (skim_select_mode)select))
                continue;
            skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
            if (kernel == SKIM_VULKAN_SELECT || kernel == SKIM_VULKAN_ATTEND)
                skim_vulkan_set_lists(&constants, queue->device, shape, (skim_select_mode)select);
            if (split)
                constants.value[SKIM_SPEC_CHUNK_SHIFT] = queue->device->chunk_shift;
            VkPipeline pipeline;
            skim_status status =
                skim_vulkan_pipeline_get(queue->device, (skim_vulkan_kernel)kernel, &constants,
                                         &queue->base->error, &pipeline);
            if (status != SKIM_OK)
                return status;
        }
    }
    return SKIM_OK;
}

skim_status skim_vulkan_queue_prepare(skim_backend_queue *base, const skim_shape *shape)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const uint64_t queries = (uint64_t)shape->max_tokens * shape->q_heads / shape->kv_heads;
    // The grid of prefill; its x is limited as that of estimate is.
    if (queries / SKIM_PREFILL_QUERIES >= queue->device->base->limits.pages_max)
        return skim_fail(&base->error, SKIM_UNSUPPORTED,
                         "max_tokens %u is more than this device takes at once; take fewer",
                         shape->max_tokens);
    skim_status status = grow_scratch(queue, shape);
    if (status == SKIM_OK)
        status = build(queue, shape, false);
    if (status == SKIM_OK && can_be_split(queue, shape))
        status = build(queue, shape, true);
    if (status == SKIM_OK)
        skim_vulkan_pipelines_save(queue->device);
    return status;
}
