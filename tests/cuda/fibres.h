// Threads of a block as fibres on one thread of the host. A block runs to its end before the next
// one; its warps run one after the other from barrier to barrier, in ascending order and in
// descending order in turn, so that what should not depend on the order does not.
#ifndef SKIM_FIBRES_H
#define SKIM_FIBRES_H

#include <stdint.h>

// What the running thread is told.
struct emulated_thread {
    uint32_t thread, threads;
    uint32_t block[3], grid[3];
    uint64_t block_number; // of all that ever ran, from 1
    void *dynamic_shared;
};
extern emulated_thread emulated;

// Why the threads of a warp meet.
enum emulated_reason {
    EMULATED_RUNS,
    EMULATED_DONE,
    EMULATED_BARRIER,
    EMULATED_SHUFFLE,
    EMULATED_SHUFFLE_XOR,
    EMULATED_SHUFFLE_UP,
    EMULATED_BALLOT,
    EMULATED_MULTIPLY,
};

// Returns when all threads of the block are at a barrier.
void emulated_wait();
// Returns, when all 32 threads of the warp are here for the same reason, what each of them gave. It
// stays until the thread meets the others again.
const uint32_t *emulated_meet(uint32_t value, emulated_reason reason);

struct emulated_grid {
    uint32_t groups[3], threads, dynamic_shared;
    void (*kernel)(const void *argument);
    const void *argument;
};

// Runs all blocks. NULL, or what a GPU would have hung on or worse.
const char *emulated_run(const emulated_grid &grid);

extern float emulated_halves[65536]; // every f16 as f32
uint16_t emulated_half(float x);     // rounded to nearest, ties to even

#endif
