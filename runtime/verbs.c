// The four verbs on the caller's buffers: check everything, move host tensors into staging, record.
#include "runtime/verbs.h"

#include "runtime/queue.h"

#include <math.h>

enum {
    IO_TYPES = 1 << SKIM_F32 | 1 << SKIM_F16 | 1 << SKIM_BF16,
    ROW_WORDS = sizeof(skim_row) / sizeof(uint32_t),
    ROWS_ESTIMATED = SKIM_ROWS_TABLED | SKIM_ROWS_QUERIED | SKIM_ROWS_SELECTED | SKIM_ROWS_SINGLE
};

// What every verb has.
typedef struct skim_common {
    skim_queue *queue;
    skim_error *error;
    skim_device *device;
    skim_shape shape;
} skim_common;

static skim_status begin_verb(skim_queue *queue, const skim_shape *shape, uint32_t row_count,
                              skim_common *common)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    common->queue = queue;
    common->error = &queue->base.error;
    common->device = queue->base.device;
    status = skim_shape_check(common->device, shape, &common->shape, common->error);
    if (status != SKIM_OK)
        return status;
    if (row_count == 0 || row_count > common->shape.max_rows)
        return skim_fail(common->error, SKIM_INVALID, "row_count %u; the shape plans for 1 to %u",
                         row_count, common->shape.max_rows);
    if (!skim_queue_is_prepared(queue, &common->shape))
        return skim_fail(common->error, SKIM_STATE,
                         "the queue is not prepared for this shape; call skim_queue_prepare");
    return SKIM_OK;
}

static skim_status check_tensor(const skim_common *common, const skim_stage_item *item)
{
    return skim_tensor_check(common->device, &item->extent, item->tensor, common->error);
}

static skim_stage_item rows_item(skim_tensor *rows, uint32_t count)
{
    return (skim_stage_item){
        {"rows", count, 1, ROW_WORDS, 1u << SKIM_U32}, rows, false, false, {0}};
}

static skim_stage_item table_item(skim_tensor *table, uint32_t count)
{
    return (skim_stage_item){{"table", count, 1, 1, 1u << SKIM_U32}, table, false, false, {0}};
}

static const void *host_data(const skim_tensor *tensor)
{
    return (const char *)tensor->data + tensor->offset;
}

// Checks rows and, unless it is NULL, the table. Both are [count] contiguous words.
static skim_status check_rows(const skim_common *common, skim_tensor *rows, uint32_t row_count,
                              uint32_t token_count, skim_tensor *table, uint32_t table_count,
                              int properties)
{
    skim_stage_item item = rows_item(rows, row_count);
    skim_status status = check_tensor(common, &item);
    if (status != SKIM_OK)
        return status;
    if (rows->token_stride != ROW_WORDS)
        return skim_fail(common->error, SKIM_INVALID, "rows must be packed");
    if (!rows->buffer)
        status = skim_rows_check(host_data(rows), row_count, &common->shape, token_count,
                                 table_count, properties, common->error);
    if (status != SKIM_OK || !table)
        return status;

    if (table_count == 0)
        return skim_fail(common->error, SKIM_INVALID, "table_count must not be 0");
    item = table_item(table, table_count);
    status = check_tensor(common, &item);
    if (status != SKIM_OK)
        return status;
    if (table->token_stride != 1)
        return skim_fail(common->error, SKIM_INVALID, "the table must be packed");
    if (!table->buffer)
        status = skim_table_check(host_data(table), table_count, &common->shape, common->error);
    return status;
}

static skim_status check_tokens(const skim_common *common, uint32_t token_count)
{
    if (token_count > common->shape.max_tokens)
        return skim_fail(common->error, SKIM_INVALID, "token_count %u; the shape plans for %u",
                         token_count, common->shape.max_tokens);
    return SKIM_OK;
}

static skim_status check_bounds(const skim_common *common, const skim_buffer *bounds,
                                uint64_t offset)
{
    uint64_t size = common->device->backend->bounds_size(common->device, &common->shape);
    return skim_span_check(common->device, "bounds", bounds, offset, size, 1, 64, common->error);
}

static skim_status check_centre(const skim_common *common, const skim_buffer *centre,
                                uint64_t offset)
{
    const skim_shape *shape = &common->shape;
    if (shape->bounds_type == SKIM_BOUNDS_I8)
        return skim_span_check(common->device, "centre", centre, offset,
                               (uint64_t)shape->kv_heads * shape->key_dim, sizeof(float), 64,
                               common->error);
    if (centre)
        return skim_fail(common->error, SKIM_INVALID, "only bounds of type i8 have a centre");
    return SKIM_OK;
}

