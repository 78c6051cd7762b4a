// The CPU backend's own objects, shared by its files.
#ifndef SKIM_CPU_CPU_H
#define SKIM_CPU_CPU_H

#include "backends/cpu/kernels.h"
#include "backends/cpu/team.h"
#include "runtime/backend.h"
#include "runtime/memory.h"

extern const skim_backend skim_backend_cpu;

typedef struct skim_cpu_device {
    const skim_cpu_kernels *kernels;
    skim_cpu_team team;
} skim_cpu_device;

// ---- scratch

// Memory of a queue for the verb that runs: one part that all workers share, and one part for each.
typedef struct skim_cpu_scratch {
    char *memory;
    uint64_t shared; // bytes, a multiple of 64
    uint64_t worker;
    uint32_t threads;
} skim_cpu_scratch;

// Lays parts out one after another; without memory it only adds up.
typedef struct skim_cpu_arena {
    char *memory;
    uint64_t used;
} skim_cpu_arena;

static inline void *skim_cpu_take(skim_cpu_arena *arena, uint64_t count, size_t size)
{
    void *part = arena->memory ? arena->memory + arena->used : NULL;
    arena->used += skim_round_up(count * size, 64);
    return part;
}

static inline skim_cpu_arena skim_cpu_shared_arena(const skim_cpu_scratch *scratch)
{
    return (skim_cpu_arena){.memory = scratch->memory};
}

static inline skim_cpu_arena skim_cpu_worker_arena(const skim_cpu_scratch *scratch, uint32_t worker)
{
    return (skim_cpu_arena){.memory = scratch->memory + scratch->shared + worker * scratch->worker};
}

// Bytes that the verbs of a shape need, and growing to them. Growing that fails changes nothing.
uint64_t skim_cpu_scratch_size(const skim_device *device, const skim_shape *shape);
bool skim_cpu_scratch_grow(skim_cpu_scratch *scratch, const skim_device *device,
                           const skim_shape *shape);
void skim_cpu_scratch_deinit(skim_cpu_scratch *scratch, const skim_device *device);

// ---- verbs

// What a running verb has. Verbs run one at a time on a queue and cannot fail.
typedef struct skim_cpu_context {
    const skim_cpu_kernels *kernels;
    skim_cpu_team *team;
    const skim_cpu_scratch *scratch;
} skim_cpu_context;

void skim_cpu_append(const skim_cpu_context *context, const skim_append_args *args);
void skim_cpu_estimate(const skim_cpu_context *context, const skim_estimate_args *args);
void skim_cpu_select(const skim_cpu_context *context, const skim_select_args *args);
void skim_cpu_attend(const skim_cpu_context *context, const skim_attend_args *args);
// The part of attend that has rows of more than one query.
void skim_cpu_prefill(const skim_cpu_context *context, const skim_attend_args *args);

uint64_t skim_cpu_bounds_size(const skim_device *device, const skim_shape *shape);

// Bytes of a worker's part, and of the shared one besides the row starts.
uint64_t skim_cpu_append_shared_size(const skim_shape *shape);
uint64_t skim_cpu_estimate_worker_size(const skim_shape *shape);
uint64_t skim_cpu_select_worker_size(const skim_shape *shape);
uint64_t skim_cpu_attend_worker_size(const skim_shape *shape);
uint64_t skim_cpu_attend_shared_size(const skim_shape *shape, uint32_t threads);
uint64_t skim_cpu_prefill_worker_size(const skim_shape *shape);

// ---- rows and addresses

static inline char *skim_cpu_tensor(const skim_tensor *tensor)
{
    return (char *)(tensor->buffer ? tensor->buffer->host : tensor->data) + tensor->offset;
}

static inline const skim_row *skim_cpu_rows(const skim_tensor *rows)
{
    return (const skim_row *)(const void *)skim_cpu_tensor(rows);
}

static inline const uint32_t *skim_cpu_table(const skim_tensor *table, const skim_row *row)
{
    return (const uint32_t *)(const void *)skim_cpu_tensor(table) + row->table_start;
}

// Address of (token, head) in a tensor.
static inline char *skim_cpu_element(const skim_tensor *tensor, uint64_t token, uint64_t head)
{
    uint64_t element = token * tensor->token_stride + head * tensor->head_stride;
    return skim_cpu_tensor(tensor) + element * skim_type_size(tensor->type);
}

// Address of a kv head's part of a pool, in slot 0.
static inline char *skim_cpu_paged(const skim_paged *paged, skim_type type, uint64_t head)
{
    return (char *)paged->buffer->host + paged->offset +
           head * paged->head_stride * skim_type_size(type);
}

// Bounds: [kv_head][slot][B0, B1: key_dim], of the keys' type or int8; behind int8 ones, from the
// next multiple of 64 bytes on, their scales, f32 [kv_head][slot][2].

// Bytes of one page of one kv head, without its scales.
static inline uint64_t skim_cpu_bounds_page(const skim_shape *shape)
{
    bool i8 = shape->bounds_type == SKIM_BOUNDS_I8;
    return (uint64_t)2 * shape->key_dim * (i8 ? 1 : skim_type_size(shape->type));
}

// Address of a kv head's bounds of slot 0.
static inline char *skim_cpu_bounds(const skim_buffer *bounds, uint64_t offset,
                                    const skim_shape *shape, uint64_t kv_head)
{
    return (char *)bounds->host + offset + kv_head * shape->slots * skim_cpu_bounds_page(shape);
}

// Address of a kv head's scales of slot 0.
static inline float *skim_cpu_scales(const skim_buffer *bounds, uint64_t offset,
                                     const skim_shape *shape, uint64_t kv_head)
{
    uint64_t pages = (uint64_t)shape->slots * shape->kv_heads;
    uint64_t start = skim_round_up(pages * skim_cpu_bounds_page(shape), 64);
    char *scales = (char *)bounds->host + offset + start;
    return (float *)(void *)scales + kv_head * shape->slots * 2;
}

// Address of a kv head's centre.
static inline float *skim_cpu_centre(const skim_buffer *centre, uint64_t offset,
                                     const skim_shape *shape, uint64_t kv_head)
{
    return (float *)(void *)((char *)centre->host + offset) + kv_head * shape->key_dim;
}

static inline uint32_t skim_cpu_padded(uint32_t dim)
{
    return (uint32_t)skim_round_up(dim, SKIM_CPU_PAD);
}

static inline uint32_t skim_cpu_minimum(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// Divides a verb's work into items: row r gets items(args, row) of them, (*starts)[r] ..
// (*starts)[r + 1] - 1. The starts lie at the beginning of the shared scratch. Returns how many
// there are.
uint64_t skim_cpu_divide_rows(const skim_cpu_context *context, const skim_tensor *rows,
                              uint32_t row_count,
                              uint64_t (*items)(const void *args, const skim_row *row),
                              const void *args, const uint64_t **starts);

// The row that an item belongs to, when row r has the items starts[r] .. starts[r + 1] - 1.
static inline uint32_t skim_cpu_find_row(const uint64_t *starts, uint32_t row_count, uint64_t item)
{
    uint32_t low = 0, high = row_count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (starts[middle] <= item)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

#endif
