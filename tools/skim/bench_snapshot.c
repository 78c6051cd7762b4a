// skim bench --snapshot: saving and loading a sequence through memory, against a plain copy with
// the same checksum.
#include "bench_snapshot.h"

#include "report.h"

#include "runtime/checksum.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, PIECE = 1 << 18, ROUNDS = 9 };

enum { PLAIN, SAVE, LOAD, MEASURES };

struct snapshot {
    const struct settings *settings;
    skim_queue *queue;
    skim_cache *cache;
    skim_sequence *sequence;
    uint32_t tokens;
    uint8_t *file, *copy;
    size_t size, at; // of the file; where the next call writes or reads
};

static size_t token_bytes(const struct settings *settings)
{
    return 2 * (size_t)settings->kv_heads * settings->head_dim *
           skim_type_size((skim_type)settings->type);
}

static skim_status create_cache(struct snapshot *all)
{
    const struct settings *settings = all->settings;
    skim_layer layers[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        layers[i] = (skim_layer){.size_of = sizeof layers[i],
                                 .q_heads = settings->q_heads,
                                 .kv_heads = settings->kv_heads,
                                 .key_dim = settings->head_dim,
                                 .type = (skim_type)settings->type};
    // A load needs room beside what it replaces.
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = LAYERS,
                                  .page_size = settings->page_size,
                                  .capacity = 2 * ((uint64_t)all->tokens + settings->page_size),
                                  .max_step_tokens = BENCH_FILL_TOKENS,
                                  .bounds = (skim_bounds)settings->bounds,
                                  .bounds_type = (skim_bounds_type)settings->bounds_type};
    skim_status status = skim_cache_create(all->queue, &options, &all->cache);
    if (status == SKIM_OK)
        status = skim_cache_prepare(all->cache, NULL);
    return status == SKIM_OK ? skim_sequence_create(all->cache, &all->sequence) : status;
}

static skim_status append_step(const struct snapshot *all, const struct synthetic *data,
                               uint32_t tokens)
{
    skim_tensor k = skim_tensor_host(data->keys, data->type);
    skim_tensor v = skim_tensor_host(data->values, data->type);
    skim_step_entry entry = {all->sequence, tokens};
    skim_step *step;
    skim_status status = skim_step_begin(all->cache, &entry, 1, &step);
    if (status != SKIM_OK)
        return status;
    for (uint32_t i = 0; i < LAYERS && status == SKIM_OK; i++)
        status = skim_step_append(step, i, &k, &v);
    if (status == SKIM_OK)
        status = skim_step_end(step, NULL);
    else
        skim_step_cancel(step);
    return status == SKIM_OK ? skim_queue_finish(all->queue) : status;
}

static skim_status fill(const struct snapshot *all)
{
    const struct settings *settings = all->settings;
    struct synthetic data;
    if (!synthetic_create(&data, (skim_type)settings->type, BENCH_FILL_TOKENS, settings->q_heads,
                          settings->kv_heads, settings->head_dim, 1))
        return SKIM_NO_MEMORY;
    skim_status status = SKIM_OK;
    for (uint32_t done = 0; done < all->tokens && status == SKIM_OK;) {
        uint32_t left = all->tokens - done;
        left = left < BENCH_FILL_TOKENS ? left : BENCH_FILL_TOKENS;
        status = append_step(all, &data, left);
        done += left;
    }
    synthetic_destroy(&data);
    return status;
}

static int write_file(void *user, const void *data, size_t size)
{
    struct snapshot *all = user;
    if (size > all->size - all->at)
        return 1;
    memcpy(all->file + all->at, data, size);
    all->at += size;
    return 0;
}

static int read_file(void *user, void *data, size_t size)
{
    struct snapshot *all = user;
    if (size > all->size - all->at)
        return 1;
    memcpy(data, all->file + all->at, size);
    all->at += size;
    return 0;
}

static skim_status save(struct snapshot *all)
{
    skim_snapshot_save_args args = {.size_of = sizeof args, .write = write_file, .user = all};
    all->at = 0;
    return skim_snapshot_save(all->sequence, &args);
}

