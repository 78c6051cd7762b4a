#include "backends/vulkan/queue.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static skim_status no_memory(skim_vulkan_queue *queue)
{
    return skim_fail(&queue->base->error, SKIM_NO_MEMORY,
                     "out of host memory for a queue's commands");
}

static skim_status failed(skim_vulkan_queue *queue, VkResult result, const char *call)
{
    return skim_vulkan_fail(queue->device->base, &queue->base->error, result, call);
}

// ---- command buffers

skim_status skim_vulkan_commands_create(skim_vulkan_device *device, skim_error *error,
                                        VkCommandPool *pool, VkCommandBuffer *commands)
{
    const VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = device->family,
    };
    VkResult result = device->vk.CreateCommandPool(device->handle, &info, NULL, pool);
    if (result != VK_SUCCESS) {
        *pool = VK_NULL_HANDLE;
        return skim_vulkan_fail(device->base, error, result, "vkCreateCommandPool");
    }
    const VkCommandBufferAllocateInfo allocation = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = *pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    result = device->vk.AllocateCommandBuffers(device->handle, &allocation, commands);
    if (result == VK_SUCCESS)
        return SKIM_OK;
    device->vk.DestroyCommandPool(device->handle, *pool, NULL);
    *pool = VK_NULL_HANDLE;
    return skim_vulkan_fail(device->base, error, result, "vkAllocateCommandBuffers");
}

// The point that the next submission will have.
static uint64_t next_point(const skim_vulkan_queue *queue)
{
    return queue->submitted + 1;
}

void skim_vulkan_note_completed(skim_vulkan_queue *queue)
{
    uint64_t value = 0;
    const skim_vulkan_functions *vk = &queue->device->vk;
    VkResult result = vk->GetSemaphoreCounterValue(queue->device->handle, queue->timeline, &value);
    if (result == VK_ERROR_DEVICE_LOST)
        atomic_store(&queue->device->base->lost, true);
    if (result == VK_SUCCESS && value > queue->completed && value <= queue->submitted) {
        queue->completed = value;
        skim_gpu_land(&queue->staging);
    }
}

// A command buffer that is not in use; a new one if there is none, as in the first few submissions.
static skim_status take_commands(skim_vulkan_queue *queue, VkCommandBuffer *commands)
{
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < queue->command_count; i++) {
            if (queue->commands[i].point <= queue->completed) {
                queue->commands[i].point = next_point(queue);
                *commands = queue->commands[i].handle;
                return SKIM_OK;
            }
        }
        if (pass == 0)
            skim_vulkan_note_completed(queue);
    }
    skim_vulkan_commands *grown =
        skim_gpu_grow(queue->device->base->host, queue->commands, queue->command_count,
                      &queue->command_capacity, sizeof *queue->commands);
    if (!grown)
        return no_memory(queue);
    queue->commands = grown;
    const VkCommandBufferAllocateInfo allocation = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = queue->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkResult result =
        queue->device->vk.AllocateCommandBuffers(queue->device->handle, &allocation, commands);
    if (result != VK_SUCCESS)
        return failed(queue, result, "vkAllocateCommandBuffers");
    queue->commands[queue->command_count++] =
        (skim_vulkan_commands){.handle = *commands, .point = next_point(queue)};
    return SKIM_OK;
}

static void give_back(skim_vulkan_queue *queue, VkCommandBuffer commands)
{
    for (uint32_t i = 0; i < queue->command_count; i++)
        if (queue->commands[i].handle == commands)
            queue->commands[i].point = 0;
}

skim_status skim_vulkan_begin(skim_vulkan_queue *queue)
{
    if (queue->recording)
        return SKIM_OK;
    // Room to close it, so that closing cannot fail.
    VkCommandBuffer *closed =
        skim_gpu_grow(queue->device->base->host, queue->closed, queue->closed_count,
                      &queue->closed_capacity, sizeof *queue->closed);
    if (!closed)
        return no_memory(queue);
    queue->closed = closed;
    VkCommandBuffer commands;
    skim_status status = take_commands(queue, &commands);
    if (status != SKIM_OK)
        return status;
    const VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    VkResult result = queue->device->vk.BeginCommandBuffer(commands, &begin);
    if (result != VK_SUCCESS) {
        give_back(queue, commands);
        return failed(queue, result, "vkBeginCommandBuffer");
    }
    queue->recording = commands;
    // Submissions of one queue run in order but overlap.
    queue->computed = queue->transferred = true;
    queue->range_count = 0;
    return SKIM_OK;
}

