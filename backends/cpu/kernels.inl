// The kernels of one level. Included by kernels_<level>.c after vec_<level>.h.
//
// Everything that depends on the element type or on a tile's shape is an always-inlined function
// whose type and shape are constants at the call: one source, and straight code for each
// combination.

#include "backends/cpu/kernels.h"

#include <assert.h>
#include <float.h>
#include <math.h>

enum { HAS_TAIL = W > 8, TILE_ROWS_MAX = 4 };

INLINE size_t size_of_type(skim_type type)
{
    return type == SKIM_F32 ? 4 : 2;
}

// Call function with a constant type, and with a constant count for the common ones.
#define FOR_TYPE(type, function, ...)                                                              \
    do {                                                                                           \
        if ((type) == SKIM_F16)                                                                    \
            function(SKIM_F16, __VA_ARGS__);                                                       \
        else if ((type) == SKIM_BF16)                                                              \
            function(SKIM_BF16, __VA_ARGS__);                                                      \
        else                                                                                       \
            function(SKIM_F32, __VA_ARGS__);                                                       \
    } while (0)

#define FOR_COUNT(type, count, common, function, ...)                                              \
    do {                                                                                           \
        if ((count) == (common))                                                                   \
            function(type, common, __VA_ARGS__);                                                   \
        else                                                                                       \
            function(type, count, __VA_ARGS__);                                                    \
    } while (0)

INLINE void load_row(skim_type type, const char *from, uint32_t dim, float scale, float *to)
{
    size_t size = size_of_type(type);
    uint32_t d = 0;
    for (; d + W <= dim; d += W)
        v_store(to + d, v_mul(v_load_as(type, from + d * size), v_set(scale)));
    if (HAS_TAIL && d < dim) {
        v_store(to + d, v_mul(v_load_tail(type, from + d * size), v_set(scale)));
        d += W;
    }
    for (; d % SKIM_CPU_PAD != 0; d++)
        to[d] = 0;
}

INLINE void load_rows_as(skim_type type, const char *from, uint64_t stride, uint32_t rows,
                         uint32_t dim, float scale, float *to)
{
    uint32_t padded = (dim + SKIM_CPU_PAD - 1) / SKIM_CPU_PAD * SKIM_CPU_PAD;
    for (uint32_t r = 0; r < rows; r++)
        load_row(type, from + r * stride, dim, scale, to + (size_t)r * padded);
}

static void load_rows(skim_type type, const void *from, uint64_t stride, uint32_t rows,
                      uint32_t dim, float scale, float *to)
{
    FOR_TYPE(type, load_rows_as, from, stride, rows, dim, scale, to);
}

INLINE void store_row_as(skim_type type, const float *from, uint32_t dim, float scale, char *to)
{
    size_t size = size_of_type(type);
    uint32_t d = 0;
    for (; d + W <= dim; d += W)
        v_store_as(type, to + d * size, v_mul(v_load(from + d), v_set(scale)));
    if (HAS_TAIL && d < dim)
        v_store_tail(type, to + d * size, v_mul(v_load(from + d), v_set(scale)));
}

static void store_row(skim_type type, const float *from, uint32_t dim, float scale, void *to)
{
    FOR_TYPE(type, store_row_as, from, dim, scale, to);
}

// ---- bounds

INLINE void sums_vector(skim_type type, const skim_cpu_sums_job *job, uint32_t d, bool tail)
{
    const char *key = (const char *)job->keys + d * size_of_type(type);
    vec sum = v_zero();
    vec count = v_zero();
    for (uint32_t t = 0; t < job->tokens; t++) {
        vec x = tail ? v_load_tail(type, key) : v_load_as(type, key);
        vec_mask finite = v_greater(v_set(INFINITY), v_abs(x)); // false for NaN
        vec part = v_mul(x, v_set(1.0f / SKIM_CPU_SUM_DIVISOR));
        sum = v_add(sum, v_select(finite, part, v_zero()));
        count = v_add(count, v_select(finite, v_set(1.0f), v_zero()));
        key += job->token_stride;
    }
    v_store(job->sums + d, sum);
    v_store(job->counts + d, count);
}

INLINE void sums_as(skim_type type, const skim_cpu_sums_job *job)
{
    uint32_t d = 0;
    for (; d + W <= job->dim; d += W)
        sums_vector(type, job, d, false);
    if (HAS_TAIL && d < job->dim)
        sums_vector(type, job, d, true);
}

static void sums(const skim_cpu_sums_job *job)
{
    assert(job->tokens < SKIM_CPU_SUM_DIVISOR);
    FOR_TYPE(job->type, sums_as, job);
}

INLINE void minmax_vector(skim_type type, skim_type stored, const skim_cpu_bounds_job *job,
                          uint32_t d, bool tail, char *high_to, char *low_to)
{
    const char *key = (const char *)job->keys + d * size_of_type(type);
    vec high = tail ? v_load_tail(type, key) : v_load_as(type, key);
    vec low = high;
    for (uint32_t t = 1; t < job->tokens; t++) {
        key += job->token_stride;
        vec x = tail ? v_load_tail(type, key) : v_load_as(type, key);
        high = v_max(high, x);
        low = v_min(low, x);
    }
    size_t at = d * size_of_type(stored);
    if (tail) {
        v_store_tail(stored, high_to + at, high);
        v_store_tail(stored, low_to + at, low);
    } else {
        v_store_as(stored, high_to + at, high);
        v_store_as(stored, low_to + at, low);
    }
}

INLINE void minmax(skim_type type, skim_type stored, const skim_cpu_bounds_job *job, void *high,
                   void *low)
{
    uint32_t d = 0;
    for (; d + W <= job->dim; d += W)
        minmax_vector(type, stored, job, d, false, high, low);
    if (HAS_TAIL && d < job->dim)
        minmax_vector(type, stored, job, d, true, high, low);
}

