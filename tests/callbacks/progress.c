// Progress: what a long call reports, and that it can be stopped at any report and repeated.
#include "rig.h"
#include "watch.h"

#include <string.h>

// --- prepare

enum { PREPARED = 5 };

static rig_shape many_layers(void)
{
    rig_shape shape = rig_shape_small();
    shape.layers = PREPARED;
    shape.mixed = true;
    return shape;
}

static void open_prepared(rig *r, int stop_at)
{
    watcher w;
    watch(&w, stop_at);
    CHECK_OK(rig_open(r, NULL, false));
    CHECK_OK(rig_add_cache(r, many_layers()));
    CHECK_OK(rig_add_sequences(r, 3));
    if (stop_at != NEVER) {
        CHECK_EQUAL(skim_cache_prepare(r->cache, &w.progress), SKIM_CANCELLED);
        CHECK(skim_cache_error(r->cache, NULL, 0) > 0);
        CHECK_EQUAL(w.reports, stop_at + 1);
        w.stop_at = NEVER; // it goes on where it stopped
    }
    CHECK_OK(skim_cache_prepare(r->cache, &w.progress));
    CHECK_EQUAL(w.reports, PREPARED);
    CHECK_EQUAL(w.done, PREPARED);
    CHECK_EQUAL(w.total, PREPARED);
    CHECK_OK(skim_cache_prepare(r->cache, &w.progress));
    CHECK_EQUAL(w.reports, PREPARED);
}

static void prepare_can_be_stopped_at_any_report_and_goes_on_from_there(void)
{
    const uint32_t tokens[RIG_SEQUENCES] = {50, 1, 20, 0};
    rig_shape shape = many_layers();
    rig_data data[2];
    rig_data_init(&data[0], &shape, 71, 4);
    rig_data_init(&data[1], &shape, 71, 4);
    for (int stop_at = NEVER; stop_at < PREPARED; stop_at++) {
        rig r;
        open_prepared(&r, stop_at);
        CHECK_OK(rig_forward(&r, tokens, &data[stop_at != NEVER], NULL));
        rig_close(&r);
        CHECK(stop_at == NEVER || rig_same_results(&data[0], &data[1]));
    }
    rig_data_deinit(&data[0]);
    rig_data_deinit(&data[1]);
}

static void a_step_prepares_what_a_stopped_prepare_left(void)
{
    const uint32_t tokens[RIG_SEQUENCES] = {50, 1, 20, 0};
    rig_shape shape = many_layers();
    rig_data data;
    rig_data_init(&data, &shape, 71, 4);
    rig r;
    watcher w;
    watch(&w, 1);
    CHECK_OK(rig_open(&r, NULL, false));
    CHECK_OK(rig_add_cache(&r, shape));
    CHECK_OK(rig_add_sequences(&r, 3));
    CHECK_EQUAL(skim_cache_prepare(r.cache, &w.progress), SKIM_CANCELLED);
    CHECK_OK(rig_forward(&r, tokens, &data, NULL));
    CHECK_EQUAL(w.reports, 2);
    rig_close(&r);
    rig_data_deinit(&data);
}

// --- attend

// Sequences of an earlier step go on by so many tokens each.
typedef struct batch {
    uint32_t before[RIG_SEQUENCES];
    uint32_t tokens[RIG_SEQUENCES];
} batch;

static const batch batches[] = {
    {{1, 0, 0, 0}, {1300, 0, 0, 0}},       // a long prompt
    {{600, 700, 0, 0}, {1, 1, 0, 0}},      // decode only: one piece
    {{600, 1, 500, 1}, {1, 512, 1, 1}},    // pieces end where rows do
    {{700, 600, 30, 1}, {1, 513, 1, 700}}, // a row over three pieces
    {{1, 550, 1, 600}, {511, 1, 900, 1}},  // sparse rows in other pieces than dense ones
    {{17, 1, 300, 900}, {511, 2, 1, 1}},   // a piece would end in a row of two
    {{17, 1, 300, 900}, {2, 1023, 1, 1}},  // a piece ends one token before a row
};

enum { BATCHES = sizeof batches / sizeof *batches };

static uint32_t total_of(const uint32_t *tokens)
{
    return tokens[0] + tokens[1] + tokens[2] + tokens[3];
}

static rig_shape long_shape(void)
{
    rig_shape shape = rig_shape_small();
    shape.q_heads = 2;
    shape.kv_heads = 1;
    shape.dim = 32;
    shape.tokens = 4096;
    return shape;
}

typedef struct attended {
    rig r;
    rig_data before, data;

} attended;