// Downloads are read by the host.
static void record_host_barrier(skim_vulkan_queue *queue)
{
    const VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    queue->device->vk.CmdPipelineBarrier(queue->recording, VK_PIPELINE_STAGE_TRANSFER_BIT,
                                         VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0,
                                         NULL);
}

// A command buffer that cannot be ended is lost. That fails no call, since its commands are those
// of earlier ones: the wait for their point tells it.
static void close_commands(skim_vulkan_queue *queue)
{
    if (!queue->recording)
        return;
    if (queue->staging.landing_count > 0)
        record_host_barrier(queue);
    if (queue->device->vk.EndCommandBuffer(queue->recording) == VK_SUCCESS)
        queue->closed[queue->closed_count++] = queue->recording;
    else
        queue->broken = true;
    queue->recording = VK_NULL_HANDLE;
}

// Work was lost, and no wait has told it yet: what comes after it may read what it was to write.
static bool is_spoilt(const skim_vulkan_queue *queue)
{
    return queue->broken || queue->failed > 0;
}

static void restore_marks(skim_vulkan_queue *queue)
{
    for (int i = 0; i < SKIM_GPU_MARKS; i++)
        queue->marks[i].point = queue->marks[i].previous;
}

// Nothing of what was recorded runs, except what does already: the next point stands for it.
static void give_up(skim_vulkan_queue *queue)
{
    queue->closed_count = 0;
    queue->failed = queue->failed ? queue->failed : next_point(queue);
    skim_gpu_forget_landings(&queue->staging);
    restore_marks(queue);
}

void skim_vulkan_barrier(skim_vulkan_queue *queue)
{
    if (!queue->computed && !queue->transferred)
        return;
    const VkPipelineStageFlags stages =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                         VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    };
    VkPipelineStageFlags before = 0;
    if (queue->computed) {
        before |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
        barrier.srcAccessMask |= VK_ACCESS_SHADER_WRITE_BIT;
    }
    if (queue->transferred) {
        before |= VK_PIPELINE_STAGE_TRANSFER_BIT;
        barrier.srcAccessMask |= VK_ACCESS_TRANSFER_WRITE_BIT;
    }
    queue->device->vk.CmdPipelineBarrier(queue->recording, before, stages, 0, 1, &barrier, 0, NULL,
                                         0, NULL);
    queue->computed = queue->transferred = false;
    queue->range_count = 0;
    queue->base->counts.barriers++;
}

// ---- submitting

VkResult skim_vulkan_submit(skim_vulkan_device *device, const VkSubmitInfo *info)
{
    const skim_vulkan_lock *host = &device->host_lock;
    skim_mutex_lock(&device->queue_mutex);
    if (host->lock)
        host->lock(host->user);
    VkResult result = device->vk.QueueSubmit(device->queue, 1, info, VK_NULL_HANDLE);
    if (host->unlock)
        host->unlock(host->user);
    skim_mutex_unlock(&device->queue_mutex);
    return result;
}

VkResult skim_vulkan_wait_idle(skim_vulkan_device *device)
{
    const skim_vulkan_lock *host = &device->host_lock;
    VkResult result = VK_NOT_READY;
    skim_mutex_lock(&device->queue_mutex);
    if (host->lock)
        host->lock(host->user);
    for (int attempt = 0; attempt < 3 && result != VK_SUCCESS && result != VK_ERROR_DEVICE_LOST;
         attempt++)
        result = device->vk.QueueWaitIdle(device->queue);
    if (host->unlock)
        host->unlock(host->user);
    skim_mutex_unlock(&device->queue_mutex);
    if (result == VK_SUCCESS)
        return result;
    atomic_store(&device->base->lost, true);
    return VK_ERROR_DEVICE_LOST;
}

