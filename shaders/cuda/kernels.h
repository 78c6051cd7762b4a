// Every kernel that there is, by what it is built for: kernels are defined from these lists, the
// host finds them by name, and the tests look whether all of them have run. Type, head's dimension
// (0: a general kernel, which learns it at the launch), and query heads that a block has at once.
#ifndef SKIM_CUDA_KERNELS_H
#define SKIM_CUDA_KERNELS_H

#define SKIM_CUDA_DIMS(X, name, TYPE, heads)                                                       \
    X(name, TYPE, 0, heads)                                                                        \
    X(name, TYPE, 64, heads)                                                                       \
    X(name, TYPE, 128, heads)                                                                      \
    X(name, TYPE, 256, heads)

// Narrow columns are worth more heads at once.
#define SKIM_CUDA_WIDTHS(X, name, TYPE)                                                            \
    SKIM_CUDA_DIMS(X, name, TYPE, 1)                                                               \
    SKIM_CUDA_DIMS(X, name, TYPE, 4)                                                               \
    X(name, TYPE, 64, 8)                                                                           \
    X(name, TYPE, 128, 8)                                                                          \
    X(name, TYPE, 256, 8)

#define SKIM_CUDA_ESTIMATE_KERNELS(X)                                                              \
    SKIM_CUDA_DIMS(X, f32, F32, 1)                                                                 \
    SKIM_CUDA_DIMS(X, f32, F32, 4)                                                                 \
    SKIM_CUDA_WIDTHS(X, f16, F16)                                                                  \
    SKIM_CUDA_WIDTHS(X, bf16, BF16)                                                                \
    SKIM_CUDA_WIDTHS(X, i8, I8)

#define SKIM_CUDA_ATTEND_KERNELS(X)                                                                \
    SKIM_CUDA_DIMS(X, f32, F32, 1)                                                                 \
    SKIM_CUDA_DIMS(X, f32, F32, 4)                                                                 \
    SKIM_CUDA_WIDTHS(X, f16, F16)                                                                  \
    SKIM_CUDA_WIDTHS(X, bf16, BF16)

#define SKIM_CUDA_PREFILL_KERNELS(X)                                                               \
    SKIM_CUDA_DIMS(X, f32, F32, 1)                                                                 \
    SKIM_CUDA_DIMS(X, f16, F16, 1)                                                                 \
    SKIM_CUDA_DIMS(X, bf16, BF16, 1)

// On tensor cores.
#define SKIM_CUDA_PREFILL_TENSOR_KERNELS(X)                                                        \
    X(f16, F16, 64)                                                                                \
    X(f16, F16, 128)                                                                               \
    X(bf16, BF16, 64)                                                                              \
    X(bf16, BF16, 128)

// Type and kind of bounds, and how these are stored.
#define SKIM_CUDA_APPEND_BOUNDS(X, name, TYPE)                                                     \
    X(name, TYPE, minmax, MINMAX, native, TYPE)                                                    \
    X(name, TYPE, meanstd, MEANSTD, native, TYPE)                                                  \
    X(name, TYPE, minmax, MINMAX, i8, I8)                                                          \
    X(name, TYPE, meanstd, MEANSTD, i8, I8)

#define SKIM_CUDA_APPEND_KERNELS(X)                                                                \
    SKIM_CUDA_APPEND_BOUNDS(X, f32, F32)                                                           \
    SKIM_CUDA_APPEND_BOUNDS(X, f16, F16)                                                           \
    SKIM_CUDA_APPEND_BOUNDS(X, bf16, BF16)

#define SKIM_CUDA_CENTRE_KERNELS(X) X(f32, F32) X(f16, F16) X(bf16, BF16)

#define SKIM_CUDA_SELECT_KERNELS(X) X(near) X(sums) X(keys) X(count) X(ranks) X(write)

// Pages that a thread of estimate holds at once, and that a block takes; queries, and half the
// tokens, that a thread of prefill does.
#define SKIM_CUDA_ESTIMATE_PAGES(heads) ((heads) <= 4 ? 4 : 2)
#define SKIM_CUDA_ESTIMATE_BLOCK(heads) (SKIM_THREADS / 8 * SKIM_CUDA_ESTIMATE_PAGES(heads))
#define SKIM_CUDA_PREFILL_ROWS(dim) ((dim) == 64 || (dim) == 128 ? 4 : 2)

#endif
