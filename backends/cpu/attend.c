#include "backends/cpu/cpu.h"

#include "runtime/mutant.h"

#include <math.h>
#include <string.h>

static const float LOG2_E = 1.44269504088896341f;
static const float LN_2 = 0.693147180559945309f;

// A list is divided into parts so that a few kv heads keep many threads busy. How depends on the
// list's length, the kv heads and the threads alone, so a row's bits do not depend on the batch.
enum {
    PARTS_MAX = 64,
    PART_TOKENS = 256, // a part is no shorter: its merge must stay cheap beside it
    ITEMS_PER_THREAD = 8,
    PARTIAL_ROWS = 16 // rows in parts whose results are kept at a time
};

static uint32_t parts_of(const skim_shape *shape, uint32_t threads, uint32_t list_pages)
{
    uint64_t wanted =
        ((uint64_t)ITEMS_PER_THREAD * threads + shape->kv_heads - 1) / shape->kv_heads;
    uint64_t most = (uint64_t)list_pages * shape->page_size / PART_TOKENS;
    uint64_t parts = wanted < most ? wanted : most;
    if (threads == 1 && shape->kv_heads >= ITEMS_PER_THREAD)
        parts = 1;
    return parts < 1 ? 1 : parts > PARTS_MAX ? PARTS_MAX : (uint32_t)parts;
}

// What is known of a part of a list for one query head before the division by sum.
typedef struct partials {
    float *max; // [heads], base 2
    float *sum;
    float *out; // [heads][padded]
} partials;

static partials take_partials(skim_cpu_arena *arena, uint64_t heads, uint32_t padded)
{
    return (partials){
        .max = skim_cpu_take(arena, heads, sizeof(float)),
        .sum = skim_cpu_take(arena, heads, sizeof(float)),
        .out = skim_cpu_take(arena, heads * padded, sizeof(float)),
    };
}

typedef struct shared_scratch {
    uint64_t *starts; // [rows + 1]: items
    // Of the rows in parts: [parts of all rows][q_heads], and [rows][kv_heads] parts not done yet.
    partials partials;
    atomic_uint *left;
} shared_scratch;

static shared_scratch take_shared(skim_cpu_arena *arena, const skim_shape *shape, uint32_t threads,
                                  uint64_t row_count)
{
    uint64_t rows = shape->max_rows < PARTIAL_ROWS ? shape->max_rows : PARTIAL_ROWS;
    uint32_t most_parts = parts_of(shape, threads, shape->max_pages);
    shared_scratch shared = {.starts = skim_cpu_take(arena, row_count + 1, sizeof(uint64_t))};
    if (most_parts > 1) {
        shared.partials = take_partials(arena, rows * most_parts * shape->q_heads,
                                        skim_cpu_padded(shape->value_dim));
        shared.left = skim_cpu_take(arena, rows * shape->kv_heads, sizeof(atomic_uint));
    }
    return shared;
}

uint64_t skim_cpu_attend_shared_size(const skim_shape *shape, uint32_t threads)
{
    skim_cpu_arena arena = {0};
    take_shared(&arena, shape, threads, shape->max_rows);
    return arena.used;
}

typedef struct worker_scratch {
    float *queries; // [group][padded]
    partials state; // [group]
    float *scores;
    uint32_t *heads;  // [group]: those that the block is for
    uint32_t *cursor; // [group]: position in each head's list
    uint32_t *end;
} worker_scratch;

static worker_scratch take_worker(skim_cpu_arena *arena, const skim_shape *shape)
{
    uint64_t group = shape->q_heads / shape->kv_heads;
    uint32_t padded = skim_cpu_padded(shape->key_dim);
    uint64_t block = SKIM_CPU_BLOCK_TOKENS + SKIM_CPU_PAD;
    return (worker_scratch){
        .queries = skim_cpu_take(arena, group * padded, sizeof(float)),
        .state = take_partials(arena, group, padded),
        .scores = skim_cpu_take(arena, SKIM_CPU_TILE_HEADS * block, sizeof(float)),
        .heads = skim_cpu_take(arena, group, sizeof(uint32_t)),
        .cursor = skim_cpu_take(arena, group, sizeof(uint32_t)),
        .end = skim_cpu_take(arena, group, sizeof(uint32_t)),
    };
}

