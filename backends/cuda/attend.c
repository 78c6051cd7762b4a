#include "backends/cuda/queue.h"

#include <string.h>

// Multiplications of a launch of prefill, so that a display's watchdog lets it live.
static const double LAUNCH_WORK = 2e12;

// Rows with more than one query. How long they are only the device knows: the planned length
// counts.
static skim_status prefill(skim_cuda_queue *queue, const skim_attend_args *args,
                           skim_cuda_attend_launch *argument)
{
    const skim_shape *shape = args->shape;
    // Weights are rounded to the type of the values: results may not be finer.
    const bool tensor = skim_cuda_has_tensor_kernel(queue->device, shape) &&
                        args->q.type == shape->type &&
                        (args->out.type == shape->type || args->out.type == SKIM_BF16);
    const skim_cuda_kernel kernel =
        tensor ? skim_cuda_tensor_kernel(shape) : skim_cuda_prefill_kernel(queue->device, shape);
    const uint64_t queries = (uint64_t)args->token_count * shape->q_heads / shape->kv_heads;
    const uint64_t tile = SKIM_PREFILL_QUERIES * SKIM_CUDA_PREFILL_ROWS(kernel.dim);
    const uint64_t tiles = (queries + tile - 1) / tile;
    uint64_t most = (uint64_t)(LAUNCH_WORK / skim_gpu_attend_work(shape, (double)tile));
    most = most < 1 ? 1 : most;
    skim_status status = SKIM_OK;
    for (uint64_t first = 0; first < tiles && status == SKIM_OK; first += most) {
        const uint64_t count = tiles - first < most ? tiles - first : most;
        argument->first_tile = (uint32_t)first;
        const skim_cuda_launch launch = {
            .kernel = kernel,
            .threads = SKIM_THREADS,
            .groups = {(uint32_t)count, shape->kv_heads, args->row_count},
            .argument = argument,
        };
        status = skim_cuda_record_launch(queue, &launch);
    }
    return status;
}

// Rows with one query: their lists are shared by all query heads of a group, or are a query head's.
static skim_status attend(skim_cuda_queue *queue, const skim_attend_args *args,
                          skim_select_mode select, skim_cuda_attend_launch *argument)
{
    const skim_shape *shape = args->shape;
    const skim_cuda_kernel kernel = skim_cuda_attend_kernel(queue->device, shape, select);
    const skim_cuda_launch launch = {
        .kernel = kernel,
        .threads = SKIM_THREADS,
        .groups = {argument->parts, skim_gpu_head_chunks(shape, kernel.heads), args->row_count},
        .argument = argument,
    };
    return skim_cuda_record_launch(queue, &launch);
}

skim_status skim_cuda_attend(skim_backend_queue *base, const skim_attend_args *args)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_attend_push push;
    skim_gpu_operand operands[SKIM_GPU_ATTEND_OPERANDS];
    skim_status status = skim_gpu_describe_attend(args, &base->error, &push, operands);
    if (status != SKIM_OK)
        return status;
    skim_cuda_locate_operands(operands, SKIM_GPU_ATTEND_OPERANDS, &push);
    push.partials = queue->scratch.address;
    skim_cuda_attend_launch argument = {
        .shape = skim_gpu_shape_word(shape),
        .parts = skim_gpu_parts(shape),
        .has_head_lists = args->lists && skim_gpu_has_head_lists(shape, args->select),
        .counters = queue->counters.address,
    };
    memcpy(&argument, &push, sizeof push);
    if (argument.has_head_lists && shape->q_heads > shape->kv_heads) {
        argument.rows_taken = SKIM_CUDA_ROWS_LISTED;
        status = attend(queue, args, SKIM_SELECT_HEAD, &argument);
        argument.rows_taken = SKIM_CUDA_ROWS_DENSE;
        argument.has_head_lists = 0;
    }
    if (status == SKIM_OK)
        status = attend(queue, args, SKIM_SELECT_GROUP, &argument);
    // Only a row of several queries makes more tokens than one.
    if (status == SKIM_OK && args->token_count > 1)
        status = prefill(queue, args, &argument);
    return status;
}
