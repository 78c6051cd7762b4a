#include "tests/fault/failing.h"

#include "skim/skim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS_MAX = 1 << 12, USES_MAX = 24, TARGETS_MAX = 64 };

typedef struct failing_queue failing_queue;

// What stands behind one of the core's buffers: the CPU's buffer, and who last used it.
typedef struct failing_buffer {
    skim_buffer inner;
    failing_queue *user;
    uint64_t point;    // of the submission that uses it, which may lie ahead
    uint32_t discards; // that the queue had seen by then
} failing_buffer;

// One recorded call. Buffers in args are the CPU's.
typedef struct command {
    struct command *next;
    fault_entry entry;
    failing_buffer *uses[USES_MAX];
    uint32_t use_count;
    skim_shape shape;
    skim_buffer *buffer, *other;
    uint64_t offset, other_offset, size;
    void *data; // of an upload: its own copy
    uint32_t mark;
    skim_append_args append;
    skim_estimate_args estimate;
    skim_select_args select;
    skim_attend_args attend;
} command;

// Host memory that work writes to.
typedef struct target {
    const char *memory;
    size_t size;
    uint64_t point;
    uint32_t discards;
} target;

struct failing_queue {
    skim_backend_queue inner;
    failing_queue *next;
    bool deferred; // commands are kept until they are submitted
    command *first, **last;
    uint32_t recorded; // since the last submission
    uint64_t points;   // given
    uint64_t known;    // points that the core knows to be done, or to have failed
    uint64_t failed;   // the first point that failed, until a wait has told; 0: none
    uint32_t discards;
    bool tainted; // a buffer that recorded work uses was destroyed
    uint64_t inner_points[POINTS_MAX];
    target targets[TARGETS_MAX]; // the most recent
    uint32_t target_count;
};

static failing_queue *queues; // alive

static const char *const entry_names[] = {
#define X(name) #name,
    FAULT_ENTRIES(X)
#undef X
};

const char *fault_entry_name(fault_entry entry)
{
    return entry_names[entry];
}

void fault_reset(const fault_variant *variant, const fault_plan *plan)
{
    fault_control *now = &fault_now;
    now->variant = *variant;
    now->plan = *plan;
    now->armed = now->lifted = false;
    memset(now->calls, 0, sizeof now->calls);
    now->all_calls = now->allocations = now->submissions = now->threads = now->fired = 0;
    now->violation[0] = '\0';
}

void fault_arm(bool device)
{
    (void)device; // which makes no calls before it is opened
    fault_now.armed = true;
}

const char *fault_selector(void)
{
    return "cpu";
}

skim_log fault_log(void)
{
    return (skim_log){0};
}

skim_store fault_store(void)
{
    return (skim_store){0};
}

void fault_opened(skim_device *device)
{
    (void)device;
}

static skim_status expected_status(void)
{
    switch (fault_now.plan.kind) {
    case FAULT_ALLOCATION:
        return SKIM_NO_MEMORY;
    case FAULT_ENTRY:
        return fault_now.plan.status;
    case FAULT_LOSS:
        return SKIM_DEVICE_LOST;
    default:
        return SKIM_FAILED;
    }
}

bool fault_permits(skim_status status)
{
    return status == expected_status();
}

// Without memory there may have been another way; failed work is told by a wait.
bool fault_permits_success(const skim_device *device)
{
    (void)device;
    fault_kind kind = fault_now.plan.kind;
    return kind == FAULT_ALLOCATION || kind == FAULT_WORK || kind == FAULT_NONE;
}

void fault_check_closed(void)
{
    if (fault_now.buffers || fault_now.queues || fault_now.devices)
        fault_violation("%u buffers, %u queues and %u devices are left", fault_now.buffers,
                        fault_now.queues, fault_now.devices);
}

void fault_lift(void)
{
    fault_now.lifted = true;
}

