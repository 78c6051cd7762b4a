// Sequences and steps of a world, and what heals them.
#include "tests/fault/data.h"
#include "tests/fault/world.h"

#include <math.h>
#include <string.h>

enum { HEADS_MAX = 4, DIM_MAX = 64 };

// The host's tensors. Overwritten with every step.
static float keys[WORLD_STEP * HEADS_MAX * DIM_MAX];
static float values[WORLD_STEP * HEADS_MAX * DIM_MAX];
static float queries[WORLD_STEP * HEADS_MAX * DIM_MAX];
static float outs[WORLD_LAYERS][WORLD_STEP * HEADS_MAX * DIM_MAX];
static float lses[WORLD_LAYERS][WORLD_STEP * HEADS_MAX];
// Where steps that nobody waits for write, for as long as they like.
static float thrown_outs[WORLD_STEP * HEADS_MAX * DIM_MAX];
static float thrown_lses[WORLD_STEP * HEADS_MAX];

skim_status world_create_sequence(world *w, uint32_t index)
{
    world_sequence *own = &w->sequences[index];
    DO(w, ON_CACHE, skim_sequence_create(w->cache, &own->handle));
    own->length = own->sound = 0;
    own->touched = false;
    return SKIM_OK;
}

skim_status world_fork(world *w, uint32_t source, uint32_t fork)
{
    DO(w, ON_CACHE, skim_sequence_fork(w->sequences[source].handle, &w->sequences[fork].handle));
    skim_sequence *handle = w->sequences[fork].handle;
    w->sequences[fork] = w->sequences[source];
    w->sequences[fork].handle = handle;
    return SKIM_OK;
}

skim_status world_truncate(world *w, uint32_t index, uint32_t length)
{
    world_sequence *own = &w->sequences[index];
    DO(w, ON_CACHE, skim_sequence_truncate(own->handle, length));
    own->length = length;
    own->sound = own->sound < length ? own->sound : length;
    return SKIM_OK;
}

// The start of the last page, if that is one to be copied: should the copying fail, it is lost.
static void expect_copy(world *w, world_sequence *own)
{
    uint32_t page = w->cache->page_size;
    if (!skim_sequence_must_copy(own->handle))
        return;
    uint32_t start = (uint32_t)skim_sequence_length(own->handle) / page * page;
    own->sound = own->sound < start ? own->sound : start;
}

skim_status world_reserve(world *w, uint32_t index, uint64_t tokens)
{
    world_sequence *own = &w->sequences[index];
    expect_copy(w, own);
    own->touched = true;
    DO(w, ON_CACHE, skim_sequence_reserve(own->handle, tokens));
    return SKIM_OK;
}

skim_status world_destroy_sequence(world *w, uint32_t index)
{
    DO(w, ON_CACHE, skim_sequence_destroy(w->sequences[index].handle));
    w->sequences[index].handle = NULL;
    return SKIM_OK;
}

// --- attention in double precision

typedef struct running_step {
    world *w;
    const world_step *spec;
    skim_step *step;
    uint32_t count;
    uint32_t token_count;
    uint32_t tokens[WORLD_STEP];
} running_step;

// Entry e's tokens with those of the step.
static uint32_t all_tokens(const running_step *run, uint32_t e, uint32_t *tokens)
{
    uint32_t start = 0;
    for (uint32_t i = 0; i < e; i++)
        start += run->spec->entries[i].tokens;
    const world_sequence *own = &run->w->sequences[run->spec->entries[e].sequence];
    uint32_t length = (uint32_t)skim_sequence_length(own->handle);
    memcpy(tokens, own->tokens, length * sizeof *tokens);
    memcpy(tokens + length, run->tokens + start, run->spec->entries[e].tokens * sizeof *tokens);
    return length;
}

