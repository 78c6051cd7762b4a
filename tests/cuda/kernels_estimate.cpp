#include "shaders/cuda/estimate.cu"

#include "tests/cuda/kernels.h"

emulated_kernels emulated_estimate_kernels()
{
    static emulated_kernel items[] = {
#define ESTIMATE(column, COLUMN, dim, heads)                                                       \
    EMULATED_ENTRY(skim_estimate_##column##_##dim##_##heads, skim_cuda_estimate_launch)
        SKIM_CUDA_ESTIMATE_KERNELS(ESTIMATE)};
    return {items, sizeof items / sizeof *items};
}
