// AVX2 with FMA and F16C: 8 lanes.
#ifndef SKIM_CPU_VEC_AVX2_H
#define SKIM_CPU_VEC_AVX2_H

#include "backends/cpu/vec.h"

#include <immintrin.h>

typedef __m256 vec;
typedef __m256 vec_mask;
typedef __m256i vec_int;

enum { W = 8, TILE_ACCUMULATORS = 8, GEMM_ROWS = 6, GEMM_VECTORS = 2 };

INLINE vec v_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void v_store(float *to, vec x)
{
    _mm256_storeu_ps(to, x);
}

INLINE vec v_load_as(skim_type type, const char *from)
{
    if (type == SKIM_F32)
        return _mm256_loadu_ps((const float *)(const void *)from);
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)from);
    if (type == SKIM_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

INLINE __m128i bf16_of_vec(vec x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

INLINE void v_store_as(skim_type type, char *to, vec x)
{
    if (type == SKIM_F32) {
        _mm256_storeu_ps((float *)(void *)to, x);
        return;
    }
    __m128i half = type == SKIM_F16
                       ? _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                       : bf16_of_vec(x);
    _mm_storeu_si128((__m128i *)(void *)to, half);
}

// Never needed: a head dim is a multiple of 8.
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
    __m256i whole = _mm256_cvtps_epi32(x);
    __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}

// Of whole numbers from -32768 to 32767.
INLINE void v_store_i16(int16_t *to, vec x)
{
    __m256i whole = _mm256_cvtps_epi32(x);
    __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storeu_si128((__m128i *)(void *)to, words);
}

INLINE vec v_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE vec v_set(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vec v_lane_index(void)
{
    return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}

INLINE vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

INLINE vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

INLINE vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

INLINE vec v_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

INLINE vec v_abs(vec x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

INLINE vec v_round(vec x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vec v_round_up(vec x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE vec_mask v_greater(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}

INLINE vec v_select(vec_mask mask, vec a, vec b)
{
    return _mm256_blendv_ps(b, a, mask);
}

INLINE vec v_exp2(vec x)
{
    // Below 2^-126 the result stays there, which no sum with 2^0 in it can show. min and max return
    // their second operand when one is NaN, so a NaN passes through.
    x = v_max(v_set(-126.0f), v_min(v_set(127.0f), x));
    vec whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec r = v_sub(x, whole);
    vec p = v_fma(v_set(EXP2_C6), r, v_set(EXP2_C5));
    p = v_fma(p, r, v_set(EXP2_C4));
    p = v_fma(p, r, v_set(EXP2_C3));
    p = v_fma(p, r, v_set(EXP2_C2));
    p = v_fma(p, r, v_set(EXP2_C1));
    p = v_fma(p, r, v_set(1.0f));
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return v_mul(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

// Of positive normal numbers.
INLINE vec v_log2(vec x)
{
    // The mantissa in [3/4, 3/2).
    __m256i bits = _mm256_castps_si256(x);
    __m256i above = _mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f400000));
    __m256i exponent = _mm256_srai_epi32(above, 23);
    vec m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)));
    vec t = _mm256_div_ps(v_sub(m, v_set(1.0f)), v_add(m, v_set(1.0f)));
    vec t2 = v_mul(t, t);
    vec p = v_fma(v_set(LOG2_C9), t2, v_set(LOG2_C7));
    p = v_fma(p, t2, v_set(LOG2_C5));
    p = v_fma(p, t2, v_set(LOG2_C3));
    p = v_fma(p, t2, v_set(LOG2_C1));
    return v_fma(p, t, _mm256_cvtepi32_ps(exponent));
}

// Lane i of the result is the sum of the lanes of sums[i].
INLINE vec v_sum_lanes(const vec *s)
{
    vec low = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
    vec high = _mm256_hadd_ps(_mm256_hadd_ps(s[4], s[5]), _mm256_hadd_ps(s[6], s[7]));
    return v_add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

// The lanes whose index differs by multiples of stride are reduced, and each gets the result.
#define ACROSS(name, operation)                                                                    \
    INLINE vec name(vec x, int stride)                                                             \
    {                                                                                              \
        if (stride <= 4)                                                                           \
            x = operation(x, _mm256_permute2f128_ps(x, x, 0x01));                                  \
        if (stride <= 2)                                                                           \
            x = operation(x, _mm256_permute_ps(x, 0x4e));                                          \
        if (stride <= 1)                                                                           \
            x = operation(x, _mm256_permute_ps(x, 0xb1));                                          \
        return x;                                                                                  \
    }
ACROSS(v_max_across, v_max)
ACROSS(v_sum_across, v_add)
#undef ACROSS

// Integers that sort as the floats do; -0 as 0.
INLINE vec_int v_sort_key(vec x)
{
    __m256i bits = _mm256_castps_si256(v_add(x, v_zero()));
    __m256i flip = _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1);
    return _mm256_xor_si256(bits, flip);
}

INLINE vec_int vi_load(const int32_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

INLINE void vi_store(int32_t *to, vec_int x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, x);
}

INLINE vec_int vi_set(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE uint32_t vi_greater(vec_int a, vec_int b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)));
}

INLINE uint32_t vi_equal(vec_int a, vec_int b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)));
}

// Pairs of int16: a lane's two are the elements 2 i and 2 i + 1.
INLINE vec_int vi_pairs_of_i8(const char *from)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE vec_int vi_pairs(const int16_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

// The sum of c and of both products.
INLINE vec_int vi_add_products(vec_int a, vec_int b, vec_int c)
{
#if defined(__clang__)
    return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
#else
    // As instructions: GCC 12 would copy the sums about and read b from memory again.
    __m256i products;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(c), "=&x"(products) : "x"(a), "x"(b));
    return c;
#endif
}

INLINE vec v_of_int(vec_int x)
{
    return _mm256_cvtepi32_ps(x);
}

#endif
