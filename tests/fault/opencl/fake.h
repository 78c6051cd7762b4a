// An OpenCL loader that passes calls on to the real one (of a driver for CPUs, such as PoCL), fails
// when told to, lies about what the device can do, and keeps exact books: whatever the
// specification forbids is noted as a violation. It is built as a library named like the loader, so
// that dlopen finds it in place of the real one.
//
// Calls come from one thread at a time.
#ifndef FAKE_OPENCL_H
#define FAKE_OPENCL_H

#include "backends/opencl/loader.h"

typedef enum fake_call {
#define FAKE_CALL(name, result, arguments) FAKE_##name,
    SKIM_OPENCL_FUNCTIONS(FAKE_CALL)
#undef FAKE_CALL
        FAKE_work, // no call: a marker's event, which tells that the work before it failed
    FAKE_CALLS
} fake_call;

// What fails: the index-th call of an entry point since the plan was set (and all after it).
typedef struct fake_plan {
    bool set;
    fake_call call;
    uint32_t index;
    bool persistent;
    cl_int result;
} fake_plan;

// What the driver says of itself; all zero is a device that will do.
typedef struct fake_lies {
    const char *version, *profile, *name; // NULL: the truth
    bool no_platform, no_device;
    bool unavailable, no_compiler, big_endian;
    bool is_gpu;             // and then few_threads, since a CPU's groups may be small
    bool has_uuid;           // extension
    bool other_driver;       // binaries kept by it are none of the usual driver's
    bool bad_source;         // its compiler refuses every program
    uint32_t vanishes_after; // lists of devices; 0: never
    uint64_t memory, allocation_max, local_memory, threads, parameter_size; // 0: the truth
} fake_lies;

typedef struct fake_control {
    fake_lies lies;
    fake_plan plan;
    // Since the plan was set.
    uint32_t calls[FAKE_CALLS];
    uint32_t fired;
    fake_call fired_call; // the last
    // What is alive, device memory in bytes, and the first violation.
    uint32_t objects;
    uint64_t memory;
    char violation[256];
    uint32_t binaries_taken; // programs made of a binary, since the process began
    uint32_t split_launches; // of kernels for buffers in pieces, since the plan was set

    // The test's: told of each failure that the plan brings about, and of each violation.
    void (*fires)(void);
    void (*notes)(const char *violation);

    const char *(*name)(fake_call call);
    // Results that the call may return besides CL_SUCCESS, the last one 0.
    const cl_int *(*errors)(fake_call call);
    // Zeroes counts and sets the plan.
    void (*reset)(const fake_plan *plan);
    // Writes what is alive to text, kind by kind.
    void (*list)(char *text, size_t size);
    // Forgets everything, as when the process ends.
    void (*forget)(void);
} fake_control;

// The one symbol besides OpenCL's: fake_control *fake_opencl(void). NULL: there is no real loader,
// or it has no device.
typedef fake_control *fake_opencl_function(void);

#endif