INLINE void minmax_stored(skim_type type, const skim_cpu_bounds_job *job)
{
    minmax(type, type, job, job->bounds, (char *)job->bounds + job->dim * size_of_type(type));
}

INLINE void minmax_f32(skim_type type, const skim_cpu_bounds_job *job, float *high, float *low)
{
    minmax(type, SKIM_F32, job, high, low);
}

static void meanstd(const skim_cpu_bounds_job *job, float *mean, float *deviation)
{
    double sum[SKIM_CPU_HEAD_DIM_MAX] = {0};
    double square[SKIM_CPU_HEAD_DIM_MAX] = {0};
    float row[SKIM_CPU_HEAD_DIM_MAX];
    const char *keys = job->keys;
    for (uint32_t t = 0; t < job->tokens; t++) {
        load_rows(job->type, keys + t * job->token_stride, 0, 1, job->dim, 1.0f, row);
        for (uint32_t d = 0; d < job->dim; d++)
            sum[d] += row[d];
    }
    for (uint32_t d = 0; d < job->dim; d++)
        sum[d] /= job->tokens;
    for (uint32_t t = 0; t < job->tokens; t++) {
        load_rows(job->type, keys + t * job->token_stride, 0, 1, job->dim, 1.0f, row);
        for (uint32_t d = 0; d < job->dim; d++)
            square[d] += (row[d] - sum[d]) * (row[d] - sum[d]);
    }
    for (uint32_t d = 0; d < job->dim; d++) {
        mean[d] = (float)sum[d];
        deviation[d] = (float)sqrt(square[d] / job->divisor);
    }
}

// ---- int8 bounds: u = distance from the centre / scale

// How far a scale and a quotient may be off, and why outward still holds: docs/algorithm.md.
#define I8_STEP 0.0078741f     // the scale, of the largest distance: a little more than 1 / 127
#define I8_SCALE_MIN 0x1p-120f // its reciprocal is finite
#define I8_SCALE_HUGE 0x1p125f // of a distance that overflows
#define I8_MARGIN 0x1p-20f     // more than a quotient's relative error

typedef enum i8_rounding { I8_NEAREST, I8_UP, I8_UP_TOO_LITTLE } i8_rounding;

INLINE vec i8_quotient(vec distance, float inverse, i8_rounding rounding)
{
    vec x = v_mul(distance, v_set(inverse));
    if (rounding == I8_NEAREST)
        return v_round(x);
    if (rounding == I8_UP_TOO_LITTLE)
        return v_sub(v_round_up(x), v_set(1.0f));
    vec u = v_round_up(v_fma(v_abs(x), v_set(I8_MARGIN), x));
    // The quotient of a tiny distance may be 0.
    vec_mask above = v_greater(distance, v_zero());
    return v_max(u, v_select(above, v_set(1.0f), v_set(-127.0f)));
}

static float i8_scale(float largest)
{
    if (!(largest > 0.0f))
        return 0.0f;
    float scale = largest * I8_STEP;
    if (scale < I8_SCALE_MIN)
        return I8_SCALE_MIN;
    return isinf(scale) ? I8_SCALE_HUGE : scale;
}

// side * values and side * centre are rounded, and the result is turned back: side -1 rounds down.
// Arrays are padded; padding becomes 0. Returns the scale.
static float quantise(const float *values, const float *centre, uint32_t dim, float side,
                      i8_rounding rounding, int8_t *to)
{
    float distances[SKIM_CPU_HEAD_DIM_MAX];
    vec largest = v_zero();
    for (uint32_t d = 0; d < dim; d += W) {
        vec distance = v_sub(v_load(values + d), v_load(centre + d));
        // A lower distance than the true one would not be outward. No NaN passes.
        distance = v_max(v_mul(v_set(side), distance), v_set(-FLT_MAX));
        largest = v_max(largest, v_abs(distance));
        v_store(distances + d, distance);
    }
    float lanes[W];
    v_store(lanes, v_max_across(largest, 1));
    const float scale = i8_scale(lanes[0]);
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (uint32_t d = 0; d < dim; d += W) {
        vec u = i8_quotient(v_load(distances + d), inverse, rounding);
        u = v_min(v_max(u, v_set(-127.0f)), v_set(127.0f));
        v_store_i8(to + d, v_mul(v_set(side), u));
    }
    return scale;
}

static void quantised(const skim_cpu_bounds_job *job, const float *high, const float *low)
{
    float centre[SKIM_CPU_HEAD_DIM_MAX];
    int8_t u[SKIM_CPU_HEAD_DIM_MAX];
    load_rows(SKIM_F32, job->centre, 0, 1, job->dim, 1.0f, centre);
    bool minmax_kind = job->kind == SKIM_BOUNDS_MINMAX;
    i8_rounding rounding = minmax_kind ? job->inward ? I8_UP_TOO_LITTLE : I8_UP : I8_NEAREST;
    job->scales[0] = quantise(high, centre, job->dim, 1.0f, rounding, u);
    memcpy(job->bounds, u, job->dim);
    static const float zeros[SKIM_CPU_HEAD_DIM_MAX];
    job->scales[1] = quantise(low, minmax_kind ? centre : zeros, job->dim,
                              minmax_kind ? -1.0f : 1.0f, rounding, u);
    memcpy((int8_t *)job->bounds + job->dim, u, job->dim);
}

static void bounds(const skim_cpu_bounds_job *job)
{
    assert(job->tokens >= 1 && job->dim <= SKIM_CPU_HEAD_DIM_MAX);
    if (job->kind == SKIM_BOUNDS_MINMAX && !job->centre) {
        FOR_TYPE(job->type, minmax_stored, job);
        return;
    }
    // B0 and B1 in f32, padded with zeros.
    float high[SKIM_CPU_HEAD_DIM_MAX] = {0}, low[SKIM_CPU_HEAD_DIM_MAX] = {0};
    if (job->kind == SKIM_BOUNDS_MINMAX)
        FOR_TYPE(job->type, minmax_f32, job, high, low);
    else
        meanstd(job, high, low);
    if (job->centre) {
        quantised(job, high, low);
        return;
    }
    store_row(job->type, high, job->dim, 1.0f, job->bounds);
    store_row(job->type, low, job->dim, 1.0f,
              (char *)job->bounds + job->dim * size_of_type(job->type));
}

