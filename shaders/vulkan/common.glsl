// What every kernel has: constants, memory behind addresses, rows, and numbers of any type.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#ifdef SKIM_FP16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#ifdef SKIM_SUBGROUPS
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

#include "../layout.h"

layout(constant_id = SKIM_SPEC_TYPE) const uint TYPE = 2;
// 0: a general kernel, which is told at the launch.
layout(constant_id = SKIM_SPEC_DIM) const uint DIM_GIVEN = 0;
layout(constant_id = SKIM_SPEC_PAGE_SIZE) const uint PAGE_SIZE_GIVEN = 0;
layout(constant_id = SKIM_SPEC_GROUP) const uint GROUP_GIVEN = 0;
layout(constant_id = SKIM_SPEC_HEADS) const uint HEADS = 1;
layout(constant_id = SKIM_SPEC_LANES) const uint LANES = 8;
layout(constant_id = SKIM_SPEC_TOKENS) const uint TOKENS = 4;
layout(constant_id = SKIM_SPEC_BOUNDS) const uint BOUNDS = 0;
layout(constant_id = SKIM_SPEC_BOUNDS_TYPE) const uint BOUNDS_TYPE = 0;
layout(constant_id = SKIM_SPEC_PARTS) const uint PARTS = 1;
layout(constant_id = SKIM_SPEC_KEYS) const uint KEYS = 1;
layout(constant_id = SKIM_SPEC_LISTS) const uint LISTS = 2;
layout(constant_id = SKIM_SPEC_CHUNK_SHIFT) const uint CHUNK_SHIFT = 0;

// A wrong version of one decision, for the test of the tests (runtime/mutant.h).
#ifdef SKIM_MUTANTS
#include "mutants.glsl"
layout(constant_id = SKIM_SPEC_MUTANT) const uint MUTANT = 0;
#define SKIM_MUTANT(name) (MUTANT == name)
#else
#define SKIM_MUTANT(name) false
#endif

const uint F32 = 1, F16 = 2, BF16 = 3;     // skim_type
const uint MINMAX = 0, MEANSTD = 1;        // skim_bounds
const uint NATIVE = 0, I8 = 1;             // skim_bounds_type
const uint ROW_DENSE = 1, ROW_CLEAR = 2;   // SKIM_ROW_*
const float LOG2_E = 1.44269504088896341, LN_2 = 0.693147180559945309;
const float LOWEST = -3.0e38; // stands for minus infinity in sums and maxima

// The shape. Of a kernel built for one it is constant all the same.
const bool GENERAL = DIM_GIVEN == 0;
const uint DIM_MAX = GENERAL ? 256 : DIM_GIVEN;
uint DIM, PAGE_SIZE, GROUP;

void set_shape(uint word)
{
    DIM = GENERAL ? (word & 63) * 8 : DIM_GIVEN;
    PAGE_SIZE = GENERAL ? 8u << (word >> 6 & 3) : PAGE_SIZE_GIVEN;
    GROUP = GENERAL ? word >> 8 : GROUP_GIVEN;
}

// A unit of 16 bytes holds so many channels of a key or value, as so many vec4.
const uint UNIT_CHANNELS = TYPE == F32 ? 4 : 8;
const uint UNIT_VECTORS = UNIT_CHANNELS / 4;
const uint VECTORS_MAX = 2;
const uint UNITS_MAX = DIM_MAX / UNIT_CHANNELS;
#define UNITS (DIM / UNIT_CHANNELS)
const uint WIDTH_SHIFT = TYPE == F32 ? 2 : 1; // log2 of an element's bytes

// ---- memory

// A kernel that reads what other threads of its workgroup wrote says so.
#ifndef SKIM_COHERENT
#define SKIM_COHERENT
#endif
layout(buffer_reference, std430, buffer_reference_align = 16) SKIM_COHERENT buffer Units {
    uvec4 at[];
};
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 2) buffer Halves { uint16_t at[]; };
// A tensor in a buffer of several pieces: the unit at which it begins, and where the pieces are.
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer Chunks {
    uint first, zero;
    uvec2 at[];
};

