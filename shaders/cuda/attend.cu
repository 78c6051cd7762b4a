// Attention of rows with one query over the pages of a list, or over all. A block takes one part of
// one list for up to HEADS query heads of a kv head. LANES threads share a token; every such group
// of threads goes through its own tokens with a softmax of its own, and at the end the groups'
// results are merged: nothing is waited for in between. The block that is the last of its list to
// finish merges the parts, in their order.
#include "shaders/cuda/attend.cuh"

constexpr uint32_t ATTEND_BATCH = SKIM_THREADS; // pages whose slots are looked up at a time

// Threads that share a token: so many that no thread sums up more than 64 channels of all heads.
SKIM_CONSTANT uint32_t attend_lanes(uint32_t dim, uint32_t heads)
{
    return heads * dim / 64 < 8 ? 8 : heads * dim / 64;
}

// Tokens that a thread holds at once: no more than 8 units of keys.
SKIM_CONSTANT uint32_t attend_tokens(uint32_t turns)
{
    return turns <= 2 ? 4 : turns <= 4 ? 2 : 1;
}

template <uint32_t TYPE, uint32_t DIM_GIVEN, uint32_t HEADS> struct attend_sizes {
    static constexpr uint32_t DIM_MOST = DIM_GIVEN ? DIM_GIVEN : DIM_MAX;
    static constexpr uint32_t CHANNELS = channels_of(TYPE), VECTORS = CHANNELS / 4;
    static constexpr uint32_t UNITS_MAX = DIM_MOST / CHANNELS;
    static constexpr uint32_t LANES = attend_lanes(DIM_MOST, HEADS);
    static constexpr uint32_t GROUPS = SKIM_THREADS / LANES;
    static constexpr uint32_t TURNS = divide_up(UNITS_MAX, LANES); // units of a thread
    static constexpr uint32_t TOKENS = attend_tokens(TURNS), TILE = GROUPS * TOKENS;
    static constexpr uint32_t SCORES =
        HEADS * TOKENS; // of a thread; the lanes share their softmax:
    static constexpr uint32_t OWN = SCORES > LANES ? SCORES / LANES : 1;
    static constexpr uint32_t COPIES = SCORES < LANES ? LANES / SCORES : 1; // lanes with the same
    static_assert(LANES <= 32 && OWN <= TOKENS, "a lane's scores are of one head");
    // Lanes whose scores are of one head are COPIES, 2 COPIES ... apart, up to this.
    static constexpr uint32_t HEAD_LANES = COPIES * (TOKENS / OWN);
};

// Slots and tokens of the list's pages first .. end - 1, as many as fit.
SKIM_DEVICE void load_pages(const skim_cuda_attend_launch &launch, const skim_row &row,
                            uint64_t list_index, uint32_t first, uint32_t end, uint32_t *slots,
                            uint32_t *valid)
{
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t i = first + thread_index();
    uint32_t slot = 0, tokens = 0;
    if (i < end) {
        uint32_t page = i;
        if (is_listed(launch, row))
            page = at<const uint32_t>(launch.lists)[list_index * launch.list_stride + i];
        slot = slot_of(launch, row, page);
        tokens = smaller(row.length - (page << shift), page_size);
        if (page == row.page_count - 1) {
            if (SKIM_MUTANT(attend_drops_last_token))
                tokens--;
            if (SKIM_MUTANT(attend_reads_past_end) && tokens < page_size)
                tokens++;
        }
    }
    synchronise();
    slots[thread_index()] = slot;
    valid[thread_index()] = tokens;
    synchronise();
}

// Adds up the parts of one list, for the block's heads; by all threads of its last block.
SKIM_DEVICE void merge_parts(const skim_cuda_attend_launch &launch, const skim_row &row,
                             uint32_t first_head, uint32_t heads, uint32_t all_heads,
                             uint32_t parts)
{
    const uint32_t dim = dim_of(launch.shape), stride = 4 + dim;
    for (uint32_t i = thread_index(); i < heads * (dim / 4); i += SKIM_THREADS) {
        const uint32_t head = first_head + i / (dim / 4), c = i % (dim / 4) * 4;
        const float *partial = find_partial(launch, block_z(), head, all_heads, 0);
        float top = LOWEST;
        SKIM_UNROLL_BY(unroll 8)
        for (uint32_t p = 0; p < parts; p++)
            top = larger(top, load_shared_by_blocks(partial + p * stride));
        float sum = 0, found[4] = {0, 0, 0, 0};
        SKIM_UNROLL_BY(unroll 4)
        for (uint32_t p = 0; p < parts; p++) {
            const float *of_part = partial + p * stride;
            const unit4 out = load_shared_by_blocks((const unit4 *)(of_part + 4 + c));
            const float weight = SKIM_MUTANT(attend_merge_unweighted)
                                     ? 1.0f
                                     : exp2_fast(load_shared_by_blocks(of_part) - top);
            sum += weight * load_shared_by_blocks(of_part + 1);
            SKIM_UNROLL
            for (uint32_t j = 0; j < 4; j++)
                found[j] += weight * as_float(out.word[j]);
        }
        store_out(launch, row.query_start, head, c, found, sum);
        if (c == 0)
            store_lse(launch, row.query_start, head, top, sum);
    }
}

