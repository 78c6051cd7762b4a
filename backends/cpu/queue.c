#include "backends/cpu/queue.h"

#include "backends/cpu/cpu.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

// Enough that a decode step of a large model grows neither.
enum { FIRST_COMMANDS = 1024, FIRST_STAGING = 256 * 1024, STAGING_BLOCKS = 2, MARKS = 64 };

typedef enum command_kind {
    COMMAND_COPY,
    COMMAND_ZERO,
    COMMAND_MARK,
    COMMAND_APPEND,
    COMMAND_ESTIMATE,
    COMMAND_SELECT,
    COMMAND_ATTEND
} command_kind;

typedef struct command {
    command_kind kind;
    uint64_t point; // reached when this command is done; 0: none
    skim_shape shape;
    union {
        struct {
            void *to;
            const void *from;
            uint64_t size;
        } copy;
        uint32_t mark;
        skim_append_args append;
        skim_estimate_args estimate;
        skim_select_args select;
        skim_attend_args attend;
    } as;
} command;

// Host memory that waits for its copy into a buffer.
typedef struct staging {
    struct staging *next;
    uint64_t size;
    uint64_t used;
    uint64_t last; // index after the last command that reads it
    char *bytes;
} staging;

typedef struct mark {
    uint64_t recorded; // how often
    uint64_t reached;
    uint64_t time;
} mark;

// Commands have indices that only grow: executed <= submitted <= recorded; command i is at i %
// capacity.
typedef struct skim_cpu_queue {
    const skim_device *device;
    const skim_host *host;
    skim_cpu_context context;
    skim_cpu_scratch scratch;

    skim_mutex mutex; // of everything below but staging, which only the recording thread uses
    skim_condition work;
    skim_condition done;
    command *commands;
    uint64_t capacity;
    uint64_t recorded;
    uint64_t submitted;
    uint64_t executed;
    uint64_t started;   // points given
    uint64_t completed; // points reached
    bool executing;     // someone holds the right to execute
    bool awake;         // the queue's thread is asked to execute what is submitted
    bool stopping;
    mark marks[MARKS];

    staging *blocks; // the newest first
    skim_thread thread;
} skim_cpu_queue;

// ---- executing

static void execute(skim_cpu_queue *queue, command *next)
{
    switch (next->kind) {
    case COMMAND_COPY:
        memcpy(next->as.copy.to, next->as.copy.from, (size_t)next->as.copy.size);
        break;
    case COMMAND_ZERO:
        memset(next->as.copy.to, 0, (size_t)next->as.copy.size);
        break;
    case COMMAND_MARK:
        break;
    case COMMAND_APPEND:
        next->as.append.shape = &next->shape;
        skim_cpu_append(&queue->context, &next->as.append);
        break;
    case COMMAND_ESTIMATE:
        next->as.estimate.shape = &next->shape;
        skim_cpu_estimate(&queue->context, &next->as.estimate);
        break;
    case COMMAND_SELECT:
        next->as.select.shape = &next->shape;
        skim_cpu_select(&queue->context, &next->as.select);
        break;
    case COMMAND_ATTEND:
        next->as.attend.shape = &next->shape;
        skim_cpu_attend(&queue->context, &next->as.attend);
        break;
    }
}

// Executes what is submitted, up to a point. Called with the mutex held and the right to execute
// free.
static void execute_until(skim_cpu_queue *queue, uint64_t point)
{
    queue->executing = true;
    while (queue->completed < point && queue->executed < queue->submitted) {
        // A copy, since recording may move the commands.
        command next = queue->commands[queue->executed % queue->capacity];
        skim_mutex_unlock(&queue->mutex);
        execute(queue, &next);
        uint64_t now = next.kind == COMMAND_MARK ? skim_now_ns() : 0;
        skim_mutex_lock(&queue->mutex);
        if (next.kind == COMMAND_MARK) {
            queue->marks[next.as.mark].reached++;
            queue->marks[next.as.mark].time = now;
        }
        queue->executed++;
        if (next.point > 0) {
            queue->completed = next.point;
            skim_condition_broadcast(&queue->done);
        }
    }
    queue->executing = false;
    if (queue->executed == queue->submitted)
        queue->awake = false;
    skim_condition_broadcast(&queue->done);
}