// ---- dots: stored rows against f32 vectors

// sums[r * heads + h] = lanes whose total is rows[r] . vectors[h].
INLINE void dot_tile(skim_type type, int rows, int heads, const char *const *row,
                     const float *const *vector, uint32_t count, vec *sums)
{
    size_t size = size_of_type(type);
    vec sum[TILE_ACCUMULATORS];
    UNROLL
    for (int i = 0; i < rows * heads; i++)
        sum[i] = v_zero();
    uint32_t d = 0;
    for (; d + W <= count; d += W) {
        vec x[TILE_ROWS_MAX];
        UNROLL
        for (int r = 0; r < rows; r++)
            x[r] = v_load_as(type, row[r] + d * size);
        UNROLL
        for (int h = 0; h < heads; h++) {
            vec q = v_load(vector[h] + d);
            UNROLL
            for (int r = 0; r < rows; r++)
                sum[r * heads + h] = v_fma(x[r], q, sum[r * heads + h]);
        }
    }
    if (HAS_TAIL && d < count) {
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec x = v_load_tail(type, row[r] + d * size);
            UNROLL
            for (int h = 0; h < heads; h++)
                sum[r * heads + h] = v_fma(x, v_load(vector[h] + d), sum[r * heads + h]);
        }
    }
    UNROLL
    for (int i = 0; i < rows * heads; i++)
        sums[i] = sum[i];
}

// Rows that are read side by side. With many heads fewer are enough to fill the registers, and
// memory is then read more nearly in its order, which the processor's own prefetching rewards.
INLINE int rows_of_tile(int heads)
{
    int most = heads >= 4 ? 2 : TILE_ROWS_MAX;
    return W / heads < most ? W / heads : most;
}

INLINE void prefetch(const char *from, size_t bytes)
{
    UNROLL
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(from + b, 0, 2);
}

// ---- estimate

// How far ahead pages are fetched: enough to cover the latency of memory.
enum { ESTIMATE_AHEAD_BYTES = 4096, ESTIMATE_I8_AHEAD_BYTES = 8192, ESTIMATE_AHEAD_MAX = 64 };

// Pages p .. p + rows - 1, the last one repeated past the end, and those ahead fetched. scales: of
// int8 bounds, else NULL.
INLINE void estimate_rows(const skim_cpu_estimate_job *job, size_t page_bytes, uint32_t p, int rows,
                          bool fetch, const char **row, const float **scales)
{
    const size_t ahead_bytes = scales ? ESTIMATE_I8_AHEAD_BYTES : ESTIMATE_AHEAD_BYTES;
    const uint32_t ahead = page_bytes * ESTIMATE_AHEAD_MAX > ahead_bytes
                               ? (uint32_t)(ahead_bytes / page_bytes)
                               : ESTIMATE_AHEAD_MAX;
    const uint32_t last = job->pages - 1;
    UNROLL
    for (int r = 0; r < rows; r++) {
        uint32_t page = p + (uint32_t)r;
        size_t slot = page < last ? job->table[page] : job->table[last];
        row[r] = (const char *)job->bounds + slot * page_bytes;
        if (scales)
            scales[r] = job->scales + 2 * slot;
        if (fetch && page + ahead <= last) {
            slot = job->table[page + ahead];
            prefetch((const char *)job->bounds + slot * page_bytes, page_bytes);
            if (scales)
                prefetch((const char *)(job->scales + 2 * slot), 2 * sizeof *job->scales);
        }
    }
}

INLINE void store_scores(const skim_cpu_estimate_job *job, uint32_t head, int heads, uint32_t p,
                         vec sum)
{
    const uint32_t tile = (uint32_t)(W / heads);
    float scores[W];
    v_store(scores, sum);
    const uint32_t valid = job->pages - p;
    UNROLL
    for (uint32_t h = 0; h < (uint32_t)heads; h++) {
        float *to = job->scores + (head + h) * job->score_stride + p;
        UNROLL
        for (uint32_t i = 0; i < tile; i++)
            if (i == 0 || i < valid)
                to[i] = scores[i * (uint32_t)heads + h];
    }
}

INLINE void estimate_tile(skim_type type, uint32_t dim, int heads, const skim_cpu_estimate_job *job,
                          uint32_t head)
{
    const int rows = rows_of_tile(heads);
    const uint32_t tile = (uint32_t)(W / heads);
    const size_t page_bytes = 2 * dim * size_of_type(type);
    const float *weights[SKIM_CPU_TILE_HEADS];
    UNROLL
    for (int h = 0; h < heads; h++)
        weights[h] = job->weights + (size_t)(head + (uint32_t)h) * 2 * dim;

    for (uint32_t p = 0; p < job->pages; p += tile) {
        vec sums[W];
        UNROLL
        for (uint32_t s = 0; s < tile; s += (uint32_t)rows) {
            const char *row[TILE_ROWS_MAX];
            estimate_rows(job, page_bytes, p + s, rows, head == 0, row, NULL);
            dot_tile(type, rows, heads, row, weights, 2 * dim, sums + s * (uint32_t)heads);
        }
        store_scores(job, head, heads, p, v_sum_lanes(sums));
    }
}

// ---- estimate from int8 bounds
//
// Queries become int16, so that the dot products are of integers and exact; what their rounding may
// lose is added where the score must stay an upper bound. docs/algorithm.md has the derivation.

#define I16_MAX 32767.0f
#define I16_STEP_MIN 0x1p-110f // its reciprocal is finite
#define I16_MARGIN 0x1p-7f     // more than x may be off, of numbers up to I16_MAX

