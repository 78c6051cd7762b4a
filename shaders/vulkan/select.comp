// Chooses the pages of one list. A workgroup combines the scores of the list's heads to one key of
// order a page, finds the lowest key that is chosen digit by digit, and writes the list ascending.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = SKIM_SELECT_THREADS) in;
layout(push_constant, std430) uniform Push { SKIM_SELECT_FIELDS } push;

const uint MAX = 1, MEAN = 2, SOFTMAX_MAX = 3, SOFTMAX_MEAN = 4; // skim_combine
#define LIST_HEADS (LISTS == SKIM_LISTS_HEAD ? 1 : GROUP)
const uint LIST_HEADS_MAX = LISTS == SKIM_LISTS_HEAD ? 1 : SKIM_HEADS_MAX;
const uint DIGITS = 256;

layout(buffer_reference, std430, buffer_reference_align = 4) coherent buffer Keys { uint at[]; };

shared uint near_keys[KEYS];
shared float lse[LIST_HEADS_MAX];
shared float floats[SKIM_SELECT_THREADS];
shared uint counts[DIGITS];
shared uvec2 ranks[SKIM_SELECT_THREADS];
shared uint found_digit, found_above;

uvec2 far_keys()
{
    return advance(push.keys, gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x, push.key_stride,
                   2);
}

uint load_key(uint i)
{
    return KEYS > 1 ? near_keys[i] : Keys(far_keys()).at[i];
}

void store_key(uint i, uint key)
{
    if (KEYS > 1)
        near_keys[i] = key;
    else
        Keys(far_keys()).at[i] = key;
}

void synchronise()
{
    memoryBarrierBuffer();
    memoryBarrierShared();
    barrier();
}

