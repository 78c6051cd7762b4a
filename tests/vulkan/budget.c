// What a decode step may cost a GPU besides its arithmetic, held against the queue's own counts: at
// most five dispatches and one submission a layer, no transfers and no waiting between append and
// attend, and enough workgroups to fill a large GPU with one sequence. Nothing is computed here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shaders/layout.h"
#include "skim/skim.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KV_HEADS = 8,
    DIM = 128,
    PAGE = 16,
    BUDGET = 2048,
    WORKGROUPS_MIN = 256,
    DISPATCHES_MAX = 5
};

typedef struct rig {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_shape shape;
    skim_buffer *pages, *bounds, *scores, *lists, *table, *rows, *tensors;
} rig;

static skim_buffer *buffer_of(const rig *r, uint64_t size)
{
    skim_buffer *buffer = NULL;
    assert_int_equal(skim_buffer_create(r->device, size, &buffer), SKIM_OK);
    return buffer;
}

static void open_rig(rig *r, uint32_t context, uint32_t q_heads)
{
    memset(r, 0, sizeof *r);
    assert_int_equal(skim_runtime_create(NULL, &r->runtime), SKIM_OK);
    assert_int_equal(skim_device_open(r->runtime, "vulkan", NULL, &r->device), SKIM_OK);
    assert_int_equal(skim_queue_create(r->device, &r->queue), SKIM_OK);
    const uint32_t pages = context / PAGE;
    r->shape = (skim_shape){.size_of = sizeof r->shape,
                            .q_heads = q_heads,
                            .kv_heads = KV_HEADS,
                            .key_dim = DIM,
                            .value_dim = DIM,
                            .page_size = PAGE,
                            .type = SKIM_F16,
                            .slots = pages,
                            .max_rows = 1,
                            .max_tokens = 1,
                            .max_pages = pages};
    assert_int_equal(skim_queue_prepare(r->queue, &r->shape), SKIM_OK);
    uint64_t bounds;
    assert_int_equal(skim_bounds_size(r->device, &r->shape, &bounds), SKIM_OK);
    r->pages = buffer_of(r, (uint64_t)pages * KV_HEADS * 2 * PAGE * DIM * 2);
    r->bounds = buffer_of(r, bounds);
    r->scores = buffer_of(r, (uint64_t)q_heads * pages * sizeof(float));
    r->lists = buffer_of(r, (uint64_t)q_heads * pages * sizeof(uint32_t));
    r->table = buffer_of(r, pages * sizeof(uint32_t));
    r->rows = buffer_of(r, sizeof(skim_row));
    r->tensors = buffer_of(r, (uint64_t)q_heads * DIM * sizeof(float));
}

static void close_rig(rig *r)
{
    skim_queue_destroy(r->queue); // what was recorded never runs
    skim_buffer *const buffers[] = {r->pages, r->bounds, r->scores, r->lists,
                                    r->table, r->rows,   r->tensors};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        skim_buffer_destroy(buffers[i]);
    skim_device_close(r->device);
    skim_runtime_destroy(r->runtime);
}

static skim_paged paged_of(const rig *r, bool values)
{
    return (skim_paged){.buffer = r->pages,
                        .offset = values ? PAGE * DIM * 2 : 0,
                        .page_stride = KV_HEADS * 2 * PAGE * DIM,
                        .head_stride = 2 * PAGE * DIM,
                        .token_stride = DIM};
}

static void record_append(const rig *r)
{
    const skim_append_args args = {.size_of = sizeof args,
                                   .shape = &r->shape,
                                   .rows = skim_tensor_buffer(r->rows, 0, SKIM_U32),
                                   .row_count = 1,
                                   .token_count = 1,
                                   .table = skim_tensor_buffer(r->table, 0, SKIM_U32),
                                   .table_count = r->shape.max_pages,
                                   .k = skim_tensor_buffer(r->tensors, 0, SKIM_F16),
                                   .v = skim_tensor_buffer(r->tensors, 0, SKIM_F16),
                                   .keys = paged_of(r, false),
                                   .values = paged_of(r, true),
                                   .bounds = r->bounds};
    assert_int_equal(skim_append(r->queue, &args), SKIM_OK);
}

