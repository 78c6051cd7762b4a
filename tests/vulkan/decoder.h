// A little model whose decode steps run on any device, from host memory or from one buffer, and are
// compared with the CPU's.
#ifndef VULKAN_DECODER_H
#define VULKAN_DECODER_H

#include "skim/skim.h"

enum {
    DECODER_LAYERS = 2, // one dense, one sparse
    DECODER_Q_HEADS = 4,
    DECODER_KV_HEADS = 2,
    DECODER_DIM = 64,
    DECODER_PROMPT = 150,
    DECODER_STEPS = 4,
    DECODER_TOKENS = DECODER_PROMPT + DECODER_STEPS,
};

// All inputs and results. It may lie in a buffer, as it is.
typedef struct decoder_data {
    float k[DECODER_LAYERS][DECODER_TOKENS][DECODER_KV_HEADS][DECODER_DIM];
    float v[DECODER_LAYERS][DECODER_TOKENS][DECODER_KV_HEADS][DECODER_DIM];
    float q[DECODER_LAYERS][DECODER_STEPS][DECODER_Q_HEADS][DECODER_DIM];
    float out[DECODER_STEPS][DECODER_LAYERS][DECODER_Q_HEADS][DECODER_DIM];
} decoder_data;

typedef struct decoder_session {
    skim_queue *queue;
    skim_cache *cache;
    skim_sequence *sequence;
} decoder_session;

// Fills the inputs from a seed.
void decoder_fill(decoder_data *data, unsigned seed);

// SKIM_OK, or the first failure, whose sentence is printed.
skim_status decoder_open(skim_device *device, decoder_session *session);
// Records prompt and steps. Every tensor is in data, or, if buffer is given, where data's is, from
// the buffer's start. Ends with the last step submitted, not waited for.
skim_status decoder_record(decoder_session *session, decoder_data *data, skim_buffer *buffer);
void decoder_close(decoder_session *session);

// All of it, from host memory.
skim_status decoder_run(skim_device *device, decoder_data *data);
// decoder_run on the CPU.
void decoder_run_cpu(decoder_data *data);

// The largest difference of results, relative to 1 and the result.
double decoder_difference(const decoder_data *a, const decoder_data *b);

#endif
