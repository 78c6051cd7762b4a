// Random operations on caches, beside a model in plain C of what they should hold: every sequence's
// keys and values, and which pages it shares with whom. After each operation the library's page
// pool is held against the model; attention is held against the oracle.
#ifndef RANDOM_H
#define RANDOM_H

#include "verify.h"

#include <stdarg.h>

enum {
    LAYERS_MAX = 3,
    SEQUENCES_MAX = 8,
    PAGES_MAX = 24, // slots of a cache
    CACHES = 2,
    IMAGES = 6,
    PENDING_MAX = 4,
    SAMPLES_MAX = 2,
    SAVES_MAX = 2,
    TRACE_LINES = 32,
    NO_SLOT = -1
};

// A page as the model knows it. Which slot it is is learnt from the library when it is first seen,
// and may not change until the page is given up.
typedef struct model_page {
    uint32_t holders;
    int64_t slot;
} model_page;

typedef struct sequence_model {
    skim_sequence *handle; // NULL: not alive
    uint32_t length;
    bool in_step;
    bool dirty;       // what is past the end of its last page need not be zero
    uint32_t harmful; // tokens before the first that is NaN or Inf; UINT32_MAX: none is
    uint32_t reserved;
    uint32_t page_count;
    uint32_t pages[PAGES_MAX];  // indices into the cache's pages
    history layers[LAYERS_MAX]; // those of an open step included
} sequence_model;

typedef struct member_model {
    uint32_t sequence, tokens, start;
    uint32_t old_pages;
    bool copied;
    uint32_t old_page; // held until the step ends
} member_model;

typedef struct step_model {
    skim_step *handle; // NULL: none is open
    uint32_t count, tokens;
    member_model members[SEQUENCES_MAX];
    bool appended[LAYERS_MAX];
    bool attended;
} step_model;

// An attend whose results were not looked at yet.
typedef struct pending_attend {
    box out, lse;
    uint32_t count;
    attention samples[SAMPLES_MAX];
} pending_attend;

// What a snapshot should hold.
typedef struct image {
    uint8_t *bytes; // NULL: none yet
    size_t size, capacity;
    uint32_t tokens, harmful;
    float *k[LAYERS_MAX], *v[LAYERS_MAX];
    uint8_t name; // every byte of its fingerprint
    uint8_t *blob;
    uint32_t blob_size;
    bool being_saved;
} image;

// A save piece by piece. It holds pages as a sequence does.
typedef struct save_model {
    skim_snapshot *handle; // NULL: none
    uint32_t page_count;
    uint32_t pages[PAGES_MAX];
    image *image; // receives it
    void *sink;
    bool complete;
} save_model;

typedef struct cache_model {
    context ctx; // its queue and cache; memory that lives until settle
    uint32_t page_size, slots, max_sequences, max_step_tokens, max_sequence_tokens;
    bool keep_freed;
    skim_bounds bounds;
    skim_bounds_type bounds_type;
    skim_policy policy;
    skim_policy layer_policies[LAYERS_MAX];
    bool has_policy[LAYERS_MAX];
    model_page pages[PAGES_MAX];
    sequence_model sequences[SEQUENCES_MAX];
    step_model step;
    pending_attend pending[PENDING_MAX];
    uint32_t pending_count;
    save_model saves[SAVES_MAX];
} cache_model;

typedef struct counts {
    uint64_t operations, steps, tokens, attends, sparse, oracle, forks, copies, truncates, reserves,
        cancels, saves, loads, refused, no_slots, payloads, tails, harmful, caches, i8_caches;
} counts;

// Everything. One world follows another in a run, each with caches of other shapes.
typedef struct world {
    skim_runtime *runtime;
    skim_device *device;
    context dice; // randomness alone
    uint32_t page_size, layer_count;
    params layers[LAYERS_MAX];
    bool one_queue;
    cache_model caches[CACHES];
    image images[IMAGES];
    char trace[TRACE_LINES][160];
    uint64_t trace_count;
    counts counts;
} world;

// --- randomness

static inline uint32_t below(world *w, uint32_t limit)
{
    return random_below(&w->dice, limit);
}

static inline uint32_t between(world *w, uint32_t low, uint32_t high)
{
    return low + below(w, high - low + 1);
}

// True once in n.
static inline bool once_in(world *w, uint32_t n)
{
    return below(w, n) == 0;
}

// A line of what happens, of which the last are printed after a failure.
void trace(world *w, const char *format, ...) PRINTF(2, 3);

