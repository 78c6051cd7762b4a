// Tier 2: append, estimate, select and attend on the caller's own paged buffers.
//
// For engines that already have a paged KV cache. An engine keeps its K and V pools, page tables
// and lengths, adds one buffer of bounds per layer (skim_bounds_size), and records the four verbs
// on a queue. Tier 1 (skim/cache.h, skim/step.h) is written on these.
//
// Rows may be host memory, which is checked and consumed by the call, or a device buffer, whose
// content is trusted: every row must then satisfy what skim/row.h says, and every table entry must
// be < slots.
#ifndef SKIM_VERBS_H
#define SKIM_VERBS_H

#include "skim/base.h"
#include "skim/policy.h"
#include "skim/row.h"
#include "skim/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

// The shape of one layer's paged cache and the capacity that is planned for. Grids, scratch and the
// way work is split depend on it and not on what is in a batch.
typedef struct skim_shape {
    size_t size_of;
    uint32_t q_heads; // a multiple of kv_heads
    uint32_t kv_heads;
    uint32_t key_dim;
    uint32_t value_dim; // equal to key_dim, else SKIM_UNSUPPORTED
    uint32_t page_size; // tokens in a page
    skim_type type;     // of K and V
    skim_bounds bounds;
    skim_bounds_type bounds_type;
    uint32_t slots;      // physical pages in the pool
    uint32_t max_rows;   // most sequences in one call
    uint32_t max_tokens; // most new tokens in one call, all sequences together
    uint32_t max_pages;  // most pages of one sequence
} skim_shape;

// K or V of one layer in a pool: element (slot, head, token, d) is at offset bytes plus
// slot * page_stride + head * head_stride + token * token_stride + d elements.
typedef struct skim_paged {
    skim_buffer *buffer;
    uint64_t offset;      // bytes, a multiple of 16
    uint64_t page_stride; // elements, multiples of 8 each
    uint64_t head_stride;
    uint64_t token_stride; // >= the head's dim
} skim_paged;

// Bytes of bounds for every slot of a layer. The layout is the backend's own; contents need no
// initialisation. Thread-safe. Errors: SKIM_INVALID, SKIM_UNSUPPORTED.
SKIM_API skim_status skim_bounds_size(skim_device *device, const skim_shape *shape,
                                      uint64_t *bytes);

// Builds the kernels that the shape needs and reserves the queue's scratch memory for it, so that
// verbs of this shape allocate and compile nothing. Verbs of a shape that the queue was not
// prepared for are refused with SKIM_STATE: q_heads, kv_heads, dims, page_size, type, bounds and
// bounds_type must match a prepared shape, and the capacities must not exceed it. May be called
// again for other shapes. Blocks. Errors: SKIM_INVALID, SKIM_UNSUPPORTED, SKIM_NO_MEMORY,
// SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_queue_prepare(skim_queue *queue, const skim_shape *shape);

// Stores the new tokens' K and V in their pages and brings the bounds of every touched page up to
// date: tokens length - query_count .. length - 1 of each row. Rows with query_count 0 are skipped.
// Without k and v the tokens are in their pages already, and only the bounds are computed: with
// query_count = length, those of every page of the row.
//
// SKIM_BOUNDS_I8 stores bounds as int8 around a centre c0 per kv head and channel, which must not
// change while bounds that were made with it are in use. freeze sets it, before the bounds, to the
// mean of the keys of all of this call's tokens.
typedef struct skim_append_args {
    size_t size_of;
    const skim_shape *shape;
    skim_tensor rows; // [row_count] skim_row, type SKIM_U32
    uint32_t row_count;
    uint32_t token_count; // tokens of all rows together: query_start + query_count stays within it
    skim_tensor table;    // page tables, type SKIM_U32: slot of page p is entry table_start + p
    uint32_t table_count; // entries in the table: table_start + page_count stays within it
    skim_tensor k;     // [token_count][kv_heads][key_dim], the shape's type; type SKIM_TYPE_NONE, v
                       // too: only bounds, and query_start and token_count are ignored
    skim_tensor v;     // [token_count][kv_heads][value_dim], the shape's type
    skim_paged keys;   // written
    skim_paged values; // written
    skim_buffer *bounds;    // written; skim_bounds_size bytes from bounds_offset
    uint64_t bounds_offset; // bytes, a multiple of 64
    skim_buffer *centre;    // SKIM_BOUNDS_I8: c0, f32 [kv_heads][key_dim]; else NULL
    uint64_t centre_offset; // bytes, a multiple of 64
    uint32_t freeze;        // SKIM_BOUNDS_I8: 1: write the centre first; else 0
} skim_append_args;

