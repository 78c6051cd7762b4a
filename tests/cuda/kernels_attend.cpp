#include "shaders/cuda/attend.cu"

#include "tests/cuda/kernels.h"

emulated_kernels emulated_attend_kernels()
{
    static emulated_kernel items[] = {
#define ATTEND(type, TYPE, dim, heads)                                                             \
    EMULATED_ENTRY(skim_attend_##type##_##dim##_##heads, skim_cuda_attend_launch)
        SKIM_CUDA_ATTEND_KERNELS(ATTEND)};
    return {items, sizeof items / sizeof *items};
}
