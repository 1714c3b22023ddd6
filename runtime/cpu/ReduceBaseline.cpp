#define REDUCE_NAMESPACE baseline
#include "runtime/cpu/ReduceLoops.inc"
