// Snapshots under faults.
#include "tests/fault/scenarios.h"

#include <string.h>

static int put(void *user, const void *data, size_t size)
{
    world *w = user;
    if (w->file_size + size > WORLD_FILE)
        return 1;
    memcpy(w->file + w->file_size, data, size);
    w->file_size += size;
    return 0;
}

static int get(void *user, void *data, size_t size)
{
    world *w = user;
    if (w->file_at + size > w->file_size)
        return 1;
    memcpy(data, w->file + w->file_at, size);
    w->file_at += size;
    return 0;
}

static const char note[] = "a note of the host's own";

static skim_snapshot_save_args save_args(world *w)
{
    return (skim_snapshot_save_args){.size_of = sizeof(skim_snapshot_save_args),
                                     .write = put,
                                     .user = w,
                                     .fingerprint = {7, 1},
                                     .blob = note,
                                     .blob_size = sizeof note};
}

// A save that failed has written something; the host begins its file again.
static skim_status save_once(world *w, uint32_t index)
{
    const skim_snapshot_save_args args = save_args(w);
    w->file_size = 0;
    return skim_snapshot_save(w->sequences[index].handle, &args);
}

static skim_status save(world *w, uint32_t index)
{
    DO(w, ON_CACHE, save_once(w, index));
    world_result(w, w->file, w->file_size);
    return SKIM_OK;
}

static skim_status load_once(world *w, uint32_t index, char *blob)
{
    const skim_snapshot_load_args args = {.size_of = sizeof args,
                                          .read = get,
                                          .user = w,
                                          .fingerprint = {7, 1},
                                          .blob = blob,
                                          .blob_capacity = sizeof note};
    w->file_at = 0;
    return skim_snapshot_load(w->sequences[index].handle, &args);
}

// Loads what sequence `saved` was when it was saved, and still is in the model.
static skim_status load(world *w, uint32_t index, const world_sequence *saved)
{
    char blob[sizeof note];
    DO(w, ON_CACHE, load_once(w, index, blob));
    if (memcmp(blob, note, sizeof note) != 0)
        world_problem(w, "the blob is another");
    world_sequence *own = &w->sequences[index];
    memcpy(own->tokens, saved->tokens, sizeof own->tokens);
    own->length = own->sound = saved->length;
    own->touched = false;
    return SKIM_OK;
}

// A whole save, one of a sequence whose last step is still in flight, and one of an empty one.
skim_status fault_snapshot_save(world *w)
{
    PASS(save(w, 0));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 5}}, .unwaited = true}));
    PASS(save(w, 0));
    PASS(world_create_sequence(w, 1));
    PASS(save(w, 1));
    return world_decode_all(w);
}

skim_status fault_snapshot_load(world *w)
{
    static world_sequence saved;
    PASS(save(w, 0));
    saved = w->sequences[0];
    PASS(world_create_sequence(w, 1));
    PASS(load(w, 1, &saved));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 9}, {1, 1}}}));
    PASS(world_fork(w, 0, 2));
    PASS(load(w, 0, &saved)); // over tokens that it shares
    PASS(world_run_step(w, &(world_step){.entries = {{2, 4}}, .unwaited = true}));
    PASS(load(w, 1, &saved)); // while a step is in flight
    return world_decode_all(w);
}

// --- piece by piece

// One more piece. One that fails ends the save, and it is begun again.
static skim_status run_piece(world *w, uint32_t index, uint64_t bytes, uint64_t *left)
{
    const skim_snapshot_save_args args = save_args(w);
    for (int attempt = 0; attempt < 6; attempt++) {
        if (!w->snapshot) {
            w->file_size = 0;
            DO(w, ON_CACHE, skim_snapshot_begin(w->sequences[index].handle, &args, &w->snapshot));
        }
        world_before(w, ON_CACHE, "skim_snapshot_run");
        skim_status status = skim_snapshot_run(w->snapshot, bytes, left);
        world_again(w, status);
        if (status == SKIM_OK || status == SKIM_DEVICE_LOST || w->problem[0])
            return status;
        if (skim_snapshot_run(w->snapshot, bytes, left) != status)
            world_problem(w, "a snapshot that failed goes on");
        skim_snapshot_end(w->snapshot);
        w->snapshot = NULL;
    }
    world_problem(w, "fails for ever");
    return SKIM_FAILED;
}

// Sequence 1 is saved while 0, of which it was forked, decodes, shrinks and goes.
skim_status fault_snapshot_in_pieces(world *w)
{
    uint64_t left = 1;
    PASS(world_fork(w, 0, 1));
    PASS(run_piece(w, 1, 1000, &left));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 1}}}));
    PASS(run_piece(w, 1, 20000, &left));
    PASS(world_truncate(w, 0, 12));
    PASS(world_run_step(w, &(world_step){.entries = {{0, 11}}, .unwaited = true}));
    PASS(run_piece(w, 1, 20000, &left));
    PASS(world_destroy_sequence(w, 0));
    for (int i = 0; i < 64 && left > 0; i++)
        PASS(run_piece(w, 1, 30000, &left));
    skim_snapshot_end(w->snapshot);
    w->snapshot = NULL;
    world_result(w, w->file, w->file_size);
    return world_decode_all(w);
}
