#include "backends/cpu/cpu.h"

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t worker_size(const skim_shape *shape)
{
    uint64_t size = skim_cpu_estimate_worker_size(shape);
    size = larger(size, skim_cpu_select_worker_size(shape));
    size = larger(size, skim_cpu_attend_worker_size(shape));
    return skim_round_up(larger(size, skim_cpu_prefill_worker_size(shape)), 64);
}

// Row starts of any verb, and what append or attend shares.
static uint64_t shared_size(const skim_shape *shape, uint32_t threads)
{
    uint64_t starts = skim_round_up(((uint64_t)shape->max_rows + 1) * sizeof(uint64_t), 64);
    uint64_t shared =
        larger(skim_cpu_append_shared_size(shape), skim_cpu_attend_shared_size(shape, threads));
    return skim_round_up(starts + shared, 64);
}

uint64_t skim_cpu_scratch_size(const skim_device *device, const skim_shape *shape)
{
    uint32_t threads = ((const skim_cpu_device *)device->impl)->team.threads;
    return shared_size(shape, threads) + threads * worker_size(shape);
}

bool skim_cpu_scratch_grow(skim_cpu_scratch *scratch, const skim_device *device,
                           const skim_shape *shape)
{
    skim_cpu_scratch grown = {.threads = ((const skim_cpu_device *)device->impl)->team.threads};
    grown.shared = larger(scratch->shared, shared_size(shape, grown.threads));
    grown.worker = larger(scratch->worker, worker_size(shape));
    if (grown.shared == scratch->shared && grown.worker == scratch->worker)
        return true;
    uint64_t size = grown.shared + grown.threads * grown.worker;
    if (size > SIZE_MAX / 2)
        return false;
    grown.memory = skim_allocate(device->host, (size_t)size);
    if (!grown.memory)
        return false;
    skim_cpu_scratch_deinit(scratch, device);
    *scratch = grown;
    return true;
}

void skim_cpu_scratch_deinit(skim_cpu_scratch *scratch, const skim_device *device)
{
    uint64_t size = scratch->shared + scratch->threads * scratch->worker;
    skim_release(device->host, scratch->memory, (size_t)size);
    *scratch = (skim_cpu_scratch){0};
}

uint64_t skim_cpu_divide_rows(const skim_cpu_context *context, const skim_tensor *rows,
                              uint32_t row_count,
                              uint64_t (*items)(const void *args, const skim_row *row),
                              const void *args, const uint64_t **starts)
{
    skim_cpu_arena arena = skim_cpu_shared_arena(context->scratch);
    uint64_t *filled = skim_cpu_take(&arena, (uint64_t)row_count + 1, sizeof *filled);
    const skim_row *row = skim_cpu_rows(rows);
    uint64_t count = 0;
    for (uint32_t r = 0; r < row_count; r++) {
        filled[r] = count;
        count += items(args, &row[r]);
    }
    filled[row_count] = count;
    *starts = filled;
    return count;
}
