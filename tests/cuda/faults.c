// Plays every scenario of tests/fault on the CUDA backend over the emulated driver: each function
// of the driver fails at each of its calls, with results of each kind (harness.h has the command
// line). The scenarios' kernels run as ever, so what comes out is compared, too.
#include "backends/cuda/cuda.h"
#include "tests/cuda/driver.h"
#include "tests/fault/harness.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

fault_control fault_now;

static emulated_driver *driver;
static bool driver_armed;
static uint32_t unzeroed;

static const emulated_device late = {.eager = false};
static const emulated_device at_once = {.eager = true};

static const fault_variant variants[] = {
    {.name = "", .driver = &late},
    {.name = ", done at once by general kernels", .driver = &at_once, .disable = SKIM_FEATURE_WIDE},
};

static void count_fired(void)
{
    fault_now.fired++;
}

static void note_violation(const char *text)
{
    fault_violation("the driver: %s", text);
}

static bool find_driver(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "skim_emulated_driver") : NULL;
    if (!symbol) {
        fprintf(stderr, "libcuda.so.1 is not the emulated driver: LD_LIBRARY_PATH must begin with "
                        "its folder (tests/cuda of the build)\n");
        return false;
    }
    skim_emulated_driver_function *find;
    memcpy(&find, &symbol, sizeof symbol);
    driver = find();
    driver->fires = count_fired;
    driver->notes = note_violation;
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

static bool is_driver_plan(const fault_plan *plan)
{
    return plan->kind == FAULT_DRIVER || plan->kind == FAULT_LOSS || plan->kind == FAULT_WORK;
}

void fault_reset(const fault_variant *variant, const fault_plan *plan)
{
    const emulated_plan none = {.set = false};
    fault_control *now = &fault_now;
    now->variant = *variant;
    now->plan = *plan;
    if (is_driver_plan(plan)) // the command line gives call and result only
        now->plan.status =
            make_plan((emulated_call)plan->call, (CUresult)plan->result, plan->persistent).status;
    now->armed = now->lifted = driver_armed = false;
    now->allocations = now->threads = now->fired = 0;
    unzeroed = 0;
    now->violation[0] = '\0';
    driver->forget(); // nothing, unless the run before left something
    driver->device = *(const emulated_device *)variant->driver;
    driver->reset(&none);
}

void fault_arm(bool device)
{
    fault_now.armed = true;
    if (!device || driver_armed)
        return;
    const fault_plan *plan = &fault_now.plan;
    const emulated_plan armed = {.set = is_driver_plan(plan) && !fault_now.lifted,
                                 .call = (emulated_call)plan->call,
                                 .index = plan->index,
                                 .persistent = plan->persistent,
                                 .result = (CUresult)plan->result};
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
    static const skim_registration cuda = {"cuda", &skim_backend_cuda};
    return &cuda;
}

const char *fault_selector(void)
{
    return "cuda:0";
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
    if (is_optional(plan->call) || unzeroed > 0)
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

void fault_describe(const fault_plan *plan, char *text, size_t size)
{
    const char *after = plan->persistent ? " and all after it" : "";
    if (plan->kind == FAULT_NONE)
        snprintf(text, size, "no fault");
    else if (plan->kind == FAULT_ALLOCATION)
        snprintf(text, size, "allocation %u%s", plan->index, after);
    else
        snprintf(text, size, "%s %u%s gives %d", driver->name((emulated_call)plan->call),
                 plan->index, after, (int)plan->result);
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

// ---- running

static void run_scenario(harness *h)
{
    static const CUresult results[] = {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_VALUE,
                                       CUDA_ERROR_ILLEGAL_ADDRESS};
    uint32_t injected = h->injected, calls[EMULATED_CALLS], all = 0;
    h->failed_before = h->failed;
    h->fresh = h->scenario->fresh;
    if (!harness_run_undisturbed(h))
        return;
    for (int call = 0; call < EMULATED_CALLS; call++)
        all += calls[call] = driver->calls[call];
    for (int call = 0; call < EMULATED_CALLS; call++)
        for (size_t r = 0; r < sizeof results / sizeof *results; r++)
            for (int persistent = 0; persistent < 2; persistent++)
                if (call != EMULATED_CALL_GetErrorName)
                    harness_run_indices(h, make_plan((emulated_call)call, results[r], persistent),
                                        calls[call]);
    for (int persistent = 0; persistent < 2; persistent++)
        harness_run_indices(h, (fault_plan){.kind = FAULT_ALLOCATION, .persistent = persistent},
                            h->counts.allocations);
    printf("%s%s: %u faults (of %u allocations and %u calls of the driver)\n", h->scenario->name,
           h->variant->name, h->injected - injected, h->counts.allocations, all);
    fflush(stdout);
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
