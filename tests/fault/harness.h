// Plays a scenario undisturbed, then with faults, and compares what comes out.
//
//     PROGRAM [--only TEXT] [--stride N] [--part I N] [--verbose]
//             [--fault VARIANT FRESH KIND ENTRY INDEX PERSISTENT STATUS]
//
// --only takes the scenarios whose name holds the text, --part those of one of N parts. With
// --stride only every N-th index is tried, for builds that are slow. Whatever fails prints the
// command that repeats it, whose numbers are those of failing.h (for a driver's entry point, those
// of the driver and its result).
#ifndef FAULT_HARNESS_H
#define FAULT_HARNESS_H

#include "tests/fault/scenarios.h"

typedef struct harness {
    // The program's own.
    const fault_variant *variants;
    uint32_t variant_count;
    void (*run_scenario)(struct harness *h); // all faults of one scenario in one variant

    const scenario *scenario;
    const fault_variant *variant;
    const char *program;
    uint32_t stride;
    bool verbose;
    bool fresh; // faults from the first call on
    world world;
    unsigned char *expected; // results of the undisturbed run
    size_t expected_size;
    fault_control counts; // of that run
    uint32_t injected, failed;
    uint32_t failed_before; // this scenario
    uint64_t absorbed;
} harness;

// The undisturbed run, twice: checked against plain attention, then counted. False if it fails.
bool harness_run_undisturbed(harness *h);

// The plan at every index below count, or every stride-th of them.
void harness_run_indices(harness *h, fault_plan plan, uint32_t count);

int harness_main(harness *h, int argc, char **argv);

#endif
