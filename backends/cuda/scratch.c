// A queue's scratch, and what a shape needs before its verbs can be recorded.
#include "backends/cuda/queue.h"

// One counter per list that is attended in parts; a block takes at least one query head.
static uint64_t counters_size(const skim_shape *shape)
{
    return (uint64_t)shape->max_rows * shape->q_heads * sizeof(uint32_t);
}

static uint64_t shared_size(const skim_shape *shape)
{
    const uint64_t select =
        skim_cuda_segments_of(shape).count > 1 ? skim_cuda_select_places_of(shape).end : 0;
    const uint64_t attend = skim_gpu_attend_scratch(shape, SKIM_GPU_PARTS_MAX);
    return select > attend ? select : attend; // one after the other
}

uint64_t skim_cuda_scratch_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    return shared_size(shape) + counters_size(shape);
}

static skim_status grow(skim_cuda_queue *queue, uint64_t size, skim_cuda_memory *memory)
{
    if (size <= memory->size)
        return SKIM_OK;
    skim_cuda_memory grown;
    skim_status status = skim_cuda_memory_create(queue->device, size, &queue->base->error, &grown);
    if (status != SKIM_OK)
        return status;
    skim_cuda_memory_destroy(queue->device, memory);
    *memory = grown;
    return SKIM_OK;
}

static skim_status grow_counters(skim_cuda_queue *queue, uint64_t size)
{
    if (size <= queue->counters.size)
        return SKIM_OK;
    skim_status status = grow(queue, size, &queue->counters);
    if (status != SKIM_OK)
        return status;
    const skim_cuda_functions *cuda = &queue->device->cuda;
    CUresult result = cuda->MemsetD8Async(queue->counters.address, 0, size, queue->stream);
    if (result == CUDA_SUCCESS)
        return SKIM_OK;
    // Counters that are not zero are worse than none.
    skim_cuda_memory_destroy(queue->device, &queue->counters);
    return skim_cuda_fail(queue->device, &queue->base->error, result, "cuMemsetD8Async");
}

// Every kernel that verbs of the shape can take.
static skim_status load_kernels(skim_cuda_queue *queue, const skim_shape *shape)
{
    const skim_cuda_device *device = queue->device;
    skim_cuda_kernel kernels[16];
    uint32_t count = 0;
    kernels[count++] = skim_cuda_append_kernel(shape);
    kernels[count++] = skim_cuda_estimate_kernel(device, shape);
    kernels[count++] = skim_cuda_attend_kernel(device, shape, SKIM_SELECT_HEAD);
    kernels[count++] = skim_cuda_attend_kernel(device, shape, SKIM_SELECT_GROUP);
    if (shape->bounds_type == SKIM_BOUNDS_I8)
        kernels[count++] = skim_cuda_centre_kernel(shape);
    if (shape->max_tokens > 1)
        kernels[count++] = skim_cuda_prefill_kernel(device, shape);
    if (shape->max_tokens > 1 && skim_cuda_has_tensor_kernel(device, shape))
        kernels[count++] = skim_cuda_tensor_kernel(shape);
    kernels[count++] = skim_cuda_select_kernel_of(SKIM_CUDA_SELECT_near);
    if (skim_cuda_segments_of(shape).count > 1)
        for (int launch = SKIM_CUDA_SELECT_sums; launch <= SKIM_CUDA_SELECT_write; launch++)
            kernels[count++] = skim_cuda_select_kernel_of((skim_cuda_select_kernel)launch);
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < count && status == SKIM_OK; i++) {
        CUfunction function;
        status = skim_cuda_kernel_get(queue->device, &kernels[i], &queue->base->error, &function);
    }
    return status;
}

skim_status skim_cuda_queue_prepare(skim_backend_queue *base, const skim_shape *shape)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    status = grow(queue, shared_size(shape), &queue->scratch);
    if (status == SKIM_OK)
        status = grow_counters(queue, counters_size(shape));
    if (status == SKIM_OK)
        status = load_kernels(queue, shape);
    skim_cuda_leave(queue->device);
    return status;
}
