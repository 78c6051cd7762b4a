// Causal attention of rows with more than one query. A block takes a tile of queries of one kv head
// (tokens times query heads of its group) through the keys in tiles of tokens, 64 by 64 where
// threads hold much: scores in registers, 4 queries by 8 tokens a thread, over 16 channels at a
// time; then their softmax; then the sum of the values, 4 queries by every eighth unit of channels
// a thread.
#include "shaders/cuda/attend.cuh"

template <uint32_t TYPE, uint32_t DIM_GIVEN>
SKIM_DEVICE void prefill(const skim_cuda_attend_launch &launch)
{
    constexpr uint32_t COLUMNS = 8, ROW_GROUPS = SKIM_THREADS / COLUMNS; // of threads
    constexpr uint32_t ROWS = SKIM_CUDA_PREFILL_ROWS(DIM_GIVEN);         // queries of a thread
    constexpr uint32_t OWN = 2 * ROWS;                                   // tokens of a thread
    constexpr uint32_t QUERY_TILE = ROWS * ROW_GROUPS, TOKEN_TILE = OWN * COLUMNS;
    constexpr uint32_t PIECE = 4; // parts of 4 channels at a time
    constexpr uint32_t VECTORS = channels_of(TYPE) / 4;
    constexpr uint32_t DIM_MOST = DIM_GIVEN ? DIM_GIVEN : DIM_MAX;
    constexpr uint32_t TURNS = divide_up(DIM_MOST / channels_of(TYPE), COLUMNS);
    constexpr uint32_t CHANNELS = TURNS * channels_of(TYPE); // of a thread
    SKIM_SHARED(unit4, query_piece, QUERY_TILE * PIECE);
    SKIM_SHARED(unit4, key_piece, TOKEN_TILE * PIECE);
    SKIM_SHARED(float, weights, QUERY_TILE *(TOKEN_TILE + 1));
    SKIM_SHARED(float, tops, QUERY_TILE *COLUMNS);
    SKIM_SHARED(uint32_t, slots, TOKEN_TILE / 8);

    const skim_row row = load_row(launch.rows, block_z());
    if (row.query_count < 2)
        return;
    const uint32_t dim = DIM_GIVEN ? DIM_GIVEN : dim_of(launch.shape);
    const uint32_t units = dim / channels_of(TYPE);
    const uint32_t group_size = group_of(launch.shape);
    const uint32_t shift = page_shift_of(launch.shape), page_size = 1u << shift;
    const uint32_t kv_head = block_y();
    const uint32_t first_query =
        (launch.first_tile + block_x()) * QUERY_TILE; // token * group_size + head
    const uint32_t queries = row.query_count * group_size;
    if (first_query >= queries)
        return;
    const uint32_t thread = thread_index();
    const uint32_t column = thread % COLUMNS, row_group = thread / COLUMNS;
    const uint32_t before = row.length - row.query_count;
    const uint32_t last_query = smaller(first_query + QUERY_TILE, queries) - 1;
    const uint32_t ahead = SKIM_MUTANT(attend_not_causal) ? 2 : 1;
    const uint32_t seen = smaller(before + last_query / group_size + ahead, row.length);
    const unit4 *keys =
        at<const unit4>(launch.keys) + (uint64_t)stored_head(kv_head) * launch.key_head;
    const unit4 *values =
        at<const unit4>(launch.values) + (uint64_t)stored_head(kv_head) * launch.value_head;
    const float scale = launch.scale * LOG2_E;

    uint32_t limits[ROWS]; // tokens that a query sees
    float highest[ROWS], total[ROWS], found[ROWS][CHANNELS];
    SKIM_UNROLL
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint32_t query = smaller(first_query + row_group * ROWS + r, queries - 1);
        limits[r] = smaller(before + query / group_size + ahead, row.length);
        if (SKIM_MUTANT(attend_drops_last_token) && limits[r] > 1)
            limits[r]--;
        highest[r] = LOWEST;
        total[r] = 0;
        SKIM_UNROLL
        for (uint32_t i = 0; i < CHANNELS; i++)
            found[r][i] = 0;
    }

    for (uint32_t tile = 0; tile < seen; tile += TOKEN_TILE) {
        synchronise();
        if (thread << shift < TOKEN_TILE && tile + (thread << shift) < row.length)
            slots[thread] = slot_of(launch, row, (tile >> shift) + thread);
        float scores[ROWS][OWN];
        SKIM_UNROLL
        for (uint32_t r = 0; r < ROWS; r++)
            SKIM_UNROLL
        for (uint32_t t = 0; t < OWN; t++)
            scores[r][t] = 0;
        for (uint32_t piece = 0; piece < dim / 4; piece += PIECE) {
            synchronise();
            for (uint32_t i = thread; i < QUERY_TILE * PIECE; i += SKIM_THREADS) {
                const uint32_t query = smaller(first_query + i / PIECE, queries - 1);
                float q[4];
                load_elements(find_query(launch, row.query_start + query / group_size,
                                         kv_head * group_size + query % group_size),
                              4 * (piece + i % PIECE), dim, type_of(launch.q_head), q);
                query_piece[i] = {as_bits(scale * q[0]), as_bits(scale * q[1]),
                                  as_bits(scale * q[2]), as_bits(scale * q[3])};
            }
            for (uint32_t i = thread; i < TOKEN_TILE * PIECE; i += SKIM_THREADS) {
                const uint32_t of_tile = i / PIECE, vector = piece + i % PIECE;
                const uint32_t in_page = (tile + of_tile) & (page_size - 1);
                float key[4] = {0, 0, 0, 0};
                if (tile + of_tile < seen && vector < dim / 4)
                    unpack<TYPE>(load_unit(keys +
                                           (uint64_t)slots[of_tile >> shift] * launch.key_page +
                                           (uint64_t)in_page * launch.key_token + vector / VECTORS),
                                 vector % VECTORS, key);
                key_piece[i] = {as_bits(key[0]), as_bits(key[1]), as_bits(key[2]), as_bits(key[3])};
            }
            synchronise();
            for (uint32_t v = 0; v < PIECE; v++) {
                unit4 query[ROWS];
                SKIM_UNROLL
                for (uint32_t r = 0; r < ROWS; r++)
                    query[r] = query_piece[(row_group * ROWS + r) * PIECE + v];
                SKIM_UNROLL
                for (uint32_t t = 0; t < OWN; t++) {
                    const unit4 key = key_piece[(t * COLUMNS + column) * PIECE + v];
                    SKIM_UNROLL
                    for (uint32_t r = 0; r < ROWS; r++)
                        SKIM_UNROLL
                    for (uint32_t i = 0; i < 4; i++)
                        scores[r][t] += as_float(query[r].word[i]) * as_float(key.word[i]);
                }
            }
        }

        SKIM_UNROLL
        for (uint32_t r = 0; r < ROWS; r++) {
            float top = LOWEST;
            SKIM_UNROLL
            for (uint32_t t = 0; t < OWN; t++)
                if (tile + t * COLUMNS + column < limits[r])
                    top = larger(top, scores[r][t]);
            tops[(row_group * ROWS + r) * COLUMNS + column] = top;
        }
        synchronise();
        SKIM_UNROLL
        for (uint32_t r = 0; r < ROWS; r++) {
            float next = highest[r];
            SKIM_UNROLL
            for (uint32_t c = 0; c < COLUMNS; c++)
                next = larger(next, tops[(row_group * ROWS + r) * COLUMNS + c]);
            const float shrink = exp2_fast(highest[r] - next);
            highest[r] = next;
            float sum = 0;
            SKIM_UNROLL
            for (uint32_t t = 0; t < OWN; t++) {
                const bool is_seen = tile + t * COLUMNS + column < limits[r];
                const float weight = is_seen ? exp2_fast(scores[r][t] - next) : 0;
                weights[(row_group * ROWS + r) * (TOKEN_TILE + 1) + t * COLUMNS + column] = weight;
                sum += weight;
            }
            total[r] = total[r] * shrink + sum;
            SKIM_UNROLL
            for (uint32_t i = 0; i < CHANNELS; i++)
                found[r][i] *= shrink;
        }
        synchronise();

        const uint32_t tokens = smaller(TOKEN_TILE, seen - tile);
        for (uint32_t t = 0; t < tokens; t++) {
            const unit4 *value = values + (uint64_t)slots[t >> shift] * launch.value_page +
                                 (uint64_t)((tile + t) & (page_size - 1)) * launch.value_token +
                                 column;
            float weight[ROWS];
            SKIM_UNROLL
            for (uint32_t r = 0; r < ROWS; r++)
                weight[r] = weights[(row_group * ROWS + r) * (TOKEN_TILE + 1) + t];
            SKIM_UNROLL
            for (uint32_t turn = 0; turn < TURNS; turn++) {
                if (turn * COLUMNS + column >= units)
                    continue;
                const unit4 bits = load_unit(value + turn * COLUMNS);
                SKIM_UNROLL
                for (uint32_t v = 0; v < VECTORS; v++) {
                    float x[4];
                    unpack<TYPE>(bits, v, x);
                    // A token that a query does not see may be NaN.
                    SKIM_UNROLL
                    for (uint32_t r = 0; r < ROWS; r++)
                        SKIM_UNROLL
                    for (uint32_t i = 0; i < 4; i++)
                        found[r][(turn * VECTORS + v) * 4 + i] +=
                            tile + t < limits[r] ? weight[r] * x[i] : 0;
                }
            }
        }
    }

    synchronise();
    SKIM_UNROLL
    for (uint32_t r = 0; r < ROWS; r++)
        tops[(row_group * ROWS + r) * COLUMNS + column] = total[r];
    synchronise();
    SKIM_UNROLL
    for (uint32_t r = 0; r < ROWS; r++) {
        const uint32_t query = first_query + row_group * ROWS + r;
        float sum = 0;
        SKIM_UNROLL
        for (uint32_t c = 0; c < COLUMNS; c++)
            sum += tops[(row_group * ROWS + r) * COLUMNS + c];
        if (query >= queries)
            continue;
        const uint32_t token = row.query_start + query / group_size;
        const uint32_t head = kv_head * group_size + query % group_size;
        SKIM_UNROLL
        for (uint32_t i = 0; i < TURNS * VECTORS; i++) {
            const uint32_t unit = i / VECTORS * COLUMNS + column;
            if (unit < units)
                store_out(launch, token, head, unit * channels_of(TYPE) + i % VECTORS * 4,
                          &found[r][4 * i], sum);
        }
        if (column == 0)
            store_lse(launch, token, head, highest[r], sum);
    }
}

#define SKIM_CUDA_DEFINE(type, TYPE, dim, heads)                                                   \
    SKIM_KERNEL(SKIM_THREADS, 2)                                                                   \
    skim_prefill_##type##_##dim(SKIM_PARAMETER const skim_cuda_attend_launch launch)               \
    {                                                                                              \
        prefill<TYPE, dim>(launch);                                                                \
    }
SKIM_CUDA_PREFILL_KERNELS(SKIM_CUDA_DEFINE)
#undef SKIM_CUDA_DEFINE
