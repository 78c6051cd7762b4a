#include "backends/vulkan/queue.h"

#include <inttypes.h>
#include <string.h>

// ---- staging

static skim_status create_block(void *user, uint64_t size, skim_gpu_block **made)
{
    skim_vulkan_queue *queue = user;
    skim_device *device = queue->device->base;
    skim_vulkan_block *block = skim_allocate(device->host, sizeof *block);
    if (!block)
        return skim_fail(&queue->base->error, SKIM_NO_MEMORY, "no host memory for staging");
    skim_status status =
        skim_vulkan_mapping_create(device, size, &queue->base->error, &block->mapping);
    if (status != SKIM_OK) {
        skim_release(device->host, block, sizeof *block);
        return status;
    }
    block->base.bytes = block->mapping.bytes;
    block->base.size = size;
    *made = &block->base;
    return SKIM_OK;
}

static void destroy_block(void *user, skim_gpu_block *base)
{
    skim_vulkan_queue *queue = user;
    skim_vulkan_block *block = (skim_vulkan_block *)base;
    skim_vulkan_chunk_destroy(queue->device, &block->mapping.chunk);
    skim_release(queue->device->base->host, block, sizeof *block);
}

static void note_completed(void *user)
{
    skim_vulkan_note_completed(user);
}

const skim_gpu_memory skim_vulkan_staging = {create_block, destroy_block, note_completed};

static skim_status stage(skim_vulkan_queue *queue, uint64_t size, skim_vulkan_block **block,
                         uint64_t *at)
{
    skim_gpu_block *base = NULL;
    skim_status status = skim_gpu_stage(&queue->staging, size, &base, at);
    *block = (skim_vulkan_block *)base;
    return status;
}

skim_status skim_vulkan_stage_words(skim_vulkan_queue *queue, uint64_t size, char **bytes,
                                    uint64_t *address)
{
    skim_vulkan_block *block;
    uint64_t at;
    skim_status status = stage(queue, size, &block, &at);
    if (status != SKIM_OK)
        return status;
    *bytes = block->base.bytes + at;
    *address = block->mapping.chunk.address + at;
    return SKIM_OK;
}

// ---- ordering

static VkBuffer first_piece(const skim_buffer *buffer)
{
    return ((const skim_vulkan_buffer *)buffer->impl)->chunks[0].buffer;
}

// Notes that a transfer touches a range. Transfers to places of their own run side by side.
static void touch(skim_vulkan_queue *queue, const skim_buffer *of, uint64_t offset, uint64_t size)
{
    const VkBuffer buffer = first_piece(of);
    bool waits = queue->computed || queue->range_count == SKIM_VULKAN_RANGES ||
                 (queue->transferred && queue->range_count == 0);
    for (uint32_t i = 0; i < queue->range_count && !waits; i++) {
        const skim_vulkan_range *range = &queue->ranges[i];
        waits = range->buffer == buffer && offset < range->end && range->begin < offset + size;
    }
    if (waits)
        skim_vulkan_barrier(queue);
    queue->ranges[queue->range_count++] =
        (skim_vulkan_range){.buffer = buffer, .begin = offset, .end = offset + size};
    queue->transferred = true;
}

// Both ranges at once: the barrier that one may need must not part them.
static void touch_both(skim_vulkan_queue *queue, const skim_buffer *source, uint64_t source_offset,
                       const skim_buffer *destination, uint64_t destination_offset, uint64_t size)
{
    if (queue->range_count + 2 > SKIM_VULKAN_RANGES)
        skim_vulkan_barrier(queue);
    touch(queue, source, source_offset, size);
    uint32_t first = queue->range_count - 1;
    touch(queue, destination, destination_offset, size);
    if (queue->range_count == 1 && first > 0) // a barrier came in between: note the source again
        queue->ranges[queue->range_count++] = (skim_vulkan_range){
            .buffer = first_piece(source), .begin = source_offset, .end = source_offset + size};
}

// ---- recording

// A place in a buffer's memory, and how far it goes on there.
typedef struct place {
    VkBuffer buffer;
    uint64_t offset;
    uint64_t left;
} place;

static place find_place(const skim_vulkan_queue *queue, const skim_buffer *buffer, uint64_t offset)
{
    const skim_vulkan_buffer *own = buffer->impl;
    if (own->count == 1)
        return (place){own->chunks[0].buffer, offset, UINT64_MAX};
    uint64_t size = queue->device->chunk_size, chunk = offset / size;
    return (place){own->chunks[chunk].buffer, offset % size, size - offset % size};
}