template <uint32_t TYPE, uint32_t DIM_GIVEN, uint32_t HEADS>
SKIM_DEVICE void attend(const skim_cuda_attend_launch &launch)
{
    using sizes = attend_sizes<TYPE, DIM_GIVEN, HEADS>;
    constexpr uint32_t VECTORS = sizes::VECTORS, LANES = sizes::LANES, GROUPS = sizes::GROUPS;
    constexpr uint32_t TURNS = sizes::TURNS, TOKENS = sizes::TOKENS, OWN = sizes::OWN;
    constexpr uint32_t COPIES = sizes::COPIES, DIM_MOST = sizes::DIM_MOST;
    constexpr uint32_t CHANNELS = TURNS * sizes::CHANNELS; // of a thread
    const uint32_t dim = DIM_GIVEN ? DIM_GIVEN : dim_of(launch.shape);
    const uint32_t units = dim / sizes::CHANNELS;
    SKIM_SHARED(unit4, queries, HEADS * DIM_MOST / 4); // [head][vector][unit]
    SKIM_SHARED(uint32_t, slots, ATTEND_BATCH);
    SKIM_SHARED(uint32_t, valid, ATTEND_BATCH);        // tokens of the page
    SKIM_SHARED(unit4, merged, GROUPS * DIM_MOST / 4); // [group][channel]
    SKIM_SHARED(float, tops, HEADS *GROUPS);
    SKIM_SHARED(float, totals, HEADS *GROUPS);
    SKIM_SHARED(uint32_t, arrived, 1);

    const skim_row row = load_row(launch.rows, block_z());
    const uint32_t parts = count_parts(launch, row), part = block_x();
    if (row.query_count != 1 || part >= parts ||
        launch.rows_taken ==
            (is_listed(launch, row) ? SKIM_CUDA_ROWS_DENSE : SKIM_CUDA_ROWS_LISTED))
        return;
    const uint32_t group_size = group_of(launch.shape), chunks = divide_up(group_size, HEADS);
    const uint32_t kv_heads = grid_y() / chunks, kv_head = block_y() / chunks;
    const uint32_t in_group = block_y() % chunks * HEADS;
    const uint32_t first_head = kv_head * group_size + in_group;
    const uint32_t heads = smaller(HEADS, group_size - in_group);
    const uint64_t list_index = launch.has_head_lists
                                    ? (uint64_t)block_z() * kv_heads * group_size + first_head
                                    : (uint64_t)block_z() * kv_heads + kv_head;
    const uint32_t pages = count_pages(launch, row);
    const uint32_t first_page = pages / parts * part + smaller(pages % parts, part);
    const uint32_t end_page = first_page + pages / parts + (part < pages % parts ? 1 : 0);

    const float scale = launch.scale * LOG2_E;
    for (uint32_t i = thread_index(); i < HEADS * (dim / 4); i += SKIM_THREADS) {
        const uint32_t unit = i % units, v = i / units % VECTORS, h = i / (dim / 4);
        float q[4] = {0, 0, 0, 0};
        if (h < heads)
            load_elements(find_query(launch, row.query_start, first_head + h),
                          (unit * VECTORS + v) * 4, dim, type_of(launch.q_head), q);
        queries[i] = {as_bits(scale * q[0]), as_bits(scale * q[1]), as_bits(scale * q[2]),
                      as_bits(scale * q[3])};
    }

    const uint32_t lane = thread_index() % LANES, group = thread_index() / LANES;
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const unit4 *keys =
        at<const unit4>(launch.keys) + (uint64_t)stored_head(kv_head) * launch.key_head;
    const unit4 *values =
        at<const unit4>(launch.values) + (uint64_t)stored_head(kv_head) * launch.value_head;

    float highest = LOWEST, total = 0; // of the head that the lane's own scores are of
    float found[HEADS][CHANNELS];
    SKIM_UNROLL
    for (uint32_t h = 0; h < HEADS; h++)
        SKIM_UNROLL
    for (uint32_t i = 0; i < CHANNELS; i++)
        found[h][i] = 0;

    for (uint32_t batch = first_page; batch < end_page; batch += ATTEND_BATCH) {
        load_pages(launch, row, list_index, batch, end_page, slots, valid);
        const uint32_t tokens = smaller(end_page - batch, ATTEND_BATCH) << shift;
        for (uint32_t tile = 0; tile < tokens; tile += sizes::TILE) {
            unit4 key[TURNS][TOKENS], value[TURNS][TOKENS];
            uint32_t is_valid = 0; // a bit per token
            SKIM_UNROLL
            for (uint32_t t = 0; t < TOKENS; t++) {
                const uint32_t token = tile + t * GROUPS + group;
                const uint32_t page = smaller(token >> shift, ATTEND_BATCH - 1);
                const uint32_t in_page = token & (page_size - 1);
                const bool is = token < tokens && in_page < valid[page];
                is_valid |= is ? 1u << t : 0;
                const unit4 *of_key = keys + (uint64_t)slots[page] * launch.key_page +
                                      (uint64_t)in_page * launch.key_token + lane;
                const unit4 *of_value = values + (uint64_t)slots[page] * launch.value_page +
                                        (uint64_t)in_page * launch.value_token + lane;
                // What is left out may be NaN: it is not read.
                SKIM_UNROLL
                for (uint32_t turn = 0; turn < TURNS; turn++) {
                    const bool reads = is && (DIM_GIVEN ? sizes::UNITS_MAX % LANES == 0 ||
                                                              turn * LANES + lane < units
                                                        : turn * LANES + lane < units);
                    key[turn][t] = value[turn][t] = {0, 0, 0, 0};
                    if (reads) {
                        key[turn][t] = load_unit(of_key + turn * LANES);
                        value[turn][t] = load_unit(of_value + turn * LANES);
                    }
                }
            }

            float scores[sizes::SCORES];
            SKIM_UNROLL
            for (uint32_t i = 0; i < sizes::SCORES; i++)
                scores[i] = 0;
            SKIM_UNROLL
            for (uint32_t turn = 0; turn < TURNS; turn++) {
                const uint32_t unit = smaller(turn * LANES + lane, units - 1);
                SKIM_UNROLL
                for (uint32_t v = 0; v < VECTORS; v++) {
                    float x[TOKENS][4];
                    SKIM_UNROLL
                    for (uint32_t t = 0; t < TOKENS; t++)
                        unpack<TYPE>(key[turn][t], v, x[t]);
                    SKIM_UNROLL
                    for (uint32_t h = 0; h < HEADS; h++) {
                        const unit4 query = queries[(h * VECTORS + v) * units + unit];
                        SKIM_UNROLL
                        for (uint32_t t = 0; t < TOKENS; t++)
                            SKIM_UNROLL
                        for (uint32_t i = 0; i < 4; i++)
                            scores[h * TOKENS + t] += x[t][i] * as_float(query.word[i]);
                    }
                }
            }

            // The lanes share the softmax: each has the scores of some tokens and one head.
            const uint32_t own = scatter_sums<sizes::SCORES, LANES>(scores, lane) % TOKENS;
            float next = highest;
            SKIM_UNROLL
            for (uint32_t i = 0; i < OWN; i++)
                if (is_valid >> (own + i) & 1)
                    next = larger(next, scores[i]);
            SKIM_UNROLL
            for (uint32_t distance = COPIES; distance < sizes::HEAD_LANES; distance *= 2)
                next = larger(next, shuffle_xor(next, distance));
            const float shrink = exp2_fast(highest - next);
            highest = next;
            total *= shrink;
            SKIM_UNROLL
            for (uint32_t i = 0; i < OWN; i++) {
                scores[i] = is_valid >> (own + i) & 1 ? exp2_fast(scores[i] - next) : 0;
                total += scores[i];
            }

            float weights[HEADS][TOKENS];
            SKIM_UNROLL
            for (uint32_t h = 0; h < HEADS; h++) {
                const float of_head = shuffle(shrink, h * TOKENS / OWN * COPIES, LANES);
                SKIM_UNROLL
                for (uint32_t i = 0; i < CHANNELS; i++)
                    found[h][i] *= of_head;
                SKIM_UNROLL
                for (uint32_t t = 0; t < TOKENS; t++)
                    weights[h][t] = shuffle(scores[(h * TOKENS + t) % OWN],
                                            (h * TOKENS + t) / OWN * COPIES, LANES);
            }
            SKIM_UNROLL
            for (uint32_t turn = 0; turn < TURNS; turn++)
                SKIM_UNROLL
            for (uint32_t v = 0; v < VECTORS; v++)
                SKIM_UNROLL
            for (uint32_t t = 0; t < TOKENS; t++) {
                float x[4];
                unpack<TYPE>(value[turn][t], v, x);
                SKIM_UNROLL
                for (uint32_t h = 0; h < HEADS; h++)
                    SKIM_UNROLL
                for (uint32_t i = 0; i < 4; i++)
                    found[h][(turn * VECTORS + v) * 4 + i] += weights[h][t] * x[i];
            }
        }
    }

    SKIM_UNROLL
    for (uint32_t distance = COPIES; distance < sizes::HEAD_LANES; distance *= 2)
        total += shuffle_xor(total, distance);
    if (lane % sizes::HEAD_LANES == 0) {
        const uint32_t h = lane / sizes::HEAD_LANES;
        tops[h * GROUPS + group] = highest;
        totals[h * GROUPS + group] = total;
    }
    const uint32_t all_heads = kv_heads * group_size;
    SKIM_UNROLL
    for (uint32_t h = 0; h < HEADS; h++) {
        synchronise();
        SKIM_UNROLL
        for (uint32_t i = 0; i < TURNS * VECTORS; i++) {
            const uint32_t unit = i / VECTORS * LANES + lane;
            if (unit < units)
                merged[(group * units + unit) * VECTORS + i % VECTORS] = {
                    as_bits(found[h][4 * i]), as_bits(found[h][4 * i + 1]),
                    as_bits(found[h][4 * i + 2]), as_bits(found[h][4 * i + 3])};
        }
        synchronise();
        if (h >= heads)
            continue;
        float top = LOWEST, sum = 0;
        for (uint32_t g = 0; g < GROUPS; g++)
            top = larger(top, tops[h * GROUPS + g]);
        for (uint32_t g = 0; g < GROUPS; g++)
            sum += totals[h * GROUPS + g] * exp2_fast(tops[h * GROUPS + g] - top);
        float *partial = find_partial(launch, block_z(), first_head + h, all_heads, part);
        for (uint32_t i = thread_index(); i < dim / 4; i += SKIM_THREADS) {
            float x[4] = {0, 0, 0, 0};
            for (uint32_t g = 0; g < GROUPS; g++) {
                const float weight = exp2_fast(tops[h * GROUPS + g] - top);
                const unit4 of_group = merged[g * (dim / 4) + i];
                SKIM_UNROLL
                for (uint32_t j = 0; j < 4; j++)
                    x[j] += weight * as_float(of_group.word[j]);
            }
            if (parts > 1)
                *(unit4 *)(partial + 4 + 4 * i) = {as_bits(x[0]), as_bits(x[1]), as_bits(x[2]),
                                                   as_bits(x[3])};
            else
                store_out(launch, row.query_start, first_head + h, 4 * i, x, sum);
        }
        if (thread_index() == 0 && parts > 1) {
            partial[0] = top;
            partial[1] = sum;
        } else if (thread_index() == 0) {
            store_lse(launch, row.query_start, first_head + h, top, sum);
        }
    }
    if (parts == 1)
        return;

    fence();
    synchronise();
    if (thread_index() == 0)
        arrived[0] = count_around(
            at<uint32_t>(launch.counters) + (uint64_t)block_z() * grid_y() + block_y(), parts - 1);
    synchronise();
    if (arrived[0] != parts - 1)
        return;
    fence();
    merge_parts(launch, row, first_head, heads, all_heads, parts);
}

#define SKIM_CUDA_DEFINE(type, TYPE, dim, heads)                                                   \
    SKIM_KERNEL(SKIM_THREADS, 2)                                                                   \
    skim_attend_##type##_##dim##_##heads(SKIM_PARAMETER const skim_cuda_attend_launch launch)      \
    {                                                                                              \
        attend<TYPE, dim, heads>(launch);                                                          \
    }
SKIM_CUDA_ATTEND_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE
