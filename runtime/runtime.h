// The runtime object, and its creation with a list of backends of the caller's.
#ifndef SKIM_RUNTIME_PRIVATE_H
#define SKIM_RUNTIME_PRIVATE_H

#include "runtime/backend.h"
#include "runtime/registry.h"

#define SKIM_REASON_SIZE 256
#define SKIM_DEVICES_MAX 32
#define SKIM_BACKENDS_MAX 8

typedef struct skim_backend_record {
    const char *name;
    const skim_backend *backend;
    uint32_t first_device; // in skim_runtime.infos
    uint32_t device_count;
    char reason[SKIM_REASON_SIZE];
} skim_backend_record;

struct skim_runtime {
    skim_host host;
    skim_error error;
    uint32_t backend_count;
    skim_backend_record backends[SKIM_BACKENDS_MAX];
    uint32_t device_count;
    skim_device_info infos[SKIM_DEVICES_MAX];
};

// As skim_runtime_create, with these backends instead of the library's: for tests.
skim_status skim_runtime_create_with(const skim_runtime_options *options,
                                     const skim_registration *registrations, uint32_t count,
                                     skim_runtime **runtime);

#endif
