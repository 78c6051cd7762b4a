// A step's rows: lengths, page tables and policy resolved for the kernels.
#ifndef SKIM_ROWS_H
#define SKIM_ROWS_H

#include "runtime/cache.h"

// The rows of a policy class, max_sequences apart; class layer_count is that of a call's own
// policy.
skim_row *skim_rows_of(const skim_cache *cache, uint32_t policy_class);
skim_tensor skim_rows_tensor(const skim_cache *cache, uint32_t policy_class);

// Fills the rows of one class for the open step.
void skim_rows_fill(const skim_cache *cache, uint32_t policy_class, const skim_policy *policy,
                    bool dense);

// Records the upload of count classes' rows.
skim_status skim_rows_upload(skim_cache *cache, uint32_t first_class, uint32_t count);

// Records the upload of a member's table entries from its page `first` on.
skim_status skim_table_upload(skim_cache *cache, const skim_sequence *sequence, uint32_t first);

skim_tensor skim_table_tensor(const skim_cache *cache);
uint32_t skim_table_count(const skim_cache *cache);

#endif
