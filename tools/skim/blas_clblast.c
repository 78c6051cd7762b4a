// CLBlast on an OpenCL device. All of OpenCL's objects are pointers, and every function returns 0
// or tells of an error with a negative number.
#include "blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// From the OpenCL specification and CLBlast's documentation.
enum {
    CL_NO_DEVICE = -1,
    CL_NO_MEMORY_OBJECT = -4,
    CL_NO_RESOURCES = -5,
    CL_NO_HOST_MEMORY = -6,
    CL_BUFFER_SIZE = -61,
    CL_NO_PLATFORM = -1001,
    CL_TYPE = 0x1000,
    CL_LARGEST_ALLOCATION = 0x1010,
    CL_MEMORY = 0x101F,
    CL_NAME = 0x102B,
    CL_GPU = 1 << 2, // a bit of the type
    CL_READ_WRITE = 1 << 0,
    CLBLAST_ROWS = 101,
    CLBLAST_N = 111,
    CLBLAST_T = 112
};

static const uint64_t cl_all_types = 0xFFFFFFFF;

enum { PLATFORMS = 16, DEVICES = 64 }; // most that are looked at

// clang-format off
#define CL_FUNCTIONS(X)                                                                            \
    X(int, clGetPlatformIDs, (uint32_t room, void **platforms, uint32_t *count))                   \
    X(int, clGetDeviceIDs, (void *platform, uint64_t types, uint32_t room, void **devices,         \
                            uint32_t *count))                                                      \
    X(int, clGetDeviceInfo, (void *device, uint32_t what, size_t size, void *value, size_t *used)) \
    X(void *, clCreateContext, (const intptr_t *properties, uint32_t count, void *const *devices,  \
                                void (*notify)(const char *, const void *, size_t, void *),        \
                                void *argument, int *error))                                       \
    X(int, clReleaseContext, (void *context))                                                      \
    X(void *, clCreateCommandQueue, (void *context, void *device, uint64_t properties,             \
                                     int *error))                                                  \
    X(int, clReleaseCommandQueue, (void *queue))                                                   \
    X(void *, clCreateBuffer, (void *context, uint64_t flags, size_t bytes, void *host,            \
                               int *error))                                                        \
    X(int, clReleaseMemObject, (void *buffer))                                                     \
    X(int, clEnqueueWriteBuffer, (void *queue, void *buffer, uint32_t blocking, size_t offset,     \
                                  size_t bytes, const void *data, uint32_t waits,                  \
                                  void *const *wait_for, void **event))                            \
    X(int, clEnqueueReadBuffer, (void *queue, void *buffer, uint32_t blocking, size_t offset,      \
                                 size_t bytes, void *data, uint32_t waits, void *const *wait_for,  \
                                 void **event))                                                    \
    X(int, clEnqueueFillBuffer, (void *queue, void *buffer, const void *pattern,                   \
                                 size_t pattern_bytes, size_t offset, size_t bytes,                \
                                 uint32_t waits, void *const *wait_for, void **event))             \
    X(int, clFinish, (void *queue))
#define CLBLAST_FUNCTIONS(X)                                                                       \
    X(int, CLBlastSgemv, (int layout, int trans, size_t m, size_t n, float alpha, void *a,         \
                          size_t a_offset, size_t lda, void *x, size_t x_offset, size_t incx,      \
                          float beta, void *y, size_t y_offset, size_t incy, void **queue,         \
                          void **event))                                                           \
    X(int, CLBlastSgemm, (int layout, int trans_a, int trans_b, size_t m, size_t n, size_t k,      \
                          float alpha, void *a, size_t a_offset, size_t lda, void *b,              \
                          size_t b_offset, size_t ldb, float beta, void *c, size_t c_offset,       \
                          size_t ldc, void **queue, void **event))                                 \
    X(int, CLBlastClearCache, (void))
// clang-format on

#define MEMBER(type, name, arguments) type(*name) arguments;
#define NAME(type, name, arguments) #name,

struct clblast {
    struct {
        CL_FUNCTIONS(MEMBER)
    } cl;
    struct {
        CLBLAST_FUNCTIONS(MEMBER)
    } blast;
    void *device, *context, *queue; // NULL: none
};

static const char *const cl_names[] = {CL_FUNCTIONS(NAME)};
static const char *const clblast_names[] = {CLBLAST_FUNCTIONS(NAME)};

enum {
    CL_COUNT = sizeof cl_names / sizeof *cl_names,
    CLBLAST_COUNT = sizeof clblast_names / sizeof *clblast_names
};

