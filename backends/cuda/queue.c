#include "backends/cuda/queue.h"

#include <assert.h>
#include <string.h>
#include <time.h>

// Times of marks begin here, so that none is below zero.
static const double ORIGIN = 1e15;

static skim_status failed(skim_cuda_queue *queue, CUresult result, const char *call)
{
    return skim_cuda_fail(queue->device, &queue->base->error, result, call);
}

// ---- captures

skim_status skim_cuda_check_capture(skim_cuda_queue *queue, skim_status status, const char *what)
{
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    if (!queue->foreign)
        return SKIM_OK;
    CUresult result = queue->device->cuda.StreamIsCapturing(queue->stream, &capture);
    if (result != CUDA_SUCCESS)
        return failed(queue, result, "cuStreamIsCapturing");
    if (capture == CU_STREAM_CAPTURE_STATUS_NONE)
        return SKIM_OK;
    return skim_fail(&queue->base->error, status,
                     "the stream is being captured, which %s cannot be part of", what);
}

// ---- points

void skim_cuda_note_completed(skim_cuda_queue *queue)
{
    uint64_t completed = queue->completed;
    for (uint32_t i = 0; i < queue->point_count; i++) {
        const skim_cuda_point *point = &queue->points[i];
        if (point->point <= completed)
            continue;
        CUresult result = queue->device->cuda.EventQuery(point->event);
        if (result == CUDA_SUCCESS)
            completed = point->point; // the stream runs in order
        else if (skim_cuda_is_lost(result))
            atomic_store(&queue->device->base->lost, true);
    }
    if (completed == queue->completed)
        return;
    queue->completed = completed;
    skim_gpu_land(&queue->staging);
}

// An event that no point needs; a new one if there is none, as in the first few submissions.
static skim_status take_point(skim_cuda_queue *queue, skim_cuda_point **point)
{
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < queue->point_count; i++) {
            if (queue->points[i].point <= queue->completed) {
                *point = &queue->points[i];
                return SKIM_OK;
            }
        }
        if (pass == 0)
            skim_cuda_note_completed(queue);
    }
    skim_cuda_point *grown =
        skim_gpu_grow(queue->device->base->host, queue->points, queue->point_count,
                      &queue->point_capacity, sizeof *queue->points);
    if (!grown)
        return skim_fail(&queue->base->error, SKIM_NO_MEMORY, "no host memory for a point");
    queue->points = grown;
    CUevent event = NULL;
    CUresult result = queue->device->cuda.EventCreate(&event, CU_EVENT_DISABLE_TIMING);
    if (result != CUDA_SUCCESS)
        return failed(queue, result, "cuEventCreate");
    *point = &queue->points[queue->point_count++];
    **point = (skim_cuda_point){.event = event};
    return SKIM_OK;
}

skim_status skim_cuda_queue_submit(skim_backend_queue *base, bool will_wait, uint64_t *point)
{
    (void)will_wait;
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    skim_cuda_point *taken = NULL;
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    status = skim_cuda_check_capture(queue, SKIM_STATE, "a submission");
    if (status == SKIM_OK)
        status = take_point(queue, &taken);
    if (status == SKIM_OK) {
        CUresult result = queue->device->cuda.EventRecord(taken->event, queue->stream);
        if (result == CUDA_SUCCESS)
            taken->point = ++queue->submitted;
        else
            status = failed(queue, result, "cuEventRecord");
    }
    skim_cuda_leave(queue->device);
    if (status == SKIM_OK && point)
        *point = queue->submitted;
    return status;
}

// The event of the first point that is not before this one.
static CUevent find_event(const skim_cuda_queue *queue, uint64_t point)
{
    const skim_cuda_point *best = NULL;
    for (uint32_t i = 0; i < queue->point_count; i++)
        if (queue->points[i].point >= point && (!best || queue->points[i].point < best->point))
            best = &queue->points[i];
    assert(best);
    return best->event;
}

// The driver waits forever or not at all: in between it is asked, more rarely the longer it takes.
static CUresult poll(const skim_cuda_queue *queue, CUevent event, uint64_t timeout_ns)
{
    const uint64_t begin = skim_now_ns();
    long pause = 0;
    for (;;) {
        CUresult result = queue->device->cuda.EventQuery(event);
        const uint64_t spent = skim_now_ns() - begin;
        if (result != CUDA_ERROR_NOT_READY || spent >= timeout_ns)
            return result;
        if (spent < 50000)
            continue;
        pause = pause < 200000 ? pause + 10000 : pause;
        const uint64_t left = timeout_ns - spent;
        const struct timespec time = {.tv_nsec = left < (uint64_t)pause ? (long)left : pause};
        nanosleep(&time, NULL);
    }
}

