// The product of a row of a matrix with a vector, in the type the matrix is stored in.
#ifndef SKIM_TOOL_DOT_H
#define SKIM_TOOL_DOT_H

#include "skim/base.h"

enum dot_level { DOT_PLAIN, DOT_AVX2, DOT_AVX512, DOT_LEVELS };

// Returns the sum of weights[i] * x[i]. Fetches ahead what lies behind the row: the next one.
typedef float dot_function(const void *weights, const float *x, size_t count);

// Returns the function for weights of a type: of a level, NULL where the processor lacks it, or of
// the highest there is. All levels give the same bits. Asks the processor, which takes long in a
// virtual machine.
dot_function *dot_of_level(skim_type type, enum dot_level level);
dot_function *dot_best(skim_type type);

#endif