static void attended_open(attended *a, const rig_shape *shape, const batch *b)
{
    memset(a, 0, sizeof *a);
    rig_data_init(&a->before, shape, total_of(b->before), 5);
    rig_data_init(&a->data, shape, total_of(b->tokens), 6);
    CHECK_OK(rig_open(&a->r, NULL, false));
    CHECK_OK(rig_add_cache(&a->r, *shape));
    CHECK_OK(rig_add_sequences(&a->r, RIG_SEQUENCES));
    skim_step *step = NULL;
    CHECK_OK(rig_begin(&a->r, b->before, &step));
    for (uint32_t layer = 0; layer < shape->layers; layer++)
        CHECK_OK(rig_append(step, layer, &a->r, &a->before));
    CHECK_OK(skim_step_end(step, NULL));
}

static void attended_close(attended *a)
{
    rig_close(&a->r);
    rig_data_deinit(&a->before);
    rig_data_deinit(&a->data);
}

static uint32_t reports_of(const batch *b)
{
    return (total_of(b->tokens) + 511) / 512;
}

static void compare_with_progress(const rig_shape *shape, const batch *b)
{
    attended plain, told;
    watcher w;
    watch(&w, NEVER);
    attended_open(&plain, shape, b);
    attended_open(&told, shape, b);
    CHECK_OK(rig_forward(&plain.r, b->tokens, &plain.data, NULL));
    skim_step *step = NULL;
    CHECK_OK(rig_begin(&told.r, b->tokens, &step));
    for (uint32_t layer = 0; layer < shape->layers; layer++) {
        watch(&w, NEVER);
        CHECK_OK(rig_append(step, layer, &told.r, &told.data));
        CHECK_OK(rig_attend(step, layer, &told.r, &told.data, &w.progress));
        CHECK_EQUAL(w.done, w.total);
        CHECK_EQUAL(w.total, total_of(b->tokens));
        CHECK_EQUAL(w.reports, reports_of(b));
    }
    CHECK_OK(skim_step_end(step, NULL));
    CHECK_OK(skim_queue_finish(told.r.queue));
    CHECK(rig_same_results(&plain.data, &told.data));
    attended_close(&plain);
    attended_close(&told);
}

static void attend_with_progress_gives_the_same_bits(void)
{
    const rig_shape shapes[] = {
        {2, 2, 1, 32, SKIM_F32, SKIM_F32, SKIM_BOUNDS_NATIVE, false, 4096},
        {2, 2, 2, 32, SKIM_F16, SKIM_F32, SKIM_BOUNDS_NATIVE, false, 4096},
        {2, 3, 1, 64, SKIM_BF16, SKIM_BF16, SKIM_BOUNDS_NATIVE, true, 4096},
        {2, 2, 1, 40, SKIM_F16, SKIM_F16, SKIM_BOUNDS_I8, false, 4096},
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (size_t b = 0; b < BATCHES; b++)
            compare_with_progress(&shapes[s], &batches[b]);
    }
}

// Layer 1 runs sparse for the sequences of one token.
static void attend_can_be_stopped_at_any_report_and_repeated(void)
{
    const rig_shape shape = long_shape();
    const batch *b = &batches[4];
    attended plain, told;
    attended_open(&plain, &shape, b);
    CHECK_OK(rig_forward(&plain.r, b->tokens, &plain.data, NULL));
    attended_open(&told, &shape, b);
    skim_step *step = NULL;
    CHECK_OK(rig_begin(&told.r, b->tokens, &step));
    for (uint32_t layer = 0; layer < shape.layers; layer++) {
        CHECK_OK(rig_append(step, layer, &told.r, &told.data));
        for (int stop_at = 0; stop_at < (int)reports_of(b); stop_at++) {
            watcher w;
            watch(&w, stop_at);
            CHECK_EQUAL(rig_attend(step, layer, &told.r, &told.data, &w.progress), SKIM_CANCELLED);
            CHECK(skim_cache_error(told.r.cache, NULL, 0) > 0);
            CHECK_EQUAL(w.reports, stop_at + 1);
            skim_step_report told_report;
            told_report.size_of = sizeof told_report;
            CHECK_EQUAL(skim_step_get_report(step, layer, &told_report), SKIM_STATE);
        }
        watcher w;
        watch(&w, NEVER);
        CHECK_OK(rig_attend(step, layer, &told.r, &told.data, layer == 0 ? NULL : &w.progress));
    }
    CHECK_OK(skim_step_end(step, NULL));
    CHECK_OK(skim_queue_finish(told.r.queue));
    CHECK(rig_same_results(&plain.data, &told.data));
    attended_close(&plain);
    attended_close(&told);
}