static void copy_piece(skim_vulkan_queue *queue, place from, place to, uint64_t size)
{
    const VkBufferCopy region = {.srcOffset = from.offset, .dstOffset = to.offset, .size = size};
    queue->device->vk.CmdCopyBuffer(queue->recording, from.buffer, to.buffer, 1, &region);
    queue->base->counts.transfers++;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

skim_status skim_vulkan_record_upload(skim_backend_queue *base, skim_buffer *buffer,
                                      uint64_t offset, const void *data, uint64_t size)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    skim_vulkan_block *block;
    uint64_t at;
    skim_status status = skim_vulkan_begin(queue);
    if (status == SKIM_OK)
        status = stage(queue, size, &block, &at);
    if (status != SKIM_OK)
        return status;
    memcpy(block->base.bytes + at, data, size);
    base->counts.upload_bytes += size;
    touch(queue, buffer, offset, size);
    for (uint64_t done = 0; done < size;) {
        place from = {block->mapping.chunk.buffer, at + done, UINT64_MAX};
        place to = find_place(queue, buffer, offset + done);
        uint64_t piece = smaller(size - done, to.left);
        copy_piece(queue, from, to, piece);
        done += piece;
    }
    return SKIM_OK;
}

skim_status skim_vulkan_record_download(skim_backend_queue *base, skim_buffer *buffer,
                                        uint64_t offset, void *data, uint64_t size)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    skim_vulkan_block *block;
    uint64_t at;
    skim_status status = skim_gpu_reserve_landing(&queue->staging);
    if (status == SKIM_OK)
        status = skim_vulkan_begin(queue);
    if (status == SKIM_OK)
        status = stage(queue, size, &block, &at);
    if (status != SKIM_OK)
        return status;
    touch(queue, buffer, offset, size);
    for (uint64_t done = 0; done < size;) {
        place from = find_place(queue, buffer, offset + done);
        place to = {block->mapping.chunk.buffer, at + done, UINT64_MAX};
        uint64_t piece = smaller(size - done, from.left);
        copy_piece(queue, from, to, piece);
        done += piece;
    }
    base->counts.download_bytes += size;
    skim_gpu_add_landing(&queue->staging, block->base.bytes + at, data, size);
    return SKIM_OK;
}

skim_status skim_vulkan_record_copy(skim_backend_queue *base, skim_buffer *source,
                                    uint64_t source_offset, skim_buffer *destination,
                                    uint64_t destination_offset, uint64_t size)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    skim_status status = skim_vulkan_begin(queue);
    if (status != SKIM_OK)
        return status;
    touch_both(queue, source, source_offset, destination, destination_offset, size);
    for (uint64_t done = 0; done < size;) {
        place from = find_place(queue, source, source_offset + done);
        place to = find_place(queue, destination, destination_offset + done);
        uint64_t piece = smaller(size - done, smaller(from.left, to.left));
        copy_piece(queue, from, to, piece);
        done += piece;
    }
    return SKIM_OK;
}

// Fills are of whole words; the bytes before and after come from staging.
skim_status skim_vulkan_record_zero(skim_backend_queue *base, skim_buffer *buffer, uint64_t offset,
                                    uint64_t size)
{
    static const char zeros[8];
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    uint64_t begin = smaller(skim_round_up(offset, 4), offset + size);
    uint64_t end = (offset + size) / 4 * 4;
    end = end < begin ? begin : end;
    skim_status status = skim_vulkan_begin(queue);
    if (status == SKIM_OK && begin > offset)
        status = skim_vulkan_record_upload(base, buffer, offset, zeros, begin - offset);
    if (status == SKIM_OK && offset + size > end)
        status = skim_vulkan_record_upload(base, buffer, end, zeros, offset + size - end);
    if (status != SKIM_OK || end == begin)
        return status;
    touch(queue, buffer, begin, end - begin);
    for (uint64_t at = begin; at < end;) {
        place to = find_place(queue, buffer, at);
        uint64_t piece = smaller(end - at, to.left);
        queue->device->vk.CmdFillBuffer(queue->recording, to.buffer, to.offset, piece, 0);
        queue->base->counts.transfers++;
        at += piece;
    }
    return SKIM_OK;
}
