#include "backends/vulkan/queue.h"

skim_status skim_vulkan_select(skim_backend_queue *base, const skim_select_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_select_push push;
    skim_gpu_operand operands[SKIM_GPU_SELECT_OPERANDS];
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_vulkan_set_lists(&constants, queue->device, shape, args->select);
    skim_status status = skim_gpu_describe_select(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_operands(queue, operands, SKIM_GPU_SELECT_OPERANDS, &constants,
                                             &push);
    if (status != SKIM_OK)
        return status;
    push.keys = queue->scratch.address;
    const bool of_heads = skim_gpu_has_head_lists(shape, args->select);
    const skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_SELECT,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {of_heads ? shape->q_heads : shape->kv_heads, args->row_count, 1},
    };
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
