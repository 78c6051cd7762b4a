// A step's rows: lengths, page tables and policy resolved for the kernels.
#ifndef SKIM_ROWS_H
#define SKIM_ROWS_H

#include "runtime/cache.h"

// The rows of a policy class, max_sequences apart; the classes after layer_count are SKIM_ROWS_OWN
// and SKIM_ROWS_PIECE.
skim_row *skim_rows_of(const skim_cache *cache, uint32_t policy_class);
skim_tensor skim_rows_tensor(const skim_cache *cache, uint32_t policy_class);

// Fills the rows of one class for the open step.
void skim_rows_fill(const skim_cache *cache, uint32_t policy_class, const skim_policy *policy,
                    bool dense);

// Records the upload of count classes' rows.
skim_status skim_rows_upload(skim_cache *cache, uint32_t first_class, uint32_t count);

// Records the upload of a sequence's table entries that the device does not have yet.
skim_status skim_table_upload(skim_sequence *sequence);

// An append of one layer without K and V; freezes the centre if it is not frozen.
skim_append_args skim_cache_append_args(const skim_cache *cache, const skim_cache_layer *own,
                                        uint32_t policy_class, uint32_t row_count);

skim_tensor skim_table_tensor(const skim_cache *cache);
uint32_t skim_table_count(const skim_cache *cache);

#endif
