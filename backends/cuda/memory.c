#include "backends/cuda/cuda.h"

#include <inttypes.h>

// Kernels read whole units.
enum { ALIGNMENT = 256 };

// Within the context; 0 if unknown.
static uint64_t ask_available(const skim_cuda_device *device)
{
    size_t available = 0, total = 0;
    return device->cuda.MemGetInfo(&available, &total) == CUDA_SUCCESS ? available : 0;
}

uint64_t skim_cuda_memory_available(const skim_device *base)
{
    skim_cuda_device *device = skim_cuda_device_of(base);
    if (atomic_load(&base->lost) || skim_cuda_enter(device, NULL) != SKIM_OK)
        return 0;
    uint64_t available = ask_available(device);
    skim_cuda_leave(device);
    return available;
}

static skim_status out_of_memory(const skim_cuda_device *device, skim_error *error, uint64_t size)
{
    return skim_fail(error, SKIM_NO_MEMORY,
                     "out of device memory: %" PRIu64 " bytes wanted, %" PRIu64 " available", size,
                     ask_available(device));
}

skim_status skim_cuda_memory_create(skim_cuda_device *device, uint64_t size, skim_error *error,
                                    skim_cuda_memory *memory)
{
    *memory = (skim_cuda_memory){0};
    CUdeviceptr address = 0;
    CUresult result = device->cuda.MemAlloc(&address, skim_round_up(size, ALIGNMENT));
    if (result == CUDA_ERROR_OUT_OF_MEMORY)
        return out_of_memory(device, error, size);
    if (result != CUDA_SUCCESS)
        return skim_cuda_fail(device, error, result, "cuMemAlloc");
    *memory = (skim_cuda_memory){.address = address, .size = size};
    return SKIM_OK;
}

void skim_cuda_memory_destroy(skim_cuda_device *device, skim_cuda_memory *memory)
{
    if (memory->address)
        device->cuda.MemFree(memory->address);
    *memory = (skim_cuda_memory){0};
}

skim_status skim_cuda_buffer_create(skim_buffer *buffer)
{
    skim_device *base = buffer->device;
    skim_cuda_device *device = skim_cuda_device_of(base);
    skim_cuda_memory *memory = skim_allocate(base->host, sizeof *memory);
    if (!memory)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    skim_status status = skim_cuda_enter(device, &base->error);
    if (status == SKIM_OK) {
        status = skim_cuda_memory_create(device, buffer->size, &base->error, memory);
        skim_cuda_leave(device);
    }
    if (status != SKIM_OK) {
        skim_release(base->host, memory, sizeof *memory);
        return status;
    }
    buffer->impl = memory;
    return SKIM_OK;
}

// Zeroes the buffer's first bytes and waits for it. What is lost is not zeroed.
static void wipe(skim_cuda_device *device, const skim_cuda_memory *memory, uint64_t bytes)
{
    CUresult result = device->cuda.MemsetD8Async(memory->address, 0, bytes, NULL);
    if (result == CUDA_SUCCESS)
        result = device->cuda.StreamSynchronize(NULL);
    if (skim_cuda_is_lost(result))
        atomic_store(&device->base->lost, true);
    else if (result != CUDA_SUCCESS)
        skim_log_write(device->base->host, SKIM_LOG_WARNING,
                       "device memory was released without being zeroed (%s)",
                       skim_cuda_result_name(&device->cuda, result));
}

void skim_cuda_buffer_destroy(skim_buffer *buffer)
{
    skim_cuda_device *device = skim_cuda_device_of(buffer->device);
    skim_cuda_memory *memory = buffer->impl;
    if (!memory)
        return;
    if (!memory->wrapped && device->cuda.CtxPushCurrent(device->context) == CUDA_SUCCESS) {
        if (buffer->wipe > 0 && !atomic_load(&buffer->device->lost))
            wipe(device, memory, buffer->wipe);
        skim_cuda_memory_destroy(device, memory);
        skim_cuda_leave(device);
    }
    skim_release(device->base->host, memory, sizeof *memory);
    buffer->impl = NULL;
}
