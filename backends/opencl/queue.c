#include "backends/opencl/queue.h"

#include <assert.h>
#include <time.h>

static skim_status failed(skim_opencl_queue *queue, cl_int result, const char *call)
{
    return skim_opencl_fail(queue->device->base, &queue->base->error, result, call);
}

// The point that the next submission will have.
static uint64_t next_point(const skim_opencl_queue *queue)
{
    return queue->submitted + 1;
}

// ---- how far the device is

static cl_int status_of(const skim_opencl_queue *queue, cl_event event)
{
    cl_int status = 1;
    cl_int result = queue->device->cl.GetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                                                   sizeof status, &status, NULL);
    return result == CL_SUCCESS ? status : result;
}

static void release_event(skim_opencl_queue *queue, cl_event *event)
{
    if (*event)
        queue->device->cl.ReleaseEvent(*event);
    *event = NULL;
}

// The queue is in order: who is done is first. A command that failed ends with a negative status.
static void drop_completed(skim_opencl_queue *queue)
{
    uint32_t done = 0;
    while (done < queue->point_count) {
        skim_opencl_point *point = &queue->points[done];
        const cl_int status = status_of(queue, point->event);
        if (status > CL_COMPLETE)
            break;
        if (status == CL_DEVICE_NOT_AVAILABLE || status == CL_INVALID_COMMAND_QUEUE)
            atomic_store(&queue->device->base->lost, true);
        if (status < CL_COMPLETE && queue->failed == 0)
            queue->failed = point->point;
        queue->completed = point->point;
        release_event(queue, &point->event);
        done++;
    }
    queue->point_count -= done;
    for (uint32_t i = 0; i < queue->point_count; i++)
        queue->points[i] = queue->points[done + i];
}

void skim_opencl_note_completed(skim_opencl_queue *queue)
{
    const uint64_t before = queue->completed;
    drop_completed(queue);
    if (queue->completed > before)
        skim_gpu_land(&queue->staging);
}

// ---- the order of commands

skim_opencl_order skim_opencl_order_of(skim_opencl_queue *queue)
{
    if (!queue->device->unordered)
        return (skim_opencl_order){0, NULL, NULL};
    queue->next = NULL;
    return (skim_opencl_order){queue->last ? 1 : 0, queue->last ? &queue->last : NULL,
                               &queue->next};
}

void skim_opencl_enqueued(skim_opencl_queue *queue)
{
    queue->recorded = true;
    if (!queue->device->unordered)
        return;
    release_event(queue, &queue->last);
    queue->last = queue->next;
    queue->next = NULL;
}

skim_status skim_opencl_record_marker(skim_opencl_queue *queue, cl_event *event)
{
    const cl_uint count = queue->last ? 1 : 0;
    *event = NULL;
    cl_int result = queue->device->cl.EnqueueMarkerWithWaitList(queue->handle, count,
                                                                count ? &queue->last : NULL, event);
    if (result == CL_SUCCESS)
        return SKIM_OK;
    *event = NULL; // a call that failed may have written anything
    return failed(queue, result, "clEnqueueMarkerWithWaitList");
}

// ---- submitting

skim_status skim_opencl_queue_submit(skim_backend_queue *base, bool will_wait, uint64_t *point)
{
    (void)will_wait;
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    if (!queue->recorded) {
        if (point)
            *point = queue->submitted;
        return SKIM_OK;
    }
    if (queue->point_count == queue->point_capacity)
        skim_opencl_note_completed(queue);
    skim_opencl_point *points =
        skim_gpu_grow(queue->device->base->host, queue->points, queue->point_count,
                      &queue->point_capacity, sizeof *points);
    if (!points)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a queue's points");
    queue->points = points;
    cl_event event;
    skim_status status = skim_opencl_record_marker(queue, &event);
    if (status != SKIM_OK)
        return status;
    cl_int result = queue->device->cl.Flush(queue->handle);
    if (result != CL_SUCCESS) {
        queue->device->cl.ReleaseEvent(event);
        return failed(queue, result, "clFlush");
    }
    queue->submitted++;
    points[queue->point_count++] = (skim_opencl_point){.point = queue->submitted, .event = event};
    queue->recorded = false;
    base->counts.submissions++;
    for (int i = 0; i < SKIM_GPU_MARKS; i++)
        if (queue->marks[i].now.point == queue->submitted)
            release_event(queue, &queue->marks[i].previous.event);
    if (point)
        *point = queue->submitted;
    return SKIM_OK;
}

// ---- waiting

static void pause_briefly(uint64_t nanoseconds)
{
    const struct timespec time = {.tv_sec = 0, .tv_nsec = (long)nanoseconds};
    nanosleep(&time, NULL);
}

// OpenCL's wait has no timeout: asks again and again, ever less often.
static bool poll(skim_opencl_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    const uint64_t start = skim_now_ns();
    uint64_t pause = 10000;
    for (;;) {
        skim_opencl_note_completed(queue);
        const uint64_t past = skim_now_ns() - start;
        if (point <= queue->completed || past >= timeout_ns)
            return point <= queue->completed;
        const uint64_t left = timeout_ns - past;
        pause_briefly(pause < left ? pause : left);
        pause = pause < 500000 ? pause * 2 : pause;
    }
}

static cl_int wait_forever(skim_opencl_queue *queue, uint64_t point)
{
    for (uint32_t i = 0; i < queue->point_count; i++)
        if (queue->points[i].point == point)
            return queue->device->cl.WaitForEvents(1, &queue->points[i].event);
    return CL_SUCCESS;
}

