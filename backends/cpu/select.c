#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

static const float LOG2_E = 1.44269504088896341f;

typedef struct select_call {
    const skim_cpu_context *context;
    const skim_select_args *args;
    const uint64_t *starts;
} select_call;

typedef struct select_scratch {
    float *lse;      // [group]
    float *combined; // [pages]
    int32_t *keys;   // [pages]
} select_scratch;

static select_scratch take_scratch(skim_cpu_arena *arena, const skim_shape *shape)
{
    uint64_t pages = (uint64_t)shape->max_pages + SKIM_CPU_PAD;
    return (select_scratch){
        .lse = skim_cpu_take(arena, shape->q_heads / shape->kv_heads, sizeof(float)),
        .combined = skim_cpu_take(arena, pages, sizeof(float)),
        .keys = skim_cpu_take(arena, pages, sizeof(int32_t)),
    };
}

uint64_t skim_cpu_select_worker_size(const skim_shape *shape)
{
    skim_cpu_arena arena = {0};
    take_scratch(&arena, shape);
    return arena.used;
}

// A row's list: count pages, of which first and last are forced at the two ends.
typedef struct list_parts {
    uint32_t count;
    uint32_t first;
    uint32_t last;
} list_parts;

static list_parts divide_list(const skim_row *row)
{
    uint32_t forced_first = SKIM_MUTANT(select_forgets_sinks) ? 0 : row->forced_first;
    uint32_t forced_last = row->forced_last;
    if (SKIM_MUTANT(select_forgets_recent) && forced_last > 1)
        forced_last = 1;
    list_parts parts = {.count = skim_cpu_minimum(row->select_count, row->page_count)};
    parts.last = skim_cpu_minimum(forced_last, parts.count);
    parts.first = skim_cpu_minimum(forced_first, parts.count - parts.last);
    return parts;
}

// The scores of a group as one: combined[i] is that of page parts.first + i.
static void combine_group(const select_call *call, const skim_row *row, list_parts parts,
                          const float *scores, select_scratch scratch)
{
    const skim_select_args *args = call->args;
    const skim_cpu_kernels *kernels = call->context->kernels;
    uint32_t candidates = row->page_count - parts.first - parts.last;
    uint32_t heads = args->shape->q_heads / args->shape->kv_heads;
    if (SKIM_MUTANT(select_combine_first_head))
        heads = 1;
    float scale = args->scale * LOG2_E;
    if (args->combine == SKIM_COMBINE_SOFTMAX_MAX || args->combine == SKIM_COMBINE_SOFTMAX_MEAN) {
        for (uint32_t h = 0; h < heads; h++) {
            const float *of_head = scores + h * args->score_stride;
            scratch.lse[h] = SKIM_MUTANT(select_softmax_all_pages)
                                 ? kernels->logsumexp(of_head, row->page_count, scale)
                                 : kernels->logsumexp(of_head + parts.first, candidates, scale);
        }
    }
    skim_cpu_combine_job job = {
        .combine = args->combine,
        .heads = heads,
        .pages = candidates,
        .scale = scale,
        .scores = scores + parts.first,
        .score_stride = args->score_stride,
        .lse = scratch.lse,
        .combined = scratch.combined,
    };
    kernels->combine(&job);
}

static void choose(const select_call *call, const skim_row *row, list_parts parts,
                   const float *scores, select_scratch scratch, uint32_t *list)
{
    for (uint32_t i = 0; i < parts.first; i++)
        list[i] = i;
    for (uint32_t i = 0; i < parts.last; i++)
        list[parts.count - parts.last + i] = row->page_count - parts.last + i;
    uint32_t wanted = parts.count - parts.first - parts.last;
    if (wanted == 0)
        return;

    const float *candidates = scores + parts.first;
    bool alone = call->args->shape->q_heads == call->args->shape->kv_heads;
    if (call->args->select == SKIM_SELECT_GROUP && !alone) {
        combine_group(call, row, parts, scores, scratch);
        candidates = scratch.combined;
    }
    skim_cpu_top_job job = {
        .scores = candidates,
        .pages = row->page_count - parts.first - parts.last,
        .count = wanted,
        .ties_high = SKIM_MUTANT(select_ties_high),
        .first_page = parts.first,
        .keys = scratch.keys,
        .list = list + parts.first,
    };
    call->context->kernels->top(&job);
}

static uint32_t lists_per_row(const skim_select_args *args)
{
    return args->select == SKIM_SELECT_HEAD ? args->shape->q_heads : args->shape->kv_heads;
}

static void select_item(void *argument, uint64_t item, uint32_t worker)
{
    const select_call *call = argument;
    const skim_select_args *args = call->args;
    const skim_shape *shape = args->shape;
    uint32_t r = skim_cpu_find_row(call->starts, args->row_count, item);
    const skim_row *row = skim_cpu_rows(&args->rows) + r;
    uint32_t l = (uint32_t)(item - call->starts[r]);
    uint32_t heads = shape->q_heads / lists_per_row(args);

    const float *scores =
        (const float *)(const void *)((const char *)args->scores->host + args->scores_offset);
    scores += ((uint64_t)r * shape->q_heads + (uint64_t)l * heads) * args->score_stride;
    uint32_t *lists = (uint32_t *)(void *)((char *)args->lists->host + args->lists_offset);
    lists += ((uint64_t)r * lists_per_row(args) + l) * args->list_stride;

    skim_cpu_arena arena = skim_cpu_worker_arena(call->context->scratch, worker);
    choose(call, row, divide_list(row), scores, take_scratch(&arena, shape), lists);
}

static uint64_t row_items(const void *argument, const skim_row *row)
{
    const skim_select_args *args = argument;
    bool selects = row->query_count > 0 && !(row->flags & SKIM_ROW_DENSE);
    return selects ? lists_per_row(args) : 0;
}

void skim_cpu_select(const skim_cpu_context *context, const skim_select_args *args)
{
    select_call call = {.context = context, .args = args};
    uint64_t items =
        skim_cpu_divide_rows(context, &args->rows, args->row_count, row_items, args, &call.starts);
    skim_cpu_team_run(context->team, items, select_item, &call);
}
