// Lists of more pages than a block does alone: select in segments, held against the CPU's lists
// page by page, with scores that tie by the hundred, and how many launches they take.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shaders/cuda/launch.h"
#include "skim/skim.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, Q_HEADS = 4, KV_HEADS = 2, KINDS = 40 };

typedef struct rig {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_buffer *scores, *lists;
} rig;

// One call of select, for both devices.
typedef struct selection {
    skim_shape shape;
    skim_row rows[ROWS];
    skim_select_mode mode;
    skim_combine combine;
    uint32_t most; // pages of the longest list
} selection;

static skim_row row_of(uint32_t pages, uint32_t chosen, uint32_t first, uint32_t last)
{
    return (skim_row){.length = pages * 16,
                      .query_count = 1,
                      .page_count = pages,
                      .select_count = chosen,
                      .forced_first = first,
                      .forced_last = last};
}

static void open_rig(rig *r, const char *selector, const selection *of)
{
    memset(r, 0, sizeof *r);
    assert_int_equal(skim_runtime_create(NULL, &r->runtime), SKIM_OK);
    assert_int_equal(skim_device_open(r->runtime, selector, NULL, &r->device), SKIM_OK);
    assert_int_equal(skim_queue_create(r->device, &r->queue), SKIM_OK);
    assert_int_equal(skim_queue_prepare(r->queue, &of->shape), SKIM_OK);
    const uint64_t lists = ROWS * Q_HEADS;
    assert_int_equal(
        skim_buffer_create(r->device, lists * of->shape.max_pages * sizeof(float), &r->scores),
        SKIM_OK);
    assert_int_equal(skim_buffer_create(r->device, lists * of->most * sizeof(uint32_t), &r->lists),
                     SKIM_OK);
}

static void close_rig(rig *r)
{
    skim_queue_destroy(r->queue);
    skim_buffer_destroy(r->scores);
    skim_buffer_destroy(r->lists);
    skim_device_close(r->device);
    skim_runtime_destroy(r->runtime);
}

// The lists of the selector's device; what no list reaches is 0.
static uint32_t *select_on(const char *selector, const selection *of, const float *scores)
{
    rig r;
    open_rig(&r, selector, of);
    const size_t count = (size_t)ROWS * Q_HEADS * of->most;
    uint32_t *lists = calloc(count, sizeof *lists);
    const skim_select_args args = {
        .size_of = sizeof args,
        .shape = &of->shape,
        .rows = skim_tensor_host(of->rows, SKIM_U32),
        .row_count = ROWS,
        .scores = r.scores,
        .score_stride = of->shape.max_pages,
        .select = of->mode,
        .combine = of->combine,
        .scale = 0.25f,
        .lists = r.lists,
        .list_stride = of->most,
    };
    const uint64_t bytes = (uint64_t)ROWS * Q_HEADS * of->shape.max_pages * sizeof *scores;
    assert_int_equal(skim_queue_upload(r.queue, r.scores, 0, scores, bytes), SKIM_OK);
    assert_int_equal(skim_queue_zero(r.queue, r.lists, 0, count * sizeof *lists), SKIM_OK);
    assert_int_equal(skim_select(r.queue, &args), SKIM_OK);
    assert_int_equal(skim_queue_download(r.queue, r.lists, 0, lists, count * sizeof *lists),
                     SKIM_OK);
    assert_int_equal(skim_queue_finish(r.queue), SKIM_OK);
    close_rig(&r);
    return lists;
}

// Whole numbers, of which there are few, so that whatever they are combined to ties as often; the
// same on every page for all heads of a group up to a factor, so that sums round alike.
static float *make_scores(const selection *of)
{
    const size_t count = (size_t)ROWS * Q_HEADS * of->shape.max_pages;
    float *scores = malloc(count * sizeof *scores);
    uint32_t state = 12345;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        scores[i] = (float)(state >> 8) / 16777216.0f < 0.01f ? 100.0f + (float)(state >> 8 & 3)
                                                              : (float)(state >> 16 & (KINDS - 1));
    }
    return scores;
}

