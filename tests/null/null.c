#include "tests/null/null.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

null_control null_control_now;
null_record null_record_now;

void null_reset(void)
{
    null_control_now = (null_control){.unified = true, .devices = 1, .right = true};
    uint32_t buffers = null_record_now.buffers;
    uint64_t bytes = null_record_now.bytes;
    memset(&null_record_now, 0, sizeof null_record_now);
    null_record_now.buffers = buffers;
    null_record_now.bytes = bytes;
}

static skim_status record(const char *entry, skim_device *device, skim_error *error)
{
    null_control *control = &null_control_now;
    if (control->fail_entry && strcmp(control->fail_entry, entry) == 0 &&
        control->fail_after-- == 0) {
        control->fail_after = 0;
        if (control->lose)
            atomic_store(&device->lost, true);
        return skim_fail(error, control->fail_status, "%s was told to fail", entry);
    }
    size_t used = strlen(null_record_now.calls);
    snprintf(null_record_now.calls + used, sizeof null_record_now.calls - used, "%s ", entry);
    null_record_now.count++;
    return SKIM_OK;
}

static uint32_t null_enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                               char *reason, size_t reason_size)
{
    (void)host;
    uint32_t count = null_control_now.devices < capacity ? null_control_now.devices : capacity;
    if (count == 0)
        snprintf(reason, reason_size, "nothing here");
    for (uint32_t i = 0; i < count; i++) {
        infos[i] = (skim_device_info){.size_of = sizeof infos[i], .type = SKIM_DEVICE_SOFTWARE};
        if (null_control_now.real_gpu)
            infos[i].type = SKIM_DEVICE_DISCRETE;
        snprintf(infos[i].selector, sizeof infos[i].selector, "null:%u", i);
        snprintf(infos[i].backend, sizeof infos[i].backend, "null");
        snprintf(infos[i].name, sizeof infos[i].name, "nothing");
        infos[i].uuid[15] = (uint8_t)(i + 1);
    }
    return count;
}

static skim_status null_open(skim_device *device, uint32_t index, const skim_open_options *options,
                             skim_error *error)
{
    (void)index;
    (void)options;
    skim_status status = record("open", device, error);
    device->limits = (skim_limits){
        .size_of = sizeof(skim_limits),
        .kv_types = 1 << SKIM_F32 | 1 << SKIM_F16 | 1 << SKIM_BF16,
        .io_types = 1 << SKIM_F32 | 1 << SKIM_F16 | 1 << SKIM_BF16,
        .head_dim_min = 32,
        .head_dim_max = 256,
        .head_dim_multiple = 8,
        .page_sizes = 8 | 16 | 32 | 64,
        .heads_max = 1024,
        .rows_max = 1024,
        .pages_max = 1 << 26,
        .slots_max = 1u << 31,
        .buffer_size_max = UINT64_C(1) << 40,
        .unified_memory = null_control_now.unified,
        .timestamps = 4,
        .bounds_types = 1 << SKIM_BOUNDS_NATIVE | 1 << SKIM_BOUNDS_I8,
    };
    return status;
}

static void null_close(skim_device *device)
{
    (void)device;
}

static uint64_t null_memory_available(const skim_device *device)
{
    (void)device;
    return null_control_now.memory;
}

static skim_status null_buffer_create(skim_buffer *buffer)
{
    skim_status status = record("buffer_create", buffer->device, &buffer->device->error);
    if (status != SKIM_OK)
        return status;
    buffer->impl = calloc(1, buffer->size);
    if (!buffer->impl)
        return skim_fail(&buffer->device->error, SKIM_NO_MEMORY, "no memory");
    buffer->host = null_control_now.unified ? buffer->impl : NULL;
    null_record_now.buffers++;
    null_record_now.bytes += buffer->size;
    return SKIM_OK;
}

static void null_buffer_destroy(skim_buffer *buffer)
{
    free(buffer->impl);
    null_record_now.buffers--;
    null_record_now.bytes -= buffer->size;
}

static skim_status null_queue_create(skim_backend_queue *queue)
{
    skim_status status = record("queue_create", queue->device, &queue->error);
    if (status == SKIM_OK)
        queue->impl = calloc(1, sizeof(uint64_t));
    return status;
}

static void null_queue_destroy(skim_backend_queue *queue)
{
    free(queue->impl);
}

static uint64_t null_bounds_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    return (uint64_t)shape->slots * shape->kv_heads * shape->key_dim * 2 * 4;
}

static uint64_t null_scratch_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    (void)shape;
    return 4096;
}

static skim_status null_prepare(skim_backend_queue *queue, const skim_shape *shape)
{
    (void)shape;
    return record("prepare", queue->device, &queue->error);
}

static skim_status null_upload(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                               const void *data, uint64_t size)
{
    memcpy((char *)buffer->impl + offset, data, size);
    return record("upload", queue->device, &queue->error);
}

static skim_status null_download(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                 void *data, uint64_t size)
{
    memcpy(data, (char *)buffer->impl + offset, size);
    return record("download", queue->device, &queue->error);
}

static skim_status null_copy(skim_backend_queue *queue, skim_buffer *source, uint64_t source_offset,
                             skim_buffer *destination, uint64_t destination_offset, uint64_t size)
{
    (void)source, (void)source_offset, (void)destination, (void)destination_offset, (void)size;
    return record("copy", queue->device, &queue->error);
}

