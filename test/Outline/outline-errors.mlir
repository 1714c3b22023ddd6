// RUN: shard-opt %s --shard-outline=entry=forward --verify-diagnostics

// expected-error@+1 {{no function @forward to outline}}
module {}
