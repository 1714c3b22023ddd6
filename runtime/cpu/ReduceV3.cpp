// Compiled with -march=x86-64-v3.
#define REDUCE_NAMESPACE v3
#include "runtime/cpu/ReduceLoops.inc"
