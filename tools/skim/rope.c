#include "rope.h"

#include <math.h>

static const double two_pi = 6.28318530717958647692;

// Llama 3.1: frequencies whose wave is long beside the original context are divided by the factor,
// short ones stay, and those between are blended.
static double scale_llama3(const struct rope_config *config, double frequency)
{
    double waves = config->original_positions * frequency / two_pi;
    double blend = (waves - config->low_frequency_factor) /
                   (config->high_frequency_factor - config->low_frequency_factor);
    blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
    return (1 - blend) * frequency / config->factor + blend * frequency;
}

void rope_frequencies(const struct rope_config *config, uint32_t head_dim, float *frequencies)
{
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        double frequency = pow(config->theta, -2.0 * i / head_dim);
        if (config->kind == ROPE_LINEAR)
            frequency /= config->factor;
        else if (config->kind == ROPE_LLAMA3)
            frequency = scale_llama3(config, frequency);
        frequencies[i] = (float)frequency;
    }
}

void rope_angles(const float *frequencies, uint32_t head_dim, uint64_t first, uint32_t tokens,
                 float *cosines, float *sines)
{
    uint32_t half = head_dim / 2;
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < half; i++) {
            // The product is rounded to f32, as in the code that such models are trained with.
            float angle = (float)(first + t) * frequencies[i];
            cosines[t * half + i] = cosf(angle);
            sines[t * half + i] = sinf(angle);
        }
}

void rope_apply(float *x, uint32_t tokens, uint32_t heads, uint32_t head_dim, const float *cosines,
                const float *sines)
{
    uint32_t half = head_dim / 2;
    for (uint32_t t = 0; t < tokens; t++, cosines += half, sines += half)
        for (uint32_t h = 0; h < heads; h++, x += head_dim)
            for (uint32_t i = 0; i < half; i++) {
                float a = x[i];
                float b = x[i + half];
                x[i] = a * cosines[i] - b * sines[i];
                x[i + half] = b * cosines[i] + a * sines[i];
            }
}
