// A host whose callbacks watch what they are given, and that can fail, be slow and call back.
#ifndef CALLBACKS_HOST_H
#define CALLBACKS_HOST_H

#include "check.h"

#include <pthread.h>

enum { HOST_MESSAGES = 256, HOST_VALUES = 32, HOST_THREADS = 64 };

typedef struct host_block {
    struct host_block *next;
    void *base;
    char *memory;
    size_t size;
    size_t alignment;
} host_block;

typedef struct host_value {
    char key[128];
    char *data;
    size_t size;
} host_value;

// What the store does wrong, from now on.
typedef enum host_lie {
    HOST_TRUTH,
    HOST_KEEPS_NOTHING,
    HOST_SHORT,      // a byte less than was saved
    HOST_LONG,       // a byte more
    HOST_FLIPPED,    // one bit is another
    HOST_RANDOM,     // as many bytes, all wrong
    HOST_HUGE,       // says SIZE_MAX
    HOST_ONE_BYTE,   // says 1
    HOST_GROWS,      // says more the second time, and so writes nothing
    HOST_SHRINKS,    // says less the second time
    HOST_VANISHES,   // is gone the second time
    HOST_SAYS_WROTE, // says all is there, and wrote nothing
    HOST_SWAPPED,    // the value of another key
    HOST_LIE_COUNT
} host_lie;

typedef struct host {
    pthread_mutex_t mutex;
    unsigned delay_us;             // every callback takes so long
    void (*call_back)(void *user); // every callback calls it, without the mutex
    void *call_back_user;
    // memory
    host_block *blocks;  // alive
    uint64_t allocated;  // how often it was asked
    uint64_t fail_from;  // from this request on, counted from 1; 0: never
    uint64_t fail_count; // so many fail
    uint64_t failed;     // how many did
    bool watch;          // look at what is released
    bool watched;        // it saw something: neither zero nor as it was allocated
    pthread_t threads[HOST_THREADS];
    uint32_t thread_count;
    // log
    char messages[HOST_MESSAGES][256];
    skim_log_level levels[HOST_MESSAGES];
    uint32_t message_count;
    // store
    host_value values[HOST_VALUES];
    uint32_t value_count;
    uint32_t loads, saves;
    host_lie lie;
} host;

void host_init(host *h);

// Everything must have been given back.
void host_deinit(host *h);

uint32_t host_blocks_alive(host *h);

// size_of and all three callbacks.
skim_runtime_options host_options(host *h, skim_log_level level);

// How many messages contain the text.
uint32_t host_said(const host *h, const char *text);

// For objects that are told: the sentence must be there.
#define CHECK_SENTENCE(length) CHECK((length) > 0)

#endif
