// A step's attends: which pages they read, the verbs they record, and what they report.
#include "runtime/step.h"

#include "runtime/layer.h"
#include "runtime/policy.h"
#include "runtime/progress.h"
#include "runtime/validate.h"
#include "runtime/verbs.h"

enum { IO_TYPES = 1 << SKIM_F32 | 1 << SKIM_F16 | 1 << SKIM_BF16, PIECE_TOKENS = 512 };

// The policy class of an attend: the layer's, or the call's own, whose rows are uploaded here.
static skim_status resolve_class(skim_step *step, uint32_t layer, const skim_policy *given,
                                 skim_policy *policy, uint32_t *policy_class)
{
    skim_cache *cache = step->cache;
    if (!given) {
        *policy_class = cache->layers[layer].policy_class;
        *policy = cache->classes[*policy_class].policy;
        return SKIM_OK;
    }
    skim_status status = skim_policy_check(given, policy, &cache->error);
    if (status != SKIM_OK)
        return status;
    *policy_class = cache->layer_count + SKIM_ROWS_OWN;
    skim_rows_fill(cache, *policy_class, policy, layer < policy->dense_layers);
    return skim_cache_fail(cache, skim_rows_upload(cache, *policy_class, 1));
}

static void fill_report(const skim_step *step, skim_cache_layer *own, const skim_row *rows,
                        skim_select_mode select)
{
    const skim_shape *shape = &own->shape;
    uint64_t bounds_bytes = skim_layer_bounds_bytes(shape);
    uint64_t centre_bytes = skim_layer_centre_bytes(shape);
    uint64_t page_bytes = skim_layer_slot_bytes(shape) / shape->kv_heads;
    uint32_t lists = select == SKIM_SELECT_HEAD ? shape->q_heads : shape->kv_heads;
    skim_step_report report = {.size_of = sizeof report, .lists = lists};
    for (uint32_t i = 0; i < step->count; i++) {
        uint64_t pages = rows[i].page_count;
        bool dense = rows[i].flags & SKIM_ROW_DENSE;
        report.dense_sequences += dense;
        report.sparse_sequences += !dense;
        report.pages_total += pages * lists;
        report.pages_read += (dense ? pages : rows[i].select_count) * lists;
        report.bounds_bytes += dense ? 0 : pages * bounds_bytes + centre_bytes;
        report.page_bytes += dense ? pages * shape->kv_heads * page_bytes
                                   : (uint64_t)rows[i].select_count * lists * page_bytes;
        report.dense_bytes += pages * shape->kv_heads * page_bytes;
    }
    own->report = report;
    own->attended = true;
}

static skim_status record_attend(skim_step *step, const skim_cache_layer *own,
                                 const skim_step_attend_args *args, const skim_policy *policy,
                                 uint32_t policy_class, bool any_sparse)
{
    skim_cache *cache = step->cache;
    skim_attend_args attend = {
        .size_of = sizeof attend,
        .shape = &own->shape,
        .rows = skim_rows_tensor(cache, policy_class),
        .row_count = step->count,
        .token_count = step->token_count,
        .table = skim_table_tensor(cache),
        .table_count = skim_table_count(cache),
        .q = args->q,
        .select = policy->select,
        .lists = any_sparse ? cache->lists : NULL,
        .list_stride = cache->max_pages,
        .scale = own->layer.scale,
        .out = args->out,
        .lse = args->lse,
    };
    skim_layer_paged(&own->shape, own->pages, &attend.keys, &attend.values);
    if (!any_sparse)
        return skim_attend(cache->queue, &attend);

    skim_estimate_args estimate = {
        .size_of = sizeof estimate,
        .shape = attend.shape,
        .rows = attend.rows,
        .row_count = attend.row_count,
        .token_count = attend.token_count,
        .table = attend.table,
        .table_count = attend.table_count,
        .q = attend.q,
        .bounds = own->bounds,
        .centre = own->centre,
        .spread = policy->spread,
        .scores = cache->scores,
        .score_stride = cache->max_pages,
    };
    skim_select_args select = {
        .size_of = sizeof select,
        .shape = attend.shape,
        .rows = attend.rows,
        .row_count = attend.row_count,
        .scores = cache->scores,
        .score_stride = cache->max_pages,
        .select = policy->select,
        .combine = policy->combine,
        .scale = own->layer.scale,
        .lists = cache->lists,
        .list_stride = cache->max_pages,
    };
    return skim_decode(cache->queue, &estimate, &select, &attend);
}

