// cuBLAS in the primary context of a CUDA device, the one that the CUDA runtime inside cuBLAS uses.
//
// cuBLAS is column-major: a row-major [rows][columns] is to it a matrix of `columns` rows. So it
// computes y^T = op(W^T) x^T, with op to transpose W^T back, and y^T is our [tokens][rows].
#include "blas.h"

#include <stdio.h>
#include <stdlib.h>

// From NVIDIA's documentation of the driver's interface and of cuBLAS.
enum { CUDA_OUT_OF_MEMORY = 2, CUBLAS_ALLOC_FAILED = 3, CUBLAS_N = 0, CUBLAS_T = 1 };

// clang-format off
#define CUDA_FUNCTIONS(X)                                                                          \
    X(int, cuInit, (unsigned flags))                                                               \
    X(int, cuDeviceGetCount, (int *count))                                                         \
    X(int, cuDeviceGet, (int *device, int index))                                                  \
    X(int, cuDeviceGetName, (char *name, int size, int device))                                    \
    X(int, cuDevicePrimaryCtxRetain, (void **context, int device))                                 \
    X(int, cuDevicePrimaryCtxRelease_v2, (int device))                                             \
    X(int, cuCtxPushCurrent_v2, (void *context))                                                   \
    X(int, cuCtxPopCurrent_v2, (void **context))                                                   \
    X(int, cuMemGetInfo_v2, (size_t *free, size_t *total))                                         \
    X(int, cuMemAlloc_v2, (unsigned long long *memory, size_t bytes))                              \
    X(int, cuMemFree_v2, (unsigned long long memory))                                              \
    X(int, cuMemcpyHtoD_v2, (unsigned long long target, const void *source, size_t bytes))         \
    X(int, cuMemcpyDtoH_v2, (void *target, unsigned long long source, size_t bytes))               \
    X(int, cuGetErrorString, (int error, const char **text))
#define CUBLAS_FUNCTIONS(X)                                                                        \
    X(int, cublasCreate_v2, (void **handle))                                                       \
    X(int, cublasDestroy_v2, (void *handle))                                                       \
    X(int, cublasSgemv_v2, (void *handle, int trans, int m, int n, const float *alpha,             \
                            const void *a, int lda, const void *x, int incx, const float *beta,    \
                            void *y, int incy))                                                    \
    X(int, cublasSgemm_v2, (void *handle, int trans_a, int trans_b, int m, int n, int k,           \
                            const float *alpha, const void *a, int lda, const void *b, int ldb,    \
                            const float *beta, void *c, int ldc))                                  \
    X(const char *, cublasGetStatusString, (int status))
// clang-format on

#define MEMBER(type, name, arguments) type(*name) arguments;
#define NAME(type, name, arguments) #name,

struct cublas {
    struct {
        CUDA_FUNCTIONS(MEMBER)
    } cuda;
    struct {
        CUBLAS_FUNCTIONS(MEMBER)
    } cublas;
    int device;
    void *context, *handle; // NULL: none
};

static const char *const cuda_names[] = {CUDA_FUNCTIONS(NAME)};
static const char *const cublas_names[] = {CUBLAS_FUNCTIONS(NAME)};

enum {
    CUDA_COUNT = sizeof cuda_names / sizeof *cuda_names,
    CUBLAS_COUNT = sizeof cublas_names / sizeof *cublas_names
};

static bool cuda_ok(struct blas *blas, int status, const char *call)
{
    if (status == 0)
        return true;
    const struct cublas *state = blas->state;
    const char *text = NULL;
    if (state->cuda.cuGetErrorString(status, &text) != 0 || !text)
        text = "an error that CUDA has no words for";
    return blas_fail(blas, status == CUDA_OUT_OF_MEMORY, "%s failed: %s (%d)", call, text, status);
}

static bool cublas_ok(struct blas *blas, int status, const char *call)
{
    if (status == 0)
        return true;
    const struct cublas *state = blas->state;
    const char *text = state->cublas.cublasGetStatusString(status);
    return blas_fail(blas, status == CUBLAS_ALLOC_FAILED, "%s failed: %s (%d)", call,
                     text ? text : "an error that cuBLAS has no words for", status);
}

// The calls, by their names.
#define CUDA(name, ...) cuda_ok(blas, state->cuda.name(__VA_ARGS__), #name)
#define CUBLAS(name, ...) cublas_ok(blas, state->cublas.name(__VA_ARGS__), #name)

// Between these two the context is the thread's. enter fails without a trace; leave is to be
// called after all else has failed, too.
static bool enter(struct blas *blas)
{
    struct cublas *state = blas->state;
    return CUDA(cuCtxPushCurrent_v2, state->context);
}

static bool leave(struct blas *blas, bool done)
{
    struct cublas *state = blas->state;
    void *context = NULL;
    return CUDA(cuCtxPopCurrent_v2, &context) && done;
}

