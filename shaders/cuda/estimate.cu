// Scores of pages from their bounds. A block takes some pages of one row and up to HEADS query
// heads of one kv head. LANES threads share a page, and each reads every LANES-th unit of its
// bounds, PAGES pages at a time.
#include "shaders/cuda/common.cuh"

constexpr uint32_t ESTIMATE_LANES = 8, ESTIMATE_GROUPS = SKIM_THREADS / ESTIMATE_LANES;

// Pages that a thread holds at once.
SKIM_CONSTANT uint32_t estimate_pages(uint32_t heads)
{
    return SKIM_CUDA_ESTIMATE_PAGES(heads);
}

// A row's query head as two weights a channel: a of B0, b of B1.
struct estimate_query {
    uint64_t address;
    uint32_t type, dim;

    SKIM_DEVICE void load(uint32_t c, float *q) const
    {
        load_elements(address, c, dim, type, q);
        if (SKIM_MUTANT(estimate_drops_channel) && c + 8 >= dim)
            q[0] = q[1] = q[2] = q[3] = 0;
    }
};

SKIM_DEVICE estimate_query find_query(const skim_cuda_estimate_launch &launch, const skim_row &row,
                                      uint32_t head)
{
    return {find_element(launch.q, row.query_start, launch.q_token, head, launch.q_head),
            type_of(launch.q_head), dim_of(launch.shape)};
}

SKIM_DEVICE void weigh(const skim_cuda_estimate_launch &launch, bool of_b1, float *q)
{
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        // Comparisons that keep a NaN, so that it reaches the score.
        if (launch.kind == MINMAX)
            q[i] = of_b1 ? (q[i] > 0 ? 0 : q[i]) : (q[i] < 0 ? 0 : q[i]);
        else
            q[i] = of_b1 ? launch.spread * magnitude(q[i]) : q[i];
    }
}

