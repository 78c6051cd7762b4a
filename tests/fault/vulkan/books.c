// The books: what is alive, what was called, what fails.
#include "tests/fault/vulkan/objects.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS_MAX = 1 << 14, GENERATION_SHIFT = 16 };

static fake_object objects[OBJECTS_MAX];
static uint32_t used; // of objects
static uint64_t lost; // device

static const char *const call_names[] = {
#define FAKE_CALL(name) "vk" #name,
    FAKE_GLOBAL_FUNCTIONS(FAKE_CALL) SKIM_VULKAN_INSTANCE_FUNCTIONS(FAKE_CALL)
        SKIM_VULKAN_DEVICE_FUNCTIONS(FAKE_CALL)
#undef FAKE_CALL
};

static const char *const kind_names[] = {
#define FAKE_KIND(name) #name,
    FAKE_KINDS(FAKE_KIND)
#undef FAKE_KIND
};

static const char *name_of(fake_call call)
{
    return call < FAKE_CALLS ? call_names[call] : "";
}

void fake_violation(const char *format, ...)
{
    if (fake.violation[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fake.violation, sizeof fake.violation, format, arguments);
    va_end(arguments);
    if (fake.notes)
        fake.notes(fake.violation);
}

// ---- failing

// As the specification lists them; any command may also answer with something unknown.
#define HOST VK_ERROR_OUT_OF_HOST_MEMORY
#define DEVICE VK_ERROR_OUT_OF_DEVICE_MEMORY
#define LOST VK_ERROR_DEVICE_LOST
#define UNKNOWN VK_ERROR_UNKNOWN

#define FAKE_ERRORS(X)                                                                             \
    X(EnumerateInstanceVersion, HOST, UNKNOWN)                                                     \
    X(EnumerateInstanceExtensionProperties, HOST, DEVICE, UNKNOWN)                                 \
    X(CreateInstance, HOST, DEVICE, VK_ERROR_INITIALIZATION_FAILED,                                \
      VK_ERROR_EXTENSION_NOT_PRESENT, VK_ERROR_INCOMPATIBLE_DRIVER)                                \
    X(EnumeratePhysicalDevices, HOST, DEVICE, VK_ERROR_INITIALIZATION_FAILED)                      \
    X(EnumerateDeviceExtensionProperties, HOST, DEVICE, UNKNOWN)                                   \
    X(CreateDevice, HOST, DEVICE, VK_ERROR_INITIALIZATION_FAILED, VK_ERROR_FEATURE_NOT_PRESENT,    \
      VK_ERROR_TOO_MANY_OBJECTS, LOST)                                                             \
    X(AllocateMemory, HOST, DEVICE, VK_ERROR_TOO_MANY_OBJECTS)                                     \
    X(MapMemory, HOST, DEVICE, VK_ERROR_MEMORY_MAP_FAILED)                                         \
    X(CreateBuffer, HOST, DEVICE, UNKNOWN)                                                         \
    X(BindBufferMemory, HOST, DEVICE, UNKNOWN)                                                     \
    X(CreateShaderModule, HOST, DEVICE, UNKNOWN)                                                   \
    X(CreatePipelineLayout, HOST, DEVICE, UNKNOWN)                                                 \
    X(CreatePipelineCache, HOST, DEVICE, UNKNOWN)                                                  \
    X(GetPipelineCacheData, HOST, DEVICE, UNKNOWN)                                                 \
    X(CreateComputePipelines, HOST, DEVICE, UNKNOWN)                                               \
    X(CreateCommandPool, HOST, DEVICE, UNKNOWN)                                                    \
    X(AllocateCommandBuffers, HOST, DEVICE, UNKNOWN)                                               \
    X(BeginCommandBuffer, HOST, DEVICE, UNKNOWN)                                                   \
    X(EndCommandBuffer, HOST, DEVICE, UNKNOWN)                                                     \
    X(ResetCommandBuffer, DEVICE, UNKNOWN)                                                         \
    X(QueueSubmit, HOST, DEVICE, LOST, UNKNOWN)                                                    \
    X(QueueWaitIdle, HOST, DEVICE, LOST, UNKNOWN)                                                  \
    X(CreateSemaphore, HOST, DEVICE, UNKNOWN)                                                      \
    X(WaitSemaphores, HOST, DEVICE, LOST, UNKNOWN)                                                 \
    X(GetSemaphoreCounterValue, HOST, DEVICE, LOST, UNKNOWN)                                       \
    X(CreateQueryPool, HOST, DEVICE, UNKNOWN)                                                      \
    X(GetQueryPoolResults, HOST, DEVICE, LOST, UNKNOWN)

static const VkResult no_errors[] = {VK_SUCCESS};

static const VkResult *errors_of(fake_call call)
{
    switch (call) {
#define FAKE_ERRORS_OF(name, ...)                                                                  \
    case FAKE_##name: {                                                                            \
        static const VkResult errors[] = {__VA_ARGS__, VK_SUCCESS};                                \
        return errors;                                                                             \
    }
        FAKE_ERRORS(FAKE_ERRORS_OF)
#undef FAKE_ERRORS_OF
    default:
        return no_errors;
    }
}

