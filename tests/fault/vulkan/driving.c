#include "tests/fault/vulkan/driving.h"

#include "backends/vulkan/vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fake_control *driver;
static uint32_t saves;
static unsigned char kept[4096]; // what the store keeps: one value
static size_t kept_size;

fake_control *driving_find(void)
{
    fake_vulkan_function *find;
    if (!fault_driver_find("libvulkan.so.1", "fake_vulkan", "tests/fault/vulkan", &find,
                           sizeof find))
        return NULL;
    driver = find();
    driver->fires = fault_driver_fires;
    driver->notes = fault_driver_notes;
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

uint32_t driving_saves(void)
{
    return saves;
}

// ---- what failing.h asks for

static fault_plan plan_of(uint32_t call, int32_t result, bool persistent)
{
    return driving_plan((fake_call)call, (VkResult)result, persistent);
}

static void present(const void *as)
{
    kept_size = 0;
    driver->forget();
    driver->lies = *(const fake_lies *)as;
}

static void reset(const fault_plan *plan, bool applies)
{
    driver->reset(&(fake_plan){.set = applies,
                               .call = (fake_call)plan->call,
                               .index = plan->index,
                               .persistent = plan->persistent,
                               .result = (VkResult)plan->result});
}

static void lift(void)
{
    driver->plan.set = false;
}

static const char *name_of(uint32_t call)
{
    return driver->name((fake_call)call);
}

const fault_driver fault_driver_here = {
    .backend = {"vulkan", &skim_backend_vulkan},
    .selector = "vulkan:0",
    .plan = plan_of,
    .present = present,
    .reset = reset,
    .lift = lift,
    .name = name_of,
};

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
    return plan->kind != FAULT_DRIVER || is_optional(plan->call) || fault_unzeroed() > 0;
}

void fault_check_closed(void)
{
    char left[128];
    if (driver->objects == 0 && driver->memory == 0)
        return;
    driver->list(left, sizeof left);
    fault_violation("the driver's books have %s", left);
}
