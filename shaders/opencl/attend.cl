// Exact attention of up to HEADS queries of one kv head at a time, over tokens in tiles: their
// scores, whole tokens a work-item; their softmax; the sum of the values, eight channels a work-item.
//
// attend: rows with one query, whose heads share a kv head, over one part of a list or of all pages.
// prefill (PREFILL given): rows with more, causally; the queries are tokens times heads of the group.
#include "common.cl"

typedef struct Push {
    SKIM_ATTEND_FIELDS
    uint shape; // beside the fields
} Push;

#define TILE 64u // tokens
#define TILE_PAGES_MAX 8
#if THREADS == 1
#define COLUMNS_MAX (DIM_MAX / 8)
#define SHARE 1u // work-items that share a query's softmax
#else
#define COLUMNS_MAX 1 // of a work-item
#define SHARE (THREADS / HEADS)
#endif

// What a group keeps in local memory.
typedef struct Shared {
    float queries[HEADS * DIM_MAX];
    float weights[HEADS * TILE]; // scores, then weights
    float parts[HEADS * SHARE];
    float highest[HEADS], total[HEADS], shrink[HEADS];
    ulong key_at[TILE_PAGES_MAX], value_at[TILE_PAGES_MAX];
    uint limits[HEADS]; // tokens of the tile that a query sees
#if THREADS > 1
    float merged[THREADS * WIDTH];
#endif
} Shared;

// Where a kernel reads, besides keys and values: tokens first_page * page size and on, of a list or
// of all pages.
typedef struct Source {
    __global const uint *slots;
    __global const uint *list; // or null
    uint kv_head;
} Source;

uint slot_of(__global const uint *slots, uint page)
{
    return SKIM_MUTANT(attend_wrong_slot) ? page % 2 : slots[page];
}

void load_query(Push push, __local Shared *shared, uint h, constant_bytes query, bool is_there)
{
    for (uint v = THREAD; v < VECTORS; v += THREADS) {
        float8 x = (float8)(0);
        if (is_there)
            x = push.scale * LOG2_E *
                load_elements(query, v * WIDTH, push.q_head >> SKIM_TYPE_SHIFT);
        vstore8(x, v, shared->queries + h * DIM);
    }
}

// Where the pages first_page .. of a tile are; with their tokens no more is asked than there are.
void find_pages(Push push, __local Shared *shared, Source source, uint first_page, uint tokens)
{
    const uint pages = (tokens + PAGE_SIZE - 1) / PAGE_SIZE;
    const uint kv_head = SKIM_MUTANT(attend_wrong_kv_head) ? 0 : source.kv_head;
    for (uint p = THREAD; p < pages; p += THREADS) {
        uint page = source.list ? source.list[first_page + p] : first_page + p;
        ulong slot = slot_of(source.slots, page);
        shared->key_at[p] =
            push.keys + (slot * push.key_page + (ulong)kv_head * push.key_head) * 16;
        shared->value_at[p] =
            push.values + (slot * push.value_page + (ulong)kv_head * push.value_head) * 16;
    }
}

void score_tokens(Push push, __local Shared *shared, const Pieces *keys, uint tokens)
{
    for (uint t = THREAD; t < tokens; t += THREADS) {
        const ulong at =
            shared->key_at[t / PAGE_SIZE] + (ulong)(t % PAGE_SIZE) * push.key_token * 16;
        float8 sums[HEADS];
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            sums[h] = (float8)(0);
        for (uint v = 0; v < VECTORS; v++) {
            float8 x = load_channels(keys, at + v * VECTOR_BYTES);
#pragma unroll
            for (uint h = 0; h < HEADS; h++)
                sums[h] += x * vload8(v, shared->queries + h * DIM);
        }
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            shared->weights[h * TILE + t] = sum_vector(sums[h]);
    }
}

