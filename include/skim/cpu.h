// The CPU backend and the host's own threads.
#ifndef SKIM_CPU_H
#define SKIM_CPU_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// The host's thread pool. run must call task(argument, i) for every i < count, in any order and on
// any threads, one after another or at once, and return when all have returned. It is called from
// the thread that waits for a point or from the queue's own thread, never from inside a task, and
// only when there is more than one item of work and threads is more than 1.
typedef struct skim_cpu_pool {
    void (*run)(void *user, uint32_t count, void (*task)(void *argument, uint32_t index),
                void *argument);
    void *user;
    uint32_t threads; // how many tasks can run at once, >= 1: the count that run is called with
} skim_cpu_pool;

typedef struct skim_cpu_options {
    size_t size_of;
    uint64_t disable;   // fast paths not to use, as in skim_device_options
    uint32_t threads;   // without a pool: threads that compute, 0: one per processor
    skim_cpu_pool pool; // run NULL: threads of the library's own
} skim_cpu_options;

// Opens the CPU. Everything as skim_device_open(runtime, "cpu", ...). Errors: SKIM_INVALID,
// SKIM_NO_MEMORY, SKIM_FAILED (a thread could not be started).
SKIM_API skim_status skim_cpu_device_open(skim_runtime *runtime, const skim_cpu_options *options,
                                          skim_device **device);

#ifdef __cplusplus
}
#endif
#endif
