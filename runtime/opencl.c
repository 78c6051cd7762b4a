// The public calls of skim/opencl.h: the checks, then the backend's entry. Here, and not with the
// backend, so that they are there in every build.
#include "runtime/queue.h"
#include "runtime/validate.h"

#include <string.h>

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

static bool is_opencl(const skim_device *device)
{
    return strcmp(device->backend->name, "opencl") == 0;
}

// ---- buffers

skim_status skim_opencl_buffer_wrap(skim_device *device, struct _cl_mem *memory, uint64_t size,
                                    skim_buffer **buffer)
{
    if (!device)
        return SKIM_INVALID;
    if (!buffer || !memory || size == 0)
        return skim_fail(&device->error, SKIM_INVALID,
                         "to wrap a buffer takes a cl_mem, a size above 0 and a place to go");
    if (!is_opencl(device))
        return skim_fail(&device->error, SKIM_UNSUPPORTED,
                         "%s is not an OpenCL device and cannot use a cl_mem",
                         device->info.selector);
    return skim_buffer_make(device, size, true, (uint64_t)(uintptr_t)memory, buffer);
}

// ---- events

static skim_status check_event(skim_queue *queue, const void *given)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    if (!is_opencl(queue->base.device))
        return skim_fail(&queue->base.error, SKIM_UNSUPPORTED,
                         "%s is not an OpenCL device and has no cl_event",
                         queue->base.device->info.selector);
    if (!given)
        return skim_fail(&queue->base.error, SKIM_INVALID, "the event must not be NULL");
    return SKIM_OK;
}

skim_status skim_opencl_queue_wait_event(skim_queue *queue, struct _cl_event *event)
{
    skim_status status = check_event(queue, event);
    if (status == SKIM_OK)
        status = queue->base.device->backend->semaphore(&queue->base, (uint64_t)(uintptr_t)event, 0,
                                                        false);
    if (status == SKIM_OK)
        queue->recorded = true;
    return status;
}

skim_status skim_opencl_queue_get_event(skim_queue *queue, struct _cl_event **event)
{
    uint64_t handle = 0;
    skim_status status = check_event(queue, event);
    if (status == SKIM_OK)
        status = queue->base.device->backend->event(&queue->base, &handle);
    if (status != SKIM_OK)
        return status;
    queue->recorded = true;
    *event = (struct _cl_event *)(uintptr_t)handle;
    return SKIM_OK;
}
