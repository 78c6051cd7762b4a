// Sequences and steps over the null backend: what reaches a backend, and what a failure leaves.
#include "tests/unit/fixture.h"

#include "runtime/cache.h"

static skim_sequence *new_sequence(fixture *f)
{
    skim_sequence *sequence = NULL;
    assert_int_equal(skim_sequence_create(f->cache, &sequence), SKIM_OK);
    return sequence;
}

static uint32_t slots_free(const fixture *f)
{
    skim_cache_usage usage = {.size_of = sizeof usage};
    assert_int_equal(skim_cache_get_usage(f->cache, &usage), SKIM_OK);
    return usage.slots_free;
}

// The pool's whole state, to compare before and after a failure.
static void copy_pool(const fixture *f, uint32_t state[2 * CAPACITY / PAGE + 1])
{
    memcpy(state, f->cache->pool.free_slots, 2 * CAPACITY / PAGE * sizeof *state);
    state[2 * CAPACITY / PAGE] = f->cache->pool.free_count;
}

static void lengths_commit_at_end(void **state)
{
    fixture *f = *state;
    skim_sequence *sequence = new_sequence(f);
    skim_step *step = fixture_begin(f, sequence, 17);
    assert_int_equal(skim_sequence_length(sequence), 0);
    assert_int_equal(slots_free(f), CAPACITY / PAGE - 2);
    fixture_append_all(f, step);
    uint64_t point = 0;
    assert_int_equal(skim_step_end(step, &point), SKIM_OK);
    assert_int_equal(skim_sequence_length(sequence), 17);
    assert_int_equal(skim_queue_wait(f->queue, point, 0), SKIM_OK);
    assert_int_equal(skim_step_append(step, 0, NULL, NULL), SKIM_STATE);
}

static void cancel_leaves_all_as_it_was(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f), *b = new_sequence(f);
    fixture_grow(f, a, 20);
    fixture_grow(f, b, 16);
    static uint32_t before[2 * CAPACITY / PAGE + 1], after[2 * CAPACITY / PAGE + 1];
    copy_pool(f, before);
    skim_step_entry entries[2] = {{a, 30}, {b, 5}};
    skim_step *step;
    assert_int_equal(skim_step_begin(f->cache, entries, 2, &step), SKIM_OK);
    fixture_append_all(f, step);
    skim_step_cancel(step);
    copy_pool(f, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(skim_sequence_length(a), 20);
    assert_int_equal(skim_sequence_length(b), 16);
    // What the cancelled step may have left past the end goes with the next append.
    fixture_grow(f, a, 1);
    assert_int_equal(skim_sequence_length(a), 21);
    assert_int_equal(null_record_now.rows[0].flags & SKIM_ROW_CLEAR, SKIM_ROW_CLEAR);
    fixture_grow(f, a, 1);
    assert_int_equal(null_record_now.rows[0].flags & SKIM_ROW_CLEAR, 0);
}

static void begin_reserves_all_or_nothing(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f), *b = new_sequence(f);
    fixture_grow(f, a, 448);
    static uint32_t before[2 * CAPACITY / PAGE + 1], after[2 * CAPACITY / PAGE + 1];
    copy_pool(f, before);
    skim_step_entry entries[2] = {{a, 17}, {b, 33}};
    skim_step *step = NULL;
    assert_int_equal(skim_step_begin(f->cache, entries, 2, &step), SKIM_NO_SLOTS);
    assert_null(step);
    copy_pool(f, after);
    assert_memory_equal(before, after, sizeof before);
    char text[200];
    assert_true(skim_cache_error(f->cache, text, sizeof text) > 0);
    assert_string_equal(text, "too few free slots (4) for the step, which needs 5");
    entries[1].tokens = 32;
    assert_int_equal(skim_step_begin(f->cache, entries, 2, &step), SKIM_OK);
    assert_int_equal(slots_free(f), 0);
    skim_step_cancel(step);
}

