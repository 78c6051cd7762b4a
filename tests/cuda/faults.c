// Plays every scenario of tests/fault on the CUDA backend over the emulated driver: each function
// of the driver fails at each of its calls, with results of each kind (harness.h has the command
// line). The scenarios' kernels run as ever, so what comes out is compared, too.
#include "backends/cuda/cuda.h"
#include "tests/cuda/driver.h"
#include "tests/fault/driver.h"

#include <stdio.h>
#include <string.h>

static emulated_driver *driver;

static const emulated_device late = {.eager = false};
static const emulated_device at_once = {.eager = true};

static const fault_variant variants[] = {
    {.name = "", .driver = &late},
    {.name = ", done at once by general kernels", .driver = &at_once, .disable = SKIM_FEATURE_WIDE},
};

static bool find_driver(void)
{
    skim_emulated_driver_function *find;
    if (!fault_driver_find("libcuda.so.1", "skim_emulated_driver", "tests/cuda", &find,
                           sizeof find))
        return false;
    driver = find();
    driver->fires = fault_driver_fires;
    driver->notes = fault_driver_notes;
    return true;
}

// ---- plans

static bool is_any_of(uint32_t call, const emulated_call *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((uint32_t)calls[i] == call)
            return true;
    return false;
}
#define IS_ANY_OF(call, calls) is_any_of(call, calls, sizeof(calls) / sizeof *(calls))

// Of these, without a device there is nothing to fail on.
static bool is_of_driver(uint32_t call)
{
    static const emulated_call calls[] = {EMULATED_CALL_Init, EMULATED_CALL_DriverGetVersion,
                                          EMULATED_CALL_DeviceGetCount, EMULATED_CALL_DeviceGet,
                                          EMULATED_CALL_DeviceGetAttribute};
    return IS_ANY_OF(call, calls);
}

// Calls that nothing depends on, or that do what they are for whatever they say.
static bool is_optional(uint32_t call)
{
    static const emulated_call calls[] = {
        EMULATED_CALL_DriverGetVersion,
        EMULATED_CALL_DeviceGetName,
        EMULATED_CALL_DeviceGetUuid,
        EMULATED_CALL_DeviceTotalMem,
        EMULATED_CALL_DeviceGetAttribute,
        EMULATED_CALL_DevicePrimaryCtxRelease,
        EMULATED_CALL_CtxPopCurrent,
        EMULATED_CALL_MemGetInfo,
        EMULATED_CALL_MemFree,
        EMULATED_CALL_MemFreeHost,
        EMULATED_CALL_StreamDestroy,
        EMULATED_CALL_EventDestroy,
        EMULATED_CALL_EventQuery,
        EMULATED_CALL_ModuleUnload,
        EMULATED_CALL_CtxPushCurrent, // releasing goes on, as far as it can
    };
    return IS_ANY_OF(call, calls);
}

static fault_plan make_plan(emulated_call call, CUresult result, bool persistent)
{
    fault_plan plan = {.kind = FAULT_DRIVER,
                       .call = call,
                       .result = (int32_t)result,
                       .persistent = persistent,
                       .status = SKIM_FAILED};
    if (result == CUDA_ERROR_OUT_OF_MEMORY)
        plan.status = SKIM_NO_MEMORY;
    // A stream that will not say that it has ended, or a context that cannot be used, counts as
    // lost.
    if (skim_cuda_is_lost(result) || call == EMULATED_CALL_StreamSynchronize ||
        call == EMULATED_CALL_CtxPushCurrent) {
        plan.kind = FAULT_LOSS;
        plan.status = SKIM_DEVICE_LOST;
    } else if (call == EMULATED_CALL_EventSynchronize) {
        plan.kind = FAULT_WORK;
        plan.status = SKIM_FAILED;
    }
    return plan;
}

// ---- what failing.h asks for

static fault_plan plan_of(uint32_t call, int32_t result, bool persistent)
{
    return make_plan((emulated_call)call, (CUresult)result, persistent);
}

static void present(const void *as)
{
    driver->forget();
    driver->device = *(const emulated_device *)as;
}

static void reset(const fault_plan *plan, bool applies)
{
    driver->reset(&(emulated_plan){.set = applies,
                                   .call = (emulated_call)plan->call,
                                   .index = plan->index,
                                   .persistent = plan->persistent,
                                   .result = (CUresult)plan->result});
}

static void lift(void)
{
    driver->plan.set = false;
}

static const char *name_of(uint32_t call)
{
    return driver->name((emulated_call)call);
}

const fault_driver fault_driver_here = {
    .backend = {"cuda", &skim_backend_cuda},
    .selector = "cuda:0",
    .plan = plan_of,
    .present = present,
    .reset = reset,
    .lift = lift,
    .name = name_of,
};

skim_store fault_store(void)
{
    return (skim_store){.load = NULL};
}

void fault_opened(skim_device *device)
{
    (void)device;
}

bool fault_permits(skim_status status)
{
    const fault_plan *plan = &fault_now.plan;
    if (plan->kind == FAULT_ALLOCATION)
        return status == SKIM_NO_MEMORY;
    if (is_of_driver(plan->call) && status == SKIM_NO_DEVICE)
        return true;
    return status == plan->status;
}

bool fault_permits_success(const skim_device *device)
{
    const fault_plan *plan = &fault_now.plan;
    if (is_optional(plan->call) || fault_unzeroed() > 0)
        return true;
    if (plan->kind == FAULT_LOSS)
        return device && atomic_load(&device->lost); // the next call says so
    // Staging takes less when there is not as much as it would like.
    return plan->kind != FAULT_DRIVER ||
           (plan->call == EMULATED_CALL_MemHostAlloc && !plan->persistent);
}

void fault_check_closed(void)
{
    // Without the context nothing can be released: the driver does it with the context.
    const bool reachable = fault_now.plan.call != EMULATED_CALL_CtxPushCurrent;
    if ((driver->objects > 0 && reachable) || driver->contexts > 0)
        fault_violation("the driver has %u objects and %u contexts left", driver->objects,
                        driver->contexts);
    if (driver->current > 0)
        fault_violation("%u contexts are still current", driver->current);
}

// ---- running

static void run_call(harness *h, uint32_t call, uint32_t count)
{
    static const CUresult results[] = {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE,
                                       CUDA_ERROR_ILLEGAL_ADDRESS};
    if (call == EMULATED_CALL_GetErrorName)
        return;
    for (size_t r = 0; r < sizeof results / sizeof *results; r++)
        for (int persistent = 0; persistent < 2; persistent++)
            harness_run_indices(h, make_plan((emulated_call)call, results[r], persistent), count);
}

static void run_scenario(harness *h)
{
    uint32_t calls[EMULATED_CALLS];
    h->failed_before = h->failed;
    h->fresh = h->scenario->fresh;
    if (!harness_run_undisturbed(h))
        return;
    memcpy(calls, driver->calls, sizeof calls);
    fault_run_calls(h, calls, EMULATED_CALLS, run_call);
}

int main(int argc, char **argv)
{
    static harness h;
    if (!find_driver())
        return 2;
    h.variants = variants;
    h.variant_count = sizeof variants / sizeof *variants;
    h.run_scenario = run_scenario;
    return harness_main(&h, argc, argv);
}
