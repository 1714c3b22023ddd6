/* Element types and reductions, shared by the channel and the runtime interface. */
#ifndef SHARDRT_TYPES_H
#define SHARDRT_TYPES_H

#ifdef __cplusplus
extern "C" {
#endif

/* Storage is little-endian; bool is one byte, 0 or 1. */
typedef enum shardrt_dtype {
  SHARDRT_F64 = 0,
  SHARDRT_F32 = 1,
  SHARDRT_F16 = 2,
  SHARDRT_BF16 = 3,
  SHARDRT_I64 = 4,
  SHARDRT_I32 = 5,
  SHARDRT_I16 = 6,
  SHARDRT_I8 = 7,
  SHARDRT_UI64 = 8,
  SHARDRT_UI32 = 9,
  SHARDRT_UI16 = 10,
  SHARDRT_UI8 = 11,
  SHARDRT_BOOL = 12,
  SHARDRT_F8E4M3FN = 13, /* largest 448, no infinity */
  SHARDRT_F8E5M2 = 14
} shardrt_dtype;

/* Reductions go over the ranks of the group in order 0, 1, …, G-1; floats of 16 and 8 bits are
   accumulated in f32 and rounded once. max and min propagate NaN. On bool, sum and max are "or",
   prod and min are "and". */
typedef enum shardrt_reduce {
  SHARDRT_SUM = 0,
  SHARDRT_MAX = 1,
  SHARDRT_MIN = 2,
  SHARDRT_PROD = 3
} shardrt_reduce;

#ifdef __cplusplus
}
#endif
#endif
