#include "backends/opencl/queue.h"

skim_status skim_opencl_estimate(skim_backend_queue *base, const skim_estimate_args *args)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_estimate_push push;
    skim_gpu_operand operands[SKIM_GPU_ESTIMATE_OPERANDS];
    skim_opencl_launch launch = {
        .kernel = SKIM_OPENCL_ESTIMATE,
        .constants =
            skim_opencl_constants_of(queue->device, shape, SKIM_OPENCL_ESTIMATE, SKIM_SELECT_GROUP),
        .push = &push,
        .push_size = sizeof push,
        .words = {args->row_count},
        .word_count = skim_opencl_word_count(SKIM_OPENCL_ESTIMATE),
        .groups = {(shape->max_pages + SKIM_ESTIMATE_PAGES - 1) / SKIM_ESTIMATE_PAGES, 0,
                   args->row_count},
    };
    launch.groups[1] = skim_gpu_head_chunks(shape, launch.constants.heads);
    skim_status status = skim_gpu_describe_estimate(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status = skim_opencl_locate_operands(queue, operands, SKIM_GPU_ESTIMATE_OPERANDS, &launch,
                                             &push);
    return status == SKIM_OK ? skim_opencl_record_launch(queue, &launch) : status;
}