static bool is_ok(struct blas *blas, int status, const char *call)
{
    if (status == 0)
        return true;
    static const int memory[] = {CL_NO_MEMORY_OBJECT, CL_NO_RESOURCES, CL_NO_HOST_MEMORY,
                                 CL_BUFFER_SIZE};
    bool no_memory = false;
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        no_memory |= status == memory[i];
    return blas_fail(blas, no_memory, "%s failed: %serror %d", call,
                     no_memory ? "out of memory or resources, " : "", status);
}

#define CL(name, ...) is_ok(blas, state->cl.name(__VA_ARGS__), #name)
#define BLAST(name, ...) is_ok(blas, state->blast.name(__VA_ARGS__), #name)

static bool open_libraries(struct blas *blas)
{
    static const char *const cl[] = {"libOpenCL.so.1", NULL};
    static const char *const blast[] = {"libclblast.so.1", NULL};
    struct clblast *state = blas->state;
    blas_function functions[CL_COUNT > CLBLAST_COUNT ? CL_COUNT : CLBLAST_COUNT];
    size_t next = 0;
#define TAKE_CL(type, name, arguments) state->cl.name = (type(*) arguments)functions[next++];
#define TAKE_BLAST(type, name, arguments) state->blast.name = (type(*) arguments)functions[next++];
    if (!blas_library(blas, cl, "an OpenCL loader (Debian's ocl-icd-libopencl1)", cl_names,
                      functions, CL_COUNT))
        return false;
    CL_FUNCTIONS(TAKE_CL)
    if (!blas_library(blas, blast, "CLBlast (Debian's libclblast1)", clblast_names, functions,
                      CLBLAST_COUNT))
        return false;
    next = 0;
    CLBLAST_FUNCTIONS(TAKE_BLAST)
    return true;
}

// The devices of all platforms, one platform after the other.
static bool list_devices(struct blas *blas, void **devices, uint32_t *count)
{
    struct clblast *state = blas->state;
    void *platforms[PLATFORMS];
    uint32_t platform_count = 0;
    *count = 0;
    int status = state->cl.clGetPlatformIDs(PLATFORMS, platforms, &platform_count);
    if (status == CL_NO_PLATFORM)
        platform_count = 0;
    else if (!is_ok(blas, status, "clGetPlatformIDs"))
        return false;
    for (uint32_t i = 0; i < platform_count && i < PLATFORMS; i++) {
        uint32_t room = DEVICES - *count, more = 0;
        if (room == 0)
            break;
        status =
            state->cl.clGetDeviceIDs(platforms[i], cl_all_types, room, devices + *count, &more);
        if (status == CL_NO_DEVICE)
            more = 0;
        else if (!is_ok(blas, status, "clGetDeviceIDs"))
            return false;
        *count += more < room ? more : room;
    }
    return *count || blas_fail(blas, false,
                               "OpenCL has no device; install a driver (Debian's pocl-opencl-icd "
                               "runs on the processor)");
}

// The first GPU, or else the first device.
static bool prefer(struct blas *blas, void *const *devices, uint32_t count, uint32_t *index)
{
    struct clblast *state = blas->state;
    *index = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t type = 0;
        if (!CL(clGetDeviceInfo, devices[i], CL_TYPE, sizeof type, &type, NULL))
            return false;
        if (type & CL_GPU) {
            *index = i;
            return true;
        }
    }
    return true;
}

// A name may be longer than there is room for, which is an error to OpenCL.
static bool read_name(struct blas *blas)
{
    struct clblast *state = blas->state;
    size_t size = 0;
    if (!CL(clGetDeviceInfo, state->device, CL_NAME, 0, NULL, &size))
        return false;
    char *name = malloc(size + 1);
    bool done = name ? CL(clGetDeviceInfo, state->device, CL_NAME, size, name, NULL)
                     : blas_fail(blas, false, "out of memory; free some and try again");
    if (done) {
        name[size] = '\0';
        snprintf(blas->device_name, sizeof blas->device_name, "%s", name);
    }
    free(name);
    return done;
}

static bool open_device(struct blas *blas, uint32_t index)
{
    struct clblast *state = blas->state;
    void *devices[DEVICES];
    uint32_t count = 0;
    if (!list_devices(blas, devices, &count) ||
        (index == LINEAR_ANY && !prefer(blas, devices, count, &index)))
        return false;
    if (index >= count)
        return blas_fail(blas, false, "the number of OpenCL devices is %u; they count from 0",
                         count);
    blas->device = index;
    state->device = devices[index];
    return read_name(blas) &&
           CL(clGetDeviceInfo, state->device, CL_MEMORY, sizeof blas->memory_bytes,
              &blas->memory_bytes, NULL) &&
           CL(clGetDeviceInfo, state->device, CL_LARGEST_ALLOCATION, sizeof blas->piece_bytes,
              &blas->piece_bytes, NULL);
}

static bool clblast_open(struct blas *blas, uint32_t index)
{
    struct clblast *state = blas->state = calloc(1, sizeof *state);
    if (!state)
        return blas_fail(blas, false, "out of memory; free some and try again");
    if (!open_libraries(blas) || !open_device(blas, index))
        return false;
    int error = 0;
    state->context = state->cl.clCreateContext(NULL, 1, &state->device, NULL, NULL, &error);
    if (!is_ok(blas, error, "clCreateContext"))
        return false;
    state->queue = state->cl.clCreateCommandQueue(state->context, state->device, 0, &error);
    return is_ok(blas, error, "clCreateCommandQueue");
}

// What fails here has no one left to tell: the results are out.
static void clblast_close(struct blas *blas)
{
    struct clblast *state = blas->state;
    if (state && state->queue) {
        state->cl.clFinish(state->queue);
        state->blast.CLBlastClearCache(); // programs of this context, which would keep it alive
        state->cl.clReleaseCommandQueue(state->queue);
    }
    if (state && state->context)
        state->cl.clReleaseContext(state->context);
    free(state);
}

static void *buffer_of(uint64_t memory)
{
    return (void *)(uintptr_t)memory; // NOLINT(performance-no-int-to-ptr)
}

static bool clblast_allocate(struct blas *blas, uint64_t bytes, uint64_t *memory)
{
    struct clblast *state = blas->state;
    int error = 0;
    void *buffer =
        state->cl.clCreateBuffer(state->context, CL_READ_WRITE, (size_t)bytes, NULL, &error);
    *memory = error == 0 ? (uintptr_t)buffer : 0;
    return is_ok(blas, error, "clCreateBuffer");
}

static void clblast_release(struct blas *blas, uint64_t memory)
{
    const struct clblast *state = blas->state;
    state->cl.clReleaseMemObject(buffer_of(memory));
}

static bool clblast_write(struct blas *blas, uint64_t memory, uint64_t offset, const void *data,
                          size_t bytes)
{
    struct clblast *state = blas->state;
    return CL(clEnqueueWriteBuffer, state->queue, buffer_of(memory), true, (size_t)offset, bytes,
              data, 0, NULL, NULL);
}

// CLBlast 1.5.3 multiplies y by beta in a product of one vector even when beta is 0, and so keeps
// the NaN that new memory may hold.
static bool multiply_one(struct blas *blas, const struct blas_product *product)
{
    struct clblast *state = blas->state;
    void *weights = buffer_of(product->weights), *x = buffer_of(blas->x), *y = buffer_of(blas->y);
    size_t rows = product->rows, columns = product->columns;
    const float zero = 0;
    return CL(clEnqueueFillBuffer, state->queue, y, &zero, sizeof zero, 0, rows * sizeof zero, 0,
              NULL, NULL) &&
           BLAST(CLBlastSgemv, CLBLAST_ROWS, CLBLAST_N, rows, columns, 1, weights, 0, columns, x, 0,
                 1, 0, y, 0, 1, &state->queue, NULL);
}

static bool multiply_several(struct blas *blas, const struct blas_product *product)
{
    struct clblast *state = blas->state;
    void *weights = buffer_of(product->weights), *x = buffer_of(blas->x), *y = buffer_of(blas->y);
    size_t rows = product->rows, columns = product->columns;
    return BLAST(CLBlastSgemm, CLBLAST_ROWS, CLBLAST_N, CLBLAST_T, product->tokens, rows, columns,
                 1, x, 0, columns, weights, 0, columns, 0, y, 0, rows, &state->queue, NULL);
}

// The queue runs one thing after the other; the last, reading, waits for it.
static bool clblast_multiply(struct blas *blas, const struct blas_product *product)
{
    struct clblast *state = blas->state;
    size_t tokens = product->tokens;
    return clblast_write(blas, blas->x, 0, product->x, tokens * product->columns * sizeof(float)) &&
           (tokens == 1 ? multiply_one(blas, product) : multiply_several(blas, product)) &&
           CL(clEnqueueReadBuffer, state->queue, buffer_of(blas->y), true, 0,
              tokens * product->rows * sizeof(float), product->y, 0, NULL, NULL);
}

const struct blas_driver blas_clblast = {
    .name = "clblast",
    .open = clblast_open,
    .close = clblast_close,
    .allocate = clblast_allocate,
    .release = clblast_release,
    .write = clblast_write,
    .multiply = clblast_multiply,
};
