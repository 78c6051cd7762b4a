// Causal attention of rows with more than one query. A workgroup takes a tile of queries of one kv
// head (tokens times query heads of its group) through the keys in tiles of tokens, 64 by 64 where
// threads hold much: scores in registers, 4 queries by 8 tokens a thread, over 16 channels at a
// time; then their softmax; then the sum of the values, 4 queries by every eighth unit of channels a
// thread.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "attend.glsl"

layout(local_size_x = SKIM_THREADS) in;

const uint COLUMNS = 8, ROW_GROUPS = SKIM_THREADS / COLUMNS; // of threads
const uint ROWS = TOKENS, OWN = 2 * TOKENS;                  // queries and tokens of a thread
const uint QUERY_TILE = ROWS * ROW_GROUPS, TOKEN_TILE = OWN * COLUMNS;
const uint PIECE = 4; // vec4 of channels at a time
#define TURNS ((UNITS + COLUMNS - 1) / COLUMNS)
#define THREAD_VECTORS (TURNS * UNIT_VECTORS)
const uint THREAD_VECTORS_MAX = (UNITS_MAX + COLUMNS - 1) / COLUMNS * UNIT_VECTORS;
const uint PAGES_MAX = (TOKEN_TILE + 7) / 8;

shared vec4 query_piece[QUERY_TILE * PIECE];
shared vec4 key_piece[TOKEN_TILE * PIECE];
shared float weights[QUERY_TILE * (TOKEN_TILE + 1)];
shared float tops[QUERY_TILE * COLUMNS];
shared uint slots[PAGES_MAX];

