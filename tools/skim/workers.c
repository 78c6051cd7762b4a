#include "workers.h"

#include "report.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct workers {
    uint32_t count, started;
    double watch_s;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    // Written with the lock held.
    atomic_uint generation; // grows with every run
    atomic_bool stop;
    void (*work)(void *argument, uint32_t index);
    void *argument;
    atomic_uint ready, done, index;
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static bool has_news(struct workers *workers, uint32_t seen)
{
    return atomic_load(&workers->generation) != seen || atomic_load(&workers->stop);
}

static void watch(struct workers *workers, uint32_t seen)
{
    for (double end = now() + workers->watch_s; now() < end;)
        for (int i = 0; i < 32; i++) {
            if (has_news(workers, seen))
                return;
            relax();
        }
}

// Waits until the counter reaches the target. Where there are fewer free processors than threads,
// the one that is waited for needs this one's.
static void wait_for(atomic_uint *counter, uint32_t target)
{
    for (uint32_t spins = 0; atomic_load_explicit(counter, memory_order_acquire) < target; spins++)
        if (spins >= 2000)
            sched_yield();
        else
            relax();
}

static void work_once(struct workers *workers, uint32_t index)
{
    // Sleeping threads take long to wake: the clock starts when all are here.
    atomic_fetch_add(&workers->ready, 1);
    wait_for(&workers->ready, workers->count);
    workers->work(workers->argument, index);
    atomic_fetch_add(&workers->done, 1);
}

static void *run_worker(void *argument)
{
    struct workers *workers = argument;
    uint32_t index = 1 + atomic_fetch_add(&workers->index, 1);
    uint32_t seen = 0;
    for (;;) {
        watch(workers, seen);
        pthread_mutex_lock(&workers->lock);
        while (!has_news(workers, seen))
            pthread_cond_wait(&workers->wake, &workers->lock);
        pthread_mutex_unlock(&workers->lock);
        if (atomic_load(&workers->stop))
            return NULL;
        seen = atomic_load(&workers->generation);
        work_once(workers, index);
    }
}

struct workers *workers_create(uint32_t count, double watch_s)
{
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers)
        return NULL;
    workers->count = count;
    workers->watch_s = watch_s;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    workers->threads = calloc(count, sizeof *workers->threads);
    while (workers->threads && workers->started + 1 < count) {
        if (pthread_create(&workers->threads[workers->started], NULL, run_worker, workers) != 0)
            break;
        workers->started++;
    }
    if (workers->threads && workers->started + 1 == count)
        return workers;
    workers_destroy(workers);
    return NULL;
}

void workers_destroy(struct workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (uint32_t i = 0; i < workers->started; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
    free(workers->threads);
    free(workers);
}

uint32_t workers_count(const struct workers *workers)
{
    return workers->count;
}

double workers_run(struct workers *workers, void (*work)(void *argument, uint32_t index),
                   void *argument)
{
    atomic_store(&workers->ready, 0);
    atomic_store(&workers->done, 0);
    pthread_mutex_lock(&workers->lock);
    workers->work = work;
    workers->argument = argument;
    workers->generation++;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    wait_for(&workers->ready, workers->count - 1);
    double start = now();
    work_once(workers, 0);
    wait_for(&workers->done, workers->count);
    return now() - start;
}
