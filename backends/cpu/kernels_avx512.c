#include "backends/cpu/vec_avx512.h"

#include "backends/cpu/kernels.inl"

const skim_cpu_kernels skim_cpu_kernels_avx512 =
    KERNEL_TABLE("AVX-512", SKIM_FEATURE_AVX2 | SKIM_FEATURE_AVX512);