void main()
{
    read_shape();
    Row row = load_row(push.rows, gl_WorkGroupID.z);
    if (row.query_count < 2)
        return;
    const uint kv_head = gl_WorkGroupID.y;
    const uint first_query = gl_WorkGroupID.x * QUERY_TILE; // token * GROUP + head
    const uint queries = row.query_count * GROUP;
    if (first_query >= queries)
        return;
    const uint thread = gl_LocalInvocationIndex;
    const uint column = thread % COLUMNS, row_group = thread / COLUMNS;
    const uint before = row.tokens - row.query_count;
    Words table = Words(advance(push.table, row.table_start, 1, 2));
    const uint last_query = min(first_query + QUERY_TILE, queries) - 1;
    uint ahead = SKIM_MUTANT(attend_not_causal) ? 2 : 1;
    const uint seen = min(before + last_query / GROUP + ahead, row.tokens);
    const uint keys_of_head = stored_head(kv_head) * push.key_head;
    const uint values_of_head = stored_head(kv_head) * push.value_head;
    const float scale = push.scale * LOG2_E;

    uint limits[ROWS]; // tokens that a query sees
    float highest[ROWS], total[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uint query = min(first_query + row_group * ROWS + r, queries - 1);
        limits[r] = min(before + query / GROUP + ahead, row.tokens);
        if (SKIM_MUTANT(attend_drops_last_token) && limits[r] > 1)
            limits[r]--;
        highest[r] = LOWEST;
        total[r] = 0;
    }
    vec4 found[ROWS * THREAD_VECTORS_MAX];
    [[unroll]] for (uint i = 0; i < ROWS * THREAD_VECTORS_MAX; i++)
        found[i] = vec4(0);

    for (uint tile = 0; tile < seen; tile += TOKEN_TILE) {
        barrier();
        if (thread * PAGE_SIZE < TOKEN_TILE && tile + thread * PAGE_SIZE < row.tokens)
            slots[thread] = slot_of(table, tile / PAGE_SIZE + thread);
        float scores[ROWS * OWN];
        [[unroll]] for (uint i = 0; i < ROWS * OWN; i++)
            scores[i] = 0;
        for (uint piece = 0; piece < DIM / 4; piece += PIECE) {
            barrier();
            for (uint i = thread; i < QUERY_TILE * PIECE; i += SKIM_THREADS) {
                uint query = min(first_query + i / PIECE, queries - 1);
                query_piece[i] =
                    scale * load_elements(find_query(row.query_start + query / GROUP,
                                                     kv_head * GROUP + query % GROUP),
                                          4 * (piece + i % PIECE), type_of(push.q_head));
            }
            for (uint i = thread; i < TOKEN_TILE * PIECE; i += SKIM_THREADS) {
                uint of_tile = i / PIECE, vector = piece + i % PIECE;
                vec4 key = vec4(0);
                if (tile + of_tile < seen && vector < DIM / 4) {
                    uint at = slots[of_tile / PAGE_SIZE] * push.key_page + keys_of_head +
                              (tile + of_tile) % PAGE_SIZE * push.key_token;
                    key = unpack(load_unit(push.keys, at + vector / UNIT_VECTORS),
                                 vector % UNIT_VECTORS);
                }
                key_piece[i] = key;
            }
            barrier();
            for (uint v = 0; v < PIECE; v++) {
                vec4 query[ROWS];
                [[unroll]] for (uint r = 0; r < ROWS; r++)
                    query[r] = query_piece[(row_group * ROWS + r) * PIECE + v];
                [[unroll]] for (uint t = 0; t < OWN; t++) {
                    vec4 key = key_piece[(t * COLUMNS + column) * PIECE + v];
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        scores[r * OWN + t] += dot(query[r], key);
                }
            }
        }

        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float top = LOWEST;
            [[unroll]] for (uint t = 0; t < OWN; t++)
                if (tile + t * COLUMNS + column < limits[r])
                    top = max(top, scores[r * OWN + t]);
            tops[(row_group * ROWS + r) * COLUMNS + column] = top;
        }
        barrier();
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float next = highest[r];
            [[unroll]] for (uint c = 0; c < COLUMNS; c++)
                next = max(next, tops[(row_group * ROWS + r) * COLUMNS + c]);
            float shrink = exp2(highest[r] - next);
            highest[r] = next;
            float sum = 0;
            [[unroll]] for (uint t = 0; t < OWN; t++) {
                bool is_seen = tile + t * COLUMNS + column < limits[r];
                float weight = is_seen ? exp2(scores[r * OWN + t] - next) : 0.0;
                weights[(row_group * ROWS + r) * (TOKEN_TILE + 1) + t * COLUMNS + column] = weight;
                sum += weight;
            }
            total[r] = total[r] * shrink + sum;
            [[unroll]] for (uint i = 0; i < THREAD_VECTORS; i++)
                found[r * THREAD_VECTORS_MAX + i] *= shrink;
        }
        barrier();

        uint tokens = min(TOKEN_TILE, seen - tile);
        for (uint t = 0; t < tokens; t++) {
            uint at = slots[t / PAGE_SIZE] * push.value_page + values_of_head +
                      (tile + t) % PAGE_SIZE * push.value_token;
            float weight[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                weight[r] = weights[(row_group * ROWS + r) * (TOKEN_TILE + 1) + t];
            [[unroll]] for (uint turn = 0; turn < TURNS; turn++) {
                uint unit = turn * COLUMNS + column;
                if (UNITS % COLUMNS != 0 && unit >= UNITS)
                    continue;
                uvec4 bits = load_unit(push.values, at + unit);
                [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
                    vec4 x = unpack(bits, v);
                    // A token that a query does not see may be NaN.
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        found[r * THREAD_VECTORS_MAX + turn * UNIT_VECTORS + v] +=
                            weight[r] > 0 || tile + t < limits[r] ? weight[r] * x : vec4(0);
                }
            }
        }
    }

    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        tops[(row_group * ROWS + r) * COLUMNS + column] = total[r];
    barrier();
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        uint query = first_query + row_group * ROWS + r;
        float sum = 0;
        [[unroll]] for (uint c = 0; c < COLUMNS; c++)
            sum += tops[(row_group * ROWS + r) * COLUMNS + c];
        if (query >= queries)
            continue;
        uint token = row.query_start + query / GROUP, head = kv_head * GROUP + query % GROUP;
        uvec2 to = find_out(token, head);
        [[unroll]] for (uint i = 0; i < THREAD_VECTORS; i++) {
            uint unit = i / UNIT_VECTORS * COLUMNS + column;
            if (unit < UNITS)
                store_elements(to, unit * UNIT_CHANNELS + i % UNIT_VECTORS * 4,
                               type_of(push.out_head), found[r * THREAD_VECTORS_MAX + i] / sum);
        }
        if (column == 0)
            store_lse(token, head, highest[r], sum);
    }
}
