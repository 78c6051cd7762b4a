// Attention of rows with one query over the pages of a list, or over all. A workgroup takes one part
// of one list for up to HEADS query heads of a kv head. LANES threads share a token; every such
// group of threads goes through its own tokens with a softmax of its own, and at the end the groups'
// results are merged: nothing is waited for in between.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "attend.glsl"

layout(local_size_x = SKIM_THREADS) in;

const uint GROUPS = SKIM_THREADS / LANES;
const uint TILE = GROUPS * TOKENS;
#define TURNS ((UNITS + LANES - 1) / LANES) // units of a thread
#define THREAD_VECTORS (TURNS * UNIT_VECTORS)
const uint THREAD_VECTORS_MAX = (UNITS_MAX + LANES - 1) / LANES * UNIT_VECTORS;
#define HEAD_CHUNKS ((GROUP + HEADS - 1) / HEADS)
const uint BATCH = SKIM_THREADS; // pages whose slots are looked up at a time

shared vec4 queries[HEADS * UNITS_MAX * UNIT_VECTORS];
shared uint slots[BATCH];
shared uint valid[BATCH]; // tokens of the page
shared vec4 merged[SKIM_THREADS * THREAD_VECTORS_MAX];
shared vec2 states[HEADS * GROUPS]; // max, sum

void load_queries(Row row, uint first_head, uint heads)
{
    float scale = push.scale * LOG2_E;
    for (uint i = gl_LocalInvocationIndex; i < HEADS * UNITS * UNIT_VECTORS; i += SKIM_THREADS) {
        uint h = i / (UNITS * UNIT_VECTORS);
        uint c = i % (UNITS * UNIT_VECTORS) * 4;
        queries[i] = h < heads ? scale * load_elements(find_query(row.query_start, first_head + h),
                                                       c, type_of(push.q_head))
                               : vec4(0);
    }
}

// Slots and tokens of the list's pages first .. end - 1, as many as fit.
void load_pages(Row row, uint list_index, uint first, uint end)
{
    uint i = first + gl_LocalInvocationIndex;
    uint slot = 0, tokens = 0;
    if (i < end) {
        uint page = i;
        if (is_listed(row))
            page = Words(advance(push.lists, list_index, push.list_stride, 2)).at[i];
        slot = slot_of(Words(advance(push.table, row.table_start, 1, 2)), page);
        tokens = min(row.tokens - page * PAGE_SIZE, PAGE_SIZE);
        if (page == row.page_count - 1) {
            if (SKIM_MUTANT(attend_drops_last_token))
                tokens--;
            if (SKIM_MUTANT(attend_reads_past_end) && tokens < PAGE_SIZE)
                tokens++;
        }
    }
    barrier();
    slots[gl_LocalInvocationIndex] = slot;
    valid[gl_LocalInvocationIndex] = tokens;
    barrier();
}

