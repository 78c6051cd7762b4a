// skim replay: recorded Q, K and V through a cache, sparse and dense side by side.
#include "replay.h"
#include "commands.h"
#include "report.h"
#include "session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    return report_failure("out of memory for the results; free some or replay a shorter trace");
}

static int start_layer(const struct trace *trace, const struct trace_layer *recorded,
                       struct replay_layer *layer)
{
    size_t queries = trace->queries;
    size_t heads = queries * recorded->q_heads;
    layer->trace = recorded;
    layer->sparse_out = calloc(heads, recorded->head_dim * sizeof(float));
    layer->dense_out = calloc(heads, recorded->head_dim * sizeof(float));
    layer->sparse_lse = calloc(heads, sizeof(float));
    layer->dense_lse = calloc(heads, sizeof(float));
    layer->page_counts = calloc(heads, sizeof(uint32_t));
    layer->sparse_s = calloc(queries, sizeof(double));
    layer->dense_s = calloc(queries, sizeof(double));
    bool complete = layer->sparse_out && layer->dense_out && layer->sparse_lse &&
                    layer->dense_lse && layer->page_counts && layer->sparse_s && layer->dense_s;
    return complete ? EXIT_DONE : out_of_memory();
}

static void end_layer(struct replay_layer *layer)
{
    free(layer->sparse_out);
    free(layer->dense_out);
    free(layer->sparse_lse);
    free(layer->dense_lse);
    free(layer->page_counts);
    free(layer->pages);
    free(layer->sparse_s);
    free(layer->dense_s);
}

static int create_cache(struct replay *replay)
{
    const struct settings *settings = replay->settings;
    const struct trace *trace = &replay->trace;
    skim_layer *layers = calloc(trace->layer_count, sizeof *layers);
    if (!layers)
        return out_of_memory();
    for (uint32_t i = 0; i < trace->layer_count; i++)
        layers[i] = (skim_layer){.size_of = sizeof *layers,
                                 .q_heads = trace->layers[i].q_heads,
                                 .kv_heads = trace->layers[i].kv_heads,
                                 .key_dim = trace->layers[i].head_dim,
                                 .type = trace->layers[i].tensors[TRACE_K].type,
                                 .scale = trace->scale};
    skim_policy policy = options_policy(settings);
    policy.dense_layers = 0;
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = trace->layer_count,
                                  .page_size = settings->page_size,
                                  .capacity = trace->tokens,
                                  .max_sequences = 1,
                                  .max_step_tokens = REPLAY_STEP_TOKENS,
                                  .bounds = (skim_bounds)settings->bounds,
                                  .bounds_type = (skim_bounds_type)settings->bounds_type,
                                  .policy = &policy};
    skim_status status = skim_cache_create(replay->session.queue, &options, &replay->cache);
    free(layers);
    if (status != SKIM_OK)
        return session_queue_failure(&replay->session, status);
    // --dense-layers counts the model's layers, of which the trace may hold only some.
    policy.dense_layers = SKIM_ALL_LAYERS;
    for (uint32_t i = 0; i < trace->layer_count && status == SKIM_OK; i++)
        if (trace->layers[i].index < settings->dense_layers)
            status = skim_cache_set_policy(replay->cache, i, &policy);
    if (status == SKIM_OK)
        status = skim_cache_prepare(replay->cache, NULL);
    if (status == SKIM_OK)
        status = skim_sequence_create(replay->cache, &replay->sequence);
    return status == SKIM_OK ? EXIT_DONE : session_cache_failure(replay->cache, status);
}

// The tensor's elements from a token (or query) on.
static skim_tensor tensor_from(const struct trace_tensor *tensor, uint32_t first)
{
    skim_tensor result = skim_tensor_host(tensor->data, tensor->type);
    result.offset = first * tensor->shape[1] * tensor->shape[2] * skim_type_size(tensor->type);
    return result;
}

