#include "runtime/queue.h"

#include "runtime/cache.h"

#include <string.h>

skim_status skim_queue_make(skim_device *device, void *stream, skim_queue **queue)
{
    if (atomic_load(&device->lost))
        return skim_fail(&device->error, SKIM_DEVICE_LOST, "the device is lost");
    skim_queue *made = skim_allocate(device->host, sizeof *made);
    if (!made)
        return skim_fail(&device->error, SKIM_NO_MEMORY, "no host memory for a queue");
    made->base.device = device;
    made->base.stream = stream;
    skim_error_init(&made->base.error);
    skim_status status = device->backend->queue_create(&made->base);
    if (status != SKIM_OK) {
        char text[SKIM_ERROR_SIZE];
        skim_error_copy(&made->base.error, text, sizeof text);
        skim_fail(&device->error, status, "%s", text);
        skim_error_deinit(&made->base.error);
        skim_release(device->host, made, sizeof *made);
        return status;
    }
    atomic_fetch_add(&device->objects, 1);
    *queue = made;
    return SKIM_OK;
}

skim_status skim_queue_create(skim_device *device, skim_queue **queue)
{
    if (!device)
        return SKIM_INVALID;
    if (!queue)
        return skim_fail(&device->error, SKIM_INVALID, "queue must not be NULL");
    return skim_queue_make(device, NULL, queue);
}

void skim_queue_destroy(skim_queue *queue)
{
    if (!queue)
        return;
    skim_device *device = queue->base.device;
    device->backend->queue_destroy(&queue->base);
    skim_buffer_wipe(queue->staging.buffer, queue->staging.size);
    skim_release(device->host, queue->shapes, queue->shape_capacity * sizeof *queue->shapes);
    skim_error_deinit(&queue->base.error);
    skim_release(device->host, queue, sizeof *queue);
    atomic_fetch_sub(&device->objects, 1);
}

skim_device *skim_queue_device(const skim_queue *queue)
{
    return queue ? queue->base.device : NULL;
}

size_t skim_queue_error(const skim_queue *queue, char *text, size_t size)
{
    return queue ? skim_error_copy(&queue->base.error, text, size) : 0;
}

skim_status skim_queue_get_counts(const skim_queue *queue, skim_queue_counts *counts)
{
    if (!queue)
        return SKIM_INVALID;
    return skim_give(counts, &queue->base.counts, sizeof *counts) ? SKIM_OK : SKIM_INVALID;
}

skim_status skim_queue_usable(skim_queue *queue)
{
    if (!queue)
        return SKIM_INVALID;
    if (atomic_load(&queue->base.device->lost))
        return skim_fail(&queue->base.error, SKIM_DEVICE_LOST, "the device is lost");
    return SKIM_OK;
}

// Everything staged so far is free when the point is reached.
static void mark_staging(skim_staging *staging, uint64_t point)
{
    if (staging->mark_count == SKIM_STAGING_MARKS)
        staging->mark_count--; // the later point frees the earlier one's bytes too
    staging->marks[staging->mark_count].point = point;
    staging->marks[staging->mark_count].head = staging->head;
    staging->mark_count++;
}

static skim_status submit(skim_queue *queue, bool will_wait)
{
    if (!queue->recorded)
        return SKIM_OK;
    uint64_t point;
    skim_status status = queue->base.device->backend->submit(&queue->base, will_wait, &point);
    if (status != SKIM_OK)
        return status;
    queue->submitted = point;
    queue->recorded = false;
    mark_staging(&queue->staging, point);
    return SKIM_OK;
}

skim_status skim_queue_submit(skim_queue *queue, uint64_t *point)
{
    skim_status status = skim_queue_usable(queue);
    if (status == SKIM_OK)
        status = submit(queue, false);
    if (status == SKIM_OK && point)
        *point = queue->submitted;
    return status;
}

// Everything after the last point reached is given up, recorded or submitted: it may have read, or
// would read, what the failed work was to write. What was submitted may still run, and must be done
// when its memory is used again.
static void note_failure(skim_queue *queue, uint64_t point)
{
    const skim_backend *backend = queue->base.device->backend;
    if (point < queue->submitted)
        backend->wait(&queue->base, queue->submitted, SKIM_WAIT_FOREVER);
    backend->discard(&queue->base);
    queue->recorded = false;
    for (skim_cache *cache = queue->caches; cache; cache = cache->next_on_queue)
        skim_cache_note_failure(cache, queue->reached);
    if (queue->submitted > queue->reached) {
        queue->failed_from = queue->reached + 1;
        queue->failed_to = queue->reached = queue->submitted;
    }
}

