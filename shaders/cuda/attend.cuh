// What attend and prefill share.
#ifndef SKIM_CUDA_ATTEND_CUH
#define SKIM_CUDA_ATTEND_CUH

#include "shaders/cuda/common.cuh"

SKIM_DEVICE bool is_listed(const skim_cuda_attend_launch &launch, const skim_row &row)
{
    return launch.lists != 0 && (row.flags & SKIM_ROW_DENSE) == 0;
}

SKIM_DEVICE uint32_t count_pages(const skim_cuda_attend_launch &launch, const skim_row &row)
{
    const uint32_t pages =
        is_listed(launch, row) ? smaller(row.select_count, row.page_count) : row.page_count;
    return SKIM_MUTANT(attend_drops_last_page) && pages > 0 ? pages - 1 : pages;
}

// A list is attended in so many parts: its length and the shape, which gives the most, decide.
SKIM_DEVICE uint32_t count_parts(const skim_cuda_attend_launch &launch, const skim_row &row)
{
    const uint32_t tokens = count_pages(launch, row) << page_shift_of(launch.shape);
    return larger(smaller(tokens / SKIM_PART_TOKENS, launch.parts), 1u);
}

SKIM_DEVICE uint64_t find_query(const skim_cuda_attend_launch &launch, uint32_t token,
                                uint32_t head)
{
    return find_element(launch.q, token, launch.q_token, head, launch.q_head);
}

// Where part p of a query head leaves what it found: max and sum in base 2, 0, 0, then out
// unnormalised.
SKIM_DEVICE float *find_partial(const skim_cuda_attend_launch &launch, uint32_t row, uint32_t head,
                                uint32_t heads, uint32_t part)
{
    const uint64_t of_head = ((uint64_t)row * heads + head) * launch.parts + part;
    return at<float>(launch.partials) + of_head * (4 + dim_of(launch.shape));
}

// Four channels of out, which were summed up with weights whose sum is this.
SKIM_DEVICE void store_out(const skim_cuda_attend_launch &launch, uint32_t token, uint32_t head,
                           uint32_t c, const float *found, float sum)
{
    float x[4];
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        x[i] = sum > 0 ? found[i] / sum : 0;
    store_elements(find_element(launch.out_, token, launch.out_token, head, launch.out_head), c,
                   type_of(launch.out_head), x);
}

SKIM_DEVICE void store_lse(const skim_cuda_attend_launch &launch, uint32_t token, uint32_t head,
                           float highest, float sum)
{
    if (launch.lse == 0)
        return;
    const uint64_t lse = find_element(launch.lse, token, launch.lse_token, head, launch.lse_head);
    *at<float>(lse) = sum > 0 ? LN_2 * (highest + log2_exact(sum)) : as_float(0xff800000u);
}

SKIM_DEVICE uint32_t stored_head(uint32_t kv_head)
{
    return SKIM_MUTANT(attend_wrong_kv_head) ? 0 : kv_head;
}

SKIM_DEVICE uint32_t slot_of(const skim_cuda_attend_launch &launch, const skim_row &row,
                             uint32_t page)
{
    return SKIM_MUTANT(attend_wrong_slot) ? page % 2 : find_table(launch.table, row)[page];
}

#endif
