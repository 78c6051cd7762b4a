#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

#include <math.h>

// Pages in an item: long enough to hide the preparation of the weights, short enough to share out.
enum { PAGES_PER_ITEM = 256 };

typedef struct estimate_call {
    const skim_cpu_context *context;
    const skim_estimate_args *args;
    const uint64_t *starts;
} estimate_call;

static float *take_weights(skim_cpu_arena *arena, const skim_shape *shape)
{
    uint64_t group = shape->q_heads / shape->kv_heads;
    return skim_cpu_take(arena, group * 2 * shape->key_dim, sizeof(float));
}

uint64_t skim_cpu_estimate_worker_size(const skim_shape *shape)
{
    skim_cpu_arena arena = {0};
    take_weights(&arena, shape);
    return arena.used;
}

// [a | b] of one query head: with B0 and B1 adjacent, a page's score is one dot product.
static void prepare_weights(const estimate_call *call, const skim_row *row, uint32_t head,
                            float *weights)
{
    const skim_estimate_args *args = call->args;
    const uint32_t dim = args->shape->key_dim;
    float q[SKIM_CPU_HEAD_DIM_MAX];
    call->context->kernels->load_rows(
        args->q.type, skim_cpu_element(&args->q, row->query_start, head), 0, 1, dim, 1.0f, q);
    float *a = weights;
    float *b = weights + dim;
    if (SKIM_MUTANT(estimate_swaps_bounds)) {
        a = weights + dim;
        b = weights;
    }
    float spread = SKIM_MUTANT(estimate_no_spread) ? 1.0f : args->spread;
    for (uint32_t d = 0; d < dim; d++) {
        bool minmax = args->shape->bounds == SKIM_BOUNDS_MINMAX;
        bool dropped = SKIM_MUTANT(estimate_drops_channel) && d + 8 >= dim;
        // Comparisons that keep a NaN, so that it reaches the score.
        a[d] = minmax && q[d] < 0 ? 0 : q[d];
        b[d] = minmax ? (q[d] > 0 ? 0 : q[d]) : spread * fabsf(q[d]);
        if (dropped)
            a[d] = b[d] = 0;
    }
}

static void estimate_item(void *argument, uint64_t item, uint32_t worker)
{
    const estimate_call *call = argument;
    const skim_estimate_args *args = call->args;
    const skim_shape *shape = args->shape;
    uint32_t r = skim_cpu_find_row(call->starts, args->row_count, item);
    const skim_row *row = skim_cpu_rows(&args->rows) + r;
    uint32_t index = (uint32_t)(item - call->starts[r]);
    uint32_t kv_head = index % shape->kv_heads;
    uint32_t page = index / shape->kv_heads * PAGES_PER_ITEM;
    uint32_t group = shape->q_heads / shape->kv_heads;

    skim_cpu_arena arena = skim_cpu_worker_arena(call->context->scratch, worker);
    float *weights = take_weights(&arena, shape);
    for (uint32_t h = 0; h < group; h++)
        prepare_weights(call, row, kv_head * group + h, weights + (size_t)h * 2 * shape->key_dim);

    float *scores = (float *)(void *)((char *)args->scores->host + args->scores_offset);
    uint64_t first_score = (uint64_t)r * shape->q_heads + (uint64_t)kv_head * group;
    skim_cpu_estimate_job job = {
        .type = shape->type,
        .count = 2 * shape->key_dim,
        .heads = group,
        .pages = skim_cpu_minimum(PAGES_PER_ITEM, row->page_count - page),
        .weights = weights,
        .bounds = skim_cpu_bounds(args->bounds, args->bounds_offset, shape, kv_head),
        .table = skim_cpu_table(&args->table, row) + page,
        .scores = scores + first_score * args->score_stride + page,
        .score_stride = args->score_stride,
    };
    call->context->kernels->estimate(&job);
}

static uint64_t row_items(const void *argument, const skim_row *row)
{
    const skim_estimate_args *args = argument;
    if (row->query_count == 0 || (row->flags & SKIM_ROW_DENSE))
        return 0;
    uint64_t chunks = ((uint64_t)row->page_count + PAGES_PER_ITEM - 1) / PAGES_PER_ITEM;
    return chunks * args->shape->kv_heads;
}

void skim_cpu_estimate(const skim_cpu_context *context, const skim_estimate_args *args)
{
    estimate_call call = {.context = context, .args = args};
    uint64_t items =
        skim_cpu_divide_rows(context, &args->rows, args->row_count, row_items, args, &call.starts);
    skim_cpu_team_run(context->team, items, estimate_item, &call);
}
