#include "tests/fault/harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILURES_SHOWN = 20 };

fault_control fault_now;

void fault_violation(const char *format, ...)
{
    if (fault_now.violation[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault_now.violation, sizeof fault_now.violation, format, arguments);
    va_end(arguments);
}

static void report(const harness *h, const fault_plan *plan)
{
    char words[128];
    fault_describe(plan, words, sizeof words);
    printf("FAILED: %s%s, %s: %s\n", h->scenario->name, h->variant->name, words, h->world.problem);
    bool driver = plan->kind == FAULT_DRIVER || plan->result != 0;
    printf("  repeat: %s --only '%s' --fault %d %d %d %d %u %d %d\n", h->program, h->scenario->name,
           (int)(h->variant - h->variants), h->fresh, (int)plan->kind,
           driver ? (int)plan->call : (int)plan->entry, plan->index, plan->persistent,
           driver ? (int)plan->result : (int)plan->status);
}

static void check_results(harness *h)
{
    world *w = &h->world;
    w->call = "the end";
    if (w->result_size != h->expected_size)
        world_problem(w, "%zu bytes of results; undisturbed there are %zu", w->result_size,
                      h->expected_size);
    else if (memcmp(w->results, h->expected, h->expected_size) != 0)
        world_problem(w, "the results differ from those of the undisturbed run");
}

static skim_status play(harness *h)
{
    world *w = &h->world;
    skim_status status = world_open(w, h->scenario->name, &h->scenario->options, h->fresh);
    if (status == SKIM_OK)
        status = h->scenario->run(w);
    if (status != SKIM_OK && status != SKIM_DEVICE_LOST)
        world_problem(w, "the scenario ended with \"%s\"", skim_status_name(status));
    return status;
}

// One run with a fault. A lost device is closed, and opened again on the same runtime. That making
// everything anew gives right results is what the next run shows.
static bool run_with(harness *h, const fault_plan *plan)
{
    world *w = &h->world;
    w->problem[0] = '\0';
    w->verify = false;
    w->absorbed = 0;
    if (h->verbose) {
        char words[128];
        fault_describe(plan, words, sizeof words);
        printf("%s%s, %s\n", h->scenario->name, h->variant->name, words);
        fflush(stdout);
    }
    fault_reset(h->variant, plan);
    skim_status status = play(h);
    if (status == SKIM_DEVICE_LOST && !w->problem[0]) {
        world_close_device(w);
        fault_lift();
        if (!w->runtime || w->problem[0])
            status = SKIM_OK;
        else if (plan->index % 8 == 0)
            status = play(h);
        else
            status = SKIM_DEVICE_LOST;
    }
    if (status == SKIM_OK && w->runtime)
        check_results(h);
    world_close(w);
    // Some are reached only when everything goes.
    if (fault_now.fired == 0 && !w->problem[0])
        world_problem(w, "the fault was not reached");
    h->absorbed += w->absorbed;
    h->injected++;
    if (!w->problem[0])
        return true;
    h->failed++;
    report(h, plan);
    return false;
}

// The undisturbed run, twice: checked against plain attention, then counted.
bool harness_run_undisturbed(harness *h)
{
    static const fault_plan none = {.kind = FAULT_NONE};
    world *w = &h->world;
    for (int pass = 0; pass < 2; pass++) {
        w->problem[0] = '\0';
        w->verify = pass == 0;
        fault_reset(h->variant, &none);
        skim_status status = play(h);
        w->call = "the undisturbed run";
        if (status != SKIM_OK)
            world_problem(w, "ended with \"%s\"", skim_status_name(status));
        h->counts = fault_now;
        if (pass == 1)
            check_results(h);
        memcpy(h->expected, w->results, w->result_size);
        h->expected_size = w->result_size;
        world_close(w);
        if (w->problem[0]) {
            h->failed++;
            report(h, &none);
            return false;
        }
    }
    return true;
}

void harness_run_indices(harness *h, fault_plan plan, uint32_t count)
{
    // With a stride every scenario starts elsewhere, so that together they see most.
    uint32_t first = h->stride > 1 ? (uint32_t)(h->scenario - fault_scenarios) % h->stride : 0;
    if (first >= count)
        first = 0;
    for (uint32_t i = first; i < count && h->failed - h->failed_before < FAILURES_SHOWN;
         i += h->stride) {
        plan.index = i;
        run_with(h, &plan);
    }
}

// --- the command line

static uint32_t number(const char *text)
{
    return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

typedef struct arguments {
    const char *only;
    uint32_t part, parts; // this one of so many
    fault_plan plan;      // to repeat one
    uint32_t variant;
    bool fresh;
} arguments;

static bool parse(harness *h, arguments *given, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            h->verbose = true;
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            given->only = argv[++i];
        } else if (strcmp(argv[i], "--stride") == 0 && i + 1 < argc) {
            h->stride = number(argv[++i]);
        } else if (strcmp(argv[i], "--part") == 0 && i + 2 < argc) {
            given->part = number(argv[++i]);
            given->parts = number(argv[++i]);
        } else if (strcmp(argv[i], "--fault") == 0 && i + 7 < argc) {
            given->variant = number(argv[++i]);
            given->fresh = number(argv[++i]);
            given->plan.kind = (fault_kind)number(argv[++i]);
            given->plan.entry = (fault_entry)number(argv[++i]);
            given->plan.index = number(argv[++i]);
            given->plan.persistent = number(argv[++i]);
            given->plan.status = (skim_status)number(argv[++i]);
            given->plan.call = (uint32_t)given->plan.entry; // whichever of the two it is
            given->plan.result = (int32_t)given->plan.status;
        } else {
            fprintf(stderr, "fault: cannot read %s\n", argv[i]);
            return false;
        }
    }
    return h->stride > 0 && given->parts > 0;
}

static uint32_t run_all(harness *h, const arguments *given)
{
    uint32_t scenarios = 0;
    for (uint32_t i = 0; i < h->variant_count * fault_scenario_count; i++) {
        uint32_t v = i / fault_scenario_count;
        h->scenario = &fault_scenarios[i % fault_scenario_count];
        h->variant = &h->variants[v];
        bool repeats = given->plan.kind != FAULT_NONE;
        if (given->only && !strstr(h->scenario->name, given->only))
            continue;
        if (repeats ? v != given->variant : i % given->parts != given->part)
            continue;
        scenarios++;
        h->fresh = given->fresh;
        if (!repeats)
            h->run_scenario(h);
        else if (harness_run_undisturbed(h))
            run_with(h, &given->plan);
    }
    return scenarios;
}

int harness_main(harness *h, int argc, char **argv)
{
    h->program = argv[0];
    h->stride = 1;
    arguments given = {.parts = 1};
    if (!parse(h, &given, argc, argv))
        return 2;
    h->expected = malloc(WORLD_RESULTS);
    uint32_t scenarios = run_all(h, &given);
    free(h->expected);
    free(h->world.results);
    printf("%u faults injected in %u scenarios; %llu of them had another way\n", h->injected,
           scenarios, (unsigned long long)h->absorbed);
    // A scenario that fails undisturbed has injected nothing, and is one failure.
    uint32_t passed = h->injected > h->failed ? h->injected - h->failed : 0;
    printf("%u passed, %u failed, 0 skipped\n", passed, h->failed);
    return h->failed || scenarios == 0;
}
