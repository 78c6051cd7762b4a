// A runtime, a device that fails when told to, a cache and its sequences, with the host's own model
// of what they hold. Scenarios call the library through DO, which judges every failure - its
// status, its sentence, and that nothing changed - and goes on as a host would: it repeats the
// call, or heals the sequences that failed work broke.
#ifndef FAULT_WORLD_H
#define FAULT_WORLD_H

#include "runtime/cache.h"
#include "skim/skim.h"
#include "tests/fault/failing.h"

enum {
    WORLD_LAYERS = 3,
    WORLD_SEQUENCES = 4,
    WORLD_LENGTH = 1024,    // most tokens of a sequence
    WORLD_STEP = 640,       // most tokens of a step
    WORLD_SLOTS = 256,      // most slots
    WORLD_ENTRIES = 3,      // most sequences of a step
    WORLD_FILE = 1 << 18,   // bytes of a snapshot
    WORLD_RESULTS = 1 << 22 // bytes
};

typedef struct world_sequence {
    skim_sequence *handle; // NULL: not alive
    uint32_t tokens[WORLD_LENGTH];
    uint32_t length;
    bool touched;   // by work that no wait has told to be done
    uint32_t sound; // tokens known to be stored
} world_sequence;

// What a failed call must leave as it was.
typedef struct world_state {
    bool has_cache;
    uint32_t free_count, shared_count, sequence_count;
    uint32_t free_slots[WORLD_SLOTS], references[WORLD_SLOTS];
    skim_policy policy, layer_policies[WORLD_LAYERS];
    bool has_policy[WORLD_LAYERS], appended[WORLD_LAYERS], attended[WORLD_LAYERS];
    bool step_open;
    uint32_t step_count, step_tokens;
    struct {
        bool alive, in_step, broken;
        uint32_t length, page_count, reserved;
        uint32_t slots[WORLD_SLOTS];
    } sequences[WORLD_SEQUENCES];
} world_state;

typedef enum world_object { ON_NONE, ON_RUNTIME, ON_DEVICE, ON_QUEUE, ON_CACHE } world_object;

typedef struct world_options {
    uint32_t prefill;         // tokens that sequence 0 has before faults begin
    uint64_t capacity;        // tokens; 0: 512
    uint32_t step_tokens;     // 0: 64
    uint64_t sequence_tokens; // 0: capacity
    skim_bounds_type bounds_type;
} world_options;

typedef struct world {
    const char *name;
    world_options wanted;
    bool verify; // attention against a plain computation in double precision
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_cache *cache, *other_cache;
    skim_buffer *buffers[12]; // of the scenario
    skim_snapshot *snapshot;
    unsigned char file[WORLD_FILE]; // what a snapshot wrote
    size_t file_size, file_at;
    skim_layer layers[WORLD_LAYERS];
    skim_policy policy;
    world_sequence sequences[WORLD_SEQUENCES];
    uint32_t next_token;
    // What came out.
    unsigned char *results;
    size_t result_size;
    // The call that is being made.
    const char *call;
    world_object object;
    world_state before;
    uint32_t fired_before;
    uint32_t writes_before;  // to host memory
    bool step_failed_before; // the step can only be cancelled
    uint32_t attempts;
    uint32_t failures;  // of all calls
    int nested;         // > 0: whoever called deals with failed work
    uint32_t absorbed;  // allocations whose failure no call told, since there was another way
    char problem[1024]; // the first thing that was wrong
} world;

// Opens a world, with the fault plan of fault_now: armed from the first call on (fresh), or when
// the cache is prepared and prefilled. A runtime that is there already is used.
skim_status world_open(world *w, const char *name, const world_options *wanted, bool fresh);

// Destroys everything but the runtime, or all, and checks that nothing is left.
void world_close_device(world *w);
void world_close(world *w);

// Notes what is wrong, unless something was before.
void world_problem(world *w, const char *format, ...) SKIM_PRINTF(2, 3);

// Makes a call, as often as it takes; returns from the function with the status of one that failed
// for good: the device is lost, or (nested) submitted work failed.
#define DO(w, on, expression)                                                                      \
    do {                                                                                           \
        skim_status done_;                                                                         \
        do {                                                                                       \
            world_before(w, on, #expression);                                                      \
            done_ = (expression);                                                                  \
        } while (world_again(w, done_));                                                           \
        if (done_ != SKIM_OK)                                                                      \
            return done_;                                                                          \
    } while (0)

// For calls of the world's own functions.
#define PASS(expression)                                                                           \
    do {                                                                                           \
        skim_status passed_ = (expression);                                                        \
        if (passed_ != SKIM_OK)                                                                    \
            return passed_;                                                                        \
    } while (0)

void world_before(world *w, world_object object, const char *call);
bool world_again(world *w, skim_status status);

// Everything submitted is done: sequences that were touched are sound.
void world_done(world *w);

// Truncates what failed work broke, and appends again what is missing.
skim_status world_heal(world *w);

// Keeps bytes as a result of the scenario.
void world_result(world *w, const void *data, size_t size);

typedef struct world_step {
    struct {
        uint32_t sequence;
        uint32_t tokens;
    } entries[WORLD_ENTRIES];
    bool quiet;    // no attends
    bool unwaited; // ends without waiting; what attend gives is thrown away
    bool halfway;  // submits and waits between the layers
    bool progress; // attends in pieces
    bool cancel;   // cancels at the end
    bool pages;    // the lists are results too
    const skim_policy *policy;
} world_step;

// One step, with attention in every layer, whatever it takes. The results are kept.
skim_status world_run_step(world *w, const world_step *step);

skim_status world_create_sequence(world *w, uint32_t index);
skim_status world_fork(world *w, uint32_t source, uint32_t fork);
skim_status world_truncate(world *w, uint32_t index, uint32_t length);
skim_status world_reserve(world *w, uint32_t index, uint64_t tokens);
skim_status world_destroy_sequence(world *w, uint32_t index);

// One decode step of each living sequence, for the check at a scenario's end.
skim_status world_decode_all(world *w);

#endif
