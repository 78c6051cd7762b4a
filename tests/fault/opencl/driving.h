// The fault plans of driver.h on the OpenCL backend over the fake loader.
#ifndef FAULT_OPENCL_DRIVING_H
#define FAULT_OPENCL_DRIVING_H

#include "tests/fault/driver.h"
#include "tests/fault/opencl/fake.h"

// The fake loader's controls; NULL, and a sentence on stderr, if dlopen finds another one, or if
// there is no driver behind it (then also SKIPPED is true).
fake_control *driving_find(bool *skipped);

// A plan for one result of one entry point.
fault_plan driving_plan(fake_call call, cl_int result, bool persistent);

// Lines that the compiler's log had.
uint32_t driving_compiler_lines(void);

// Damages every value that the store keeps: cuts so many bytes from its end, or (0) turns one over.
void driving_spoil_store(size_t bytes);

#endif
