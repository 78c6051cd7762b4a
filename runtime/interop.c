#include "runtime/interop.h"

#include <string.h>

bool skim_interop_is_of(const skim_device *device, skim_interop of)
{
    return strcmp(device->backend->name, of.backend) == 0;
}

static skim_status check_device(const skim_device *device, skim_interop of, const char *kind,
                                skim_error *error)
{
    if (skim_interop_is_of(device, of))
        return SKIM_OK;
    return skim_fail(error, SKIM_UNSUPPORTED, "%s is not %s device and cannot use a %s",
                     device->info.selector, of.title, kind);
}

skim_status skim_interop_wrap(skim_device *device, skim_interop of, const char *kind,
                              uint64_t handle, uint64_t size, skim_buffer **buffer)
{
    if (!device)
        return SKIM_INVALID;
    if (!buffer || handle == 0 || size == 0)
        return skim_fail(&device->error, SKIM_INVALID,
                         "to wrap memory takes its handle (a %s), a size above 0 and a place to go",
                         kind);
    skim_status status = check_device(device, of, kind, &device->error);
    return status == SKIM_OK ? skim_buffer_make(device, size, true, handle, buffer) : status;
}

skim_status skim_interop_check(skim_queue *queue, skim_interop of, const char *kind,
                               uint64_t handle)
{
    skim_status status = skim_queue_usable(queue);
    if (status == SKIM_OK)
        status = check_device(queue->base.device, of, kind, &queue->base.error);
    if (status == SKIM_OK && handle == 0)
        status = skim_fail(&queue->base.error, SKIM_INVALID, "the %s must not be 0", kind);
    return status;
}

skim_status skim_interop_semaphore(skim_queue *queue, skim_interop of, const char *kind,
                                   uint64_t handle, uint64_t value, bool signals)
{
    skim_status status = skim_interop_check(queue, of, kind, handle);
    if (status == SKIM_OK)
        status = queue->base.device->backend->semaphore(&queue->base, handle, value, signals);
    if (status == SKIM_OK)
        queue->recorded = true;
    return status;
}
