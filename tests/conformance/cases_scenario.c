// Tier 1 over many steps: several sequences and layers, cancelled steps, changing policies, slots
// used again.
#include "model.h"

static model_options many(uint32_t layers, uint32_t sequences, uint32_t longest)
{
    return (model_options){.layers = layers,
                           .sequences = sequences,
                           .longest = longest,
                           .step_tokens = longest + sequences * 8};
}

// Sequences that prefill in chunks and decode in the same steps, in changing company.
static void run_interleaved(context *ctx, const params *p)
{
    model m;
    const uint32_t longest = 2 * p->length + 8 * p->page;
    model_options options = many(1 + p->variant % 3, 4, longest);
    options.dense_layers = p->variant / 3 % 2;
    if (!model_init(ctx, &m, p, &options)) {
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        if (!model_create(&m, i)) {
            return;
        }
    }
    for (uint32_t step = 0; step < 10; step++) {
        model_entry entries[4];
        uint32_t count = 0;
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t i = (k + step) % 4;
            bool prefill = m.sequences[i].length < p->length / (i + 1);
            if (step >= i && (step + i) % 3 != 2) {
                entries[count++] = (model_entry){i, prefill ? p->length / (i + 2) + 1 : 1};
            }
        }
        if (count && !model_step(&m, entries, count, NULL, step % 2 ? MODEL_BACKWARDS : 0)) {
            return;
        }
    }
}

// A step that wrote harmful keys and values is cancelled; the same tokens are then appended well.
static void run_cancel(context *ctx, const params *p)
{
    model m;
    model_options options = many(2, 2, p->length + 3 * p->page);
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) || !model_create(&m, 1) ||
        !model_fill(&m, 0, p->length, 0) || !model_fill(&m, 1, p->page / 2, 0)) {
        return;
    }
    skim_cache_usage before = {.size_of = sizeof before};
    skim_cache_usage after = {.size_of = sizeof after};
    for (uint32_t i = 0; i < 6; i++) {
        const model_entry entries[] = {{0, i % 3 == 2 ? p->page : 1}, {1, 1}};
        int harm = i % 2 ? MODEL_HARMFUL : 0;
        skim_cache_get_usage(ctx->cache, &before);
        if (!model_step(&m, entries, 2, NULL,
                        MODEL_CANCEL | harm | (i == 4 ? MODEL_NO_ATTEND : 0))) {
            return;
        }
        skim_cache_get_usage(ctx->cache, &after);
        if (!check(ctx, before.slots_free == after.slots_free,
                   "%u slots free before, %u after a cancel", before.slots_free,
                   after.slots_free) ||
            !model_step(&m, i % 2 ? &entries[1] : entries, 1, NULL, 0)) {
            return;
        }
    }
}

// Slots filled with NaN, Inf and huge values by sequences that ended, then used by others.
static void run_reuse(context *ctx, const params *p)
{
    model m;
    const uint32_t longest = p->length + 2 * p->page;
    model_options options = many(1 + p->variant % 2, 3, longest);
    options.capacity_pages = 2 * ceil_div(longest, p->page);
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) || !model_create(&m, 1)) {
        return;
    }
    const model_entry harmful[] = {{0, longest}, {1, longest}};
    if (!model_step(&m, &harmful[0], 1, NULL, MODEL_HARMFUL) ||
        !model_step(&m, &harmful[1], 1, NULL, MODEL_HARMFUL) || !model_destroy(&m, 0) ||
        !model_create(&m, 2) || !model_fill(&m, 2, p->length / 2, p->page + 1)) {
        return;
    }
    // One neighbour is still harmful, the other's slots are this sequence's now.
    for (uint32_t i = 0; i < p->page + 2; i++) {
        const model_entry entries[] = {{2, 1}};
        if (!model_step(&m, entries, 1, NULL, 0)) {
            return;
        }
    }
    if (!model_destroy(&m, 1) || !model_create(&m, 0) || !model_fill(&m, 0, p->length, 0)) {
        return;
    }
    const model_entry both[] = {{0, 1}, {2, 1}};
    bool done = model_step(&m, both, 2, NULL, 0) && model_step(&m, both, 2, NULL, 0) &&
                model_destroy(&m, 2) && model_create(&m, 1) && model_fill(&m, 1, p->page + 1, 0);
    (void)done;
}

