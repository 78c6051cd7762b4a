// The backends of this version, in the order in which "auto" tries them.
#ifndef SKIM_REGISTRY_H
#define SKIM_REGISTRY_H

#include "runtime/backend.h"

typedef struct skim_registration {
    const char *name;
    const skim_backend *backend; // NULL: not part of this build
} skim_registration;

extern const skim_backend skim_backend_cpu;
extern const skim_backend skim_backend_cuda;
extern const skim_backend skim_backend_vulkan;
extern const skim_backend skim_backend_opencl;

#endif