static void compare(const running_step *run, uint32_t layer, uint32_t row, uint32_t head,
                    const double *wanted)
{
    const skim_layer *own = &run->w->layers[layer];
    const float *out = outs[layer] + ((size_t)row * own->q_heads + head) * own->key_dim;
    for (uint32_t d = 0; d < own->key_dim; d++) {
        if (!(fabs((double)out[d] - wanted[d]) <= 2e-4))
            world_problem(run->w, "token %u of layer %u, head %u: out[%u] is %g, and should be %g",
                          row, layer, head, d, (double)out[d], wanted[d]);
    }
}

// Checks what one layer's attend gave: its lists are the device's own.
static skim_status verify_layer(const running_step *run, uint32_t layer)
{
    static uint32_t tokens[WORLD_LENGTH], pages[WORLD_SLOTS];
    world *w = run->w;
    uint32_t row = 0;
    DO(w, ON_QUEUE, skim_queue_finish(w->queue));
    for (uint32_t e = 0; e < run->count; e++) {
        uint32_t length = all_tokens(run, e, tokens);
        uint32_t added = run->spec->entries[e].tokens;
        for (uint32_t t = 0; t < added; t++, row++) {
            if (added > 20 && t + 4 < added && t % 16 != 0)
                continue; // some of a long prefill
            for (uint32_t h = 0; h < w->layers[layer].q_heads; h++) {
                double wanted[DIM_MAX];
                uint32_t count = 0;
                DO(w, ON_CACHE, skim_step_pages(run->step, e, h, pages, WORLD_SLOTS, &count));
                data_attend(&w->layers[layer], layer, tokens, length + t + 1, w->cache->page_size,
                            h, pages, count, wanted);
                compare(run, layer, row, h, wanted);
            }
        }
    }
    return SKIM_OK;
}

// --- steps

static int go_on(void *user, uint64_t done, uint64_t total)
{
    *(uint64_t *)user += done <= total;
    return 0;
}

static skim_status keep_pages(const running_step *run)
{
    static uint32_t pages[WORLD_SLOTS];
    world *w = run->w;
    for (uint32_t e = 0; e < run->count; e++) {
        uint32_t count = 0;
        DO(w, ON_CACHE, skim_step_pages(run->step, e, 0, pages, WORLD_SLOTS, &count));
        world_result(w, pages, count * sizeof *pages);
    }
    return SKIM_OK;
}

static skim_status attend_layer(const running_step *run, uint32_t layer)
{
    world *w = run->w;
    const skim_layer *own = &w->layers[layer];
    uint64_t reports = 0;
    const skim_progress progress = {go_on, &reports};
    data_fill(queries, SKIM_F32, DATA_QUERY, run->tokens, run->token_count, layer, own->q_heads,
              own->key_dim);
    bool thrown = run->spec->unwaited || run->spec->cancel;
    float *out = thrown ? thrown_outs : outs[layer];
    float *lse = thrown ? thrown_lses : lses[layer];
    if (!thrown)
        memset(out, 0xff, run->token_count * own->q_heads * own->key_dim * sizeof(float));
    const skim_step_attend_args args = {.size_of = sizeof args,
                                        .q = skim_tensor_host(queries, SKIM_F32),
                                        .out = skim_tensor_host(out, SKIM_F32),
                                        .lse = skim_tensor_host(lse, SKIM_F32),
                                        .policy = run->spec->policy,
                                        .progress = run->spec->progress ? &progress : NULL};
    DO(w, ON_CACHE, skim_step_attend(run->step, layer, &args));
    memset(queries, 0xff, sizeof queries); // they were consumed
    if (run->spec->pages)
        PASS(keep_pages(run));
    skim_step_report report = {.size_of = sizeof report};
    DO(w, ON_CACHE, skim_step_get_report(run->step, layer, &report));
    world_result(w, &report, sizeof report);
    return w->verify && !thrown ? verify_layer(run, layer) : SKIM_OK;
}

