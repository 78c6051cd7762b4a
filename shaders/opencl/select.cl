// Chooses the pages of one list. A group combines the scores of the list's heads to one key of order
// a page, finds the lowest key that is chosen digit by digit, and writes the list ascending.
//
// A product that is rounded in one place and not in another would be far off the maximum of large
// scores.
#pragma OPENCL FP_CONTRACT OFF
#include "common.cl"

typedef struct Push {
    SKIM_SELECT_FIELDS
} Push;

#define MAX 1u // skim_combine
#define MEAN 2u
#define SOFTMAX_MAX 3u
#define SOFTMAX_MEAN 4u
#define DIGITS 256u

// KEYS, given with -D: pages whose keys lie in local memory; 1: none, they lie in scratch.
#if KEYS > 1
typedef __local uint *Keys;
#else
typedef __global uint *Keys;
#endif

typedef __global const float *Scores;

// Larger scores have larger keys; both zeros have the same.
uint key_of(float score)
{
    uint bits = as_uint(score == 0.0f ? 0.0f : score);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Base 2, over the pages first .. end - 1.
float logsumexp(Scores scores, float scale, uint first, uint end, __local float *shared)
{
    float highest = LOWEST;
    for (uint i = first + THREAD; i < end; i += THREADS)
        highest = fmax(highest, scores[i] * scale);
    highest = reduce_max(shared, highest);
    float sum = 0;
    for (uint i = first + THREAD; i < end; i += THREADS)
        sum += exp2(scores[i] * scale - highest);
    return highest + log2(reduce_sum(shared, sum));
}

float combined(Push push, Scores scores, uint heads, __local const float *lse)
{
    const float scale = push.scale * LOG2_E;
    float highest = LOWEST, sum = 0;
    for (uint h = 0; h < heads; h++) {
        float score = scores[(ulong)h * push.score_stride];
        if (push.combine >= SOFTMAX_MAX)
            score = score * scale - lse[h];
        highest = fmax(highest, score);
        sum += score;
    }
    if (push.combine == MEAN)
        return sum / (float)heads;
    if (push.combine != SOFTMAX_MEAN)
        return highest;
    sum = 0;
    for (uint h = 0; h < heads; h++)
        sum += exp2(scores[(ulong)h * push.score_stride] * scale - lse[h] - highest);
    return highest + log2(sum);
}

void make_keys(Push push, Row row, Scores scores, uint list_heads, uint first, uint candidates,
               __local float *lse, __local float *shared, Keys keys)
{
    const uint heads = SKIM_MUTANT(select_combine_first_head) ? 1 : list_heads;
    const bool all = SKIM_MUTANT(select_softmax_all_pages);
    if (list_heads > 1 && push.combine >= SOFTMAX_MAX) {
        for (uint h = 0; h < heads; h++) {
            float of_head =
                logsumexp(scores + (ulong)h * push.score_stride, push.scale * LOG2_E,
                          all ? 0 : first, all ? row.page_count : first + candidates, shared);
            if (THREAD == 0)
                lse[h] = of_head;
        }
        BARRIER();
    }
    for (uint i = THREAD; i < candidates; i += THREADS)
        keys[i] = key_of(list_heads == 1 ? scores[first + i]
                                         : combined(push, scores + first + i, heads, lse));
#if THREADS > 1
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
#endif
}

// The wanted-th highest key, and of the candidates with just that key how many are chosen. found:
// the digit, and the keys above it.
uint2 find_threshold(Keys keys, uint candidates, uint wanted, __local uint *counts,
                     __local uint *sums, __local uint *found)
{
    uint prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (uint d = THREAD; d < DIGITS; d += THREADS)
            counts[d] = 0;
        BARRIER();
        for (uint i = THREAD; i < candidates; i += THREADS) {
            uint key = keys[i];
            if ((key & mask) != prefix)
                continue;
#if THREADS == 1
            counts[key >> shift & 0xff]++;
#else
            atomic_inc(&counts[key >> shift & 0xff]);
#endif
        }
        BARRIER();
        // Every work-item has a run of digits, and counts what is above them.
        const uint run = DIGITS / THREADS;
        uint own = 0, above = 0;
        for (uint d = THREAD * run; d < (THREAD + 1) * run; d++)
            own += counts[d];
        sums[THREAD] = own;
        BARRIER();
        for (uint t = THREAD + 1; t < THREADS; t++)
            above += sums[t];
        for (uint i = 0; i < run; i++) {
            uint d = (THREAD + 1) * run - 1 - i;
            if (above < wanted && above + counts[d] >= wanted) {
                found[0] = d;
                found[1] = above;
            }
            above += counts[d];
        }
        BARRIER();
        prefix |= found[0] << shift;
        mask |= 0xffu << shift;
        wanted -= found[1];
        BARRIER();
    }
    return (uint2)(prefix, wanted);
}

