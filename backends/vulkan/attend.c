#include "backends/vulkan/queue.h"

#include "runtime/mutant.h"

#include <string.h>

// So many workgroups fill a large GPU; partial results take no more than so many bytes.
enum { WORKGROUPS = 512 };
static const uint64_t PARTIALS_MAX = (uint64_t)128 << 20;

typedef struct attend_push {
    SKIM_ATTEND_FIELDS
} attend_push;
_Static_assert(sizeof(attend_push) <= 128, "push constants");

static uint64_t partial_size(const skim_shape *shape)
{
    return (4 + (uint64_t)shape->key_dim) * sizeof(float);
}

// Parts that a list can be attended in. It follows from the shape alone.
uint32_t skim_vulkan_parts(const skim_shape *shape)
{
    uint64_t lists = (uint64_t)shape->max_rows * shape->q_heads;
    uint64_t parts = (WORKGROUPS + shape->kv_heads - 1) / shape->kv_heads;
    uint64_t tokens = (uint64_t)shape->max_pages * shape->page_size;
    uint64_t longest = tokens / SKIM_PART_TOKENS;
    uint64_t fitting = PARTIALS_MAX / (lists * partial_size(shape));
    parts = parts < longest ? parts : longest;
    parts = parts < fitting ? parts : fitting;
    parts = parts < SKIM_VULKAN_PARTS_MAX ? parts : SKIM_VULKAN_PARTS_MAX;
    return parts < 1 ? 1 : (uint32_t)parts;
}

uint64_t skim_vulkan_attend_scratch(const skim_shape *shape)
{
    uint32_t parts = skim_vulkan_parts(shape);
    return parts > 1 ? parts * (uint64_t)shape->max_rows * shape->q_heads * partial_size(shape) : 0;
}

static skim_status fill_push(skim_vulkan_queue *queue, const skim_attend_args *args,
                             uint32_t lists_per_row, bool split, attend_push *push)
{
    const skim_shape *shape = args->shape;
    *push = (attend_push){
        .partials = queue->scratch.address,
        .key_page = skim_vulkan_units(args->keys.page_stride, shape->type),
        .key_head = skim_vulkan_units(args->keys.head_stride, shape->type),
        .key_token = skim_vulkan_units(args->keys.token_stride, shape->type),
        .value_page = skim_vulkan_units(args->values.page_stride, shape->type),
        .value_head = skim_vulkan_units(args->values.head_stride, shape->type),
        .value_token = skim_vulkan_units(args->values.token_stride, shape->type),
        .list_stride = (uint32_t)args->list_stride,
        .scale = SKIM_MUTANT(attend_wrong_scale) ? 1.0f / (float)shape->key_dim : args->scale,
    };
    skim_status status = skim_vulkan_locate_rows(queue, &args->rows, args->row_count, &push->rows);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_table(queue, &args->table, args->table_count, &push->table);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_tensor(queue, "q", &args->q, args->token_count, shape->q_heads,
                                           shape->key_dim, &push->q, &push->q_token, &push->q_head);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_tensor(queue, "out", &args->out, args->token_count,
                                           shape->q_heads, shape->value_dim, &push->out_,
                                           &push->out_token, &push->out_head);
    if (status == SKIM_OK)
        status =
            skim_vulkan_locate_tensor(queue, "lse", &args->lse, args->token_count, shape->q_heads,
                                      1, &push->lse, &push->lse_token, &push->lse_head);
    if (status == SKIM_OK && args->lists)
        status = skim_vulkan_locate_lists(queue, args->lists, args->lists_offset, args->list_stride,
                                          args->row_count * lists_per_row, &push->lists);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->keys.buffer, args->keys.offset, split,
                                          &push->keys);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_units(queue, args->values.buffer, args->values.offset, split,
                                          &push->values);
    return status;
}

