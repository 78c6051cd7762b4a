// int8 bounds where they are hardest: the score of minmax is an upper bound whatever the keys, and
// keys that are not numbers harm nobody else.
#include "rig.h"

#include <float.h>
#include <math.h>

typedef enum hard_keys {
    HARD_NORMAL,
    HARD_BIASED,   // channels far from 0 whose tokens hardly differ
    HARD_TINY,     // near the smallest normal number of the type
    HARD_SMALLEST, // below it
    HARD_LARGE,    // near the largest
    HARD_OVERFLOW, // so far apart that the distance from the centre overflows f32
    HARD_OUTLIER,  // zeros, and one channel that sets the scale
    HARD_SAME,     // one key again and again, and then its negative
    HARD_SCALES,   // channels of all magnitudes
    HARD_KINDS
} hard_keys;

static double largest_of(skim_type type)
{
    return type == SKIM_F16 ? 65504.0 : 0x1p127;
}

static double smallest_of(skim_type type)
{
    return type == SKIM_F16 ? 0x1p-14 : 0x1p-126;
}

static double hard_key(context *ctx, const params *p, uint32_t token, uint32_t d)
{
    double normal = random_normal(ctx);
    double bias = (double)(hash_text("bias", d) % 2001) - 1000.0;
    switch ((hard_keys)p->variant) {
    case HARD_BIASED:
        return bias + 0.1 * normal;
    case HARD_TINY:
        return smallest_of(p->kv) * 4.0 * normal;
    case HARD_SMALLEST:
        return smallest_of(p->kv) * 0x1p-6 * normal;
    case HARD_LARGE:
        return largest_of(p->kv) * 0.2 * normal / 6.0;
    case HARD_OVERFLOW:
        return (token / p->page % 3 ? -1.0 : 1.0) * (d % 3 ? 0.99 : 0.5) * largest_of(p->kv);
    case HARD_OUTLIER:
        return d == token % p->dim ? 30.0 * normal : 0.0;
    case HARD_SAME:
        return token / p->page % 4 == 3 ? -bias : bias;
    case HARD_SCALES:
        return normal * pow(10.0, (double)(d % 9) - 5.0);
    case HARD_NORMAL:
    case HARD_KINDS:
    default:
        return normal;
    }
}

static void harden(rig *r)
{
    const params *p = r->p;
    for (uint32_t i = 0; i < r->row_count; i++) {
        history *h = &r->rows[i].h;
        for (uint32_t token = 0; token < h->length; token++) {
            float *k = history_key(h, token, 0);
            for (uint32_t d = 0; d < p->kv_heads * p->dim; d++) {
                k[d] = reference_round((float)hard_key(r->ctx, p, token, d), p->kv);
            }
        }
    }
    // With queries of about 1 the sums of the largest keys would overflow.
    float scale = p->variant == HARD_OVERFLOW || p->variant == HARD_LARGE ? 0x1p-24f : 1.0f;
    for (uint32_t token = 0; token < r->token_count; token++) {
        float *q = r->queries + (size_t)token * r->q_heads * p->dim;
        for (uint32_t d = 0; d < r->q_heads * p->dim; d++) {
            q[d] = reference_round(scale * (float)random_normal(r->ctx), p->q);
        }
        box_set(&r->q, token, q);
    }
}

// The largest q . k of a page, and what f32 sums of such terms around the centre may lose.
static double largest_product(const rig *r, uint32_t row, uint32_t head, uint32_t page,
                              double *tolerance)
{
    const params *p = r->p;
    const rig_row *it = &r->rows[row];
    const float *q = rig_query(r, row, 0, head);
    const double *centre = r->centre_values.values + (size_t)(head / p->group) * p->dim;
    double largest = -INFINITY;
    double magnitude = 0.0;
    uint32_t end = min_u32((page + 1) * p->page, it->length);
    for (uint32_t token = page * p->page; token < end; token++) {
        const float *k = history_key(&it->h, token, head / p->group);
        double product = 0.0;
        double absolute = 0.0;
        for (uint32_t d = 0; d < p->dim; d++) {
            product += (double)q[d] * (double)k[d];
            absolute += fabs((double)q[d]) * (fabs((double)k[d]) + 2.0 * fabs(centre[d]));
        }
        largest = fmax(largest, product);
        magnitude = fmax(magnitude, absolute);
    }
    *tolerance = 2.0 * sqrt(2.0 * p->dim) * EPSILON32 * magnitude + 0x1p-140;
    return largest;
}

