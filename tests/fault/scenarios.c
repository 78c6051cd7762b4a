#include "tests/fault/scenarios.h"

#include "tests/fault/data.h"

#include <string.h>

// --- life

// A world that is as bare as can be does all of its own making under faults; so does a second cache
// of other options, a sequence more than there may be, and what prepare does when it is cancelled.
static int stop_at_two(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)total;
    return done == 2;
}

static skim_status make_other_cache(world *w)
{
    const skim_cache_options options = {.size_of = sizeof options,
                                        .layers = w->layers,
                                        .layer_count = WORLD_LAYERS,
                                        .page_size = 16,
                                        .capacity = 256,
                                        .max_sequences = 2,
                                        .max_step_tokens = 32,
                                        .bounds = SKIM_BOUNDS_MEANSTD};
    DO(w, ON_QUEUE, skim_cache_create(w->queue, &options, &w->other_cache));
    return SKIM_OK;
}

static skim_status create_and_destroy(world *w)
{
    DO(w, ON_DEVICE, skim_buffer_create(w->device, 1000, &w->buffers[0]));
    PASS(world_create_sequence(w, 0));
    PASS(world_create_sequence(w, 1));
    PASS(world_destroy_sequence(w, 0));
    PASS(world_create_sequence(w, 0));
    PASS(make_other_cache(w));
    skim_cache_destroy(w->other_cache);
    w->other_cache = NULL;
    PASS(make_other_cache(w));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 9}}}));
    return world_decode_all(w);
}

static skim_status prepare(world *w)
{
    PASS(make_other_cache(w));
    const skim_progress progress = {stop_at_two, NULL};
    // A cancelled one: SKIM_CANCELLED is no failure that DO knows.
    skim_status status;
    do {
        world_before(w, ON_NONE, "skim_cache_prepare, to be cancelled");
        status = skim_cache_prepare(w->other_cache, &progress);
        if (status == SKIM_CANCELLED)
            status = SKIM_OK;
    } while (world_again(w, status));
    PASS(status);
    DO(w, ON_NONE, skim_cache_prepare(w->other_cache, NULL));
    skim_sequence *sequence;
    skim_step *step;
    DO(w, ON_NONE, skim_sequence_create(w->other_cache, &sequence));
    const skim_step_entry entry = {sequence, 20};
    DO(w, ON_NONE, skim_step_begin(w->other_cache, &entry, 1, &step));
    skim_step_cancel(step);
    return world_decode_all(w);
}

// begin prepares a cache that nobody prepared; the queue already has work of another.
static skim_status begin_prepares(world *w)
{
    PASS(world_run_step(w, &(world_step){.entries = {{0, 3}}, .unwaited = true}));
    PASS(make_other_cache(w));
    skim_sequence *sequence;
    skim_step *step;
    DO(w, ON_NONE, skim_sequence_create(w->other_cache, &sequence));
    const skim_step_entry entry = {sequence, 20};
    DO(w, ON_NONE, skim_step_begin(w->other_cache, &entry, 1, &step));
    PASS(world_decode_all(w));
    skim_step_cancel(step);
    return world_decode_all(w);
}

// A cache goes with work recorded and submitted; another takes its place on the same queue.
static skim_status destroy_with_an_open_step(world *w)
{
    PASS(make_other_cache(w));
    skim_sequence *sequence;
    skim_step *step;
    DO(w, ON_NONE, skim_sequence_create(w->other_cache, &sequence));
    const skim_step_entry entry = {sequence, 20};
    DO(w, ON_NONE, skim_step_begin(w->other_cache, &entry, 1, &step));
    static float zero[20 * 2 * 64];
    for (uint32_t i = 0; i < WORLD_LAYERS; i++) {
        const skim_tensor tensor = skim_tensor_host(zero, w->layers[i].type);
        DO(w, ON_NONE, skim_step_append(step, i, &tensor, &tensor));
        if (i == 1)
            DO(w, ON_QUEUE, skim_queue_submit(w->queue, NULL));
        if (fault_now.plan.kind == FAULT_WORK && step->failed)
            break;
    }
    skim_cache_destroy(w->other_cache);
    w->other_cache = NULL;
    if (fault_now.plan.kind == FAULT_WORK)
        PASS(world_heal(w));
    PASS(make_other_cache(w));
    return world_decode_all(w);
}

// --- steps

static skim_status prefill(world *w)
{
    PASS(world_create_sequence(w, 0));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 40}}}));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 17}}}));
    return world_decode_all(w);
}

// So many tokens that staging is full, and append has to wait for what was submitted.
static skim_status prefill_without_waiting(world *w)
{
    PASS(world_create_sequence(w, 0));
    PASS(world_create_sequence(w, 1));
    for (uint32_t i = 0; i < 5; i++)
        PASS(world_run_step(w, &(world_step){.entries = {{i % 2, 64}}, .unwaited = true}));
    return world_decode_all(w);
}

static skim_status decode_sparse(world *w)
{
    for (uint32_t i = 0; i < 4; i++)
        PASS(world_decode_all(w));
    return SKIM_OK;
}

static skim_status ragged_batch(world *w)
{
    PASS(world_create_sequence(w, 1));
    PASS(world_create_sequence(w, 2));
    PASS(world_run_step(w, &(world_step){.entries = {{1, 20}, {0, 1}, {2, 7}}}));
    PASS(world_run_step(w, &(world_step){.entries = {{2, 30}, {1, 1}, {0, 12}}}));
    return world_decode_all(w);
}

static skim_status fork_and_append(world *w)
{
    PASS(world_fork(w, 0, 1));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}, {1, 1}}}));
    PASS(world_fork(w, 1, 2));
    PASS(world_run_step(w, &(world_step){.entries = {{1, 5}, {2, 2}}}));
    PASS(world_destroy_sequence(w, 0));
    PASS(world_fork(w, 2, 3));
    PASS(world_destroy_sequence(w, 2));
    return world_decode_all(w);
}

static skim_status truncate_and_append(world *w)
{
    PASS(world_truncate(w, 0, 45));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}}}));
    PASS(world_truncate(w, 0, 40));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 11}}, .unwaited = true}));
    PASS(world_truncate(w, 0, 43));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 2}}}));
    PASS(world_truncate(w, 0, 0));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 33}}}));
    return world_decode_all(w);
}

static skim_status reserve_then_steps(world *w)
{
    PASS(world_fork(w, 0, 1));
    PASS(world_reserve(w, 0, 100)); // copies the shared last page
    PASS(world_reserve(w, 1, 70));
    for (uint32_t i = 0; i < 2; i++)
        PASS(world_run_step(w, &(world_step){.entries = {{0, 3}, {1, 1}}}));
    PASS(world_truncate(w, 0, 41));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}}, .progress = true}));
    PASS(world_reserve(w, 0, 0));
    return world_decode_all(w);
}

static skim_status cancel_in_the_middle(world *w)
{
    PASS(world_fork(w, 0, 1));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 12}}, .cancel = true}));
    PASS(world_run_step(w, &(world_step){.entries = {{1, 1}, {0, 1}}, .cancel = true}));
    PASS(world_run_step(
        w, &(world_step){.entries = {{1, 1}, {0, 1}}, .halfway = true, .cancel = true}));
    return world_decode_all(w);
}

static skim_status a_policy_of_its_own(world *w)
{
    skim_policy policy = w->policy;
    policy.budget = 16;
    policy.dense_layers = 0;
    policy.select = SKIM_SELECT_HEAD;
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}}, .policy = &policy, .pages = true}));
    policy.dense_layers = WORLD_LAYERS;
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}}, .policy = &policy, .pages = true}));
    return world_decode_all(w);
}

static skim_status attend_in_pieces(world *w)
{
    PASS(world_create_sequence(w, 0));
    PASS(world_create_sequence(w, 1));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 530}, {1, 3}}, .progress = true}));
    PASS(world_run_step(w, &(world_step){.entries = {{1, 1}, {0, 1}}, .progress = true}));
    return world_decode_all(w);
}

static skim_status wait_within_a_step(world *w)
{
    PASS(world_create_sequence(w, 1));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}, {1, 10}}, .halfway = true}));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}, {1, 1}}, .halfway = true}));
    return world_decode_all(w);
}

static skim_status set_policy(world *w)
{
    skim_policy policy = w->policy, found = {.size_of = sizeof found};
    policy.budget = 16;
    policy.sink_pages = 1;
    DO(w, ON_CACHE, skim_cache_set_policy(w->cache, 2, &policy));
    PASS(world_decode_all(w));
    policy.combine = SKIM_COMBINE_MAX;
    DO(w, ON_CACHE, skim_cache_set_policy(w->cache, SKIM_ALL_LAYERS, &policy));
    DO(w, ON_CACHE, skim_cache_set_policy(w->cache, 1, &w->policy));
    PASS(world_decode_all(w));
    DO(w, ON_CACHE, skim_cache_set_policy(w->cache, 1, NULL));
    DO(w, ON_CACHE, skim_cache_get_policy(w->cache, 1, &found));
    world_result(w, &found, sizeof found);
    return world_decode_all(w);
}

// The first append freezes the centre: what failed or was cancelled must not have.
static skim_status i8_bounds(world *w)
{
    PASS(world_create_sequence(w, 0));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 12}}, .cancel = true}));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 40}}}));
    PASS(world_fork(w, 0, 1));
    PASS(world_run_step(w, &(world_step){.entries = {{1, 9}, {0, 1}}}));
    PASS(world_truncate(w, 0, 29));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 20}}, .unwaited = true}));
    return world_decode_all(w);
}

// --- tier 2

enum { VERB_PAGES = 6, VERB_TOKENS = 45, VERB_HEADS = 2, VERB_DIM = 32, VERB_PAGE = 8 };

typedef struct verb_data {
    float k[VERB_TOKENS * VERB_HEADS * VERB_DIM], v[VERB_TOKENS * VERB_HEADS * VERB_DIM];
    float q[VERB_HEADS * VERB_DIM], out[VERB_HEADS * VERB_DIM], lse[VERB_HEADS];
    uint32_t tokens[VERB_TOKENS], table[VERB_PAGES];
    uint32_t lists[VERB_HEADS * VERB_PAGES];
    float scores[VERB_HEADS * VERB_PAGES];
    float filled[64];
} verb_data;

static verb_data verb;

static void fill_verb_data(void)
{
    for (uint32_t t = 0; t < VERB_TOKENS; t++)
        verb.tokens[t] = 1000 + t;
    for (uint32_t p = 0; p < VERB_PAGES; p++)
        verb.table[p] = (p * 5 + 3) % VERB_PAGES;
    data_fill(verb.k, SKIM_F32, DATA_KEY, verb.tokens, VERB_TOKENS, 0, VERB_HEADS, VERB_DIM);
    data_fill(verb.v, SKIM_F32, DATA_VALUE, verb.tokens, VERB_TOKENS, 0, VERB_HEADS, VERB_DIM);
    data_fill(verb.q, SKIM_F32, DATA_QUERY, verb.tokens + VERB_TOKENS - 1, 1, 0, VERB_HEADS,
              VERB_DIM);
}

enum { PAGES_BUFFER, BOUNDS_BUFFER, SCORES_BUFFER, LISTS_BUFFER, SPARE_BUFFER };

static skim_status make_verb_buffers(world *w, const skim_shape *shape)
{
    uint64_t bounds = 0;
    DO(w, ON_DEVICE, skim_bounds_size(w->device, shape, &bounds));
    const uint64_t pages = (uint64_t)VERB_PAGES * VERB_HEADS * 2 * VERB_PAGE * VERB_DIM * 4;
    const uint64_t sizes[] = {pages, bounds, sizeof verb.scores, sizeof verb.lists, 512};
    for (int i = 0; i <= SPARE_BUFFER; i++)
        DO(w, ON_DEVICE, skim_buffer_create(w->device, sizes[i], &w->buffers[i]));
    DO(w, ON_QUEUE, skim_queue_prepare(w->queue, shape));
    return SKIM_OK;
}