static float largest_of(const float *values, uint32_t count)
{
    vec largest = v_zero();
    for (uint32_t d = 0; d < count; d += W)
        largest = v_max(v_abs(v_load(values + d)), largest);
    float lanes[W];
    v_store(lanes, v_max_across(largest, 1));
    return lanes[0];
}

static float sum_of(vec x)
{
    float lanes[W];
    v_store(lanes, v_sum_across(x, 1));
    return lanes[0];
}

// The query's weights of either half, the start of their sums, and the centre's part of the score.
static void weights(const skim_cpu_weights_job *job)
{
    const bool minmax_kind = job->kind == SKIM_BOUNDS_MINMAX;
    const float least = largest_of(job->q, job->dim) * (1.0f / I16_MAX);
    const float step = least < I16_STEP_MIN ? I16_STEP_MIN : least;
    const float inverse = 1.0f / step;
    vec lost_a = v_zero(), lost_b = v_zero(), offset = v_zero();
    for (uint32_t d = 0; d < job->padded; d += W) {
        vec q = v_load(job->q + d);
        vec x = v_mul(q, v_set(inverse));
        vec n = v_min(v_max(v_round(x), v_set(-I16_MAX)), v_set(I16_MAX));
        vec a = minmax_kind ? v_max(n, v_zero()) : n;
        vec b = minmax_kind ? v_min(n, v_zero()) : v_abs(n);
        v_store_i16(job->a + d, a);
        v_store_i16(job->b + d, b);
        lost_a = v_add(lost_a, v_abs(v_sub(v_max(x, v_zero()), a)));
        lost_b = v_add(lost_b, v_abs(v_sub(v_min(x, v_zero()), b)));
        offset = v_fma(q, v_load(job->centre + d), offset);
    }
    const float margin = I16_MARGIN * (float)job->dim;
    *job->head = (skim_cpu_i8_head){.step = step, .offset = sum_of(offset)};
    if (minmax_kind) {
        job->head->start_a = (int32_t)(127.0f * (sum_of(lost_a) + margin)) + 1;
        job->head->start_b = (int32_t)(127.0f * (sum_of(lost_b) + margin)) + 1;
    }
}

// sums[r * heads + h] = lanes whose total is rows[r] . weights of head h, which are stride apart,
// and start[h].
INLINE void dot_i8_tile(int rows, int heads, const char *const *row, const int16_t *weights_of,
                        uint32_t stride, uint32_t padded, int32_t (*start)[W], vec_int *sums)
{
    vec_int sum[TILE_ACCUMULATORS];
    UNROLL
    for (int i = 0; i < rows * heads; i++)
        sum[i] = vi_load(start[i % heads]);
    for (uint32_t d = 0; d < padded; d += 2 * W) {
        vec_int x[TILE_ROWS_MAX];
        UNROLL
        for (int r = 0; r < rows; r++)
            x[r] = vi_pairs_of_i8(row[r] + d);
        UNROLL
        for (int h = 0; h < heads; h++) {
            vec_int w = vi_pairs(weights_of + (size_t)h * stride + d);
            UNROLL
            for (int r = 0; r < rows; r++)
                sum[r * heads + h] = vi_add_products(x[r], w, sum[r * heads + h]);
        }
    }
    UNROLL
    for (int i = 0; i < rows * heads; i++)
        sums[i] = sum[i];
}

INLINE void estimate_i8_tile(skim_type type, uint32_t dim, int heads,
                             const skim_cpu_estimate_job *job, uint32_t head)
{
    (void)type;
    const int rows = rows_of_tile(heads);
    const uint32_t tile = (uint32_t)(W / heads);
    const uint32_t padded = (dim + SKIM_CPU_I8_PAD - 1) / SKIM_CPU_I8_PAD * SKIM_CPU_I8_PAD;
    const skim_cpu_i8_head *of = job->i8_heads + head;
    const int16_t *weights_of = job->i8_weights + (size_t)head * 2 * padded;
    float steps[W], offsets[W];
    int32_t start_high[SKIM_CPU_TILE_HEADS][W] = {{0}}, start_low[SKIM_CPU_TILE_HEADS][W] = {{0}};
    // The heads' largest step is in the scales, so that no sum overflows that would not in the end.
    float step = 0;
    for (int h = 0; h < heads; h++)
        step = of[h].step > step ? of[h].step : step;
    for (int i = 0; i < W; i++) {
        steps[i] = of[i % heads].step / step;
        offsets[i] = of[i % heads].offset;
        start_high[i % heads][0] = of[i % heads].start_a;
        start_low[i % heads][0] = of[i % heads].start_b;
    }

    for (uint32_t p = 0; p < job->pages; p += tile) {
        vec sums[W];
        UNROLL
        for (uint32_t s = 0; s < tile; s += (uint32_t)rows) {
            const char *row[TILE_ROWS_MAX];
            const float *scales[TILE_ROWS_MAX];
            vec_int high[TILE_ACCUMULATORS], low[TILE_ACCUMULATORS];
            estimate_rows(job, 2 * dim, p + s, rows, head == 0, row, scales);
            dot_i8_tile(rows, heads, row, weights_of, 2 * padded, padded, start_high, high);
            UNROLL
            for (int r = 0; r < rows; r++)
                row[r] += dim;
            dot_i8_tile(rows, heads, row, weights_of + padded, 2 * padded, padded, start_low, low);
            UNROLL
            for (int i = 0; i < rows * heads; i++) {
                const float first = scales[i / heads][0] * step;
                const float second = scales[i / heads][1] * (step * job->spread);
                uint32_t at = s * (uint32_t)heads + (uint32_t)i;
                sums[at] =
                    v_fma(v_set(first), v_of_int(high[i]), v_mul(v_set(second), v_of_int(low[i])));
            }
        }
        vec scores = v_fma(v_sum_lanes(sums), v_load(steps), v_load(offsets));
        store_scores(job, head, heads, p, scores);
    }
}

