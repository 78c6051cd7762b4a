#include "rig.h"

#include <stdlib.h>
#include <string.h>

rig_shape rig_shape_small(void)
{
    rig_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.layers = 3;
    shape.q_heads = 4;
    shape.kv_heads = 2;
    shape.dim = 64;
    shape.type = SKIM_F32;
    shape.io_type = SKIM_F32;
    return shape;
}

skim_status rig_open(rig *r, const skim_runtime_options *options, bool storing)
{
    memset(r, 0, sizeof *r);
    skim_status status = storing ? storing_runtime_create(options, &r->runtime)
                                 : skim_runtime_create(options, &r->runtime);
    skim_device_options device;
    memset(&device, 0, sizeof device);
    device.size_of = sizeof device;
    device.threads = 2;
    if (status == SKIM_OK)
        status = skim_device_open(r->runtime, "cpu", &device, &r->device);
    if (status == SKIM_OK)
        status = skim_queue_create(r->device, &r->queue);
    return status;
}

static uint32_t layer_q_heads(const rig_shape *shape, uint32_t layer)
{
    return shape->q_heads << (shape->mixed && layer % 2);
}

skim_status rig_add_cache(rig *r, rig_shape shape)
{
    skim_layer layers[RIG_LAYERS_MAX];
    memset(layers, 0, sizeof layers);
    for (uint32_t i = 0; i < shape.layers; i++) {
        layers[i].size_of = sizeof layers[i];
        layers[i].q_heads = layer_q_heads(&shape, i);
        layers[i].kv_heads = shape.kv_heads;
        layers[i].key_dim = shape.dim;
        layers[i].type = shape.type;
    }
    skim_policy policy = skim_policy_defaults();
    policy.budget = 64;
    policy.dense_layers = 1;
    skim_cache_options options;
    memset(&options, 0, sizeof options);
    options.size_of = sizeof options;
    options.layers = layers;
    options.layer_count = shape.layers;
    options.capacity = shape.tokens ? shape.tokens : 256;
    options.max_sequences = RIG_SEQUENCES;
    options.max_step_tokens = (uint32_t)options.capacity / 2;
    options.max_sequence_tokens = options.capacity / 2;
    options.bounds_type = shape.bounds_type;
    options.policy = &policy;
    r->shape = shape;
    return skim_cache_create(r->queue, &options, &r->cache);
}

skim_status rig_add_sequences(rig *r, uint32_t count)
{
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < count && status == SKIM_OK; i++)
        status = skim_sequence_create(r->cache, &r->sequences[i]);
    return status;
}

void rig_close(rig *r)
{
    skim_cache_destroy(r->cache);
    skim_queue_destroy(r->queue);
    skim_device_close(r->device);
    skim_runtime_destroy(r->runtime);
    memset(r, 0, sizeof *r);
}

// --- data

// A multiple of 1/4 that every type holds, never 0.
static void put_number(char *data, skim_type type, size_t index, uint32_t random)
{
    int quarters = (int)(random >> 24 & 15) - 8;
    float value = 0.25f * (float)(quarters >= 0 ? quarters + 1 : quarters);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (type == SKIM_F16)
        half = (uint16_t)(((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff) |
                          (bits >> 16 & 0x8000));
    if (type == SKIM_F32)
        memcpy(data + index * sizeof bits, &bits, sizeof bits);
    else
        memcpy(data + index * sizeof half, &half, sizeof half);
}

static char *make_numbers(skim_type type, size_t count, uint32_t *random)
{
    char *data = (char *)malloc(count * skim_type_size(type));
    CHECK(data != NULL);
    for (size_t i = 0; i < count; i++) {
        *random = *random * 1664525u + 1013904223u;
        put_number(data, type, i, *random);
    }
    return data;
}

void rig_data_init(rig_data *data, const rig_shape *shape, uint32_t tokens, uint32_t seed)
{
    memset(data, 0, sizeof *data);
    size_t kv = (size_t)tokens * shape->kv_heads * shape->dim;
    data->q_heads = shape->q_heads << shape->mixed;
    size_t q = (size_t)tokens * data->q_heads * shape->dim;
    data->tokens = tokens;
    data->layers = shape->layers;
    data->kv_bytes = kv * skim_type_size(shape->type);
    data->q_bytes = q * skim_type_size(shape->io_type);
    data->k = make_numbers(shape->type, kv * shape->layers, &seed);
    data->v = make_numbers(shape->type, kv * shape->layers, &seed);
    data->q = make_numbers(shape->io_type, q * shape->layers, &seed);
    data->out = (char *)malloc(data->q_bytes * shape->layers);
    data->lse = (float *)malloc((size_t)tokens * data->q_heads * shape->layers * sizeof(float));
    CHECK(data->out && data->lse);
    rig_forget_results(data);
}

void rig_forget_results(rig_data *data)
{
    memset(data->out, 0xee, data->q_bytes * data->layers);
    memset(data->lse, 0xee, (size_t)data->tokens * data->q_heads * data->layers * sizeof(float));
}

void rig_data_deinit(rig_data *data)
{
    free(data->k);
    free(data->v);
    free(data->q);
    free(data->out);
    free(data->lse);
}

bool rig_same_results(const rig_data *a, const rig_data *b)
{
    return memcmp(a->out, b->out, a->q_bytes * a->layers) == 0 &&
           memcmp(a->lse, b->lse, (size_t)a->tokens * a->q_heads * a->layers * sizeof(float)) == 0;
}

// --- steps

// tokens[i] new ones for sequence i; ends with a sequence that is not there, or 0 tokens.
skim_status rig_begin(rig *r, const uint32_t *tokens, skim_step **step)
{
    skim_step_entry entries[RIG_SEQUENCES];
    uint32_t count = 0;
    for (uint32_t i = 0; i < RIG_SEQUENCES && tokens[i] > 0; i++) {
        entries[count].sequence = r->sequences[i];
        entries[count++].tokens = tokens[i];
    }
    return skim_step_begin(r->cache, entries, count, step);
}

skim_status rig_append(skim_step *step, uint32_t layer, const rig *r, const rig_data *data)
{
    skim_tensor k = skim_tensor_host(data->k + layer * data->kv_bytes, r->shape.type);
    skim_tensor v = skim_tensor_host(data->v + layer * data->kv_bytes, r->shape.type);
    return skim_step_append(step, layer, &k, &v);
}

skim_status rig_attend(skim_step *step, uint32_t layer, const rig *r, rig_data *data,
                       const skim_progress *progress)
{
    skim_step_attend_args args;
    memset(&args, 0, sizeof args);
    args.size_of = sizeof args;
    args.q = skim_tensor_host(data->q + layer * data->q_bytes, r->shape.io_type);
    args.out = skim_tensor_host(data->out + layer * data->q_bytes, r->shape.io_type);
    args.lse = skim_tensor_host(data->lse + (size_t)layer * data->tokens * data->q_heads, SKIM_F32);
    args.progress = progress;
    return skim_step_attend(step, layer, &args);
}

skim_status rig_forward(rig *r, const uint32_t *tokens, rig_data *data,
                        const skim_progress *progress)
{
    skim_step *step = NULL;
    skim_status status = rig_begin(r, tokens, &step);
    for (uint32_t layer = 0; layer < r->shape.layers && status == SKIM_OK; layer++) {
        status = rig_append(step, layer, r, data);
        if (status == SKIM_OK)
            status = rig_attend(step, layer, r, data, progress);
    }
    if (status == SKIM_OK)
        status = skim_step_end(step, NULL);
    if (status == SKIM_OK)
        return skim_queue_finish(r->queue);
    skim_step_cancel(step);
    return status;
}
