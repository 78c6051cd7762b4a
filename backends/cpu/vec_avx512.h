// AVX-512 F, BW, DQ and VL: 16 lanes.
#ifndef SKIM_CPU_VEC_AVX512_H
#define SKIM_CPU_VEC_AVX512_H

#include "backends/cpu/vec.h"

#include <immintrin.h>

typedef __m512 vec;
typedef __mmask16 vec_mask;
typedef __m512i vec_int;

enum { W = 16, TILE_ACCUMULATORS = 16, GEMM_ROWS = 6, GEMM_VECTORS = 4 };

INLINE vec v_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

INLINE void v_store(float *to, vec x)
{
    _mm512_storeu_ps(to, x);
}

INLINE vec v_load_as(skim_type type, const char *from)
{
    if (type == SKIM_F32)
        return _mm512_loadu_ps(from);
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)from);
    if (type == SKIM_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE __m256i bf16_of_vec(vec x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

INLINE __m256i half_of_vec(skim_type type, vec x)
{
    return type == SKIM_F16 ? _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
                            : bf16_of_vec(x);
}

INLINE void v_store_as(skim_type type, char *to, vec x)
{
    if (type == SKIM_F32)
        _mm512_storeu_ps(to, x);
    else
        _mm256_storeu_si256((__m256i *)(void *)to, half_of_vec(type, x));
}

// A head dim is a multiple of 8, so a tail has just 8 lanes.
INLINE vec v_load_tail(skim_type type, const char *from)
{
    if (type == SKIM_F32)
        return _mm512_zextps256_ps512(_mm256_loadu_ps((const float *)(const void *)from));
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)from);
    if (type == SKIM_F16)
        return _mm512_zextps256_ps512(_mm256_cvtph_ps(half));
    __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
    return _mm512_zextps256_ps512(_mm256_castsi256_ps(bits));
}

INLINE void v_store_tail(skim_type type, char *to, vec x)
{
    if (type == SKIM_F32)
        _mm256_storeu_ps((float *)(void *)to, _mm512_castps512_ps256(x));
    else
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(half_of_vec(type, x)));
}

// Of whole numbers from -128 to 127.
INLINE void v_store_i8(int8_t *to, vec x)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}

// Of whole numbers from -32768 to 32767.
INLINE void v_store_i16(int16_t *to, vec x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}