// Scores become weights; those of tokens that a query does not see are 0.
#if THREADS == 1
void weigh_tokens(__local Shared *shared)
{
    const int8 steps = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
    for (uint h = 0; h < HEADS; h++) {
        __local float *weights = shared->weights + h * TILE;
        const int seen = (int)shared->limits[h];
        float8 tops = (float8)(LOWEST);
        for (int t = 0; t < seen; t += WIDTH)
            tops = fmax(tops, select((float8)(LOWEST), vload8(0, weights + t), t + steps < seen));
        const float4 four = fmax(tops.lo, tops.hi);
        const float top = fmax(fmax(four.x, four.y), fmax(four.z, four.w));
        const float next = fmax(shared->highest[h], top);
        float8 sum = (float8)(0);
        for (int t = 0; t < (int)TILE; t += WIDTH) {
            float8 weight = (float8)(0);
            if (t < seen)
                weight = select(weight, exp2(vload8(0, weights + t) - next), t + steps < seen);
            vstore8(weight, 0, weights + t);
            sum += weight;
        }
        const float shrink = exp2(shared->highest[h] - next);
        shared->shrink[h] = shrink;
        shared->highest[h] = next;
        shared->total[h] = shared->total[h] * shrink + sum_vector(sum);
    }
}
#else
void weigh_tokens(__local Shared *shared)
{
    const uint h = THREAD / SHARE, lane = THREAD % SHARE;
    __local float *weights = shared->weights + h * TILE;
    const uint seen = shared->limits[h];
    float top = LOWEST;
    for (uint t = lane; t < seen; t += SHARE)
        top = fmax(top, weights[t]);
    shared->parts[THREAD] = top;
    BARRIER();
    const float before = shared->highest[h];
    float next = before;
    for (uint i = 0; i < SHARE; i++)
        next = fmax(next, shared->parts[h * SHARE + i]);
    BARRIER();
    float sum = 0;
    for (uint t = lane; t < TILE; t += SHARE) {
        float weight = t < seen ? exp2(weights[t] - next) : 0.0f;
        weights[t] = weight;
        sum += weight;
    }
    shared->parts[THREAD] = sum;
    BARRIER();
    if (lane > 0)
        return;
    const float shrink = exp2(before - next);
    float all = 0;
    for (uint i = 0; i < SHARE; i++)
        all += shared->parts[h * SHARE + i];
    shared->highest[h] = next;
    shared->shrink[h] = shrink;
    shared->total[h] = shared->total[h] * shrink + all;
}
#endif

// Adds the tile's values to what a work-item found so far: channels of its columns, tokens of its
// lane.
void add_values(Push push, __local Shared *shared, const Pieces *values, uint tokens, float8 *found)
{
#if THREADS == 1
    const uint lanes = 1, lane = 0, first = 0, columns = VECTORS;
#else
    const uint lanes = THREADS / VECTORS, lane = THREAD / VECTORS, first = THREAD % VECTORS;
    const uint columns = first + 1;
    if (lane >= lanes)
        return;
#endif
    for (uint column = first; column < columns; column++) {
        __private float8 *own = found + (column - first) * HEADS;
        float8 sums[HEADS];
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            sums[h] = own[h] * shared->shrink[h];
        for (uint t = lane; t < tokens; t += lanes) {
            const ulong at =
                shared->value_at[t / PAGE_SIZE] + (ulong)(t % PAGE_SIZE) * push.value_token * 16;
            float8 x = load_channels(values, at + column * VECTOR_BYTES);
#pragma unroll
            for (uint h = 0; h < HEADS; h++) {
#ifdef PREFILL
                // A token that a query does not see may be NaN.
                if (t < shared->limits[h])
#endif
                    sums[h] += shared->weights[h * TILE + t] * x;
            }
        }
#pragma unroll
        for (uint h = 0; h < HEADS; h++)
            own[h] = sums[h];
    }
}

// Adds up what the lanes found: whoever has a column in lane 0 has all of it.
void add_lanes(Push push, __local Shared *shared, float8 *found)
{
#if THREADS > 1
#pragma unroll
    for (uint h = 0; h < HEADS; h++) {
        BARRIER();
        vstore8(found[h], THREAD, shared->merged);
        BARRIER();
        float8 x = (float8)(0);
        for (uint lane = 0; lane < THREADS / VECTORS && THREAD < VECTORS; lane++)
            x += vload8(lane * VECTORS + THREAD, shared->merged);
        found[h] = x;
    }
#endif
}

void store_lse(Push push, bytes lse, uint token, uint head, float highest, float sum)
{
    if (push.lse == SKIM_ABSENT)
        return;
    __global float *to = (__global float *)(lse + push.lse +
                                            element_at(token, push.lse_token, head, push.lse_head));
    *to = sum > 0 ? LN_2 * (highest + log2(sum)) : -INFINITY;
}

void begin(__local Shared *shared)
{
    for (uint h = THREAD; h < HEADS; h += THREADS) {
        shared->highest[h] = LOWEST;
        shared->total[h] = 0;
    }
}

// The tokens of a tile, of which query h sees so many: everything that a tile is.
void attend_tile(Push push, __local Shared *shared, const Pieces *keys, const Pieces *values,
                 Source source, uint first_page, uint tokens, float8 *found)
{
    BARRIER();
    find_pages(push, shared, source, first_page, tokens);
    BARRIER();
    score_tokens(push, shared, keys, tokens);
    BARRIER();
    weigh_tokens(shared);
    BARRIER();
    add_values(push, shared, values, tokens, found);
}

#define ATTEND_ARGUMENTS                                                                           \
    constant_bytes rows, constant_bytes table, constant_bytes q, PIECES(keys_), PIECES(values_),    \
        constant_bytes lists, bytes out, bytes lse, bytes partials, const Push push,               \
        const uint row_count, const uint parts_max

