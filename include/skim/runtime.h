// The runtime: the root object. It owns nothing of the host's, keeps the host's callbacks, and
// knows every backend and device.
#ifndef SKIM_RUNTIME_H
#define SKIM_RUNTIME_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// The callbacks below may call what is marked thread-safe, on any object, for nothing of that waits
// for a callback; but an allocator must not create or open anything. They must not call the rest of
// the library.

// Host memory for everything the library keeps on the host. Both functions must be thread-safe.
// release finds zeros where a cache kept anything of its tokens.
typedef struct skim_allocator {
    // Returns size bytes aligned to alignment (a power of two), or NULL when there are none.
    void *(*allocate)(void *user, size_t size, size_t alignment);
    // Takes back what allocate returned, with the same size and alignment. Never called with NULL.
    void (*release)(void *user, void *memory, size_t size, size_t alignment);
    void *user;
} skim_allocator;

typedef enum skim_log_level {
    SKIM_LOG_NONE = 0,
    SKIM_LOG_ERROR = 1,
    SKIM_LOG_WARNING = 2,
    SKIM_LOG_INFO = 3,
    SKIM_LOG_DEBUG = 4
} skim_log_level;

// Receives what the library has to say, one sentence a call, without a newline. Called on the
// thread that called into the library, from several at once if they do; text is gone when it
// returns.
typedef struct skim_log {
    void (*message)(void *user, skim_log_level level, const char *text);
    void *user;
    skim_log_level level; // messages above this level are not formatted at all
} skim_log;

// Keeps what is expensive to make, such as compiled kernels, between runs of the program: the host
// writes it to a file, a database or nowhere. Keys are text of letters, digits, '-', '_' and '.',
// at most 127 long, fit for file names, and name device, driver and version: a value never changes
// its meaning. Values are checked when they come back; one that was damaged or lost is made again,
// with a warning in the log. That is a guard against damage, not against enemies: a value may
// become code, so keep them where only the user can write. Both functions must be thread-safe; they
// are called by skim_device_open, skim_queue_prepare and skim_cache_prepare only.
typedef struct skim_store {
    // Returns the size of the value kept under key, 0 if there is none. Copies it to data if it
    // fits capacity, else writes nothing. Asked first with data NULL and capacity 0.
    size_t (*load)(void *user, const char *key, void *data, size_t capacity);
    // Keeps size bytes under key, in place of an earlier value. A failure is the host's to note.
    void (*save)(void *user, const char *key, const void *data, size_t size);
    void *user;
} skim_store;

typedef struct skim_runtime_options {
    size_t size_of;
    skim_allocator allocator; // all NULL: the C library's
    skim_log log;             // message NULL: silent
    skim_store store;         // all NULL: nothing is kept
} skim_runtime_options;

// Creates a runtime and looks for the devices of every backend. Does not open any.
//   options  may be NULL for the defaults; copied
//   runtime  receives the runtime; destroy it with skim_runtime_destroy
// Blocks while drivers are asked for their devices. Any thread.
// Errors: SKIM_INVALID (runtime NULL, size_of wrong, only one of allocate and release or of load
// and save given), SKIM_NO_MEMORY.
SKIM_API skim_status skim_runtime_create(const skim_runtime_options *options,
                                         skim_runtime **runtime);

// Destroys the runtime. Every device opened from it must have been closed. NULL is ignored.
SKIM_API void skim_runtime_destroy(skim_runtime *runtime);

// Copies the sentence that explains the last failure of a call on this runtime.
//   text      receives at most size bytes, always terminated when size > 0; may be NULL if size is
//   0
// Returns the sentence's length without the terminator; 0 if nothing has failed. Thread-safe.
SKIM_API size_t skim_runtime_error(const skim_runtime *runtime, char *text, size_t size);

// A backend that this version of the library knows.
typedef struct skim_backend_info {
    size_t size_of;
    const char *name;      // "cuda", "vulkan", "opencl", "cpu"; static
    uint32_t device_count; // 0: reason says why
    const char *reason;    // empty when there are devices; lives as long as the runtime
} skim_backend_info;

// Returns how many backends this version knows, present or not; 0 for NULL. Thread-safe.
SKIM_API uint32_t skim_runtime_backend_count(const skim_runtime *runtime);

// Fills info (whose size_of is set) for backend index < skim_runtime_backend_count, in the order in
// which "auto" tries them. Thread-safe. Errors: SKIM_INVALID.
SKIM_API skim_status skim_runtime_backend_info(const skim_runtime *runtime, uint32_t index,
                                               skim_backend_info *info);

typedef enum skim_device_type {
    SKIM_DEVICE_OTHER = 0,
    SKIM_DEVICE_CPU = 1,
    SKIM_DEVICE_INTEGRATED = 2,
    SKIM_DEVICE_DISCRETE = 3,
    SKIM_DEVICE_SOFTWARE = 4 // a GPU interface on a CPU (lavapipe, PoCL); never chosen by "auto"
} skim_device_type;

// A device that can be opened.
typedef struct skim_device_info {
    size_t size_of;
    char
        selector[32]; // what skim_device_open takes for just this device, such as "cpu" or "cuda:1"
    char backend[16]; // "cpu", ...
    char name[128];   // the maker's name for it
    char driver[128]; // driver and version; for the CPU its instruction-set level
    skim_device_type type;
    uint8_t uuid[16];          // all zero if the backend has none
    uint64_t memory_total;     // bytes of the memory caches live in; 0 if unknown
    uint64_t memory_available; // bytes free when asked; 0 if unknown
} skim_device_info;

// Returns how many devices can be opened; 0 for NULL. Thread-safe.
SKIM_API uint32_t skim_runtime_device_count(const skim_runtime *runtime);

// Fills info (whose size_of is set) for device index < skim_runtime_device_count. Thread-safe.
// Errors: SKIM_INVALID.
SKIM_API skim_status skim_runtime_device_info(const skim_runtime *runtime, uint32_t index,
                                              skim_device_info *info);

#ifdef __cplusplus
}
#endif
#endif
