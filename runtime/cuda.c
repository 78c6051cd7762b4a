// The public calls of skim/cuda.h: the checks, then the backend's entry. Here, and not with the
// backend, so that they are there in every build.
#include "runtime/queue.h"
#include "runtime/validate.h"

#include <string.h>

static bool is_cuda(const skim_device *device)
{
    return strcmp(device->backend->name, "cuda") == 0;
}

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
    if (!is_cuda(device))
        return skim_fail(&device->error, SKIM_UNSUPPORTED,
                         "%s is not a CUDA device and cannot use a CUstream",
                         device->info.selector);
    return skim_queue_make(device, stream, queue);
}

skim_status skim_cuda_buffer_wrap(skim_device *device, uint64_t address, uint64_t size,
                                  skim_buffer **buffer)
{
    if (!device)
        return SKIM_INVALID;
    if (!buffer || address == 0 || size == 0)
        return skim_fail(&device->error, SKIM_INVALID,
                         "to wrap memory takes its address, a size above 0 and a place to go");
    if (!is_cuda(device))
        return skim_fail(&device->error, SKIM_UNSUPPORTED,
                         "%s is not a CUDA device and cannot use a CUdeviceptr",
                         device->info.selector);
    return skim_buffer_make(device, size, true, address, buffer);
}

uint64_t skim_cuda_buffer_address(const skim_buffer *buffer)
{
    return buffer && is_cuda(buffer->device) ? buffer->device->backend->buffer_address(buffer) : 0;
}

static skim_status record_event(skim_queue *queue, struct CUevent_st *event, bool records)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    if (!is_cuda(queue->base.device))
        return skim_fail(&queue->base.error, SKIM_UNSUPPORTED,
                         "%s is not a CUDA device and cannot use a CUevent",
                         queue->base.device->info.selector);
    if (!event)
        return skim_fail(&queue->base.error, SKIM_INVALID, "event must not be NULL");
    status = queue->base.device->backend->semaphore(&queue->base, (uint64_t)(uintptr_t)event, 0,
                                                    records);
    if (status == SKIM_OK)
        queue->recorded = true;
    return status;
}

skim_status skim_cuda_queue_wait_event(skim_queue *queue, struct CUevent_st *event)
{
    return record_event(queue, event, false);
}

skim_status skim_cuda_queue_record_event(skim_queue *queue, struct CUevent_st *event)
{
    return record_event(queue, event, true);
}
