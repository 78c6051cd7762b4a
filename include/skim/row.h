// The row: all that a kernel knows of one sequence in one step. The same bytes on the host and on
// every device: twelve 32-bit words.
#ifndef SKIM_ROW_H
#define SKIM_ROW_H

#include <stdint.h>

// The row attends to every page, causally; estimate and select skip it. A row with more than one
// query has it. skim_policy_resolve also sets it when page_count <= select_count; such a row
// without it has all of its pages on its lists.
#define SKIM_ROW_DENSE 1u
// Append also sets to zero what lies past the row's length in its last page, for every kv head: a
// page that another sequence had before holds nothing of it afterwards.
#define SKIM_ROW_CLEAR 2u

typedef struct skim_row {
    uint32_t length;       // valid tokens, those that this step appends included
    uint32_t query_start;  // index of its first token in the step's q, k, v and out
    uint32_t query_count;  // its tokens in this step: the last query_count of length
    uint32_t table_start;  // index of its first slot in the page table
    uint32_t page_count;   // pages of its length: ceil(length / page_size)
    uint32_t select_count; // K: pages on its lists, >= the forced ones. 0 (attend only): none, so
                           // that out is 0 and lse -infinity: an empty part of a merge
    uint32_t forced_first; // pages forced at the start of the sequence
    uint32_t forced_last;  // pages forced at its end, >= 1
    uint32_t flags;        // SKIM_ROW_* bits
    uint32_t reserved[3];  // zero
} skim_row;

#endif