// Scores every page of each row that is not dense, for its one query (rows with query_count 0 are
// skipped): score[row][q_head][page] = sum over d of a_d * B0[page, d] + b_d * B1[page, d], where
// for SKIM_BOUNDS_MINMAX B0 is the maximum, B1 the minimum, a = max(q, 0), b = min(q, 0), and for
// SKIM_BOUNDS_MEANSTD B0 is the mean, B1 the deviation, a = q, b = spread * |q|. Source: Quest,
// Algorithm 1. The score of a forced page is not used by select and need not be computed.
typedef struct skim_estimate_args {
    size_t size_of;
    const skim_shape *shape;
    skim_tensor rows;
    uint32_t row_count;
    uint32_t token_count;
    skim_tensor table;
    uint32_t table_count;
    skim_tensor q;       // [token_count][q_heads][key_dim], f32, f16 or bf16
    skim_buffer *bounds; // read
    uint64_t bounds_offset;
    skim_buffer *centre; // as append's; read
    uint64_t centre_offset;
    float spread;           // lambda
    skim_buffer *scores;    // f32, written: score (row, head, page) is element
    uint64_t scores_offset; // (row * q_heads + head) * score_stride + page after this many bytes
    uint64_t score_stride;  // elements, >= the shape's max_pages
} skim_estimate_args;

// Chooses K = min(select_count, page_count) pages for each list of each row that is not dense (and
// has a query): the forced ones, then the highest scores, ties to the lower page. Lists are page
// indices (not slots), ascending, without duplicates. Lists per row: q_heads for SKIM_SELECT_HEAD,
// kv_heads for SKIM_SELECT_GROUP.
typedef struct skim_select_args {
    size_t size_of;
    const skim_shape *shape;
    skim_tensor rows;
    uint32_t row_count;
    skim_buffer *scores; // as estimate writes them; read
    uint64_t scores_offset;
    uint64_t score_stride;
    skim_select_mode select;
    skim_combine combine;
    float scale;           // of the softmax forms; 0: 1 / sqrt(key_dim)
    skim_buffer *lists;    // u32, written: entry i of list l of a row is element
    uint64_t lists_offset; // (row * lists_per_row + l) * list_stride + i after this many bytes
    uint64_t list_stride;  // elements, >= the largest K
} skim_select_args;

// Exact attention: out = softmax(scale * q . K^T) . V over the valid tokens of the listed pages
// (rows that are not dense), or over every token up to and including the query's own (rows that
// are). All arithmetic accumulates in f32.
typedef struct skim_attend_args {
    size_t size_of;
    const skim_shape *shape;
    skim_tensor rows;
    uint32_t row_count;
    uint32_t token_count;
    skim_tensor table;
    uint32_t table_count;
    skim_tensor q;           // [token_count][q_heads][key_dim], f32, f16 or bf16
    skim_paged keys;         // read
    skim_paged values;       // read
    skim_select_mode select; // what the lists are; ignored when lists is NULL
    skim_buffer *lists;      // as select writes them; NULL: every row must be dense
    uint64_t lists_offset;
    uint64_t list_stride;
    float scale;     // 0: 1 / sqrt(key_dim)
    skim_tensor out; // [token_count][q_heads][value_dim], f32, f16 or bf16; written
    skim_tensor lse; // [token_count][q_heads] f32, natural logarithm of the sum of exponentials;
                     // written; type SKIM_TYPE_NONE: not wanted
} skim_attend_args;

// The four calls record their verb on a queue that was prepared for the shape; what they do is
// written at their arguments. args is read before the call returns, and so are inputs in host
// memory; buffers must live until the submission's point is reached. A call does not block, except
// that it waits for earlier submitted work when more host memory is in flight than the queue's
// staging holds. Errors: SKIM_INVALID (a field is null, zero, overflows, is over a limit, does not
// fit its buffer, or a host row contradicts itself), SKIM_UNSUPPORTED, SKIM_STATE (the queue is not
// prepared), SKIM_NO_MEMORY, SKIM_FAILED, SKIM_DEVICE_LOST; the sentence is on the queue.

// Stores new keys and values and updates bounds. As above.
SKIM_API skim_status skim_append(skim_queue *queue, const skim_append_args *args);

// Scores pages from their bounds. As above.
SKIM_API skim_status skim_estimate(skim_queue *queue, const skim_estimate_args *args);

// Chooses pages by their scores. As above.
SKIM_API skim_status skim_select(skim_queue *queue, const skim_select_args *args);

// Attends to the chosen pages, or to all. As above.
SKIM_API skim_status skim_attend(skim_queue *queue, const skim_attend_args *args);

#ifdef __cplusplus
}
#endif
#endif