INLINE vec v_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vec v_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vec v_lane_index(void)
{
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

INLINE vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

INLINE vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

INLINE vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

INLINE vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

INLINE vec v_abs(vec x)
{
    return _mm512_abs_ps(x);
}

INLINE vec v_round(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE vec v_round_up(vec x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE vec_mask v_greater(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

INLINE vec v_select(vec_mask mask, vec a, vec b)
{
    return _mm512_mask_blend_ps(mask, b, a);
}

INLINE vec v_exp2(vec x)
{
    vec whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec r = v_select(v_greater(x, v_set(-200.0f)), v_sub(x, whole), v_zero());
    vec p = v_fma(v_set(EXP2_C6), r, v_set(EXP2_C5));
    p = v_fma(p, r, v_set(EXP2_C4));
    p = v_fma(p, r, v_set(EXP2_C3));
    p = v_fma(p, r, v_set(EXP2_C2));
    p = v_fma(p, r, v_set(EXP2_C1));
    p = v_fma(p, r, v_set(1.0f));
    return _mm512_scalef_ps(p, whole);
}

INLINE vec v_log2(vec x)
{
    // The mantissa in [3/4, 3/2).
    vec m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    vec e = _mm512_getexp_ps(_mm512_div_ps(x, m));
    vec t = _mm512_div_ps(v_sub(m, v_set(1.0f)), v_add(m, v_set(1.0f)));
    vec t2 = v_mul(t, t);
    vec p = v_fma(v_set(LOG2_C9), t2, v_set(LOG2_C7));
    p = v_fma(p, t2, v_set(LOG2_C5));
    p = v_fma(p, t2, v_set(LOG2_C3));
    p = v_fma(p, t2, v_set(LOG2_C1));
    return v_fma(p, t, e);
}

// Lane i of the result is the sum of the lanes of sums[i].
INLINE vec v_sum_lanes(const vec *sums)
{
    vec quads[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vec *s = sums + 4 * i;
        __m512d ab =
            _mm512_castps_pd(v_add(_mm512_unpacklo_ps(s[0], s[1]), _mm512_unpackhi_ps(s[0], s[1])));
        __m512d cd =
            _mm512_castps_pd(v_add(_mm512_unpacklo_ps(s[2], s[3]), _mm512_unpackhi_ps(s[2], s[3])));
        quads[i] = v_add(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    }
    vec low = v_add(_mm512_shuffle_f32x4(quads[0], quads[1], 0x88),
                    _mm512_shuffle_f32x4(quads[0], quads[1], 0xdd));
    vec high = v_add(_mm512_shuffle_f32x4(quads[2], quads[3], 0x88),
                     _mm512_shuffle_f32x4(quads[2], quads[3], 0xdd));
    return v_add(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

// The lanes whose index differs by multiples of stride are reduced, and each gets the result.
#define ACROSS(name, operation)                                                                    \
    INLINE vec name(vec x, int stride)                                                             \
    {                                                                                              \
        x = operation(x, _mm512_shuffle_f32x4(x, x, 0x4e));                                        \
        if (stride <= 4)                                                                           \
            x = operation(x, _mm512_shuffle_f32x4(x, x, 0xb1));                                    \
        if (stride <= 2)                                                                           \
            x = operation(x, _mm512_permute_ps(x, 0x4e));                                          \
        if (stride <= 1)                                                                           \
            x = operation(x, _mm512_permute_ps(x, 0xb1));                                          \
        return x;                                                                                  \
    }
ACROSS(v_max_across, v_max)
ACROSS(v_sum_across, v_add)
#undef ACROSS

// Integers that sort as the floats do; -0 as 0.
INLINE vec_int v_sort_key(vec x)
{
    __m512i bits = _mm512_castps_si512(v_add(x, v_zero()));
    __m512i flip = _mm512_srli_epi32(_mm512_srai_epi32(bits, 31), 1);
    return _mm512_xor_si512(bits, flip);
}

INLINE vec_int vi_load(const int32_t *from)
{
    return _mm512_loadu_si512(from);
}

INLINE void vi_store(int32_t *to, vec_int x)
{
    _mm512_storeu_si512(to, x);
}

INLINE vec_int vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

// GCC 12 may widen a mask by storing its 16 bits and reading 32 back, so the instruction is named
// (seen at -O1 with -fsanitize=thread).
INLINE uint32_t bits_of_mask(__mmask16 mask)
{
    uint32_t bits;
    __asm__("kmovw %1, %0" : "=r"(bits) : "k"(mask));
    return bits;
}

INLINE uint32_t vi_greater(vec_int a, vec_int b)
{
    return bits_of_mask(_mm512_cmpgt_epi32_mask(a, b));
}

INLINE uint32_t vi_equal(vec_int a, vec_int b)
{
    return bits_of_mask(_mm512_cmpeq_epi32_mask(a, b));
}

// Pairs of int16: a lane's two are the elements 2 i and 2 i + 1.
INLINE vec_int vi_pairs_of_i8(const char *from)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

INLINE vec_int vi_pairs(const int16_t *from)
{
    return _mm512_loadu_si512(from);
}

// The sum of c and of both products.
INLINE vec_int vi_add_products(vec_int a, vec_int b, vec_int c)
{
#if defined(__clang__)
    return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
#else
    // As instructions: GCC 12 would copy the sums about and read b from memory again.
    __m512i products;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+v"(c), "=&v"(products) : "v"(a), "v"(b));
    return c;
#endif
}

INLINE vec v_of_int(vec_int x)
{
    return _mm512_cvtepi32_ps(x);
}

#endif
