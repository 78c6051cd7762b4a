// Saving and loading: what comes back is what was saved, wherever it is loaded, and whatever fails
// leaves everything as it was. Damaged files are in snapshot_hostile.c.
#include "tests/unit/snapshot_rig.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t lengths[] = {0, 1, 15, 16, 17, 40, 200, 480};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

// --- round trips

static void loads_bit_equal(rig_kind kind)
{
    rig from, to;
    rig_open(&from, kind);
    rig_open(&to, kind);
    skim_sequence *loaded = rig_grown(&to, 33, 9);
    for (int i = 0; i < LENGTHS; i++) {
        skim_sequence *saved = rig_grown(&from, lengths[i], 1 + (uint32_t)i);
        rig_file file = {0};
        rig_save(saved, &file);
        assert_int_equal(rig_load(loaded, &file), SKIM_OK);
        assert_int_equal(file.at, file.size);
        assert_int_equal(skim_sequence_length(loaded), lengths[i]);
        rig_assert_same_payload(saved, loaded);
        rig_file again = {0};
        rig_save(loaded, &again);
        assert_int_equal(again.size, file.size);
        assert_memory_equal(again.data, file.data, file.size);
        rig_file_free(&file);
        rig_file_free(&again);
        skim_sequence_destroy(saved);
    }
    rig_close(&from);
    rig_close(&to);
}

static void loads_bit_equal_on_the_cpu(void **state)
{
    (void)state;
    loads_bit_equal(RIG_CPU);
}

static void loads_bit_equal_in_shared_memory(void **state)
{
    (void)state;
    loads_bit_equal(RIG_NULL);
}

static void loads_bit_equal_through_transfers(void **state)
{
    (void)state;
    loads_bit_equal(RIG_NULL_APART);
}

static void a_loaded_sequence_decodes_as_the_saved_one(void **state)
{
    (void)state;
    static rig_probe before, after;
    for (int i = 0; i < LENGTHS; i++) {
        rig r;
        rig_open(&r, RIG_CPU);
        skim_sequence *saved = rig_grown(&r, lengths[i], 5);
        rig_file file = {0};
        rig_save(saved, &file);
        skim_sequence *loaded = rig_grown(&r, 100, 6);
        assert_int_equal(rig_load(loaded, &file), SKIM_OK);
        rig_probe_take(&r, saved, 7, &before);
        rig_probe_take(&r, loaded, 7, &after);
        rig_assert_same_probe(&before, &after);
        assert_int_equal(before.sparse, lengths[i] >= 64 ? RIG_LAYERS : 0);
        rig_grow(&r, saved, 50, 8);
        rig_grow(&r, loaded, 50, 8);
        rig_assert_same_payload(saved, loaded);
        rig_probe_take(&r, saved, 7, &before);
        rig_probe_take(&r, loaded, 7, &after);
        rig_assert_same_probe(&before, &after);
        rig_file_free(&file);
        rig_close(&r);
    }
}

// The probe compares lists too: bounds that were computed again choose as those that were appended.
static void loads_into_caches_of_another_kind(void **state)
{
    (void)state;
    static rig_probe wanted, loaded_probe;
    rig from, to;
    rig_open(&from, RIG_CPU);
    skim_sequence *saved = rig_grown(&from, 300, 5);
    rig_file file = {0};
    rig_save(saved, &file);
    for (int i = 0; i < 4; i++) {
        rig_open(&to, RIG_CPU);
        to.options.capacity = i % 2 ? 50 * RIG_PAGE : 200 * RIG_PAGE;
        to.options.max_sequences = 2 + (uint32_t)i;
        to.options.max_step_tokens = RIG_STEP_TOKENS + 5 * (uint32_t)i;
        to.options.bounds = i / 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
        to.options.keep_freed = i == 3;
        to.policy.budget = 96;
        to.policy.select = SKIM_SELECT_HEAD;
        rig_cache(&to);
        skim_sequence *grown = rig_grown(&to, 300, 5);
        skim_sequence *loaded = rig_sequence(&to);
        rig_probe_take(&to, grown, 7, &wanted);
        assert_int_equal(skim_sequence_truncate(grown, i % 2 ? 0 : 300), SKIM_OK);
        assert_int_equal(rig_load(loaded, &file), SKIM_OK);
        rig_assert_same_payload(saved, loaded);
        rig_probe_take(&to, loaded, 7, &loaded_probe);
        rig_assert_same_probe(&wanted, &loaded_probe);
        assert_int_equal(wanted.sparse, RIG_LAYERS);
        rig_close(&to);
    }
    rig_file_free(&file);
    rig_close(&from);
}

