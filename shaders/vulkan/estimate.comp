// Scores of pages from their bounds. A workgroup takes some pages (64 on a GPU) of one row and up to
// HEADS query heads of one kv head; LANES threads share a page, and each reads every LANES-th unit of
// its bounds.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = SKIM_THREADS) in;
layout(push_constant, std430) uniform Push { SKIM_ESTIMATE_FIELDS } push;

const uint CHANNELS = BOUNDS_TYPE == I8 ? 16 : UNIT_CHANNELS; // of a unit of bounds
const uint VECTORS = CHANNELS / 4;
#define HALF (BOUNDS_UNITS / 2)
const uint GROUPS = SKIM_THREADS / LANES;
const uint PAGES = TOKENS; // of a thread
#define TURNS ((BOUNDS_UNITS + LANES - 1) / LANES)
const uint CENTRE_LANES = 16;
#define HEAD_CHUNKS ((GROUP + HEADS - 1) / HEADS)

shared vec4 weights[HEADS * BOUNDS_UNITS_MAX * VECTORS]; // a of B0's units, b of B1's
shared float offsets[HEADS * CENTRE_LANES];          // parts of the sum over the centre

vec4 unpack_bounds(uvec4 unit, uint v)
{
    if (BOUNDS_TYPE == NATIVE)
        return unpack(unit, v);
    int word = int(unit[v]);
    return vec4(bitfieldExtract(word, 0, 8), bitfieldExtract(word, 8, 8),
                bitfieldExtract(word, 16, 8), bitfieldExtract(word, 24, 8));
}

uvec2 find_query(Row row, uint head)
{
    return find_element(push.q, row.query_start, push.q_token, head, push.q_head);
}

vec4 load_query(uvec2 q, uint c)
{
    vec4 x = load_elements(q, c, type_of(push.q_head));
    if (SKIM_MUTANT(estimate_drops_channel) && c + 8 >= DIM)
        x = vec4(0);
    return x;
}

void prepare_weights(Row row, uint first_head, uint heads)
{
    for (uint i = gl_LocalInvocationIndex; i < HEADS * BOUNDS_UNITS * VECTORS; i += SKIM_THREADS) {
        uint h = i / (BOUNDS_UNITS * VECTORS);
        uint unit = i / VECTORS % BOUNDS_UNITS;
        uint c = (unit % HALF * VECTORS + i % VECTORS) * 4;
        vec4 q = h < heads ? load_query(find_query(row, first_head + h), c) : vec4(0);
        bool of_b1 = (unit >= HALF) != SKIM_MUTANT(estimate_swaps_bounds);
        // Comparisons that keep a NaN, so that it reaches the score.
        vec4 below = mix(q, vec4(0), greaterThan(q, vec4(0)));
        vec4 above = mix(q, vec4(0), lessThan(q, vec4(0)));
        if (BOUNDS == MINMAX)
            weights[i] = of_b1 ? below : above;
        else
            weights[i] = of_b1 ? push.spread * abs(q) : q;
    }
    // Both kinds have the same: the sum of a * c0 and b * c1 is that of q * c0.
    uint h = gl_LocalInvocationIndex / CENTRE_LANES;
    if (BOUNDS_TYPE == I8 && h < HEADS) {
        float sum = 0;
        uint kv_head = first_head / GROUP;
        if (h < heads && !SKIM_MUTANT(estimate_i8_no_centre)) {
            uvec2 q = find_query(row, first_head + h);
            uvec2 centre = advance(push.centre, kv_head, DIM, 2);
            for (uint c = gl_LocalInvocationIndex % CENTRE_LANES * 4; c < DIM; c += 4 * CENTRE_LANES)
                sum += dot(load_query(q, c), load_elements(centre, c, F32));
        }
        offsets[gl_LocalInvocationIndex] = sum;
    }
}

float sum_offsets(uint h)
{
    float sum = 0;
    for (uint i = 0; i < CENTRE_LANES; i++)
        sum += offsets[h * CENTRE_LANES + i];
    return sum;
}

void main()
{
    set_shape(push.shape);
    Row row = load_row(push.rows, gl_WorkGroupID.z);
    uint first_page = gl_WorkGroupID.x * GROUPS * PAGES;
    if ((row.flags & ROW_DENSE) != 0 || row.query_count == 0 || first_page >= row.page_count)
        return;
    const uint kv_heads = gl_NumWorkGroups.y / HEAD_CHUNKS;
    uint kv_head = gl_WorkGroupID.y / HEAD_CHUNKS;
    uint in_group = gl_WorkGroupID.y % HEAD_CHUNKS * HEADS;
    uint first_head = kv_head * GROUP + in_group;
    uint heads = min(HEADS, GROUP - in_group);
    prepare_weights(row, first_head, heads);
    barrier();

    uint thread = thread_index();
    uint lane = thread % LANES, group = thread / LANES;
    uint first_unit[PAGES];
    vec2 scales[PAGES];
    Words table = Words(advance(push.table, row.table_start, 1, 2));
    [[unroll]] for (uint p = 0; p < PAGES; p++) {
        uint page = min(first_page + p * GROUPS + group, row.page_count - 1);
        uint slot = kv_head * push.slots + table.at[page];
        first_unit[p] = slot * BOUNDS_UNITS;
        if (BOUNDS_TYPE == I8) {
            uint at = kv_heads * push.slots * BOUNDS_UNITS + slot / 2;
            uvec4 pair = load_unit(push.bounds, at);
            scales[p] = uintBitsToFloat((slot & 1) == 0 ? pair.xy : pair.zw);
        }
    }

    float sums[HEADS * PAGES];
    [[unroll]] for (uint i = 0; i < HEADS * PAGES; i++)
        sums[i] = 0;
    for (uint turn = 0; turn < TURNS; turn++) {
        uint unit = turn * LANES + lane;
        if (BOUNDS_UNITS % LANES != 0 && unit >= BOUNDS_UNITS)
            continue;
        uvec4 bits[PAGES];
        [[unroll]] for (uint p = 0; p < PAGES; p++)
            bits[p] = load_unit(push.bounds, first_unit[p] + unit);
        [[unroll]] for (uint v = 0; v < VECTORS; v++) {
            vec4 x[PAGES];
            [[unroll]] for (uint p = 0; p < PAGES; p++) {
                x[p] = unpack_bounds(bits[p], v);
                if (BOUNDS_TYPE == I8)
                    x[p] *= unit < HALF ? scales[p].x : scales[p].y;
            }
            [[unroll]] for (uint h = 0; h < HEADS; h++) {
                vec4 weight = weights[(h * BOUNDS_UNITS + unit) * VECTORS + v];
                [[unroll]] for (uint p = 0; p < PAGES; p++)
                    sums[h * PAGES + p] += dot(x[p], weight);
            }
        }
    }

    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        uvec2 scores = advance(push.scores, gl_WorkGroupID.z * kv_heads * GROUP + first_head + h,
                               push.score_stride, 2);
        float offset = BOUNDS_TYPE == I8 ? sum_offsets(h) : 0.0;
        [[unroll]] for (uint p = 0; p < PAGES; p++) {
            float score = sum_lanes(sums[h * PAGES + p]);
            uint page = first_page + p * GROUPS + group;
            if (lane == (h * PAGES + p) % LANES && h < heads && page < row.page_count)
                Floats(scores).at[page] = score + offset;
        }
    }
}
