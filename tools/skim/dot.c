#include "dot.h"

#include "halves.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

// Sums are kept in LANES lanes, whatever the vectors' width, and products and sums are rounded one
// by one: so all levels add the same numbers in the same order.
enum { LANES = 32, AHEAD = 4096, LINE = 64 };

static inline void convert(skim_type type, const void *weights, size_t first, size_t count,
                           float *values)
{
    if (type == SKIM_F32)
        memcpy(values, (const float *)weights + first, count * sizeof *values);
    else
        halves_to_f32(type, (const uint16_t *)weights + first, count, values);
}

// Adds the products from first on, fewer than LANES or as many, lane by lane.
static inline void add_products(skim_type type, const void *weights, const float *x, size_t first,
                                size_t count, float sums[LANES])
{
    float values[LANES];
    convert(type, weights, first, count, values);
    for (size_t l = 0; l < count; l++)
        sums[l] += values[l] * x[first + l];
}

static inline float finish(skim_type type, const void *weights, const float *x, size_t first,
                           size_t count, float sums[LANES])
{
    if (first < count)
        add_products(type, weights, x, first, count - first, sums);
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t l = 0; l < width; l++)
            sums[l] += sums[l + width];
    return sums[0];
}

static float dot_plain(skim_type type, const void *weights, const float *x, size_t count)
{
    float sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        add_products(type, weights, x, i, LANES, sums);
    return finish(type, weights, x, i, count, sums);
}

#define PLAIN(name, type)                                                                          \
    static float name##_plain(const void *weights, const float *x, size_t count)                   \
    {                                                                                              \
        return dot_plain(type, weights, x, count);                                                 \
    }

PLAIN(f32, SKIM_F32)
PLAIN(f16, SKIM_F16)
PLAIN(bf16, SKIM_BF16)

#if X86
// A row of `element`s, read by load(pointer) as vectors of WIDTH f32.
#define ROW(name, type, element, target_name, vector, WIDTH, zero, load, load_x, multiply, add,    \
            store)                                                                                 \
    __attribute__((target(target_name))) static float name(const void *weights, const float *x,    \
                                                           size_t count)                           \
    {                                                                                              \
        const element *row = weights;                                                              \
        vector sums[LANES / WIDTH];                                                                \
        for (size_t v = 0; v < LANES / WIDTH; v++)                                                 \
            sums[v] = zero();                                                                      \
        size_t i = 0;                                                                              \
        for (; i + LANES <= count; i += LANES) {                                                   \
            for (size_t line = 0; line < LANES * sizeof *row; line += LINE)                        \
                _mm_prefetch((const char *)(row + i) + AHEAD + line, _MM_HINT_T0);                 \
            for (size_t v = 0; v < LANES / WIDTH; v++)                                             \
                sums[v] =                                                                          \
                    add(sums[v], multiply(load(row + i + v * WIDTH), load_x(x + i + v * WIDTH)));  \
        }                                                                                          \
        float lanes[LANES];                                                                        \
        for (size_t v = 0; v < LANES / WIDTH; v++)                                                 \
            store(lanes + v * WIDTH, sums[v]);                                                     \
        return finish(type, weights, x, i, count, lanes);                                          \
    }

#define AVX2_F16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define AVX2_BF16(p)                                                                               \
    _mm256_castsi256_ps(                                                                           \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define AVX512_F16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define AVX512_BF16(p)                                                                             \
    _mm512_castsi512_ps(                                                                           \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))

#define AVX2_ROW(name, type, element, load)                                                        \
    ROW(name, type, element, "avx2,f16c", __m256, 8, _mm256_setzero_ps, load, _mm256_loadu_ps,     \
        _mm256_mul_ps, _mm256_add_ps, _mm256_storeu_ps)
#define AVX512_ROW(name, type, element, load)                                                      \
    ROW(name, type, element, "avx512f", __m512, 16, _mm512_setzero_ps, load, _mm512_loadu_ps,      \
        _mm512_mul_ps, _mm512_add_ps, _mm512_storeu_ps)

AVX2_ROW(f32_avx2, SKIM_F32, float, _mm256_loadu_ps)
AVX2_ROW(f16_avx2, SKIM_F16, uint16_t, AVX2_F16)
AVX2_ROW(bf16_avx2, SKIM_BF16, uint16_t, AVX2_BF16)
AVX512_ROW(f32_avx512, SKIM_F32, float, _mm512_loadu_ps)
AVX512_ROW(f16_avx512, SKIM_F16, uint16_t, AVX512_F16)
AVX512_ROW(bf16_avx512, SKIM_BF16, uint16_t, AVX512_BF16)

static int has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

static int is_there(enum dot_level level)
{
    switch (level) {
    case DOT_AVX2:
        return __builtin_cpu_supports("avx2") && has_f16c();
    case DOT_AVX512:
        return __builtin_cpu_supports("avx512f");
    default:
        return level == DOT_PLAIN;
    }
}
#else
#define f32_avx2 NULL
#define f16_avx2 NULL
#define bf16_avx2 NULL
#define f32_avx512 NULL
#define f16_avx512 NULL
#define bf16_avx512 NULL
static int is_there(enum dot_level level)
{
    return level == DOT_PLAIN;
}
#endif

dot_function *dot_of_level(skim_type type, enum dot_level level)
{
    static dot_function *const functions[][DOT_LEVELS] = {
        [SKIM_F32] = {f32_plain, f32_avx2, f32_avx512},
        [SKIM_F16] = {f16_plain, f16_avx2, f16_avx512},
        [SKIM_BF16] = {bf16_plain, bf16_avx2, bf16_avx512},
    };
    return is_there(level) ? functions[type][level] : NULL;
}

dot_function *dot_best(skim_type type)
{
    for (enum dot_level level = DOT_LEVELS - 1; level > DOT_PLAIN; level--) {
        dot_function *found = dot_of_level(type, level);
        if (found)
            return found;
    }
    return dot_of_level(type, DOT_PLAIN);
}
