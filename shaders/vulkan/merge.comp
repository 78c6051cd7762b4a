// Merges the parts in which attend went through a list, in their order. One workgroup a query head.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "attend.glsl"

layout(local_size_x = SKIM_APPEND_THREADS) in;

void main()
{
    read_shape();
    Row row = load_row(push.rows, gl_WorkGroupID.y);
    if (row.query_count != 1)
        return;
    uint parts = count_parts(row);
    if (parts == 1)
        return;
    uint head = gl_WorkGroupID.x;
    uvec2 partial = find_partial(gl_WorkGroupID.y, head, gl_NumWorkGroups.x, 0);
    const uint stride = 1 + DIM / 4;
    float top = LOWEST;
    for (uint p = 0; p < parts; p++)
        top = max(top, Vectors(partial).at[p * stride].x);
    float sum = 0;
    vec4 found = vec4(0);
    uint i = gl_LocalInvocationIndex;
    for (uint p = 0; p < parts; p++) {
        vec2 state = Vectors(partial).at[p * stride].xy;
        float weight = SKIM_MUTANT(attend_merge_unweighted) ? 1.0 : exp2(state.x - top);
        sum += weight * state.y;
        if (i < DIM / 4)
            found += weight * Vectors(partial).at[p * stride + 1 + i];
    }
    if (i < DIM / 4)
        store_elements(find_out(row.query_start, head), 4 * i, type_of(push.out_head),
                       sum > 0 ? found / sum : vec4(0));
    if (i == 0)
        store_lse(row.query_start, head, top, sum);
}
