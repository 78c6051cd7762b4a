#include "backends/vulkan/queue.h"

// A workgroup's keys of order take at most so many bytes of shared memory.
enum { NEAR_KEYS_MAX = 4096 };

typedef struct select_push {
    SKIM_SELECT_FIELDS
} select_push;
_Static_assert(sizeof(select_push) <= 128, "push constants");

uint32_t skim_vulkan_near_keys(const skim_shape *shape)
{
    // Few sizes, so that shapes share kernels.
    for (uint32_t keys = 256; keys <= NEAR_KEYS_MAX; keys *= 4)
        if (shape->max_pages <= keys)
            return keys;
    return 1;
}

uint64_t skim_vulkan_select_scratch(const skim_shape *shape)
{
    if (skim_vulkan_near_keys(shape) > 1)
        return 0;
    return (uint64_t)shape->max_rows * shape->q_heads * shape->max_pages * sizeof(uint32_t);
}

skim_status skim_vulkan_select(skim_backend_queue *base, const skim_select_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_vulkan_set_lists(&constants, queue->device, shape, args->select);
    const bool of_heads = constants.value[SKIM_SPEC_LISTS] == SKIM_LISTS_HEAD;
    const uint32_t per_row = of_heads ? shape->q_heads : shape->kv_heads;

    select_push push = {
        .keys = queue->scratch.address,
        .score_stride = (uint32_t)args->score_stride,
        .list_stride = (uint32_t)args->list_stride,
        .key_stride = shape->max_pages,
        .combine = args->combine,
        .shape = skim_vulkan_shape_word(shape),
        .scale = args->scale,
    };
    skim_status status = skim_vulkan_locate_rows(queue, &args->rows, args->row_count, &push.rows);
    if (status == SKIM_OK)
        status =
            skim_vulkan_locate_scores(queue, args->scores, args->scores_offset, args->score_stride,
                                      args->row_count * shape->q_heads, &push.scores);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_lists(queue, args->lists, args->lists_offset, args->list_stride,
                                          args->row_count * per_row, &push.lists);
    if (status != SKIM_OK)
        return status;
    const skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_SELECT,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {per_row, args->row_count, 1},
    };
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
