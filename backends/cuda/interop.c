// The host's own objects: its context, memory and events. (Its stream is queue.c's.)
#include "backends/cuda/queue.h"

skim_status skim_cuda_buffer_wrap_address(skim_buffer *buffer, uint64_t address)
{
    skim_device *base = buffer->device;
    if (address % 16 != 0)
        return skim_fail(&base->error, SKIM_UNSUPPORTED,
                         "the memory to wrap is at no multiple of 16 bytes");
    skim_cuda_memory *memory = skim_allocate(base->host, sizeof *memory);
    if (!memory)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    *memory = (skim_cuda_memory){.address = address, .size = buffer->size, .wrapped = true};
    buffer->impl = memory;
    return SKIM_OK;
}

uint64_t skim_cuda_buffer_begin(const skim_buffer *buffer)
{
    return skim_cuda_address(buffer, 0);
}

skim_status skim_cuda_queue_event(skim_backend_queue *base, uint64_t handle, uint64_t value,
                                  bool records)
{
    (void)value;
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    const skim_cuda_functions *cuda = &queue->device->cuda;
    CUevent event = (CUevent)(uintptr_t)handle;
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    CUresult result = records ? cuda->EventRecord(event, queue->stream)
                              : cuda->StreamWaitEvent(queue->stream, event, 0);
    skim_cuda_leave(queue->device);
    return result == CUDA_SUCCESS ? SKIM_OK
                                  : skim_cuda_fail(queue->device, &base->error, result,
                                                   records ? "cuEventRecord" : "cuStreamWaitEvent");
}