#ifdef PREFILL
KERNEL void prefill(ATTEND_ARGUMENTS)
{
    __local Shared memory;
    __local Shared *shared = &memory;
    if (get_group_id(2) >= row_count)
        return;
    TAKE_PIECES(keys_);
    TAKE_PIECES(values_);
    const Row row = load_row(rows + push.rows, get_group_id(2));
    // The launch may be one of several: the group's number counts from its offset.
    const uint first_query = (uint)(get_global_id(0) / THREADS) * HEADS; // token * GROUP + head
    const uint queries = row.query_count * GROUP;
    if (row.query_count < 2 || first_query >= queries)
        return;
    const uint kv_head = get_group_id(1);
    const uint before = row.length - row.query_count;
    const uint ahead = SKIM_MUTANT(attend_not_causal) ? 2 : 1;
    const uint last_query = min(first_query + HEADS, queries) - 1;
    const uint seen = min(before + last_query / GROUP + ahead, row.length);
    const Source source = {(__global const uint *)(table + push.table) + row.table_start, 0,
                           kv_head};
    for (uint h = 0; h < HEADS; h++) {
        uint query = min(first_query + h, queries - 1);
        load_query(push, shared, h,
                   q + push.q +
                       element_at(row.query_start + query / GROUP, push.q_token,
                                  kv_head * GROUP + query % GROUP, push.q_head),
                   true);
    }
    begin(shared);
    float8 found[COLUMNS_MAX * HEADS];
    for (uint i = 0; i < COLUMNS_MAX * HEADS; i++)
        found[i] = (float8)(0);
    for (uint tile = 0; tile < seen; tile += TILE) {
        BARRIER();
        for (uint h = THREAD; h < HEADS; h += THREADS) {
            uint query = min(first_query + h, queries - 1);
            uint limit = min(before + query / GROUP + ahead, row.length);
            if (SKIM_MUTANT(attend_drops_last_token) && limit > 1)
                limit--;
            shared->limits[h] = clamp(limit, tile, tile + TILE) - tile;
        }
        attend_tile(push, shared, &keys_, &values_, source, tile / PAGE_SIZE,
                    min(seen - tile, TILE), found);
    }
    BARRIER();
    add_lanes(push, shared, found);
    for (uint h = 0; h < HEADS; h++) {
        const uint query = first_query + h;
        const uint token = row.query_start + query / GROUP, head = kv_head * GROUP + query % GROUP;
        bytes to = out + push.out_ + element_at(token, push.out_token, head, push.out_head);
        if (first_query + h >= queries)
            break;
        for (uint v = THREAD; v < VECTORS; v += THREADS)
            store_elements(to, v * WIDTH, push.out_head >> SKIM_TYPE_SHIFT,
                           found[v / THREADS * HEADS + h] / shared->total[h]);
        if (THREAD == 0)
            store_lse(push, lse, token, head, shared->highest[h], shared->total[h]);
    }
}

#else
bool is_listed(Push push, Row row)
{
    return push.lists != SKIM_ABSENT && (row.flags & ROW_DENSE) == 0;
}

uint count_pages(Push push, Row row)
{
    uint pages = is_listed(push, row) ? min(row.select_count, row.page_count) : row.page_count;
    return SKIM_MUTANT(attend_drops_last_page) && pages > 0 ? pages - 1 : pages;
}

// A list is attended in so many parts: its length and the shape, which gives the most, decide.
uint count_parts(Push push, Row row, uint parts_max)
{
    return clamp(count_pages(push, row) * PAGE_SIZE / SKIM_PART_TOKENS, 1u, parts_max);
}

// Tokens of the pages first .. end - 1 of a list, or of all.
uint count_tokens(Push push, Row row, __global const uint *list, uint first, uint end)
{
    if (first >= end)
        return 0;
    uint tokens = (end - first) * PAGE_SIZE;
    const uint last = list ? list[end - 1] : end - 1;
    if (last != row.page_count - 1)
        return tokens;
    uint valid = row.length - last * PAGE_SIZE;
    if (SKIM_MUTANT(attend_drops_last_token))
        valid--;
    if (SKIM_MUTANT(attend_reads_past_end) && valid < PAGE_SIZE)
        valid++;
    return tokens - PAGE_SIZE + valid;
}

// Where part p of a query head leaves what it found: maximum and sum in base 2, then out
// unnormalised.
__global float *find_partial(Push push, bytes partials, uint row, uint head, uint heads,
                             uint parts_max, uint part)
{
    ulong index = ((ulong)row * heads + head) * parts_max + part;
    return (__global float *)(partials + push.partials) + index * (4 + DIM);
}