static selection make_selection(uint32_t pages, uint32_t chosen, skim_select_mode mode,
                                skim_combine combine)
{
    return (selection){
        .shape = {.size_of = sizeof(skim_shape),
                  .q_heads = Q_HEADS,
                  .kv_heads = KV_HEADS,
                  .key_dim = 64,
                  .value_dim = 64,
                  .page_size = 16,
                  .type = SKIM_F16,
                  .slots = 1,
                  .max_rows = ROWS,
                  .max_tokens = ROWS,
                  .max_pages = pages},
        // The whole length, one that ends within the first segment, and one page more than that is.
        .rows = {row_of(pages, chosen, 2, 3), row_of(37, 20, 1, 2),
                 row_of(SKIM_CUDA_SEGMENT + 1, SKIM_CUDA_SEGMENT - 1, 0, 1)},
        .mode = mode,
        .combine = combine,
        .most = chosen > SKIM_CUDA_SEGMENT ? chosen : SKIM_CUDA_SEGMENT,
    };
}

static void compare(uint32_t pages, uint32_t chosen, skim_select_mode mode, skim_combine combine)
{
    const selection of = make_selection(pages, chosen, mode, combine);
    float *scores = make_scores(&of);
    uint32_t *expected = select_on("cpu", &of, scores);
    uint32_t *found = select_on("cuda", &of, scores);
    for (size_t i = 0; i < (size_t)ROWS * Q_HEADS * of.most; i++)
        if (expected[i] != found[i])
            fail_msg("%u of %u pages, mode %d, combine %d: entry %zu is %u, should be %u", chosen,
                     pages, (int)mode, (int)combine, i, found[i], expected[i]);
    free(scores);
    free(expected);
    free(found);
}

static void test_segments_choose_what_one_block_would(void **state)
{
    (void)state;
    compare(SKIM_CUDA_NEAR_KEYS, 130, SKIM_SELECT_HEAD, SKIM_COMBINE_MAX); // one block
    compare(SKIM_CUDA_NEAR_KEYS + 1, 130, SKIM_SELECT_HEAD, SKIM_COMBINE_MAX);
    compare(9001, 6, SKIM_SELECT_GROUP, SKIM_COMBINE_MAX); // one that is not forced
    compare(9001, 8999, SKIM_SELECT_GROUP, SKIM_COMBINE_MAX);
    compare(65536, 2048, SKIM_SELECT_GROUP, SKIM_COMBINE_MEAN);
    compare(20000, 1250, SKIM_SELECT_GROUP, SKIM_COMBINE_SOFTMAX_MAX);
}

// Softmax-mean rounds: pages whose scores are further apart than that must be where they should.
static void test_segments_normalise_over_all_of_a_list(void **state)
{
    (void)state;
    compare(12000, 200, SKIM_SELECT_GROUP, SKIM_COMBINE_SOFTMAX_MEAN);
}

static void test_a_call_takes_few_launches(void **state)
{
    (void)state;
    const struct {
        uint32_t pages;
        skim_combine combine;
        uint64_t launches;
    } calls[] = {{2048, SKIM_COMBINE_SOFTMAX_MAX, 1},
                 {65536, SKIM_COMBINE_MAX, 6},
                 {65536, SKIM_COMBINE_SOFTMAX_MAX, 7}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        selection of = make_selection(calls[i].pages, 128, SKIM_SELECT_GROUP, calls[i].combine);
        of.rows[2] = of.rows[1];
        rig r;
        open_rig(&r, "cuda", &of);
        const skim_select_args args = {
            .size_of = sizeof args,
            .shape = &of.shape,
            .rows = skim_tensor_host(of.rows, SKIM_U32),
            .row_count = ROWS,
            .scores = r.scores,
            .score_stride = of.shape.max_pages,
            .select = of.mode,
            .combine = of.combine,
            .lists = r.lists,
            .list_stride = of.most,
        };
        assert_int_equal(skim_select(r.queue, &args), SKIM_OK);
        skim_queue_counts counts = {.size_of = sizeof counts};
        assert_int_equal(skim_queue_get_counts(r.queue, &counts), SKIM_OK);
        assert_int_equal(counts.dispatches, calls[i].launches);
        close_rig(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_choose_what_one_block_would),
        cmocka_unit_test(test_segments_normalise_over_all_of_a_list),
        cmocka_unit_test(test_a_call_takes_few_launches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
