#include "runtime/backend.h"

skim_status skim_buffer_make(skim_device *device, uint64_t size, bool whole, uint64_t handle,
                             skim_buffer **buffer)
{
    if (atomic_load(&device->lost))
        return skim_fail(&device->error, SKIM_DEVICE_LOST, "the device is lost");
    if (!handle && size > device->limits.buffer_size_max)
        return skim_fail(&device->error, SKIM_NO_MEMORY,
                         "a buffer of %llu bytes exceeds this device's limit of %llu",
                         (unsigned long long)size,
                         (unsigned long long)device->limits.buffer_size_max);

    skim_buffer *made = skim_allocate(device->host, sizeof *made);
    if (!made)
        return skim_fail(&device->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    made->device = device;
    made->size = size;
    made->whole = whole;
    skim_status status =
        handle ? device->backend->buffer_wrap(made, handle) : device->backend->buffer_create(made);
    if (status != SKIM_OK) {
        skim_release(device->host, made, sizeof *made);
        return status;
    }
    atomic_fetch_add(&device->objects, 1);
    *buffer = made;
    return SKIM_OK;
}

skim_status skim_buffer_create(skim_device *device, uint64_t size, skim_buffer **buffer)
{
    if (!device)
        return SKIM_INVALID;
    if (!buffer || size == 0)
        return skim_fail(&device->error, SKIM_INVALID,
                         "a buffer needs a size above 0 and a place to go");
    return skim_buffer_make(device, size, false, 0, buffer);
}

void skim_buffer_destroy(skim_buffer *buffer)
{
    if (!buffer)
        return;
    skim_device *device = buffer->device;
    device->backend->buffer_destroy(buffer);
    skim_release(device->host, buffer, sizeof *buffer);
    atomic_fetch_sub(&device->objects, 1);
}

void skim_buffer_wipe(skim_buffer *buffer, uint64_t used)
{
    if (buffer)
        buffer->wipe = used;
    skim_buffer_destroy(buffer);
}

uint64_t skim_buffer_size(const skim_buffer *buffer)
{
    return buffer ? buffer->size : 0;
}

void *skim_buffer_host(const skim_buffer *buffer)
{
    return buffer ? buffer->host : NULL;
}
