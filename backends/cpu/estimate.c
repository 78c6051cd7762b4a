#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

#include <math.h>
#include <string.h>

// Every item prepares the weights and begins to fetch where nothing is under way, so items are as
// long as sharing out evenly allows: about so many for each thread, and of so many pages.
enum { ITEMS_PER_THREAD = 8, ITEM_PAGES_MIN = 128, ITEM_PAGES_MAX = 4096 };

typedef struct estimate_call {
    const skim_cpu_context *context;
    const skim_estimate_args *args;
    uint32_t item_pages;
    const uint64_t *starts;
} estimate_call;

typedef struct estimate_memory {
    float *weights; // [group][2][key_dim]
    // For int8 bounds:
    int16_t *i8_weights; // [group][2][padded]
    skim_cpu_i8_head *i8_heads;
} estimate_memory;

static uint32_t i8_padded(const skim_shape *shape)
{
    return (uint32_t)skim_round_up(shape->key_dim, SKIM_CPU_I8_PAD);
}

static estimate_memory take_memory(skim_cpu_arena *arena, const skim_shape *shape)
{
    uint64_t group = shape->q_heads / shape->kv_heads;
    estimate_memory memory = {0};
    if (shape->bounds_type == SKIM_BOUNDS_I8) {
        memory.i8_weights =
            skim_cpu_take(arena, group * 2 * i8_padded(shape), sizeof *memory.i8_weights);
        memory.i8_heads = skim_cpu_take(arena, group, sizeof *memory.i8_heads);
    } else {
        memory.weights = skim_cpu_take(arena, group * 2 * shape->key_dim, sizeof(float));
    }
    return memory;
}

uint64_t skim_cpu_estimate_worker_size(const skim_shape *shape)
{
    skim_cpu_arena arena = {0};
    take_memory(&arena, shape);
    return arena.used;
}

// One query in f32, padded with zeros to a multiple of SKIM_CPU_PAD.
static void load_query(const estimate_call *call, const skim_row *row, uint32_t head, float *q)
{
    const skim_tensor *tensor = &call->args->q;
    const uint32_t dim = call->args->shape->key_dim;
    call->context->kernels->load_rows(
        tensor->type, skim_cpu_element(tensor, row->query_start, head), 0, 1, dim, 1.0f, q);
    for (uint32_t d = dim - 8; SKIM_MUTANT(estimate_drops_channel) && d < dim; d++)
        q[d] = 0;
}

static float spread_of(const skim_estimate_args *args)
{
    if (args->shape->bounds == SKIM_BOUNDS_MINMAX || SKIM_MUTANT(estimate_no_spread))
        return 1.0f;
    return args->spread;
}

// [a | b] of one query head: with B0 and B1 adjacent, a page's score is one dot product.
static void prepare_weights(const estimate_call *call, const skim_row *row, uint32_t head,
                            float *weights)
{
    const skim_shape *shape = call->args->shape;
    const bool minmax = shape->bounds == SKIM_BOUNDS_MINMAX;
    const bool swapped = SKIM_MUTANT(estimate_swaps_bounds);
    const float spread = spread_of(call->args);
    float q[SKIM_CPU_HEAD_DIM_MAX];
    load_query(call, row, head, q);
    float *a = weights + (swapped ? shape->key_dim : 0);
    float *b = weights + (swapped ? 0 : shape->key_dim);
    for (uint32_t d = 0; d < shape->key_dim; d++) {
        // Comparisons that keep a NaN, so that it reaches the score.
        a[d] = minmax && q[d] < 0 ? 0 : q[d];
        b[d] = minmax ? (q[d] > 0 ? 0 : q[d]) : spread * fabsf(q[d]);
    }
}

// The same for int8 bounds, which also have a centre.
static void prepare_i8_weights(const estimate_call *call, const skim_row *row, uint32_t head,
                               int16_t *weights, skim_cpu_i8_head *of_head)
{
    const skim_estimate_args *args = call->args;
    const skim_shape *shape = args->shape;
    const uint32_t padded = i8_padded(shape);
    const bool swapped = SKIM_MUTANT(estimate_swaps_bounds);
    const uint32_t kv_head = head / (shape->q_heads / shape->kv_heads);
    float q[SKIM_CPU_HEAD_DIM_MAX] = {0}, centre[SKIM_CPU_HEAD_DIM_MAX] = {0};
    load_query(call, row, head, q);
    if (!SKIM_MUTANT(estimate_i8_no_centre))
        memcpy(centre, skim_cpu_centre(args->centre, args->centre_offset, shape, kv_head),
               shape->key_dim * sizeof *centre);
    skim_cpu_weights_job job = {
        .kind = shape->bounds,
        .dim = shape->key_dim,
        .padded = padded,
        .q = q,
        .centre = centre,
        .a = weights + (swapped ? padded : 0),
        .b = weights + (swapped ? 0 : padded),
        .head = of_head,
    };
    call->context->kernels->weights(&job);
}

