// The library's page pool, tables and raw memory against the model. The only file here that looks
// inside.
#include "random.h"

#include "runtime/cache.h"
#include "runtime/layer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

// --- the pool

static uint32_t shared_pages(const cache_model *c)
{
    uint32_t shared = 0;
    for (uint32_t i = 0; i < c->slots; i++)
        shared += c->pages[i].holders > 1;
    return shared;
}

// A page's slot: learnt, or the one it had.
static bool match_slot(cache_model *c, uint32_t page, uint32_t slot, const char *what,
                       uint32_t index)
{
    context *ctx = &c->ctx;
    model_page *it = &c->pages[page];
    if (!check(ctx, slot < c->slots, "%s %u holds slot %u of %u", what, index, slot, c->slots))
        return false;
    if (it->slot == NO_SLOT) {
        for (uint32_t i = 0; i < c->slots; i++) {
            if (c->pages[i].holders > 0 && c->pages[i].slot == slot)
                return fail(ctx, "%s %u holds slot %u, which is another page's", what, index, slot);
        }
        it->slot = slot;
    }
    return check(ctx, it->slot == slot, "%s %u holds slot %u where it should hold %" PRId64, what,
                 index, slot, it->slot);
}

static bool match_sequences(cache_model *c)
{
    context *ctx = &c->ctx;
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        const sequence_model *s = &c->sequences[i];
        if (!s->handle)
            continue;
        if (!check(ctx, s->handle->page_count == s->page_count,
                   "sequence %u holds %u slots, should hold %u", i, s->handle->page_count,
                   s->page_count))
            return false;
        for (uint32_t p = 0; p < s->page_count; p++) {
            if (!match_slot(c, s->pages[p], s->handle->slots[p], "sequence", i))
                return false;
        }
    }
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        if (m->copied &&
            !match_slot(c, m->old_page, c->step.handle->members[i].old_slot, "member", i))
            return false;
    }
    return true;
}

// No slot twice in a sequence follows from no page twice in one of the model's.
static bool check_references(cache_model *c)
{
    context *ctx = &c->ctx;
    const skim_pool *pool = &ctx->cache->pool;
    uint32_t expected[PAGES_MAX] = {0};
    for (uint32_t i = 0; i < c->slots; i++) {
        if (c->pages[i].holders > 0 && c->pages[i].slot != NO_SLOT)
            expected[c->pages[i].slot] = c->pages[i].holders;
    }
    for (uint32_t i = 0; i < c->slots; i++) {
        if (pool->references[i] != expected[i])
            return fail(ctx, "slot %u has %u references and %u holders", i, pool->references[i],
                        expected[i]);
    }
    bool seen[PAGES_MAX] = {false};
    for (uint32_t i = 0; i < pool->free_count; i++) {
        uint32_t slot = pool->free_slots[i];
        if (slot >= c->slots || seen[slot] || pool->references[slot] != 0)
            return fail(ctx, "free slot %u is no slot, free twice, or held", slot);
        seen[slot] = true;
    }
    return true;
}

static bool check_counts(cache_model *c)
{
    context *ctx = &c->ctx;
    const skim_pool *pool = &ctx->cache->pool;
    skim_cache_usage usage = {.size_of = sizeof usage};
    if (!ok(ctx, skim_cache_get_usage(ctx->cache, &usage), "skim_cache_get_usage"))
        return false;
    return check(ctx, pool->free_count == model_free(c), "%u slots are free, should be %u",
                 pool->free_count, model_free(c)) &&
           check(ctx, pool->shared_count == shared_pages(c), "%u slots are shared, should be %u",
                 pool->shared_count, shared_pages(c)) &&
           check(ctx,
                 usage.slots == c->slots && usage.slots_free == model_free(c) &&
                     usage.slots_shared == shared_pages(c) && usage.sequences == model_alive(c),
                 "usage says %u slots, %u free, %u shared, %u sequences; should be %u, %u, %u, %u",
                 usage.slots, usage.slots_free, usage.slots_shared, usage.sequences, c->slots,
                 model_free(c), shared_pages(c), model_alive(c));
}

static bool check_info(cache_model *c, uint32_t index)
{
    context *ctx = &c->ctx;
    const sequence_model *s = &c->sequences[index];
    skim_sequence_info info = {.size_of = sizeof info};
    if (!ok(ctx, skim_sequence_get_info(s->handle, &info), "skim_sequence_get_info"))
        return false;
    uint32_t shared = 0;
    for (uint32_t i = 0; i < s->page_count; i++)
        shared += c->pages[s->pages[i]].holders > 1;
    return check(ctx, info.length == s->length && skim_sequence_length(s->handle) == s->length,
                 "sequence %u has %" PRIu64 " tokens, should have %u", index, info.length,
                 s->length) &&
           check(ctx, !info.broken && info.sound_length == s->length, "sequence %u is broken",
                 index) &&
           check(ctx, info.reserved == (uint64_t)s->reserved * c->page_size,
                 "sequence %u has %" PRIu64 " tokens reserved, should have %u", index,
                 info.reserved, s->reserved * c->page_size) &&
           check(ctx, info.slots == s->page_count && info.slots_shared == shared,
                 "sequence %u says %u slots, %u shared; should be %u and %u", index, info.slots,
                 info.slots_shared, s->page_count, shared);
}

bool check_pool(world *w, cache_model *c)
{
    (void)w;
    if (!match_sequences(c) || !check_references(c) || !check_counts(c))
        return false;
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        if (c->sequences[i].handle && !check_info(c, i))
            return false;
    }
    return true;
}

// --- refused calls

