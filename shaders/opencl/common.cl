// What every kernel has: constants, memory, rows, and numbers of any type. OpenCL C 1.2.
//
// Given with -D: THREADS, the work-items of a group (1: the shape for a CPU, whose groups go through
// everything themselves in vectors); TYPE, BOUNDS, BOUNDS_TYPE as a kernel needs them; CHUNK_SHIFT
// where keys, values or bounds are in several pieces; FP16 where there are 16-bit floats; DIM_GIVEN
// of a kernel for one head_dim.
#include "../layout.h"

#ifdef FP16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif

#define F32 1 // skim_type
#define F16 2
#define BF16 3
#define MINMAX 0 // skim_bounds
#define MEANSTD 1
#define NATIVE 0 // skim_bounds_type
#define I8 1
#define ROW_DENSE 1u // SKIM_ROW_*
#define ROW_CLEAR 2u

#define LOWEST (-3.0e38f) // stands for minus infinity in sums and maxima
#define LN_2 0.693147180559945309f
#define LOG2_E 1.44269504088896341f
#define LARGEST 3.40282347e38f // finite

// A wrong version of one decision, for the test of the tests (runtime/mutant.h). A function, since
// compilers warn of constants in conditions.
#ifdef MUTANT
#define SKIM_MUTANT(name) is_mutant(SKIM_MUTANT_##name)
bool is_mutant(uint id)
{
    return id == MUTANT;
}
#else
#define SKIM_MUTANT(name) never()
bool never(void)
{
    return false;
}
#endif

#define KERNEL __kernel __attribute__((reqd_work_group_size(THREADS, 1, 1)))
#if THREADS == 1
#define BARRIER()
#define THREAD 0u
#else
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define THREAD ((uint)get_local_id(0))
#endif

// Channels come in vectors of eight: every head_dim is a multiple of that.
#define WIDTH 8u
#define DIM_MAX 256
#ifdef DIM_GIVEN
#define DIM ((uint)DIM_GIVEN)
#else
#define DIM ((push.shape & 63u) * 8u)
#endif
#define VECTORS (DIM / WIDTH)
#define PAGE_SIZE (8u << (push.shape >> 6 & 3u))
#define GROUP (push.shape >> 8)

// ---- memory

#define SKIM_ABSENT (~(ulong)0) // where a tensor would begin that there is none of

typedef __global uchar *bytes;
typedef __global const uchar *constant_bytes;

// Keys, values or bounds: one buffer, or up to eight pieces of one.
#ifdef CHUNK_SHIFT
typedef struct Pieces {
    bytes at[8];
} Pieces;
#define PIECES(name)                                                                               \
    bytes name##0, bytes name##1, bytes name##2, bytes name##3, bytes name##4, bytes name##5,       \
        bytes name##6, bytes name##7