// Every work-item writes a run of candidates, after counting what is before it. sums: of each, how
// many are above the threshold and how many at it.
void write_chosen(__global uint *list, Keys keys, uint first, uint candidates, uint2 threshold,
                  __local uint *sums)
{
    const uint run = (candidates + THREADS - 1) / THREADS;
    const uint begin = min(THREAD * run, candidates), end = min(begin + run, candidates);
    uint above = 0, tied = 0;
    for (uint i = begin; i < end; i++) {
        above += keys[i] > threshold.x;
        tied += keys[i] == threshold.x;
    }
    sums[2 * THREAD] = above;
    sums[2 * THREAD + 1] = tied;
    BARRIER();
    uint before = 0, ties_before = 0, ties = 0;
    for (uint t = 0; t < THREADS; t++) {
        before += t < THREAD ? sums[2 * t] : 0;
        ties_before += t < THREAD ? sums[2 * t + 1] : 0;
        ties += sums[2 * t + 1];
    }
    // Of those at the threshold the first are chosen.
    const uint skipped = SKIM_MUTANT(select_ties_high) ? ties - threshold.y : 0;
    uint to = before + (ties_before > skipped ? min(ties_before - skipped, threshold.y) : 0);
    for (uint i = begin; i < end; i++) {
        bool is_tied = keys[i] == threshold.x;
        bool is_first = ties_before >= skipped && ties_before - skipped < threshold.y;
        if (keys[i] > threshold.x || (is_tied && is_first))
            list[to++] = first + i;
        ties_before += is_tied;
    }
}

KERNEL void select_(constant_bytes rows, constant_bytes scores, bytes lists, bytes scratch,
                    const Push push, const uint row_count, const uint list_heads)
{
    __local float lse[SKIM_HEADS_MAX], shared[THREADS];
    __local uint counts[DIGITS], sums[2 * THREADS], found[2];
    if (get_group_id(1) >= row_count)
        return;
    const Row row = load_row(rows + push.rows, get_group_id(1));
    if ((row.flags & ROW_DENSE) != 0 || row.query_count == 0)
        return;
    const uint forced_first = SKIM_MUTANT(select_forgets_sinks) ? 0 : row.forced_first;
    uint forced_last = row.forced_last;
    if (SKIM_MUTANT(select_forgets_recent) && forced_last > 1)
        forced_last = 1;
    const uint count = min(row.select_count, row.page_count);
    const uint last = min(forced_last, count);
    const uint first = min(forced_first, count - last);
    const uint candidates = row.page_count - first - last;
    const uint wanted = count - first - last;

    const uint index = get_group_id(1) * get_num_groups(0) + get_group_id(0);
    __global uint *list = (__global uint *)(lists + push.lists) + (ulong)index * push.list_stride;
    for (uint i = THREAD; i < first; i += THREADS)
        list[i] = i;
    for (uint i = THREAD; i < last; i += THREADS)
        list[count - last + i] = row.page_count - last + i;
    if (wanted == 0)
        return;
#if KEYS > 1
    __local uint keys[KEYS];
#else
    __global uint *keys = (__global uint *)(scratch + push.keys) + (ulong)index * push.key_stride;
#endif
    Scores of_list =
        (Scores)(scores + push.scores) + (ulong)index * list_heads * push.score_stride;
    make_keys(push, row, of_list, list_heads, first, candidates, lse, shared, keys);
    write_chosen(list + first, keys, first, candidates,
                 find_threshold(keys, candidates, wanted, counts, sums, found), sums);
}