void fault_describe(const fault_plan *plan, char *text, size_t size)
{
    static const char *const kinds[] = {"no fault",   "allocation", "call of ",
                                        "submission", "thread",     "device loss at call"};
    const char *entry = plan->kind == FAULT_ENTRY ? fault_entry_name(plan->entry) : "";
    const char *status = plan->kind == FAULT_ENTRY ? skim_status_name(plan->status) : "";
    if (plan->kind == FAULT_NONE)
        snprintf(text, size, "no fault");
    else
        snprintf(text, size, "%s%s %u%s%s%s", kinds[plan->kind], entry, plan->index,
                 plan->persistent ? " and all after it" : "", *status ? ", " : "", status);
}

static bool hits(fault_kind kind, uint32_t index)
{
    const fault_plan *plan = &fault_now.plan;
    bool hit = fault_now.armed && !fault_now.lifted && plan->kind == kind &&
               (plan->persistent ? index >= plan->index : index == plan->index);
    fault_now.fired += hit;
    return hit;
}

// A device that is lost has stopped: nothing runs on it any more.
static void lose(skim_device *device)
{
    for (failing_queue *queue = queues; queue; queue = queue->next)
        skim_backend_cpu.wait(&queue->inner, queue->inner_points[queue->points % POINTS_MAX],
                              SKIM_WAIT_FOREVER);
    atomic_store(&device->lost, true);
}

// What every entry does first: SKIM_OK, or the failure that it is told.
static skim_status enter(fault_entry entry, skim_device *device, skim_error *error)
{
    if (atomic_load(&device->lost)) {
        fault_violation("%s was called on a lost device", fault_entry_name(entry));
        return skim_fail(error, SKIM_DEVICE_LOST, "the device is lost");
    }
    if (!fault_now.armed)
        return SKIM_OK;
    uint32_t call = fault_now.calls[entry]++;
    uint32_t any = fault_now.all_calls++;
    if (fault_now.plan.entry == entry && hits(FAULT_ENTRY, call))
        return skim_fail(error, fault_now.plan.status, "%s was told to fail",
                         fault_entry_name(entry));
    if (hits(FAULT_LOSS, any)) {
        lose(device);
        return skim_fail(error, SKIM_DEVICE_LOST, "the device was lost in %s",
                         fault_entry_name(entry));
    }
    return SKIM_OK;
}

// --- devices

static uint32_t failing_enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                                  char *reason, size_t reason_size)
{
    return skim_backend_cpu.enumerate(host, infos, capacity, reason, reason_size);
}

static skim_status failing_open(skim_device *device, uint32_t index,
                                const skim_open_options *options, skim_error *error)
{
    skim_status status = enter(FAULT_open, device, error);
    if (status == SKIM_OK)
        status = skim_backend_cpu.open(device, index, options, error);
    if (status != SKIM_OK)
        return status;
    if (fault_now.variant.hidden)
        device->limits.unified_memory = 0;
    fault_now.devices++;
    return SKIM_OK;
}

static void failing_close(skim_device *device)
{
    skim_backend_cpu.close(device);
    fault_now.devices--;
}

static uint64_t failing_memory_available(const skim_device *device)
{
    return skim_backend_cpu.memory_available(device);
}

static uint64_t failing_bounds_size(const skim_device *device, const skim_shape *shape)
{
    return skim_backend_cpu.bounds_size(device, shape);
}

static uint64_t failing_scratch_size(const skim_device *device, const skim_shape *shape)
{
    return skim_backend_cpu.scratch_size(device, shape);
}

// --- buffers

static skim_status failing_buffer_create(skim_buffer *buffer)
{
    skim_status status = enter(FAULT_buffer_create, buffer->device, &buffer->device->error);
    if (status != SKIM_OK)
        return status;
    failing_buffer *made = calloc(1, sizeof *made);
    made->inner = (skim_buffer){.device = buffer->device, .size = buffer->size};
    status = skim_backend_cpu.buffer_create(&made->inner);
    if (status != SKIM_OK) {
        free(made);
        return status;
    }
    buffer->impl = made;
    buffer->host = fault_now.variant.hidden ? NULL : made->inner.host;
    fault_now.buffers++;
    return SKIM_OK;
}