// The cache's policy, a layer's own and a call's own, changed between steps.
static void run_policies(context *ctx, const params *p)
{
    model m;
    model_options options = many(3, 2, p->length + 4 * p->page);
    options.dense_layers = 1;
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) || !model_create(&m, 1) ||
        !model_fill(&m, 0, p->length, 0) || !model_fill(&m, 1, p->length / 2 + 1, 0)) {
        return;
    }
    const model_entry entries[] = {{1, 1}, {0, 1}};
    skim_policy other = m.policies[0];
    other.dense_layers = 0;
    other.budget = 3 * p->page;
    other.select = other.select == SKIM_SELECT_HEAD ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
    other.combine = SKIM_COMBINE_MEAN;
    other.spread = 0.5f;
    skim_policy call = other;
    call.sink_pages = 1;
    call.recent_pages = 2;
    call.dense_below = p->length - 3;
    skim_policy late = other;
    late.dense_layers = 2;
    late.budget_fraction = 0.5;
    late.select = SKIM_SELECT_AUTO;
    bool done =
        model_step(&m, entries, 2, NULL, 0) && model_set_policy(&m, 0, &other) &&
        model_step(&m, entries, 2, NULL, 0) && model_step(&m, entries, 2, &call, 0) &&
        model_set_policy(&m, 1, &late) && model_step(&m, entries, 2, NULL, MODEL_BACKWARDS) &&
        model_set_policy(&m, SKIM_ALL_LAYERS, &call) && model_step(&m, entries, 2, NULL, 0) &&
        model_step(&m, entries, 2, &other, 0) && model_step(&m, entries, 2, NULL, 0);
    (void)done;
}

// Everything recorded, one wait at the end; exact data tell the lists.
static void run_deferred(context *ctx, const params *p)
{
    model m;
    model_options options = many(3, 3, 2 * p->length + 4 * p->page);
    options.dense_layers = p->variant % 2;
    if (!model_init(ctx, &m, p, &options)) {
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (!model_create(&m, i) || !model_fill(&m, i, p->length / (i + 1) + i, 0)) {
            return;
        }
    }
    for (uint32_t step = 0; step < 6; step++) {
        const model_entry entries[] = {
            {step % 3, 1}, {(step + 1) % 3, step == 3 ? p->page : 1}, {(step + 2) % 3, 1}};
        if (!model_step(&m, entries, 1 + step % 3, NULL, MODEL_DEFERRED)) {
            return;
        }
    }
}

// A pool of just enough slots: steps that do not fit fail whole and change nothing.
static void run_full(context *ctx, const params *p)
{
    model m;
    model_options options = many(1, 2, p->length + p->page);
    options.capacity_pages = ceil_div(p->length, p->page) + 2;
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) || !model_create(&m, 1) ||
        !model_fill(&m, 0, p->length, 0) || !model_fill(&m, 1, 1, 0)) {
        return;
    }
    const skim_step_entry too_many[] = {{m.sequences[0].handle, 1},
                                        {m.sequences[1].handle, 3 * p->page}};
    skim_step *step = NULL;
    skim_status status = skim_step_begin(ctx->cache, too_many, 2, &step);
    if (!check(ctx, status == SKIM_NO_SLOTS, "a step beyond the pool gave '%s'",
               skim_status_name(status)) ||
        !check(ctx, step == NULL, "a step that failed was handed out")) {
        return;
    }
    const model_entry entries[] = {{0, 1}, {1, p->page - 1}};
    bool done = model_step(&m, entries, 2, NULL, 0) && model_destroy(&m, 0) &&
                model_create(&m, 0) && model_fill(&m, 0, p->length, p->page) &&
                model_step(&m, entries, 1, NULL, 0);
    (void)done;
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 2);
    p.out = PICK(all_types, i / 3 + 2);
    p.dim = min_u32(PICK(all_dims, i), 128);
    p.page = PICK(all_pages, i);
    p.group = PICK(all_groups, i);
    p.kv_heads = min_u32(PICK(all_kv_heads, i / 2), 3);
    p.bounds = i / 2 % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.combine = PICK(all_combines, i / 3);
    p.select = (skim_select_mode)(i % 3);
    p.sinks = i % 4 == 2;
    p.recent = 1 + i % 3 / 2;
    p.data = i % 5 == 2 ? DATA_INTEGER : PICK(real_data, i / 4);
    p.place = (placement)(i % 4);
    p.length = 4 * p.page + i * 13 % (2 * p.page);
    p.budget = (1 + i % 3) * p.page;
    p.variant = i % 6;
    return p;
}

typedef struct scenario {
    const char *name;
    case_run *run;
    uint32_t count, quick;
} scenario;

void add_scenario_cases(case_table *table)
{
    const size_t first = table->count;
    static const scenario scenarios[] = {
        {"scenario/interleaved", run_interleaved, 24, 3},
        {"scenario/cancel", run_cancel, 24, 4},
        {"scenario/reuse", run_reuse, 24, 4},
        {"scenario/policies", run_policies, 24, 4},
        {"scenario/full", run_full, 12, 2},
    };
    uint32_t i = 0;
    for (size_t s = 0; s < COUNT_OF(scenarios); s++) {
        for (uint32_t n = 0; n < scenarios[s].count; n++, i++) {
            params p = varied(i);
            add_case(table, scenarios[s].name, n < scenarios[s].quick, scenarios[s].run, &p);
        }
    }
    add_i8_twins(table, first, 2);
    for (uint32_t n = 0; n < 24; n++, i++) {
        params p = varied(i);
        p.data = DATA_INTEGER;
        p.bounds = SKIM_BOUNDS_MINMAX;
        p.combine = SKIM_COMBINE_MAX;
        add_case(table, "scenario/deferred", n < 4, run_deferred, &p);
    }
}
