#include "tests/fault/data.h"

#include <math.h>
#include <string.h>

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

float data_element(data_kind kind, uint32_t token, uint32_t layer, uint32_t head, uint32_t d)
{
    uint32_t bits = mix(token * 2654435761u + mix((layer * 3 + kind) * 4099 + head * 257 + d));
    return (float)((int32_t)(bits % 129) - 64) / 32.0f;
}

static uint16_t half_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value == 0.0f)
        return 0;
    uint32_t exponent = (bits >> 23 & 0xff) - 112;
    return (uint16_t)((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

static void store(void *to, skim_type type, size_t index, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == SKIM_F32)
        ((float *)to)[index] = value;
    else if (type == SKIM_F16)
        ((uint16_t *)to)[index] = half_of(value);
    else
        ((uint16_t *)to)[index] = (uint16_t)(bits >> 16);
}

void data_fill(void *to, skim_type type, data_kind kind, const uint32_t *tokens, uint32_t count,
               uint32_t layer, uint32_t heads, uint32_t dim)
{
    size_t at = 0;
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t h = 0; h < heads; h++) {
            for (uint32_t d = 0; d < dim; d++)
                store(to, type, at++, data_element(kind, tokens[t], layer, h, d));
        }
    }
}

static double score_of(const skim_layer *layer, uint32_t index, uint32_t query, uint32_t key,
                       uint32_t q_head)
{
    uint32_t kv_head = q_head / (layer->q_heads / layer->kv_heads);
    double sum = 0.0;
    for (uint32_t d = 0; d < layer->key_dim; d++)
        sum += (double)data_element(DATA_QUERY, query, index, q_head, d) *
               (double)data_element(DATA_KEY, key, index, kv_head, d);
    return sum / sqrt((double)layer->key_dim);
}

void data_attend(const skim_layer *layer, uint32_t index, const uint32_t *tokens, uint32_t length,
                 uint32_t page_size, uint32_t q_head, const uint32_t *pages, uint32_t count,
                 double *out)
{
    uint32_t kv_head = q_head / (layer->q_heads / layer->kv_heads);
    uint32_t query = tokens[length - 1];
    double total = 0.0;
    memset(out, 0, layer->key_dim * sizeof *out);
    for (uint32_t p = 0; p < count; p++) {
        for (uint32_t t = pages[p] * page_size; t < (pages[p] + 1) * page_size && t < length; t++) {
            // Scores are small enough (|s| < 4 * 64 / 8) that no maximum has to be taken off.
            double weight = exp(score_of(layer, index, query, tokens[t], q_head));
            total += weight;
            for (uint32_t d = 0; d < layer->key_dim; d++)
                out[d] += weight * (double)data_element(DATA_VALUE, tokens[t], index, kv_head, d);
        }
    }
    for (uint32_t d = 0; d < layer->key_dim; d++)
        out[d] /= total;
}
