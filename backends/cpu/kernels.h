// What an instruction-set level offers: one table of kernels per level. The kernels are written
// once, in kernels.inl over the vectors of vec_<level>.h, and compiled per level with that level's
// flags.
#ifndef SKIM_CPU_KERNELS_H
#define SKIM_CPU_KERNELS_H

#include "skim/skim.h"

#include <stdbool.h>

// Rows of f32 scratch are padded to this many elements, the widest vector of any level.
#define SKIM_CPU_PAD 16
// Attend works on blocks of about so many tokens: their keys and values stay in the first-level
// cache.
#define SKIM_CPU_BLOCK_TOKENS 64
#define SKIM_CPU_BLOCK_PAGES 8
// Query heads that share one reading of a key.
#define SKIM_CPU_TILE_HEADS 8
// Prefill: keys in a block (a multiple of every level's tile_rows), and query rows in a tile.
#define SKIM_CPU_PREFILL_KEYS 96
#define SKIM_CPU_PREFILL_ROWS 128
#define SKIM_CPU_HEAD_DIM_MAX 256

// Some tokens of one page of one kv head: for each channel the sum of its finite keys, each divided
// by SKIM_CPU_SUM_DIVISOR (more than a page has tokens, so that no sum overflows), and how many
// they are.
#define SKIM_CPU_SUM_DIVISOR 128
typedef struct skim_cpu_sums_job {
    skim_type type;
    uint32_t dim;
    uint32_t tokens;
    const void *keys;
    uint64_t token_stride; // bytes
    float *sums;           // dim rounded up to SKIM_CPU_PAD
    float *counts;         // the same
} skim_cpu_sums_job;

// Bounds of one page of one kv head: B0 and B1, dim elements each, adjacent.
typedef struct skim_cpu_bounds_job {
    skim_type type;
    skim_bounds kind;
    uint32_t dim;
    uint32_t tokens;  // >= 1
    uint32_t divisor; // of the variance
    const void *keys;
    uint64_t token_stride; // bytes
    void *bounds;          // of the keys' type, or int8
    const float *centre;   // of int8 bounds, [dim]; else NULL
    float *scales;         // of int8 bounds: s0 and s1
    bool inward;           // minmax rounds to the wrong side
} skim_cpu_bounds_job;

// Estimate from int8 bounds has int16 weights, in steps of `step`: a is max(q, 0) or q, b is
// min(q, 0) or |q|. The starts are added to the sums of a . u0 and b . u1, and make up for the
// rounding of a and b where the score is an upper bound.
#define SKIM_CPU_I8_PAD 32
typedef struct skim_cpu_i8_head {
    int32_t start_a, start_b;
    float step;
    float offset; // what the centre adds to every page's score
} skim_cpu_i8_head;

typedef struct skim_cpu_weights_job {
    skim_bounds kind;
    uint32_t dim;
    uint32_t padded;     // to SKIM_CPU_I8_PAD
    const float *q;      // [padded], with zeros
    const float *centre; // the same
    int16_t *a, *b;      // [padded], written
    skim_cpu_i8_head *head;
} skim_cpu_weights_job;

// Scores of consecutive pages of one kv head: score[head][page] = weights[head] .
// bounds[table[page]].
typedef struct skim_cpu_estimate_job {
    skim_type type;
    uint32_t dim; // a page's bounds have twice so many elements
    uint32_t heads;
    uint32_t pages;
    const float *weights;      // [heads][2][dim]; not for int8 bounds, which have what follows
    const int16_t *i8_weights; // [heads][a, b][dim rounded up to SKIM_CPU_I8_PAD]
    const skim_cpu_i8_head *i8_heads; // [heads]
    const float *scales;              // [slot][2]; NULL: bounds of type `type`
    float spread;                     // of B1; 1 for minmax
    const void *bounds;
    const uint32_t *table;
    float *scores;
    uint64_t score_stride; // elements
} skim_cpu_estimate_job;

typedef struct skim_cpu_combine_job {
    skim_combine combine;
    uint32_t heads;
    uint32_t pages;
    float scale; // times log2 e
    const float *scores;
    uint64_t score_stride; // elements
    const float *lse;      // [heads], base 2; for the softmax forms
    float *combined;       // [pages]
} skim_cpu_combine_job;