static bool is_alive(const failing_queue *queue)
{
    const failing_queue *other = queues;
    while (other && other != queue)
        other = other->next;
    return other != NULL;
}

static void failing_buffer_destroy(skim_buffer *buffer)
{
    failing_buffer *made = buffer->impl;
    failing_queue *queue = made->user;
    if (queue && is_alive(queue) && !atomic_load(&buffer->device->lost)) {
        if (made->point > queue->points)
            queue->tainted |= made->discards == queue->discards;
        else if (made->point > queue->known)
            fault_violation("a buffer was destroyed that submitted work may use");
    }
    made->inner.wipe = buffer->wipe;
    skim_backend_cpu.buffer_destroy(&made->inner);
    free(made);
    fault_now.buffers--;
}

// --- recording

static skim_buffer *inner_of(command *one, skim_buffer *buffer)
{
    if (!buffer)
        return NULL;
    failing_buffer *made = buffer->impl;
    one->uses[one->use_count++] = made;
    return &made->inner;
}

static skim_status forward(failing_queue *queue, command *one)
{
    const skim_backend *cpu = &skim_backend_cpu;
    skim_backend_queue *inner = &queue->inner;
    skim_status status = SKIM_OK;
    one->append.shape = one->estimate.shape = one->select.shape = one->attend.shape = &one->shape;
    switch (one->entry) {
    case FAULT_upload:
        return cpu->upload(inner, one->buffer, one->offset, one->data, one->size);
    case FAULT_download:
        return cpu->download(inner, one->buffer, one->offset, one->data, one->size);
    case FAULT_copy:
        return cpu->copy(inner, one->buffer, one->offset, one->other, one->other_offset, one->size);
    case FAULT_zero:
        return cpu->zero(inner, one->buffer, one->offset, one->size);
    case FAULT_mark:
        return cpu->mark(inner, one->mark);
    case FAULT_append:
        return cpu->append(inner, &one->append);
    case FAULT_estimate:
        return cpu->estimate(inner, &one->estimate);
    case FAULT_select:
        return cpu->select(inner, &one->select);
    case FAULT_attend:
        return cpu->attend(inner, &one->attend);
    case FAULT_decode:
        status = cpu->estimate(inner, &one->estimate);
        if (status == SKIM_OK)
            status = cpu->select(inner, &one->select);
        return status == SKIM_OK ? cpu->attend(inner, &one->attend) : status;
    default:
        fault_violation("%s is no call to record", fault_entry_name(one->entry));
        return SKIM_FAILED;
    }
}

static void keep(failing_queue *queue, const command *one)
{
    command *kept = malloc(sizeof *kept);
    *kept = *one;
    kept->next = NULL;
    if (one->entry == FAULT_upload) {
        kept->data = malloc(one->size);
        memcpy(kept->data, one->data, one->size);
    }
    *queue->last = kept;
    queue->last = &kept->next;
}

// The CPU's failure, told on the core's queue.
static skim_status told(skim_backend_queue *base, skim_status status)
{
    const failing_queue *queue = base->impl;
    char text[SKIM_ERROR_SIZE];
    if (status != SKIM_OK) {
        skim_error_copy(&queue->inner.error, text, sizeof text);
        skim_fail(&base->error, status, "%s", text);
    }
    return status;
}

static void keep_target(failing_queue *queue, const void *memory, size_t size)
{
    queue->targets[queue->target_count++ % TARGETS_MAX] =
        (target){memory, size, queue->points + 1, queue->discards};
}

static bool is_pending(const failing_queue *queue, const target *one)
{
    if (one->size == 0 || atomic_load(&queue->inner.device->lost))
        return false;
    return one->point > queue->points ? one->discards == queue->discards
                                      : one->point > queue->known;
}

uint32_t fault_host_writes(void)
{
    uint32_t count = 0;
    for (const failing_queue *queue = queues; queue; queue = queue->next)
        count += queue->target_count;
    return count;
}

