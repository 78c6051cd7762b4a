#include "backends/vulkan/queue.h"

#include <string.h>

// A general kernel learns the shape from memory: the push constants are full.
static skim_status describe_shape(skim_vulkan_queue *queue, const skim_shape *shape,
                                  skim_gpu_attend_push *push)
{
    const struct { // Shape of shaders/vulkan/attend.glsl
        uint64_t partials;
        uint32_t word, parts;
    } description = {push->partials, skim_gpu_shape_word(shape), skim_gpu_parts(shape)};
    char *bytes;
    skim_status status =
        skim_vulkan_stage_words(queue, sizeof description, &bytes, &push->partials);
    if (status == SKIM_OK)
        memcpy(bytes, &description, sizeof description);
    return status;
}

// Rows with more than one query, in pieces that a submission can hold: the planned length counts,
// since how long rows are only the device knows.
static skim_status prefill(skim_vulkan_queue *queue, const skim_attend_args *args,
                           skim_vulkan_dispatch dispatch)
{
    const skim_shape *shape = args->shape;
    const uint64_t queries = (uint64_t)args->token_count * shape->q_heads / shape->kv_heads;
    const uint64_t tile = SKIM_PREFILL_QUERIES * dispatch.constants->value[SKIM_SPEC_TOKENS];
    const uint64_t tiles = (queries + tile - 1) / tile;
    const double of_tile = skim_gpu_attend_work(shape, (double)tile);
    uint64_t most = (uint64_t)(queue->device->submission_work / of_tile);
    most = most < 1 ? 1 : most;
    dispatch.kernel = SKIM_VULKAN_PREFILL;
    dispatch.groups[1] = shape->kv_heads;
    for (uint64_t first = 0; first < tiles; first += most) {
        uint64_t count = tiles - first < most ? tiles - first : most;
        dispatch.first = (uint32_t)first;
        dispatch.groups[0] = (uint32_t)count;
        // Nothing that runs beside it writes what it reads.
        skim_status status = skim_vulkan_record_dispatch(queue, &dispatch, false);
        if (status == SKIM_OK)
            status = skim_vulkan_add_work(queue, (double)count * of_tile);
        if (status != SKIM_OK)
            return status;
    }
    return SKIM_OK;
}

skim_status skim_vulkan_attend(skim_backend_queue *base, const skim_attend_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_attend_push push;
    skim_gpu_operand operands[SKIM_GPU_ATTEND_OPERANDS];
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_vulkan_set_lists(&constants, queue->device, shape,
                          args->lists ? args->select : SKIM_SELECT_GROUP);
    skim_status status = skim_gpu_describe_attend(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_operands(queue, operands, SKIM_GPU_ATTEND_OPERANDS, &constants,
                                             &push);
    push.partials = queue->scratch.address;
    if (status == SKIM_OK && constants.value[SKIM_SPEC_DIM] == 0)
        status = describe_shape(queue, shape, &push);
    if (status != SKIM_OK)
        return status;

    const uint32_t parts = skim_gpu_parts(shape);
    skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_ATTEND,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {parts, skim_gpu_head_chunks(shape, constants.value[SKIM_SPEC_HEADS]),
                   args->row_count},
    };
    status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    // Only a row of several queries makes more tokens than one.
    if (status == SKIM_OK && args->token_count > 1)
        status = prefill(queue, args, dispatch);
    if (status != SKIM_OK || parts == 1)
        return status;
    dispatch.kernel = SKIM_VULKAN_MERGE;
    dispatch.groups[0] = shape->q_heads;
    dispatch.groups[1] = args->row_count;
    dispatch.groups[2] = 1;
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
