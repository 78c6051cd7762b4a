// Stores a page's new tokens of one kv head, clears what lies past its end, and computes its bounds.
// A workgroup takes one page of one row and one kv head; a thread has the channels of one unit.
#version 450
#extension GL_GOOGLE_include_directive : require
#define SKIM_COHERENT coherent
#include "common.glsl"

layout(local_size_x = SKIM_APPEND_THREADS) in;
layout(push_constant, std430) uniform Push { SKIM_APPEND_FIELDS } push;

#define HALF (BOUNDS_UNITS / 2)
const float STEP = 0.0078741;             // docs/algorithm.md, "Bounds in int8"
const float SCALE_MIN = 7.523163845e-37;  // 2^-120
const float SCALE_HUGE = 4.253529587e37;  // 2^125
const float MARGIN = 9.5367431640625e-07; // 2^-20
const float FLOAT_MAX = 3.40282347e38;
const float INFINITE = 3.4e38; // what is above overflowed, or nearly

shared float largest[SKIM_APPEND_THREADS];
shared uint words[2 * BOUNDS_UNITS_MAX]; // int8 bounds, four channels each

// A unit of k or v, wherever its elements lie.
uvec4 load_source(uvec2 base, uint unit)
{
    if ((push.flags & SKIM_APPEND_UNITS) != 0)
        return Units(base).at[unit];
    uvec4 bits;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        if (TYPE == F32)
            bits[i] = Words(base).at[4 * unit + i];
        else
            bits[i] = uint(Halves(base).at[8 * unit + 2 * i]) |
                      uint(Halves(base).at[8 * unit + 2 * i + 1]) << 16;
    }
    return bits;
}

uint find_key(uint slot, uint kv_head, uint token)
{
    return slot * push.key_page + kv_head * push.key_head + token * push.key_token;
}

uint find_value(uint slot, uint kv_head, uint token)
{
    return slot * push.value_page + kv_head * push.value_head + token * push.value_token;
}

void store_tokens(Row row, uint page, uint kv_head)
{
    Words table = Words(advance(push.table, row.table_start, 1, 2));
    uint first_new = row.tokens - row.query_count;
    uint first = max(page * PAGE_SIZE, first_new);
    uint end = min(row.tokens, (page + 1) * PAGE_SIZE);
    for (uint i = gl_LocalInvocationIndex; i < (end - first) * UNITS; i += SKIM_APPEND_THREADS) {
        uint token = first + i / UNITS, unit = i % UNITS;
        uint source = row.query_start + (token - first_new);
        uint slot = table.at[page];
        if (SKIM_MUTANT(append_wrong_page) && token % PAGE_SIZE == 0 && page > 0)
            slot = table.at[page - 1];
        uvec4 key = load_source(find_element(push.k, source, push.k_token, kv_head, push.k_head), unit);
        uvec4 value =
            load_source(find_element(push.v, source, push.v_token, kv_head, push.v_head), unit);
        store_unit(push.keys, find_key(slot, kv_head, token % PAGE_SIZE) + unit, key);
        store_unit(push.values, find_value(slot, kv_head, token % PAGE_SIZE) + unit, value);
    }
}

void clear_tail(Row row, uint slot, uint kv_head)
{
    uint first = row.tokens % PAGE_SIZE;
    for (uint i = gl_LocalInvocationIndex; i < (PAGE_SIZE - first) * UNITS; i += SKIM_APPEND_THREADS) {
        uint token = first + i / UNITS, unit = i % UNITS;
        store_unit(push.keys, find_key(slot, kv_head, token) + unit, uvec4(0));
        store_unit(push.values, find_value(slot, kv_head, token) + unit, uvec4(0));
    }
}

// ---- bounds of a thread's channels

struct Pair {
    vec4 high[VECTORS_MAX], low[VECTORS_MAX]; // B0, B1
};

void include(inout vec4 high, inout vec4 low, vec4 x)
{
    high = max(high, x);
    low = min(low, x);
}