// There is one queue in a world; with none, nothing is pending.
uint32_t fault_host_writes_pending(uint32_t since)
{
    uint32_t count = 0;
    for (uint32_t i = since; queues && i < queues->target_count; i++)
        count += is_pending(queues, &queues->targets[i % TARGETS_MAX]);
    return count;
}

void fault_host_released(const void *memory, size_t size)
{
    const char *start = memory;
    for (const failing_queue *queue = queues; queue; queue = queue->next) {
        for (uint32_t i = 0; i < TARGETS_MAX; i++) {
            const target *one = &queue->targets[i];
            if (is_pending(queue, one) && one->memory < start + size &&
                start < one->memory + one->size)
                fault_violation("memory was released that recorded work writes to");
        }
    }
}

static size_t out_size(const skim_attend_args *args)
{
    const skim_tensor *out = &args->out;
    return ((size_t)out->token_stride * (args->token_count - 1) +
            (size_t)out->head_stride * args->shape->q_heads) *
           skim_type_size(out->type);
}

static skim_status record(skim_backend_queue *base, command *one)
{
    failing_queue *queue = base->impl;
    skim_status status = enter(one->entry, base->device, &base->error);
    if (status != SKIM_OK)
        return status;
    if (queue->deferred)
        keep(queue, one);
    else
        status = told(base, forward(queue, one));
    if (status != SKIM_OK)
        return status;
    queue->recorded++;
    if (one->entry == FAULT_download)
        keep_target(queue, one->data, one->size);
    if ((one->entry == FAULT_attend || one->entry == FAULT_decode) && !one->attend.out.buffer)
        keep_target(queue, one->attend.out.data, out_size(&one->attend));
    for (uint32_t i = 0; i < one->use_count; i++) {
        one->uses[i]->user = queue;
        one->uses[i]->point = queue->points + 1;
        one->uses[i]->discards = queue->discards;
    }
    return SKIM_OK;
}

static skim_status failing_upload(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                  const void *data, uint64_t size)
{
    command one = {
        .entry = FAULT_upload, .offset = offset, .data = (void *)(uintptr_t)data, .size = size};
    one.buffer = inner_of(&one, buffer);
    return record(queue, &one);
}

static skim_status failing_download(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                    void *data, uint64_t size)
{
    command one = {.entry = FAULT_download, .offset = offset, .data = data, .size = size};
    one.buffer = inner_of(&one, buffer);
    return record(queue, &one);
}

static skim_status failing_copy(skim_backend_queue *queue, skim_buffer *source,
                                uint64_t source_offset, skim_buffer *destination,
                                uint64_t destination_offset, uint64_t size)
{
    command one = {.entry = FAULT_copy,
                   .offset = source_offset,
                   .other_offset = destination_offset,
                   .size = size};
    one.buffer = inner_of(&one, source);
    one.other = inner_of(&one, destination);
    return record(queue, &one);
}

static skim_status failing_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                uint64_t size)
{
    command one = {.entry = FAULT_zero, .offset = offset, .size = size};
    one.buffer = inner_of(&one, buffer);
    return record(queue, &one);
}

static skim_status failing_mark(skim_backend_queue *queue, uint32_t index)
{
    command one = {.entry = FAULT_mark, .mark = index};
    return record(queue, &one);
}

static void swap_buffers(command *one, skim_buffer **const *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *buffers[i] = inner_of(one, *buffers[i]);
}

#define SWAP(one, ...)                                                                             \
    swap_buffers(one, (skim_buffer * *const[]){__VA_ARGS__},                                       \
                 sizeof((skim_buffer **const[]){__VA_ARGS__}) / sizeof(skim_buffer **))

static void take_estimate(command *one, const skim_estimate_args *args)
{
    one->shape = *args->shape;
    one->estimate = *args;
    skim_estimate_args *own = &one->estimate;
    SWAP(one, &own->rows.buffer, &own->table.buffer, &own->q.buffer, &own->bounds, &own->centre,
         &own->scores);
}

