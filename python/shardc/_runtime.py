"""The runtime's C interface (include/shardrt) through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from .arrays import DTYPES

OK, INTERNAL = 0, 1
INVALID_ARGUMENT, BAD_INPUT, BAD_WEIGHTS, IO = 2, 4, 5, 6
DTYPE_CODES = {name: code for code, name in enumerate(DTYPES)}
_NAMES_BY_CODE = list(DTYPES)
NCCL_UB = {None: 0, "register": 1, "window": 2}  # how NCCL learns of a GPU's arena


class RuntimeFailure(RuntimeError):
    """A failing call of the runtime: `status` is its number, which is also shard-run's exit code, `kind` its name."""

    left_ranks_usable = False

    def __init__(self, status: int, kind: str, message: str):
        super().__init__(f"{message} ({kind})")
        self.status, self.kind = status, kind


class ChannelOptions(ctypes.Structure):
    _fields_ = [
        ("rank", c_int32),
        ("ranks", c_int32),
        ("arena_bytes", c_uint64),
        ("job", c_char_p),
        ("fingerprint", c_uint64),
        ("timeout_s", c_double),
        ("link_gbps", c_double),
        ("max_groups", c_int32),
        ("mpi_shim", c_char_p),
        ("address", c_char_p),
        ("port", c_int32),
    ]


class BundleFacts(ctypes.Structure):
    _fields_ = [
        ("model", c_char_p),
        ("isa", c_char_p),
        ("target", c_char_p),
        ("ranks", c_int32),
        ("entries", c_int32),
        ("tensors", c_int32),
        ("max_groups", c_int32),
        ("arena_bytes", c_uint64),
        ("fingerprint", c_uint64),
    ]


class ValueFacts(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("alias", c_char_p),
        ("dtype", c_int32),
        ("shape", POINTER(c_int64)),
        ("dims", c_int32),
        ("bytes", c_uint64),
    ]

    def dtype_name(self) -> str:
        return _NAMES_BY_CODE[self.dtype]


class EntryFacts(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("inputs", c_int32), ("outputs", c_int32)]


class TensorFacts(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("role", c_char_p),
        ("dtype", c_int32),
        ("shape", POINTER(c_int64)),
        ("dims", c_int32),
        ("bytes", c_uint64),
    ]

    def dtype_name(self) -> str:
        return _NAMES_BY_CODE[self.dtype]


class TrainerState(ctypes.Structure):
    _fields_ = [
        ("step", c_int64),
        ("sequences", c_int64),
        ("tokens", c_int64),
        ("seed", c_uint64),
        ("data_fingerprint", c_uint64),
    ]


class SessionOptions(ctypes.Structure):
    _fields_ = [
        ("weights", c_char_p),
        ("threads", c_int32),
        ("pin", c_int32),
        ("local_rank", c_int32),
        ("trace", c_int32),
        ("poison", c_int32),
        ("no_cuda_graph", c_int32),
        ("share_device", c_int32),
        ("nccl_ub", c_int32),
    ]


# Handles are opaque pointers. Functions that return a status: name -> arguments.
_CALLS = {
    "bundle_open": [c_char_p, c_char_p, POINTER(c_void_p)],
    "bundle_info": [c_void_p, POINTER(BundleFacts)],
    "bundle_entry": [c_void_p, c_int32, POINTER(EntryFacts)],
    "bundle_input": [c_void_p, c_int32, c_int32, POINTER(ValueFacts)],
    "bundle_output": [c_void_p, c_int32, c_int32, POINTER(ValueFacts)],
    "bundle_tensor": [c_void_p, c_int32, POINTER(TensorFacts)],
    "bundle_scalar": [c_void_p, c_char_p, c_int64, POINTER(c_double)],
    "channel_create_inprocess": [POINTER(ChannelOptions), POINTER(c_void_p)],
    "session_create": [c_void_p, c_void_p, POINTER(SessionOptions), POINTER(c_void_p)],
    "session_set_input": [c_void_p, c_char_p, c_int32, POINTER(c_int64), c_int32, c_void_p],
    "session_run": [c_void_p, c_char_p],
    "session_get_output": [c_void_p, c_char_p, c_void_p, c_uint64],
    "session_get_tensor": [c_void_p, c_char_p, c_void_p, c_uint64],
    "session_set_tensor": [c_void_p, c_char_p, c_int32, POINTER(c_int64), c_int32, c_void_p],
    "session_refresh": [c_void_p],
    "session_save": [c_void_p, c_char_p, POINTER(TrainerState)],
    "session_load": [c_void_p, c_char_p, POINTER(TrainerState)],
    "session_write_trace": [c_void_p, c_char_p],
}
# Functions that cannot fail: name -> (result, arguments).
_OTHERS = {
    "bundle_release": (None, [c_void_p]),
    "session_release": (None, [c_void_p]),
    "channel_release": (None, [c_void_p]),
    "channel_abort": (None, [c_void_p, c_char_p]),
    "last_error": (c_char_p, []),
    "status_name": (c_char_p, [c_int32]),
    "version": (c_char_p, []),
}


class Runtime:
    """The library's functions without their prefix; a status other than OK becomes a RuntimeFailure."""

    def __init__(self, path: Path):
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _OTHERS.items():
            function = getattr(library, "shardrt_" + name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        for name, arguments in _CALLS.items():
            function = getattr(library, "shardrt_" + name)
            function.restype, function.argtypes = c_int32, arguments
            setattr(self, name, self._checked(function))

    def _checked(self, function):
        def call(*arguments) -> None:
            status = function(*arguments)
            if status != OK:  # the message belongs to this thread and lives until its next call
                message = self.last_error().decode(errors="replace")
                raise RuntimeFailure(status, self.status_name(status).decode(), message)

        return call

    def open_bundle(self, path: Path, isa: str | None) -> c_void_p:
        bundle = c_void_p()
        self.bundle_open(str(path).encode(), isa.encode() if isa else None, byref(bundle))
        return bundle

    def facts(self, bundle: c_void_p) -> BundleFacts:
        facts = BundleFacts()
        self.bundle_info(bundle, byref(facts))
        return facts

    def entries(self, bundle: c_void_p, count: int) -> list[EntryFacts]:
        return self._list(self.bundle_entry, EntryFacts, count, bundle)

    def tensors(self, bundle: c_void_p, count: int) -> list[TensorFacts]:
        return self._list(self.bundle_tensor, TensorFacts, count, bundle)

    def inputs(self, bundle: c_void_p, entry: int, count: int) -> list[ValueFacts]:
        return self._list(self.bundle_input, ValueFacts, count, bundle, entry)

    def outputs(self, bundle: c_void_p, entry: int, count: int) -> list[ValueFacts]:
        return self._list(self.bundle_output, ValueFacts, count, bundle, entry)

    @staticmethod
    def _list(function, facts, count: int, *where) -> list:
        items = [facts() for _ in range(count)]
        for index, item in enumerate(items):
            function(*where, index, byref(item))
        return items


@cache
def runtime(path: Path) -> Runtime:
    return Runtime(path)
