// What the parts of skim bench share.
#ifndef SKIM_TOOL_BENCH_H
#define SKIM_TOOL_BENCH_H

#include "session.h"
#include "workers.h"

#include <jansson.h>

enum { BENCH_QUERIES = 16, BENCH_FILL_TOKENS = 2048 };

// Keys, values and queries with the structure of real ones: channels with a bias of their own,
// topics that come in runs and return, and a drift along the context. All in the type that the
// cache stores.
struct synthetic {
    skim_type type;
    uint32_t tokens, q_heads, kv_heads, head_dim;
    void *keys, *values; // [tokens][kv_heads][head_dim]
    void *queries;       // [count][q_heads][head_dim]
};

// Returns false if memory is short.
bool synthetic_create(struct synthetic *data, skim_type type, uint32_t tokens, uint32_t q_heads,
                      uint32_t kv_heads, uint32_t head_dim, uint32_t queries);
void synthetic_destroy(struct synthetic *data);

// One layer: K and V in pages as the library's own cache has them, the bounds, and of i8 ones the
// centre.
struct bench_layer {
    skim_buffer *pages, *bounds, *centre;
};

// The layers of one shape, filled, and the buffers of a decode step.
struct bench {
    const struct settings *settings;
    struct session *session;
    struct workers *workers; // NULL: the device's memory cannot be read by the host
    uint32_t context, batch;
    skim_shape shape;
    uint32_t pages; // of one sequence
    uint32_t layer_count;
    struct bench_layer *layers;
    struct synthetic data;
    skim_row *rows; // [batch], as the policy has them
    bool sparse;    // the policy leaves pages out
    uint32_t lists; // a row
    skim_select_mode select;
    skim_combine combine;
    uint64_t cache_bytes; // last-level cache
    // Device buffers.
    skim_buffer *sparse_rows, *dense_rows, *table, *queries, *new_k, *new_v, *scores, *found, *out;
    uint32_t *lists_host; // what found holds
    uint64_t *chunks;     // offsets of scattered pages
};

// Each returns an exit status; what failed was reported.
int bench_create(struct bench *bench, const struct settings *settings, struct session *session,
                 struct workers *workers, uint32_t context);
void bench_destroy(struct bench *bench);

// Record one verb of the step on a layer.
skim_status bench_append(const struct bench *bench, uint32_t layer);
skim_status bench_estimate(const struct bench *bench, uint32_t layer);
skim_status bench_select(const struct bench *bench);
skim_status bench_attend(const struct bench *bench, uint32_t layer, bool dense);

// Bytes of K and V on the lists of the last select; a page that several lists of one kv head have
// counts once. Blocks.
skim_status bench_page_bytes(const struct bench *bench, uint64_t *bytes);
uint64_t bench_bounds_bytes(const struct bench *bench);
uint64_t bench_dense_bytes(const struct bench *bench);

// Bytes of the centre of i8 bounds.
static inline uint64_t bench_centre_bytes(const skim_shape *shape)
{
    return (uint64_t)shape->kv_heads * shape->key_dim * sizeof(float);
}

// Measures what forking, truncating and beginning a step with many sequences costs the host, and
// what zeroing freed slots costs an append; adds its keys to the result.
int bench_sequences(const struct settings *settings, struct session *session, uint32_t context,
                    json_t *result);

// Measures the dense causal attention of a prompt and the machine's peak; adds its keys to the
// result.
int bench_prefill(const struct settings *settings, struct session *session, struct workers *workers,
                  json_t *result);

#endif