static void blob_and_fingerprint_come_back(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, RIG_CPU);
    skim_sequence *sequence = rig_grown(&r, 20, 1);
    static uint8_t blob[700001], got[sizeof blob];
    for (size_t i = 0; i < sizeof blob; i++)
        blob[i] = (uint8_t)(i * 7 + i / 251);
    rig_file file = {0};
    skim_snapshot_save_args save = rig_save_args(&file);
    save.blob = blob;
    save.blob_size = sizeof blob;
    for (int i = 0; i < SKIM_FINGERPRINT_SIZE; i++)
        save.fingerprint[i] = (uint8_t)(i * 3);
    assert_int_equal(skim_snapshot_save(sequence, &save), SKIM_OK);

    skim_snapshot_info info = {.size_of = sizeof info};
    assert_int_equal(skim_snapshot_inspect(rig_read, &file, &info), SKIM_OK);
    assert_int_equal(info.version, 1);
    assert_int_equal(info.page_size, RIG_PAGE);
    assert_int_equal(info.layer_count, RIG_LAYERS);
    assert_int_equal(info.tokens, 20);
    assert_int_equal(info.blob_size, sizeof blob);
    assert_int_equal(info.total_size, file.size);
    assert_memory_equal(info.fingerprint, save.fingerprint, SKIM_FINGERPRINT_SIZE);
    assert_true(file.at < 300); // it read the start only

    skim_snapshot_load_args load = rig_load_args(&file);
    uint64_t size = 99;
    load.blob = got;
    load.blob_capacity = sizeof got;
    load.blob_size = &size;
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_load(sequence, &load), SKIM_INVALID); // another fingerprint
    assert_int_equal(size, 99);
    memcpy(load.fingerprint, save.fingerprint, sizeof load.fingerprint);
    load.blob_capacity = sizeof got - 1;
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_load(sequence, &load), SKIM_INVALID); // no room
    load.blob_capacity = sizeof got;
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_load(sequence, &load), SKIM_OK);
    assert_int_equal(size, sizeof blob);
    assert_memory_equal(got, blob, sizeof blob);
    load.blob = NULL; // read past
    load.blob_capacity = 0;
    size = 0;
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_load(sequence, &load), SKIM_OK);
    assert_int_equal(size, sizeof blob);
    rig_file_free(&file);
    rig_close(&r);
}

static void a_reservation_stays(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, RIG_CPU);
    skim_sequence *saved = rig_grown(&r, 3 * RIG_PAGE + 1, 1);
    skim_sequence *loaded = rig_grown(&r, 2 * RIG_PAGE, 2);
    skim_sequence *fork = NULL;
    assert_int_equal(skim_sequence_reserve(loaded, 9 * RIG_PAGE), SKIM_OK);
    assert_int_equal(skim_sequence_fork(loaded, &fork), SKIM_OK); // shares two pages of nine
    rig_file file = {0};
    rig_save(saved, &file);
    assert_int_equal(rig_load(loaded, &file), SKIM_OK);
    skim_sequence_info info = {.size_of = sizeof info};
    assert_int_equal(skim_sequence_get_info(loaded, &info), SKIM_OK);
    assert_int_equal(info.reserved, 9 * RIG_PAGE);
    assert_int_equal(info.slots, 9); // four new ones, five of the seven that were its own
    assert_int_equal(info.slots_shared, 0);
    rig_state state_now = rig_state_of(loaded);
    assert_int_equal(state_now.usage.slots_free, 80 - 4 - 9 - 2);
    rig_grow(&r, loaded, 5 * RIG_PAGE, 1);
    rig_grow(&r, saved, 5 * RIG_PAGE, 1);
    rig_assert_same_payload(saved, loaded);
    rig_file_free(&file);
    rig_close(&r);
}

// --- centres of i8 bounds

static const float *centre_of(const rig *r, uint32_t layer)
{
    const skim_buffer *buffer = r->cache->layers[layer].centre;
    return buffer->host ? buffer->host : buffer->impl;
}

