// The conformance suite on one device.
#include "conformance.h"
#include "skim/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: conformance [--device SEL] [--quick] [--filter TEXT] [--every N] [--seed N]\n"
          "                   [--threads N] [--disable FEATURE,...] [--allocation-max BYTES]\n"
          "                   [--stop] [--verbose] [--list]\n",
          stderr);
    return 2;
}

typedef struct arguments {
    conformance_options options;
    bool verbose, list;
} arguments;

static bool parse_value(conformance_options *options, const char *name, const char *value)
{
    char *end = NULL;
    if (strcmp(name, "--device") == 0) {
        options->device = value;
    } else if (strcmp(name, "--filter") == 0) {
        options->filter = value;
    } else if (strcmp(name, "--disable") == 0) {
        return conformance_parse_features(value, &options->disable);
    } else if (strcmp(name, "--seed") == 0) {
        options->seed = strtoull(value, &end, 10);
        return *value && !*end;
    } else if (strcmp(name, "--allocation-max") == 0) {
        options->allocation_max = strtoull(value, &end, 10);
        return *value && !*end;
    } else if (strcmp(name, "--every") == 0) {
        options->every = (uint32_t)strtoul(value, &end, 10);
        return *value && !*end;
    } else if (strcmp(name, "--threads") == 0) {
        options->threads = (uint32_t)strtoul(value, &end, 10);
        return *value && !*end;
    } else {
        return false;
    }
    return true;
}

static bool parse(int count, char **values, arguments *parsed)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(values[i], "--quick") == 0) {
            parsed->options.quick = true;
        } else if (strcmp(values[i], "--stop") == 0) {
            parsed->options.stop = true;
        } else if (strcmp(values[i], "--verbose") == 0) {
            parsed->verbose = true;
        } else if (strcmp(values[i], "--list") == 0) {
            parsed->list = true;
        } else if (i + 1 >= count || !parse_value(&parsed->options, values[i], values[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    return true;
}

static void report(void *user, const conformance_result *result)
{
    const arguments *parsed = user;
    if (result->outcome == CONFORMANCE_FAILED) {
        printf("FAILED %s (seed %llu)\n  %s\n", result->name, (unsigned long long)result->seed,
               result->detail);
    } else if (parsed->verbose) {
        printf("%s %s %.1f ms %s\n", result->outcome == CONFORMANCE_PASSED ? "passed" : "skipped",
               result->name, result->milliseconds, result->detail);
    }
    fflush(stdout);
}

static void print_name(void *user, const char *name)
{
    (void)user;
    puts(name);
}

// Whether the environment demands the backend of a selector such as "vulkan:1".
static bool is_required(const char *device)
{
    const char *required = getenv("SKIM_REQUIRE");
    size_t length = strcspn(device, ":");
    while (required && *required) {
        size_t item = strcspn(required, ",");
        if (item == length && strncmp(required, device, length) == 0) {
            return true;
        }
        required += item + (required[item] == ',');
    }
    return false;
}

int main(int count, char **values)
{
    arguments parsed = {.options = {.report = report}};
    parsed.options.user = &parsed;
    if (!parse(count, values, &parsed)) {
        return usage();
    }
    if (parsed.list) {
        conformance_list(&parsed.options, print_name, NULL);
        return 0;
    }
    char error[400];
    conformance_totals totals;
    // Only Vulkan's and OpenCL's devices have memory in pieces.
    if (!parsed.options.device && parsed.options.allocation_max) {
        parsed.options.device = "vulkan";
    }
    const char *device = parsed.options.device ? parsed.options.device : "auto";
    conformance_status status = conformance_run(&parsed.options, &totals, error, sizeof error);
    if (status == CONFORMANCE_NO_DEVICE) {
        bool required = is_required(device);
        printf("%s %s: %s\n", required ? "FAILED" : "SKIPPED", device, error);
        printf("0 passed, %d failed, %d skipped\n", required, !required);
        return required ? 1 : 77;
    }
    if (status == CONFORMANCE_ERROR) {
        fprintf(stderr, "conformance: %s\n", error);
        return 2;
    }
    printf("%s\n%u passed, %u failed, %u skipped\n", device, totals.passed, totals.failed,
           totals.skipped);
    return status == CONFORMANCE_OK ? 0 : 1;
}
