// A world: caches of random shapes on one device, and everything alive in them.
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void trace(world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *line = w->trace[w->trace_count++ % TRACE_LINES];
    vsnprintf(line, sizeof w->trace[0], format, arguments);
    va_end(arguments);
}

// --- policies

const skim_policy *policy_in_force(const cache_model *c, uint32_t layer)
{
    return c->has_policy[layer] ? &c->layer_policies[layer] : &c->policy;
}

// Budgets of few pages, so that lists leave something out.
skim_policy random_policy(world *w, const cache_model *c)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = between(w, 1, 4 * c->page_size);
    policy.budget_fraction = once_in(w, 4) ? (double)between(w, 1, 8) / 8.0 : 0.0;
    policy.dense_layers = once_in(w, 3) ? below(w, w->layer_count + 1) : 0;
    policy.dense_below = once_in(w, 6) ? below(w, 4 * c->page_size) : 0;
    policy.select = (skim_select_mode)below(w, 3);
    policy.combine = (skim_combine)below(w, 5);
    policy.spread = (float)below(w, 5) / 2.0f;
    policy.sink_pages = once_in(w, 3) ? below(w, 3) : 0;
    policy.recent_pages = below(w, 3);
    return policy;
}

// --- caches

static params random_layer(world *w)
{
    static const uint32_t dims[] = {32, 32, 32, 40, 48, 64, 128};
    return (params){.kv = all_types[below(w, 3)],
                    .q = all_types[below(w, 3)],
                    .out = all_types[below(w, 3)],
                    .dim = dims[below(w, COUNT_OF(dims))],
                    .page = w->page_size,
                    .group = between(w, 1, 4),
                    .kv_heads = 1 + once_in(w, 3),
                    .scale = once_in(w, 3) ? 0.17f : 0.0f,
                    .data = DATA_NOISE};
}

static void make_histories(world *w, cache_model *c)
{
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        for (uint32_t layer = 0; layer < w->layer_count; layer++) {
            const params *p = &w->layers[layer];
            history *h = &c->sequences[i].layers[layer];
            *h = (history){.p = p,
                           .kv_heads = p->kv_heads,
                           .dim = p->dim,
                           .group = p->group,
                           .type = p->kv,
                           .capacity = c->max_sequence_tokens};
            size_t count = h->capacity * history_stride(h);
            h->k = calloc(count, sizeof *h->k);
            h->v = calloc(count, sizeof *h->v);
            if (!h->k || !h->v) {
                fputs("random_operations: out of memory\n", stderr);
                exit(2);
            }
        }
    }
}

static skim_status create_cache(world *w, cache_model *c)
{
    skim_layer layers[LAYERS_MAX];
    for (uint32_t i = 0; i < w->layer_count; i++) {
        const params *p = &w->layers[i];
        layers[i] = (skim_layer){.size_of = sizeof layers[i],
                                 .q_heads = p->group * p->kv_heads,
                                 .kv_heads = p->kv_heads,
                                 .key_dim = p->dim,
                                 .type = p->kv,
                                 .scale = p->scale};
    }
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = w->layer_count,
                                  .page_size = c->page_size,
                                  .capacity = (uint64_t)c->slots * c->page_size,
                                  .max_sequences = c->max_sequences,
                                  .max_step_tokens = c->max_step_tokens,
                                  .max_sequence_tokens = c->max_sequence_tokens,
                                  .bounds = c->bounds,
                                  .bounds_type = c->bounds_type,
                                  .policy = &c->policy,
                                  .keep_freed = c->keep_freed};
    return skim_cache_create(c->ctx.queue, &options, &c->ctx.cache);
}

static bool open_queue(world *w, cache_model *c)
{
    bool shared = c != w->caches && w->one_queue;
    c->ctx = (context){.runtime = w->runtime, .device = w->device};
    c->ctx.limits.size_of = sizeof c->ctx.limits;
    skim_device_get_limits(w->device, &c->ctx.limits);
    if (shared) {
        c->ctx.queue = w->caches->ctx.queue;
        return true;
    }
    return ok(&c->ctx, skim_queue_create(w->device, &c->ctx.queue), "skim_queue_create");
}

