// The four verbs of skim evaluate: sequences that share a text's pages, each with its own policy.
#include "evaluate.h"
#include "halves.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

static int out_of_memory(void)
{
    return report_failure("out of memory for the pages; use shorter texts or fewer cells");
}

static int check(const struct pool *pool, skim_status status)
{
    return status == SKIM_OK ? EXIT_DONE : session_queue_failure(pool->session, status);
}

static int make_buffer(const struct pool *pool, uint64_t bytes, skim_buffer **buffer)
{
    return check(pool, skim_buffer_create(pool->session->device, bytes, buffer));
}

static uint64_t page_elements(const struct pool *pool)
{
    return 2ull * pool->config->kv_heads * pool->page_size * pool->config->head_dim;
}

static uint32_t slots(const struct pool *pool)
{
    return pool->text_slots + pool->rows * pool->own_pages;
}

static int open_kind(struct pool *pool, const struct pool_options *options, const struct cell *cell)
{
    const struct model_config *config = pool->config;
    struct pool_kind *kind = &pool->kinds[cell->kind];
    uint32_t most = options->rows > options->step_tokens ? options->rows : options->step_tokens;
    kind->shape = (skim_shape){.size_of = sizeof kind->shape,
                               .q_heads = config->q_heads,
                               .kv_heads = config->kv_heads,
                               .key_dim = config->head_dim,
                               .value_dim = config->head_dim,
                               .page_size = pool->page_size,
                               .type = pool->type,
                               .bounds = (skim_bounds)cell->bounds,
                               .bounds_type = (skim_bounds_type)cell->bounds_type,
                               .slots = slots(pool),
                               .max_rows = options->rows,
                               .max_tokens = most,
                               .max_pages = pool->max_pages};
    uint64_t bytes = 0;
    int failed = check(pool, skim_queue_prepare(pool->session->queue, &kind->shape));
    if (!failed)
        failed = check(pool, skim_bounds_size(pool->session->device, &kind->shape, &bytes));
    kind->bounds = calloc(config->layers, sizeof(skim_buffer *));
    if (!failed && !kind->bounds)
        failed = out_of_memory();
    for (uint32_t i = 0; i < config->layers && !failed; i++)
        failed = make_buffer(pool, bytes, &kind->bounds[i]);
    if (!failed && cell->bounds_type == SKIM_BOUNDS_I8)
        failed = make_buffer(pool, pool->centre_stride * config->layers, &kind->centre);
    return failed;
}

static int open_kinds(struct pool *pool, const struct pool_options *options)
{
    const struct cells *cells = options->cells;
    int failed = EXIT_DONE;
    for (uint32_t i = 0; i < cells->count && !failed; i++) {
        if (cells->cells[i].kind < pool->kind_count)
            continue;
        failed = open_kind(pool, options, &cells->cells[i]);
        pool->kind_count++;
    }
    return failed;
}

static int open_lists(struct pool *pool, const struct pool_options *options)
{
    uint32_t most = 1;
    int failed = EXIT_DONE;
    for (uint32_t i = 0; i < options->cells->count && !failed; i++) {
        skim_row row = {.length = options->text_tokens + options->own_tokens, .query_count = 1};
        failed = check(pool, skim_policy_resolve(&options->cells->cells[i].policy, UINT32_MAX,
                                                 pool->page_size, &row));
        if (!(row.flags & SKIM_ROW_DENSE) && row.select_count > most)
            most = row.select_count;
    }
    pool->list_stride =
        (most + 3) / 4 * 4; // so that every row's lists start at a multiple of 16 bytes
    uint64_t heads = (uint64_t)options->rows * pool->config->q_heads;
    for (int i = 0; i < LISTS && !failed; i++)
        failed = make_buffer(pool, heads * pool->list_stride * sizeof(uint32_t), &pool->lists[i]);
    if (!failed)
        failed = make_buffer(pool, heads * pool->max_pages * sizeof(float), &pool->scores);
    return failed;
}