static skim_status check_scores(const skim_common *common, const skim_buffer *scores,
                                uint64_t offset, uint64_t stride, uint32_t row_count)
{
    uint64_t count;
    if (stride < common->shape.max_pages)
        return skim_fail(common->error, SKIM_INVALID, "score_stride %llu is below max_pages %u",
                         (unsigned long long)stride, common->shape.max_pages);
    if (!skim_multiply((uint64_t)row_count * common->shape.q_heads, stride, &count))
        return skim_fail(common->error, SKIM_INVALID, "score_stride overflows");
    return skim_span_check(common->device, "scores", scores, offset, count, sizeof(float), 16,
                           common->error);
}

static uint32_t lists_per_row(const skim_shape *shape, skim_select_mode select)
{
    return select == SKIM_SELECT_HEAD ? shape->q_heads : shape->kv_heads;
}

static skim_status resolve_select(const skim_common *common, skim_select_mode *select)
{
    if ((unsigned)*select > SKIM_SELECT_GROUP)
        return skim_fail(common->error, SKIM_INVALID, "unknown skim_select_mode %d", (int)*select);
    *select = skim_select_resolve(*select, &common->shape);
    return SKIM_OK;
}

static skim_status check_lists(const skim_common *common, const skim_buffer *lists, uint64_t offset,
                               uint64_t stride, uint32_t row_count, skim_select_mode select)
{
    uint64_t count;
    uint64_t all = (uint64_t)row_count * lists_per_row(&common->shape, select);
    if (stride == 0 || !skim_multiply(all, stride, &count))
        return skim_fail(common->error, SKIM_INVALID, "list_stride is 0 or overflows");
    return skim_span_check(common->device, "lists", lists, offset, count, sizeof(uint32_t), 16,
                           common->error);
}

// Lists must have room for every K of rows that the host gave.
static skim_status check_list_room(const skim_common *common, const skim_tensor *rows,
                                   uint32_t row_count, uint64_t stride)
{
    const skim_row *row = rows->buffer ? NULL : host_data(rows);
    for (uint32_t i = 0; row && i < row_count; i++) {
        uint32_t count =
            row[i].select_count < row[i].page_count ? row[i].select_count : row[i].page_count;
        if (!(row[i].flags & SKIM_ROW_DENSE) && count > stride)
            return skim_fail(common->error, SKIM_INVALID,
                             "row %u: a list of %u exceeds the list_stride %llu", i, count,
                             (unsigned long long)stride);
    }
    return SKIM_OK;
}

static skim_status resolve_scale(const skim_common *common, float *scale)
{
    if (!(*scale >= 0.0f) || isinf(*scale))
        return skim_fail(common->error, SKIM_INVALID, "scale must be finite and not negative");
    if (*scale == 0.0f)
        *scale = 1.0f / sqrtf((float)common->shape.key_dim);
    return SKIM_OK;
}

skim_select_mode skim_select_resolve(skim_select_mode select, const skim_shape *shape)
{
    if (select != SKIM_SELECT_AUTO)
        return select;
    return shape->q_heads > shape->kv_heads ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        skim_status tried = (call);                                                                \
        if (tried != SKIM_OK)                                                                      \
            return tried;                                                                          \
    } while (0)

// --- append

static skim_status check_append(const skim_append_args *args, skim_append_args *taken,
                                skim_common *common, skim_stage_item items[2])
{
    const skim_shape *shape = &common->shape;
    bool stores = args->k.type != SKIM_TYPE_NONE || args->v.type != SKIM_TYPE_NONE;
    int properties = stores ? SKIM_ROWS_TABLED | SKIM_ROWS_QUERIED : SKIM_ROWS_TABLED;
    if (stores)
        TRY(check_tokens(common, args->token_count));
    TRY(check_rows(common, &taken->rows, args->row_count, args->token_count, &taken->table,
                   args->table_count, properties));
    TRY(skim_paged_check(common->device, "keys", &args->keys, shape, shape->key_dim,
                         common->error));
    TRY(skim_paged_check(common->device, "values", &args->values, shape, shape->value_dim,
                         common->error));
    TRY(check_bounds(common, args->bounds, args->bounds_offset));
    TRY(check_centre(common, args->centre, args->centre_offset));
    if (args->freeze > 1 || (args->freeze && !args->centre))
        return skim_fail(common->error, SKIM_INVALID, "freeze is 0, or 1 with a centre");
    if (!stores)
        return SKIM_OK;
    if (args->token_count == 0)
        return skim_fail(common->error, SKIM_INVALID, "token_count must not be 0");
    uint32_t types = 1u << shape->type;
    items[0] = (skim_stage_item){{"k", args->token_count, shape->kv_heads, shape->key_dim, types},
                                 &taken->k,
                                 false,
                                 false,
                                 {0}};
    items[1] = (skim_stage_item){{"v", args->token_count, shape->kv_heads, shape->value_dim, types},
                                 &taken->v,
                                 false,
                                 false,
                                 {0}};
    TRY(check_tensor(common, &items[0]));
    return check_tensor(common, &items[1]);
}

