// Saves, whole and piece by piece, and loads, into any sequence of any cache of the world.
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t blob_byte(uint32_t size, uint32_t i)
{
    return (uint8_t)(7 * i + size);
}

// --- images

static void image_clear(image *it)
{
    for (uint32_t i = 0; i < LAYERS_MAX; i++) {
        free(it->k[i]);
        free(it->v[i]);
    }
    free(it->bytes);
    free(it->blob);
    *it = (image){.size = 0};
}

void images_free(world *w)
{
    for (uint32_t i = 0; i < IMAGES; i++)
        image_clear(&w->images[i]);
}

static void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);
    if (!copy) {
        fputs("random_operations: out of memory\n", stderr);
        exit(2);
    }
    memcpy(copy, data, size);
    return copy;
}

// What the sequence holds now, as a snapshot of it should have it.
static void image_begin(world *w, image *it, const sequence_model *s)
{
    image_clear(it);
    it->tokens = s->length;
    // An open step's tokens are not in it.
    it->harmful = s->harmful < s->length ? s->harmful : UINT32_MAX;
    it->name = (uint8_t)below(w, 256);
    it->blob_size = once_in(w, 3) ? 0 : below(w, 100);
    it->blob = malloc(it->blob_size + 1);
    for (uint32_t i = 0; it->blob && i < it->blob_size; i++)
        it->blob[i] = blob_byte(it->blob_size, i);
    for (uint32_t i = 0; i < w->layer_count; i++) {
        const history *h = &s->layers[i];
        size_t size = s->length * history_stride(h) * sizeof *h->k;
        it->k[i] = copy_of(h->k, size);
        it->v[i] = copy_of(h->v, size);
    }
}

// One that no save is writing; NULL if there is none.
static image *free_image(world *w)
{
    image *it = &w->images[below(w, IMAGES)];
    return it->being_saved ? NULL : it;
}

static bool check_inspect(world *w, cache_model *c, const image *it);

// --- saving

// Takes the bytes; fails at call fail_at if that is not 0.
typedef struct sink {
    image *image;
    uint32_t calls, fail_at;
    bool failed;
} sink;

static int take_bytes(void *user, const void *data, size_t size)
{
    sink *to = user;
    image *it = to->image;
    if (++to->calls == to->fail_at) {
        to->failed = true;
        return 1;
    }
    if (it->size + size > it->capacity) {
        it->capacity = 2 * (it->size + size);
        it->bytes = realloc(it->bytes, it->capacity);
        if (!it->bytes)
            return 1;
    }
    memcpy(it->bytes + it->size, data, size);
    it->size += size;
    return 0;
}

// Stops at report stop_at if that is not 0.
typedef struct watcher {
    uint32_t reports, stop_at;
    bool stopped;
} watcher;

static int watch(void *user, uint64_t done, uint64_t total)
{
    watcher *it = user;
    it->stopped = it->stopped || ++it->reports == it->stop_at || done > total;
    return it->stopped;
}

static skim_snapshot_save_args save_args(const image *it, sink *to)
{
    skim_snapshot_save_args args = {.size_of = sizeof args,
                                    .write = take_bytes,
                                    .user = to,
                                    .blob = it->blob,
                                    .blob_size = it->blob_size};
    memset(args.fingerprint, it->name, sizeof args.fingerprint);
    return args;
}

bool snapshot_save(world *w, cache_model *c)
{
    const sequence_model *s = random_sequence(w, c);
    image *it = free_image(w);
    if (!it)
        return snapshot_piece(w, c);
    trace(w, "save sequence %d of %u", (int)(s - c->sequences), s->length);
    image_begin(w, it, s);
    sink to = {.image = it, .fail_at = once_in(w, 6) ? between(w, 1, 6) : 0};
    watcher seen = {.stop_at = once_in(w, 6) ? between(w, 1, 6) : 0};
    skim_progress progress = {watch, &seen};
    skim_snapshot_save_args args = save_args(it, &to);
    args.progress = seen.stop_at ? &progress : NULL;
    uint64_t hash = pool_hash(c);
    skim_status status = skim_snapshot_save(s->handle, &args);
    if (to.failed || seen.stopped) {
        image_clear(it);
        return refused(w, c, status, to.failed ? SKIM_FAILED : SKIM_CANCELLED, hash,
                       "skim_snapshot_save");
    }
    w->counts.saves++;
    return ok(&c->ctx, status, "skim_snapshot_save") && check_inspect(w, c, it);
}