VkResult skim_vulkan_submit_and_wait(skim_vulkan_device *device, uint32_t count,
                                     const VkCommandBuffer *commands)
{
    const uint64_t value = device->idle_value + 1;
    const VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &value,
    };
    const VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .commandBufferCount = count,
        .pCommandBuffers = commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &device->idle,
    };
    const VkSemaphoreWaitInfo wait = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &device->idle,
        .pValues = &value,
    };
    VkResult result = skim_vulkan_submit(device, &info);
    if (result == VK_SUCCESS) {
        device->idle_value = value;
        result = device->vk.WaitSemaphores(device->handle, &wait, UINT64_MAX);
        if (result < VK_SUCCESS && result != VK_ERROR_DEVICE_LOST)
            result = skim_vulkan_wait_idle(device);
    } else if (count == 0 && result != VK_ERROR_DEVICE_LOST) {
        result = skim_vulkan_wait_idle(device); // what was submitted before runs all the same
    }
    if (result == VK_ERROR_DEVICE_LOST)
        atomic_store(&device->base->lost, true);
    return result;
}

// Submits what is closed, after what the host was to do first; signals the next point, and what the
// host waits for, if it is the last of the submission.
static skim_status submit_closed(skim_vulkan_queue *queue, bool last)
{
    VkPipelineStageFlags stages[SKIM_VULKAN_SEMAPHORES];
    for (uint32_t i = 0; i < queue->waits.count; i++)
        stages[i] = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    skim_vulkan_points *signals = &queue->signals;
    signals->semaphores[signals->count] = queue->timeline;
    signals->values[signals->count] = next_point(queue);
    const uint32_t signal_count = last ? signals->count + 1 : 0;
    const VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = queue->waits.count,
        .pWaitSemaphoreValues = queue->waits.values,
        .signalSemaphoreValueCount = signal_count,
        .pSignalSemaphoreValues = signals->values,
    };
    const VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .waitSemaphoreCount = queue->waits.count,
        .pWaitSemaphores = queue->waits.semaphores,
        .pWaitDstStageMask = stages,
        .commandBufferCount = queue->closed_count,
        .pCommandBuffers = queue->closed,
        .signalSemaphoreCount = signal_count,
        .pSignalSemaphores = signals->semaphores,
    };
    VkResult result = skim_vulkan_submit(queue->device, &info);
    if (result != VK_SUCCESS)
        return failed(queue, result, "vkQueueSubmit");
    queue->closed_count = 0;
    queue->work = 0;
    queue->base->counts.submissions++;
    queue->waits.count = 0;
    if (last)
        signals->count = 0;
    return SKIM_OK;
}

skim_status skim_vulkan_queue_submit(skim_backend_queue *base, bool will_wait, uint64_t *point)
{
    (void)will_wait;
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    if (!queue->recording && queue->closed_count == 0 && !queue->flushed && !queue->broken &&
        queue->waits.count == 0 && queue->signals.count == 0) {
        if (point)
            *point = queue->submitted;
        return SKIM_OK;
    }
    close_commands(queue);
    if (is_spoilt(queue))
        give_up(queue);
    skim_status status = submit_closed(queue, true);
    if (status != SKIM_OK)
        return status;
    queue->submitted++;
    queue->flushed = queue->broken = false;
    for (int i = 0; i < SKIM_GPU_MARKS; i++)
        queue->marks[i].previous = queue->marks[i].point;
    if (point)
        *point = queue->submitted;
    return SKIM_OK;
}

skim_status skim_vulkan_add_work(skim_vulkan_queue *queue, double work)
{
    queue->work += work;
    if (queue->work < queue->device->submission_work)
        return SKIM_OK;
    close_commands(queue);
    if (is_spoilt(queue) || queue->closed_count == 0)
        return SKIM_OK;
    // Looking for a free command buffer or for staging may have told.
    if (atomic_load(&queue->device->base->lost))
        return skim_fail(&queue->base->error, SKIM_DEVICE_LOST, "the device is lost");
    skim_status status = submit_closed(queue, false);
    if (status == SKIM_OK)
        queue->flushed = true;
    return status;
}

