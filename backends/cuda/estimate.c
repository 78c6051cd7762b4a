#include "backends/cuda/queue.h"

#include <string.h>

skim_status skim_cuda_estimate(skim_backend_queue *base, const skim_estimate_args *args)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_estimate_push push;
    skim_gpu_operand operands[SKIM_GPU_ESTIMATE_OPERANDS];
    skim_status status = skim_gpu_describe_estimate(args, &base->error, &push, operands);
    if (status != SKIM_OK)
        return status;
    skim_cuda_locate_operands(operands, SKIM_GPU_ESTIMATE_OPERANDS, &push);
    skim_cuda_estimate_launch argument = {.kind = shape->bounds};
    memcpy(&argument, &push, sizeof push);
    const skim_cuda_kernel kernel = skim_cuda_estimate_kernel(queue->device, shape);
    const uint32_t pages = SKIM_CUDA_ESTIMATE_BLOCK(kernel.heads);
    const skim_cuda_launch launch = {
        .kernel = kernel,
        .threads = SKIM_THREADS,
        .groups = {(shape->max_pages + pages - 1) / pages,
                   skim_gpu_head_chunks(shape, kernel.heads), args->row_count},
        .argument = &argument,
    };
    return skim_cuda_record_launch(queue, &launch);
}