static int make_room(struct pool *pool, const struct pool_options *options)
{
    const struct model_config *config = pool->config;
    size_t most = options->rows > options->step_tokens ? options->rows : options->step_tokens;
    size_t elements = most * config->kv_heads * config->head_dim;
    pool->rounded = malloc(elements * sizeof *pool->rounded);
    bool complete = pool->rounded != NULL;
    for (int i = 0; i < 2 && pool->type != SKIM_F32; i++)
        complete &= (pool->halves[i] = malloc(elements * sizeof(uint16_t))) != NULL;
    pool->slot_table = calloc((size_t)pool->max_pages * (options->rows + 1), sizeof(uint32_t));
    pool->call_rows = calloc(options->rows, sizeof *pool->call_rows);
    pool->pages = calloc(config->layers, sizeof(skim_buffer *));
    return complete && pool->slot_table && pool->call_rows && pool->pages ? EXIT_DONE
                                                                          : out_of_memory();
}

static uint64_t head_bytes(const struct pool *pool, uint32_t tokens)
{
    return (uint64_t)tokens * pool->config->q_heads * pool->config->head_dim * sizeof(float);
}

static int open_step(struct pool *pool, const struct pool_options *options)
{
    uint32_t most = options->rows > options->step_tokens ? options->rows : options->step_tokens;
    uint64_t table_bytes = (uint64_t)pool->max_pages * (pool->rows + 1) * sizeof(uint32_t);
    int failed = make_buffer(pool, head_bytes(pool, most), &pool->queries);
    if (!failed)
        failed = make_buffer(pool, head_bytes(pool, most), &pool->results);
    return failed ? failed : make_buffer(pool, table_bytes, &pool->table);
}

// The text's own pages are the first slots, in order.
static int write_text_table(struct pool *pool)
{
    uint64_t first = (uint64_t)pool->rows * pool->max_pages;
    uint32_t *slot = pool->slot_table + first;
    for (uint32_t p = 0; p < pool->max_pages && p < pool->text_slots; p++)
        slot[p] = p;
    return check(pool, skim_queue_upload(pool->session->queue, pool->table, first * sizeof *slot,
                                         slot, (uint64_t)pool->max_pages * sizeof *slot));
}

int pool_open(struct pool *pool, struct session *session, const struct model_config *config,
              const struct pool_options *options)
{
    uint32_t page = options->page_size;
    *pool = (struct pool){
        .session = session,
        .config = config,
        .page_size = page,
        // A multiple of 4, so that every row's scores start at a multiple of 16 bytes.
        .max_pages = ((options->text_tokens + options->own_tokens) / page + 1 + 3) / 4 * 4,
        .text_slots = options->text_tokens / page + 1,
        .own_pages = (page - 1 + options->own_tokens) / page + 1,
        .rows = options->rows,
        .type = options->type,
        .spread = options->spread,
        .centre_stride =
            ((uint64_t)config->kv_heads * config->head_dim * sizeof(float) + 63) / 64 * 64};
    int failed = make_room(pool, options);
    uint64_t bytes = page_elements(pool) * skim_type_size(pool->type) * slots(pool);
    for (uint32_t i = 0; i < config->layers && !failed; i++)
        failed = make_buffer(pool, bytes, &pool->pages[i]);
    if (!failed)
        failed = open_kinds(pool, options);
    if (!failed)
        failed = open_lists(pool, options);
    if (!failed)
        failed = open_step(pool, options);
    return failed ? failed : write_text_table(pool);
}

static void destroy_all(skim_buffer **buffers, uint32_t count)
{
    for (uint32_t i = 0; buffers && i < count; i++)
        skim_buffer_destroy(buffers[i]);
    free(buffers);
}

void pool_close(struct pool *pool)
{
    uint32_t layers = pool->config ? pool->config->layers : 0;
    for (uint32_t i = 0; i < EVALUATE_KINDS; i++) {
        destroy_all(pool->kinds[i].bounds, layers);
        skim_buffer_destroy(pool->kinds[i].centre);
    }
    destroy_all(pool->pages, layers);
    skim_buffer_destroy(pool->scores);
    for (int i = 0; i < LISTS; i++)
        skim_buffer_destroy(pool->lists[i]);
    skim_buffer_destroy(pool->table);
    skim_buffer_destroy(pool->queries);
    skim_buffer_destroy(pool->results);
    free(pool->halves[0]);
    free(pool->halves[1]);
    free(pool->rounded);
    free(pool->slot_table);
    free(pool->call_rows);
    *pool = (struct pool){0};
}

