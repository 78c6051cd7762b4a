// Snapshots that lie: every prefix, every flipped bit, impossible numbers behind right checksums.
// Each is refused with a sentence, and sequence, pool and results are as before.
#include "tests/unit/snapshot_rig.h"

#include "runtime/checksum.h"
#include "runtime/snapshot_format.h"

#include <stdlib.h>
#include <string.h>

// --- the checksum

// The test vectors of xxHash's own self-test: a buffer by its generator, lengths and seeds.
static void the_checksum_is_xxh64(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint64_t seed, value;
    } vectors[] = {
        {0, 0, 0xEF46DB3751D8E999},
        {0, 2654435761u, 0xAC75FDA2929B17EF},
        {1, 0, 0xE934A84ADB052768},
        {1, 2654435761u, 0x5014607643A9B4C3},
        {4, 0, 0x9136A0DCA57457EE},
        {14, 0, 0x8282DCC4994E35C8},
        {14, 2654435761u, 0xC3BD6BF63DEB6DF0},
        {222, 0, 0xB641AE8CB691C174},
        {222, 2654435761u, 0x20CB8AB7AE10C14A},
    };
    uint8_t buffer[222];
    uint64_t generator = 2654435761u;
    for (size_t i = 0; i < sizeof buffer; i++) {
        buffer[i] = (uint8_t)(generator >> 56);
        generator *= 11400714785074694797u;
    }
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        for (size_t piece = 1; piece < 80; piece++) { // in pieces of every size
            skim_checksum checksum;
            skim_checksum_begin(&checksum, vectors[i].seed);
            for (size_t at = 0; at < vectors[i].size; at += piece) {
                size_t left = vectors[i].size - at;
                skim_checksum_add(&checksum, buffer + at, left < piece ? left : piece);
            }
            assert_int_equal(skim_checksum_value(&checksum), vectors[i].value);
        }
    }
    assert_int_equal(skim_checksum_of("abc", 3), 0x44BC2CF5AD770999);
}

// --- the parser

static skim_snapshot_header sound_header(void)
{
    skim_snapshot_header header = {
        .page_size = 16, .layer_count = 3, .tokens = 1000, .blob_size = 12};
    for (int i = 0; i < SKIM_FINGERPRINT_SIZE; i++)
        header.fingerprint[i] = (uint8_t)(i * 5 + 1);
    return header;
}

static void what_is_emitted_is_parsed(void **state)
{
    (void)state;
    uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE];
    skim_snapshot_header header = sound_header(), parsed;
    skim_snapshot_emit_header(&header, bytes);
    assert_int_equal(skim_snapshot_parse_header(bytes, &parsed, NULL), SKIM_OK);
    assert_memory_equal(&parsed, &header, sizeof header);
    for (skim_type type = SKIM_F32; type <= SKIM_BF16; type++) {
        for (int centre = 0; centre < 2; centre++) {
            skim_snapshot_layer layer = {8, 128, 96, type, centre}, got;
            skim_snapshot_emit_layer(&layer, bytes);
            assert_int_equal(skim_snapshot_parse_layer(bytes, 0, &got, NULL), SKIM_OK);
            assert_int_equal(got.kv_heads, 8);
            assert_int_equal(got.key_dim, 128);
            assert_int_equal(got.value_dim, 96);
            assert_int_equal(got.type, type);
            assert_int_equal(got.has_centre, centre);
        }
    }
}

static void store32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

// Puts the value at this place of a sound header, with the right checksum.
static skim_status parse_with(size_t at, size_t width, uint64_t value)
{
    uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE], wide[8];
    skim_snapshot_header header = sound_header(), parsed;
    skim_snapshot_emit_header(&header, bytes);
    skim_snapshot_store64(wide, value);
    memcpy(bytes + at, wide, width);
    skim_snapshot_store64(bytes + 88, skim_checksum_of(bytes, 88));
    return skim_snapshot_parse_header(bytes, &parsed, NULL);
}

