// The fault plans of failing.h on a backend over a driver of the tests': a library under the
// driver's name, whose entry points fail when told to. Host allocations fail as anywhere
// (FAULT_ALLOCATION); entry points fail (FAULT_DRIVER), lose the device (FAULT_LOSS), or spoil
// recorded work, which a later wait tells (FAULT_WORK). What is left to a program are the functions
// of failing.h that say what may fail how, its store, and the following.
#ifndef FAULT_DRIVER_H
#define FAULT_DRIVER_H

#include "tests/fault/harness.h"

typedef struct fault_driver {
    skim_registration backend;
    const char *selector;
    // A plan for one result of one entry point.
    fault_plan (*plan)(uint32_t call, int32_t result, bool persistent);
    // The driver forgets everything, and presents itself as a variant's driver says.
    void (*present)(const void *as);
    // Zeroes the driver's counts. It follows the plan if applies is true, else none.
    void (*reset)(const fault_plan *plan, bool applies);
    void (*lift)(void);
    const char *(*name)(uint32_t call);
    void (*message)(const char *text); // a line of the log; NULL: it says nothing
} fault_driver;

extern const fault_driver fault_driver_here; // the program's own

// The driver's one symbol beside its interface; false, and a sentence on stderr, if dlopen finds
// another library. folder: of the build, where the right one is.
bool fault_driver_find(const char *library, const char *symbol, const char *folder, void *function,
                       size_t size);
// What the driver calls: the plan was carried out; something happened that must not.
void fault_driver_fires(void);
void fault_driver_notes(const char *text);

// Whether it is an entry point that the plan makes fail.
bool fault_is_of_driver(const fault_plan *plan);
// Messages that said that memory was released without being zeroed, since the last reset.
uint32_t fault_unzeroed(void);

// All faults of one scenario in one variant: of each of the driver's calls (counts: how often each
// was made, count of them), by run_call, and of each allocation.
void fault_run_calls(harness *h, const uint32_t *counts, uint32_t count,
                     void (*run_call)(harness *h, uint32_t call, uint32_t calls));

#endif
