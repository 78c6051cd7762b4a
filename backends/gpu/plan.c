#include "backends/gpu/plan.h"

#include <string.h>

// So many workgroups fill a large GPU; of so many pages a workgroup's keys of order fit in shared
// memory; partial results take no more than so many bytes.
enum { WORKGROUPS = 512, NEAR_KEYS_MAX = 4096 };
static const uint64_t PARTIALS_MAX = (uint64_t)128 << 20;

skim_limits skim_gpu_limits(void)
{
    const uint32_t types = 1u << SKIM_F32 | 1u << SKIM_F16 | 1u << SKIM_BF16;
    return (skim_limits){
        .size_of = sizeof(skim_limits),
        .kv_types = types,
        .io_types = types,
        .head_dim_min = 32,
        .head_dim_max = 256,
        .head_dim_multiple = 8,
        .page_sizes = 8 + 16 + 32 + 64,
        .heads_max = SKIM_HEADS_MAX,
        .slots_max = (uint32_t)1 << 31,
        .bounds_types = 1u << SKIM_BOUNDS_NATIVE | 1u << SKIM_BOUNDS_I8,
    };
}

void *skim_gpu_grow(const skim_host *host, void *array, uint32_t count, uint32_t *capacity,
                    size_t size)
{
    if (count < *capacity)
        return array;
    uint32_t larger = *capacity ? 2 * *capacity : 16;
    void *grown = skim_allocate(host, larger * size);
    if (!grown)
        return NULL;
    if (count > 0)
        memcpy(grown, array, count * size);
    skim_release(host, array, *capacity * size);
    *capacity = larger;
    return grown;
}

// Of a page of one kv head.
static uint64_t bounds_page(const skim_shape *shape)
{
    bool i8 = shape->bounds_type == SKIM_BOUNDS_I8;
    return 2 * (i8 ? skim_round_up(shape->key_dim, 16)
                   : (uint64_t)shape->key_dim * skim_type_size(shape->type));
}

uint64_t skim_gpu_bounds_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    uint64_t pages = (uint64_t)shape->slots * shape->kv_heads;
    uint64_t scales = shape->bounds_type == SKIM_BOUNDS_I8 ? 2 * pages * sizeof(float) : 0;
    return skim_round_up(pages * bounds_page(shape) + scales, 64);
}

// ---- attend

static uint64_t partial_size(const skim_shape *shape)
{
    return (4 + (uint64_t)shape->key_dim) * sizeof(float);
}

// As many as keep the device busy and are long enough, whatever the rows.
static uint64_t parts_wanted(const skim_shape *shape)
{
    uint64_t parts = (WORKGROUPS + shape->kv_heads - 1) / shape->kv_heads;
    uint64_t longest = (uint64_t)shape->max_pages * shape->page_size / SKIM_PART_TOKENS;
    parts = parts < longest ? parts : longest;
    return parts < SKIM_GPU_PARTS_MAX ? parts : SKIM_GPU_PARTS_MAX;
}

uint32_t skim_gpu_parts(const skim_shape *shape)
{
    uint64_t lists = (uint64_t)shape->max_rows * shape->q_heads;
    uint64_t fitting = PARTIALS_MAX / (lists * partial_size(shape));
    uint64_t parts = parts_wanted(shape);
    parts = parts < fitting ? parts : fitting;
    return parts < 1 ? 1 : (uint32_t)parts;
}

uint64_t skim_gpu_attend_scratch(const skim_shape *shape, uint64_t parts)
{
    uint64_t lists = (uint64_t)shape->max_rows * shape->q_heads;
    uint64_t wanted = parts_wanted(shape);
    parts = parts < wanted ? parts : wanted;
    if (parts < 2)
        return 0;
    uint64_t size = parts * lists * partial_size(shape);
    return size < PARTIALS_MAX ? size : PARTIALS_MAX;
}

uint32_t skim_gpu_heads_at_once(const skim_shape *shape)
{
    uint32_t group = shape->q_heads / shape->kv_heads;
    uint32_t most = 1024 / shape->key_dim;
    most = most > 8 ? 8 : most;
    uint32_t chunks = (group + most - 1) / most;
    return (group + chunks - 1) / chunks;
}

// ---- select

uint32_t skim_gpu_near_keys(const skim_shape *shape)
{
    // Few sizes, so that shapes share kernels.
    for (uint32_t keys = 256; keys <= NEAR_KEYS_MAX; keys *= 4)
        if (shape->max_pages <= keys)
            return keys;
    return 1;
}

static uint64_t select_scratch(const skim_shape *shape)
{
    if (skim_gpu_near_keys(shape) > 1)
        return 0;
    return (uint64_t)shape->max_rows * shape->q_heads * shape->max_pages * sizeof(uint32_t);
}

uint64_t skim_gpu_scratch_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    uint64_t select = select_scratch(shape);
    uint64_t attend = skim_gpu_attend_scratch(shape, SKIM_GPU_PARTS_MAX);
    return select > attend ? select : attend; // one after the other
}

// ---- append

uint32_t skim_gpu_touched_pages(const skim_append_args *args)
{
    const skim_shape *shape = args->shape;
    if (args->k.type == SKIM_TYPE_NONE)
        return shape->max_pages;
    uint32_t pages = args->token_count / shape->page_size + 2;
    return pages < shape->max_pages ? pages : shape->max_pages;
}
