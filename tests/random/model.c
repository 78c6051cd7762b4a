// What operations do to pages and lengths, as include/skim/sequence.h says it.
#include "random.h"

#include <math.h>
#include <string.h>

// --- pages

uint32_t model_free(const cache_model *c)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < c->slots; i++)
        held += c->pages[i].holders > 0;
    return c->slots - held;
}

uint32_t model_take(cache_model *c)
{
    uint32_t i = 0;
    while (c->pages[i].holders > 0)
        i++;
    c->pages[i] = (model_page){.holders = 1, .slot = NO_SLOT};
    return i;
}

void model_share(cache_model *c, const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        c->pages[pages[i]].holders++;
}

void model_drop(cache_model *c, const uint32_t *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        c->pages[pages[i]].holders--;
}

static bool is_shared(const cache_model *c, uint32_t page)
{
    return c->pages[page].holders > 1;
}

bool model_must_copy(const cache_model *c, const sequence_model *s)
{
    return s->length % c->page_size != 0 && is_shared(c, s->pages[s->length / c->page_size]);
}

// Pages past the end stay if they are reserved and nobody else's.
void model_trim(cache_model *c, sequence_model *s)
{
    uint32_t used = pages_of(c, s->length);
    uint32_t kept = used;
    for (uint32_t i = used; i < s->page_count; i++) {
        uint32_t page = s->pages[i];
        if (kept < s->reserved && !is_shared(c, page))
            s->pages[kept++] = page;
        else
            model_drop(c, &page, 1);
    }
    s->page_count = kept;
}

// --- sequences

sequence_model *model_vacant(cache_model *c)
{
    for (uint32_t i = 0; i < c->max_sequences; i++) {
        if (!c->sequences[i].handle)
            return &c->sequences[i];
    }
    return NULL;
}

uint32_t model_alive(const cache_model *c)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < c->max_sequences; i++)
        alive += c->sequences[i].handle != NULL;
    return alive;
}

sequence_model *random_sequence(world *w, cache_model *c)
{
    uint32_t alive = model_alive(c);
    if (alive == 0)
        return NULL;
    uint32_t left = below(w, alive);
    for (uint32_t i = 0;; i++) {
        if (c->sequences[i].handle && left-- == 0)
            return &c->sequences[i];
    }
}

void model_fork(cache_model *c, const sequence_model *source, sequence_model *made)
{
    made->length = source->length;
    made->dirty = source->dirty;
    made->harmful = source->harmful;
    made->in_step = false;
    made->reserved = 0;
    made->page_count = pages_of(c, source->length);
    memcpy(made->pages, source->pages, made->page_count * sizeof *made->pages);
    model_share(c, made->pages, made->page_count);
    for (uint32_t i = 0; i < LAYERS_MAX && made->layers[i].k; i++) {
        history *to = &made->layers[i];
        size_t bytes = source->length * history_stride(to) * sizeof *to->k;
        memcpy(to->k, source->layers[i].k, bytes);
        memcpy(to->v, source->layers[i].v, bytes);
        to->length = source->length;
    }
}

// Eight random bits of each value, which every type holds exactly.
static void random_values(world *w, float *values, size_t count)
{
    for (size_t i = 0; i < count; i += 4) {
        uint32_t bits = random_u32(&w->dice);
        for (size_t j = i; j < count && j < i + 4; j++, bits >>= 8)
            values[j] = (float)((int)(bits & 0xff) - 128) / 64.0f;
    }
}

static void harmful_values(world *w, float *values, size_t count)
{
    static const float harm[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < count; i++)
        values[i] = harm[below(w, 3)];
}

void random_tokens(world *w, sequence_model *s, uint32_t count)
{
    bool harmful = once_in(w, 25);
    if (harmful && s->harmful > s->length)
        s->harmful = s->length;
    w->counts.harmful += harmful;
    for (uint32_t i = 0; i < w->layer_count; i++) {
        history *h = &s->layers[i];
        size_t values = count * history_stride(h);
        (harmful ? harmful_values : random_values)(w, history_key(h, s->length, 0), values);
        (harmful ? harmful_values : random_values)(w, history_value(h, s->length, 0), values);
    }
    set_history_length(w, s, s->length + count);
}

void set_history_length(world *w, sequence_model *s, uint32_t length)
{
    if (s->harmful >= length)
        s->harmful = UINT32_MAX;
    for (uint32_t i = 0; i < w->layer_count; i++)
        s->layers[i].length = length;
}

// --- steps

// Whether the member's last page is that of so many other sequences in the step as hold it, none of
// them longer, and none before this one as long.
static bool may_stay(const cache_model *c, uint32_t index)
{
    const sequence_model *s = &c->sequences[c->step.members[index].sequence];
    uint32_t page = s->pages[s->length / c->page_size];
    uint32_t holders = 0;
    for (uint32_t i = 0; i < c->step.count; i++) {
        const sequence_model *other = &c->sequences[c->step.members[i].sequence];
        if (other->length % c->page_size == 0 || other->pages[other->length / c->page_size] != page)
            continue;
        if (other->length > s->length || (other->length == s->length && i < index))
            return false;
        holders++;
    }
    return holders == c->pages[page].holders;
}

void model_choose_copies(cache_model *c)
{
    for (uint32_t i = 0; i < c->step.count; i++) {
        member_model *m = &c->step.members[i];
        m->copied = model_must_copy(c, &c->sequences[m->sequence]) && !may_stay(c, i);
    }
}

void model_begin(cache_model *c)
{
    for (uint32_t i = 0; i < c->step.count; i++) {
        member_model *m = &c->step.members[i];
        sequence_model *s = &c->sequences[m->sequence];
        uint32_t page = s->length / c->page_size;
        uint32_t pages = pages_of(c, s->length + m->tokens);
        m->old_pages = s->page_count;
        if (m->copied) {
            m->old_page = s->pages[page];
            s->pages[page] = model_take(c);
        }
        while (s->page_count < pages)
            s->pages[s->page_count++] = model_take(c);
        s->in_step = true;
    }
}

void model_end(cache_model *c)
{
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        sequence_model *s = &c->sequences[m->sequence];
        if (m->copied)
            model_drop(c, &m->old_page, 1);
        s->length += m->tokens;
        s->dirty = false;
        s->in_step = false;
    }
    c->step = (step_model){.handle = NULL};
}

void model_cancel(world *w, cache_model *c)
{
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        sequence_model *s = &c->sequences[m->sequence];
        model_drop(c, s->pages + m->old_pages, s->page_count - m->old_pages);
        s->page_count = m->old_pages;
        uint32_t page = s->length / c->page_size;
        if (m->copied) {
            model_drop(c, &s->pages[page], 1);
            s->pages[page] = m->old_page;
        }
        s->dirty |= s->length % c->page_size != 0;
        set_history_length(w, s, s->length);
        s->in_step = false;
    }
    c->step = (step_model){.handle = NULL};
}
