#include "reference.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The integer nearest to a non-negative value, ties to even, whatever the rounding mode.
static uint32_t nearest_even(double value)
{
    double below = floor(value);
    double rest = value - below;
    uint32_t integer = (uint32_t)below;
    if (rest > 0.5 || (rest == 0.5 && (integer & 1u))) {
        integer++;
    }
    return integer;
}

uint16_t reference_f32_to_f16(float value)
{
    uint16_t sign = (uint16_t)((bits_of(value) >> 16) & 0x8000u);
    if (isnan(value)) {
        return (uint16_t)(sign | 0x7e00u);
    }
    double magnitude = fabs((double)value);
    if (magnitude >= 65520.0) {
        return (uint16_t)(sign | 0x7c00u);
    }
    if (magnitude < ldexp(1.0, -14)) {
        return (uint16_t)(sign | nearest_even(ldexp(magnitude, 24)));
    }
    int exponent;
    frexp(magnitude, &exponent); // magnitude = fraction * 2^exponent, fraction in [0.5, 1)
    uint32_t mantissa = nearest_even(ldexp(magnitude, 11 - exponent)); // in [1024, 2048]
    uint32_t bits = (uint32_t)(exponent - 1 + 15) * 1024u + (mantissa - 1024u);
    return (uint16_t)(sign | bits);
}

float reference_f16_to_f32(uint16_t bits)
{
    double sign = (bits & 0x8000u) ? -1.0 : 1.0;
    int exponent = (bits >> 10) & 31;
    double mantissa = bits & 1023;
    if (exponent == 31) {
        return mantissa != 0.0 ? NAN : (float)(sign * HUGE_VAL);
    }
    if (exponent == 0) {
        return (float)(sign * ldexp(mantissa, -24));
    }
    return (float)(sign * ldexp(1024.0 + mantissa, exponent - 25));
}

uint16_t reference_f32_to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if (isnan(value)) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    uint32_t upper = bits >> 16;
    uint32_t rest = bits & 0xffffu;
    if (rest > 0x8000u || (rest == 0x8000u && (upper & 1u))) {
        upper++;
    }
    return (uint16_t)upper;
}

float reference_bf16_to_f32(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

float reference_round(float value, skim_type type)
{
    if (type == SKIM_F16) {
        return reference_f16_to_f32(reference_f32_to_f16(value));
    }
    if (type == SKIM_BF16) {
        return reference_bf16_to_f32(reference_f32_to_bf16(value));
    }
    return value;
}

float reference_load(const void *data, size_t index, skim_type type)
{
    const unsigned char *bytes = data;
    if (type == SKIM_F32) {
        float value;
        memcpy(&value, bytes + 4 * index, sizeof value);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, bytes + 2 * index, sizeof bits);
    return type == SKIM_F16 ? reference_f16_to_f32(bits) : reference_bf16_to_f32(bits);
}

void reference_store(void *data, size_t index, skim_type type, float value)
{
    unsigned char *bytes = data;
    if (type == SKIM_F32) {
        memcpy(bytes + 4 * index, &value, sizeof value);
        return;
    }
    uint16_t bits = type == SKIM_F16 ? reference_f32_to_f16(value) : reference_f32_to_bf16(value);
    memcpy(bytes + 2 * index, &bits, sizeof bits);
}

double reference_ulp(double value, skim_type type)
{
    int precision = type == SKIM_F16 ? 11 : type == SKIM_BF16 ? 8 : 24;
    int smallest = type == SKIM_F16 ? -24 : type == SKIM_BF16 ? -133 : -149;
    if (value == 0.0) {
        return ldexp(1.0, smallest);
    }
    int exponent;
    frexp(value, &exponent);
    int step = exponent - precision;
    return ldexp(1.0, step > smallest ? step : smallest);
}