static void a_step_whose_attend_was_stopped_can_be_cancelled(void)
{
    const rig_shape shape = long_shape();
    const batch *b = &batches[3];
    attended plain, told;
    attended_open(&plain, &shape, b);
    CHECK_OK(rig_forward(&plain.r, b->tokens, &plain.data, NULL));
    attended_open(&told, &shape, b);
    skim_cache_usage before, after;
    before.size_of = after.size_of = sizeof before;
    CHECK_OK(skim_cache_get_usage(told.r.cache, &before));
    for (int stop_at = 0; stop_at < (int)reports_of(b); stop_at++) {
        skim_step *step = NULL;
        watcher w;
        watch(&w, stop_at);
        CHECK_OK(rig_begin(&told.r, b->tokens, &step));
        CHECK_OK(rig_append(step, 1, &told.r, &told.data));
        CHECK_EQUAL(rig_attend(step, 1, &told.r, &told.data, &w.progress), SKIM_CANCELLED);
        skim_step_cancel(step);
        CHECK_OK(skim_cache_get_usage(told.r.cache, &after));
        CHECK_EQUAL(after.slots_free, before.slots_free);
        for (int i = 0; i < RIG_SEQUENCES; i++)
            CHECK_EQUAL(skim_sequence_length(told.r.sequences[i]), b->before[i]);
    }
    CHECK_OK(rig_forward(&told.r, b->tokens, &told.data, NULL));
    CHECK(rig_same_results(&plain.data, &told.data));
    attended_close(&plain);
    attended_close(&told);
}

// --- what a report may do

static void a_slow_report_may_run_steps_on_another_queue(void)
{
    const rig_shape shape = long_shape();
    const batch *b = &batches[4];
    attended plain, told;
    neighbour n;
    watcher w;
    attended_open(&plain, &shape, b);
    CHECK_OK(rig_forward(&plain.r, b->tokens, &plain.data, NULL));
    attended_open(&told, &shape, b);
    neighbour_open(&n, &told.r);
    skim_step *step = NULL;
    CHECK_OK(rig_begin(&told.r, b->tokens, &step));
    for (uint32_t layer = 0; layer < shape.layers; layer++) {
        watch(&w, NEVER);
        w.delay_us = 1000;
        w.call_back = neighbour_step;
        w.call_back_user = &n;
        CHECK_OK(rig_append(step, layer, &told.r, &told.data));
        CHECK_OK(rig_attend(step, layer, &told.r, &told.data, &w.progress));
    }
    CHECK_OK(skim_step_end(step, NULL));
    CHECK_OK(skim_queue_finish(told.r.queue));
    CHECK_EQUAL(n.steps, shape.layers * reports_of(b));
    CHECK(rig_same_results(&plain.data, &told.data));
    neighbour_close(&n);
    attended_close(&plain);
    attended_close(&told);
}

static void a_report_of_prepare_may_run_steps_on_another_queue(void)
{
    rig r;
    neighbour n;
    watcher w;
    CHECK_OK(rig_open(&r, NULL, false));
    CHECK_OK(rig_add_cache(&r, many_layers()));
    neighbour_open(&n, &r);
    watch(&w, NEVER);
    w.call_back = neighbour_step;
    w.call_back_user = &n;
    CHECK_OK(skim_cache_prepare(r.cache, &w.progress));
    CHECK_EQUAL(n.steps, PREPARED);
    neighbour_close(&n);
    rig_close(&r);
}

static void progress_without_a_callback_tells_nobody(void)
{
    const rig_shape shape = long_shape();
    const batch *b = &batches[0];
    const skim_progress nobody = {NULL, NULL};
    attended plain, told;
    attended_open(&plain, &shape, b);
    attended_open(&told, &shape, b);
    CHECK_OK(skim_cache_prepare(told.r.cache, &nobody));
    CHECK_OK(rig_forward(&plain.r, b->tokens, &plain.data, NULL));
    CHECK_OK(rig_forward(&told.r, b->tokens, &told.data, &nobody));
    CHECK(rig_same_results(&plain.data, &told.data));
    attended_close(&plain);
    attended_close(&told);
}

const check_case progress_cases[] = {
    {"prepare can be stopped at any report and goes on from there",
     prepare_can_be_stopped_at_any_report_and_goes_on_from_there},
    {"a step prepares what a stopped prepare left", a_step_prepares_what_a_stopped_prepare_left},
    {"attend with progress gives the same bits", attend_with_progress_gives_the_same_bits},
    {"attend can be stopped at any report and repeated",
     attend_can_be_stopped_at_any_report_and_repeated},
    {"a step whose attend was stopped can be cancelled",
     a_step_whose_attend_was_stopped_can_be_cancelled},
    {"a slow report may run steps on another queue", a_slow_report_may_run_steps_on_another_queue},
    {"a report of prepare may run steps on another queue",
     a_report_of_prepare_may_run_steps_on_another_queue},
    {"progress without a callback tells nobody", progress_without_a_callback_tells_nobody},
    {NULL, NULL},
};
