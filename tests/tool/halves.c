// Conversions between f32 and 16-bit numbers, all of them, and products of rows, against plain
// arithmetic.
#include "halves.h"
#include "dot.h"

#include <math.h>
#include <stdio.h>

static const skim_type types[] = {SKIM_F16, SKIM_BF16};

// The value of an f16 or bf16 by its definition.
static double value_of(skim_type type, uint32_t half)
{
    int fraction_bits = type == SKIM_F16 ? 10 : 7;
    int bias = type == SKIM_F16 ? 15 : 127;
    int exponent = (int)(half >> fraction_bits) & (2 * bias + 1);
    double fraction = half & ((1u << fraction_bits) - 1);
    double sign = half & 0x8000 ? -1 : 1;
    if (exponent == 2 * bias + 1)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

static int same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && !signbit(a) == !signbit(b);
}

static uint16_t from(skim_type type, float value)
{
    uint16_t half;
    halves_from_f32(type, &value, 1, &half);
    return half;
}

// A number of f32 rounds to the nearer of its neighbours, or to the even one.
static int check_between(skim_type type, uint32_t half)
{
    double low = value_of(type, half);
    double high = value_of(type, half + 1);
    if (!isfinite(low))
        return 0;
    if (isinf(high)) // as if the exponent went on
        high = low + (low - value_of(type, half - 1));
    float middle = (float)(0.5 * (low + high)); // exact
    uint32_t even = half & 1 ? half + 1 : half;
    uint32_t sign = 0x8000;
    return (double)middle != 0.5 * (low + high) || from(type, middle) != even ||
           from(type, -middle) != (even | sign) ||
           from(type, nextafterf(middle, -INFINITY)) != half ||
           from(type, nextafterf(middle, INFINITY)) != half + 1;
}

// Every number of 16 bits, and those of f32 between them.
static int check_conversions(skim_type type)
{
    int failed = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t half = (uint16_t)h;
        float value;
        halves_to_f32(type, &half, 1, &value);
        int wrong = !same(value, value_of(type, h));
        wrong |=
            isnan(value) ? !isnan(value_of(type, from(type, value))) : from(type, value) != half;
        wrong |= h < 0x7fff && check_between(type, h);
        if (wrong)
            printf("%s: %04x\n", type == SKIM_F16 ? "f16" : "bf16", h);
        failed |= wrong;
    }
    return failed;
}

enum { ROW = 200 };

union row {
    float f32[ROW];
    uint16_t halves[ROW];
};

static void store(skim_type type, float value, union row *row, size_t i)
{
    if (type == SKIM_F32)
        row->f32[i] = value;
    else
        halves_from_f32(type, &value, 1, &row->halves[i]);
}

// Lengths around the lanes; products of small whole numbers are exact in any order.
static int check_products(skim_type type, dot_function *dot)
{
    union row row;
    float x[ROW], sum = 0;
    for (size_t count = 0; count < ROW; count++) {
        if (dot(&row, x, count) != sum) {
            printf("type %d: the product of %zu\n", (int)type, count);
            return 1;
        }
        x[count] = (float)(count % 7) - 3;
        float weight = (float)(count % 11) - 5;
        store(type, weight, &row, count);
        sum += x[count] * weight;
    }
    return 0;
}

// Sums that round say in which order they were added.
static int check_bits(skim_type type, dot_function *dot)
{
    union row row;
    float x[ROW];
    for (size_t i = 0; i < ROW; i++) {
        x[i] = sinf((float)i);
        store(type, cosf(3 * (float)i), &row, i);
    }
    int failed = 0;
    for (size_t count = 0; count < ROW; count++)
        failed |= dot(&row, x, count) != dot_of_level(type, DOT_PLAIN)(&row, x, count);
    if (failed)
        printf("type %d: other bits than those of the plain loop\n", (int)type);
    return failed;
}

// Every level that this processor has.
static int check_dot(skim_type type)
{
    int failed = 0;
    for (enum dot_level level = DOT_PLAIN; level < DOT_LEVELS; level++) {
        dot_function *dot = dot_of_level(type, level);
        failed |= dot && (check_products(type, dot) | check_bits(type, dot));
    }
    return failed;
}

int main(void)
{
    static const skim_type dot_types[] = {SKIM_F32, SKIM_F16, SKIM_BF16};
    int failed = 0;
    for (size_t t = 0; t < 2; t++)
        failed += check_conversions(types[t]);
    for (size_t t = 0; t < 3; t++)
        failed += check_dot(dot_types[t]);
    printf("%d passed, %d failed\n", 5 - failed, failed);
    return failed != 0;
}
