// Sequences over the null backend: which slots they hold, what is copied and when, and what failed
// work leaves; and, on the CPU, what memory still says.
#include "tests/unit/fixture.h"

#include "runtime/cache.h"

#include <stdlib.h>

static skim_sequence *new_sequence(fixture *f)
{
    skim_sequence *sequence = NULL;
    assert_int_equal(skim_sequence_create(f->cache, &sequence), SKIM_OK);
    return sequence;
}

static skim_sequence *forked(skim_sequence *source)
{
    skim_sequence *fork = NULL;
    assert_int_equal(skim_sequence_fork(source, &fork), SKIM_OK);
    return fork;
}

static skim_cache_usage usage_of(const fixture *f)
{
    skim_cache_usage usage = {.size_of = sizeof usage};
    assert_int_equal(skim_cache_get_usage(f->cache, &usage), SKIM_OK);
    return usage;
}

static skim_sequence_info info_of(const skim_sequence *sequence)
{
    skim_sequence_info info = {.size_of = sizeof info};
    assert_int_equal(skim_sequence_get_info(sequence, &info), SKIM_OK);
    return info;
}

static uint32_t calls_of(const char *entry)
{
    uint32_t count = 0;
    size_t length = strlen(entry);
    for (const char *at = null_record_now.calls; (at = strstr(at, entry)); at += length)
        count += (at == null_record_now.calls || at[-1] == ' ') && at[length] == ' ';
    return count;
}

// The pool's whole state, to compare before and after.
static void copy_pool(const fixture *f, uint32_t state[2 * CAPACITY / PAGE + 1])
{
    memcpy(state, f->cache->pool.free_slots, 2 * CAPACITY / PAGE * sizeof *state);
    state[2 * CAPACITY / PAGE] = f->cache->pool.free_count;
}

static void fork_truncate_and_destroy_record_nothing(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 100);
    uint32_t calls = null_record_now.count;
    skim_sequence *b = forked(a);
    assert_int_equal(usage_of(f).slots_shared, 7);
    assert_int_equal(usage_of(f).slots_free, CAPACITY / PAGE - 7);
    assert_int_equal(info_of(b).slots, 7);
    assert_int_equal(info_of(b).slots_shared, 7);
    assert_int_equal(skim_sequence_truncate(a, 33), SKIM_OK);
    assert_int_equal(usage_of(f).slots_shared, 3);
    assert_int_equal(skim_sequence_destroy(b), SKIM_OK);
    assert_int_equal(usage_of(f).slots_shared, 0);
    assert_int_equal(usage_of(f).slots_free, CAPACITY / PAGE - 3);
    assert_int_equal(null_record_now.count, calls);
}

static void a_shared_page_is_copied_by_who_writes_first(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a);
    uint32_t copies = calls_of("copy");
    fixture_grow(f, b, 1);
    assert_int_equal(calls_of("copy"), copies + LAYERS);
    assert_int_equal(null_record_now.rows[0].flags & SKIM_ROW_CLEAR, SKIM_ROW_CLEAR);
    assert_int_equal(usage_of(f).slots_shared, 1);
    // a is alone in its last page now, and b in the copy.
    fixture_grow(f, a, 1);
    fixture_grow(f, b, 1);
    assert_int_equal(calls_of("copy"), copies + LAYERS);
    // A page that is full is never copied.
    assert_int_equal(skim_sequence_truncate(b, 16), SKIM_OK);
    fixture_grow(f, b, 1);
    assert_int_equal(calls_of("copy"), copies + LAYERS);
    assert_int_equal(usage_of(f).slots_shared, 1);
}