// base + ((count * stride) << shift) in 64 bits.
uvec2 advance(uvec2 base, uint count, uint stride, uint shift)
{
    uint high, low, carry;
    umulExtended(count, stride, high, low);
    if (shift > 0) {
        high = high << shift | low >> (32 - shift);
        low <<= shift;
    }
    low = uaddCarry(base.x, low, carry);
    return uvec2(low, base.y + high + carry);
}

Units find_unit(uvec2 base, inout uint index)
{
    if (CHUNK_SHIFT == 0)
        return Units(base);
    Chunks chunks = Chunks(base);
    index += chunks.first;
    uint chunk = index >> CHUNK_SHIFT;
    index &= (1u << CHUNK_SHIFT) - 1;
    return Units(chunks.at[chunk]);
}

uvec4 load_unit(uvec2 base, uint index)
{
    Units units = find_unit(base, index);
    return units.at[index];
}

void store_unit(uvec2 base, uint index, uvec4 unit)
{
    Units units = find_unit(base, index);
    units.at[index] = unit;
}

bool is_null(uvec2 address)
{
    return (address.x | address.y) == 0;
}

// ---- numbers

vec2 unpack_f16(uint bits)
{
#ifdef SKIM_FP16
    return vec2(unpackFloat2x16(bits));
#else
    return unpackHalf2x16(bits);
#endif
}

// Rounds to nearest, ties to even; NaN stays NaN. What Vulkan has for it rounds as the driver likes,
// on some GPUs towards zero, and may lose the smallest numbers.
uint pack_f16(vec2 pair)
{
    uvec2 bits = floatBitsToUint(pair), size = bits & 0x7fffffffu;
    uvec2 packed = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
    // Below 2^-14, in units of 2^-24.
    uvec2 mantissa = size & 0x7fffffu | 0x800000u, shift = clamp(126u - (size >> 23), 14u, 25u);
    uvec2 small = (mantissa + (uvec2(1) << shift - 1u) - 1u + (mantissa >> shift & 1u)) >> shift;
    packed = mix(packed, small, lessThan(size, uvec2(0x38800000u)));
    // From 65520 on infinite.
    packed = mix(packed, uvec2(0x7c00u), greaterThanEqual(size, uvec2(0x477ff000u)));
    packed = mix(packed, uvec2(0x7e00u), greaterThan(size, uvec2(0x7f800000u)));
    packed |= bits >> 16 & 0x8000u;
    return packed.x | packed.y << 16;
}

vec2 unpack_bf16(uint bits)
{
    return vec2(uintBitsToFloat(bits << 16), uintBitsToFloat(bits & 0xffff0000u));
}