static size_t centre_size(const rig *r, uint32_t layer)
{
    return (size_t)r->layers[layer].kv_heads * r->layers[layer].key_dim * sizeof(float);
}

static void assert_same_centres(const rig *a, const rig *b)
{
    for (uint32_t i = 0; i < RIG_LAYERS; i++)
        assert_memory_equal(centre_of(a, i), centre_of(b, i), centre_size(a, i));
}

static void a_fresh_cache_takes_the_snapshots_centre(void **state)
{
    (void)state;
    static rig_probe wanted, got;
    rig from, to;
    rig_open_i8(&from, RIG_CPU);
    rig_open_i8(&to, RIG_CPU);
    skim_sequence *saved = rig_grown(&from, 90, 1); // freezes the centre
    rig_grow(&from, saved, 110, 2);
    rig_file file = {0};
    rig_save(saved, &file);
    assert_int_equal(file.data[96 + 16], 1); // the first record's flags
    skim_sequence *loaded = rig_sequence(&to);
    for (uint32_t at = 1; at < 12; at++) { // a load that fails freezes nothing
        rig_rewind(&file);
        file.fail_at = at;
        skim_snapshot_load_args args = rig_load_args(&file);
        assert_int_equal(skim_snapshot_load(loaded, &args), SKIM_FAILED);
        assert_false(to.cache->layers[0].frozen);
    }
    assert_int_equal(rig_load(loaded, &file), SKIM_OK);
    assert_same_centres(&from, &to);
    rig_probe_take(&from, saved, 3, &wanted);
    rig_probe_take(&to, loaded, 3, &got);
    rig_assert_same_probe(&wanted, &got);
    assert_int_equal(wanted.sparse, RIG_LAYERS);
    rig_grow(&to, rig_sequence(&to), 20, 7); // it stays
    assert_int_equal(skim_queue_finish(to.queue), SKIM_OK);
    assert_same_centres(&from, &to);
    rig_file again = {0};
    rig_save(loaded, &again);
    assert_int_equal(again.size, file.size);
    assert_memory_equal(again.data, file.data, file.size);
    rig_file_free(&file);
    rig_file_free(&again);
    rig_close(&from);
    rig_close(&to);
}

static void a_cache_in_use_keeps_its_centre(void **state)
{
    (void)state;
    static rig_probe wanted, got;
    rig from, to, other;
    rig_open_i8(&from, RIG_CPU);
    rig_open_i8(&to, RIG_CPU);
    rig_open_i8(&other, RIG_CPU);
    rig_file file = {0};
    rig_save(rig_grown(&from, 200, 1), &file);
    rig_grow(&to, rig_sequence(&to), 30, 9);
    rig_grow(&other, rig_sequence(&other), 30, 9); // the same centre
    skim_sequence *grown = rig_grown(&to, 200, 1), *loaded = rig_sequence(&to);
    rig_probe_take(&to, grown, 3, &wanted);
    assert_int_equal(rig_load(loaded, &file), SKIM_OK);
    assert_int_equal(skim_queue_finish(other.queue), SKIM_OK);
    assert_same_centres(&to, &other);
    rig_probe_take(&to, loaded, 3, &got);
    rig_assert_same_probe(&wanted, &got);
    rig_file_free(&file);
    rig_close(&from);
    rig_close(&to);
    rig_close(&other);
}

// A snapshot of native bounds sets the centre as its tokens' first append would have done.
static void without_a_centre_the_keys_make_one(void **state)
{
    (void)state;
    static rig_probe wanted, got;
    rig from, to, other;
    rig_open_i8(&to, RIG_CPU);
    rig_open_i8(&other, RIG_CPU);
    rig_open(&from, RIG_CPU);
    skim_sequence *saved = rig_grown(&from, 90, 1), *grown = rig_grown(&other, 90, 1);
    rig_file file = {0}, with = {0};
    rig_save(saved, &file);
    assert_int_equal(file.data[96 + 16], 0);
    skim_sequence *loaded = rig_sequence(&to);
    assert_int_equal(rig_load(loaded, &file), SKIM_OK);
    assert_true(to.cache->layers[0].frozen);
    rig_probe_take(&other, grown, 3, &wanted);
    rig_probe_take(&to, loaded, 3, &got);
    rig_assert_same_probe(&wanted, &got);
    assert_same_centres(&to, &other);
    rig_save(grown, &with); // and a cache of native bounds reads past the centre
    assert_int_equal(with.data[96 + 16], 1);
    assert_int_equal(rig_load(saved, &with), SKIM_OK);
    rig_assert_same_payload(saved, grown);
    rig_file_free(&file);
    rig_file_free(&with);
    rig_close(&from);
    rig_close(&to);
    rig_close(&other);
}

