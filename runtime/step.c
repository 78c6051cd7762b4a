#include "runtime/rows.h"

#include "runtime/layer.h"
#include "runtime/policy.h"
#include "runtime/validate.h"
#include "runtime/verbs.h"

#include <string.h>

enum { IO_TYPES = 1 << SKIM_F32 | 1 << SKIM_F16 | 1 << SKIM_BF16 };

// --- begin

static skim_status check_entry(skim_cache *cache, const skim_step_entry *entries, uint32_t index)
{
    skim_error *error = &cache->error;
    skim_sequence *sequence = entries[index].sequence;
    if (!sequence || sequence->cache != cache || !sequence->alive)
        return skim_fail(error, SKIM_INVALID, "entry %u: no living sequence of this cache", index);
    if (entries[index].tokens == 0)
        return skim_fail(error, SKIM_INVALID, "entry %u: 0 new tokens", index);
    if (sequence->begin_count == cache->begin_count)
        return skim_fail(error, SKIM_INVALID, "entry %u: this sequence is in the step already",
                         index);
    sequence->begin_count = cache->begin_count;
    if ((uint64_t)sequence->length + entries[index].tokens > cache->max_sequence_tokens)
        return skim_fail(
            error, SKIM_NO_SLOTS,
            "entry %u: %u tokens and %u more exceed the %llu that one sequence of this "
            "cache can hold",
            index, sequence->length, entries[index].tokens,
            (unsigned long long)cache->max_sequence_tokens);
    return SKIM_OK;
}

static uint32_t pages_after(const skim_cache *cache, const skim_step_entry *entry)
{
    uint64_t length = (uint64_t)entry->sequence->length + entry->tokens;
    return (uint32_t)((length + cache->page_size - 1) / cache->page_size);
}

static skim_status check_entries(skim_cache *cache, const skim_step_entry *entries, uint32_t count)
{
    skim_error *error = &cache->error;
    cache->begin_count++;
    if (!entries)
        return skim_fail(error, SKIM_INVALID, "entries must not be NULL");
    if (count == 0 || count > cache->max_sequences)
        return skim_fail(error, SKIM_INVALID, "a step has 1 to %u entries, not %u",
                         cache->max_sequences, count);
    uint64_t tokens = 0, slots = 0;
    for (uint32_t i = 0; i < count; i++) {
        skim_status status = check_entry(cache, entries, i);
        if (status != SKIM_OK)
            return status;
        tokens += entries[i].tokens;
        slots += pages_after(cache, &entries[i]) - entries[i].sequence->page_count;
    }
    if (tokens > cache->max_step_tokens)
        return skim_fail(error, SKIM_INVALID, "%llu new tokens; max_step_tokens is %u",
                         (unsigned long long)tokens, cache->max_step_tokens);
    if (slots > cache->pool.free_count)
        return skim_fail(error, SKIM_NO_SLOTS, "the step needs %llu slots and %u are free",
                         (unsigned long long)slots, cache->pool.free_count);
    return SKIM_OK;
}

static void take_slots(skim_cache *cache, const skim_step_entry *entries, uint32_t count)
{
    skim_step *step = &cache->step;
    step->count = count;
    step->token_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        skim_sequence *sequence = entries[i].sequence;
        uint32_t pages = pages_after(cache, &entries[i]);
        step->members[i] = (skim_step_member){.sequence = sequence,
                                              .tokens = entries[i].tokens,
                                              .query_start = step->token_count,
                                              .old_pages = sequence->page_count};
        step->token_count += entries[i].tokens;
        skim_pool_take(&cache->pool, sequence->slots + sequence->page_count,
                       pages - sequence->page_count);
        sequence->page_count = pages;
        sequence->in_step = true;
    }
}

// Gives back what take_slots took, in the opposite order, so that the pool is as it was.
static void return_slots(skim_cache *cache)
{
    skim_step *step = &cache->step;
    for (uint32_t i = step->count; i-- > 0;) {
        skim_sequence *sequence = step->members[i].sequence;
        uint32_t old = step->members[i].old_pages;
        skim_pool_give_back(&cache->pool, sequence->slots + old, sequence->page_count - old);
        sequence->page_count = old;
        sequence->in_step = false;
    }
}

