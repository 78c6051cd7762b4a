#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

#include <float.h>
#include <string.h>

// Items are small; a few kv heads make one worth handing out.
enum { HEADS_PER_ITEM = 8, CENTRE_ITEMS = 64 };

uint64_t skim_cpu_bounds_size(const skim_device *device, const skim_shape *shape)
{
    (void)device;
    uint64_t pages = (uint64_t)shape->slots * shape->kv_heads;
    uint64_t scales = shape->bounds_type == SKIM_BOUNDS_I8 ? 2 * pages * sizeof(float) : 0;
    return skim_round_up(pages * skim_cpu_bounds_page(shape), 64) + skim_round_up(scales, 64);
}

typedef struct append_call {
    const skim_cpu_context *context;
    const skim_append_args *args;
    const uint64_t *starts;
    bool stores;    // this pass stores tokens and clears tails
    bool bounds;    // this pass computes bounds
    uint64_t pages; // touched by the call, rows one after another
    double *sums;   // of each part's keys: [kv_head][part][2][key_dim], sums and counts
} append_call;

static uint32_t head_chunks(const skim_shape *shape)
{
    return (shape->kv_heads + HEADS_PER_ITEM - 1) / HEADS_PER_ITEM;
}

// Pages that get new tokens, or whose bounds are asked for.
static void touched_pages(const skim_row *row, uint32_t page_size, uint32_t *first, uint32_t *count)
{
    *first = *count = 0;
    if (row->query_count == 0)
        return;
    uint32_t last = (row->length - 1) / page_size;
    *first = (row->length - row->query_count) / page_size;
    *count = last - *first + 1;
}

// Zeroes the tokens past the end of the last page.
static void clear_tail(const skim_append_args *args, const skim_row *row, uint32_t kv_head)
{
    const skim_shape *shape = args->shape;
    const size_t size = skim_type_size(shape->type);
    const uint64_t slot = skim_cpu_table(&args->table, row)[row->page_count - 1];
    char *keys = skim_cpu_paged(&args->keys, shape->type, kv_head);
    char *values = skim_cpu_paged(&args->values, shape->type, kv_head);
    for (uint64_t token = row->length % shape->page_size; token < shape->page_size; token++) {
        memset(keys + (slot * args->keys.page_stride + token * args->keys.token_stride) * size, 0,
               shape->key_dim * size);
        memset(values +
                   (slot * args->values.page_stride + token * args->values.token_stride) * size,
               0, shape->value_dim * size);
    }
}

static void store_tokens(const skim_append_args *args, const skim_row *row, uint32_t page,
                         uint32_t kv_head)
{
    const skim_shape *shape = args->shape;
    const size_t size = skim_type_size(shape->type);
    const uint32_t *table = skim_cpu_table(&args->table, row);
    char *keys = skim_cpu_paged(&args->keys, shape->type, kv_head);
    char *values = skim_cpu_paged(&args->values, shape->type, kv_head);
    uint32_t first_new = row->length - row->query_count;
    uint32_t token = page * shape->page_size;
    uint32_t end = skim_cpu_minimum(row->length - token, shape->page_size) + token;
    for (token = token < first_new ? first_new : token; token < end; token++) {
        uint64_t source = (uint64_t)row->query_start + (token - first_new);
        uint64_t offset = token % shape->page_size;
        uint64_t slot = table[page];
        if (SKIM_MUTANT(append_wrong_page) && offset == 0 && page > 0)
            slot = table[page - 1];
        memcpy(keys + (slot * args->keys.page_stride + offset * args->keys.token_stride) * size,
               skim_cpu_element(&args->k, source, kv_head), shape->key_dim * size);
        memcpy(values +
                   (slot * args->values.page_stride + offset * args->values.token_stride) * size,
               skim_cpu_element(&args->v, source, kv_head), shape->value_dim * size);
    }
}

static void store(const skim_append_args *args, const skim_row *row, uint32_t page,
                  uint32_t kv_head)
{
    if (args->k.type != SKIM_TYPE_NONE)
        store_tokens(args, row, page, kv_head);
    if (row->flags & SKIM_ROW_CLEAR && page == row->page_count - 1 &&
        row->length % args->shape->page_size != 0 && !SKIM_MUTANT(append_keeps_tail))
        clear_tail(args, row, kv_head);
}

