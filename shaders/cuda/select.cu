// Chooses the pages of one list: the scores of the list's heads are combined to one key of order a
// page, the lowest key that is chosen is found digit by digit, and the list is written ascending.
//
// Up to SKIM_CUDA_NEAR_KEYS pages one block does all of that. A longer list is cut into segments,
// one block each, and the same steps are launches of their own: sums (of the softmax forms), keys,
// count three times, ranks, write. What blocks tell each other are counts per segment, so that
// nothing depends on who comes first.
#include "shaders/cuda/common.cuh"

enum : uint32_t { MAX = 1, MEAN = 2, SOFTMAX_MAX = 3, SOFTMAX_MEAN = 4 }; // skim_combine

constexpr uint32_t WARP = 32, WARPS_MAX = 1024 / WARP;
constexpr uint32_t DIGITS = SKIM_CUDA_DIGITS, DIGIT_BITS = 8;

// What is to be chosen for a list of a row: wanted of the candidates, which begin at page first.
struct selection {
    skim_row row;
    uint32_t first, last, count, candidates, wanted;
};

SKIM_DEVICE selection find_selection(const skim_row &row)
{
    const uint32_t forced_first = SKIM_MUTANT(select_forgets_sinks) ? 0 : row.forced_first;
    const uint32_t forced_last =
        SKIM_MUTANT(select_forgets_recent) && row.forced_last > 1 ? 1 : row.forced_last;
    selection of = {row, 0, 0, smaller(row.select_count, row.page_count), 0, 0};
    of.last = smaller(forced_last, of.count);
    of.first = smaller(forced_first, of.count - of.last);
    of.candidates = row.page_count - of.first - of.last;
    of.wanted = of.count - of.first - of.last;
    return of;
}

SKIM_DEVICE bool is_selected(const skim_row &row)
{
    return (row.flags & SKIM_ROW_DENSE) == 0 && row.query_count != 0;
}

SKIM_DEVICE const float *find_scores(const skim_cuda_select_launch &launch, uint64_t list,
                                     uint32_t head)
{
    return at<const float>(launch.scores) + (list * launch.list_heads + head) * launch.score_stride;
}

SKIM_DEVICE uint32_t *find_list(const skim_cuda_select_launch &launch, uint64_t list)
{
    return at<uint32_t>(launch.lists) + list * launch.list_stride;
}

SKIM_DEVICE void write_forced(const selection &of, uint32_t *list)
{
    for (uint32_t i = thread_index(); i < of.first; i += thread_count())
        list[i] = i;
    for (uint32_t i = thread_index(); i < of.last; i += thread_count())
        list[of.count - of.last + i] = of.row.page_count - of.last + i;
}

// ---- keys