template <uint32_t COLUMN, uint32_t DIM_GIVEN, uint32_t HEADS>
SKIM_DEVICE void estimate(const skim_cuda_estimate_launch &launch)
{
    constexpr uint32_t CHANNELS = channels_of(COLUMN), VECTORS = CHANNELS / 4;
    constexpr uint32_t HALF_MAX = divide_up(DIM_GIVEN ? DIM_GIVEN : DIM_MAX, CHANNELS);
    constexpr uint32_t LANES = ESTIMATE_LANES, GROUPS = ESTIMATE_GROUPS;
    constexpr uint32_t PAGES = estimate_pages(HEADS), SUMS = HEADS * PAGES;
    constexpr uint32_t CENTRE_LANES = 16;
    // Units of a page that a thread loads at once.
    [[maybe_unused]] constexpr uint32_t AT_ONCE = HEADS > 4 || DIM_GIVEN == 0 ? 1
                                                  : COLUMN == I8              ? 2
                                                                              : 4;
    const uint32_t dim = DIM_GIVEN ? DIM_GIVEN : dim_of(launch.shape);
    const uint32_t half = DIM_GIVEN ? HALF_MAX : divide_up(dim, CHANNELS);
    const uint32_t units = 2 * half; // of a page
    const uint32_t group_size = group_of(launch.shape);
    SKIM_SHARED(unit4, weights, HEADS * VECTORS * 2 * HALF_MAX); // [head][vector][unit]
    SKIM_SHARED(float, offsets, HEADS *CENTRE_LANES);            // parts of the sum over the centre

    const skim_row row = load_row(launch.rows, block_z());
    const uint32_t first_page = block_x() * GROUPS * PAGES;
    if ((row.flags & SKIM_ROW_DENSE) != 0 || row.query_count == 0 || first_page >= row.page_count)
        return;
    const uint32_t chunks = divide_up(group_size, HEADS);
    const uint32_t kv_heads = grid_y() / chunks, kv_head = block_y() / chunks;
    const uint32_t in_group = block_y() % chunks * HEADS;
    const uint32_t first_head = kv_head * group_size + in_group;
    const uint32_t heads = smaller(HEADS, group_size - in_group);

    const uint32_t lane = thread_index() % LANES, group = thread_index() / LANES;
    const uint32_t *table = find_table(launch.table, row);
    const unit4 *bounds[PAGES];
    float scales[PAGES][2];
    SKIM_UNROLL
    for (uint32_t p = 0; p < PAGES; p++) {
        const uint32_t page = smaller(first_page + p * GROUPS + group, row.page_count - 1);
        const uint64_t place = (uint64_t)kv_head * launch.slots + table[page];
        bounds[p] = at<const unit4>(launch.bounds) + place * units;
        if (COLUMN == I8) {
            const uint64_t scale = (uint64_t)kv_heads * launch.slots * units * sizeof(unit4);
            const float *of_page = at<const float>(launch.bounds + scale) + 2 * place;
            scales[p][0] = of_page[0];
            scales[p][1] = of_page[1];
        }
    }

    for (uint32_t i = thread_index(); i < HEADS * VECTORS * units; i += SKIM_THREADS) {
        const uint32_t unit = i % units, v = i / units % VECTORS, h = i / (units * VECTORS);
        float q[4] = {0, 0, 0, 0};
        if (h < heads)
            find_query(launch, row, first_head + h).load((unit % half * VECTORS + v) * 4, q);
        weigh(launch, (unit >= half) != SKIM_MUTANT(estimate_swaps_bounds), q);
        weights[i] = {as_bits(q[0]), as_bits(q[1]), as_bits(q[2]), as_bits(q[3])};
    }
    if (COLUMN == I8 && thread_index() < HEADS * CENTRE_LANES) {
        // Both kinds have the same: the sum of a * c0 and b * c1 is that of q * c0.
        const uint32_t h = thread_index() / CENTRE_LANES;
        const uint64_t centre = launch.centre + (uint64_t)kv_head * dim * sizeof(float);
        float sum = 0;
        if (h < heads && !SKIM_MUTANT(estimate_i8_no_centre)) {
            for (uint32_t c = thread_index() % CENTRE_LANES * 4; c < dim; c += 4 * CENTRE_LANES) {
                float q[4], c0[4];
                find_query(launch, row, first_head + h).load(c, q);
                load_elements(centre, c, dim, F32, c0);
                sum += q[0] * c0[0] + q[1] * c0[1] + q[2] * c0[2] + q[3] * c0[3];
            }
        }
        offsets[thread_index()] = sum;
    }
    synchronise();

    float sums[SUMS];
    SKIM_UNROLL
    for (uint32_t i = 0; i < SUMS; i++)
        sums[i] = 0;
    SKIM_UNROLL_BY(unroll(AT_ONCE))
    for (uint32_t unit = lane; unit < units; unit += LANES) {
        unit4 bits[PAGES];
        SKIM_UNROLL
        for (uint32_t p = 0; p < PAGES; p++)
            bits[p] = load_unit(bounds[p] + unit);
        float parts[SUMS];
        SKIM_UNROLL
        for (uint32_t i = 0; i < SUMS; i++)
            parts[i] = COLUMN == I8 ? 0 : sums[i];
        SKIM_UNROLL
        for (uint32_t v = 0; v < VECTORS; v++) {
            float x[PAGES][4];
            SKIM_UNROLL
            for (uint32_t p = 0; p < PAGES; p++)
                unpack<COLUMN>(bits[p], v, x[p]);
            SKIM_UNROLL
            for (uint32_t h = 0; h < HEADS; h++) {
                const unit4 weight = weights[(h * VECTORS + v) * units + unit];
                SKIM_UNROLL
                for (uint32_t p = 0; p < PAGES; p++)
                    SKIM_UNROLL
                for (uint32_t i = 0; i < 4; i++)
                    parts[h * PAGES + p] += x[p][i] * as_float(weight.word[i]);
            }
        }
        SKIM_UNROLL
        for (uint32_t i = 0; i < SUMS; i++) {
            const float scale = unit < half ? scales[i % PAGES][0] : scales[i % PAGES][1];
            sums[i] = COLUMN == I8 ? sums[i] + scale * parts[i] : parts[i];
        }
    }

    constexpr uint32_t OWN = SUMS > LANES ? SUMS / LANES : 1;
    const uint32_t first = scatter_sums<SUMS, LANES>(sums, lane);
    SKIM_UNROLL
    for (uint32_t i = 0; i < OWN; i++) {
        const uint32_t h = (first + i) / PAGES, p = (first + i) % PAGES;
        const uint32_t page = first_page + p * GROUPS + group;
        // Where there are fewer sums than lanes, several lanes have each.
        if (h >= heads || page >= row.page_count || lane % (OWN * LANES / SUMS) != 0)
            continue;
        float score = sums[i];
        for (uint32_t c = 0; COLUMN == I8 && c < CENTRE_LANES; c++)
            score += offsets[h * CENTRE_LANES + c];
        const uint64_t list = (uint64_t)block_z() * kv_heads * group_size + first_head + h;
        at<float>(launch.scores)[list * launch.score_stride + page] = score;
    }
}

#define SKIM_CUDA_DEFINE(column, COLUMN, dim, heads)                                               \
    SKIM_KERNEL(SKIM_THREADS, 4)                                                                   \
    skim_estimate_##column##_##dim##_##heads(                                                      \
        SKIM_PARAMETER const skim_cuda_estimate_launch launch)                                     \
    {                                                                                              \
        estimate<COLUMN, dim, heads>(launch);                                                      \
    }
SKIM_CUDA_ESTIMATE_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE
