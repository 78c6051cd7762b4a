// The centre of int8 bounds: the mean of a call's keys, read from their pages. One workgroup a kv
// head; threads share the units of a key, and take tokens in turn. Compensated sums, two for each
// channel, so that neither the largest keys overflow nor the smallest vanish.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(local_size_x = SKIM_SELECT_THREADS) in;
layout(push_constant, std430) uniform Push { SKIM_APPEND_FIELDS } push;

#define LANES_OF_TOKENS (SKIM_SELECT_THREADS / UNITS)
const float LARGE = 1.152921504606847e18;       // 2^60
const float SHRINK = 9.094947017729282e-13;     // 2^-40
const float GROW = 1099511627776.0;             // 2^40
const float FLOAT_MAX = 3.40282347e38;

shared vec4 small_sums[SKIM_SELECT_THREADS], large_sums[SKIM_SELECT_THREADS];
shared uvec4 counts[SKIM_SELECT_THREADS];

void add(inout vec4 sum, inout vec4 lost, vec4 x)
{
    precise vec4 y = x - lost;
    precise vec4 t = sum + y;
    precise vec4 high = t - sum;
    precise vec4 low = high - y;
    lost = low;
    sum = t;
}

void main()
{
    set_shape(push.shape);
    uint kv_head = gl_WorkGroupID.x;
    uint lane = gl_LocalInvocationIndex / UNITS, unit = gl_LocalInvocationIndex % UNITS;
    vec4 sums[2][VECTORS_MAX], lost[2][VECTORS_MAX];
    uvec4 finite[VECTORS_MAX];
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
        sums[0][v] = sums[1][v] = lost[0][v] = lost[1][v] = vec4(0);
        finite[v] = uvec4(0);
    }
    for (uint r = 0; r < push.slots; r++) { // here: the rows
        Row row = load_row(push.rows, r);
        Words table = Words(advance(push.table, row.table_start, 1, 2));
        uint first = row.tokens - row.query_count;
        for (uint i = lane; i < row.query_count && lane < LANES_OF_TOKENS; i += LANES_OF_TOKENS) {
            uint token = first + i;
            uvec4 bits = load_unit(push.keys, table.at[token / PAGE_SIZE] * push.key_page +
                                                  kv_head * push.key_head +
                                                  token % PAGE_SIZE * push.key_token + unit);
            [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
                vec4 x = unpack(bits, v);
                bvec4 is_finite = lessThanEqual(abs(x), vec4(FLOAT_MAX));
                bvec4 is_large = greaterThanEqual(abs(x), vec4(LARGE));
                x = mix(vec4(0), x, is_finite);
                add(sums[0][v], lost[0][v], mix(x, vec4(0), is_large));
                add(sums[1][v], lost[1][v], mix(vec4(0), x * SHRINK, is_large));
                finite[v] += uvec4(is_finite);
            }
        }
    }
    uvec2 centre = advance(push.centre, kv_head, DIM, 2);
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
        barrier();
        small_sums[gl_LocalInvocationIndex] = sums[0][v];
        large_sums[gl_LocalInvocationIndex] = sums[1][v];
        counts[gl_LocalInvocationIndex] = finite[v];
        barrier();
        if (lane > 0)
            continue;
        vec4 low = vec4(0), low_lost = vec4(0), high = vec4(0), high_lost = vec4(0);
        uvec4 count = uvec4(0);
        for (uint l = 0; l < LANES_OF_TOKENS; l++) {
            add(low, low_lost, small_sums[l * UNITS + unit]);
            add(high, high_lost, large_sums[l * UNITS + unit]);
            count += counts[l * UNITS + unit];
        }
        vec4 n = vec4(max(count, uvec4(1)));
        vec4 mean = clamp(low / n + high / n * GROW, -FLOAT_MAX, FLOAT_MAX);
        store_elements(centre, unit * UNIT_CHANNELS + 4 * v, F32, mean);
    }
}
