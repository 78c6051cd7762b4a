// What host and device code agree on: the words of a row, the numbers of types and kinds, and what
// each kernel is told at a launch. Read as C (by the host, CUDA and OpenCL) and as GLSL.
//
// A launch's fields come to 128 bytes at most, which every Vulkan device takes as push constants.
// An address is a 64-bit device address; on OpenCL, which has none, a byte of the tensor's buffer.
// Keys, values and bounds are counted in units of 16 bytes; all other tensors in their elements.
// Strides of heads carry the type of the tensor in their two highest bits (SKIM_TYPE_SHIFT).
#ifndef SKIM_LAYOUT_H
#define SKIM_LAYOUT_H

#ifdef SKIM_GLSL
#define SKIM_ADDRESS uvec2
#define SKIM_UINT uint
#define SKIM_FLOAT float
#elif defined(__OPENCL_C_VERSION__)
#define SKIM_ADDRESS ulong
#define SKIM_UINT uint
#define SKIM_FLOAT float
#else
#include <stdint.h>
#define SKIM_ADDRESS uint64_t
#define SKIM_UINT uint32_t
#define SKIM_FLOAT float
#endif

// skim_row (skim/row.h), word by word.
#define SKIM_ROW_WORDS 12
#define SKIM_ROW_LENGTH 0
#define SKIM_ROW_QUERY_START 1
#define SKIM_ROW_QUERY_COUNT 2
#define SKIM_ROW_TABLE_START 3
#define SKIM_ROW_PAGE_COUNT 4
#define SKIM_ROW_SELECT_COUNT 5
#define SKIM_ROW_FORCED_FIRST 6
#define SKIM_ROW_FORCED_LAST 7
#define SKIM_ROW_FLAGS 8

// Constants by which kernels are specialised (Vulkan: their constant_id).
#define SKIM_SPEC_TYPE 0         // skim_type of keys and values
#define SKIM_SPEC_DIM 1          // key_dim
#define SKIM_SPEC_PAGE_SIZE 2    // tokens in a page
#define SKIM_SPEC_GROUP 3        // query heads of a kv head
#define SKIM_SPEC_HEADS 4        // of which a workgroup serves so many at once
#define SKIM_SPEC_LANES 5        // threads that share a page's bounds, or a token
#define SKIM_SPEC_BOUNDS 6       // skim_bounds
#define SKIM_SPEC_BOUNDS_TYPE 7  // skim_bounds_type
#define SKIM_SPEC_PARTS 8        // most parts that a list is attended in
#define SKIM_SPEC_KEYS 9         // pages whose keys of order fit in shared memory; 1: none
#define SKIM_SPEC_LISTS 10       // SKIM_LISTS_*
#define SKIM_SPEC_CHUNK_SHIFT 11 // log2 of the units in a chunk of a buffer; 0: all in one piece
#define SKIM_SPEC_MUTANT 12      // of a library built with mutants: skim_mutant_id
#define SKIM_SPEC_TOKENS 13      // pages or tokens that a thread holds at once
#define SKIM_SPEC_COUNT 14

// A list per query head, or one for the query heads of a kv head.
#define SKIM_LISTS_HEAD 1
#define SKIM_LISTS_GROUP 2

#define SKIM_HEADS_MAX 1024 // query heads of a layer

#define SKIM_TYPE_SHIFT 30
#define SKIM_STRIDE_MASK 0x3fffffffu

// The shape as a general kernel is told it: dim / 8, then log2(page_size / 8) and the group.
#define SKIM_SHAPE_WORD(dim, page_size, group)                                                     \
    ((dim) / 8 | ((page_size) >= 64 ? 3u : (page_size) / 16) << 6 | (group) << 8)

// Threads of a workgroup; pages (estimate) and tokens (a tile of attend at 8 lanes) that it takes
// at a time; the shortest part of a list, in tokens; queries and tokens in a tile of prefill.
#define SKIM_THREADS 128
#define SKIM_ESTIMATE_PAGES 64
#define SKIM_PART_TOKENS 64
#define SKIM_PREFILL_QUERIES 16
#define SKIM_SELECT_THREADS 256
#define SKIM_APPEND_THREADS 64