static skim_paged paged(const struct pool *pool, uint32_t layer, bool values)
{
    uint64_t elements = (uint64_t)pool->page_size * pool->config->head_dim;
    return (skim_paged){.buffer = pool->pages[layer],
                        .offset = values ? elements * skim_type_size(pool->type) : 0,
                        .page_stride = page_elements(pool),
                        .head_stride = 2 * elements,
                        .token_stride = pool->config->head_dim};
}

static skim_tensor table(const struct pool *pool)
{
    return skim_tensor_buffer(pool->table, 0, SKIM_U32);
}

static uint32_t table_count(const struct pool *pool)
{
    return pool->max_pages * (pool->rows + 1);
}

// Keys or values of a step, in the type of the cache.
static skim_tensor stored(const struct pool *pool, const float *x, uint32_t tokens, int place)
{
    if (pool->type == SKIM_F32)
        return skim_tensor_host(x, SKIM_F32);
    size_t count = (size_t)tokens * pool->config->kv_heads * pool->config->head_dim;
    halves_from_f32(pool->type, x, count, pool->halves[place]);
    return skim_tensor_host(pool->halves[place], pool->type);
}

// Stores tokens of some rows, or, without k and v, only computes their bounds.
static int append(struct pool *pool, uint32_t layer, uint32_t kind, const skim_row *rows,
                  uint32_t count, uint32_t tokens, const skim_tensor *k, const skim_tensor *v,
                  bool freeze)
{
    const struct pool_kind *of = &pool->kinds[kind];
    skim_append_args args = {.size_of = sizeof args,
                             .shape = &of->shape,
                             .rows = skim_tensor_host(rows, SKIM_U32),
                             .row_count = count,
                             .token_count = tokens,
                             .table = table(pool),
                             .table_count = table_count(pool),
                             .keys = paged(pool, layer, false),
                             .values = paged(pool, layer, true),
                             .bounds = of->bounds[layer],
                             .centre = of->centre,
                             .centre_offset = of->centre ? layer * pool->centre_stride : 0,
                             .freeze = of->centre && freeze};
    if (k) {
        args.k = *k;
        args.v = *v;
    }
    return check(pool, skim_append(pool->session->queue, &args));
}

int pool_begin_layer(struct pool *pool, const float *q, uint32_t tokens)
{
    return check(pool, skim_queue_upload(pool->session->queue, pool->queries, 0, q,
                                         head_bytes(pool, tokens)));
}

int pool_end_layer(struct pool *pool, float *out, uint32_t tokens)
{
    skim_queue *queue = pool->session->queue;
    skim_status status =
        skim_queue_download(queue, pool->results, 0, out, head_bytes(pool, tokens));
    return check(pool, status == SKIM_OK ? skim_queue_finish(queue) : status);
}

int pool_run_text(struct pool *pool, uint32_t layer, uint32_t first, uint32_t tokens,
                  const float *q, const float *k, const float *v, float *out)
{
    uint32_t length = first + tokens;
    skim_row row = {.length = length,
                    .query_count = tokens,
                    .table_start = pool->rows * pool->max_pages,
                    .page_count = (length + pool->page_size - 1) / pool->page_size,
                    .select_count = 1,
                    .forced_last = 1,
                    .flags = SKIM_ROW_DENSE};
    skim_tensor keys = stored(pool, k, tokens, 0);
    skim_tensor values = stored(pool, v, tokens, 1);
    int failed = pool_begin_layer(pool, q, tokens);
    for (uint32_t kind = 0; kind < pool->kind_count && !failed; kind++)
        failed = append(pool, layer, kind, &row, 1, tokens, kind ? NULL : &keys,
                        kind ? NULL : &values, first == 0);
    if (!failed)
        failed = pool_attend(pool, layer, LISTS_NONE, &row, 0, 1, tokens);
    return failed ? failed : pool_end_layer(pool, out, tokens);
}

uint32_t pool_length(const struct pool *pool, const struct pool_view *view)
{
    return view->shown_pages * pool->page_size + view->tail_tokens + view->own_tokens;
}

