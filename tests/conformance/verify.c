#include "verify.h"

#include <math.h>

double default_scale(const params *p)
{
    return p->scale > 0.0f ? (double)p->scale : (double)(1.0f / sqrtf((float)p->dim));
}

void centre_sum_init(context *ctx, centre_sum *s, const history *h)
{
    size_t channels = (size_t)h->kv_heads * h->dim;
    s->sums = take(ctx, channels, sizeof(double));
    s->counts = take(ctx, channels, sizeof(double));
    s->absolute = take(ctx, channels, sizeof(double));
}

void centre_sum_add(centre_sum *s, const history *h, uint32_t first, uint32_t count)
{
    for (uint32_t token = first; token < first + count; token++) {
        for (uint32_t i = 0; i < h->kv_heads * h->dim; i++) {
            double key = (double)history_key(h, token, 0)[i];
            if (isfinite(key)) {
                s->sums[i] += key;
                s->counts[i] += 1.0;
                s->absolute[i] += fabs(key);
            }
        }
    }
}

known_centre centre_sum_mean(context *ctx, const centre_sum *s, const history *h)
{
    size_t channels = (size_t)h->kv_heads * h->dim;
    known_centre centre = {.values = take(ctx, channels, sizeof(double))};
    for (size_t i = 0; i < channels; i++) {
        double count = s->counts[i] > 0.0 ? s->counts[i] : 1.0;
        centre.values[i] = s->sums[i] / count;
        centre.slack = fmax(centre.slack, 0x1p-20 * s->absolute[i] / count + 0x1p-126);
    }
    return centre;
}

// One page of one head, whose bounds begin at element `at` of values and margins.
static void bounds_init_i8(page_bounds *b, const history *h, uint32_t page, uint32_t page_size,
                           uint32_t head, skim_bounds kind)
{
    size_t index = (size_t)page * h->kv_heads + head;
    size_t at = index * 2 * h->dim;
    uint32_t first = page * page_size;
    reference_i8 bounds = {.value = b->values + at, .margin = b->margins + at};
    reference_bounds_i8(kind, history_key(h, first, head), history_stride(h),
                        min_u32(page_size, h->length - first), h->dim,
                        b->centre.values + (size_t)head * h->dim, b->centre.slack, &bounds);
    b->scales[2 * index] = bounds.scale[0];
    b->scales[2 * index + 1] = bounds.scale[1];
}

void bounds_around(context *ctx, page_bounds *b, const history *h, uint32_t page_size,
                   skim_bounds kind, const known_centre *centre)
{
    uint32_t pages = ceil_div(h->length, page_size);
    *b = (page_bounds){.kv_heads = h->kv_heads, .dim = h->dim, .centre = *centre};
    size_t elements = (size_t)pages * h->kv_heads * h->dim * 2;
    b->values = take(ctx, elements, sizeof(double));
    if (centre->values) {
        b->margins = take(ctx, elements, sizeof(double));
        b->scales = take(ctx, (size_t)pages * h->kv_heads * 2, sizeof(double));
        for (uint32_t i = 0; i < pages * h->kv_heads; i++) {
            bounds_init_i8(b, h, i / h->kv_heads, page_size, i % h->kv_heads, kind);
        }
        return;
    }
    for (uint32_t page = 0; page < pages; page++) {
        uint32_t first = page * page_size;
        uint32_t count = min_u32(page_size, h->length - first);
        for (uint32_t head = 0; head < h->kv_heads; head++) {
            double *b0 = b->values + ((size_t)page * h->kv_heads + head) * 2 * h->dim;
            reference_bounds(kind, history_key(h, first, head), history_stride(h), count, h->dim,
                             b0, b0 + h->dim);
            for (uint32_t d = 0; d < 2 * h->dim; d++) {
                b0[d] = (double)reference_round((float)b0[d], h->type);
            }
        }
    }
}

void bounds_init(context *ctx, page_bounds *b, const history *h, uint32_t page_size,
                 skim_bounds kind)
{
    const known_centre none = {0};
    bounds_around(ctx, b, h, page_size, kind, &none);
}

// What one rounding of the stored bounds to the other side may change in a score: f16 and bf16
// round almost always alike, whatever order the sum was taken in, so two channels of the largest
// are granted; f32 bounds differ in the last bits everywhere.
static double stored_tolerance(const params *p, const double *b0, const double *b1, const float *q)
{
    double sum = 0.0;
    double largest = 0.0;
    for (uint32_t d = 0; d < p->dim; d++) {
        double query = fabs((double)q[d]);
        double change = query * reference_ulp(b0[d], p->kv) +
                        (double)p->spread * query * reference_ulp(b1[d], p->kv);
        sum += change;
        largest = change > largest ? change : largest;
    }
    return p->kv == SKIM_F32 ? 8.0 * sum : 2.0 * largest;
}