static skim_status append_tokens(const struct replay *replay, skim_step *step, uint32_t layer,
                                 uint32_t first)
{
    const struct trace_layer *recorded = &replay->trace.layers[layer];
    skim_tensor k = tensor_from(&recorded->tensors[TRACE_K], first);
    skim_tensor v = tensor_from(&recorded->tensors[TRACE_V], first);
    return skim_step_append(step, layer, &k, &v);
}

static int prefill(struct replay *replay)
{
    const struct trace *trace = &replay->trace;
    uint32_t end = trace->tokens - trace->queries;
    for (uint32_t first = 0; first < end; first += REPLAY_STEP_TOKENS) {
        uint32_t rest = end - first;
        skim_step_entry entry = {replay->sequence,
                                 rest < REPLAY_STEP_TOKENS ? rest : REPLAY_STEP_TOKENS};
        skim_step *step = NULL;
        skim_status status = skim_step_begin(replay->cache, &entry, 1, &step);
        for (uint32_t i = 0; i < trace->layer_count && status == SKIM_OK; i++)
            status = append_tokens(replay, step, i, first);
        if (status == SKIM_OK)
            status = skim_step_end(step, NULL);
        if (status != SKIM_OK)
            return session_cache_failure(replay->cache, status);
        progress_show("prompt", first, end);
    }
    skim_status status = skim_queue_finish(replay->session.queue);
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(&replay->session, status);
}

// Runs one attend to its end and times it.
static skim_status attend(const struct replay *replay, skim_step *step, uint32_t layer,
                          uint32_t query, bool dense)
{
    const struct replay_layer *run = &replay->layers[layer];
    const struct trace_layer *recorded = run->trace;
    size_t head = (size_t)query * recorded->q_heads;
    float *out = (dense ? run->dense_out : run->sparse_out) + head * recorded->head_dim;
    float *lse = (dense ? run->dense_lse : run->sparse_lse) + head;
    skim_policy policy = skim_policy_defaults();
    policy.dense_below = UINT32_MAX;
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = tensor_from(&recorded->tensors[TRACE_Q], query),
                                  .out = skim_tensor_host(out, SKIM_F32),
                                  .lse = skim_tensor_host(lse, SKIM_F32),
                                  .policy = dense ? &policy : NULL};
    double start = now();
    skim_status status = skim_step_attend(step, layer, &args);
    if (status == SKIM_OK)
        status = skim_queue_finish(replay->session.queue);
    (dense ? run->dense_s : run->sparse_s)[query] = now() - start;
    return status;
}

// Runs the sparse attend and notes what it read.
static int attend_sparse(struct replay *replay, skim_step *step, uint32_t layer, uint32_t query)
{
    skim_status status = attend(replay, step, layer, query, false);
    skim_step_report report = {.size_of = sizeof report};
    if (status == SKIM_OK)
        status = skim_step_get_report(step, layer, &report);
    if (status != SKIM_OK)
        return session_cache_failure(replay->cache, status);
    replay->layers[layer].sparse |= report.sparse_sequences > 0;
    return replay_note_pages(replay, step, layer, query, &report);
}

static int run_layer(struct replay *replay, skim_step *step, uint32_t layer, uint32_t query)
{
    skim_status status =
        append_tokens(replay, step, layer, replay->trace.tokens - replay->trace.queries + query);
    if (status == SKIM_OK)
        status = skim_queue_finish(replay->session.queue);
    // In turn, so that neither always finds the pages in the processor's cache.
    if (status == SKIM_OK && query % 2 == 0)
        status = attend(replay, step, layer, query, true);
    if (status != SKIM_OK)
        return session_cache_failure(replay->cache, status);
    int failed = attend_sparse(replay, step, layer, query);
    if (!failed && query % 2 == 1) {
        status = attend(replay, step, layer, query, true);
        failed = status == SKIM_OK ? EXIT_DONE : session_cache_failure(replay->cache, status);
    }
    return failed;
}

