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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_bit_equal_on_the_cpu),
        cmocka_unit_test(loads_bit_equal_in_shared_memory),
        cmocka_unit_test(loads_bit_equal_through_transfers),
        cmocka_unit_test(a_loaded_sequence_decodes_as_the_saved_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
