// Random operations on one device.
#include "random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: random_operations [--device SEL] [--threads N] [--seed S] [--operations N]\n",
          stderr);
    return 2;
}

static bool parse(int count, char **values, run_options *options)
{
    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count)
            return false;
        const char *name = values[i], *value = values[i + 1];
        char *end = NULL;
        unsigned long long number = strtoull(value, &end, 10);
        bool is_number = *value && !*end;
        if (strcmp(name, "--device") == 0)
            options->device = value;
        else if (strcmp(name, "--threads") == 0 && is_number)
            options->threads = (uint32_t)number;
        else if (strcmp(name, "--seed") == 0 && is_number)
            options->seed = number;
        else if (strcmp(name, "--operations") == 0 && is_number)
            options->operations = number;
        else
            return false;
    }
    return true;
}

static void print_counts(const counts *n)
{
    const struct {
        const char *what;
        uint64_t count;
    } lines[] = {
        {"operations", n->operations},
        {"caches", n->caches},
        {"of these with int8 bounds", n->i8_caches},
        {"steps", n->steps},
        {"tokens appended", n->tokens},
        {"attends", n->attends},
        {"sparse sequences in them", n->sparse},
        {"entries of NaN and Inf", n->harmful},
        {"results held against the oracle", n->oracle},
        {"forks", n->forks},
        {"pages copied on write", n->copies},
        {"truncates", n->truncates},
        {"reserves", n->reserves},
        {"cancels", n->cancels},
        {"saves", n->saves},
        {"loads", n->loads},
        {"calls refused", n->refused},
        {"of these for want of slots", n->no_slots},
        {"sequences read from raw memory", n->payloads},
        {"page ends found zero", n->tails},
    };
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        printf("%10" PRIu64 " %s\n", lines[i].count, lines[i].what);
}

int main(int count, char **values)
{
    run_options options = {.device = "cpu", .program = values[0], .seed = 1, .operations = 10000};
    if (!parse(count, values, &options))
        return usage();
    counts totals;
    printf("seed %" PRIu64 ", %" PRIu64 " operations on %s\n", options.seed, options.operations,
           options.device);
    fflush(stdout);
    int result = run_random(&options, &totals);
    if (result == 0)
        print_counts(&totals);
    printf("%d passed, %d failed, %d skipped\n", result == 0, result == 1, result == 77);
    return result;
}
