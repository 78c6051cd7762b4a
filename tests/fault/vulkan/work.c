// Command buffers, submissions, semaphores and queries. Work is done when it is submitted (eager)
// or as late as it can be: when the host waits for it.
#include "tests/fault/vulkan/objects.h"

#include <stdlib.h>
#include <string.h>

enum { PENDING_MAX = 1024, SUBMITTED_MAX = 64 };

#define ENTER(name, device) VkResult result_ = fake_enter(FAKE_##name, device)
#define POISON(type) FAKE_HANDLE(type, 0xdead00000badull)

// A submission that the host does not know to be done. What it holds cannot go meanwhile.
typedef struct submission {
    uint64_t number;
    uint64_t device;
    uint64_t commands[SUBMITTED_MAX];
    uint32_t count;
    uint64_t semaphore, value; // signalled at the end; 0: none
    bool executed;
    bool unseen; // after it, the host may not see what transfers wrote to its memory
} submission;

static submission pending[PENDING_MAX];
static uint32_t pending_count;
static uint64_t submitted, observed; // numbers
static bool unseen;
// Nanoseconds since 1970, as some drivers count.
static uint64_t ticks = 1700000000123456789;

uint64_t fake_observed(void)
{
    return observed;
}

void fake_forget_work(void)
{
    pending_count = 0;
    observed = submitted;
    unseen = false;
}

// ---- pools and command buffers

VkResult fake_CreateCommandPool(VkDevice device, const VkCommandPoolCreateInfo *info,
                                const VkAllocationCallbacks *allocator, VkCommandPool *pool)
{
    (void)allocator;
    ENTER(CreateCommandPool, FAKE_NUMBER(device));
    *pool = POISON(VkCommandPool);
    if (result_ != VK_SUCCESS)
        return result_;
    if (!(info->flags & VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT))
        fake_violation("vkCreateCommandPool: its command buffers cannot be recorded again");
    *pool = FAKE_HANDLE(VkCommandPool, fake_make(KIND_pool, FAKE_NUMBER(device)));
    return VK_SUCCESS;
}

void fake_DestroyCommandPool(VkDevice device, VkCommandPool pool,
                             const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyCommandPool, FAKE_NUMBER(device));
    fake_destroy(KIND_pool, FAKE_NUMBER(pool), FAKE_NUMBER(device), "vkDestroyCommandPool");
}

VkResult fake_AllocateCommandBuffers(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                     VkCommandBuffer *commands)
{
    ENTER(AllocateCommandBuffers, FAKE_NUMBER(device));
    fake_object *pool =
        fake_find(KIND_pool, FAKE_NUMBER(info->commandPool), "vkAllocateCommandBuffers");
    for (uint32_t i = 0; i < info->commandBufferCount; i++)
        commands[i] = VK_NULL_HANDLE; // this call writes that when it fails
    if (result_ != VK_SUCCESS || !pool)
        return result_ == VK_SUCCESS ? VK_ERROR_OUT_OF_HOST_MEMORY : result_;
    for (uint32_t i = 0; i < info->commandBufferCount; i++)
        commands[i] =
            FAKE_HANDLE(VkCommandBuffer, fake_make(KIND_commands, FAKE_NUMBER(info->commandPool)));
    return VK_SUCCESS;
}

static uint64_t device_of(VkCommandBuffer commands)
{
    const fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "a command");
    const fake_object *pool = own ? fake_find(KIND_pool, own->parent, "a command") : NULL;
    return pool ? pool->parent : 0;
}

static void empty(fake_object *own)
{
    own->command_count = 0;
    own->bound = 0;
}

VkResult fake_BeginCommandBuffer(VkCommandBuffer commands, const VkCommandBufferBeginInfo *info)
{
    ENTER(BeginCommandBuffer, device_of(commands));
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkBeginCommandBuffer");
    if (!own)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (own->state == RECORDING || own->state == PENDING)
        fake_violation("vkBeginCommandBuffer: the command buffer is %s",
                       own->state == PENDING ? "in use" : "being recorded");
    if (!(info->flags & VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT))
        fake_violation("vkBeginCommandBuffer: the books know one use only");
    empty(own);
    own->state = result_ == VK_SUCCESS ? RECORDING : INVALID;
    return result_;
}

