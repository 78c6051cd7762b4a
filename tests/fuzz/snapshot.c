// libFuzzer target: loading a snapshot. Whatever the file holds, a load that fails leaves sequence
// and pool as they were, and one that succeeds leaves a sequence that decodes.
//
// The mutator repairs the checksums of seven inputs in eight, so that what lies behind them is
// reached. SKIM_FUZZ_SEEDS=FOLDER writes first inputs to an existing folder and exits.
#include "runtime/cache.h"
#include "runtime/checksum.h"
#include "runtime/snapshot_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 8, SLOTS = 12, KEPT_TOKENS = 5, STEP_TOKENS = 64, DIM = 32, LAYERS = 2, CACHES = 3 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);

typedef struct input {
    const uint8_t *data;
    size_t size, at;
} input;

static const skim_layer layers[LAYERS] = {
    {.size_of = sizeof(skim_layer), .q_heads = 2, .kv_heads = 1, .key_dim = DIM, .type = SKIM_F16},
    {.size_of = sizeof(skim_layer), .q_heads = 2, .kv_heads = 2, .key_dim = DIM, .type = SKIM_F32},
};
static skim_cache *caches[CACHES]; // native, i8 whose centre is frozen, i8 whose centre is not
static skim_sequence *sequences[CACHES];

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// --- caches

static skim_cache *make_cache(skim_queue *queue, skim_bounds_type bounds_type)
{
    skim_policy policy = skim_policy_defaults();
    policy.dense_layers = 0;
    policy.budget = 2 * PAGE;
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = LAYERS,
                                  .page_size = PAGE,
                                  .capacity = SLOTS * PAGE,
                                  .max_sequences = 2,
                                  .max_step_tokens = STEP_TOKENS,
                                  .bounds_type = bounds_type,
                                  .policy = &policy};
    skim_cache *cache = NULL;
    skim_status status = skim_cache_create(queue, &options, &cache);
    if (status == SKIM_UNSUPPORTED) // a device without i8 bounds
        return NULL;
    REQUIRE(status == SKIM_OK);
    REQUIRE(skim_cache_prepare(cache, NULL) == SKIM_OK);
    return cache;
}

static void decode(skim_cache *cache, skim_sequence *sequence, uint32_t tokens, bool keep)
{
    static float k[STEP_TOKENS * 2 * DIM], q[STEP_TOKENS * 2 * DIM], out[STEP_TOKENS * 2 * DIM];
    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        k[i] = q[i] = (float)(i % 7) - 3.0f;
    skim_step *step;
    skim_step_entry entry = {sequence, tokens};
    REQUIRE(skim_step_begin(cache, &entry, 1, &step) == SKIM_OK);
    for (uint32_t i = 0; i < LAYERS; i++) {
        skim_tensor kv = skim_tensor_host(k, layers[i].type);
        skim_step_attend_args attend = {.size_of = sizeof attend,
                                        .q = skim_tensor_host(q, SKIM_F32),
                                        .out = skim_tensor_host(out, SKIM_F32)};
        REQUIRE(skim_step_append(step, i, &kv, &kv) == SKIM_OK);
        REQUIRE(skim_step_attend(step, i, &attend) == SKIM_OK);
    }
    if (keep)
        REQUIRE(skim_step_end(step, NULL) == SKIM_OK);
    REQUIRE(skim_queue_finish(cache->queue) == SKIM_OK);
    skim_step_cancel(step);
}

static void reset(int which)
{
    skim_cache *cache = caches[which];
    REQUIRE(skim_sequence_truncate(sequences[which], 0) == SKIM_OK);
    if (which == 2) { // as if nothing had ever been appended
        for (uint32_t i = 0; i < LAYERS; i++)
            cache->layers[i].frozen = false;
        return;
    }
    decode(cache, sequences[which], KEPT_TOKENS, true);
}

static int read_input(void *user, void *data, size_t size)
{
    input *from = user;
    if (size > from->size - from->at)
        return 1;
    memcpy(data, from->data + from->at, size);
    from->at += size;
    return 0;
}

// --- first inputs

static int write_file(void *user, const void *data, size_t size)
{
    return fwrite(data, 1, size, user) != size;
}

