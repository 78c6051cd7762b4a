// What every kernel has: rows, the shape, and numbers of any type.
#ifndef SKIM_CUDA_COMMON_CUH
#define SKIM_CUDA_COMMON_CUH

#include "include/skim/row.h"
#include "shaders/cuda/launch.h"
#include "shaders/cuda/portable.cuh"

// A wrong version of one decision, for the test of the tests.
#include "runtime/mutant.h"
#undef SKIM_MUTANT
#ifdef SKIM_MUTANTS
#define SKIM_MUTANT(name) (skim_device_mutant == SKIM_MUTANT_##name)
#else
#define SKIM_MUTANT(name) false
#endif

enum : uint32_t { F32 = 1, F16 = 2, BF16 = 3, I8 = 4 }; // skim_type, and int8 bounds
enum : uint32_t { MINMAX = 0, MEANSTD = 1 };            // skim_bounds

constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.693147180559945309f;
constexpr float LOWEST = -3.0e38f; // stands for minus infinity in sums and maxima
constexpr float FLOAT_MAX = 3.40282347e38f;
constexpr uint32_t DIM_MAX = 256;

// ---- the shape

SKIM_DEVICE uint32_t dim_of(uint32_t shape)
{
    return (shape & 63) * 8;
}

// log2 of the page's tokens.
SKIM_DEVICE uint32_t page_shift_of(uint32_t shape)
{
    return 3 + (shape >> 6 & 3);
}

SKIM_DEVICE uint32_t group_of(uint32_t shape)
{
    return shape >> 8;
}

// Channels of a unit.
SKIM_CONSTANT uint32_t channels_of(uint32_t type)
{
    return type == I8 ? 16 : type == F32 ? 4 : 8;
}

SKIM_CONSTANT uint32_t divide_up(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

// ---- memory

template <class T> SKIM_DEVICE T *at(uint64_t address)
{
    return (T *)address;
}

SKIM_DEVICE skim_row load_row(uint64_t rows, uint32_t index)
{
    return at<const skim_row>(rows)[index];
}

SKIM_DEVICE const uint32_t *find_table(uint64_t table, const skim_row &row)
{
    return at<const uint32_t>(table) + row.table_start;
}

// ---- numbers

SKIM_DEVICE void unpack_bf16(uint32_t bits, float *x, float *y)
{
    *x = as_float(bits << 16);
    *y = as_float(bits & 0xffff0000u);
}

// Rounds to nearest, ties to even; NaN stays NaN.
SKIM_DEVICE uint32_t round_bf16(float x)
{
    const uint32_t bits = as_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

SKIM_DEVICE uint32_t pack_bf16(float x, float y)
{
    return round_bf16(x) | round_bf16(y) << 16;
}

// The four channels of a unit that its part v has.
template <uint32_t TYPE> SKIM_DEVICE void unpack(const unit4 &unit, uint32_t v, float *x)
{
    if (TYPE == F32) {
        SKIM_UNROLL
        for (uint32_t i = 0; i < 4; i++)
            x[i] = as_float(unit.word[i]);
    } else if (TYPE == I8) {
        unpack_i8(unit.word[v], x);
    } else {
        SKIM_UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            if (TYPE == F16)
                unpack_f16(unit.word[2 * v + i], &x[2 * i], &x[2 * i + 1]);
            else
                unpack_bf16(unit.word[2 * v + i], &x[2 * i], &x[2 * i + 1]);
        }
    }
}

// ---- tensors, whose strides of heads carry their type

SKIM_DEVICE uint32_t type_of(uint32_t head_stride)
{
    return head_stride >> SKIM_TYPE_SHIFT;
}

// Address of (token, head).
SKIM_DEVICE uint64_t find_element(uint64_t base, uint32_t token, uint32_t token_stride,
                                  uint32_t head, uint32_t head_stride)
{
    const uint32_t shift = type_of(head_stride) == F32 ? 2 : 1;
    const uint64_t element =
        (uint64_t)token * token_stride + (uint64_t)head * (head_stride & SKIM_STRIDE_MASK);
    return base + (element << shift);
}

// Four elements from channel c on; zeros past dim.
SKIM_DEVICE void load_elements(uint64_t base, uint32_t c, uint32_t dim, uint32_t type, float *x)
{
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        x[i] = 0;
    if (c >= dim)
        return;
    if (type == F32) {
        SKIM_UNROLL
        for (uint32_t i = 0; i < 4; i++)
            x[i] = at<const float>(base)[c + i];
        return;
    }
    // Elements may lie at any even address.
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i += 2) {
        const uint16_t *halves = at<const uint16_t>(base) + c + i;
        const uint32_t bits = halves[0] | (uint32_t)halves[1] << 16;
        if (type == F16)
            unpack_f16(bits, &x[i], &x[i + 1]);
        else
            unpack_bf16(bits, &x[i], &x[i + 1]);
    }
}

SKIM_DEVICE void store_elements(uint64_t base, uint32_t c, uint32_t type, const float *x)
{
    if (type == F32) {
        SKIM_UNROLL
        for (uint32_t i = 0; i < 4; i++)
            at<float>(base)[c + i] = x[i];
        return;
    }
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i += 2) {
        const uint32_t bits = type == F16 ? pack_f16(x[i], x[i + 1]) : pack_bf16(x[i], x[i + 1]);
        uint16_t *halves = at<uint16_t>(base) + c + i;
        halves[0] = (uint16_t)bits;
        halves[1] = (uint16_t)(bits >> 16);
    }
}

// ---- sums over lanes: neighbours in a warp, a power of two of them

// Adds COUNT values up over LANES lanes, so that each lane has the sums of some: with fewer values
// than lanes each sum is on several. Returns the first value that the lane has; it has
// max(1, COUNT / LANES) in order.
template <uint32_t COUNT, uint32_t LANES> SKIM_DEVICE uint32_t scatter_sums(float *x, uint32_t lane)
{
    uint32_t first = 0, count = COUNT;
    SKIM_UNROLL
    for (uint32_t distance = LANES / 2; distance > 0; distance /= 2) {
        if (count == 1) {
            x[0] += shuffle_xor(x[0], distance);
            continue;
        }
        count /= 2;
        const bool upper = (lane & distance) != 0;
        first += upper ? count : 0;
        SKIM_UNROLL
        for (uint32_t i = 0; i != COUNT / 2; i++) {
            if (i >= count)
                break;
            const float kept = upper ? x[i + count] : x[i];
            const float given = upper ? x[i] : x[i + count];
            x[i] = kept + shuffle_xor(given, distance);
        }
    }
    return first;
}

#endif
