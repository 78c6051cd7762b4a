// skim bench: one layer's decode attention, its verbs, and the machine's ceilings, interleaved.
#include "bench.h"
#include "bench_model.h"
#include "bench_snapshot.h"
#include "commands.h"
#include "report.h"

#include "ceilings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum measure {
    APPEND,
    ESTIMATE,
    SELECT,
    ATTEND,
    SPARSE,
    DENSE,
    PAGE_BYTES,
    READ,
    PAGE_READ,
    MEASURES
};

enum { PHASES = 5, WARM_UP = 2, READ_MAX = 256 << 20, CHUNKS_MIN = 8 << 20 };

struct measurement {
    double *values[MEASURES]; // [repeat]: seconds, bytes, or bytes a second
    uint32_t round;           // from WARM_UP on it is noted
    uint64_t random;
    skim_queue_counts sparse; // what one layer's sparse step makes a GPU do
};

static void note(struct measurement *measurement, enum measure which, double value)
{
    if (measurement->round >= WARM_UP)
        measurement->values[which][measurement->round - WARM_UP] = value;
}

// Runs what a verb recorded, and times it from before recording.
static skim_status finish(const struct bench *bench, struct measurement *measurement,
                          enum measure which, double start, skim_status status)
{
    if (status == SKIM_OK)
        status = skim_queue_finish(bench->session->queue);
    note(measurement, which, now() - start);
    return status;
}

static skim_status time_sparse(const struct bench *bench, struct measurement *measurement,
                               uint32_t layer)
{
    skim_queue_counts before = {.size_of = sizeof before};
    skim_queue_get_counts(bench->session->queue, &before);
    double start = now();
    skim_status status = SKIM_OK;
    if (bench->sparse) {
        status = bench_estimate(bench, layer);
        if (status == SKIM_OK)
            status = bench_select(bench);
    }
    if (status == SKIM_OK)
        status = bench_attend(bench, layer, false);
    status = finish(bench, measurement, SPARSE, start, status);
    skim_queue_counts after = {.size_of = sizeof after};
    skim_queue_get_counts(bench->session->queue, &after);
    measurement->sparse = (skim_queue_counts){
        .submissions = after.submissions - before.submissions,
        .dispatches = after.dispatches - before.dispatches,
        .workgroups = after.workgroups - before.workgroups,
        .barriers = after.barriers - before.barriers,
        .transfers = after.transfers - before.transfers,
    };
    return status;
}

static skim_status time_dense(const struct bench *bench, struct measurement *measurement,
                              uint32_t layer)
{
    double start = now();
    return finish(bench, measurement, DENSE, start, bench_attend(bench, layer, true));
}

// Each verb by itself, then what the lists hold.
static skim_status time_verbs(const struct bench *bench, struct measurement *measurement,
                              uint32_t layer)
{
    double start = now();
    skim_status status = finish(bench, measurement, APPEND, start, bench_append(bench, layer));
    start = now();
    if (status == SKIM_OK && bench->sparse)
        status = finish(bench, measurement, ESTIMATE, start, bench_estimate(bench, layer));
    start = now();
    if (status == SKIM_OK && bench->sparse)
        status = finish(bench, measurement, SELECT, start, bench_select(bench));
    start = now();
    if (status == SKIM_OK)
        status = finish(bench, measurement, ATTEND, start, bench_attend(bench, layer, false));
    uint64_t bytes = 0;
    if (status == SKIM_OK)
        status = bench_page_bytes(bench, &bytes);
    note(measurement, PAGE_BYTES, (double)bytes);
    return status;
}

static void time_read(const struct bench *bench, struct measurement *measurement, uint32_t layer)
{
    const void *data = skim_buffer_host(bench->layers[layer].pages);
    uint64_t size = skim_buffer_size(bench->layers[layer].pages);
    size = size > READ_MAX ? READ_MAX : size / 64 * 64;
    note(measurement, READ, (double)size / ceiling_read(bench->workers, data, size));
}

