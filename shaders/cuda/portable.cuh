// All that a kernel needs of CUDA, and the one place that knows for what it is compiled: a GPU, by
// nvcc, or, with SKIM_EMULATED, plain C++ for the tests (tests/cuda), which say the same words in
// their own way.
//
// Threads of a warp that meet at a shuffle must be all 32 of it: the tests hold kernels to that.
#ifndef SKIM_CUDA_PORTABLE_CUH
#define SKIM_CUDA_PORTABLE_CUH

#include <stdint.h>

// A unit: the 16 bytes that keys, values and bounds are read and written by.
struct alignas(16) unit4 {
    uint32_t word[4];
};

#ifdef SKIM_EMULATED
#include "tests/cuda/emulated.cuh"
#else

#define SKIM_DEVICE __device__ __forceinline__
#define SKIM_CONSTANT __host__ __device__ constexpr
#define SKIM_KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define SKIM_PARAMETER __grid_constant__
#define SKIM_SHARED(type, name, count) __shared__ type name[count]
#define SKIM_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define SKIM_UNROLL _Pragma("unroll")
#define SKIM_UNROLL_BY(count) _Pragma(#count)

#ifdef SKIM_MUTANTS
extern "C" {
__constant__ uint32_t skim_device_mutant;
}
#endif

SKIM_DEVICE uint32_t thread_index()
{
    return threadIdx.x;
}

SKIM_DEVICE uint32_t thread_count()
{
    return blockDim.x;
}

SKIM_DEVICE uint32_t block_x()
{
    return blockIdx.x;
}

SKIM_DEVICE uint32_t block_y()
{
    return blockIdx.y;
}

SKIM_DEVICE uint32_t block_z()
{
    return blockIdx.z;
}

SKIM_DEVICE uint32_t grid_x()
{
    return gridDim.x;
}

SKIM_DEVICE uint32_t grid_y()
{
    return gridDim.y;
}

// ---- threads of a block

SKIM_DEVICE void synchronise()
{
    __syncthreads();
}

// What this thread wrote before is seen by who sees what it writes after.
SKIM_DEVICE void fence()
{
    __threadfence();
}

// The value of the thread whose index in its warp differs by distance's bits.
SKIM_DEVICE float shuffle_xor(float x, uint32_t distance)
{
    return __shfl_xor_sync(0xffffffffu, x, (int)distance);
}

SKIM_DEVICE uint32_t shuffle_xor(uint32_t x, uint32_t distance)
{
    return __shfl_xor_sync(0xffffffffu, x, (int)distance);
}

// The value of a lane, among the width neighbours that the thread is one of.
SKIM_DEVICE float shuffle(float x, uint32_t lane, uint32_t width)
{
    return __shfl_sync(0xffffffffu, x, (int)lane, (int)width);
}

SKIM_DEVICE uint32_t shuffle(uint32_t x, uint32_t lane, uint32_t width)
{
    return __shfl_sync(0xffffffffu, x, (int)lane, (int)width);
}

// The value of the thread that is distance before this one in the warp; its own if there is none.
SKIM_DEVICE uint32_t shuffle_up(uint32_t x, uint32_t distance)
{
    return __shfl_up_sync(0xffffffffu, x, distance);
}

// Of the whole warp: whether all have it, and who has it, a bit per lane.
SKIM_DEVICE bool all_of_warp(bool has)
{
    return __all_sync(0xffffffffu, has) != 0;
}

SKIM_DEVICE uint32_t lanes_with(bool has)
{
    return __ballot_sync(0xffffffffu, has);
}

SKIM_DEVICE uint32_t count_bits(uint32_t bits)
{
    return (uint32_t)__popc((int)bits);
}

