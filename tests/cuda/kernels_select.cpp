#include "shaders/cuda/select.cu"

#include "tests/cuda/kernels.h"

emulated_kernels emulated_select_kernels()
{
    static emulated_kernel items[] = {
#define SELECT(launch) EMULATED_ENTRY(skim_select_##launch, skim_cuda_select_launch)
        SKIM_CUDA_SELECT_KERNELS(SELECT)};
    return {items, sizeof items / sizeof *items};
}
