#include "backends/cuda/queue.h"

skim_status skim_cuda_append(skim_backend_queue *base, const skim_append_args *args)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_append_push push;
    skim_gpu_operand operands[SKIM_GPU_APPEND_OPERANDS];
    skim_status status = skim_gpu_describe_append(args, &base->error, &push, operands);
    if (status != SKIM_OK)
        return status;
    skim_cuda_locate_operands(operands, SKIM_GPU_APPEND_OPERANDS, &push);

    uint32_t flags = SKIM_APPEND_STORE;
    if (push.k && skim_gpu_is_of_units(push.k, &args->k) && skim_gpu_is_of_units(push.v, &args->v))
        flags |= SKIM_APPEND_UNITS;
    const bool freezes = skim_gpu_freezes(args);
    push.flags = freezes ? flags : flags | SKIM_APPEND_BOUNDS;
    const skim_cuda_launch launch = {
        .kernel = skim_cuda_append_kernel(shape),
        .threads = SKIM_APPEND_THREADS,
        .groups = {skim_gpu_touched_pages(args), shape->kv_heads, args->row_count},
        .argument = &push,
    };
    status = skim_cuda_record_launch(queue, &launch);
    if (status != SKIM_OK || !freezes)
        return status;

    // The bounds need the centre, and the centre all of the keys.
    skim_gpu_append_push centre = push;
    centre.slots = args->row_count;
    const skim_cuda_launch mean = {
        .kernel = skim_cuda_centre_kernel(shape),
        .threads = SKIM_SELECT_THREADS,
        .groups = {shape->kv_heads, 1, 1},
        .argument = &centre,
    };
    status = skim_cuda_record_launch(queue, &mean);
    push.flags = SKIM_APPEND_BOUNDS;
    return status == SKIM_OK ? skim_cuda_record_launch(queue, &launch) : status;
}
