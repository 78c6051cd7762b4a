// The CPU with the host's own thread pool: one that runs its tasks backwards on the calling thread.
// Results must not depend on who runs a task or in which order.
#include "rig.h"
#include "skim/cpu.h"

#include <string.h>

typedef struct host_pool {
    uint32_t calls, tasks;
} host_pool;

static void run_backwards(void *user, uint32_t count, void (*task)(void *argument, uint32_t index),
                          void *argument)
{
    host_pool *pool = user;
    pool->calls++;
    for (uint32_t i = count; i-- > 0;) {
        pool->tasks++;
        task(argument, i);
    }
}

static bool is_cpu(const context *ctx)
{
    skim_device_info info = {.size_of = sizeof info};
    return skim_device_get_info(ctx->device, &info) == SKIM_OK && strcmp(info.backend, "cpu") == 0;
}

static void run_in_pool(context *ctx, const params *p)
{
    if (!is_cpu(ctx)) {
        skip(ctx, "only the CPU takes the host's thread pool");
        return;
    }
    host_pool pool = {0, 0};
    skim_cpu_options options = {
        .size_of = sizeof options,
        .disable = ctx->options->disable,
        .pool = {.run = run_backwards, .user = &pool, .threads = 2 + p->variant},
    };
    skim_device *own = ctx->device;
    skim_device *device = NULL;
    skim_status status = skim_cpu_device_open(ctx->runtime, &options, &device);
    if (!check(ctx, status == SKIM_OK, "skim_cpu_device_open: %s", skim_status_name(status))) {
        return;
    }
    ctx->device = device;
    rig r;
    bool done = renew_queue(ctx) && rig_init(ctx, &r, p) && rig_run(&r);
    release_objects(ctx);
    ctx->device = own;
    skim_device_close(device);
    check(ctx, !done || pool.tasks > 0, "the host's pool was never called");
}

void add_pool_cases(case_table *table)
{
    for (uint32_t n = 0; n < 12; n++) {
        params p = default_params();
        p.kv = PICK(all_types, n);
        p.dim = PICK(all_dims, n);
        p.group = PICK(all_groups, n);
        p.kv_heads = 1 + n % 3;
        p.length = n % 3 == 2 ? 1100 + n : 200 + 17 * n;
        p.budget = n % 3 == 2 ? 640 : 64;
        p.select = (skim_select_mode)(n % 3);
        p.batch = n % 2 ? BATCH_MIXED : BATCH_ONE;
        p.place = (placement)(n % 4);
        p.variant = n % 5;
        add_case(table, "host-pool", n < 4, run_in_pool, &p);
    }
}