static bool tells_loss(fake_call call)
{
    if (call == FAKE_CreateDevice)
        return false;
    for (const VkResult *error = errors_of(call); *error != VK_SUCCESS; error++)
        if (*error == VK_ERROR_DEVICE_LOST)
            return true;
    return false;
}

bool fake_is_lost(uint64_t device)
{
    return device && device == lost;
}

void fake_lose(uint64_t device)
{
    fake_abandon();
    lost = device;
}

// The library was told that the device is lost: nothing may be begun on it.
static bool is_beginning(fake_call call)
{
    return call == FAKE_QueueSubmit || call == FAKE_AllocateMemory || call == FAKE_CreateBuffer ||
           call == FAKE_CreateComputePipelines;
}

VkResult fake_enter(fake_call call, uint64_t device)
{
    const fake_plan *plan = &fake.plan;
    uint32_t index = fake.calls[call]++;
    if (fake_is_lost(device)) {
        if (is_beginning(call))
            fake_violation("%s was called on a lost device", name_of(call));
        return tells_loss(call) ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
    }
    if (!plan->set || plan->call != call ||
        !(plan->persistent ? index >= plan->index : index == plan->index))
        return VK_SUCCESS;
    fake.fired++;
    fake.fired_call = call;
    if (fake.fires)
        fake.fires();
    if (plan->result == VK_ERROR_DEVICE_LOST && device)
        fake_lose(device);
    return plan->result;
}

// ---- objects

static uint64_t handle_of(uint32_t index)
{
    return (uint64_t)objects[index].generation << GENERATION_SHIFT | (index + 1);
}

uint64_t fake_make(fake_kind kind, uint64_t parent)
{
    uint32_t index = 0;
    while (index < used && objects[index].alive)
        index++;
    if (index == OBJECTS_MAX) {
        fake_violation("there are more objects than a driver can take");
        abort();
    }
    used = index == used ? used + 1 : used;
    fake_object *made = &objects[index];
    uint32_t generation = made->generation + 1;
    *made = (fake_object){.kind = kind, .generation = generation, .alive = true, .parent = parent};
    fake.objects++;
    return handle_of(index);
}

fake_object *fake_find(fake_kind kind, uint64_t handle, const char *call)
{
    uint64_t index = (handle & ((1u << GENERATION_SHIFT) - 1)) - 1;
    if (index >= used || objects[index].generation != handle >> GENERATION_SHIFT ||
        objects[index].kind != kind) {
        fake_violation("%s was given 0x%llx, which never was a %s", call,
                       (unsigned long long)handle, kind_names[kind]);
        return NULL;
    }
    if (!objects[index].alive) {
        fake_violation("%s was given a %s that was destroyed", call, kind_names[kind]);
        return NULL;
    }
    return &objects[index];
}

static void check_children(uint64_t handle, fake_kind kind, const char *call)
{
    for (uint32_t i = 0; i < used; i++)
        if (objects[i].alive && objects[i].parent == handle)
            fake_violation("%s: a %s of this %s is alive", call, kind_names[objects[i].kind],
                           kind_names[kind]);
}

static void forget_address(const fake_object *object);

static void release(fake_object *object)
{
    if (object->address)
        forget_address(object);
    if (object->kind == KIND_memory)
        fake.memory -= object->size;
    free(object->bytes);
    free(object->commands);
    object->bytes = NULL;
    object->commands = NULL;
    object->alive = false;
    fake.objects--;
}