// Rounds to nearest, ties to even; NaN stays NaN.
uint round_bf16(float x)
{
    uint bits = floatBitsToUint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

uint pack_bf16(vec2 pair)
{
    return round_bf16(pair.x) | round_bf16(pair.y) << 16;
}

// Channels 4 v .. 4 v + 3 of a unit.
vec4 unpack(uvec4 unit, uint v)
{
    if (TYPE == F32)
        return uintBitsToFloat(unit);
    uvec2 pair = v == 0 ? unit.xy : unit.zw;
    if (TYPE == F16)
        return vec4(unpack_f16(pair.x), unpack_f16(pair.y));
    return vec4(unpack_bf16(pair.x), unpack_bf16(pair.y));
}

// A tensor whose head stride carries its type.
uint type_of(uint head_stride)
{
    return head_stride >> SKIM_TYPE_SHIFT;
}

// Address of (token, head) in such a tensor.
uvec2 find_element(uvec2 base, uint token, uint token_stride, uint head, uint head_stride)
{
    uint shift = type_of(head_stride) == F32 ? 2 : 1;
    base = advance(base, token, token_stride, shift);
    return advance(base, head, head_stride & SKIM_STRIDE_MASK, shift);
}

float load_element(uvec2 base, uint index, uint type)
{
    if (type == F32)
        return Floats(base).at[index];
    uint bits = uint(Halves(base).at[index]);
    return type == F16 ? unpack_f16(bits).x : uintBitsToFloat(bits << 16);
}

// Four elements from channel c on; zeros past DIM.
vec4 load_elements(uvec2 base, uint c, uint type)
{
    vec4 x = vec4(0);
    if (c < DIM)
        [[unroll]] for (uint i = 0; i < 4; i++)
            x[i] = load_element(base, c + i, type);
    return x;
}

void store_elements(uvec2 base, uint c, uint type, vec4 x)
{
    if (type == F32) {
        [[unroll]] for (uint i = 0; i < 4; i++)
            Floats(base).at[c + i] = x[i];
        return;
    }
    uvec2 pairs = type == F16 ? uvec2(pack_f16(x.xy), pack_f16(x.zw))
                              : uvec2(pack_bf16(x.xy), pack_bf16(x.zw));
    Halves half_words = Halves(base);
    half_words.at[c] = uint16_t(pairs.x & 0xffffu);
    half_words.at[c + 1] = uint16_t(pairs.x >> 16);
    half_words.at[c + 2] = uint16_t(pairs.y & 0xffffu);
    half_words.at[c + 3] = uint16_t(pairs.y >> 16);
}

// ---- rows

struct Row {
    uint tokens, query_start, query_count, table_start, page_count, select_count, forced_first,
        forced_last, flags;
};

Row load_row(uvec2 rows, uint index)
{
    Words words = Words(advance(rows, index, SKIM_ROW_WORDS, 2));
    return Row(words.at[SKIM_ROW_LENGTH], words.at[SKIM_ROW_QUERY_START],
               words.at[SKIM_ROW_QUERY_COUNT], words.at[SKIM_ROW_TABLE_START],
               words.at[SKIM_ROW_PAGE_COUNT], words.at[SKIM_ROW_SELECT_COUNT],
               words.at[SKIM_ROW_FORCED_FIRST], words.at[SKIM_ROW_FORCED_LAST],
               words.at[SKIM_ROW_FLAGS]);
}

// Layout of bounds, in units: [kv_head][slot][B0, B1]; each half of int8 ones is padded to whole
// units, and behind them all lie their scales, f32 [kv_head][slot][2].
const uint BOUNDS_UNITS_MAX = 2 * (BOUNDS_TYPE == I8 ? (DIM_MAX + 15) / 16 : UNITS_MAX);
#define BOUNDS_UNITS (2 * (BOUNDS_TYPE == I8 ? (DIM + 15) / 16 : UNITS))

// ---- sums over the threads that share a page or token: LANES neighbours

#ifdef SKIM_SUBGROUPS
// What neighbours are is the subgroup's to say.
uint thread_index()
{
    return gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
}

float sum_lanes(float x)
{
    [[unroll]] for (uint distance = 1; distance < LANES; distance *= 2)
        x += subgroupShuffleXor(x, distance);
    return x;
}
#else
shared float exchange[SKIM_THREADS];

uint thread_index()
{
    return gl_LocalInvocationIndex;
}

// Called by all threads of the workgroup.
float sum_lanes(float x)
{
    uint thread = thread_index();
    barrier();
    exchange[thread] = x;
    barrier();
    // In the order of the other way.
    uint first = thread & ~(LANES - 1), lane = thread & (LANES - 1);
    float sums[32];
    [[unroll]] for (uint i = 0; i < LANES; i++)
        sums[i] = exchange[first + (lane ^ i)];
    [[unroll]] for (uint step_ = 1; step_ < LANES; step_ *= 2)
        [[unroll]] for (uint i = 0; i < LANES; i += 2 * step_)
            sums[i] += sums[i + step_];
    return sums[0];
}
#endif