// Through transfers, too; and one that is not finite is refused.
static void centres_travel_and_are_finite(void **state)
{
    (void)state;
    for (rig_kind kind = RIG_NULL; kind <= RIG_NULL_APART; kind++) {
        rig from, to;
        rig_open_i8(&from, kind);
        rig_open_i8(&to, kind);
        skim_sequence *saved = rig_grown(&from, 20, 1), *loaded = rig_sequence(&to);
        for (uint32_t i = 0; i < RIG_LAYERS; i++) {
            float *centre = (float *)(uintptr_t)centre_of(&from, i);
            for (size_t d = 0; d < centre_size(&from, i) / sizeof *centre; d++)
                centre[d] = (float)(d + 100 * i) / 8;
        }
        rig_file file = {0};
        rig_save(saved, &file);
        assert_int_equal(rig_load(loaded, &file), SKIM_OK);
        assert_same_centres(&from, &to);
        rig_file_free(&file);
        ((uint32_t *)(uintptr_t)centre_of(&from, 1))[5] = 0x7f800000; // infinity
        rig_save(saved, &file);
        rig_state before = rig_state_of(loaded);
        assert_int_equal(rig_load(loaded, &file), SKIM_INVALID);
        rig_state after = rig_state_of(loaded);
        rig_assert_same_state(&before, &after);
        rig_file_free(&file);
        rig_close(&from);
        rig_close(&to);
    }
}

// --- saving while decoding goes on

static void a_save_in_pieces(rig_kind kind)
{
    rig r;
    rig_open(&r, kind);
    skim_sequence *saved = rig_grown(&r, 105, 1), *other = rig_grown(&r, 30, 2);
    rig_file whole = {0}, pieces = {0};
    rig_save(saved, &whole);
    rig_state before = rig_state_of(saved);
    skim_snapshot *snapshot = NULL;
    skim_snapshot_save_args args = rig_save_args(&pieces);
    assert_int_equal(skim_snapshot_begin(saved, &args, &snapshot), SKIM_OK);
    uint64_t left = whole.size, last;
    for (int i = 0; left > 0; i++) {
        last = left;
        if (i == 1) // both go on; the shared last page moves
            rig_grow(&r, saved, 10, 3);
        if (i == 2)
            assert_int_equal(skim_sequence_truncate(saved, 40), SKIM_OK);
        if (i == 3)
            rig_grow(&r, saved, 90, 4);
        if (i == 4)
            assert_int_equal(skim_sequence_destroy(saved), SKIM_OK);
        rig_grow(&r, other, 1, 2);
        assert_int_equal(skim_snapshot_run(snapshot, 1, &left), SKIM_OK);
        assert_true(left < last);
        assert_int_equal(pieces.size, whole.size - left);
    }
    assert_int_equal(skim_snapshot_run(snapshot, 1, &left), SKIM_OK); // nothing more
    assert_int_equal(left, 0);
    skim_snapshot_end(snapshot);
    assert_int_equal(pieces.size, whole.size);
    if (kind == RIG_CPU) // the null backend copies no page
        assert_memory_equal(pieces.data, whole.data, whole.size);
    rig_state after = rig_state_of(other);
    assert_int_equal(after.usage.slots_shared, 0);
    assert_int_equal(after.usage.slots_free + after.info.slots, 80);
    assert_int_equal(before.usage.slots_shared, 0);
    rig_file_free(&whole);
    rig_file_free(&pieces);
    rig_close(&r);
}

static void decoding_goes_on_during_a_save(void **state)
{
    (void)state;
    a_save_in_pieces(RIG_CPU);
    a_save_in_pieces(RIG_NULL_APART);
}

