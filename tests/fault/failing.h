// A backend around the real CPU that fails when told to: the n-th host allocation, the n-th call of
// an entry, the n-th submission's work, the n-th thread, or the whole device at its n-th call. It
// also watches what the core does with it: a buffer destroyed while recorded or submitted work uses
// it, or a call on a device that is gone, is a violation.
#ifndef FAULT_FAILING_H
#define FAULT_FAILING_H

#include "runtime/runtime.h"

#define FAULT_ENTRIES(X)                                                                           \
    X(open)                                                                                        \
    X(buffer_create)                                                                               \
    X(queue_create)                                                                                \
    X(prepare)                                                                                     \
    X(upload)                                                                                      \
    X(download)                                                                                    \
    X(copy)                                                                                        \
    X(zero)                                                                                        \
    X(mark)                                                                                        \
    X(append)                                                                                      \
    X(estimate)                                                                                    \
    X(select)                                                                                      \
    X(attend)                                                                                      \
    X(decode)                                                                                      \
    X(submit)                                                                                      \
    X(wait)                                                                                        \
    X(mark_time)

typedef enum fault_entry {
#define X(name) FAULT_##name,
    FAULT_ENTRIES(X)
#undef X
        FAULT_ENTRY_COUNT
} fault_entry;

typedef enum fault_kind {
    FAULT_NONE,
    FAULT_ALLOCATION, // an allocation of host memory gives NULL
    FAULT_ENTRY,      // an entry returns a status and does nothing
    FAULT_WORK,       // half of a submission is executed, and the wait for it says SKIM_FAILED
    FAULT_THREAD,     // a thread cannot be started
    FAULT_LOSS,       // the device is lost, at a call of any entry
    FAULT_DRIVER,     // of a driver: an entry point gives a result and does nothing
    FAULT_KINDS
} fault_kind;

typedef struct fault_plan {
    fault_kind kind;
    fault_entry entry;  // of FAULT_ENTRY
    uint32_t call;      // of a driver, which has entry points of its own
    int32_t result;     // that it gives
    uint32_t index;     // which one fails, counted from arming
    bool persistent;    // and all after it, until the plan is lifted
    skim_status status; // of FAULT_ENTRY; what result becomes
} fault_plan;

// How the CPU presents itself.
typedef struct fault_variant {
    const char *name;
    bool hidden;        // as a device whose memory the host cannot reach
    bool fused;         // with a fused decode
    const void *driver; // of a driver: how that one presents itself
    double work;        // of a driver: what it takes at once; 0: what it says
    uint64_t disable;   // fast paths of the device
    uint64_t capacity;  // of the cache, in tokens, where a scenario does not care; 0: 512
    uint64_t ballast;   // tokens that a sequence holds from the start, so that slots are others
} fault_variant;

typedef struct fault_control {
    fault_variant variant;
    fault_plan plan;
    bool armed;
    bool lifted; // the plan is over
    // Counted while armed.
    uint32_t calls[FAULT_ENTRY_COUNT];
    uint32_t all_calls; // of entries
    uint32_t allocations;
    uint32_t submissions;
    uint32_t threads;
    uint32_t fired;
    // What is alive.
    uint64_t blocks, bytes; // of host memory
    uint32_t buffers, queues, devices;
    char violation[256]; // the first
} fault_control;

extern fault_control fault_now;

// The backend under test, what device_open is told, and where its messages go.
const skim_registration *fault_registration(void);
const char *fault_selector(void);
skim_log fault_log(void);
skim_store fault_store(void);
// A device was opened, and may be told more.
void fault_opened(skim_device *device);

// Sets the variant and the plan, not armed, all counts zero; what is alive stays counted.
void fault_reset(const fault_variant *variant, const fault_plan *plan);

// From here on calls count, and the plan applies; to the device only if that is asked for.
void fault_arm(bool device);

// Whether a call that was made while the plan applied may fail with the status; and whether one may
// succeed though something that it made failed.
bool fault_permits(skim_status status);
bool fault_permits_success(const skim_device *device);

// Everything was destroyed: a violation if something is left.
void fault_check_closed(void);

// Ends the plan: everything works again, except that a lost device stays lost.
void fault_lift(void);

// Notes something that must not happen, unless something was noted before.
void fault_violation(const char *format, ...) SKIM_PRINTF(1, 2);

// Host memory is released: a violation if recorded or submitted work is to write there.
void fault_host_released(const void *memory, size_t size);

// How often work was recorded that writes to host memory. With `since` such a count: how many of
// those after it are still to run.
uint32_t fault_host_writes(void);
uint32_t fault_host_writes_pending(uint32_t since);

// Counts, fills what it gives with a pattern, checks sizes and alignments of what comes back.
skim_allocator fault_allocator(void);

const char *fault_entry_name(fault_entry entry);

// Writes the plan in words.
void fault_describe(const fault_plan *plan, char *text, size_t size);

#endif
