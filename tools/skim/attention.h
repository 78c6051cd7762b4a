// The attention of a model's layers, on libskim: what an application that embeds it does.
#ifndef SKIM_TOOL_ATTENTION_H
#define SKIM_TOOL_ATTENTION_H

#include "recorder.h"
#include "session.h"

enum { ATTENTION_TIMES = 1024 };

// Sums over the steps since attention_reset.
struct attention_counts {
    double seconds; // in the calls
    uint64_t pages_read, pages_total, bytes_read, bytes_dense;
    bool sparse; // whether anything ran sparse
};

// The same of one layer, and the times of its last calls.
struct attention_layer {
    struct attention_counts counts;
    uint64_t calls;
    float seconds[ATTENTION_TIMES]; // that of call c at c % ATTENTION_TIMES
};

struct attention {
    struct session *session;
    skim_cache *cache;
    skim_sequence *sequence;
    skim_step *step; // open between begin and end
    bool dense;      // this step
    uint32_t layers, tokens, kv_size;
    skim_type type;          // of K and V
    uint16_t *keys, *values; // a step's in that type, if it is not f32
    struct attention_counts counts;
    struct attention_layer *layer_counts; // [layers]
    struct recorder *recorder;            // gets what attention_layer is called with; or NULL
};

// Makes a cache for `capacity` tokens of one sequence, of which at most step_tokens come at once.
// Returns an exit status, as all of these do; what failed was reported.
int attention_open(struct attention *attention, struct session *session,
                   const struct settings *settings, const struct model *model, uint64_t capacity,
                   uint32_t step_tokens);
void attention_close(struct attention *attention);

// A step: begin, then attention_layer for every layer, then end. With dense, all of the cache is
// read whatever the policy says.
int attention_begin(struct attention *attention, uint32_t tokens, bool dense);
// q and out are [tokens][q_heads][head_dim], k and v [tokens][kv_heads][head_dim].
int attention_layer(struct attention *attention, uint32_t layer, const float *q, const float *k,
                    const float *v, float *out);
int attention_end(struct attention *attention);
// A whole step that stores keys and values, the same in every layer and in the cache's type, and
// attends to nothing.
int attention_fill(struct attention *attention, uint32_t tokens, const void *k, const void *v);
// Forgets the step's tokens. Without an open step, nothing.
void attention_cancel(struct attention *attention);

// Starts all counts again.
void attention_reset(struct attention *attention);
// The median of a layer's last times, in seconds; 0 without any.
double attention_layer_median(const struct attention *attention, uint32_t layer);

#endif
