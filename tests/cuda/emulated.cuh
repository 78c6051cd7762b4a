// What shaders/cuda/portable.cuh says of a GPU, said for the emulator: kernels as plain C++, whose
// threads are fibres that change at barriers and where a warp meets (tests/cuda/fibres.h). Only
// portable.cuh includes it.
#ifndef SKIM_EMULATED_CUH
#define SKIM_EMULATED_CUH

#include "tests/cuda/fibres.h"

#include <math.h>
#include <string.h>

#define SKIM_DEVICE inline
#define SKIM_CONSTANT constexpr
#define SKIM_PARAMETER
#define SKIM_KERNEL(threads, blocks) extern "C" void
#define SKIM_UNROLL
#define SKIM_UNROLL_BY(count)

// One block runs at a time, so that what its threads share can be static. It begins as NaN: what is
// read must have been written by the block.
#define SKIM_SHARED(type, name, count)                                                             \
    static type name[count];                                                                       \
    static uint64_t name##_block;                                                                  \
    if (name##_block != emulated.block_number) {                                                   \
        name##_block = emulated.block_number;                                                      \
        memset((void *)name, 0xff, sizeof name);                                                   \
    }
#define SKIM_DYNAMIC_SHARED(type, name) type *name = (type *)emulated.dynamic_shared

// The test of the tests sets it, as in a module of a GPU.
extern "C" uint32_t skim_device_mutant;

inline uint32_t thread_index()
{
    return emulated.thread;
}

inline uint32_t thread_count()
{
    return emulated.threads;
}

inline uint32_t block_x()
{
    return emulated.block[0];
}

inline uint32_t block_y()
{
    return emulated.block[1];
}

inline uint32_t block_z()
{
    return emulated.block[2];
}

inline uint32_t grid_x()
{
    return emulated.grid[0];
}

inline uint32_t grid_y()
{
    return emulated.grid[1];
}

inline float as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

inline uint32_t as_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// ---- threads of a block

inline void synchronise()
{
    emulated_wait();
}

inline void fence()
{
}

inline uint32_t shuffle_xor(uint32_t x, uint32_t distance)
{
    return emulated_meet(x, EMULATED_SHUFFLE_XOR)[(emulated.thread % 32) ^ distance];
}

inline float shuffle_xor(float x, uint32_t distance)
{
    return as_float(shuffle_xor(as_bits(x), distance));
}

inline uint32_t shuffle(uint32_t x, uint32_t lane, uint32_t width)
{
    const uint32_t first = emulated.thread % 32 / width * width;
    return emulated_meet(x, EMULATED_SHUFFLE)[first + lane % width];
}

inline float shuffle(float x, uint32_t lane, uint32_t width)
{
    return as_float(shuffle(as_bits(x), lane, width));
}

inline uint32_t shuffle_up(uint32_t x, uint32_t distance)
{
    const uint32_t lane = emulated.thread % 32;
    return emulated_meet(x, EMULATED_SHUFFLE_UP)[lane >= distance ? lane - distance : lane];
}

inline uint32_t lanes_with(bool has)
{
    const uint32_t *of_lanes = emulated_meet(has, EMULATED_BALLOT);
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 32; i++)
        bits |= of_lanes[i] << i;
    return bits;
}

inline bool all_of_warp(bool has)
{
    return lanes_with(has) == 0xffffffffu;
}

inline uint32_t count_bits(uint32_t bits)
{
    return (uint32_t)__builtin_popcount(bits);
}

inline float emulated_16(uint32_t bits, bool is_f16)
{
    return is_f16 ? emulated_halves[bits & 0xffff] : as_float(bits << 16);
}

// Each lane puts down what it has, takes what it needs, and adds in the order of the rows of b.
template <bool IS_F16>
inline void multiply_tile(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    uint32_t left[4][32], right[2][32];
    for (uint32_t i = 0; i < 4; i++)
        memcpy(left[i], emulated_meet(a[i], EMULATED_MULTIPLY), sizeof left[i]);
    memcpy(right[0], emulated_meet(b0, EMULATED_MULTIPLY), sizeof right[0]);
    memcpy(right[1], emulated_meet(b1, EMULATED_MULTIPLY), sizeof right[1]);
    const uint32_t line = emulated.thread % 32 / 4, pair = emulated.thread % 4;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t column = pair * 2 + i % 2;
        for (uint32_t k = 0; k < 16; k++) {
            const uint32_t shift = 16 * (k % 2), lane = k % 8 / 2;
            const uint32_t x = left[k / 8 * 2 + i / 2][line * 4 + lane] >> shift;
            const uint32_t y = right[k / 8][column * 4 + lane] >> shift;
            c[i] += emulated_16(x, IS_F16) * emulated_16(y, IS_F16);
        }
    }
}

inline void add_shared(uint32_t *counter, uint32_t n)
{
    *counter += n;
}

inline uint32_t count_around(uint32_t *counter, uint32_t last)
{
    const uint32_t was = *counter;
    *counter = was >= last ? 0 : was + 1;
    return was;
}

// ---- memory

inline unit4 load_unit(const unit4 *from)
{
    return *from;
}

inline float load_shared_by_blocks(const float *from)
{
    return *from;
}

inline unit4 load_shared_by_blocks(const unit4 *from)
{
    return *from;
}

// ---- numbers

inline void unpack_f16(uint32_t bits, float *x, float *y)
{
    *x = emulated_halves[bits & 0xffff];
    *y = emulated_halves[bits >> 16];
}

inline uint32_t pack_f16(float x, float y)
{
    return emulated_half(x) | (uint32_t)emulated_half(y) << 16;
}

inline void unpack_i8(uint32_t bits, float *x)
{
    for (uint32_t i = 0; i < 4; i++)
        x[i] = (float)(int8_t)(bits >> 8 * i);
}

inline float exp2_fast(float x)
{
    const float y = exp2f(x);
    return y < 1.17549435e-38f ? 0 : y;
}

inline float log2_exact(float x)
{
    return log2f(x);
}

inline float add_rn(float x, float y)
{
    return x + y;
}

inline float multiply_rn(float x, float y)
{
    return x * y;
}

inline float divide_rn(float x, float y)
{
    return x / y;
}

inline float root_rn(float x)
{
    return sqrtf(x);
}

inline float fma_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

inline float round_even(float x)
{
    return rintf(x);
}

inline float round_up(float x)
{
    return ceilf(x);
}

// Of a number and NaN the number.
inline float larger(float x, float y)
{
    return x > y || y != y ? x : y;
}

inline float smaller(float x, float y)
{
    return x < y || y != y ? x : y;
}

inline float magnitude(float x)
{
    return fabsf(x);
}

inline uint32_t larger(uint32_t x, uint32_t y)
{
    return x > y ? x : y;
}

inline uint32_t smaller(uint32_t x, uint32_t y)
{
    return x < y ? x : y;
}

#endif