static skim_status upload_step(skim_cache *cache)
{
    const skim_step *step = &cache->step;
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < step->count && status == SKIM_OK; i++)
        status = skim_table_upload(cache, step->members[i].sequence, step->members[i].old_pages);
    for (uint32_t c = 0; c < cache->class_count; c++)
        skim_rows_fill(cache, c, &cache->classes[c].policy, cache->classes[c].dense);
    if (status == SKIM_OK)
        status = skim_rows_upload(cache, 0, cache->class_count);
    return skim_cache_fail(cache, status);
}

skim_status skim_step_begin(skim_cache *cache, const skim_step_entry *entries, uint32_t count,
                            skim_step **step)
{
    if (!cache)
        return SKIM_INVALID;
    if (!step)
        return skim_fail(&cache->error, SKIM_INVALID, "step must not be NULL");
    if (cache->step.open)
        return skim_fail(&cache->error, SKIM_STATE, "a step is open; end or cancel it first");
    skim_status status = check_entries(cache, entries, count);
    if (status == SKIM_OK)
        status = skim_cache_fail(cache, skim_queue_usable(cache->queue));
    if (status == SKIM_OK)
        status = skim_cache_prepare(cache);
    if (status != SKIM_OK)
        return status;

    take_slots(cache, entries, count);
    status = upload_step(cache);
    if (status != SKIM_OK) {
        return_slots(cache);
        return status;
    }
    for (uint32_t i = 0; i < cache->layer_count; i++)
        cache->layers[i].appended = cache->layers[i].attended = false;
    cache->step.last = NULL;
    cache->step.open = true;
    *step = &cache->step;
    return SKIM_OK;
}

// --- append

static skim_status check_layer(skim_step *step, uint32_t layer, skim_cache_layer **own)
{
    if (!step)
        return SKIM_INVALID;
    skim_cache *cache = step->cache;
    if (!step->open)
        return skim_fail(&cache->error, SKIM_STATE, "the step was ended or cancelled");
    if (layer >= cache->layer_count)
        return skim_fail(&cache->error, SKIM_INVALID, "layer %u of %u", layer, cache->layer_count);
    *own = &cache->layers[layer];
    return SKIM_OK;
}

static skim_append_args append_args(const skim_cache *cache, const skim_cache_layer *own,
                                    uint32_t policy_class, uint32_t row_count)
{
    skim_append_args args = {
        .size_of = sizeof args,
        .shape = &own->shape,
        .rows = skim_rows_tensor(cache, policy_class),
        .row_count = row_count,
        .table = skim_table_tensor(cache),
        .table_count = skim_table_count(cache),
        .bounds = own->bounds,
    };
    skim_layer_paged(&own->shape, own->pages, &args.keys, &args.values);
    return args;
}

skim_status skim_step_append(skim_step *step, uint32_t layer, const skim_tensor *k,
                             const skim_tensor *v)
{
    skim_cache_layer *own = NULL;
    skim_status status = check_layer(step, layer, &own);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = step->cache;
    if (!k || !v)
        return skim_fail(&cache->error, SKIM_INVALID, "k and v must not be NULL");
    if (own->appended)
        return skim_fail(&cache->error, SKIM_STATE, "layer %u was appended in this step already",
                         layer);
    skim_append_args args = append_args(cache, own, own->policy_class, step->count);
    args.token_count = step->token_count;
    args.k = *k;
    args.v = *v;
    status = skim_append(cache->queue, &args);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
    own->appended = true;
    return SKIM_OK;
}

// --- attend

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
    *policy_class = cache->layer_count;
    skim_rows_fill(cache, *policy_class, policy, layer < policy->dense_layers);
    return skim_cache_fail(cache, skim_rows_upload(cache, *policy_class, 1));
}

