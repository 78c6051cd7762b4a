// Shared by the vectors of all levels. A level's vec_<level>.h defines
//   vec, vec_mask, vec_int           W lanes of f32, a selection of them, W lanes of int32
//   W, TILE_ACCUMULATORS             lanes; sums that the registers hold at once in a matrix tile
//   GEMM_ROWS, GEMM_VECTORS          the register tile of prefill
//   v_*                              the operations below
#ifndef SKIM_CPU_VEC_H
#define SKIM_CPU_VEC_H

#include "skim/base.h"

#include <string.h>

#define INLINE static inline __attribute__((__always_inline__))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

// Polynomials of single precision: 2^x on [-1/2, 1/2] (Cephes) and log2 from the odd series in
// t = (m - 1) / (m + 1).
#define EXP2_C6 1.535336188319500e-4f
#define EXP2_C5 1.339887440266574e-3f
#define EXP2_C4 9.618437357674640e-3f
#define EXP2_C3 5.550332471162809e-2f
#define EXP2_C2 2.402264791363012e-1f
#define EXP2_C1 6.931472028550421e-1f
#define LOG2_C1 2.885390081777927f
#define LOG2_C3 0.961796693925976f
#define LOG2_C5 0.577078016355585f
#define LOG2_C7 0.412198583111132f
#define LOG2_C9 0.320598897975325f

#endif
