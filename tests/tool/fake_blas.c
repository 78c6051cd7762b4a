// Stands in for libcuda.so.1 and libcublas.so.13, and for libOpenCL.so.1 and libclblast.so.1, on
// the host's memory: what skim generate --linear calls, as their documentation defines it. It says
// at exit what was called and what was left behind. linear.py puts it in their place.
//
// SKIM_FAKE_REPORT  file that the JSON is written to
// SKIM_FAKE_FAIL    NAME:NTH:STATUS[,...]: that call of that function fails with the status
// SKIM_FAKE_DEVICES how many of its devices there are (default: all)
// SKIM_FAKE_MEMORY, SKIM_FAKE_PIECE  bytes of a device, and of its largest allocation
//
// With FAKE_EMPTY defined it has none of the functions.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef FAKE_EMPTY
int skim_fake_empty;
#else

#define EXPORT __attribute__((visibility("default")))

enum { NAMES = 64, BLOCKS = 1024, STACK = 16, DEVICES = 3 };

static struct {
    const char *name;
    unsigned count;
} calls[NAMES];

// Memory of the device. Its addresses are no addresses of the host: whoever reads there crashes.
static struct block {
    uint64_t address;
    size_t bytes;
    char *data;
} blocks[BLOCKS];

static struct {
    int blocks, contexts, pushed, handles, queues;
} left;

static size_t used;
static char misuse[256]; // the first
static int devices[DEVICES];
static int device = -1; // of the context
static int stack[STACK];
static int handle, queue;

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

__attribute__((destructor)) static void write_report(void)
{
    const char *path = getenv("SKIM_FAKE_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "{\"misuse\": \"%s\", \"device\": %d, \"left\": {\"blocks\": %d, ", misuse,
            device, left.blocks);
    fprintf(file,
            "\"contexts\": %d, \"pushed\": %d, \"handles\": %d, \"queues\": %d}, \"calls\": {",
            left.contexts, left.pushed, left.handles, left.queues);
    for (size_t i = 0; i < NAMES && calls[i].name; i++)
        fprintf(file, "%s\"%s\": %u", i ? ", " : "", calls[i].name, calls[i].count);
    fprintf(file, "}}\n");
    fclose(file);
}

// Counts the call. Returns the status that it is to fail with, or 0.
static int enter(const char *name)
{
    size_t i = 0;
    while (calls[i].name && strcmp(calls[i].name, name) != 0)
        i++;
    calls[i].name = name;
    calls[i].count++;
    const char *rest = getenv("SKIM_FAKE_FAIL");
    for (size_t length = strlen(name); rest && *rest;
         rest += strcspn(rest, ","), rest += *rest == ',') {
        unsigned nth = 0;
        int status = 0;
        if (strncmp(rest, name, length) == 0 &&
            sscanf(rest + length, ":%u:%d", &nth, &status) == 2 && nth == calls[i].count)
            return status;
    }
    return 0;
}

#define ENTER()                                                                                    \
    do {                                                                                           \
        int status_ = enter(__func__);                                                             \
        if (status_)                                                                               \
            return status_;                                                                        \
    } while (0)

// Notes what no caller may do. Returns the status.
static int misused(int status, const char *function, const char *what)
{
    if (!*misuse)
        snprintf(misuse, sizeof misuse, "%s: %s", function, what);
    return status;
}

#define REQUIRE(condition, status)                                                                 \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return misused(status, __func__, #condition);                                          \
    } while (0)

// The host's address of so many bytes of the device, or NULL.
static void *bytes_at(uint64_t address, size_t bytes)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        struct block *block = &blocks[i];
        uint64_t offset = address - block->address;
        if (block->data && address >= block->address && offset <= block->bytes &&
            bytes <= block->bytes - offset)
            return block->data + offset;
    }
    return NULL;
}

