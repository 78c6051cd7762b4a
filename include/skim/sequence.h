// Sequences: token streams whose K and V live in a cache.
#ifndef SKIM_SEQUENCE_H
#define SKIM_SEQUENCE_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// Creates an empty sequence; it takes slots as tokens are appended. The cache owns its memory.
// Does not block. Errors: SKIM_INVALID, SKIM_STATE (max_sequences are alive).
SKIM_API skim_status skim_sequence_create(skim_cache *cache, skim_sequence **sequence);

// Ends the sequence and gives its slots back. NULL is ignored. A sequence in an open step is kept
// and SKIM_STATE returned. Work already recorded still sees its pages. Does not block.
SKIM_API skim_status skim_sequence_destroy(skim_sequence *sequence);

// Returns how many tokens the sequence holds, without those of an open step; 0 for NULL.
SKIM_API uint64_t skim_sequence_length(const skim_sequence *sequence);

#ifdef __cplusplus
}
#endif
#endif
