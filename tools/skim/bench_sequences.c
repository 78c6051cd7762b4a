// skim bench --sequences: what keeping many sequences costs the host (fork, truncate, begin of a
// batch), and what zeroing freed slots costs a decode.
#include "bench.h"
#include "report.h"

#include <stdlib.h>

enum { ROUNDS_MIN = 51, PAGES_TIMED = 64 };

struct sequences {
    const struct settings *settings;
    struct session *session;
    skim_cache *cache;
    uint32_t context, batch;
    void *tokens; // K and V of a step, zeros: none of these times depends on what they say
    uint32_t step_tokens;
};

struct times {
    double *fork, *truncate, *destroy, *begin;
    uint32_t count;
};

static skim_status create_cache(const struct sequences *all, uint64_t capacity, uint32_t sequences,
                                uint32_t keep_freed, skim_cache **cache)
{
    const struct settings *settings = all->settings;
    skim_layer layer = {.size_of = sizeof layer,
                        .q_heads = settings->q_heads,
                        .kv_heads = settings->kv_heads,
                        .key_dim = settings->head_dim,
                        .type = (skim_type)settings->type};
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = &layer,
                                  .layer_count = 1,
                                  .page_size = settings->page_size,
                                  .capacity = capacity,
                                  .max_sequences = sequences,
                                  .max_step_tokens = all->step_tokens,
                                  .bounds = (skim_bounds)settings->bounds,
                                  .keep_freed = keep_freed};
    skim_status status = skim_cache_create(all->session->queue, &options, cache);
    return status == SKIM_OK ? skim_cache_prepare(*cache, NULL) : status;
}

static skim_status grow(const struct sequences *all, skim_cache *cache, skim_sequence *sequence,
                        uint32_t tokens)
{
    skim_tensor k = skim_tensor_host(all->tokens, (skim_type)all->settings->type);
    skim_status status = SKIM_OK;
    while (tokens > 0 && status == SKIM_OK) {
        skim_step_entry entry = {sequence, tokens < all->step_tokens ? tokens : all->step_tokens};
        skim_step *step;
        status = skim_step_begin(cache, &entry, 1, &step);
        if (status != SKIM_OK)
            break;
        status = skim_step_append(step, 0, &k, &k);
        if (status == SKIM_OK)
            status = skim_step_end(step, NULL);
        else
            skim_step_cancel(step);
        if (status == SKIM_OK)
            status = skim_queue_finish(all->session->queue);
        tokens -= entry.tokens;
    }
    return status;
}

static skim_status time_forks(const struct sequences *all, skim_sequence *source,
                              struct times *times)
{
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < times->count && status == SKIM_OK; i++) {
        skim_sequence *fork = NULL;
        double start = now();
        status = skim_sequence_fork(source, &fork);
        double forked = now();
        if (status == SKIM_OK)
            status = skim_sequence_truncate(fork, all->context / 2);
        double truncated = now();
        skim_sequence_destroy(fork);
        times->fork[i] = forked - start;
        times->truncate[i] = truncated - forked;
        times->destroy[i] = now() - truncated;
    }
    return status;
}

// Every sequence of the batch decodes one token a step.
static skim_status time_begins(const struct sequences *all, struct times *times)
{
    skim_step_entry *entries = calloc(all->batch, sizeof *entries);
    skim_tensor k = skim_tensor_host(all->tokens, (skim_type)all->settings->type);
    skim_status status = entries ? SKIM_OK : SKIM_NO_MEMORY;
    for (uint32_t i = 0; i < all->batch && status == SKIM_OK; i++) {
        entries[i].tokens = 1;
        status = skim_sequence_create(all->cache, &entries[i].sequence);
    }
    for (uint32_t i = 0; i < times->count && status == SKIM_OK; i++) {
        skim_step *step;
        double start = now();
        status = skim_step_begin(all->cache, entries, all->batch, &step);
        times->begin[i] = now() - start;
        if (status == SKIM_OK)
            status = skim_step_append(step, 0, &k, &k);
        if (status == SKIM_OK)
            status = skim_step_end(step, NULL);
        if (status == SKIM_OK)
            status = skim_queue_finish(all->session->queue);
    }
    for (uint32_t i = 0; entries && i < all->batch; i++)
        skim_sequence_destroy(entries[i].sequence);
    free(entries);
    return status;
}