static void fill_report(const skim_step *step, skim_cache_layer *own, const skim_row *rows,
                        skim_select_mode select)
{
    const skim_shape *shape = &own->shape;
    uint64_t key_bytes = (uint64_t)shape->key_dim * skim_type_size(shape->type);
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
        report.bounds_bytes += dense ? 0 : pages * shape->kv_heads * 2 * key_bytes;
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
    items[0] =
        (skim_stage_item){{"q", tokens, heads, shape->key_dim, IO_TYPES}, &args->q, false, {0}};
    items[1] = (skim_stage_item){
        {"out", tokens, heads, shape->value_dim, IO_TYPES}, &args->out, true, {0}};
    items[2] = (skim_stage_item){{"lse", tokens, heads, 1, 1u << SKIM_F32}, &args->lse, true, {0}};
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
    skim_status status = check_layer(step, layer, &own);
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
    status = record_attend(step, own, &taken, &policy, policy_class, any_sparse);
    if (status == SKIM_OK)
        status = skim_queue_unstage(cache->queue, items, 3);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
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
    skim_status status = check_layer((skim_step *)step, layer, &own);
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
        status = skim_queue_finish(cache->queue);
    return skim_cache_fail(cache, status);
}

skim_status skim_step_pages(skim_step *step, uint32_t entry, uint32_t q_head, uint32_t *pages,
                            uint32_t capacity, uint32_t *count)
{
    skim_cache_layer *own = NULL;
    skim_status status = check_layer(step, 0, &own);
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
        return skim_fail(error, SKIM_INVALID, "%u pages, and room for %u", *count, capacity);
    if (!dense)
        return read_list(step, entry, q_head, pages, *count);
    for (uint32_t i = 0; i < *count; i++)
        pages[i] = i;
    return SKIM_OK;
}

// --- end and cancel

skim_status skim_step_end(skim_step *step, uint64_t *point)
{
    skim_cache_layer *own = NULL;
    skim_status status = check_layer(step, 0, &own);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = step->cache;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (!cache->layers[i].appended)
            return skim_fail(&cache->error, SKIM_STATE,
                             "layer %u was not appended; append it or cancel the step", i);
    }
    status = skim_queue_submit(cache->queue, point);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
    for (uint32_t i = 0; i < step->count; i++) {
        step->members[i].sequence->length += step->members[i].tokens;
        step->members[i].sequence->in_step = false;
    }
    step->open = false;
    return SKIM_OK;
}

// Bounds are a function of a page's valid keys: where the step had added to a page that was begun
// before, they are computed again from the keys that stay.
static void restore_bounds(skim_step *step)
{
    skim_cache *cache = step->cache;
    skim_row *rows = skim_rows_of(cache, cache->layer_count);
    uint32_t count = 0;
    for (uint32_t i = 0; i < step->count; i++) {
        const skim_sequence *sequence = step->members[i].sequence;
        if (sequence->length % cache->page_size == 0)
            continue;
        rows[count++] = (skim_row){.length = sequence->length,
                                   .table_start = sequence->index * cache->max_pages,
                                   .page_count = sequence->page_count,
                                   .forced_last = 1,
                                   .select_count = 1,
                                   .flags = SKIM_ROW_DENSE};
    }
    if (count == 0)
        return;
    uint64_t offset = (uint64_t)cache->layer_count * cache->max_sequences * sizeof *rows;
    // A failure here is the queue's own, which every later call will meet.
    if (skim_queue_upload(cache->queue, cache->rows_buffer, offset, rows, count * sizeof *rows) !=
        SKIM_OK)
        return;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (!cache->layers[i].appended)
            continue;
        skim_append_args args = append_args(cache, &cache->layers[i], cache->layer_count, count);
        if (skim_append(cache->queue, &args) != SKIM_OK)
            return;
    }
}

void skim_step_cancel(skim_step *step)
{
    if (!step || !step->open)
        return;
    return_slots(step->cache);
    restore_bounds(step);
    step->open = false;
}
