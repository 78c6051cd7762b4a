#include "backends/opencl/queue.h"

skim_status skim_opencl_append(skim_backend_queue *base, const skim_append_args *args)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_append_push push;
    skim_gpu_operand operands[SKIM_GPU_APPEND_OPERANDS];
    skim_opencl_launch launch = {
        .kernel = SKIM_OPENCL_APPEND,
        .constants =
            skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_APPEND, SKIM_SELECT_GROUP),
        .push = &push,
        .push_size = sizeof push,
        .words = {args->row_count},
        .word_count = skim_opencl_word_count(SKIM_OPENCL_APPEND),
        .groups = {skim_gpu_touched_pages(args), shape->kv_heads, args->row_count},
    };
    skim_status status = skim_gpu_describe_append(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status =
            skim_opencl_locate_operands(queue, operands, SKIM_GPU_APPEND_OPERANDS, &launch, &push);
    if (status != SKIM_OK)
        return status;
    uint32_t flags = SKIM_APPEND_STORE;
    if (push.k != UINT64_MAX && skim_gpu_is_of_units(push.k, &args->k) &&
        skim_gpu_is_of_units(push.v, &args->v))
        flags |= SKIM_APPEND_UNITS;
    const bool freezes = skim_gpu_freezes(args);
    push.flags = freezes ? flags : flags | SKIM_APPEND_BOUNDS;
    status = skim_opencl_record_launch(queue, &launch);
    if (status != SKIM_OK || !freezes)
        return status;

    // The bounds need the centre, and the centre all of the keys.
    skim_opencl_launch mean = launch;
    mean.kernel = SKIM_OPENCL_CENTRE;
    mean.constants =
        skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_CENTRE, SKIM_SELECT_GROUP);
    mean.constants.chunk_shift = launch.constants.chunk_shift;
    mean.groups[0] = shape->key_dim / 8;
    mean.groups[1] = shape->kv_heads;
    mean.groups[2] = 1;
    status = skim_opencl_record_launch(queue, &mean);
    push.flags = SKIM_APPEND_BOUNDS;
    if (status == SKIM_OK)
        status = skim_opencl_record_launch(queue, &launch);
    return status;
}
