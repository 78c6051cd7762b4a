// The smallest program that decodes. The "model" is made up so that the answer is known: a token's
// value is its number, and the query looks for the key of one. Put your layers' projections there.
#include <skim/skim.h>

#include <stdio.h>

enum { LAYERS = 4, Q_HEADS = 8, KV_HEADS = 2, DIM = 64, PROMPT = 20000, NEEDLE = 12345 };

static float keys[PROMPT * KV_HEADS * DIM], values[PROMPT * KV_HEADS * DIM];
static float query[Q_HEADS * DIM], out[Q_HEADS * DIM];
static skim_runtime *runtime;
static skim_device *device;
static skim_queue *queue;
static skim_cache *cache;
static skim_sequence *sequence;

static void make_up_a_model(void)
{
    for (int i = 0; i < PROMPT * KV_HEADS * DIM; i++) {
        int token = i / (KV_HEADS * DIM), own = token == NEEDLE ? 0 : 1 + token % (DIM - 1);
        keys[i] = i % DIM == own ? 10.0f : 0.0f;
        values[i] = (float)token;
        query[i % (Q_HEADS * DIM)] = i % DIM == 0 ? 30.0f : 0.0f;
    }
}

// Appends tokens to each layer; attends with the last one when there is just one.
static skim_status forward(uint32_t tokens)
{
    skim_step *step = NULL;
    skim_step_entry entry = {sequence, tokens};
    skim_tensor k = skim_tensor_host(keys, SKIM_F32), v = skim_tensor_host(values, SKIM_F32);
    skim_tensor q = skim_tensor_host(query, SKIM_F32), o = skim_tensor_host(out, SKIM_F32);
    skim_step_attend_args args = {.size_of = sizeof args, .q = q, .out = o};
    skim_step_report report = {.size_of = sizeof report};
    skim_status status = skim_step_begin(cache, &entry, 1, &step);
    for (uint32_t layer = 0; layer < LAYERS && status == SKIM_OK; layer++) {
        if ((status = skim_step_append(step, layer, &k, &v)) == SKIM_OK && tokens == 1 &&
            (status = skim_step_attend(step, layer, &args)) == SKIM_OK &&
            (status = skim_queue_finish(queue)) == SKIM_OK && // now out is there
            (status = skim_step_get_report(step, layer, &report)) == SKIM_OK)
            printf("layer %u: %d of %d pages, found token %.1f\n", layer, (int)report.pages_read,
                   (int)report.pages_total, out[0]);
    }
    return status == SKIM_OK ? skim_step_end(step, NULL) : status; // the cache ends an open step
}

int main(void)
{
    make_up_a_model();
    skim_layer layer = {.size_of = sizeof layer, .q_heads = Q_HEADS, .kv_heads = KV_HEADS};
    layer.key_dim = DIM;
    layer.type = SKIM_F32;
    skim_layer layers[LAYERS] = {layer, layer, layer, layer};
    skim_cache_options options = {.size_of = sizeof options, .layers = layers};
    options.layer_count = LAYERS;
    options.capacity = 32768; // tokens
    options.max_step_tokens = PROMPT;
    skim_status status = skim_runtime_create(NULL, &runtime);
    if (status == SKIM_OK &&
        (status = skim_device_open(runtime, "auto", NULL, &device)) == SKIM_OK &&
        (status = skim_queue_create(device, &queue)) == SKIM_OK &&
        (status = skim_cache_create(queue, &options, &cache)) == SKIM_OK &&
        (status = skim_sequence_create(cache, &sequence)) == SKIM_OK &&
        (status = forward(PROMPT)) == SKIM_OK)
        status = forward(1);
    char text[256] = ""; // the sentence is on the object that the call was made on
    if (status != SKIM_OK && !skim_cache_error(cache, text, sizeof text) &&
        !skim_queue_error(queue, text, sizeof text) &&
        !skim_device_error(device, text, sizeof text))
        skim_runtime_error(runtime, text, sizeof text);
    if (status != SKIM_OK)
        fprintf(stderr, "decode: %s: %s\n", skim_status_name(status), text);
    skim_cache_destroy(cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    return status != SKIM_OK || out[0] != (float)NEEDLE;
}
