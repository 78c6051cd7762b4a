// The test of the suite itself: the library is built with wrong versions of single decisions, and
// the quick cases must catch each one, and none in the unchanged library.
#include "conformance.h"
#include "runtime/mutant.h"

#include <stdio.h>
#include <stdlib.h>
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

static conformance_status run_quick(skim_mutant_id id, const conformance_options *wanted,
                                    outcome *seen)
{
    *seen = (outcome){.cases = 0};
    conformance_options options = *wanted;
    options.quick = options.stop = true;
    options.report = remember;
    options.user = seen;
    conformance_totals totals;
    skim_mutant = id;
    char error[300];
    conformance_status status = conformance_run(&options, &totals, error, sizeof error);
    if (status != CONFORMANCE_OK && status != CONFORMANCE_FAILURES) {
        snprintf(seen->detail, sizeof seen->detail, "%s", error);
    }
    return status;
}

static bool is_clean(const conformance_options *options)
{
    outcome seen;
    conformance_status status = run_quick(SKIM_MUTANT_none, options, &seen);
    printf("%s without a mutant: %u cases %s %s\n", status == CONFORMANCE_OK ? "passed" : "FAILED",
           seen.cases, seen.name, seen.detail);
    return status == CONFORMANCE_OK;
}

// The cases of its own verb first: where kernels are built for each mutant anew, every case counts.
static bool is_caught(const mutant *it, const conformance_options *options)
{
    outcome seen;
    char verb[32];
    conformance_options first = *options;
    snprintf(verb, sizeof verb, "%.*s/", (int)strcspn(it->name, "_"), it->name);
    first.filter = verb;
    first.every = 0;
    conformance_status status = run_quick(it->id, &first, &seen);
    if (status != CONFORMANCE_FAILURES) {
        first.filter = NULL;
        status = run_quick(it->id, &first, &seen);
    }
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

static int usage(void)
{
    fputs("usage: conformance_mutants [--device SEL] [--mutant NAME] [--disable FEATURE,...]\n"
          "                           [--every N]\n"
          "  --every  of the cases without a mutant only every N-th\n",
          stderr);
    return 2;
}

// What the core does is the same on every device: the CPU's run tests it.
static bool is_of_device(const mutant *it, const char *device)
{
    return strcmp(device, "cpu") == 0 || strncmp(it->name, "core_", 5) != 0;
}

int main(int count, char **values)
{
    conformance_options options = {.device = "cpu"};
    const char *only = NULL;
    for (int i = 1; i < count; i += 2) {
        bool known = i + 1 < count;
        if (known && strcmp(values[i], "--device") == 0) {
            options.device = values[i + 1];
        } else if (known && strcmp(values[i], "--mutant") == 0) {
            only = values[i + 1];
        } else if (known && strcmp(values[i], "--disable") == 0) {
            known = conformance_parse_features(values[i + 1], &options.disable);
        } else if (known && strcmp(values[i], "--every") == 0) {
            options.every = (uint32_t)strtoul(values[i + 1], NULL, 10);
        } else {
            known = false;
        }
        if (!known) {
            return usage();
        }
    }
    uint32_t passed = 0;
    uint32_t failed = 0;
    if (!only) {
        bool clean = is_clean(&options);
        passed += clean;
        failed += !clean;
    }
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        if ((only && strcmp(only, mutants[i].name) != 0) ||
            !is_of_device(&mutants[i], options.device)) {
            continue;
        }
        bool caught = is_caught(&mutants[i], &options);
        passed += caught;
        failed += !caught;
    }
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed || !passed;
}
