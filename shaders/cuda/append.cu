// Stores a page's new tokens of one kv head, clears what lies past its end, and computes its
// bounds. A block takes one page of one row and one kv head; a thread has the channels of one unit.
// And the centre of int8 bounds, which append waits for in the call that freezes it.
#include "shaders/cuda/common.cuh"

constexpr float STEP = 0.0078741f;             // docs/algorithm.md, "Bounds in int8"
constexpr float SCALE_MIN = 7.523163845e-37f;  // 2^-120
constexpr float SCALE_HUGE = 4.253529587e37f;  // 2^125
constexpr float MARGIN = 9.5367431640625e-07f; // 2^-20
constexpr float INFINITE = 3.4e38f;            // what is above overflowed, or nearly

SKIM_DEVICE const unit4 *find_key(const skim_cuda_append_launch &launch, uint32_t slot,
                                  uint32_t kv_head, uint32_t token)
{
    return at<const unit4>(launch.keys) + (uint64_t)slot * launch.key_page +
           (uint64_t)kv_head * launch.key_head + (uint64_t)token * launch.key_token;
}

SKIM_DEVICE unit4 *find_value(const skim_cuda_append_launch &launch, uint32_t slot,
                              uint32_t kv_head, uint32_t token)
{
    return at<unit4>(launch.values) + (uint64_t)slot * launch.value_page +
           (uint64_t)kv_head * launch.value_head + (uint64_t)token * launch.value_token;
}

// ---- storing

// A unit of k or v, wherever its elements lie.
template <uint32_t TYPE>
SKIM_DEVICE unit4 load_source(const skim_cuda_append_launch &launch, uint64_t base, uint32_t unit)
{
    if ((launch.flags & SKIM_APPEND_UNITS) != 0)
        return at<const unit4>(base)[unit];
    unit4 bits;
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const uint16_t *halves = at<const uint16_t>(base) + 8 * unit + 2 * i;
        bits.word[i] = TYPE == F32 ? at<const uint32_t>(base)[4 * unit + i]
                                   : halves[0] | (uint32_t)halves[1] << 16;
    }
    return bits;
}

template <uint32_t TYPE>
SKIM_DEVICE void store_tokens(const skim_cuda_append_launch &launch, const skim_row &row,
                              uint32_t page, uint32_t kv_head)
{
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t units = dim_of(launch.shape) / channels_of(TYPE);
    const uint32_t *table = find_table(launch.table, row);
    const uint32_t first_new = row.length - row.query_count;
    const uint32_t first = larger(page << shift, first_new);
    const uint32_t end = smaller(row.length, (page + 1) << shift);
    for (uint32_t i = thread_index(); i < (end - first) * units; i += SKIM_APPEND_THREADS) {
        const uint32_t token = first + i / units, unit = i % units;
        const uint32_t source = row.query_start + (token - first_new);
        const uint32_t in_page = token & (page_size - 1);
        uint32_t slot = table[page];
        if (SKIM_MUTANT(append_wrong_page) && in_page == 0 && page > 0)
            slot = table[page - 1];
        const uint64_t k = find_element(launch.k, source, launch.k_token, kv_head, launch.k_head);
        const uint64_t v = find_element(launch.v, source, launch.v_token, kv_head, launch.v_head);
        ((unit4 *)find_key(launch, slot, kv_head, in_page))[unit] =
            load_source<TYPE>(launch, k, unit);
        find_value(launch, slot, kv_head, in_page)[unit] = load_source<TYPE>(launch, v, unit);
    }
}

template <uint32_t TYPE>
SKIM_DEVICE void clear_tail(const skim_cuda_append_launch &launch, const skim_row &row,
                            uint32_t slot, uint32_t kv_head)
{
    const uint32_t page_size = 1u << page_shift_of(launch.shape);
    const uint32_t units = dim_of(launch.shape) / channels_of(TYPE);
    const uint32_t first = row.length & (page_size - 1);
    for (uint32_t i = thread_index(); i < (page_size - first) * units; i += SKIM_APPEND_THREADS) {
        const uint32_t token = first + i / units, unit = i % units;
        ((unit4 *)find_key(launch, slot, kv_head, token))[unit] = {0, 0, 0, 0};
        find_value(launch, slot, kv_head, token)[unit] = {0, 0, 0, 0};
    }
}

