// The cache: the paged K and V of a model's layers, their bounds, and the policy for reading them.
#ifndef SKIM_CACHE_H
#define SKIM_CACHE_H

#include "skim/base.h"
#include "skim/policy.h"

#ifdef __cplusplus
extern "C" {
#endif

// One attention layer. Layers of a cache may differ in everything but page size.
typedef struct skim_layer {
    size_t size_of;   // also the distance between the elements of an array of layers
    uint32_t q_heads; // a multiple of kv_heads
    uint32_t kv_heads;
    uint32_t key_dim;
    uint32_t value_dim; // 0: key_dim; anything else but key_dim is SKIM_UNSUPPORTED
    skim_type type;     // of K and V, in the cache and given to append
    float scale;        // 0: 1 / sqrt(key_dim)
    // Not implemented yet: anything but zero is SKIM_UNSUPPORTED.
    uint32_t window;    // sliding window in tokens
    float softcap;      // soft limit of the scores
    const float *sinks; // one learned sink logit per query head
    const float *alibi; // one slope per query head
    uint32_t kv_source; // 1 + the layer whose K and V this one shares
} skim_layer;

typedef struct skim_cache_options {
    size_t size_of;
    const skim_layer *layers; // copied
    uint32_t layer_count;
    uint32_t page_size; // 8, 16, 32 or 64; 0: 16
    uint64_t capacity;  // tokens that the pool holds, all sequences together; rounded up to pages
    uint32_t max_sequences;       // most sequences alive, and in one step; 0: 1
    uint32_t max_step_tokens;     // most new tokens in one step, all sequences together; 0: 512
    uint64_t max_sequence_tokens; // most tokens in one sequence; 0: capacity. Scratch grows with it
    skim_bounds bounds;
    skim_bounds_type bounds_type;
    const skim_policy *policy; // NULL: skim_policy_defaults()
    uint32_t keep_freed; // 1: a slot that a sequence gave up reaches the next one as it was. 0:
                         // what the next one does not overwrite is zeroed. Memory is zeroed before
                         // it is released in either case
} skim_cache_options;

// What a cache takes, in bytes.
typedef struct skim_cache_plan {
    size_t size_of;
    uint32_t slots;            // pages in the pool
    uint64_t page_bytes;       // K and V of all slots and layers, on the device
    uint64_t bounds_bytes;     // bounds of all slots and layers, on the device
    uint64_t scratch_bytes;    // tables, scores, lists, partial results and staging, on the device
    uint64_t host_bytes;       // bookkeeping on the host
    uint64_t device_bytes;     // page_bytes + bounds_bytes + scratch_bytes
    uint64_t device_available; // bytes the device has free now; 0 if unknown
} skim_cache_plan;

typedef struct skim_cache_usage {
    size_t size_of;
    uint32_t slots; // in the pool
    uint32_t slots_free;
    uint32_t slots_shared; // with more than one holder (sequences, snapshots); each counts once
    uint32_t sequences;    // alive
    uint64_t device_bytes; // allocated on the device
} skim_cache_usage;

// Computes what a cache with these options would take, allocating nothing.
// Errors (on the queue): SKIM_INVALID, SKIM_UNSUPPORTED. A plan larger than the device is none.
SKIM_API skim_status skim_cache_plan_query(skim_queue *queue, const skim_cache_options *options,
                                           skim_cache_plan *plan);

// Creates a cache whose work runs on the queue. Allocates all of its memory; refuses with
// SKIM_NO_MEMORY, before anything is allocated, a plan that exceeds the memory available. The queue
// must outlive the cache. Destroy with skim_cache_destroy.
// Errors (on the queue): SKIM_INVALID, SKIM_UNSUPPORTED, SKIM_NO_MEMORY, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_cache_create(skim_queue *queue, const skim_cache_options *options,
                                       skim_cache **cache);

// Waits for the cache's work and frees it with its sequences and its step, whose pointers end here.
// If what is recorded on the queue cannot be submitted, it is dropped, that of other caches too,
// whose open steps have then failed. NULL is ignored.
SKIM_API void skim_cache_destroy(skim_cache *cache);

// Builds every kernel the cache can need, reserves the queue's scratch, then runs a small
// known-answer self-test on the device and refuses (SKIM_FAILED) a driver that fails it. Steps need
// a prepared cache; skim_step_begin prepares one that is not. Blocks. A second call does nothing;
// one after a failure or a cancellation goes on where that one stopped.
//   progress  told after each layer; NULL: nobody is
// Errors: SKIM_NO_MEMORY, SKIM_UNSUPPORTED, SKIM_FAILED, SKIM_DEVICE_LOST, SKIM_CANCELLED.
SKIM_API skim_status skim_cache_prepare(skim_cache *cache, const skim_progress *progress);

// Fills usage (size_of set). Does not block. Errors: SKIM_INVALID.
SKIM_API skim_status skim_cache_get_usage(const skim_cache *cache, skim_cache_usage *usage);

// Replaces the policy of the whole cache (layer SKIM_ALL_LAYERS, which also drops the layers' own)
// or of one layer. policy NULL with one layer: back to the cache's. A layer with a policy of its
// own is dense only if that policy's dense_layers or dense_below say so. Takes effect at the next
// skim_step_begin. Errors: SKIM_INVALID, SKIM_STATE (a step is open).
#define SKIM_ALL_LAYERS UINT32_MAX
SKIM_API skim_status skim_cache_set_policy(skim_cache *cache, uint32_t layer,
                                           const skim_policy *policy);

// Fills policy (size_of set) with the one in force for a layer. Errors: SKIM_INVALID.
SKIM_API skim_status skim_cache_get_policy(const skim_cache *cache, uint32_t layer,
                                           skim_policy *policy);

// As skim_runtime_error, for calls on this cache, its sequences and its step.
SKIM_API size_t skim_cache_error(const skim_cache *cache, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
