// Rotary position embedding (Su et al., RoFormer), in the halves form of Llama: channel i is
// rotated with channel i + head_dim / 2.
#ifndef SKIM_TOOL_ROPE_H
#define SKIM_TOOL_ROPE_H

#include <stdint.h>

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    double low_frequency_factor, high_frequency_factor; // llama3
    uint32_t original_positions;                        // llama3
};

// Fills head_dim / 2 frequencies, in radians a token.
void rope_frequencies(const struct rope_config *config, uint32_t head_dim, float *frequencies);

// Fills the cosines and sines, [tokens][head_dim / 2] each, of consecutive positions.
void rope_angles(const float *frequencies, uint32_t head_dim, uint64_t first, uint32_t tokens,
                 float *cosines, float *sines);

// Rotates x [tokens][heads][head_dim] in place.
void rope_apply(float *x, uint32_t tokens, uint32_t heads, uint32_t head_dim, const float *cosines,
                const float *sines);

#endif
