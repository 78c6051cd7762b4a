// The centre of int8 bounds: the mean of a call's keys, read from their pages. A group takes eight
// channels of a kv head, its work-items take tokens in turn. Compensated sums, two for each channel,
// so that neither the largest keys overflow nor the smallest vanish.
#pragma OPENCL FP_CONTRACT OFF
#include "common.cl"

typedef struct Push {
    SKIM_APPEND_FIELDS
} Push;

#define LARGE 1.152921504606846976e18f // 2^60
#define SHRINK 9.094947017729282e-13f  // 2^-40
#define GROW 1099511627776.0f          // 2^40

typedef struct Sum {
    float8 sum, lost;
} Sum;

Sum add(Sum before, float8 x)
{
    float8 y = x - before.lost;
    float8 t = before.sum + y;
    Sum after = {t, (t - before.sum) - y};
    return after;
}

KERNEL void centre(constant_bytes rows, constant_bytes table, constant_bytes k, constant_bytes v,
                   PIECES(keys_), PIECES(values_), PIECES(bounds_), bytes centre_,
                   const Push push, const uint row_count)
{
    __local float small_sums[THREADS * WIDTH], large_sums[THREADS * WIDTH];
    __local float counts[THREADS * WIDTH]; // whole numbers
    if (row_count == 0)
        return;
    TAKE_PIECES(keys_);
    const uint vector = get_group_id(0), kv_head = get_group_id(1);
    Sum sums = {(float8)(0), (float8)(0)}, large = sums;
    float8 finite = (float8)(0);
    for (uint r = 0; r < row_count; r++) {
        const Row row = load_row(rows + push.rows, r);
        __global const uint *slots = (__global const uint *)(table + push.table) + row.table_start;
        const uint first = row.length - row.query_count;
        for (uint i = THREAD; i < row.query_count; i += THREADS) {
            const uint token = first + i;
            const ulong at = (ulong)slots[token / PAGE_SIZE] * push.key_page +
                             (ulong)kv_head * push.key_head +
                             (ulong)(token % PAGE_SIZE) * push.key_token;
            float8 x = load_channels(&keys_, push.keys + at * 16 + vector * VECTOR_BYTES);
            int8 is_finite = fabs(x) <= LARGEST;
            int8 is_large = fabs(x) >= LARGE;
            x = select((float8)(0), x, is_finite);
            sums = add(sums, select(x, (float8)(0), is_large));
            large = add(large, select((float8)(0), x * SHRINK, is_large));
            finite += select((float8)(0), (float8)(1), is_finite);
        }
    }
    vstore8(sums.sum, THREAD, small_sums);
    vstore8(large.sum, THREAD, large_sums);
    vstore8(finite, THREAD, counts);
    BARRIER();
    if (THREAD > 0)
        return;
    Sum low = {(float8)(0), (float8)(0)}, high = low;
    float8 count = (float8)(0);
    for (uint i = 0; i < THREADS; i++) {
        low = add(low, vload8(i, small_sums));
        high = add(high, vload8(i, large_sums));
        count += vload8(i, counts);
    }
    float8 n = fmax(count, (float8)(1));
    float8 mean = clamp(low.sum / n + high.sum / n * GROW, -LARGEST, LARGEST);
    vstore8(mean, vector, (__global float *)(centre_ + push.centre) + (ulong)kv_head * DIM);
}