// --- saving piece by piece

static bool begin_save(world *w, cache_model *c, save_model *save)
{
    sequence_model *s = random_sequence(w, c);
    image *it = free_image(w);
    if (!it)
        return true;
    image_begin(w, it, s);
    it->being_saved = true;
    sink *to = malloc(sizeof *to);
    *save = (save_model){.image = it, .sink = to, .page_count = pages_of(c, s->length)};
    if (!to)
        return fail(&c->ctx, "out of memory");
    *to = (sink){.image = it};
    trace(w, "begin to save sequence %d of %u", (int)(s - c->sequences), s->length);
    skim_snapshot_save_args args = save_args(it, to);
    if (!ok(&c->ctx, skim_snapshot_begin(s->handle, &args, &save->handle), "skim_snapshot_begin"))
        return false;
    memcpy(save->pages, s->pages, save->page_count * sizeof *save->pages);
    for (uint32_t i = 0; i < c->step.count; i++) {
        const member_model *m = &c->step.members[i];
        if (&c->sequences[m->sequence] == s && m->copied)
            save->pages[s->length / c->page_size] = m->old_page;
    }
    model_share(c, save->pages, save->page_count);
    return true;
}

static void end_save(cache_model *c, save_model *save)
{
    skim_snapshot_end(save->handle);
    model_drop(c, save->pages, save->page_count);
    save->image->being_saved = false;
    if (!save->complete)
        image_clear(save->image);
    free(save->sink);
    *save = (save_model){.handle = NULL};
}

static bool run_save(world *w, cache_model *c, save_model *save)
{
    uint64_t left = 0;
    trace(w, "save some more");
    if (!ok(&c->ctx, skim_snapshot_run(save->handle, between(w, 1, 20000), &left),
            "skim_snapshot_run"))
        return false;
    save->complete = left == 0;
    w->counts.saves += save->complete;
    return !save->complete || check_inspect(w, c, save->image);
}

bool snapshot_piece(world *w, cache_model *c)
{
    save_model *save = &c->saves[below(w, SAVES_MAX)];
    if (!save->handle)
        return begin_save(w, c, save);
    if (!save->complete && !once_in(w, 10))
        return run_save(w, c, save);
    trace(w, "end a save");
    end_save(c, save);
    return true;
}

void snapshot_end_all(cache_model *c)
{
    for (uint32_t i = 0; i < SAVES_MAX; i++) {
        if (c->saves[i].handle)
            end_save(c, &c->saves[i]);
    }
}

// --- loading

// Gives the bytes of an image, but for one bit, and up to an end.
typedef struct source {
    const image *image;
    size_t at, end, damaged; // damaged: of which byte; SIZE_MAX: none
    uint8_t bit;
} source;

static int give_bytes(void *user, void *data, size_t size)
{
    source *from = user;
    if (size > from->end - from->at)
        return 1;
    memcpy(data, from->image->bytes + from->at, size);
    if (from->damaged >= from->at && from->damaged < from->at + size)
        ((uint8_t *)data)[from->damaged - from->at] ^= from->bit;
    from->at += size;
    return 0;
}

static source source_of(const image *it)
{
    return (source){.image = it, .end = it->size, .damaged = SIZE_MAX};
}

static bool check_inspect(world *w, cache_model *c, const image *it)
{
    source from = source_of(it);
    skim_snapshot_info info = {.size_of = sizeof info};
    if (!ok(&c->ctx, skim_snapshot_inspect(give_bytes, &from, &info), "skim_snapshot_inspect"))
        return false;
    return check(&c->ctx,
                 info.tokens == it->tokens && info.page_size == w->page_size &&
                     info.layer_count == w->layer_count && info.blob_size == it->blob_size &&
                     info.total_size == it->size && info.fingerprint[0] == it->name,
                 "the snapshot of %u tokens says %llu, and %llu bytes of %zu", it->tokens,
                 (unsigned long long)info.tokens, (unsigned long long)info.total_size, it->size);
}

typedef enum defect {
    DEFECT_NONE,
    DEFECT_CUT,
    DEFECT_BIT,
    DEFECT_NAME,  // another fingerprint is asked for
    DEFECT_BLOB,  // too little room for the host's bytes
    DEFECT_CANCEL // by the progress callback
} defect;

