// What the kernels do, one element at a time: the same memory, lists and rows; sums in double
// precision. Bounds are the largest and the smallest of each channel whatever kind is asked for,
// since nothing else looks at them.
#include "skim/skim.h"
#include "tests/fault/vulkan/objects.h"

#include "shaders/vulkan/kernels.h"

#include <math.h>
#include <string.h>

enum { UNIT = 16, DIM_MAX = 256, PAGES_MAX = 4096, GROUP_MAX = 64 };

fake_kernel fake_kernel_of(const uint32_t *words, size_t size, bool *adds_in_subgroups)
{
#define IS(kernel, name)                                                                           \
    if (size == sizeof skim_spirv_##name && memcmp(words, skim_spirv_##name, size) == 0) {         \
        *adds_in_subgroups = strstr(#name, "subgroups") != NULL;                                   \
        return KERNEL_##kernel;                                                                    \
    }
    IS(APPEND, append)
    IS(CENTRE, centre)
    IS(ESTIMATE, estimate)
    IS(ESTIMATE, estimate_fp16)
    IS(ESTIMATE, estimate_subgroups)
    IS(ESTIMATE, estimate_subgroups_fp16)
    IS(SELECT, select)
    IS(ATTEND, attend)
    IS(ATTEND, attend_fp16)
    IS(ATTEND, attend_subgroups)
    IS(ATTEND, attend_subgroups_fp16)
    IS(MERGE, merge)
    IS(PREFILL, prefill)
    IS(PREFILL, prefill_fp16)
#undef IS
    return KERNEL_NONE;
}

typedef struct append_push {
    SKIM_APPEND_FIELDS
} append_push;
typedef struct estimate_push {
    SKIM_ESTIMATE_FIELDS
} estimate_push;
typedef struct select_push {
    SKIM_SELECT_FIELDS
} select_push;
typedef struct attend_push {
    SKIM_ATTEND_FIELDS
} attend_push;

// What all of them look at.
typedef struct launch {
    const uint32_t *constants;
    const uint32_t *base, *groups;
    uint32_t type, width, dim, units, page, group;
    uint64_t partials; // of attend
    uint32_t parts;    // most of them
} launch;

// ---- numbers

static double from_half(uint16_t bits)
{
    uint32_t exponent = bits >> 10 & 31;
    uint32_t wide = (bits & 0x8000u) << 16 | (exponent + 112) << 23 | (bits & 0x3ffu) << 13;
    float value;
    memcpy(&value, &wide, sizeof value);
    if (exponent == 0)
        return ldexp(bits & 0x3ff, -24) * (bits & 0x8000 ? -1.0 : 1.0);
    return (double)value;
}

static uint16_t to_half(double value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    value = fabs(value);
    if (value == 0.0 || !(value < 65520.0))
        return value == 0.0 ? sign : (uint16_t)(sign | 0x7c00);
    int exponent;
    frexp(value, &exponent);
    exponent = exponent - 1 < -14 ? -14 : exponent - 1;
    // A fraction that rounds up to the next power carries into the exponent.
    double fraction = rint(ldexp(value, 10 - exponent));
    int bits = (int)fraction + (exponent + 14) * 1024;
    return (uint16_t)(sign | bits);
}

static double load(const void *bytes, uint32_t type, uint32_t index)
{
    if (type == SKIM_F32)
        return (double)((const float *)bytes)[index];
    uint16_t half = ((const uint16_t *)bytes)[index];
    if (type == SKIM_F16)
        return from_half(half);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static void store(void *bytes, uint32_t type, uint32_t index, double value)
{
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (type == SKIM_F32)
        ((float *)bytes)[index] = single;
    else if (type == SKIM_F16)
        ((uint16_t *)bytes)[index] = to_half(value);
    else
        ((uint16_t *)bytes)[index] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// ---- memory. What cannot be reached was noted; zeros stand for it, and what is written is lost.

static void *reach(uint64_t address, uint64_t size)
{
    static _Alignas(16) char nothing[1 << 16];
    void *found = size <= sizeof nothing ? fake_reach(address, size) : NULL;
    if (!found)
        memset(nothing, 0, sizeof nothing);
    return found ? found : nothing;
}

static uint32_t type_of(uint32_t head_stride)
{
    return head_stride >> SKIM_TYPE_SHIFT;
}

// count elements of a tensor whose head stride carries its type.
static void *find_elements(uint64_t base, uint32_t token, uint32_t token_stride, uint32_t head,
                           uint32_t head_stride, uint32_t count)
{
    uint64_t width = type_of(head_stride) == SKIM_F32 ? 4 : 2;
    uint64_t element =
        (uint64_t)token * token_stride + (uint64_t)head * (head_stride & SKIM_STRIDE_MASK);
    return reach(base + element * width, count * width);
}

// A unit of keys, values or bounds, whose buffer may be in pieces.
static unsigned char *find_unit(const launch *own, uint64_t base, uint32_t index)
{
    uint32_t shift = own->constants[SKIM_SPEC_CHUNK_SHIFT];
    if (shift == 0)
        return reach(base + (uint64_t)index * UNIT, UNIT);
    uint32_t first;
    memcpy(&first, reach(base, 8), sizeof first);
    index += first;
    uint64_t chunk;
    memcpy(&chunk, reach(base + 8 + 8 * (uint64_t)(index >> shift), 8), sizeof chunk);
    return reach(chunk + (uint64_t)(index & ((1u << shift) - 1)) * UNIT, UNIT);
}

static void load_vector(const launch *own, uint64_t base, uint32_t unit, double *x)
{
    uint32_t channels = UNIT / own->width;
    const unsigned char *whole = NULL;
    if (own->constants[SKIM_SPEC_CHUNK_SHIFT] == 0)
        whole = reach(base + (uint64_t)unit * UNIT, (uint64_t)own->units * UNIT);
    for (uint32_t u = 0; u < own->units; u++) {
        const unsigned char *bytes = whole ? whole + u * UNIT : find_unit(own, base, unit + u);
        for (uint32_t c = 0; c < channels; c++)
            x[u * channels + c] = load(bytes, own->type, c);
    }
}

static void store_vector(const launch *own, uint64_t base, uint32_t unit, const double *x)
{
    uint32_t channels = UNIT / own->width;
    for (uint32_t u = 0; u < own->units; u++) {
        unsigned char *bytes = find_unit(own, base, unit + u);
        for (uint32_t c = 0; c < channels; c++)
            store(bytes, own->type, c, x[u * channels + c]);
    }
}

static skim_row load_row(uint64_t rows, uint32_t index)
{
    skim_row row;
    memcpy(&row, reach(rows + index * sizeof row, sizeof row), sizeof row);
    return row;
}

static uint32_t load_word(uint64_t base, uint64_t index)
{
    uint32_t word;
    memcpy(&word, reach(base + index * 4, 4), sizeof word);
    return word;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// ---- append

static uint32_t find_token(uint32_t slot, uint32_t page, uint32_t kv_head, uint32_t head,
                           uint32_t token, uint32_t stride)
{
    return slot * page + kv_head * head + token * stride;
}

static void store_token(const launch *own, const append_push *push, uint32_t source,
                        uint32_t kv_head, uint32_t slot, uint32_t token)
{
    const unsigned char *k = NULL, *v = NULL;
    if (push->k && source != UINT32_MAX) {
        k = find_elements(push->k, source, push->k_token, kv_head, push->k_head, own->dim);
        v = find_elements(push->v, source, push->v_token, kv_head, push->v_head, own->dim);
    }
    static const unsigned char zeros[UNIT];
    uint32_t key =
        find_token(slot, push->key_page, kv_head, push->key_head, token, push->key_token);
    uint32_t value =
        find_token(slot, push->value_page, kv_head, push->value_head, token, push->value_token);
    for (uint32_t u = 0; u < own->units; u++) {
        memcpy(find_unit(own, push->keys, key + u), k ? k + u * UNIT : zeros, UNIT);
        memcpy(find_unit(own, push->values, value + u), v ? v + u * UNIT : zeros, UNIT);
    }
}

// Units of a page's bounds of one kv head.
static uint32_t bounds_units(const launch *own)
{
    bool i8 = own->constants[SKIM_SPEC_BOUNDS_TYPE] == SKIM_BOUNDS_I8;
    return 2 * (i8 ? (own->dim + UNIT - 1) / UNIT : own->units);
}

static float *find_scales(const launch *own, uint64_t bounds, uint32_t kv_heads, uint32_t slots,
                          uint32_t place)
{
    uint32_t unit = kv_heads * slots * bounds_units(own) + place / 2;
    return (float *)(void *)find_unit(own, bounds, unit) + place % 2 * 2;
}

static void store_i8(const launch *own, const append_push *push, uint32_t place, const double *high,
                     const double *low)
{
    double largest = 0.0;
    for (uint32_t d = 0; d < own->dim; d++)
        largest = fmax(largest, fmax(fabs(high[d]), fabs(low[d])));
    double scale = largest > 0.0 ? largest / 127.0 : 1.0;
    uint32_t units = bounds_units(own), half = units / 2;
    for (uint32_t u = 0; u < units; u++) {
        unsigned char *bytes = find_unit(own, push->bounds, place * units + u);
        for (uint32_t i = 0; i < UNIT; i++) {
            uint32_t d = u % half * UNIT + i;
            double x = d >= own->dim ? 0.0
                       : u < half    ? ceil(high[d] / scale)
                                     : floor(low[d] / scale);
            bytes[i] = (unsigned char)(int)fmin(fmax(x, -127.0), 127.0);
        }
    }
    float *scales = find_scales(own, push->bounds, own->groups[1], push->slots, place);
    scales[0] = scales[1] = (float)scale;
}

static void update_bounds(const launch *own, const append_push *push, const skim_row *row,
                          uint32_t page, uint32_t slot, uint32_t kv_head)
{
    double high[DIM_MAX], low[DIM_MAX], x[DIM_MAX];
    uint32_t tokens = smaller(row->length - page * own->page, own->page);
    for (uint32_t t = 0; t < tokens; t++) {
        load_vector(own, push->keys,
                    find_token(slot, push->key_page, kv_head, push->key_head, t, push->key_token),
                    x);
        for (uint32_t d = 0; d < own->dim; d++) {
            high[d] = t == 0 ? x[d] : fmax(high[d], x[d]);
            low[d] = t == 0 ? x[d] : fmin(low[d], x[d]);
        }
    }
    uint32_t place = kv_head * push->slots + slot;
    if (own->constants[SKIM_SPEC_BOUNDS_TYPE] == SKIM_BOUNDS_I8) {
        store_i8(own, push, place, high, low);
        return;
    }
    store_vector(own, push->bounds, place * bounds_units(own), high);
    store_vector(own, push->bounds, place * bounds_units(own) + own->units, low);
}

static void append_page(const launch *own, const append_push *push, const skim_row *row,
                        uint32_t page, uint32_t kv_head)
{
    uint32_t slot = load_word(push->table, (uint64_t)row->table_start + page);
    uint32_t first_new = row->length - row->query_count;
    uint32_t begin = page * own->page > first_new ? page * own->page : first_new;
    uint32_t end = smaller(row->length, (page + 1) * own->page);
    bool stores = push->flags & SKIM_APPEND_STORE;
    for (uint32_t t = begin; stores && push->k && t < end; t++)
        store_token(own, push, row->query_start + t - first_new, kv_head, slot, t % own->page);
    if (stores && (row->flags & SKIM_ROW_CLEAR) && page == row->page_count - 1)
        for (uint32_t t = end - page * own->page; t < own->page; t++)
            store_token(own, push, UINT32_MAX, kv_head, slot, t);
    if (push->flags & SKIM_APPEND_BOUNDS)
        update_bounds(own, push, row, page, slot, kv_head);
}

static void append(const launch *own, const append_push *push)
{
    for (uint32_t r = 0; r < own->groups[2]; r++) {
        skim_row row = load_row(push->rows, r);
        if (row.query_count == 0)
            continue;
        uint32_t first = (row.length - row.query_count) / own->page;
        for (uint32_t p = first; p < first + own->groups[0] && p < row.page_count; p++)
            for (uint32_t h = 0; h < own->groups[1]; h++)
                append_page(own, push, &row, p, h);
    }
}

static void centre(const launch *own, const append_push *push)
{
    for (uint32_t h = 0; h < own->groups[0]; h++) {
        double sums[DIM_MAX] = {0}, x[DIM_MAX];
        uint32_t count = 0;
        for (uint32_t r = 0; r < push->slots; r++) { // here: the rows
            skim_row row = load_row(push->rows, r);
            for (uint32_t t = row.length - row.query_count; t < row.length; t++, count++) {
                uint32_t slot = load_word(push->table, (uint64_t)row.table_start + t / own->page);
                load_vector(own, push->keys,
                            find_token(slot, push->key_page, h, push->key_head, t % own->page,
                                       push->key_token),
                            x);
                for (uint32_t d = 0; d < own->dim; d++)
                    sums[d] += x[d];
            }
        }
        float *to = reach(push->centre + (uint64_t)h * own->dim * 4, own->dim * 4);
        for (uint32_t d = 0; d < own->dim; d++)
            to[d] = (float)(sums[d] / (count ? count : 1));
    }
}

// ---- estimate

static uint32_t kv_heads_of(const launch *own)
{
    uint32_t heads = own->constants[SKIM_SPEC_HEADS];
    return own->groups[1] / ((own->group + heads - 1) / heads);
}

static void load_bounds(const launch *own, const estimate_push *push, uint32_t place, double *high,
                        double *low)
{
    uint32_t units = bounds_units(own), half = units / 2;
    if (own->constants[SKIM_SPEC_BOUNDS_TYPE] != SKIM_BOUNDS_I8) {
        load_vector(own, push->bounds, place * units, high);
        load_vector(own, push->bounds, place * units + half, low);
        return;
    }
    const float *scales = find_scales(own, push->bounds, kv_heads_of(own), push->slots, place);
    for (uint32_t d = 0; d < own->dim; d++) {
        const unsigned char *b0 = find_unit(own, push->bounds, place * units + d / UNIT);
        const unsigned char *b1 = find_unit(own, push->bounds, place * units + half + d / UNIT);
        high[d] = (double)(int8_t)b0[d % UNIT] * (double)scales[0];
        low[d] = (double)(int8_t)b1[d % UNIT] * (double)scales[1];
    }
}

static void estimate_page(const launch *own, const estimate_push *push, const skim_row *row,
                          uint32_t r, uint32_t kv_head, uint32_t page)
{
    double high[DIM_MAX], low[DIM_MAX];
    uint32_t slot = load_word(push->table, (uint64_t)row->table_start + page);
    load_bounds(own, push, kv_head * push->slots + slot, high, low);
    for (uint32_t g = 0; g < own->group; g++) {
        uint32_t head = kv_head * own->group + g;
        const void *q =
            find_elements(push->q, row->query_start, push->q_token, head, push->q_head, own->dim);
        double sum = 0.0;
        for (uint32_t d = 0; d < own->dim; d++) {
            double x = load(q, type_of(push->q_head), d);
            sum += x * (x > 0.0 ? high[d] : low[d]);
        }
        uint64_t list = (uint64_t)r * kv_heads_of(own) * own->group + head;
        float score = (float)sum;
        memcpy(reach(push->scores + (list * push->score_stride + page) * 4, 4), &score, 4);
    }
}

// Pages that a workgroup of estimate takes.
static uint32_t pages_of_group(const launch *own)
{
    return SKIM_THREADS / own->constants[SKIM_SPEC_LANES] * own->constants[SKIM_SPEC_TOKENS];
}

static void estimate(const launch *own, const estimate_push *push)
{
    for (uint32_t r = 0; r < own->groups[2]; r++) {
        skim_row row = load_row(push->rows, r);
        if ((row.flags & SKIM_ROW_DENSE) || row.query_count == 0)
            continue;
        uint32_t pages = smaller(row.page_count, own->groups[0] * pages_of_group(own));
        for (uint32_t p = 0; p < pages; p++)
            for (uint32_t h = 0; h < kv_heads_of(own); h++)
                estimate_page(own, push, &row, r, h, p);
    }
}

// ---- select

static double combine(const double *scores, uint32_t heads, const double *lse,
                      const select_push *push)
{
    double highest = -INFINITY, sum = 0.0;
    bool soft = push->combine >= SKIM_COMBINE_SOFTMAX_MAX;
    for (uint32_t h = 0; h < heads; h++) {
        double score = soft ? scores[h] * (double)push->scale - lse[h] : scores[h];
        highest = fmax(highest, score);
        sum += soft ? exp(score) : score;
    }
    if (push->combine == SKIM_COMBINE_MEAN || push->combine == SKIM_COMBINE_SOFTMAX_MEAN)
        return sum / heads;
    return highest;
}

static void select_list(const launch *own, const select_push *push, const skim_row *row,
                        uint64_t list)
{
    static double combined[PAGES_MAX];
    static bool chosen[PAGES_MAX];
    uint32_t heads = own->constants[SKIM_SPEC_LISTS] == SKIM_LISTS_HEAD ? 1 : own->group;
    uint32_t count = smaller(row->select_count, row->page_count);
    uint32_t last = smaller(row->forced_last, count);
    uint32_t first = smaller(row->forced_first, count - last);
    uint32_t end = row->page_count - last;
    if (row->page_count > PAGES_MAX || heads > GROUP_MAX) {
        fake_violation("select: the fake knows 4096 pages and 64 heads at most");
        return;
    }
    double lse[GROUP_MAX] = {0}, scores[GROUP_MAX];
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t p = first; p < end; p++) {
            for (uint32_t h = 0; h < heads; h++) {
                uint64_t at = (list * heads + h) * push->score_stride + p;
                scores[h] = (double)*(float *)reach(push->scores + at * 4, 4);
                if (pass == 0)
                    lse[h] += exp(scores[h] * (double)push->scale);
            }
            combined[p] = combine(scores, heads, lse, push);
        }
        for (uint32_t h = 0; pass == 0 && h < heads; h++)
            lse[h] = log(lse[h]);
    }
    for (uint32_t p = 0; p < row->page_count; p++)
        chosen[p] = p < first || p >= end;
    for (uint32_t wanted = count - first - last; wanted > 0; wanted--) {
        uint32_t best = UINT32_MAX;
        for (uint32_t p = first; p < end; p++)
            if (!chosen[p] && (best == UINT32_MAX || combined[p] > combined[best]))
                best = p;
        chosen[best] = true;
    }
    uint64_t at = list * push->list_stride;
    for (uint32_t p = 0; p < row->page_count; p++)
        if (chosen[p])
            memcpy(reach(push->lists + at++ * 4, 4), &p, 4);
}

static void select(const launch *own, const select_push *push)
{
    for (uint32_t r = 0; r < own->groups[1]; r++) {
        skim_row row = load_row(push->rows, r);
        if ((row.flags & SKIM_ROW_DENSE) || row.query_count == 0)
            continue;
        for (uint32_t i = 0; i < own->groups[0]; i++)
            select_list(own, push, &row, (uint64_t)r * own->groups[0] + i);
    }
}

// ---- attend

// One query over so many pages, listed or all, and of them the tokens below limit.
static void attend_query(const launch *own, const attend_push *push, const skim_row *row,
                         uint64_t list, uint32_t pages, uint32_t token, uint32_t head,
                         uint32_t limit)
{
    double q[DIM_MAX], x[DIM_MAX], out[DIM_MAX] = {0}, total = 0.0, highest = -INFINITY;
    uint32_t kv_head = head / own->group;
    const void *query = find_elements(push->q, token, push->q_token, head, push->q_head, own->dim);
    for (uint32_t d = 0; d < own->dim; d++)
        q[d] = load(query, type_of(push->q_head), d);
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t page = list == UINT64_MAX ? i : load_word(push->lists, list + i);
        uint32_t slot = load_word(push->table, (uint64_t)row->table_start + page);
        for (uint32_t t = page * own->page; t < (page + 1) * own->page && t < limit; t++) {
            uint32_t in_page = t % own->page;
            load_vector(
                own, push->keys,
                find_token(slot, push->key_page, kv_head, push->key_head, in_page, push->key_token),
                x);
            double score = 0.0;
            for (uint32_t d = 0; d < own->dim; d++)
                score += q[d] * x[d];
            score *= (double)push->scale;
            double next = fmax(highest, score), shrink = exp(highest - next);
            double weight = exp(score - next);
            highest = next;
            total = total * shrink + weight;
            load_vector(own, push->values,
                        find_token(slot, push->value_page, kv_head, push->value_head, in_page,
                                   push->value_token),
                        x);
            for (uint32_t d = 0; d < own->dim; d++)
                out[d] = out[d] * shrink + weight * x[d];
        }
    }
    void *to = find_elements(push->out_, token, push->out_token, head, push->out_head, own->dim);
    for (uint32_t d = 0; d < own->dim; d++)
        store(to, type_of(push->out_head), d, total > 0.0 ? out[d] / total : 0.0);
    if (push->lse)
        store(find_elements(push->lse, token, push->lse_token, head, push->lse_head, 1),
              type_of(push->lse_head), 0, total > 0.0 ? highest + log(total) : -INFINITY);
}

// Where part of a long list is left, of so many.
static uint32_t *find_partial(const launch *own, uint64_t index, uint32_t parts, uint32_t part)
{
    const uint32_t size = (4 + smaller(own->dim, DIM_MAX)) * 4;
    return reach(own->partials + (index * parts + part) * size, size);
}

// Written whole, so that it must be there.
static void leave_partials(const launch *own, uint64_t index)
{
    const uint32_t parts = own->groups[0];
    for (uint32_t part = 0; parts > 1 && part < parts; part++) {
        uint32_t *words = find_partial(own, index, parts, part);
        memset(words, 0, (4 + smaller(own->dim, DIM_MAX)) * 4);
        words[0] = parts;
        words[1] = part;
    }
}

static void attend(const launch *own, const attend_push *push)
{
    const uint32_t heads = kv_heads_of(own) * own->group;
    const bool of_heads = own->constants[SKIM_SPEC_LISTS] == SKIM_LISTS_HEAD;
    for (uint32_t r = 0; r < own->groups[2]; r++) {
        skim_row row = load_row(push->rows, r);
        if (row.query_count != 1)
            continue;
        bool listed = push->lists && !(row.flags & SKIM_ROW_DENSE);
        uint32_t pages = listed ? smaller(row.select_count, row.page_count) : row.page_count;
        for (uint32_t h = 0; h < heads; h++) {
            uint64_t index = of_heads ? (uint64_t)r * heads + h
                                      : (uint64_t)r * kv_heads_of(own) + h / own->group;
            uint64_t list = listed ? index * push->list_stride : UINT64_MAX;
            leave_partials(own, (uint64_t)r * heads + h);
            attend_query(own, push, &row, list, pages, row.query_start, h, row.length);
        }
    }
}

// Attend gave the whole already: its parts must be where they are looked for.
static void merge(const launch *own, const attend_push *push)
{
    for (uint32_t r = 0; r < own->groups[1]; r++) {
        if (load_row(push->rows, r).query_count != 1)
            continue;
        for (uint32_t h = 0; h < own->groups[0]; h++)
            for (uint32_t part = 0; part < own->parts; part++) {
                const uint32_t *words =
                    find_partial(own, (uint64_t)r * own->groups[0] + h, own->parts, part);
                if (words[0] != own->parts || words[1] != part)
                    fake_violation("merge: part %u of %u is not where attend left it", part,
                                   own->parts);
            }
    }
}

static void prefill(const launch *own, const attend_push *push)
{
    for (uint32_t r = 0; r < own->groups[2]; r++) {
        skim_row row = load_row(push->rows, r);
        if (row.query_count < 2)
            continue;
        uint32_t queries = row.query_count * own->group;
        const uint32_t tile = SKIM_PREFILL_QUERIES * own->constants[SKIM_SPEC_TOKENS];
        uint32_t first = own->base[0] * tile;
        uint32_t end = smaller(queries, first + own->groups[0] * tile);
        for (uint32_t h = 0; h < own->groups[1]; h++)
            for (uint32_t i = first; i < end; i++)
                attend_query(own, push, &row, UINT64_MAX, row.page_count,
                             row.query_start + i / own->group, h * own->group + i % own->group,
                             row.length - row.query_count + i / own->group + 1);
    }
}

// A kernel that was not built for a shape is told it.
static void take_shape(launch *own, uint32_t word)
{
    if (own->constants[SKIM_SPEC_DIM] == 0) {
        own->dim = (word & 63) * 8;
        own->page = 8u << (word >> 6 & 3);
        own->group = word >> 8;
    }
    own->units = own->dim * own->width / UNIT;
}

static void take_shape_of_attend(launch *own, const attend_push *push)
{
    struct {
        uint64_t partials;
        uint32_t word, parts;
    } told = {.partials = push->partials, .parts = own->constants[SKIM_SPEC_PARTS]};
    if (own->constants[SKIM_SPEC_DIM] == 0)
        memcpy(&told, reach(push->partials, sizeof told), sizeof told);
    own->partials = told.partials;
    own->parts = told.parts;
    take_shape(own, told.word);
}

void fake_compute(const fake_object *pipeline, const fake_command *command)
{
    const uint32_t *constants = pipeline->constants;
    launch own = {.constants = constants,
                  .base = command->base,
                  .groups = command->groups,
                  .type = constants[SKIM_SPEC_TYPE],
                  .width = constants[SKIM_SPEC_TYPE] == SKIM_F32 ? 4 : 2,
                  .dim = constants[SKIM_SPEC_DIM],
                  .page = constants[SKIM_SPEC_PAGE_SIZE],
                  .group = constants[SKIM_SPEC_GROUP]};
    const void *push = command->push;
    switch (pipeline->kernel) {
    case KERNEL_APPEND:
        take_shape(&own, ((const append_push *)push)->shape);
        append(&own, push);
        break;
    case KERNEL_CENTRE:
        take_shape(&own, ((const append_push *)push)->shape);
        centre(&own, push);
        break;
    case KERNEL_ESTIMATE:
        take_shape(&own, ((const estimate_push *)push)->shape);
        estimate(&own, push);
        break;
    case KERNEL_SELECT:
        take_shape(&own, ((const select_push *)push)->shape);
        select(&own, push);
        break;
    case KERNEL_ATTEND:
        take_shape_of_attend(&own, push);
        attend(&own, push);
        break;
    case KERNEL_MERGE:
        take_shape_of_attend(&own, push);
        merge(&own, push);
        break;
    case KERNEL_PREFILL:
        take_shape_of_attend(&own, push);
        prefill(&own, push);
        break;
    case KERNEL_NONE:
        break;
    }
}