static skim_status wait_for(skim_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    if (queue->failed_to > 0 && point >= queue->failed_from && point <= queue->failed_to)
        return skim_fail(
            &queue->base.error, SKIM_FAILED, "the work of points %llu to %llu failed earlier",
            (unsigned long long)queue->failed_from, (unsigned long long)queue->failed_to);
    skim_status status = queue->base.device->backend->wait(&queue->base, point, timeout_ns);
    if (status == SKIM_OK && point > queue->reached)
        queue->reached = point;
    if (status == SKIM_FAILED)
        note_failure(queue, point);
    return status;
}

skim_status skim_queue_wait(skim_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    if (point > queue->submitted)
        return skim_fail(&queue->base.error, SKIM_INVALID,
                         "point %llu was not submitted yet (the last is %llu)",
                         (unsigned long long)point, (unsigned long long)queue->submitted);
    return wait_for(queue, point, timeout_ns);
}

skim_status skim_queue_finish(skim_queue *queue)
{
    skim_status status = skim_queue_usable(queue);
    if (status == SKIM_OK)
        status = submit(queue, true);
    if (status == SKIM_OK && queue->submitted > queue->reached)
        status = wait_for(queue, queue->submitted, SKIM_WAIT_FOREVER);
    return status;
}

skim_status skim_queue_drain(skim_queue *queue)
{
    skim_status status = skim_queue_finish(queue);
    if (status == SKIM_OK || skim_queue_usable(queue) != SKIM_OK)
        return status;
    if (queue->submitted > queue->reached)
        wait_for(queue, queue->submitted, SKIM_WAIT_FOREVER);
    if (queue->recorded)
        note_failure(queue, queue->submitted);
    return status;
}

static skim_status check_transfer(skim_queue *queue, skim_buffer *buffer, uint64_t offset,
                                  const void *data, uint64_t size)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    if (!data || size == 0)
        return skim_fail(&queue->base.error, SKIM_INVALID, "a transfer needs memory and a size");
    return skim_span_check(queue->base.device, "the transfer", buffer, offset, size, 1, 1,
                           &queue->base.error);
}

static skim_status recorded(skim_queue *queue, skim_status status)
{
    if (status == SKIM_OK)
        queue->recorded = true;
    return status;
}

skim_status skim_queue_upload(skim_queue *queue, skim_buffer *buffer, uint64_t offset,
                              const void *data, uint64_t size)
{
    skim_status status = check_transfer(queue, buffer, offset, data, size);
    if (status != SKIM_OK)
        return status;
    return recorded(queue,
                    buffer->device->backend->upload(&queue->base, buffer, offset, data, size));
}

skim_status skim_queue_download(skim_queue *queue, skim_buffer *buffer, uint64_t offset, void *data,
                                uint64_t size)
{
    skim_status status = check_transfer(queue, buffer, offset, data, size);
    if (status != SKIM_OK)
        return status;
    return recorded(queue,
                    buffer->device->backend->download(&queue->base, buffer, offset, data, size));
}

skim_status skim_queue_copy(skim_queue *queue, skim_buffer *source, uint64_t source_offset,
                            skim_buffer *destination, uint64_t destination_offset, uint64_t size)
{
    skim_status status = check_transfer(queue, source, source_offset, queue, size);
    if (status == SKIM_OK)
        status = check_transfer(queue, destination, destination_offset, queue, size);
    if (status != SKIM_OK)
        return status;
    if (source == destination && source_offset < destination_offset + size &&
        destination_offset < source_offset + size)
        return skim_fail(&queue->base.error, SKIM_INVALID, "the ranges of the copy overlap");
    return recorded(queue, source->device->backend->copy(&queue->base, source, source_offset,
                                                         destination, destination_offset, size));
}

