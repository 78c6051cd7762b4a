// Mutexes, condition variables and threads: POSIX threads under the library's names.
#ifndef SKIM_THREAD_H
#define SKIM_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef pthread_mutex_t skim_mutex;
typedef pthread_cond_t skim_condition;
typedef pthread_t skim_thread;

static inline void skim_mutex_init(skim_mutex *mutex)
{
    pthread_mutex_init(mutex, NULL);
}

static inline void skim_mutex_deinit(skim_mutex *mutex)
{
    pthread_mutex_destroy(mutex);
}

static inline void skim_mutex_lock(skim_mutex *mutex)
{
    pthread_mutex_lock(mutex);
}

static inline void skim_mutex_unlock(skim_mutex *mutex)
{
    pthread_mutex_unlock(mutex);
}

// Waits use the monotonic clock, so a changed wall clock neither shortens nor stretches them.
static inline void skim_condition_init(skim_condition *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static inline void skim_condition_deinit(skim_condition *condition)
{
    pthread_cond_destroy(condition);
}

static inline void skim_condition_wait(skim_condition *condition, skim_mutex *mutex)
{
    pthread_cond_wait(condition, mutex);
}

// Waits until skim_now_ns reaches deadline_ns at the latest; false when it was the time that ended
// it.
static inline bool skim_condition_wait_until(skim_condition *condition, skim_mutex *mutex,
                                             uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(condition, mutex, &deadline) == 0;
}

static inline void skim_condition_broadcast(skim_condition *condition)
{
    pthread_cond_broadcast(condition);
}

static inline uint64_t skim_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// The thread gets none of the process's signals: their handlers are the host's.
static inline bool skim_thread_create(skim_thread *thread, void *(*main)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result == 0;
}

static inline void skim_thread_join(skim_thread thread)
{
    pthread_join(thread, NULL);
}

#endif
