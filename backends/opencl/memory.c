#include "backends/opencl/opencl.h"

#include <inttypes.h>

static const unsigned char zeros[16];

uint64_t skim_opencl_memory_available(const skim_device *base)
{
    const skim_opencl_device *device = skim_opencl_device_of(base);
    uint64_t held = atomic_load(&device->held);
    return held < base->info.memory_total ? base->info.memory_total - held : 0;
}

static skim_status out_of_memory(const skim_device *device, skim_error *error, uint64_t size)
{
    return skim_fail(error, SKIM_NO_MEMORY,
                     "out of device memory: %" PRIu64 " bytes wanted, %" PRIu64 " available", size,
                     skim_opencl_memory_available(device));
}

static bool is_no_memory(cl_int result)
{
    return result == CL_MEM_OBJECT_ALLOCATION_FAILURE || result == CL_OUT_OF_RESOURCES ||
           result == CL_INVALID_BUFFER_SIZE;
}

// A driver may allocate when memory is first used: then it is used now.
static cl_int touch(skim_opencl_device *device, cl_mem piece, uint64_t size)
{
    const skim_opencl_functions *cl = &device->cl;
    skim_mutex_lock(&device->service_mutex);
    cl_int result = cl->EnqueueWriteBuffer(device->service, piece, CL_TRUE, size - sizeof zeros,
                                           sizeof zeros, zeros, 0, NULL, NULL);
    skim_mutex_unlock(&device->service_mutex);
    return result;
}

skim_status skim_opencl_piece_create(skim_device *base, uint64_t size, skim_error *error,
                                     cl_mem *piece)
{
    skim_opencl_device *device = skim_opencl_device_of(base);
    *piece = NULL;
    size = skim_round_up(size, 64);
    if (size > device->allocation_max)
        return skim_fail(error, SKIM_NO_MEMORY,
                         "%" PRIu64 " bytes in one piece exceed the driver's largest of %" PRIu64,
                         size, device->allocation_max);
    cl_int result = CL_SUCCESS;
    cl_mem made = device->cl.CreateBuffer(device->context, CL_MEM_READ_WRITE, size, NULL, &result);
    if (result == CL_SUCCESS) {
        result = touch(device, made, size);
        if (result != CL_SUCCESS)
            device->cl.ReleaseMemObject(made);
    }
    if (is_no_memory(result))
        return out_of_memory(base, error, size);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(base, error, result, "clCreateBuffer");
    atomic_fetch_add(&device->held, size);
    *piece = made;
    return SKIM_OK;
}

void skim_opencl_piece_destroy(skim_opencl_device *device, cl_mem piece, uint64_t size)
{
    if (!piece)
        return;
    device->cl.ReleaseMemObject(piece);
    atomic_fetch_sub(&device->held, skim_round_up(size, 64));
}

skim_status skim_opencl_buffer_create(skim_buffer *buffer)
{
    skim_device *base = buffer->device;
    skim_opencl_device *device = skim_opencl_device_of(base);
    if (buffer->size > skim_opencl_memory_available(base))
        return out_of_memory(base, &base->error, buffer->size);
    const uint64_t most = buffer->whole ? buffer->size : (uint64_t)1 << device->chunk_shift;
    const uint64_t count = (buffer->size + most - 1) / most;
    if (count > SKIM_OPENCL_PIECES_MAX)
        return skim_fail(&base->error, SKIM_NO_MEMORY,
                         "%" PRIu64 " bytes do not fit in %d pieces of %" PRIu64
                         ", the driver's largest",
                         buffer->size, SKIM_OPENCL_PIECES_MAX, most);
    skim_opencl_buffer *made = skim_allocate(base->host, sizeof *made);
    if (!made)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    buffer->impl = made;
    skim_status status = SKIM_OK;
    for (uint64_t i = 0; i < count && status == SKIM_OK; i++) {
        const uint64_t left = buffer->size - i * most;
        made->sizes[i] = left < most ? left : most;
        status = skim_opencl_piece_create(base, made->sizes[i], &base->error, &made->pieces[i]);
        made->count += status == SKIM_OK;
    }
    if (status != SKIM_OK)
        skim_opencl_buffer_destroy(buffer);
    return status;
}

// Zeroes the buffer's first bytes and waits for it.
static void wipe(skim_opencl_device *device, const skim_opencl_buffer *buffer, uint64_t bytes)
{
    const skim_opencl_functions *cl = &device->cl;
    cl_int result = CL_SUCCESS;
    skim_mutex_lock(&device->service_mutex);
    for (uint32_t i = 0; i < buffer->count && bytes > 0 && result == CL_SUCCESS; i++) {
        const uint64_t size = bytes < buffer->sizes[i] ? bytes : buffer->sizes[i];
        // Pieces are rounded up to more.
        result = cl->EnqueueFillBuffer(device->service, buffer->pieces[i], zeros, sizeof zeros, 0,
                                       skim_round_up(size, sizeof zeros), 0, NULL, NULL);
        bytes -= size;
    }
    const cl_int finished = cl->Finish(device->service);
    skim_mutex_unlock(&device->service_mutex);
    if (result == CL_SUCCESS)
        result = finished;
    if (result != CL_SUCCESS)
        skim_log_write(device->base->host, SKIM_LOG_WARNING,
                       "device memory was released without being zeroed (OpenCL's error %d)",
                       (int)result);
}

void skim_opencl_buffer_destroy(skim_buffer *buffer)
{
    skim_opencl_device *device = skim_opencl_device_of(buffer->device);
    skim_opencl_buffer *own = buffer->impl;
    if (!own)
        return;
    if (buffer->wipe > 0 && !atomic_load(&buffer->device->lost))
        wipe(device, own, buffer->wipe);
    if (own->wrapped)
        device->cl.ReleaseMemObject(own->pieces[0]);
    for (uint32_t i = 0; i < own->count && !own->wrapped; i++)
        skim_opencl_piece_destroy(device, own->pieces[i], own->sizes[i]);
    skim_release(device->base->host, own, sizeof *own);
    buffer->impl = NULL;
}
