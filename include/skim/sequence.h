// Sequences: token streams whose K and V live in a cache.
//
// A sequence holds whole pages. Pages may be shared: a fork starts with all of its source's, and a
// page that is not full is copied when one of those who share it adds tokens to it. fork, truncate
// and destroy touch no K, V or bounds, record nothing and do not block; work already recorded still
// sees the pages it was recorded for.
#ifndef SKIM_SEQUENCE_H
#define SKIM_SEQUENCE_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// Creates an empty sequence; it takes slots as tokens are appended. The cache owns its memory.
// Does not block. Errors: SKIM_INVALID, SKIM_STATE (max_sequences are alive).
SKIM_API skim_status skim_sequence_create(skim_cache *cache, skim_sequence **sequence);

// Creates a sequence with the same tokens as source, in the same slots. Takes no slot and copies no
// K or V; who adds tokens to a page that is not full and that others hold takes one slot and copies
// that page, in its own skim_step_begin. If all who hold it are in that step, one of them stays in
// the page. A reservation stays with source. Does not block.
// Errors: SKIM_INVALID, SKIM_STATE (max_sequences are alive, source is in an open step or broken).
SKIM_API skim_status skim_sequence_fork(skim_sequence *source, skim_sequence **fork);

// Shortens the sequence to its first `length` tokens: it is then as if no more had ever been
// appended. Gives back the slots past the end, except those reserved. A broken sequence is whole
// again if length <= its sound_length (skim_sequence_info). Does not block.
// Errors: SKIM_INVALID (longer than it is; a broken one: than its sound_length), SKIM_STATE (the
// sequence is in an open step).
SKIM_API skim_status skim_sequence_truncate(skim_sequence *sequence, uint64_t length);

// Reserves slots for `tokens` tokens in all, those it has included, so that steps up to that length
// take none; gives back slots reserved before beyond that (0: all of them). Counts a page to be
// copied: if the last page is shared and not full, it is copied now. The reservation stays through
// truncate, less slots that were shared, until the next reserve. A later fork
// or piecewise snapshot shares the last page again. Does not block.
// Errors: SKIM_INVALID (more than max_sequence_tokens), SKIM_NO_SLOTS, SKIM_STATE (the sequence is
// in an open step or broken), SKIM_NO_MEMORY, SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_sequence_reserve(skim_sequence *sequence, uint64_t tokens);

// Ends the sequence and gives its slots back; those it shared stay with the others. NULL is
// ignored. A sequence in an open step is kept and SKIM_STATE returned. Does not block.
SKIM_API skim_status skim_sequence_destroy(skim_sequence *sequence);

// Returns how many tokens the sequence holds, without those of an open step; 0 for NULL.
SKIM_API uint64_t skim_sequence_length(const skim_sequence *sequence);

typedef struct skim_sequence_info {
    size_t size_of;
    uint64_t length; // tokens, without those of an open step
    // Submitted work that stored this sequence's tokens failed (SKIM_FAILED from a wait): it can
    // only be truncated to at most sound_length, or destroyed.
    uint32_t broken;
    uint64_t sound_length; // if broken: tokens known to be stored; else length
    uint64_t reserved;     // tokens last reserved, rounded up to pages
    uint32_t slots;        // held, shared and reserved ones included
    uint32_t slots_shared; // of those, also in other sequences
} skim_sequence_info;

// Fills info (size_of set). Does not block. Errors: SKIM_INVALID.
SKIM_API skim_status skim_sequence_get_info(const skim_sequence *sequence,
                                            skim_sequence_info *info);

#ifdef __cplusplus
}
#endif
#endif
