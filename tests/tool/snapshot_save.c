// Saves sequences of several lengths to the folder given, and prints as JSON what each file must
// hold: for tests/tool/snapshot.py, which knows the format by its document alone.
#include "skim/skim.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, PAGE = 16, TOKENS_MAX = 128, VALUES_MAX = TOKENS_MAX * 128 };

static const skim_layer layers[LAYERS] = {
    {.size_of = sizeof(skim_layer), .q_heads = 4, .kv_heads = 2, .key_dim = 32, .type = SKIM_F16},
    {.size_of = sizeof(skim_layer), .q_heads = 3, .kv_heads = 3, .key_dim = 40, .type = SKIM_F32},
    {.size_of = sizeof(skim_layer), .q_heads = 4, .kv_heads = 1, .key_dim = 64, .type = SKIM_BF16},
};
static uint8_t k[LAYERS][VALUES_MAX * 4], v[LAYERS][VALUES_MAX * 4];

static void require(skim_status status, const char *what)
{
    if (status == SKIM_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, skim_status_name(status));
    exit(1);
}

static size_t token_bytes(uint32_t layer)
{
    return layers[layer].kv_heads * layers[layer].key_dim * skim_type_size(layers[layer].type);
}

// Any bits but those of infinities and NaN.
static void fill(uint8_t *data, uint32_t layer, uint32_t tokens, uint32_t seed)
{
    size_t width = skim_type_size(layers[layer].type), size = tokens * token_bytes(layer);
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (uint8_t)(seed >> 24);
        if (i % width == width - 1)
            data[i] &= 0xbf;
    }
}

static void print_hex(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", data[i]);
}

static int write_file(void *user, const void *data, size_t size)
{
    return fwrite(data, 1, size, user) != size;
}

static void append(skim_cache *cache, skim_sequence *sequence, uint32_t tokens)
{
    skim_step *step;
    skim_step_entry entry = {sequence, tokens};
    require(skim_step_begin(cache, &entry, 1, &step), "begin");
    for (uint32_t i = 0; i < LAYERS; i++) {
        fill(k[i], i, tokens, tokens * 64 + 2 * i);
        fill(v[i], i, tokens, tokens * 64 + 2 * i + 1);
        skim_tensor kt = skim_tensor_host(k[i], layers[i].type);
        skim_tensor vt = skim_tensor_host(v[i], layers[i].type);
        require(skim_step_append(step, i, &kt, &vt), "append");
    }
    require(skim_step_end(step, NULL), "end");
}

static void describe(const skim_snapshot_save_args *args, uint32_t tokens, bool centres)
{
    printf("{\"page_size\": %d, \"tokens\": %u, \"fingerprint\": \"", PAGE, tokens);
    print_hex(args->fingerprint, SKIM_FINGERPRINT_SIZE);
    printf("\", \"blob\": \"");
    print_hex(args->blob, (size_t)args->blob_size);
    printf("\", \"layers\": [");
    for (uint32_t i = 0; i < LAYERS; i++)
        printf("%s[%u, %u, %u, %d]", i ? ", " : "", layers[i].kv_heads, layers[i].key_dim,
               layers[i].key_dim, (int)layers[i].type);
    printf("], \"centres\": [%d, %d, %d], \"kv\": [", centres, centres, centres);
    for (uint32_t i = 0; i < LAYERS; i++) {
        printf("%s\"", i ? ", " : "");
        for (uint32_t t = 0; t < tokens; t++) {
            print_hex(k[i] + t * token_bytes(i), token_bytes(i));
            print_hex(v[i] + t * token_bytes(i), token_bytes(i));
        }
        printf("\"");
    }
    printf("]}");
}

static void save(skim_queue *queue, const char *folder, uint32_t tokens, skim_bounds_type bounds)
{
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = LAYERS,
                                  .page_size = PAGE,
                                  .capacity = TOKENS_MAX,
                                  .max_step_tokens = TOKENS_MAX,
                                  .bounds_type = bounds};
    skim_cache *cache;
    skim_sequence *sequence;
    skim_status status = skim_cache_create(queue, &options, &cache);
    if (status == SKIM_UNSUPPORTED && bounds == SKIM_BOUNDS_I8)
        return;
    require(status, "cache");
    require(skim_sequence_create(cache, &sequence), "sequence");
    if (tokens > 0)
        append(cache, sequence, tokens);
    char path[4096];
    const char *name = bounds == SKIM_BOUNDS_I8 ? "i8" : "native";
    snprintf(path, sizeof path, "%s/%s-%u", folder, name, tokens);
    FILE *file = fopen(path, "wb");
    if (!file)
        require(SKIM_FAILED, path);
    skim_snapshot_save_args args = {.size_of = sizeof args,
                                    .write = write_file,
                                    .user = file,
                                    .blob = "bytes of the host's",
                                    .blob_size = tokens % 20};
    for (int i = 0; i < SKIM_FINGERPRINT_SIZE; i++)
        args.fingerprint[i] = (uint8_t)(tokens + 7 * i);
    require(skim_snapshot_save(sequence, &args), "save");
    if (fclose(file) != 0)
        require(SKIM_FAILED, path);
    static bool any;
    printf("%s\"%s-%u\": ", any ? ",\n" : "{", name, tokens);
    any = true;
    describe(&args, tokens, bounds == SKIM_BOUNDS_I8 && tokens > 0);
    skim_cache_destroy(cache);
}

int main(int argc, char **argv)
{
    static const uint32_t lengths[] = {0, 1, 16, 37, 128};
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    if (argc != 2)
        return 2;
    require(skim_runtime_create(NULL, &runtime), "runtime");
    require(skim_device_open(runtime, "cpu", NULL, &device), "device");
    require(skim_queue_create(device, &queue), "queue");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        save(queue, argv[1], lengths[i], SKIM_BOUNDS_NATIVE);
        save(queue, argv[1], lengths[i], SKIM_BOUNDS_I8);
    }
    printf("}\n");
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    return 0;
}