void main()
{
    read_shape();
    parts_max = gl_NumWorkGroups.x;
    Row row = load_row(push.rows, gl_WorkGroupID.z);
    if (row.query_count != 1)
        return;
    const uint parts = count_parts(row);
    const uint part = gl_WorkGroupID.x;
    if (part >= parts)
        return;
    const uint kv_heads = gl_NumWorkGroups.y / HEAD_CHUNKS;
    uint kv_head = gl_WorkGroupID.y / HEAD_CHUNKS;
    uint in_group = gl_WorkGroupID.y % HEAD_CHUNKS * HEADS;
    uint first_head = kv_head * GROUP + in_group;
    uint heads = min(HEADS, GROUP - in_group);
    uint list_index = LISTS == SKIM_LISTS_HEAD ? gl_WorkGroupID.z * kv_heads * GROUP + first_head
                                               : gl_WorkGroupID.z * kv_heads + kv_head;
    uint pages = count_pages(row);
    uint first_page = pages / parts * part + min(pages % parts, part);
    uint end_page = first_page + pages / parts + (part < pages % parts ? 1 : 0);
    load_queries(row, first_head, heads);

    uint thread = thread_index();
    uint lane = thread % LANES, group = thread / LANES;
    uint keys_of_head = stored_head(kv_head) * push.key_head;
    uint values_of_head = stored_head(kv_head) * push.value_head;

    float highest[HEADS], total[HEADS];
    vec4 found[HEADS * THREAD_VECTORS_MAX];
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        highest[h] = LOWEST;
        total[h] = 0;
    }
    [[unroll]] for (uint i = 0; i < HEADS * THREAD_VECTORS_MAX; i++)
        found[i] = vec4(0);

    for (uint batch = first_page; batch < end_page; batch += BATCH) {
        load_pages(row, list_index, batch, end_page);
        uint tokens = min(end_page - batch, BATCH) * PAGE_SIZE;
        for (uint tile = 0; tile < tokens; tile += TILE) {
            bool is_valid[TOKENS];
            uint value_at[TOKENS];
            uint key_at[TOKENS];
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                uint token = tile + t * GROUPS + group;
                uint page = min(token / PAGE_SIZE, BATCH - 1);
                uint in_page = token % PAGE_SIZE;
                is_valid[t] = token < tokens && in_page < valid[page];
                // Where there is no token, the first of its page is read and left out.
                if (!is_valid[t])
                    in_page = 0;
                if (token >= tokens)
                    page = 0;
                key_at[t] = slots[page] * push.key_page + keys_of_head + in_page * push.key_token;
                value_at[t] =
                    slots[page] * push.value_page + values_of_head + in_page * push.value_token;
            }

            float scores[HEADS * TOKENS];
            [[unroll]] for (uint i = 0; i < HEADS * TOKENS; i++)
                scores[i] = 0;
            for (uint turn = 0; turn < TURNS; turn++) {
                uint unit = turn * LANES + lane;
                if (UNITS % LANES != 0 && unit >= UNITS)
                    continue;
                uvec4 bits[TOKENS];
                [[unroll]] for (uint t = 0; t < TOKENS; t++)
                    bits[t] = load_unit(push.keys, key_at[t] + unit);
                [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
                    vec4 x[TOKENS];
                    [[unroll]] for (uint t = 0; t < TOKENS; t++)
                        x[t] = unpack(bits[t], v);
                    [[unroll]] for (uint h = 0; h < HEADS; h++) {
                        vec4 query = queries[(h * UNITS + unit) * UNIT_VECTORS + v];
                        [[unroll]] for (uint t = 0; t < TOKENS; t++)
                            scores[h * TOKENS + t] += dot(x[t], query);
                    }
                }
            }

            [[unroll]] for (uint h = 0; h < HEADS; h++) {
                float next = highest[h];
                [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                    float score = sum_lanes(scores[h * TOKENS + t]);
                    scores[h * TOKENS + t] = score;
                    if (is_valid[t])
                        next = max(next, score);
                }
                float shrink = exp2(highest[h] - next);
                highest[h] = next;
                float sum = 0;
                [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                    float weight = is_valid[t] ? exp2(scores[h * TOKENS + t] - next) : 0.0;
                    scores[h * TOKENS + t] = weight;
                    sum += weight;
                }
                total[h] = total[h] * shrink + sum;
                [[unroll]] for (uint i = 0; i < THREAD_VECTORS; i++)
                    found[h * THREAD_VECTORS_MAX + i] *= shrink;
            }

            [[unroll]] for (uint turn = 0; turn < TURNS; turn++) {
                uint unit = turn * LANES + lane;
                if (UNITS % LANES != 0 && unit >= UNITS)
                    continue;
                uvec4 bits[TOKENS];
                [[unroll]] for (uint t = 0; t < TOKENS; t++)
                    bits[t] = load_unit(push.values, value_at[t] + unit);
                [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
                    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                        // What is left out may be NaN.
                        vec4 x = is_valid[t] ? unpack(bits[t], v) : vec4(0);
                        [[unroll]] for (uint h = 0; h < HEADS; h++)
                            found[h * THREAD_VECTORS_MAX + turn * UNIT_VECTORS + v] +=
                                scores[h * TOKENS + t] * x;
                    }
                }
            }
        }
    }

    [[unroll]] for (uint h = 0; h < HEADS; h++)
        if (lane == 0)
            states[h * GROUPS + group] = vec2(highest[h], total[h]);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        barrier();
        [[unroll]] for (uint i = 0; i < THREAD_VECTORS; i++) {
            uint unit = i / UNIT_VECTORS * LANES + lane;
            if (unit < UNITS)
                merged[(group * UNITS + unit) * UNIT_VECTORS + i % UNIT_VECTORS] =
                    found[h * THREAD_VECTORS_MAX + i];
        }
        barrier();
        if (h >= heads)
            continue;
        float top = LOWEST;
        for (uint g = 0; g < GROUPS; g++)
            top = max(top, states[h * GROUPS + g].x);
        float sum = 0;
        for (uint g = 0; g < GROUPS; g++)
            sum += states[h * GROUPS + g].y * exp2(states[h * GROUPS + g].x - top);
        uint head = first_head + h;
        uvec2 partial = find_partial(gl_WorkGroupID.z, head, kv_heads * GROUP, part);
        uvec2 to = find_out(row.query_start, head);
        for (uint i = gl_LocalInvocationIndex; i < DIM / 4; i += SKIM_THREADS) {
            vec4 x = vec4(0);
            for (uint g = 0; g < GROUPS; g++)
                x += exp2(states[h * GROUPS + g].x - top) * merged[g * (DIM / 4) + i];
            if (parts > 1)
                Vectors(partial).at[1 + i] = x;
            else
                store_elements(to, 4 * i, type_of(push.out_head), sum > 0 ? x / sum : vec4(0));
        }
        if (gl_LocalInvocationIndex == 0) {
            if (parts > 1)
                Vectors(partial).at[0] = vec4(top, sum, 0, 0);
            else
                store_lse(row.query_start, head, top, sum);
        }
    }
}