static skim_status run_layer(const running_step *run, uint32_t layer)
{
    world *w = run->w;
    const skim_layer *own = &w->layers[layer];
    data_fill(keys, own->type, DATA_KEY, run->tokens, run->token_count, layer, own->kv_heads,
              own->key_dim);
    data_fill(values, own->type, DATA_VALUE, run->tokens, run->token_count, layer, own->kv_heads,
              own->key_dim);
    const skim_tensor k = skim_tensor_host(keys, own->type);
    const skim_tensor v = skim_tensor_host(values, own->type);
    DO(w, ON_CACHE, skim_step_append(run->step, layer, &k, &v));
    memset(keys, 0xff, sizeof keys);
    memset(values, 0xff, sizeof values);
    if (!run->spec->quiet)
        PASS(attend_layer(run, layer));
    if (run->spec->halfway) {
        uint64_t point = 0;
        DO(w, ON_QUEUE, skim_queue_submit(w->queue, &point));
        if (layer == 1)
            DO(w, ON_QUEUE, skim_queue_wait(w->queue, point, UINT64_MAX));
    }
    return SKIM_OK;
}

static void touch(running_step *run)
{
    for (uint32_t e = 0; e < run->count; e++) {
        world_sequence *own = &run->w->sequences[run->spec->entries[e].sequence];
        expect_copy(run->w, own);
        own->touched = true;
    }
}

static skim_status run_once(running_step *run)
{
    world *w = run->w;
    skim_step_entry entries[WORLD_ENTRIES];
    for (uint32_t e = 0; e < run->count; e++)
        entries[e] = (skim_step_entry){w->sequences[run->spec->entries[e].sequence].handle,
                                       run->spec->entries[e].tokens};
    touch(run);
    DO(w, ON_CACHE, skim_step_begin(w->cache, entries, run->count, &run->step));
    for (uint32_t i = 0; i < WORLD_LAYERS; i++)
        PASS(run_layer(run, i));
    if (run->spec->cancel) {
        skim_step_cancel(run->step);
        return SKIM_OK;
    }
    uint64_t point = 0;
    DO(w, ON_CACHE, skim_step_end(run->step, &point));
    if (run->spec->unwaited)
        return SKIM_OK;
    DO(w, ON_QUEUE, skim_queue_finish(w->queue));
    world_done(w);
    for (uint32_t i = 0; i < WORLD_LAYERS && !run->spec->quiet; i++) {
        size_t rows = (size_t)run->token_count * w->layers[i].q_heads;
        world_result(w, outs[i], rows * w->layers[i].key_dim * sizeof(float));
        world_result(w, lses[i], rows * sizeof(float));
    }
    return SKIM_OK;
}

// Runs the step until it is done; between attempts, heals what failed work broke.
static skim_status run_tokens(running_step *run, bool heals)
{
    world *w = run->w;
    for (int attempt = 0; attempt < 6; attempt++) {
        size_t results = w->result_size;
        w->nested++;
        skim_status status = run_once(run);
        w->nested--;
        if (status != SKIM_FAILED || w->problem[0] || fault_now.fired == 0)
            return status;
        w->result_size = results;
        if (w->cache->step.open)
            skim_step_cancel(run->step);
        if (!heals)
            return status;
        PASS(world_heal(w));
    }
    world_problem(w, "a step fails for ever");
    return SKIM_FAILED;
}

skim_status world_run_step(world *w, const world_step *step)
{
    static running_step run;
    run = (running_step){.w = w, .spec = step};
    while (run.count < WORLD_ENTRIES && step->entries[run.count].tokens > 0)
        run.token_count += step->entries[run.count++].tokens;
    for (uint32_t t = 0; t < run.token_count; t++)
        run.tokens[t] = w->next_token + t;
    PASS(run_tokens(&run, true));
    w->next_token += run.token_count;
    if (step->cancel)
        return SKIM_OK;
    uint32_t taken = 0;
    for (uint32_t e = 0; e < run.count; e++) {
        world_sequence *own = &w->sequences[step->entries[e].sequence];
        uint32_t count = step->entries[e].tokens;
        memcpy(own->tokens + own->length, run.tokens + taken, count * sizeof *own->tokens);
        own->length += count;
        taken += count;
        if (!step->unwaited)
            own->sound = own->length;
    }
    return SKIM_OK;
}

