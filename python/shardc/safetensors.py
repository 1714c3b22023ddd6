"""Reads .safetensors files, their *.index.json, and folders of either, with numpy alone.

    weights = open_safetensors("llama.bundle/weights")
    weights["model.embed_tokens.weight"]        # a read-only view of the mapped file

A file is an 8-byte little-endian length, that many bytes of JSON ({name: {dtype, shape, data_offsets}}), then the data.
Everything is checked against the size of the file before a view is made."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .archive import stored_members
from .arrays import numpy_dtype

LARGEST_HEADER = 100 << 20  # the limit of the reference implementation
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
# Those that numpy lacks, by their names in manifests.
_NARROW = {"BF16": "bf16", "F8_E4M3": "f8E4M3FN", "F8_E5M2": "f8E5M2"}


class SafetensorsError(ValueError):
    """A file that is damaged, or not what its index says."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    bytes: int


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _item_size(dtype: str, where: str) -> int:
    if dtype not in _DTYPES and dtype not in _NARROW:
        raise SafetensorsError(f'{where}: dtype "{dtype}" is not one of {", ".join([*_NARROW, *_DTYPES])}')
    return _numpy_dtype(dtype).itemsize


def _numpy_dtype(dtype: str) -> np.dtype:
    return numpy_dtype(_NARROW[dtype]) if dtype in _NARROW else np.dtype(_DTYPES[dtype])


def _read_entry(file: Path, where: str, value, data_begin: int, data_bytes: int) -> Entry:
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise SafetensorsError(f"{where}: needs dtype, shape and data_offsets")
    dtype, shape, offsets = str(value["dtype"]), value["shape"], value["data_offsets"]
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise SafetensorsError(f"{where}: shape {shape} is not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise SafetensorsError(f"{where}: data_offsets {offsets} are not two offsets")
    begin, end = offsets
    if not begin <= end <= data_bytes:
        raise SafetensorsError(f"{where}: [{begin}, {end}) is not inside the {data_bytes} bytes of data")
    needed = math.prod(shape) * _item_size(dtype, where)
    if needed != end - begin:
        raise SafetensorsError(f"{where}: has {end - begin} bytes, {dtype} {shape} needs {needed}")
    return Entry(file, dtype, tuple(shape), data_begin + begin, needed)


def read_header(file: str | Path, begin: int = 0, size: int | None = None, where: str | None = None) -> dict[str, Entry]:
    """The tensors of one .safetensors file, which may be a part of another file: `size` bytes from `begin` on, called
    `where` in messages."""
    path = Path(file)
    file, size = where or path, path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        stream.seek(begin)
        if size < 8:
            raise SafetensorsError(f"{file}: has {size} bytes, a safetensors file has at least 8")
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(LARGEST_HEADER, size - 8):
            raise SafetensorsError(f"{file}: header of {length} bytes does not fit into the file of {size} bytes")
        text = stream.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:  # neither JSON nor UTF-8
        raise SafetensorsError(f"{file}: the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise SafetensorsError(f"{file}: the header is not a JSON object")
    header.pop("__metadata__", None)
    data = (begin + 8 + length, size - 8 - length)
    return {name: _read_entry(path, f'{file}: tensor "{name}"', value, *data) for name, value in header.items()}


def _read_index(index: Path) -> dict[str, Entry]:
    """Tensors of a checkpoint in several files: {"weight_map": {tensor: file}}."""
    try:
        names = json.loads(index.read_bytes())["weight_map"]
        by_file = {file: read_header(index.parent / file) for file in sorted(set(names.values()))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SafetensorsError):
            raise
        raise SafetensorsError(f'{index}: is not an index with a "weight_map": {error!r}') from error
    for name, file in names.items():
        if name not in by_file[file]:
            raise SafetensorsError(f'{index}: tensor "{name}" should be in {file}, but is not')
    return {name: by_file[file][name] for name, file in names.items()}


def _read_folder(folder: Path) -> dict[str, Entry]:
    indices, files = sorted(folder.glob("*.index.json")), sorted(folder.glob("*.safetensors"))
    if len(indices) > 1:
        raise SafetensorsError(f"{folder}: holds {len(indices)} index files, name one of them")
    if indices:
        return _read_index(indices[0])
    if not files:
        raise SafetensorsError(f"{folder}: holds neither a .safetensors file nor an index")
    return _merge({file: read_header(file) for file in files})


def _merge(by_file: dict[Any, dict[str, Entry]]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    origin: dict[str, Any] = {}
    for file, tensors in by_file.items():
        for name, entry in tensors.items():
            if name in entries:
                raise SafetensorsError(f'{file}: tensor "{name}" is also in {origin[name]}')
            entries[name], origin[name] = entry, file
    return entries


class Safetensors(Mapping):
    """Tensors by name. Files are mapped when a tensor is asked for; arrays are read-only views of them."""

    def __init__(self, entries: dict[str, Entry]):
        self.entries = entries
        self._maps: dict[Path, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        if entry.file not in self._maps:
            self._maps[entry.file] = np.memmap(entry.file, np.uint8, "r")
        raw = np.asarray(self._maps[entry.file])[entry.begin : entry.begin + entry.bytes]
        return raw.view(_numpy_dtype(entry.dtype)).reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def open_bundle_weights(bundle: Path) -> Safetensors:
    """The weights of a bundle."""
    if bundle.is_dir():
        return open_safetensors(bundle / "weights")
    places = stored_members(bundle, "weights/")
    if not places:
        raise SafetensorsError(f"{bundle}: holds no weights")
    headers = {f"{bundle}/{name}": (begin, size) for name, (begin, size) in places.items()}
    return Safetensors(_merge({name: read_header(bundle, *place, name) for name, place in headers.items()}))


def open_safetensors(path: str | Path) -> Safetensors:
    """A .safetensors file, an *.index.json, or a folder with one index or with .safetensors files."""
    path = Path(path)
    if path.is_dir():
        return Safetensors(_read_folder(path))
    return Safetensors(_read_index(path) if path.name.endswith(".index.json") else read_header(path))
