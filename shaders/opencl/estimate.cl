// Scores of pages from their bounds. A group takes 64 pages of one row and up to HEADS query heads of
// one kv head; a work-item has whole pages, whose bounds it reads once for all heads.
#include "common.cl"

typedef struct Push {
    SKIM_ESTIMATE_FIELDS
} Push;

float8 load_query(Push push, constant_bytes q, uint v)
{
    if (SKIM_MUTANT(estimate_drops_channel) && v + 1 == VECTORS)
        return (float8)(0);
    return load_elements(q, v * WIDTH, push.q_head >> SKIM_TYPE_SHIFT);
}

// weights: a of B0's channels, then b of B1's, for each head.
void prepare_weights(Push push, Row row, constant_bytes q, uint first_head, uint heads,
                     __local float *weights)
{
    for (uint i = THREAD; i < HEADS * VECTORS; i += THREADS) {
        uint h = i / VECTORS, v = i % VECTORS;
        float8 x = (float8)(0);
        if (h < heads)
            x = load_query(
                push, q + element_at(row.query_start, push.q_token, first_head + h, push.q_head),
                v);
#if BOUNDS == MINMAX
        // Comparisons that keep a NaN, so that it reaches the score.
        float8 a = select(x, (float8)(0), x < 0.0f), b = select(x, (float8)(0), x > 0.0f);
#else
        float8 a = x, b = push.spread * fabs(x);
#endif
        bool swapped = SKIM_MUTANT(estimate_swaps_bounds);
        vstore8(swapped ? b : a, v, weights + h * 2 * DIM);
        vstore8(swapped ? a : b, v, weights + h * 2 * DIM + DIM);
    }
}

KERNEL void estimate(constant_bytes rows, constant_bytes table, constant_bytes q, PIECES(bounds_),
                     constant_bytes centre, bytes scores, const Push push, const uint row_count)
{
    __local float weights[HEADS * 2 * DIM_MAX], offsets[HEADS];
    if (get_group_id(2) >= row_count)
        return;
    TAKE_PIECES(bounds_);
    const Row row = load_row(rows + push.rows, get_group_id(2));
    const uint first_page = get_group_id(0) * SKIM_ESTIMATE_PAGES;
    if ((row.flags & ROW_DENSE) != 0 || row.query_count == 0 || first_page >= row.page_count)
        return;
    const uint chunks = (GROUP + HEADS - 1) / HEADS;
    const uint kv_heads = get_num_groups(1) / chunks, kv_head = get_group_id(1) / chunks;
    const uint in_group = get_group_id(1) % chunks * HEADS;
    const uint first_head = kv_head * GROUP + in_group;
    const uint heads = min((uint)HEADS, GROUP - in_group);
    prepare_weights(push, row, q + push.q, first_head, heads, weights);
    // Both kinds have the same: the sum of a * c0 and b * c1 is that of q * c0.
    for (uint h = THREAD; h < HEADS; h += THREADS) {
        float8 sum = (float8)(0);
#if BOUNDS_TYPE == I8
        __global const float *c0 =
            (__global const float *)(centre + push.centre) + (ulong)kv_head * DIM;
        constant_bytes query =
            q + push.q + element_at(row.query_start, push.q_token, first_head + h, push.q_head);
        for (uint v = 0; v < VECTORS && h < heads && !SKIM_MUTANT(estimate_i8_no_centre); v++)
            sum += load_query(push, query, v) * vload8(v, c0);
#endif
        offsets[h] = sum_vector(sum);
    }
    BARRIER();

    __global const uint *slots = (__global const uint *)(table + push.table) + row.table_start;
    __global float *to = (__global float *)(scores + push.scores) +
                         ((ulong)get_group_id(2) * kv_heads * GROUP + first_head) *
                             push.score_stride;
    const uint end = min(first_page + SKIM_ESTIMATE_PAGES, row.page_count);
    for (uint i = THREAD; i < SKIM_ESTIMATE_PAGES; i += THREADS) {
        const uint page = first_page + i;
        if (page >= end)
            break;
        const ulong place = (ulong)kv_head * push.slots + slots[page];
        const ulong at = push.bounds + place * BOUNDS_BYTES;
        float8 sums[HEADS];
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            sums[h] = (float8)(0);
#if BOUNDS_TYPE == I8
        const ulong pages = (ulong)kv_heads * push.slots;
        const float2 scales = vload2(
            0, (__global const float *)find(&bounds_,
                                            push.bounds + pages * BOUNDS_BYTES + place * 8));
#endif
        for (uint half_ = 0; half_ < 2; half_++) {
            for (uint v = 0; v < VECTORS; v++) {
#if BOUNDS_TYPE == I8
                const ulong of_vector = at + half_ * HALF_BYTES + v * WIDTH; // a multiple of 8
                float8 x = convert_float8(*(__global const char8 *)find(&bounds_, of_vector));
                x *= half_ == 0 ? scales.x : scales.y;
#else
                float8 x = load_channels(&bounds_, at + half_ * HALF_BYTES + v * VECTOR_BYTES);
#endif
#pragma unroll
                for (uint h = 0; h < HEADS; h++)
                    sums[h] += x * vload8(v, weights + (2 * h + half_) * DIM);
            }
        }
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            if (h < heads)
                to[(ulong)h * push.score_stride + page] = sum_vector(sums[h]) + offsets[h];
    }
}