// A capacity of 33 tokens is three pages, and one sequence can fill them.
static void the_last_page_of_a_capacity_can_be_filled(void **state)
{
    fixture *f = *state;
    skim_cache *cache;
    skim_sequence *sequence;
    f->options.capacity = 2 * PAGE + 1;
    assert_int_equal(skim_cache_create(f->queue, &f->options, &cache), SKIM_OK);
    assert_int_equal(skim_sequence_create(cache, &sequence), SKIM_OK);
    skim_step *step = NULL;
    skim_step_entry entry = {sequence, 3 * PAGE + 1};
    assert_int_equal(skim_step_begin(cache, &entry, 1, &step), SKIM_NO_SLOTS);
    entry.tokens = 3 * PAGE;
    assert_int_equal(skim_step_begin(cache, &entry, 1, &step), SKIM_OK);
    skim_cache_destroy(cache);
}

static void a_failing_upload_undoes_begin(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    for (uint32_t after = 0; after < 2; after++) { // the table's upload, then the rows'
        null_control_now.fail_entry = "upload";
        null_control_now.fail_after = after;
        null_control_now.fail_status = SKIM_FAILED;
        skim_step *step = NULL;
        skim_step_entry entry = {a, 40};
        assert_int_equal(skim_step_begin(f->cache, &entry, 1, &step), SKIM_FAILED);
        null_control_now.fail_entry = NULL;
        assert_int_equal(slots_free(f), CAPACITY / PAGE);
        assert_int_equal(skim_sequence_length(a), 0);
        assert_int_equal(skim_sequence_destroy(a), SKIM_OK); // it is not in a step
        a = new_sequence(f);
    }
}

static void a_failing_append_can_be_repeated(void **state)
{
    fixture *f = *state;
    skim_step *step = fixture_begin(f, new_sequence(f), 3);
    skim_tensor k = skim_tensor_host(f->k, SKIM_F32);
    null_control_now.fail_entry = "append";
    null_control_now.fail_status = SKIM_NO_MEMORY;
    assert_int_equal(skim_step_append(step, 1, &k, &k), SKIM_NO_MEMORY);
    null_control_now.fail_entry = NULL;
    assert_int_equal(skim_step_append(step, 1, &k, &k), SKIM_OK);
    skim_step_cancel(step);
}

static void one_step_is_open_at_a_time(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    skim_step *step = fixture_begin(f, a, 3), *second = NULL;
    skim_step_entry entry = {a, 1};
    assert_int_equal(skim_step_begin(f->cache, &entry, 1, &second), SKIM_STATE);
    assert_int_equal(skim_sequence_destroy(a), SKIM_STATE);
    skim_policy policy = skim_policy_defaults();
    assert_int_equal(skim_cache_set_policy(f->cache, SKIM_ALL_LAYERS, &policy), SKIM_STATE);
    assert_int_equal(skim_step_end(step, NULL), SKIM_STATE); // no layer was appended
    skim_step_cancel(step);
    assert_int_equal(skim_sequence_destroy(a), SKIM_OK);
}

static void attend_needs_the_layers_append(void **state)
{
    fixture *f = *state;
    skim_step *step = fixture_begin(f, new_sequence(f), 3);
    skim_step_attend_args args = fixture_attend(f);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_STATE);
    fixture_append_all(f, step);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK);
    skim_tensor k = skim_tensor_host(f->k, SKIM_F32);
    assert_int_equal(skim_step_append(step, 0, &k, &k), SKIM_STATE);
    skim_step_cancel(step);
}

static skim_step *sparse_step(fixture *f, skim_sequence *sequence)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = 64;
    policy.dense_layers = 1;
    assert_int_equal(skim_cache_set_policy(f->cache, SKIM_ALL_LAYERS, &policy), SKIM_OK);
    fixture_grow(f, sequence, 200);
    skim_step *step = fixture_begin(f, sequence, 1);
    fixture_append_all(f, step);
    return step;
}

