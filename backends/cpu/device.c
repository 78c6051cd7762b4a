#include "backends/cpu/cpu.h"
#include "backends/cpu/features.h"
#include "backends/cpu/memory.h"
#include "backends/cpu/queue.h"

#include <stdio.h>
#include <string.h>

enum { THREADS_MAX = 1024, MARKS = 64, BUFFER_BITS_MAX = 47 };

// The best level that is there and not disabled. AVX-512 without AVX2 is not a thing to ask for.
static const skim_cpu_kernels *choose_kernels(uint64_t disable)
{
#if defined(__x86_64__)
    uint64_t usable = skim_cpu_features() & ~disable;
    const uint64_t avx512 = SKIM_FEATURE_AVX2 | SKIM_FEATURE_AVX512;
    if ((usable & avx512) == avx512)
        return &skim_cpu_kernels_avx512;
    if (usable & SKIM_FEATURE_AVX2)
        return &skim_cpu_kernels_avx2;
#endif
    (void)disable;
    return &skim_cpu_kernels_scalar;
}

static void fill_info(skim_device_info *info, const skim_cpu_kernels *kernels, uint32_t threads)
{
    size_t size_of = info->size_of;
    memset(info, 0, sizeof *info);
    info->size_of = size_of;
    snprintf(info->selector, sizeof info->selector, "cpu");
    snprintf(info->backend, sizeof info->backend, "cpu");
    skim_cpu_name(info->name, sizeof info->name);
    snprintf(info->driver, sizeof info->driver, "%s, %u thread%s", kernels->name, threads,
             threads == 1 ? "" : "s");
    info->type = SKIM_DEVICE_CPU;
    info->memory_total = skim_cpu_memory_total();
    info->memory_available = skim_cpu_memory_available();
}

static void fill_limits(skim_limits *limits, const skim_cpu_kernels *kernels, uint32_t threads)
{
    const uint32_t types = 1u << SKIM_F32 | 1u << SKIM_F16 | 1u << SKIM_BF16;
    *limits = (skim_limits){
        .size_of = sizeof *limits,
        .features = kernels->features,
        .kv_types = types,
        .io_types = types,
        .head_dim_min = 32,
        .head_dim_max = SKIM_CPU_HEAD_DIM_MAX,
        .head_dim_multiple = 8,
        .page_sizes = 8 + 16 + 32 + 64,
        .heads_max = 1024,
        .rows_max = 65536,
        .pages_max = (uint32_t)1 << 26,
        .slots_max = (uint32_t)1 << 31,
        .buffer_size_max = (uint64_t)1 << BUFFER_BITS_MAX,
        .unified_memory = 1,
        .threads = threads,
        .timestamps = MARKS,
        .bounds_types = 1u << SKIM_BOUNDS_NATIVE | 1u << SKIM_BOUNDS_I8,
    };
}

static uint32_t enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                          char *reason, size_t reason_size)
{
    (void)host;
    if (reason_size > 0)
        reason[0] = '\0';
    if (capacity > 0)
        fill_info(&infos[0], choose_kernels(0), skim_cpu_processors());
    return 1;
}

static skim_status open_device(skim_device *device, uint32_t index,
                               const skim_open_options *options, skim_error *error)
{
    (void)index;
    const skim_cpu_options *own = options->cpu;
    const skim_cpu_pool *pool = own && own->pool.run ? &own->pool : NULL;
    uint32_t threads = own && own->threads > 0 ? own->threads : options->threads;
    if (pool)
        threads = pool->threads;
    else if (threads == 0)
        threads = skim_cpu_processors();
    if (threads == 0 || threads > THREADS_MAX)
        return skim_fail(error, SKIM_INVALID, "threads is %u; the CPU takes 1 to %d", threads,
                         THREADS_MAX);

    skim_cpu_device *cpu = skim_allocate(device->host, sizeof *cpu);
    if (!cpu)
        return skim_fail(error, SKIM_NO_MEMORY, "out of memory for the CPU device");
    cpu->kernels = choose_kernels(options->disable | (own ? own->disable : 0));
    skim_status status = skim_cpu_team_init(&cpu->team, device->host, threads, pool);
    if (status != SKIM_OK) {
        skim_release(device->host, cpu, sizeof *cpu);
        return skim_fail(error, status, "not all threads (%u) could be started; ask for fewer",
                         threads - 1);
    }
    device->impl = cpu;
    fill_info(&device->info, cpu->kernels, threads);
    fill_limits(&device->limits, cpu->kernels, threads);
    return SKIM_OK;
}

static void close_device(skim_device *device)
{
    skim_cpu_device *cpu = device->impl;
    if (!cpu)
        return;
    skim_cpu_team_deinit(&cpu->team, device->host);
    skim_release(device->host, cpu, sizeof *cpu);
    device->impl = NULL;
}

static uint64_t memory_available(const skim_device *device)
{
    (void)device;
    return skim_cpu_memory_available();
}

const skim_backend skim_backend_cpu = {
    .name = "cpu",
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .memory_available = memory_available,
    .buffer_create = skim_cpu_buffer_create,
    .buffer_destroy = skim_cpu_buffer_destroy,
    .queue_create = skim_cpu_queue_create,
    .queue_destroy = skim_cpu_queue_destroy,
    .bounds_size = skim_cpu_bounds_size,
    .scratch_size = skim_cpu_scratch_size,
    .prepare = skim_cpu_queue_prepare,
    .upload = skim_cpu_record_upload,
    .download = skim_cpu_record_download,
    .copy = skim_cpu_record_copy,
    .zero = skim_cpu_record_zero,
    .mark = skim_cpu_record_mark,
    .append = skim_cpu_record_append,
    .estimate = skim_cpu_record_estimate,
    .select = skim_cpu_record_select,
    .attend = skim_cpu_record_attend,
    .submit = skim_cpu_queue_submit,
    .wait = skim_cpu_queue_wait,
    .discard = skim_cpu_queue_discard,
    .mark_time = skim_cpu_queue_mark_time,
};