skim_status skim_cuda_queue_wait(skim_backend_queue *base, uint64_t point, uint64_t timeout_ns)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    assert(point <= queue->submitted);
    if (point > queue->completed) {
        CUevent event = find_event(queue, point);
        skim_status status = skim_cuda_enter(queue->device, &base->error);
        if (status != SKIM_OK)
            return status;
        CUresult result = timeout_ns == SKIM_WAIT_FOREVER
                              ? queue->device->cuda.EventSynchronize(event)
                              : poll(queue, event, timeout_ns);
        skim_cuda_leave(queue->device);
        if (result == CUDA_ERROR_NOT_READY)
            return SKIM_TIMEOUT;
        if (result != CUDA_SUCCESS) {
            status = failed(queue, result, "cuEventSynchronize");
            return status == SKIM_DEVICE_LOST ? status : SKIM_FAILED;
        }
        queue->completed = point;
    }
    skim_gpu_land(&queue->staging);
    return SKIM_OK;
}

void skim_cuda_queue_discard(skim_backend_queue *base)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    if (skim_cuda_enter(queue->device, NULL) == SKIM_OK) {
        CUresult result = queue->device->cuda.StreamSynchronize(queue->stream);
        if (result == CUDA_SUCCESS)
            queue->completed = queue->submitted;
        else if (!skim_cuda_is_lost(result))
            // Nothing says that what was recorded has ended, and it may write to what is freed
            // next.
            result = CUDA_ERROR_LAUNCH_FAILED;
        if (skim_cuda_is_lost(result))
            atomic_store(&queue->device->base->lost, true);
        skim_cuda_leave(queue->device);
    }
    skim_gpu_unstage(&queue->staging);
    skim_gpu_forget_landings(&queue->staging);
    skim_gpu_land(&queue->staging);
    for (int i = 0; i < SKIM_GPU_MARKS; i++)
        if (queue->marks[i].point > queue->submitted)
            queue->marks[i].point = 0;
}

// ---- marks

skim_status skim_cuda_record_mark(skim_backend_queue *base, uint32_t index)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    skim_cuda_mark *mark = &queue->marks[index];
    status = skim_cuda_check_capture(queue, SKIM_UNSUPPORTED, "a mark");
    if (status == SKIM_OK) {
        CUresult result = queue->device->cuda.EventRecord(mark->event, queue->stream);
        if (result != CUDA_SUCCESS)
            status = failed(queue, result, "cuEventRecord");
    }
    skim_cuda_leave(queue->device);
    if (status != SKIM_OK)
        return status;
    mark->point = queue->submitted + 1;
    mark->order = ++queue->mark_order;
    mark->known = false;
    return SKIM_OK;
}

// Milliseconds are told as a float: only from one mark to the next that is exact. So times are
// added up from mark to mark, and the last one known is the next one's anchor.
static CUresult measure(skim_cuda_queue *queue, skim_cuda_mark *mark)
{
    float milliseconds = 0;
    mark->nanoseconds = queue->anchor_time;
    if (queue->anchor_order > 0) {
        const bool after = mark->order > queue->anchor_order;
        CUresult result =
            after ? queue->device->cuda.EventElapsedTime(&milliseconds, queue->anchor, mark->event)
                  : queue->device->cuda.EventElapsedTime(&milliseconds, mark->event, queue->anchor);
        if (result != CUDA_SUCCESS)
            return result;
        mark->nanoseconds += (after ? 1e6 : -1e6) * (double)milliseconds;
    }
    mark->known = true;
    if (mark->order < queue->anchor_order)
        return CUDA_SUCCESS;
    CUevent old = queue->anchor;
    queue->anchor = mark->event;
    queue->anchor_time = mark->nanoseconds;
    queue->anchor_order = mark->order;
    mark->event = old;
    return CUDA_SUCCESS;
}

skim_status skim_cuda_queue_mark_time(skim_backend_queue *base, uint32_t index,
                                      uint64_t *nanoseconds)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    skim_cuda_mark *mark = &queue->marks[index];
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status != SKIM_OK)
        return status;
    if (mark->point > queue->completed)
        skim_cuda_note_completed(queue);
    CUresult result = CUDA_SUCCESS;
    const bool reached = mark->point > 0 && mark->point <= queue->completed;
    if (reached && !mark->known)
        result = measure(queue, mark);
    skim_cuda_leave(queue->device);
    if (!reached)
        return skim_fail(&base->error, SKIM_STATE, "mark %u has not been reached", index);
    if (result != CUDA_SUCCESS)
        return failed(queue, result, "cuEventElapsedTime");
    *nanoseconds = (uint64_t)mark->nanoseconds;
    return SKIM_OK;
}

// ---- launches

void skim_cuda_locate_operands(const skim_gpu_operand *operands, uint32_t count, void *argument)
{
    uint64_t addresses[SKIM_GPU_OPERANDS_MAX];
    for (uint32_t i = 0; i < count; i++)
        addresses[i] = skim_cuda_address(operands[i].buffer, operands[i].offset);
    memcpy(argument, addresses, count * sizeof *addresses);
}