static skim_status record_verbs(world *w, const skim_shape *shape)
{
    skim_row row = {.length = VERB_TOKENS,
                    .query_count = VERB_TOKENS,
                    .page_count = VERB_PAGES,
                    .select_count = 3,
                    .forced_last = 1};
    const uint64_t head = (uint64_t)2 * VERB_PAGE * VERB_DIM;
    const skim_paged keys = {w->buffers[PAGES_BUFFER], 0, VERB_HEADS * head, head, VERB_DIM};
    skim_paged paged_values = keys;
    paged_values.offset = (uint64_t)VERB_PAGE * VERB_DIM * 4;
    const skim_append_args append = {.size_of = sizeof append,
                                     .shape = shape,
                                     .rows = skim_tensor_host(&row, SKIM_U32),
                                     .row_count = 1,
                                     .token_count = VERB_TOKENS,
                                     .table = skim_tensor_host(verb.table, SKIM_U32),
                                     .table_count = VERB_PAGES,
                                     .k = skim_tensor_host(verb.k, SKIM_F32),
                                     .v = skim_tensor_host(verb.v, SKIM_F32),
                                     .keys = keys,
                                     .values = paged_values,
                                     .bounds = w->buffers[BOUNDS_BUFFER]};
    DO(w, ON_QUEUE, skim_append(w->queue, &append));
    row.query_count = 1;
    const skim_estimate_args estimate = {.size_of = sizeof estimate,
                                         .shape = shape,
                                         .rows = append.rows,
                                         .row_count = 1,
                                         .token_count = 1,
                                         .table = append.table,
                                         .table_count = VERB_PAGES,
                                         .q = skim_tensor_host(verb.q, SKIM_F32),
                                         .bounds = append.bounds,
                                         .spread = 1.0f,
                                         .scores = w->buffers[SCORES_BUFFER],
                                         .score_stride = VERB_PAGES};
    DO(w, ON_QUEUE, skim_estimate(w->queue, &estimate));
    const skim_select_args select = {.size_of = sizeof select,
                                     .shape = shape,
                                     .rows = append.rows,
                                     .row_count = 1,
                                     .scores = estimate.scores,
                                     .score_stride = VERB_PAGES,
                                     .lists = w->buffers[LISTS_BUFFER],
                                     .list_stride = VERB_PAGES};
    DO(w, ON_QUEUE, skim_select(w->queue, &select));
    const skim_attend_args attend = {.size_of = sizeof attend,
                                     .shape = shape,
                                     .rows = append.rows,
                                     .row_count = 1,
                                     .token_count = 1,
                                     .table = append.table,
                                     .table_count = VERB_PAGES,
                                     .q = estimate.q,
                                     .keys = keys,
                                     .values = paged_values,
                                     .lists = select.lists,
                                     .list_stride = VERB_PAGES,
                                     .out = skim_tensor_host(verb.out, SKIM_F32),
                                     .lse = skim_tensor_host(verb.lse, SKIM_F32)};
    DO(w, ON_QUEUE, skim_attend(w->queue, &attend));
    return SKIM_OK;
}

static skim_status record_transfers(world *w)
{
    skim_buffer *spare = w->buffers[SPARE_BUFFER];
    DO(w, ON_QUEUE, skim_queue_upload(w->queue, spare, 0, verb.k, 256));
    DO(w, ON_QUEUE, skim_queue_copy(w->queue, spare, 0, spare, 256, 128));
    DO(w, ON_QUEUE, skim_queue_zero(w->queue, spare, 16, 16));
    DO(w, ON_QUEUE, skim_queue_copy(w->queue, spare, 0, spare, 384, 128));
    DO(w, ON_QUEUE, skim_queue_download(w->queue, spare, 256, verb.filled, 256));
    DO(w, ON_QUEUE,
       skim_queue_download(w->queue, w->buffers[LISTS_BUFFER], 0, verb.lists, sizeof verb.lists));
    DO(w, ON_QUEUE,
       skim_queue_download(w->queue, w->buffers[SCORES_BUFFER], 0, verb.scores,
                           sizeof verb.scores));
    return SKIM_OK;
}

static void verify_verbs(world *w)
{
    skim_layer layer = {.q_heads = VERB_HEADS, .kv_heads = VERB_HEADS, .key_dim = VERB_DIM};
    for (uint32_t h = 0; h < VERB_HEADS; h++) {
        double wanted[VERB_DIM];
        data_attend(&layer, 0, verb.tokens, VERB_TOKENS, VERB_PAGE, h,
                    verb.lists + (size_t)h * VERB_PAGES, 3, wanted);
        for (uint32_t d = 0; d < VERB_DIM; d++) {
            double difference = (double)verb.out[h * VERB_DIM + d] - wanted[d];
            if (!(difference < 2e-4 && difference > -2e-4))
                world_problem(w, "out[%u] of head %u is off by %g", d, h, difference);
        }
    }
}

