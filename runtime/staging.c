// The staging ring: host tensors are copied here when a verb is recorded, so that the caller may
// reuse them at once, and stay until the submission that reads them is done.
#include "runtime/queue.h"

#include <string.h>

enum { STAGING_ALIGNMENT = 64, STAGING_MINIMUM = 1 << 16 };

uint64_t skim_shape_token_bytes(const skim_shape *shape)
{
    uint64_t keys = (uint64_t)shape->kv_heads * (shape->key_dim + shape->value_dim);
    uint64_t queries = (uint64_t)shape->q_heads * (shape->key_dim + shape->value_dim + 1);
    return keys * skim_type_size(shape->type) + queries * sizeof(float);
}

// Two calls' worth: one can be in flight while the next is recorded.
uint64_t skim_shape_staging(const skim_shape *shape)
{
    uint64_t rows = (uint64_t)shape->max_rows * sizeof(skim_row);
    uint64_t table = (uint64_t)shape->max_pages * sizeof(uint32_t);
    uint64_t tokens = (uint64_t)shape->max_tokens * skim_shape_token_bytes(shape);
    return 2 * (rows + table + tokens + 8 * STAGING_ALIGNMENT);
}

skim_status skim_queue_reserve_staging(skim_queue *queue, uint64_t size)
{
    skim_staging *staging = &queue->staging;
    size = skim_round_up(size < STAGING_MINIMUM ? STAGING_MINIMUM : size, STAGING_ALIGNMENT);
    if (size <= staging->size)
        return SKIM_OK;
    skim_buffer *grown;
    skim_status status = skim_buffer_make(queue->base.device, size, true, 0, &grown);
    if (status != SKIM_OK)
        return skim_fail(&queue->base.error, status, "no memory for %llu bytes of staging",
                         (unsigned long long)size);
    skim_buffer_wipe(staging->buffer, staging->size);
    *staging = (skim_staging){.buffer = grown, .size = size};
    return SKIM_OK;
}

// Waits for the oldest mark, submitting first if nothing is in flight.
static skim_status free_oldest(skim_queue *queue)
{
    skim_staging *staging = &queue->staging;
    if (staging->mark_count == 0) {
        skim_status status = skim_queue_submit(queue, NULL);
        if (status != SKIM_OK)
            return status;
        if (staging->mark_count == 0) { // nothing refers to what was staged
            staging->tail = staging->head;
            return SKIM_OK;
        }
    }
    if (staging->marks[0].point > queue->reached) {
        skim_status status = skim_queue_wait(queue, staging->marks[0].point, SKIM_WAIT_FOREVER);
        if (status != SKIM_OK)
            return status;
    }
    staging->tail = staging->marks[0].head;
    staging->mark_count--;
    memmove(staging->marks, staging->marks + 1, staging->mark_count * sizeof *staging->marks);
    return SKIM_OK;
}

// Takes size bytes of the ring, waiting for earlier work if it is full.
static skim_status take(skim_queue *queue, uint64_t size, uint64_t *offset)
{
    skim_staging *staging = &queue->staging;
    if (size > staging->size) {
        skim_status status = skim_queue_finish(queue);
        if (status == SKIM_OK)
            status = skim_queue_reserve_staging(queue, 2 * size);
        if (status != SKIM_OK)
            return status;
    }
    for (;;) {
        uint64_t start = staging->head % staging->size;
        uint64_t skipped = start + size > staging->size ? staging->size - start : 0;
        if (staging->head + skipped + size - staging->tail <= staging->size) {
            staging->head += skipped;
            *offset = staging->head % staging->size;
            staging->head += size;
            return SKIM_OK;
        }
        if (staging->head == staging->tail) { // empty: begin again at the start of the ring
            staging->head = staging->tail = 0;
            staging->mark_count = 0; // those left freed nothing, and count from the old head
            continue;
        }
        skim_status status = free_oldest(queue);
        if (status != SKIM_OK)
            return status;
    }
}