static void impossible_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at, width;
        uint64_t value;
        skim_status wanted;
    } cases[] = {
        {0, 1, 'S', SKIM_INVALID},
        {7, 1, 0, SKIM_INVALID},
        {8, 4, 0, SKIM_UNSUPPORTED},
        {8, 4, 2, SKIM_UNSUPPORTED},
        {8, 4, 1, SKIM_OK},
        {12, 4, 0, SKIM_INVALID},
        {12, 4, 8, SKIM_OK},
        {12, 4, 32, SKIM_OK},
        {12, 4, 64, SKIM_OK},
        {12, 4, 24, SKIM_INVALID},
        {12, 4, 128, SKIM_INVALID},
        {12, 4, UINT32_MAX, SKIM_INVALID},
        {16, 4, 0, SKIM_INVALID},
        {16, 4, 4096, SKIM_OK},
        {16, 4, 4097, SKIM_INVALID},
        {16, 4, UINT32_MAX, SKIM_INVALID},
        {20, 4, 1, SKIM_INVALID},
        {23, 1, 1, SKIM_INVALID},
        {24, 8, UINT32_MAX, SKIM_OK},
        {24, 8, (uint64_t)UINT32_MAX + 1, SKIM_INVALID},
        {24, 8, UINT64_MAX, SKIM_INVALID},
        {32, 8, UINT64_MAX - 1000, SKIM_OK},
        {32, 8, UINT64_MAX, SKIM_INVALID},
        {72, 1, 1, SKIM_INVALID},
        {87, 1, 1, SKIM_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(parse_with(cases[i].at, cases[i].width, cases[i].value), cases[i].wanted);
}

static void impossible_records_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
        skim_status wanted;
    } cases[] = {
        {0, 0, SKIM_INVALID},
        {0, 65535, SKIM_OK},
        {0, 65536, SKIM_INVALID},
        {4, 0, SKIM_INVALID},
        {4, 65535, SKIM_OK},
        {4, 65536, SKIM_INVALID},
        {8, 0, SKIM_INVALID},
        {8, 65535, SKIM_OK},
        {8, UINT32_MAX, SKIM_INVALID},
        {12, 0, SKIM_INVALID},
        {12, 1, SKIM_OK},
        {12, 3, SKIM_OK},
        {12, 4, SKIM_INVALID},
        {16, 1, SKIM_OK},
        {16, 2, SKIM_INVALID},
        {20, 1, SKIM_INVALID},
        {28, 1u << 31, SKIM_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[SKIM_SNAPSHOT_RECORD_SIZE];
        skim_snapshot_layer layer = {8, 128, 128, SKIM_F16, false}, parsed;
        skim_snapshot_emit_layer(&layer, bytes);
        store32(bytes + cases[i].at, cases[i].value);
        assert_int_equal(skim_snapshot_parse_layer(bytes, 7, &parsed, NULL), cases[i].wanted);
    }
}

static void sizes_are_exact_or_refused(void **state)
{
    (void)state;
    skim_snapshot_header header = sound_header();
    skim_snapshot_layer layer = {2, 32, 32, SKIM_F16, false};
    uint64_t total;
    assert_true(skim_snapshot_size(&header, &total));
    assert_int_equal(total, 96 + 3 * 32 + 8 + 12 + 8);
    uint64_t before = total;
    assert_true(skim_snapshot_add_layer(&header, &layer, &total));
    assert_int_equal(total - before, 63 * 2 * 16 * 64 * 2 + 8); // 1000 tokens are 63 pages
    layer.has_centre = true;
    assert_int_equal(skim_snapshot_centre_size(&layer), 2 * 32 * 4);
    header.tokens = 992; // 62 pages
    before = total;
    assert_true(skim_snapshot_add_layer(&header, &layer, &total));
    assert_int_equal(total - before, 2 * 32 * 4 + 62 * 2 * 16 * 64 * 2 + 8);

    total = UINT64_MAX - 100; // the centre does not fit
    assert_false(skim_snapshot_add_layer(&header, &layer, &total));
    total = UINT64_MAX - 1000; // the pages do not
    assert_false(skim_snapshot_add_layer(&header, &layer, &total));
    header.tokens = UINT32_MAX; // the product does not
    layer = (skim_snapshot_layer){65535, 65535, 65535, SKIM_F32, false};
    header.page_size = 64;
    total = 0;
    assert_false(skim_snapshot_add_layer(&header, &layer, &total));
}

