// Prefill on tensor cores: as prefill.cu, of keys, values and queries of one 16-bit type. A block
// has 64 queries of a kv head, 16 a warp, and goes through the keys 64 tokens at a time; scores and
// sums are f32, weights are rounded to the type for the product with the values.
//
// A product is of 16 x 16 by 16 x 8 numbers (m16n8k16): of those a lane has, of the left one, rows
// lane / 4 and 8 more, columns 2 (lane % 4), the next one, and those 8 further; of the right one,
// column lane / 4 and the same rows; of the result, the left one's rows and columns 2 (lane % 4)
// and the next.
#include "shaders/cuda/attend.cuh"

template <uint32_t TYPE> SKIM_DEVICE uint32_t pack_pair(float x, float y)
{
    return TYPE == F16 ? pack_f16(x, y) : pack_bf16(x, y);
}

// Two elements of 16 bits from channel c on, at any even address.
SKIM_DEVICE uint32_t load_pair(uint64_t base, uint32_t c)
{
    const uint16_t *halves = at<const uint16_t>(base) + c;
    return halves[0] | (uint32_t)halves[1] << 16;
}

template <uint32_t TYPE, uint32_t DIM>
SKIM_DEVICE void prefill_tensor(const skim_cuda_attend_launch &launch)
{
    constexpr uint32_t WARPS = SKIM_THREADS / 32, QUERIES = 16 * WARPS, TOKENS = 64;
    constexpr uint32_t STEPS = DIM / 16, SCORES = TOKENS / 8, OUTS = DIM / 8; // products of a warp
    constexpr uint32_t UNITS = DIM / 8, STRIDE = UNITS + 1; // of a token; one more parts the banks
    SKIM_SHARED(unit4, key_tile, TOKENS * STRIDE);
    SKIM_SHARED(unit4, value_tile, TOKENS * STRIDE);
    SKIM_SHARED(uint32_t, slots, TOKENS / 8);

    const skim_row row = load_row(launch.rows, block_z());
    if (row.query_count < 2)
        return;
    const uint32_t group_size = group_of(launch.shape);
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t kv_head = block_y();
    const uint32_t first_query =
        (launch.first_tile + block_x()) * QUERIES; // token * group_size + head
    const uint32_t queries = row.query_count * group_size;
    if (first_query >= queries)
        return;
    const uint32_t thread = thread_index(), lane = thread % 32, line = lane / 4, pair = lane % 4;
    const uint32_t before = row.length - row.query_count;
    const uint32_t last_query = smaller(first_query + QUERIES, queries) - 1;
    const uint32_t ahead = SKIM_MUTANT(attend_not_causal) ? 2 : 1;
    const uint32_t seen = smaller(before + last_query / group_size + ahead, row.length);
    const unit4 *keys =
        at<const unit4>(launch.keys) + (uint64_t)stored_head(kv_head) * launch.key_head;
    const unit4 *values =
        at<const unit4>(launch.values) + (uint64_t)stored_head(kv_head) * launch.value_head;
    const float scale = launch.scale * LOG2_E;

    // Of a lane's two queries, 8 lines apart.
    uint32_t query[STEPS][4], limits[2]; // limits: tokens that it sees
    float highest[2] = {LOWEST, LOWEST}, total[2] = {0, 0}, found[OUTS][4];
    SKIM_UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        const uint32_t index = smaller(first_query + thread / 32 * 16 + line + 8 * r, queries - 1);
        const uint64_t q = find_query(launch, row.query_start + index / group_size,
                                      kv_head * group_size + index % group_size);
        limits[r] = smaller(before + index / group_size + ahead, row.length);
        if (SKIM_MUTANT(attend_drops_last_token) && limits[r] > 1)
            limits[r]--;
        SKIM_UNROLL
        for (uint32_t s = 0; s < STEPS; s++) {
            query[s][r] = load_pair(q, s * 16 + pair * 2);
            query[s][2 + r] = load_pair(q, s * 16 + pair * 2 + 8);
        }
    }
    SKIM_UNROLL
    for (uint32_t n = 0; n < OUTS; n++)
        SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        found[n][i] = 0;

    for (uint32_t tile = 0; tile < seen; tile += TOKENS) {
        synchronise();
        if (thread << shift < TOKENS && tile + (thread << shift) < row.length)
            slots[thread] = slot_of(launch, row, (tile >> shift) + thread);
        synchronise();
        for (uint32_t i = thread; i < TOKENS * UNITS; i += SKIM_THREADS) {
            const uint32_t token = i / UNITS, unit = i % UNITS;
            unit4 key = {0, 0, 0, 0}, value = {0, 0, 0, 0};
            if (tile + token < seen) {
                const uint64_t slot = slots[token >> shift];
                const uint64_t in_page = (tile + token) & (page_size - 1);
                key = load_unit(keys + slot * launch.key_page + in_page * launch.key_token + unit);
                value = load_unit(values + slot * launch.value_page + in_page * launch.value_token +
                                  unit);
            }
            key_tile[token * STRIDE + unit] = key;
            value_tile[token * STRIDE + unit] = value;
        }
        synchronise();

        float scores[SCORES][4];
        const uint32_t *of_keys = (const uint32_t *)key_tile + line * STRIDE * 4 + pair;
        SKIM_UNROLL
        for (uint32_t j = 0; j < SCORES; j++) {
            SKIM_UNROLL
            for (uint32_t i = 0; i < 4; i++)
                scores[j][i] = 0;
            SKIM_UNROLL
            for (uint32_t s = 0; s < STEPS; s++) {
                const uint32_t *key = of_keys + j * 8 * STRIDE * 4 + s * 8;
                multiply_tile<TYPE == F16>(scores[j], query[s], key[0], key[4]);
            }
        }

        SKIM_UNROLL
        for (uint32_t r = 0; r < 2; r++) {
            float next = highest[r];
            SKIM_UNROLL
            for (uint32_t j = 0; j < SCORES; j++)
                SKIM_UNROLL
            for (uint32_t i = 2 * r; i < 2 * r + 2; i++) {
                const bool is_seen = tile + j * 8 + pair * 2 + (i & 1) < limits[r];
                scores[j][i] = is_seen ? scores[j][i] * scale : LOWEST;
                next = larger(next, scores[j][i]);
            }
            next = larger(next, shuffle_xor(next, 1));
            next = larger(next, shuffle_xor(next, 2));
            const float shrink = exp2_fast(highest[r] - next);
            highest[r] = next;
            total[r] *= shrink;
            SKIM_UNROLL
            for (uint32_t j = 0; j < SCORES; j++)
                SKIM_UNROLL
            for (uint32_t i = 2 * r; i < 2 * r + 2; i++) {
                scores[j][i] = exp2_fast(scores[j][i] - next);
                total[r] += scores[j][i];
            }
            SKIM_UNROLL
            for (uint32_t n = 0; n < OUTS; n++)
                SKIM_UNROLL
            for (uint32_t i = 2 * r; i < 2 * r + 2; i++)
                found[n][i] *= shrink;
        }

        const uint16_t *of_values = (const uint16_t *)value_tile + pair * 2 * STRIDE * 8 + line;
        SKIM_UNROLL
        for (uint32_t s = 0; s < TOKENS / 16; s++) {
            uint32_t weights[4];
            SKIM_UNROLL
            for (uint32_t i = 0; i < 4; i++)
                weights[i] = pack_pair<TYPE>(scores[2 * s + i / 2][i % 2 * 2],
                                             scores[2 * s + i / 2][i % 2 * 2 + 1]);
            SKIM_UNROLL
            for (uint32_t n = 0; n < OUTS; n++) {
                const uint16_t *value = of_values + s * 16 * STRIDE * 8 + n * 8;
                multiply_tile<TYPE == F16>(found[n], weights,
                                           value[0] | (uint32_t)value[STRIDE * 8] << 16,
                                           value[STRIDE * 64] | (uint32_t)value[STRIDE * 72] << 16);
            }
        }
    }

    SKIM_UNROLL
    for (uint32_t r = 0; r < 2; r++) {
        const uint32_t index = first_query + thread / 32 * 16 + line + 8 * r;
        float sum = total[r];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (index >= queries)
            continue;
        const uint32_t token = row.query_start + index / group_size;
        const uint32_t head = kv_head * group_size + index % group_size;
        const uint64_t to =
            find_element(launch.out_, token, launch.out_token, head, launch.out_head);
        SKIM_UNROLL
        for (uint32_t n = 0; n < OUTS; n++) {
            const uint32_t bits = type_of(launch.out_head) == F16
                                      ? pack_f16(found[n][2 * r] / sum, found[n][2 * r + 1] / sum)
                                      : pack_bf16(found[n][2 * r] / sum, found[n][2 * r + 1] / sum);
            uint16_t *halves = at<uint16_t>(to) + n * 8 + pair * 2;
            halves[0] = (uint16_t)bits;
            halves[1] = (uint16_t)(bits >> 16);
        }
        if (pair == 0)
            store_lse(launch, token, head, highest[r], sum);
    }
}

#define SKIM_CUDA_DEFINE(type, TYPE, dim)                                                          \
    SKIM_KERNEL(SKIM_THREADS, 2)                                                                   \
    skim_prefill_tensor_##type##_##dim(SKIM_PARAMETER const skim_cuda_attend_launch launch)        \
    {                                                                                              \
        prefill_tensor<TYPE, dim>(launch);                                                         \
    }
SKIM_CUDA_PREFILL_TENSOR_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE
