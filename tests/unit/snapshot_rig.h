// Caches to save from and load into, a file in memory, and what must be the same afterwards.
#ifndef UNIT_SNAPSHOT_RIG_H
#define UNIT_SNAPSHOT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/cache.h"
#include "runtime/runtime.h"
#include "tests/null/null.h"

enum { RIG_LAYERS = 3, RIG_PAGE = 16, RIG_STEP_TOKENS = 96, RIG_OUT = 4096, RIG_LIST = 256 };

typedef enum rig_kind { RIG_CPU, RIG_NULL, RIG_NULL_APART } rig_kind; // apart: not unified

// Counts the host's allocations, and makes one of them fail.
typedef struct rig_host {
    uint32_t alive;
    uint32_t count;
    uint32_t fail_at; // the count at which an allocation fails; 0: none does
} rig_host;

typedef struct rig {
    rig_kind kind;
    rig_host host;
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_layer layers[RIG_LAYERS];
    skim_policy policy;
    skim_cache_options options; // what rig_cache makes; may be changed before
    skim_cache *cache;
} rig;

// A file: grows when written; fails at the call with this number, counted from 1.
typedef struct rig_file {
    uint8_t *data;
    size_t size, capacity;
    size_t at; // where the next read starts
    uint32_t calls, fail_at;
} rig_file;

void rig_open(rig *r, rig_kind kind);    // with a cache
void rig_close(rig *r);                  // checks that nothing leaked
void rig_cache(rig *r);                  // another cache by r->options, in place of the first
void rig_open_i8(rig *r, rig_kind kind); // with i8 bounds; skips the test on a device without

skim_sequence *rig_sequence(rig *r);
// Appends tokens [length, length + count) of the stream `seed`.
void rig_grow(rig *r, skim_sequence *sequence, uint32_t count, uint32_t seed);
skim_sequence *rig_grown(rig *r, uint32_t tokens, uint32_t seed);
void rig_append_all(rig *r, skim_step *step, uint32_t tokens, uint32_t seed);

int rig_write(void *user, const void *data, size_t size);
int rig_read(void *user, void *data, size_t size);
void rig_rewind(rig_file *file);
void rig_file_free(rig_file *file);

skim_snapshot_save_args rig_save_args(rig_file *file);
skim_snapshot_load_args rig_load_args(rig_file *file);
void rig_save(skim_sequence *sequence, rig_file *file);
skim_status rig_load(skim_sequence *sequence, rig_file *file);

// K and V of a sequence's tokens, layer by layer, without what lies past the end.
typedef struct rig_payload {
    uint8_t *data;
    size_t size;
} rig_payload;

rig_payload rig_payload_of(const skim_sequence *sequence);
void rig_payload_free(rig_payload *payload);
void rig_assert_same_payload(const skim_sequence *a, const skim_sequence *b);

// What one more token of the stream `seed` attends to in every layer: results and lists. The token
// is cancelled again.
typedef struct rig_probe {
    float out[RIG_LAYERS][RIG_OUT];
    uint32_t lists[RIG_LAYERS][RIG_LIST];
    uint32_t list_size[RIG_LAYERS];
    uint32_t sparse; // lists that were chosen
} rig_probe;

void rig_probe_take(rig *r, skim_sequence *sequence, uint32_t seed, rig_probe *probe);
void rig_assert_same_probe(const rig_probe *a, const rig_probe *b);

// Everything of cache and sequence that a failed call must leave alone.
typedef struct rig_state {
    skim_sequence_info info;
    skim_cache_usage usage;
    uint32_t slots[256];
    uint32_t free_slots[256], references[256];
    bool frozen[RIG_LAYERS];
} rig_state;

rig_state rig_state_of(const skim_sequence *sequence);
void rig_assert_same_state(const rig_state *a, const rig_state *b);

#endif