static void cancel_goes_back_to_the_shared_page(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a);
    static uint32_t before[2 * CAPACITY / PAGE + 1], after[2 * CAPACITY / PAGE + 1];
    uint32_t slot = b->slots[1];
    copy_pool(f, before);
    skim_step_entry entries[2] = {{b, 1}, {a, 15}};
    skim_step *step;
    assert_int_equal(skim_step_begin(f->cache, entries, 2, &step), SKIM_OK);
    assert_int_equal(b->slots[1], slot);
    assert_int_not_equal(a->slots[1], b->slots[1]);
    // A sequence of an open step stays as it is.
    skim_sequence *fork = NULL;
    assert_int_equal(skim_sequence_fork(b, &fork), SKIM_STATE);
    assert_int_equal(skim_sequence_truncate(b, 1), SKIM_STATE);
    assert_int_equal(skim_sequence_reserve(b, 100), SKIM_STATE);
    assert_int_equal(skim_sequence_destroy(b), SKIM_STATE);
    fixture_append_all(f, step);
    skim_step_cancel(step);
    copy_pool(f, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(b->slots[1], slot);
    assert_int_equal(a->slots[1], slot);
    // The device's table is put right by the next step.
    uint32_t uploads = calls_of("upload");
    fixture_grow(f, a, 1);
    assert_int_equal(calls_of("upload"), uploads + 2);
    assert_int_equal(a->uploaded, 2);
}

// Whoever adds the last tokens of those who share a page needs no copy; the longest does it, since
// what it adds is past all others' ends.
static void the_longest_stays_in_a_page_that_all_others_leave(void **state)
{
    fixture *f = *state;
    enum { LAST = CAPACITY / PAGE - 3, LENGTH = LAST * PAGE + 4 };
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, LENGTH);
    skim_sequence *b = forked(a), *c = forked(a);
    assert_int_equal(skim_sequence_truncate(b, LENGTH - 2), SKIM_OK);
    assert_int_equal(usage_of(f).slots_free, 2);
    uint32_t slot = a->slots[LAST], copies = calls_of("copy");
    static uint32_t before[2 * CAPACITY / PAGE + 1], after[2 * CAPACITY / PAGE + 1];
    copy_pool(f, before);
    const skim_step_entry all[] = {{b, 1}, {a, 1}, {c, 1}};
    for (int tries = 0; tries < 3; tries++) { // what is cancelled can be begun again
        skim_step *step;
        assert_int_equal(skim_step_begin(f->cache, all, 3, &step), SKIM_OK);
        assert_int_equal(calls_of("copy"), copies + 2 * LAYERS);
        copies = calls_of("copy");
        assert_int_equal(a->slots[LAST], slot);
        assert_int_not_equal(b->slots[LAST], slot);
        assert_int_not_equal(c->slots[LAST], slot);
        fixture_append_all(f, step);
        if (tries == 2) {
            assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
            break;
        }
        skim_step_cancel(step);
        copy_pool(f, after);
        assert_memory_equal(before, after, sizeof before);
        assert_true(b->slots[LAST] == slot && c->slots[LAST] == slot);
    }
    assert_int_equal(usage_of(f).slots_free, 0);
    assert_int_equal(usage_of(f).slots_shared, LAST);
    assert_int_equal(f->cache->pool.references[slot], 1);
}

static void a_page_that_others_hold_is_left_by_all(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a), *c = forked(a);
    uint32_t slot = a->slots[1], copies = calls_of("copy");
    const skim_step_entry two[] = {{a, 1}, {b, 1}};
    skim_step *step;
    assert_int_equal(skim_step_begin(f->cache, two, 2, &step), SKIM_OK);
    assert_int_equal(calls_of("copy"), copies + 2 * LAYERS);
    // The holder that keeps the page now goes; cancel goes back to it all the same.
    assert_int_equal(skim_sequence_destroy(c), SKIM_OK);
    skim_step_cancel(step);
    assert_true(a->slots[1] == slot && b->slots[1] == slot);
    assert_int_equal(f->cache->pool.references[slot], 2);
    // A holder that has the page in full is one too, in the step or not.
    fixture_grow(f, a, 20);
    skim_sequence *d = forked(a);
    assert_int_equal(skim_sequence_truncate(d, 20), SKIM_OK);
    copies = calls_of("copy");
    const skim_step_entry uneven[] = {{d, 1}, {a, 1}};
    slot = d->slots[1];
    assert_int_equal(skim_step_begin(f->cache, uneven, 2, &step), SKIM_OK);
    assert_int_not_equal(d->slots[1], slot);
    assert_int_equal(calls_of("copy"), copies + LAYERS);
    skim_step_cancel(step);
}

static void a_failing_copy_undoes_begin(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a);
    static uint32_t before[2 * CAPACITY / PAGE + 1], after[2 * CAPACITY / PAGE + 1];
    copy_pool(f, before);
    skim_step_entry entry = {b, 30};
    skim_step *step = NULL;
    null_control_now.fail_entry = "copy";
    null_control_now.fail_after = 1;
    null_control_now.fail_status = SKIM_NO_MEMORY;
    assert_int_equal(skim_step_begin(f->cache, &entry, 1, &step), SKIM_NO_MEMORY);
    null_control_now.fail_entry = NULL;
    copy_pool(f, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(info_of(b).slots_shared, 2);
    fixture_grow(f, b, 30);
}

static void a_copy_needs_a_slot(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, CAPACITY - PAGE - 3);
    skim_sequence *b = forked(a), *c = new_sequence(f);
    fixture_grow(f, c, 1);
    skim_step_entry entry = {b, 1};
    skim_step *step = NULL;
    assert_int_equal(skim_step_begin(f->cache, &entry, 1, &step), SKIM_NO_SLOTS);
    assert_int_equal(skim_sequence_reserve(b, CAPACITY - PAGE), SKIM_NO_SLOTS);
    assert_int_equal(skim_sequence_destroy(c), SKIM_OK);
    fixture_grow(f, b, 1);
}

static void reserved_slots_serve_later_steps(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a);
    assert_int_equal(skim_sequence_reserve(b, 100), SKIM_OK);
    assert_int_equal(calls_of("copy"), LAYERS);
    assert_int_equal(info_of(b).slots, 7);
    assert_int_equal(info_of(b).slots_shared, 1);
    assert_int_equal(info_of(b).reserved, 7 * PAGE);
    uint32_t left = usage_of(f).slots_free;
    fixture_grow(f, b, 1);
    uint32_t uploads = calls_of("upload");
    fixture_grow(f, b, 40);
    assert_int_equal(calls_of("upload"), uploads + 1); // rows; the table is there already
    fixture_grow(f, b, 39);
    assert_int_equal(usage_of(f).slots_free, left);
    assert_int_equal(skim_sequence_truncate(b, 5), SKIM_OK);
    assert_int_equal(usage_of(f).slots_free, left);
    fixture_grow(f, b, 200); // the first page was still a's, and is copied
    assert_int_equal(skim_sequence_truncate(b, 5), SKIM_OK);
    assert_int_equal(usage_of(f).slots_free, left - 1);
    // The device's table still has the reserved slots.
    uploads = calls_of("upload");
    fixture_grow(f, b, 60);
    assert_int_equal(calls_of("upload"), uploads + 1);
    assert_int_equal(skim_sequence_truncate(b, 5), SKIM_OK);
    // Less of a reservation, then none.
    assert_int_equal(skim_sequence_reserve(b, 33), SKIM_OK);
    assert_int_equal(info_of(b).slots, 3);
    assert_int_equal(skim_sequence_reserve(b, 0), SKIM_OK);
    assert_int_equal(info_of(b).slots, 1);
    assert_int_equal(skim_sequence_reserve(b, CAPACITY + 1), SKIM_INVALID);
}

// Slots that a fork shares are not kept by the reservation of who is cut: they are the fork's.
static void a_reservation_keeps_only_slots_of_its_own(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    assert_int_equal(skim_sequence_reserve(a, 64), SKIM_OK);
    fixture_grow(f, a, 40);
    skim_sequence *b = forked(a);
    assert_int_equal(info_of(b).slots, 3);
    assert_int_equal(skim_sequence_truncate(a, 0), SKIM_OK);
    assert_int_equal(info_of(a).slots, 1);
    assert_int_equal(info_of(a).slots_shared, 0);
    fixture_grow(f, a, 40);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t j = 0; j < 3; j++)
            assert_int_not_equal(a->slots[i], b->slots[j]);
    }
    assert_int_equal(a->uploaded, 4 <= a->page_count ? a->page_count : 3);
}

static void bad_calls_change_nothing(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f), *fork = NULL;
    fixture_grow(f, a, 20);
    assert_int_equal(skim_sequence_fork(NULL, &fork), SKIM_INVALID);
    assert_int_equal(skim_sequence_fork(a, NULL), SKIM_INVALID);
    assert_int_equal(skim_sequence_truncate(NULL, 0), SKIM_INVALID);
    assert_int_equal(skim_sequence_truncate(a, 21), SKIM_INVALID);
    assert_int_equal(skim_sequence_truncate(a, UINT64_MAX), SKIM_INVALID);
    assert_int_equal(skim_sequence_reserve(NULL, 0), SKIM_INVALID);
    assert_int_equal(skim_sequence_reserve(a, UINT64_MAX), SKIM_INVALID);
    assert_int_equal(skim_sequence_get_info(a, NULL), SKIM_INVALID);
    assert_int_equal(skim_sequence_get_info(NULL, &(skim_sequence_info){.size_of = 8}),
                     SKIM_INVALID);
    skim_sequence *b = forked(a), *c = forked(b);
    assert_int_equal(skim_sequence_fork(a, &fork), SKIM_STATE);
    assert_null(fork);
    assert_int_equal(skim_sequence_destroy(c), SKIM_OK);
    assert_int_equal(skim_sequence_destroy(c), SKIM_INVALID);
    assert_int_equal(skim_sequence_fork(c, &fork), SKIM_INVALID);
    assert_int_equal(info_of(a).length, 20);
    assert_int_equal(usage_of(f).sequences, 2);
}

// --- failed work

static void fail_next_wait(void)
{
    null_control_now.fail_entry = "wait";
    null_control_now.fail_after = 0;
    null_control_now.fail_status = SKIM_FAILED;
    null_control_now.lose = false;
}

static void failed_work_breaks_the_sequences_of_its_step(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f), *b = new_sequence(f);
    fixture_grow(f, a, 20);
    fixture_grow(f, b, 10);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    fixture_grow(f, a, 5); // 25
    fixture_grow(f, a, 5); // both in flight
    fail_next_wait();
    assert_int_equal(skim_queue_finish(f->queue), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    assert_int_equal(info_of(a).broken, 1);
    assert_int_equal(info_of(a).sound_length, 20);
    assert_int_equal(info_of(b).broken, 0);
    assert_int_equal(info_of(b).sound_length, 10);
    skim_step *step = NULL;
    skim_step_entry entry = {a, 1};
    skim_sequence *fork = NULL;
    assert_int_equal(skim_step_begin(f->cache, &entry, 1, &step), SKIM_STATE);
    assert_int_equal(skim_sequence_fork(a, &fork), SKIM_STATE);
    assert_int_equal(skim_sequence_reserve(a, 100), SKIM_STATE);
    assert_int_equal(skim_sequence_truncate(a, 21), SKIM_INVALID);
    assert_int_equal(info_of(a).length, 30);
    assert_int_equal(skim_sequence_truncate(a, 20), SKIM_OK);
    assert_int_equal(info_of(a).broken, 0);
    fixture_grow(f, a, 1);
    fixture_grow(f, b, 1);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
}

