#include "forward.h"

#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int make_room(struct forward *forward, const struct model_config *config, size_t tokens)
{
    size_t queries = (size_t)config->q_heads * config->head_dim;
    size_t keys = (size_t)config->kv_heads * config->head_dim;
    size_t half = config->head_dim / 2;
    const struct {
        float **values;
        size_t count;
    } parts[] = {
        {&forward->frequencies, half},
        {&forward->cosines, tokens * half},
        {&forward->sines, tokens * half},
        {&forward->x, tokens * config->hidden},
        {&forward->normed, tokens * config->hidden},
        {&forward->q, tokens * queries},
        {&forward->k, tokens * keys},
        {&forward->v, tokens * keys},
        {&forward->attended, tokens * queries},
        {&forward->gate, tokens * config->intermediate},
        {&forward->up, tokens * config->intermediate},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!(*parts[i].values = malloc(parts[i].count * sizeof(float))))
            return report_failure("out of memory for a step of %zu tokens; free some and try again",
                                  tokens);
    return EXIT_DONE;
}

static uint32_t most_columns(const struct model_config *config)
{
    uint32_t most = config->q_heads * config->head_dim;
    most = most > config->hidden ? most : config->hidden;
    return most > config->intermediate ? most : config->intermediate;
}

int forward_open_layers(struct forward *forward, const struct model *model, uint32_t threads,
                        uint32_t tokens, forward_attend attend, void *argument)
{
    forward->model = model;
    forward->attend = attend;
    forward->argument = argument;
    int failed = make_room(forward, &model->config, tokens);
    if (!failed)
        failed = linear_open(&forward->linear, threads ? threads : 1, most_columns(&model->config));
    if (!failed)
        rope_frequencies(&model->config.rope, model->config.head_dim, forward->frequencies);
    return failed;
}

static int attend_in_cache(void *argument, uint32_t layer, const float *q, const float *k,
                           const float *v, float *out)
{
    return attention_layer(argument, layer, q, k, v, out);
}

int forward_open(struct forward *forward, const struct model *model, struct session *session,
                 const struct settings *settings, uint64_t capacity)
{
    *forward = (struct forward){0};
    uint32_t tokens = capacity < FORWARD_STEP_TOKENS ? (uint32_t)capacity : FORWARD_STEP_TOKENS;
    // First, for it is what may be too large.
    int failed = attention_open(&forward->attention, session, settings, model, capacity, tokens);
    uint32_t threads = session->limits.threads ? session->limits.threads : settings->threads;
    if (!failed)
        failed = forward_open_layers(forward, model, threads, tokens, attend_in_cache,
                                     &forward->attention);
    if (!failed)
        failed = linear_move(&forward->linear, settings, model, tokens);
    return failed;
}

void forward_close(struct forward *forward)
{
    attention_close(&forward->attention);
    linear_close(&forward->linear);
    float *const parts[] = {forward->frequencies, forward->cosines, forward->sines, forward->x,
                            forward->normed,      forward->q,       forward->k,     forward->v,
                            forward->attended,    forward->gate,    forward->up};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
    *forward = (struct forward){0};
}

static void embed(const struct model *model, const uint32_t *tokens, uint32_t count, float *x)
{
    size_t hidden = model->config.hidden;
    size_t row = hidden * skim_type_size(model->embedding.type);
    for (uint32_t t = 0; t < count; t++)
        model_convert(model->embedding.type, (const char *)model->embedding.data + tokens[t] * row,
                      hidden, x + t * hidden);
}

// RMS norm of count vectors; out may be x.
static void normalise(const float *x, const float *weight, size_t count, size_t size,
                      double epsilon, float *out)
{
    for (size_t i = 0; i < count; i++, x += size, out += size) {
        double sum = 0;
        for (size_t d = 0; d < size; d++)
            sum += (double)x[d] * x[d];
        float scale = (float)(1 / sqrt(sum / (double)size + epsilon));
        for (size_t d = 0; d < size; d++)
            out[d] = x[d] * scale * weight[d];
    }
}

static void add(float *x, const float *more, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += more[i];
}