#define SKIM_APPEND_STORE 1u  // store tokens, clear tails
#define SKIM_APPEND_BOUNDS 2u // compute bounds
#define SKIM_APPEND_UNITS 4u  // k and v lie so that they can be read 16 bytes at a time

#define SKIM_APPEND_FIELDS                                                                         \
    SKIM_ADDRESS rows;                                                                             \
    SKIM_ADDRESS table;                                                                            \
    SKIM_ADDRESS k;                                                                                \
    SKIM_ADDRESS v;                                                                                \
    SKIM_ADDRESS keys;                                                                             \
    SKIM_ADDRESS values;                                                                           \
    SKIM_ADDRESS bounds;                                                                           \
    SKIM_ADDRESS centre;                                                                           \
    SKIM_UINT key_page;                                                                            \
    SKIM_UINT key_head;                                                                            \
    SKIM_UINT key_token;                                                                           \
    SKIM_UINT value_page;                                                                          \
    SKIM_UINT value_head;                                                                          \
    SKIM_UINT value_token;                                                                         \
    SKIM_UINT k_token;                                                                             \
    SKIM_UINT k_head;                                                                              \
    SKIM_UINT v_token;                                                                             \
    SKIM_UINT v_head;                                                                              \
    SKIM_UINT slots;                                                                               \
    SKIM_UINT flags;                                                                               \
    SKIM_UINT shape;

#define SKIM_ESTIMATE_FIELDS                                                                       \
    SKIM_ADDRESS rows;                                                                             \
    SKIM_ADDRESS table;                                                                            \
    SKIM_ADDRESS q;                                                                                \
    SKIM_ADDRESS bounds;                                                                           \
    SKIM_ADDRESS centre;                                                                           \
    SKIM_ADDRESS scores;                                                                           \
    SKIM_UINT q_token;                                                                             \
    SKIM_UINT q_head;                                                                              \
    SKIM_UINT slots;                                                                               \
    SKIM_UINT score_stride;                                                                        \
    SKIM_UINT shape;                                                                               \
    SKIM_FLOAT spread;

#define SKIM_SELECT_FIELDS                                                                         \
    SKIM_ADDRESS rows;                                                                             \
    SKIM_ADDRESS scores;                                                                           \
    SKIM_ADDRESS lists;                                                                            \
    SKIM_ADDRESS keys; /* u32 [row][list][key_stride], where they do not fit in shared memory */   \
    SKIM_UINT score_stride;                                                                        \
    SKIM_UINT list_stride;                                                                         \
    SKIM_UINT key_stride;                                                                          \
    SKIM_UINT combine;                                                                             \
    SKIM_UINT shape;                                                                               \
    SKIM_FLOAT scale;

#define SKIM_ATTEND_FIELDS                                                                         \
    SKIM_ADDRESS rows;                                                                             \
    SKIM_ADDRESS table;                                                                            \
    SKIM_ADDRESS q;                                                                                \
    SKIM_ADDRESS keys;                                                                             \
    SKIM_ADDRESS values;                                                                           \
    SKIM_ADDRESS lists;                                                                            \
    SKIM_ADDRESS out_; /* "out" is a word of GLSL's */                                             \
    SKIM_ADDRESS lse;                                                                              \
    SKIM_ADDRESS partials; /* [row][q_head][part][4 + dim] f32: max, sum, 0, 0, out; of a general  \
                              kernel: that address, the shape, the most parts */                   \
    SKIM_UINT key_page;                                                                            \
    SKIM_UINT key_head;                                                                            \
    SKIM_UINT key_token;                                                                           \
    SKIM_UINT value_page;                                                                          \
    SKIM_UINT value_head;                                                                          \
    SKIM_UINT value_token;                                                                         \
    SKIM_UINT q_token;                                                                             \
    SKIM_UINT q_head;                                                                              \
    SKIM_UINT out_token;                                                                           \
    SKIM_UINT out_head;                                                                            \
    SKIM_UINT lse_token;                                                                           \
    SKIM_UINT lse_head;                                                                            \
    SKIM_UINT list_stride;                                                                         \
    SKIM_FLOAT scale;

#endif
