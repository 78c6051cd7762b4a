// What each kernel is told at a launch: the fields of layout.h, and what only CUDA's want. A kernel
// has one of these as its parameter.
#ifndef SKIM_CUDA_LAUNCH_H
#define SKIM_CUDA_LAUNCH_H

#include "shaders/cuda/kernels.h"
#include "shaders/layout.h"

typedef struct skim_cuda_append_launch {
    SKIM_APPEND_FIELDS
} skim_cuda_append_launch;

typedef struct skim_cuda_estimate_launch {
    SKIM_ESTIMATE_FIELDS
    SKIM_UINT kind; // skim_bounds
} skim_cuda_estimate_launch;

typedef struct skim_cuda_select_launch {
    SKIM_SELECT_FIELDS
    SKIM_UINT lists_per_row;
    SKIM_UINT list_heads; // query heads whose scores a list combines
    // Of lists that several blocks share: candidates of a block, most blocks of a list, and what
    // the blocks tell each other from one launch to the next.
    SKIM_UINT segment;
    SKIM_UINT segments;
    SKIM_UINT pass;
    SKIM_ADDRESS sums;   // f32 [row][q_head][segment][2]: maximum, sum of exponentials
    SKIM_ADDRESS counts; // u32 [row][list][pass][segment][SKIM_CUDA_DIGITS]: keys with a digit
    SKIM_ADDRESS states; // u32 [row][list][1 + SKIM_CUDA_PASSES][2]: see select.cu
    SKIM_ADDRESS ranks;  // u32 [row][list][segment][2]: keys above the threshold, and at it
} skim_cuda_select_launch;

typedef struct skim_cuda_attend_launch {
    SKIM_ATTEND_FIELDS
    SKIM_UINT shape;
    SKIM_UINT parts;          // most parts of a list
    SKIM_UINT has_head_lists; // 1: a list per query head, and so one query head a block
    SKIM_UINT rows_taken;     // SKIM_CUDA_ROWS_*
    SKIM_UINT first_tile;     // of prefill: what the grid begins with
    SKIM_ADDRESS counters;    // u32 [row][block of heads]: parts that are done; 0 between launches
} skim_cuda_attend_launch;

// The rows that a launch of attend takes: how a dense row is attended must not depend on the lists
// of others, and one query head a block is another order of sums than several.
#define SKIM_CUDA_ROWS_ALL 0
#define SKIM_CUDA_ROWS_LISTED 1
#define SKIM_CUDA_ROWS_DENSE 2

#define SKIM_CUDA_DIGITS 256     // of a pass over keys of order
#define SKIM_CUDA_PASSES 4       // that a key has digits
#define SKIM_CUDA_SEGMENT 2048   // least pages of a block, of those that share a list
#define SKIM_CUDA_SEGMENTS 64    // most blocks that share a list
#define SKIM_CUDA_NEAR_KEYS 8192 // pages of a list that one block can do alone

#endif