#define ESTIMATE_HEADS(name, tile)                                                                 \
    INLINE void name(skim_type type, uint32_t dim, const skim_cpu_estimate_job *job)               \
    {                                                                                              \
        uint32_t head = 0;                                                                         \
        for (; W >= 8 && head + 4 <= job->heads; head += 4)                                        \
            tile(type, dim, W >= 8 ? 4 : 1, job, head);                                            \
        for (; W >= 8 && head + 2 <= job->heads; head += 2)                                        \
            tile(type, dim, W >= 8 ? 2 : 1, job, head);                                            \
        for (; head < job->heads; head++)                                                          \
            tile(type, dim, 1, job, head);                                                         \
    }
ESTIMATE_HEADS(estimate_heads, estimate_tile)
ESTIMATE_HEADS(estimate_i8_heads, estimate_i8_tile)
#undef ESTIMATE_HEADS

INLINE void estimate_as(skim_type type, const skim_cpu_estimate_job *job)
{
    FOR_COUNT(type, job->dim, 128, estimate_heads, job);
}

static void estimate(const skim_cpu_estimate_job *job)
{
    if (job->scales)
        FOR_COUNT(SKIM_TYPE_NONE, job->dim, 128, estimate_i8_heads, job);
    else
        FOR_TYPE(job->type, estimate_as, job);
}

// ---- select

// The lanes of the last, short vector are read one by one: the scores may end where they end.
INLINE vec load_scores(const float *from, uint32_t remaining, float fill)
{
    if (remaining >= W)
        return v_load(from);
    float lanes[W];
    for (uint32_t i = 0; i < W; i++)
        lanes[i] = i < remaining ? from[i] : fill;
    return v_load(lanes);
}

static float logsumexp(const float *scores, uint32_t count, float scale)
{
    vec high = v_set(-INFINITY);
    for (uint32_t i = 0; i < count; i += W) {
        vec x = load_scores(scores + i, count - i, scores[0]);
        high = v_max(high, v_mul(x, v_set(scale)));
    }
    high = v_max_across(high, 1);
    vec sum = v_zero();
    for (uint32_t i = 0; i < count; i += W) {
        vec x = v_mul(load_scores(scores + i, count - i, scores[0]), v_set(scale));
        vec power = v_exp2(v_sub(x, high));
        vec valid = v_set((float)(count - i < W ? count - i : W));
        sum = v_add(sum, v_select(v_greater(valid, v_lane_index()), power, v_zero()));
    }
    float lanes[W];
    v_store(lanes, high);
    float result = lanes[0];
    v_store(lanes, v_sum_across(sum, 1));
    return result + log2f(lanes[0]);
}

INLINE vec combine_plain(const skim_cpu_combine_job *job, uint32_t page)
{
    uint32_t remaining = job->pages - page;
    vec sum = load_scores(job->scores + page, remaining, 0);
    for (uint32_t h = 1; h < job->heads; h++) {
        vec x = load_scores(job->scores + h * job->score_stride + page, remaining, 0);
        sum = job->combine == SKIM_COMBINE_MAX ? v_max(sum, x) : v_add(sum, x);
    }
    return job->combine == SKIM_COMBINE_MAX ? sum : v_mul(sum, v_set(1.0f / (float)job->heads));
}

INLINE vec log_share(const skim_cpu_combine_job *job, uint32_t head, uint32_t page)
{
    const float *from = job->scores + head * job->score_stride + page;
    vec x = load_scores(from, job->pages - page, 0);
    return v_sub(v_mul(x, v_set(job->scale)), v_set(job->lse[head]));
}

INLINE vec combine_softmax(const skim_cpu_combine_job *job, uint32_t page)
{
    vec high = log_share(job, 0, page);
    for (uint32_t h = 1; h < job->heads; h++)
        high = v_max(high, log_share(job, h, page));
    if (job->combine == SKIM_COMBINE_SOFTMAX_MAX)
        return high;
    // The mean's divisor is left out: it is the same for every page.
    vec sum = v_zero();
    for (uint32_t h = 0; h < job->heads; h++)
        sum = v_add(sum, v_exp2(v_sub(log_share(job, h, page), high)));
    return v_add(high, v_log2(sum));
}

static void combine(const skim_cpu_combine_job *job)
{
    bool softmax =
        job->combine == SKIM_COMBINE_SOFTMAX_MAX || job->combine == SKIM_COMBINE_SOFTMAX_MEAN;
    for (uint32_t page = 0; page < job->pages; page += W) {
        vec x = softmax ? combine_softmax(job, page) : combine_plain(job, page);
        v_store(job->combined + page, x);
    }
}

static uint32_t count_greater(const int32_t *keys, uint32_t vectors, int32_t threshold)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < vectors; i++) {
        uint32_t greater = vi_greater(vi_load(keys + (size_t)i * W), vi_set(threshold));
        count += (uint32_t)__builtin_popcount(greater);
    }
    return count;
}

// The largest t such that count keys or more are >= t, by bisection on the keys' values.
static int32_t find_threshold(const int32_t *keys, uint32_t vectors, uint32_t count)
{
    int64_t low = INT32_MIN + 1;
    int64_t high = INT32_MAX;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        uint32_t reached = count_greater(keys, vectors, (int32_t)(middle - 1));
        if (reached == count)
            return (int32_t)middle;
        if (reached > count)
            low = middle;
        else
            high = middle - 1;
    }
    return (int32_t)low;
}

