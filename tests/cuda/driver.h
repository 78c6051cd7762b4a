// What tests tell the emulated driver beside CUDA's own interface. They find it by
// dlopen("libcuda.so.1"), as the backend does, and dlsym("skim_emulated_driver").
#ifndef SKIM_EMULATED_DRIVER_H
#define SKIM_EMULATED_DRIVER_H

#include "backends/cuda/loader.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum emulated_call {
#define EMULATED_CALL(name) EMULATED_CALL_##name,
    SKIM_CUDA_FUNCTIONS(EMULATED_CALL)
#undef EMULATED_CALL
        EMULATED_CALLS
} emulated_call;

// Which call fails, and with what.
typedef struct emulated_plan {
    bool set;
    emulated_call call;
    uint32_t index;  // of the calls of that function, from the last reset on
    bool persistent; // and all after it
    CUresult result;
} emulated_plan;

// How the driver and its GPU present themselves.
typedef struct emulated_device {
    int version;     // of the driver: 13000 is 13.0; 0: that of cuda.h
    int capability;  // 90 is 9.0; 0: that
    int devices;     // 0: one; -1: none
    uint64_t memory; // bytes; 0: 64 GiB
    bool eager;      // work is done when it is recorded, not when somebody waits for it
} emulated_device;

typedef struct emulated_driver {
    emulated_device device;
    emulated_plan plan;
    uint32_t calls[EMULATED_CALLS];  // since the last reset
    uint32_t objects;                // alive: memory, pinned memory, streams, events, modules
    uint32_t contexts;               // retained
    uint32_t current;                // contexts on the stack of the thread that called last
    void (*fires)(void);             // the plan was carried out
    void (*notes)(const char *text); // what must not happen; NULL: it is said, and ends the program
    const char *(*name)(emulated_call call);
    void (*reset)(const emulated_plan *plan); // counts begin anew
    void (*forget)(void);                     // what is alive is so no longer
} emulated_driver;

typedef emulated_driver *skim_emulated_driver_function(void);

#ifdef __cplusplus
}
#endif
#endif