static void *queue_main(void *argument)
{
    skim_cpu_queue *queue = argument;
    skim_mutex_lock(&queue->mutex);
    while (!queue->stopping) {
        if (queue->awake && !queue->executing) {
            execute_until(queue, UINT64_MAX);
        } else {
            skim_condition_wait(&queue->work, &queue->mutex);
        }
    }
    skim_mutex_unlock(&queue->mutex);
    return NULL;
}

static void wake(skim_cpu_queue *queue)
{
    queue->awake = true;
    skim_condition_broadcast(&queue->work);
}

skim_status skim_cpu_queue_submit(skim_backend_queue *base, bool will_wait, uint64_t *point)
{
    skim_cpu_queue *queue = base->impl;
    skim_mutex_lock(&queue->mutex);
    if (queue->submitted < queue->recorded) {
        queue->started++;
        queue->commands[(queue->recorded - 1) % queue->capacity].point = queue->started;
        queue->submitted = queue->recorded;
        if (!will_wait)
            wake(queue);
    }
    if (point)
        *point = queue->started;
    skim_mutex_unlock(&queue->mutex);
    return SKIM_OK;
}

// The waiter computes itself: nobody has to be woken, and no thread more than the team's runs.
static void wait_forever(skim_cpu_queue *queue, uint64_t point)
{
    while (queue->completed < point) {
        if (queue->executing) {
            skim_condition_wait(&queue->done, &queue->mutex);
            continue;
        }
        execute_until(queue, point);
        // The thread may have found the right to execute taken, and slept again.
        if (queue->awake && queue->executed < queue->submitted)
            skim_condition_broadcast(&queue->work);
    }
}

static bool wait_until(skim_cpu_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    if (queue->completed >= point)
        return true;
    wake(queue);
    uint64_t now = skim_now_ns();
    uint64_t deadline = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    while (queue->completed < point) {
        if (skim_now_ns() >= deadline)
            return false;
        skim_condition_wait_until(&queue->done, &queue->mutex, deadline);
    }
    return true;
}

skim_status skim_cpu_queue_wait(skim_backend_queue *base, uint64_t point, uint64_t timeout_ns)
{
    skim_cpu_queue *queue = base->impl;
    // A year and more is for ever: the clock's own type could not hold the sum.
    const uint64_t for_ever = (uint64_t)400 * 24 * 3600 * 1000000000u;
    bool reached = true;
    skim_mutex_lock(&queue->mutex);
    assert(point <= queue->started);
    if (timeout_ns >= for_ever)
        wait_forever(queue, point);
    else
        reached = wait_until(queue, point, timeout_ns);
    skim_mutex_unlock(&queue->mutex);
    return reached ? SKIM_OK : SKIM_TIMEOUT;
}

void skim_cpu_queue_discard(skim_backend_queue *base)
{
    skim_cpu_queue *queue = base->impl;
    skim_mutex_lock(&queue->mutex);
    for (; queue->recorded > queue->submitted; queue->recorded--) {
        const command *last = &queue->commands[(queue->recorded - 1) % queue->capacity];
        if (last->kind == COMMAND_MARK)
            queue->marks[last->as.mark].recorded--;
    }
    // What they were to read is needed no longer.
    for (staging *block = queue->blocks; block; block = block->next)
        block->last = block->last < queue->submitted ? block->last : queue->submitted;
    skim_mutex_unlock(&queue->mutex);
}

skim_status skim_cpu_queue_mark_time(skim_backend_queue *base, uint32_t index,
                                     uint64_t *nanoseconds)
{
    skim_cpu_queue *queue = base->impl;
    assert(index < MARKS);
    skim_mutex_lock(&queue->mutex);
    const mark found = queue->marks[index];
    skim_mutex_unlock(&queue->mutex);
    if (found.recorded == 0 || found.reached < found.recorded)
        return skim_fail(&base->error, SKIM_STATE, "mark %u has not been reached", index);
    *nanoseconds = found.time;
    return SKIM_OK;
}

// ---- recording

static bool grow_commands(skim_cpu_queue *queue)
{
    uint64_t capacity = 2 * queue->capacity;
    command *commands = skim_allocate(queue->host, (size_t)capacity * sizeof *commands);
    if (!commands)
        return false;
    for (uint64_t i = queue->executed; i < queue->recorded; i++)
        commands[i % capacity] = queue->commands[i % queue->capacity];
    skim_release(queue->host, queue->commands, (size_t)queue->capacity * sizeof *commands);
    queue->commands = commands;
    queue->capacity = capacity;
    return true;
}