static void emit(const skim_cpu_top_job *job, uint32_t vectors, int32_t threshold)
{
    uint32_t above = count_greater(job->keys, vectors, threshold);
    uint32_t ties = job->count - above;
    uint32_t skipped = 0;
    if (job->ties_high) {
        uint32_t reached = count_greater(job->keys, vectors, threshold - 1);
        skipped = reached - job->count;
    }
    uint32_t *to = job->list;
    for (uint32_t i = 0; i < vectors; i++) {
        vec_int keys = vi_load(job->keys + (size_t)i * W);
        uint32_t chosen = vi_greater(keys, vi_set(threshold));
        for (uint32_t equal = vi_equal(keys, vi_set(threshold)); equal && ties;
             equal &= equal - 1) {
            if (skipped > 0) {
                skipped--;
                continue;
            }
            chosen |= equal & (~equal + 1);
            ties--;
        }
        for (; chosen; chosen &= chosen - 1)
            *to++ = job->first_page + i * W + (uint32_t)__builtin_ctz(chosen);
    }
}

static void top(const skim_cpu_top_job *job)
{
    assert(job->count <= job->pages);
    if (job->count == 0)
        return;
    uint32_t vectors = (job->pages + W - 1) / W;
    for (uint32_t i = 0; i < vectors; i++) {
        uint32_t p = i * W;
        vec_int keys = v_sort_key(load_scores(job->scores + p, job->pages - p, 0));
        vi_store(job->keys + p, keys);
    }
    // The smallest integer is the key of no page: lanes past the end are never chosen.
    for (uint32_t p = 0; p < job->pages; p++)
        if (job->keys[p] == INT32_MIN)
            job->keys[p] = INT32_MIN + 1;
    for (uint32_t p = job->pages; p < vectors * W; p++)
        job->keys[p] = INT32_MIN;
    emit(job, vectors, find_threshold(job->keys, vectors, job->count));
}

// ---- attend: decode

typedef struct head_tile {
    const skim_cpu_attend_job *job;
    const float *queries[SKIM_CPU_TILE_HEADS];
    float *out[SKIM_CPU_TILE_HEADS];
    const uint32_t *heads;
    bool first; // of its block: it fetches the next one
} head_tile;

// Scores of every token of the block, token-major: score[token * heads + head].
INLINE void attend_scores(skim_type type, uint32_t dim, int heads, const head_tile *tile)
{
    const skim_cpu_attend_job *job = tile->job;
    const uint32_t rows = (uint32_t)rows_of_tile(heads);
    const uint32_t step = (uint32_t)(W / heads);
    const uint32_t page_shift = (uint32_t)__builtin_ctz(job->page_size);
    const uint64_t stride = job->key_token_stride;

    for (uint32_t t = 0; t < job->tokens; t += step) {
        vec sums[W];
        UNROLL
        for (uint32_t s = 0; s < step; s += rows) {
            vec *of_rows = sums + s * (uint32_t)heads;
            uint32_t token = t + s;
            if (token >= job->tokens) {
                UNROLL
                for (uint32_t i = 0; i < rows * (uint32_t)heads; i++)
                    of_rows[i] = v_zero();
                continue;
            }
            uint32_t page = token >> page_shift;
            uint64_t offset = (token & (job->page_size - 1)) * stride;
            if (tile->first && token < job->next_tokens) {
                const char *next =
                    job->keys + job->next_slots[page] * job->key_page_stride + offset;
                UNROLL
                for (uint32_t r = 0; r < rows; r++)
                    prefetch(next + r * stride, dim * size_of_type(type));
            }
            const char *row[TILE_ROWS_MAX];
            row[0] = job->keys + job->slots[page] * job->key_page_stride + offset;
            // Rows past the last token repeat it; their scores are masked.
            UNROLL
            for (uint32_t r = 1; r < rows; r++)
                row[r] = token + r < job->tokens ? row[r - 1] + stride : row[r - 1];
            dot_tile(type, (int)rows, heads, row, tile->queries, dim, of_rows);
        }
        v_store(job->scores + t * (uint32_t)heads, v_sum_lanes(sums));
    }
}

// Turns scores into powers of 2 and brings max and sum up to date; the factors for what was
// accumulated before go to alpha. Lane i belongs to head i % heads.
INLINE void attend_softmax(int heads, const head_tile *tile, float *alpha)
{
    const skim_cpu_attend_job *job = tile->job;
    float lanes[W];
    UNROLL
    for (int i = 0; i < W; i++)
        lanes[i] = job->max[tile->heads[i % heads]];
    vec before = v_load(lanes);
    vec high = before;
    const uint32_t count = job->tokens * (uint32_t)heads;
    float *scores = job->scores;
    uint32_t i = 0;
    for (; i + W <= count; i += W)
        high = v_max(high, v_load(scores + i));
    vec_mask valid = v_greater(v_set((float)(count - i)), v_lane_index());
    if (i < count)
        high = v_max(high, v_select(valid, v_load(scores + i), high));
    high = v_max_across(high, heads);

    vec sum = v_zero();
    for (i = 0; i + W <= count; i += W) {
        vec power = v_exp2(v_sub(v_load(scores + i), high));
        sum = v_add(sum, power);
        v_store(scores + i, power);
    }
    if (i < count) {
        vec power = v_exp2(v_sub(v_load(scores + i), high));
        power = v_select(valid, power, v_zero());
        sum = v_add(sum, power);
        v_store(scores + i, power);
    }
    float sums[W];
    v_store(alpha, v_exp2(v_sub(before, high)));
    v_store(sums, v_sum_across(sum, heads));
    v_store(lanes, high);
    for (int h = 0; h < heads; h++) {
        uint32_t head = tile->heads[h];
        job->sum[head] = job->sum[head] * alpha[h] + sums[h];
        job->max[head] = lanes[h];
    }
}

