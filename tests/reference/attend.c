#include "reference.h"

#include <math.h>

// scale * q . k, and the same over absolute values.
static double logit(const reference_attend_args *args, const float *key, double *absolute)
{
    double sum = 0.0;
    double magnitude = 0.0;
    for (uint32_t d = 0; d < args->dim; d++) {
        double product = (double)args->q[d] * (double)key[d];
        sum += product;
        magnitude += fabs(product);
    }
    *absolute = args->scale * magnitude;
    return args->scale * sum;
}

void reference_attend(const reference_attend_args *args, double *weights, double *out, double *lse,
                      double *largest)
{
    double top = -INFINITY;
    double magnitude = 0.0;
    for (uint32_t i = 0; i < args->count; i++) {
        double absolute;
        weights[i] = logit(args, args->keys + args->tokens[i] * args->stride, &absolute);
        top = weights[i] > top ? weights[i] : top;
        magnitude = absolute > magnitude ? absolute : magnitude;
    }
    double sum = 0.0;
    for (uint32_t i = 0; i < args->count; i++) {
        weights[i] = exp(weights[i] - top);
        sum += weights[i];
    }
    for (uint32_t d = 0; d < args->dim; d++) {
        out[d] = 0.0;
    }
    for (uint32_t i = 0; i < args->count; i++) {
        const float *value = args->values + args->tokens[i] * args->stride;
        double share = weights[i] / sum;
        for (uint32_t d = 0; d < args->dim; d++) {
            out[d] += share * (double)value[d];
        }
    }
    *lse = args->count ? top + log(sum) : -INFINITY;
    if (largest) {
        *largest = magnitude;
    }
}

void reference_merge(uint32_t dim, double *out, double *lse, const double *part_out,
                     double part_lse)
{
    if (part_lse == -INFINITY) {
        return;
    }
    double top = *lse > part_lse ? *lse : part_lse;
    double first = exp(*lse - top);
    double second = exp(part_lse - top);
    for (uint32_t d = 0; d < dim; d++) {
        out[d] = (first * out[d] + second * part_out[d]) / (first + second);
    }
    *lse = top + log(first + second);
}