// ---- bounds of a thread's channels

template <uint32_t TYPE> struct channel_bounds {
    float high[channels_of(TYPE)], low[channels_of(TYPE)]; // B0, B1
};

template <uint32_t TYPE> SKIM_DEVICE void unpack_all(const unit4 &unit, float *x)
{
    SKIM_UNROLL
    for (uint32_t v = 0; v < channels_of(TYPE) / 4; v++)
        unpack<TYPE>(unit, v, x + 4 * v);
}

template <uint32_t TYPE>
SKIM_DEVICE channel_bounds<TYPE> find_minmax(const unit4 *keys, uint32_t stride, uint32_t tokens)
{
    channel_bounds<TYPE> pair;
    unpack_all<TYPE>(*keys, pair.high);
    unpack_all<TYPE>(*keys, pair.low);
    for (uint32_t t = 1; t < tokens; t++) {
        float x[channels_of(TYPE)];
        unpack_all<TYPE>(keys[(uint64_t)t * stride], x);
        SKIM_UNROLL
        for (uint32_t c = 0; c < channels_of(TYPE); c++) {
            pair.high[c] = larger(pair.high[c], x[c]);
            pair.low[c] = smaller(pair.low[c], x[c]);
        }
    }
    return pair;
}

// f32 sums lose more than the last place: a sum in two parts, a division and a root.
struct long_sum {
    float high, low;
};

SKIM_DEVICE void add(long_sum *sum, float x)
{
    const float total = add_rn(sum->high, x);
    const float part = add_rn(total, -sum->high);
    const float lost = add_rn(add_rn(sum->high, -add_rn(total, -part)), add_rn(x, -part));
    sum->low = add_rn(sum->low, lost);
    sum->high = total;
}

SKIM_DEVICE long_sum divide(long_sum sum, float n)
{
    const float quotient = divide_rn(add_rn(sum.high, sum.low), n);
    const float rest = add_rn(fma_rn(-quotient, n, sum.high), sum.low);
    const float low = divide_rn(rest, n), high = add_rn(quotient, low);
    // A sum that overflowed has no rest.
    if (!(magnitude(rest) < FLOAT_MAX))
        return {quotient, 0};
    return {high, add_rn(low, -add_rn(high, -quotient))};
}

SKIM_DEVICE float root(long_sum square)
{
    const float guess = root_rn(square.high);
    const float rest = add_rn(fma_rn(-guess, guess, square.high), square.low);
    const float better = add_rn(guess, divide_rn(rest, 2.0f * guess));
    return magnitude(divide_rn(rest, guess)) < FLOAT_MAX ? better : guess;
}

// Two passes in the order of the tokens.
template <uint32_t TYPE>
SKIM_DEVICE channel_bounds<TYPE> find_meanstd(const unit4 *keys, uint32_t stride, uint32_t tokens,
                                              uint32_t divisor)
{
    constexpr uint32_t CHANNELS = channels_of(TYPE);
    channel_bounds<TYPE> pair;
    long_sum sums[CHANNELS], means[CHANNELS];
    SKIM_UNROLL
    for (uint32_t c = 0; c < CHANNELS; c++)
        sums[c] = {0, 0};
    for (uint32_t t = 0; t < tokens; t++) {
        float x[CHANNELS];
        unpack_all<TYPE>(keys[(uint64_t)t * stride], x);
        SKIM_UNROLL
        for (uint32_t c = 0; c < CHANNELS; c++)
            add(&sums[c], x[c]);
    }
    SKIM_UNROLL
    for (uint32_t c = 0; c < CHANNELS; c++) {
        means[c] = divide(sums[c], (float)tokens);
        pair.high[c] = means[c].high;
        sums[c] = {0, 0};
    }
    for (uint32_t t = 0; t < tokens; t++) {
        float x[CHANNELS];
        unpack_all<TYPE>(keys[(uint64_t)t * stride], x);
        SKIM_UNROLL
        for (uint32_t c = 0; c < CHANNELS; c++) {
            const float distance = add_rn(add_rn(x[c], -means[c].high), -means[c].low);
            const float square = multiply_rn(distance, distance);
            add(&sums[c], square);
            sums[c].low = add_rn(sums[c].low, fma_rn(distance, distance, -square));
        }
    }
    SKIM_UNROLL
    for (uint32_t c = 0; c < CHANNELS; c++)
        pair.low[c] = root(divide(sums[c], (float)divisor));
    return pair;
}

