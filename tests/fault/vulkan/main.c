// Plays every scenario on the Vulkan backend over the fake driver: each entry point fails at each
// of its calls, with each result that the specification allows it (harness.h has the command line).
#include "tests/fault/vulkan/driving.h"

#include <stdio.h>
#include <string.h>

static fake_control *driver;

static const fake_lies late = {.eager = false};
static const fake_lies at_once = {.eager = true, .subgroup_size = 4, .no_budget = true};
// Two of the layers have 128 slots in a chunk; staging is in one piece, which it must be.
static const fake_lies split = {.allocation_max = 512 << 10};
enum { SPLIT_CAPACITY = 2048, SPLIT_BALLAST = 125 * 8 };
enum { FINE_STRIDE = 24, SLOW_STEP = 64 };

static const fault_variant variants[] = {
    {.name = "", .driver = &late},
    {.name = ", done at once by general kernels", .driver = &at_once, .disable = SKIM_FEATURE_WIDE},
    {.name = ", its buffers split",
     .driver = &split,
     .capacity = SPLIT_CAPACITY,
     .ballast = SPLIT_BALLAST},
    {.name = ", in small submissions", .driver = &late, .work = 1e5},
};

// Prompts of hundreds of tokens, which the fake driver attends to one number at a time.
static bool is_slow(const scenario *one)
{
    return one->options.step_tokens > SLOW_STEP;
}

// With a coarse stride a scenario sees some of the results, and the next one others.
static void run_call(harness *h, uint32_t call, uint32_t count)
{
    const VkResult *results = driver->errors((fake_call)call);
    uint32_t step = h->stride > FINE_STRIDE || is_slow(h->scenario) ? 3 : 1;
    uint32_t first = (uint32_t)(h->scenario - fault_scenarios + (h->variant - variants)) % step;
    for (uint32_t i = 0; results[i] != VK_SUCCESS; i++)
        for (int persistent = 0; persistent < 2 && i % step == first; persistent++)
            harness_run_indices(h, driving_plan((fake_call)call, results[i], persistent), count);
}

static void run_scenario(harness *h)
{
    uint32_t calls[FAKE_CALLS];
    // In pieces its staging would be split too; and where submissions are small it is worth the
    // time.
    if (is_slow(h->scenario) && h->variant->work == 0)
        return;
    h->failed_before = h->failed;
    h->fresh = h->scenario->fresh;
    if (!harness_run_undisturbed(h))
        return;
    memcpy(calls, driver->calls, sizeof calls);
    if (h->variant->capacity > 0 && !h->scenario->options.capacity &&
        strcmp(h->scenario->name, "tier 2") != 0 && driver->split_dispatches == 0) {
        printf("FAILED: %s%s: no buffer was split\n", h->scenario->name, h->variant->name);
        h->failed++;
    }
    // Two scenarios are short enough that every call can fail.
    bool is_short = h->scenario->fresh || strcmp(h->scenario->name, "tier 2") == 0;
    uint32_t stride = h->stride;
    h->stride = is_short && h->variant == variants && stride <= FINE_STRIDE ? 1 : stride;
    fault_run_calls(h, calls, FAKE_CALLS, run_call);
    h->stride = stride;
}

int main(int argc, char **argv)
{
    static harness h;
    driver = driving_find();
    if (!driver)
        return 2;
    h.variants = variants;
    h.variant_count = sizeof variants / sizeof *variants;
    h.run_scenario = run_scenario;
    return harness_main(&h, argc, argv);
}
