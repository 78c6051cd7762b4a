// Results held against the oracle, and what both say when they differ.
#ifndef VERIFY_H
#define VERIFY_H

#include "boxes.h"
#include "data.h"

// Multiplications that one case may spend in the oracle's attend.
#define ORACLE_BUDGET 6000000.0

// The centre of int8 bounds as far as the caller knows it.
typedef struct known_centre {
    double *values; // [kv_head][dim]; NULL: native bounds
    double slack;   // how far off each may be
} known_centre;

// The mean of finite keys; adds up, and then divides. Another of the same may go on.
typedef struct centre_sum {
    double *sums, *counts, *absolute; // [kv_head][dim]
} centre_sum;

void centre_sum_init(context *ctx, centre_sum *s, const history *h);
void centre_sum_add(centre_sum *s, const history *h, uint32_t first, uint32_t count);
// slack is what docs/algorithm.md lets the mean be off.
known_centre centre_sum_mean(context *ctx, const centre_sum *s, const history *h);

// The reference bounds of every page of one sequence: [page][kv_head][2][dim].
typedef struct page_bounds {
    uint32_t kv_heads, dim;
    double *values;
    // Of int8 bounds:
    double *margins; // as values
    double *scales;  // [page][kv_head][2]
    known_centre centre;
} page_bounds;

void bounds_init(context *ctx, page_bounds *b, const history *h, uint32_t page_size,
                 skim_bounds kind);
// The same for int8 bounds, or, around a centre that has no values, for native ones.
void bounds_around(context *ctx, page_bounds *b, const history *h, uint32_t page_size,
                   skim_bounds kind, const known_centre *centre);

static inline const double *bounds_of(const page_bounds *b, uint32_t page, uint32_t kv_head,
                                      int which)
{
    return b->values + (((size_t)page * b->kv_heads + kv_head) * 2 + (size_t)which) * b->dim;
}

// The reference score of a page for one query head, and by how much rounding may move it. For data
// of integers and minmax bounds *tolerance is 0.
double expected_score(const params *p, const page_bounds *b, uint32_t page, uint32_t kv_head,
                      const float *q, double *tolerance);

// A list against its plan: ascending, unique, in range, K long, forced pages there.
bool verify_list_form(context *ctx, const char *what, const reference_plan *plan,
                      const uint32_t *list, uint32_t count);
// A list against combined scores of which each may be wrong by tolerance; 0: exactly the
// reference's list.
bool verify_list(context *ctx, const char *what, const reference_plan *plan, const double *combined,
                 double tolerance, const uint32_t *list, uint32_t count);
// Of two pages that every head scores alike, the lower is chosen first, whatever the rounding.
bool verify_ties(context *ctx, const char *what, const reference_plan *plan, const double *scores,
                 size_t stride, uint32_t heads, const uint32_t *list, uint32_t count);
// How far a device's combined score may be from the reference's on the same scores.
double combine_tolerance(const reference_plan *plan, skim_combine combine, double scale,
                         const double *scores, size_t stride, uint32_t heads);

// One query's result against the oracle over the tokens of the listed pages up to and including its
// own.
typedef struct attention {
    const history *h;
    uint32_t page_size;
    double scale;
    uint32_t position; // of the query's token
    uint32_t q_head;
    const float *q;
    const uint32_t *list; // NULL: every page up to the query's
    uint32_t list_count;
    const box *out;
    const box *lse; // may be NULL
    uint32_t token; // in out and lse
} attention;
bool verify_attention(context *ctx, const attention *a);
// Its cost in multiplications.
double attention_cost(const attention *a);
// Every element of a token is a finite number.
bool verify_finite(context *ctx, const box *out, uint32_t token);

double default_scale(const params *p);
uint32_t list_tokens(const attention *a, uint32_t *tokens);

#endif
