#include "data.h"

#include <math.h>
#include <string.h>

// DATA_NEEDLE: key t is NEEDLE_GAIN times a sign pattern of its own.
#define NEEDLE_GAIN 4.0

uint32_t token_class(uint32_t token, uint32_t dim)
{
    return (token * 2654435761u >> 7) % dim;
}

void history_init(context *ctx, history *h, const params *p, uint32_t capacity)
{
    *h = (history){.p = p,
                   .kv_heads = p->kv_heads,
                   .dim = p->dim,
                   .group = p->group,
                   .type = p->kv,
                   .kind = p->data,
                   .capacity = capacity};
    h->k = take(ctx, (size_t)capacity * history_stride(h), sizeof *h->k);
    h->v = take(ctx, (size_t)capacity * history_stride(h), sizeof *h->v);
    h->walk = take(ctx, history_stride(h), sizeof *h->walk);
}

// A sign that looks random but is a function of token and channel.
static float needle_sign(uint32_t token, uint32_t d)
{
    uint64_t bits = hash_text("needle", ((uint64_t)token << 32) | (d / 64));
    return (bits >> (d % 64)) & 1 ? 1.0f : -1.0f;
}

static double key_channel(context *ctx, history *h, uint32_t token, uint32_t d, float *walk)
{
    switch (h->kind) {
    case DATA_CLUSTER:
        if (token % 21 == 0) {
            *walk = (float)(1.2 * random_normal(ctx));
        }
        return (double)*walk + 0.4 * random_normal(ctx);
    case DATA_DRIFT:
        *walk = (float)(0.97 * (double)*walk + 0.25 * random_normal(ctx));
        return (double)*walk + (d % 16 == 3 ? 4.0 : 0.0) + 0.2 * random_normal(ctx);
    case DATA_INTEGER:
        return (double)random_below(ctx, 5) - 2.0;
    case DATA_UNIFORM:
        return 0.0;
    case DATA_NEEDLE:
        return NEEDLE_GAIN * (double)needle_sign(token, d);
    case DATA_NOISE:
    default:
        return random_normal(ctx);
    }
}

static double value_channel(context *ctx, const history *h, uint32_t token, uint32_t d)
{
    switch (h->kind) {
    case DATA_INTEGER:
        return (double)random_below(ctx, 17) - 8.0;
    case DATA_UNIFORM:
        return token_class(token, h->dim) == d ? 1.0 : 0.0;
    case DATA_NEEDLE: // a token's number in two digits, both exact in bf16
        return d % 2 ? (double)(token % 128) : (double)(token / 128);
    case DATA_NOISE:
    case DATA_CLUSTER:
    case DATA_DRIFT:
    default:
        return random_normal(ctx);
    }
}

void history_extend(context *ctx, history *h, uint32_t count)
{
    for (uint32_t token = h->length; token < h->length + count; token++) {
        for (uint32_t head = 0; head < h->kv_heads; head++) {
            float *walk = h->walk + (size_t)head * h->dim;
            float *k = history_key(h, token, head);
            float *v = history_value(h, token, head);
            for (uint32_t d = 0; d < h->dim; d++) {
                k[d] = reference_round((float)key_channel(ctx, h, token, d, &walk[d]), h->type);
                v[d] = reference_round((float)value_channel(ctx, h, token, d), h->type);
            }
        }
    }
    h->length += count;
}

void history_truncate(history *h, uint32_t length)
{
    h->length = length;
}

void history_share(history *h, const history *other, uint32_t count)
{
    size_t floats = count * history_stride(h);
    memcpy(h->k + h->length * history_stride(h), other->k, floats * sizeof *h->k);
    memcpy(h->v + h->length * history_stride(h), other->v, floats * sizeof *h->v);
    memcpy(h->walk, other->walk, history_stride(h) * sizeof *h->walk);
    h->length += count;
}

// Queries resemble a key of the sequence's own past, so that some pages matter and others do not.
static double query_channel(context *ctx, const history *h, const float *key, uint32_t d)
{
    switch (h->kind) {
    case DATA_CLUSTER:
        return 1.2 * (double)key[d] + 0.5 * random_normal(ctx);
    case DATA_DRIFT:
        return 0.5 * (double)key[d] + 0.5 * random_normal(ctx);
    case DATA_INTEGER:
        return (double)random_below(ctx, 5) - 2.0;
    case DATA_NEEDLE:
        return (double)key[d];
    case DATA_NOISE:
    case DATA_UNIFORM:
    default:
        return random_normal(ctx);
    }
}

void make_query(context *ctx, const history *h, uint32_t token, skim_type type, float *q,
                uint32_t *targets)
{
    for (uint32_t head = 0; head < h->kv_heads * h->group; head++) {
        uint32_t target = random_below(ctx, token + 1);
        if (targets) {
            targets[head] = target;
        }
        const float *key = history_key(h, target, head / h->group);
        for (uint32_t d = 0; d < h->dim; d++) {
            float value = (float)query_channel(ctx, h, key, d);
            q[(size_t)head * h->dim + d] = reference_round(value, type);
        }
    }
}
