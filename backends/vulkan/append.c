#include "backends/vulkan/queue.h"

#include "runtime/mutant.h"

#include <string.h>

// Of a page of one kv head; int8 bounds are padded to whole units, and have scales.
static uint64_t bounds_page(const skim_shape *shape)
{
    bool i8 = shape->bounds_type == SKIM_BOUNDS_I8;
    return 2 * (i8 ? skim_round_up(shape->key_dim, 16)
                   : (uint64_t)shape->key_dim * skim_type_size(shape->type));
}

uint64_t skim_vulkan_bounds_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    uint64_t pages = (uint64_t)shape->slots * shape->kv_heads;
    uint64_t scales = shape->bounds_type == SKIM_BOUNDS_I8 ? 2 * pages * sizeof(float) : 0;
    return skim_round_up(pages * bounds_page(shape) + scales, 64);
}

typedef struct append_push {
    SKIM_APPEND_FIELDS
} append_push;
_Static_assert(sizeof(append_push) <= 128, "push constants");

static bool is_of_units(uint64_t address, const skim_tensor *tensor)
{
    uint64_t size = skim_type_size(tensor->type);
    return address % 16 == 0 && tensor->token_stride * size % 16 == 0 &&
           tensor->head_stride * size % 16 == 0;
}

static skim_status fill_push(skim_vulkan_queue *queue, const skim_append_args *args, bool split,
                             append_push *push)
{
    const skim_shape *shape = args->shape;
    *push = (append_push){
        .key_page = skim_vulkan_units(args->keys.page_stride, shape->type),
        .key_head = skim_vulkan_units(args->keys.head_stride, shape->type),
        .key_token = skim_vulkan_units(args->keys.token_stride, shape->type),
        .value_page = skim_vulkan_units(args->values.page_stride, shape->type),
        .value_head = skim_vulkan_units(args->values.head_stride, shape->type),
        .value_token = skim_vulkan_units(args->values.token_stride, shape->type),
        .slots = shape->slots,
        .shape = skim_vulkan_shape_word(shape),
    };
    skim_status status = skim_vulkan_locate_rows(queue, &args->rows, args->row_count, &push->rows);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_table(queue, &args->table, args->table_count, &push->table);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_tensor(queue, "k", &args->k, args->token_count, shape->kv_heads,
                                           shape->key_dim, &push->k, &push->k_token, &push->k_head);
    if (status == SKIM_OK)
        status =
            skim_vulkan_locate_tensor(queue, "v", &args->v, args->token_count, shape->kv_heads,
                                      shape->value_dim, &push->v, &push->v_token, &push->v_head);
    if (status == SKIM_OK && args->centre)
        status = skim_vulkan_locate(queue, "centre", args->centre, args->centre_offset,
                                    (uint64_t)shape->kv_heads * shape->key_dim * sizeof(float),
                                    &push->centre);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->keys.buffer, args->keys.offset, split,
                                          &push->keys);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->values.buffer, args->values.offset, split,
                                          &push->values);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->bounds, args->bounds_offset, split,
                                          &push->bounds);
    return status;
}

// Pages that a row can touch.
static uint32_t touched_pages(const skim_append_args *args)
{
    const skim_shape *shape = args->shape;
    if (args->k.type == SKIM_TYPE_NONE)
        return shape->max_pages;
    uint32_t pages = args->token_count / shape->page_size + 2;
    return pages < shape->max_pages ? pages : shape->max_pages;
}

skim_status skim_vulkan_append(skim_backend_queue *base, const skim_append_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    bool split = skim_vulkan_is_split(args->keys.buffer) ||
                 skim_vulkan_is_split(args->values.buffer) || skim_vulkan_is_split(args->bounds);
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    if (split)
        constants.value[SKIM_SPEC_CHUNK_SHIFT] = queue->device->chunk_shift;

    append_push push;
    skim_status status = fill_push(queue, args, split, &push);
    if (status != SKIM_OK)
        return status;
    uint32_t flags = SKIM_APPEND_STORE;
    if (push.k && is_of_units(push.k, &args->k) && is_of_units(push.v, &args->v))
        flags |= SKIM_APPEND_UNITS;
    bool freezes = args->freeze || (SKIM_MUTANT(append_freezes_again) && args->centre);
    push.flags = freezes ? flags : flags | SKIM_APPEND_BOUNDS;
    skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_APPEND,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {touched_pages(args), shape->kv_heads, args->row_count},
    };
    status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    if (status != SKIM_OK || !freezes)
        return status;

    // The bounds need the centre, and the centre all of the keys.
    append_push centre = push;
    centre.slots = args->row_count;
    skim_vulkan_dispatch mean = dispatch;
    mean.kernel = SKIM_VULKAN_CENTRE;
    mean.push = &centre;
    memcpy(mean.groups, (uint32_t[]){shape->kv_heads, 1, 1}, sizeof mean.groups);
    status = skim_vulkan_record_dispatch(queue, &mean, true);
    push.flags = SKIM_APPEND_BOUNDS;
    if (status == SKIM_OK)
        status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    return status;
}
