// What the GPU backends agree on, whatever their interface: how large bounds and scratch are, how a
// list is cut into parts, which heads share a workgroup. Pure functions of the shape.
#ifndef SKIM_GPU_PLAN_H
#define SKIM_GPU_PLAN_H

#include "runtime/backend.h"
#include "shaders/layout.h"

enum { SKIM_GPU_MARKS = 64, SKIM_GPU_PARTS_MAX = 64 };

// What the kernels take, whatever the device: limits with features, the most rows and pages, bytes
// of a buffer and marks left to fill.
skim_limits skim_gpu_limits(void);

// An array of count elements with room for one more: itself, or a larger copy in its place. NULL if
// there is no memory, and then nothing has changed.
void *skim_gpu_grow(const skim_host *host, void *array, uint32_t count, uint32_t *capacity,
                    size_t size);

// Entries of the backend. Bounds lie as [kv_head][slot][B0, B1]; int8 ones are padded to whole
// units of 16 bytes, and behind them all lie their scales, f32 [kv_head][slot][2].
uint64_t skim_gpu_bounds_size(const skim_device *device, const skim_shape *shape);
uint64_t skim_gpu_scratch_size(const skim_device *device, const skim_shape *shape);

// Most parts that a list is attended in.
uint32_t skim_gpu_parts(const skim_shape *shape);
// Bytes for the partial results of at most so many parts: enough, too, for any smaller shape that
// is used with what was prepared for this one, whose lists are fewer and may be cut into more
// parts.
uint64_t skim_gpu_attend_scratch(const skim_shape *shape, uint64_t parts);
// Pages whose keys of order select keeps in shared memory; 1: none.
uint32_t skim_gpu_near_keys(const skim_shape *shape);
// As many query heads at once as leave a workgroup's weights 8 KiB of shared memory.
uint32_t skim_gpu_heads_at_once(const skim_shape *shape);
// Pages of a row that a call can touch.
uint32_t skim_gpu_touched_pages(const skim_append_args *args);

// Whether there is a list per query head: without groups both modes are that.
static inline bool skim_gpu_has_head_lists(const skim_shape *shape, skim_select_mode select)
{
    return select == SKIM_SELECT_HEAD || shape->q_heads == shape->kv_heads;
}

static inline uint32_t skim_gpu_shape_word(const skim_shape *shape)
{
    return SKIM_SHAPE_WORD(shape->key_dim, shape->page_size, shape->q_heads / shape->kv_heads);
}

// Workgroups that take the query heads of all kv heads, so many of a kv head at once.
static inline uint32_t skim_gpu_head_chunks(const skim_shape *shape, uint32_t heads)
{
    uint32_t group = shape->q_heads / shape->kv_heads;
    return shape->kv_heads * ((group + heads - 1) / heads);
}

// Multiplications of two numbers in the attention of so many queries of a kv head to a whole row of
// the planned length: how long rows are only the device knows.
static inline double skim_gpu_attend_work(const skim_shape *shape, double queries)
{
    return 2.0 * queries * shape->max_pages * shape->page_size * shape->key_dim * shape->kv_heads;
}

#endif
