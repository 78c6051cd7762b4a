#include "shaders/cuda/append.cu"

#include "tests/cuda/kernels.h"

emulated_kernels emulated_append_kernels()
{
    static emulated_kernel items[] = {
#define APPEND(type, TYPE, bounds, BOUNDS, stored, COLUMN)                                         \
    EMULATED_ENTRY(skim_append_##type##_##bounds##_##stored, skim_cuda_append_launch)
#define CENTRE(type, TYPE) EMULATED_ENTRY(skim_centre_##type, skim_cuda_append_launch)
        SKIM_CUDA_APPEND_KERNELS(APPEND) SKIM_CUDA_CENTRE_KERNELS(CENTRE)};
    return {items, sizeof items / sizeof *items};
}
