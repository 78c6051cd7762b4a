// Snapshots: a sequence's tokens written out through a callback, and read back into any cache whose
// layers store the same K and V: another capacity, policy, backend or kind of bounds. The format is
// described byte by byte in docs/snapshot.md; it is the same on every device.
#ifndef SKIM_SNAPSHOT_H
#define SKIM_SNAPSHOT_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SKIM_FINGERPRINT_SIZE 32

// Takes the next size > 0 bytes; keeps no pointer to them. Returns 0, or anything else to make the
// save fail. Called on the thread that made the call; as a skim_progress callback, it must not call
// into the library on objects of the cache's queue.
typedef int (*skim_write)(void *user, const void *data, size_t size);

// Fills data with the next size > 0 bytes, all of them. Returns 0; anything else, such as at the
// end of the file, makes the load fail. Otherwise as skim_write.
typedef int (*skim_read)(void *user, void *data, size_t size);

typedef struct skim_snapshot_save_args {
    size_t size_of;
    skim_write write;
    void *user; // given to write
    // Names what the tokens mean, such as a hash of the model's weights and settings; load refuses
    // another. All zero is a name like any other.
    uint8_t fingerprint[SKIM_FINGERPRINT_SIZE];
    const void *blob; // bytes of the host's own, such as the token ids; kept as they are
    uint64_t blob_size;
    const skim_progress *progress; // in bytes; NULL: nobody is told
} skim_snapshot_save_args;

typedef struct skim_snapshot_load_args {
    size_t size_of;
    skim_read read;
    void *user;
    uint8_t fingerprint[SKIM_FINGERPRINT_SIZE]; // must be the snapshot's
    void *blob;             // receives the host's bytes; what it holds after a failure is undefined
    uint64_t blob_capacity; // 0 and blob NULL: they are read past
    uint64_t *blob_size;    // receives how many there were; may be NULL
    const skim_progress *progress;
} skim_snapshot_load_args;

// What the start of a snapshot says.
typedef struct skim_snapshot_info {
    size_t size_of;
    uint32_t version;
    uint32_t page_size;
    uint32_t layer_count;
    uint64_t tokens;
    uint64_t blob_size;
    uint64_t total_size; // bytes of the whole snapshot
    uint8_t fingerprint[SKIM_FINGERPRINT_SIZE];
} skim_snapshot_info;

// Writes the sequence, without the tokens of an open step, to args->write. Submits and waits, piece
// by piece. A failed save changes nothing here; what was written is the host's to throw away.
// Errors: SKIM_INVALID, SKIM_STATE (the sequence is broken), SKIM_NO_MEMORY, SKIM_CANCELLED,
// SKIM_FAILED (write said so, or the device), SKIM_DEVICE_LOST.
SKIM_API skim_status skim_snapshot_save(skim_sequence *sequence,
                                        const skim_snapshot_save_args *args);

// Replaces the sequence's tokens by the snapshot's. Everything is read into slots of its own and
// checked first; then they change places: a load that fails leaves the sequence as it was, and
// while it runs both need slots (truncate to 0 first to avoid that). Bounds are computed again.
// With SKIM_BOUNDS_I8 and nothing appended to the cache so far, the snapshot's centre becomes the
// cache's. The reservation stays. Blocks.
// Errors: SKIM_INVALID (no snapshot, damaged, another fingerprint, a blob over blob_capacity, more
// tokens than max_sequence_tokens), SKIM_UNSUPPORTED (a later version; other layers or page size
// than the cache's), SKIM_STATE (a step is open in the cache), SKIM_NO_SLOTS, SKIM_NO_MEMORY,
// SKIM_CANCELLED, SKIM_FAILED (read said so, or the device), SKIM_DEVICE_LOST; if the cache was not
// prepared, those of skim_cache_prepare.
SKIM_API skim_status skim_snapshot_load(skim_sequence *sequence,
                                        const skim_snapshot_load_args *args);

// Reads the start of a snapshot (104 + 32 * layers bytes) and fills info (size_of set): enough to
// choose a cache and to make room for the blob. Needs no device; any thread. Errors: SKIM_INVALID
// (no snapshot, or damaged), SKIM_UNSUPPORTED (a later version), SKIM_FAILED (read said so).
SKIM_API skim_status skim_snapshot_inspect(skim_read read, void *user, skim_snapshot_info *info);

// Saving while decoding goes on: begin holds on to the sequence's pages as they are (a fork in all
// but name, so sequences go on at once, the saved one included, and may be truncated or destroyed);
// each run writes some more of them, between steps or within one; end lets go.
typedef struct skim_snapshot skim_snapshot;

// Starts a save. args is copied, the blob is not and must live until end, as must what progress
// points to. Until end the snapshot holds its slots as a fork would: they count as shared, stay
// taken if the sequence goes, and adding tokens to a last page that is not full takes a slot for a
// copy, in spite of a reservation. Writes nothing yet and does not block. End with
// skim_snapshot_end, before the cache is destroyed. Errors: SKIM_INVALID, SKIM_STATE (the sequence
// is broken), SKIM_NO_MEMORY, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_snapshot_begin(skim_sequence *sequence,
                                         const skim_snapshot_save_args *args,
                                         skim_snapshot **snapshot);

// Writes about `bytes` more (at least one piece, of at most 1 MiB or one page).
//   left  receives how many bytes are still to write; 0: the snapshot is complete
// Blocks for the work recorded so far. After a failure every further run fails the same way.
// Errors: as skim_snapshot_save.
SKIM_API skim_status skim_snapshot_run(skim_snapshot *snapshot, uint64_t bytes, uint64_t *left);

// Ends the save, complete or not, and frees it. NULL is ignored. Does not block.
SKIM_API void skim_snapshot_end(skim_snapshot *snapshot);

#ifdef __cplusplus
}
#endif
#endif