static uint64_t hash_words(uint64_t hash, const uint32_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        hash = (hash ^ words[i]) * 0x100000001b3u;
    return hash;
}

uint64_t pool_hash(const cache_model *c)
{
    const skim_pool *pool = &c->ctx.cache->pool;
    uint64_t hash = hash_words(1, pool->references, c->slots);
    return hash_words(hash, pool->free_slots, pool->free_count);
}

bool refused(world *w, cache_model *c, skim_status status, skim_status expected, uint64_t hash,
             const char *call)
{
    w->counts.refused++;
    trace(w, "  refused: %s", skim_status_name(status));
    return check(&c->ctx, status == expected, "%s gave '%s', should give '%s'", call,
                 skim_status_name(status), skim_status_name(expected)) &&
           check(&c->ctx, pool_hash(c) == hash, "%s was refused and changed the pool", call);
}

// --- raw memory

// Table entries that the library believes to be on the device are there.
static bool check_tables(cache_model *c)
{
    const skim_cache *cache = c->ctx.cache;
    const uint32_t *tables = cache->tables->host;
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        const skim_sequence *s = c->sequences[i].handle;
        uint32_t count = s ? s->uploaded : 0;
        for (uint32_t p = 0; p < count; p++) {
            uint32_t entry = tables[(size_t)s->index * cache->max_pages + p];
            if (entry != s->slots[p])
                return fail(&c->ctx, "sequence %u, page %u: the table says slot %u, not %u", i, p,
                            entry, s->slots[p]);
        }
    }
    return true;
}

// Where a token of a sequence lies: keys, values at values_at bytes behind.
static const char *payload(const skim_cache_layer *own, const skim_sequence *s, uint32_t page_size,
                           uint32_t head, uint32_t token, size_t *values_at)
{
    const skim_shape *shape = &own->shape;
    size_t vector = shape->key_dim * skim_type_size(shape->type);
    size_t slot = s->slots[token / page_size];
    *values_at = page_size * vector;
    return (const char *)own->pages->host + slot * skim_layer_slot_bytes(shape) +
           head * 2 * page_size * vector + token % page_size * vector;
}

static bool same_values(const char *raw, const float *expected, uint32_t dim, skim_type type)
{
    for (uint32_t d = 0; d < dim; d++) {
        float value = reference_load(raw, d, type);
        if (value != expected[d] && !(isnan(value) && isnan(expected[d])))
            return false;
    }
    return true;
}

static bool check_payload(world *w, cache_model *c, const sequence_model *s)
{
    w->counts.payloads++;
    for (uint32_t layer = 0; layer < w->layer_count; layer++) {
        const skim_cache_layer *own = &c->ctx.cache->layers[layer];
        const history *h = &s->layers[layer];
        for (uint32_t token = 0; token < s->length; token++) {
            for (uint32_t head = 0; head < h->kv_heads; head++) {
                size_t values_at;
                const char *raw = payload(own, s->handle, c->page_size, head, token, &values_at);
                if (!same_values(raw, history_key(h, token, head), h->dim, h->type) ||
                    !same_values(raw + values_at, history_value(h, token, head), h->dim, h->type))
                    return fail(&c->ctx, "sequence %u, layer %u, token %u, head %u: K or V differ",
                                s->handle->index, layer, token, head);
            }
        }
    }
    return true;
}

static bool is_zero(const char *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static bool check_tail(world *w, cache_model *c, const sequence_model *s)
{
    uint32_t rest = c->page_size - s->length % c->page_size;
    w->counts.tails++;
    for (uint32_t layer = 0; layer < w->layer_count; layer++) {
        const skim_cache_layer *own = &c->ctx.cache->layers[layer];
        size_t size = rest * own->shape.key_dim * skim_type_size(own->shape.type);
        for (uint32_t head = 0; head < own->shape.kv_heads; head++) {
            size_t values_at;
            const char *raw = payload(own, s->handle, c->page_size, head, s->length, &values_at);
            if (!is_zero(raw, size) || !is_zero(raw + values_at, size))
                return fail(&c->ctx, "sequence %u, layer %u, head %u: not zero past its %u tokens",
                            s->handle->index, layer, head, s->length);
        }
    }
    return true;
}

bool read_centre(world *w, cache_model *c, uint32_t layer, known_centre *centre)
{
    const params *p = &w->layers[layer];
    const skim_buffer *buffer = c->ctx.cache->layers[layer].centre;
    *centre = (known_centre){.values = NULL};
    if (!buffer)
        return true;
    centre->values = take(&c->ctx, (size_t)p->kv_heads * p->dim, sizeof *centre->values);
    centre->slack = buffer->host ? 0.0 : INFINITY;
    for (uint32_t i = 0; buffer->host && i < p->kv_heads * p->dim; i++) {
        centre->values[i] = (double)((const float *)buffer->host)[i];
        if (!isfinite(centre->values[i]))
            return fail(&c->ctx, "layer %u: channel %u of the centre is %g", layer, i,
                        centre->values[i]);
    }
    return true;
}

bool check_memory(world *w, cache_model *c)
{
    if (!c->ctx.limits.unified_memory)
        return true;
    if (!check_tables(c))
        return false;
    const sequence_model *chosen = random_sequence(w, c);
    if (chosen && !check_payload(w, c, chosen))
        return false;
    for (uint32_t i = 0; i < c->max_sequences && !c->keep_freed; i++) {
        const sequence_model *s = &c->sequences[i];
        bool open_ended = s->handle && !s->in_step && !s->dirty && s->length % c->page_size != 0;
        if (open_ended && !check_tail(w, c, s))
            return false;
    }
    return true;
}