static void write_seeds(const char *folder)
{
    static const uint32_t lengths[] = {0, 1, 8, 13, 40};
    for (int c = 0; c < 2 && caches[c]; c++) {
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s-%u", folder, c ? "i8" : "native", lengths[i]);
            FILE *file = fopen(path, "wb");
            REQUIRE(file);
            REQUIRE(skim_sequence_truncate(sequences[c], 0) == SKIM_OK);
            if (lengths[i] > 0)
                decode(caches[c], sequences[c], lengths[i], true);
            skim_snapshot_save_args args = {.size_of = sizeof args,
                                            .write = write_file,
                                            .user = file,
                                            .blob = "the host's own",
                                            .blob_size = i * 3};
            REQUIRE(skim_snapshot_save(sequences[c], &args) == SKIM_OK);
            REQUIRE(fclose(file) == 0);
        }
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    const skim_device_options options = {.size_of = sizeof options, .threads = 1};
    REQUIRE(skim_runtime_create(NULL, &runtime) == SKIM_OK);
    REQUIRE(skim_device_open(runtime, "cpu", &options, &device) == SKIM_OK);
    REQUIRE(skim_queue_create(device, &queue) == SKIM_OK);
    for (int i = 0; i < CACHES; i++) {
        caches[i] = make_cache(queue, i == 0 ? SKIM_BOUNDS_NATIVE : SKIM_BOUNDS_I8);
        if (!caches[i])
            continue;
        REQUIRE(skim_sequence_create(caches[i], &sequences[i]) == SKIM_OK);
        reset(i);
    }
    const char *folder = getenv("SKIM_FUZZ_SEEDS");
    if (folder) {
        write_seeds(folder);
        exit(0);
    }
    return 0;
}

// --- mutation

static void repair_at(uint8_t *data, size_t from, size_t to)
{
    skim_snapshot_store64(data + to, skim_checksum_of(data + from, to - from));
}

// The end of a section that starts at `from`, where its checksum is; 0 if that is outside.
static size_t section_end(size_t size, size_t from, uint64_t bytes)
{
    return bytes <= size && from + bytes + 8 <= size ? from + (size_t)bytes : 0;
}

static void repair(uint8_t *data, size_t size)
{
    if (size < SKIM_SNAPSHOT_HEADER_SIZE)
        return;
    repair_at(data, 0, SKIM_SNAPSHOT_HEADER_SIZE - 8);
    skim_snapshot_header header;
    if (skim_snapshot_parse_header(data, &header, NULL) != SKIM_OK)
        return;
    size_t records = (size_t)header.layer_count * SKIM_SNAPSHOT_RECORD_SIZE;
    size_t end = section_end(size, 0, SKIM_SNAPSHOT_HEADER_SIZE + records);
    if (end == 0)
        return;
    repair_at(data, 0, end);
    size_t from = end + 8;
    end = section_end(size, from, header.blob_size);
    for (uint32_t i = 0; end > 0 && i <= header.layer_count; i++) {
        repair_at(data, from, end);
        from = end + 8;
        const uint8_t *record =
            data + SKIM_SNAPSHOT_HEADER_SIZE + (size_t)i * SKIM_SNAPSHOT_RECORD_SIZE;
        skim_snapshot_layer layer;
        uint64_t bytes = 0;
        if (i == header.layer_count ||
            skim_snapshot_parse_layer(record, i, &layer, NULL) != SKIM_OK ||
            !skim_snapshot_add_layer(&header, &layer, &bytes))
            return;
        end = section_end(size, from, bytes - 8);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, capacity);
    if (seed % 8 != 0)
        repair(data, size);
    return size;
}

// --- the test

typedef struct state {
    uint32_t length, pages, free_count, shared;
    uint32_t slots[SLOTS], free_slots[SLOTS], references[SLOTS];
} state;

static state state_of(int which)
{
    const skim_pool *pool = &caches[which]->pool;
    const skim_sequence *sequence = sequences[which];
    state s;
    memset(&s, 0, sizeof s);
    s.length = sequence->length;
    s.pages = sequence->page_count;
    s.free_count = pool->free_count;
    s.shared = pool->shared_count;
    memcpy(s.slots, sequence->slots, s.pages * sizeof *s.slots);
    memcpy(s.free_slots, pool->free_slots, s.free_count * sizeof *s.slots);
    memcpy(s.references, pool->references, sizeof s.references);
    return s;
}

static void try_load(int which, const uint8_t *data, size_t size, uint64_t tokens)
{
    uint8_t blob[64];
    uint64_t blob_size = 0;
    input from = {data, size, 0};
    skim_snapshot_load_args args = {.size_of = sizeof args,
                                    .read = read_input,
                                    .user = &from,
                                    .blob = size % 2 ? blob : NULL,
                                    .blob_capacity = size % 2 ? sizeof blob : 0,
                                    .blob_size = &blob_size};
    state before = state_of(which);
    skim_status status = skim_snapshot_load(sequences[which], &args);
    if (status != SKIM_OK) {
        state after = state_of(which);
        REQUIRE(memcmp(&before, &after, sizeof before) == 0);
        REQUIRE(skim_cache_error(caches[which], NULL, 0) > 0);
        return;
    }
    REQUIRE(sequences[which]->length == tokens);
    REQUIRE(caches[which]->pool.free_count == SLOTS - sequences[which]->page_count);
    if (tokens < SLOTS * PAGE)
        decode(caches[which], sequences[which], 1, false);
    reset(which);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, size, 0};
    skim_snapshot_info info = {.size_of = sizeof info};
    skim_status status = skim_snapshot_inspect(read_input, &from, &info);
    REQUIRE(status != SKIM_OK || info.total_size > from.at - 1);
    for (int i = 0; i < CACHES && caches[i]; i++)
        try_load(i, data, size, info.tokens);
    return 0;
}