Pair minmax(uint first_key, uint tokens)
{
    Pair pair;
    uvec4 unit = load_unit(push.keys, first_key);
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
        pair.high[v] = pair.low[v] = unpack(unit, v);
    for (uint t = 1; t < tokens; t++) {
        unit = load_unit(push.keys, first_key + t * push.key_token);
        [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
            include(pair.high[v], pair.low[v], unpack(unit, v));
    }
    return pair;
}

// Sums, a division and a root to the last place: the interface allows a driver more than two units,
// and f32 sums lose more than that.
struct Sum {
    vec4 high, low;
};

void add(inout Sum sum, vec4 x)
{
    precise vec4 total = sum.high + x;
    precise vec4 part = total - sum.high;
    precise vec4 lost = (sum.high - (total - part)) + (x - part);
    precise vec4 low = sum.low + lost;
    sum = Sum(total, low);
}

Sum divide(Sum sum, float n)
{
    precise vec4 quotient = (sum.high + sum.low) / n;
    precise vec4 rest = fma(-quotient, vec4(n), sum.high) + sum.low;
    precise vec4 low = rest / n;
    precise vec4 high = quotient + low;
    // A sum that overflowed has no rest.
    bvec4 finite = lessThan(abs(rest), vec4(FLOAT_MAX));
    return Sum(mix(quotient, high, finite), mix(vec4(0), low - (high - quotient), finite));
}

vec4 root(Sum square)
{
    precise vec4 guess = sqrt(square.high);
    precise vec4 rest = fma(-guess, guess, square.high) + square.low;
    // Of 0 and of infinity it is the root.
    bvec4 near = bvec4(uvec4(greaterThan(guess, vec4(0))) &
                       uvec4(lessThanEqual(guess, vec4(FLOAT_MAX))));
    precise vec4 better = guess + rest / (2.0 * mix(vec4(1), guess, near));
    return mix(guess, better, near);
}

// Two passes in the order of the tokens.
Pair meanstd(uint first_key, uint tokens, uint divisor)
{
    Pair pair;
    Sum sums[VECTORS_MAX], means[VECTORS_MAX];
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
        sums[v] = Sum(vec4(0), vec4(0));
    for (uint t = 0; t < tokens; t++) {
        uvec4 unit = load_unit(push.keys, first_key + t * push.key_token);
        [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
            add(sums[v], unpack(unit, v));
    }
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
        means[v] = divide(sums[v], float(tokens));
        pair.high[v] = means[v].high;
        sums[v] = Sum(vec4(0), vec4(0));
    }
    for (uint t = 0; t < tokens; t++) {
        uvec4 unit = load_unit(push.keys, first_key + t * push.key_token);
        [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
            precise vec4 distance = (unpack(unit, v) - means[v].high) - means[v].low;
            precise vec4 square = distance * distance;
            add(sums[v], square);
            sums[v].low += fma(distance, distance, -square);
        }
    }
    [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
        pair.low[v] = root(divide(sums[v], float(divisor)));
    return pair;
}

uvec4 pack_unit(vec4 x[VECTORS_MAX])
{
    if (TYPE == F32)
        return floatBitsToUint(x[0]);
    vec4 other = x[UNIT_VECTORS - 1];
    if (TYPE == F16)
        return uvec4(pack_f16(x[0].xy), pack_f16(x[0].zw), pack_f16(other.xy), pack_f16(other.zw));
    return uvec4(pack_bf16(x[0].xy), pack_bf16(x[0].zw), pack_bf16(other.xy), pack_bf16(other.zw));
}

// ---- int8: u = distance from the centre / scale

float reduce_largest(float x)
{
    uint thread = gl_LocalInvocationIndex;
    barrier();
    largest[thread] = x;
    for (uint half_ = SKIM_APPEND_THREADS / 2; half_ > 0; half_ /= 2) {
        barrier();
        if (thread < half_)
            largest[thread] = max(largest[thread], largest[thread + half_]);
    }
    barrier();
    return largest[0];
}

float scale_of(float distance)
{
    if (!(distance > 0))
        return 0;
    float scale = distance * STEP;
    return distance > INFINITE ? SCALE_HUGE : max(scale, SCALE_MIN);
}

float reciprocal(float x)
{
    precise float guess = 1.0 / x;
    precise float rest = fma(-x, guess, 1.0);
    precise float better = fma(guess, rest, guess);
    return better;
}

vec4 quotients(vec4 distance, float inverse)
{
    precise vec4 x = distance * inverse;
    if (BOUNDS == MEANSTD)
        return roundEven(x);
    if (SKIM_MUTANT(append_i8_inward))
        return ceil(x) - 1.0;
    precise vec4 outward = ceil(fma(abs(x), vec4(MARGIN), x));
    // The quotient of a tiny distance may be 0.
    return max(outward, mix(vec4(-127), vec4(1), greaterThan(distance, vec4(0))));
}

uint pack_i8(vec4 u)
{
    ivec4 bits = ivec4(u) & 0xff;
    return uint(bits.x | bits.y << 8 | bits.z << 16 | bits.w << 24);
}

// One vector of a page's bounds: writes its words and returns its scale. Called by all threads.
float quantise(vec4 values[VECTORS_MAX], bool of_b0, uint kv_head)
{
    uint unit = gl_LocalInvocationIndex;
    float side = BOUNDS == MINMAX && !of_b0 ? -1.0 : 1.0;
    float own = 0;
    vec4 distance[VECTORS_MAX];
    if (unit < UNITS) {
        uvec2 centre = advance(push.centre, kv_head, DIM, 2);
        [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++) {
            vec4 c = of_b0 || BOUNDS == MINMAX
                         ? load_elements(centre, unit * UNIT_CHANNELS + 4 * v, F32)
                         : vec4(0);
            precise vec4 d = side * (values[v] - c);
            // A lower distance than the true one would not be outward. No NaN passes.
            distance[v] = mix(vec4(-FLOAT_MAX), d, greaterThan(d, vec4(-FLOAT_MAX)));
            [[unroll]] for (uint i = 0; i < 4; i++)
                own = max(own, abs(distance[v][i]));
        }
    }
    float scale = scale_of(reduce_largest(own));
    float inverse = scale > 0 ? reciprocal(scale) : 0;
    for (uint i = UNITS * UNIT_VECTORS + unit; i < 4 * HALF; i += SKIM_APPEND_THREADS)
        words[i] = 0;
    if (unit < UNITS)
        [[unroll]] for (uint v = 0; v < UNIT_VECTORS; v++)
            words[unit * UNIT_VECTORS + v] =
                pack_i8(side * clamp(quotients(distance[v], inverse), -127.0, 127.0));
    return scale;
}

void store_words(uint first_unit)
{
    memoryBarrierShared();
    barrier();
    uint unit = gl_LocalInvocationIndex;
    if (unit < HALF)
        store_unit(push.bounds, first_unit + unit,
                   uvec4(words[4 * unit], words[4 * unit + 1], words[4 * unit + 2],
                         words[4 * unit + 3]));
    barrier();
}

void store_i8(Pair pair, uint place, uint kv_head, bool keeps_scales)
{
    float high = quantise(pair.high, true, kv_head);
    store_words(place * BOUNDS_UNITS);
    float low = quantise(pair.low, false, kv_head);
    store_words(place * BOUNDS_UNITS + HALF);
    if (gl_LocalInvocationIndex > 0 || keeps_scales)
        return;
    uint unit = gl_NumWorkGroups.y * push.slots * BOUNDS_UNITS + place / 2;
    Units units = find_unit(push.bounds, unit);
    uint word = place % 2 * 2;
    units.at[unit][word] = floatBitsToUint(high);
    units.at[unit][word + 1] = floatBitsToUint(low);
}

void update_bounds(Row row, uint page, uint slot, uint kv_head)
{
    uint first = page * PAGE_SIZE;
    bool begun = first < row.tokens - row.query_count;
    if (SKIM_MUTANT(append_stale_bounds) && begun)
        return;
    uint tokens = min(row.tokens - first, PAGE_SIZE);
    if (SKIM_MUTANT(append_bounds_past_end) && tokens < PAGE_SIZE)
        tokens++;
    uint divisor = SKIM_MUTANT(append_sample_deviation) && tokens > 1 ? tokens - 1 : tokens;
    uint unit = gl_LocalInvocationIndex;
    uint place = kv_head * push.slots + slot;
    Pair pair;
    if (unit < UNITS) {
        uint first_key = find_key(slot, kv_head, 0) + unit;
        if (BOUNDS == MINMAX)
            pair = minmax(first_key, tokens);
        else
            pair = meanstd(first_key, tokens, divisor);
    }
    if (BOUNDS_TYPE == I8) {
        store_i8(pair, place, kv_head, SKIM_MUTANT(append_i8_stale_scale) && begun);
    } else if (unit < UNITS) {
        store_unit(push.bounds, place * BOUNDS_UNITS + unit, pack_unit(pair.high));
        store_unit(push.bounds, place * BOUNDS_UNITS + UNITS + unit, pack_unit(pair.low));
    }
}

void main()
{
    set_shape(push.shape);
    Row row = load_row(push.rows, gl_WorkGroupID.z);
    if (row.query_count == 0)
        return;
    uint kv_head = gl_WorkGroupID.y;
    uint page = (row.tokens - row.query_count) / PAGE_SIZE + gl_WorkGroupID.x;
    if (page >= row.page_count)
        return;
    uint slot = Words(advance(push.table, row.table_start, 1, 2)).at[page];
    if ((push.flags & SKIM_APPEND_STORE) != 0) {
        if (!is_null(push.k))
            store_tokens(row, page, kv_head);
        if ((row.flags & ROW_CLEAR) != 0 && page == row.page_count - 1 &&
            row.tokens % PAGE_SIZE != 0 && !SKIM_MUTANT(append_keeps_tail))
            clear_tail(row, slot, kv_head);
    }
    if ((push.flags & SKIM_APPEND_BOUNDS) == 0)
        return;
    memoryBarrierBuffer();
    barrier();
    update_bounds(row, page, slot, kv_head);
}
