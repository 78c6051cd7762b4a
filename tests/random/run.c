// A run: worlds one after another until so many operations were made.
#include "random.h"

#include <inttypes.h>
#include <stdio.h>

// Operations in one world.
enum { WORLD_OPERATIONS_MIN = 100, WORLD_OPERATIONS_MAX = 900 };

static void print_failure(const world *w, const run_options *options, const char *detail)
{
    printf("FAILED at operation %" PRIu64 " of seed %" PRIu64 ": %s\n", w->counts.operations,
           options->seed, detail);
    uint64_t first = w->trace_count > TRACE_LINES ? w->trace_count - TRACE_LINES : 0;
    for (uint64_t i = first; i < w->trace_count; i++)
        printf("  | %s\n", w->trace[i % TRACE_LINES]);
    printf(
        "  repeat with: %s --device %s --threads %u --seed %" PRIu64 " --operations %" PRIu64 "\n",
        options->program, options->device, options->threads, options->seed, w->counts.operations);
}

static bool live(world *w, const run_options *options, char *detail, size_t size)
{
    uint64_t left = options->operations - w->counts.operations;
    uint64_t count = between(w, WORLD_OPERATIONS_MIN, WORLD_OPERATIONS_MAX);
    bool good = world_begin(w);
    for (uint32_t i = 0; i < CACHES && !good; i++) {
        if (w->caches[i].ctx.failed)
            snprintf(detail, size, "%s", w->caches[i].ctx.detail);
    }
    for (uint64_t i = 0; good && i < count && i < left; i++)
        good = operate(w, detail, size);
    for (uint32_t i = 0; good && i < CACHES; i++) {
        good = settle(w, &w->caches[i]);
        if (!good)
            snprintf(detail, size, "at the end: %s", w->caches[i].ctx.detail);
    }
    world_end(w);
    return good;
}

static int open_device(world *w, const run_options *options)
{
    skim_device_options open = {.size_of = sizeof open, .threads = options->threads};
    skim_status status = skim_runtime_create(NULL, &w->runtime);
    if (status == SKIM_OK)
        status = skim_device_open(w->runtime, options->device, &open, &w->device);
    if (status == SKIM_OK)
        return 0;
    char text[300] = "";
    skim_runtime_error(w->runtime, text, sizeof text);
    printf("%s %s: %s\n", status == SKIM_NO_DEVICE ? "SKIPPED" : "FAILED", options->device, text);
    return status == SKIM_NO_DEVICE ? 77 : 1;
}

int run_random(const run_options *options, counts *totals)
{
    static world w; // large; one run at a time
    char detail[600] = "";
    w = (world){.dice = {.random = hash_text("random operations", options->seed)}};
    int result = open_device(&w, options);
    while (result == 0 && w.counts.operations < options->operations) {
        if (!live(&w, options, detail, sizeof detail)) {
            if (options->found)
                snprintf(options->found, options->found_size, "%s", detail);
            else
                print_failure(&w, options, detail);
            result = 1;
        }
    }
    skim_device_close(w.device);
    skim_runtime_destroy(w.runtime);
    *totals = w.counts;
    return result;
}
