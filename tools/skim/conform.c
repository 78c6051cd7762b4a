// skim conform: the conformance suite on a device.
#include "commands.h"
#include "report.h"

#ifdef SKIM_CONFORMANCE

#include "conformance.h"

#include <stdio.h>

struct run {
    bool json;
    json_t *cases;
};

static const char *const outcomes[] = {"passed", "failed", "skipped"};

static void report(void *user, const conformance_result *result)
{
    struct run *run = user;
    if (run->json) {
        json_t *one = json_pack("{s:s, s:s, s:s, s:I, s:o}", "name", result->name, "outcome",
                                outcomes[result->outcome], "detail", result->detail, "seed",
                                (json_int_t)result->seed, "ms", report_real(result->milliseconds));
        json_array_append_new(run->cases, one);
    } else if (result->outcome != CONFORMANCE_PASSED) {
        printf("%s: %s: %s\n", outcomes[result->outcome], result->name, result->detail);
    }
}

static void count(void *user, const char *name)
{
    (void)name;
    ++*(uint64_t *)user;
}

struct shown {
    struct run run;
    uint64_t done, of;
};

static void report_and_show(void *user, const conformance_result *result)
{
    struct shown *shown = user;
    if (result->outcome != CONFORMANCE_PASSED && !shown->run.json)
        progress_clear();
    report(&shown->run, result);
    progress_show("cases", ++shown->done, shown->of);
}

int conform_run(const struct settings *settings)
{
    struct shown shown = {.run = {settings->json, json_array()}};
    conformance_options options = {.device = settings->device,
                                   .threads = settings->threads,
                                   .disable = settings->disable,
                                   .allocation_max = settings->allocation_max,
                                   .quick = settings->quick,
                                   .filter = settings->filter,
                                   .seed = settings->seed,
                                   .report = report_and_show,
                                   .user = &shown};
    if (!options.device && options.allocation_max) // which the CPU does not have
        options.device = "vulkan";
    conformance_totals totals = {0};
    char error[512] = "";
    conformance_list(&options, count, &shown.of);
    conformance_status status = conformance_run(&options, &totals, error, sizeof error);
    progress_clear();
    if (status == CONFORMANCE_ERROR || status == CONFORMANCE_NO_DEVICE) {
        json_decref(shown.run.cases);
        return status == CONFORMANCE_NO_DEVICE ? report_status(SKIM_NO_DEVICE, error)
                                               : report_failure("%s", error);
    }
    int failed = EXIT_DONE;
    if (settings->json)
        failed = report_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:o}", "device", options.device ? options.device : "auto",
            "passed", (json_int_t)totals.passed, "failed", (json_int_t)totals.failed, "skipped",
            (json_int_t)totals.skipped, "cases", shown.run.cases));
    else
        json_decref(shown.run.cases);
    if (!settings->json)
        printf("%u passed, %u failed, %u skipped\n", totals.passed, totals.failed, totals.skipped);
    return failed ? failed : status == CONFORMANCE_OK ? EXIT_DONE : EXIT_FAILED;
}

#else

int conform_run(const struct settings *settings)
{
    (void)settings;
    return report_failure("this skim was built without its tests; build it with -Dtests=enabled");
}

#endif
