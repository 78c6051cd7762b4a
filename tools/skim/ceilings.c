#include "ceilings.h"

#include <stdatomic.h>
#include <stdio.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET(name) __attribute__((target(name)))
#endif

enum { LINE = 64, AHEAD = 4096, FMA_ROUNDS = 1 << 16, FMA_PIECES = 64, CHAINS = 12 };
// Threads take pieces in turn, so that one that the system holds up does not hold up the rest.
enum { READ_PIECE = 1 << 20, CHUNKS_PIECE = 16 };

// One statement for each chain of multiply-adds: arrays would be kept in memory.
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

// Reads size bytes (a multiple of 64) and keeps the compiler from leaving it out. next is what will
// be read afterwards, to be fetched meanwhile, or NULL.
typedef uint64_t read_function(const void *data, size_t size, const void *next);
// Runs CHAINS independent chains of FMA_ROUNDS multiply-adds. Returns the lanes of one operation.
typedef unsigned fma_function(float *sink);

static uint64_t read_plain(const void *data, size_t size, const void *next)
{
    (void)next;
    const uint64_t *words = data;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < size / 8; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] |= words[i + j];
    uint64_t sum = 0;
    for (size_t j = 0; j < 8; j++)
        sum |= sums[j];
    return sum;
}

static unsigned fma_plain(float *sink)
{
    float base = *sink;
#define START(c) float chain##c = base + c;
#define STEP(c) chain##c = chain##c * 0.5f + 1.0f;
#define END(c) *sink += chain##c;
    EACH_CHAIN(START)
    for (int i = 0; i < FMA_ROUNDS; i++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef START
#undef STEP
#undef END
    return 1;
}

#if defined(__x86_64__)
TARGET("avx2") static uint64_t read_avx2(const void *data, size_t size, const void *next)
{
    const char *bytes = data;
    __m256i a = _mm256_setzero_si256();
    __m256i b = a;
    for (size_t i = 0; i < size; i += LINE) {
        if (next)
            _mm_prefetch((const char *)next + i, _MM_HINT_T1);
        a = _mm256_or_si256(a, _mm256_loadu_si256((const __m256i *)(bytes + i)));
        b = _mm256_or_si256(b, _mm256_loadu_si256((const __m256i *)(bytes + i + 32)));
    }
    return (uint64_t)_mm256_extract_epi64(_mm256_or_si256(a, b), 0);
}

TARGET("avx2,fma") static unsigned fma_avx2(float *sink)
{
    const __m256 half = _mm256_set1_ps(0.5f);
    const __m256 one = _mm256_set1_ps(1.0f);
    float base = *sink;
#define START(c) __m256 chain##c = _mm256_set1_ps(base + c);
#define STEP(c) chain##c = _mm256_fmadd_ps(chain##c, half, one);
#define END(c) *sink += _mm256_cvtss_f32(chain##c);
    EACH_CHAIN(START)
    for (int i = 0; i < FMA_ROUNDS; i++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef START
#undef STEP
#undef END
    return 8;
}

TARGET("avx512f") static uint64_t read_avx512(const void *data, size_t size, const void *next)
{
    const char *bytes = data;
    __m512i a = _mm512_setzero_si512();
    for (size_t i = 0; i < size; i += LINE) {
        if (next)
            _mm_prefetch((const char *)next + i, _MM_HINT_T1);
        a = _mm512_or_si512(a, _mm512_loadu_si512(bytes + i));
    }
    return (uint64_t)_mm512_reduce_or_epi64(a);
}

TARGET("avx512f") static unsigned fma_avx512(float *sink)
{
    const __m512 half = _mm512_set1_ps(0.5f);
    const __m512 one = _mm512_set1_ps(1.0f);
    float base = *sink;
#define START(c) __m512 chain##c = _mm512_set1_ps(base + c);
#define STEP(c) chain##c = _mm512_fmadd_ps(chain##c, half, one);
#define END(c) *sink += _mm512_cvtss_f32(chain##c);
    EACH_CHAIN(START)
    for (int i = 0; i < FMA_ROUNDS; i++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef START
#undef STEP
#undef END
    return 16;
}
#endif

struct kernels {
    read_function *read;
    fma_function *fma;
};

static struct kernels choose(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return (struct kernels){read_avx512, fma_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (struct kernels){read_avx2, fma_avx2};
#endif
    return (struct kernels){read_plain, fma_plain};
}

struct read_job {
    struct kernels kernels;
    const char *data;
    const uint64_t *offsets; // NULL: one stretch of size bytes
    size_t count, size;
    atomic_size_t next;        // piece to take
    atomic_uint_fast64_t sink; // what was read ends here, so that it is not left out
};

static void read_stretch(void *argument, uint32_t index)
{
    struct read_job *job = argument;
    uint64_t sink = index;
    for (size_t first; (first = atomic_fetch_add(&job->next, 1) * READ_PIECE) < job->size;) {
        size_t rest = job->size - first;
        size_t size = rest < READ_PIECE ? rest : READ_PIECE;
        size_t tail = size > AHEAD ? AHEAD : size; // has nothing to fetch ahead of it
        const char *data = job->data + first;
        sink |= job->kernels.read(data, size - tail, data + AHEAD);
        sink |= job->kernels.read(data + size - tail, tail, NULL);
    }
    atomic_store(&job->sink, sink);
}

static void read_chunks(void *argument, uint32_t index)
{
    struct read_job *job = argument;
    uint64_t sink = index;
    for (size_t first; (first = atomic_fetch_add(&job->next, 1) * CHUNKS_PIECE) < job->count;) {
        size_t end = first + CHUNKS_PIECE < job->count ? first + CHUNKS_PIECE : job->count;
        for (size_t i = first; i < end; i++) {
            const char *next = i + 1 < job->count ? job->data + job->offsets[i + 1] : NULL;
            sink |= job->kernels.read(job->data + job->offsets[i], job->size, next);
        }
    }
    atomic_store(&job->sink, sink);
}

double ceiling_read(struct workers *workers, const void *data, size_t size)
{
    struct read_job job = {.kernels = choose(), .data = data, .size = size / LINE * LINE};
    return workers_run(workers, read_stretch, &job);
}

double ceiling_read_chunks(struct workers *workers, const void *data, const uint64_t *offsets,
                           size_t count, size_t size)
{
    struct read_job job = {
        .kernels = choose(), .data = data, .offsets = offsets, .count = count, .size = size};
    return workers_run(workers, read_chunks, &job);
}

struct fma_job {
    struct kernels kernels;
    uint32_t pieces;
    atomic_uint next, lanes, sink;
};

static void run_fma(void *argument, uint32_t index)
{
    struct fma_job *job = argument;
    float sink = (float)index;
    while (atomic_fetch_add(&job->next, 1) < job->pieces)
        atomic_store(&job->lanes, job->kernels.fma(&sink));
    atomic_store(&job->sink, sink > 1);
}

double ceiling_fma(struct workers *workers)
{
    struct fma_job job = {.kernels = choose(), .pieces = FMA_PIECES * workers_count(workers)};
    double seconds = workers_run(workers, run_fma, &job);
    return 2.0 * atomic_load(&job.lanes) * CHAINS * FMA_ROUNDS * job.pieces / seconds;
}

static uint64_t read_cache_size(int index)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    unsigned long long size = 0;
    char unit = 0;
    int read = fscanf(file, "%llu%c", &size, &unit);
    fclose(file);
    return read < 1 ? 0 : (uint64_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
}

uint64_t ceiling_cache_bytes(void)
{
    uint64_t largest = 0;
    for (int index = 0; index < 8; index++) {
        uint64_t size = read_cache_size(index);
        largest = size > largest ? size : largest;
    }
    return largest ? largest : (uint64_t)32 << 20;
}