static void swapping_turns_elements(void **state)
{
    (void)state;
    uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    skim_snapshot_swap(bytes, 8, 2);
    assert_memory_equal(bytes, ((const uint8_t[]){2, 1, 4, 3, 6, 5, 8, 7}), 8);
    skim_snapshot_swap(bytes, 8, 2);
    skim_snapshot_swap(bytes, 8, 4);
    assert_memory_equal(bytes, ((const uint8_t[]){4, 3, 2, 1, 8, 7, 6, 5}), 8);
}

// --- loads of damaged files

typedef struct victim {
    rig r;
    skim_sequence *sequence;
    rig_state state;
    rig_probe probe;
    rig_file good; // of another sequence
} victim;

static void victim_open(victim *v, rig_kind kind, uint32_t tokens)
{
    rig_open(&v->r, kind);
    skim_sequence *other = rig_grown(&v->r, tokens, 1);
    v->good = (rig_file){0};
    rig_save(other, &v->good);
    assert_int_equal(skim_sequence_destroy(other), SKIM_OK);
    v->sequence = rig_grown(&v->r, 70, 2);
    rig_probe_take(&v->r, v->sequence, 3, &v->probe);
    v->state = rig_state_of(v->sequence);
}

static void victim_close(victim *v)
{
    rig_file_free(&v->good);
    rig_close(&v->r);
}

static void assert_unharmed(victim *v)
{
    rig_state now = rig_state_of(v->sequence);
    rig_assert_same_state(&v->state, &now);
}

static void assert_decodes_as_before(victim *v)
{
    static rig_probe probe;
    assert_unharmed(v);
    rig_probe_take(&v->r, v->sequence, 3, &probe);
    rig_assert_same_probe(&v->probe, &probe);
}

// Loads these bytes, which must fail, and leave a sentence.
static skim_status refuse(victim *v, uint8_t *data, size_t size)
{
    rig_file file = {.data = data, .size = size};
    skim_fail(&v->r.cache->error, SKIM_OK, "%s", "");
    skim_status status = rig_load(v->sequence, &file);
    assert_int_not_equal(status, SKIM_OK);
    assert_true(skim_cache_error(v->r.cache, NULL, 0) > 10);
    assert_unharmed(v);
    return status;
}

static void every_prefix_is_refused(void **state)
{
    (void)state;
    static victim v;
    victim_open(&v, RIG_CPU, 20);
    for (size_t size = 0; size < v.good.size; size++) {
        // Copied, so that a sanitizer sees a byte read too many.
        uint8_t *data = malloc(size + 1);
        memcpy(data, v.good.data, size);
        assert_int_equal(refuse(&v, data, size), SKIM_FAILED);
        free(data);
        if (size % 997 == 0)
            assert_decodes_as_before(&v);
    }
    assert_decodes_as_before(&v);
    victim_close(&v);
}

