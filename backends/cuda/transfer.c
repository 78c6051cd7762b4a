#include "backends/cuda/queue.h"

#include <string.h>

enum { FIRST_STAGING = 256 * 1024, STAGING_BLOCKS = 2, STAGING_ALIGNMENT = 64 };

// ---- staging

// Makes a block the newest.
static skim_status add_block(skim_cuda_queue *queue, uint64_t size)
{
    skim_cuda_device *device = queue->device;
    skim_error *error = &queue->base->error;
    skim_cuda_staging *block = skim_allocate(device->base->host, sizeof *block);
    if (!block)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for staging");
    void *bytes = NULL;
    CUresult result = device->cuda.MemHostAlloc(&bytes, size, CU_MEMHOSTALLOC_PORTABLE);
    if (result != CUDA_SUCCESS) {
        skim_release(device->base->host, block, sizeof *block);
        return skim_cuda_fail(device, error, result, "cuMemHostAlloc");
    }
    *block = (skim_cuda_staging){.next = queue->blocks, .bytes = bytes, .size = size};
    queue->blocks = block;
    return SKIM_OK;
}

// What tokens left in it is zeroed.
static void release_block(skim_cuda_queue *queue, skim_cuda_staging *block)
{
    memset(block->bytes, 0, block->size);
    queue->device->cuda.MemFreeHost(block->bytes);
    skim_release(queue->device->base->host, block, sizeof *block);
}

skim_status skim_cuda_staging_init(skim_cuda_queue *queue)
{
    skim_status status = SKIM_OK;
    for (int i = 0; i < STAGING_BLOCKS && status == SKIM_OK; i++)
        status = add_block(queue, FIRST_STAGING);
    return status;
}

void skim_cuda_staging_deinit(skim_cuda_queue *queue)
{
    while (queue->blocks) {
        skim_cuda_staging *block = queue->blocks;
        queue->blocks = block->next;
        release_block(queue, block);
    }
}

static skim_cuda_staging *find_room(skim_cuda_queue *queue, uint64_t size)
{
    for (skim_cuda_staging *block = queue->blocks; block; block = block->next) {
        if (block->last <= queue->completed)
            block->used = 0;
        if (block->size - block->used >= size)
            return block;
    }
    return NULL;
}

// A block with size bytes free. Blocks whose work is done are empty again; when one must be added,
// those have proved too small and go.
static skim_status find_block(skim_cuda_queue *queue, uint64_t size, skim_cuda_staging **block)
{
    *block = find_room(queue, size);
    if (*block)
        return SKIM_OK;
    skim_cuda_note_completed(queue);
    *block = find_room(queue, size);
    if (*block)
        return SKIM_OK;
    if (atomic_load(&queue->device->base->lost))
        return skim_fail(&queue->base->error, SKIM_DEVICE_LOST, "the device is lost");
    uint64_t largest = FIRST_STAGING;
    for (skim_cuda_staging *one = queue->blocks; one; one = one->next)
        largest = one->size > largest ? one->size : largest;
    uint64_t wanted = size > 2 * largest ? size : 2 * largest;
    skim_status status = add_block(queue, skim_round_up(wanted, STAGING_ALIGNMENT));
    if (status == SKIM_NO_MEMORY && wanted > size)
        status = add_block(queue, skim_round_up(size, STAGING_ALIGNMENT));
    if (status != SKIM_OK)
        return status;
    *block = queue->blocks;
    for (skim_cuda_staging **link = &queue->blocks->next; *link;) {
        skim_cuda_staging *one = *link;
        if (one->used > 0) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        release_block(queue, one);
    }
    return SKIM_OK;
}

// Size bytes of pinned memory, until the point of the next submission is reached.
static skim_status stage(skim_cuda_queue *queue, uint64_t size, char **bytes)
{
    skim_cuda_staging *block;
    size = skim_round_up(size, STAGING_ALIGNMENT);
    skim_status status = find_block(queue, size, &block);
    if (status != SKIM_OK)
        return status;
    *bytes = block->bytes + block->used;
    block->used += size;
    block->last = queue->submitted + 1;
    return SKIM_OK;
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
    skim_cuda_landing *landings =
        skim_gpu_grow(queue->device->base->host, queue->landings, queue->landing_count,
                      &queue->landing_capacity, sizeof *queue->landings);
    if (!landings)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a download");
    queue->landings = landings;
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
    CUresult result = queue->device->cuda.MemcpyDtoHAsync(bytes, skim_cuda_address(buffer, offset),
                                                          size, queue->stream);
    if (result == CUDA_SUCCESS) {
        base->counts.download_bytes += size;
        queue->landings[queue->landing_count++] = (skim_cuda_landing){
            .from = bytes, .to = data, .size = size, .point = queue->submitted + 1};
    }
    return leave_with(queue, result, "cuMemcpyDtoHAsync");
}

void skim_cuda_land(skim_cuda_queue *queue)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < queue->landing_count; i++) {
        const skim_cuda_landing landing = queue->landings[i];
        if (landing.point <= queue->completed)
            memcpy(landing.to, landing.from, landing.size);
        else
            queue->landings[kept++] = landing;
    }
    queue->landing_count = kept;
}

void skim_cuda_forget_landings(skim_cuda_queue *queue)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < queue->landing_count; i++)
        if (queue->landings[i].point <= queue->submitted)
            queue->landings[kept++] = queue->landings[i];
    queue->landing_count = kept;
    for (skim_cuda_staging *block = queue->blocks; block; block = block->next)
        block->last = block->last < queue->submitted ? block->last : queue->submitted;
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
