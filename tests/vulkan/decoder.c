#include "decoder.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void decoder_fill(decoder_data *data, unsigned seed)
{
    memset(data, 0, sizeof *data);
    uint64_t state = seed + 1;
    float *numbers = &data->k[0][0][0][0];
    for (size_t i = 0; i < offsetof(decoder_data, out) / sizeof(float); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        numbers[i] = (float)(state >> 40) * 0x1p-23f - 1.0f;
    }
}

static skim_status say(const decoder_session *session, skim_status status, const char *call)
{
    char text[300] = "";
    if (status == SKIM_OK)
        return status;
    if (session->cache)
        skim_cache_error(session->cache, text, sizeof text);
    if (!text[0] && session->queue)
        skim_queue_error(session->queue, text, sizeof text);
    fprintf(stderr, "%s: %s: %s\n", call, skim_status_name(status), text);
    return status;
}

skim_status decoder_open(skim_device *device, decoder_session *session)
{
    *session = (decoder_session){0};
    skim_layer layers[DECODER_LAYERS];
    for (int i = 0; i < DECODER_LAYERS; i++)
        layers[i] = (skim_layer){.size_of = sizeof layers[i],
                                 .q_heads = DECODER_Q_HEADS,
                                 .kv_heads = DECODER_KV_HEADS,
                                 .key_dim = DECODER_DIM,
                                 .type = SKIM_F32};
    skim_policy policy = skim_policy_defaults();
    policy.dense_layers = 1;
    policy.budget = 48;
    const skim_cache_options options = {.size_of = sizeof options,
                                        .layers = layers,
                                        .layer_count = DECODER_LAYERS,
                                        .capacity = 512,
                                        .policy = &policy};
    skim_status status = skim_queue_create(device, &session->queue);
    if (status == SKIM_OK)
        status = say(session, skim_cache_create(session->queue, &options, &session->cache),
                     "skim_cache_create");
    if (status == SKIM_OK)
        status = say(session, skim_cache_prepare(session->cache, NULL), "skim_cache_prepare");
    if (status == SKIM_OK)
        status = say(session, skim_sequence_create(session->cache, &session->sequence),
                     "skim_sequence_create");
    return status;
}

static skim_tensor tensor(const decoder_data *data, skim_buffer *buffer, const float *at)
{
    if (!buffer)
        return skim_tensor_host(at, SKIM_F32);
    return skim_tensor_buffer(buffer, (uint64_t)((const char *)at - (const char *)data), SKIM_F32);
}

static skim_status record_step(decoder_session *session, decoder_data *data, skim_buffer *buffer,
                               uint32_t first, uint32_t tokens)
{
    skim_step *step = NULL;
    const skim_step_entry entry = {session->sequence, tokens};
    skim_status status =
        say(session, skim_step_begin(session->cache, &entry, 1, &step), "skim_step_begin");
    for (uint32_t layer = 0; layer < DECODER_LAYERS && status == SKIM_OK; layer++) {
        skim_tensor k = tensor(data, buffer, data->k[layer][first][0]);
        skim_tensor v = tensor(data, buffer, data->v[layer][first][0]);
        status = say(session, skim_step_append(step, layer, &k, &v), "skim_step_append");
        if (status != SKIM_OK || tokens > 1)
            continue;
        const uint32_t index = first - DECODER_PROMPT;
        const skim_step_attend_args args = {.size_of = sizeof args,
                                            .q = tensor(data, buffer, data->q[layer][index][0]),
                                            .out =
                                                tensor(data, buffer, data->out[index][layer][0])};
        status = say(session, skim_step_attend(step, layer, &args), "skim_step_attend");
    }
    if (status == SKIM_OK)
        status = say(session, skim_step_end(step, NULL), "skim_step_end");
    else
        skim_step_cancel(step);
    return status;
}

skim_status decoder_record(decoder_session *session, decoder_data *data, skim_buffer *buffer)
{
    skim_status status = record_step(session, data, buffer, 0, DECODER_PROMPT);
    for (uint32_t i = 0; i < DECODER_STEPS && status == SKIM_OK; i++)
        status = record_step(session, data, buffer, DECODER_PROMPT + i, 1);
    return status;
}

void decoder_close(decoder_session *session)
{
    skim_cache_destroy(session->cache);
    skim_queue_destroy(session->queue);
    *session = (decoder_session){0};
}

skim_status decoder_run(skim_device *device, decoder_data *data)
{
    decoder_session session;
    skim_status status = decoder_open(device, &session);
    if (status == SKIM_OK)
        status = decoder_record(&session, data, NULL);
    if (status == SKIM_OK)
        status = say(&session, skim_queue_finish(session.queue), "skim_queue_finish");
    decoder_close(&session);
    return status;
}

void decoder_run_cpu(decoder_data *data)
{
    skim_runtime *runtime = NULL;
    skim_device *device = NULL;
    if (skim_runtime_create(NULL, &runtime) != SKIM_OK ||
        skim_device_open(runtime, "cpu", NULL, &device) != SKIM_OK ||
        decoder_run(device, data) != SKIM_OK) {
        fputs("the CPU could not run the model\n", stderr);
        exit(1);
    }
    skim_device_close(device);
    skim_runtime_destroy(runtime);
}

double decoder_difference(const decoder_data *a, const decoder_data *b)
{
    const float *x = &a->out[0][0][0][0], *y = &b->out[0][0][0][0];
    double largest = 0;
    for (size_t i = 0; i < sizeof a->out / sizeof(float); i++) {
        double difference = fabs((double)x[i] - (double)y[i]) / (1 + fabs((double)y[i]));
        // What is no number is as far off as can be.
        if (!(difference <= largest))
            largest = isnan(difference) ? INFINITY : difference;
    }
    return largest;
}
