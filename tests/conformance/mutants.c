// The test of the suite itself: the library is built with wrong versions of single decisions, and
// the quick cases must catch each one, and none in the unchanged library.
#include "conformance.h"
#include "runtime/mutant.h"

#include <stdio.h>
#include <string.h>

skim_mutant_id skim_mutant;

typedef struct mutant {
    skim_mutant_id id;
    const char *name, *text;
} mutant;

static const mutant mutants[] = {
#define MUTANT_ENTRY(name, text) {SKIM_MUTANT_##name, #name, text},
    SKIM_MUTANT_LIST(MUTANT_ENTRY)
#undef MUTANT_ENTRY
};

// The case that failed first, and how many ran.
typedef struct outcome {
    char name[128], detail[400];
    uint32_t cases;
} outcome;

static void remember(void *user, const conformance_result *result)
{
    outcome *seen = user;
    seen->cases++;
    if (result->outcome == CONFORMANCE_FAILED && !seen->name[0]) {
        snprintf(seen->name, sizeof seen->name, "%s", result->name);
        snprintf(seen->detail, sizeof seen->detail, "%.*s", (int)strcspn(result->detail, "\n"),
                 result->detail);
    }
}

static conformance_status run_quick(skim_mutant_id id, const char *device, outcome *seen)
{
    *seen = (outcome){.cases = 0};
    conformance_options options = {
        .device = device, .quick = true, .stop = true, .report = remember, .user = seen};
    conformance_totals totals;
    skim_mutant = id;
    char error[300];
    conformance_status status = conformance_run(&options, &totals, error, sizeof error);
    if (status != CONFORMANCE_OK && status != CONFORMANCE_FAILURES) {
        snprintf(seen->detail, sizeof seen->detail, "%s", error);
    }
    return status;
}

static bool is_clean(const char *device)
{
    outcome seen;
    conformance_status status = run_quick(SKIM_MUTANT_none, device, &seen);
    printf("%s without a mutant: %u cases %s %s\n", status == CONFORMANCE_OK ? "passed" : "FAILED",
           seen.cases, seen.name, seen.detail);
    return status == CONFORMANCE_OK;
}

static bool is_caught(const mutant *it, const char *device)
{
    outcome seen;
    conformance_status status = run_quick(it->id, device, &seen);
    if (status == CONFORMANCE_FAILURES) {
        printf("caught %s (%s)\n  by %s, case %u: %s\n", it->name, it->text, seen.name, seen.cases,
               seen.detail);
    } else {
        printf("FAILED %s (%s) lives through %u cases %s\n", it->name, it->text, seen.cases,
               seen.detail);
    }
    fflush(stdout);
    return status == CONFORMANCE_FAILURES;
}

int main(int count, char **values)
{
    const char *device = "cpu";
    const char *only = NULL;
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(values[i], "--device") == 0) {
            device = values[i + 1];
        } else if (strcmp(values[i], "--mutant") == 0) {
            only = values[i + 1];
        }
    }
    uint32_t passed = 0;
    uint32_t failed = 0;
    if (!only) {
        bool clean = is_clean(device);
        passed += clean;
        failed += !clean;
    }
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        if (only && strcmp(only, mutants[i].name) != 0) {
            continue;
        }
        bool caught = is_caught(&mutants[i], device);
        passed += caught;
        failed += !caught;
    }
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed || !passed;
}
