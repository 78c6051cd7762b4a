#include "backends/cuda/queue.h"

#include <string.h>

// ---- the plan of long lists

skim_cuda_segments skim_cuda_segments_of(const skim_shape *shape)
{
    if (shape->max_pages <= SKIM_CUDA_NEAR_KEYS)
        return (skim_cuda_segments){.count = 1, .length = shape->max_pages};
    uint32_t count = (shape->max_pages + SKIM_CUDA_SEGMENT - 1) / SKIM_CUDA_SEGMENT;
    count = count < SKIM_CUDA_SEGMENTS ? count : SKIM_CUDA_SEGMENTS;
    // Whole warps.
    const uint32_t length = (shape->max_pages + count - 1) / count;
    return (skim_cuda_segments){.count = count, .length = (length + 31) / 32 * 32};
}

static uint64_t take(uint64_t *end, uint64_t bytes)
{
    const uint64_t begin = *end;
    *end = skim_round_up(begin + bytes, 64);
    return begin;
}

skim_cuda_select_places skim_cuda_select_places_of(const skim_shape *shape)
{
    const uint64_t lists = (uint64_t)shape->max_rows * shape->q_heads; // if each head has one
    const uint64_t segments = skim_cuda_segments_of(shape).count;
    uint64_t end = 0;
    skim_cuda_select_places places;
    places.keys = take(&end, lists * shape->max_pages * sizeof(uint32_t));
    places.sums = take(&end, lists * segments * 2 * sizeof(float));
    places.counts = take(&end, lists * SKIM_CUDA_PASSES * segments * SKIM_CUDA_DIGITS * 4);
    places.states = take(&end, lists * (1 + SKIM_CUDA_PASSES) * 2 * sizeof(uint32_t));
    places.ranks = take(&end, lists * segments * 2 * sizeof(uint32_t));
    places.end = end;
    return places;
}

// ---- launches

static skim_status record(skim_cuda_queue *queue, skim_cuda_select_kernel kernel, uint32_t rows,
                          skim_cuda_select_launch *argument)
{
    const skim_cuda_launch launch = {
        .kernel = skim_cuda_select_kernel_of(kernel),
        .threads = SKIM_SELECT_THREADS,
        .groups = {argument->segments, argument->lists_per_row, rows},
        .argument = argument,
    };
    return skim_cuda_record_launch(queue, &launch);
}

// One block a list: enough threads that none has many pages.
static skim_status select_near(skim_cuda_queue *queue, uint32_t rows, uint32_t pages,
                               skim_cuda_select_launch *argument)
{
    const skim_cuda_launch launch = {
        .kernel = skim_cuda_select_kernel_of(SKIM_CUDA_SELECT_near),
        .threads = pages <= 1024   ? 256
                   : pages <= 4096 ? 512
                                   : 1024,
        .shared = (uint32_t)skim_round_up(pages * sizeof(uint32_t), 16),
        .groups = {argument->lists_per_row, rows, 1},
        .argument = argument,
    };
    return skim_cuda_record_launch(queue, &launch);
}

static skim_status select_far(skim_cuda_queue *queue, uint32_t rows,
                              skim_cuda_select_launch *argument)
{
    skim_status status = SKIM_OK;
    if (argument->list_heads > 1 && argument->combine >= SKIM_COMBINE_SOFTMAX_MAX)
        status = record(queue, SKIM_CUDA_SELECT_sums, rows, argument);
    if (status == SKIM_OK)
        status = record(queue, SKIM_CUDA_SELECT_keys, rows, argument);
    for (uint32_t pass = 1; pass < SKIM_CUDA_PASSES && status == SKIM_OK; pass++) {
        argument->pass = pass;
        status = record(queue, SKIM_CUDA_SELECT_count, rows, argument);
    }
    if (status == SKIM_OK)
        status = record(queue, SKIM_CUDA_SELECT_ranks, rows, argument);
    return status == SKIM_OK ? record(queue, SKIM_CUDA_SELECT_write, rows, argument) : status;
}

skim_status skim_cuda_select(skim_backend_queue *base, const skim_select_args *args)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_select_push push;
    skim_gpu_operand operands[SKIM_GPU_SELECT_OPERANDS];
    skim_status status = skim_gpu_describe_select(args, &base->error, &push, operands);
    if (status != SKIM_OK)
        return status;
    skim_cuda_locate_operands(operands, SKIM_GPU_SELECT_OPERANDS, &push);
    const bool of_heads = skim_gpu_has_head_lists(shape, args->select);
    const skim_cuda_segments segments = skim_cuda_segments_of(shape);
    skim_cuda_select_launch argument = {
        .lists_per_row = of_heads ? shape->q_heads : shape->kv_heads,
        .list_heads = of_heads ? 1 : shape->q_heads / shape->kv_heads,
        .segment = segments.length,
        .segments = segments.count,
    };
    memcpy(&argument, &push, sizeof push);
    if (segments.count == 1)
        return select_near(queue, args->row_count, shape->max_pages, &argument);
    const skim_cuda_select_places places = skim_cuda_select_places_of(shape);
    argument.keys = queue->scratch.address + places.keys;
    argument.sums = queue->scratch.address + places.sums;
    argument.counts = queue->scratch.address + places.counts;
    argument.states = queue->scratch.address + places.states;
    argument.ranks = queue->scratch.address + places.ranks;
    return select_far(queue, args->row_count, &argument);
}
