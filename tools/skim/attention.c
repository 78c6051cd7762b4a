#include "attention.h"

#include "halves.h"
#include "report.h"

#include <stdlib.h>

static int out_of_memory(void)
{
    return report_failure("out of memory for the attention; use a shorter prompt");
}

static int create_cache(struct attention *attention, const struct settings *settings,
                        const struct model_config *config, uint64_t capacity, uint32_t step_tokens)
{
    skim_layer *layers = calloc(config->layers, sizeof *layers);
    if (!layers)
        return out_of_memory();
    for (uint32_t i = 0; i < config->layers; i++)
        layers[i] = (skim_layer){.size_of = sizeof *layers,
                                 .q_heads = config->q_heads,
                                 .kv_heads = config->kv_heads,
                                 .key_dim = config->head_dim,
                                 .type = attention->type};
    skim_policy policy = options_policy(settings);
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = config->layers,
                                  .page_size = settings->page_size,
                                  .capacity = capacity,
                                  .max_step_tokens = step_tokens,
                                  .bounds = (skim_bounds)settings->bounds,
                                  .bounds_type = (skim_bounds_type)settings->bounds_type,
                                  .policy = &policy};
    skim_status status = skim_cache_create(attention->session->queue, &options, &attention->cache);
    free(layers);
    if (status != SKIM_OK)
        return session_queue_failure(attention->session, status);
    status = skim_cache_prepare(attention->cache, NULL);
    if (status == SKIM_OK)
        status = skim_sequence_create(attention->cache, &attention->sequence);
    return status == SKIM_OK ? EXIT_DONE : session_cache_failure(attention->cache, status);
}

int attention_open(struct attention *attention, struct session *session,
                   const struct settings *settings, const struct model *model, uint64_t capacity,
                   uint32_t step_tokens)
{
    const struct model_config *config = &model->config;
    *attention =
        (struct attention){.session = session,
                           .layers = config->layers,
                           .kv_size = config->kv_heads * config->head_dim,
                           .type = settings->kv_type ? (skim_type)settings->kv_type : model->type};
    attention->layer_counts = calloc(config->layers, sizeof *attention->layer_counts);
    if (!attention->layer_counts)
        return out_of_memory();
    if (attention->type != SKIM_F32) {
        size_t elements = (size_t)step_tokens * attention->kv_size;
        attention->keys = malloc(elements * sizeof *attention->keys);
        attention->values = malloc(elements * sizeof *attention->values);
        if (!attention->keys || !attention->values)
            return out_of_memory();
    }
    return create_cache(attention, settings, config, capacity, step_tokens);
}

void attention_close(struct attention *attention)
{
    skim_cache_destroy(attention->cache); // and with it the sequence and an open step
    free(attention->keys);
    free(attention->values);
    free(attention->layer_counts);
    *attention = (struct attention){0};
}

int attention_begin(struct attention *attention, uint32_t tokens, bool dense)
{
    double start = now();
    skim_step_entry entry = {attention->sequence, tokens};
    attention->tokens = tokens;
    attention->dense = dense;
    skim_status status = skim_step_begin(attention->cache, &entry, 1, &attention->step);
    attention->counts.seconds += now() - start;
    return status == SKIM_OK ? EXIT_DONE : session_cache_failure(attention->cache, status);
}

static skim_tensor input(const struct attention *attention, const float *x, uint16_t *halves)
{
    if (attention->type == SKIM_F32)
        return skim_tensor_host(x, SKIM_F32);
    halves_from_f32(attention->type, x, (size_t)attention->tokens * attention->kv_size, halves);
    return skim_tensor_host(halves, attention->type);
}

static skim_status run_layer(struct attention *attention, uint32_t layer, const float *q,
                             const float *k, const float *v, float *out)
{
    skim_tensor keys = input(attention, k, attention->keys);
    skim_tensor values = input(attention, v, attention->values);
    skim_status status = skim_step_append(attention->step, layer, &keys, &values);
    if (status != SKIM_OK)
        return status;
    skim_policy dense = skim_policy_defaults();
    dense.dense_below = UINT32_MAX;
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = skim_tensor_host(q, SKIM_F32),
                                  .out = skim_tensor_host(out, SKIM_F32),
                                  .policy = attention->dense ? &dense : NULL};
    status = skim_step_attend(attention->step, layer, &args);
    // The next layer needs out, so this one is waited for.
    return status == SKIM_OK ? skim_queue_finish(attention->session->queue) : status;
}