// Where the timeline cannot be waited for, which says nothing about the work.
static VkResult wait_otherwise(skim_vulkan_queue *queue, uint64_t point, uint64_t timeout_ns)
{
    skim_vulkan_note_completed(queue);
    if (point <= queue->completed)
        return VK_SUCCESS;
    if (timeout_ns != SKIM_WAIT_FOREVER)
        return VK_TIMEOUT;
    return skim_vulkan_wait_idle(queue->device);
}

skim_status skim_vulkan_queue_wait(skim_backend_queue *base, uint64_t point, uint64_t timeout_ns)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    assert(point <= queue->submitted);
    if (point > queue->completed) {
        const VkSemaphoreWaitInfo info = {
            .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
            .semaphoreCount = 1,
            .pSemaphores = &queue->timeline,
            .pValues = &point,
        };
        VkResult result =
            queue->device->vk.WaitSemaphores(queue->device->handle, &info, timeout_ns);
        if (result < VK_SUCCESS && result != VK_ERROR_DEVICE_LOST)
            result = wait_otherwise(queue, point, timeout_ns);
        if (result == VK_TIMEOUT)
            return SKIM_TIMEOUT;
        if (result != VK_SUCCESS)
            return failed(queue, result, "vkWaitSemaphores");
        queue->completed = point > queue->completed ? point : queue->completed;
    }
    skim_gpu_land(&queue->staging);
    if (queue->failed == 0 || point < queue->failed)
        return SKIM_OK;
    queue->failed = 0;
    return skim_fail(&base->error, SKIM_FAILED,
                     "the driver could not finish a command buffer: what was recorded is lost");
}

void skim_vulkan_queue_discard(skim_backend_queue *base)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    if (queue->flushed) {
        skim_mutex_lock(&queue->device->idle_mutex);
        skim_vulkan_submit_and_wait(queue->device, 0, NULL);
        skim_mutex_unlock(&queue->device->idle_mutex);
        queue->flushed = false;
    }
    queue->waits.count = queue->signals.count = 0;
    for (uint32_t i = 0; i < queue->command_count; i++) {
        skim_vulkan_commands *commands = &queue->commands[i];
        if (commands->point > queue->submitted) {
            queue->device->vk.ResetCommandBuffer(commands->handle, 0);
            commands->point = 0;
        }
    }
    queue->recording = VK_NULL_HANDLE;
    queue->closed_count = 0;
    queue->broken = false;
    queue->work = 0;
    restore_marks(queue);
    skim_gpu_unstage(&queue->staging);
    skim_gpu_forget_landings(&queue->staging);
}

// ---- marks

skim_status skim_vulkan_record_mark(skim_backend_queue *base, uint32_t index)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    skim_status status = skim_vulkan_begin(queue);
    if (status != SKIM_OK)
        return status;
    const skim_vulkan_functions *vk = &queue->device->vk;
    vk->CmdResetQueryPool(queue->recording, queue->queries, index, 1);
    vk->CmdWriteTimestamp(queue->recording, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queue->queries,
                          index);
    queue->marks[index].point = next_point(queue);
    return SKIM_OK;
}

skim_status skim_vulkan_queue_mark_time(skim_backend_queue *base, uint32_t index,
                                        uint64_t *nanoseconds)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    assert(index < SKIM_GPU_MARKS);
    uint64_t point = queue->marks[index].point;
    if (point > queue->completed)
        skim_vulkan_note_completed(queue);
    uint64_t ticks = 0;
    VkResult result = VK_NOT_READY;
    if (point > 0 && point <= queue->completed)
        result = queue->device->vk.GetQueryPoolResults(queue->device->handle, queue->queries, index,
                                                       1, sizeof ticks, &ticks, sizeof ticks,
                                                       VK_QUERY_RESULT_64_BIT);
    if (result == VK_NOT_READY)
        return skim_fail(&base->error, SKIM_STATE, "mark %u has not been reached", index);
    if (result != VK_SUCCESS)
        return failed(queue, result, "vkGetQueryPoolResults");
    // A clock that counts nanoseconds since 1970 has more digits than a double.
    const double period = queue->device->timestamp_period;
    const uint64_t whole = (uint64_t)period;
    ticks &= queue->device->timestamp_mask;
    *nanoseconds = ticks * whole + (uint64_t)((double)ticks * (period - (double)whole));
    return SKIM_OK;
}

