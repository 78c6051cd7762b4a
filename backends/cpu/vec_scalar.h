// Plain C: one lane. For every processor, and the level that the others are compared with.
#ifndef SKIM_CPU_VEC_SCALAR_H
#define SKIM_CPU_VEC_SCALAR_H

#include "backends/cpu/vec.h"

#include <math.h>

typedef float vec;
typedef int vec_mask;
typedef int32_t vec_int;

enum { W = 1, TILE_ACCUMULATORS = 8, GEMM_ROWS = 4, GEMM_VECTORS = 4 };

INLINE uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE float float_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) // infinity, or a NaN that keeps its payload
        return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x400u)
        return float_of(sign | ((magnitude << 13) + 0x38000000u));
    float subnormal = (float)magnitude * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

INLINE uint16_t f16_of_float(float x)
{
    uint32_t bits = bits_of(x);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) // 65520 and up round to infinity
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) {
        uint32_t odd = magnitude >> 13 & 1;
        return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
    }
    // Adding 1/2 leaves the subnormal's bits, rounded to nearest even, at the bottom of the
    // mantissa.
    return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
}

INLINE uint16_t bf16_of_float(float x)
{
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

INLINE vec v_load(const float *from)
{
    return *from;
}

INLINE void v_store(float *to, vec x)
{
    *to = x;
}

INLINE vec v_load_as(skim_type type, const char *from)
{
    if (type == SKIM_F32) {
        float x;
        memcpy(&x, from, sizeof x);
        return x;
    }
    uint16_t half;
    memcpy(&half, from, sizeof half);
    return type == SKIM_F16 ? float_of_f16(half) : float_of((uint32_t)half << 16);
}

INLINE void v_store_as(skim_type type, char *to, vec x)
{
    if (type == SKIM_F32) {
        memcpy(to, &x, sizeof x);
        return;
    }
    uint16_t half = type == SKIM_F16 ? f16_of_float(x) : bf16_of_float(x);
    memcpy(to, &half, sizeof half);
}

INLINE vec v_load_tail(skim_type type, const char *from)
{
    return v_load_as(type, from);
}

INLINE void v_store_tail(skim_type type, char *to, vec x)
{
    v_store_as(type, to, x);
}

// Of whole numbers from -128 to 127.
INLINE void v_store_i8(int8_t *to, vec x)
{
    *to = (int8_t)x;
}

// Of whole numbers from -32768 to 32767.
INLINE void v_store_i16(int16_t *to, vec x)
{
    *to = (int16_t)x;
}

INLINE vec v_zero(void)
{
    return 0;
}

INLINE vec v_set(float x)
{
    return x;
}

INLINE vec v_lane_index(void)
{
    return 0;
}

INLINE vec v_add(vec a, vec b)
{
    return a + b;
}

INLINE vec v_sub(vec a, vec b)
{
    return a - b;
}

INLINE vec v_mul(vec a, vec b)
{
    return a * b;
}

// Two roundings: fmaf without the instruction is a slow call.
INLINE vec v_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

INLINE vec v_max(vec a, vec b)
{
    return a > b ? a : b;
}

INLINE vec v_min(vec a, vec b)
{
    return a < b ? a : b;
}

INLINE vec v_abs(vec x)
{
    return fabsf(x);
}

INLINE vec v_round(vec x)
{
    return rintf(x);
}

INLINE vec v_round_up(vec x)
{
    return ceilf(x);
}

INLINE vec_mask v_greater(vec a, vec b)
{
    return a > b;
}

INLINE vec v_select(vec_mask mask, vec a, vec b)
{
    return mask ? a : b;
}

INLINE vec v_exp2(vec x)
{
    return exp2f(x);
}

INLINE vec v_log2(vec x)
{
    return log2f(x);
}

INLINE vec v_sum_lanes(const vec *sums)
{
    return sums[0];
}

INLINE vec v_max_across(vec x, int stride)
{
    (void)stride;
    return x;
}

INLINE vec v_sum_across(vec x, int stride)
{
    (void)stride;
    return x;
}

INLINE vec_int v_sort_key(vec x)
{
    int32_t bits = (int32_t)bits_of(x + 0.0f);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

INLINE vec_int vi_load(const int32_t *from)
{
    return *from;
}

INLINE void vi_store(int32_t *to, vec_int x)
{
    *to = x;
}

INLINE vec_int vi_set(int32_t x)
{
    return x;
}

INLINE uint32_t vi_greater(vec_int a, vec_int b)
{
    return a > b;
}

INLINE uint32_t vi_equal(vec_int a, vec_int b)
{
    return a == b;
}

// Pairs of int16: a lane's two are the elements 2 i and 2 i + 1, in its lower and upper half.
INLINE vec_int pair_of(int16_t first, int16_t second)
{
    return (vec_int)((uint32_t)(uint16_t)first | (uint32_t)(uint16_t)second << 16);
}

INLINE vec_int vi_pairs_of_i8(const char *from)
{
    const signed char *bytes = (const signed char *)from;
    return pair_of(bytes[0], bytes[1]);
}

INLINE vec_int vi_pairs(const int16_t *from)
{
    return pair_of(from[0], from[1]);
}

// The sum of c and of both products.
INLINE vec_int vi_add_products(vec_int a, vec_int b, vec_int c)
{
    return c + (int16_t)a * (int16_t)b + (int16_t)(a >> 16) * (int16_t)(b >> 16);
}

INLINE vec v_of_int(vec_int x)
{
    return (float)x;
}

#endif