// Larger scores have larger keys; both zeros have the same.
SKIM_DEVICE uint32_t key_of(float score)
{
    const uint32_t bits = as_bits(score == 0 ? 0 : score);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Of all threads of a block, in a fixed order.
SKIM_DEVICE float reduce_max(float *of_warps, float x)
{
    SKIM_UNROLL
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        x = larger(x, shuffle_xor(x, distance));
    synchronise();
    if (thread_index() % WARP == 0)
        of_warps[thread_index() / WARP] = x;
    synchronise();
    x = of_warps[0];
    for (uint32_t w = 1; w < thread_count() / WARP; w++)
        x = larger(x, of_warps[w]);
    return x;
}

SKIM_DEVICE float reduce_sum(float *of_warps, float x)
{
    SKIM_UNROLL
    for (uint32_t distance = WARP / 2; distance > 0; distance /= 2)
        x += shuffle_xor(x, distance);
    synchronise();
    if (thread_index() % WARP == 0)
        of_warps[thread_index() / WARP] = x;
    synchronise();
    x = of_warps[0];
    for (uint32_t w = 1; w < thread_count() / WARP; w++)
        x += of_warps[w];
    return x;
}

// Maximum and, relative to it, sum of exponentials of scores begin .. end - 1, in base 2.
SKIM_DEVICE void sum_exponentials(const float *scores, float scale, uint32_t begin, uint32_t end,
                                  float *of_warps, float *top, float *sum)
{
    float highest = LOWEST;
    for (uint32_t i = begin + thread_index(); i < end; i += thread_count())
        highest = larger(highest, scores[i] * scale);
    highest = reduce_max(of_warps, highest);
    float own = 0;
    for (uint32_t i = begin + thread_index(); i < end; i += thread_count())
        own += exp2_fast(scores[i] * scale - highest);
    *top = highest;
    *sum = reduce_sum(of_warps, own);
}

// A page's score for the list; lse has the heads' logsumexp for the softmax forms.
SKIM_DEVICE float combine_scores(const skim_cuda_select_launch &launch, uint64_t list,
                                 uint32_t page, uint32_t heads, const float *lse)
{
    const float scale = launch.scale * LOG2_E;
    float highest = LOWEST, sum = 0;
    for (uint32_t h = 0; h < heads; h++) {
        float score = find_scores(launch, list, h)[page];
        if (launch.combine >= SOFTMAX_MAX)
            score = score * scale - lse[h];
        highest = larger(highest, score);
        sum += score;
    }
    if (launch.combine == MEAN)
        return sum / (float)heads;
    if (launch.combine != SOFTMAX_MEAN)
        return highest;
    sum = 0;
    for (uint32_t h = 0; h < heads; h++)
        sum += exp2_fast(find_scores(launch, list, h)[page] * scale - lse[h] - highest);
    return highest + log2_exact(sum);
}

SKIM_DEVICE uint32_t combined_heads(const skim_cuda_select_launch &launch)
{
    return SKIM_MUTANT(select_combine_first_head) ? 1 : launch.list_heads;
}

SKIM_DEVICE bool is_normalised(const skim_cuda_select_launch &launch)
{
    return launch.list_heads > 1 && launch.combine >= SOFTMAX_MAX;
}

SKIM_DEVICE uint32_t make_key(const skim_cuda_select_launch &launch, uint64_t list, uint32_t page,
                              const float *lse)
{
    return key_of(launch.list_heads == 1
                      ? find_scores(launch, list, 0)[page]
                      : combine_scores(launch, list, page, combined_heads(launch), lse));
}

// ---- the threshold

SKIM_DEVICE uint32_t shift_of(uint32_t pass)
{
    return (SKIM_CUDA_PASSES - 1 - pass) * DIGIT_BITS;
}

// Counts the digits of the keys that agree with prefix in the digits before. By all threads.
SKIM_DEVICE void count_digits(const uint32_t *keys, uint32_t count, uint32_t pass, uint32_t prefix,
                              uint32_t *counts)
{
    const uint32_t shift = shift_of(pass);
    for (uint32_t i = thread_index(); i < DIGITS; i += thread_count())
        counts[i] = 0;
    synchronise();
    for (uint32_t begin = 0; begin < count; begin += thread_count()) {
        const uint32_t i = begin + thread_index();
        const uint32_t key = i < count ? keys[i] : 0;
        // Shifts by all bits are undefined: in two.
        const bool counts_in =
            i < count && (key >> shift >> DIGIT_BITS) == (prefix >> shift >> DIGIT_BITS);
        const uint32_t digit = key >> shift & (DIGITS - 1);
        // The first digits of many scores are the same, and would queue up.
        const uint32_t of_first = shuffle(digit, 0, WARP);
        if (all_of_warp(counts_in && digit == of_first)) {
            if (thread_index() % WARP == 0)
                add_shared(&counts[digit], WARP);
        } else if (counts_in) {
            add_shared(&counts[digit], 1);
        }
    }
    synchronise();
}

// The digit of the wanted-th highest of the keys that were counted, and how many are above it. By
// the first warp; found is shared memory.
SKIM_DEVICE void find_digit(const uint32_t *counts, uint32_t wanted, uint32_t *found)
{
    constexpr uint32_t OWN = DIGITS / WARP;
    const uint32_t lane = thread_index();
    uint32_t own = 0;
    SKIM_UNROLL
    for (uint32_t i = 0; i < OWN; i++)
        own += counts[DIGITS - 1 - (lane * OWN + i)];
    uint32_t reached = own; // by digits as high as the lane's
    SKIM_UNROLL
    for (uint32_t distance = 1; distance < WARP; distance *= 2) {
        const uint32_t more = shuffle_up(reached, distance);
        reached += lane >= distance ? more : 0;
    }
    uint32_t above = reached - own;
    if (above >= wanted || reached < wanted)
        return;
    for (uint32_t i = 0; i < OWN; i++) {
        const uint32_t digit = DIGITS - 1 - (lane * OWN + i);
        if (above + counts[digit] >= wanted) {
            found[0] = digit;
            found[1] = above;
            return;
        }
        above += counts[digit];
    }
}

// What is known after some digits: the threshold's (the others are 0), and how many are still
// wanted of the keys that have them.
struct threshold {
    uint32_t key, wanted;
};

SKIM_DEVICE threshold refine(threshold of, const uint32_t *counts, uint32_t pass, uint32_t *found)
{
    if (thread_index() < WARP)
        find_digit(counts, of.wanted, found);
    synchronise();
    of.key |= found[0] << shift_of(pass);
    of.wanted -= found[1];
    synchronise();
    return of;
}

// ---- the list

// Keys of a warp's own candidates, which lie together.
struct warp_run {
    uint32_t begin, end;
};

SKIM_DEVICE warp_run find_run(uint32_t candidates)
{
    const uint32_t warps = thread_count() / WARP;
    const uint32_t length = (candidates + WARP * warps - 1) / (WARP * warps) * WARP;
    const uint32_t begin = smaller(thread_index() / WARP * length, candidates);
    return {begin, smaller(begin + length, candidates)};
}

struct rank {
    uint32_t above, ties; // the threshold, at it
};

SKIM_DEVICE rank count_run(const uint32_t *keys, warp_run run, uint32_t threshold)
{
    rank own = {0, 0};
    for (uint32_t first = run.begin; first < run.end; first += WARP) {
        const uint32_t i = first + thread_index() % WARP;
        const uint32_t key = i < run.end ? keys[i] : 0;
        own.above += count_bits(lanes_with(i < run.end && key > threshold));
        own.ties += count_bits(lanes_with(i < run.end && key == threshold));
    }
    return own;
}

// Writes the chosen ones of candidates, whose first is page first: keys above the threshold, and
// those at it from number skipped on, wanted of them. before and ties count other blocks' and all
// blocks' keys.
SKIM_DEVICE void write_chosen(const uint32_t *keys, uint32_t candidates, uint32_t first,
                              threshold of, rank before, uint32_t skipped, rank *of_warps,
                              uint32_t *list)
{
    const warp_run run = find_run(candidates);
    const rank own = count_run(keys, run, of.key);
    const uint32_t lane = thread_index() % WARP, lower = (1u << lane) - 1;
    if (lane == 0)
        of_warps[thread_index() / WARP] = own;
    synchronise();
    for (uint32_t w = 0; w < thread_index() / WARP; w++) {
        before.above += of_warps[w].above;
        before.ties += of_warps[w].ties;
    }
    for (uint32_t begin = run.begin; begin < run.end; begin += WARP) {
        const uint32_t i = begin + lane;
        const uint32_t key = i < run.end ? keys[i] : 0;
        const bool is_above = i < run.end && key > of.key, is_tie = i < run.end && key == of.key;
        const uint32_t above = lanes_with(is_above), ties = lanes_with(is_tie);
        const uint32_t tie = before.ties + count_bits(ties & lower);
        // Of the ties before this one so many are on the list.
        const uint32_t taken = smaller(tie - smaller(tie, skipped), of.wanted);
        if (is_above || (is_tie && tie >= skipped && tie - skipped < of.wanted))
            list[before.above + count_bits(above & lower) + taken] = first + i;
        before.above += count_bits(above);
        before.ties += count_bits(ties);
    }
}

// ---- one block a list

SKIM_KERNEL(1024, 1) skim_select_near(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_DYNAMIC_SHARED(uint32_t, keys);
    SKIM_SHARED(float, lse, SKIM_HEADS_MAX);
    SKIM_SHARED(float, of_warps, WARPS_MAX);
    SKIM_SHARED(uint32_t, counts, DIGITS);
    SKIM_SHARED(rank, ranks, WARPS_MAX);
    SKIM_SHARED(uint32_t, found, 2);
    const skim_row row = load_row(launch.rows, block_y());
    if (!is_selected(row))
        return;
    const uint64_t index = (uint64_t)block_y() * launch.lists_per_row + block_x();
    const selection of = find_selection(row);
    uint32_t *list = find_list(launch, index);
    write_forced(of, list);
    if (of.wanted == 0)
        return;
    for (uint32_t h = 0; is_normalised(launch) && h < combined_heads(launch); h++) {
        const bool all = SKIM_MUTANT(select_softmax_all_pages);
        float top, sum;
        sum_exponentials(find_scores(launch, index, h), launch.scale * LOG2_E, all ? 0 : of.first,
                         all ? row.page_count : of.first + of.candidates, of_warps, &top, &sum);
        if (thread_index() == 0)
            lse[h] = top + log2_exact(sum);
    }
    synchronise();
    for (uint32_t i = thread_index(); i < of.candidates; i += thread_count())
        keys[i] = make_key(launch, index, of.first + i, lse);
    threshold lowest = {0, of.wanted};
    for (uint32_t pass = 0; pass < SKIM_CUDA_PASSES; pass++) {
        count_digits(keys, of.candidates, pass, lowest.key, counts);
        lowest = refine(lowest, counts, pass, found);
    }
    const uint32_t ties = counts[lowest.key & (DIGITS - 1)];
    const uint32_t skipped = SKIM_MUTANT(select_ties_high) ? ties - lowest.wanted : 0;
    write_chosen(keys, of.candidates, of.first, lowest, {0, 0}, skipped, ranks, list + of.first);
}

// ---- several blocks a list

constexpr uint32_t SEGMENT_THREADS = SKIM_SELECT_THREADS;

// A block's part of a list's candidates.
struct segment {
    uint64_t list; // of all rows
    selection of;
    uint32_t begin, end, used; // used: segments that have any
};

SKIM_DEVICE bool find_segment(const skim_cuda_select_launch &launch, segment *own)
{
    const skim_row row = load_row(launch.rows, block_z());
    own->list = (uint64_t)block_z() * launch.lists_per_row + block_y();
    own->of = find_selection(row);
    own->used = divide_up(own->of.candidates, launch.segment);
    own->begin = smaller(block_x() * launch.segment, own->of.candidates);
    own->end = smaller(own->begin + launch.segment, own->of.candidates);
    return is_selected(row) && own->of.wanted > 0 && own->begin < own->end;
}

SKIM_DEVICE uint32_t *find_keys(const skim_cuda_select_launch &launch, const segment &own)
{
    return at<uint32_t>(launch.keys) + own.list * launch.key_stride + own.begin;
}

SKIM_DEVICE uint32_t *find_counts(const skim_cuda_select_launch &launch, uint64_t list,
                                  uint32_t pass, uint32_t of_segment)
{
    const uint64_t of_pass = list * SKIM_CUDA_PASSES + pass;
    return at<uint32_t>(launch.counts) + (of_pass * launch.segments + of_segment) * DIGITS;
}

SKIM_DEVICE threshold *find_state(const skim_cuda_select_launch &launch, uint64_t list,
                                  uint32_t pass)
{
    return at<threshold>(launch.states) + list * (1 + SKIM_CUDA_PASSES) + pass;
}

SKIM_DEVICE float *find_sums(const skim_cuda_select_launch &launch, uint64_t list, uint32_t head,
                             uint32_t of_segment)
{
    const uint64_t of_head = list * launch.list_heads + head;
    return at<float>(launch.sums) + (of_head * launch.segments + of_segment) * 2;
}

SKIM_KERNEL(SEGMENT_THREADS, 4)
skim_select_sums(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_SHARED(float, of_warps, WARPS_MAX);
    segment own;
    if (!find_segment(launch, &own))
        return;
    for (uint32_t h = 0; h < combined_heads(launch); h++) {
        float top, sum;
        sum_exponentials(find_scores(launch, own.list, h), launch.scale * LOG2_E,
                         own.of.first + own.begin, own.of.first + own.end, of_warps, &top, &sum);
        if (thread_index() == 0) {
            float *sums = find_sums(launch, own.list, h, block_x());
            sums[0] = top;
            sums[1] = sum;
        }
    }
}

// The segments' sums of one head as one, in their order.
SKIM_DEVICE float join_sums(const skim_cuda_select_launch &launch, const segment &own,
                            uint32_t head)
{
    float top = LOWEST, sum = 0;
    for (uint32_t s = 0; s < own.used; s++)
        top = larger(top, find_sums(launch, own.list, head, s)[0]);
    for (uint32_t s = 0; s < own.used; s++) {
        const float *sums = find_sums(launch, own.list, head, s);
        sum += sums[1] * exp2_fast(sums[0] - top);
    }
    return top + log2_exact(sum);
}

// The digits of a pass in all segments together.
SKIM_DEVICE void join_counts(const skim_cuda_select_launch &launch, const segment &own,
                             uint32_t pass, uint32_t *counts)
{
    for (uint32_t digit = thread_index(); digit < DIGITS; digit += SEGMENT_THREADS) {
        uint32_t sum = 0;
        SKIM_UNROLL_BY(unroll 8)
        for (uint32_t s = 0; s < own.used; s++)
            sum += find_counts(launch, own.list, pass, s)[digit];
        counts[digit] = sum;
    }
    synchronise();
}

// The state after passes 0 .. pass - 1: every block of a list finds the last of their digits anew,
// and the first one leaves it for the next launch.
SKIM_DEVICE threshold advance_state(const skim_cuda_select_launch &launch, const segment &own,
                                    uint32_t pass, uint32_t *counts, uint32_t *found)
{
    threshold state = {0, own.of.wanted};
    if (pass > 1)
        state = *find_state(launch, own.list, pass - 1);
    join_counts(launch, own, pass - 1, counts);
    state = refine(state, counts, pass - 1, found);
    if (block_x() == 0 && thread_index() == 0)
        *find_state(launch, own.list, pass) = state;
    return state;
}

SKIM_DEVICE void store_counts(const skim_cuda_select_launch &launch, const segment &own,
                              uint32_t pass, const uint32_t *counts)
{
    for (uint32_t digit = thread_index(); digit < DIGITS; digit += SEGMENT_THREADS)
        find_counts(launch, own.list, pass, block_x())[digit] = counts[digit];
}

SKIM_KERNEL(SEGMENT_THREADS, 4)
skim_select_keys(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_SHARED(float, lse, SKIM_HEADS_MAX);
    SKIM_SHARED(uint32_t, counts, DIGITS);
    segment own;
    if (!find_segment(launch, &own))
        return;
    if (is_normalised(launch))
        for (uint32_t h = thread_index(); h < combined_heads(launch); h += SEGMENT_THREADS)
            lse[h] = join_sums(launch, own, h);
    synchronise();
    uint32_t *keys = find_keys(launch, own);
    for (uint32_t i = thread_index(); i < own.end - own.begin; i += SEGMENT_THREADS)
        keys[i] = make_key(launch, own.list, own.of.first + own.begin + i, lse);
    synchronise();
    count_digits(keys, own.end - own.begin, 0, 0, counts);
    store_counts(launch, own, 0, counts);
}

SKIM_KERNEL(SEGMENT_THREADS, 4)
skim_select_count(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_SHARED(uint32_t, counts, DIGITS);
    SKIM_SHARED(uint32_t, found, 2);
    segment own;
    if (!find_segment(launch, &own))
        return;
    const threshold state = advance_state(launch, own, launch.pass, counts, found);
    count_digits(find_keys(launch, own), own.end - own.begin, launch.pass, state.key, counts);
    store_counts(launch, own, launch.pass, counts);
}

SKIM_KERNEL(SEGMENT_THREADS, 4)
skim_select_ranks(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_SHARED(uint32_t, counts, DIGITS);
    SKIM_SHARED(uint32_t, found, 2);
    SKIM_SHARED(rank, ranks, WARPS_MAX);
    segment own;
    if (!find_segment(launch, &own))
        return;
    const threshold state = advance_state(launch, own, SKIM_CUDA_PASSES, counts, found);
    const rank of_warp =
        count_run(find_keys(launch, own), find_run(own.end - own.begin), state.key);
    if (thread_index() % WARP == 0)
        ranks[thread_index() / WARP] = of_warp;
    synchronise();
    if (thread_index() > 0)
        return;
    rank all = {0, 0};
    for (uint32_t w = 0; w < SEGMENT_THREADS / WARP; w++) {
        all.above += ranks[w].above;
        all.ties += ranks[w].ties;
    }
    at<rank>(launch.ranks)[own.list * launch.segments + block_x()] = all;
}

SKIM_KERNEL(SEGMENT_THREADS, 4)
skim_select_write(SKIM_PARAMETER const skim_cuda_select_launch launch)
{
    SKIM_SHARED(rank, of_warps, WARPS_MAX);
    const skim_row row = load_row(launch.rows, block_z());
    segment own;
    const bool chooses = find_segment(launch, &own);
    if (!is_selected(row))
        return;
    uint32_t *list = find_list(launch, own.list);
    if (block_x() == 0)
        write_forced(own.of, list);
    if (!chooses)
        return;
    const threshold state = *find_state(launch, own.list, SKIM_CUDA_PASSES);
    const rank *ranks = at<const rank>(launch.ranks) + own.list * launch.segments;
    rank before = {0, 0};
    uint32_t ties = 0;
    for (uint32_t s = 0; s < own.used; s++) {
        before.above += s < block_x() ? ranks[s].above : 0;
        before.ties += s < block_x() ? ranks[s].ties : 0;
        ties += ranks[s].ties;
    }
    const uint32_t skipped = SKIM_MUTANT(select_ties_high) ? ties - state.wanted : 0;
    write_chosen(find_keys(launch, own), own.end - own.begin, own.of.first + own.begin, state,
                 before, skipped, of_warps, list + own.of.first);
}
