#include "recorder.h"

#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t kv_bytes(const struct recorder *recorder)
{
    return (size_t)recorder->config->kv_heads * recorder->config->head_dim *
           skim_type_size(recorder->type);
}

static size_t query_size(const struct recorder *recorder)
{
    return (size_t)recorder->config->q_heads * recorder->config->head_dim;
}

static int compare_layers(const void *a, const void *b)
{
    const struct recorder_layer *x = a;
    const struct recorder_layer *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

static int choose_layers(struct recorder *recorder, const count_list *wanted)
{
    uint32_t all = recorder->config->layers;
    uint32_t count = wanted->count ? wanted->count : all;
    recorder->layers = calloc(count, sizeof *recorder->layers);
    if (!recorder->layers)
        return report_failure("out of memory; free some and try again");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = wanted->count ? wanted->values[i] : i;
        if (index >= all)
            return report_failure("--trace-layers asks for layer %u; the model has 0 to %u", index,
                                  all - 1);
        recorder->layers[i].index = index;
    }
    qsort(recorder->layers, count, sizeof *recorder->layers, compare_layers);
    for (uint32_t i = 1; i < count; i++)
        if (recorder->layers[i].index == recorder->layers[i - 1].index)
            return report_failure("--trace-layers names layer %u twice; name each once",
                                  recorder->layers[i].index);
    recorder->layer_count = count;
    return EXIT_DONE;
}

// Bytes of one layer: K and V of every token, and the queries. False: more than can be counted.
static bool count_bytes(const struct recorder *recorder, uint64_t *bytes)
{
    uint64_t queries = (uint64_t)recorder->queries * query_size(recorder) * sizeof(float);
    return !__builtin_mul_overflow(recorder->capacity, 2 * (uint64_t)kv_bytes(recorder), bytes) &&
           !__builtin_add_overflow(*bytes, queries, bytes) &&
           !__builtin_mul_overflow(*bytes, recorder->layer_count, bytes);
}

int recorder_open(struct recorder *recorder, const struct settings *settings,
                  const struct model_config *config, skim_type type, uint64_t capacity,
                  uint64_t available)
{
    uint64_t most = settings->trace_queries;
    *recorder = (struct recorder){.config = config,
                                  .type = type,
                                  .capacity = capacity,
                                  .queries = (uint32_t)(most < capacity ? most : capacity)};
    int failed = choose_layers(recorder, &settings->trace_layers);
    if (failed)
        return failed;
    uint64_t bytes = 0;
    bool fits = count_bytes(recorder, &bytes) && bytes <= available;
    size_t kv = (size_t)capacity * kv_bytes(recorder);
    size_t queries = recorder->queries * query_size(recorder) * sizeof(float);
    for (uint32_t i = 0; i < recorder->layer_count && fits; i++) {
        struct recorder_layer *layer = &recorder->layers[i];
        layer->keys = malloc(kv);
        layer->values = malloc(kv);
        layer->queries = malloc(queries);
        fits = layer->keys && layer->values && layer->queries;
    }
    return fits ? EXIT_DONE
                : report_failure("no memory for a trace of %u layers and %llu tokens; name fewer "
                                 "--trace-layers, or use a shorter prompt",
                                 recorder->layer_count, (unsigned long long)capacity);
}

void recorder_close(struct recorder *recorder)
{
    for (uint32_t i = 0; i < recorder->layer_count; i++) {
        free(recorder->layers[i].keys);
        free(recorder->layers[i].values);
        free(recorder->layers[i].queries);
    }
    free(recorder->layers);
    *recorder = (struct recorder){0};
}

void recorder_add(struct recorder *recorder, uint32_t layer, uint32_t tokens, const float *q,
                  const void *k, const void *v)
{
    struct recorder_layer *own = NULL;
    for (uint32_t i = 0; i < recorder->layer_count && !own; i++)
        if (recorder->layers[i].index == layer)
            own = &recorder->layers[i];
    if (!own)
        return;
    size_t bytes = kv_bytes(recorder);
    memcpy(own->keys + recorder->tokens * bytes, k, tokens * bytes);
    memcpy(own->values + recorder->tokens * bytes, v, tokens * bytes);
    size_t size = query_size(recorder);
    uint32_t skipped = tokens > recorder->queries ? tokens - recorder->queries : 0;
    for (uint32_t t = skipped; t < tokens; t++)
        memcpy(own->queries + (recorder->tokens + t) % recorder->queries * size, q + t * size,
               size * sizeof *q);
}

void recorder_end_step(struct recorder *recorder, uint32_t tokens)
{
    recorder->tokens += tokens;
}

static void reverse(float *rows, size_t count, size_t size)
{
    for (size_t i = 0; i + 1 < count - i; i++)
        for (size_t d = 0; d < size; d++) {
            float *low = rows + i * size + d;
            float *high = rows + (count - 1 - i) * size + d;
            float kept = *low;
            *low = *high;
            *high = kept;
        }
}

// Puts the oldest query first.
static void sort_queries(const struct recorder *recorder, float *queries, uint32_t count)
{
    size_t size = query_size(recorder);
    uint32_t oldest = recorder->tokens > count ? (uint32_t)(recorder->tokens % count) : 0;
    reverse(queries, oldest, size);
    reverse(queries + oldest * size, count - oldest, size);
    reverse(queries, count, size);
}

static json_t *make_metadata(const struct recorder *recorder, const char *model, const char *note)
{
    // As libskim has it where a layer gives no scale.
    double scale = 1.0f / sqrtf((float)recorder->config->head_dim);
    char text[32];
    snprintf(text, sizeof text, "%.9g", scale);
    return json_pack("{s:s, s:s, s:s}", "scale", text, "model", model, "note", note);
}

int recorder_write(struct recorder *recorder, struct trace_writer *writer, const char *model,
                   const char *note)
{
    const struct model_config *config = recorder->config;
    uint32_t queries =
        recorder->tokens < recorder->queries ? (uint32_t)recorder->tokens : recorder->queries;
    uint32_t count = TRACE_TENSORS * recorder->layer_count;
    struct trace_out *tensors = calloc(count, sizeof *tensors);
    json_t *metadata = make_metadata(recorder, model, note);
    int failed = EXIT_DONE;
    if (!tensors || !metadata)
        failed = report_failure("out of memory for the trace; free some and try again");
    for (uint32_t i = 0; i < count && !failed; i++) {
        struct recorder_layer *layer = &recorder->layers[i / TRACE_TENSORS];
        uint32_t which = i % TRACE_TENSORS;
        bool query = which == TRACE_Q;
        if (query)
            sort_queries(recorder, layer->queries, queries);
        tensors[i] = (struct trace_out){
            .type = query ? TRACE_OUT_F32 : trace_out_type_of(recorder->type),
            .rank = 3,
            .shape = {query ? queries : recorder->tokens,
                      query ? config->q_heads : config->kv_heads, config->head_dim},
            .data = query              ? (const void *)layer->queries
                    : which == TRACE_K ? layer->keys
                                       : layer->values};
        snprintf(tensors[i].name, sizeof tensors[i].name, "layers.%u.%c", layer->index,
                 "qkv"[which]);
    }
    if (!failed)
        failed = trace_writer_write(writer, tensors, count, metadata);
    json_decref(metadata);
    free(tensors);
    return failed;
}
