// Linear layers: products with mapped matrices, of several vectors through a BLAS, or with copies
// of the matrices on another device (blas.h).
#ifndef SKIM_TOOL_LINEAR_H
#define SKIM_TOOL_LINEAR_H

#include "blas.h"
#include "dot.h"
#include "model.h"
#include "workers.h"

struct linear {
    dot_function *dots[SKIM_BF16 + 1]; // of each type
    struct workers *workers;
    float *panel; // rows of a matrix of 16-bit numbers, converted
    size_t panel_elements;
    struct blas *blas; // NULL: all runs on the host
};

// Makes room for matrices of at most so many columns. Returns an exit status.
int linear_open(struct linear *linear, uint32_t threads, uint32_t columns);
// Moves a model's matrices to the device that the settings ask for, if it is not the host. From
// then on linear_apply takes no others. A layer's products of up to `tokens` vectors are one call
// there. Returns an exit status.
int linear_move(struct linear *linear, const struct settings *settings, const struct model *model,
                uint32_t tokens);
void linear_close(struct linear *linear);

// y[t] = W x[t] + bias for each of tokens vectors; y is [tokens][rows]. A product of one vector
// reads the matrix as it is stored (dot.h); of several, one of 16-bit numbers is converted to f32
// panel by panel. Returns an exit status; on the host nothing fails.
int linear_apply(struct linear *linear, const struct matrix *matrix, const float *x,
                 uint32_t tokens, float *y);

#endif