// A decode into slots that another sequence had, a page of tokens at a time: seconds a token.
static skim_status time_page(const struct sequences *all, skim_cache *cache,
                             skim_sequence *sequence, double *seconds)
{
    const uint32_t page = all->settings->page_size;
    double start = now();
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < page && status == SKIM_OK; i++)
        status = grow(all, cache, sequence, 1);
    *seconds = (now() - start) / page;
    return status;
}

static skim_status time_zeroing(const struct sequences *all, json_t *result)
{
    double times[2][PAGES_TIMED];
    skim_cache *caches[2] = {NULL, NULL};
    skim_sequence *sequences[2] = {NULL, NULL};
    const uint32_t tokens = PAGES_TIMED * all->settings->page_size;
    skim_status status = SKIM_OK;
    for (uint32_t keep = 0; keep < 2 && status == SKIM_OK; keep++) {
        status = create_cache(all, tokens, 1, keep, &caches[keep]);
        if (status == SKIM_OK)
            status = skim_sequence_create(caches[keep], &sequences[keep]);
        if (status == SKIM_OK)
            status = grow(all, caches[keep], sequences[keep], tokens);
        if (status == SKIM_OK)
            status = skim_sequence_truncate(sequences[keep], 0);
    }
    for (uint32_t i = 0; i < 2 * PAGES_TIMED && status == SKIM_OK; i++)
        status = time_page(all, caches[i % 2], sequences[i % 2], &times[i % 2][i / 2]);
    skim_cache_destroy(caches[0]);
    skim_cache_destroy(caches[1]);
    if (status != SKIM_OK)
        return status;
    json_object_set_new(result, "append_zeroed_us",
                        report_real(1e6 * median(times[0], PAGES_TIMED)));
    json_object_set_new(result, "append_kept_us", report_real(1e6 * median(times[1], PAGES_TIMED)));
    return SKIM_OK;
}

static skim_status measure(struct sequences *all, struct times *times, json_t *result)
{
    const uint64_t page = all->settings->page_size;
    uint64_t batch_tokens = (uint64_t)all->batch * (times->count + page);
    skim_sequence *source = NULL;
    skim_status status =
        create_cache(all, all->context + page + batch_tokens, all->batch + 2, 0, &all->cache);
    if (status == SKIM_OK)
        status = skim_sequence_create(all->cache, &source);
    if (status == SKIM_OK)
        status = grow(all, all->cache, source, all->context);
    if (status == SKIM_OK)
        status = time_forks(all, source, times);
    if (status == SKIM_OK)
        status = time_begins(all, times);
    skim_cache_destroy(all->cache);
    all->cache = NULL;
    if (status != SKIM_OK)
        return status;
    json_object_set_new(result, "sequences", json_integer(all->batch));
    json_object_set_new(result, "fork_us", report_real(1e6 * median(times->fork, times->count)));
    json_object_set_new(result, "truncate_us",
                        report_real(1e6 * median(times->truncate, times->count)));
    json_object_set_new(result, "destroy_us",
                        report_real(1e6 * median(times->destroy, times->count)));
    json_object_set_new(result, "begin_us", report_real(1e6 * median(times->begin, times->count)));
    return time_zeroing(all, result);
}

int bench_sequences(const struct settings *settings, struct session *session, uint32_t context,
                    json_t *result)
{
    struct sequences all = {.settings = settings,
                            .session = session,
                            .context = context,
                            .batch = settings->sequences,
                            .step_tokens = settings->sequences > BENCH_FILL_TOKENS
                                               ? settings->sequences
                                               : BENCH_FILL_TOKENS};
    struct times times = {.count = settings->repeat > ROUNDS_MIN ? settings->repeat : ROUNDS_MIN};
    double *room = calloc(4 * (size_t)times.count, sizeof *room);
    all.tokens = calloc((size_t)all.step_tokens * settings->kv_heads,
                        settings->head_dim * skim_type_size((skim_type)settings->type));
    int failed = EXIT_DONE;
    if (!room || !all.tokens)
        failed = report_failure("out of memory for a batch of %s",
                                report_count(all.batch, "sequence").text);
    times.fork = room;
    times.truncate = room + times.count;
    times.destroy = room + 2 * (size_t)times.count;
    times.begin = room + 3 * (size_t)times.count;
    if (!failed) {
        skim_status status = measure(&all, &times, result);
        if (status != SKIM_OK)
            failed = all.cache ? session_cache_failure(all.cache, status)
                               : session_queue_failure(session, status);
    }
    free(room);
    free(all.tokens);
    return failed;
}