// ---- dispatches

skim_status skim_vulkan_record_dispatch(skim_vulkan_queue *queue,
                                        const skim_vulkan_dispatch *dispatch, bool follows)
{
    skim_vulkan_device *device = queue->device;
    VkPipeline pipeline;
    skim_status status = skim_vulkan_pipeline_get(device, dispatch->kernel, dispatch->constants,
                                                  &queue->base->error, &pipeline);
    if (status == SKIM_OK)
        status = skim_vulkan_begin(queue);
    if (status != SKIM_OK)
        return status;
    if (follows)
        skim_vulkan_barrier(queue);
    device->vk.CmdBindPipeline(queue->recording, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    device->vk.CmdPushConstants(queue->recording, device->pipelines.layout,
                                VK_SHADER_STAGE_COMPUTE_BIT, 0, dispatch->push_size,
                                dispatch->push);
    device->vk.CmdDispatchBase(queue->recording, dispatch->first, 0, 0, dispatch->groups[0],
                               dispatch->groups[1], dispatch->groups[2]);
    queue->computed = true;
    queue->base->counts.dispatches++;
    queue->base->counts.workgroups +=
        (uint64_t)dispatch->groups[0] * dispatch->groups[1] * dispatch->groups[2];
    return SKIM_OK;
}

skim_status skim_vulkan_locate(skim_vulkan_queue *queue, const char *name,
                               const skim_buffer *buffer, uint64_t offset, uint64_t bytes,
                               uint64_t *address)
{
    const skim_vulkan_buffer *own = buffer->impl;
    const uint64_t size = queue->device->chunk_size;
    uint64_t chunk = own->count > 1 ? offset / size : 0;
    if (own->count > 1 && bytes > 0 && (offset + bytes - 1) / size != chunk)
        return skim_fail(&queue->base->error, SKIM_UNSUPPORTED,
                         "%s lies across two allocations of a buffer of %" PRIu64
                         " bytes (of at most %" PRIu64 " each); keep it in a buffer of its own",
                         name, buffer->size, size);
    *address = skim_vulkan_address(queue->device, own, offset);
    return SKIM_OK;
}

skim_status skim_vulkan_locate_units(skim_vulkan_queue *queue, const skim_buffer *buffer,
                                     uint64_t offset, bool split, uint64_t *address)
{
    assert(offset % 16 == 0);
    if (!split) {
        *address = skim_vulkan_address(queue->device, buffer->impl, offset);
        return SKIM_OK;
    }
    char *bytes;
    skim_status status = skim_vulkan_stage_words(
        queue, skim_vulkan_table_size(queue->device, buffer), &bytes, address);
    if (status == SKIM_OK)
        skim_vulkan_fill_table(queue->device, buffer, offset, bytes);
    return status;
}

skim_status skim_vulkan_locate_operands(skim_vulkan_queue *queue, const skim_gpu_operand *operands,
                                        uint32_t count, skim_vulkan_constants *constants,
                                        void *push)
{
    uint64_t addresses[SKIM_GPU_OPERANDS_MAX] = {0};
    bool split = false;
    for (uint32_t i = 0; i < count; i++)
        split = split || (operands[i].units && skim_vulkan_is_split(operands[i].buffer));
    if (split)
        constants->value[SKIM_SPEC_CHUNK_SHIFT] = queue->device->chunk_shift;
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < count && status == SKIM_OK; i++) {
        const skim_gpu_operand *operand = &operands[i];
        if (operand->units)
            status = skim_vulkan_locate_units(queue, operand->buffer, operand->offset, split,
                                              &addresses[i]);
        else if (operand->buffer)
            status = skim_vulkan_locate(queue, operand->name, operand->buffer, operand->offset,
                                        operand->bytes, &addresses[i]);
    }
    memcpy(push, addresses, count * sizeof *addresses);
    return status;
}