uint64_t skim_cpu_attend_worker_size(const skim_shape *shape)
{
    skim_cpu_arena arena = {0};
    take_worker(&arena, shape);
    return arena.used;
}

typedef struct attend_call {
    const skim_cpu_context *context;
    const skim_attend_args *args;
    shared_scratch shared;
    uint32_t first_row; // of those that run together
    uint32_t row_count;
    uint32_t part_slots[PARTIAL_ROWS]; // of the rows in parts: first part
    uint32_t rows_in_parts[PARTIAL_ROWS];
    uint32_t parted;
} attend_call;

// One item: a part of a row's list for one kv head.
typedef struct attend_part {
    const attend_call *call;
    const skim_row *row;
    uint32_t row_index;
    uint32_t kv_head;
    uint32_t part;
    uint32_t parts;
    worker_scratch scratch;
    partials state;
    skim_cpu_attend_job job;
} attend_part;

static bool is_decoded(const skim_row *row)
{
    return row->query_count == 1;
}

static bool is_listed(const attend_call *call, const skim_row *row)
{
    return call->args->lists && !(row->flags & SKIM_ROW_DENSE);
}

static bool has_head_lists(const skim_attend_args *args)
{
    return args->select == SKIM_SELECT_HEAD && args->shape->q_heads > args->shape->kv_heads;
}

static uint32_t list_pages(const attend_call *call, const skim_row *row)
{
    if (!is_listed(call, row))
        return row->page_count;
    return skim_cpu_minimum(row->select_count, row->page_count);
}

static const uint32_t *find_list(const attend_call *call, const skim_row *row, uint32_t row_index,
                                 uint32_t list)
{
    if (!is_listed(call, row))
        return NULL;
    const skim_attend_args *args = call->args;
    uint64_t per_row =
        args->select == SKIM_SELECT_HEAD ? args->shape->q_heads : args->shape->kv_heads;
    const char *lists = (const char *)args->lists->host + args->lists_offset;
    return (const uint32_t *)(const void *)lists + (row_index * per_row + list) * args->list_stride;
}

static uint32_t page_tokens(const attend_part *part, uint32_t page)
{
    uint32_t page_size = part->job.page_size;
    uint32_t left = part->row->length - page * page_size;
    uint32_t tokens = skim_cpu_minimum(left, page_size);
    if (page == part->row->page_count - 1) {
        if (SKIM_MUTANT(attend_drops_last_token))
            tokens--;
        if (SKIM_MUTANT(attend_reads_past_end) && tokens < page_size)
            tokens++;
    }
    return tokens;
}

static uint32_t page_slot(const attend_part *part, uint32_t page)
{
    if (SKIM_MUTANT(attend_wrong_slot))
        return page % part->call->args->shape->slots;
    return skim_cpu_table(&part->call->args->table, part->row)[page];
}

// ---- one list for the whole group

typedef struct page_block {
    uint32_t slots[SKIM_CPU_BLOCK_PAGES];
    uint32_t tokens;
} page_block;

// Pages first .. of the list, as many as make a block; list NULL stands for all pages.
static uint32_t fill_block(const attend_part *part, const uint32_t *list, uint32_t first,
                           uint32_t end, page_block *block)
{
    uint32_t pages = SKIM_CPU_BLOCK_TOKENS / part->job.page_size;
    if (pages > SKIM_CPU_BLOCK_PAGES)
        pages = SKIM_CPU_BLOCK_PAGES;
    block->tokens = 0;
    uint32_t last = skim_cpu_minimum(first + pages, end);
    for (uint32_t i = first; i < last; i++) {
        uint32_t page = list ? list[i] : i;
        block->slots[i - first] = page_slot(part, page);
        block->tokens += page_tokens(part, page);
    }
    return last;
}