// Every bit of the head, of the checksums and the blob's, and one bit of every byte of the pages.
static void every_flipped_bit_is_refused(void **state)
{
    (void)state;
    static victim v;
    victim_open(&v, RIG_CPU, 20);
    size_t head = SKIM_SNAPSHOT_HEADER_SIZE + RIG_LAYERS * SKIM_SNAPSHOT_RECORD_SIZE + 16;
    for (size_t at = 0; at < v.good.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bool tail = at + 8 >= v.good.size; // the last layer's checksum
            if (at >= head && !tail && bit != (int)(at % 8))
                continue;
            v.good.data[at] ^= (uint8_t)(1 << bit);
            skim_status status = refuse(&v, v.good.data, v.good.size);
            v.good.data[at] ^= (uint8_t)(1 << bit);
            assert_int_equal(status, at / 4 == 2 ? SKIM_UNSUPPORTED : SKIM_INVALID); // version
        }
        if (at % 499 == 0)
            assert_decodes_as_before(&v);
    }
    assert_decodes_as_before(&v);
    assert_int_equal(rig_load(v.sequence, &v.good), SKIM_OK);
    victim_close(&v);
}

// Makes the header's and the head's checksums right.
static void repair_head(uint8_t *data, uint32_t layer_count)
{
    size_t end = SKIM_SNAPSHOT_HEADER_SIZE + (size_t)layer_count * SKIM_SNAPSHOT_RECORD_SIZE;
    skim_snapshot_store64(data + 88, skim_checksum_of(data, 88));
    skim_snapshot_store64(data + end, skim_checksum_of(data, end));
}

// What the parser or the cache's limits must catch, since the checksums are right.
static void lies_with_right_checksums_are_refused(void **state)
{
    (void)state;
    static victim v;
    victim_open(&v, RIG_CPU, 40);
    static const struct {
        size_t at, width;
        uint64_t value;
        skim_status wanted;
    } lies[] = {
        {12, 4, 32, SKIM_UNSUPPORTED},         // page size
        {16, 4, 2, SKIM_UNSUPPORTED},          // layers: fewer
        {24, 8, 39, SKIM_INVALID},             // tokens: something past the end
        {24, 8, 32, SKIM_INVALID},             // a page less
        {24, 8, 48, SKIM_OK},                  // all of the last page: only zeros, and true
        {24, 8, 49, SKIM_INVALID},             // a page more
        {24, 8, 81 * RIG_PAGE, SKIM_INVALID},  // more than the sequence can hold
        {24, 8, 80 * RIG_PAGE, SKIM_NO_SLOTS}, // more than there is room for
        {24, 8, UINT32_MAX, SKIM_INVALID},
        {32, 8, 1, SKIM_INVALID},                // blob
        {32, 8, 100000, SKIM_INVALID},           // longer than the rest: the next checksum is wrong
        {32, 8, UINT64_MAX / 2, SKIM_FAILED},    // the file ends first
        {32, 8, UINT64_MAX - 300, SKIM_INVALID}, // overflows with the layers
        {40, 1, 9, SKIM_INVALID},                // fingerprint
        {96, 4, 1, SKIM_UNSUPPORTED},            // heads
        {100, 4, 64, SKIM_UNSUPPORTED},          // key_dim
        {104, 4, 64, SKIM_UNSUPPORTED},          // value_dim
        {108, 4, SKIM_BF16, SKIM_UNSUPPORTED},   // type
        {112, 4, 1, SKIM_INVALID},               // a centre that is none
    };
    uint8_t *data = malloc(v.good.size);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint8_t wide[8];
        memcpy(data, v.good.data, v.good.size);
        skim_snapshot_store64(wide, lies[i].value);
        memcpy(data + lies[i].at, wide, lies[i].width);
        repair_head(data, lies[i].at == 16 ? (uint32_t)lies[i].value : RIG_LAYERS);
        if (lies[i].wanted == SKIM_OK) {
            rig_file file = {.data = data, .size = v.good.size};
            skim_sequence *fresh = rig_sequence(&v.r);
            assert_int_equal(rig_load(fresh, &file), SKIM_OK);
            assert_int_equal(skim_sequence_length(fresh), lies[i].value);
            assert_int_equal(skim_sequence_destroy(fresh), SKIM_OK);
            v.state = rig_state_of(v.sequence); // free slots come in another order
            continue;
        }
        skim_status status = refuse(&v, data, v.good.size);
        // A section that begins too late ends too late, too.
        assert_true(status == lies[i].wanted ||
                    (lies[i].wanted == SKIM_INVALID && status == SKIM_FAILED));
    }
    free(data);
    assert_decodes_as_before(&v);
    victim_close(&v);
}

