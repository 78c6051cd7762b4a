// Where the bytes of a buffer in several pieces are, far past 2^32. Nothing is allocated and no
// driver asked: the pieces are made up.
#include "backends/vulkan/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)

typedef struct rig {
    skim_device base;
    skim_vulkan_device device;
    skim_backend_queue queue_base;
    skim_vulkan_queue queue;
    skim_buffer buffer;
} rig;

// Addresses with nothing in common but that they are multiples of 64.
static uint64_t address_of_chunk(uint64_t i)
{
    return 0x7f0000000000u + i * 0x340000040u * 64;
}

static rig *make(uint64_t size, uint32_t chunk_bits, bool split)
{
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    skim_error_init(&r->queue_base.error);
    r->device.base = &r->base;
    r->device.chunk_size = (uint64_t)1 << chunk_bits;
    r->device.chunk_shift = chunk_bits - 4;
    r->queue.base = &r->queue_base;
    r->queue.device = &r->device;
    r->queue_base.device = &r->base;
    r->base.impl = &r->device;
    r->buffer.device = &r->base;
    r->buffer.size = size;
    const uint64_t count = split ? (size + r->device.chunk_size - 1) >> chunk_bits : 1;
    skim_vulkan_buffer *own = calloc(1, sizeof *own + count * sizeof *own->chunks);
    assert_non_null(own);
    own->count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++)
        own->chunks[i].address = address_of_chunk(i);
    r->buffer.impl = own;
    return r;
}

static void release(rig *r)
{
    skim_error_deinit(&r->queue_base.error);
    free(r->buffer.impl);
    free(r);
}

// What find_unit of shaders/vulkan/common.glsl does with a table, in its 32 bits.
static uint64_t follow(const char *table, uint32_t shift, uint32_t index)
{
    uint32_t first;
    uint64_t address;
    memcpy(&first, table, sizeof first);
    index += first;
    memcpy(&address, table + 8 + 8 * (index >> shift), sizeof address);
    return address + (uint64_t)(index & ((1u << shift) - 1)) * 16;
}

static const uint64_t places[] = {0,
                                  16,
                                  GIB - 16,
                                  GIB,
                                  4 * GIB - 16,
                                  4 * GIB,
                                  4 * GIB + 16,
                                  5 * GIB + 48,
                                  8 * GIB - 16,
                                  31 * GIB + 32,
                                  32 * GIB - 16};
enum { PLACES = sizeof places / sizeof *places };

static void bytes_past_4_gib_are_found_in_their_piece(void **state)
{
    (void)state;
    rig *r = make(32 * GIB, 30, true);
    for (int i = 0; i < PLACES; i++) {
        uint64_t address = 0;
        const uint64_t wanted = address_of_chunk(places[i] / GIB) + places[i] % GIB;
        assert_int_equal(skim_vulkan_address(&r->device, r->buffer.impl, places[i]), wanted);
        assert_int_equal(skim_vulkan_locate(&r->queue, "q", &r->buffer, places[i], 16, &address),
                         SKIM_OK);
        assert_int_equal(address, wanted);
    }
    release(r);
}

static void what_lies_across_two_pieces_is_refused(void **state)
{
    (void)state;
    rig *r = make(6 * GIB, 30, true);
    uint64_t address = 1;
    char text[300] = "";
    // To the last byte of a piece, and one more.
    assert_int_equal(skim_vulkan_locate(&r->queue, "q", &r->buffer, 5 * GIB - 64, 64, &address),
                     SKIM_OK);
    assert_int_equal(address, address_of_chunk(4) + GIB - 64);
    assert_int_equal(skim_vulkan_locate(&r->queue, "q", &r->buffer, 5 * GIB - 64, 65, &address),
                     SKIM_UNSUPPORTED);
    assert_int_equal(skim_vulkan_locate(&r->queue, "q", &r->buffer, 0, 5 * GIB, &address),
                     SKIM_UNSUPPORTED);
    skim_error_copy(&r->queue_base.error, text, sizeof text);
    assert_non_null(strstr(text, "q lies across"));
    // Nothing lies anywhere.
    assert_int_equal(skim_vulkan_locate(&r->queue, "q", &r->buffer, 5 * GIB, 0, &address), SKIM_OK);
    release(r);
}