skim_status skim_opencl_queue_wait(skim_backend_queue *base, uint64_t point, uint64_t timeout_ns)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    assert(point <= queue->submitted);
    if (point > queue->completed) {
        // A wait that fails tells of the work, or of itself: the events say which.
        if (timeout_ns == SKIM_WAIT_FOREVER)
            wait_forever(queue, point);
        if (!poll(queue, point, timeout_ns))
            return SKIM_TIMEOUT;
    }
    skim_gpu_land(&queue->staging);
    if (atomic_load(&queue->device->base->lost))
        return skim_fail(&base->error, SKIM_DEVICE_LOST, "the device is lost");
    if (queue->failed == 0 || point < queue->failed)
        return SKIM_OK;
    queue->failed = 0;
    return skim_fail(&base->error, SKIM_FAILED,
                     "the driver could not finish submitted work: its results are lost");
}

void skim_opencl_queue_discard(skim_backend_queue *base)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    // What was recorded may run already.
    if (queue->recorded && !atomic_load(&queue->device->base->lost))
        queue->device->cl.Finish(queue->handle);
    queue->recorded = false;
    for (int i = 0; i < SKIM_GPU_MARKS; i++) {
        skim_opencl_mark *mark = &queue->marks[i];
        if (mark->now.point <= queue->submitted)
            continue;
        release_event(queue, &mark->now.event);
        mark->now = mark->previous;
        mark->previous = (skim_opencl_point){0};
    }
    skim_gpu_unstage(&queue->staging);
    skim_gpu_forget_landings(&queue->staging);
}

// ---- marks

skim_status skim_opencl_record_mark(skim_backend_queue *base, uint32_t index)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    cl_event event;
    skim_status status = skim_opencl_record_marker(queue, &event);
    if (status != SKIM_OK)
        return status;
    skim_opencl_mark *mark = &queue->marks[index];
    if (mark->now.point <= queue->submitted)
        mark->previous = mark->now;
    else
        release_event(queue, &mark->now.event);
    mark->now = (skim_opencl_point){.point = next_point(queue), .event = event};
    queue->recorded = true;
    return SKIM_OK;
}

skim_status skim_opencl_queue_mark_time(skim_backend_queue *base, uint32_t index,
                                        uint64_t *nanoseconds)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    const skim_opencl_point *mark = &queue->marks[index].now;
    if (mark->point > queue->completed)
        skim_opencl_note_completed(queue);
    if (mark->point == 0 || mark->point > queue->completed)
        return skim_fail(&base->error, SKIM_STATE, "mark %u has not been reached", index);
    cl_ulong time = 0;
    cl_int result = queue->device->cl.GetEventProfilingInfo(mark->event, CL_PROFILING_COMMAND_END,
                                                            sizeof time, &time, NULL);
    if (result != CL_SUCCESS)
        return failed(queue, result, "clGetEventProfilingInfo");
    *nanoseconds = time;
    return SKIM_OK;
}

// ---- life

static void release_queue(skim_opencl_queue *queue)
{
    skim_opencl_device *device = queue->device;
    const skim_host *host = device->base->host;
    skim_gpu_staging_deinit(&queue->staging);
    for (uint32_t i = 0; i < queue->point_count; i++)
        release_event(queue, &queue->points[i].event);
    release_event(queue, &queue->last);
    for (int i = 0; i < SKIM_GPU_MARKS; i++) {
        release_event(queue, &queue->marks[i].now.event);
        release_event(queue, &queue->marks[i].previous.event);
    }
    for (uint32_t i = 0; i < queue->function_count; i++)
        device->cl.ReleaseKernel(queue->functions[i].handle);
    skim_opencl_piece_destroy(device, queue->scratch, queue->scratch_size);
    if (queue->handle)
        device->cl.ReleaseCommandQueue(queue->handle);
    skim_release(host, queue->points, queue->point_capacity * sizeof *queue->points);
    skim_release(host, queue->functions, queue->function_capacity * sizeof *queue->functions);
    skim_release(host, queue, sizeof *queue);
}

skim_status skim_opencl_queue_create(skim_backend_queue *base)
{
    skim_device *device = base->device;
    skim_opencl_queue *queue = skim_allocate(device->host, sizeof *queue);
    if (!queue)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a queue");
    queue->base = base;
    queue->device = skim_opencl_device_of(device);
    cl_int result = CL_SUCCESS;
    cl_command_queue handle = queue->device->shared;
    if (handle)
        result = queue->device->cl.RetainCommandQueue(handle);
    else
        handle = queue->device->cl.CreateCommandQueue(queue->device->context, queue->device->handle,
                                                      CL_QUEUE_PROFILING_ENABLE, &result);
    skim_status status = SKIM_OK;
    if (result == CL_SUCCESS) {
        queue->handle = handle;
        status = skim_gpu_staging_init(&queue->staging, &skim_opencl_staging, base, queue,
                                       &queue->submitted, &queue->completed);
    } else {
        status = failed(queue, result, "clCreateCommandQueue");
    }
    if (status != SKIM_OK) {
        release_queue(queue);
        return status;
    }
    base->impl = queue;
    return SKIM_OK;
}

void skim_opencl_queue_destroy(skim_backend_queue *base)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    if (!queue)
        return;
    if (!atomic_load(&queue->device->base->lost)) {
        skim_opencl_queue_discard(base);
        skim_opencl_queue_wait(base, queue->submitted, SKIM_WAIT_FOREVER);
    }
    release_queue(queue);
    base->impl = NULL;
}