// As many layers as there can be, none of them the cache's: no more is allocated than the cache's.
static void more_layers_than_the_cache_are_refused(void **state)
{
    (void)state;
    static victim v;
    victim_open(&v, RIG_CPU, 1);
    enum { COUNT = 4096, SIZE = SKIM_SNAPSHOT_HEADER_SIZE + COUNT * SKIM_SNAPSHOT_RECORD_SIZE + 8 };
    skim_snapshot_header header = {.page_size = RIG_PAGE, .layer_count = COUNT, .tokens = 1};
    uint8_t *data = calloc(1, SIZE);
    skim_snapshot_emit_header(&header, data);
    for (int i = 0; i < COUNT; i++) {
        skim_snapshot_layer layer = {2, 32, 32, SKIM_F16, true};
        skim_snapshot_emit_layer(&layer,
                                 data + SKIM_SNAPSHOT_HEADER_SIZE + i * SKIM_SNAPSHOT_RECORD_SIZE);
    }
    repair_head(data, COUNT);
    assert_int_equal(refuse(&v, data, SIZE), SKIM_UNSUPPORTED);
    rig_file file = {.data = data, .size = SIZE};
    skim_snapshot_info info = {.size_of = sizeof info};
    assert_int_equal(skim_snapshot_inspect(rig_read, &file, &info), SKIM_OK);
    assert_int_equal(info.layer_count, COUNT);
    data[SKIM_SNAPSHOT_HEADER_SIZE + 500] ^= 1;
    rig_rewind(&file);
    assert_int_equal(skim_snapshot_inspect(rig_read, &file, &info), SKIM_INVALID);
    free(data);
    victim_close(&v);
}

// Through transfers the same file is refused the same way.
static void what_lies_past_the_end_is_refused(void **state)
{
    (void)state;
    for (rig_kind kind = RIG_CPU; kind <= RIG_NULL_APART; kind++) {
        static victim v;
        victim_open(&v, kind, 21);
        // The first layer's section: two pages of two heads of 32, f16; token 5 of the second page.
        size_t start = SKIM_SNAPSHOT_HEADER_SIZE + RIG_LAYERS * SKIM_SNAPSHOT_RECORD_SIZE + 16;
        size_t half = RIG_PAGE * 32 * 2, size = 2 * 2 * 2 * half;
        for (int part = 0; part < 4; part++) {
            uint8_t *byte = v.good.data + start + size / 2 + part * half + 5 * 32 * 2;
            assert_int_equal(*byte, 0);
            *byte = 1;
            uint64_t sum = skim_checksum_of(v.good.data + start, size);
            skim_snapshot_store64(v.good.data + start + size, sum);
            assert_int_equal(refuse(&v, v.good.data, v.good.size), SKIM_INVALID);
            *byte = 0;
            sum = skim_checksum_of(v.good.data + start, size);
            skim_snapshot_store64(v.good.data + start + size, sum);
        }
        assert_int_equal(rig_load(v.sequence, &v.good), SKIM_OK);
        victim_close(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_xxh64),
        cmocka_unit_test(what_is_emitted_is_parsed),
        cmocka_unit_test(impossible_headers_are_refused),
        cmocka_unit_test(impossible_records_are_refused),
        cmocka_unit_test(sizes_are_exact_or_refused),
        cmocka_unit_test(swapping_turns_elements),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(lies_with_right_checksums_are_refused),
        cmocka_unit_test(more_layers_than_the_cache_are_refused),
        cmocka_unit_test(what_lies_past_the_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
