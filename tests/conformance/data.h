// Keys, values and queries of the cases.
#ifndef DATA_H
#define DATA_H

#include "suite.h"

// K and V of one sequence of one layer, and how its queries are made. [token][kv_head][dim],
// rounded to the type of the cache.
typedef struct history {
    const params *p;
    uint32_t kv_heads, dim, group;
    skim_type type;
    data_kind kind;
    uint32_t length, capacity;
    float *k, *v;
    float *walk; // state of the generator, [kv_heads][dim]
} history;

// An empty history with room for capacity tokens.
void history_init(context *ctx, history *h, const params *p, uint32_t capacity);
// Adds count tokens.
void history_extend(context *ctx, history *h, uint32_t count);
// Drops all tokens but the first length.
void history_truncate(history *h, uint32_t length);
// Adds the first count tokens of another.
void history_share(history *h, const history *other, uint32_t count);

static inline size_t history_stride(const history *h)
{
    return (size_t)h->kv_heads * h->dim;
}

static inline float *history_key(const history *h, uint32_t token, uint32_t kv_head)
{
    return h->k + token * history_stride(h) + (size_t)kv_head * h->dim;
}

static inline float *history_value(const history *h, uint32_t token, uint32_t kv_head)
{
    return h->v + token * history_stride(h) + (size_t)kv_head * h->dim;
}

// The class that DATA_UNIFORM's value of a token has.
uint32_t token_class(uint32_t token, uint32_t dim);

// One query per query head for the given token: [q_heads][dim], rounded to the type. Each resembles
// the key of one token of the past; targets [q_heads] (may be NULL) receives which.
void make_query(context *ctx, const history *h, uint32_t token, skim_type type, float *q,
                uint32_t *targets);

#endif