static void a_decode_step_runs_the_verbs_in_order(void **state)
{
    fixture *f = *state;
    skim_step *step = sparse_step(f, new_sequence(f));
    skim_step_attend_args args = fixture_attend(f);
    memset(null_record_now.calls, 0, sizeof null_record_now.calls);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK); // a dense layer
    assert_int_equal(skim_step_attend(step, 1, &args), SKIM_OK);
    assert_string_equal(null_record_now.calls, "attend estimate select attend ");
    const skim_row *row = null_record_now.rows;
    assert_int_equal(row->length, 201);
    assert_int_equal(row->page_count, 13);
    assert_int_equal(row->select_count, 4);
    assert_int_equal(row->flags, 0);
    assert_int_equal(null_record_now.attend.select, SKIM_SELECT_GROUP);
    assert_int_equal(null_record_now.select.combine, SKIM_COMBINE_SOFTMAX_MAX);
    assert_true(null_record_now.attend.scale == 0.125f);
    skim_step_cancel(step);
}

static void a_call_can_bring_its_own_policy(void **state)
{
    fixture *f = *state;
    skim_step *step = sparse_step(f, new_sequence(f));
    skim_step_attend_args args = fixture_attend(f);
    skim_policy policy = skim_policy_defaults();
    policy.dense_layers = 0;
    policy.budget = 100;
    policy.select = SKIM_SELECT_HEAD;
    args.policy = &policy;
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK);
    assert_int_equal(null_record_now.rows[0].select_count, 6);
    assert_int_equal(null_record_now.attend.select, SKIM_SELECT_HEAD);
    args.policy = NULL;
    assert_int_equal(skim_step_attend(step, 1, &args), SKIM_OK);
    assert_int_equal(null_record_now.rows[0].select_count, 4);
    skim_step_cancel(step);
}

static void a_layer_can_have_its_own_policy(void **state)
{
    fixture *f = *state;
    skim_policy policy = skim_policy_defaults();
    policy.dense_layers = 0;
    policy.budget = 32;
    assert_int_equal(skim_cache_set_policy(f->cache, 2, &policy), SKIM_OK);
    skim_sequence *sequence = new_sequence(f);
    fixture_grow(f, sequence, 200);
    skim_step *step = fixture_begin(f, sequence, 1);
    fixture_append_all(f, step);
    skim_step_attend_args args = fixture_attend(f);
    assert_int_equal(skim_step_attend(step, 2, &args), SKIM_OK);
    assert_int_equal(null_record_now.rows[0].select_count, 2);
    skim_step_report report = {.size_of = sizeof report};
    assert_int_equal(skim_step_get_report(step, 2, &report), SKIM_OK);
    assert_int_equal(report.sparse_sequences, 1);
    assert_int_equal(report.pages_total, 2 * 13);
    assert_int_equal(report.pages_read, 2 * 2);
    assert_int_equal(report.bounds_bytes, 13 * 2 * 2 * 64 * 4);
    assert_int_equal(report.page_bytes, 2 * 2 * 16 * 64 * 2 * 4);
    assert_int_equal(report.dense_bytes, 13 * 2 * 16 * 64 * 2 * 4);
    assert_int_equal(skim_step_attend(step, 1, &args), SKIM_OK);
    assert_int_equal(skim_step_get_report(step, 1, &report), SKIM_OK);
    assert_int_equal(report.dense_sequences, 1);
    assert_int_equal(report.bounds_bytes, 0);
    skim_step_cancel(step);
    assert_int_equal(skim_cache_set_policy(f->cache, 2, NULL), SKIM_OK);
    skim_policy back = {.size_of = sizeof back};
    assert_int_equal(skim_cache_get_policy(f->cache, 2, &back), SKIM_OK);
    assert_int_equal(back.budget, 1024);
}

static void a_fused_decode_takes_the_place_of_the_three(void **state)
{
    (void)state;
    static fixture f;
    memset(&f, 0, sizeof f);
    null_reset();
    null_control_now.unified = false;
    fixture_open(&f, &null_fused_backend);
    assert_int_equal(skim_cache_create(f.queue, &f.options, &f.cache), SKIM_OK);
    skim_step *step = sparse_step(&f, new_sequence(&f));
    skim_step_attend_args args = fixture_attend(&f);
    memset(null_record_now.calls, 0, sizeof null_record_now.calls);
    assert_int_equal(skim_step_attend(step, 1, &args), SKIM_OK);
    // q goes up, out comes down: this device does not read host memory.
    assert_string_equal(null_record_now.calls, "upload decode download ");
    assert_ptr_equal(null_record_now.estimate.q.buffer, null_record_now.attend.q.buffer);
    assert_true(null_record_now.estimate.q.offset == null_record_now.attend.q.offset);
    skim_step_cancel(step);
    fixture_close(&f);
}

