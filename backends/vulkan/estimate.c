#include "backends/vulkan/queue.h"

skim_status skim_vulkan_estimate(skim_backend_queue *base, const skim_estimate_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_estimate_push push;
    skim_gpu_operand operands[SKIM_GPU_ESTIMATE_OPERANDS];
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_status status = skim_gpu_describe_estimate(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_operands(queue, operands, SKIM_GPU_ESTIMATE_OPERANDS,
                                             &constants, &push);
    if (status != SKIM_OK)
        return status;
    const uint32_t pages =
        SKIM_THREADS / constants.value[SKIM_SPEC_LANES] * constants.value[SKIM_SPEC_TOKENS];
    const uint32_t blocks = (shape->max_pages + pages - 1) / pages;
    const skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_ESTIMATE,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {blocks, skim_gpu_head_chunks(shape, constants.value[SKIM_SPEC_HEADS]),
                   args->row_count},
    };
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
