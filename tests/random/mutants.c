// The test of the random operations: the library is built with wrong versions of what sequences do,
// and the operations must find each one, and nothing in the unchanged library.
#include "random.h"

#include "runtime/mutant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

skim_mutant_id skim_mutant;

typedef struct mutant {
    skim_mutant_id id;
    const char *name, *text;
} mutant;

static const mutant mutants[] = {
#define MUTANT_ENTRY(name, text) {SKIM_MUTANT_##name, #name, text},
    MUTANT_ENTRY(core_fork_without_copy, "a fork's copied page lacks the shared tokens")
        SKIM_POOL_MUTANT_LIST(MUTANT_ENTRY)
#undef MUTANT_ENTRY
};

static bool is_clean(run_options options)
{
    counts totals;
    skim_mutant = SKIM_MUTANT_none;
    int result = run_random(&options, &totals);
    printf("%s without a mutant: %" PRIu64 " operations\n", result ? "FAILED" : "passed",
           totals.operations);
    return result == 0;
}

static bool is_caught(const mutant *it, run_options options)
{
    char found[600] = "";
    counts totals;
    options.found = found;
    options.found_size = sizeof found;
    skim_mutant = it->id;
    int result = run_random(&options, &totals);
    printf("%s %s (%s)\n  %s operation %" PRIu64 ": %s\n", result == 1 ? "caught" : "FAILED",
           it->name, it->text, result == 1 ? "by" : "lives through", totals.operations, found);
    fflush(stdout);
    return result == 1;
}

int main(int count, char **values)
{
    run_options options = {.device = "cpu", .program = "random_mutants", .seed = 1};
    options.operations = 20000;
    for (int i = 1; i + 1 < count; i += 2) {
        if (strcmp(values[i], "--device") == 0)
            options.device = values[i + 1];
    }
    uint32_t passed = is_clean(options), total = 1;
    for (size_t i = 0; i < COUNT_OF(mutants); i++, total++)
        passed += is_caught(&mutants[i], options);
    printf("%u passed, %u failed, 0 skipped\n", passed, total - passed);
    return passed != total;
}
