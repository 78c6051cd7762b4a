// Stores a page's new tokens of one kv head, clears what lies past its end, and computes its bounds.
// A group takes one page of one row and one kv head; a work-item has vectors of channels.
#pragma OPENCL FP_CONTRACT OFF
#include "common.cl"

typedef struct Push {
    SKIM_APPEND_FIELDS
} Push;

#define STEP 0.0078741f             // docs/algorithm.md, "Bounds in int8"
#define SCALE_MIN 7.523163845e-37f  // 2^-120
#define SCALE_HUGE 4.253529587e37f  // 2^125
#define MARGIN 9.5367431640625e-07f // 2^-20
#define INFINITE 3.4e38f            // what is above overflowed, or nearly

ulong find_key(Push push, uint slot, uint kv_head, uint token)
{
    return push.keys + ((ulong)slot * push.key_page + (ulong)kv_head * push.key_head +
                        (ulong)token * push.key_token) *
                           16;
}

ulong find_value(Push push, uint slot, uint kv_head, uint token)
{
    return push.values + ((ulong)slot * push.value_page + (ulong)kv_head * push.value_head +
                          (ulong)token * push.value_token) *
                             16;
}

// 16 bytes, wherever elements lie.
uint4 load_unit(constant_bytes from, bool of_units)
{
    if (of_units)
        return vload4(0, (__global const uint *)from);
#if TYPE == F32
    return vload4(0, (__global const uint *)from);
#else
    return as_uint4(vload8(0, (__global const ushort *)from));
#endif
}

void store_unit(const Pieces *pieces, ulong at, uint4 unit)
{
    vstore4(unit, 0, (__global uint *)find(pieces, at));
}

void store_tokens(Push push, Row row, __global const uint *table, constant_bytes k, constant_bytes v,
                  const Pieces *keys, const Pieces *values, uint page, uint kv_head)
{
    const uint units = DIM * CHANNEL_BYTES / 16;
    const uint first_new = row.length - row.query_count;
    const uint first = max(page * PAGE_SIZE, first_new);
    const uint end = min(row.length, (page + 1) * PAGE_SIZE);
    const bool of_units = (push.flags & SKIM_APPEND_UNITS) != 0;
    for (uint i = THREAD; i < (end - first) * units; i += THREADS) {
        uint token = first + i / units, unit = i % units;
        uint source = row.query_start + (token - first_new);
        uint slot = table[page];
        if (SKIM_MUTANT(append_wrong_page) && token % PAGE_SIZE == 0 && page > 0)
            slot = table[page - 1];
        constant_bytes key = k + element_at(source, push.k_token, kv_head, push.k_head);
        constant_bytes value = v + element_at(source, push.v_token, kv_head, push.v_head);
        store_unit(keys, find_key(push, slot, kv_head, token % PAGE_SIZE) + unit * 16,
                   load_unit(key + unit * 16, of_units));
        store_unit(values, find_value(push, slot, kv_head, token % PAGE_SIZE) + unit * 16,
                   load_unit(value + unit * 16, of_units));
    }
}

void clear_tail(Push push, Row row, const Pieces *keys, const Pieces *values, uint slot,
                uint kv_head)
{
    const uint units = DIM * CHANNEL_BYTES / 16;
    const uint first = row.length % PAGE_SIZE;
    for (uint i = THREAD; i < (PAGE_SIZE - first) * units; i += THREADS) {
        uint token = first + i / units, unit = i % units;
        store_unit(keys, find_key(push, slot, kv_head, token) + unit * 16, (uint4)(0));
        store_unit(values, find_value(push, slot, kv_head, token) + unit * 16, (uint4)(0));
    }
}

// ---- bounds of eight channels

typedef struct Pair {
    float8 high, low; // B0, B1
} Pair;

Pair minmax(const Pieces *keys, ulong first, ulong stride, uint tokens)
{
    Pair pair;
    pair.high = pair.low = load_channels(keys, first);
    for (uint t = 1; t < tokens; t++) {
        float8 x = load_channels(keys, first + t * stride);
        pair.high = fmax(pair.high, x);
        pair.low = fmin(pair.low, x);
    }
    return pair;
}

