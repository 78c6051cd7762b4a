// The conformance suite as a library: one table of cases, run on any device through the public
// interface alone. Programs: tests/conformance/main.c and `skim conform`.
#ifndef SKIM_CONFORMANCE_H
#define SKIM_CONFORMANCE_H

#include "skim/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFORMANCE_DEFAULT_SEED 1u

typedef enum conformance_outcome {
    CONFORMANCE_PASSED,
    CONFORMANCE_FAILED,
    CONFORMANCE_SKIPPED // the device's limits exclude the case; detail says which
} conformance_outcome;

typedef struct conformance_result {
    const char
        *name; // such as "attend/f16/d128/p16/g4/h2/n257"; lives as long as the call to report
    conformance_outcome outcome;
    const char
        *detail;   // what differed and the command that repeats it, or why skipped; "" if passed
    uint64_t seed; // the run's seed, as --seed takes it
    double milliseconds;
} conformance_result;

typedef struct conformance_options {
    const char *device; // selector as skim_device_open takes it; NULL: "auto"
    uint64_t disable;   // SKIM_FEATURE_* bits not to use
    uint32_t threads;   // CPU only; 0: one per processor
    // Vulkan only: most bytes of one piece of device memory (skim_vulkan_options); 0: the driver's
    uint64_t allocation_max;
    bool quick;         // only the cases marked quick
    bool stop;          // stop at the first failure
    const char *filter; // only cases whose name contains this; NULL or "": all
    uint32_t every;     // of those only the first and every so manieth after it; 0: all
    uint64_t seed;      // 0: CONFORMANCE_DEFAULT_SEED
    // Opens the device instead of what is above, with errors on the runtime; NULL: that.
    skim_status (*open)(void *user, skim_runtime *runtime, skim_device **device);
    // Called after each case from the calling thread; may be NULL. A result's text ends with no
    // newline.
    void (*report)(void *user, const conformance_result *result);
    void *user;
} conformance_options;

typedef struct conformance_totals {
    uint32_t passed, failed, skipped;
} conformance_totals;

typedef enum conformance_status {
    CONFORMANCE_OK = 0,       // every case that ran passed
    CONFORMANCE_FAILURES = 1, // at least one failed
    CONFORMANCE_ERROR =
        2, // the suite could not run: error says why (a filter that matches nothing too)
    CONFORMANCE_NO_DEVICE = 77 // no such device here: error says why
} conformance_status;

// Runs the cases on one device, one after another. Blocks.
//   totals  receives the counts; may not be NULL
//   error   receives a sentence for CONFORMANCE_ERROR and CONFORMANCE_NO_DEVICE; may be NULL
conformance_status conformance_run(const conformance_options *options, conformance_totals *totals,
                                   char *error, size_t error_size);

// The SKIM_FEATURE_* bits of names with commas between them; false if there is an unknown one.
bool conformance_parse_features(const char *text, uint64_t *features);

// Calls visit with the name of every case that the options choose. Opens no device.
void conformance_list(const conformance_options *options,
                      void (*visit)(void *user, const char *name), void *user);

#endif
