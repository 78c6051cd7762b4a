// Records what the attention of a model's layers gets, as a trace for skim replay (docs/trace.md).
#ifndef SKIM_TOOL_RECORDER_H
#define SKIM_TOOL_RECORDER_H

#include "model.h"
#include "options.h"
#include "trace.h"

struct recorder_layer {
    uint32_t index;
    char *keys, *values; // [capacity][kv_heads][head_dim]
    float *queries;      // [queries][q_heads][head_dim]; that of token t at t % queries
};

struct recorder {
    uint32_t layer_count; // 0: nothing is recorded
    struct recorder_layer *layers;
    const struct model_config *config;
    skim_type type; // of keys and values
    uint64_t capacity, tokens;
    uint32_t queries;
};

// Makes room for `capacity` tokens of the layers of --trace-layers, or of all, and the queries of
// the last --trace-queries of them; refuses to take more than `available` bytes. Returns an exit
// status; what failed was reported.
int recorder_open(struct recorder *recorder, const struct settings *settings,
                  const struct model_config *config, skim_type type, uint64_t capacity,
                  uint64_t available);
void recorder_close(struct recorder *recorder);

// Notes a layer's part of a step: q [tokens][q_heads][head_dim], k and v [tokens][kv_heads]
// [head_dim] in the recorder's type. A layer that is not wanted is passed over.
void recorder_add(struct recorder *recorder, uint32_t layer, uint32_t tokens, const float *q,
                  const void *k, const void *v);
// The step's tokens are complete. After a step that failed nothing can be written.
void recorder_end_step(struct recorder *recorder, uint32_t tokens);

// Writes the trace. The strings are UTF-8.
int recorder_write(struct recorder *recorder, struct trace_writer *writer, const char *model,
                   const char *note);

#endif
