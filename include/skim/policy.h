// The policy: which pages a query reads. DESIGN of the algorithm: docs/algorithm.md; source: Quest
// (Tang et al., ICML 2024) with the forms of group selection of ShadowKV and RocketKV.
#ifndef SKIM_POLICY_H
#define SKIM_POLICY_H

#include "skim/base.h"
#include "skim/row.h"

#ifdef __cplusplus
extern "C" {
#endif

// What summarises the keys of a page, fixed for a cache.
typedef enum skim_bounds {
    SKIM_BOUNDS_MINMAX = 0, // per channel minimum and maximum; the score bounds q.k from above
    SKIM_BOUNDS_MEANSTD = 1 // per channel mean and population standard deviation
} skim_bounds;

// How bounds are stored, fixed for a cache.
typedef enum skim_bounds_type {
    SKIM_BOUNDS_NATIVE = 0, // in the type of the keys
    SKIM_BOUNDS_I8 = 1 // int8 around a frozen centre, one scale per vector: half of f16's bytes
} skim_bounds_type;

// For whom a list of pages is chosen.
typedef enum skim_select_mode {
    SKIM_SELECT_AUTO = 0, // SKIM_SELECT_GROUP when q_heads > kv_heads, else SKIM_SELECT_HEAD
    SKIM_SELECT_HEAD = 1, // one list per query head
    SKIM_SELECT_GROUP = 2 // one list per kv head, shared by its query heads
} skim_select_mode;

// How SKIM_SELECT_GROUP combines the scores of a group's query heads. The softmax forms work on
// l_h(p) = scale * score_h(p) - logsumexp over the pages that are not forced.
typedef enum skim_combine {
    SKIM_COMBINE_DEFAULT = 0,     // SKIM_COMBINE_SOFTMAX_MAX
    SKIM_COMBINE_MAX = 1,         // maximum of the scores
    SKIM_COMBINE_MEAN = 2,        // mean of the scores
    SKIM_COMBINE_SOFTMAX_MAX = 3, // maximum of l_h
    SKIM_COMBINE_SOFTMAX_MEAN = 4 // logarithm of the mean of exp l_h
} skim_combine;

typedef struct skim_policy {
    size_t size_of;
    uint32_t budget;        // tokens that attend may read per list, >= 1
    double budget_fraction; // if > 0 (and <= 1): instead of budget, this share of the length
    uint32_t dense_layers;  // the first so many layers of the cache stay dense
    uint32_t dense_below;   // sequences shorter than this many tokens stay dense
    skim_select_mode select;
    skim_combine combine;
    float spread;          // lambda of SKIM_BOUNDS_MEANSTD, finite and >= 0
    uint32_t sink_pages;   // pages at the start that are always read
    uint32_t recent_pages; // pages at the end that are always read; the last one is in any case
} skim_policy;

// Returns the defaults: budget 1024, dense_layers 2, select and combine default, spread 1,
// recent_pages 1, the rest 0.
SKIM_API skim_policy skim_policy_defaults(void);

// Resolves a policy for one sequence of one layer: fills select_count, forced_first, forced_last,
// page_count and SKIM_ROW_DENSE of a row whose length and query_count are set; leaves its other
// fields. K = max(1, floor(budget / page_size)), or as many as the forced pages need.
//   layer      index of the layer in the cache, for dense_layers
//   page_size  8, 16, 32 or 64
// Pure; any thread. Errors: SKIM_INVALID (policy out of range, page_size, length 0, query_count >
// length).
SKIM_API skim_status skim_policy_resolve(const skim_policy *policy, uint32_t layer,
                                         uint32_t page_size, skim_row *row);

#ifdef __cplusplus
}
#endif
#endif