// out[head][d ...] = alpha[head] * out + sum over tokens of score[token][head] * value[token][d
// ...], for some vectors of d.
INLINE void attend_values(skim_type type, int heads, int vectors, bool tail, const head_tile *tile,
                          const float *alpha, uint32_t d, bool fetch)
{
    const skim_cpu_attend_job *job = tile->job;
    const size_t size = size_of_type(type);
    vec sum[TILE_ACCUMULATORS];
    UNROLL
    for (int h = 0; h < heads; h++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            sum[h * vectors + v] = v_mul(v_load(tile->out[h] + d + v * W), v_set(alpha[h]));
    }
    const float *score = job->scores;
    uint32_t page = 0;
    for (uint32_t first = 0; first < job->tokens; first += job->page_size, page++) {
        uint32_t count = job->tokens - first;
        if (count > job->page_size)
            count = job->page_size;
        const char *value = job->values + job->slots[page] * job->value_page_stride + d * size;
        const char *next = NULL;
        if (fetch && first < job->next_tokens)
            next = job->values + job->next_slots[page] * job->value_page_stride + d * size;
        for (uint32_t t = 0; t < count; t++) {
            vec x[8];
            UNROLL
            for (int v = 0; v < vectors; v++)
                x[v] =
                    tail ? v_load_tail(type, value) : v_load_as(type, value + (size_t)v * W * size);
            UNROLL
            for (int h = 0; h < heads; h++) {
                vec p = v_set(score[h]);
                UNROLL
                for (int v = 0; v < vectors; v++)
                    sum[h * vectors + v] = v_fma(x[v], p, sum[h * vectors + v]);
            }
            if (next) {
                prefetch(next, (size_t)vectors * W * size);
                next += job->value_token_stride;
            }
            score += heads;
            value += job->value_token_stride;
        }
    }
    UNROLL
    for (int h = 0; h < heads; h++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            v_store(tile->out[h] + d + v * W, sum[h * vectors + v]);
    }
}

// As many vectors at a time as the registers hold for this many heads.
#define VALUES_WHILE(type, heads, vectors)                                                         \
    for (; (vectors) * (heads) <= TILE_ACCUMULATORS && d + (vectors)*W <= dim; d += (vectors)*W)   \
    attend_values(type, heads, (vectors) * (heads) <= TILE_ACCUMULATORS ? (vectors) : 1, false,    \
                  tile, alpha, d, tile->first)

INLINE void attend_all_values(skim_type type, int heads, const head_tile *tile, const float *alpha)
{
    const uint32_t dim = tile->job->dim;
    uint32_t d = 0;
    VALUES_WHILE(type, heads, 8);
    VALUES_WHILE(type, heads, 4);
    VALUES_WHILE(type, heads, 2);
    VALUES_WHILE(type, heads, 1);
    if (HAS_TAIL && d < dim)
        attend_values(type, heads, 1, true, tile, alpha, d, tile->first);
}

INLINE void attend_tile(skim_type type, int heads, const skim_cpu_attend_job *job, uint32_t first)
{
    head_tile tile = {.job = job, .heads = job->heads + first, .first = first == 0};
    UNROLL
    for (int h = 0; h < heads; h++) {
        size_t offset = (size_t)tile.heads[h] * job->padded;
        tile.queries[h] = job->queries + offset;
        tile.out[h] = job->out + offset;
    }
    float alpha[W];
    FOR_COUNT(type, job->dim, 128, attend_scores, heads, &tile);
    attend_softmax(heads, &tile, alpha);
    attend_all_values(type, heads, &tile, alpha);
}

// A tile's heads must divide both the lanes and the accumulators.
#define ATTEND_WHILE(type, count)                                                                  \
    for (; (count) <= W && (count) <= TILE_ACCUMULATORS && first + (count) <= job->head_count;     \
         first += (count))                                                                         \
    attend_tile(type, (count) <= W ? (count) : 1, job, first)

INLINE void attend_as(skim_type type, const skim_cpu_attend_job *job)
{
    uint32_t first = 0;
    ATTEND_WHILE(type, 4);
    ATTEND_WHILE(type, 2);
    ATTEND_WHILE(type, 1);
}

static void attend(const skim_cpu_attend_job *job)
{
    assert(job->tokens >= 1);
    FOR_TYPE(job->type, attend_as, job);
}

// ---- prefill: two matrix products