// New memory is full of NaN. Returns 0 if there is none.
static uint64_t allocate(size_t bytes)
{
    size_t i = 0;
    while (i < BLOCKS && blocks[i].data)
        i++;
    if (i == BLOCKS || bytes > setting("SKIM_FAKE_PIECE", UINT64_MAX) ||
        bytes > setting("SKIM_FAKE_MEMORY", 1 << 30) - used)
        return 0;
    blocks[i] = (struct block){.address = UINT64_C(0x7F00000000000000) + ((uint64_t)(i + 1) << 40),
                               .bytes = bytes,
                               .data = malloc(bytes)};
    memset(blocks[i].data, 0xFF, bytes);
    used += bytes;
    left.blocks++;
    return blocks[i].address;
}

static bool release(uint64_t address)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if (blocks[i].data && blocks[i].address == address) {
            free(blocks[i].data);
            used -= blocks[i].bytes;
            blocks[i].data = NULL;
            left.blocks--;
            return true;
        }
    return false;
}

// A column-major matrix of the device.
struct columns {
    bool transposed; // as it is used
    size_t rows, columns, ld;
    const float *data;
};

// A matrix that is used as rows x columns; data is NULL if it is not within the device's memory.
static struct columns matrix_at(uint64_t address, bool transposed, size_t rows, size_t columns,
                                size_t ld)
{
    size_t stored_rows = transposed ? columns : rows, stored_columns = transposed ? rows : columns;
    struct columns result = {.transposed = transposed, .rows = rows, .columns = columns, .ld = ld};
    if (ld >= stored_rows && rows && columns)
        result.data = bytes_at(address, sizeof(float) * (ld * (stored_columns - 1) + stored_rows));
    return result;
}

static float element(const struct columns *matrix, size_t row, size_t column)
{
    return matrix->transposed ? matrix->data[column + row * matrix->ld]
                              : matrix->data[row + column * matrix->ld];
}

// C = alpha A B + beta C. With beta 0, C is only written, unless the library reads it all the same.
static void multiply(const struct columns *a, const struct columns *b, float alpha, float beta,
                     bool reads, float *c, size_t ldc)
{
    for (size_t column = 0; column < b->columns; column++)
        for (size_t row = 0; row < a->rows; row++) {
            double sum = 0;
            for (size_t i = 0; i < a->columns; i++)
                sum += (double)element(a, row, i) * element(b, i, column);
            float *target = &c[row + column * ldc];
            *target = alpha * (float)sum + (beta != 0 || reads ? beta * *target : 0);
        }
}

// CUDA's driver.

enum {
    CUDA_VALUE = 1,
    CUDA_MEMORY = 2,
    CUDA_NO_DEVICE = 100,
    CUDA_DEVICE = 101,
    CUDA_CONTEXT = 201
};

static bool started;

static bool is_current(void)
{
    return left.pushed > 0 && left.pushed <= STACK && stack[left.pushed - 1] == device;
}

EXPORT int cuInit(unsigned flags)
{
    ENTER();
    REQUIRE(flags == 0, CUDA_VALUE);
    started = true;
    return 0;
}

EXPORT int cuDeviceGetCount(int *count)
{
    ENTER();
    REQUIRE(started, CUDA_VALUE);
    *count = (int)setting("SKIM_FAKE_DEVICES", DEVICES);
    return 0;
}

EXPORT int cuDeviceGet(int *result, int index)
{
    ENTER();
    REQUIRE(index >= 0 && index < DEVICES, CUDA_DEVICE);
    *result = 70 + index;
    return 0;
}

EXPORT int cuDeviceGetName(char *name, int size, int number)
{
    ENTER();
    REQUIRE(number >= 70 && number < 70 + DEVICES, CUDA_DEVICE);
    snprintf(name, (size_t)size, "Fake CUDA %d", number - 70);
    return 0;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int number)
{
    ENTER();
    REQUIRE(number >= 70 && number < 70 + DEVICES, CUDA_DEVICE);
    device = number - 70;
    *context = &devices[device];
    left.contexts++;
    return 0;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int number)
{
    ENTER();
    REQUIRE(left.contexts > 0 && number == 70 + device, CUDA_CONTEXT);
    left.contexts--;
    return 0;
}

EXPORT int cuCtxPushCurrent_v2(void *context)
{
    ENTER();
    REQUIRE(left.contexts > 0 && context == &devices[device] && left.pushed < STACK, CUDA_CONTEXT);
    stack[left.pushed++] = device;
    return 0;
}

EXPORT int cuCtxPopCurrent_v2(void **context)
{
    ENTER();
    REQUIRE(left.pushed > 0, CUDA_CONTEXT);
    *context = &devices[stack[--left.pushed]];
    return 0;
}

EXPORT int cuMemGetInfo_v2(size_t *available, size_t *total)
{
    ENTER();
    REQUIRE(is_current(), CUDA_CONTEXT);
    *total = setting("SKIM_FAKE_MEMORY", 1 << 30);
    *available = *total - used;
    return 0;
}

EXPORT int cuMemAlloc_v2(unsigned long long *memory, size_t bytes)
{
    ENTER();
    REQUIRE(is_current(), CUDA_CONTEXT);
    REQUIRE(bytes > 0, CUDA_VALUE);
    *memory = allocate(bytes);
    return *memory ? 0 : CUDA_MEMORY;
}

EXPORT int cuMemFree_v2(unsigned long long memory)
{
    ENTER();
    REQUIRE(is_current(), CUDA_CONTEXT);
    REQUIRE(release(memory), CUDA_VALUE);
    return 0;
}

EXPORT int cuMemcpyHtoD_v2(unsigned long long target, const void *source, size_t bytes)
{
    ENTER();
    REQUIRE(is_current(), CUDA_CONTEXT);
    void *data = bytes_at(target, bytes);
    REQUIRE(data, CUDA_VALUE);
    memcpy(data, source, bytes);
    return 0;
}

EXPORT int cuMemcpyDtoH_v2(void *target, unsigned long long source, size_t bytes)
{
    ENTER();
    REQUIRE(is_current(), CUDA_CONTEXT);
    const void *data = bytes_at(source, bytes);
    REQUIRE(data, CUDA_VALUE);
    memcpy(target, data, bytes);
    return 0;
}

EXPORT int cuGetErrorString(int error, const char **text)
{
    *text = NULL;
    ENTER();
    *text = error == CUDA_MEMORY ? "out of memory" : "some CUDA error";
    return 0;
}

// cuBLAS: column-major, scalars by address, of the host unless the handle is told otherwise.

enum { CUBLAS_UNINITIALIZED = 1, CUBLAS_VALUE = 7, OP_N = 0, OP_T = 1 };

EXPORT int cublasCreate_v2(void **result)
{
    ENTER();
    REQUIRE(is_current(), CUBLAS_UNINITIALIZED);
    *result = &handle;
    left.handles++;
    return 0;
}

EXPORT int cublasDestroy_v2(void *which)
{
    ENTER();
    REQUIRE(which == &handle && left.handles > 0 && is_current(), CUBLAS_UNINITIALIZED);
    left.handles--;
    return 0;
}

EXPORT int cublasSgemm_v2(void *which, int trans_a, int trans_b, int m, int n, int k,
                          const float *alpha, const void *a, int lda, const void *b, int ldb,
                          const float *beta, void *c, int ldc)
{
    ENTER();
    REQUIRE(which == &handle && left.handles > 0 && is_current(), CUBLAS_UNINITIALIZED);
    REQUIRE(m > 0 && n > 0 && k > 0 && lda > 0 && ldb > 0 && ldc >= m, CUBLAS_VALUE);
    REQUIRE((trans_a == OP_N || trans_a == OP_T) && (trans_b == OP_N || trans_b == OP_T),
            CUBLAS_VALUE);
    REQUIRE(!bytes_at((uintptr_t)alpha, 1) && !bytes_at((uintptr_t)beta, 1), CUBLAS_VALUE);
    size_t rows = (size_t)m, columns = (size_t)n, inner = (size_t)k;
    struct columns left_side = matrix_at((uintptr_t)a, trans_a == OP_T, rows, inner, (size_t)lda);
    struct columns right_side =
        matrix_at((uintptr_t)b, trans_b == OP_T, inner, columns, (size_t)ldb);
    float *target = bytes_at((uintptr_t)c, sizeof(float) * ((size_t)ldc * (columns - 1) + rows));
    REQUIRE(left_side.data, CUBLAS_VALUE);
    REQUIRE(right_side.data, CUBLAS_VALUE);
    REQUIRE(target, CUBLAS_VALUE);
    multiply(&left_side, &right_side, *alpha, *beta, false, target, (size_t)ldc);
    return 0;
}