static int attend(struct forward *forward, uint32_t index, uint32_t count)
{
    const struct model_config *config = &forward->model->config;
    const struct model_layer *layer = &forward->model->layers[index];
    struct linear *linear = &forward->linear;
    uint32_t dim = config->head_dim;
    double epsilon = config->norm_epsilon;
    normalise(forward->x, layer->attention_norm, count, config->hidden, epsilon, forward->normed);
    if (linear_apply(linear, &layer->q, forward->normed, count, forward->q) ||
        linear_apply(linear, &layer->k, forward->normed, count, forward->k) ||
        linear_apply(linear, &layer->v, forward->normed, count, forward->v))
        return EXIT_FAILED;
    if (layer->q_norm) {
        normalise(forward->q, layer->q_norm, (size_t)count * config->q_heads, dim, epsilon,
                  forward->q);
        normalise(forward->k, layer->k_norm, (size_t)count * config->kv_heads, dim, epsilon,
                  forward->k);
    }
    rope_apply(forward->q, count, config->q_heads, dim, forward->cosines, forward->sines);
    rope_apply(forward->k, count, config->kv_heads, dim, forward->cosines, forward->sines);
    int failed = forward->attend(forward->argument, index, forward->q, forward->k, forward->v,
                                 forward->attended);
    if (failed)
        return failed;
    failed = linear_apply(linear, &layer->out, forward->attended, count, forward->normed);
    if (failed)
        return failed;
    add(forward->x, forward->normed, (size_t)count * config->hidden);
    return EXIT_DONE;
}

static int feed_forward(struct forward *forward, uint32_t index, uint32_t count)
{
    const struct model_config *config = &forward->model->config;
    const struct model_layer *layer = &forward->model->layers[index];
    normalise(forward->x, layer->mlp_norm, count, config->hidden, config->norm_epsilon,
              forward->normed);
    struct linear *linear = &forward->linear;
    if (linear_apply(linear, &layer->gate, forward->normed, count, forward->gate) ||
        linear_apply(linear, &layer->up, forward->normed, count, forward->up))
        return EXIT_FAILED;
    for (size_t i = 0; i < (size_t)count * config->intermediate; i++) {
        float gate = forward->gate[i];
        forward->gate[i] = gate / (1 + expf(-gate)) * forward->up[i];
    }
    int failed = linear_apply(linear, &layer->down, forward->gate, count, forward->normed);
    if (!failed)
        add(forward->x, forward->normed, (size_t)count * config->hidden);
    return failed;
}

// The same angles for each of the tokens.
static void repeat_angles(float *angles, uint32_t half, uint32_t count)
{
    for (uint32_t t = 1; t < count; t++)
        memcpy(angles + (size_t)t * half, angles, half * sizeof *angles);
}

int forward_layers(struct forward *forward, const uint32_t *tokens, uint32_t count, uint64_t first,
                   bool together)
{
    const struct model_config *config = &forward->model->config;
    embed(forward->model, tokens, count, forward->x);
    rope_angles(forward->frequencies, config->head_dim, first, together ? 1 : count,
                forward->cosines, forward->sines);
    if (together) {
        repeat_angles(forward->cosines, config->head_dim / 2, count);
        repeat_angles(forward->sines, config->head_dim / 2, count);
    }
    double start = now();
    for (uint32_t i = 0; i < config->layers; i++) {
        if (forward->stop && *forward->stop)
            return FORWARD_STOPPED;
        int failed = attend(forward, i, count);
        if (!failed)
            failed = feed_forward(forward, i, count);
        if (failed)
            return failed;
    }
    forward->layers_s = now() - start;
    return EXIT_DONE;
}

int forward_logits(struct forward *forward, uint32_t count, uint32_t rows, float *logits)
{
    const struct model *model = forward->model;
    const float *x = forward->x + (size_t)(count - rows) * model->config.hidden;
    normalise(x, model->norm, rows, model->config.hidden, model->config.norm_epsilon,
              forward->normed);
    return linear_apply(&forward->linear, &model->output, forward->normed, rows, logits);
}

int forward_run(struct forward *forward, const uint32_t *tokens, uint32_t count, bool dense,
                enum forward_logits wanted, float *logits)
{
    int failed = attention_begin(&forward->attention, count, dense);
    if (failed)
        return failed;
    failed = forward_layers(forward, tokens, count, forward->length, false);
    if (!failed)
        failed = attention_end(&forward->attention);
    if (failed) {
        attention_cancel(&forward->attention);
        return failed;
    }
    forward->length += count;
    return wanted == FORWARD_NONE
               ? EXIT_DONE
               : forward_logits(forward, count, wanted == FORWARD_ALL ? count : 1, logits);
}

int forward_fill(struct forward *forward, uint32_t tokens, const void *k, const void *v)
{
    int failed = attention_fill(&forward->attention, tokens, k, v);
    forward->length += failed ? 0 : tokens;
    return failed;
}