static void record_estimate(const rig *r)
{
    const skim_estimate_args args = {.size_of = sizeof args,
                                     .shape = &r->shape,
                                     .rows = skim_tensor_buffer(r->rows, 0, SKIM_U32),
                                     .row_count = 1,
                                     .token_count = 1,
                                     .table = skim_tensor_buffer(r->table, 0, SKIM_U32),
                                     .table_count = r->shape.max_pages,
                                     .q = skim_tensor_buffer(r->tensors, 0, SKIM_F32),
                                     .bounds = r->bounds,
                                     .spread = 1,
                                     .scores = r->scores,
                                     .score_stride = r->shape.max_pages};
    assert_int_equal(skim_estimate(r->queue, &args), SKIM_OK);
}

static void record_select(const rig *r)
{
    const skim_select_args args = {.size_of = sizeof args,
                                   .shape = &r->shape,
                                   .rows = skim_tensor_buffer(r->rows, 0, SKIM_U32),
                                   .row_count = 1,
                                   .scores = r->scores,
                                   .score_stride = r->shape.max_pages,
                                   .lists = r->lists,
                                   .list_stride = BUDGET / PAGE};
    assert_int_equal(skim_select(r->queue, &args), SKIM_OK);
}

static void record_attend(const rig *r, bool sparse)
{
    const skim_attend_args args = {.size_of = sizeof args,
                                   .shape = &r->shape,
                                   .rows = skim_tensor_buffer(r->rows, 0, SKIM_U32),
                                   .row_count = 1,
                                   .token_count = 1,
                                   .table = skim_tensor_buffer(r->table, 0, SKIM_U32),
                                   .table_count = r->shape.max_pages,
                                   .q = skim_tensor_buffer(r->tensors, 0, SKIM_F32),
                                   .keys = paged_of(r, false),
                                   .values = paged_of(r, true),
                                   .lists = sparse ? r->lists : NULL,
                                   .list_stride = BUDGET / PAGE,
                                   .out = skim_tensor_buffer(r->tensors, 0, SKIM_F32)};
    assert_int_equal(skim_attend(r->queue, &args), SKIM_OK);
}

static skim_queue_counts counts_of(const rig *r)
{
    skim_queue_counts counts = {.size_of = sizeof counts};
    assert_int_equal(skim_queue_get_counts(r->queue, &counts), SKIM_OK);
    return counts;
}

static void keep_to_the_budget(uint32_t context, uint32_t q_heads)
{
    rig r;
    open_rig(&r, context, q_heads);
    skim_queue_counts before = counts_of(&r);
    record_append(&r);
    skim_queue_counts appended = counts_of(&r);
    record_estimate(&r);
    skim_queue_counts estimated = counts_of(&r);
    record_select(&r);
    skim_queue_counts selected = counts_of(&r);
    record_attend(&r, true);
    skim_queue_counts attended = counts_of(&r);
    assert_in_range(attended.dispatches - before.dispatches, 4, DISPATCHES_MAX);
    assert_in_range(attended.barriers - before.barriers, 4, DISPATCHES_MAX);
    assert_int_equal(attended.transfers, before.transfers);
    assert_int_equal(attended.submissions, before.submissions);
    assert_true(estimated.workgroups - appended.workgroups >= WORKGROUPS_MIN);
    // The grid is the planned one; of the list itself as many have work.
    assert_true(attended.workgroups - selected.workgroups >= WORKGROUPS_MIN);
    assert_true(BUDGET / SKIM_PART_TOKENS * KV_HEADS >= WORKGROUPS_MIN);
    record_attend(&r, false);
    skim_queue_counts dense = counts_of(&r);
    assert_true(dense.workgroups - attended.workgroups >= WORKGROUPS_MIN);
    assert_in_range(dense.dispatches - attended.dispatches, 1, 2);
    close_rig(&r);
}

static void test_grouped(void **state)
{
    (void)state;
    keep_to_the_budget(32768, 32);
}

static void test_ungrouped(void **state)
{
    (void)state;
    keep_to_the_budget(32768, KV_HEADS);
}

static void test_longer(void **state)
{
    (void)state;
    keep_to_the_budget(131072, 32);
}

int main(void)
{
    skim_runtime *runtime = NULL;
    skim_device *device = NULL;
    bool there = skim_runtime_create(NULL, &runtime) == SKIM_OK &&
                 skim_device_open(runtime, "vulkan", NULL, &device) == SKIM_OK;
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    if (!there) {
        const char *required = getenv("SKIM_REQUIRE");
        puts("no Vulkan device");
        return required && strstr(required, "vulkan") ? 1 : 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_ungrouped),
        cmocka_unit_test(test_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