// The matrix is m x n as it is stored.
EXPORT int cublasSgemv_v2(void *which, int trans, int m, int n, const float *alpha, const void *a,
                          int lda, const void *x, int incx, const float *beta, void *y, int incy)
{
    ENTER();
    REQUIRE(which == &handle && left.handles > 0 && is_current(), CUBLAS_UNINITIALIZED);
    REQUIRE(m > 0 && n > 0 && lda >= m && (trans == OP_N || trans == OP_T), CUBLAS_VALUE);
    REQUIRE(incx == 1 && incy == 1, CUBLAS_VALUE); // all that is known here
    REQUIRE(!bytes_at((uintptr_t)alpha, 1) && !bytes_at((uintptr_t)beta, 1), CUBLAS_VALUE);
    size_t rows = (size_t)(trans == OP_N ? m : n), inner = (size_t)(trans == OP_N ? n : m);
    struct columns matrix = matrix_at((uintptr_t)a, trans == OP_T, rows, inner, (size_t)lda);
    struct columns vector = matrix_at((uintptr_t)x, false, inner, 1, inner);
    float *target = bytes_at((uintptr_t)y, sizeof(float) * rows);
    REQUIRE(matrix.data, CUBLAS_VALUE);
    REQUIRE(vector.data, CUBLAS_VALUE);
    REQUIRE(target, CUBLAS_VALUE);
    multiply(&matrix, &vector, *alpha, *beta, false, target, rows);
    return 0;
}

EXPORT const char *cublasGetStatusString(int status)
{
    return status == 99 ? NULL : "some cuBLAS error";
}

// OpenCL: a platform without devices, one with a processor and one with two GPUs.

enum {
    CL_NO_DEVICE = -1,
    CL_MEMORY = -4,
    CL_VALUE = -30,
    CL_CONTEXT = -34,
    CL_QUEUE = -36,
    CL_BUFFER = -38,
    CL_SIZE = -61
};

static int platforms[3];

EXPORT int clGetPlatformIDs(uint32_t room, void **result, uint32_t *count)
{
    ENTER();
    *count = 3;
    for (uint32_t i = 0; i < 3 && i < room; i++)
        result[i] = &platforms[i];
    return 0;
}

EXPORT int clGetDeviceIDs(void *platform, uint64_t types, uint32_t room, void **result,
                          uint32_t *count)
{
    ENTER();
    REQUIRE(types == 0xFFFFFFFF && room >= 2, CL_VALUE);
    int available = (int)setting("SKIM_FAKE_DEVICES", DEVICES);
    *count = 0;
    for (int i = 0; i < available; i++)
        if (platform == &platforms[i == 0 ? 1 : 2])
            result[(*count)++] = &devices[i];
    return *count ? 0 : CL_NO_DEVICE;
}