static bool make_cache(world *w, cache_model *c)
{
    *c = (cache_model){.page_size = w->page_size};
    c->slots = between(w, 3, PAGES_MAX);
    if (c->page_size == 64 && c->slots > 12)
        c->slots = 12;
    c->max_sequences = between(w, once_in(w, 8) ? 1 : 3, SEQUENCES_MAX);
    c->max_sequence_tokens = between(w, 2 * c->page_size, c->slots * c->page_size);
    c->max_step_tokens = c->max_sequences + below(w, 4 * c->page_size);
    c->keep_freed = once_in(w, 3);
    c->bounds = (skim_bounds)below(w, 2);
    c->bounds_type = once_in(w, 3) ? SKIM_BOUNDS_I8 : SKIM_BOUNDS_NATIVE;
    c->policy = random_policy(w, c);
    if (!open_queue(w, c))
        return false;
    skim_status status = create_cache(w, c);
    if (status == SKIM_UNSUPPORTED && c->bounds_type == SKIM_BOUNDS_I8) {
        c->bounds_type = SKIM_BOUNDS_NATIVE;
        status = create_cache(w, c);
    }
    w->counts.caches++;
    w->counts.i8_caches += c->bounds_type == SKIM_BOUNDS_I8;
    make_histories(w, c);
    trace(w,
          "cache of %u slots x %u tokens, %u sequences of %u, steps of %u, %s%s bounds%s on %s "
          "queue",
          c->slots, c->page_size, c->max_sequences, c->max_sequence_tokens, c->max_step_tokens,
          c->bounds_type == SKIM_BOUNDS_I8 ? "i8 " : "",
          c->bounds == SKIM_BOUNDS_MINMAX ? "minmax" : "meanstd",
          c->keep_freed ? ", keep_freed" : "", w->one_queue ? "one" : "its own");
    return ok(&c->ctx, status, "skim_cache_create");
}

bool world_begin(world *w)
{
    static const uint32_t page_sizes[] = {8, 8, 8, 16, 16, 32, 64};
    w->page_size = page_sizes[below(w, COUNT_OF(page_sizes))];
    w->layer_count = between(w, 1, LAYERS_MAX);
    for (uint32_t i = 0; i < w->layer_count; i++)
        w->layers[i] = random_layer(w);
    w->one_queue = once_in(w, 2);
    trace(w, "--- a world of %u layers", w->layer_count);
    for (uint32_t i = 0; i < w->layer_count; i++) {
        const params *p = &w->layers[i];
        trace(w, "layer %u: %u x %u heads of %u, %s", i, p->group, p->kv_heads, p->dim,
              skim_type_name(p->kv));
    }
    for (uint32_t i = 0; i < CACHES; i++) {
        if (!make_cache(w, &w->caches[i]))
            return false;
    }
    return true;
}

static void free_cache(cache_model *c)
{
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++) {
        for (uint32_t layer = 0; layer < LAYERS_MAX; layer++) {
            free(c->sequences[i].layers[layer].k);
            free(c->sequences[i].layers[layer].v);
        }
    }
    free(c->ctx.blocks);
    free(c->ctx.buffers);
    *c = (cache_model){.page_size = 0};
}

// With whatever is open, alive and in flight.
void world_end(world *w)
{
    for (uint32_t i = 0; i < CACHES; i++) {
        snapshot_end_all(&w->caches[i]);
        skim_cache_destroy(w->caches[i].ctx.cache);
        w->caches[i].ctx.cache = NULL;
    }
    for (uint32_t i = CACHES; i-- > 0;) {
        cache_model *c = &w->caches[i];
        if (i > 0 && w->one_queue)
            c->ctx.queue = NULL;
        skim_queue_destroy(c->ctx.queue);
        c->ctx.queue = NULL;
    }
    for (uint32_t i = 0; i < CACHES; i++) {
        release_case(&w->caches[i].ctx);
        free_cache(&w->caches[i]);
    }
    images_free(w);
}
