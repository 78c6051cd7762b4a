// Layers: checked, and as the shapes and payload layout that the verbs take.
#ifndef SKIM_LAYER_H
#define SKIM_LAYER_H

#include "runtime/backend.h"

// Copies layer `index` of the caller's array, with value_dim and scale resolved.
skim_status skim_layer_check(const skim_layer *layers, uint32_t index, skim_layer *taken,
                             skim_error *error);

// K and V of a layer in its payload buffer: [slot][kv_head][K: P x key_dim][V: P x value_dim].
void skim_layer_paged(const skim_shape *shape, skim_buffer *pages, skim_paged *keys,
                      skim_paged *values);

// Bytes of the centre of i8 bounds; 0 for others.
uint64_t skim_layer_centre_bytes(const skim_shape *shape);

// Bytes of one page's bounds for all kv heads, whatever their layout: two vectors and, of i8 ones,
// two scales each.
uint64_t skim_layer_bounds_bytes(const skim_shape *shape);

// Bytes of one slot's payload.
uint64_t skim_layer_slot_bytes(const skim_shape *shape);

#endif
