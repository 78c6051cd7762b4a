// Tier 1: an application decodes with a cache that reads few pages.
//
// The "model" here is random numbers; replace them by your layers' projections. The program appends
// a prompt, decodes some tokens, and prints what each step read.
#include <skim/skim.h>

#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 4, Q_HEADS = 8, KV_HEADS = 2, DIM = 64, PROMPT = 2000, NEW = 3 };

static float queries[Q_HEADS * DIM], keys[PROMPT * KV_HEADS * DIM], values[PROMPT * KV_HEADS * DIM];
static float out[Q_HEADS * DIM];

static void fill(float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = 2.0f * (float)rand() / (float)RAND_MAX - 1.0f;
}

// The sentence is on the object that the call was made on.
static int fail(const skim_cache *cache, const skim_queue *queue, skim_status status)
{
    char text[256] = "";
    if (cache)
        skim_cache_error(cache, text, sizeof text);
    else
        skim_queue_error(queue, text, sizeof text);
    fprintf(stderr, "decode: %s\n", *text ? text : skim_status_name(status));
    return 1;
}

// Appends tokens and, when there is one, attends with its query.
static skim_status forward(skim_cache *cache, skim_queue *queue, skim_sequence *sequence,
                           uint32_t tokens)
{
    skim_step *step = NULL;
    skim_step_entry entry = {.sequence = sequence, .tokens = tokens};
    skim_status status = skim_step_begin(cache, &entry, 1, &step);
    for (uint32_t layer = 0; layer < LAYERS && status == SKIM_OK; layer++) {
        fill(keys, tokens * KV_HEADS * DIM);
        fill(values, tokens * KV_HEADS * DIM);
        fill(queries, Q_HEADS * DIM);
        skim_tensor k = skim_tensor_host(keys, SKIM_F32);
        skim_tensor v = skim_tensor_host(values, SKIM_F32);
        status = skim_step_append(step, layer, &k, &v);
        if (status != SKIM_OK || tokens > 1)
            continue;
        skim_step_attend_args args = {.size_of = sizeof args,
                                      .q = skim_tensor_host(queries, SKIM_F32),
                                      .out = skim_tensor_host(out, SKIM_F32)};
        skim_step_report report = {.size_of = sizeof report};
        if ((status = skim_step_attend(step, layer, &args)) != SKIM_OK ||
            (status = skim_queue_finish(queue)) != SKIM_OK ||
            (status = skim_step_get_report(step, layer, &report)) != SKIM_OK)
            continue;
        // out now holds the layer's attention; a model goes on from here.
        printf("layer %u: %llu of %llu pages, out[0] = %.4f\n", layer,
               (unsigned long long)report.pages_read, (unsigned long long)report.pages_total,
               out[0]);
    }
    if (status == SKIM_OK)
        return skim_step_end(step, NULL);
    skim_step_cancel(step);
    return status;
}

int main(void)
{
    skim_runtime *runtime = NULL;
    skim_device *device = NULL;
    skim_queue *queue = NULL;
    if (skim_runtime_create(NULL, &runtime) != SKIM_OK ||
        skim_device_open(runtime, "auto", NULL, &device) != SKIM_OK ||
        skim_queue_create(device, &queue) != SKIM_OK) {
        char text[256] = "no device";
        skim_runtime_error(runtime, text, sizeof text);
        fprintf(stderr, "decode: %s\n", text);
        skim_device_close(device);
        skim_runtime_destroy(runtime);
        return 1;
    }
    skim_layer layers[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        layers[i] = (skim_layer){.size_of = sizeof layers[i],
                                 .q_heads = Q_HEADS,
                                 .kv_heads = KV_HEADS,
                                 .key_dim = DIM,
                                 .type = SKIM_F32};
    skim_policy policy = skim_policy_defaults(); // the first two layers stay dense
    policy.budget = 256;
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = layers,
                                  .layer_count = LAYERS,
                                  .capacity = 4096,
                                  .max_step_tokens = PROMPT,
                                  .policy = &policy};
    skim_cache *cache = NULL;
    skim_sequence *sequence = NULL;
    skim_status status = skim_cache_create(queue, &options, &cache);
    if (status == SKIM_OK)
        status = skim_sequence_create(cache, &sequence);
    if (status == SKIM_OK)
        status = forward(cache, queue, sequence, PROMPT);
    for (int token = 0; token < NEW && status == SKIM_OK; token++)
        status = forward(cache, queue, sequence, 1);
    int result = status == SKIM_OK ? 0 : fail(cache, queue, status);
    skim_cache_destroy(cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    return result;
}