static skim_status load(struct snapshot *all)
{
    skim_snapshot_load_args args = {.size_of = sizeof args, .read = read_file, .user = all};
    all->at = 0;
    return skim_snapshot_load(all->sequence, &args);
}

// Piece by piece, so that the checksum finds what was copied in the processor's cache.
static uint64_t copy_plainly(const struct snapshot *all)
{
    skim_checksum checksum;
    skim_checksum_begin(&checksum, 0);
    for (size_t at = 0; at < all->size; at += PIECE) {
        size_t size = all->size - at < PIECE ? all->size - at : PIECE;
        memcpy(all->copy + at, all->file + at, size);
        skim_checksum_add(&checksum, all->copy + at, size);
    }
    return skim_checksum_value(&checksum);
}

static skim_status measure(struct snapshot *all, double times[MEASURES][ROUNDS])
{
    static volatile uint64_t sink;
    skim_status status = save(all); // touches what is measured
    if (status == SKIM_OK)
        status = load(all);
    sink = copy_plainly(all);
    for (int i = 0; i < ROUNDS && status == SKIM_OK; i++) {
        double start = now();
        sink = sink + copy_plainly(all);
        double copied = now();
        status = save(all);
        double saved = now();
        if (status == SKIM_OK)
            status = load(all);
        times[PLAIN][i] = copied - start;
        times[SAVE][i] = saved - copied;
        times[LOAD][i] = now() - saved;
    }
    return status;
}

static bool allocate_files(struct snapshot *all)
{
    size_t payload =
        LAYERS * token_bytes(all->settings) * ((size_t)all->tokens + all->settings->page_size);
    size_t centres = LAYERS * (size_t)all->settings->kv_heads * all->settings->head_dim * 4;
    all->size = payload + centres + 4096;
    all->file = malloc(all->size);
    all->copy = malloc(all->size);
    if (all->file)
        memset(all->file, 1, all->size); // no page of zeros that is none yet
    return all->file && all->copy;
}

static void report_times(const struct snapshot *all, double times[MEASURES][ROUNDS], json_t *result)
{
    static const char *const names[MEASURES] = {"copy_gbps", "save_gbps", "load_gbps"};
    double medians[MEASURES];
    for (int i = 0; i < MEASURES; i++) {
        medians[i] = median(times[i], ROUNDS);
        json_object_set_new(result, names[i], report_real(1e-9 * (double)all->size / medians[i]));
    }
    json_object_set_new(result, "snapshot_bytes", json_integer((json_int_t)all->size));
    json_object_set_new(result, "save_of_copy", report_real(medians[PLAIN] / medians[SAVE]));
    json_object_set_new(result, "load_of_copy", report_real(medians[PLAIN] / medians[LOAD]));
}

int bench_snapshot(const struct settings *settings, struct session *session, json_t *result)
{
    struct snapshot all = {.settings = settings, .queue = session->queue};
    uint64_t tokens = ((uint64_t)settings->snapshot << 20) / (LAYERS * token_bytes(settings));
    all.tokens = tokens < 1 ? 1 : tokens > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)tokens;
    double times[MEASURES][ROUNDS];
    progress_show("saving and loading", 0, 1);
    skim_status status = create_cache(&all);
    if (status == SKIM_OK)
        status = fill(&all);
    if (status == SKIM_OK && !allocate_files(&all))
        status = SKIM_NO_MEMORY;
    if (status == SKIM_OK)
        status = save(&all);
    if (status == SKIM_OK) {
        all.size = all.at; // exactly the snapshot
        status = measure(&all, times);
    }
    progress_clear();
    int failed = EXIT_DONE;
    if (status != SKIM_OK)
        failed = all.cache ? session_cache_failure(all.cache, status)
                           : session_queue_failure(session, status);
    else
        report_times(&all, times, result);
    skim_cache_destroy(all.cache);
    free(all.file);
    free(all.copy);
    return failed;
}
