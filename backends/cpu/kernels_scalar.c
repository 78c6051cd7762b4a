#include "backends/cpu/vec_scalar.h"

#include "backends/cpu/kernels.inl"

const skim_cpu_kernels skim_cpu_kernels_scalar = KERNEL_TABLE("scalar", 0);