static int run_queries(struct replay *replay)
{
    for (uint32_t query = 0; query < replay->trace.queries; query++) {
        progress_show("queries", query, replay->trace.queries);
        skim_step *step = NULL;
        skim_step_entry entry = {replay->sequence, 1};
        skim_status status = skim_step_begin(replay->cache, &entry, 1, &step);
        if (status != SKIM_OK)
            return session_cache_failure(replay->cache, status);
        for (uint32_t layer = 0; layer < replay->trace.layer_count; layer++) {
            int failed = run_layer(replay, step, layer, query);
            if (failed)
                return failed;
        }
        status = skim_step_end(step, NULL);
        if (status != SKIM_OK)
            return session_cache_failure(replay->cache, status);
    }
    progress_clear();
    skim_status status = skim_queue_finish(replay->session.queue);
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(&replay->session, status);
}

// The share of the dense softmax that lies on the pages read is exp(lse_sparse - lse_dense).
static void compare(const struct replay *replay, struct replay_layer *layer)
{
    size_t heads = (size_t)replay->trace.queries * layer->trace->q_heads;
    double kept = 0;
    for (size_t i = 0; i < heads; i++)
        kept += exp((double)layer->sparse_lse[i] - (double)layer->dense_lse[i]);
    kept /= (double)heads;
    layer->mass_kept = kept > 1 ? 1 : kept;
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < heads * layer->trace->head_dim; i++) {
        double dense = layer->dense_out[i];
        double gap = layer->sparse_out[i] - dense;
        difference += gap * gap;
        norm += dense * dense;
    }
    layer->relative_error = difference == 0 ? 0 : sqrt(difference / norm);
    layer->sparse_ms = 1e3 * median(layer->sparse_s, replay->trace.queries);
    layer->dense_ms = 1e3 * median(layer->dense_s, replay->trace.queries);
}

static int replay_all(struct replay *replay)
{
    const struct trace *trace = &replay->trace;
    trace_warn_unless_finite(trace);
    replay->layers = calloc(trace->layer_count, sizeof *replay->layers);
    replay->max_pages = (trace->tokens - 1) / replay->settings->page_size + 1;
    replay->list = calloc(replay->max_pages, sizeof *replay->list);
    replay->seen = calloc(replay->max_pages, sizeof *replay->seen);
    if (!replay->layers || !replay->list || !replay->seen)
        return out_of_memory();
    int failed = EXIT_DONE;
    for (uint32_t i = 0; i < trace->layer_count && !failed; i++)
        failed = start_layer(trace, &trace->layers[i], &replay->layers[i]);
    if (!failed)
        failed = create_cache(replay);
    if (!failed)
        failed = prefill(replay);
    if (!failed)
        failed = run_queries(replay);
    for (uint32_t i = 0; i < trace->layer_count && !failed; i++)
        compare(replay, &replay->layers[i]);
    if (!failed && replay->settings->out)
        failed = replay_write(replay);
    return failed;
}

int replay_run(const struct settings *settings)
{
    struct replay replay = {.settings = settings};
    int failed = trace_open(&replay.trace, settings->trace);
    if (failed)
        return failed;
    if (settings->out && trace_is_at(&replay.trace, settings->out))
        failed = report_failure("--out is the trace itself; give another path");
    if (!failed)
        failed = session_open(&replay.session, settings);
    if (!failed && settings->out)
        failed = trace_writer_open(&replay.writer, settings->out, "--out");
    if (!failed)
        failed = replay_all(&replay);
    if (!failed)
        failed = settings->json ? report_json(replay_json(&replay)) : replay_print(&replay);
    skim_cache_destroy(replay.cache);
    session_close(&replay.session);
    for (uint32_t i = 0; replay.layers && i < replay.trace.layer_count; i++)
        end_layer(&replay.layers[i]);
    free(replay.layers);
    free(replay.list);
    free(replay.seen);
    trace_writer_close(&replay.writer);
    trace_close(&replay.trace);
    return failed;
}