// Sums, a division and a root to the last place: OpenCL allows a driver some units in it, and f32
// sums lose more than that.
typedef struct Sum {
    float8 high, low;
} Sum;

Sum add(Sum sum, float8 x)
{
    float8 total = sum.high + x;
    float8 part = total - sum.high;
    float8 lost = (sum.high - (total - part)) + (x - part);
    Sum next = {total, sum.low + lost};
    return next;
}

Sum divide(Sum sum, float n)
{
    float8 quotient = (sum.high + sum.low) / n;
    float8 rest = fma(-quotient, (float8)(n), sum.high) + sum.low;
    float8 low = rest / n;
    float8 high = quotient + low;
    // A sum that overflowed has no rest.
    int8 finite = fabs(rest) < LARGEST;
    Sum result = {select(quotient, high, finite),
                  select((float8)(0), low - (high - quotient), finite)};
    return result;
}

float8 root(Sum square)
{
    float8 guess = sqrt(square.high);
    float8 rest = fma(-guess, guess, square.high) + square.low;
    float8 better = guess + rest / (2.0f * guess);
    return select(guess, better, fabs(rest / guess) < LARGEST);
}

// Two passes in the order of the tokens.
Pair meanstd(const Pieces *keys, ulong first, ulong stride, uint tokens, uint divisor)
{
    Sum sum = {(float8)(0), (float8)(0)};
    for (uint t = 0; t < tokens; t++)
        sum = add(sum, load_channels(keys, first + t * stride));
    Sum mean = divide(sum, (float)tokens);
    Sum squares = {(float8)(0), (float8)(0)};
    for (uint t = 0; t < tokens; t++) {
        float8 distance = (load_channels(keys, first + t * stride) - mean.high) - mean.low;
        float8 square = distance * distance;
        squares = add(squares, square);
        squares.low += fma(distance, distance, -square);
    }
    Pair pair = {mean.high, root(divide(squares, (float)divisor))};
    return pair;
}

// ---- int8: u = distance from the centre / scale

float scale_of(float distance)
{
    if (!(distance > 0))
        return 0;
    return distance > INFINITE ? SCALE_HUGE : max(distance * STEP, SCALE_MIN);
}

float reciprocal(float x)
{
    float guess = 1.0f / x;
    return fma(guess, fma(-x, guess, 1.0f), guess);
}

float8 quotients(float8 distance, float inverse)
{
    float8 x = distance * inverse;
    if (BOUNDS == MEANSTD)
        return rint(x);
    if (SKIM_MUTANT(append_i8_inward))
        return ceil(x) - 1.0f;
    float8 outward = ceil(fma(fabs(x), (float8)(MARGIN), x));
    // The quotient of a tiny distance may be 0.
    return fmax(outward, select((float8)(-127), (float8)(1), distance > 0.0f));
}

// One vector of a page's bounds, of which a work-item has the channels that it wrote to values:
// stores it and returns its scale. Called by all work-items.
float quantise(Push push, const Pieces *bounds, ulong to, __local float *values,
               __local float *shared, constant_bytes centre, bool of_b0, uint kv_head)
{
    const float side = BOUNDS == MINMAX && !of_b0 ? -1.0f : 1.0f;
    __global const float *c0 = (__global const float *)centre + (ulong)kv_head * DIM;
    float own = 0;
    for (uint v = THREAD; v < VECTORS; v += THREADS) {
        float8 c = of_b0 || BOUNDS == MINMAX ? vload8(v, c0) : (float8)(0);
        float8 d = side * (vload8(v, values) - c);
        // A lower distance than the true one would not be outward. No NaN passes.
        d = select((float8)(-LARGEST), d, d > -LARGEST);
        vstore8(d, v, values);
        float8 far = fabs(d);
        float4 four = fmax(far.lo, far.hi);
        own = fmax(own, fmax(fmax(four.x, four.y), fmax(four.z, four.w)));
    }
    float scale = scale_of(reduce_max(shared, own));
    float inverse = scale > 0 ? reciprocal(scale) : 0;
    for (uint v = THREAD; v < VECTORS; v += THREADS) {
        float8 u = side * clamp(quotients(vload8(v, values), inverse), -127.0f, 127.0f);
        vstore8(convert_char8(u), 0, (__global char *)find(bounds, to + v * WIDTH));
    }
    if (DIM % 16 > 0) {
        if (THREAD == 0)
            vstore8((char8)(0), 0, (__global char *)find(bounds, to + DIM));
    }
    return scale;
}

