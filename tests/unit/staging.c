// Staging of the GPU backends (backends/gpu), over memory of the host's: no driver is asked.
#include "backends/gpu/staging.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FIRST = 256 * 1024 }; // bytes of the blocks that staging begins with

// A queue whose device is as far as the test says.
typedef struct queue {
    skim_device device;
    skim_backend_queue base;
    skim_gpu_staging staging;
    uint64_t submitted, completed;
    uint64_t reached; // what a look at the device finds
    uint64_t memory;  // bytes that a block may have
    uint32_t blocks;  // alive
    uint32_t unzeroed;
    uint64_t refused; // the largest size that was not to be had
} queue;

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    return aligned_alloc(alignment, skim_round_up(size, alignment));
}

static void release(void *user, void *pointer, size_t size, size_t alignment)
{
    (void)user, (void)size, (void)alignment;
    free(pointer);
}

static const skim_host host = {.allocator = {allocate, release, NULL}};

static skim_status create_block(void *user, uint64_t size, skim_gpu_block **made)
{
    queue *own = user;
    if (size > own->memory) {
        own->refused = size > own->refused ? size : own->refused;
        return skim_fail(&own->base.error, SKIM_NO_MEMORY, "%llu bytes are too many",
                         (unsigned long long)size);
    }
    skim_gpu_block *block = calloc(1, sizeof *block);
    block->bytes = malloc(size);
    block->size = size;
    memset(block->bytes, 0xa5, size);
    own->blocks++;
    *made = block;
    return SKIM_OK;
}

static void destroy_block(void *user, skim_gpu_block *block)
{
    queue *own = user;
    for (uint64_t i = 0; i < block->size; i++)
        own->unzeroed += block->bytes[i] != 0;
    own->blocks--;
    free(block->bytes);
    free(block);
}

static void note_completed(void *user)
{
    queue *own = user;
    own->completed = own->reached;
    skim_gpu_land(&own->staging);
}

static const skim_gpu_memory memory = {create_block, destroy_block, note_completed};

static queue *open_queue(void)
{
    queue *own = calloc(1, sizeof *own);
    own->device.host = &host;
    skim_error_init(&own->base.error);
    own->base.device = &own->device;
    own->memory = UINT64_MAX;
    assert_int_equal(skim_gpu_staging_init(&own->staging, &memory, &own->base, own, &own->submitted,
                                           &own->completed),
                     SKIM_OK);
    assert_int_equal(own->blocks, 2);
    return own;
}

static void close_queue(queue *own)
{
    skim_gpu_staging_deinit(&own->staging);
    assert_int_equal(own->blocks, 0);
    assert_int_equal(own->unzeroed, 0);
    skim_error_deinit(&own->base.error);
    free(own);
}

static char *stage(queue *own, uint64_t size)
{
    skim_gpu_block *block = NULL;
    uint64_t at = 0;
    assert_int_equal(skim_gpu_stage(&own->staging, size, &block, &at), SKIM_OK);
    assert_true(at + size <= block->size && at % 64 == 0);
    return block->bytes + at;
}

static void what_is_in_flight_is_not_given_again(void **state)
{
    (void)state;
    queue *own = open_queue();
    char *first = stage(own, 1000), *second = stage(own, 1000);
    assert_true(second >= first + 1000 || first >= second + 1000);
    own->submitted = 1;
    // The rest of both blocks; then a third one is needed, since the device is at 0.
    stage(own, FIRST - 2048);
    stage(own, FIRST);
    stage(own, 64);
    assert_int_equal(own->blocks, 3);
    // Once point 2 is reached, everything is free, and nothing more is made.
    own->submitted = own->reached = 2;
    for (int i = 0; i < 2; i++)
        stage(own, FIRST);
    assert_int_equal(own->blocks, 3);
    close_queue(own);
}

static void blocks_that_have_proved_too_small_go(void **state)
{
    (void)state;
    queue *own = open_queue();
    stage(own, 5 * FIRST); // nothing uses the two others
    assert_int_equal(own->blocks, 1);
    own->submitted = own->reached = 1;
    stage(own, 5 * FIRST);
    assert_int_equal(own->blocks, 1);
    close_queue(own);
}

static void less_is_taken_where_there_is_less(void **state)
{
    (void)state;
    queue *own = open_queue();
    own->memory = FIRST;
    stage(own, FIRST);
    stage(own, FIRST);
    stage(own, FIRST);
    assert_int_equal(own->refused, 2 * FIRST);
    // More is not to be had at all: that is said, and nothing has changed.
    skim_gpu_block *block = NULL;
    uint64_t at = 0;
    assert_int_equal(skim_gpu_stage(&own->staging, FIRST + 1, &block, &at), SKIM_NO_MEMORY);
    assert_int_equal(own->blocks, 3);
    atomic_store(&own->device.lost, true);
    assert_int_equal(skim_gpu_stage(&own->staging, 64, &block, &at), SKIM_DEVICE_LOST);
    close_queue(own);
}

static void what_was_dropped_is_free(void **state)
{
    (void)state;
    queue *own = open_queue();
    for (int i = 0; i < 50; i++) {
        stage(own, FIRST);
        stage(own, FIRST);
        skim_gpu_unstage(&own->staging);
    }
    assert_int_equal(own->blocks, 2);
    close_queue(own);
}

static void downloads_land_when_their_point_is_reached(void **state)
{
    (void)state;
    queue *own = open_queue();
    char to[40][8];
    memset(to, 0, sizeof to);
    // Twenty of a submission, twenty of the next one.
    for (int i = 0; i < 40; i++) {
        char *from = stage(own, sizeof *to);
        assert_int_equal(skim_gpu_reserve_landing(&own->staging), SKIM_OK);
        skim_gpu_add_landing(&own->staging, from, to[i], sizeof *to);
        snprintf(from, sizeof *to, "%d", i);
        if (i == 19)
            own->submitted = 1;
    }
    skim_gpu_land(&own->staging);
    assert_int_equal(to[0][0], 0);
    own->completed = 1;
    skim_gpu_land(&own->staging);
    assert_string_equal(to[0], "0");
    assert_string_equal(to[19], "19");
    assert_int_equal(to[20][0], 0);
    // The second twenty are never submitted.
    skim_gpu_forget_landings(&own->staging);
    own->submitted = own->completed = 2;
    skim_gpu_land(&own->staging);
    assert_int_equal(to[20][0], 0);
    assert_int_equal(own->staging.landing_count, 0);
    close_queue(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_flight_is_not_given_again),
        cmocka_unit_test(blocks_that_have_proved_too_small_go),
        cmocka_unit_test(less_is_taken_where_there_is_less),
        cmocka_unit_test(what_was_dropped_is_free),
        cmocka_unit_test(downloads_land_when_their_point_is_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