skim_status skim_queue_zero(skim_queue *queue, skim_buffer *buffer, uint64_t offset, uint64_t size)
{
    skim_status status = check_transfer(queue, buffer, offset, queue, size);
    if (status != SKIM_OK)
        return status;
    return recorded(queue, buffer->device->backend->zero(&queue->base, buffer, offset, size));
}

static skim_status check_mark(skim_queue *queue, uint32_t index)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    uint32_t count = queue->base.device->limits.timestamps;
    if (count == 0)
        return skim_fail(&queue->base.error, SKIM_UNSUPPORTED, "this device has no timestamps");
    if (index >= count)
        return skim_fail(&queue->base.error, SKIM_INVALID, "mark %u of %u", index, count);
    return SKIM_OK;
}

skim_status skim_queue_mark(skim_queue *queue, uint32_t index)
{
    skim_status status = check_mark(queue, index);
    if (status != SKIM_OK)
        return status;
    return recorded(queue, queue->base.device->backend->mark(&queue->base, index));
}

skim_status skim_queue_mark_time(skim_queue *queue, uint32_t index, uint64_t *nanoseconds)
{
    skim_status status = check_mark(queue, index);
    if (status != SKIM_OK)
        return status;
    if (!nanoseconds)
        return skim_fail(&queue->base.error, SKIM_INVALID, "nanoseconds must not be NULL");
    return queue->base.device->backend->mark_time(&queue->base, index, nanoseconds);
}

// --- prepared shapes

static bool same_kernels(const skim_shape *a, const skim_shape *b)
{
    return a->q_heads == b->q_heads && a->kv_heads == b->kv_heads && a->key_dim == b->key_dim &&
           a->value_dim == b->value_dim && a->page_size == b->page_size && a->type == b->type &&
           a->bounds == b->bounds && a->bounds_type == b->bounds_type;
}

static bool covers(const skim_shape *prepared, const skim_shape *shape)
{
    return same_kernels(prepared, shape) && prepared->slots >= shape->slots &&
           prepared->max_rows >= shape->max_rows && prepared->max_tokens >= shape->max_tokens &&
           prepared->max_pages >= shape->max_pages;
}

bool skim_queue_is_prepared(const skim_queue *queue, const skim_shape *shape)
{
    for (uint32_t i = 0; i < queue->shape_count; i++) {
        if (covers(&queue->shapes[i], shape))
            return true;
    }
    return false;
}

static bool reserve_shape(skim_queue *queue)
{
    if (queue->shape_count < queue->shape_capacity)
        return true;
    const skim_host *host = queue->base.device->host;
    uint32_t capacity = queue->shape_capacity ? queue->shape_capacity * 2 : 8;
    skim_shape *grown = skim_allocate(host, capacity * sizeof *grown);
    if (!grown)
        return false;
    if (queue->shape_count > 0)
        memcpy(grown, queue->shapes, queue->shape_count * sizeof *grown);
    skim_release(host, queue->shapes, queue->shape_capacity * sizeof *grown);
    queue->shapes = grown;
    queue->shape_capacity = capacity;
    return true;
}

skim_status skim_queue_prepare(skim_queue *queue, const skim_shape *shape)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    skim_error *error = &queue->base.error;
    skim_shape taken;
    status = skim_shape_check(queue->base.device, shape, &taken, error);
    if (status != SKIM_OK || skim_queue_is_prepared(queue, &taken))
        return status;
    if (!reserve_shape(queue))
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a prepared shape");
    status = skim_queue_finish(queue);
    if (status == SKIM_OK)
        status = skim_queue_reserve_staging(queue, skim_shape_staging(&taken));
    if (status == SKIM_OK)
        status = queue->base.device->backend->prepare(&queue->base, &taken);
    if (status == SKIM_OK)
        queue->shapes[queue->shape_count++] = taken;
    return status;
}

skim_status skim_bounds_size(skim_device *device, const skim_shape *shape, uint64_t *bytes)
{
    skim_shape taken;
    if (!device)
        return SKIM_INVALID;
    if (!bytes)
        return skim_fail(&device->error, SKIM_INVALID, "bytes must not be NULL");
    skim_status status = skim_shape_check(device, shape, &taken, &device->error);
    if (status == SKIM_OK)
        *bytes = device->backend->bounds_size(device, &taken);
    return status;
}
