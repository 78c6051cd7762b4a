// Keys with structure: isotropic noise would make any selection of pages look useless.
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOPICS = 64, NOISE = 1 << 16, RUN = 24 };

static uint32_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

// Normal enough: the sum of four uniform numbers, scaled to deviation 1.
static float next_normal(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)next_random(state) * 0x1p-32f;
    return (sum - 2.0f) * 1.7320508f;
}

static uint16_t half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t rounded = (magnitude + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    uint32_t result = magnitude < 0x38800000u ? 0 : rounded - (112u << 10); // no subnormal results
    return (uint16_t)(result | (bits >> 16 & 0x8000u));
}

static uint16_t brain(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static void store(void *to, const float *from, size_t count, skim_type type)
{
    uint16_t *halves = to;
    if (type == SKIM_F32)
        memcpy(to, from, count * sizeof *from);
    else if (type == SKIM_F16)
        for (size_t i = 0; i < count; i++)
            halves[i] = half(from[i]);
    else
        for (size_t i = 0; i < count; i++)
            halves[i] = brain(from[i]);
}

// What the rows are made from, all in f32.
struct source {
    uint64_t random;
    uint32_t dim;
    float *noise;  // [NOISE + dim]
    float *topics; // [kv_heads][TOPICS][dim]
    float *bias;   // [kv_heads][dim]
    float *drift;  // [kv_heads][dim]
    float *row;    // [dim]
};

static bool source_create(struct source *source, uint32_t kv_heads, uint32_t dim)
{
    size_t channels = (size_t)kv_heads * dim;
    *source = (struct source){.random = 0x9e3779b97f4a7c15u, .dim = dim};
    source->noise = malloc((NOISE + dim) * sizeof(float));
    source->topics = malloc(channels * TOPICS * sizeof(float));
    source->bias = malloc(channels * sizeof(float));
    source->drift = malloc(channels * sizeof(float));
    source->row = malloc(dim * sizeof(float));
    if (!source->noise || !source->topics || !source->bias || !source->drift || !source->row)
        return false;
    for (size_t i = 0; i < NOISE + dim; i++)
        source->noise[i] = next_normal(&source->random);
    for (size_t i = 0; i < channels * TOPICS; i++)
        source->topics[i] = next_normal(&source->random);
    for (size_t i = 0; i < channels; i++) {
        // A few channels carry a large constant, as in trained models.
        source->bias[i] =
            next_normal(&source->random) * (next_random(&source->random) % 32 ? 0.3f : 4.0f);
        source->drift[i] = 0.5f * next_normal(&source->random);
    }
    return true;
}

static void source_destroy(struct source *source)
{
    free(source->noise);
    free(source->topics);
    free(source->bias);
    free(source->drift);
    free(source->row);
}

static const float *some_noise(struct source *source)
{
    return source->noise + next_random(&source->random) % NOISE;
}

static void make_keys(struct source *source, struct synthetic *data, size_t row_bytes)
{
    uint32_t topic = 0;
    for (uint32_t token = 0; token < data->tokens; token++) {
        if (next_random(&source->random) % RUN == 0)
            topic = next_random(&source->random) % TOPICS;
        float age = (float)token / (float)data->tokens;
        for (uint32_t head = 0; head < data->kv_heads; head++) {
            const float *center = source->topics + ((size_t)head * TOPICS + topic) * source->dim;
            const float *bias = source->bias + (size_t)head * source->dim;
            const float *drift = source->drift + (size_t)head * source->dim;
            const float *noise = some_noise(source);
            for (uint32_t d = 0; d < source->dim; d++)
                source->row[d] = bias[d] + 0.8f * center[d] + age * drift[d] + 0.5f * noise[d];
            char *to = (char *)data->keys + ((size_t)token * data->kv_heads + head) * row_bytes;
            store(to, source->row, source->dim, data->type);
        }
    }
}

static bool make_values(struct source *source, struct synthetic *data, size_t row_bytes)
{
    char *stored = malloc((NOISE + source->dim) * sizeof(float));
    if (!stored)
        return false;
    store(stored, source->noise, NOISE + source->dim, data->type);
    size_t rows = (size_t)data->tokens * data->kv_heads;
    for (size_t i = 0; i < rows; i++) {
        size_t first = next_random(&source->random) % NOISE;
        memcpy((char *)data->values + i * row_bytes, stored + first * skim_type_size(data->type),
               row_bytes);
    }
    free(stored);
    return true;
}

// A query looks for two topics: one that its group shares, one of its own.
static void make_queries(struct source *source, struct synthetic *data, uint32_t count,
                         size_t row_bytes)
{
    uint32_t group = data->q_heads / data->kv_heads;
    for (uint32_t i = 0; i < count * data->q_heads; i++) {
        uint32_t head = i % data->q_heads;
        const float *centers = source->topics + (size_t)(head / group) * TOPICS * source->dim;
        const float *shared = centers + (size_t)(i / group % TOPICS) * source->dim;
        const float *own = centers + (size_t)(next_random(&source->random) % TOPICS) * source->dim;
        const float *noise = some_noise(source);
        for (uint32_t d = 0; d < source->dim; d++)
            source->row[d] = 0.5f * shared[d] + 0.5f * own[d] + 0.5f * noise[d];
        store((char *)data->queries + (size_t)i * row_bytes, source->row, source->dim, data->type);
    }
}

bool synthetic_create(struct synthetic *data, skim_type type, uint32_t tokens, uint32_t q_heads,
                      uint32_t kv_heads, uint32_t head_dim, uint32_t queries)
{
    size_t row_bytes = head_dim * skim_type_size(type);
    *data = (struct synthetic){.type = type,
                               .tokens = tokens,
                               .q_heads = q_heads,
                               .kv_heads = kv_heads,
                               .head_dim = head_dim};
    data->keys = malloc((size_t)tokens * kv_heads * row_bytes);
    data->values = malloc((size_t)tokens * kv_heads * row_bytes);
    data->queries = malloc((size_t)queries * q_heads * row_bytes);
    struct source source;
    bool made = source_create(&source, kv_heads, head_dim);
    made = made && data->keys && data->values && data->queries;
    if (made) {
        make_keys(&source, data, row_bytes);
        make_queries(&source, data, queries, row_bytes);
        made = make_values(&source, data, row_bytes);
    }
    source_destroy(&source);
    if (!made)
        synthetic_destroy(data);
    return made;
}

void synthetic_destroy(struct synthetic *data)
{
    free(data->keys);
    free(data->values);
    free(data->queries);
    *data = (struct synthetic){0};
}
