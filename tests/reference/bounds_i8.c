#include "reference.h"

#include <float.h>
#include <math.h>

// docs/algorithm.md: the scale is the largest distance from the centre times a little more than
// 1 / 127, which is rounded to f32 here as it is there, and not below 2^-120.
#define STEP ((double)0.0078741f)
#define SCALE_MIN 0x1p-120
// More than f32 may lose in a distance, a scale, its reciprocal and a quotient together, and what a
// device may add to a quotient to be sure of rounding outward.
#define RELATIVE 0x1p-19

typedef enum rounding { UP, DOWN, NEAREST } rounding;

typedef struct half {
    const double *value;  // exact
    const double *centre; // NULL: 0
    double off;           // how far a value less its centre may be off on a device
    rounding to;
} half;

static double centre_of(const half *it, uint32_t d)
{
    return it->centre ? it->centre[d] : 0.0;
}

static double rounded(rounding to, double x)
{
    return to == UP ? ceil(x) : to == DOWN ? floor(x) : rint(x);
}

static double clamp(double u)
{
    return u > 127.0 ? 127.0 : u < -127.0 ? -127.0 : u;
}

// What one channel's bound may be: two quotients that rounding may have led to.
static void channel(const half *it, uint32_t d, double scale, double *low, double *high)
{
    double centre = centre_of(it, d);
    double value = it->value[d];
    double x = (value - centre) / scale;
    double relative = RELATIVE + 2.0 * it->off / (127.0 * scale);
    double delta = fabs(x) * relative + it->off / scale;
    double first = clamp(rounded(it->to, x - delta));
    double last = clamp(rounded(it->to, x + delta));
    double pad = 127.0 * scale * relative + 2.0 * it->off;
    *low = centre + scale * first - pad;
    *high = centre + scale * last + pad;
    if (it->to == UP && *low < value - it->off)
        *low = value - it->off;
    if (it->to == DOWN && *high > value + it->off)
        *high = value + it->off;
}

static void quantise(const half *it, uint32_t dim, double *value, double *margin, double *scale)
{
    double largest = 0.0;
    for (uint32_t d = 0; d < dim; d++) {
        double distance = fabs(it->value[d] - centre_of(it, d));
        largest = distance > largest || isnan(distance) ? distance : largest;
    }
    *scale = largest > 0.0 && largest * STEP < SCALE_MIN ? SCALE_MIN : largest * STEP;
    for (uint32_t d = 0; d < dim; d++) {
        double low = it->value[d] - it->off;
        double high = it->value[d] + it->off;
        if (!(largest <= FLT_MAX)) { // only outward, or unspecified
            low = it->to == UP ? it->value[d] : -INFINITY;
            high = it->to == DOWN ? it->value[d] : INFINITY;
        } else if (largest <= 16.0 * it->off) { // a scale that is all rounding: one step of it
            double step = (largest + it->off) * STEP + 2.0 * it->off + SCALE_MIN;
            low -= it->to == UP ? 0.0 : step;
            high += it->to == DOWN ? 0.0 : step;
        } else if (largest > 0.0) {
            channel(it, d, *scale, &low, &high);
        }
        value[d] = low + (high - low) / 2.0;
        margin[d] = (high - low) / 2.0;
    }
}

void reference_bounds_i8(skim_bounds kind, const float *keys, size_t stride, uint32_t count,
                         uint32_t dim, const double *centre, double slack, reference_i8 *bounds)
{
    double exact[2 * 256];
    reference_bounds(kind, keys, stride, count, dim, exact, exact + dim);
    double largest = 0.0;
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t d = 0; d < dim; d++)
            largest = fmax(largest, fabs((double)keys[t * stride + d]));
    }
    bool minmax = kind == SKIM_BOUNDS_MINMAX;
    // Means and deviations are sums of count keys in f32.
    double summing = minmax ? 0.0 : (count + 4.0) * 0x1p-24 * largest;
    half first = {exact, centre, slack + summing, minmax ? UP : NEAREST};
    half second = {exact + dim, minmax ? centre : NULL, (minmax ? slack : 0.0) + summing,
                   minmax ? DOWN : NEAREST};
    quantise(&first, dim, bounds->value, bounds->margin, &bounds->scale[0]);
    quantise(&second, dim, bounds->value + dim, bounds->margin + dim, &bounds->scale[1]);
}

void reference_score_i8(skim_bounds kind, double spread, const float *q, const reference_i8 *bounds,
                        const double *centre, uint32_t dim, double *low, double *high,
                        double *magnitude)
{
    bool minmax = kind == SKIM_BOUNDS_MINMAX;
    double score = reference_score(kind, spread, q, bounds->value, bounds->value + dim, dim, NULL);
    double margin = 0.0;
    double absolute = 0.0;
    double largest = 0.0;
    for (uint32_t d = 0; d < dim; d++) {
        double query = fabs((double)q[d]);
        double a = !minmax || q[d] > 0.0f ? query : 0.0;
        double b = !minmax ? spread * query : q[d] < 0.0f ? query : 0.0;
        margin += a * bounds->margin[d] + b * bounds->margin[dim + d];
        absolute += query * fabs(centre[d]) + a * fabs(bounds->value[d] - centre[d]);
        absolute += b * fabs(bounds->value[dim + d] - (minmax ? centre[d] : 0.0));
        largest = query > largest ? query : largest;
    }
    // A device may round the query's weights to 16 bits, outward for minmax.
    double weights =
        largest * dim / 128.0 * (bounds->scale[0] + (minmax ? 1.0 : spread) * bounds->scale[1]);
    *low = score - margin - (minmax ? 0.0 : weights);
    *high = score + margin + weights;
    if (magnitude)
        *magnitude = absolute;
}
