// What attend, its merge and prefill share.
#include "common.glsl"

layout(push_constant, std430) uniform Push { SKIM_ATTEND_FIELDS } push;


// What a general kernel finds where another finds the partial results.
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Shape {
    uvec2 partials;
    uint word, parts;
};

uvec2 partials;
uint parts_max; // most parts of a list

void read_shape()
{
    partials = push.partials;
    parts_max = PARTS;
    uint word = 0;
    if (GENERAL) {
        Shape shape = Shape(push.partials);
        partials = shape.partials;
        parts_max = shape.parts;
        word = shape.word;
    }
    set_shape(word);
}

bool is_listed(Row row)
{
    return !is_null(push.lists) && (row.flags & ROW_DENSE) == 0;
}

uint count_pages(Row row)
{
    uint pages = is_listed(row) ? min(row.select_count, row.page_count) : row.page_count;
    return SKIM_MUTANT(attend_drops_last_page) && pages > 0 ? pages - 1 : pages;
}

// A list is attended in so many parts: its length and the shape, which gives the most, decide.
uint count_parts(Row row)
{
    return clamp(count_pages(row) * PAGE_SIZE / SKIM_PART_TOKENS, 1, parts_max);
}

uvec2 find_query(uint token, uint head)
{
    return find_element(push.q, token, push.q_token, head, push.q_head);
}

// Where part p of a query head leaves what it found: max and sum in base 2, then out unnormalised.
uvec2 find_partial(uint row, uint head, uint heads, uint part)
{
    uvec2 of_head = advance(partials, row * heads + head, parts_max * (4 + DIM), 2);
    return advance(of_head, part, 4 + DIM, 2);
}

uvec2 find_out(uint token, uint head)
{
    return find_element(push.out_, token, push.out_token, head, push.out_head);
}

void store_lse(uint token, uint head, float highest, float sum)
{
    if (is_null(push.lse))
        return;
    uvec2 lse = find_element(push.lse, token, push.lse_token, head, push.lse_head);
    Words(lse).at[0] = sum > 0 ? floatBitsToUint(LN_2 * (highest + log2(sum)))
                               : 0xff800000u; // minus infinity
}

uint stored_head(uint kv_head)
{
    return SKIM_MUTANT(attend_wrong_kv_head) ? 0 : kv_head;
}

uint slot_of(Words table, uint page)
{
    return SKIM_MUTANT(attend_wrong_slot) ? page % 2 : table.at[page];
}
