// Tier 1: sequences that share pages, are cut and go on, have slots reserved, and steps that are
// cancelled in between. Whatever happened before, each step's results are those of the reference.
#include "model.h"

#include <string.h>

static bool fork_model(model *m, uint32_t source, uint32_t fork)
{
    model_sequence *from = &m->sequences[source];
    model_sequence *to = &m->sequences[fork];
    *to = (model_sequence){.length = from->length};
    for (uint32_t i = 0; i < m->layer_count; i++) {
        history_init(m->ctx, &to->layers[i], &m->layers[i], m->longest);
        history_share(&to->layers[i], &from->layers[i], from->length);
    }
    return ok(m->ctx, skim_sequence_fork(from->handle, &to->handle), "skim_sequence_fork") &&
           check(m->ctx, skim_sequence_length(to->handle) == from->length,
                 "a fork of %u tokens has %llu", from->length,
                 (unsigned long long)skim_sequence_length(to->handle));
}

static bool truncate_model(model *m, uint32_t sequence, uint32_t length)
{
    model_sequence *it = &m->sequences[sequence];
    if (length > it->length) {
        return true;
    }
    it->length = length;
    for (uint32_t i = 0; i < m->layer_count; i++) {
        history_truncate(&it->layers[i], length);
    }
    return ok(m->ctx, skim_sequence_truncate(it->handle, length), "skim_sequence_truncate") &&
           check(m->ctx, skim_sequence_length(it->handle) == length,
                 "truncated to %u tokens, it has %llu", length,
                 (unsigned long long)skim_sequence_length(it->handle));
}

static bool slots_are(model *m, uint32_t free_slots, uint32_t shared)
{
    skim_cache_usage usage = {.size_of = sizeof usage};
    return ok(m->ctx, skim_cache_get_usage(m->ctx->cache, &usage), "skim_cache_get_usage") &&
           check(m->ctx, usage.slots_free == free_slots && usage.slots_shared == shared,
                 "%u slots free and %u shared; should be %u and %u", usage.slots_free,
                 usage.slots_shared, free_slots, shared);
}

static uint32_t slots_free(model *m)
{
    skim_cache_usage usage = {.size_of = sizeof usage};
    skim_cache_get_usage(m->ctx->cache, &usage);
    return usage.slots_free;
}

// A prompt, forks of it and of a fork, all going on together and apart, destroyed in any order.
static void run_fork(context *ctx, const params *p)
{
    model m;
    const uint32_t prompt = p->length;
    model_options options = {.layers = 2, .sequences = 4, .longest = prompt + 2 * p->page + 8};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) ||
        !model_fill(&m, 0, prompt, p->chunk)) {
        return;
    }
    uint32_t free_before = slots_free(&m);
    if (!fork_model(&m, 0, 1) || !fork_model(&m, 1, 2) ||
        !slots_are(&m, free_before, ceil_div(prompt, p->page))) {
        return;
    }
    const model_entry all[] = {{2, 1}, {0, 1}, {1, 1}};
    const model_entry ragged[] = {{0, 1}, {1, p->page + 1}};
    const model_entry alone[] = {{2, 3}};
    if (!model_step(&m, all, 3, NULL, MODEL_CANCEL | MODEL_HARMFUL) ||
        !slots_are(&m, free_before, ceil_div(prompt, p->page)) ||
        !model_step(&m, all, 3, NULL, 0) ||
        !check(ctx, slots_free(&m) == free_before - (prompt % p->page ? 2 : 3),
               "three of one prompt take %u slots in a step", free_before - slots_free(&m)) ||
        !model_step(&m, ragged, 2, NULL, 0) || !fork_model(&m, 1, 3) || !model_destroy(&m, 0) ||
        !model_step(&m, alone, 1, NULL, 0)) {
        return;
    }
    const model_entry left[] = {{3, 1}, {1, 1}};
    bool done = model_step(&m, left, 2, NULL, 0) && model_destroy(&m, 1) &&
                model_step(&m, left, 1, NULL, 0) && model_step(&m, alone, 1, NULL, 0) &&
                model_destroy(&m, 3) && model_destroy(&m, 2) &&
                slots_are(&m, free_before + ceil_div(prompt, p->page), 0);
    (void)done;
}

// Cut at and around every boundary, and grown again with other tokens.
static void run_truncate(context *ctx, const params *p)
{
    model m;
    model_options options = {.sequences = 1, .longest = p->length + p->page + 1};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0)) {
        return;
    }
    const uint32_t page = p->page;
    const uint32_t lengths[] = {
        p->length - 1, 3 * page, 2 * page + 1, 2 * page - 1, page, page - 1, 1, 0};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        uint32_t length = m.sequences[0].length;
        uint32_t missing = length < p->length ? p->length - length : 0;
        const model_entry one = {0, 1};
        if (!model_fill(&m, 0, missing, p->chunk) || !truncate_model(&m, 0, lengths[i]) ||
            !model_step(&m, &one, 1, NULL, 0)) {
            return;
        }
    }
}

