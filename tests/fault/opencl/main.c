// Plays every scenario on the OpenCL backend over the fake loader: each entry point fails at each
// of its calls, with results that the specification allows it (harness.h has the command line).
#include "tests/fault/opencl/driving.h"

#include <stdio.h>
#include <string.h>

static fake_control *driver;

static const fake_lies usual = {.no_device = false};
// Two of the layers have 128 slots in a piece.
static const fake_lies split = {.allocation_max = 512 << 10};
enum { SPLIT_CAPACITY = 2048, SPLIT_BALLAST = 125 * 8, SLOW_STEP = 64 };

// General kernels are few, and none of them is the subject.
static const fault_variant variants[] = {
    {.name = "", .driver = &usual, .disable = SKIM_FEATURE_WIDE},
    {.name = ", its buffers split",
     .driver = &split,
     .disable = SKIM_FEATURE_WIDE,
     .capacity = SPLIT_CAPACITY,
     .ballast = SPLIT_BALLAST},
};

// A scenario sees some of the results, and the next one others.
static void run_call(harness *h, uint32_t call, uint32_t count)
{
    const cl_int *results = driver->errors((fake_call)call);
    const uint32_t first = (uint32_t)(h->scenario - fault_scenarios + (h->variant - variants)) % 2;
    for (uint32_t i = 0; results[i] != CL_SUCCESS; i++)
        for (int persistent = 0; persistent < 2; persistent++)
            if ((i + (uint32_t)persistent) % 2 == first)
                harness_run_indices(h, driving_plan((fake_call)call, results[i], persistent),
                                    count);
}

static void run_scenario(harness *h)
{
    uint32_t calls[FAKE_CALLS];
    if (h->scenario->options.step_tokens > SLOW_STEP)
        return; // long prompts: nothing of it is this backend's
    h->failed_before = h->failed;
    h->fresh = h->scenario->fresh;
    if (!harness_run_undisturbed(h))
        return;
    memcpy(calls, driver->calls, sizeof calls);
    if (h->variant->capacity > 0 && !h->scenario->options.capacity &&
        strcmp(h->scenario->name, "tier 2") != 0 && driver->split_launches == 0) {
        printf("FAILED: %s%s: no buffer was split\n", h->scenario->name, h->variant->name);
        h->failed++;
    }
    fault_run_calls(h, calls, FAKE_CALLS, run_call);
}

int main(int argc, char **argv)
{
    static harness h;
    bool skipped;
    driver = driving_find(&skipped);
    if (!driver)
        return skipped ? 77 : 2;
    h.variants = variants;
    h.variant_count = sizeof variants / sizeof *variants;
    h.run_scenario = run_scenario;
    return harness_main(&h, argc, argv);
}