static void a_failed_point_stays_failed(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    uint64_t first = 0, second = 0, third = 0;
    skim_step *step = fixture_begin(f, a, 3);
    fixture_append_all(f, step);
    assert_int_equal(skim_step_end(step, &first), SKIM_OK);
    assert_int_equal(skim_queue_wait(f->queue, first, 0), SKIM_OK);
    step = fixture_begin(f, a, 3);
    fixture_append_all(f, step);
    assert_int_equal(skim_step_end(step, &second), SKIM_OK);
    fail_next_wait();
    assert_int_equal(skim_queue_wait(f->queue, second, 0), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    assert_int_equal(skim_queue_wait(f->queue, second, 0), SKIM_FAILED);
    assert_int_equal(skim_queue_wait(f->queue, first, 0), SKIM_OK);
    assert_int_equal(skim_sequence_truncate(a, 3), SKIM_OK);
    step = fixture_begin(f, a, 3);
    fixture_append_all(f, step);
    assert_int_equal(skim_step_end(step, &third), SKIM_OK);
    assert_int_equal(skim_queue_wait(f->queue, third, 0), SKIM_OK);
}

static void a_step_whose_work_failed_can_only_be_cancelled(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    skim_step *step = fixture_begin(f, a, 4);
    fixture_append_all(f, step);
    fail_next_wait();
    assert_int_equal(skim_queue_finish(f->queue), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    skim_step_attend_args args = fixture_attend(f);
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_FAILED);
    assert_int_equal(skim_step_end(step, NULL), SKIM_FAILED);
    skim_step_cancel(step);
    assert_int_equal(info_of(a).broken, 0);
    assert_int_equal(info_of(a).length, 20);
    fixture_grow(f, a, 4);
}

// The copy of a shared page is work like other: when it fails, the page is lost with it.
static void a_failed_copy_loses_its_page(void **state)
{
    fixture *f = *state;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 20);
    skim_sequence *b = forked(a);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    fixture_grow(f, b, 1);
    fail_next_wait();
    assert_int_equal(skim_queue_finish(f->queue), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    assert_int_equal(info_of(a).broken, 0);
    assert_int_equal(info_of(b).broken, 1);
    assert_int_equal(info_of(b).sound_length, 16);
    assert_int_equal(skim_sequence_destroy(b), SKIM_OK);
    b = forked(a);
    assert_int_equal(skim_sequence_reserve(b, 21), SKIM_OK);
    assert_int_equal(skim_queue_submit(f->queue, NULL), SKIM_OK);
    fail_next_wait();
    assert_int_equal(skim_queue_finish(f->queue), SKIM_FAILED);
    null_control_now.fail_entry = NULL;
    assert_int_equal(info_of(b).broken, 1);
    assert_int_equal(info_of(b).sound_length, 16);
}

// --- what memory still says, on the CPU

enum { DIM = 64, HEADS = 2, MARKED = 0x5b };

typedef struct cpu_world {
    fixture f;
    unsigned char released_marks; // some released block held a run of marks
} cpu_world;

static bool has_marks(const void *memory, size_t size)
{
    const unsigned char *bytes = memory;
    uint32_t run = 0;
    for (size_t i = 0; i < size; i++) {
        run = bytes[i] == MARKED ? run + 1 : 0;
        if (run == 16)
            return true;
    }
    return false;
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, size) != 0)
        return NULL;
    return memset(memory, 0, size); // MALLOC_PERTURB_ fills it with any byte, the marks' too
}

static void release(void *user, void *memory, size_t size, size_t alignment)
{
    cpu_world *w = user;
    (void)alignment;
    w->released_marks |= has_marks(memory, size);
    free(memory);
}

static void cpu_open(cpu_world *w, uint32_t keep_freed)
{
    fixture *f = &w->f;
    skim_runtime_options options = {.size_of = sizeof options, .allocator = {allocate, release, w}};
    assert_int_equal(skim_runtime_create(&options, &f->runtime), SKIM_OK);
    assert_int_equal(skim_device_open(f->runtime, "cpu", NULL, &f->device), SKIM_OK);
    assert_int_equal(skim_queue_create(f->device, &f->queue), SKIM_OK);
    fixture_fill_options(f);
    f->options.keep_freed = keep_freed;
    assert_int_equal(skim_cache_create(f->queue, &f->options, &f->cache), SKIM_OK);
}

static void cpu_close(cpu_world *w)
{
    skim_cache_destroy(w->f.cache);
    skim_queue_destroy(w->f.queue);
    skim_device_close(w->f.device);
    skim_runtime_destroy(w->f.runtime);
}

static void fill_slot_marks(fixture *f, skim_sequence *sequence, uint32_t tokens)
{
    memset(f->k, MARKED, sizeof f->k);
    fixture_grow(f, sequence, tokens);
    memset(f->k, 0, sizeof f->k);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
}

static bool slot_has_marks(const fixture *f, uint32_t layer, uint32_t slot)
{
    const skim_buffer *pages = f->cache->layers[layer].pages;
    size_t size = (size_t)(pages->size / f->cache->pool.slots);
    return has_marks((const char *)pages->host + slot * size, size);
}

static void check_reuse(uint32_t keep_freed, bool expected)
{
    static cpu_world w;
    memset(&w, 0, sizeof w);
    cpu_open(&w, keep_freed);
    fixture *f = &w.f;
    skim_sequence *a = new_sequence(f);
    fill_slot_marks(f, a, 64);
    assert_int_equal(skim_sequence_destroy(a), SKIM_OK);
    // One token in a page of another's; a prompt that ends inside a page; a decode into a new page.
    skim_sequence *b = new_sequence(f), *c = new_sequence(f);
    fixture_grow(f, b, 1);
    fixture_grow(f, c, 16);
    fixture_grow(f, c, 1);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        assert_int_equal(slot_has_marks(f, layer, b->slots[0]), expected);
        assert_int_equal(slot_has_marks(f, layer, c->slots[0]), false);
        assert_int_equal(slot_has_marks(f, layer, c->slots[1]), expected);
    }
    cpu_close(&w);
    assert_false(w.released_marks);
}