static void attend_list(attend_part *part, const uint32_t *list, uint32_t first, uint32_t end)
{
    const uint32_t group = part->call->args->shape->q_heads / part->call->args->shape->kv_heads;
    for (uint32_t h = 0; h < group; h++)
        part->scratch.heads[h] = h;
    part->job.head_count = group;

    page_block blocks[2];
    uint32_t current = 0;
    uint32_t at = fill_block(part, list, first, end, &blocks[0]);
    while (blocks[current].tokens > 0) {
        page_block *next = &blocks[1 - current];
        at = fill_block(part, list, at, end, next);
        part->job.slots = blocks[current].slots;
        part->job.tokens = blocks[current].tokens;
        part->job.next_slots = next->slots;
        part->job.next_tokens = next->tokens;
        part->call->context->kernels->attend(&part->job);
        current = 1 - current;
    }
}

// ---- a list per head: their union, once

static uint32_t lower_bound(const uint32_t *list, uint32_t count, uint32_t page)
{
    uint32_t low = 0;
    while (count > 0) {
        uint32_t half = count / 2;
        if (list[low + half] < page) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

// The lowest page that a cursor points at; UINT32_MAX when all are through.
static uint32_t next_page(const attend_part *part, const uint32_t *lists, uint64_t stride,
                          uint32_t group)
{
    uint32_t page = UINT32_MAX;
    for (uint32_t h = 0; h < group; h++)
        if (part->scratch.cursor[h] < part->scratch.end[h])
            page = skim_cpu_minimum(page, lists[h * stride + part->scratch.cursor[h]]);
    return page;
}

// Collects the heads whose cursor points at page, and moves those on.
static uint32_t heads_at(attend_part *part, const uint32_t *lists, uint64_t stride, uint32_t group,
                         uint32_t page)
{
    worker_scratch *scratch = &part->scratch;
    uint32_t count = 0;
    for (uint32_t h = 0; h < group; h++) {
        if (scratch->cursor[h] < scratch->end[h] &&
            lists[h * stride + scratch->cursor[h]] == page) {
            scratch->heads[count++] = h;
            scratch->cursor[h]++;
        }
    }
    return count;
}

static void attend_union(attend_part *part, uint32_t first_page, uint32_t end_page, uint32_t pages)
{
    const skim_attend_args *args = part->call->args;
    const uint32_t group = args->shape->q_heads / args->shape->kv_heads;
    const uint64_t stride = args->list_stride;
    const uint32_t *lists =
        find_list(part->call, part->row, part->row_index, part->kv_head * group);
    for (uint32_t h = 0; h < group; h++) {
        const uint32_t *list = lists + h * stride;
        part->scratch.cursor[h] = lower_bound(list, pages, first_page);
        part->scratch.end[h] = lower_bound(list, pages, end_page);
    }

    uint32_t slots[2];
    uint32_t page = next_page(part, lists, stride, group);
    while (page != UINT32_MAX) {
        part->job.head_count = heads_at(part, lists, stride, group, page);
        part->job.tokens = page_tokens(part, page);
        slots[0] = page_slot(part, page);
        part->job.slots = &slots[0];
        uint32_t next = next_page(part, lists, stride, group);
        part->job.next_tokens = 0;
        if (next != UINT32_MAX) {
            slots[1] = page_slot(part, next);
            part->job.next_slots = &slots[1];
            part->job.next_tokens = page_tokens(part, next);
        }
        if (part->job.tokens > 0)
            part->call->context->kernels->attend(&part->job);
        page = next;
    }
}

// ---- items

static void begin_part(attend_part *part, uint32_t worker)
{
    const attend_call *call = part->call;
    const skim_attend_args *args = call->args;
    const skim_shape *shape = args->shape;
    const size_t size = skim_type_size(shape->type);
    const uint32_t group = shape->q_heads / shape->kv_heads;
    const uint32_t padded = skim_cpu_padded(shape->key_dim);
    skim_cpu_arena arena = skim_cpu_worker_arena(call->context->scratch, worker);
    part->scratch = take_worker(&arena, shape);
    part->state = part->scratch.state;

    float scale = SKIM_MUTANT(attend_wrong_scale) ? 1.0f / (float)shape->key_dim : args->scale;
    call->context->kernels->load_rows(
        args->q.type, skim_cpu_element(&args->q, part->row->query_start, part->kv_head * group),
        args->q.head_stride * skim_type_size(args->q.type), group, shape->key_dim, scale * LOG2_E,
        part->scratch.queries);
    for (uint32_t h = 0; h < group; h++) {
        part->state.max[h] = -INFINITY;
        part->state.sum[h] = 0;
    }
    memset(part->state.out, 0, (size_t)group * padded * sizeof(float));

    uint32_t stored_head = SKIM_MUTANT(attend_wrong_kv_head) ? 0 : part->kv_head;
    part->job = (skim_cpu_attend_job){
        .type = shape->type,
        .dim = shape->key_dim,
        .padded = padded,
        .page_size = shape->page_size,
        .keys = skim_cpu_paged(&args->keys, shape->type, stored_head),
        .values = skim_cpu_paged(&args->values, shape->type, stored_head),
        .key_page_stride = args->keys.page_stride * size,
        .key_token_stride = args->keys.token_stride * size,
        .value_page_stride = args->values.page_stride * size,
        .value_token_stride = args->values.token_stride * size,
        .queries = part->scratch.queries,
        .out = part->state.out,
        .max = part->state.max,
        .sum = part->state.sum,
        .heads = part->scratch.heads,
        .scores = part->scratch.scores,
    };
}

static void attend_pages(attend_part *part)
{
    const attend_call *call = part->call;
    uint32_t pages = list_pages(call, part->row);
    if (is_listed(call, part->row) && has_head_lists(call->args)) {
        // Parts by page index: the union's length is not known before it is walked.
        uint64_t all = part->row->page_count;
        if (SKIM_MUTANT(attend_drops_last_page) && all > 0)
            all--;
        attend_union(part, (uint32_t)(all * part->part / part->parts),
                     (uint32_t)(all * (part->part + 1) / part->parts), pages);
        return;
    }
    if (SKIM_MUTANT(attend_drops_last_page) && pages > 0)
        pages--;
    const uint32_t *list = find_list(call, part->row, part->row_index, part->kv_head);
    attend_list(part, list, (uint32_t)((uint64_t)pages * part->part / part->parts),
                (uint32_t)((uint64_t)pages * (part->part + 1) / part->parts));
}

// Divides by the sum and writes out and lse of one query head.
static void store_result(const attend_part *part, uint32_t head, float max, float sum,
                         const float *out)
{
    const skim_attend_args *args = part->call->args;
    const uint64_t token = part->row->query_start;
    bool empty = max == -INFINITY;
    part->call->context->kernels->store_row(args->out.type, out, args->shape->value_dim,
                                            empty ? 0.0f : 1.0f / sum,
                                            skim_cpu_element(&args->out, token, head));
    if (args->lse.type != SKIM_TYPE_NONE) {
        float lse = empty ? -INFINITY : LN_2 * (max + log2f(sum));
        memcpy(skim_cpu_element(&args->lse, token, head), &lse, sizeof lse);
    }
}

static partials find_partial(const attend_call *call, uint64_t slot, uint32_t head)
{
    uint64_t first = slot * call->args->shape->q_heads + head;
    return (partials){
        .max = call->shared.partials.max + first,
        .sum = call->shared.partials.sum + first,
        .out = call->shared.partials.out + first * skim_cpu_padded(call->args->shape->value_dim),
    };
}

// Merges the parts of one query head, always in the list's order, into the first.
static void merge_head(const attend_part *part, uint64_t first_slot, uint32_t head)
{
    const uint32_t padded = part->job.padded;
    float max = -INFINITY;
    for (uint32_t p = 0; p < part->parts; p++) {
        float of_part = *find_partial(part->call, first_slot + p, head).max;
        if (!(of_part <= max))
            max = of_part;
    }
    partials merged = find_partial(part->call, first_slot, head);
    float sum = 0;
    for (uint32_t p = 0; p < part->parts; p++) {
        partials from = find_partial(part->call, first_slot + p, head);
        // An empty part has weight 0 even where all are empty.
        float weight = *from.max == -INFINITY ? 0.0f : exp2f(*from.max - max);
        if (SKIM_MUTANT(attend_merge_unweighted))
            weight = 1;
        sum += weight * *from.sum;
        for (uint32_t d = 0; d < padded; d++)
            merged.out[d] = weight * from.out[d] + (p > 0 ? merged.out[d] : 0.0f);
    }
    store_result(part, head, max, sum, merged.out);
}

// Keeps the part's results; whoever finishes the last part of a row and kv head merges them.
static void finish_part(const attend_part *part, uint32_t parted)
{
    const attend_call *call = part->call;
    const uint32_t group = call->args->shape->q_heads / call->args->shape->kv_heads;
    uint64_t first_slot = call->part_slots[parted];
    partials to = find_partial(call, first_slot + part->part, part->kv_head * group);
    memcpy(to.max, part->state.max, group * sizeof(float));
    memcpy(to.sum, part->state.sum, group * sizeof(float));
    memcpy(to.out, part->state.out, (size_t)group * part->job.padded * sizeof(float));
    atomic_uint *left = &call->shared.left[parted * call->args->shape->kv_heads + part->kv_head];
    if (atomic_fetch_sub(left, 1) > 1)
        return;
    for (uint32_t h = 0; h < group; h++)
        merge_head(part, first_slot, part->kv_head * group + h);
}

static void attend_item(void *argument, uint64_t item, uint32_t worker)
{
    const attend_call *call = argument;
    const skim_shape *shape = call->args->shape;
    uint32_t r = skim_cpu_find_row(call->shared.starts, call->row_count, item);
    const skim_row *row = skim_cpu_rows(&call->args->rows) + call->first_row + r;
    uint32_t index = (uint32_t)(item - call->shared.starts[r]);
    attend_part part = {
        .call = call,
        .row = row,
        .row_index = call->first_row + r,
        .kv_head = index % shape->kv_heads,
        .part = index / shape->kv_heads,
        .parts = parts_of(shape, call->context->team->threads, list_pages(call, row)),
    };
    begin_part(&part, worker);
    attend_pages(&part);
    if (part.parts > 1) {
        uint32_t parted = 0;
        while (call->rows_in_parts[parted] != r)
            parted++;
        finish_part(&part, parted);
        return;
    }
    const uint32_t group = shape->q_heads / shape->kv_heads;
    for (uint32_t h = 0; h < group; h++)
        store_result(&part, part.kv_head * group + h, part.state.max[h], part.state.sum[h],
                     part.state.out + (size_t)h * part.job.padded);
}

// Runs rows from first_row on until the partial results are full; returns the first row left.
static uint32_t attend_wave(attend_call *call)
{
    const skim_attend_args *args = call->args;
    const skim_row *rows = skim_cpu_rows(&args->rows);
    const uint32_t threads = call->context->team->threads;
    uint32_t slots = 0;
    uint64_t items = 0;
    call->row_count = call->parted = 0;
    uint32_t r = call->first_row;
    for (; r < args->row_count; r++) {
        uint32_t parts = 0;
        if (is_decoded(&rows[r]))
            parts = parts_of(args->shape, threads, list_pages(call, &rows[r]));
        if (parts > 1) {
            if (call->parted == PARTIAL_ROWS)
                break;
            call->rows_in_parts[call->parted] = call->row_count;
            call->part_slots[call->parted] = slots;
            for (uint32_t h = 0; h < args->shape->kv_heads; h++)
                atomic_store(&call->shared.left[call->parted * args->shape->kv_heads + h], parts);
            call->parted++;
            slots += parts;
        }
        call->shared.starts[call->row_count++] = items;
        items += (uint64_t)parts * args->shape->kv_heads;
    }
    call->shared.starts[call->row_count] = items;
    skim_cpu_team_run(call->context->team, items, attend_item, call);
    return r;
}

void skim_cpu_attend(const skim_cpu_context *context, const skim_attend_args *args)
{
    skim_cpu_arena arena = skim_cpu_shared_arena(context->scratch);
    attend_call call = {
        .context = context,
        .args = args,
        .shared = take_shared(&arena, args->shape, context->team->threads, args->row_count),
    };
    while (call.first_row < args->row_count)
        call.first_row = attend_wave(&call);
    skim_cpu_prefill(context, args);
}
