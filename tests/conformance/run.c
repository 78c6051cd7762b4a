// Runs the table on one device.
#include "skim/opencl.h"
#include "skim/vulkan.h"
#include "suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

// seen counts the cases that would be wanted without options->every.
static bool is_wanted(const conformance_options *options, const test_case *it, uint32_t *seen)
{
    if (options->quick && !it->quick) {
        return false;
    }
    if (options->filter && !strstr(it->name, options->filter)) {
        return false;
    }
    uint32_t index = (*seen)++;
    return options->every == 0 || index % options->every == 0;
}

bool conformance_parse_features(const char *text, uint64_t *features)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        uint64_t found = 0;
        for (uint32_t bit = 0; bit < 64; bit++) {
            const char *name = skim_feature_name((uint64_t)1 << bit);
            if (name && strlen(name) == length && strncmp(text, name, length) == 0) {
                found = (uint64_t)1 << bit;
            }
        }
        if (!found) {
            return false;
        }
        *features |= found;
        text += length + (text[length] == ',');
    }
    return true;
}

static uint64_t seed_of(const conformance_options *options)
{
    return options->seed ? options->seed : CONFORMANCE_DEFAULT_SEED;
}

void conformance_list(const conformance_options *options,
                      void (*visit)(void *user, const char *name), void *user)
{
    case_table table = {0};
    build_table(&table);
    uint32_t seen = 0;
    for (size_t i = 0; i < table.count; i++) {
        if (is_wanted(options, &table.cases[i], &seen)) {
            visit(user, table.cases[i].name);
        }
    }
    free(table.cases);
}

static void add_command(context *ctx, const char *name)
{
    const conformance_options *options = ctx->options;
    size_t used = strlen(ctx->detail);
    char *text = ctx->detail + used;
    size_t size = sizeof ctx->detail - used;
    char threads[32] = "";
    if (options->threads) {
        snprintf(threads, sizeof threads, " --threads %u", options->threads);
    }
    char allocation[48] = "";
    if (options->allocation_max) {
        snprintf(allocation, sizeof allocation, " --allocation-max %llu",
                 (unsigned long long)options->allocation_max);
    }
    char disable[128] = "";
    for (uint32_t bit = 0; bit < 64; bit++) {
        const char *feature = skim_feature_name(options->disable & (uint64_t)1 << bit);
        size_t length = strlen(disable);
        if (feature) {
            snprintf(disable + length, sizeof disable - length, "%s%s",
                     length ? "," : " --disable ", feature);
        }
    }
    snprintf(text, size, "\n  again: skim conform --filter '%s' --seed %llu --device %s%s%s%s",
             name, (unsigned long long)seed_of(options), options->device ? options->device : "auto",
             threads, disable, allocation);
}

static void run_case(context *ctx, const test_case *it, conformance_result *result)
{
    double start = now_ms();
    ctx->random = hash_text(it->name, seed_of(ctx->options));
    ctx->failed = false;
    ctx->skipped = false;
    ctx->detail[0] = '\0';
    if (renew_queue(ctx)) {
        it->run(ctx, &it->p);
    }
    release_case(ctx);
    if (ctx->failed) {
        add_command(ctx, it->name);
    }
    *result = (conformance_result){
        .name = it->name,
        .outcome = ctx->failed    ? CONFORMANCE_FAILED
                   : ctx->skipped ? CONFORMANCE_SKIPPED
                                  : CONFORMANCE_PASSED,
        .detail = ctx->detail,
        .seed = seed_of(ctx->options),
        .milliseconds = now_ms() - start,
    };
}

static conformance_status run_table(context *ctx, const case_table *table,
                                    conformance_totals *totals)
{
    const conformance_options *options = ctx->options;
    uint32_t seen = 0;
    for (size_t i = 0; i < table->count; i++) {
        if (!is_wanted(options, &table->cases[i], &seen)) {
            continue;
        }
        conformance_result result;
        run_case(ctx, &table->cases[i], &result);
        totals->passed += result.outcome == CONFORMANCE_PASSED;
        totals->failed += result.outcome == CONFORMANCE_FAILED;
        totals->skipped += result.outcome == CONFORMANCE_SKIPPED;
        if (options->report) {
            options->report(options->user, &result);
        }
        if (options->stop && totals->failed) {
            break;
        }
    }
    return totals->failed ? CONFORMANCE_FAILURES : CONFORMANCE_OK;
}

static conformance_status open_device(context *ctx, char *error, size_t error_size)
{
    const conformance_options *options = ctx->options;
    skim_status status = skim_runtime_create(NULL, &ctx->runtime);
    if (status != SKIM_OK) {
        snprintf(error, error_size, "skim_runtime_create: %s", skim_status_name(status));
        return CONFORMANCE_ERROR;
    }
    skim_device_options open = {
        .size_of = sizeof open, .disable = options->disable, .threads = options->threads};
    skim_vulkan_options vulkan = {.size_of = sizeof vulkan,
                                  .disable = options->disable,
                                  .allocation_max = options->allocation_max,
                                  .selector = options->device};
    skim_opencl_options opencl = {.size_of = sizeof opencl,
                                  .disable = options->disable,
                                  .allocation_max = options->allocation_max,
                                  .selector = options->device};
    const bool is_opencl = options->device && strncmp(options->device, "opencl", 6) == 0;
    if (options->open)
        status = options->open(options->user, ctx->runtime, &ctx->device);
    else if (options->allocation_max > 0 && is_opencl)
        status = skim_opencl_device_open(ctx->runtime, &opencl, &ctx->device);
    else if (options->allocation_max > 0)
        status = skim_vulkan_device_open(ctx->runtime, &vulkan, &ctx->device);
    else
        status = skim_device_open(ctx->runtime, options->device ? options->device : "auto", &open,
                                  &ctx->device);
    if (status != SKIM_OK) {
        char text[300] = "";
        skim_runtime_error(ctx->runtime, text, sizeof text);
        snprintf(error, error_size, "%s", text[0] ? text : skim_status_name(status));
        return status == SKIM_NO_DEVICE ? CONFORMANCE_NO_DEVICE : CONFORMANCE_ERROR;
    }
    ctx->limits.size_of = sizeof ctx->limits;
    skim_device_get_limits(ctx->device, &ctx->limits);
    return CONFORMANCE_OK;
}

conformance_status conformance_run(const conformance_options *options, conformance_totals *totals,
                                   char *error, size_t error_size)
{
    char unused[1];
    if (!error || error_size == 0) {
        error = unused;
        error_size = sizeof unused;
    }
    error[0] = '\0';
    *totals = (conformance_totals){0};
    context ctx = {.options = options};
    conformance_status status = open_device(&ctx, error, error_size);
    if (status == CONFORMANCE_OK) {
        case_table table = {0};
        build_table(&table);
        status = run_table(&ctx, &table, totals);
        free(table.cases);
        if (totals->passed + totals->failed + totals->skipped == 0) {
            snprintf(error, error_size, "no case has '%s' in its name",
                     options->filter ? options->filter : "");
            status = CONFORMANCE_ERROR;
        }
    }
    skim_device_close(ctx.device);
    skim_runtime_destroy(ctx.runtime);
    free(ctx.blocks);
    free(ctx.buffers);
    return status;
}
