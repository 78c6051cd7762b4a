// Saves a session to a file and restores it into another cache: save.c [FILE]
//
// The file carries the tokens' K and V, a fingerprint of the model, and a blob of the program's
// own, here the token ids. The second cache is larger than the first; its answer is the same, bit
// for bit.
#include <skim/skim.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, Q_HEADS = 4, KV_HEADS = 2, DIM = 64, TOKENS = 1000 };

// Everything that changes what the tokens' K and V mean belongs in it: a hash of the weights, say.
static const uint8_t fingerprint[SKIM_FINGERPRINT_SIZE] = "made-up model 1";
static const uint8_t another[SKIM_FINGERPRINT_SIZE] = "made-up model 2";

// A cache with one sequence, the session.
typedef struct session {
    skim_cache *cache;
    skim_sequence *sequence;
    float out[LAYERS][Q_HEADS * DIM];
} session;

static skim_runtime *runtime;
static skim_device *device;
static skim_queue *queue;
static session first, second;
static int32_t ids[TOKENS];
static float keys[TOKENS * KV_HEADS * DIM], values[TOKENS * KV_HEADS * DIM];
static float query[Q_HEADS * DIM];

// The sentence is on the object that the call was made on.
static int fail(const char *what, const skim_cache *cache, skim_status status)
{
    char text[256] = "";
    if (!skim_cache_error(cache, text, sizeof text) &&
        !skim_queue_error(queue, text, sizeof text) &&
        !skim_device_error(device, text, sizeof text))
        skim_runtime_error(runtime, text, sizeof text);
    fprintf(stderr, "save: %s: %s: %s\n", what, skim_status_name(status), text);
    return 1;
}

static void make_up_a_model(void)
{
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i * 7919 % 32000;
    for (int i = 0; i < TOKENS * KV_HEADS * DIM; i++) {
        keys[i] = (float)(i * 31 % 101) / 101.0f - 0.5f;
        values[i] = (float)(i * 17 % 103) / 103.0f - 0.5f;
    }
    for (int i = 0; i < Q_HEADS * DIM; i++)
        query[i] = (float)(i * 13 % 29) / 29.0f - 0.5f;
}

static skim_status open_session(session *s, uint64_t capacity)
{
    skim_layer layer = {.size_of = sizeof layer,
                        .q_heads = Q_HEADS,
                        .kv_heads = KV_HEADS,
                        .key_dim = DIM,
                        .type = SKIM_F32};
    skim_layer layers[LAYERS] = {layer, layer, layer};
    skim_policy policy = skim_policy_defaults();
    policy.budget = 256;
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = LAYERS,
                                  .capacity = capacity,
                                  .max_step_tokens = TOKENS,
                                  .policy = &policy};
    skim_status status = skim_cache_create(queue, &options, &s->cache);
    return status == SKIM_OK ? skim_sequence_create(s->cache, &s->sequence) : status;
}

// Appends tokens to each layer; attends with the last one when there is just one.
static skim_status forward(session *s, uint32_t tokens)
{
    skim_step *step = NULL;
    skim_step_entry entry = {s->sequence, tokens};
    skim_tensor k = skim_tensor_host(keys, SKIM_F32), v = skim_tensor_host(values, SKIM_F32);
    skim_status status = skim_step_begin(s->cache, &entry, 1, &step);
    if (status != SKIM_OK)
        return status;
    for (uint32_t layer = 0; layer < LAYERS && status == SKIM_OK; layer++) {
        skim_step_attend_args args = {.size_of = sizeof args,
                                      .q = skim_tensor_host(query, SKIM_F32),
                                      .out = skim_tensor_host(s->out[layer], SKIM_F32)};
        status = skim_step_append(step, layer, &k, &v);
        if (status == SKIM_OK && tokens == 1)
            status = skim_step_attend(step, layer, &args);
    }
    if (status == SKIM_OK)
        status = skim_step_end(step, NULL);
    if (status != SKIM_OK) {
        skim_step_cancel(step);
        return status;
    }
    return skim_queue_finish(queue);
}

static int write_file(void *user, const void *data, size_t size)
{
    return fwrite(data, 1, size, (FILE *)user) != size;
}

static int read_file(void *user, void *data, size_t size)
{
    return fread(data, 1, size, (FILE *)user) != size;
}

