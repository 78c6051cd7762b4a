#include "shaders/cuda/prefill.cu"
#include "shaders/cuda/prefill_tensor.cu"

#include "tests/cuda/kernels.h"

emulated_kernels emulated_prefill_kernels()
{
    static emulated_kernel items[] = {
#define PREFILL(type, TYPE, dim, heads)                                                            \
    EMULATED_ENTRY(skim_prefill_##type##_##dim, skim_cuda_attend_launch)
#define TENSOR(type, TYPE, dim)                                                                    \
    EMULATED_ENTRY(skim_prefill_tensor_##type##_##dim, skim_cuda_attend_launch)
        SKIM_CUDA_PREFILL_KERNELS(PREFILL) SKIM_CUDA_PREFILL_TENSOR_KERNELS(TENSOR)};
    return {items, sizeof items / sizeof *items};
}