static void pages_of_a_dense_sequence_are_all_of_them(void **state)
{
    fixture *f = *state;
    skim_step *step = sparse_step(f, new_sequence(f));
    uint32_t pages[32], count = 0;
    assert_int_equal(skim_step_pages(step, 0, 0, pages, 32, &count), SKIM_STATE);
    skim_step_attend_args args = fixture_attend(f);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK);
    assert_int_equal(skim_step_pages(step, 0, 3, pages, 12, &count), SKIM_INVALID);
    assert_int_equal(count, 13);
    assert_int_equal(skim_step_pages(step, 0, 3, pages, 13, &count), SKIM_OK);
    assert_int_equal(pages[12], 12);
    assert_int_equal(skim_step_pages(step, 1, 0, pages, 32, &count), SKIM_INVALID);
    assert_int_equal(skim_step_pages(step, 0, 4, pages, 32, &count), SKIM_INVALID);
    skim_step_cancel(step);
}

static void a_decode_step_allocates_nothing(void **state)
{
    fixture *f = *state;
    skim_sequence *sequence = new_sequence(f);
    skim_step *step = sparse_step(f, sequence);
    skim_step_cancel(step);
    uint64_t bytes = null_record_now.bytes;
    memset(null_record_now.calls, 0, sizeof null_record_now.calls);
    for (int token = 0; token < 40; token++) {
        step = fixture_begin(f, sequence, 1);
        fixture_append_all(f, step);
        skim_step_attend_args args = fixture_attend(f);
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            assert_int_equal(skim_step_attend(step, layer, &args), SKIM_OK);
        assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
    }
    assert_int_equal(null_record_now.bytes, bytes);
    assert_null(strstr(null_record_now.calls, "buffer_create"));
    assert_null(strstr(null_record_now.calls, "prepare"));
}

static void device_loss_is_sticky_and_destroying_still_works(void **state)
{
    fixture *f = *state;
    skim_sequence *sequence = new_sequence(f);
    skim_step *step = fixture_begin(f, sequence, 3);
    skim_tensor k = skim_tensor_host(f->k, SKIM_F32);
    null_control_now.fail_entry = "append";
    null_control_now.fail_status = SKIM_DEVICE_LOST;
    null_control_now.lose = true;
    assert_int_equal(skim_step_append(step, 0, &k, &k), SKIM_DEVICE_LOST);
    null_control_now.fail_entry = NULL;
    assert_int_equal(skim_step_append(step, 0, &k, &k), SKIM_DEVICE_LOST);
    assert_int_equal(skim_queue_submit(f->queue, NULL), SKIM_DEVICE_LOST);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_DEVICE_LOST);
    skim_buffer *buffer = NULL;
    assert_int_equal(skim_buffer_create(f->device, 64, &buffer), SKIM_DEVICE_LOST);
    skim_step_cancel(step);
    assert_int_equal(skim_sequence_destroy(sequence), SKIM_OK);
}

#define FRONT(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRONT(lengths_commit_at_end),
        FRONT(cancel_leaves_all_as_it_was),
        FRONT(begin_reserves_all_or_nothing),
        FRONT(the_last_page_of_a_capacity_can_be_filled),
        FRONT(a_failing_upload_undoes_begin),
        FRONT(a_failing_append_can_be_repeated),
        FRONT(one_step_is_open_at_a_time),
        FRONT(attend_needs_the_layers_append),
        FRONT(a_decode_step_runs_the_verbs_in_order),
        FRONT(a_call_can_bring_its_own_policy),
        FRONT(a_layer_can_have_its_own_policy),
        cmocka_unit_test(a_fused_decode_takes_the_place_of_the_three),
        FRONT(pages_of_a_dense_sequence_are_all_of_them),
        FRONT(a_decode_step_allocates_nothing),
        FRONT(device_loss_is_sticky_and_destroying_still_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
