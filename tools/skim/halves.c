#include "halves.h"

#include <string.h>

// The loops are written once and compiled twice on x86-64: for every processor, and for those with
// AVX2, which is asked for at run time. Products and sums are rounded one by one in both, and in
// the same order, so the results do not differ.
#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE __attribute__((target("avx2")))
static int is_wide(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define WIDE
static int is_wide(void)
{
    return 0;
}
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float bf16_to_f32(uint16_t half)
{
    return from_bits((uint32_t)half << 16);
}

// The exponent is moved by a product, which also makes subnormals normal.
INLINE float f16_to_f32(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t bits = to_bits(from_bits(magnitude) * 0x1p112f);
    bits |= -(uint32_t)(magnitude >= 0x7c00u << 13) & 0x7f800000; // infinity and NaN stay
    return from_bits(bits | (uint32_t)(half & 0x8000) << 16);
}

INLINE uint16_t f32_to_bf16(float value)
{
    uint32_t bits = to_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); // NaN stays NaN
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE uint16_t f32_to_f16(float value)
{
    uint32_t bits = to_bits(value);
    uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits >= 0x47800000) // 65536 and more, infinity and NaN
        return (uint16_t)(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (bits < 0x38800000) { // subnormal: adding 0.5 leaves the bits at the end of the fraction
        float shifted = from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (to_bits(shifted) - to_bits(0.5f)));
    }
    return (uint16_t)(sign | (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}

#define BODIES(name)                                                                               \
    INLINE void name##_convert_body(const uint16_t *source, size_t count, float *target)           \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            target[i] = name##_to_f32(source[i]);                                                  \
    }                                                                                              \
    WIDE static void name##_convert_wide(const uint16_t *source, size_t count, float *target)      \
    {                                                                                              \
        name##_convert_body(source, count, target);                                                \
    }                                                                                              \
    static void name##_convert(const uint16_t *source, size_t count, float *target)                \
    {                                                                                              \
        (is_wide() ? name##_convert_wide : name##_convert_body)(source, count, target);            \
    }

BODIES(f16)
BODIES(bf16)

void halves_to_f32(skim_type type, const uint16_t *source, size_t count, float *target)
{
    (type == SKIM_F16 ? f16_convert : bf16_convert)(source, count, target);
}

void halves_from_f32(skim_type type, const float *source, size_t count, uint16_t *target)
{
    for (size_t i = 0; i < count; i++)
        target[i] = type == SKIM_F16 ? f32_to_f16(source[i]) : f32_to_bf16(source[i]);
}
