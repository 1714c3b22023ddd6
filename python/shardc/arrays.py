"""Arrays of a bundle: dtype names, bfloat16 and 8-bit floats, DLPack, and .npz files.

numpy has no bfloat16. An array of ml_dtypes.bfloat16 is one; so is a uint16 array where a bf16 value is expected. Results
are ml_dtypes.bfloat16 if that package is installed (onnx brings it), uint16 otherwise. 8-bit floats likewise, with uint8."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

# Name in manifests -> numpy's; the order is that of shardrt_dtype.
DTYPES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "ui64": "uint64",
    "ui32": "uint32",
    "ui16": "uint16",
    "ui8": "uint8",
    "bool": "bool",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
}
NAMES = {numpy_name: name for name, numpy_name in DTYPES.items()}


# Those that numpy lacks, and the integers that may hold them.
_STORAGE = {"bf16": "uint16", "f8E4M3FN": "uint8", "f8E5M2": "uint8"}


def numpy_dtype(name: str) -> np.dtype:
    """numpy's dtype of a manifest's dtype name."""
    if name not in DTYPES:
        raise ValueError(f'dtype "{name}" is not one of {", ".join(DTYPES)}')
    if name not in _STORAGE:
        return np.dtype(DTYPES[name])
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(_STORAGE[name])
    return np.dtype(getattr(ml_dtypes, DTYPES[name]))


def bfloat16() -> np.dtype:
    return numpy_dtype("bf16")


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_DLPACK_CPU = 1
_DLPACK_BFLOAT = 4


def _bfloat16_of_capsule(capsule) -> np.ndarray | None:
    """Copy of a bfloat16 DLPack tensor, which numpy refuses; None if it is of another dtype."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (_DLPACK_BFLOAT, 16, 1):
        return None
    if tensor.device_type != _DLPACK_CPU:
        raise ValueError(f"DLPack tensor lies on device type {tensor.device_type}; copy it to the CPU first")
    shape = tensor.shape[: tensor.ndim]
    if 0 in shape:
        return np.empty(shape, bfloat16())
    if tensor.strides:
        strides = tensor.strides[: tensor.ndim]
    else:
        strides = [int(np.prod(shape[i + 1 :])) for i in range(tensor.ndim)]
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
    raw = (ctypes.c_uint16 * span).from_address(tensor.data + tensor.byte_offset)
    view = np.lib.stride_tricks.as_strided(np.frombuffer(raw, np.uint16), shape, [2 * stride for stride in strides])
    return np.array(view, order="C").view(bfloat16())


def as_array(value) -> np.ndarray:
    """`value` as a contiguous numpy array, without a copy where possible: an array, anything with __dlpack__ (a torch
    tensor on the CPU), or nested lists."""
    if not isinstance(value, (np.ndarray, np.generic)) and hasattr(value, "__dlpack__"):
        if hasattr(value, "detach"):  # a torch tensor that requires grad refuses __dlpack__
            value = value.detach()
        array = _bfloat16_of_capsule(value.__dlpack__())
        value = np.from_dlpack(value) if array is None else array
    # not np.ascontiguousarray, which makes a scalar one-dimensional
    return np.asarray(value, order="C")


def dtype_name(array: np.ndarray, expected: str | None = None) -> str:
    """The manifest's name of an array's dtype; uint16 counts as bf16 where that is expected, uint8 as an 8-bit float."""
    if expected in _STORAGE and array.dtype == _STORAGE[expected]:
        return expected
    if array.dtype.name not in NAMES or not array.dtype.isnative:
        raise TypeError(f"dtype {array.dtype} is not one of {', '.join(NAMES)}")
    return NAMES[array.dtype.name]


def npz_to_npy(npz: str | Path, folder: str | Path, names: list[str] | None = None) -> dict[str, Path]:
    """Writes arrays of a .npz (all, or those named) as folder/NAME.npy, the form that shard-run reads; returns the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    with np.load(npz) as arrays:
        missing = sorted(set(names or ()) - set(arrays.files))
        if missing:
            raise KeyError(f"{npz}: holds {', '.join(arrays.files)}, not {', '.join(missing)}")
        for name in names if names is not None else arrays.files:
            files[name] = folder / f"{name}.npy"
            np.save(files[name], arrays[name])
    return files