// Within a step, too: the tokens of the step are not saved, and a last page that moved to a slot of
// its own in this very step is read where it was.
static void a_save_within_a_step(void **state)
{
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        rig r;
        rig_open(&r, RIG_CPU);
        skim_sequence *saved = rig_grown(&r, 39, 1), *fork = NULL;
        rig_file whole = {0}, within = {0};
        rig_save(saved, &whole);
        if (shared)
            assert_int_equal(skim_sequence_fork(saved, &fork), SKIM_OK);
        skim_step *step;
        skim_step_entry entry = {saved, 30};
        assert_int_equal(skim_step_begin(r.cache, &entry, 1, &step), SKIM_OK);
        rig_append_all(&r, step, 30, 4);
        skim_snapshot_save_args args = rig_save_args(&within);
        skim_snapshot *snapshot;
        uint64_t left;
        assert_int_equal(skim_snapshot_begin(saved, &args, &snapshot), SKIM_OK);
        if (shared)
            skim_step_cancel(step);
        else
            assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
        rig_grow(&r, saved, 1, 5);
        assert_int_equal(skim_snapshot_run(snapshot, UINT64_MAX, &left), SKIM_OK);
        skim_snapshot_end(snapshot);
        assert_int_equal(within.size, whole.size);
        assert_memory_equal(within.data, whole.data, whole.size);
        rig_file_free(&whole);
        rig_file_free(&within);
        rig_close(&r);
    }
}

// reserve records a copy of a shared last page without submitting it.
static void a_save_waits_for_what_is_recorded(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, RIG_CPU);
    skim_sequence *source = rig_grown(&r, 21, 1), *fork = NULL;
    rig_file wanted = {0}, file = {0};
    rig_save(source, &wanted);
    assert_int_equal(skim_sequence_fork(source, &fork), SKIM_OK);
    assert_int_equal(skim_sequence_reserve(fork, 100), SKIM_OK);
    rig_save(fork, &file);
    assert_int_equal(file.size, wanted.size);
    assert_memory_equal(file.data, wanted.data, wanted.size);
    rig_file_free(&wanted);
    rig_file_free(&file);
    rig_close(&r);
}

// --- failures

typedef struct stopper {
    uint64_t calls, stop_at, last_done, total;
} stopper;

static int stop(void *user, uint64_t done, uint64_t total)
{
    stopper *s = user;
    assert_true(done >= s->last_done && done <= total);
    assert_true(s->total == 0 || s->total == total);
    s->last_done = done;
    s->total = total;
    return ++s->calls == s->stop_at;
}

static void cancel_at_every_report(void **state)
{
    (void)state;
    for (rig_kind kind = RIG_CPU; kind <= RIG_NULL_APART; kind++) {
        rig r;
        rig_open(&r, kind);
        skim_sequence *saved = rig_grown(&r, 100, 1), *loaded = rig_grown(&r, 40, 2);
        uint64_t reports = 1;
        for (uint64_t at = 1; at <= reports; at++) {
            rig_file file = {0};
            stopper s = {.stop_at = at};
            skim_progress progress = {stop, &s};
            skim_snapshot_save_args args = rig_save_args(&file);
            args.progress = &progress;
            rig_state before = rig_state_of(saved);
            assert_int_equal(skim_snapshot_save(saved, &args), SKIM_CANCELLED);
            rig_state after = rig_state_of(saved);
            rig_assert_same_state(&before, &after);
            s = (stopper){0};
            rig_file_free(&file);
            assert_int_equal(skim_snapshot_save(saved, &args), SKIM_OK);
            assert_int_equal(s.last_done, file.size);
            reports = s.calls;
            rig_file_free(&file);
        }
        assert_true(reports > 3);
        rig_file file = {0};
        rig_save(saved, &file);
        rig_state before = rig_state_of(loaded);
        for (uint64_t at = 1;; at++) {
            stopper s = {.stop_at = at};
            skim_progress progress = {stop, &s};
            skim_snapshot_load_args args = rig_load_args(&file);
            args.progress = &progress;
            rig_rewind(&file);
            skim_status status = skim_snapshot_load(loaded, &args);
            if (status == SKIM_OK) {
                assert_true(at > 3 && s.last_done == file.size);
                break;
            }
            assert_int_equal(status, SKIM_CANCELLED);
            rig_state after = rig_state_of(loaded);
            rig_assert_same_state(&before, &after);
        }
        rig_file_free(&file);
        rig_close(&r);
    }
}