static void add_report(struct attention_counts *counts, const skim_step_report *report)
{
    counts->sparse |= report->sparse_sequences > 0;
    counts->pages_read += report->pages_read;
    counts->pages_total += report->pages_total;
    counts->bytes_read += report->bounds_bytes + report->page_bytes;
    counts->bytes_dense += report->dense_bytes;
}

static skim_status note(struct attention *attention, uint32_t layer, double seconds)
{
    struct attention_layer *own = &attention->layer_counts[layer];
    skim_step_report report = {.size_of = sizeof report};
    skim_status status = skim_step_get_report(attention->step, layer, &report);
    if (status != SKIM_OK)
        return status;
    add_report(&attention->counts, &report);
    add_report(&own->counts, &report);
    own->seconds[own->calls++ % ATTENTION_TIMES] = (float)seconds;
    own->counts.seconds += seconds;
    return SKIM_OK;
}

static void record(const struct attention *attention, uint32_t layer, const float *q,
                   const float *k, const float *v)
{
    bool halves = attention->type != SKIM_F32;
    if (attention->recorder)
        recorder_add(attention->recorder, layer, attention->tokens, q,
                     halves ? (const void *)attention->keys : k,
                     halves ? (const void *)attention->values : v);
}

static int layer_failure(const struct attention *attention, skim_status status)
{
    char text[8];
    return skim_cache_error(attention->cache, text, sizeof text)
               ? session_cache_failure(attention->cache, status)
               : session_queue_failure(attention->session, status);
}

int attention_layer(struct attention *attention, uint32_t layer, const float *q, const float *k,
                    const float *v, float *out)
{
    double start = now();
    skim_status status = run_layer(attention, layer, q, k, v, out);
    double seconds = now() - start;
    attention->counts.seconds += seconds;
    if (status == SKIM_OK)
        status = note(attention, layer, seconds);
    if (status != SKIM_OK)
        return layer_failure(attention, status);
    record(attention, layer, q, k, v);
    return EXIT_DONE;
}

int attention_end(struct attention *attention)
{
    double start = now();
    skim_status status = skim_step_end(attention->step, NULL);
    attention->counts.seconds += now() - start;
    if (status != SKIM_OK)
        return session_cache_failure(attention->cache, status);
    attention->step = NULL;
    if (attention->recorder)
        recorder_end_step(attention->recorder, attention->tokens);
    return EXIT_DONE;
}

int attention_fill(struct attention *attention, uint32_t tokens, const void *k, const void *v)
{
    int failed = attention_begin(attention, tokens, true);
    if (failed)
        return failed;
    const skim_tensor keys = skim_tensor_host(k, attention->type);
    const skim_tensor values = skim_tensor_host(v, attention->type);
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < attention->layers && status == SKIM_OK; i++)
        status = skim_step_append(attention->step, i, &keys, &values);
    if (status == SKIM_OK)
        status = skim_queue_finish(attention->session->queue);
    failed = status == SKIM_OK ? attention_end(attention) : layer_failure(attention, status);
    if (failed)
        attention_cancel(attention);
    return failed;
}

void attention_cancel(struct attention *attention)
{
    skim_step_cancel(attention->step);
    attention->step = NULL;
}

void attention_reset(struct attention *attention)
{
    attention->counts = (struct attention_counts){0};
    for (uint32_t i = 0; i < attention->layers; i++) {
        attention->layer_counts[i].counts = (struct attention_counts){0};
        attention->layer_counts[i].calls = 0;
    }
}

double attention_layer_median(const struct attention *attention, uint32_t layer)
{
    const struct attention_layer *own = &attention->layer_counts[layer];
    size_t count = own->calls < ATTENTION_TIMES ? (size_t)own->calls : ATTENTION_TIMES;
    double seconds[ATTENTION_TIMES];
    for (size_t i = 0; i < count; i++)
        seconds[i] = own->seconds[i];
    return median(seconds, count);
}
