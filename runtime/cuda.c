// The public calls of skim/cuda.h: the checks, then the backend's entry. Here, and not with the
// backend, so that they are there in every build.
#include "runtime/interop.h"

skim_status skim_cuda_options_check(const skim_cuda_options *options, skim_error *error)
{
    if (options->context && options->selector)
        return skim_fail(error, SKIM_INVALID,
                         "a selector and a context of the host's were given; give one of them");
    return SKIM_OK;
}

skim_status skim_cuda_queue_create(skim_device *device, struct CUstream_st *stream,
                                   skim_queue **queue)
{
    if (!device)
        return SKIM_INVALID;
    if (!queue || !stream)
        return skim_fail(&device->error, SKIM_INVALID, "stream and queue must not be NULL");
    if (!skim_interop_is_of(device, SKIM_OF_CUDA))
        return skim_fail(&device->error, SKIM_UNSUPPORTED,
                         "%s is not a CUDA device and cannot use a CUstream",
                         device->info.selector);
    return skim_queue_make(device, stream, queue);
}

skim_status skim_cuda_buffer_wrap(skim_device *device, uint64_t address, uint64_t size,
                                  skim_buffer **buffer)
{
    return skim_interop_wrap(device, SKIM_OF_CUDA, "CUdeviceptr", address, size, buffer);
}

uint64_t skim_cuda_buffer_address(const skim_buffer *buffer)
{
    return buffer && skim_interop_is_of(buffer->device, SKIM_OF_CUDA)
               ? buffer->device->backend->buffer_address(buffer)
               : 0;
}

skim_status skim_cuda_queue_wait_event(skim_queue *queue, struct CUevent_st *event)
{
    return skim_interop_semaphore(queue, SKIM_OF_CUDA, "CUevent", (uint64_t)(uintptr_t)event, 0,
                                  false);
}

skim_status skim_cuda_queue_record_event(skim_queue *queue, struct CUevent_st *event)
{
    return skim_interop_semaphore(queue, SKIM_OF_CUDA, "CUevent", (uint64_t)(uintptr_t)event, 0,
                                  true);
}