// sum[r][v] += sum over k < depth of a[r * a_row + k * a_step] * b[k * b_step + v ...].
INLINE void gemm_tile(int rows, int vectors, uint32_t depth, const float *a, size_t a_row,
                      size_t a_step, const float *b, size_t b_step, vec *sums)
{
    vec sum[GEMM_ROWS * GEMM_VECTORS];
    UNROLL
    for (int i = 0; i < rows * vectors; i++)
        sum[i] = sums[i];
    for (uint32_t k = 0; k < depth; k++) {
        vec x[GEMM_VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            x[v] = v_load(b + v * W);
        UNROLL
        for (int r = 0; r < rows; r++) {
            vec p = v_set(a[(size_t)r * a_row]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[r * vectors + v] = v_fma(p, x[v], sum[r * vectors + v]);
        }
        a += a_step;
        b += b_step;
    }
    UNROLL
    for (int i = 0; i < rows * vectors; i++)
        sums[i] = sum[i];
}

// Panels of GEMM_VECTORS vectors of rows, [panel][d][lane]; the last one is as wide as what is
// left.
static void pack_queries(const float *queries, uint32_t rows, uint32_t rows_padded, uint32_t dim,
                         uint32_t padded, float *packed)
{
    const uint32_t panel = GEMM_VECTORS * W;
    for (uint32_t first = 0; first < rows_padded; first += panel) {
        uint32_t width = rows_padded - first < panel ? rows_padded - first : panel;
        for (uint32_t r = 0; r < width; r++)
            for (uint32_t d = 0; d < dim; d++) {
                const float *from = queries + (size_t)(first + r) * padded + d;
                packed[(size_t)d * width + r] = first + r < rows ? *from : 0;
            }
        packed += (size_t)width * dim;
    }
}

INLINE void prefill_scores_panel(int vectors, const skim_cpu_prefill_job *job, const float *packed,
                                 uint32_t first)
{
    for (uint32_t n = 0; n < job->keys_count; n += GEMM_ROWS) {
        vec sums[GEMM_ROWS * GEMM_VECTORS];
        UNROLL
        for (int i = 0; i < GEMM_ROWS * vectors; i++)
            sums[i] = v_zero();
        gemm_tile(GEMM_ROWS, vectors, job->dim, job->keys + (size_t)n * job->padded, job->padded, 1,
                  packed, (size_t)vectors * W, sums);
        UNROLL
        for (int r = 0; r < GEMM_ROWS; r++) {
            float *to = job->scores + (n + (uint32_t)r) * (size_t)job->score_stride + first;
            UNROLL
            for (int v = 0; v < vectors; v++)
                v_store(to + v * W, sums[r * vectors + v]);
        }
    }
}

static void prefill_scores(const skim_cpu_prefill_job *job)
{
    const float *packed = job->queries;
    uint32_t first = 0;
    for (; first + GEMM_VECTORS * W <= job->rows_padded; first += GEMM_VECTORS * W) {
        prefill_scores_panel(GEMM_VECTORS, job, packed, first);
        packed += (size_t)GEMM_VECTORS * W * job->dim;
    }
    switch ((job->rows_padded - first) / W) {
    case 3:
        prefill_scores_panel(GEMM_VECTORS < 3 ? 1 : 3, job, packed, first);
        break;
    case 2:
        prefill_scores_panel(2, job, packed, first);
        break;
    case 1:
        prefill_scores_panel(1, job, packed, first);
        break;
    default:
        break;
    }
}

INLINE void prefill_softmax_as(bool masked, const skim_cpu_prefill_job *job)
{
    const vec nothing = v_set(-INFINITY);
    for (uint32_t r = 0; r < job->rows; r += W) {
        float *scores = job->scores + r;
        vec visible = v_load(job->visible + r);
        vec before = v_load(job->max + r);
        vec high = before;
        for (uint32_t n = 0; n < job->keys_count; n++) {
            vec x = v_load(scores + (size_t)n * job->score_stride);
            if (masked)
                x = v_select(v_greater(visible, v_set((float)n)), x, nothing);
            high = v_max(high, x);
        }
        vec sum = v_zero();
        for (uint32_t n = 0; n < job->keys_count; n++) {
            float *at = scores + (size_t)n * job->score_stride;
            vec power = v_exp2(v_sub(v_load(at), high));
            if (masked)
                power = v_select(v_greater(visible, v_set((float)n)), power, v_zero());
            sum = v_add(sum, power);
            v_store(at, power);
        }
        vec alpha = v_exp2(v_sub(before, high));
        v_store(job->alpha + r, alpha);
        v_store(job->max + r, high);
        v_store(job->sum + r, v_fma(v_load(job->sum + r), alpha, sum));
    }
}

// Keys that a row sees and not all rows of its tile do: near the diagonal only.
static void prefill_rest(const skim_cpu_prefill_job *job, uint32_t row, uint32_t from)
{
    float *out = job->out + (size_t)row * job->padded;
    uint32_t visible = (uint32_t)job->visible[row];
    for (uint32_t n = from; n < visible; n++) {
        vec p = v_set(job->scores[(size_t)n * job->score_stride + row]);
        const float *value = job->values + (size_t)n * job->padded;
        for (uint32_t d = 0; d < job->padded; d += W)
            v_store(out + d, v_fma(p, v_load(value + d), v_load(out + d)));
    }
}

INLINE void prefill_values_panel(int vectors, const skim_cpu_prefill_job *job, uint32_t row,
                                 uint32_t common, uint32_t d)
{
    vec sums[GEMM_ROWS * GEMM_VECTORS];
    float *out = job->out + (size_t)row * job->padded + d;
    UNROLL
    for (int r = 0; r < GEMM_ROWS; r++) {
        vec alpha = v_set(job->alpha[row + (uint32_t)r]);
        UNROLL
        for (int v = 0; v < vectors; v++)
            sums[r * vectors + v] = v_mul(v_load(out + (size_t)r * job->padded + v * W), alpha);
    }
    gemm_tile(GEMM_ROWS, vectors, common, job->scores + row, 1, job->score_stride, job->values + d,
              job->padded, sums);
    UNROLL
    for (int r = 0; r < GEMM_ROWS; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++)
            v_store(out + (size_t)r * job->padded + v * W, sums[r * vectors + v]);
    }
}

static void prefill_values(const skim_cpu_prefill_job *job)
{
    for (uint32_t row = 0; row < job->rows; row += GEMM_ROWS) {
        uint32_t end = row + GEMM_ROWS < job->rows ? row + GEMM_ROWS : job->rows;
        uint32_t common = job->keys_count;
        for (uint32_t r = row; r < end; r++)
            if ((uint32_t)job->visible[r] < common)
                common = (uint32_t)job->visible[r];
        uint32_t d = 0;
        for (; d + GEMM_VECTORS * W <= job->padded; d += GEMM_VECTORS * W)
            prefill_values_panel(GEMM_VECTORS, job, row, common, d);
        for (; d < job->padded; d += W)
            prefill_values_panel(1, job, row, common, d);
        for (uint32_t r = row; r < end; r++)
            prefill_rest(job, r, common);
    }
}

static void prefill(const skim_cpu_prefill_job *job)
{
    assert(job->keys_count >= 1 && job->keys_count <= SKIM_CPU_PREFILL_KEYS);
    prefill_scores(job);
    if (job->masked)
        prefill_softmax_as(true, job);
    else
        prefill_softmax_as(false, job);
    prefill_values(job);
}

#define KERNEL_TABLE(level_name, level_features)                                                   \
    {                                                                                              \
        .name = level_name, .features = level_features, .load_rows = load_rows,                    \
        .store_row = store_row, .sums = sums, .bounds = bounds, .weights = weights,                \
        .estimate = estimate, .logsumexp = logsumexp, .combine = combine, .top = top,              \
        .attend = attend, .pack_queries = pack_queries, .prefill = prefill,                        \
    }
