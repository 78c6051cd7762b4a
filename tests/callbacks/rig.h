// A device, a queue and a cache with made-up keys, for tests of what happens around them.
#ifndef CALLBACKS_RIG_H
#define CALLBACKS_RIG_H

#include "check.h"

enum { RIG_SEQUENCES = 4, RIG_LAYERS_MAX = 6 };

typedef struct rig_shape {
    uint32_t layers;
    uint32_t q_heads;
    uint32_t kv_heads;
    uint32_t dim;
    skim_type type;    // of K and V
    skim_type io_type; // of q and out
    skim_bounds_type bounds_type;
    bool mixed;      // every other layer has twice the query heads
    uint32_t tokens; // capacity; half of it in one sequence and in one step. 0: 256
} rig_shape;

typedef struct rig {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_cache *cache;
    rig_shape shape;
    skim_sequence *sequences[RIG_SEQUENCES];
} rig;

// Inputs and results of one step, all layers.
typedef struct rig_data {
    uint32_t tokens;
    uint32_t layers;
    uint32_t q_heads; // the most of a layer
    size_t kv_bytes;  // of one layer
    size_t q_bytes;
    char *k, *v, *q, *out;
    float *lse;
} rig_data;

rig_shape rig_shape_small(void);

// Opens the CPU with two threads. storing: its kernels are kept in the host's store.
skim_status rig_open(rig *r, const skim_runtime_options *options, bool storing);
skim_status rig_add_cache(rig *r, rig_shape shape);
skim_status rig_add_sequences(rig *r, uint32_t count);
void rig_close(rig *r); // also what was opened in part

void rig_data_init(rig_data *data, const rig_shape *shape, uint32_t tokens, uint32_t seed);
void rig_data_deinit(rig_data *data);
bool rig_same_results(const rig_data *a, const rig_data *b);
void rig_forget_results(rig_data *data);

// Parts of a step, and all of one: begin, all layers, end, wait. A step that fails is cancelled.
skim_status rig_begin(rig *r, const uint32_t *tokens, skim_step **step);
skim_status rig_append(skim_step *step, uint32_t layer, const rig *r, const rig_data *data);
skim_status rig_attend(skim_step *step, uint32_t layer, const rig *r, rig_data *data,
                       const skim_progress *progress);
skim_status rig_forward(rig *r, const uint32_t *tokens, rig_data *data,
                        const skim_progress *progress);

#ifdef __cplusplus
extern "C" {
#endif

// Implemented in C, in storing.c: a runtime whose only device is the CPU, with a prepare that keeps
// what it "compiles" in the host's store and refuses a kernel that came back different.
skim_status storing_runtime_create(const skim_runtime_options *options, skim_runtime **runtime);
uint32_t storing_compiled(void); // kernels made since the last call

#ifdef __cplusplus
}
#endif
#endif
