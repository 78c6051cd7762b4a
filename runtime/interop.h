// What the fronts of skim/cuda.h, skim/opencl.h and skim/vulkan.h share: handles of the host's for
// a device that is one of the backend's, and for no other.
#ifndef SKIM_INTEROP_H
#define SKIM_INTEROP_H

#include "runtime/queue.h"

// A backend, and how its name is written.
typedef struct skim_interop {
    const char *backend, *title;
} skim_interop;

static const skim_interop SKIM_OF_CUDA = {"cuda", "a CUDA"};
static const skim_interop SKIM_OF_OPENCL = {"opencl", "an OpenCL"};
static const skim_interop SKIM_OF_VULKAN = {"vulkan", "a Vulkan"};

bool skim_interop_is_of(const skim_device *device, skim_interop of);

// A buffer that wraps memory of the host's; kind is that of the handle, such as "VkBuffer".
skim_status skim_interop_wrap(skim_device *device, skim_interop of, const char *kind,
                              uint64_t handle, uint64_t size, skim_buffer **buffer);

// Whether the queue can be told of a handle of the host's, which must not be 0.
skim_status skim_interop_check(skim_queue *queue, skim_interop of, const char *kind,
                               uint64_t handle);

// Checks, and records the backend's semaphore.
skim_status skim_interop_semaphore(skim_queue *queue, skim_interop of, const char *kind,
                                   uint64_t handle, uint64_t value, bool signals);

#endif