void fake_destroy(fake_kind kind, uint64_t handle, uint64_t device, const char *call)
{
    if (!handle)
        return;
    fake_object *object = fake_find(kind, handle, call);
    if (!object)
        return;
    if (device && object->parent != device)
        fake_violation("%s: the %s is another device's", call, kind_names[kind]);
    if (object->used_by > fake_observed())
        fake_violation("%s: submitted work may use this %s", call, kind_names[kind]);
    bool is_pool = kind == KIND_pool;
    for (uint32_t i = 0; is_pool && i < used; i++) {
        if (!objects[i].alive || objects[i].parent != handle)
            continue;
        if (objects[i].used_by > fake_observed())
            fake_violation("%s: a command buffer of the pool may be in use", call);
        release(&objects[i]);
    }
    if (kind == KIND_device)
        for (uint32_t i = 0; i < used; i++)
            if (objects[i].alive && objects[i].kind == KIND_queue && objects[i].parent == handle)
                release(&objects[i]);
    if (kind == KIND_instance)
        for (uint32_t i = 0; i < used; i++)
            if (objects[i].alive && objects[i].kind == KIND_physical_device &&
                objects[i].parent == handle)
                release(&objects[i]);
    check_children(handle, kind, call);
    release(object);
    if (handle == lost)
        lost = 0;
}

void fake_each(fake_kind kind, void (*visit)(uint64_t handle, fake_object *object, void *user),
               void *user)
{
    for (uint32_t i = 0; i < used; i++)
        if (objects[i].alive && objects[i].kind == kind)
            visit(handle_of(i), &objects[i], user);
}

// ---- addresses

// Buffers that have one, in the order of their addresses: none is given twice, so that what is gone
// is never taken for what came after it.
typedef struct span {
    uint64_t address, size;
    uint32_t index; // of the object
} span;

static span spans[OBJECTS_MAX];
static uint32_t span_count;

uint64_t fake_give_address(uint64_t buffer, uint64_t offset)
{
    const uint64_t page = 1 << 12;
    static uint64_t next = (uint64_t)1 << 40;
    fake_object *object = fake_find(KIND_buffer, buffer, "vkGetBufferDeviceAddress");
    object->address = next + offset;
    next += (object->size / page + 2) * page;
    spans[span_count++] = (span){object->address, object->size, (uint32_t)(object - objects)};
    return object->address;
}

static void forget_address(const fake_object *object)
{
    for (uint32_t i = 0; i < span_count; i++) {
        if (spans[i].address == object->address) {
            memmove(spans + i, spans + i + 1, (--span_count - i) * sizeof *spans);
            return;
        }
    }
}

void *fake_reach(uint64_t address, uint64_t size)
{
    uint32_t low = 0, high = span_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (spans[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const span *found = low > 0 ? &spans[low - 1] : NULL;
    if (!found || address - found->address >= found->size ||
        size > found->size - (address - found->address)) {
        fake_violation("a kernel reaches %llu bytes at 0x%llx, where no buffer is",
                       (unsigned long long)size, (unsigned long long)address);
        return NULL;
    }
    const fake_object *buffer = &objects[found->index];
    fake_object *memory = fake_find(KIND_memory, buffer->memory, "a kernel");
    return memory ? memory->bytes + buffer->memory_at + (address - found->address) : NULL;
}

// ---- what tests see

static void reset(const fake_plan *plan)
{
    fake.plan = *plan;
    memset(fake.calls, 0, sizeof fake.calls);
    fake.fired = 0;
    fake.dispatches = fake.submissions = fake.split_dispatches = 0;
    fake.violation[0] = '\0';
}

static void list(char *text, size_t size)
{
    uint32_t counts[KIND_COUNT] = {0};
    for (uint32_t i = 0; i < used; i++)
        if (objects[i].alive)
            counts[objects[i].kind]++;
    size_t length = 0;
    text[0] = '\0';
    for (int k = 0; k < KIND_COUNT && length < size; k++)
        if (counts[k] > 0)
            length += (size_t)snprintf(text + length, size - length, "%s%u %s", length ? ", " : "",
                                       counts[k], kind_names[k]);
}

static void forget(void)
{
    for (uint32_t i = 0; i < used; i++)
        if (objects[i].alive)
            release(&objects[i]);
    lost = 0;
    fake_forget_work();
}

fake_control fake = {
    .name = name_of, .errors = errors_of, .reset = reset, .list = list, .forget = forget};