skim_status skim_cuda_record_launch(skim_cuda_queue *queue, const skim_cuda_launch *launch)
{
    skim_cuda_device *device = queue->device;
    CUfunction function;
    skim_status status = skim_cuda_enter(device, &queue->base->error);
    if (status != SKIM_OK)
        return status;
    status = skim_cuda_kernel_get(device, &launch->kernel, &queue->base->error, &function);
    if (status == SKIM_OK) {
        void *parameters[] = {launch->argument};
        CUresult result = device->cuda.LaunchKernel(
            function, launch->groups[0], launch->groups[1], launch->groups[2], launch->threads, 1,
            1, launch->shared, queue->stream, parameters, NULL);
        if (result != CUDA_SUCCESS)
            status = failed(queue, result, "cuLaunchKernel");
    }
    skim_cuda_leave(device);
    if (status != SKIM_OK)
        return status;
    queue->base->counts.dispatches++;
    queue->base->counts.workgroups +=
        (uint64_t)launch->groups[0] * launch->groups[1] * launch->groups[2];
    return SKIM_OK;
}

// ---- life

static skim_status create_objects(skim_cuda_queue *queue)
{
    const skim_cuda_functions *cuda = &queue->device->cuda;
    CUresult result = CUDA_SUCCESS;
    queue->foreign = queue->base->stream != NULL;
    if (queue->foreign)
        queue->stream = queue->base->stream;
    else
        result = cuda->StreamCreate(&queue->stream, CU_STREAM_NON_BLOCKING);
    if (result != CUDA_SUCCESS) {
        queue->stream = NULL; // a call that failed may have written anything
        return failed(queue, result, "cuStreamCreate");
    }
    for (int i = 0; i <= SKIM_GPU_MARKS; i++) {
        CUevent *event = i < SKIM_GPU_MARKS ? &queue->marks[i].event : &queue->anchor;
        result = cuda->EventCreate(event, CU_EVENT_DEFAULT);
        if (result != CUDA_SUCCESS) {
            *event = NULL;
            return failed(queue, result, "cuEventCreate");
        }
    }
    return skim_gpu_staging_init(&queue->staging, &skim_cuda_staging, queue->base, queue,
                                 &queue->submitted, &queue->completed);
}

// Within the context, or, with a context that is of no use, what can be released without.
static void release_objects(skim_cuda_queue *queue)
{
    const skim_cuda_functions *cuda = &queue->device->cuda;
    skim_gpu_staging_deinit(&queue->staging);
    skim_cuda_memory_destroy(queue->device, &queue->scratch);
    skim_cuda_memory_destroy(queue->device, &queue->counters);
    for (uint32_t i = 0; i < queue->point_count; i++)
        cuda->EventDestroy(queue->points[i].event);
    for (int i = 0; i <= SKIM_GPU_MARKS; i++) {
        CUevent event = i < SKIM_GPU_MARKS ? queue->marks[i].event : queue->anchor;
        if (event)
            cuda->EventDestroy(event);
    }
    if (queue->stream && !queue->foreign)
        cuda->StreamDestroy(queue->stream);
}

static void release_queue(skim_cuda_queue *queue)
{
    const skim_host *host = queue->device->base->host;
    skim_release(host, queue->points, queue->point_capacity * sizeof *queue->points);
    skim_release(host, queue, sizeof *queue);
}

skim_status skim_cuda_queue_open(skim_backend_queue *base)
{
    skim_device *device = base->device;
    skim_cuda_queue *queue = skim_allocate(device->host, sizeof *queue);
    if (!queue)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a queue");
    queue->base = base;
    queue->device = skim_cuda_device_of(device);
    queue->anchor_time = ORIGIN;
    skim_status status = skim_cuda_enter(queue->device, &base->error);
    if (status == SKIM_OK) {
        status = create_objects(queue);
        if (status != SKIM_OK)
            release_objects(queue);
        skim_cuda_leave(queue->device);
    }
    if (status != SKIM_OK) {
        release_queue(queue);
        return status;
    }
    base->impl = queue;
    return SKIM_OK;
}

void skim_cuda_queue_close(skim_backend_queue *base)
{
    skim_cuda_queue *queue = skim_cuda_queue_of(base);
    if (!queue)
        return;
    if (!atomic_load(&queue->device->base->lost))
        skim_cuda_queue_discard(base);
    const bool entered = skim_cuda_enter(queue->device, NULL) == SKIM_OK;
    if (entered) // a context that counts as lost may still run what uses the staging
        queue->device->cuda.StreamSynchronize(queue->stream);
    release_objects(queue);
    if (entered)
        skim_cuda_leave(queue->device);
    release_queue(queue);
    base->impl = NULL;
}