// Adding n terms of one sign, one after another, in f32 deviates by about 0.33 sqrt(n) roundings of
// the sum: the tolerance is six of these deviations.
double expected_score(const params *p, const page_bounds *b, uint32_t page, uint32_t kv_head,
                      const float *q, double *tolerance)
{
    const double *b0 = bounds_of(b, page, kv_head, 0);
    const double *b1 = bounds_of(b, page, kv_head, 1);
    double magnitude;
    if (b->margins) {
        size_t index = (size_t)page * b->kv_heads + kv_head;
        reference_i8 bounds = {.value = b->values + index * 2 * b->dim,
                               .margin = b->margins + index * 2 * b->dim,
                               .scale = {b->scales[2 * index], b->scales[2 * index + 1]}};
        const double *centre = b->centre.values + (size_t)kv_head * b->dim;
        double low;
        double high;
        reference_score_i8(p->bounds, (double)p->spread, q, &bounds, centre, p->dim, &low, &high,
                           &magnitude);
        *tolerance = (high - low) / 2.0 + 2.0 * sqrt(2.0 * p->dim) * EPSILON32 * magnitude;
        return low + (high - low) / 2.0;
    }
    double score = reference_score(p->bounds, (double)p->spread, q, b0, b1, p->dim, &magnitude);
    bool exact =
        p->bounds == SKIM_BOUNDS_MINMAX && (p->data == DATA_INTEGER || p->data == DATA_UNIFORM);
    *tolerance = exact ? 0.0 : 2.0 * sqrt(2.0 * p->dim) * EPSILON32 * magnitude;
    if (p->bounds == SKIM_BOUNDS_MEANSTD) {
        *tolerance += stored_tolerance(p, b0, b1, q);
    }
    return score;
}

bool verify_list_form(context *ctx, const char *what, const reference_plan *plan,
                      const uint32_t *list, uint32_t count)
{
    if (count != plan->select_count) {
        return fail(ctx, "%s: %u pages, should be %u", what, count, plan->select_count);
    }
    uint32_t forced = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (list[i] >= plan->page_count) {
            return fail(ctx, "%s: entry %u is page %u of %u", what, i, list[i], plan->page_count);
        }
        if (i > 0 && list[i] <= list[i - 1]) {
            return fail(ctx, "%s: entries %u and %u are pages %u and %u", what, i - 1, i,
                        list[i - 1], list[i]);
        }
        forced += reference_forced(plan, list[i]);
    }
    return check(ctx, forced == plan->forced_first + plan->forced_last,
                 "%s: %u of the %u + %u forced pages are there", what, forced, plan->forced_first,
                 plan->forced_last);
}

static bool verify_exact_list(context *ctx, const char *what, const reference_plan *plan,
                              const double *combined, const uint32_t *list)
{
    uint32_t *expected = take(ctx, plan->page_count, sizeof *expected);
    uint32_t count = reference_select(plan, combined, expected);
    for (uint32_t i = 0; i < count; i++) {
        if (list[i] != expected[i]) {
            return fail(ctx, "%s: entry %u is page %u (%.9g), should be %u (%.9g)", what, i,
                        list[i], combined[list[i]], expected[i], combined[expected[i]]);
        }
    }
    return true;
}

// The k-th best score among the pages that are not forced.
static double threshold(context *ctx, const reference_plan *plan, const double *combined)
{
    uint32_t *expected = take(ctx, plan->page_count, sizeof *expected);
    uint32_t count = reference_select(plan, combined, expected);
    double lowest = INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        if (!reference_forced(plan, expected[i]) && combined[expected[i]] < lowest) {
            lowest = combined[expected[i]];
        }
    }
    return lowest;
}

bool verify_list(context *ctx, const char *what, const reference_plan *plan, const double *combined,
                 double tolerance, const uint32_t *list, uint32_t count)
{
    if (!verify_list_form(ctx, what, plan, list, count)) {
        return false;
    }
    if (tolerance == 0.0) {
        return verify_exact_list(ctx, what, plan, combined, list);
    }
    double limit = threshold(ctx, plan, combined);
    uint32_t next = 0;
    for (uint32_t page = 0; page < plan->page_count; page++) {
        bool chosen = next < count && list[next] == page;
        next += chosen;
        if (reference_forced(plan, page)) {
            continue;
        }
        double excess = chosen ? limit - combined[page] : combined[page] - limit;
        if (excess > tolerance) {
            return fail(ctx, "%s: page %u with %.9g is %s, the limit is %.9g +- %.2g", what, page,
                        combined[page], chosen ? "chosen" : "left out", limit, tolerance);
        }
    }
    return true;
}

static bool same_column(const double *scores, size_t stride, uint32_t heads, uint32_t a, uint32_t b)
{
    for (uint32_t h = 0; h < heads; h++) {
        if (scores[h * stride + a] != scores[h * stride + b]) {
            return false;
        }
    }
    return true;
}