EXPORT int clGetDeviceInfo(void *which, uint32_t what, size_t size, void *value, size_t *size_of)
{
    ENTER();
    int number = (int)((int *)which - devices);
    REQUIRE(number >= 0 && number < DEVICES, CL_VALUE);
    char name[200]; // longer than what most have room for
    int length = snprintf(name, sizeof name, "Fake OpenCL %d%150s", number, "");
    uint64_t type = number == 0 ? 1 << 1 : 1 << 2;
    uint64_t memory = setting("SKIM_FAKE_MEMORY", 1 << 30);
    uint64_t piece = setting("SKIM_FAKE_PIECE", 1 << 30);
    const struct {
        uint32_t what;
        const void *value;
        size_t size;
    } answers[] = {{0x1000, &type, sizeof type},
                   {0x1010, &piece, sizeof piece},
                   {0x101F, &memory, sizeof memory},
                   {0x102B, name, (size_t)length + 1}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (answers[i].what != what)
            continue;
        REQUIRE(!value || size >= answers[i].size, CL_VALUE);
        if (value)
            memcpy(value, answers[i].value, answers[i].size);
        if (size_of)
            *size_of = answers[i].size;
        return 0;
    }
    return misused(CL_VALUE, __func__, "asked for what it does not know");
}

EXPORT void *clCreateContext(const intptr_t *properties, uint32_t count, void *const *of,
                             void (*notify)(const char *, const void *, size_t, void *),
                             void *argument, int *error)
{
    (void)argument;
    *error = enter(__func__);
    if (!*error && (properties || count != 1 || notify))
        *error = misused(CL_VALUE, __func__, "arguments");
    if (*error)
        return NULL;
    device = (int)((int *)of[0] - devices);
    left.contexts++;
    return of[0];
}

EXPORT int clReleaseContext(void *context)
{
    ENTER();
    REQUIRE(left.contexts > 0 && context == &devices[device], CL_CONTEXT);
    left.contexts--;
    return 0;
}

EXPORT void *clCreateCommandQueue(void *context, void *of, uint64_t properties, int *error)
{
    *error = enter(__func__);
    if (!*error &&
        (left.contexts != 1 || context != &devices[device] || of != context || properties != 0))
        *error = misused(CL_VALUE, __func__, "arguments");
    if (*error)
        return NULL;
    left.queues++;
    return &queue;
}

EXPORT int clReleaseCommandQueue(void *which)
{
    ENTER();
    REQUIRE(which == &queue && left.queues > 0, CL_QUEUE);
    left.queues--;
    return 0;
}

EXPORT void *clCreateBuffer(void *context, uint64_t flags, size_t bytes, void *host, int *error)
{
    *error = enter(__func__);
    if (!*error &&
        (left.contexts != 1 || context != &devices[device] || flags != 1 || host || !bytes))
        *error = misused(CL_VALUE, __func__, "arguments");
    uint64_t memory = *error ? 0 : allocate(bytes);
    if (!*error && !memory)
        *error = CL_MEMORY;
    return (void *)(uintptr_t)memory;
}

EXPORT int clReleaseMemObject(void *buffer)
{
    ENTER();
    REQUIRE(release((uintptr_t)buffer), CL_BUFFER);
    return 0;
}

EXPORT int clEnqueueWriteBuffer(void *which, void *buffer, uint32_t blocking, size_t offset,
                                size_t bytes, const void *data, uint32_t waits,
                                void *const *wait_for, void **event)
{
    ENTER();
    REQUIRE(which == &queue && left.queues > 0, CL_QUEUE);
    REQUIRE(blocking == 1 && !waits && !wait_for && !event && bytes, CL_VALUE);
    void *target = bytes_at((uintptr_t)buffer + offset, bytes);
    REQUIRE(target, CL_VALUE);
    memcpy(target, data, bytes);
    return 0;
}

EXPORT int clEnqueueReadBuffer(void *which, void *buffer, uint32_t blocking, size_t offset,
                               size_t bytes, void *data, uint32_t waits, void *const *wait_for,
                               void **event)
{
    ENTER();
    REQUIRE(which == &queue && left.queues > 0, CL_QUEUE);
    REQUIRE(blocking == 1 && !waits && !wait_for && !event && bytes, CL_VALUE);
    const void *source = bytes_at((uintptr_t)buffer + offset, bytes);
    REQUIRE(source, CL_VALUE);
    memcpy(data, source, bytes);
    return 0;
}

