// Numbers of 16 bits: f16 and bf16 to f32 and back.
#ifndef SKIM_TOOL_HALVES_H
#define SKIM_TOOL_HALVES_H

#include "skim/base.h"

// Convert count elements between f32 and f16 or bf16, to the nearest, ties to even.
void halves_to_f32(skim_type type, const uint16_t *source, size_t count, float *target);
void halves_from_f32(skim_type type, const float *source, size_t count, uint16_t *target);

#endif