// A general kernel learns the shape from memory: the push constants are full.
static skim_status describe_shape(skim_vulkan_queue *queue, const skim_shape *shape,
                                  attend_push *push)
{
    const struct { // Shape of shaders/vulkan/attend.glsl
        uint64_t partials;
        uint32_t word, parts;
    } description = {push->partials, skim_vulkan_shape_word(shape), skim_vulkan_parts(shape)};
    skim_vulkan_staging *block;
    uint64_t at;
    skim_status status = skim_vulkan_stage(queue, sizeof description, &block, &at);
    if (status != SKIM_OK)
        return status;
    memcpy(block->mapping.bytes + at, &description, sizeof description);
    push->partials = block->mapping.chunk.address + at;
    return SKIM_OK;
}

// Rows with more than one query, in pieces that a submission can hold: the planned length counts,
// since how long rows are only the device knows.
static skim_status prefill(skim_vulkan_queue *queue, const skim_attend_args *args,
                           skim_vulkan_dispatch dispatch)
{
    const skim_shape *shape = args->shape;
    const uint64_t queries = (uint64_t)args->token_count * shape->q_heads / shape->kv_heads;
    const uint64_t tile = SKIM_PREFILL_QUERIES * dispatch.constants->value[SKIM_SPEC_TOKENS];
    const uint64_t tiles = (queries + tile - 1) / tile;
    const double of_tile =
        2.0 * (double)tile * shape->max_pages * shape->page_size * shape->key_dim * shape->kv_heads;
    uint64_t most = (uint64_t)(queue->device->submission_work / of_tile);
    most = most < 1 ? 1 : most;
    dispatch.kernel = SKIM_VULKAN_PREFILL;
    dispatch.groups[1] = shape->kv_heads;
    for (uint64_t first = 0; first < tiles; first += most) {
        uint64_t count = tiles - first < most ? tiles - first : most;
        dispatch.first = (uint32_t)first;
        dispatch.groups[0] = (uint32_t)count;
        // Nothing that runs beside it writes what it reads.
        skim_status status = skim_vulkan_record_dispatch(queue, &dispatch, false);
        if (status == SKIM_OK)
            status = skim_vulkan_add_work(queue, (double)count * of_tile);
        if (status != SKIM_OK)
            return status;
    }
    return SKIM_OK;
}

skim_status skim_vulkan_attend(skim_backend_queue *base, const skim_attend_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    bool split =
        skim_vulkan_is_split(args->keys.buffer) || skim_vulkan_is_split(args->values.buffer);
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_vulkan_set_lists(&constants, queue->device, shape,
                          args->lists ? args->select : SKIM_SELECT_GROUP);
    bool of_heads = constants.value[SKIM_SPEC_LISTS] == SKIM_LISTS_HEAD;
    if (split)
        constants.value[SKIM_SPEC_CHUNK_SHIFT] = queue->device->chunk_shift;
    attend_push push;
    skim_status status =
        fill_push(queue, args, of_heads ? shape->q_heads : shape->kv_heads, split, &push);
    if (status == SKIM_OK && constants.value[SKIM_SPEC_DIM] == 0)
        status = describe_shape(queue, shape, &push);
    if (status != SKIM_OK)
        return status;

    const uint32_t parts = skim_vulkan_parts(shape);
    skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_ATTEND,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {parts, skim_vulkan_head_chunks(shape, constants.value[SKIM_SPEC_HEADS]),
                   args->row_count},
    };
    status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    // Only a row of several queries makes more tokens than one.
    if (status == SKIM_OK && args->token_count > 1)
        status = prefill(queue, args, dispatch);
    if (status != SKIM_OK || parts == 1)
        return status;
    dispatch.kernel = SKIM_VULKAN_MERGE;
    dispatch.groups[0] = shape->q_heads;
    dispatch.groups[1] = args->row_count;
    dispatch.groups[2] = 1;
    return skim_vulkan_record_dispatch(queue, &dispatch, true);
}