skim_status skim_append(skim_queue *queue, const skim_append_args *args)
{
    skim_append_args taken;
    skim_common common;
    skim_stage_item items[4] = {{{0}, NULL, false, false, {0}}};
    TRY(skim_queue_usable(queue));
    if (!skim_take(&taken, sizeof taken, args))
        return skim_fail(&queue->base.error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    TRY(begin_verb(queue, taken.shape, taken.row_count, &common));
    const skim_append_args given = taken;
    TRY(check_append(&given, &taken, &common, items));
    taken.shape = &common.shape;
    uint32_t first = taken.k.type != SKIM_TYPE_NONE ? 0 : 2;
    items[2] = rows_item(&taken.rows, taken.row_count);
    items[3] = table_item(&taken.table, taken.table_count);
    TRY(skim_queue_stage(queue, items + first, 4 - first));
    TRY(common.device->backend->append(&queue->base, &taken));
    queue->recorded = true;
    return SKIM_OK;
}

// --- estimate

static skim_status check_estimate(skim_estimate_args *taken, const skim_common *common,
                                  skim_stage_item *q)
{
    TRY(check_tokens(common, taken->token_count));
    if (taken->token_count == 0)
        return skim_fail(common->error, SKIM_INVALID, "token_count must not be 0");
    TRY(check_rows(common, &taken->rows, taken->row_count, taken->token_count, &taken->table,
                   taken->table_count, ROWS_ESTIMATED));
    TRY(check_bounds(common, taken->bounds, taken->bounds_offset));
    TRY(check_centre(common, taken->centre, taken->centre_offset));
    TRY(check_scores(common, taken->scores, taken->scores_offset, taken->score_stride,
                     taken->row_count));
    if (!(taken->spread >= 0.0f) || isinf(taken->spread))
        return skim_fail(common->error, SKIM_INVALID, "spread must be finite and not negative");
    *q = (skim_stage_item){
        {"q", taken->token_count, common->shape.q_heads, common->shape.key_dim, IO_TYPES},
        &taken->q,
        false,
        false,
        {0}};
    return check_tensor(common, q);
}

skim_status skim_estimate(skim_queue *queue, const skim_estimate_args *args)
{
    skim_estimate_args taken;
    skim_common common;
    skim_stage_item items[3];
    TRY(skim_queue_usable(queue));
    if (!skim_take(&taken, sizeof taken, args))
        return skim_fail(&queue->base.error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    TRY(begin_verb(queue, taken.shape, taken.row_count, &common));
    TRY(check_estimate(&taken, &common, &items[0]));
    taken.shape = &common.shape;
    items[1] = rows_item(&taken.rows, taken.row_count);
    items[2] = table_item(&taken.table, taken.table_count);
    TRY(skim_queue_stage(queue, items, 3));
    TRY(common.device->backend->estimate(&queue->base, &taken));
    queue->recorded = true;
    return SKIM_OK;
}

// --- select

static skim_status check_select(skim_select_args *taken, const skim_common *common)
{
    TRY(check_rows(common, &taken->rows, taken->row_count, 0, NULL, 0,
                   SKIM_ROWS_SELECTED | SKIM_ROWS_SINGLE));
    TRY(resolve_select(common, &taken->select));
    if ((unsigned)taken->combine > SKIM_COMBINE_SOFTMAX_MEAN)
        return skim_fail(common->error, SKIM_INVALID, "unknown skim_combine %d",
                         (int)taken->combine);
    if (taken->combine == SKIM_COMBINE_DEFAULT)
        taken->combine = SKIM_COMBINE_SOFTMAX_MAX;
    TRY(resolve_scale(common, &taken->scale));
    TRY(check_scores(common, taken->scores, taken->scores_offset, taken->score_stride,
                     taken->row_count));
    TRY(check_lists(common, taken->lists, taken->lists_offset, taken->list_stride, taken->row_count,
                    taken->select));
    return check_list_room(common, &taken->rows, taken->row_count, taken->list_stride);
}

skim_status skim_select(skim_queue *queue, const skim_select_args *args)
{
    skim_select_args taken;
    skim_common common;
    TRY(skim_queue_usable(queue));
    if (!skim_take(&taken, sizeof taken, args))
        return skim_fail(&queue->base.error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    TRY(begin_verb(queue, taken.shape, taken.row_count, &common));
    TRY(check_select(&taken, &common));
    taken.shape = &common.shape;
    skim_stage_item item = rows_item(&taken.rows, taken.row_count);
    TRY(skim_queue_stage(queue, &item, 1));
    TRY(common.device->backend->select(&queue->base, &taken));
    queue->recorded = true;
    return SKIM_OK;
}

// --- attend

static skim_status check_attend_rows(skim_attend_args *taken, const skim_common *common)
{
    int properties = SKIM_ROWS_TABLED | SKIM_ROWS_QUERIED | SKIM_ROWS_SINGLE;
    if (!taken->lists)
        properties |= SKIM_ROWS_ALL_DENSE;
    TRY(check_rows(common, &taken->rows, taken->row_count, taken->token_count, &taken->table,
                   taken->table_count, properties));
    if (!taken->lists)
        return SKIM_OK;
    TRY(resolve_select(common, &taken->select));
    TRY(check_lists(common, taken->lists, taken->lists_offset, taken->list_stride, taken->row_count,
                    taken->select));
    return check_list_room(common, &taken->rows, taken->row_count, taken->list_stride);
}

static skim_status check_attend(skim_attend_args *taken, const skim_common *common,
                                skim_stage_item items[3])
{
    const skim_shape *shape = &common->shape;
    TRY(check_tokens(common, taken->token_count));
    if (taken->token_count == 0)
        return skim_fail(common->error, SKIM_INVALID, "token_count must not be 0");
    TRY(check_attend_rows(taken, common));
    TRY(skim_paged_check(common->device, "keys", &taken->keys, shape, shape->key_dim,
                         common->error));
    TRY(skim_paged_check(common->device, "values", &taken->values, shape, shape->value_dim,
                         common->error));
    TRY(resolve_scale(common, &taken->scale));
    uint32_t tokens = taken->token_count, heads = shape->q_heads;
    items[0] = (skim_stage_item){
        {"q", tokens, heads, shape->key_dim, IO_TYPES}, &taken->q, false, false, {0}};
    items[1] = (skim_stage_item){
        {"out", tokens, heads, shape->value_dim, IO_TYPES}, &taken->out, true, false, {0}};
    items[2] =
        (skim_stage_item){{"lse", tokens, heads, 1, 1u << SKIM_F32}, &taken->lse, true, false, {0}};
    TRY(check_tensor(common, &items[0]));
    TRY(check_tensor(common, &items[1]));
    return taken->lse.type == SKIM_TYPE_NONE ? SKIM_OK : check_tensor(common, &items[2]);
}

// Whether the rows have every token, as far as the host can see: what none has stays as it was.
static bool has_every_token(const skim_attend_args *args)
{
    if (args->rows.buffer)
        return false;
    const skim_row *rows = host_data(&args->rows);
    uint64_t next = 0;
    for (uint32_t i = 0; i < args->row_count; i++) {
        if (rows[i].query_start != next && rows[i].query_count > 0)
            return false;
        next += rows[i].query_count;
    }
    return next == args->token_count;
}

skim_status skim_attend(skim_queue *queue, const skim_attend_args *args)
{
    skim_attend_args taken;
    skim_common common;
    skim_stage_item items[5];
    TRY(skim_queue_usable(queue));
    if (!skim_take(&taken, sizeof taken, args))
        return skim_fail(&queue->base.error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    TRY(begin_verb(queue, taken.shape, taken.row_count, &common));
    TRY(check_attend(&taken, &common, items));
    taken.shape = &common.shape;
    items[1].partial = items[2].partial = !has_every_token(&taken);
    items[3] = rows_item(&taken.rows, taken.row_count);
    items[4] = table_item(&taken.table, taken.table_count);
    TRY(skim_queue_stage(queue, items, 5));
    TRY(common.device->backend->attend(&queue->base, &taken));
    queue->recorded = true;
    return skim_queue_unstage(queue, items, 5);
}

// --- the fused decode, for tier 1

skim_status skim_decode(skim_queue *queue, const skim_estimate_args *estimate,
                        const skim_select_args *select, const skim_attend_args *attend)
{
    skim_status (*decode)(skim_backend_queue *, const skim_estimate_args *,
                          const skim_select_args *, const skim_attend_args *) =
        queue->base.device->backend->decode;
    if (!decode) {
        TRY(skim_estimate(queue, estimate));
        TRY(skim_select(queue, select));
        return skim_attend(queue, attend);
    }
    skim_estimate_args taken_estimate = *estimate;
    skim_select_args taken_select = *select;
    skim_attend_args taken_attend = *attend;
    skim_common common;
    skim_stage_item items[4];
    TRY(begin_verb(queue, attend->shape, attend->row_count, &common));
    TRY(check_estimate(&taken_estimate, &common, &items[3]));
    TRY(check_select(&taken_select, &common));
    TRY(check_attend(&taken_attend, &common, items));
    taken_estimate.shape = taken_select.shape = taken_attend.shape = &common.shape;
    TRY(decode(&queue->base, &taken_estimate, &taken_select, &taken_attend));
    queue->recorded = true;
    return SKIM_OK;
}