// A fork is cut inside a page that its source holds in full, and goes on there; then the source is
// cut in the page that the fork holds.
static void run_cut_fork(context *ctx, const params *p)
{
    model m;
    model_options options = {.layers = 2, .sequences = 2, .longest = p->length + 2 * p->page};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) ||
        !model_fill(&m, 0, p->length, p->chunk) || !fork_model(&m, 0, 1)) {
        return;
    }
    const model_entry both[] = {{0, 1}, {1, 1}};
    const model_entry more[] = {{1, p->page}, {0, 1}};
    bool done = truncate_model(&m, 1, p->page + p->page / 2) &&
                model_step(&m, both, 2, NULL, MODEL_CANCEL) && model_step(&m, both, 2, NULL, 0) &&
                model_step(&m, more, 2, NULL, 0) && truncate_model(&m, 0, 2 * p->page - 1) &&
                model_step(&m, both, 2, NULL, 0) && model_step(&m, both, 2, NULL, 0);
    (void)done;
}

// With room reserved, a pool without another free slot is enough; without, it is not.
static void run_reserve(context *ctx, const params *p)
{
    model m;
    const uint32_t pages = ceil_div(p->length, p->page) + 2;
    model_options options = {
        .sequences = 2, .longest = pages * p->page, .capacity_pages = pages + 1};
    if (!model_init(ctx, &m, p, &options) || !model_create(&m, 0) ||
        !model_fill(&m, 0, p->length, p->chunk) || !fork_model(&m, 0, 1)) {
        return;
    }
    skim_sequence *source = m.sequences[0].handle;
    // The last page, if it is shared, is copied now; the rest is new.
    bool copied = p->length % p->page != 0;
    if (!ok(ctx, skim_sequence_reserve(source, (uint64_t)pages * p->page),
            "skim_sequence_reserve") ||
        !slots_are(&m, copied ? 0 : 1, ceil_div(p->length, p->page) - copied)) {
        return;
    }
    uint32_t before = slots_free(&m);
    const model_entry one = {0, 1};
    const model_entry page = {0, p->page};
    if (!model_step(&m, &page, 1, NULL, MODEL_CANCEL) || !model_step(&m, &page, 1, NULL, 0) ||
        !model_step(&m, &one, 1, NULL, 0) || !truncate_model(&m, 0, p->length + 1) ||
        !model_step(&m, &one, 1, NULL, 0)) {
        return;
    }
    bool done = check(ctx, slots_free(&m) == before, "steps in reserved slots took others") &&
                ok(ctx, skim_sequence_reserve(source, 0), "skim_sequence_reserve") &&
                check(ctx, slots_free(&m) > before, "reserve 0 gave nothing back") &&
                model_step(&m, &one, 1, NULL, 0);
    (void)done;
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.dim = PICK(all_dims, i / 2);
    p.page = PICK(all_pages, i);
    p.group = PICK(all_groups, i / 2);
    p.kv_heads = PICK(all_kv_heads, i / 3);
    p.bounds = i / 2 % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
    p.combine = PICK(all_combines, i / 3);
    p.select = (skim_select_mode)(i % 3);
    p.data = i % 3 == 2 ? DATA_INTEGER : PICK(real_data, i / 4);
    p.place = (placement)(i % 4);
    const uint32_t ends[] = {1, 0, p.page - 1, p.page / 2, 2 * p.page};
    p.length = 3 * p.page + PICK(ends, i);
    p.budget = i % 4 == 3 ? 3 * p.page + 1 : 2 * p.page;
    p.chunk = i % 3 == 1 ? p.page - 1 : 0;
    return p;
}

void add_sequence_cases(case_table *table)
{
    const struct {
        const char *name;
        void (*run)(context *ctx, const params *p);
    } kinds[] = {
        {"fork", run_fork},
        {"truncate", run_truncate},
        {"cut-fork", run_cut_fork},
        {"reserve", run_reserve},
    };
    for (uint32_t i = 0; i < 20; i++) {
        for (size_t k = 0; k < COUNT_OF(kinds); k++) {
            params p = varied(i + (uint32_t)k * 7);
            p.kv_heads = min_u32(p.kv_heads, 3);
            add_case(table, kinds[k].name, i % 5 == 1, kinds[k].run, &p);
        }
    }
}