static skim_status expected_of_load(const cache_model *c, const image *it, defect what)
{
    if (c->step.handle)
        return SKIM_STATE;
    if (what == DEFECT_NAME || it->tokens > c->max_sequence_tokens ||
        (what == DEFECT_BLOB && it->blob_size > 0))
        return SKIM_INVALID;
    return pages_of(c, it->tokens) > model_free(c) ? SKIM_NO_SLOTS : SKIM_OK;
}

// The new pages, then those of the old ones that are reserved and nobody else's.
static void model_load(world *w, cache_model *c, sequence_model *s, const image *it)
{
    uint32_t old[PAGES_MAX];
    uint32_t old_count = s->page_count;
    memcpy(old, s->pages, sizeof old);
    s->page_count = 0;
    while (s->page_count < pages_of(c, it->tokens))
        s->pages[s->page_count++] = model_take(c);
    for (uint32_t i = 0; i < old_count; i++) {
        if (s->page_count < s->reserved && c->pages[old[i]].holders == 1)
            s->pages[s->page_count++] = old[i];
        else
            model_drop(c, &old[i], 1);
    }
    s->length = it->tokens;
    s->harmful = it->harmful;
    s->dirty = false;
    set_history_length(w, s, it->tokens);
    for (uint32_t i = 0; i < w->layer_count; i++) {
        history *h = &s->layers[i];
        size_t size = it->tokens * history_stride(h) * sizeof *h->k;
        memcpy(h->k, it->k[i], size);
        memcpy(h->v, it->v[i], size);
    }
}

static bool check_blob(cache_model *c, const image *it, const uint8_t *blob, uint64_t size)
{
    return check(&c->ctx, size == it->blob_size && memcmp(blob, it->blob, it->blob_size) == 0,
                 "a load gave other bytes of the host's than were saved");
}

static bool load_image(world *w, cache_model *c, sequence_model *s, const image *it, defect what)
{
    uint8_t blob[100] = {0};
    uint64_t blob_size = 0;
    source from = source_of(it);
    watcher seen = {.stop_at = what == DEFECT_CANCEL ? between(w, 1, 4) : 0};
    skim_progress progress = {watch, &seen};
    skim_snapshot_load_args args = {.size_of = sizeof args,
                                    .read = give_bytes,
                                    .user = &from,
                                    .blob = blob,
                                    .blob_capacity = sizeof blob,
                                    .blob_size = &blob_size,
                                    .progress = &progress};
    memset(args.fingerprint, it->name, sizeof args.fingerprint);
    if (what == DEFECT_NAME)
        args.fingerprint[below(w, SKIM_FINGERPRINT_SIZE)] ^= 1;
    if (what == DEFECT_BLOB && it->blob_size > 0)
        args.blob_capacity = it->blob_size - 1;
    if (what == DEFECT_CUT)
        from.end = below(w, (uint32_t)it->size);
    if (what == DEFECT_BIT) {
        from.damaged = once_in(w, 2) ? below(w, (uint32_t)it->size) : below(w, 200);
        from.bit = (uint8_t)(1u << below(w, 8));
    }
    bool damaged = from.end < it->size || from.damaged < it->size;
    uint64_t hash = pool_hash(c);
    skim_status expected = expected_of_load(c, it, what);
    skim_status status = skim_snapshot_load(s->handle, &args);
    if (expected == SKIM_OK && seen.stopped)
        expected = SKIM_CANCELLED;
    if (damaged && expected != SKIM_STATE) // which of its faults is seen first is not said
        expected = status == SKIM_OK ? SKIM_INVALID : status;
    if (expected != SKIM_OK)
        return refused(w, c, status, expected, hash, "skim_snapshot_load");
    w->counts.loads++;
    if (!ok(&c->ctx, status, "skim_snapshot_load") || !check_blob(c, it, blob, blob_size))
        return false;
    model_load(w, c, s, it);
    return true;
}

bool snapshot_load(world *w, cache_model *c)
{
    sequence_model *s = random_sequence(w, c);
    const image *it = &w->images[below(w, IMAGES)];
    if (it->being_saved || !it->bytes)
        return snapshot_save(w, c);
    defect what = once_in(w, 3) ? (defect)below(w, DEFECT_CANCEL + 1) : DEFECT_NONE;
    trace(w, "load %u tokens into sequence %d of %u, defect %d", it->tokens,
          (int)(s - c->sequences), s->length, (int)what);
    return load_image(w, c, s, it, what);
}
