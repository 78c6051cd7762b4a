// Skim: query-aware sparse attention over a paged KV cache.
// Version, export, status codes and element types. Every other header includes this one.
//
// Conventions that hold for every function of the library:
//  - A call that returns skim_status and fails has changed nothing, unless its text says otherwise,
//    and writes nothing to its results.
//  - Passing NULL for an object or a required pointer returns SKIM_INVALID. Passing an object that
//    was destroyed, or one of another runtime, is undefined.
//  - The sentence that explains the last failure is kept on the object the call was made on (for a
//    create or open call: on its parent); see skim_runtime_error and its siblings.
//  - Structs that the caller allocates start with size_of, which the caller sets to the struct's
//    size. Set the rest to zero before filling in fields: zero means "the default". Only a
//    skim_policy, where zeros mean something, starts from skim_policy_defaults().
//  - The library never prints, exits, aborts, or handles signals; threads of its own block them.
#ifndef SKIM_BASE_H
#define SKIM_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(SKIM_SHARED)
#ifdef SKIM_BUILD
#define SKIM_API __declspec(dllexport)
#else
#define SKIM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define SKIM_API __attribute__((visibility("default")))
#else
#define SKIM_API
#endif

#define SKIM_VERSION_MAJOR 0
#define SKIM_VERSION_MINOR 1
#define SKIM_VERSION_PATCH 0

// Returns the version of the library that is running, "major.minor.patch". Static; never freed.
SKIM_API const char *skim_version(void);

// What a call can answer, and what its caller can do about it.
typedef enum skim_status {
    SKIM_OK = 0,          // done
    SKIM_INVALID = 1,     // an argument is wrong: correct the call
    SKIM_STATE = 2,       // right call, wrong moment (a step is open, an object is in use): reorder
    SKIM_UNSUPPORTED = 3, // this device or version cannot: choose another device or another shape
    SKIM_NO_DEVICE = 4,   // no such device or no usable driver: choose another selector
    SKIM_NO_MEMORY = 5,   // host or device memory is exhausted: free some or ask for less
    SKIM_NO_SLOTS = 6,    // no room for the tokens: destroy or shorten a sequence
    SKIM_CANCELLED = 7,   // a progress callback asked to stop: nothing was changed
    SKIM_TIMEOUT = 8,     // the wait ended before the work: wait again
    SKIM_FAILED = 9,      // the driver or submitted work failed; the sentence says how
    SKIM_DEVICE_LOST = 10 // the device is gone: destroy its objects and open a device again
} skim_status;

// Returns the name of a status in words ("out of slots"), or "unknown status". Static; never freed.
SKIM_API const char *skim_status_name(skim_status status);

// Element types. Which of them a device takes for keys and values, queries and results is told by
// skim_limits.
typedef enum skim_type {
    SKIM_TYPE_NONE = 0,
    SKIM_F32 = 1,  // IEEE binary32
    SKIM_F16 = 2,  // IEEE binary16
    SKIM_BF16 = 3, // the upper half of a binary32
    SKIM_U32 = 4   // rows, page tables and lists
} skim_type;

// Returns the size of one element in bytes, 0 for SKIM_TYPE_NONE or a value that is no skim_type.
SKIM_API size_t skim_type_size(skim_type type);

// Returns "f32", "f16", "bf16", "u32" or "none". Static; never freed.
SKIM_API const char *skim_type_name(skim_type type);

// Told how a long call gets on; may cancel it. Called on the thread that made the call, between
// pieces of work. It must not call into the library on objects of the call's queue; on those of
// another it may.
typedef struct skim_progress {
    // done of total, in units of the call's own; total does not change within a call. Returns 0 to
    // go on; anything else makes the call fail with SKIM_CANCELLED. NULL: nobody is told.
    int (*report)(void *user, uint64_t done, uint64_t total);
    void *user;
} skim_progress;

// Objects. Runtime and device are thread-safe; a cache, its sequences and its step, and a queue
// need external synchronisation (different caches on different queues need none between them).
typedef struct skim_runtime skim_runtime;
typedef struct skim_device skim_device;
typedef struct skim_buffer skim_buffer;
typedef struct skim_queue skim_queue;
typedef struct skim_cache skim_cache;
typedef struct skim_sequence skim_sequence;
typedef struct skim_step skim_step;

#ifdef __cplusplus
}
#endif
#endif