// ---- life

VkResult skim_vulkan_timeline_create(skim_vulkan_device *device, VkSemaphore *timeline)
{
    const VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                        .pNext = &type};
    VkResult result = device->vk.CreateSemaphore(device->handle, &info, NULL, timeline);
    if (result != VK_SUCCESS)
        *timeline = VK_NULL_HANDLE;
    return result;
}

static VkResult create_objects(skim_vulkan_queue *queue)
{
    const skim_vulkan_functions *vk = &queue->device->vk;
    VkResult result = skim_vulkan_timeline_create(queue->device, &queue->timeline);
    if (result != VK_SUCCESS || queue->device->base->limits.timestamps == 0)
        return result;
    const VkQueryPoolCreateInfo queries = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = SKIM_GPU_MARKS,
    };
    result = vk->CreateQueryPool(queue->device->handle, &queries, NULL, &queue->queries);
    if (result != VK_SUCCESS)
        queue->queries = VK_NULL_HANDLE;
    return result;
}

static void release_queue(skim_vulkan_queue *queue)
{
    skim_vulkan_device *device = queue->device;
    const skim_host *host = device->base->host;
    skim_gpu_staging_deinit(&queue->staging);
    skim_vulkan_scratch_deinit(queue);
    if (queue->queries)
        device->vk.DestroyQueryPool(device->handle, queue->queries, NULL);
    if (queue->timeline)
        device->vk.DestroySemaphore(device->handle, queue->timeline, NULL);
    if (queue->pool)
        device->vk.DestroyCommandPool(device->handle, queue->pool, NULL);
    skim_release(host, queue->commands, queue->command_capacity * sizeof *queue->commands);
    skim_release(host, queue->closed, queue->closed_capacity * sizeof *queue->closed);
    skim_release(host, queue, sizeof *queue);
}

skim_status skim_vulkan_queue_create(skim_backend_queue *base)
{
    skim_device *device = base->device;
    skim_vulkan_queue *queue = skim_allocate(device->host, sizeof *queue);
    if (!queue)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a queue");
    queue->base = base;
    queue->device = skim_vulkan_device_of(device);
    VkCommandBuffer first;
    queue->commands =
        skim_gpu_grow(device->host, NULL, 0, &queue->command_capacity, sizeof *queue->commands);
    skim_status status = queue->commands ? SKIM_OK : no_memory(queue);
    if (status == SKIM_OK)
        status = skim_vulkan_commands_create(queue->device, &base->error, &queue->pool, &first);
    if (status == SKIM_OK) {
        queue->commands[queue->command_count++] = (skim_vulkan_commands){.handle = first};
        VkResult result = create_objects(queue);
        if (result != VK_SUCCESS)
            status = failed(queue, result, "a queue's semaphore or query pool");
    }
    if (status == SKIM_OK)
        status = skim_gpu_staging_init(&queue->staging, &skim_vulkan_staging, base, queue,
                                       &queue->submitted, &queue->completed);
    if (status != SKIM_OK) {
        release_queue(queue);
        return status;
    }
    base->impl = queue;
    skim_vulkan_pipelines_hold(queue->device, 1);
    return SKIM_OK;
}

void skim_vulkan_queue_destroy(skim_backend_queue *base)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    if (!queue)
        return;
    if (!atomic_load(&queue->device->base->lost)) {
        skim_vulkan_queue_discard(base);
        skim_vulkan_queue_wait(base, queue->submitted, UINT64_MAX);
    }
    skim_vulkan_device *device = queue->device;
    release_queue(queue);
    skim_vulkan_pipelines_hold(device, -1);
    base->impl = NULL;
}