VkResult fake_EndCommandBuffer(VkCommandBuffer commands)
{
    ENTER(EndCommandBuffer, device_of(commands));
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkEndCommandBuffer");
    if (!own)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (own->state != RECORDING)
        fake_violation("vkEndCommandBuffer: the command buffer is not being recorded");
    own->state = result_ == VK_SUCCESS ? EXECUTABLE : INVALID;
    return result_;
}

VkResult fake_ResetCommandBuffer(VkCommandBuffer commands, VkCommandBufferResetFlags flags)
{
    (void)flags;
    ENTER(ResetCommandBuffer, device_of(commands));
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkResetCommandBuffer");
    if (!own)
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (own->state == PENDING)
        fake_violation("vkResetCommandBuffer: the command buffer is in use");
    empty(own);
    own->state = result_ == VK_SUCCESS ? INITIAL : INVALID;
    return result_;
}

// ---- recording

static fake_command *record(fake_call call, VkCommandBuffer commands, fake_what what)
{
    static fake_command nowhere;
    fake_enter(call, device_of(commands));
    const char *name = fake.name(call);
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), name);
    if (!own || own->state != RECORDING) {
        fake_violation("%s: the command buffer is not being recorded", name);
        return &nowhere;
    }
    if (own->command_count == own->command_capacity) {
        own->command_capacity = own->command_capacity ? 2 * own->command_capacity : 64;
        own->commands = realloc(own->commands, own->command_capacity * sizeof *own->commands);
        if (!own->commands)
            abort();
    }
    fake_command *made = &own->commands[own->command_count++];
    *made = (fake_command){.what = what};
    return made;
}

static void check_range(uint64_t buffer, uint64_t offset, uint64_t size, const char *call)
{
    const fake_object *own = fake_find(KIND_buffer, buffer, call);
    if (own && !own->memory)
        fake_violation("%s: the buffer is not bound", call);
    if (own && (size == 0 || offset > own->size || size > own->size - offset))
        fake_violation("%s: %llu bytes at %llu of a buffer of %llu", call, (unsigned long long)size,
                       (unsigned long long)offset, (unsigned long long)own->size);
}

void fake_CmdBindPipeline(VkCommandBuffer commands, VkPipelineBindPoint point, VkPipeline pipeline)
{
    (void)point;
    fake_enter(FAKE_CmdBindPipeline, device_of(commands));
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkCmdBindPipeline");
    fake_find(KIND_pipeline, FAKE_NUMBER(pipeline), "vkCmdBindPipeline");
    if (own && own->state != RECORDING)
        fake_violation("vkCmdBindPipeline: the command buffer is not being recorded");
    if (own)
        own->bound = FAKE_NUMBER(pipeline);
}

void fake_CmdPushConstants(VkCommandBuffer commands, VkPipelineLayout layout,
                           VkShaderStageFlags stages, uint32_t offset, uint32_t size,
                           const void *values)
{
    (void)stages;
    fake_enter(FAKE_CmdPushConstants, device_of(commands));
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkCmdPushConstants");
    fake_find(KIND_layout, FAKE_NUMBER(layout), "vkCmdPushConstants");
    if (!own || own->state != RECORDING || offset % 4 != 0 || size % 4 != 0 || size == 0 ||
        offset + size > PUSH_MAX) {
        fake_violation("vkCmdPushConstants: the command buffer is not being recorded, or the range "
                       "is wrong");
        return;
    }
    memcpy(own->push + offset, values, size);
}

void fake_CmdDispatchBase(VkCommandBuffer commands, uint32_t base_x, uint32_t base_y,
                          uint32_t base_z, uint32_t x, uint32_t y, uint32_t z)
{
    fake_command *made = record(FAKE_CmdDispatchBase, commands, DO_DISPATCH);
    fake_object *own = fake_find(KIND_commands, FAKE_NUMBER(commands), "vkCmdDispatchBase");
    if (!own || !fake_find(KIND_pipeline, own->bound, "vkCmdDispatchBase"))
        return;
    if (x > 65535 || y > 65535 || z > 65535)
        fake_violation("vkCmdDispatchBase: more groups than there may be");
    made->one = own->bound;
    memcpy(made->push, own->push, sizeof made->push);
    memcpy(made->base, (uint32_t[]){base_x, base_y, base_z}, sizeof made->base);
    memcpy(made->groups, (uint32_t[]){x, y, z}, sizeof made->groups);
}