static void take_select(command *one, const skim_select_args *args)
{
    one->shape = *args->shape;
    one->select = *args;
    skim_select_args *own = &one->select;
    SWAP(one, &own->rows.buffer, &own->scores, &own->lists);
}

static void take_attend(command *one, const skim_attend_args *args)
{
    one->shape = *args->shape;
    one->attend = *args;
    skim_attend_args *own = &one->attend;
    SWAP(one, &own->rows.buffer, &own->table.buffer, &own->q.buffer, &own->keys.buffer,
         &own->values.buffer, &own->lists, &own->out.buffer, &own->lse.buffer);
}

static skim_status failing_append(skim_backend_queue *queue, const skim_append_args *args)
{
    command one = {.entry = FAULT_append, .shape = *args->shape, .append = *args};
    skim_append_args *own = &one.append;
    SWAP(&one, &own->rows.buffer, &own->table.buffer, &own->k.buffer, &own->v.buffer,
         &own->keys.buffer, &own->values.buffer, &own->bounds, &own->centre);
    return record(queue, &one);
}

static skim_status failing_estimate(skim_backend_queue *queue, const skim_estimate_args *args)
{
    command one = {.entry = FAULT_estimate};
    take_estimate(&one, args);
    return record(queue, &one);
}

static skim_status failing_select(skim_backend_queue *queue, const skim_select_args *args)
{
    command one = {.entry = FAULT_select};
    take_select(&one, args);
    return record(queue, &one);
}

static skim_status failing_attend(skim_backend_queue *queue, const skim_attend_args *args)
{
    command one = {.entry = FAULT_attend};
    take_attend(&one, args);
    return record(queue, &one);
}

static skim_status failing_decode(skim_backend_queue *queue, const skim_estimate_args *estimate,
                                  const skim_select_args *select, const skim_attend_args *attend)
{
    command one = {.entry = FAULT_decode};
    take_estimate(&one, estimate);
    take_select(&one, select);
    take_attend(&one, attend);
    return record(queue, &one);
}

// --- running

static void drop(failing_queue *queue)
{
    while (queue->first) {
        command *one = queue->first;
        queue->first = one->next;
        if (one->entry == FAULT_upload)
            free(one->data);
        free(one);
    }
    queue->last = &queue->first;
    queue->recorded = 0;
}

// Hands the first `count` kept commands to the CPU, and forgets the others.
static void run_kept(failing_queue *queue, uint32_t count)
{
    for (command *one = queue->first; one && count > 0; one = one->next, count--) {
        if (forward(queue, one) != SKIM_OK)
            fault_violation("the CPU failed in a run without its faults");
    }
    drop(queue);
}

static skim_status failing_submit(skim_backend_queue *base, bool will_wait, uint64_t *point)
{
    failing_queue *queue = base->impl;
    skim_status status = enter(FAULT_submit, base->device, &base->error);
    if (status != SKIM_OK)
        return status;
    if (queue->tainted)
        fault_violation("work was submitted that uses a buffer that was destroyed");
    uint64_t next = queue->points + 1;
    bool fails = fault_now.armed && hits(FAULT_WORK, fault_now.submissions++);
    if (fails && queue->failed == 0) {
        run_kept(queue, queue->recorded / 2);
        queue->failed = next;
    } else if (queue->failed > 0) {
        drop(queue); // it would read what was not written
    } else if (queue->deferred) {
        run_kept(queue, UINT32_MAX);
    }
    queue->recorded = 0;
    uint64_t inner = 0;
    status = told(base, skim_backend_cpu.submit(&queue->inner, will_wait, &inner));
    if (status != SKIM_OK)
        return status;
    queue->inner_points[next % POINTS_MAX] = inner;
    queue->points = *point = next;
    return SKIM_OK;
}