static void a_freed_slot_says_nothing_to_the_next_sequence(void **state)
{
    (void)state;
    check_reuse(0, false);
}

static void zeroing_can_be_turned_off(void **state)
{
    (void)state;
    check_reuse(1, true);
}

// What was cut or cancelled goes when the sequence goes on, and is not copied to a fork's page for
// longer than that.
static void cut_and_cancelled_tokens_go_with_the_next_append(void **state)
{
    (void)state;
    static cpu_world w;
    memset(&w, 0, sizeof w);
    cpu_open(&w, 0);
    fixture *f = &w.f;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 4);
    fill_slot_marks(f, a, 8);
    skim_sequence *b = forked(a);
    assert_int_equal(skim_sequence_truncate(b, 4), SKIM_OK);
    fixture_grow(f, b, 1);
    memset(f->k, MARKED, sizeof f->k);
    skim_step *step = fixture_begin(f, b, 3);
    fixture_append_all(f, step);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    skim_step_cancel(step);
    assert_true(slot_has_marks(f, 0, b->slots[0]));
    memset(f->k, 0, sizeof f->k);
    fixture_grow(f, b, 1);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
        assert_false(slot_has_marks(f, layer, b->slots[0]));
        assert_true(slot_has_marks(f, layer, a->slots[0]));
    }
    cpu_close(&w);
    assert_false(w.released_marks);
}

// Of two siblings one stayed in their page, and what it added was cancelled: the other, alone with
// the page, has it zeroed.
static void what_a_sibling_cancelled_goes_too(void **state)
{
    (void)state;
    static cpu_world w;
    memset(&w, 0, sizeof w);
    cpu_open(&w, 0);
    fixture *f = &w.f;
    skim_sequence *a = new_sequence(f);
    fixture_grow(f, a, 4);
    skim_sequence *b = forked(a);
    memset(f->k, MARKED, sizeof f->k);
    const skim_step_entry both[] = {{a, 3}, {b, 3}};
    skim_step *step;
    assert_int_equal(skim_step_begin(f->cache, both, 2, &step), SKIM_OK);
    fixture_append_all(f, step);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    skim_step_cancel(step);
    memset(f->k, 0, sizeof f->k);
    assert_int_equal(b->slots[0], a->slots[0]);
    assert_true(slot_has_marks(f, 0, b->slots[0]));
    assert_int_equal(skim_sequence_destroy(a), SKIM_OK);
    fixture_grow(f, b, 1);
    assert_int_equal(skim_queue_finish(f->queue), SKIM_OK);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        assert_false(slot_has_marks(f, layer, b->slots[0]));
    cpu_close(&w);
    assert_false(w.released_marks);
}

#define FRONT(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRONT(fork_truncate_and_destroy_record_nothing),
        FRONT(a_shared_page_is_copied_by_who_writes_first),
        FRONT(cancel_goes_back_to_the_shared_page),
        FRONT(the_longest_stays_in_a_page_that_all_others_leave),
        FRONT(a_page_that_others_hold_is_left_by_all),
        FRONT(a_failing_copy_undoes_begin),
        FRONT(a_copy_needs_a_slot),
        FRONT(reserved_slots_serve_later_steps),
        FRONT(a_reservation_keeps_only_slots_of_its_own),
        FRONT(bad_calls_change_nothing),
        FRONT(failed_work_breaks_the_sequences_of_its_step),
        FRONT(a_failed_point_stays_failed),
        FRONT(a_step_whose_work_failed_can_only_be_cancelled),
        FRONT(a_failed_copy_loses_its_page),
        cmocka_unit_test(a_freed_slot_says_nothing_to_the_next_sequence),
        cmocka_unit_test(zeroing_can_be_turned_off),
        cmocka_unit_test(cut_and_cancelled_tokens_go_with_the_next_append),
        cmocka_unit_test(what_a_sibling_cancelled_goes_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
