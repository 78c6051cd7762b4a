#include "tests/fault/vulkan/driving.h"

#include "backends/vulkan/vulkan.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fault_control fault_now;

static fake_control *driver;
static bool driver_armed;
static uint32_t unzeroed, saves;
static unsigned char kept[4096]; // what the store keeps: one value
static size_t kept_size;

static void count_fired(void)
{
    fault_now.fired++;
}

static void note_violation(const char *text)
{
    fault_violation("the driver: %s", text);
}

fake_control *driving_find(void)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "fake_vulkan") : NULL;
    if (!symbol) {
        fprintf(stderr, "libvulkan.so.1 is not the fake driver: LD_LIBRARY_PATH must begin with "
                        "its folder (tests/fault/vulkan of the build)\n");
        return NULL;
    }
    fake_vulkan_function *find;
    memcpy(&find, &symbol, sizeof symbol);
    driver = find();
    driver->fires = count_fired;
    driver->notes = note_violation;
    return driver;
}

fault_plan driving_plan(fake_call call, VkResult result, bool persistent)
{
    fault_plan plan = {.kind = FAULT_DRIVER,
                       .call = call,
                       .result = result,
                       .persistent = persistent,
                       .status = SKIM_FAILED};
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        plan.status = SKIM_NO_MEMORY;
    // A device that never again says that it is idle counts as lost.
    bool never_idle = call == FAKE_QueueWaitIdle && persistent;
    if (result == VK_ERROR_DEVICE_LOST || never_idle) {
        plan.kind = FAULT_LOSS;
        plan.status = SKIM_DEVICE_LOST;
    } else if (call == FAKE_EndCommandBuffer) {
        plan.kind = FAULT_WORK;
    }
    return plan;
}

uint32_t driving_unzeroed(void)
{
    return unzeroed;
}

uint32_t driving_saves(void)
{
    return saves;
}

// ---- what failing.h asks for

static bool is_of_driver(const fault_plan *plan)
{
    return plan->kind == FAULT_DRIVER || plan->kind == FAULT_LOSS || plan->kind == FAULT_WORK;
}

void fault_reset(const fault_variant *variant, const fault_plan *plan)
{
    const fake_plan none = {.set = false};
    fault_control *now = &fault_now;
    now->variant = *variant;
    now->plan = *plan;
    if (is_of_driver(plan)) // the command line gives call and result only
        now->plan.status =
            driving_plan((fake_call)plan->call, (VkResult)plan->result, plan->persistent).status;
    now->armed = now->lifted = driver_armed = false;
    now->allocations = now->threads = now->fired = 0;
    unzeroed = 0;
    kept_size = 0;
    now->violation[0] = '\0';
    driver->forget(); // nothing, unless the run before left something
    driver->lies = *(const fake_lies *)variant->driver;
    driver->reset(&none);
}

void fault_arm(bool device)
{
    fault_now.armed = true;
    if (!device || driver_armed)
        return;
    const fault_plan *plan = &fault_now.plan;
    const fake_plan armed = {.set = is_of_driver(plan) && !fault_now.lifted,
                             .call = (fake_call)plan->call,
                             .index = plan->index,
                             .persistent = plan->persistent,
                             .result = (VkResult)plan->result};
    driver->reset(&armed);
    driver_armed = true;
}

void fault_lift(void)
{
    fault_now.lifted = true;
    driver->plan.set = false;
}