template <uint32_t TYPE> SKIM_DEVICE unit4 pack_unit(const float *x)
{
    unit4 unit;
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        unit.word[i] = TYPE == F32   ? as_bits(x[i])
                       : TYPE == F16 ? pack_f16(x[2 * i], x[2 * i + 1])
                                     : pack_bf16(x[2 * i], x[2 * i + 1]);
    return unit;
}

// ---- int8: u = distance from the centre / scale

SKIM_DEVICE float find_largest(float *largest, float x)
{
    synchronise();
    largest[thread_index()] = x;
    for (uint32_t half = SKIM_APPEND_THREADS / 2; half > 0; half /= 2) {
        synchronise();
        if (thread_index() < half)
            largest[thread_index()] =
                larger(largest[thread_index()], largest[thread_index() + half]);
    }
    synchronise();
    return largest[0];
}

SKIM_DEVICE float scale_of(float distance)
{
    if (!(distance > 0))
        return 0;
    return distance > INFINITE ? SCALE_HUGE : larger(multiply_rn(distance, STEP), SCALE_MIN);
}

template <uint32_t BOUNDS> SKIM_DEVICE float quotient(float distance, float inverse)
{
    const float x = multiply_rn(distance, inverse);
    if (BOUNDS == MEANSTD)
        return round_even(x);
    if (SKIM_MUTANT(append_i8_inward))
        return round_up(x) - 1.0f;
    // The quotient of a tiny distance may be 0.
    return larger(round_up(fma_rn(magnitude(x), MARGIN, x)), distance > 0 ? 1.0f : -127.0f);
}

// One vector of a page's bounds: writes its units and returns its scale. By all threads.
template <uint32_t TYPE, uint32_t BOUNDS>
SKIM_DEVICE float quantise(const skim_cuda_append_launch &launch, const float *values, bool of_b0,
                           uint32_t kv_head, unit4 *to)
{
    constexpr uint32_t CHANNELS = channels_of(TYPE);
    SKIM_SHARED(float, largest, SKIM_APPEND_THREADS);
    SKIM_SHARED(uint32_t, words, DIM_MAX / 4); // four channels each
    const uint32_t dim = dim_of(launch.shape), unit = thread_index();
    const uint32_t all_words = divide_up(dim, 16) * 4;
    const float side = BOUNDS == MINMAX && !of_b0 ? -1.0f : 1.0f;
    float own = 0, distance[CHANNELS];
    if (unit < dim / CHANNELS) {
        const uint64_t centre = launch.centre + (uint64_t)kv_head * dim * sizeof(float);
        SKIM_UNROLL
        for (uint32_t v = 0; v < CHANNELS / 4; v++) {
            float c[4] = {0, 0, 0, 0};
            if (of_b0 || BOUNDS == MINMAX)
                load_elements(centre, unit * CHANNELS + 4 * v, dim, F32, c);
            SKIM_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                const float d = multiply_rn(side, add_rn(values[4 * v + i], -c[i]));
                // A lower distance than the true one would not be outward. No NaN passes.
                distance[4 * v + i] = d > -FLOAT_MAX ? d : -FLOAT_MAX;
                own = larger(own, magnitude(distance[4 * v + i]));
            }
        }
    }
    const float scale = scale_of(find_largest(largest, own));
    const float inverse = scale > 0 ? divide_rn(1.0f, scale) : 0;
    for (uint32_t i = dim / 4 + unit; i < all_words; i += SKIM_APPEND_THREADS)
        words[i] = 0;
    if (unit < dim / CHANNELS) {
        SKIM_UNROLL
        for (uint32_t v = 0; v < CHANNELS / 4; v++) {
            uint32_t word = 0;
            SKIM_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                const float u = quotient<BOUNDS>(distance[4 * v + i], inverse);
                const int of_byte = (int)(side * larger(smaller(u, 127.0f), -127.0f));
                word |= ((uint32_t)of_byte & 0xff) << 8 * i;
            }
            words[unit * (CHANNELS / 4) + v] = word;
        }
    }
    synchronise();
    if (unit < all_words / 4)
        to[unit] = {words[4 * unit], words[4 * unit + 1], words[4 * unit + 2], words[4 * unit + 3]};
    synchronise();
    return scale;
}