// As many pages as the budget chooses, but no fewer than some MiB of them: scattered, ascending for
// each kv head in turn, as attend meets them.
static void time_page_read(const struct bench *bench, struct measurement *measurement,
                           uint32_t layer)
{
    uint64_t chunk =
        skim_buffer_size(bench->layers[layer].pages) / bench->shape.slots / bench->shape.kv_heads;
    uint64_t chunks = (uint64_t)bench->shape.slots * bench->shape.kv_heads;
    double share = bench->sparse ? (double)bench->rows[0].select_count / bench->pages : 0.5;
    double least = (double)CHUNKS_MIN / (double)(chunks * chunk);
    share = share < least ? least : share;
    share = share > 0.5 ? 0.5 : share;
    size_t count = 0;
    for (uint32_t head = 0; head < bench->shape.kv_heads; head++)
        for (uint32_t slot = 0; slot < bench->shape.slots; slot++) {
            measurement->random = measurement->random * 6364136223846793005u + 1442695040888963407u;
            if ((double)(measurement->random >> 33) * 0x1p-31 < share)
                bench->chunks[count++] = ((uint64_t)slot * bench->shape.kv_heads + head) * chunk;
        }
    const void *data = skim_buffer_host(bench->layers[layer].pages);
    double seconds = ceiling_read_chunks(bench->workers, data, bench->chunks, count, chunk);
    note(measurement, PAGE_READ, (double)(count * chunk) / seconds);
}

// The measurements of a round visit layers far apart, so that none finds another's data in the
// cache.
static skim_status run_round(const struct bench *bench, struct measurement *measurement)
{
    uint32_t layers[PHASES];
    for (uint32_t phase = 0; phase < PHASES; phase++)
        layers[phase] =
            (measurement->round + phase * bench->layer_count / PHASES) % bench->layer_count;
    skim_status status = time_sparse(bench, measurement, layers[0]);
    if (status == SKIM_OK)
        status = time_dense(bench, measurement, layers[1]);
    if (status == SKIM_OK)
        status = time_verbs(bench, measurement, layers[2]);
    if (bench->workers) {
        time_read(bench, measurement, layers[3]);
        time_page_read(bench, measurement, layers[4]);
    }
    return status;
}

static int measure(const struct bench *bench, double results[MEASURES], skim_queue_counts *counts)
{
    struct measurement measurement = {.random = 1};
    uint32_t repeat = bench->settings->repeat;
    skim_status status = SKIM_OK;
    for (int i = 0; i < MEASURES; i++) {
        measurement.values[i] = calloc(repeat, sizeof(double));
        if (!measurement.values[i])
            status = SKIM_NO_MEMORY;
    }
    for (; measurement.round < repeat + WARM_UP && status == SKIM_OK; measurement.round++) {
        progress_show("measuring", measurement.round, repeat + WARM_UP);
        status = run_round(bench, &measurement);
    }
    progress_clear();
    *counts = measurement.sparse;
    for (int i = 0; i < MEASURES; i++) {
        if (status == SKIM_OK)
            results[i] = median(measurement.values[i], repeat);
        free(measurement.values[i]);
    }
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(bench->session, status);
}

static void set(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, report_real(value));
}

static void set_count(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *describe(const struct bench *bench)
{
    const struct settings *settings = bench->settings;
    json_t *result = json_object();
    json_object_set_new(result, "device", json_string(bench->session->info.selector));
    json_object_set_new(result, "backend", json_string(bench->session->info.backend));
    json_object_set_new(result, "name", json_string(bench->session->info.name));
    json_object_set_new(result, "driver", json_string(bench->session->info.driver));
    json_object_set_new(result, "type", json_string(skim_type_name(bench->shape.type)));
    json_object_set_new(result, "bounds", json_string(options_bounds_name(settings->bounds)));
    json_object_set_new(result, "bounds_type",
                        json_string(options_bounds_type_name(settings->bounds_type)));
    json_object_set_new(result, "select", json_string(options_select_name(bench->select)));
    json_object_set_new(result, "combine", json_string(options_combine_name(bench->combine)));
    set_count(result, "q_heads", bench->shape.q_heads);
    set_count(result, "kv_heads", bench->shape.kv_heads);
    set_count(result, "head_dim", bench->shape.key_dim);
    set_count(result, "context", bench->context);
    uint64_t budget = settings->budget;
    if (settings->budget_fraction > 0)
        budget = (uint64_t)(settings->budget_fraction * bench->context);
    set_count(result, "budget", budget);
    set_count(result, "page_size", bench->shape.page_size);
    set_count(result, "batch", bench->batch);
    set_count(result, "threads", bench->session->limits.threads);
    set_count(result, "layers", bench->layer_count);
    set_count(result, "cache_bytes", bench->cache_bytes);
    set_count(result, "repeat", settings->repeat);
    json_object_set_new(result, "sparse", json_boolean(bench->sparse));
    return result;
}

// Times in milliseconds, bytes, ceilings, and what follows from them.
static json_t *evaluate(const struct bench *bench, const double results[MEASURES])
{
    json_t *result = describe(bench);
    double none = NAN;
    bool ceilings = bench->workers != NULL;
    double bounds_bytes = (double)bench_bounds_bytes(bench);
    double dense_bytes = (double)bench_dense_bytes(bench);
    double read = ceilings ? results[READ] : none;
    // Pages of a dense read lie one behind the other.
    double page_read = !bench->sparse ? read : ceilings ? results[PAGE_READ] : none;
    double sparse_limit = bounds_bytes / read + results[PAGE_BYTES] / page_read;
    double dense_limit = dense_bytes / read;
    set(result, "estimate_ms", 1e3 * results[ESTIMATE]);
    set(result, "select_ms", 1e3 * results[SELECT]);
    set(result, "attend_ms", 1e3 * results[ATTEND]);
    set(result, "append_ms", 1e3 * results[APPEND]);
    set(result, "sparse_ms", 1e3 * results[SPARSE]);
    set(result, "dense_ms", 1e3 * results[DENSE]);
    set_count(result, "bounds_bytes", (uint64_t)bounds_bytes);
    set_count(result, "page_bytes", (uint64_t)results[PAGE_BYTES]);
    set_count(result, "dense_bytes", (uint64_t)dense_bytes);
    set(result, "read_gbps", 1e-9 * read);
    set(result, "page_read_gbps", 1e-9 * (ceilings ? results[PAGE_READ] : none));
    set(result, "estimate_gbps", 1e-9 * bounds_bytes / results[ESTIMATE]);
    set(result, "attend_gbps", 1e-9 * results[PAGE_BYTES] / results[ATTEND]);
    set(result, "dense_gbps", 1e-9 * dense_bytes / results[DENSE]);
    set(result, "sparse_limit_ms", 1e3 * sparse_limit);
    set(result, "dense_limit_ms", 1e3 * dense_limit);
    set(result, "sparse_of_limit", sparse_limit / results[SPARSE]);
    set(result, "dense_of_limit", dense_limit / results[DENSE]);
    set(result, "speedup", results[DENSE] / results[SPARSE]);
    return result;
}

// What a GPU's driver is asked for in one layer's sparse step, append and what reads the results
// back apart.
static void add_counts(json_t *result, const skim_queue_counts *counts)
{
    if (counts->dispatches == 0)
        return;
    set_count(result, "submissions", counts->submissions);
    set_count(result, "dispatches", counts->dispatches);
    set_count(result, "workgroups", counts->workgroups);
    set_count(result, "barriers", counts->barriers);
    set_count(result, "transfers", counts->transfers);
}

// Why all of a context runs dense.
static const char *dense_reason(const struct settings *settings, double context)
{
    return context < settings->dense_below ? "--dense-below covers"
                                           : "the budget and the pages that are always read cover";
}

static double value(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    return json_is_number(number) ? json_number_value(number) : NAN;
}

// No limit was one if something was faster.
static void warn_above_limit(const json_t *one)
{
    static const char *const shares[] = {"sparse_of_limit", "dense_of_limit"};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        if (value(one, shares[i]) > 1)
            report_warning("%s is %.2f at a context of %.0f, above 1: the machine was slower while "
                           "its limit was measured, or data stayed in a cache; run it again, with "
                           "nothing else running",
                           shares[i], value(one, shares[i]), value(one, "context"));
}

static int bench_context(const struct settings *settings, struct session *session,
                         struct workers *workers, uint32_t context, json_t **result)
{
    struct bench bench;
    double results[MEASURES] = {0};
    skim_queue_counts counts;
    int failed = bench_create(&bench, settings, session, workers, context);
    if (!failed && !bench.sparse)
        report_warning("%s all of a context of %u: nothing runs sparse",
                       dense_reason(settings, context), context);
    if (!failed)
        failed = measure(&bench, results, &counts);
    if (!failed) {
        *result = evaluate(&bench, results);
        add_counts(*result, &counts);
        warn_above_limit(*result);
    }
    bench_destroy(&bench);
    return failed;
}

static void print_row(struct report_table *table, const char *name, double ms, double bytes,
                      double of_limit)
{
    table_row(table);
    table_cell(table, name);
    table_cell(table, report_format("%.4f", ms).text);
    table_cell(table, bytes > 0 ? report_bytes(bytes).text : "");
    table_cell(table, bytes > 0 ? report_format("%.1f", 1e-6 * bytes / ms).text : "");
    table_cell(table, of_limit > 0 ? report_format("%.0f %%", 100 * of_limit).text : "");
}

static void print_sparse_rows(struct report_table *table, const json_t *one)
{
    double bounds_bytes = value(one, "bounds_bytes");
    double page_bytes = value(one, "page_bytes");
    print_row(table, "estimate", value(one, "estimate_ms"), bounds_bytes, 0);
    print_row(table, "select", value(one, "select_ms"), 0, 0);
    print_row(table, "attend", value(one, "attend_ms"), page_bytes, 0);
    print_row(table, "sparse, as one", value(one, "sparse_ms"), bounds_bytes + page_bytes,
              value(one, "sparse_of_limit"));
}

static void print_result(const struct settings *settings, const json_t *one)
{
    bool sparse = json_is_true(json_object_get(one, "sparse"));
    printf("\n%s, %.0f query and %.0f kv heads of %.0f, %s, batch %.0f; budget %.0f, ",
           report_count((uint32_t)value(one, "context"), "token").text, value(one, "q_heads"),
           value(one, "kv_heads"), value(one, "head_dim"),
           json_string_value(json_object_get(one, "type")), value(one, "batch"),
           value(one, "budget"));
    printf("pages of %.0f, select %s; %s\n\n", value(one, "page_size"),
           json_string_value(json_object_get(one, "select")),
           report_count((uint32_t)value(one, "layers"), "layer").text);
    struct report_table table = {0};
    static const char *const heading[] = {"", "ms", "read", "GB/s", "of limit"};
    table_row(&table);
    for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
        table_cell(&table, heading[i]);
    print_row(&table, "append", value(one, "append_ms"), 0, 0);
    if (sparse)
        print_sparse_rows(&table, one);
    print_row(&table, "dense", value(one, "dense_ms"), value(one, "dense_bytes"),
              value(one, "dense_of_limit"));
    table_print(&table);
    if (sparse)
        printf("\nSparse is %.1f times as fast as dense. ", value(one, "speedup"));
    else
        printf("\nEverything ran dense: %s the whole context. ",
               dense_reason(settings, value(one, "context")));
    if (json_object_get(one, "dispatches"))
        printf("A layer's sparse step is %.0f dispatches, %.0f barriers and %.0f submission(s).\n",
               value(one, "dispatches"), value(one, "barriers"), value(one, "submissions"));
    else
        printf("This machine reads %.1f GB/s in order, %.1f GB/s in scattered pages.\n",
               value(one, "read_gbps"), value(one, "page_read_gbps"));
}

static void print_prefill(const json_t *prefill)
{
    printf("\nPrefill of %.0f tokens: %.1f ms, %.1f GFLOP/s, ", value(prefill, "prefill_tokens"),
           value(prefill, "prefill_ms"), value(prefill, "prefill_gflops"));
    printf("%.0f %% of the %.1f GFLOP/s of f32 multiply-adds that this machine can do.\n",
           100 * value(prefill, "prefill_of_peak"), value(prefill, "fma_gflops"));
}

static void print_sequences(const json_t *found)
{
    printf("\nFork %.1f us, truncate to half %.1f us, begin of %.0f sequences %.1f us on the host. "
           "Appending a token takes %.1f us with zeroing of freed slots, %.1f us without.\n",
           value(found, "fork_us"), value(found, "truncate_us"), value(found, "sequences"),
           value(found, "begin_us"), value(found, "append_zeroed_us"),
           value(found, "append_kept_us"));
}

static void print_snapshot(const json_t *found)
{
    printf(
        "\nSaving %s runs at %.1f GB/s and loading at %.1f, against %.1f of a plain copy with the "
        "same checksum.\n",
        report_bytes(value(found, "snapshot_bytes")).text, value(found, "save_gbps"),
        value(found, "load_gbps"), value(found, "copy_gbps"));
}

static int print_all(const struct settings *settings, const struct session *session,
                     json_t *results, json_t *prefill)
{
    size_t i;
    json_t *one;
    json_array_foreach(results, i, one) json_object_update(one, prefill);
    if (settings->json)
        return report_json(
            json_incref(settings->contexts.count > 1 ? results : json_array_get(results, 0)));
    session_print_device(session);
    json_array_foreach(results, i, one) print_result(settings, one);
    if (settings->prefill)
        print_prefill(prefill);
    if (settings->sequences)
        print_sequences(prefill);
    if (settings->snapshot)
        print_snapshot(prefill);
    return EXIT_DONE;
}

// Others on the machine spoil every figure.
static double warn_if_busy(void)
{
    double load = 0;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (getloadavg(&load, 1) == 1 && load > 0.75 * (double)processors)
        report_warning(
            "other work runs here (load %.1f on %ld processors): wait for a quiet machine", load,
            processors);
    return load;
}

int bench_run(const struct settings *settings)
{
    if (settings->model)
        return bench_model(settings, warn_if_busy());
    struct session session;
    int failed = session_open(&session, settings);
    if (failed)
        return failed;
    struct workers *workers =
        session.limits.threads ? workers_create(session.limits.threads, 0) : NULL;
    json_t *results = json_array();
    json_t *prefill = json_object(); // what is the same for every context
    json_object_set_new(prefill, "load", report_real(warn_if_busy()));
    for (uint32_t i = 0; i < settings->contexts.count && !failed; i++) {
        json_t *one = NULL;
        failed = bench_context(settings, &session, workers, settings->contexts.values[i], &one);
        if (!failed)
            json_array_append_new(results, one);
    }
    if (!failed && settings->prefill)
        failed = bench_prefill(settings, &session, workers, prefill);
    if (!failed && settings->sequences)
        failed = bench_sequences(settings, &session,
                                 settings->contexts.values[settings->contexts.count - 1], prefill);
    if (!failed && settings->snapshot)
        failed = bench_snapshot(settings, &session, prefill);
    if (!failed)
        failed = print_all(settings, &session, results, prefill);
    json_decref(prefill);
    json_decref(results);
    workers_destroy(workers);
    session_close(&session);
    return failed;
}
