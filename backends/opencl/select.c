#include "backends/opencl/queue.h"

skim_status skim_opencl_select(skim_backend_queue *base, const skim_select_args *args)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    const skim_shape *shape = args->shape;
    const uint32_t group = shape->q_heads / shape->kv_heads;
    const bool of_heads = skim_gpu_has_head_lists(shape, args->select);
    skim_gpu_select_push push;
    skim_gpu_operand operands[SKIM_GPU_SELECT_OPERANDS];
    skim_opencl_launch launch = {
        .kernel = SKIM_OPENCL_SELECT,
        .constants =
            skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_SELECT, args->select),
        .push = &push,
        .push_size = sizeof push,
        .words = {args->row_count, of_heads ? 1 : group},
        .word_count = skim_opencl_word_count(SKIM_OPENCL_SELECT),
        .groups = {of_heads ? shape->q_heads : shape->kv_heads, args->row_count, 1},
    };
    skim_status status = skim_gpu_describe_select(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status =
            skim_opencl_locate_operands(queue, operands, SKIM_GPU_SELECT_OPERANDS, &launch, &push);
    if (status != SKIM_OK)
        return status;
    push.keys = 0;
    if (queue->scratch)
        launch.memories[SKIM_GPU_SELECT_OPERANDS - 1] = queue->scratch;
    return skim_opencl_record_launch(queue, &launch);
}