static uint32_t own_slot(const struct pool *pool, uint32_t row)
{
    return pool->text_slots + row * pool->own_pages;
}

static int write_table(struct pool *pool, const struct pool_view *view, uint32_t rows)
{
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t *slot = pool->slot_table + (size_t)r * pool->max_pages;
        for (uint32_t p = 0; p < view->text_pages; p++)
            if (!view->hidden || !view->hidden[p])
                *slot++ = p;
        for (uint32_t p = 0; p < pool->own_pages; p++)
            if (slot < pool->slot_table + (size_t)(r + 1) * pool->max_pages)
                *slot++ = own_slot(pool, r) + p;
    }
    return check(pool, skim_queue_upload(pool->session->queue, pool->table, 0, pool->slot_table,
                                         (uint64_t)rows * pool->max_pages * sizeof(uint32_t)));
}

// The rows of one kind of bounds, as they are with the view's tokens, the last `query_count` of
// which are new. Returns how many there are.
static uint32_t list_rows(struct pool *pool, const struct pool_view *view, const struct cell *cells,
                          uint32_t rows, uint32_t kind, uint32_t query_count)
{
    uint32_t count = 0;
    uint32_t length = pool_length(pool, view);
    for (uint32_t r = 0; r < rows; r++)
        if (cells[r].kind == kind)
            pool->call_rows[count++] =
                (skim_row){.length = length,
                           .query_start = r,
                           .query_count = query_count,
                           .table_start = r * pool->max_pages,
                           .page_count = (length + pool->page_size - 1) / pool->page_size,
                           .select_count = 1,
                           .forced_last = 1};
    return count;
}

int pool_fork(struct pool *pool, const struct pool_view *view, const struct cell *cells,
              uint32_t rows)
{
    skim_queue *queue = pool->session->queue;
    uint64_t bytes = page_elements(pool) * skim_type_size(pool->type);
    int failed = write_table(pool, view, rows);
    if (view->tail_tokens == 0)
        return failed;
    // The page that is not full is copied, and its bounds are computed where it is now.
    for (uint32_t layer = 0; layer < pool->config->layers && !failed; layer++) {
        for (uint32_t r = 0; r < rows && !failed; r++)
            failed =
                check(pool, skim_queue_copy(queue, pool->pages[layer], view->text_pages * bytes,
                                            pool->pages[layer], own_slot(pool, r) * bytes, bytes));
        for (uint32_t kind = 0; kind < pool->kind_count && !failed; kind++) {
            uint32_t count = list_rows(pool, view, cells, rows, kind, view->tail_tokens);
            if (count > 0)
                failed = append(pool, layer, kind, pool->call_rows, count, 0, NULL, NULL, false);
        }
    }
    return failed ? failed : check(pool, skim_queue_finish(queue));
}

int pool_row(const struct pool *pool, const struct pool_view *view, const struct cell *cell,
             uint32_t layer, uint32_t index, skim_row *row)
{
    *row = (skim_row){.length = pool_length(pool, view),
                      .query_start = index,
                      .query_count = 1,
                      .table_start = index * pool->max_pages};
    return check(pool, skim_policy_resolve(&cell->policy, layer, pool->page_size, row));
}

int pool_append(struct pool *pool, const struct pool_view *view, uint32_t layer,
                const struct cell *cells, uint32_t rows, const float *k, const float *v)
{
    skim_tensor key_tensor = stored(pool, k, rows, 0);
    skim_tensor value_tensor = stored(pool, v, rows, 1);
    int failed = EXIT_DONE;
    for (uint32_t kind = 0; kind < pool->kind_count && !failed; kind++) {
        uint32_t count = list_rows(pool, view, cells, rows, kind, 1);
        if (count > 0)
            failed = append(pool, layer, kind, pool->call_rows, count, rows, &key_tensor,
                            &value_tensor, false);
    }
    return failed;
}

const float *pool_stored_keys(struct pool *pool, const float *k, uint32_t tokens)
{
    if (pool->type == SKIM_F32)
        return k;
    halves_to_f32(pool->type, pool->halves[0],
                  (size_t)tokens * pool->config->kv_heads * pool->config->head_dim, pool->rounded);
    return pool->rounded;
}

