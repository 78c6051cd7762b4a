// The null backend: takes every call, computes nothing, and records what it was told. Tests of the
// front use it, with no device.
#ifndef NULL_BACKEND_H
#define NULL_BACKEND_H

#include "runtime/backend.h"

typedef struct null_control {
    bool unified;           // host memory is the device's
    bool real_gpu;          // enumerated as a discrete GPU
    uint32_t devices;       // how many there are; 0: the reason is "nothing here"
    uint64_t memory;        // available bytes; 0 unknown
    bool right;             // pass the self-test: attend and select write its known answer
    const char *fail_entry; // this entry fails ...
    uint32_t fail_after;    // ... after so many calls that succeed
    skim_status fail_status;
    bool lose; // and the device is lost with it
} null_control;

// What was recorded, in order: one entry name a call.
typedef struct null_record {
    char calls[1 << 16]; // names, a space after each
    uint32_t count;
    skim_append_args append; // the last of each, with its shape
    skim_estimate_args estimate;
    skim_select_args select;
    skim_attend_args attend;
    skim_shape shape;
    skim_row rows[64]; // rows of the last verb
    uint32_t row_count;
    uint64_t waited;  // the highest point that was waited for
    uint32_t buffers; // alive
    uint64_t bytes;   // alive
} null_record;

extern null_control null_control_now;
extern null_record null_record_now;
extern const skim_backend null_backend;       // no fused decode
extern const skim_backend null_fused_backend; // with one

// Defaults, and an empty record.
void null_reset(void);

#endif