// The rows of one piece of an attend: the step's tokens first .. end - 1. A row whose tokens are
// elsewhere has no queries.
static void fill_piece(const skim_cache *cache, const skim_row *rows, uint32_t first, uint32_t end)
{
    skim_row *piece = skim_rows_of(cache, cache->layer_count + SKIM_ROWS_PIECE);
    for (uint32_t i = 0; i < cache->step.count; i++) {
        piece[i] = rows[i];
        uint32_t row_end = rows[i].query_start + rows[i].query_count;
        uint32_t from = rows[i].query_start > first ? rows[i].query_start : first;
        uint32_t to = row_end < end ? row_end : end;
        if (from >= to) {
            piece[i].query_count = 0;
            continue;
        }
        piece[i].query_start = from;
        piece[i].query_count = to - from;
        piece[i].length -= row_end - to;
        piece[i].page_count = skim_cache_pages(cache, piece[i].length);
    }
}

// Where the piece that starts at `first` ends. Backends compute a query of a row of several alike,
// however many they are, but may treat a row of one differently: so that the bits are the same, a
// piece holds no single token of a longer row.
static uint32_t piece_end(const skim_step *step, const skim_row *rows, uint32_t first)
{
    if (step->token_count - first <= PIECE_TOKENS)
        return step->token_count;
    uint32_t end = first + PIECE_TOKENS;
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t row_end = rows[i].query_start + rows[i].query_count;
        if (rows[i].query_start + 1 == end && row_end > end)
            return rows[i].query_start;
        if (rows[i].query_start < end && row_end == end + 1)
            return row_end;
    }
    return end;
}

// Records the attend piece by piece, waiting for each.
static skim_status attend_in_pieces(skim_step *step, const skim_cache_layer *own,
                                    const skim_step_attend_args *args, const skim_policy *policy,
                                    const skim_row *rows, bool any_sparse)
{
    skim_cache *cache = step->cache;
    uint32_t piece_class = cache->layer_count + SKIM_ROWS_PIECE;
    for (uint32_t first = 0, end; first < step->token_count; first = end) {
        end = piece_end(step, rows, first);
        fill_piece(cache, rows, first, end);
        skim_status status = skim_rows_upload(cache, piece_class, 1);
        if (status == SKIM_OK)
            status = record_attend(step, own, args, policy, piece_class, any_sparse);
        if (status == SKIM_OK) // if it fails, nothing recorded may write to the host's memory later
            status = skim_queue_drain(cache->queue);
        if (status != SKIM_OK)
            return skim_cache_fail(cache, status);
        status = skim_progress_report(args->progress, end, step->token_count, &cache->error);
        if (status != SKIM_OK)
            return status;
    }
    return SKIM_OK;
}

static bool any_sparse_row(const skim_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!(rows[i].flags & SKIM_ROW_DENSE))
            return true;
    }
    return false;
}

// q, out and lse as the verbs will see them: checked, and staged together, so that nothing is
// staged between the verbs of one attend.
static skim_status stage_attend(skim_cache *cache, const skim_shape *shape, uint32_t tokens,
                                skim_step_attend_args *args, skim_stage_item items[3])
{
    uint32_t heads = shape->q_heads;
    items[0] = (skim_stage_item){
        {"q", tokens, heads, shape->key_dim, IO_TYPES}, &args->q, false, false, {0}};
    items[1] = (skim_stage_item){
        {"out", tokens, heads, shape->value_dim, IO_TYPES}, &args->out, true, false, {0}};
    items[2] =
        (skim_stage_item){{"lse", tokens, heads, 1, 1u << SKIM_F32}, &args->lse, true, false, {0}};
    for (int i = 0; i < 3; i++) {
        if (i == 2 && args->lse.type == SKIM_TYPE_NONE)
            continue;
        skim_status status = skim_tensor_check(cache->queue->base.device, &items[i].extent,
                                               items[i].tensor, &cache->error);
        if (status != SKIM_OK)
            return status;
    }
    return skim_cache_fail(cache, skim_queue_stage(cache->queue, items, 3));
}

