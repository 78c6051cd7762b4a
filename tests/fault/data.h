// Keys, values and queries of the fault scenarios, made from token numbers; and attention over them
// in double precision.
#ifndef FAULT_DATA_H
#define FAULT_DATA_H

#include "skim/skim.h"

// Element d of one head's key, value or query; exact in every type.
typedef enum data_kind { DATA_KEY, DATA_VALUE, DATA_QUERY } data_kind;
float data_element(data_kind kind, uint32_t token, uint32_t layer, uint32_t head, uint32_t d);

// Fills [count][heads][dim] of the tokens.
void data_fill(void *to, skim_type type, data_kind kind, const uint32_t *tokens, uint32_t count,
               uint32_t layer, uint32_t heads, uint32_t dim);

// Attention of the last of `length` tokens over the listed pages, for one query head: out[dim].
void data_attend(const skim_layer *layer, uint32_t index, const uint32_t *tokens, uint32_t length,
                 uint32_t page_size, uint32_t q_head, const uint32_t *pages, uint32_t count,
                 double *out);

#endif