bool verify_ties(context *ctx, const char *what, const reference_plan *plan, const double *scores,
                 size_t stride, uint32_t heads, const uint32_t *list, uint32_t count)
{
    bool *chosen = take(ctx, plan->page_count, sizeof *chosen);
    for (uint32_t i = 0; i < count; i++) {
        chosen[list[i]] = true;
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t page = plan->forced_first; page < list[i]; page++) {
            if (!reference_forced(plan, list[i]) && !chosen[page] &&
                same_column(scores, stride, heads, page, list[i])) {
                return fail(ctx, "%s: page %u is left out for page %u of the same scores", what,
                            page, list[i]);
            }
        }
    }
    return true;
}

double combine_tolerance(const reference_plan *plan, skim_combine combine, double scale,
                         const double *scores, size_t stride, uint32_t heads)
{
    if (combine == SKIM_COMBINE_MAX) {
        return 0.0;
    }
    double largest = 0.0;
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t page = 0; page < plan->page_count; page++) {
            double score = fabs(scores[h * stride + page]);
            largest = !reference_forced(plan, page) && score > largest ? score : largest;
        }
    }
    if (combine == SKIM_COMBINE_MEAN) {
        return heads * EPSILON32 * largest;
    }
    return 16.0 * EPSILON32 * (scale * largest + log((double)plan->page_count) + 1.0);
}

uint32_t list_tokens(const attention *a, uint32_t *tokens)
{
    uint32_t end = a->position + 1;
    uint32_t pages = a->list ? a->list_count : ceil_div(end, a->page_size);
    uint32_t count = 0;
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t first = (a->list ? a->list[i] : i) * a->page_size;
        for (uint32_t token = first; token < first + a->page_size && token < end; token++) {
            tokens[count++] = token;
        }
    }
    return count;
}

double attention_cost(const attention *a)
{
    double tokens = a->list ? (double)a->list_count * a->page_size : (double)a->position + 1.0;
    return 2.0 * tokens * a->h->dim;
}

// DESIGN 8: the mean square error of a vector relative to its mean square.
static double nmse_limit(skim_type out, double largest)
{
    double type = out == SKIM_F16 ? 1e-6 : out == SKIM_BF16 ? 1e-4 : 1e-9;
    double rounding = 64.0 * (EPSILON32 * largest) * (EPSILON32 * largest);
    return type > rounding ? type : rounding;
}

static bool verify_out(context *ctx, const attention *a, const double *expected, double largest)
{
    double error = 0.0;
    double energy = 0.0;
    uint32_t worst = 0;
    double worst_error = -1.0;
    for (uint32_t d = 0; d < a->h->dim; d++) {
        double got = (double)box_get(a->out, a->token, a->q_head, d);
        if (!isfinite(got)) {
            return fail(ctx, "out: token %u, head %u, channel %u is %g", a->position, a->q_head, d,
                        got);
        }
        double difference = got - expected[d];
        error += difference * difference;
        energy += expected[d] * expected[d];
        if (fabs(difference) > worst_error) {
            worst_error = fabs(difference);
            worst = d;
        }
    }
    double nmse = energy > 0.0 ? error / energy : error;
    double limit = nmse_limit(a->out->type, largest);
    return check(
        ctx, nmse <= limit,
        "out: token %u, head %u: NMSE %.3g, limit %.3g; channel %u is %.9g, should be %.9g",
        a->position, a->q_head, nmse, limit, worst,
        (double)box_get(a->out, a->token, a->q_head, worst), expected[worst]);
}

bool verify_attention(context *ctx, const attention *a)
{
    uint32_t room = a->position + 1 + a->page_size;
    uint32_t *tokens = take(ctx, room, sizeof *tokens);
    double *weights = take(ctx, room, sizeof *weights);
    double *expected = take(ctx, a->h->dim, sizeof *expected);
    uint32_t kv_head = a->q_head / a->h->group;
    reference_attend_args args = {
        .q = a->q,
        .keys = history_key(a->h, 0, kv_head),
        .values = history_value(a->h, 0, kv_head),
        .stride = history_stride(a->h),
        .dim = a->h->dim,
        .scale = a->scale,
        .tokens = tokens,
        .count = list_tokens(a, tokens),
    };
    double lse;
    double largest;
    reference_attend(&args, weights, expected, &lse, &largest);
    if (!verify_out(ctx, a, expected, largest) || !a->lse) {
        return !ctx->failed;
    }
    double got = (double)box_get(a->lse, a->token, a->q_head, 0);
    double tolerance = fmax(3.2e-5, 16.0 * EPSILON32 * largest) + 4.0 * EPSILON32 * fabs(lse);
    return check(ctx, got == lse || fabs(got - lse) <= tolerance,
                 "lse: token %u, head %u is %.9g, should be %.9g", a->position, a->q_head, got,
                 lse);
}

bool verify_finite(context *ctx, const box *out, uint32_t token)
{
    for (uint32_t head = 0; head < out->heads; head++) {
        for (uint32_t d = 0; d < out->dim; d++) {
            float value = box_get(out, token, head, d);
            if (!isfinite(value)) {
                return fail(ctx, "out: token %u, head %u, channel %u is %g", token, head, d,
                            (double)value);
            }
        }
    }
    return true;
}