#define TAKE_PIECES(name)                                                                          \
    const Pieces name = {                                                                          \
        {name##0, name##1, name##2, name##3, name##4, name##5, name##6, name##7}}

bytes find(const Pieces *pieces, ulong at)
{
    return pieces->at[at >> CHUNK_SHIFT & 7] + (at & (((ulong)1 << CHUNK_SHIFT) - 1));
}
#else
typedef struct Pieces {
    bytes at;
} Pieces;
#define PIECES(name) bytes name##0
#define TAKE_PIECES(name) const Pieces name = {name##0}

bytes find(const Pieces *pieces, ulong at)
{
    return pieces->at + at;
}
#endif

// ---- numbers

// Rounds to nearest, ties to even; NaN stays NaN.
ushort8 pack_bf16(float8 x)
{
    uint8 bits = as_uint8(x);
    uint8 rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    uint8 nan = bits >> 16 | 0x40u;
    return convert_ushort8(select(rounded, nan, (bits & 0x7fffffffu) > 0x7f800000u));
}

float8 unpack_bf16(ushort8 bits)
{
    return as_float8(convert_uint8(bits) << 16);
}

float8 load_f16(constant_bytes from)
{
#ifdef FP16
    return convert_float8(vload8(0, (__global const half *)from));
#else
    return vload_half8(0, (__global const half *)from);
#endif
}

// Eight channels of type TYPE that begin at a byte.
#ifdef TYPE
#define CHANNEL_BYTES (TYPE == F32 ? 4u : 2u)
#define VECTOR_BYTES (WIDTH * CHANNEL_BYTES)

#if THREADS == 1
float8 load_channels(const Pieces *pieces, ulong at)
{
#if TYPE == F32
    return (float8)(vload4(0, (__global const float *)find(pieces, at)),
                    vload4(0, (__global const float *)find(pieces, at + 16)));
#elif TYPE == F16
    return load_f16(find(pieces, at));
#else
    return unpack_bf16(vload8(0, (__global const ushort *)find(pieces, at)));
#endif
}
#else
// Keys, values and bounds are aligned to 16 bytes. A GPU's compiler, which cannot know it, would make
// a vload of 16-bit numbers one load for each.
uint4 load_aligned(const Pieces *pieces, ulong at)
{
    return *(__global const uint4 *)find(pieces, at);
}

float8 load_channels(const Pieces *pieces, ulong at)
{
#if TYPE == F32
    return (float8)(as_float4(load_aligned(pieces, at)), as_float4(load_aligned(pieces, at + 16)));
#elif TYPE == F16 && defined(FP16)
    return convert_float8(as_half8(load_aligned(pieces, at)));
#elif TYPE == F16
    const uint4 unit = load_aligned(pieces, at);
    return vload_half8(0, (const half *)&unit);
#else
    return unpack_bf16(as_ushort8(load_aligned(pieces, at)));
#endif
}
#endif

void store_channels(const Pieces *pieces, ulong at, float8 x)
{
#if TYPE == F32
    vstore4(x.lo, 0, (__global float *)find(pieces, at));
    vstore4(x.hi, 0, (__global float *)find(pieces, at + 16));
#elif TYPE == F16
    vstore_half8_rte(x, 0, (__global half *)find(pieces, at));
#else
    vstore8(pack_bf16(x), 0, (__global ushort *)find(pieces, at));
#endif
}
#endif

// Bytes from the start of a tensor to (token, head); the stride of heads carries the type.
ulong element_at(uint token, uint token_stride, uint head, uint head_stride)
{
    ulong elements = (ulong)token * token_stride + (ulong)head * (head_stride & SKIM_STRIDE_MASK);
    return elements << (head_stride >> SKIM_TYPE_SHIFT == F32 ? 2 : 1);
}

// Eight elements from channel c on.
float8 load_elements(constant_bytes from, uint c, uint type)
{
    if (type == F32)
        return vload8(0, (__global const float *)from + c);
    if (type == F16)
        return load_f16(from + 2 * c);
    return unpack_bf16(vload8(0, (__global const ushort *)from + c));
}

void store_elements(bytes to, uint c, uint type, float8 x)
{
    if (type == F32)
        vstore8(x, 0, (__global float *)to + c);
    else if (type == F16)
        vstore_half8_rte(x, 0, (__global half *)to + c);
    else
        vstore8(pack_bf16(x), 0, (__global ushort *)to + c);
}

float sum_vector(float8 x)
{
    float4 four = x.lo + x.hi;
    float2 two = four.lo + four.hi;
    return two.x + two.y;
}

// ---- rows

typedef struct Row {
    uint length, query_start, query_count, table_start, page_count, select_count, forced_first,
        forced_last, flags;
} Row;

Row load_row(constant_bytes rows, uint index)
{
    __global const uint *words = (__global const uint *)rows + (ulong)index * SKIM_ROW_WORDS;
    Row row = {words[SKIM_ROW_LENGTH],       words[SKIM_ROW_QUERY_START],
               words[SKIM_ROW_QUERY_COUNT],  words[SKIM_ROW_TABLE_START],
               words[SKIM_ROW_PAGE_COUNT],   words[SKIM_ROW_SELECT_COUNT],
               words[SKIM_ROW_FORCED_FIRST], words[SKIM_ROW_FORCED_LAST],
               words[SKIM_ROW_FLAGS]};
    return row;
}

// Bytes of a page's bounds of one kv head, B0 and B1: int8 ones are padded to units of 16. Behind
// all int8 ones lie their scales, f32 [kv_head][slot][2].
#ifdef BOUNDS_TYPE
#if BOUNDS_TYPE == I8
#define HALF_BYTES ((DIM + 15u) / 16u * 16u)
#else
#define HALF_BYTES (DIM * CHANNEL_BYTES)
#endif
#define BOUNDS_BYTES (2u * HALF_BYTES)
#endif

// ---- what the work-items of a group find out together: over x of all of them

#if THREADS == 1
#define REDUCE(name, both)                                                                         \
    float name(__local float *shared, float x) { return x; }
#else
#define REDUCE(name, both)                                                                         \
    float name(__local float *shared, float x)                                                     \
    {                                                                                              \
        BARRIER();                                                                                 \
        shared[THREAD] = x;                                                                        \
        for (uint half_ = THREADS / 2; half_ > 0; half_ /= 2) {                                    \
            BARRIER();                                                                             \
            if (THREAD < half_) {                                                                  \
                float a = shared[THREAD], b = shared[THREAD + half_];                              \
                shared[THREAD] = both;                                                             \
            }                                                                                      \
        }                                                                                          \
        BARRIER();                                                                                 \
        return shared[0];                                                                          \
    }
#endif
REDUCE(reduce_max, fmax(a, b))
REDUCE(reduce_sum, a + b)
