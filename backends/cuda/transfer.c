#include "backends/cuda/queue.h"

#include <string.h>

// ---- staging: pinned memory. Within the context

static skim_status create_block(void *user, uint64_t size, skim_gpu_block **made)
{
    skim_cuda_queue *queue = user;
    skim_cuda_device *device = queue->device;
    skim_gpu_block *block = skim_allocate(device->base->host, sizeof *block);
    if (!block)
        return skim_fail(&queue->base->error, SKIM_NO_MEMORY, "no host memory for staging");
    void *bytes = NULL;
    CUresult result = device->cuda.MemHostAlloc(&bytes, size, CU_MEMHOSTALLOC_PORTABLE);
    if (result != CUDA_SUCCESS) {
        skim_release(device->base->host, block, sizeof *block);
        return skim_cuda_fail(device, &queue->base->error, result, "cuMemHostAlloc");
    }
    *block = (skim_gpu_block){.bytes = bytes, .size = size};
    *made = block;
    return SKIM_OK;
}

static void destroy_block(void *user, skim_gpu_block *block)
{
    skim_cuda_queue *queue = user;
    queue->device->cuda.MemFreeHost(block->bytes);
    skim_release(queue->device->base->host, block, sizeof *block);
}

static void note_completed(void *user)
{
    skim_cuda_note_completed(user);
}

const skim_gpu_memory skim_cuda_staging = {create_block, destroy_block, note_completed};

static skim_status stage(skim_cuda_queue *queue, uint64_t size, char **bytes)
{
    skim_gpu_block *block;
    uint64_t at;
    skim_status status = skim_gpu_stage(&queue->staging, size, &block, &at);
    if (status == SKIM_OK)
        *bytes = block->bytes + at;
    return status;
}

// ---- recording

// What a transfer's call gave, as the status of its entry, after leaving the context.
static skim_status leave_with(skim_cuda_queue *queue, CUresult result, const char *call)
{
    skim_cuda_leave(queue->device);
    if (result != CUDA_SUCCESS)
        return skim_cuda_fail(queue->device, &queue->base->error, result, call);
    queue->base->counts.transfers++;
    return SKIM_OK;
}

skim_status skim_cuda_record_upload(skim_backend_queue *base, skim_buffer *buffer, uint64_t offset,
                                    const void *data, uint64_t size)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    char *bytes;
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    status = skim_cuda_check_capture(queue, SKIM_UNSUPPORTED, "host memory");
    if (status == SKIM_OK)
        status = stage(queue, size, &bytes);
    if (status != SKIM_OK) {
        skim_cuda_leave(queue->device);
        return status;
    }
    memcpy(bytes, data, size);
    base->counts.upload_bytes += size;
    CUresult result = queue->device->cuda.MemcpyHtoDAsync(skim_cuda_address(buffer, offset), bytes,
                                                          size, queue->stream);
    return leave_with(queue, result, "cuMemcpyHtoDAsync");
}

skim_status skim_cuda_record_download(skim_backend_queue *base, skim_buffer *buffer,
                                      uint64_t offset, void *data, uint64_t size)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    char *bytes;
    skim_status status = skim_gpu_reserve_landing(&queue->staging);
    if (status == SKIM_OK)
        status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    status = skim_cuda_check_capture(queue, SKIM_UNSUPPORTED, "host memory");
    if (status == SKIM_OK)
        status = stage(queue, size, &bytes);
    if (status != SKIM_OK) {
        skim_cuda_leave(queue->device);
        return status;
    }
    CUresult result = queue->device->cuda.MemcpyDtoHAsync(bytes, skim_cuda_address(buffer, offset),
                                                          size, queue->stream);
    if (result == CUDA_SUCCESS) {
        base->counts.download_bytes += size;
        skim_gpu_add_landing(&queue->staging, bytes, data, size);
    }
    return leave_with(queue, result, "cuMemcpyDtoHAsync");
}

skim_status skim_cuda_record_copy(skim_backend_queue *base, skim_buffer *source,
                                  uint64_t source_offset, skim_buffer *destination,
                                  uint64_t destination_offset, uint64_t size)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    CUresult result = queue->device->cuda.MemcpyDtoDAsync(
        skim_cuda_address(destination, destination_offset),
        skim_cuda_address(source, source_offset), size, queue->stream);
    return leave_with(queue, result, "cuMemcpyDtoDAsync");
}

skim_status skim_cuda_record_zero(skim_backend_queue *base, skim_buffer *buffer, uint64_t offset,
                                  uint64_t size)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    CUresult result = queue->device->cuda.MemsetD8Async(skim_cuda_address(buffer, offset), 0, size,
                                                        queue->stream);
    return leave_with(queue, result, "cuMemsetD8Async");
}
