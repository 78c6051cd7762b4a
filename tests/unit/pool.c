#include "tests/unit/fixture.h"

#include "runtime/pool.h"

#include <stdlib.h>

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    (void)alignment;
    return malloc(size);
}

static void release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)size;
    (void)alignment;
    free(memory);
}

static const skim_host host = {.allocator = {allocate, release, NULL}};

static void a_fresh_pool_gives_slots_in_order(void **state)
{
    (void)state;
    skim_pool pool;
    uint32_t slots[5];
    assert_int_equal(skim_pool_init(&host, &pool, 5), SKIM_OK);
    assert_true(skim_pool_take(&pool, slots, 5));
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(slots[i], i);
    assert_int_equal(pool.free_count, 0);
    skim_pool_deinit(&host, &pool);
}

static void taking_too_many_takes_none(void **state)
{
    (void)state;
    skim_pool pool;
    uint32_t slots[6] = {9, 9, 9, 9, 9, 9};
    assert_int_equal(skim_pool_init(&host, &pool, 5), SKIM_OK);
    assert_false(skim_pool_take(&pool, slots, 6));
    assert_int_equal(pool.free_count, 5);
    assert_int_equal(slots[0], 9);
    skim_pool_deinit(&host, &pool);
}

static void slots_given_back_come_out_again_in_the_same_order(void **state)
{
    (void)state;
    skim_pool pool;
    uint32_t slots[8], again[8];
    assert_int_equal(skim_pool_init(&host, &pool, 8), SKIM_OK);
    assert_true(skim_pool_take(&pool, slots, 8));
    skim_pool_give_back(&pool, slots + 2, 4);
    assert_int_equal(pool.free_count, 4);
    assert_true(skim_pool_take(&pool, again, 4));
    assert_memory_equal(again, slots + 2, 4 * sizeof *slots);
    skim_pool_deinit(&host, &pool);
}

static void a_shared_slot_is_free_when_the_last_holder_gives_it_back(void **state)
{
    (void)state;
    skim_pool pool;
    uint32_t slots[3];
    assert_int_equal(skim_pool_init(&host, &pool, 3), SKIM_OK);
    assert_true(skim_pool_take(&pool, slots, 3));
    skim_pool_share(&pool, slots, 2);
    skim_pool_share(&pool, slots, 1);
    assert_int_equal(pool.shared_count, 2);
    skim_pool_give_back(&pool, slots, 3);
    assert_int_equal(pool.free_count, 1);
    assert_int_equal(pool.shared_count, 1);
    skim_pool_give_back(&pool, slots, 2);
    assert_int_equal(pool.free_count, 2);
    assert_int_equal(pool.shared_count, 0);
    skim_pool_give_back(&pool, slots, 1);
    assert_int_equal(pool.free_count, 3);
    skim_pool_deinit(&host, &pool);
}

// Random takes and give-backs against a plain list of owners.
static void no_slot_has_two_owners(void **state)
{
    (void)state;
    enum { SLOTS = 97, OWNERS = 11 };
    static uint32_t held[OWNERS][SLOTS], count[OWNERS];
    skim_pool pool;
    uint32_t random = 12345, free_slots = SLOTS;
    assert_int_equal(skim_pool_init(&host, &pool, SLOTS), SKIM_OK);
    for (int round = 0; round < 20000; round++) {
        random = random * 1664525u + 1013904223u;
        uint32_t owner = random >> 8 & 0xffff, wanted = random >> 24 & 15;
        owner %= OWNERS;
        if (random & 1) {
            bool taken = skim_pool_take(&pool, held[owner] + count[owner], wanted);
            assert_int_equal(taken, wanted <= free_slots);
            count[owner] += taken ? wanted : 0;
            free_slots -= taken ? wanted : 0;
        } else {
            uint32_t part = wanted < count[owner] ? wanted : count[owner];
            count[owner] -= part;
            skim_pool_give_back(&pool, held[owner] + count[owner], part);
            free_slots += part;
        }
        assert_int_equal(pool.free_count, free_slots);
        bool seen[SLOTS] = {false};
        for (uint32_t o = 0; o < OWNERS; o++) {
            for (uint32_t i = 0; i < count[o]; i++) {
                assert_true(held[o][i] < SLOTS && !seen[held[o][i]]);
                seen[held[o][i]] = true;
            }
        }
    }
    skim_pool_deinit(&host, &pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_pool_gives_slots_in_order),
        cmocka_unit_test(taking_too_many_takes_none),
        cmocka_unit_test(slots_given_back_come_out_again_in_the_same_order),
        cmocka_unit_test(a_shared_slot_is_free_when_the_last_holder_gives_it_back),
        cmocka_unit_test(no_slot_has_two_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
