"""A compiled bundle, to look at and to run.

    bundle = shardc.load("llama.bundle")
    logits = bundle.run(input_ids=ids)["logits"]

The ranks of the mesh are threads of this process, on the same runtime, kernels and collectives as shard-run's; for one
process a rank, or several machines, use shard-run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_int64, c_void_p, cast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _runtime, _tools
from .arrays import as_array, dtype_name, numpy_dtype
from .safetensors import Safetensors, open_safetensors


@dataclass(frozen=True)
class Value:
    """A model input or output, whole (not a rank's part of it). `alias`: the input that this output replaces."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    alias: str | None = None

    @property
    def type(self) -> str:
        return f"{self.dtype} {list(self.shape)}"

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


def _values(facts: list[_runtime.ValueFacts]) -> dict[str, Value]:
    values = {}
    for fact in facts:
        alias = fact.alias.decode() if fact.alias else None
        name = fact.name.decode()
        values[name] = Value(name, fact.dtype_name(), tuple(fact.shape[: fact.dims]), alias)
    return values


class _Job:
    """Channels and sessions of all ranks. Each rank's calls are made together with the others', in its own thread."""

    def __init__(self, bundle: Bundle):
        self.runtime, self.ranks = bundle._runtime, bundle.ranks
        self.pool = ThreadPoolExecutor(self.ranks, thread_name_prefix="shardrt-rank")
        self.channels = (c_void_p * self.ranks)()
        self.sessions = [c_void_p() for _ in range(self.ranks)]
        facts = bundle._facts
        options = _runtime.ChannelOptions(
            ranks=self.ranks,
            arena_bytes=facts.arena_bytes,
            fingerprint=facts.fingerprint,
            max_groups=facts.max_groups,
            timeout_s=bundle._timeout,
        )
        self.runtime.channel_create_inprocess(byref(options), self.channels)
        weights = str(bundle._weights).encode() if bundle._weights else None
        threads = bundle._threads or max(1, len(os.sched_getaffinity(0)) // self.ranks)

        def create(rank: int) -> None:
            options = _runtime.SessionOptions(
                weights=weights, threads=threads, local_rank=rank, trace=int(bundle._trace), poison=int(bundle._poison)
            )
            session = self.sessions[rank]
            self.runtime.session_create(bundle._handle, self.channels[rank], byref(options), byref(session))

        try:
            self.together(create)
        except BaseException:
            self.close()
            raise

    def together(self, step) -> None:
        """step(rank) on all ranks at once. If one fails the others are told, or they would wait for it; its error is
        raised, not theirs."""
        first: list[Exception] = []

        def guarded(rank: int) -> None:
            try:
                step(rank)
            except Exception as error:
                first.append(error)
                self.runtime.channel_abort(self.channels[rank], f"rank {rank}: {error}".encode())

        list(self.pool.map(guarded, range(self.ranks)))
        if first:
            raise first[0]

    def close(self) -> None:
        self.pool.shutdown()
        for session in self.sessions:
            if session:
                self.runtime.session_release(session)
        for channel in self.channels:
            if channel:
                self.runtime.channel_release(channel)
        self.sessions, self.channels = [], []


class Bundle:
    """A bundle directory. It is checked when opened; ranks start and weights load at the first run.

    weights: other weights than the bundle's own (a .safetensors file, an index or a folder). threads: compute threads a
    rank, 0 for an even share of the processors. isa: force a kernel level. timeout: seconds a rank waits for another.
    trace: record every command, for `write_trace`. poison: a test mode that fills dead memory with ones. build: the CMake build that holds the runtime."""

    def __init__(
        self,
        path: str | Path,
        *,
        weights: str | Path | None = None,
        threads: int = 0,
        isa: str | None = None,
        timeout: float = 300.0,
        trace: bool = False,
        poison: bool = False,
        build: str | Path | None = None,
    ):
        self.path = Path(path)
        self._weights, self._threads, self._timeout = weights, threads, timeout
        self._trace, self._poison = trace, poison
        self._job: _Job | None = None
        self._handle: c_void_p | None = None
        self._runtime = _runtime.runtime(_tools.runtime_library(build))
        self._handle = self._runtime.open_bundle(self.path, isa)
        self._facts = self._runtime.facts(self._handle)
        # the runtime has checked the file by now
        self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
        self.ranks: int = self._facts.ranks
        self.isa: str = (self._facts.isa or b"").decode()
        facts, runtime = self._facts, self._runtime
        self.inputs = _values(runtime.values(self._handle, runtime.bundle_input, facts.inputs))
        self.outputs = _values(runtime.values(self._handle, runtime.bundle_output, facts.outputs))

    # ---- running ---------------------------------------------------------------------------------------------------
    def run(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """One run: input values (numpy arrays, DLPack tensors on the CPU, lists) by name, whole outputs by name.

        An input keeps its value for later runs; one that an output replaces (a KV cache) carries that over, and starts
        as zeros. One run at a time."""
        arrays = {name: self._array(name, value) for name, value in {**(inputs or {}), **named}.items()}
        if self._handle is None:
            raise ValueError(f"{self.path}: the bundle is closed")
        self._job = self._job or _Job(self)
        results = {v.name: np.empty(v.shape, numpy_dtype(v.dtype)) for v in self.outputs.values()}
        try:
            self._job.together(lambda rank: self._run_rank(rank, arrays, results))
        except BaseException:
            self._stop()  # after an abort the ranks are of no use; the next run starts new ones
            raise
        return results

    def _array(self, name: str, value: Any) -> np.ndarray:
        """Checked here, so that a mistake does not cost the ranks and their state."""
        if name not in self.inputs:
            raise ValueError(f'the model has no input "{name}"; it has {", ".join(self.inputs)}')
        expected = self.inputs[name]
        array = as_array(value)
        try:
            dtype = dtype_name(array, expected.dtype)
        except TypeError as error:
            raise TypeError(f'input "{name}": {error}') from error
        if (dtype, array.shape) != (expected.dtype, expected.shape):
            raise ValueError(f'input "{name}" is {expected.type}, given {dtype} {list(array.shape)}')
        return array

    def _run_rank(self, rank: int, arrays: dict[str, np.ndarray], results: dict[str, np.ndarray]) -> None:
        session = self._job.sessions[rank]
        for name, array in arrays.items():
            shape = (c_int64 * max(1, array.ndim))(*array.shape)
            code = _runtime.DTYPE_CODES[self.inputs[name].dtype]
            data = c_void_p(array.ctypes.data)
            self._runtime.session_set_input(
                session, name.encode(), code, cast(shape, POINTER(c_int64)), array.ndim, data
            )
        self._runtime.session_run(session, None)
        for name, result in results.items():  # a collective, whose result rank 0 gets
            data = c_void_p(result.ctypes.data if rank == 0 else None)
            self._runtime.session_get_output(session, name.encode(), data, result.nbytes if rank == 0 else 0)

    def write_trace(self, path: str | Path) -> None:
        """Commands of all runs so far, for Perfetto or chrome://tracing; the bundle must be loaded with trace=True."""
        if not self._trace:
            raise ValueError("write_trace: the bundle was loaded without trace=True")
        if self._job is None:
            raise ValueError("write_trace: nothing has run yet")
        self._job.together(lambda rank: self._runtime.session_write_trace(self._job.sessions[rank], str(path).encode()))

    # ---- weights ---------------------------------------------------------------------------------------------------
    def state_dict(self) -> Safetensors:
        """The weights by the model's own names, whole, as read-only views of their files."""
        return open_safetensors(self._weights or self.path / "weights")

    # ---- life ------------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        if self._job is not None:
            self._job.close()
            self._job = None

    def close(self) -> None:
        """Stops the ranks and frees their memory."""
        self._stop()
        if self._handle is not None:
            self._runtime.bundle_release(self._handle)
            self._handle = None

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __repr__(self) -> str:
        values = [", ".join(map(str, side.values())) for side in (self.inputs, self.outputs)]
        return f"<Bundle {self.path} on {self.ranks} ranks: {values[0]} -> {values[1]}>"


def load(path: str | Path, **options: Any) -> Bundle:
    """Opens a bundle; see `Bundle` for the options."""
    return Bundle(path, **options)
