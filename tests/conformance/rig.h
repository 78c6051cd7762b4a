// An engine with a paged cache of its own: pools in any layout, poisoned, shuffled slots, and the
// four verbs of tier 2 on them, each held against the oracle.
#ifndef RIG_H
#define RIG_H

#include "verify.h"

#define RIG_ROWS_MAX 48

typedef struct rig_row {
    history h;
    uint32_t length;       // after the last append
    uint32_t queries;      // its tokens in the last append
    uint32_t shared_pages; // the first so many pages are row 0's
    uint32_t query_start, table_start;
    uint32_t *slots; // of each page
    reference_plan plan;
    page_bounds bounds;
} rig_row;

typedef struct rig {
    context *ctx;
    const params *p;
    skim_shape shape;
    skim_policy policy;
    skim_select_mode select; // resolved
    uint32_t q_heads, row_count, token_count, table_count;
    rig_row rows[RIG_ROWS_MAX];
    uint32_t *table;
    float *queries; // [token_count][q_heads][dim]
    region keys, values, bounds, scores, lists;
    region centre;              // of int8 bounds
    bool frozen;                // by the first append
    centre_sum frozen_keys;     // which the centre is the mean of
    known_centre centre_values; // fetched
    bool one_pool;              // values lie in the keys' region
    skim_paged keys_at, values_at;
    uint32_t score_stride, list_stride, lists_per_row;
    box q, out, lse;
} rig;

// Plans the batch, makes keys, values and queries, allocates and poisons everything, prepares the
// queue.
bool rig_init(context *ctx, rig *r, const params *p);
// The same with a shape that plans for at least so many rows and tokens.
bool rig_init_for(context *ctx, rig *r, const params *p, uint32_t rows, uint32_t tokens);
// Appends every row's tokens: those before the last call in chunks, then the last call's.
bool rig_append(rig *r);
// The pools hold every token, and nothing else was touched; the centre is the mean of the keys of
// the first append.
bool rig_check_pools(rig *r);
// The oracle's bounds of a row, around the device's centre.
bool rig_bounds(rig *r, uint32_t row, page_bounds *b);
bool rig_estimate(rig *r);
bool rig_check_scores(rig *r);
// One head of a row whose bounds were made.
bool rig_check_score_row(rig *r, uint32_t row, uint32_t head);
bool rig_select(rig *r);
bool rig_check_lists(rig *r);
bool rig_attend(rig *r);
bool rig_check_attend(rig *r);
// A case about lists must have some.
bool rig_must_be_sparse(rig *r);
// All of it.
bool rig_run(rig *r);

// For cases that drive single verbs.
void rig_store(rig *r, uint32_t row, uint32_t first,
               uint32_t count); // writes tokens into the image
skim_row rig_skim_row(const rig *r, uint32_t row);
bool rig_send_rows(rig *r, const skim_row *rows, uint32_t count, box *sent);
bool rig_send_table(rig *r, box *sent);
// An append without K and V: the bounds of the rows' last query_count tokens, from the keys there.
bool rig_recompute_bounds(rig *r, const skim_row *rows, uint32_t count);
bool rig_append_rows(rig *r, const skim_row *rows, uint32_t count, const uint32_t *which);
bool rig_estimate_rows(rig *r, const skim_row *rows, uint32_t count);
bool rig_select_rows(rig *r, const skim_row *rows, uint32_t count);
// estimate, select and attend of some rows.
bool rig_decode_rows(rig *r, const skim_row *rows, uint32_t count);
bool rig_attend_rows(rig *r, const skim_row *rows, uint32_t count, bool lists);
const float *rig_query(const rig *r, uint32_t row, uint32_t index, uint32_t head);
bool rig_is_sparse(const rig_row *row);
const uint32_t *rig_list(const rig *r, uint32_t row, uint32_t q_head); // of the fetched lists
double rig_scale(const rig *r);
skim_policy policy_of(const params *p);

#endif