EXPORT int clEnqueueFillBuffer(void *which, void *buffer, const void *pattern, size_t pattern_bytes,
                               size_t offset, size_t bytes, uint32_t waits, void *const *wait_for,
                               void **event)
{
    ENTER();
    REQUIRE(which == &queue && left.queues > 0, CL_QUEUE);
    REQUIRE(!waits && !wait_for && !event && pattern_bytes == 4 && bytes && bytes % 4 == 0,
            CL_VALUE);
    char *target = bytes_at((uintptr_t)buffer + offset, bytes);
    REQUIRE(target, CL_VALUE);
    for (size_t i = 0; i < bytes; i += pattern_bytes)
        memcpy(target + i, pattern, pattern_bytes);
    return 0;
}

EXPORT int clFinish(void *which)
{
    ENTER();
    REQUIRE(which == &queue && left.queues > 0, CL_QUEUE);
    return 0;
}

// CLBlast, row-major: the transpose of a product is the product of the transposes, the other way
// round, and a row-major matrix is the transpose of a column-major one.

enum { ROW_MAJOR = 101, BLAST_N = 111, BLAST_T = 112, BLAST_DIMENSION = -1017 };

EXPORT int CLBlastSgemm(int layout, int trans_a, int trans_b, size_t m, size_t n, size_t k,
                        float alpha, void *a, size_t a_offset, size_t lda, void *b, size_t b_offset,
                        size_t ldb, float beta, void *c, size_t c_offset, size_t ldc, void **which,
                        void **event)
{
    ENTER();
    REQUIRE(*which == &queue && left.queues > 0 && !event, CL_QUEUE);
    REQUIRE(layout == ROW_MAJOR && m && n && k && ldc >= n, BLAST_DIMENSION);
    REQUIRE((trans_a == BLAST_N || trans_a == BLAST_T) &&
                (trans_b == BLAST_N || trans_b == BLAST_T),
            CL_VALUE);
    struct columns left_side =
        matrix_at((uintptr_t)b + 4 * b_offset, trans_b == BLAST_T, n, k, ldb);
    struct columns right_side =
        matrix_at((uintptr_t)a + 4 * a_offset, trans_a == BLAST_T, k, m, lda);
    float *target = bytes_at((uintptr_t)c + 4 * c_offset, sizeof(float) * (ldc * (m - 1) + n));
    REQUIRE(left_side.data, BLAST_DIMENSION);
    REQUIRE(right_side.data, BLAST_DIMENSION);
    REQUIRE(target, BLAST_DIMENSION);
    multiply(&left_side, &right_side, alpha, beta, false, target, ldc);
    return 0;
}

// Reads y even when beta is 0, as CLBlast 1.5.3 does. The matrix is m x n as it is stored.
EXPORT int CLBlastSgemv(int layout, int trans, size_t m, size_t n, float alpha, void *a,
                        size_t a_offset, size_t lda, void *x, size_t x_offset, size_t incx,
                        float beta, void *y, size_t y_offset, size_t incy, void **which,
                        void **event)
{
    ENTER();
    REQUIRE(*which == &queue && left.queues > 0 && !event, CL_QUEUE);
    REQUIRE(layout == ROW_MAJOR && m && n && incx == 1 && incy == 1, BLAST_DIMENSION);
    REQUIRE(trans == BLAST_N || trans == BLAST_T, CL_VALUE);
    size_t rows = trans == BLAST_N ? m : n, inner = trans == BLAST_N ? n : m;
    struct columns matrix =
        matrix_at((uintptr_t)a + 4 * a_offset, trans == BLAST_N, rows, inner, lda);
    struct columns vector = matrix_at((uintptr_t)x + 4 * x_offset, false, inner, 1, inner);
    float *target = bytes_at((uintptr_t)y + 4 * y_offset, sizeof(float) * rows);
    REQUIRE(matrix.data, BLAST_DIMENSION);
    REQUIRE(vector.data, BLAST_DIMENSION);
    REQUIRE(target, BLAST_DIMENSION);
    multiply(&matrix, &vector, alpha, beta, true, target, rows);
    return 0;
}

EXPORT int CLBlastClearCache(void)
{
    ENTER();
    return 0;
}

#endif
