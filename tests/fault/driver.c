#include "tests/fault/driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static bool driver_armed;
static uint32_t unzeroed;

bool fault_driver_find(const char *library, const char *symbol, const char *folder, void *function,
                       size_t size)
{
    void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *found = opened ? dlsym(opened, symbol) : NULL;
    if (found)
        memcpy(function, &found, size);
    else
        fprintf(stderr,
                "%s is not the tests' own: LD_LIBRARY_PATH must begin with %s of the build\n",
                library, folder);
    return found != NULL;
}

void fault_driver_fires(void)
{
    fault_now.fired++;
}

void fault_driver_notes(const char *text)
{
    fault_violation("the driver: %s", text);
}

bool fault_is_of_driver(const fault_plan *plan)
{
    return plan->kind == FAULT_DRIVER || plan->kind == FAULT_LOSS || plan->kind == FAULT_WORK;
}

uint32_t fault_unzeroed(void)
{
    return unzeroed;
}

void fault_run_calls(harness *h, const uint32_t *counts, uint32_t count,
                     void (*run_call)(harness *h, uint32_t call, uint32_t calls))
{
    const uint32_t injected = h->injected;
    uint32_t all = 0;
    for (uint32_t call = 0; call < count; call++) {
        all += counts[call];
        run_call(h, call, counts[call]);
    }
    for (int persistent = 0; persistent < 2; persistent++)
        harness_run_indices(h, (fault_plan){.kind = FAULT_ALLOCATION, .persistent = persistent},
                            h->counts.allocations);
    printf("%s%s: %u faults (of %u allocations and %u calls of the driver)\n", h->scenario->name,
           h->variant->name, h->injected - injected, h->counts.allocations, all);
    fflush(stdout);
}

// ---- what failing.h asks for

void fault_reset(const fault_variant *variant, const fault_plan *plan)
{
    fault_control *now = &fault_now;
    now->variant = *variant;
    now->plan = *plan;
    if (fault_is_of_driver(plan)) // the command line gives call and result only
        now->plan.status =
            fault_driver_here.plan(plan->call, plan->result, plan->persistent).status;
    now->armed = now->lifted = driver_armed = false;
    now->allocations = now->threads = now->fired = 0;
    unzeroed = 0;
    now->violation[0] = '\0';
    fault_driver_here.present(variant->driver); // nothing is left, unless by the run before
    fault_driver_here.reset(plan, false);
}

void fault_arm(bool device)
{
    fault_now.armed = true;
    if (!device || driver_armed)
        return;
    const fault_plan *plan = &fault_now.plan;
    fault_driver_here.reset(plan, fault_is_of_driver(plan) && !fault_now.lifted);
    driver_armed = true;
}

void fault_lift(void)
{
    fault_now.lifted = true;
    fault_driver_here.lift();
}

const skim_registration *fault_registration(void)
{
    return &fault_driver_here.backend;
}

const char *fault_selector(void)
{
    return fault_driver_here.selector;
}

static void take_message(void *user, skim_log_level level, const char *text)
{
    (void)user, (void)level;
    unzeroed += strstr(text, "without being zeroed") != NULL;
    if (fault_driver_here.message)
        fault_driver_here.message(text);
}

skim_log fault_log(void)
{
    return (skim_log){.message = take_message, .level = SKIM_LOG_WARNING};
}

void fault_describe(const fault_plan *plan, char *text, size_t size)
{
    const char *after = plan->persistent ? " and all after it" : "";
    if (plan->kind == FAULT_NONE)
        snprintf(text, size, "no fault");
    else if (plan->kind == FAULT_ALLOCATION)
        snprintf(text, size, "allocation %u%s", plan->index, after);
    else
        snprintf(text, size, "%s %u%s gives %d", fault_driver_here.name(plan->call), plan->index,
                 after, (int)plan->result);
}

// A GPU backend keeps nothing that could write to host memory by itself: downloads land in waits.
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
