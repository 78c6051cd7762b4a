// Mutexes, condition variables and threads: POSIX threads under the library's names.
#ifndef SKIM_THREAD_H
#define SKIM_THREAD_H

#include <pthread.h>

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

#endif
