// The fault plans of failing.h on the OpenCL backend over the fake loader: host allocations fail as
// anywhere (FAULT_ALLOCATION), entry points fail (FAULT_DRIVER), lose the device (FAULT_LOSS), or
// work ends with an error, which a later wait tells (FAULT_WORK).
#ifndef FAULT_OPENCL_DRIVING_H
#define FAULT_OPENCL_DRIVING_H

#include "tests/fault/failing.h"
#include "tests/fault/opencl/fake.h"

// The fake loader's controls; NULL, and a sentence on stderr, if dlopen finds another one, or if
// there is no driver behind it (then also SKIPPED is true).
fake_control *driving_find(bool *skipped);

// A plan for one result of one entry point.
fault_plan driving_plan(fake_call call, cl_int result, bool persistent);

// Lines that the compiler's log had, and messages that said that memory was released without being
// zeroed.
uint32_t driving_compiler_lines(void);
uint32_t driving_unzeroed(void);

// Damages every value that the store keeps: cuts so many bytes from its end, or (0) turns one over.
void driving_spoil_store(size_t bytes);

#endif