static skim_status record(skim_backend_queue *base, const command *recorded)
{
    skim_cpu_queue *queue = base->impl;
    skim_mutex_lock(&queue->mutex);
    bool room = queue->recorded - queue->executed < queue->capacity || grow_commands(queue);
    if (room) {
        queue->commands[queue->recorded % queue->capacity] = *recorded;
        queue->recorded++;
        if (recorded->kind == COMMAND_MARK)
            queue->marks[recorded->as.mark].recorded++;
    }
    skim_mutex_unlock(&queue->mutex);
    if (!room)
        return skim_fail(&base->error, SKIM_NO_MEMORY,
                         "out of memory for more commands on a queue");
    return SKIM_OK;
}

skim_status skim_cpu_record_append(skim_backend_queue *queue, const skim_append_args *args)
{
    command recorded = {.kind = COMMAND_APPEND, .shape = *args->shape, .as.append = *args};
    return record(queue, &recorded);
}

skim_status skim_cpu_record_estimate(skim_backend_queue *queue, const skim_estimate_args *args)
{
    command recorded = {.kind = COMMAND_ESTIMATE, .shape = *args->shape, .as.estimate = *args};
    return record(queue, &recorded);
}

skim_status skim_cpu_record_select(skim_backend_queue *queue, const skim_select_args *args)
{
    command recorded = {.kind = COMMAND_SELECT, .shape = *args->shape, .as.select = *args};
    return record(queue, &recorded);
}

skim_status skim_cpu_record_attend(skim_backend_queue *queue, const skim_attend_args *args)
{
    command recorded = {.kind = COMMAND_ATTEND, .shape = *args->shape, .as.attend = *args};
    return record(queue, &recorded);
}

skim_status skim_cpu_record_mark(skim_backend_queue *queue, uint32_t index)
{
    assert(index < MARKS);
    command recorded = {.kind = COMMAND_MARK, .as.mark = index};
    return record(queue, &recorded);
}

skim_status skim_cpu_record_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                 uint64_t size)
{
    command recorded = {.kind = COMMAND_ZERO};
    recorded.as.copy.to = (char *)buffer->host + offset;
    recorded.as.copy.size = size;
    return record(queue, &recorded);
}

skim_status skim_cpu_record_copy(skim_backend_queue *queue, skim_buffer *source,
                                 uint64_t source_offset, skim_buffer *destination,
                                 uint64_t destination_offset, uint64_t size)
{
    command recorded = {.kind = COMMAND_COPY};
    recorded.as.copy.to = (char *)destination->host + destination_offset;
    recorded.as.copy.from = (const char *)source->host + source_offset;
    recorded.as.copy.size = size;
    return record(queue, &recorded);
}

skim_status skim_cpu_record_download(skim_backend_queue *queue, skim_buffer *buffer,
                                     uint64_t offset, void *data, uint64_t size)
{
    command recorded = {.kind = COMMAND_COPY};
    recorded.as.copy.to = data;
    recorded.as.copy.from = (const char *)buffer->host + offset;
    recorded.as.copy.size = size;
    return record(queue, &recorded);
}

// ---- uploads

static staging *add_block(skim_cpu_queue *queue, uint64_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    staging *block = skim_allocate(queue->host, sizeof *block);
    char *bytes = block ? skim_allocate(queue->host, (size_t)size) : NULL;
    if (!bytes) {
        skim_release(queue->host, block, sizeof *block);
        return NULL;
    }
    *block = (staging){.next = queue->blocks, .size = size, .bytes = bytes};
    queue->blocks = block;
    return block;
}

static void release_block(skim_cpu_queue *queue, staging *block)
{
    skim_release(queue->host, block->bytes, (size_t)block->size);
    skim_release(queue->host, block, sizeof *block);
}

// A block with size bytes free. Blocks whose commands are done are empty again; when one must be
// added, they have proved too small and go.
static staging *find_block(skim_cpu_queue *queue, uint64_t size, uint64_t executed)
{
    uint64_t largest = FIRST_STAGING;
    for (staging *block = queue->blocks; block; block = block->next) {
        if (block->last <= executed)
            block->used = 0;
        if (block->size - block->used >= size)
            return block;
        largest = block->size > largest ? block->size : largest;
    }
    staging *added = add_block(queue, size > 2 * largest ? size : 2 * largest);
    if (!added && !(added = add_block(queue, size)))
        return NULL;
    for (staging **link = &added->next; *link;) {
        staging *block = *link;
        if (block->used > 0) {
            link = &block->next;
            continue;
        }
        *link = block->next;
        release_block(queue, block);
    }
    return added;
}