static void callbacks_fail_at_every_call(void **state)
{
    (void)state;
    static rig_probe before_probe, after_probe;
    rig r;
    rig_open(&r, RIG_CPU);
    skim_sequence *saved = rig_grown(&r, 100, 1), *loaded = rig_grown(&r, 40, 2);
    rig_file file = {0};
    rig_save(saved, &file);
    uint32_t writes = file.calls;
    for (uint32_t at = 1; at <= writes; at++) {
        rig_file bad = {.fail_at = at};
        skim_snapshot_save_args args = rig_save_args(&bad);
        assert_int_equal(skim_snapshot_save(saved, &args), SKIM_FAILED);
        assert_int_equal(bad.calls, at);
        rig_file_free(&bad);
    }
    rig_state before = rig_state_of(loaded);
    rig_probe_take(&r, loaded, 3, &before_probe);
    for (uint32_t at = 1;; at++) {
        rig_rewind(&file);
        file.fail_at = at;
        skim_snapshot_load_args args = rig_load_args(&file);
        skim_status status = skim_snapshot_load(loaded, &args);
        if (status == SKIM_OK)
            break;
        assert_int_equal(status, SKIM_FAILED);
        rig_state after = rig_state_of(loaded);
        rig_assert_same_state(&before, &after);
        rig_probe_take(&r, loaded, 3, &after_probe);
        rig_assert_same_probe(&before_probe, &after_probe);
    }
    rig_assert_same_payload(saved, loaded);
    rig_file_free(&file);
    rig_close(&r);
}

static void every_allocation_fails(void **state)
{
    (void)state;
    for (rig_kind kind = RIG_CPU; kind <= RIG_NULL_APART; kind++) {
        rig r;
        rig_open(&r, kind);
        skim_sequence *saved = rig_grown(&r, 100, 1), *loaded = rig_grown(&r, 40, 2);
        rig_file file = {0};
        rig_save(saved, &file);
        rig_state before = rig_state_of(loaded);
        uint32_t failures = 0;
        for (skim_status status = SKIM_NO_MEMORY; status != SKIM_OK; failures++) {
            rig_file other = {0};
            skim_snapshot_save_args args = rig_save_args(&other);
            r.host.fail_at = r.host.count + failures + 1;
            status = skim_snapshot_save(saved, &args);
            assert_true(status == SKIM_OK || status == SKIM_NO_MEMORY);
            r.host.fail_at = 0;
            rig_file_free(&other);
        }
        assert_true(failures > 3);
        failures = 0;
        for (skim_status status = SKIM_NO_MEMORY; status != SKIM_OK; failures++) {
            r.host.fail_at = r.host.count + failures + 1;
            status = rig_load(loaded, &file);
            r.host.fail_at = 0;
            if (status == SKIM_OK)
                break;
            assert_int_equal(status, SKIM_NO_MEMORY);
            rig_state after = rig_state_of(loaded);
            rig_assert_same_state(&before, &after);
        }
        assert_true(failures > 2);
        rig_assert_same_payload(saved, loaded);
        rig_file_free(&file);
        rig_close(&r);
    }
}

static void fail_entry(const char *entry, uint32_t after, bool lose)
{
    null_control_now.fail_entry = entry;
    null_control_now.fail_after = after;
    null_control_now.fail_status = lose ? SKIM_DEVICE_LOST : SKIM_FAILED;
    null_control_now.lose = lose;
}

// At every call of every entry that saving and loading use; with `lose`, the device goes with it.
static void a_device_fails(const char *entry, bool lose)
{
    for (uint32_t after = 0, failed = 1; failed > 0; after++) {
        rig r;
        rig_open(&r, RIG_NULL_APART);
        skim_sequence *saved = rig_grown(&r, 100, 1), *loaded = rig_grown(&r, 40, 2);
        rig_file file = {0}, bad = {0};
        rig_save(saved, &file);
        skim_status wanted = lose ? SKIM_DEVICE_LOST : SKIM_FAILED;
        skim_snapshot_save_args args = rig_save_args(&bad);
        fail_entry(entry, after, lose);
        skim_status status = skim_snapshot_save(saved, &args);
        failed = status != SKIM_OK;
        assert_true(!failed || status == wanted);
        fail_entry(NULL, 0, false);
        if (!failed || !lose) {
            rig_state before = rig_state_of(loaded);
            fail_entry(entry, after, lose);
            status = rig_load(loaded, &file);
            failed += status != SKIM_OK;
            assert_true(status == SKIM_OK || status == wanted);
            fail_entry(NULL, 0, false);
            if (status != SKIM_OK && !lose) {
                rig_state now = rig_state_of(loaded);
                rig_assert_same_state(&before, &now);
                assert_int_equal(rig_load(loaded, &file), SKIM_OK);
            }
            if (!lose)
                rig_assert_same_payload(saved, loaded);
        }
        rig_file_free(&file);
        rig_file_free(&bad);
        rig_close(&r);
    }
}