static bool open_libraries(struct blas *blas)
{
    static const char *const cuda[] = {"libcuda.so.1", NULL};
    static const char *const cublas[] = {"libcublas.so.13", "libcublas.so.12", NULL};
    struct cublas *state = blas->state;
    blas_function functions[CUDA_COUNT > CUBLAS_COUNT ? CUDA_COUNT : CUBLAS_COUNT];
    size_t next = 0;
#define TAKE_CUDA(type, name, arguments) state->cuda.name = (type(*) arguments)functions[next++];
#define TAKE_CUBLAS(type, name, arguments)                                                         \
    state->cublas.name = (type(*) arguments)functions[next++];
    if (!blas_library(blas, cuda, "NVIDIA's driver", cuda_names, functions, CUDA_COUNT))
        return false;
    CUDA_FUNCTIONS(TAKE_CUDA)
    if (!blas_library(blas, cublas, "NVIDIA's cuBLAS", cublas_names, functions, CUBLAS_COUNT))
        return false;
    next = 0;
    CUBLAS_FUNCTIONS(TAKE_CUBLAS)
    return true;
}

static bool open_device(struct blas *blas, uint32_t index)
{
    struct cublas *state = blas->state;
    int count = 0;
    if (!CUDA(cuInit, 0) || !CUDA(cuDeviceGetCount, &count))
        return false;
    uint32_t chosen = index == LINEAR_ANY ? 0 : index;
    if (count <= 0 || chosen >= (uint32_t)count)
        return blas_fail(blas, false, "the number of CUDA devices is %d; they count from 0", count);
    blas->device = chosen;
    return CUDA(cuDeviceGet, &state->device, (int)chosen) &&
           CUDA(cuDeviceGetName, blas->device_name, (int)sizeof blas->device_name, state->device) &&
           CUDA(cuDevicePrimaryCtxRetain, &state->context, state->device);
}

static bool cublas_open(struct blas *blas, uint32_t index)
{
    struct cublas *state = blas->state = calloc(1, sizeof *state);
    if (!state)
        return blas_fail(blas, false, "out of memory; free some and try again");
    if (!open_libraries(blas) || !open_device(blas, index) || !enter(blas))
        return false;
    size_t available = 0, total = 0;
    bool done =
        CUBLAS(cublasCreate_v2, &state->handle) && CUDA(cuMemGetInfo_v2, &available, &total);
    blas->memory_bytes = blas->piece_bytes = available;
    return leave(blas, done);
}

// What fails here has no one left to tell: the results are out.
static void cublas_close(struct blas *blas)
{
    struct cublas *state = blas->state;
    if (state && state->handle && enter(blas)) {
        state->cublas.cublasDestroy_v2(state->handle);
        leave(blas, true);
    }
    if (state && state->context)
        state->cuda.cuDevicePrimaryCtxRelease_v2(state->device);
    free(state);
}

static bool cublas_allocate(struct blas *blas, uint64_t bytes, uint64_t *memory)
{
    struct cublas *state = blas->state;
    if (!enter(blas))
        return false;
    unsigned long long address = 0;
    bool done = CUDA(cuMemAlloc_v2, &address, (size_t)bytes);
    *memory = done ? address : 0;
    return leave(blas, done);
}

static void cublas_release(struct blas *blas, uint64_t memory)
{
    struct cublas *state = blas->state;
    if (!enter(blas))
        return;
    state->cuda.cuMemFree_v2(memory);
    leave(blas, true);
}

static bool cublas_write(struct blas *blas, uint64_t memory, uint64_t offset, const void *data,
                         size_t bytes)
{
    struct cublas *state = blas->state;
    if (!enter(blas))
        return false;
    bool done = CUDA(cuMemcpyHtoD_v2, memory + offset, data, bytes);
    return leave(blas, done);
}

// cuBLAS takes device memory as pointers.
static void *pointer(uint64_t memory)
{
    return (void *)(uintptr_t)memory; // NOLINT(performance-no-int-to-ptr)
}

// Copies and cuBLAS use the context's default stream, one after the other; the copy back waits.
static bool cublas_multiply(struct blas *blas, const struct blas_product *product)
{
    struct cublas *state = blas->state;
    const float one = 1, zero = 0; // of the host, as a new handle's pointer mode has it
    int rows = (int)product->rows, columns = (int)product->columns, tokens = (int)product->tokens;
    void *weights = pointer(product->weights), *x = pointer(blas->x), *y = pointer(blas->y);
    size_t x_bytes = sizeof(float) * product->tokens * product->columns;
    size_t y_bytes = sizeof(float) * product->tokens * product->rows;
    if (!enter(blas))
        return false;
    bool done = CUDA(cuMemcpyHtoD_v2, blas->x, product->x, x_bytes);
    if (done && tokens == 1)
        done = CUBLAS(cublasSgemv_v2, state->handle, CUBLAS_T, columns, rows, &one, weights,
                      columns, x, 1, &zero, y, 1);
    else if (done)
        done = CUBLAS(cublasSgemm_v2, state->handle, CUBLAS_T, CUBLAS_N, rows, tokens, columns,
                      &one, weights, columns, x, columns, &zero, y, rows);
    done = done && CUDA(cuMemcpyDtoH_v2, product->y, blas->y, y_bytes);
    return leave(blas, done);
}

const struct blas_driver blas_cublas = {
    .name = "cublas",
    .open = cublas_open,
    .close = cublas_close,
    .allocate = cublas_allocate,
    .release = cublas_release,
    .write = cublas_write,
    .multiply = cublas_multiply,
};
