#include "runtime/layer.h"

#include "runtime/validate.h"

#include <math.h>
#include <string.h>

static const char *missing_feature(const skim_layer *layer)
{
    if (layer->window != 0)
        return "window";
    if (layer->softcap != 0.0f)
        return "softcap";
    if (layer->sinks)
        return "sinks";
    if (layer->alibi)
        return "alibi";
    return layer->kv_source != 0 ? "kv_source" : NULL;
}

skim_status skim_layer_check(const skim_layer *layers, uint32_t index, skim_layer *taken,
                             skim_error *error)
{
    size_t stride;
    memcpy(&stride, layers, sizeof stride);
    const char *place = (const char *)layers + (size_t)index * stride;
    if (!skim_take(taken, sizeof *taken, place) || ((const skim_layer *)place)->size_of != stride)
        return skim_fail(error, SKIM_INVALID, "layer %u: size_of is wrong", index);
    const char *missing = missing_feature(taken);
    if (missing)
        return skim_fail(error, SKIM_UNSUPPORTED, "layer %u: %s is not implemented", index,
                         missing);
    if (!(taken->scale >= 0.0f) || isinf(taken->scale))
        return skim_fail(error, SKIM_INVALID, "layer %u: scale must be finite and not negative",
                         index);
    if (taken->value_dim == 0)
        taken->value_dim = taken->key_dim;
    if (taken->scale == 0.0f && taken->key_dim > 0)
        taken->scale = 1.0f / sqrtf((float)taken->key_dim);
    return SKIM_OK;
}

static uint64_t head_elements(const skim_shape *shape)
{
    return (uint64_t)shape->page_size * (shape->key_dim + shape->value_dim);
}

void skim_layer_paged(const skim_shape *shape, skim_buffer *pages, skim_paged *keys,
                      skim_paged *values)
{
    *keys = (skim_paged){.buffer = pages,
                         .page_stride = shape->kv_heads * head_elements(shape),
                         .head_stride = head_elements(shape),
                         .token_stride = shape->key_dim};
    *values = *keys;
    values->offset = (uint64_t)shape->page_size * shape->key_dim * skim_type_size(shape->type);
    values->token_stride = shape->value_dim;
}

uint64_t skim_layer_slot_bytes(const skim_shape *shape)
{
    return shape->kv_heads * head_elements(shape) * skim_type_size(shape->type);
}

uint64_t skim_layer_bounds_bytes(const skim_shape *shape)
{
    bool i8 = shape->bounds_type == SKIM_BOUNDS_I8;
    uint64_t vector = i8 ? shape->key_dim + sizeof(float)
                         : (uint64_t)shape->key_dim * skim_type_size(shape->type);
    return 2 * vector * shape->kv_heads;
}

uint64_t skim_layer_centre_bytes(const skim_shape *shape)
{
    if (shape->bounds_type != SKIM_BOUNDS_I8)
        return 0;
    return (uint64_t)shape->kv_heads * shape->key_dim * sizeof(float);
}