static skim_status failing_wait(skim_backend_queue *base, uint64_t point, uint64_t timeout_ns)
{
    failing_queue *queue = base->impl;
    if (point <= queue->known) // may be asked again; nothing can go wrong
        return SKIM_OK;
    skim_status status = enter(FAULT_wait, base->device, &base->error);
    if (status != SKIM_OK)
        return status;
    status = told(base, skim_backend_cpu.wait(&queue->inner,
                                              queue->inner_points[point % POINTS_MAX], timeout_ns));
    if (status != SKIM_OK)
        return status;
    queue->known = point;
    if (queue->failed == 0 || point < queue->failed)
        return SKIM_OK;
    queue->failed = 0;
    return skim_fail(&base->error, SKIM_FAILED, "submitted work was told to fail");
}

static void failing_discard(skim_backend_queue *base)
{
    failing_queue *queue = base->impl;
    drop(queue);
    queue->tainted = false;
    queue->discards++;
    skim_backend_cpu.discard(&queue->inner);
}

static skim_status failing_mark_time(skim_backend_queue *base, uint32_t index,
                                     uint64_t *nanoseconds)
{
    failing_queue *queue = base->impl;
    skim_status status = enter(FAULT_mark_time, base->device, &base->error);
    if (status == SKIM_OK)
        status = told(base, skim_backend_cpu.mark_time(&queue->inner, index, nanoseconds));
    return status;
}

// --- queues

static skim_status failing_queue_create(skim_backend_queue *base)
{
    skim_status status = enter(FAULT_queue_create, base->device, &base->error);
    if (status != SKIM_OK)
        return status;
    failing_queue *made = calloc(1, sizeof *made);
    made->inner.device = base->device;
    skim_error_init(&made->inner.error);
    made->last = &made->first;
    made->deferred = fault_now.plan.kind == FAULT_WORK;
    base->impl = made;
    status = told(base, skim_backend_cpu.queue_create(&made->inner));
    if (status != SKIM_OK) {
        skim_error_deinit(&made->inner.error);
        free(made);
        base->impl = NULL;
        return status;
    }
    made->next = queues;
    queues = made;
    fault_now.queues++;
    return SKIM_OK;
}

static void failing_queue_destroy(skim_backend_queue *base)
{
    failing_queue *queue = base->impl;
    failing_queue **link = &queues;
    while (*link != queue)
        link = &(*link)->next;
    *link = queue->next;
    drop(queue);
    skim_backend_cpu.queue_destroy(&queue->inner);
    skim_error_deinit(&queue->inner.error);
    free(queue);
    base->impl = NULL;
    fault_now.queues--;
}

static skim_status failing_prepare(skim_backend_queue *base, const skim_shape *shape)
{
    failing_queue *queue = base->impl;
    skim_status status = enter(FAULT_prepare, base->device, &base->error);
    if (status != SKIM_OK)
        return status;
    if (queue->recorded > 0 || queue->known < queue->points)
        fault_violation("prepare was called with work in flight");
    return told(base, skim_backend_cpu.prepare(&queue->inner, shape));
}

#define FAILING_ENTRIES                                                                            \
    .name = "cpu", .enumerate = failing_enumerate, .open = failing_open, .close = failing_close,   \
    .memory_available = failing_memory_available, .buffer_create = failing_buffer_create,          \
    .buffer_destroy = failing_buffer_destroy, .queue_create = failing_queue_create,                \
    .queue_destroy = failing_queue_destroy, .bounds_size = failing_bounds_size,                    \
    .scratch_size = failing_scratch_size, .prepare = failing_prepare, .upload = failing_upload,    \
    .download = failing_download, .copy = failing_copy, .zero = failing_zero,                      \
    .mark = failing_mark, .append = failing_append, .estimate = failing_estimate,                  \
    .select = failing_select, .attend = failing_attend, .submit = failing_submit,                  \
    .wait = failing_wait, .discard = failing_discard, .mark_time = failing_mark_time

static const skim_backend plain_backend = {FAILING_ENTRIES};
static const skim_backend fused_backend = {FAILING_ENTRIES, .decode = failing_decode};

const skim_registration *fault_registration(void)
{
    static const skim_registration plain = {"cpu", &plain_backend}, fused = {"cpu", &fused_backend};
    return fault_now.variant.fused ? &fused : &plain;
}