KERNEL void append(constant_bytes rows, constant_bytes table, constant_bytes k, constant_bytes v,
                   PIECES(keys_), PIECES(values_), PIECES(bounds_), constant_bytes centre,
                   const Push push, const uint row_count)
{
#if BOUNDS_TYPE == I8
    __local float high[DIM_MAX], low[DIM_MAX], shared[THREADS];
#endif
    if (get_group_id(2) >= row_count)
        return;
    TAKE_PIECES(keys_);
    TAKE_PIECES(values_);
    TAKE_PIECES(bounds_);
    const Row row = load_row(rows + push.rows, get_group_id(2));
    if (row.query_count == 0)
        return;
    const uint kv_head = get_group_id(1);
    const uint page = (row.length - row.query_count) / PAGE_SIZE + get_group_id(0);
    if (page >= row.page_count)
        return;
    __global const uint *slots = (__global const uint *)(table + push.table) + row.table_start;
    const uint slot = slots[page];
    if (push.flags & SKIM_APPEND_STORE) {
        if (push.k != SKIM_ABSENT)
            store_tokens(push, row, slots, k + push.k, v + push.v, &keys_, &values_, page, kv_head);
        if ((row.flags & ROW_CLEAR) != 0 && page == row.page_count - 1 &&
            row.length % PAGE_SIZE != 0 && !SKIM_MUTANT(append_keeps_tail))
            clear_tail(push, row, &keys_, &values_, slot, kv_head);
    }
    const bool begun = page * PAGE_SIZE < row.length - row.query_count;
    if (!(push.flags & SKIM_APPEND_BOUNDS) || (SKIM_MUTANT(append_stale_bounds) && begun))
        return;
#if THREADS > 1
    barrier(CLK_GLOBAL_MEM_FENCE);
#endif

    uint tokens = min(row.length - page * PAGE_SIZE, PAGE_SIZE);
    if (SKIM_MUTANT(append_bounds_past_end) && tokens < PAGE_SIZE)
        tokens++;
    const ulong place = (ulong)kv_head * push.slots + slot;
    const ulong to = push.bounds + place * BOUNDS_BYTES;
    for (uint i = THREAD; i < VECTORS; i += THREADS) {
        const ulong first = find_key(push, slot, kv_head, 0) + i * VECTOR_BYTES;
        const ulong stride = (ulong)push.key_token * 16;
#if BOUNDS == MINMAX
        Pair pair = minmax(&keys_, first, stride, tokens);
#else
        const bool sampled = SKIM_MUTANT(append_sample_deviation) && tokens > 1;
        Pair pair = meanstd(&keys_, first, stride, tokens, sampled ? tokens - 1 : tokens);
#endif
#if BOUNDS_TYPE == I8
        vstore8(pair.high, i, high);
        vstore8(pair.low, i, low);
#else
        store_channels(&bounds_, to + i * VECTOR_BYTES, pair.high);
        store_channels(&bounds_, to + HALF_BYTES + i * VECTOR_BYTES, pair.low);
#endif
    }
#if BOUNDS_TYPE == I8
    float of_high = quantise(push, &bounds_, to, high, shared, centre + push.centre, true, kv_head);
    float of_low = quantise(push, &bounds_, to + HALF_BYTES, low, shared, centre + push.centre,
                            false, kv_head);
    if (THREAD > 0 || (SKIM_MUTANT(append_i8_stale_scale) && begun))
        return;
    const ulong pages = (ulong)get_num_groups(1) * push.slots;
    vstore2((float2)(of_high, of_low), 0,
            (__global float *)find(&bounds_, push.bounds + pages * BOUNDS_BYTES + place * 8));
#endif
}