void fake_CmdPipelineBarrier(VkCommandBuffer commands, VkPipelineStageFlags before,
                             VkPipelineStageFlags after, VkDependencyFlags flags,
                             uint32_t memory_count, const VkMemoryBarrier *memory,
                             uint32_t buffer_count, const VkBufferMemoryBarrier *buffers,
                             uint32_t image_count, const VkImageMemoryBarrier *images)
{
    (void)flags, (void)buffers, (void)images;
    fake_command *made = record(FAKE_CmdPipelineBarrier, commands, DO_BARRIER);
    if (before == 0 || after == 0 || memory_count != 1 || buffer_count || image_count)
        fake_violation("vkCmdPipelineBarrier: it waits for nothing");
    made->to_host = (after & VK_PIPELINE_STAGE_HOST_BIT) &&
                    (before & VK_PIPELINE_STAGE_TRANSFER_BIT) &&
                    (memory[0].dstAccessMask & VK_ACCESS_HOST_READ_BIT) &&
                    (memory[0].srcAccessMask & VK_ACCESS_TRANSFER_WRITE_BIT);
}

void fake_CmdCopyBuffer(VkCommandBuffer commands, VkBuffer source, VkBuffer destination,
                        uint32_t count, const VkBufferCopy *regions)
{
    for (uint32_t i = 0; i < count; i++) {
        fake_command *made = record(FAKE_CmdCopyBuffer, commands, DO_COPY);
        made->one = FAKE_NUMBER(source);
        made->other = FAKE_NUMBER(destination);
        made->one_at = regions[i].srcOffset;
        made->other_at = regions[i].dstOffset;
        made->size = regions[i].size;
        check_range(made->one, made->one_at, made->size, "vkCmdCopyBuffer");
        check_range(made->other, made->other_at, made->size, "vkCmdCopyBuffer");
        if (source == destination && made->one_at < made->other_at + made->size &&
            made->other_at < made->one_at + made->size)
            fake_violation("vkCmdCopyBuffer: the ranges overlap");
    }
}

void fake_CmdFillBuffer(VkCommandBuffer commands, VkBuffer buffer, VkDeviceSize offset,
                        VkDeviceSize size, uint32_t word)
{
    fake_command *made = record(FAKE_CmdFillBuffer, commands, DO_FILL);
    made->one = FAKE_NUMBER(buffer);
    made->one_at = offset;
    made->size = size;
    made->word = word;
    check_range(made->one, offset, size, "vkCmdFillBuffer");
    if (offset % 4 != 0 || size % 4 != 0)
        fake_violation("vkCmdFillBuffer: %llu bytes at %llu are no words", (unsigned long long)size,
                       (unsigned long long)offset);
}

static void record_queries(fake_call call, VkCommandBuffer commands, fake_what what,
                           VkQueryPool pool, uint32_t first, uint32_t count)
{
    fake_command *made = record(call, commands, what);
    const fake_object *own = fake_find(KIND_queries, FAKE_NUMBER(pool), fake.name(call));
    if (own && first + count > own->size)
        fake_violation("%s: there is no query %u", fake.name(call), first);
    made->one = FAKE_NUMBER(pool);
    made->one_at = first;
    made->size = count;
}

void fake_CmdResetQueryPool(VkCommandBuffer commands, VkQueryPool pool, uint32_t first,
                            uint32_t count)
{
    record_queries(FAKE_CmdResetQueryPool, commands, DO_RESET, pool, first, count);
}

void fake_CmdWriteTimestamp(VkCommandBuffer commands, VkPipelineStageFlagBits stage,
                            VkQueryPool pool, uint32_t query)
{
    (void)stage;
    if (fake.lies.timestamp_bits == 1)
        fake_violation("vkCmdWriteTimestamp: this queue has none");
    record_queries(FAKE_CmdWriteTimestamp, commands, DO_TIMESTAMP, pool, query, 1);
}

// ---- executing

static fake_object *memory_of(uint64_t buffer, const fake_object **own)
{
    *own = fake_find(KIND_buffer, buffer, "the device");
    return *own ? fake_find(KIND_memory, (*own)->memory, "the device") : NULL;
}

static void execute_transfer(const fake_command *command)
{
    const fake_object *from, *to;
    const fake_object *source = memory_of(command->one, &from);
    if (!source)
        return;
    char *bytes = source->bytes + from->memory_at + command->one_at;
    if (command->what == DO_FILL) {
        for (uint64_t i = 0; i < command->size; i += 4)
            memcpy(bytes + i, &command->word, 4);
        return;
    }
    const fake_object *destination = memory_of(command->other, &to);
    if (!destination)
        return;
    memmove(destination->bytes + to->memory_at + command->other_at, bytes, command->size);
    unseen |= destination->mapped;
}

