#include "backends/opencl/queue.h"

#include <assert.h>

// Groups for each compute unit of a CPU: more would only make more parts to merge.
enum { GROUPS_OF_CPU = 4 };

// A launch of a GPU holds so many multiplications of prefill: a screen may wait for it.
static const double LAUNCH_WORK = 5e10;

uint32_t skim_opencl_parts_wanted(const skim_opencl_device *device, const skim_shape *shape)
{
    if (device->threads > 1)
        return SKIM_GPU_PARTS_MAX;
    return (device->compute_units * GROUPS_OF_CPU + shape->kv_heads - 1) / shape->kv_heads;
}

uint32_t skim_opencl_parts(const skim_opencl_device *device, const skim_shape *shape)
{
    const uint32_t parts = skim_gpu_parts(shape);
    const uint32_t wanted = skim_opencl_parts_wanted(device, shape);
    return wanted < parts ? wanted : parts;
}

// Rows with more than one query, in launches of bounded work: the planned length counts, since how
// long rows are only the device knows.
static skim_status prefill(skim_opencl_queue *queue, const skim_attend_args *args,
                           skim_opencl_launch launch)
{
    const skim_shape *shape = args->shape;
    const uint64_t queries = (uint64_t)args->token_count * shape->q_heads / shape->kv_heads;
    const uint64_t tile = SKIM_OPENCL_PREFILL_QUERIES, tiles = (queries + tile - 1) / tile;
    const double of_tile = skim_gpu_attend_work(shape, (double)tile);
    const uint64_t fitting = (uint64_t)(LAUNCH_WORK / of_tile);
    const bool bounded = queue->device->base->info.type != SKIM_DEVICE_SOFTWARE;
    const uint64_t most = !bounded ? tiles : fitting < 1 ? 1 : fitting;
    const uint32_t chunk_shift = launch.constants.chunk_shift;
    launch.kernel = SKIM_OPENCL_PREFILL;
    launch.constants =
        skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_PREFILL, SKIM_SELECT_GROUP);
    launch.constants.chunk_shift = chunk_shift;
    launch.word_count = skim_opencl_word_count(SKIM_OPENCL_PREFILL);
    launch.groups[1] = shape->kv_heads;
    for (uint64_t first = 0; first < tiles; first += most) {
        const uint64_t count = tiles - first < most ? tiles - first : most;
        launch.first = (uint32_t)first;
        launch.groups[0] = (uint32_t)count;
        skim_status status = skim_opencl_record_launch(queue, &launch);
        if (status != SKIM_OK)
            return status;
    }
    return SKIM_OK;
}

skim_status skim_opencl_attend(skim_backend_queue *base, const skim_attend_args *args)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    const skim_shape *shape = args->shape;
    const skim_select_mode select = args->lists ? args->select : SKIM_SELECT_GROUP;
    const uint32_t parts = skim_opencl_parts(queue->device, shape);
    const bool of_heads = skim_gpu_has_head_lists(shape, select);
    skim_opencl_attend_push push = {.shape = skim_gpu_shape_word(shape)};
    skim_gpu_operand operands[SKIM_GPU_ATTEND_OPERANDS];
    skim_opencl_launch launch = {
        .kernel = SKIM_OPENCL_ATTEND,
        .constants = skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_ATTEND, select),
        .push = &push,
        .push_size = sizeof push,
        .words = {args->row_count, parts, of_heads ? 1 : shape->q_heads / shape->kv_heads},
        .word_count = skim_opencl_word_count(SKIM_OPENCL_ATTEND),
        .groups = {parts, 0, args->row_count},
    };
    launch.groups[1] = skim_gpu_head_chunks(shape, launch.constants.heads);
    skim_status status = skim_gpu_describe_attend(args, &base->error, &push.fields, operands);
    if (status == SKIM_OK)
        status = skim_opencl_locate_operands(queue, operands, SKIM_GPU_ATTEND_OPERANDS, &launch,
                                             &push.fields);
    if (status != SKIM_OK)
        return status;
    push.fields.partials = 0;
    assert(queue->scratch_size >= skim_opencl_scratch_size(base->device, shape));
    if (queue->scratch)
        launch.memories[launch.memory_count - 1] = queue->scratch;
    status = skim_opencl_record_launch(queue, &launch);
    // Only a row of several queries makes more tokens than one.
    if (status == SKIM_OK && args->token_count > 1)
        status = prefill(queue, args, launch);
    if (status != SKIM_OK || parts == 1)
        return status;
    launch.kernel = SKIM_OPENCL_MERGE;
    launch.word_count = skim_opencl_word_count(SKIM_OPENCL_MERGE);
    launch.groups[0] = shape->q_heads;
    launch.groups[1] = args->row_count;
    launch.groups[2] = 1;
    return skim_opencl_record_launch(queue, &launch);
}