// The weights of a kv head's queries, for pages that lie at scores and table.
static void estimate_pages(const estimate_call *call, const skim_row *row, uint32_t kv_head,
                           skim_cpu_arena *arena, skim_cpu_estimate_job *job)
{
    const skim_estimate_args *args = call->args;
    const skim_shape *shape = args->shape;
    const bool i8 = shape->bounds_type == SKIM_BOUNDS_I8;
    estimate_memory memory = take_memory(arena, shape);
    for (uint32_t h = 0; h < job->heads; h++) {
        uint32_t head = kv_head * job->heads + h;
        if (i8)
            prepare_i8_weights(call, row, head,
                               memory.i8_weights + (size_t)h * 2 * i8_padded(shape),
                               memory.i8_heads + h);
        else
            prepare_weights(call, row, head, memory.weights + (size_t)h * 2 * shape->key_dim);
    }
    job->weights = memory.weights;
    job->i8_weights = memory.i8_weights;
    job->i8_heads = memory.i8_heads;
    job->bounds = skim_cpu_bounds(args->bounds, args->bounds_offset, shape, kv_head);
    if (i8)
        job->scales = skim_cpu_scales(args->bounds, args->bounds_offset, shape, kv_head);
    call->context->kernels->estimate(job);
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
    uint32_t page = index / shape->kv_heads * call->item_pages;
    uint32_t group = shape->q_heads / shape->kv_heads;

    float *scores = (float *)(void *)((char *)args->scores->host + args->scores_offset);
    uint64_t first_score = (uint64_t)r * shape->q_heads + (uint64_t)kv_head * group;
    skim_cpu_estimate_job job = {
        .type = shape->type,
        .dim = shape->key_dim,
        .heads = group,
        .pages = skim_cpu_minimum(call->item_pages, row->page_count - page),
        .spread = spread_of(args),
        .table = skim_cpu_table(&args->table, row) + page,
        .scores = scores + first_score * args->score_stride + page,
        .score_stride = args->score_stride,
    };
    skim_cpu_arena arena = skim_cpu_worker_arena(call->context->scratch, worker);
    estimate_pages(call, row, kv_head, &arena, &job);
}

static uint64_t row_pages(const skim_row *row)
{
    return row->query_count == 0 || (row->flags & SKIM_ROW_DENSE) ? 0 : row->page_count;
}

static uint64_t row_items(const void *argument, const skim_row *row)
{
    const estimate_call *call = argument;
    uint64_t chunks = (row_pages(row) + call->item_pages - 1) / call->item_pages;
    return chunks * call->args->shape->kv_heads;
}

static uint32_t choose_item_pages(const estimate_call *call)
{
    const skim_estimate_args *args = call->args;
    uint64_t pages = 0;
    for (uint32_t r = 0; r < args->row_count; r++)
        pages += row_pages(skim_cpu_rows(&args->rows) + r);
    uint64_t items = (uint64_t)call->context->team->threads * ITEMS_PER_THREAD;
    uint64_t even = skim_round_up(pages * args->shape->kv_heads / items, SKIM_CPU_PAD);
    even = even < ITEM_PAGES_MIN ? ITEM_PAGES_MIN : even;
    return even > ITEM_PAGES_MAX ? ITEM_PAGES_MAX : (uint32_t)even;
}

void skim_cpu_estimate(const skim_cpu_context *context, const skim_estimate_args *args)
{
    estimate_call call = {.context = context, .args = args};
    call.item_pages = choose_item_pages(&call);
    uint64_t items =
        skim_cpu_divide_rows(context, &args->rows, args->row_count, row_items, &call, &call.starts);
    skim_cpu_team_run(context->team, items, estimate_item, &call);
}
