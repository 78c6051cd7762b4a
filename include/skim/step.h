// Steps: one forward pass over a batch of sequences.
//
//     begin -> for each layer: append, attend -> end
//
// One step is open in a cache at a time. append and attend record; skim_queue_submit or
// skim_queue_finish on the cache's queue starts what they recorded. A layer's attend sees what that
// layer's append stored, so append comes first. Layers may come in any order, each append once;
// attend may be left out or, with another policy or query, repeated.
#ifndef SKIM_STEP_H
#define SKIM_STEP_H

#include "skim/base.h"
#include "skim/policy.h"
#include "skim/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

// One sequence of a step. Tokens of the step's tensors are those of the first entry, then of the
// second and so on.
typedef struct skim_step_entry {
    skim_sequence *sequence; // of this cache; not twice in one step
    uint32_t tokens; // new tokens, >= 1; more than one makes the sequence dense in this step
} skim_step_entry;

// Opens a step: reserves slots for every new token of every sequence, or fails whole. Allocates
// nothing if the cache is prepared. The cache owns the step; its pointer ends at end or cancel.
//   entries  count of them, 1 <= count <= max_sequences; copied
// Errors: SKIM_INVALID, SKIM_STATE (a step is open), SKIM_NO_SLOTS (too few slots are free, or
// a sequence would exceed max_sequence_tokens; says which, and the figures),
// SKIM_FAILED, SKIM_DEVICE_LOST; if the cache was not prepared, those of skim_cache_prepare.
SKIM_API skim_status skim_step_begin(skim_cache *cache, const skim_step_entry *entries,
                                     uint32_t count, skim_step **step);

// Records the storing of one layer's new keys and values, and the update of the bounds.
//   k  [tokens][kv_heads][key_dim], the layer's type;  v  [tokens][kv_heads][value_dim], the same
// Errors: SKIM_INVALID (no such layer, a tensor of the wrong type or too small), SKIM_STATE (this
// layer was appended in this step already), SKIM_NO_MEMORY, SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_step_append(skim_step *step, uint32_t layer, const skim_tensor *k,
                                      const skim_tensor *v);

typedef struct skim_step_attend_args {
    size_t size_of;
    skim_tensor q;   // [tokens][q_heads][key_dim], f32, f16 or bf16
    skim_tensor out; // [tokens][q_heads][value_dim], f32, f16 or bf16; written
    skim_tensor lse; // [tokens][q_heads] f32, natural log of the sum of exponentials; written. Type
                     // SKIM_TYPE_NONE: not wanted
    const skim_policy *policy;     // for this call only; NULL: the layer's
    const skim_progress *progress; // NULL: the call only records. Else it works in pieces of some
                                   // hundred tokens, submits and waits for each, and reports tokens
} skim_step_attend_args;

// Records one layer's attention: estimate, select and attend for the sequences that run sparse,
// dense attention for the others. When all pages fit the budget the result is the dense result, bit
// for bit. With progress, for long prefills, it blocks; the results are the same. Errors: as
// skim_step_append, SKIM_STATE (the layer was not appended in this step), SKIM_CANCELLED (the step
// stays open and out is undefined; attend may be repeated). After a failure nothing writes to out
// and lse any more; what can neither be submitted nor waited for is dropped, and then the step can
// only be cancelled.
SKIM_API skim_status skim_step_attend(skim_step *step, uint32_t layer,
                                      const skim_step_attend_args *args);

// What one layer's last attend in this step reads, known without asking the device.
typedef struct skim_step_report {
    size_t size_of;
    uint32_t sparse_sequences; // how many ran sparse
    uint32_t dense_sequences;
    uint64_t pages_total;  // pages of all sequences, once per list (q or kv head)
    uint64_t pages_read;   // pages on all lists; dense sequences count all of theirs
    uint64_t bounds_bytes; // bounds read
    uint64_t page_bytes;   // K and V on the lists, each by itself (those of one kv head may share)
    uint64_t dense_bytes;  // K and V that dense attention would read
    uint32_t lists;        // lists per sparse sequence
} skim_step_report;

// Fills report (size_of set). Does not block. Errors: SKIM_INVALID, SKIM_STATE (no attend yet).
SKIM_API skim_status skim_step_get_report(const skim_step *step, uint32_t layer,
                                          skim_step_report *report);

// Tells which pages the step's most recent attend read for one query head of one sequence (for a
// sequence of several new tokens: the last one). For inspection: submits and waits.
//   entry     index into the entries given to begin
//   pages     receives page indices, ascending; capacity entries
//   count     receives how many there are; if that is more than capacity, only count is written and
//             the answer is SKIM_INVALID
// Errors: SKIM_INVALID, SKIM_STATE (no attend yet), SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_step_pages(skim_step *step, uint32_t entry, uint32_t q_head,
                                     uint32_t *pages, uint32_t capacity, uint32_t *count);

// Closes the step: the new tokens become part of their sequences. Every layer must have been
// appended. Submits what is recorded.
//   point  receives the point at which the step's work is done; may be NULL
// Errors: SKIM_STATE (a layer was not appended; the step stays open), SKIM_NO_MEMORY, SKIM_FAILED,
// SKIM_DEVICE_LOST.
SKIM_API skim_status skim_step_end(skim_step *step, uint64_t *point);

// Closes the step and leaves every sequence as it was before begin; slots that begin reserved are
// free again. What was recorded still runs with the next submission: out and lse in host memory
// must live until that is done (skim_queue_finish). NULL is ignored. Does not block.
SKIM_API void skim_step_cancel(skim_step *step);

#ifdef __cplusplus
}
#endif
#endif
