#include "backends/cpu/team.h"

#include "runtime/backend.h"

#include <string.h>

// How long an idle worker watches for the next job before it sleeps: longer than the gaps between
// the verbs of a step, shorter than anything that a person or a battery notices.
enum { SPIN_NS = 40000 };

#define GATE_OPEN ((uint64_t)1 << 31)

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t joined_of(uint64_t gate)
{
    return (uint32_t)(gate & (GATE_OPEN - 1));
}

static uint32_t generation_of(uint64_t gate)
{
    return (uint32_t)(gate >> 32);
}

// ---- workers

static bool has_news(skim_cpu_team *team, uint32_t seen)
{
    uint64_t gate = atomic_load(&team->gate);
    return (generation_of(gate) != seen && (gate & GATE_OPEN)) || atomic_load(&team->stopping);
}

static bool spin_for_news(skim_cpu_team *team, uint32_t seen)
{
    uint64_t end = skim_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 16; i++) {
            if (has_news(team, seen))
                return true;
            relax();
        }
    } while (skim_now_ns() < end);
    return false;
}

static void sleep_for_news(skim_cpu_team *team, uint32_t seen)
{
    skim_mutex_lock(&team->mutex);
    // The caller opens the gate before it looks for sleepers, and a sleeper counts itself before it
    // looks at the gate: one of the two sees the other.
    atomic_fetch_add(&team->sleepers, 1);
    while (!has_news(team, seen))
        skim_condition_wait(&team->wake, &team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
    skim_mutex_unlock(&team->mutex);
}

static void finish(skim_cpu_team *team)
{
    atomic_fetch_add(&team->finished, 1);
    if (atomic_load(&team->waiting)) {
        skim_mutex_lock(&team->mutex);
        skim_condition_broadcast(&team->idle);
        skim_mutex_unlock(&team->mutex);
    }
}

static void *worker_main(void *argument)
{
    skim_cpu_team *team = argument;
    uint32_t seen = 0;
    for (;;) {
        if (!spin_for_news(team, seen))
            sleep_for_news(team, seen);
        if (atomic_load(&team->stopping))
            return NULL;
        uint64_t gate = atomic_load(&team->gate);
        while ((gate & GATE_OPEN) && generation_of(gate) != seen) {
            if (!atomic_compare_exchange_weak(&team->gate, &gate, gate + 1))
                continue;
            seen = generation_of(gate);
            team->job(team->argument, joined_of(gate) + 1);
            finish(team);
        }
    }
}

// ---- jobs

static void wait_for_workers(skim_cpu_team *team, uint32_t joined)
{
    uint64_t end = skim_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 16; i++) {
            if (atomic_load(&team->finished) == joined)
                return;
            relax();
        }
    } while (skim_now_ns() < end);

    skim_mutex_lock(&team->mutex);
    atomic_store(&team->waiting, true);
    while (atomic_load(&team->finished) != joined)
        skim_condition_wait(&team->idle, &team->mutex);
    atomic_store(&team->waiting, false);
    skim_mutex_unlock(&team->mutex);
}

static void run_own(skim_cpu_team *team, void (*job)(void *, uint32_t), void *argument)
{
    team->job = job;
    team->argument = argument;
    atomic_store(&team->finished, 0);
    uint64_t generation = (uint64_t)(generation_of(atomic_load(&team->gate)) + 1) << 32;
    atomic_store(&team->gate, generation | GATE_OPEN);
    if (atomic_load(&team->sleepers) > 0) {
        skim_mutex_lock(&team->mutex);
        skim_condition_broadcast(&team->wake);
        skim_mutex_unlock(&team->mutex);
    }
    job(argument, 0);
    // Whoever has not joined by now has nothing left to do, and is not waited for.
    uint64_t gate = atomic_fetch_and(&team->gate, ~GATE_OPEN);
    if (joined_of(gate) > 0)
        wait_for_workers(team, joined_of(gate));
}

typedef struct items_job {
    _Atomic uint64_t next;
    uint64_t count;
    skim_cpu_task task;
    void *argument;
} items_job;

static void run_items(void *argument, uint32_t worker)
{
    items_job *job = argument;
    for (;;) {
        uint64_t item = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
        if (item >= job->count)
            return;
        job->task(job->argument, item, worker);
    }
}

void skim_cpu_team_run(skim_cpu_team *team, uint64_t items, skim_cpu_task task, void *argument)
{
    if (items <= 1 || team->threads == 1) {
        for (uint64_t i = 0; i < items; i++)
            task(argument, i, 0);
        return;
    }
    items_job job = {.count = items, .task = task, .argument = argument};
    skim_mutex_lock(&team->running);
    if (team->pool.run)
        team->pool.run(team->pool.user, team->threads, run_items, &job);
    else
        run_own(team, run_items, &job);
    skim_mutex_unlock(&team->running);
}

// ---- life

static void stop_workers(skim_cpu_team *team)
{
    skim_mutex_lock(&team->mutex);
    atomic_store(&team->stopping, true);
    skim_condition_broadcast(&team->wake);
    skim_mutex_unlock(&team->mutex);
    for (uint32_t i = 0; i < team->started; i++)
        skim_thread_join(team->workers[i]);
}

skim_status skim_cpu_team_init(skim_cpu_team *team, const struct skim_host *host, uint32_t threads,
                               const skim_cpu_pool *pool)
{
    memset(team, 0, sizeof *team);
    team->threads = threads;
    if (pool)
        team->pool = *pool;
    skim_mutex_init(&team->running);
    skim_mutex_init(&team->mutex);
    skim_condition_init(&team->wake);
    skim_condition_init(&team->idle);
    if (threads == 1 || team->pool.run)
        return SKIM_OK;

    team->workers = skim_allocate(host, (threads - 1) * sizeof *team->workers);
    skim_status status = team->workers ? SKIM_OK : SKIM_NO_MEMORY;
    for (uint32_t i = 0; i < threads - 1 && status == SKIM_OK; i++) {
        if (skim_thread_create(&team->workers[i], worker_main, team))
            team->started++;
        else
            status = SKIM_FAILED;
    }
    if (status != SKIM_OK)
        skim_cpu_team_deinit(team, host);
    return status;
}

void skim_cpu_team_deinit(skim_cpu_team *team, const struct skim_host *host)
{
    stop_workers(team);
    if (team->workers)
        skim_release(host, team->workers, (team->threads - 1) * sizeof *team->workers);
    skim_condition_deinit(&team->idle);
    skim_condition_deinit(&team->wake);
    skim_mutex_deinit(&team->mutex);
    skim_mutex_deinit(&team->running);
}