skim_status skim_step_attend(skim_step *step, uint32_t layer, const skim_step_attend_args *args)
{
    skim_cache_layer *own = NULL;
    skim_status status = skim_step_layer(step, layer, &own);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = step->cache;
    skim_step_attend_args taken;
    if (!skim_take(&taken, sizeof taken, args))
        return skim_fail(&cache->error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    if (!own->appended)
        return skim_fail(&cache->error, SKIM_STATE,
                         "layer %u was not appended in this step; attend sees what append stored",
                         layer);
    skim_policy policy;
    uint32_t policy_class;
    skim_stage_item items[3];
    status = stage_attend(cache, &own->shape, step->token_count, &taken, items);
    if (status == SKIM_OK)
        status = resolve_class(step, layer, taken.policy, &policy, &policy_class);
    if (status != SKIM_OK)
        return status;

    const skim_row *rows = skim_rows_of(cache, policy_class);
    bool any_sparse = any_sparse_row(rows, step->count);
    if (taken.progress)
        status = attend_in_pieces(step, own, &taken, &policy, rows, any_sparse);
    else
        status = skim_cache_fail(
            cache, record_attend(step, own, &taken, &policy, policy_class, any_sparse));
    if (status == SKIM_OK)
        status = skim_cache_fail(cache, skim_queue_unstage(cache->queue, items, 3));
    if (status != SKIM_OK)
        return status;
    step->last = own;
    step->last_rows = rows;
    step->last_select = skim_select_resolve(policy.select, &own->shape);
    fill_report(step, own, rows, step->last_select);
    return SKIM_OK;
}

// --- inspection

skim_status skim_step_get_report(const skim_step *step, uint32_t layer, skim_step_report *report)
{
    skim_cache_layer *own = NULL;
    skim_status status = skim_step_layer((skim_step *)step, layer, &own);
    if (status != SKIM_OK)
        return status;
    skim_error *error = &step->cache->error;
    if (!own->attended)
        return skim_fail(error, SKIM_STATE, "layer %u has not attended in this step", layer);
    if (!skim_give(report, &own->report, sizeof own->report))
        return skim_fail(error, SKIM_INVALID, "report is NULL or its size_of is wrong");
    return SKIM_OK;
}

static skim_status read_list(skim_step *step, uint32_t entry, uint32_t q_head, uint32_t *pages,
                             uint32_t count)
{
    skim_cache *cache = step->cache;
    const skim_shape *shape = &step->last->shape;
    uint32_t lists = shape->q_heads, list = q_head;
    if (step->last_select == SKIM_SELECT_GROUP) {
        lists = shape->kv_heads;
        list = q_head / (shape->q_heads / shape->kv_heads);
    }
    uint64_t start = ((uint64_t)entry * lists + list) * cache->max_pages;
    skim_status status = skim_queue_download(cache->queue, cache->lists, start * sizeof *pages,
                                             pages, (uint64_t)count * sizeof *pages);
    if (status == SKIM_OK)
        status = skim_queue_drain(cache->queue);
    return skim_cache_fail(cache, status);
}

skim_status skim_step_pages(skim_step *step, uint32_t entry, uint32_t q_head, uint32_t *pages,
                            uint32_t capacity, uint32_t *count)
{
    skim_cache_layer *own = NULL;
    skim_status status = skim_step_layer(step, 0, &own);
    if (status != SKIM_OK)
        return status;
    skim_error *error = &step->cache->error;
    if (!step->last)
        return skim_fail(error, SKIM_STATE, "nothing has attended in this step");
    if (!pages || !count)
        return skim_fail(error, SKIM_INVALID, "pages and count must not be NULL");
    if (entry >= step->count)
        return skim_fail(error, SKIM_INVALID, "entry %u of %u", entry, step->count);
    if (q_head >= step->last->shape.q_heads)
        return skim_fail(error, SKIM_INVALID, "query head %u of %u", q_head,
                         step->last->shape.q_heads);
    const skim_row *row = &step->last_rows[entry];
    bool dense = row->flags & SKIM_ROW_DENSE;
    *count = dense ? row->page_count : row->select_count;
    if (*count > capacity)
        return skim_fail(error, SKIM_INVALID, "room for %u of the pages, which number %u", capacity,
                         *count);
    if (!dense)
        return read_list(step, entry, q_head, pages, *count);
    for (uint32_t i = 0; i < *count; i++)
        pages[i] = i;
    return SKIM_OK;
}
