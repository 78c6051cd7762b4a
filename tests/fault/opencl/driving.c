#include "tests/fault/opencl/driving.h"

#include "backends/opencl/opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 64, VALUE_SIZE = 1024 };

static fake_control *driver;
static uint32_t compiler_lines;
static struct { // what the store keeps
    char key[128];
    unsigned char data[VALUE_SIZE];
    size_t size;
} kept[VALUES];
static uint32_t kept_count;

fake_control *driving_find(bool *skipped)
{
    fake_opencl_function *find;
    *skipped = false;
    if (!fault_driver_find("libOpenCL.so.1", "fake_opencl", "tests/fault/opencl", &find,
                           sizeof find))
        return NULL;
    driver = find();
    if (!driver) {
        const char *required = getenv("SKIM_REQUIRE");
        *skipped = !required || !strstr(required, "opencl");
        printf("%s: there is no OpenCL driver to pass calls on to\n",
               *skipped ? "SKIPPED" : "FAILED");
        return NULL;
    }
    driver->fires = fault_driver_fires;
    driver->notes = fault_driver_notes;
    return driver;
}

fault_plan driving_plan(fake_call call, cl_int result, bool persistent)
{
    fault_plan plan = {.kind = FAULT_DRIVER,
                       .call = call,
                       .result = result,
                       .persistent = persistent,
                       .status = SKIM_FAILED};
    if (result == CL_OUT_OF_HOST_MEMORY || result == CL_OUT_OF_RESOURCES ||
        result == CL_MEM_OBJECT_ALLOCATION_FAILURE)
        plan.status = SKIM_NO_MEMORY;
    if (result == CL_INVALID_COMMAND_QUEUE) {
        plan.kind = FAULT_LOSS;
        plan.status = SKIM_DEVICE_LOST;
    } else if (call == FAKE_work || call == FAKE_GetEventInfo) {
        plan.kind = FAULT_WORK; // who cannot say how work ended counts as failed
        plan.status = SKIM_FAILED;
    }
    return plan;
}

uint32_t driving_compiler_lines(void)
{
    return compiler_lines;
}

void driving_spoil_store(size_t bytes)
{
    for (uint32_t i = 0; i < kept_count; i++)
        if (bytes == 0)
            kept[i].data[kept[i].size / 2] ^= 1;
        else
            kept[i].size = kept[i].size > bytes ? kept[i].size - bytes : 0;
}

// ---- what failing.h asks for

static fault_plan plan_of(uint32_t call, int32_t result, bool persistent)
{
    return driving_plan((fake_call)call, (cl_int)result, persistent);
}

static void present(const void *as)
{
    kept_count = compiler_lines = 0;
    driver->forget();
    driver->lies = *(const fake_lies *)as;
}

static void reset(const fault_plan *plan, bool applies)
{
    driver->reset(&(fake_plan){.set = applies,
                               .call = (fake_call)plan->call,
                               .index = plan->index,
                               .persistent = plan->persistent,
                               .result = (cl_int)plan->result});
}

static void lift(void)
{
    driver->plan.set = false;
}

static const char *name_of(uint32_t call)
{
    return driver->name((fake_call)call);
}

static void take_line(const char *text)
{
    compiler_lines += strncmp(text, "building ", 9) == 0;
}

const fault_driver fault_driver_here = {
    .backend = {"opencl", &skim_backend_opencl},
    .selector = "opencl:0",
    .plan = plan_of,
    .present = present,
    .reset = reset,
    .lift = lift,
    .name = name_of,
    .message = take_line,
};

static uint32_t find_value(const char *key)
{
    uint32_t i = 0;
    while (i < kept_count && strcmp(kept[i].key, key) != 0)
        i++;
    return i;
}

static size_t load(void *user, const char *key, void *data, size_t capacity)
{
    (void)user;
    const uint32_t i = find_value(key);
    if (i == kept_count)
        return 0;
    if (data && capacity >= kept[i].size)
        memcpy(data, kept[i].data, kept[i].size);
    return kept[i].size;
}

static void save(void *user, const char *key, const void *data, size_t size)
{
    (void)user;
    const uint32_t i = find_value(key);
    if (i == VALUES || size > VALUE_SIZE)
        return;
    kept_count += i == kept_count;
    snprintf(kept[i].key, sizeof kept[i].key, "%s", key);
    memcpy(kept[i].data, data, size);
    kept[i].size = size;
}

skim_store fault_store(void)
{
    return (skim_store){.load = load, .save = save};
}

void fault_opened(skim_device *device)
{
    (void)device;
}

// Without an answer to these there is no device, or not that one.
static bool is_of_listing(uint32_t call)
{
    return call == FAKE_GetPlatformIDs || call == FAKE_GetDeviceIDs || call == FAKE_GetDeviceInfo ||
           call == FAKE_GetPlatformInfo;
}

bool fault_permits(skim_status status)
{
    const fault_plan *plan = &fault_now.plan;
    if (plan->kind == FAULT_ALLOCATION)
        return status == SKIM_NO_MEMORY;
    if (plan->kind == FAULT_DRIVER && is_of_listing(plan->call))
        return status == SKIM_NO_DEVICE;
    return status == (plan->kind == FAULT_WORK ? SKIM_FAILED : plan->status);
}

// Calls that there is another way for, or that nothing depends on.
static bool is_optional(uint32_t call)
{
    static const fake_call calls[] = {
        FAKE_GetPlatformInfo,         // a name
        FAKE_GetDeviceInfo,           // many of them are names, too
        FAKE_CreateProgramWithBinary, // there is the source
        FAKE_GetProgramInfo,          // nothing is kept
        FAKE_GetProgramBuildInfo,     // nobody knows why
        FAKE_WaitForEvents,           // they are asked, too
        FAKE_EnqueueUnmapMemObject,   // it is released next
        FAKE_Finish,                  // of what was given up
        FAKE_ReleaseContext,
        FAKE_ReleaseCommandQueue,
        FAKE_ReleaseMemObject,
        FAKE_ReleaseProgram,
        FAKE_ReleaseKernel,
        FAKE_ReleaseEvent,
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if ((uint32_t)calls[i] == call)
            return true;
    return false;
}

// Memory, which staging takes less of when there is not as much as it would like.
static bool is_of_memory(uint32_t call)
{
    return call == FAKE_CreateBuffer || call == FAKE_EnqueueMapBuffer;
}

bool fault_permits_success(const skim_device *device)
{
    const fault_plan *plan = &fault_now.plan;
    if (plan->kind == FAULT_LOSS)
        return device && atomic_load(&device->lost); // the next call says so
    if (plan->status == SKIM_NO_MEMORY && !plan->persistent && is_of_memory(plan->call))
        return true;
    return plan->kind != FAULT_DRIVER || is_optional(plan->call) || fault_unzeroed() > 0;
}

// What a call that failed to release it left is the driver's.
static bool is_release(uint32_t call)
{
    return call == FAKE_ReleaseContext || call == FAKE_ReleaseCommandQueue ||
           call == FAKE_ReleaseMemObject || call == FAKE_ReleaseProgram ||
           call == FAKE_ReleaseKernel || call == FAKE_ReleaseEvent;
}

void fault_check_closed(void)
{
    char left[128];
    if (driver->objects == 0 && driver->memory == 0)
        return;
    if (fault_is_of_driver(&fault_now.plan) && is_release(fault_now.plan.call) &&
        fault_now.fired > 0)
        return;
    driver->list(left, sizeof left);
    fault_violation("the driver's books have %s", left);
}