static bool is_packed(const skim_tensor *tensor, const skim_extent *extent)
{
    return tensor->head_stride == extent->dim &&
           tensor->token_stride == (uint64_t)extent->heads * extent->dim;
}

static skim_status copy_in(skim_queue *queue, uint64_t offset, const void *data, uint64_t size)
{
    skim_buffer *buffer = queue->staging.buffer;
    if (buffer->host) {
        memcpy((char *)buffer->host + offset, data, size);
        return SKIM_OK;
    }
    return skim_queue_upload(queue, buffer, offset, data, size);
}

static skim_status copy_out(skim_queue *queue, uint64_t offset, void *data, uint64_t size)
{
    return skim_queue_download(queue, queue->staging.buffer, offset, data, size);
}

// Moves a host tensor to its packed place in staging, or back.
static skim_status copy_item(skim_queue *queue, const skim_stage_item *item, uint64_t offset,
                             bool back)
{
    const skim_extent *extent = &item->extent;
    const skim_tensor *host = &item->host;
    uint64_t width = skim_type_size(host->type);
    uint64_t vector = extent->dim * width;
    char *data = (char *)host->data + host->offset;
    uint64_t runs = 1, run = extent->tokens * extent->heads * vector;
    bool packed = is_packed(host, extent);
    if (!packed) {
        runs = extent->tokens * extent->heads;
        run = vector;
    }
    skim_status status = SKIM_OK;
    for (uint64_t i = 0; i < runs && status == SKIM_OK; i++) {
        uint64_t from =
            packed
                ? 0
                : (i / extent->heads * host->token_stride + i % extent->heads * host->head_stride) *
                      width;
        status = back ? copy_out(queue, offset + i * run, data + from, run)
                      : copy_in(queue, offset + i * run, data + from, run);
    }
    return status;
}

// Outputs in host memory need no staging where the device writes there itself.
static bool needs_staging(const skim_queue *queue, const skim_stage_item *item)
{
    const skim_tensor *tensor = item->tensor;
    if (tensor->type == SKIM_TYPE_NONE || tensor->buffer)
        return false;
    return !item->output || !queue->base.device->limits.unified_memory;
}

static uint64_t item_size(const skim_stage_item *item)
{
    const skim_extent *extent = &item->extent;
    uint64_t size =
        extent->tokens * extent->heads * extent->dim * skim_type_size(item->tensor->type);
    return skim_round_up(size, STAGING_ALIGNMENT);
}

skim_status skim_queue_stage(skim_queue *queue, skim_stage_item *items, uint32_t count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += needs_staging(queue, &items[i]) ? item_size(&items[i]) : 0;
    if (total == 0)
        return SKIM_OK;
    uint64_t offset;
    skim_status status = take(queue, total, &offset);
    for (uint32_t i = 0; i < count && status == SKIM_OK; i++) {
        skim_stage_item *item = &items[i];
        if (!needs_staging(queue, item))
            continue;
        item->host = *item->tensor;
        uint64_t size = item_size(item);
        *item->tensor =
            (skim_tensor){.buffer = queue->staging.buffer,
                          .offset = offset,
                          .type = item->host.type,
                          .token_stride = (uint64_t)item->extent.heads * item->extent.dim,
                          .head_stride = item->extent.dim};
        if (!item->output || item->partial)
            status = copy_item(queue, item, offset, false);
        offset += size;
    }
    return status;
}

skim_status skim_queue_unstage(skim_queue *queue, const skim_stage_item *items, uint32_t count)
{
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < count && status == SKIM_OK; i++) {
        if (items[i].output && items[i].host.data)
            status = copy_item(queue, &items[i], items[i].tensor->offset, true);
    }
    // The caller of a call that failed may free what it was to write: some of it may be recorded.
    if (status != SKIM_OK)
        skim_queue_drain(queue);
    return status;
}