typedef struct skim_cpu_top_job {
    const float *scores;
    uint32_t pages;
    uint32_t count; // how many to choose, <= pages
    bool ties_high;
    uint32_t first_page; // index of scores[0]
    int32_t *keys;       // scratch, pages rounded up to SKIM_CPU_PAD
    uint32_t *list;      // count entries written, ascending
} skim_cpu_top_job;

// One block of pages of one kv head against some of its query heads. Base 2 throughout: queries are
// scaled by log2 e, max and sum are of powers of 2.
typedef struct skim_cpu_attend_job {
    skim_type type;
    uint32_t dim;
    uint32_t padded; // dim rounded up to SKIM_CPU_PAD
    uint32_t page_size;
    const char *keys; // of the kv head, slot 0
    const char *values;
    uint64_t key_page_stride; // bytes, all four
    uint64_t key_token_stride;
    uint64_t value_page_stride;
    uint64_t value_token_stride;
    const float *queries; // [heads of the group][padded]
    float *out;           // the same; running, not yet divided by sum
    float *max;           // [heads of the group], running
    float *sum;
    const uint32_t *heads; // which heads of the group
    uint32_t head_count;
    uint32_t tokens; // valid tokens of all pages together; all but the last page are full
    const uint32_t *slots;
    const uint32_t *next_slots; // to prefetch
    uint32_t next_tokens;
    float *scores; // scratch: SKIM_CPU_TILE_HEADS * block tokens + SKIM_CPU_PAD
} skim_cpu_attend_job;

// One block of keys against a tile of query rows, in f32. Scores are kept transposed, [key][row],
// so that softmax is one lane per row and keys need no transposition.
typedef struct skim_cpu_prefill_job {
    uint32_t rows;
    uint32_t rows_padded; // to a multiple of SKIM_CPU_PAD
    uint32_t score_stride;
    uint32_t keys_count;
    uint32_t dim;
    uint32_t padded;
    bool masked;          // some visible[row] < keys_count
    const float *queries; // packed by pack_queries
    const float *keys;    // [keys, up to a multiple of tile_rows][padded]
    const float *values;  // [keys][padded]
    const float *visible; // [rows_padded]: how many keys of the block the row sees
    float *scores;        // [keys, as above][score_stride]
    float *out;           // [rows, up to a multiple of tile_rows][padded]
    float *max;           // [rows_padded], running
    float *sum;
    float *alpha; // scratch, rows_padded + SKIM_CPU_PAD
} skim_cpu_prefill_job;

typedef struct skim_cpu_kernels {
    const char *name;
    uint64_t features;
    // Conversion to f32, scaled; each row is padded with zeros to a multiple of SKIM_CPU_PAD.
    void (*load_rows)(skim_type type, const void *from, uint64_t stride, uint32_t rows,
                      uint32_t dim, float scale, float *to);
    void (*store_row)(skim_type type, const float *from, uint32_t dim, float scale, void *to);
    void (*sums)(const skim_cpu_sums_job *job);
    void (*bounds)(const skim_cpu_bounds_job *job);
    void (*weights)(const skim_cpu_weights_job *job);
    void (*estimate)(const skim_cpu_estimate_job *job);
    // log2 of the sum of exp2(scale * score).
    float (*logsumexp)(const float *scores, uint32_t count, float scale);
    void (*combine)(const skim_cpu_combine_job *job);
    void (*top)(const skim_cpu_top_job *job);
    void (*attend)(const skim_cpu_attend_job *job);
    // queries [rows][padded] to the panels that prefill reads.
    void (*pack_queries)(const float *queries, uint32_t rows, uint32_t rows_padded, uint32_t dim,
                         uint32_t padded, float *packed);
    void (*prefill)(const skim_cpu_prefill_job *job);
} skim_cpu_kernels;

extern const skim_cpu_kernels skim_cpu_kernels_scalar;
#if defined(__x86_64__)
extern const skim_cpu_kernels skim_cpu_kernels_avx2;
extern const skim_cpu_kernels skim_cpu_kernels_avx512;
#endif

#endif