// Adds to a 16 x 8 tile c of a warp the product of a, 16 x 16, and b, 16 x 8, of f16 or bf16:
// m16n8k16. Which numbers a lane has: prefill_tensor.cu.
template <bool IS_F16>
SKIM_DEVICE void multiply_tile(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
#if __CUDA_ARCH__ >= 800
    if (IS_F16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
            "{%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, "
            "%7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    // Compute capability 7.5 has no such product: the host does not take these kernels there.
    c[0] = c[1] = c[2] = c[3] = __uint_as_float(0x7fffffffu);
#endif
}

SKIM_DEVICE void add_shared(uint32_t *counter, uint32_t n)
{
    atomicAdd(counter, n);
}

// Counts 0 .. last and starts again: returns what the counter was.
SKIM_DEVICE uint32_t count_around(uint32_t *counter, uint32_t last)
{
    return atomicInc(counter, last);
}

// ---- memory

// Of what no thread of the launch writes.
SKIM_DEVICE unit4 load_unit(const unit4 *from)
{
    unit4 unit;
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(unit.word[0]), "=r"(unit.word[1]), "=r"(unit.word[2]), "=r"(unit.word[3])
        : "l"(from));
    return unit;
}

// Of what another block of the launch wrote before a fence.
SKIM_DEVICE float load_shared_by_blocks(const float *from)
{
    float x;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(from) : "memory");
    return x;
}

SKIM_DEVICE unit4 load_shared_by_blocks(const unit4 *from)
{
    unit4 unit;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(unit.word[0]), "=r"(unit.word[1]), "=r"(unit.word[2]), "=r"(unit.word[3])
                 : "l"(from)
                 : "memory");
    return unit;
}

// ---- numbers

SKIM_DEVICE float as_float(uint32_t bits)
{
    return __uint_as_float(bits);
}

SKIM_DEVICE uint32_t as_bits(float x)
{
    return __float_as_uint(x);
}

// Two halves of a word, the lower bits first.
SKIM_DEVICE void unpack_f16(uint32_t bits, float *x, float *y)
{
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, "
        "high; }"
        : "=f"(*x), "=f"(*y)
        : "r"(bits));
}

SKIM_DEVICE uint32_t pack_f16(float x, float y)
{
    uint32_t bits;
    asm("{ .reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, "
        "high}; }"
        : "=r"(bits)
        : "f"(x), "f"(y));
    return bits;
}

// Four int8, the lowest first, as 2^23 + 128 + u less what is too much: exact, and without the slow
// conversion.
SKIM_DEVICE void unpack_i8(uint32_t bits, float *x)
{
    const uint32_t biased = bits ^ 0x80808080u;
    SKIM_UNROLL
    for (uint32_t i = 0; i < 4; i++)
        x[i] = __uint_as_float(__byte_perm(biased, 0x4b000000u, 0x7650u | i)) - 8388736.0f;
}

SKIM_DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

SKIM_DEVICE float log2_exact(float x)
{
    return log2f(x);
}

// Each rounded by itself, whatever the compiler would like to join.
SKIM_DEVICE float add_rn(float x, float y)
{
    return __fadd_rn(x, y);
}

SKIM_DEVICE float multiply_rn(float x, float y)
{
    return __fmul_rn(x, y);
}

SKIM_DEVICE float divide_rn(float x, float y)
{
    return __fdiv_rn(x, y);
}

SKIM_DEVICE float root_rn(float x)
{
    return __fsqrt_rn(x);
}

SKIM_DEVICE float fma_rn(float x, float y, float z)
{
    return __fmaf_rn(x, y, z);
}

// To the nearest whole number, ties to even.
SKIM_DEVICE float round_even(float x)
{
    return rintf(x);
}

SKIM_DEVICE float round_up(float x)
{
    return ceilf(x);
}

SKIM_DEVICE float larger(float x, float y)
{
    return fmaxf(x, y);
}

SKIM_DEVICE float smaller(float x, float y)
{
    return fminf(x, y);
}

SKIM_DEVICE float magnitude(float x)
{
    return fabsf(x);
}

SKIM_DEVICE uint32_t larger(uint32_t x, uint32_t y)
{
    return max(x, y);
}

SKIM_DEVICE uint32_t smaller(uint32_t x, uint32_t y)
{
    return min(x, y);
}

#endif
#endif
