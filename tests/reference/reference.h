// The oracle: Skim's algorithm in float64, slow and plain, written from DESIGN.md section 2
// (docs/algorithm.md) and sharing no code with the library. Only its enumerations are the public
// ones.
#ifndef REFERENCE_H
#define REFERENCE_H

#include "skim/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Rounding, to nearest, ties to even.
uint16_t reference_f32_to_f16(float value);
float reference_f16_to_f32(uint16_t bits);
uint16_t reference_f32_to_bf16(float value);
float reference_bf16_to_f32(uint16_t bits);
// The nearest value of the type.
float reference_round(float value, skim_type type);
// Element index of an array of the type.
float reference_load(const void *data, size_t index, skim_type type);
void reference_store(void *data, size_t index, skim_type type, float value);
// The distance from |value| to the next larger value of the type (subnormals included).
double reference_ulp(double value, skim_type type);

// Bounds of one page of one head: count keys of dim channels, stride floats apart.
// b0, b1: maximum and minimum, or mean and population standard deviation.
void reference_bounds(skim_bounds kind, const float *keys, size_t stride, uint32_t count,
                      uint32_t dim, double *b0, double *b1);

// Score of one page: sum of a * b0 + b * b1. magnitude (may be NULL) receives the sum of the
// absolute values of the terms, to which the rounding error is proportional.
double reference_score(skim_bounds kind, double spread, const float *q, const double *b0,
                       const double *b1, uint32_t dim, double *magnitude);

// Bounds as int8 around a centre. Devices may differ where a quotient lies next to a whole number,
// so that each bound is known up to a margin: a right one lies within margin[i] of value[i], and a
// maximum is never below, a minimum never above, the page's own.
typedef struct reference_i8 {
    double *value;   // [2][dim]: B0 and B1, the middle of what they may be
    double *margin;  // [2][dim]
    double scale[2]; // s0 and s1; 0 where every key is the centre
} reference_i8;

// centre: c0 of the head, of which each channel may be off by slack.
void reference_bounds_i8(skim_bounds kind, const float *keys, size_t stride, uint32_t count,
                         uint32_t dim, const double *centre, double slack, reference_i8 *bounds);

// The score of a page from int8 bounds: it lies between low and high, but for the rounding of f32
// sums, which is proportional to magnitude (may be NULL).
void reference_score_i8(skim_bounds kind, double spread, const float *q, const reference_i8 *bounds,
                        const double *centre, uint32_t dim, double *low, double *high,
                        double *magnitude);

typedef struct reference_plan {
    uint32_t page_count;
    uint32_t select_count; // K, at most page_count
    uint32_t forced_first; // forced_first + forced_last <= page_count
    uint32_t forced_last;
    bool dense;
} reference_plan;

// What a policy means for a sequence of one layer.
reference_plan reference_resolve(const skim_policy *policy, uint32_t layer, uint32_t page_size,
                                 uint32_t length, uint32_t query_count);

static inline bool reference_forced(const reference_plan *plan, uint32_t page)
{
    return page < plan->forced_first || page >= plan->page_count - plan->forced_last;
}

// One value per page from the scores of a list's query heads (heads rows, stride apart). For a list
// of its own a query head combines alone by SKIM_COMBINE_MAX. Forced pages receive 0, which means
// nothing.
void reference_combine(const reference_plan *plan, skim_combine combine, double scale,
                       const double *scores, size_t stride, uint32_t heads, double *combined);

// The list: forced pages and the highest of the rest, ties to the lower page; ascending. Returns
// how many.
uint32_t reference_select(const reference_plan *plan, const double *combined, uint32_t *list);

// Softmax attention of one query over the given tokens; key of token t is keys + t * stride, value
// is values + t * stride. Over no tokens: out 0, lse -INFINITY. largest (may be NULL): the maximum
// over the tokens of scale * sum |q_d * k_d|.
typedef struct reference_attend_args {
    const float *q;
    const float *keys;
    const float *values;
    size_t stride;
    uint32_t dim;
    double scale;
    const uint32_t *tokens;
    uint32_t count;
} reference_attend_args;
void reference_attend(const reference_attend_args *args, double *weights, double *out, double *lse,
                      double *largest);

// Merges a second part (lse, out) into the first.
void reference_merge(uint32_t dim, double *out, double *lse, const double *part_out,
                     double part_lse);

#endif
