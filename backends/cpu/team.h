// The threads that compute: the library's own, or the host's pool.
#ifndef SKIM_CPU_TEAM_H
#define SKIM_CPU_TEAM_H

#include "runtime/memory.h"
#include "runtime/thread.h"
#include "skim/cpu.h"

#include <stdatomic.h>

typedef struct skim_cpu_team {
    uint32_t threads;   // that compute, the caller of run included
    skim_cpu_pool pool; // of the host; run NULL: own workers
    skim_mutex running; // one job at a time: queues share the team

    // The open job. Workers join through gate: generation << 32 | open << 31 | workers that joined.
    _Atomic uint64_t gate;
    atomic_uint finished; // of those that joined
    void (*job)(void *argument, uint32_t worker);
    void *argument;

    skim_mutex mutex; // of the sleepers
    skim_condition wake;
    skim_condition idle;
    atomic_uint sleepers;
    atomic_bool waiting; // the caller sleeps until the last worker has finished
    atomic_bool stopping;
    uint32_t started;
    skim_thread *workers; // threads - 1
} skim_cpu_team;

// Starts threads - 1 workers. SKIM_NO_MEMORY, or SKIM_FAILED if one could not be started; nothing
// is left then.
skim_status skim_cpu_team_init(skim_cpu_team *team, const struct skim_host *host, uint32_t threads,
                               const skim_cpu_pool *pool);
void skim_cpu_team_deinit(skim_cpu_team *team, const struct skim_host *host);

// Calls task for every item < items, each once, on the caller and whoever else of the team is free.
// Which worker (< threads) gets which item is left to chance. Returns when all are done.
typedef void (*skim_cpu_task)(void *argument, uint64_t item, uint32_t worker);
void skim_cpu_team_run(skim_cpu_team *team, uint64_t items, skim_cpu_task task, void *argument);

#endif
