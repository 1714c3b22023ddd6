"""A compiled bundle, to look at and to run.

    bundle = shardc.load("llama.bundle")
    logits = bundle.run(input_ids=ids)["logits"]

The ranks of the mesh are threads of this process, on the same runtime, kernels and collectives as shard-run's; for one
process a rank, or several machines, use shard-run. shardc.training has what a training bundle adds."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Mapping
from ctypes import c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _runtime, _tools
from .archive import read_file
from .arrays import as_array, dtype_name, numpy_dtype
from .job import Job
from .safetensors import open_bundle_weights, open_safetensors


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


@dataclass(frozen=True)
class Entry:
    """What can be run by name: "main", or the entry points of training."""

    name: str
    inputs: dict[str, Value]
    outputs: dict[str, Value]


def _values(facts: list[_runtime.ValueFacts]) -> dict[str, Value]:
    values = {}
    for fact in facts:
        alias = fact.alias.decode() if fact.alias else None
        name = fact.name.decode()
        values[name] = Value(name, fact.dtype_name(), tuple(fact.shape[: fact.dims]), alias)
    return values


class Bundle:
    """A bundle: its directory, or one zip file. It is checked when opened; ranks start and weights load at the first run.

    weights: other weights than the bundle's own (a .safetensors file, an index or a folder). threads: compute threads a
    rank, 0 for an even share of the processors. isa: force a kernel level. timeout: seconds a rank waits for another.
    outputs: which ones a run returns (default: all; a key/value cache need not leave its ranks).
    trace: record every command, for `write_trace`. poison: a test mode that fills dead memory with ones. build: the
    CMake build that holds the runtime.

    For bundles of target cuda, whose ranks take the machine's GPUs in order: cuda_graph: replay each entry as a graph.
    nccl_ub: "register" or "window", to let NCCL use the arena in place. share_device: a test mode, more ranks than
    GPUs."""

    def __init__(
        self,
        path: str | Path,
        *,
        weights: str | Path | None = None,
        threads: int = 0,
        isa: str | None = None,
        timeout: float = 300.0,
        outputs: Collection[str] | None = None,
        trace: bool = False,
        poison: bool = False,
        cuda_graph: bool | None = None,
        nccl_ub: str | None = None,
        share_device: bool = False,
        build: str | Path | None = None,
    ):
        self.path = Path(path)
        self._weights, self._threads, self._timeout = weights, threads, timeout
        self._trace, self._poison, self._wanted = trace, poison, outputs
        if nccl_ub not in _runtime.NCCL_UB:
            raise ValueError(f'nccl_ub is {nccl_ub!r}, not None, "register" or "window"')
        self._cuda_graph = cuda_graph is not False
        self._nccl_ub, self._share_device = nccl_ub, share_device
        self._job: Job | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the inputs that have a value
        self._handle: c_void_p | None = None
        self._runtime = runtime = _runtime.runtime(_tools.runtime_library(build))
        self._handle = runtime.open_bundle(self.path, isa)
        self._facts = runtime.facts(self._handle)
        # the runtime has checked the file by now
        self.manifest: dict[str, Any] = json.loads(read_file(self.path, "manifest.json"))
        self.ranks: int = self._facts.ranks
        self.isa: str = (self._facts.isa or b"").decode()
        self.target: str = self._facts.target.decode()
        for_cpu = {"threads": threads}
        for_cuda = {"cuda_graph": cuda_graph is not None, "nccl_ub": nccl_ub, "share_device": share_device}
        for name, value in (for_cpu if self.target == "cuda" else for_cuda).items():
            if value:
                self.close()
                raise ValueError(f"{name}: {self.path} was compiled for {self.target}")
        self.entries: dict[str, Entry] = {}
        for index, entry in enumerate(runtime.entries(self._handle, self._facts.entries)):
            inputs = _values(runtime.inputs(self._handle, index, entry.inputs))
            outputs = _values(runtime.outputs(self._handle, index, entry.outputs))
            self.entries[entry.name.decode()] = Entry(entry.name.decode(), inputs, outputs)
        first = next(iter(self.entries.values()))
        self.inputs, self.outputs = first.inputs, first.outputs
        known = {name for entry in self.entries.values() for name in entry.outputs}
        if unknown := sorted(set(self._wanted or ()) - known):
            self.close()
            raise ValueError(f"outputs: the bundle has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")

    # ---- running ---------------------------------------------------------------------------------------------------
    def run(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """One run: input values (numpy arrays, DLPack tensors on the CPU, lists) by name, whole outputs by name.

        An input keeps its value for later runs; one that an output replaces (a KV cache) carries that over, and starts
        as zeros. One run at a time. Of a model that was compiled for several shapes the entry point is taken that the
        inputs fit."""
        given = {name: as_array(value) for name, value in {**(inputs or {}), **named}.items()}
        return self.run_entry(self._fitting(given), given)

    def _fitting(self, given: Mapping[str, np.ndarray]) -> str:
        """The first entry point that takes the values given, and for the others the shapes that they have."""
        names = list(self.entries)
        if len(names) == 1 or self.manifest.get("training"):
            return names[0]
        shapes = {**self._shapes, **{name: array.shape for name, array in given.items()}}
        for entry in self.entries.values():
            if all(name not in entry.inputs or entry.inputs[name].shape == shape for name, shape in shapes.items()):
                return entry.name
        differing = [name for name in self.inputs if len({self._shape(e, name) for e in self.entries.values()}) > 1]
        wanted = [
            f"{entry.name} takes " + ", ".join(str(entry.inputs[name]) for name in differing if name in entry.inputs)
            for entry in self.entries.values()
        ]
        have = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items() if name in differing)
        raise ValueError(f"the inputs ({have}) fit no instance of the model: {'; '.join(wanted)}")

    @staticmethod
    def _shape(entry: Entry, name: str) -> tuple[int, ...] | None:
        return entry.inputs[name].shape if name in entry.inputs else None

    def run_entry(self, entry: str, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """As `run`, for an entry point by name."""
        if entry not in self.entries:
            raise ValueError(f'the bundle has no entry point "{entry}"; it has {", ".join(self.entries)}')
        which = self.entries[entry]
        arrays = {name: self._input(which, name, value) for name, value in {**(inputs or {}), **named}.items()}
        wanted = [v for v in which.outputs.values() if self._wanted is None or v.name in self._wanted]
        results = {v.name: np.empty(v.shape, numpy_dtype(v.dtype)) for v in wanted}
        self._shapes.update({name: array.shape for name, (_, array) in arrays.items()})
        self._on_ranks(lambda job: job.run(entry, arrays, results))
        return results

    def _on_ranks(self, call) -> None:
        """call(job) on the running ranks; they start now if they have not yet."""
        if self._handle is None:
            raise ValueError(f"{self.path}: the bundle is closed")
        self._job = self._job or Job(self)
        try:
            call(self._job)
        except BaseException as error:
            if not getattr(error, "left_ranks_usable", False):
                self._stop()  # after an abort the ranks are of no use; the next run starts new ones
            raise

    def _input(self, entry: Entry, name: str, value: Any) -> tuple[int, np.ndarray]:
        """Checked here, so that a mistake does not cost the ranks and their state."""
        if name not in entry.inputs:
            raise ValueError(f'{self._of(entry)} has no input "{name}"; it has {", ".join(entry.inputs)}')
        expected = entry.inputs[name]
        array = as_array(value)
        try:
            dtype = dtype_name(array, expected.dtype)
        except TypeError as error:
            raise TypeError(f'input "{name}": {error}') from error
        if (dtype, array.shape) != (expected.dtype, expected.shape):
            raise ValueError(f'input "{name}" is {expected.type}, given {dtype} {list(array.shape)}')
        return _runtime.DTYPE_CODES[dtype], array

    def _of(self, entry: Entry) -> str:
        return "the model" if len(self.entries) == 1 else f'entry point "{entry.name}"'

    def write_trace(self, path: str | Path) -> None:
        """Commands of all runs so far, for Perfetto or chrome://tracing; the bundle must be loaded with trace=True."""
        if not self._trace:
            raise ValueError("write_trace: the bundle was loaded without trace=True")
        if self._job is None:
            raise ValueError("write_trace: nothing has run yet")
        self._job.together(lambda rank: self._runtime.session_write_trace(self._job.sessions[rank], str(path).encode()))

    # ---- weights ---------------------------------------------------------------------------------------------------
    def state_dict(self) -> Mapping[str, np.ndarray]:
        """The weights by the model's own names, whole, as read-only views of their files."""
        return open_safetensors(self._weights) if self._weights else open_bundle_weights(self.path)

    # ---- life ------------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        self._shapes = {}
        if self._job is not None:
            self._job.close()
            self._job = None

    def close(self) -> None:
        """Stops the ranks and frees their memory."""
        self._stop()
        if self._handle is not None:
            self._runtime.bundle_release(self._handle)
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __repr__(self) -> str:
        values = [", ".join(map(str, side.values())) for side in (self.inputs, self.outputs)]
        return f"<{type(self).__name__} {self.path} on {self.ranks} ranks: {values[0]} -> {values[1]}>"


def _is_training(path: str | Path) -> bool:
    try:
        return bool(json.loads(read_file(Path(path), "manifest.json")).get("training"))
    except (OSError, ValueError, AttributeError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False  # the runtime says what is wrong


def load(path: str | Path, **options: Any) -> Bundle:
    """Opens a bundle; see `Bundle` for the options. One that was compiled for training is a `TrainingBundle`."""
    from .training import TrainingBundle

    return (TrainingBundle if _is_training(path) else Bundle)(path, **options)
