// Devices, their limits, and memory on them.
#ifndef SKIM_DEVICE_H
#define SKIM_DEVICE_H

#include "skim/base.h"
#include "skim/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

// Fast paths. skim_limits.features has the bits of those in use; skim_device_options.disable turns
// them off one by one, which changes speed and rounding but never what is computed.
#define SKIM_FEATURE_AVX2 ((uint64_t)1 << 0)      // CPU kernels for AVX2, FMA and F16C
#define SKIM_FEATURE_AVX512 ((uint64_t)1 << 1)    // CPU kernels for AVX-512 F, BW, DQ and VL
#define SKIM_FEATURE_SUBGROUPS ((uint64_t)1 << 2) // GPU threads add up through registers
#define SKIM_FEATURE_FP16 ((uint64_t)1 << 3)      // GPU kernels convert through 16-bit floats
#define SKIM_FEATURE_WIDE ((uint64_t)1 << 4)   // GPU kernels built for a shape; else general ones
#define SKIM_FEATURE_SERIAL ((uint64_t)1 << 5) // OpenCL on a CPU: a work-group is one work-item
#define SKIM_FEATURE_TENSOR ((uint64_t)1 << 6) // prefill of 16-bit types on tensor cores

// Returns the name of one SKIM_FEATURE_* bit, such as "avx2"; NULL for any other number. Static;
// never freed.
SKIM_API const char *skim_feature_name(uint64_t feature);

// What an opened device can do. Filled once at open. 0 means absent.
typedef struct skim_limits {
    size_t size_of;
    uint64_t features;          // fast paths in use, SKIM_FEATURE_* bits
    uint32_t kv_types;          // bit 1 << skim_type for each type keys and values can have
    uint32_t io_types;          // the same for queries and results
    uint32_t head_dim_min;      // smallest key_dim and value_dim
    uint32_t head_dim_max;      // largest
    uint32_t head_dim_multiple; // every key_dim and value_dim is a multiple of this
    uint32_t page_sizes;        // sum of the page sizes taken (each a power of two)
    uint32_t heads_max;         // most query heads
    uint32_t rows_max;          // most sequences in one step
    uint32_t pages_max;         // most pages in one sequence
    uint32_t slots_max;         // most slots in one pool
    uint64_t buffer_size_max;   // bytes in one buffer
    uint32_t unified_memory;    // 1: the device reads and writes host memory at full speed
    uint32_t threads;           // host threads that compute; 0 for a GPU
    uint32_t timestamps;        // how many marks a queue has (skim_queue_mark); 0: none
    uint32_t bounds_types;      // bit 1 << skim_bounds_type for each way bounds can be stored
} skim_limits;

typedef struct skim_device_options {
    size_t size_of;
    uint64_t disable; // fast paths not to use, SKIM_FEATURE_* bits; unknown bits are ignored
    uint32_t
        threads; // CPU only: threads that compute, 0 for one per processor this process may use
} skim_device_options;

// Opens a device.
//   selector  "auto": the first real GPU of cuda, vulkan, opencl, else the CPU. A backend's name
//             ("cpu", "cuda"): its first device. "cuda:1": that device. A UUID as 32 hex digits,
//             dashes allowed. An explicit choice never falls back to another. Case matters.
//   options   may be NULL for the defaults
//   device    receives the device; close it with skim_device_close
// Blocks while the driver initialises. Thread-safe.
// Errors: SKIM_INVALID, SKIM_NO_DEVICE (the error on the runtime says why), SKIM_NO_MEMORY,
// SKIM_FAILED.
SKIM_API skim_status skim_device_open(skim_runtime *runtime, const char *selector,
                                      const skim_device_options *options, skim_device **device);

// Closes the device. Its queues, buffers and caches must have been destroyed. NULL is ignored.
SKIM_API void skim_device_close(skim_device *device);

// Fills info (size_of set), with memory_available as it is now. Thread-safe. Errors: SKIM_INVALID.
SKIM_API skim_status skim_device_get_info(const skim_device *device, skim_device_info *info);

// Fills limits (size_of set). Thread-safe. Errors: SKIM_INVALID.
SKIM_API skim_status skim_device_get_limits(const skim_device *device, skim_limits *limits);

// As skim_runtime_error, for calls on this device and its buffers. Thread-safe.
SKIM_API size_t skim_device_error(const skim_device *device, char *text, size_t size);

// Allocates size > 0 bytes on the device; contents undefined. Destroy with skim_buffer_destroy.
// Thread-safe. Errors: SKIM_INVALID, SKIM_NO_MEMORY (says bytes wanted and available),
// SKIM_DEVICE_LOST.
SKIM_API skim_status skim_buffer_create(skim_device *device, uint64_t size, skim_buffer **buffer);

// Frees the buffer, without zeroing it. Work that uses it must be done. NULL is ignored.
SKIM_API void skim_buffer_destroy(skim_buffer *buffer);

// Returns the size in bytes; 0 for NULL.
SKIM_API uint64_t skim_buffer_size(const skim_buffer *buffer);

// Returns the buffer's memory where the host can read and write it directly (the CPU backend), or
// NULL. The host must not touch memory that submitted work uses. Valid until the buffer is
// destroyed.
SKIM_API void *skim_buffer_host(const skim_buffer *buffer);

#ifdef __cplusplus
}
#endif
#endif