static skim_status run_verbs(world *w, const skim_shape *shape)
{
    memset(verb.out, 0xff, sizeof verb.out);
    PASS(record_verbs(w, shape));
    DO(w, ON_QUEUE, skim_queue_mark(w->queue, 3));
    PASS(record_transfers(w));
    DO(w, ON_QUEUE, skim_queue_finish(w->queue));
    uint64_t time;
    DO(w, ON_QUEUE, skim_queue_mark_time(w->queue, 3, &time));
    return SKIM_OK;
}

static skim_status tier_two(world *w)
{
    const skim_shape shape = {.size_of = sizeof shape,
                              .q_heads = VERB_HEADS,
                              .kv_heads = VERB_HEADS,
                              .key_dim = VERB_DIM,
                              .page_size = VERB_PAGE,
                              .type = SKIM_F32,
                              .slots = VERB_PAGES,
                              .max_rows = 1,
                              .max_tokens = 48,
                              .max_pages = VERB_PAGES};
    fill_verb_data();
    PASS(make_verb_buffers(w, &shape));
    // Failed work is done again as a whole.
    skim_status status = SKIM_FAILED;
    for (int i = 0; i < 4 && status == SKIM_FAILED && !w->problem[0]; i++) {
        w->nested++;
        status = run_verbs(w, &shape);
        w->nested--;
    }
    PASS(status);
    if (w->verify)
        verify_verbs(w);
    world_result(w, verb.out, sizeof verb.out);
    world_result(w, verb.lse, sizeof verb.lse);
    for (uint32_t h = 0; h < VERB_HEADS; h++)
        world_result(w, verb.lists + (size_t)h * VERB_PAGES, 3 * sizeof *verb.lists);
    world_result(w, verb.filled, sizeof verb.filled);
    return SKIM_OK;
}

const scenario fault_scenarios[] = {
    {.name = "create and destroy everything",
     .run = create_and_destroy,
     .options = {.prefill = 0},
     .fresh = true},
    {.name = "prepare", .run = prepare, .options = {.prefill = 20}},
    {.name = "begin prepares", .run = begin_prepares, .options = {.prefill = 20}},
    {.name = "destroy with a step open",
     .run = destroy_with_an_open_step,
     .options = {.prefill = 30}},
    {.name = "prefill", .run = prefill, .options = {.step_tokens = 48}},
    {.name = "prefill without waiting",
     .run = prefill_without_waiting,
     .options = {.capacity = 640}},
    {.name = "decode sparse", .run = decode_sparse, .options = {.prefill = 61}},
    {.name = "ragged batch", .run = ragged_batch, .options = {.prefill = 50}},
    {.name = "fork and append", .run = fork_and_append, .options = {.prefill = 45}},
    {.name = "truncate and append", .run = truncate_and_append, .options = {.prefill = 60}},
    {.name = "reserve, then steps", .run = reserve_then_steps, .options = {.prefill = 37}},
    {.name = "cancel in the middle", .run = cancel_in_the_middle, .options = {.prefill = 45}},
    {.name = "a policy of its own", .run = a_policy_of_its_own, .options = {.prefill = 60}},
    {.name = "attend in pieces",
     .run = attend_in_pieces,
     .options = {.capacity = 700, .step_tokens = 640}},
    {.name = "wait within a step", .run = wait_within_a_step, .options = {.prefill = 50}},
    {.name = "set policy", .run = set_policy, .options = {.prefill = 60}},
    {.name = "i8 bounds", .run = i8_bounds, .options = {.bounds_type = SKIM_BOUNDS_I8}},
    {.name = "tier 2", .run = tier_two, .options = {.prefill = 0}},
    {.name = "snapshot save", .run = fault_snapshot_save, .options = {.prefill = 50}},
    {.name = "snapshot load", .run = fault_snapshot_load, .options = {.prefill = 50}},
    {.name = "snapshot in pieces", .run = fault_snapshot_in_pieces, .options = {.prefill = 45}},
};
const uint32_t fault_scenario_count = sizeof fault_scenarios / sizeof *fault_scenarios;
