#include "tests/cuda/fibres.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

enum { THREADS_MAX = 1024, WARP = 32, STACK = 128 * 1024, DYNAMIC_MAX = 48 * 1024 };

emulated_thread emulated;
float emulated_halves[65536];

// ---- switching

#ifdef __x86_64__
typedef void *fibre_context;
extern "C" void emulated_switch(fibre_context *from, fibre_context to);
// What a function may not change, and the way back; one stack for the other.
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");

static fibre_context begin_context(char *stack, void (*entry)())
{
    // As a call leaves it: entry never returns, and finds the stack as after a call.
    void **top = (void **)(stack + STACK - 56);
    top[0] = NULL;
    top[-1] = (void *)entry;
    memset(top - 7, 0, 6 * sizeof *top);
    return top - 7;
}
#define SWITCH(from, to) emulated_switch(&(from), to)
#else
typedef ucontext_t fibre_context;

static fibre_context begin_context(char *stack, void (*entry)())
{
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK;
    context.uc_link = NULL;
    makecontext(&context, entry, 0);
    return context;
}
#define SWITCH(from, to) swapcontext(&(from), &(to))
#endif

// ---- one block

struct fibre {
    fibre_context context;
    emulated_reason reason;
    uint32_t turn; // of the two sets of a warp's values
};

static struct {
    fibre fibres[THREADS_MAX];
    uint32_t values[2][THREADS_MAX];
    fibre_context scheduler;
    char *stacks;
    const emulated_grid *grid;
    alignas(16) char dynamic_shared[DYNAMIC_MAX];
} block;

static void yield(emulated_reason reason)
{
    fibre *own = &block.fibres[emulated.thread];
    own->reason = reason;
    SWITCH(own->context, block.scheduler);
}

static void run_thread()
{
    block.grid->kernel(block.grid->argument);
    yield(EMULATED_DONE);
    abort(); // nobody resumes it
}

void emulated_wait()
{
    yield(EMULATED_BARRIER);
}

const uint32_t *emulated_meet(uint32_t value, emulated_reason reason)
{
    fibre *own = &block.fibres[emulated.thread];
    const uint32_t turn = own->turn, thread = emulated.thread;
    own->turn ^= 1;
    block.values[turn][thread] = value;
    yield(reason);
    return &block.values[turn][thread / WARP * WARP];
}

// Runs a warp until all of its threads are at a barrier or done.
static const char *run_warp(uint32_t first, uint32_t end)
{
    for (;;) {
        for (uint32_t t = first; t < end; t++) {
            if (block.fibres[t].reason == EMULATED_DONE)
                continue;
            emulated.thread = t;
            block.fibres[t].reason = EMULATED_RUNS;
            SWITCH(block.scheduler, block.fibres[t].context);
        }
        bool waits = true;
        for (uint32_t t = first; t < end; t++)
            waits = waits && block.fibres[t].reason <= EMULATED_BARRIER;
        if (waits)
            return NULL;
        for (uint32_t t = first; t < end; t++)
            if (block.fibres[t].reason != block.fibres[first].reason)
                return "threads of a warp are not all where it meets";
        if (end - first != WARP)
            return "a warp of fewer than 32 threads meets";
    }
}

static const char *run_block(uint32_t threads, bool descending)
{
    emulated.block_number++;
    memset(block.dynamic_shared, 0xff, block.grid->dynamic_shared);
    for (uint32_t t = 0; t < threads; t++) {
        block.fibres[t].context = begin_context(block.stacks + (size_t)t * STACK, run_thread);
        block.fibres[t].reason = EMULATED_RUNS;
        block.fibres[t].turn = 0;
    }
    const uint32_t warps = (threads + WARP - 1) / WARP;
    for (;;) {
        for (uint32_t i = 0; i < warps; i++) {
            const uint32_t first = (descending ? warps - 1 - i : i) * WARP;
            const uint32_t end = first + WARP < threads ? first + WARP : threads;
            const char *fault = run_warp(first, end);
            if (fault)
                return fault;
        }
        uint32_t done = 0;
        for (uint32_t t = 0; t < threads; t++)
            done += block.fibres[t].reason == EMULATED_DONE;
        if (done == threads)
            return NULL;
        if (done > 0)
            return "some threads of a block wait at a barrier, others have left";
    }
}

// ---- all blocks

static void fill_halves()
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
        float x = exponent == 31  ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexpf((float)fraction, -24)
                                  : ldexpf((float)(fraction + 1024), (int)exponent - 25);
        emulated_halves[bits] = bits & 0x8000 ? -x : x;
    }
}

uint16_t emulated_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const float size = fabsf(x);
    if (x != x)
        return sign | 0x7fff;
    if (size >= 65520.0f)
        return sign | 0x7c00;
    if (size < 6.103515625e-05f) // subnormal: whole steps of 2^-24
        return sign | (uint16_t)lrintf(size * 16777216.0f);
    const uint32_t rounded = (bits & 0x7fffffff) + 0xfff + (bits >> 13 & 1);
    return sign | (uint16_t)((rounded >> 13) - (112 << 10));
}

const char *emulated_run(const emulated_grid &grid)
{
    static uint64_t launches;
    if (!block.stacks) {
        fill_halves();
        void *stacks = mmap(NULL, (size_t)THREADS_MAX * STACK, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED)
            return "no memory for stacks";
        block.stacks = (char *)stacks;
    }
    if (grid.threads > THREADS_MAX || grid.dynamic_shared > DYNAMIC_MAX)
        return "a block has more threads or shared memory than it may";
    block.grid = &grid;
    emulated.threads = grid.threads;
    emulated.dynamic_shared = block.dynamic_shared;
    memcpy(emulated.grid, grid.groups, sizeof emulated.grid);
    const uint64_t blocks = (uint64_t)grid.groups[0] * grid.groups[1] * grid.groups[2];
    const bool backwards = launches++ & 1;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t number = backwards ? blocks - 1 - i : i;
        emulated.block[0] = (uint32_t)(number % grid.groups[0]);
        emulated.block[1] = (uint32_t)(number / grid.groups[0] % grid.groups[1]);
        emulated.block[2] = (uint32_t)(number / grid.groups[0] / grid.groups[1]);
        const char *fault = run_block(grid.threads, number & 1);
        if (fault)
            return fault;
    }
    return NULL;
}