static void the_device_fails_at_every_call(void **state)
{
    (void)state;
    static const char *const entries[] = {"upload", "download", "append", "submit", "wait"};
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        a_device_fails(entries[i], false);
        a_device_fails(entries[i], true);
    }
}

// Work that stored the saved tokens fails after begin.
static void a_save_of_lost_tokens_fails(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, RIG_NULL);
    skim_sequence *sound = rig_grown(&r, 10, 1);
    assert_int_equal(skim_queue_finish(r.queue), SKIM_OK);
    skim_sequence *lost = rig_grown(&r, 20, 1);
    rig_file file = {0};
    skim_snapshot_save_args args = rig_save_args(&file);
    skim_snapshot *first, *second;
    uint64_t left = 77;
    assert_int_equal(skim_snapshot_begin(lost, &args, &first), SKIM_OK);
    assert_int_equal(skim_snapshot_begin(sound, &args, &second), SKIM_OK);
    fail_entry("wait", 0, false);
    assert_int_equal(skim_queue_finish(r.queue), SKIM_FAILED);
    fail_entry(NULL, 0, false);
    assert_int_equal(skim_snapshot_run(first, 1, &left), SKIM_FAILED);
    assert_int_equal(skim_snapshot_run(first, 1, &left), SKIM_FAILED); // and stays so
    assert_int_equal(left, 77);
    assert_int_equal(skim_snapshot_run(second, UINT64_MAX, &left), SKIM_OK);
    skim_snapshot_end(first); // in the order of begin: the list is no stack
    skim_snapshot_end(second);

    // A broken sequence cannot be saved; loading makes it whole.
    assert_int_equal(skim_snapshot_begin(lost, &args, &first), SKIM_STATE);
    assert_int_equal(rig_load(lost, &file), SKIM_OK);
    rig_assert_same_payload(sound, lost);
    rig_file again = {0};
    rig_save(lost, &again);
    assert_memory_equal(file.data, again.data, again.size);
    rig_file_free(&file);
    rig_file_free(&again);
    rig_close(&r);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, RIG_CPU);
    skim_sequence *sequence = rig_grown(&r, 20, 1);
    rig_file file = {0};
    rig_save(sequence, &file);
    skim_snapshot_save_args save = rig_save_args(&file), bad_save = save;
    skim_snapshot_load_args load = rig_load_args(&file), bad_load = load;
    skim_snapshot *snapshot = NULL;
    uint64_t left;
    assert_int_equal(skim_snapshot_save(NULL, &save), SKIM_INVALID);
    assert_int_equal(skim_snapshot_save(sequence, NULL), SKIM_INVALID);
    assert_int_equal(skim_snapshot_begin(sequence, &save, NULL), SKIM_INVALID);
    bad_save.write = NULL;
    assert_int_equal(skim_snapshot_save(sequence, &bad_save), SKIM_INVALID);
    bad_save = save;
    bad_save.blob_size = 1;
    assert_int_equal(skim_snapshot_save(sequence, &bad_save), SKIM_INVALID);
    bad_save.blob = &file;
    bad_save.blob_size = UINT64_MAX - 100; // overflows
    assert_int_equal(skim_snapshot_save(sequence, &bad_save), SKIM_INVALID);
    bad_save.blob_size = UINT64_MAX - 1000; // overflows with the layers
    assert_int_equal(skim_snapshot_save(sequence, &bad_save), SKIM_INVALID);
    assert_int_equal(skim_snapshot_begin(sequence, &save, &snapshot), SKIM_OK);
    assert_int_equal(skim_snapshot_run(NULL, 1, &left), SKIM_INVALID);
    assert_int_equal(skim_snapshot_run(snapshot, 1, NULL), SKIM_INVALID);
    skim_snapshot_end(snapshot);
    skim_snapshot_end(NULL);

    assert_int_equal(skim_snapshot_load(NULL, &load), SKIM_INVALID);
    assert_int_equal(skim_snapshot_load(sequence, NULL), SKIM_INVALID);
    bad_load.read = NULL;
    assert_int_equal(skim_snapshot_load(sequence, &bad_load), SKIM_INVALID);
    bad_load = load;
    bad_load.blob_capacity = 1;
    assert_int_equal(skim_snapshot_load(sequence, &bad_load), SKIM_INVALID);
    skim_step *step;
    skim_step_entry entry = {sequence, 1};
    assert_int_equal(skim_step_begin(r.cache, &entry, 1, &step), SKIM_OK);
    assert_int_equal(rig_load(sequence, &file), SKIM_STATE);
    skim_step_cancel(step);
    skim_snapshot_info info = {.size_of = sizeof info};
    assert_int_equal(skim_snapshot_inspect(NULL, NULL, &info), SKIM_INVALID);
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_inspect(rig_read, &file, NULL), SKIM_INVALID);

    skim_sequence *filler = rig_grown(&r, 77 * RIG_PAGE, 2);
    assert_int_equal(rig_load(sequence, &file), SKIM_NO_SLOTS);
    assert_int_equal(skim_sequence_destroy(filler), SKIM_OK);
    assert_int_equal(rig_load(filler, &file), SKIM_INVALID); // destroyed
    assert_int_equal(skim_snapshot_save(filler, &save), SKIM_INVALID);
    rig_file_free(&file);
    rig_close(&r);
}