skim_status skim_cpu_record_upload(skim_backend_queue *base, skim_buffer *buffer, uint64_t offset,
                                   const void *data, uint64_t size)
{
    skim_cpu_queue *queue = base->impl;
    char *to = (char *)buffer->host + offset;
    skim_mutex_lock(&queue->mutex);
    uint64_t recorded = queue->recorded;
    uint64_t executed = queue->executed;
    skim_mutex_unlock(&queue->mutex);
    // With nothing before it, it can be done at once.
    if (recorded == executed) {
        memcpy(to, data, (size_t)size);
        return SKIM_OK;
    }
    staging *block = find_block(queue, size, executed);
    if (!block)
        return skim_fail(&base->error, SKIM_NO_MEMORY,
                         "out of memory: %" PRIu64 " bytes wanted to keep an upload", size);
    char *kept = block->bytes + block->used;
    command copy = {.kind = COMMAND_COPY};
    copy.as.copy.to = to;
    copy.as.copy.from = kept;
    copy.as.copy.size = size;
    skim_status status = record(base, &copy);
    if (status != SKIM_OK)
        return status;
    // Not submitted yet, so nobody reads before the bytes are there.
    memcpy(kept, data, (size_t)size);
    block->used += skim_round_up(size, 64) < block->size - block->used ? skim_round_up(size, 64)
                                                                       : block->size - block->used;
    block->last = recorded + 1;
    return SKIM_OK;
}

// ---- life

skim_status skim_cpu_queue_prepare(skim_backend_queue *base, const skim_shape *shape)
{
    skim_cpu_queue *queue = base->impl;
    if (!skim_cpu_scratch_grow(&queue->scratch, queue->device, shape))
        return skim_fail(&base->error, SKIM_NO_MEMORY,
                         "out of memory: %" PRIu64 " bytes wanted for a queue's scratch",
                         skim_cpu_scratch_size(queue->device, shape));
    return SKIM_OK;
}

static void release_queue(skim_cpu_queue *queue)
{
    while (queue->blocks) {
        staging *block = queue->blocks;
        queue->blocks = block->next;
        release_block(queue, block);
    }
    if (queue->commands)
        skim_release(queue->host, queue->commands, (size_t)queue->capacity * sizeof(command));
    skim_cpu_scratch_deinit(&queue->scratch, queue->device);
    skim_condition_deinit(&queue->done);
    skim_condition_deinit(&queue->work);
    skim_mutex_deinit(&queue->mutex);
    skim_release(queue->host, queue, sizeof *queue);
}

static bool add_first_memory(skim_cpu_queue *queue)
{
    queue->capacity = FIRST_COMMANDS;
    queue->commands = skim_allocate(queue->host, FIRST_COMMANDS * sizeof(command));
    for (int i = 0; i < STAGING_BLOCKS; i++)
        if (!add_block(queue, FIRST_STAGING))
            return false;
    return queue->commands;
}

skim_status skim_cpu_queue_create(skim_backend_queue *base)
{
    skim_device *device = base->device;
    skim_cpu_device *cpu = device->impl;
    skim_cpu_queue *queue = skim_allocate(device->host, sizeof *queue);
    if (!queue)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "out of memory for a queue");
    queue->device = device;
    queue->host = device->host;
    queue->context = (skim_cpu_context){
        .kernels = cpu->kernels,
        .team = &cpu->team,
        .scratch = &queue->scratch,
    };
    skim_mutex_init(&queue->mutex);
    skim_condition_init(&queue->work);
    skim_condition_init(&queue->done);
    if (!add_first_memory(queue)) {
        release_queue(queue);
        return skim_fail(&base->error, SKIM_NO_MEMORY, "out of memory for a queue's commands");
    }
    if (!skim_thread_create(&queue->thread, queue_main, queue)) {
        release_queue(queue);
        return skim_fail(&base->error, SKIM_FAILED, "a queue's thread could not be started");
    }
    base->impl = queue;
    return SKIM_OK;
}

void skim_cpu_queue_destroy(skim_backend_queue *base)
{
    skim_cpu_queue *queue = base->impl;
    if (!queue)
        return;
    skim_mutex_lock(&queue->mutex);
    wait_forever(queue, queue->started);
    queue->stopping = true;
    skim_condition_broadcast(&queue->work);
    skim_mutex_unlock(&queue->mutex);
    skim_thread_join(queue->thread);
    release_queue(queue);
    base->impl = NULL;
}
