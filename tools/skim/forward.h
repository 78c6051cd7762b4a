// The forward pass of a Llama-family decoder.
#ifndef SKIM_TOOL_FORWARD_H
#define SKIM_TOOL_FORWARD_H

#include "attention.h"
#include "linear.h"

#include <signal.h>

enum { FORWARD_STEP_TOKENS = 512 };

// Which positions' logits are wanted of a run.
enum forward_logits { FORWARD_NONE, FORWARD_LAST, FORWARD_ALL };

// A layer's attention over a step's tokens: q and out are [tokens][q_heads][head_dim], k and v
// [tokens][kv_heads][head_dim]. Returns an exit status.
typedef int (*forward_attend)(void *argument, uint32_t layer, const float *q, const float *k,
                              const float *v, float *out);

struct forward {
    const struct model *model;
    struct attention attention; // of skim generate
    forward_attend attend;
    void *argument; // of attend
    struct linear linear;
    uint64_t length; // tokens so far
    double layers_s; // seconds of the last run that went into its layers
    float *frequencies, *cosines, *sines;
    // [tokens][...] of one step
    float *x, *normed, *q, *k, *v, *attended, *gate, *up;
    const volatile sig_atomic_t *stop; // not 0: forward_run ends with FORWARD_STOPPED
};

enum { FORWARD_STOPPED = -1 };

// Makes room for steps of at most so many tokens whose attention the caller sees to. Returns an
// exit status.
int forward_open_layers(struct forward *forward, const struct model *model, uint32_t threads,
                        uint32_t tokens, forward_attend attend, void *argument);
// The same with an attention for a text of `capacity` tokens, and linear layers where the settings
// want them.
int forward_open(struct forward *forward, const struct model *model, struct session *session,
                 const struct settings *settings, uint64_t capacity);
void forward_close(struct forward *forward);

// Runs 1 to FORWARD_STEP_TOKENS tokens and writes the logits, [vocab] of the last or [count][vocab]
// of all (of none, logits may be NULL). Every token must be below the model's vocab. Returns an
// exit status or, with the tokens forgotten, FORWARD_STOPPED.
int forward_run(struct forward *forward, const uint32_t *tokens, uint32_t count, bool dense,
                enum forward_logits wanted, float *logits);

// What forward_run is made of, for attention that the caller sees to. forward_layers runs tokens at
// the positions first, first + 1 and so on, or, with together, all of them at first; forward_logits
// then gives the logits of the last `rows` of them. Both return an exit status.
int forward_layers(struct forward *forward, const uint32_t *tokens, uint32_t count, uint64_t first,
                   bool together);
int forward_logits(struct forward *forward, uint32_t count, uint32_t rows, float *logits);

// Takes 1 to FORWARD_STEP_TOKENS tokens as run that had these keys and values in every layer. k and
// v are [tokens][kv_heads][head_dim] in the cache's type. Returns an exit status.
int forward_fill(struct forward *forward, uint32_t tokens, const void *k, const void *v);

#endif