static void update_bounds(const append_call *call, const skim_row *row, uint32_t page,
                          uint32_t kv_head)
{
    const skim_append_args *args = call->args;
    const skim_shape *shape = args->shape;
    const size_t size = skim_type_size(shape->type);
    const uint64_t slot = skim_cpu_table(&args->table, row)[page];
    uint32_t first = page * shape->page_size;
    if (SKIM_MUTANT(append_stale_bounds) && first < row->length - row->query_count)
        return;
    uint32_t tokens = skim_cpu_minimum(row->length - first, shape->page_size);
    if (SKIM_MUTANT(append_bounds_past_end) && tokens < shape->page_size)
        tokens++;
    uint32_t divisor = SKIM_MUTANT(append_sample_deviation) && tokens > 1 ? tokens - 1 : tokens;
    const uint64_t page_bytes = skim_cpu_bounds_page(shape);
    char *bounds = skim_cpu_bounds(args->bounds, args->bounds_offset, shape, kv_head);
    skim_cpu_bounds_job job = {
        .type = shape->type,
        .kind = shape->bounds,
        .dim = shape->key_dim,
        .tokens = tokens,
        .divisor = divisor,
        .keys = skim_cpu_paged(&args->keys, shape->type, kv_head) +
                slot * args->keys.page_stride * size,
        .token_stride = args->keys.token_stride * size,
        .bounds = bounds + slot * page_bytes,
        .inward = SKIM_MUTANT(append_i8_inward),
    };
    if (shape->bounds_type == SKIM_BOUNDS_I8) {
        job.centre = skim_cpu_centre(args->centre, args->centre_offset, shape, kv_head);
        job.scales = skim_cpu_scales(args->bounds, args->bounds_offset, shape, kv_head) + 2 * slot;
    }
    float stale[2];
    if (SKIM_MUTANT(append_i8_stale_scale) && job.scales && first < row->length - row->query_count)
        job.scales = stale;
    call->context->kernels->bounds(&job);
}

static void append_item(void *argument, uint64_t item, uint32_t worker)
{
    (void)worker;
    const append_call *call = argument;
    const skim_append_args *args = call->args;
    const skim_shape *shape = args->shape;
    uint32_t r = skim_cpu_find_row(call->starts, args->row_count, item);
    const skim_row *row = skim_cpu_rows(&args->rows) + r;
    uint32_t first, count;
    touched_pages(row, shape->page_size, &first, &count);
    uint32_t index = (uint32_t)(item - call->starts[r]);
    uint32_t page = first + index / head_chunks(shape);
    uint32_t kv_head = index % head_chunks(shape) * HEADS_PER_ITEM;
    uint32_t end = skim_cpu_minimum(shape->kv_heads, kv_head + HEADS_PER_ITEM);
    for (; kv_head < end; kv_head++) {
        if (call->stores)
            store(args, row, page, kv_head);
        if (call->bounds)
            update_bounds(call, row, page, kv_head);
    }
}

static uint64_t row_items(const void *argument, const skim_row *row)
{
    const skim_append_args *args = argument;
    uint32_t first, count;
    touched_pages(row, args->shape->page_size, &first, &count);
    return (uint64_t)count * head_chunks(args->shape);
}

// ---- the centre: the mean of the call's keys, over parts whose number depends on the shape alone

static uint32_t centre_parts(const skim_shape *shape)
{
    return shape->kv_heads < CENTRE_ITEMS ? CENTRE_ITEMS / shape->kv_heads : 1;
}

static double *take_sums(skim_cpu_arena *arena, const skim_shape *shape)
{
    if (shape->bounds_type != SKIM_BOUNDS_I8)
        return NULL;
    uint64_t parts = (uint64_t)shape->kv_heads * centre_parts(shape);
    return skim_cpu_take(arena, parts * 2 * shape->key_dim, sizeof(double));
}

uint64_t skim_cpu_append_shared_size(const skim_shape *shape)
{
    skim_cpu_arena arena = {0};
    take_sums(&arena, shape);
    return arena.used;
}