template <uint32_t TYPE, uint32_t BOUNDS>
SKIM_DEVICE void store_i8(const skim_cuda_append_launch &launch, const channel_bounds<TYPE> &pair,
                          uint64_t place, uint32_t kv_head, bool keeps_scales)
{
    const uint32_t half = divide_up(dim_of(launch.shape), 16);
    unit4 *bounds = at<unit4>(launch.bounds);
    const float high =
        quantise<TYPE, BOUNDS>(launch, pair.high, true, kv_head, bounds + place * 2 * half);
    const float low =
        quantise<TYPE, BOUNDS>(launch, pair.low, false, kv_head, bounds + place * 2 * half + half);
    if (thread_index() > 0 || keeps_scales)
        return;
    float *scales = (float *)(bounds + (uint64_t)grid_y() * launch.slots * 2 * half) + 2 * place;
    scales[0] = high;
    scales[1] = low;
}

template <uint32_t TYPE, uint32_t BOUNDS, uint32_t COLUMN>
SKIM_DEVICE void update_bounds(const skim_cuda_append_launch &launch, const skim_row &row,
                               uint32_t page, uint32_t slot, uint32_t kv_head)
{
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t units = dim_of(launch.shape) / channels_of(TYPE), unit = thread_index();
    const uint32_t first = page << shift;
    const bool begun = first < row.length - row.query_count;
    if (SKIM_MUTANT(append_stale_bounds) && begun)
        return;
    uint32_t tokens = smaller(row.length - first, page_size);
    if (SKIM_MUTANT(append_bounds_past_end) && tokens < page_size)
        tokens++;
    const uint32_t divisor =
        SKIM_MUTANT(append_sample_deviation) && tokens > 1 ? tokens - 1 : tokens;
    const uint64_t place = (uint64_t)kv_head * launch.slots + slot;
    channel_bounds<TYPE> pair;
    if (unit < units) {
        const unit4 *keys = find_key(launch, slot, kv_head, 0) + unit;
        pair = BOUNDS == MINMAX ? find_minmax<TYPE>(keys, launch.key_token, tokens)
                                : find_meanstd<TYPE>(keys, launch.key_token, tokens, divisor);
    }
    if (COLUMN == I8) {
        store_i8<TYPE, BOUNDS>(launch, pair, place, kv_head,
                               SKIM_MUTANT(append_i8_stale_scale) && begun);
    } else if (unit < units) {
        unit4 *bounds = at<unit4>(launch.bounds) + place * 2 * units + unit;
        bounds[0] = pack_unit<TYPE>(pair.high);
        bounds[units] = pack_unit<TYPE>(pair.low);
    }
}

template <uint32_t TYPE, uint32_t BOUNDS, uint32_t COLUMN>
SKIM_DEVICE void append(const skim_cuda_append_launch &launch)
{
    const skim_row row = load_row(launch.rows, block_z());
    if (row.query_count == 0)
        return;
    const uint32_t shift = page_shift_of(launch.shape), kv_head = block_y();
    const uint32_t page = ((row.length - row.query_count) >> shift) + block_x();
    if (page >= row.page_count)
        return;
    const uint32_t slot = find_table(launch.table, row)[page];
    if ((launch.flags & SKIM_APPEND_STORE) != 0) {
        if (launch.k != 0)
            store_tokens<TYPE>(launch, row, page, kv_head);
        if ((row.flags & SKIM_ROW_CLEAR) != 0 && page == row.page_count - 1 &&
            (row.length & ((1u << shift) - 1)) != 0 && !SKIM_MUTANT(append_keeps_tail))
            clear_tail<TYPE>(launch, row, slot, kv_head);
    }
    if ((launch.flags & SKIM_APPEND_BOUNDS) == 0)
        return;
    synchronise();
    update_bounds<TYPE, BOUNDS, COLUMN>(launch, row, page, slot, kv_head);
}

#define SKIM_CUDA_DEFINE(type, TYPE, bounds, BOUNDS, stored, COLUMN)                               \
    SKIM_KERNEL(SKIM_APPEND_THREADS, 4)                                                            \
    skim_append_##type##_##bounds##_##stored(SKIM_PARAMETER const skim_cuda_append_launch launch)  \
    {                                                                                              \
        append<TYPE, BOUNDS, COLUMN>(launch);                                                      \
    }