static void execute_command(const fake_command *command)
{
    switch (command->what) {
    case DO_BARRIER:
        unseen = unseen && !command->to_host;
        break;
    case DO_COPY:
    case DO_FILL:
        execute_transfer(command);
        break;
    case DO_RESET:
    case DO_TIMESTAMP: {
        fake_object *queries = fake_find(KIND_queries, command->one, "the device");
        for (uint64_t i = 0; queries && i < command->size; i++) {
            uint64_t at = command->one_at + i;
            if (command->what == DO_TIMESTAMP && queries->available[at])
                fake_violation("a query is written again without being reset");
            queries->available[at] = command->what == DO_TIMESTAMP;
            queries->times[at] = ticks += 1000;
        }
        break;
    }
    case DO_DISPATCH: {
        const fake_object *pipeline = fake_find(KIND_pipeline, command->one, "the device");
        if (pipeline)
            fake_compute(pipeline, command);
        fake.dispatches++;
        fake.split_dispatches += pipeline && pipeline->constants[SKIM_SPEC_CHUNK_SHIFT] > 0;
        break;
    }
    }
}

static void execute(submission *one)
{
    for (uint32_t i = 0; i < one->count; i++) {
        const fake_object *commands = fake_find(KIND_commands, one->commands[i], "the device");
        for (uint32_t c = 0; commands && c < commands->command_count; c++)
            execute_command(&commands->commands[c]);
    }
    if (one->semaphore) {
        fake_object *semaphore = fake_find(KIND_semaphore, one->semaphore, "the device");
        if (semaphore && semaphore->value >= one->value)
            fake_violation("a timeline does not go up");
        if (semaphore)
            semaphore->value = one->value;
    }
    one->executed = true;
    one->unseen = unseen;
}

// Executes what is pending up to the submission.
static void execute_to(uint64_t number)
{
    for (uint32_t i = 0; i < pending_count && pending[i].number <= number; i++)
        if (!pending[i].executed)
            execute(&pending[i]);
}

static void execute_one(void)
{
    for (uint32_t i = 0; i < pending_count; i++) {
        if (!pending[i].executed) {
            execute(&pending[i]);
            return;
        }
    }
}

// The host has learnt that the submission, and so all before it, is done.
static void observe(uint64_t number)
{
    uint32_t gone = 0;
    for (; gone < pending_count && pending[gone].number <= number; gone++) {
        submission *one = &pending[gone];
        for (uint32_t c = 0; c < one->count; c++) {
            fake_object *commands = fake_find(KIND_commands, one->commands[c], "the device");
            if (commands && commands->state == PENDING)
                commands->state = INVALID; // it was for one submission
        }
        if (one->unseen && one->number == number)
            fake_violation("what a transfer wrote for the host was not made visible to it");
    }
    memmove(pending, pending + gone, (pending_count - gone) * sizeof *pending);
    pending_count -= gone;
    observed = number > observed ? number : observed;
}

// Nothing of what is left will ever be done, and so nothing is in use; some of it may have been.
void fake_abandon(void)
{
    execute_one();
    unseen = false;
    for (uint32_t i = 0; i < pending_count; i++)
        pending[i].unseen = false;
    observe(submitted);
}

// ---- submitting

static void hold(uint64_t handle, fake_kind kind, uint64_t number)
{
    fake_object *object = fake_find(kind, handle, "vkQueueSubmit");
    if (!object)
        return;
    object->used_by = number;
    if (kind == KIND_buffer) {
        fake_object *memory = fake_find(KIND_memory, object->memory, "vkQueueSubmit");
        if (memory)
            memory->used_by = number;
    }
}

static void hold_commands(fake_object *commands, uint64_t number)
{
    commands->used_by = number;
    for (uint32_t i = 0; i < commands->command_count; i++) {
        const fake_command *one = &commands->commands[i];
        if (one->what == DO_COPY || one->what == DO_FILL)
            hold(one->one, KIND_buffer, number);
        if (one->what == DO_COPY)
            hold(one->other, KIND_buffer, number);
        if (one->what == DO_RESET || one->what == DO_TIMESTAMP)
            hold(one->one, KIND_queries, number);
        if (one->what == DO_DISPATCH)
            hold(one->one, KIND_pipeline, number);
    }
}

static void take_signal(submission *made, const VkSubmitInfo *info)
{
    if (info->signalSemaphoreCount == 0)
        return;
    const VkTimelineSemaphoreSubmitInfo *timeline = info->pNext;
    if (info->signalSemaphoreCount > 1 || !timeline ||
        timeline->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO ||
        timeline->signalSemaphoreValueCount != 1) {
        fake_violation("vkQueueSubmit: no value for the timeline");
        return;
    }
    made->semaphore = FAKE_NUMBER(info->pSignalSemaphores[0]);
    made->value = timeline->pSignalSemaphoreValues[0];
    hold(made->semaphore, KIND_semaphore, made->number);
}

VkResult fake_QueueSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
    fake_object *own = fake_find(KIND_queue, FAKE_NUMBER(queue), "vkQueueSubmit");
    ENTER(QueueSubmit, own ? own->parent : 0);
    if (!own || result_ != VK_SUCCESS)
        return own ? result_ : VK_ERROR_OUT_OF_HOST_MEMORY;
    if (fence || count != 1 || infos->waitSemaphoreCount ||
        infos->commandBufferCount > SUBMITTED_MAX)
        fake_violation("vkQueueSubmit: the books do not know how to do this");
    // What nobody asks for is known to be done some time.
    if (pending_count == PENDING_MAX) {
        execute_to(pending[0].number);
        observe(pending[0].number);
    }
    submission *made = &pending[pending_count++];
    *made = (submission){.number = ++submitted, .device = own->parent};
    fake.submissions++;
    for (uint32_t i = 0; i < infos->commandBufferCount && i < SUBMITTED_MAX; i++) {
        uint64_t handle = FAKE_NUMBER(infos->pCommandBuffers[i]);
        fake_object *commands = fake_find(KIND_commands, handle, "vkQueueSubmit");
        if (!commands)
            continue;
        if (commands->state != EXECUTABLE)
            fake_violation("vkQueueSubmit: a command buffer is %s",
                           commands->state == RECORDING ? "still being recorded"
                           : commands->state == PENDING ? "in use"
                                                        : "not recorded, or for one use only");
        commands->state = PENDING;
        hold_commands(commands, made->number);
        made->commands[made->count++] = handle;
    }
    take_signal(made, infos);
    if (fake.lies.eager)
        execute_to(made->number);
    return VK_SUCCESS;
}

VkResult fake_QueueWaitIdle(VkQueue queue)
{
    const fake_object *own = fake_find(KIND_queue, FAKE_NUMBER(queue), "vkQueueWaitIdle");
    static uint32_t refusals; // in a row
    ENTER(QueueWaitIdle, own ? own->parent : 0);
    refusals = result_ == VK_SUCCESS ? 0 : refusals + 1;
    if (own && refusals == 3)
        fake_lose(own->parent); // nobody could tell it from one that is
    if (result_ != VK_SUCCESS)
        return result_;
    execute_to(submitted);
    observe(submitted);
    return VK_SUCCESS;
}

// ---- semaphores

VkResult fake_CreateSemaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
                              const VkAllocationCallbacks *allocator, VkSemaphore *semaphore)
{
    (void)allocator;
    ENTER(CreateSemaphore, FAKE_NUMBER(device));
    *semaphore = POISON(VkSemaphore);
    if (result_ != VK_SUCCESS)
        return result_;
    const VkSemaphoreTypeCreateInfo *type = info->pNext;
    if (!type || type->semaphoreType != VK_SEMAPHORE_TYPE_TIMELINE)
        fake_violation("vkCreateSemaphore: the books know timelines only");
    uint64_t made = fake_make(KIND_semaphore, FAKE_NUMBER(device));
    if (type)
        fake_find(KIND_semaphore, made, "vkCreateSemaphore")->value = type->initialValue;
    *semaphore = FAKE_HANDLE(VkSemaphore, made);
    return VK_SUCCESS;
}

void fake_DestroySemaphore(VkDevice device, VkSemaphore semaphore,
                           const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroySemaphore, FAKE_NUMBER(device));
    fake_destroy(KIND_semaphore, FAKE_NUMBER(semaphore), FAKE_NUMBER(device), "vkDestroySemaphore");
}

// The submission that brings the timeline to the value; 0 for none.
static uint64_t find_signal(uint64_t semaphore, uint64_t value)
{
    for (uint32_t i = 0; i < pending_count; i++)
        if (pending[i].semaphore == semaphore && pending[i].value >= value)
            return pending[i].number;
    return 0;
}

// The last submission that is known to be done by the timeline's value.
static void observe_value(uint64_t semaphore, uint64_t value)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < pending_count; i++)
        if (pending[i].semaphore == semaphore && pending[i].executed && pending[i].value <= value)
            number = pending[i].number;
    if (number > 0)
        observe(number);
}

VkResult fake_WaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
    ENTER(WaitSemaphores, FAKE_NUMBER(device));
    if (result_ != VK_SUCCESS)
        return result_;
    if (info->semaphoreCount != 1)
        fake_violation("vkWaitSemaphores: the books know one at a time");
    uint64_t handle = FAKE_NUMBER(info->pSemaphores[0]), value = info->pValues[0];
    const fake_object *own = fake_find(KIND_semaphore, handle, "vkWaitSemaphores");
    if (!own)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    uint64_t number = own->value < value ? find_signal(handle, value) : 0;
    if (own->value < value && number == 0) {
        fake_violation("vkWaitSemaphores waits for what nobody signals");
        return timeout == UINT64_MAX ? VK_ERROR_UNKNOWN : VK_TIMEOUT;
    }
    if (timeout == 0)
        execute_one();
    else
        execute_to(number);
    if (own->value < value)
        return VK_TIMEOUT;
    observe_value(handle, own->value);
    return VK_SUCCESS;
}

VkResult fake_GetSemaphoreCounterValue(VkDevice device, VkSemaphore semaphore, uint64_t *value)
{
    ENTER(GetSemaphoreCounterValue, FAKE_NUMBER(device));
    const fake_object *own =
        fake_find(KIND_semaphore, FAKE_NUMBER(semaphore), "vkGetSemaphoreCounterValue");
    *value = 0xdead0000000badull;
    if (result_ != VK_SUCCESS || !own)
        return result_ == VK_SUCCESS ? VK_ERROR_OUT_OF_HOST_MEMORY : result_;
    execute_one(); // the device gets on
    *value = own->value;
    observe_value(FAKE_NUMBER(semaphore), own->value);
    return VK_SUCCESS;
}

// ---- queries

VkResult fake_CreateQueryPool(VkDevice device, const VkQueryPoolCreateInfo *info,
                              const VkAllocationCallbacks *allocator, VkQueryPool *pool)
{
    (void)allocator;
    ENTER(CreateQueryPool, FAKE_NUMBER(device));
    *pool = POISON(VkQueryPool);
    if (result_ != VK_SUCCESS)
        return result_;
    if (info->queryType != VK_QUERY_TYPE_TIMESTAMP || info->queryCount > QUERIES_MAX)
        fake_violation("vkCreateQueryPool: the books know 64 timestamps at most");
    uint64_t made = fake_make(KIND_queries, FAKE_NUMBER(device));
    fake_find(KIND_queries, made, "vkCreateQueryPool")->size = info->queryCount;
    *pool = FAKE_HANDLE(VkQueryPool, made);
    return VK_SUCCESS;
}

void fake_DestroyQueryPool(VkDevice device, VkQueryPool pool,
                           const VkAllocationCallbacks *allocator)
{
    (void)allocator;
    fake_enter(FAKE_DestroyQueryPool, FAKE_NUMBER(device));
    fake_destroy(KIND_queries, FAKE_NUMBER(pool), FAKE_NUMBER(device), "vkDestroyQueryPool");
}

VkResult fake_GetQueryPoolResults(VkDevice device, VkQueryPool pool, uint32_t first, uint32_t count,
                                  size_t size, void *data, VkDeviceSize stride,
                                  VkQueryResultFlags flags)
{
    ENTER(GetQueryPoolResults, FAKE_NUMBER(device));
    const fake_object *own = fake_find(KIND_queries, FAKE_NUMBER(pool), "vkGetQueryPoolResults");
    if (result_ != VK_SUCCESS || !own)
        return result_ == VK_SUCCESS ? VK_ERROR_OUT_OF_HOST_MEMORY : result_;
    if (count != 1 || first >= own->size || size < 8 || stride % 8 != 0 ||
        !(flags & VK_QUERY_RESULT_64_BIT)) {
        fake_violation("vkGetQueryPoolResults: the books know one result of 64 bits");
        return VK_NOT_READY;
    }
    if (!own->available[first])
        return VK_NOT_READY;
    memcpy(data, &own->times[first], sizeof own->times[first]);
    return VK_SUCCESS;
}
