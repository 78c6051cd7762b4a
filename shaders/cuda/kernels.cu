// All kernels in one: what nvcc compiles.
#include "shaders/cuda/append.cu"
#include "shaders/cuda/attend.cu"
#include "shaders/cuda/estimate.cu"
#include "shaders/cuda/prefill.cu"
#include "shaders/cuda/prefill_tensor.cu"
#include "shaders/cuda/select.cu"