static int save(const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) {
        fprintf(stderr, "save: cannot write %s\n", path);
        return 1;
    }
    skim_snapshot_save_args args = {.size_of = sizeof args,
                                    .write = write_file,
                                    .user = file,
                                    .blob = ids,
                                    .blob_size = sizeof ids};
    memcpy(args.fingerprint, fingerprint, sizeof fingerprint);
    skim_status status = skim_snapshot_save(first.sequence, &args);
    if (fclose(file) != 0 && status == SKIM_OK) {
        fprintf(stderr, "save: %s was not written whole\n", path);
        return 1;
    }
    return status == SKIM_OK ? 0 : fail("saving", first.cache, status);
}

// Loads what inspect promised; the blob goes to memory made for it.
static skim_status load(FILE *file, const skim_snapshot_info *info, const uint8_t *model,
                        int32_t *blob)
{
    skim_snapshot_load_args args = {.size_of = sizeof args,
                                    .read = read_file,
                                    .user = file,
                                    .blob = blob,
                                    .blob_capacity = info->blob_size};
    memcpy(args.fingerprint, model, sizeof fingerprint);
    rewind(file);
    return skim_snapshot_load(second.sequence, &args);
}

static int restore_from(FILE *file)
{
    skim_snapshot_info info = {.size_of = sizeof info};
    skim_status status = skim_snapshot_inspect(read_file, file, &info);
    if (status != SKIM_OK) {
        fprintf(stderr, "save: this is no snapshot: %s\n", skim_status_name(status));
        return 1;
    }
    printf("the file holds %llu tokens of %u layers, %llu bytes in all\n",
           (unsigned long long)info.tokens, info.layer_count, (unsigned long long)info.total_size);
    if (memcmp(info.fingerprint, fingerprint, sizeof fingerprint) != 0) {
        fprintf(stderr, "save: the file is of another model\n");
        return 1;
    }
    int32_t *blob = (int32_t *)malloc((size_t)info.blob_size);
    if (!blob || (status = open_session(&second, 2 * info.tokens)) != SKIM_OK) {
        free(blob);
        return fail("making room", second.cache, status);
    }
    // Another model's tokens are refused, and the sequence stays as it was.
    if (load(file, &info, another, blob) == SKIM_INVALID) {
        char text[256] = "";
        skim_cache_error(second.cache, text, sizeof text);
        printf("with another fingerprint: %s\n", text);
    }
    status = load(file, &info, fingerprint, blob);
    int same =
        status == SKIM_OK && info.blob_size == sizeof ids && memcmp(blob, ids, sizeof ids) == 0;
    free(blob);
    if (status != SKIM_OK)
        return fail("restoring", second.cache, status);
    printf("restored %llu tokens; the token ids %s\n",
           (unsigned long long)skim_sequence_length(second.sequence),
           same ? "came back" : "are others");
    return same ? 0 : 1;
}

static int restore(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "save: cannot read %s\n", path);
        return 1;
    }
    int result = restore_from(file);
    fclose(file);
    return result;
}

static int run(const char *path)
{
    skim_status status = skim_runtime_create(NULL, &runtime);
    if (status == SKIM_OK)
        status = skim_device_open(runtime, "auto", NULL, &device);
    if (status == SKIM_OK)
        status = skim_queue_create(device, &queue);
    if (status == SKIM_OK)
        status = open_session(&first, TOKENS + 100);
    if (status == SKIM_OK)
        status = forward(&first, TOKENS);
    if (status != SKIM_OK)
        return fail("starting", first.cache, status);
    if (save(path) != 0 || restore(path) != 0)
        return 1;
    // Both sessions go on with the same token.
    if ((status = forward(&first, 1)) != SKIM_OK)
        return fail("going on", first.cache, status);
    if ((status = forward(&second, 1)) != SKIM_OK)
        return fail("going on, restored", second.cache, status);
    int same = memcmp(first.out, second.out, sizeof first.out) == 0;
    printf("the restored session answers %s\n", same ? "the same, bit for bit" : "otherwise");
    return same ? 0 : 1;
}

int main(int argc, char **argv)
{
    make_up_a_model();
    int result = run(argc > 1 ? argv[1] : "session.skim");
    skim_cache_destroy(first.cache);
    skim_cache_destroy(second.cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    return result;
}