static bool check_upper(rig *r, uint32_t row, uint32_t head)
{
    const uint32_t stride = r->score_stride;
    const float *scores = (const float *)(const void *)region_copy(&r->scores);
    scores += ((size_t)row * r->q_heads + head) * stride;
    for (uint32_t page = 0; page < r->rows[row].plan.page_count; page++) {
        double tolerance;
        double least = largest_product(r, row, head, page, &tolerance);
        if (!reference_forced(&r->rows[row].plan, page) &&
            !((double)scores[page] >= least - tolerance)) {
            return fail(r->ctx, "row %u, head %u: page %u scores %.9g, but a token has %.9g", row,
                        head, page, (double)scores[page], least);
        }
    }
    return true;
}

static void run_upper(context *ctx, const params *p)
{
    rig r;
    if (!rig_init(ctx, &r, p) || !rig_must_be_sparse(&r)) {
        return;
    }
    harden(&r);
    if (!rig_append(&r) || !rig_check_pools(&r) || !rig_estimate(&r) ||
        !region_fetch(ctx, &r.scores)) {
        return;
    }
    for (uint32_t row = 0; row < r.row_count; row++) {
        for (uint32_t head = 0; rig_is_sparse(&r.rows[row]) && head < r.q_heads; head++) {
            if (!check_upper(&r, row, head)) {
                return;
            }
        }
    }
    // And no looser than int8 must be; the oracle does not follow where f32 overflows.
    bool done = (p->variant == HARD_OVERFLOW || rig_check_scores(&r)) && rig_select(&r) &&
                rig_check_lists(&r);
    (void)done;
}

// The keys of kv head 0 of row 0 hold what is no number, from the first append on.
static void run_harm(context *ctx, const params *p)
{
    static const float harm[] = {NAN, INFINITY, -INFINITY};
    rig r;
    if (!rig_init(ctx, &r, p) || !rig_must_be_sparse(&r)) {
        return;
    }
    for (uint32_t token = 0; token < p->length; token += 3) {
        history_key(&r.rows[0].h, token, 0)[(token * 5 + p->variant) % p->dim] = harm[token % 3];
    }
    if (!rig_append(&r) || !rig_check_pools(&r) || !rig_estimate(&r) || !rig_select(&r) ||
        !region_fetch(ctx, &r.scores) || !region_fetch(ctx, &r.lists)) {
        return;
    }
    for (uint32_t row = 0; row < r.row_count; row++) {
        rig_row *it = &r.rows[row];
        if (!rig_is_sparse(it) || !rig_bounds(&r, row, &it->bounds)) {
            continue;
        }
        for (uint32_t head = 0; head < r.q_heads; head++) {
            bool harmed = row == 0 && head < p->group;
            if (!verify_list_form(ctx, "list", &it->plan, rig_list(&r, row, head),
                                  it->plan.select_count) ||
                (!harmed && !rig_check_score_row(&r, row, head))) {
                return;
            }
        }
    }
}

static params varied(uint32_t i)
{
    params p = default_params();
    p.kv = PICK(all_types, i);
    p.q = PICK(all_types, i / 3 + 1);
    p.dim = PICK(all_dims, i);
    p.page = PICK(all_pages, i / 2);
    p.group = PICK(all_groups, i / 2);
    p.kv_heads = 1 + i % 3;
    p.bounds_type = SKIM_BOUNDS_I8;
    p.length = 9 * p.page - i % p.page;
    p.budget = 2 * p.page;
    p.chunk = i % 4 == 1 ? 2 * p.page + 3 : 0;
    p.layout = (pool_layout)(i % 4);
    return p;
}

void add_i8_cases(case_table *table)
{
    uint32_t i = 0;
    for (uint32_t kind = HARD_NORMAL; kind < HARD_KINDS; kind++) {
        for (uint32_t n = 0; n < 24; n++, i++) {
            params p = varied(i);
            p.kv = PICK(all_types, n); // all of them, of every kind
            p.variant = kind;
            p.batch = n % 5 == 4 ? BATCH_DECODE : BATCH_ONE;
            add_case(table, "i8/upper", n < 3, run_upper, &p);
        }
    }
    for (uint32_t n = 0; n < 18; n++, i++) {
        params p = varied(i);
        p.kv = PICK(all_types, n);
        p.bounds = n / 3 % 2 ? SKIM_BOUNDS_MEANSTD : SKIM_BOUNDS_MINMAX;
        p.batch = BATCH_DECODE;
        p.kv_heads = 2 + n % 2;
        p.variant = n;
        add_case(table, "i8/harm", n < 6, run_harm, &p);
    }
}