// What the file has must be what the cache has.
static void other_caches_are_refused(void **state)
{
    (void)state;
    rig from, to;
    rig_open(&from, RIG_NULL);
    rig_open(&to, RIG_NULL);
    skim_sequence *saved = rig_grown(&from, 100, 1);
    rig_file file = {0};
    rig_save(saved, &file);
    const skim_cache_options options = to.options;
    const skim_layer layers[RIG_LAYERS] = {to.layers[0], to.layers[1], to.layers[2]};
    for (int i = 0; i < 7; i++) {
        to.options = options;
        memcpy(to.layers, layers, sizeof layers);
        if (i == 0)
            to.options.page_size = 32;
        if (i == 1)
            to.options.layer_count = 2;
        if (i == 2)
            to.layers[1].kv_heads = 1;
        if (i == 3)
            to.layers[2].key_dim = 32;
        if (i == 4)
            to.layers[0].type = SKIM_BF16;
        if (i == 5)
            to.options.max_sequence_tokens = 99;
        if (i == 6)
            to.options.max_sequence_tokens = 100; // this one takes it
        rig_cache(&to);
        skim_sequence *loaded = rig_sequence(&to);
        skim_status wanted = i < 5 ? SKIM_UNSUPPORTED : i == 5 ? SKIM_INVALID : SKIM_OK;
        assert_int_equal(rig_load(loaded, &file), wanted);
        assert_int_equal(skim_sequence_length(loaded), i == 6 ? 100 : 0);
    }
    rig_file_free(&file);
    rig_close(&from);
    rig_close(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_bit_equal_on_the_cpu),
        cmocka_unit_test(loads_bit_equal_in_shared_memory),
        cmocka_unit_test(loads_bit_equal_through_transfers),
        cmocka_unit_test(a_loaded_sequence_decodes_as_the_saved_one),
        cmocka_unit_test(loads_into_caches_of_another_kind),
        cmocka_unit_test(blob_and_fingerprint_come_back),
        cmocka_unit_test(a_reservation_stays),
        cmocka_unit_test(a_fresh_cache_takes_the_snapshots_centre),
        cmocka_unit_test(a_cache_in_use_keeps_its_centre),
        cmocka_unit_test(without_a_centre_the_keys_make_one),
        cmocka_unit_test(centres_travel_and_are_finite),
        cmocka_unit_test(decoding_goes_on_during_a_save),
        cmocka_unit_test(a_save_within_a_step),
        cmocka_unit_test(a_save_waits_for_what_is_recorded),
        cmocka_unit_test(cancel_at_every_report),
        cmocka_unit_test(callbacks_fail_at_every_call),
        cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(the_device_fails_at_every_call),
        cmocka_unit_test(a_save_of_lost_tokens_fails),
        cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(other_caches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
