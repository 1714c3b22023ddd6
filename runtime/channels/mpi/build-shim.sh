#!/bin/sh
# Builds the MPI shim for one MPI installation:
#   runtime/channels/mpi/build-shim.sh mpicc.mpich build/lib/libshardrt-mpi-mpich.so
# shard-run looks for it beside itself, in ../lib, and where SHARDRT_MPI_SHIM points.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: build-shim.sh MPICC OUTPUT.so" >&2
  exit 2
fi
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
mkdir -p "$(dirname -- "$2")"
"$1" -O2 -fPIC -shared -fvisibility=hidden -I "$here/../../.." "$here/shim.c" -o "$2"