KERNEL void attend(ATTEND_ARGUMENTS, const uint list_heads)
{
    __local Shared memory;
    __local Shared *shared = &memory;
    if (get_group_id(2) >= row_count)
        return;
    TAKE_PIECES(keys_);
    TAKE_PIECES(values_);
    const Row row = load_row(rows + push.rows, get_group_id(2));
    const uint parts = count_parts(push, row, parts_max), part = get_group_id(0);
    if (row.query_count != 1 || part >= parts)
        return;
    const uint chunks = (GROUP + HEADS - 1) / HEADS;
    const uint kv_heads = get_num_groups(1) / chunks, kv_head = get_group_id(1) / chunks;
    const uint in_group = get_group_id(1) % chunks * HEADS;
    const uint first_head = kv_head * GROUP + in_group;
    const uint heads = min((uint)HEADS, GROUP - in_group);
    Source source = {(__global const uint *)(table + push.table) + row.table_start, 0, kv_head};
    if (is_listed(push, row)) {
        uint lists_of_row = kv_heads * GROUP / list_heads;
        uint list = get_group_id(2) * lists_of_row + first_head / list_heads;
        source.list = (__global const uint *)(lists + push.lists) + (ulong)list * push.list_stride;
    }
    const uint pages = count_pages(push, row);
    const uint first_page = pages / parts * part + min(pages % parts, part);
    const uint end_page = first_page + pages / parts + (part < pages % parts ? 1 : 0);
    const uint tokens = count_tokens(push, row, source.list, first_page, end_page);
    for (uint h = 0; h < HEADS; h++)
        load_query(push, shared, h,
                   q + push.q +
                       element_at(row.query_start, push.q_token, first_head + h, push.q_head),
                   h < heads);
    begin(shared);
    float8 found[COLUMNS_MAX * HEADS];
    for (uint i = 0; i < COLUMNS_MAX * HEADS; i++)
        found[i] = (float8)(0);
    for (uint tile = 0; tile < tokens; tile += TILE) {
        const uint of_tile = min(tokens - tile, TILE);
        BARRIER();
        for (uint h = THREAD; h < HEADS; h += THREADS)
            shared->limits[h] = of_tile;
        attend_tile(push, shared, &keys_, &values_, source, first_page + tile / PAGE_SIZE, of_tile,
                    found);
    }
    BARRIER();
    add_lanes(push, shared, found);
    for (uint h = 0; h < heads; h++) {
        const uint head = first_head + h;
        const float total = shared->total[h];
        __global float *partial = find_partial(push, partials, get_group_id(2), head,
                                               kv_heads * GROUP, parts_max, part);
        bytes to =
            out + push.out_ + element_at(row.query_start, push.out_token, head, push.out_head);
        for (uint v = THREAD; v < VECTORS; v += THREADS) {
            const float8 x = found[v / THREADS * HEADS + h];
            if (parts > 1)
                vstore8(x, 0, partial + 4 + v * WIDTH);
            else
                store_elements(to, v * WIDTH, push.out_head >> SKIM_TYPE_SHIFT,
                               total > 0 ? x / total : (float8)(0));
        }
        if (THREAD > 0)
            continue;
        if (parts > 1)
            vstore2((float2)(shared->highest[h], total), 0, partial);
        else
            store_lse(push, lse, row.query_start, head, shared->highest[h], total);
    }
}

// Merges the parts in which attend went through a list, in their order. One group a query head.
KERNEL void merge(ATTEND_ARGUMENTS)
{
    if (get_group_id(1) >= row_count)
        return;
    const Row row = load_row(rows + push.rows, get_group_id(1));
    const uint parts = count_parts(push, row, parts_max);
    if (row.query_count != 1 || parts == 1)
        return;
    const uint head = get_group_id(0);
    __global const float *partial =
        find_partial(push, partials, get_group_id(1), head, get_num_groups(0), parts_max, 0);
    const uint stride = 4 + DIM;
    float top = LOWEST, sum = 0;
    for (uint p = 0; p < parts; p++)
        top = fmax(top, partial[p * stride]);
    bytes to = out + push.out_ + element_at(row.query_start, push.out_token, head, push.out_head);
    for (uint v = THREAD; v < VECTORS; v += THREADS) {
        float8 x = (float8)(0);
        sum = 0;
        for (uint p = 0; p < parts; p++) {
            float weight =
                SKIM_MUTANT(attend_merge_unweighted) ? 1.0f : exp2(partial[p * stride] - top);
            sum += weight * partial[p * stride + 1];
            x += weight * vload8(0, partial + p * stride + 4 + v * WIDTH);
        }
        store_elements(to, v * WIDTH, push.out_head >> SKIM_TYPE_SHIFT,
                       sum > 0 ? x / sum : (float8)(0));
    }
    if (THREAD == 0)
        store_lse(push, lse, row.query_start, head, top, sum);
}
#endif
