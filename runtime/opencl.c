// The public calls of skim/opencl.h: the checks, then the backend's entry. Here, and not with the
// backend, so that they are there in every build.
#include "runtime/interop.h"

enum { SMALLEST_ALLOCATION = 65536 };

skim_status skim_opencl_options_check(const skim_opencl_options *options, skim_error *error)
{
    if (!options->context != !options->device)
        return skim_fail(error, SKIM_INVALID, "context and device are given together; %s is NULL",
                         options->context ? "device" : "context");
    if (options->queue && !options->context)
        return skim_fail(error, SKIM_INVALID,
                         "a queue of the host's is given with its context and device");
    if (options->context && options->selector)
        return skim_fail(error, SKIM_INVALID,
                         "a selector and a device of the host's were given; give one of them");
    if (options->allocation_max > 0 && options->allocation_max < SMALLEST_ALLOCATION)
        return skim_fail(error, SKIM_INVALID, "allocation_max is %llu; it is 0 or at least %d",
                         (unsigned long long)options->allocation_max, SMALLEST_ALLOCATION);
    return SKIM_OK;
}

skim_status skim_opencl_buffer_wrap(skim_device *device, struct _cl_mem *memory, uint64_t size,
                                    skim_buffer **buffer)
{
    return skim_interop_wrap(device, SKIM_OF_OPENCL, "cl_mem", (uint64_t)(uintptr_t)memory, size,
                             buffer);
}

skim_status skim_opencl_queue_wait_event(skim_queue *queue, struct _cl_event *event)
{
    return skim_interop_semaphore(queue, SKIM_OF_OPENCL, "cl_event", (uint64_t)(uintptr_t)event, 0,
                                  false);
}

skim_status skim_opencl_queue_get_event(skim_queue *queue, struct _cl_event **event)
{
    uint64_t handle = 0;
    skim_status status = skim_interop_check(queue, SKIM_OF_OPENCL, "place for a cl_event",
                                            (uint64_t)(uintptr_t)event);
    if (status == SKIM_OK)
        status = queue->base.device->backend->event(&queue->base, &handle);
    if (status != SKIM_OK)
        return status;
    queue->recorded = true;
    *event = (struct _cl_event *)(uintptr_t)handle;
    return SKIM_OK;
}