skim_status world_decode_all(world *w)
{
    world_step step = {.pages = true};
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORLD_SEQUENCES && count < WORLD_ENTRIES; i++) {
        if (!w->sequences[i].handle)
            continue;
        step.entries[count].sequence = i;
        step.entries[count++].tokens = 1;
    }
    return world_run_step(w, &step);
}

// --- healing

// Appends what the model has and the sequence lacks, at most a step's worth.
static skim_status append_missing(world *w, uint32_t index)
{
    static running_step run;
    static world_step spec;
    const world_sequence *own = &w->sequences[index];
    uint32_t length = (uint32_t)skim_sequence_length(own->handle);
    uint32_t missing = own->length - length, most = w->cache->max_step_tokens;
    missing = missing < most ? missing : most;
    spec = (world_step){.entries = {{index, missing}}, .quiet = true};
    run = (running_step){.w = w, .spec = &spec, .count = 1, .token_count = missing};
    memcpy(run.tokens, own->tokens + length, missing * sizeof *run.tokens);
    return run_tokens(&run, false);
}

static skim_status heal_one(world *w, uint32_t index)
{
    world_sequence *own = &w->sequences[index];
    skim_sequence_info info = {.size_of = sizeof info};
    DO(w, ON_CACHE, skim_sequence_get_info(own->handle, &info));
    uint64_t kept = info.sound_length < own->length ? info.sound_length : own->length;
    if (info.broken) {
        skim_sequence *fork = NULL;
        skim_step *step = NULL;
        skim_step_entry entry = {own->handle, 1};
        if (skim_sequence_fork(own->handle, &fork) != SKIM_STATE ||
            skim_sequence_reserve(own->handle, info.length) != SKIM_STATE ||
            skim_step_begin(w->cache, &entry, 1, &step) != SKIM_STATE ||
            (info.length > info.sound_length &&
             skim_sequence_truncate(own->handle, info.sound_length + 1) != SKIM_INVALID))
            world_problem(w, "a broken sequence is used as if it were whole");
    }
    if (info.broken || info.length > kept)
        DO(w, ON_CACHE, skim_sequence_truncate(own->handle, kept));
    own->sound = (uint32_t)kept;
    if (skim_sequence_length(own->handle) < own->length)
        return append_missing(w, index);
    return SKIM_OK;
}

static bool is_whole(const world_sequence *own)
{
    skim_sequence_info info = {.size_of = sizeof info};
    return !own->handle || (skim_sequence_get_info(own->handle, &info) == SKIM_OK && !info.broken &&
                            info.length == own->length);
}

skim_status world_heal(world *w)
{
    const char *call = w->call;
    world_object object = w->object;
    uint32_t attempts = w->attempts;
    if (w->cache->step.open)
        skim_step_cancel(&w->cache->step);
    w->attempts = 0;
    for (int round = 0; round < 64; round++) {
        uint32_t index = 0;
        while (index < WORLD_SEQUENCES && is_whole(&w->sequences[index]))
            index++;
        if (index == WORLD_SEQUENCES) {
            w->call = call;
            w->object = object;
            w->attempts = attempts;
            return SKIM_OK;
        }
        w->nested++;
        skim_status status = heal_one(w, index);
        w->nested--;
        if (status != SKIM_OK && status != SKIM_FAILED)
            return status;
        if (w->problem[0])
            return SKIM_FAILED;
        if (status == SKIM_FAILED && w->cache->step.open)
            skim_step_cancel(&w->cache->step);
    }
    world_problem(w, "sequences cannot be healed");
    return SKIM_FAILED;
}
