#include "backends/cpu/vec_avx2.h"

#include "backends/cpu/kernels.inl"

const skim_cpu_kernels skim_cpu_kernels_avx2 = KERNEL_TABLE("AVX2", SKIM_FEATURE_AVX2);
