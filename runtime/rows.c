#include "runtime/rows.h"

#include "runtime/mutant.h"
#include "runtime/policy.h"

skim_row *skim_rows_of(const skim_cache *cache, uint32_t policy_class)
{
    return cache->rows + (size_t)policy_class * cache->max_sequences;
}

skim_tensor skim_rows_tensor(const skim_cache *cache, uint32_t policy_class)
{
    uint64_t rows = (uint64_t)policy_class * cache->max_sequences;
    return skim_tensor_buffer(cache->rows_buffer, rows * sizeof(skim_row), SKIM_U32);
}

void skim_rows_fill(const skim_cache *cache, uint32_t policy_class, const skim_policy *policy,
                    bool dense)
{
    skim_row *rows = skim_rows_of(cache, policy_class);
    for (uint32_t i = 0; i < cache->step.count; i++) {
        const skim_step_member *member = &cache->step.members[i];
        uint32_t length = member->sequence->length + member->tokens;
        if (SKIM_MUTANT(core_length_off_by_one) && length > 1 && length % cache->page_size == 1)
            length--;
        rows[i] = (skim_row){
            .length = length,
            .query_start = member->query_start,
            .query_count = member->tokens,
            .table_start = member->sequence->index * cache->max_pages,
        };
        skim_policy_row(policy, dense, cache->page_size, &rows[i]);
        if (member->clear)
            rows[i].flags |= SKIM_ROW_CLEAR;
    }
}

skim_status skim_rows_upload(skim_cache *cache, uint32_t first_class, uint32_t count)
{
    // Classes lie max_sequences rows apart: one upload takes them all with what lies between.
    uint64_t stride = (uint64_t)cache->max_sequences * sizeof(skim_row);
    uint64_t size = (count - 1) * stride + cache->step.count * sizeof(skim_row);
    return skim_queue_upload(cache->queue, cache->rows_buffer, first_class * stride,
                             skim_rows_of(cache, first_class), size);
}

skim_status skim_table_upload(skim_sequence *sequence)
{
    skim_cache *cache = sequence->cache;
    uint32_t first = sequence->uploaded;
    if (first >= sequence->page_count)
        return SKIM_OK;
    uint64_t start = (uint64_t)sequence->index * cache->max_pages + first;
    skim_status status = skim_queue_upload(
        cache->queue, cache->tables, start * sizeof(uint32_t), sequence->slots + first,
        (uint64_t)(sequence->page_count - first) * sizeof(uint32_t));
    if (status == SKIM_OK)
        sequence->uploaded = sequence->page_count;
    return status;
}

uint32_t skim_table_count(const skim_cache *cache)
{
    return cache->max_sequences * cache->max_pages;
}

skim_tensor skim_table_tensor(const skim_cache *cache)
{
    return skim_tensor_buffer(cache->tables, 0, SKIM_U32);
}