static void a_tensor_of_more_than_4_gib_is_counted_whole(void **state)
{
    (void)state;
    uint64_t address = 0;
    uint32_t token = 0, head = 0;
    skim_gpu_operand operand;
    // 2^20 tokens, 2^13 elements apart: 2^33 elements, 2^34 bytes.
    skim_tensor tensor = {.type = SKIM_F16, .token_stride = 1 << 13, .head_stride = 1 << 7};
    rig *r = make(17 * GIB, 35, true);
    tensor.buffer = &r->buffer;
    tensor.offset = 16;
    assert_int_equal(skim_gpu_describe_tensor("q", &tensor, 1 << 20, 64, 128, &r->queue_base.error,
                                              &operand, &token, &head),
                     SKIM_OK);
    assert_int_equal(token, 1 << 13);
    assert_int_equal(head, 1u << 7 | (uint32_t)SKIM_F16 << SKIM_TYPE_SHIFT);
    assert_int_equal(operand.bytes, 16 * GIB);
    assert_int_equal(
        skim_vulkan_locate(&r->queue, "q", &r->buffer, operand.offset, operand.bytes, &address),
        SKIM_OK);
    assert_int_equal(address, address_of_chunk(0) + 16);
    release(r);
    // In pieces of 16 GiB it lies across two, since it begins 16 bytes late.
    r = make(17 * GIB, 34, true);
    assert_int_equal(
        skim_vulkan_locate(&r->queue, "q", &r->buffer, operand.offset, operand.bytes, &address),
        SKIM_UNSUPPORTED);
    release(r);
}

// A table's every unit is where the byte is, for pools that begin anywhere.
static void check_table(rig *r)
{
    const uint64_t first_pages[] = {0, 64, 4 * GIB - 64, 4 * GIB, 5 * GIB + 4096};
    char *table = malloc(skim_vulkan_table_size(&r->device, &r->buffer));
    assert_non_null(table);
    for (int f = 0; f < 5; f++) {
        skim_vulkan_fill_table(&r->device, &r->buffer, first_pages[f], table);
        for (int i = 0; i < PLACES; i++) {
            if (places[i] < first_pages[f])
                continue;
            uint32_t unit = (uint32_t)((places[i] - first_pages[f]) / 16);
            assert_int_equal(follow(table, r->device.chunk_shift, unit),
                             skim_vulkan_address(&r->device, r->buffer.impl, places[i]));
        }
    }
    free(table);
}

static void kernels_find_every_unit_by_the_table(void **state)
{
    (void)state;
    const uint32_t bits[] = {16, 27, 30, 31, 32, 34};
    for (int i = 0; i < 6; i++) {
        rig *r = make(32 * GIB, bits[i], true);
        assert_int_equal(skim_vulkan_table_size(&r->device, &r->buffer),
                         8 + 8 * (32 * GIB >> bits[i]));
        check_table(r);
        release(r);
    }
}

// The host's buffers are in one piece whatever their size; beside split ones they have a table.
static void one_piece_larger_than_a_chunk_has_a_table_too(void **state)
{
    (void)state;
    rig *r = make(32 * GIB, 27, false);
    check_table(r);
    release(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_past_4_gib_are_found_in_their_piece),
        cmocka_unit_test(what_lies_across_two_pieces_is_refused),
        cmocka_unit_test(a_tensor_of_more_than_4_gib_is_counted_whole),
        cmocka_unit_test(kernels_find_every_unit_by_the_table),
        cmocka_unit_test(one_piece_larger_than_a_chunk_has_a_table_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
