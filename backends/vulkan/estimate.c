#include "backends/vulkan/queue.h"

#include "runtime/mutant.h"

typedef struct estimate_push {
    SKIM_ESTIMATE_FIELDS
} estimate_push;
_Static_assert(sizeof(estimate_push) <= 128, "push constants");

static skim_status fill_push(skim_vulkan_queue *queue, const skim_estimate_args *args, bool split,
                             estimate_push *push)
{
    const skim_shape *shape = args->shape;
    *push = (estimate_push){
        .slots = shape->slots,
        .shape = skim_vulkan_shape_word(shape),
        .score_stride = (uint32_t)args->score_stride,
        .spread = SKIM_MUTANT(estimate_no_spread) ? 1.0f : args->spread,
    };
    skim_status status = skim_vulkan_locate_rows(queue, &args->rows, args->row_count, &push->rows);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_table(queue, &args->table, args->table_count, &push->table);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_tensor(queue, "q", &args->q, args->token_count, shape->q_heads,
                                           shape->key_dim, &push->q, &push->q_token, &push->q_head);
    if (status == SKIM_OK && args->centre)
        status = skim_vulkan_locate(queue, "centre", args->centre, args->centre_offset,
                                    (uint64_t)shape->kv_heads * shape->key_dim * sizeof(float),
                                    &push->centre);
    if (status == SKIM_OK)
        status =
            skim_vulkan_locate_scores(queue, args->scores, args->scores_offset, args->score_stride,
                                      args->row_count * shape->q_heads, &push->scores);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->bounds, args->bounds_offset, split,
                                          &push->bounds);
    return status;
}

skim_status skim_vulkan_estimate(skim_backend_queue *base, const skim_estimate_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    bool split = skim_vulkan_is_split(args->bounds);
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    if (split)
        constants.value[SKIM_SPEC_CHUNK_SHIFT] = queue->device->chunk_shift;
    estimate_push push;
    skim_status status = fill_push(queue, args, split, &push);
    if (status != SKIM_OK)
        return status;
    const uint32_t pages =
        SKIM_THREADS / constants.value[SKIM_SPEC_LANES] * constants.value[SKIM_SPEC_TOKENS];
    const uint32_t blocks = (shape->max_pages + pages - 1) / pages;
    const skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_ESTIMATE,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {blocks, skim_vulkan_head_chunks(shape, constants.value[SKIM_SPEC_HEADS]),
                   args->row_count},
    };
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