// --- world.c: the caches of a world, and policies

bool world_begin(world *w);
void world_end(world *w);
skim_policy random_policy(world *w, const cache_model *c);
const skim_policy *policy_in_force(const cache_model *c, uint32_t layer);

// --- model.c: what operations do to pages

static inline uint32_t pages_of(const cache_model *c, uint32_t tokens)
{
    return (tokens + c->page_size - 1) / c->page_size;
}

uint32_t model_free(const cache_model *c);
uint32_t model_take(cache_model *c);
void model_share(cache_model *c, const uint32_t *pages, uint32_t count);
void model_drop(cache_model *c, const uint32_t *pages, uint32_t count);
// Whether adding tokens must copy the last page.
bool model_must_copy(const cache_model *c, const sequence_model *s);

// Which of a step's members are to get a copy of their last page.
void model_choose_copies(cache_model *c);
void model_trim(cache_model *c, sequence_model *s);
void model_fork(cache_model *c, const sequence_model *source, sequence_model *made);
void model_begin(cache_model *c);
void model_end(cache_model *c);
void model_cancel(world *w, cache_model *c);
// The first sequence that is not alive; NULL if all are.
sequence_model *model_vacant(cache_model *c);
uint32_t model_alive(const cache_model *c);
// An alive one chosen at random; NULL if there is none.
sequence_model *random_sequence(world *w, cache_model *c);
// Adds tokens of random keys and values to all layers; past s->length until the step ends. At times
// they are NaN and Inf, which must stay this sequence's own misfortune.
void random_tokens(world *w, sequence_model *s, uint32_t count);
void set_history_length(world *w, sequence_model *s, uint32_t length);

// --- check.c: the library's insides against the model

bool check_pool(world *w, cache_model *c);
// Raw memory: tables, one sequence's keys and values, and zeros past every end. Work must be done.
bool check_memory(world *w, cache_model *c);
// The centre of a layer's int8 bounds as the device has it, which must be finite: no values with
// native bounds, slack INFINITY where it cannot be read. The work that set it must be done.
bool read_centre(world *w, cache_model *c, uint32_t layer, known_centre *centre);
// The pool's every word, to see whether a refused call changed it.
uint64_t pool_hash(const cache_model *c);
bool refused(world *w, cache_model *c, skim_status status, skim_status expected, uint64_t hash,
             const char *call);

// --- steps.c

bool step_begin(world *w, cache_model *c);
bool step_append(world *w, cache_model *c);
bool step_attend(world *w, cache_model *c);
bool step_end(world *w, cache_model *c);
bool step_cancel(world *w, cache_model *c);
// Waits for the cache's work and looks at the results that are waiting.
bool settle(world *w, cache_model *c);
// Frees what was taken through the context, objects apart.
void release_blocks(context *ctx);

// --- verify_step.c

// Chooses a head of an entry and keeps what its result should be; submits and waits if it needs the
// device's list.
bool sample_attend(world *w, cache_model *c, uint32_t layer, const skim_policy *policy,
                   const float *queries, pending_attend *p);
bool verify_report(world *w, cache_model *c, uint32_t layer, const skim_policy *policy);

// --- operations.c

// One operation chosen at random, and the checks after it. False: something is wrong, and detail
// says what.
bool operate(world *w, char *detail, size_t size);

bool sequence_create(world *w, cache_model *c);
bool sequence_destroy(world *w, cache_model *c);
bool sequence_fork(world *w, cache_model *c);
bool sequence_truncate(world *w, cache_model *c);
bool sequence_reserve(world *w, cache_model *c);
bool change_policy(world *w, cache_model *c);
bool run_queue(world *w, cache_model *c);

// --- bad.c

// A call that must be refused and change nothing.
bool bad_call(world *w, cache_model *c);

// --- snapshots.c

bool snapshot_save(world *w, cache_model *c);
bool snapshot_load(world *w, cache_model *c);
// Begins, goes on with or ends a save that is made piece by piece.
bool snapshot_piece(world *w, cache_model *c);
void snapshot_end_all(cache_model *c);
void images_free(world *w);

// --- run.c

typedef struct run_options {
    const char *device, *program;
    uint64_t seed, operations;
    uint32_t threads;
    char *found; // receives what is wrong, which is then not printed; NULL: it is printed
    size_t found_size;
} run_options;

// 0: all is well; 1: something is wrong, printed; 77: no such device.
int run_random(const run_options *options, counts *totals);

#endif
