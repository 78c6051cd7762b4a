// Plays every scenario with every fault in turn (harness.h has the command line).
#include "tests/fault/harness.h"

#include <stdio.h>

enum { LOSSES = 200 };

static const fault_variant variants[] = {
    {.name = ""},
    {.name = ", its memory hidden", .hidden = true},
    {.name = ", its memory hidden and decode fused", .hidden = true, .fused = true},
};

static void run_entry(harness *h, fault_entry entry)
{
    const skim_status statuses[] = {SKIM_FAILED, SKIM_NO_MEMORY};
    for (int s = 0; s < 2; s++) {
        for (int persistent = 0; persistent < 2; persistent++)
            harness_run_indices(h,
                                (fault_plan){.kind = FAULT_ENTRY,
                                             .entry = entry,
                                             .persistent = persistent,
                                             .status = statuses[s]},
                                h->counts.calls[entry]);
    }
}

// Allocations and losses from the first call on, except in the variants: making things is the same
// there.
static void run_scenario(harness *h)
{
    uint32_t injected = h->injected;
    h->failed_before = h->failed;
    h->fresh = h->scenario->fresh;
    if (!harness_run_undisturbed(h))
        return;
    fault_control counts = h->counts;
    for (int persistent = 0; persistent < 2; persistent++) {
        harness_run_indices(h, (fault_plan){.kind = FAULT_WORK, .persistent = persistent},
                            counts.submissions);
        harness_run_indices(h, (fault_plan){.kind = FAULT_THREAD, .persistent = persistent},
                            counts.threads);
    }
    for (int entry = 0; entry < FAULT_ENTRY_COUNT; entry++) {
        if (entry != FAULT_wait) // whose failure is that of the work: FAULT_WORK
            run_entry(h, (fault_entry)entry);
    }
    h->fresh |= h->variant == h->variants;
    if (h->fresh != h->scenario->fresh && !harness_run_undisturbed(h))
        return;
    for (int persistent = 0; persistent < 2; persistent++)
        harness_run_indices(h, (fault_plan){.kind = FAULT_ALLOCATION, .persistent = persistent},
                            h->counts.allocations);
    uint32_t calls = h->counts.all_calls;
    harness_run_indices(h, (fault_plan){.kind = FAULT_LOSS}, calls < LOSSES ? calls : LOSSES);
    printf("%s%s: %u faults (of %u allocations, %u entry calls, %u submissions, %u threads)\n",
           h->scenario->name, h->variant->name, h->injected - injected, h->counts.allocations,
           h->counts.all_calls, counts.submissions, counts.threads);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static harness h;
    h.variants = variants;
    h.variant_count = sizeof variants / sizeof *variants;
    h.run_scenario = run_scenario;
    return harness_main(&h, argc, argv);
}
