// Tier 1 beside the oracle: a cache, its sequences, and all they should hold; every step is held
// against the reference.
#ifndef MODEL_H
#define MODEL_H

#include "verify.h"

#define MODEL_LAYERS_MAX 4
#define MODEL_SEQUENCES_MAX 6

typedef struct model_sequence {
    skim_sequence *handle; // NULL: not alive
    uint32_t length;
    history layers[MODEL_LAYERS_MAX];
} model_sequence;

typedef struct model {
    context *ctx;
    const params *p;
    uint32_t layer_count;
    params layers[MODEL_LAYERS_MAX];        // each layer's shape and types
    skim_policy policies[MODEL_LAYERS_MAX]; // in force
    uint32_t longest;                       // tokens that a sequence may have
    known_centre centres[MODEL_LAYERS_MAX]; // of int8 bounds, from the first append on
    model_sequence sequences[MODEL_SEQUENCES_MAX];
    box *out; // of the step's last attend
    box *lse;
} model;

typedef struct model_entry {
    uint32_t sequence;
    uint32_t tokens;
} model_entry;

typedef struct model_options {
    uint32_t layers;         // 0: 1; layer 0 has the case's shape, the others shapes of their own
    uint32_t sequences;      // 0: 1
    uint32_t longest;        // tokens of a sequence
    uint32_t step_tokens;    // 0: longest
    uint32_t capacity_pages; // 0: room for all sequences
    uint32_t dense_layers;
} model_options;

typedef enum model_flags {
    MODEL_CANCEL = 1,  // cancel instead of end; nothing of the step may stay
    MODEL_HARMFUL = 2, // K, V and q are NaN, Inf and huge; results are not looked at
    MODEL_DEFERRED =
        4, // record all layers, then end and wait once; needs data whose lists are exact
    MODEL_BACKWARDS = 8, // layers from the last to the first
    MODEL_NO_ATTEND = 16
} model_flags;

bool model_init(context *ctx, model *m, const params *p, const model_options *options);
bool model_create(model *m, uint32_t sequence);
bool model_destroy(model *m, uint32_t sequence);
bool model_set_policy(model *m, uint32_t layer, const skim_policy *policy);
// One step of the entries; policy (may be NULL) is given with every attend.
bool model_step(model *m, const model_entry *entries, uint32_t count, const skim_policy *policy,
                int flags);
// Appends so many tokens to a sequence in steps of at most chunk.
bool model_fill(model *m, uint32_t sequence, uint32_t tokens, uint32_t chunk);

// Decodes one token and attends under each policy: all must give the same bits.
bool model_same(model *m, uint32_t sequence, const skim_policy *policies, uint32_t count);

#endif