static skim_status null_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                             uint64_t size)
{
    memset((char *)buffer->impl + offset, 0, size);
    return record("zero", queue->device, &queue->error);
}

static skim_status null_mark(skim_backend_queue *queue, uint32_t index)
{
    (void)index;
    return record("mark", queue->device, &queue->error);
}

static void keep_rows(const skim_tensor *rows, uint32_t count, const skim_shape *shape)
{
    null_record_now.shape = *shape;
    null_record_now.row_count = count < 64 ? count : 64;
    memcpy(null_record_now.rows, (char *)rows->buffer->impl + rows->offset,
           null_record_now.row_count * sizeof(skim_row));
}

static skim_status null_append(skim_backend_queue *queue, const skim_append_args *args)
{
    keep_rows(&args->rows, args->row_count, args->shape);
    null_record_now.append = *args;
    return record("append", queue->device, &queue->error);
}

static skim_status null_estimate(skim_backend_queue *queue, const skim_estimate_args *args)
{
    keep_rows(&args->rows, args->row_count, args->shape);
    null_record_now.estimate = *args;
    return record("estimate", queue->device, &queue->error);
}

// The answer that the self-test of prepare knows (runtime/selftest.c).
static bool is_self_test(const skim_shape *shape, uint32_t row_count)
{
    return null_control_now.right && row_count == 1 && shape->slots == 4 && shape->max_pages == 4;
}

static skim_status null_select(skim_backend_queue *queue, const skim_select_args *args)
{
    keep_rows(&args->rows, args->row_count, args->shape);
    null_record_now.select = *args;
    if (is_self_test(args->shape, args->row_count)) {
        uint32_t *list = (uint32_t *)((char *)args->lists->impl + args->lists_offset);
        list[0] = 1;
        list[1] = 3;
    }
    return record("select", queue->device, &queue->error);
}

static void answer_self_test(const skim_attend_args *args)
{
    const skim_shape *shape = args->shape;
    uint32_t group = shape->q_heads / shape->kv_heads;
    float *out = args->out.buffer ? (float *)((char *)args->out.buffer->impl + args->out.offset)
                                  : (float *)args->out.data;
    for (uint32_t h = 0; h < shape->q_heads; h++) {
        for (uint32_t d = 0; d < shape->value_dim; d++) {
            float sum = 0.0f;
            for (uint32_t t = 0; t < 4 * shape->page_size; t++) {
                if (t / shape->page_size % 2)
                    sum += (float)((t * 7 + h / group * 3 + d) % 32);
            }
            out[h * shape->value_dim + d] = sum / (float)(2 * shape->page_size);
        }
    }
}

static skim_status null_attend(skim_backend_queue *queue, const skim_attend_args *args)
{
    keep_rows(&args->rows, args->row_count, args->shape);
    null_record_now.attend = *args;
    if (is_self_test(args->shape, args->row_count))
        answer_self_test(args);
    return record("attend", queue->device, &queue->error);
}

static skim_status null_decode(skim_backend_queue *queue, const skim_estimate_args *estimate,
                               const skim_select_args *select, const skim_attend_args *attend)
{
    null_record_now.estimate = *estimate;
    null_record_now.select = *select;
    null_record_now.attend = *attend;
    keep_rows(&attend->rows, attend->row_count, attend->shape);
    return record("decode", queue->device, &queue->error);
}

static skim_status null_submit(skim_backend_queue *queue, bool will_wait, uint64_t *point)
{
    (void)will_wait;
    skim_status status = record("submit", queue->device, &queue->error);
    if (status == SKIM_OK)
        *point = ++*(uint64_t *)queue->impl;
    return status;
}

static skim_status null_wait(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    (void)timeout_ns;
    skim_status status = record("wait", queue->device, &queue->error);
    if (status == SKIM_OK && point > null_record_now.waited)
        null_record_now.waited = point;
    return status;
}

static void null_discard(skim_backend_queue *queue)
{
    record("discard", queue->device, &queue->error);
}

static skim_status null_mark_time(skim_backend_queue *queue, uint32_t index, uint64_t *nanoseconds)
{
    *nanoseconds = index;
    return record("mark_time", queue->device, &queue->error);
}

#define NULL_ENTRIES                                                                               \
    .name = "null", .enumerate = null_enumerate, .open = null_open, .close = null_close,           \
    .memory_available = null_memory_available, .buffer_create = null_buffer_create,                \
    .buffer_destroy = null_buffer_destroy, .queue_create = null_queue_create,                      \
    .queue_destroy = null_queue_destroy, .bounds_size = null_bounds_size,                          \
    .scratch_size = null_scratch_size, .prepare = null_prepare, .upload = null_upload,             \
    .download = null_download, .copy = null_copy, .zero = null_zero, .mark = null_mark,            \
    .append = null_append, .estimate = null_estimate, .select = null_select,                       \
    .attend = null_attend, .submit = null_submit, .wait = null_wait, .discard = null_discard,      \
    .mark_time = null_mark_time

const skim_backend null_backend = {NULL_ENTRIES};
const skim_backend null_fused_backend = {NULL_ENTRIES, .decode = null_decode};
