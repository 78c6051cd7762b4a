#include "reference.h"

#include <math.h>

static void minmax(const float *keys, size_t stride, uint32_t count, uint32_t d, double *max,
                   double *min)
{
    *max = *min = (double)keys[d];
    for (uint32_t t = 1; t < count; t++) {
        double key = (double)keys[t * stride + d];
        *max = key > *max ? key : *max;
        *min = key < *min ? key : *min;
    }
}

static void meanstd(const float *keys, size_t stride, uint32_t count, uint32_t d, double *mean,
                    double *deviation)
{
    double sum = 0.0;
    for (uint32_t t = 0; t < count; t++) {
        sum += (double)keys[t * stride + d];
    }
    *mean = sum / count;
    double squares = 0.0;
    for (uint32_t t = 0; t < count; t++) {
        double difference = (double)keys[t * stride + d] - *mean;
        squares += difference * difference;
    }
    *deviation = sqrt(squares / count);
}

void reference_bounds(skim_bounds kind, const float *keys, size_t stride, uint32_t count,
                      uint32_t dim, double *b0, double *b1)
{
    for (uint32_t d = 0; d < dim; d++) {
        if (kind == SKIM_BOUNDS_MINMAX) {
            minmax(keys, stride, count, d, &b0[d], &b1[d]);
        } else {
            meanstd(keys, stride, count, d, &b0[d], &b1[d]);
        }
    }
}

double reference_score(skim_bounds kind, double spread, const float *q, const double *b0,
                       const double *b1, uint32_t dim, double *magnitude)
{
    double sum = 0.0;
    double absolute = 0.0;
    for (uint32_t d = 0; d < dim; d++) {
        double query = (double)q[d];
        double a = query;
        double b = spread * fabs(query);
        if (kind == SKIM_BOUNDS_MINMAX) {
            a = query > 0.0 ? query : 0.0;
            b = query < 0.0 ? query : 0.0;
        }
        sum += a * b0[d] + b * b1[d];
        absolute += fabs(a * b0[d]) + fabs(b * b1[d]);
    }
    if (magnitude) {
        *magnitude = absolute;
    }
    return sum;
}