uvec2 find_scores(uint head)
{
    uint first = (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * LIST_HEADS;
    return advance(push.scores, first + head, push.score_stride, 2);
}

// Larger scores have larger keys; both zeros have the same. All in integers: to compare floats, a
// device may take the smallest for zero.
uint key_of(float score)
{
    uint bits = floatBitsToUint(score);
    if (bits == 0x80000000u)
        bits = 0;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

uint highest_key(uint page, uint heads)
{
    uint key = 0;
    for (uint h = 0; h < heads; h++)
        key = max(key, key_of(Floats(find_scores(h)).at[page]));
    return key;
}

float reduce_max(float x)
{
    uint thread = gl_LocalInvocationIndex;
    barrier();
    floats[thread] = x;
    for (uint half_ = SKIM_SELECT_THREADS / 2; half_ > 0; half_ /= 2) {
        barrier();
        if (thread < half_)
            floats[thread] = max(floats[thread], floats[thread + half_]);
    }
    barrier();
    return floats[0];
}

float reduce_sum(float x)
{
    uint thread = gl_LocalInvocationIndex;
    barrier();
    floats[thread] = x;
    for (uint half_ = SKIM_SELECT_THREADS / 2; half_ > 0; half_ /= 2) {
        barrier();
        if (thread < half_)
            floats[thread] += floats[thread + half_];
    }
    barrier();
    return floats[0];
}

// Base 2, over the pages first .. end - 1.
float logsumexp(uint head, uint first, uint end)
{
    Floats scores = Floats(find_scores(head));
    float scale = push.scale * LOG2_E;
    float highest = LOWEST;
    for (uint i = first + gl_LocalInvocationIndex; i < end; i += SKIM_SELECT_THREADS)
        highest = max(highest, scores.at[i] * scale);
    highest = reduce_max(highest);
    float sum = 0;
    for (uint i = first + gl_LocalInvocationIndex; i < end; i += SKIM_SELECT_THREADS)
        sum += exp2(scores.at[i] * scale - highest);
    sum = reduce_sum(sum);
    return highest + log2(sum);
}

// All ways to combine but the maximum of scores.
float combined(uint page, uint heads)
{
    float scale = push.scale * LOG2_E;
    float highest = LOWEST, sum = 0;
    for (uint h = 0; h < heads; h++) {
        float score = Floats(find_scores(h)).at[page];
        if (push.combine >= SOFTMAX_MAX)
            score = score * scale - lse[h];
        highest = max(highest, score);
        sum += score;
    }
    if (push.combine == MEAN)
        return sum / float(heads);
    if (push.combine != SOFTMAX_MEAN)
        return highest;
    sum = 0;
    for (uint h = 0; h < heads; h++)
        sum += exp2(Floats(find_scores(h)).at[page] * scale - lse[h] - highest);
    return highest + log2(sum);
}

void make_keys(Row row, uint first, uint candidates)
{
    bool alone = LIST_HEADS == 1;
    uint heads = SKIM_MUTANT(select_combine_first_head) ? 1 : LIST_HEADS;
    if (!alone && push.combine >= SOFTMAX_MAX) {
        for (uint h = 0; h < heads; h++) {
            float of_head = SKIM_MUTANT(select_softmax_all_pages)
                                ? logsumexp(h, 0, row.page_count)
                                : logsumexp(h, first, first + candidates);
            if (gl_LocalInvocationIndex == 0)
                lse[h] = of_head;
        }
        barrier();
    }
    for (uint i = gl_LocalInvocationIndex; i < candidates; i += SKIM_SELECT_THREADS)
        store_key(i, alone || push.combine == MAX ? highest_key(first + i, alone ? 1 : heads)
                                                  : key_of(combined(first + i, heads)));
    synchronise();
}

// The wanted-th highest key, and of the candidates with just that key how many are chosen.
uvec2 find_threshold(uint candidates, uint wanted)
{
    uint thread = gl_LocalInvocationIndex;
    uint prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[thread] = 0;
        barrier();
        for (uint i = thread; i < candidates; i += SKIM_SELECT_THREADS) {
            uint key = load_key(i);
            if ((key & mask) == prefix)
                atomicAdd(counts[key >> shift & 0xff], 1);
        }
        barrier();
        // counts[d]: of this digit; ranks[d]: of this and higher ones.
        ranks[thread].x = counts[thread];
        for (uint distance = 1; distance < DIGITS; distance *= 2) {
            barrier();
            uint more = thread + distance < DIGITS ? ranks[thread + distance].x : 0;
            barrier();
            ranks[thread].x += more;
        }
        barrier();
        uint above = ranks[thread].x - counts[thread];
        if (above < wanted && ranks[thread].x >= wanted) {
            found_digit = thread;
            found_above = above;
        }
        barrier();
        prefix |= found_digit << shift;
        mask |= 0xffu << shift;
        wanted -= found_above;
        barrier();
    }
    return uvec2(prefix, wanted);
}

// Every thread writes a run of candidates, after counting what is before it.
void write_chosen(uvec2 list, uint first, uint candidates, uvec2 threshold)
{
    uint thread = gl_LocalInvocationIndex;
    uint run = (candidates + SKIM_SELECT_THREADS - 1) / SKIM_SELECT_THREADS;
    uint begin = min(thread * run, candidates), end = min(begin + run, candidates);
    uvec2 own = uvec2(0); // above the threshold, at it
    for (uint i = begin; i < end; i++) {
        uint key = load_key(i);
        own += uvec2(key > threshold.x, key == threshold.x);
    }
    ranks[thread] = own;
    for (uint distance = 1; distance < SKIM_SELECT_THREADS; distance *= 2) {
        barrier();
        uvec2 more = thread >= distance ? ranks[thread - distance] : uvec2(0);
        barrier();
        ranks[thread] += more;
    }
    barrier();
    uvec2 before = ranks[thread] - own;
    uint ties = ranks[SKIM_SELECT_THREADS - 1].y;
    // Of those at the threshold the first are chosen.
    uint skipped = SKIM_MUTANT(select_ties_high) ? ties - threshold.y : 0;
    uint to = before.x + (before.y > skipped ? min(before.y - skipped, threshold.y) : 0);
    for (uint i = begin; i < end; i++) {
        uint key = load_key(i);
        bool tied = key == threshold.x;
        if (key > threshold.x || (tied && before.y >= skipped && before.y - skipped < threshold.y))
            Words(list).at[to++] = first + i;
        before.y += tied ? 1 : 0;
    }
}

void main()
{
    set_shape(push.shape);
    Row row = load_row(push.rows, gl_WorkGroupID.y);
    if ((row.flags & ROW_DENSE) != 0 || row.query_count == 0)
        return;
    uint forced_first = SKIM_MUTANT(select_forgets_sinks) ? 0 : row.forced_first;
    uint forced_last = row.forced_last;
    if (SKIM_MUTANT(select_forgets_recent) && forced_last > 1)
        forced_last = 1;
    uint count = min(row.select_count, row.page_count);
    uint last = min(forced_last, count);
    uint first = min(forced_first, count - last);
    uint candidates = row.page_count - first - last;
    uint wanted = count - first - last;

    uvec2 list = advance(push.lists, gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x,
                         push.list_stride, 2);
    for (uint i = gl_LocalInvocationIndex; i < first; i += SKIM_SELECT_THREADS)
        Words(list).at[i] = i;
    for (uint i = gl_LocalInvocationIndex; i < last; i += SKIM_SELECT_THREADS)
        Words(list).at[count - last + i] = row.page_count - last + i;
    if (wanted == 0)
        return;
    make_keys(row, first, candidates);
    write_chosen(advance(list, first, 1, 2), first, candidates, find_threshold(candidates, wanted));
}