static uint32_t heads_of(const struct pool *pool, enum pool_lists lists)
{
    return lists == LISTS_GROUP ? pool->config->kv_heads : pool->config->q_heads;
}

static uint64_t list_bytes(const struct pool *pool, enum pool_lists lists, uint32_t rows)
{
    return (uint64_t)rows * heads_of(pool, lists) * pool->list_stride * sizeof(uint32_t);
}

int pool_choose(struct pool *pool, uint32_t layer, const struct cell *cell, const skim_row *rows,
                uint32_t place, uint32_t count, uint32_t tokens)
{
    const struct pool_kind *kind = &pool->kinds[cell->kind];
    enum pool_lists lists = cell->mode == EVALUATE_GROUP ? LISTS_GROUP : LISTS_HEAD;
    uint64_t scores = (uint64_t)place * pool->config->q_heads * pool->max_pages * sizeof(float);
    skim_estimate_args estimate = {.size_of = sizeof estimate,
                                   .shape = &kind->shape,
                                   .rows = skim_tensor_host(rows, SKIM_U32),
                                   .row_count = count,
                                   .token_count = tokens,
                                   .table = table(pool),
                                   .table_count = table_count(pool),
                                   .q = skim_tensor_buffer(pool->queries, 0, SKIM_F32),
                                   .bounds = kind->bounds[layer],
                                   .centre = kind->centre,
                                   .centre_offset = kind->centre ? layer * pool->centre_stride : 0,
                                   .spread = pool->spread,
                                   .scores = pool->scores,
                                   .scores_offset = scores,
                                   .score_stride = pool->max_pages};
    skim_select_args select = {.size_of = sizeof select,
                               .shape = &kind->shape,
                               .rows = estimate.rows,
                               .row_count = count,
                               .scores = pool->scores,
                               .scores_offset = scores,
                               .score_stride = pool->max_pages,
                               .select = cell->policy.select,
                               .combine = cell->policy.combine,
                               .lists = pool->lists[lists],
                               .lists_offset = list_bytes(pool, lists, place),
                               .list_stride = pool->list_stride};
    skim_status status = skim_estimate(pool->session->queue, &estimate);
    if (status == SKIM_OK)
        status = skim_select(pool->session->queue, &select);
    return check(pool, status);
}

int pool_attend(struct pool *pool, uint32_t layer, enum pool_lists lists, const skim_row *rows,
                uint32_t place, uint32_t count, uint32_t tokens)
{
    skim_attend_args args = {.size_of = sizeof args,
                             .shape = &pool->kinds[0].shape,
                             .rows = skim_tensor_host(rows, SKIM_U32),
                             .row_count = count,
                             .token_count = tokens,
                             .table = table(pool),
                             .table_count = table_count(pool),
                             .q = skim_tensor_buffer(pool->queries, 0, SKIM_F32),
                             .keys = paged(pool, layer, false),
                             .values = paged(pool, layer, true),
                             .out = skim_tensor_buffer(pool->results, 0, SKIM_F32)};
    if (lists != LISTS_NONE) {
        args.select = lists == LISTS_GROUP ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
        args.lists = pool->lists[lists];
        args.lists_offset = list_bytes(pool, lists, place);
        args.list_stride = pool->list_stride;
    }
    return count ? check(pool, skim_attend(pool->session->queue, &args)) : EXIT_DONE;
}

int pool_read_lists(struct pool *pool, enum pool_lists lists, uint32_t place, uint32_t count,
                    uint32_t *target)
{
    uint64_t first = list_bytes(pool, lists, place);
    return check(pool, skim_queue_download(pool->session->queue, pool->lists[lists], first,
                                           target + first / sizeof *target,
                                           list_bytes(pool, lists, count)));
}

int pool_write_lists(struct pool *pool, enum pool_lists lists, uint32_t place, uint32_t count,
                     const uint32_t *source)
{
    uint64_t first = list_bytes(pool, lists, place);
    return check(pool, skim_queue_upload(pool->session->queue, pool->lists[lists], first,
                                         source + first / sizeof *source,
                                         list_bytes(pool, lists, count)));
}