void fault_violation(const char *format, ...)
{
    if (fault_now.violation[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault_now.violation, sizeof fault_now.violation, format, arguments);
    va_end(arguments);
}

const skim_registration *fault_registration(void)
{
    static const skim_registration vulkan = {"vulkan", &skim_backend_vulkan};
    return &vulkan;
}

const char *fault_selector(void)
{
    return "vulkan:0";
}

static void take_message(void *user, skim_log_level level, const char *text)
{
    (void)user, (void)level;
    unzeroed += strstr(text, "without being zeroed") != NULL;
}

skim_log fault_log(void)
{
    return (skim_log){.message = take_message, .level = SKIM_LOG_WARNING};
}

static size_t load(void *user, const char *key, void *data, size_t capacity)
{
    (void)user, (void)key;
    if (data && capacity >= kept_size)
        memcpy(data, kept, kept_size);
    return kept_size;
}

static void save(void *user, const char *key, const void *data, size_t size)
{
    (void)user, (void)key;
    saves++;
    kept_size = size <= sizeof kept ? size : 0;
    memcpy(kept, data, kept_size);
}

skim_store fault_store(void)
{
    return (skim_store){.load = load, .save = save};
}

void fault_opened(skim_device *device)
{
    if (fault_now.variant.work > 0)
        skim_vulkan_device_of(device)->submission_work = fault_now.variant.work;
}

// Of these, without a device there is nothing to fail on.
static bool is_of_instance(uint32_t call)
{
    return call == FAKE_EnumerateInstanceVersion || call == FAKE_CreateInstance ||
           call == FAKE_EnumeratePhysicalDevices;
}

bool fault_permits(skim_status status)
{
    const fault_plan *plan = &fault_now.plan;
    if (plan->kind == FAULT_ALLOCATION)
        return status == SKIM_NO_MEMORY;
    if (plan->kind == FAULT_DRIVER && is_of_instance(plan->call))
        return status == SKIM_NO_DEVICE;
    return status == (plan->kind == FAULT_WORK ? SKIM_FAILED : plan->status);
}

// Calls that there is another way for, or that nothing depends on.
static bool is_optional(uint32_t call)
{
    static const fake_call calls[] = {
        FAKE_EnumerateInstanceExtensionProperties, // portability is not asked for
        FAKE_EnumerateDeviceExtensionProperties,   // the heap is the budget; no subgroups
        FAKE_GetPipelineCacheData,                 // nothing is kept
        FAKE_GetSemaphoreCounterValue,             // a wait finds out
        FAKE_ResetCommandBuffer,                   // beginning does it too
        FAKE_WaitSemaphores,                       // the queue is waited for
        FAKE_QueueWaitIdle,                        // and again
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if ((uint32_t)calls[i] == call)
            return true;
    return false;
}

// Memory, which staging takes less of when there is not as much as it would like.
static bool is_of_memory(uint32_t call)
{
    return call == FAKE_AllocateMemory || call == FAKE_CreateBuffer || call == FAKE_MapMemory ||
           call == FAKE_BindBufferMemory;
}

bool fault_permits_success(const skim_device *device)
{
    const fault_plan *plan = &fault_now.plan;
    if (plan->kind == FAULT_LOSS)
        // The next call says so.
        return (device && atomic_load(&device->lost)) || plan->call == FAKE_QueueWaitIdle;
    if (plan->status == SKIM_NO_MEMORY && !plan->persistent && is_of_memory(plan->call))
        return true;
    return plan->kind != FAULT_DRIVER || is_optional(plan->call) || unzeroed > 0;
}

void fault_check_closed(void)
{
    char left[128];
    if (driver->objects == 0 && driver->memory == 0)
        return;
    driver->list(left, sizeof left);
    fault_violation("the driver's books have %s", left);
}

void fault_describe(const fault_plan *plan, char *text, size_t size)
{
    const char *after = plan->persistent ? " and all after it" : "";
    if (plan->kind == FAULT_NONE)
        snprintf(text, size, "no fault");
    else if (plan->kind == FAULT_ALLOCATION)
        snprintf(text, size, "allocation %u%s", plan->index, after);
    else
        snprintf(text, size, "%s %u%s gives %d", driver->name((fake_call)plan->call), plan->index,
                 after, (int)plan->result);
}

// The library keeps nothing that could write to host memory by itself: downloads land in waits.
void fault_host_released(const void *memory, size_t size)
{
    (void)memory, (void)size;
}

uint32_t fault_host_writes(void)
{
    return 0;
}

uint32_t fault_host_writes_pending(uint32_t since)
{
    (void)since;
    return 0;
}