// Adds the new keys of one page to a part.
static void sum_page(const append_call *call, const skim_row *row, uint32_t page, uint32_t kv_head,
                     double *sums)
{
    const skim_append_args *args = call->args;
    const skim_shape *shape = args->shape;
    const size_t size = skim_type_size(shape->type);
    const uint64_t slot = skim_cpu_table(&args->table, row)[page];
    uint32_t first = page * shape->page_size;
    uint32_t end = skim_cpu_minimum(row->length - first, shape->page_size);
    uint32_t first_new = row->length - row->query_count;
    uint32_t begin = first < first_new ? first_new - first : 0;
    float page_sums[SKIM_CPU_HEAD_DIM_MAX], page_counts[SKIM_CPU_HEAD_DIM_MAX];
    skim_cpu_sums_job job = {
        .type = shape->type,
        .dim = shape->key_dim,
        .tokens = end - begin,
        .keys = skim_cpu_paged(&args->keys, shape->type, kv_head) +
                (slot * args->keys.page_stride + begin * args->keys.token_stride) * size,
        .token_stride = args->keys.token_stride * size,
        .sums = page_sums,
        .counts = page_counts,
    };
    call->context->kernels->sums(&job);
    for (uint32_t d = 0; d < shape->key_dim; d++) {
        sums[d] += page_sums[d];
        sums[shape->key_dim + d] += page_counts[d];
    }
}

static void sum_item(void *argument, uint64_t item, uint32_t worker)
{
    (void)worker;
    const append_call *call = argument;
    const skim_append_args *args = call->args;
    const uint32_t parts = centre_parts(args->shape);
    uint32_t kv_head = (uint32_t)(item / parts);
    uint64_t part = item % parts;
    uint64_t at = call->pages * part / parts;
    uint64_t end = call->pages * (part + 1) / parts;
    double *sums = call->sums + item * 2 * args->shape->key_dim;
    memset(sums, 0, 2 * args->shape->key_dim * sizeof *sums);
    const uint64_t chunks = head_chunks(args->shape);
    for (; at < end; at++) {
        uint32_t r = skim_cpu_find_row(call->starts, args->row_count, at * chunks);
        const skim_row *row = skim_cpu_rows(&args->rows) + r;
        uint32_t first, count;
        touched_pages(row, args->shape->page_size, &first, &count);
        sum_page(call, row, first + (uint32_t)(at - call->starts[r] / chunks), kv_head, sums);
    }
}

static void centre_item(void *argument, uint64_t item, uint32_t worker)
{
    (void)worker;
    const append_call *call = argument;
    const skim_append_args *args = call->args;
    const skim_shape *shape = args->shape;
    const uint32_t parts = centre_parts(shape), dim = shape->key_dim;
    float *centre = skim_cpu_centre(args->centre, args->centre_offset, shape, item);
    for (uint32_t d = 0; d < dim; d++) {
        const double *sums = call->sums + item * parts * 2 * dim + d;
        double sum = 0, count = 0;
        for (uint32_t part = 0; part < parts; part++) {
            sum += sums[(size_t)part * 2 * dim];
            count += sums[(size_t)part * 2 * dim + dim];
        }
        double mean = count > 0 ? sum / count * SKIM_CPU_SUM_DIVISOR : 0;
        centre[d] = (float)(mean > FLT_MAX ? FLT_MAX : mean < -FLT_MAX ? -FLT_MAX : mean);
    }
}

static void freeze(append_call *call)
{
    const skim_shape *shape = call->args->shape;
    skim_cpu_team *team = call->context->team;
    call->pages = call->starts[call->args->row_count] / head_chunks(shape);
    skim_cpu_team_run(team, (uint64_t)shape->kv_heads * centre_parts(shape), sum_item, call);
    skim_cpu_team_run(team, shape->kv_heads, centre_item, call);
}

void skim_cpu_append(const skim_cpu_context *context, const skim_append_args *args)
{
    bool freezes = args->freeze || (SKIM_MUTANT(append_freezes_again) && args->centre);
    append_call call = {.context = context, .args = args, .stores = true, .bounds = !freezes};
    uint64_t items =
        skim_cpu_divide_rows(context, &args->rows, args->row_count, row_items, args, &call.starts);
    skim_cpu_team_run(context->team, items, append_item, &call);
    if (!freezes)
        return;
    // The bounds need the centre, and the centre all of the keys.
    skim_cpu_arena arena = skim_cpu_shared_arena(context->scratch);
    skim_cpu_take(&arena, (uint64_t)args->row_count + 1, sizeof *call.starts);
    call.sums = take_sums(&arena, args->shape);
    freeze(&call);
    call.stores = false;
    call.bounds = true;
    skim_cpu_team_run(context->team, items, append_item, &call);
}