SKIM_CUDA_APPEND_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE

// ---- the centre: the mean of a call's keys, read from their pages

// Compensated, and with the large ones apart, so that neither the largest keys overflow nor the
// smallest vanish.
struct centre_sum {
    float small, small_lost, large, large_lost;
    uint32_t count;
};

constexpr float CENTRE_LARGE = 1.152921504606847e18f;   // 2^60
constexpr float CENTRE_SHRINK = 9.094947017729282e-13f; // 2^-40
constexpr float CENTRE_GROW = 1099511627776.0f;         // 2^40

SKIM_DEVICE void add_kept(float *sum, float *lost, float x)
{
    const float y = add_rn(x, -*lost), total = add_rn(*sum, y);
    *lost = add_rn(add_rn(total, -*sum), -y);
    *sum = total;
}

// One block a kv head; threads share the units of a key, and take tokens in turn. launch.slots is
// the number of rows.
template <uint32_t TYPE> SKIM_DEVICE void find_centre(const skim_cuda_append_launch &launch)
{
    constexpr uint32_t CHANNELS = channels_of(TYPE), THREADS = SKIM_SELECT_THREADS;
    SKIM_SHARED(float, small_sums, THREADS);
    SKIM_SHARED(float, large_sums, THREADS);
    SKIM_SHARED(uint32_t, counts, THREADS);
    const uint32_t dim = dim_of(launch.shape), units = dim / CHANNELS, lanes = THREADS / units;
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t kv_head = block_x();
    const uint32_t lane = thread_index() / units, unit = thread_index() % units;
    centre_sum sums[CHANNELS];
    SKIM_UNROLL
    for (uint32_t c = 0; c < CHANNELS; c++)
        sums[c] = {0, 0, 0, 0, 0};
    for (uint32_t r = 0; r < launch.slots; r++) {
        const skim_row row = load_row(launch.rows, r);
        const uint32_t *table = find_table(launch.table, row);
        const uint32_t first = row.length - row.query_count;
        for (uint32_t i = lane; i < row.query_count && lane < lanes; i += lanes) {
            const uint32_t token = first + i;
            float x[CHANNELS];
            unpack_all<TYPE>(
                find_key(launch, table[token >> shift], kv_head, token & (page_size - 1))[unit], x);
            SKIM_UNROLL
            for (uint32_t c = 0; c < CHANNELS; c++) {
                const bool is_finite = magnitude(x[c]) <= FLOAT_MAX;
                const bool is_large = magnitude(x[c]) >= CENTRE_LARGE;
                add_kept(&sums[c].small, &sums[c].small_lost, is_finite && !is_large ? x[c] : 0);
                add_kept(&sums[c].large, &sums[c].large_lost,
                         is_finite && is_large ? x[c] * CENTRE_SHRINK : 0);
                sums[c].count += is_finite ? 1 : 0;
            }
        }
    }
    SKIM_UNROLL
    for (uint32_t c = 0; c < CHANNELS; c++) {
        synchronise();
        small_sums[thread_index()] = sums[c].small;
        large_sums[thread_index()] = sums[c].large;
        counts[thread_index()] = sums[c].count;
        synchronise();
        if (lane > 0)
            continue;
        centre_sum all = {0, 0, 0, 0, 0};
        for (uint32_t l = 0; l < lanes; l++) {
            add_kept(&all.small, &all.small_lost, small_sums[l * units + unit]);
            add_kept(&all.large, &all.large_lost, large_sums[l * units + unit]);
            all.count += counts[l * units + unit];
        }
        const float n = (float)larger(all.count, 1u);
        const float mean = all.small / n + all.large / n * CENTRE_GROW;
        at<float>(launch.centre)[(uint64_t)kv_head * dim + unit * CHANNELS + c] =
            larger(smaller(mean, FLOAT_MAX), -FLOAT_MAX);
    }
}

#define SKIM_CUDA_DEFINE(type, TYPE)                                                               \
    SKIM_KERNEL(SKIM_SELECT_THREADS, 1)                                                            \
    skim_centre_##type(SKIM_PARAMETER const skim_cuda_append_launch launch)                        \
    {                                                                                              \
        find_centre<TYPE>(launch);                                                                 \
    }
SKIM_CUDA_CENTRE_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE
