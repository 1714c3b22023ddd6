"""Token files for training: flat little-endian numbers, uint16 or uint32, without a header.

    write_tokens("text.bin", ids)               # and text.bin.json, which says the type: {"dtype": "u16"}
    tokens = open_tokens("text.bin")            # a view of the file
    for input_ids, labels in batches(tokens, sequences=8, length=128, seed=0): ...

Window i of a file is tokens[i*S : i*S + S + 1]: S tokens, and the S that follow them as labels. `shard-run --data` and
`batches` go through all windows once an epoch, in the same order, which depends on seed and epoch alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DTYPES = {"u16": np.dtype("<u2"), "u32": np.dtype("<u4")}


def write_tokens(path: str | Path, tokens, dtype: str = "u16") -> None:
    """Writes the file, and beside it PATH.json with the type."""
    tokens, most = np.asarray(tokens).reshape(-1), np.iinfo(DTYPES[dtype]).max
    if tokens.size and not 0 <= tokens.min() <= tokens.max() <= most:
        raise ValueError(
            f"tokens: {tokens.min()} to {tokens.max()} are not all within 0 to {most}, which {dtype} holds"
        )
    tokens.astype(DTYPES[dtype]).tofile(path)
    Path(f"{path}.json").write_text(json.dumps({"dtype": dtype, "tokens": tokens.size}) + "\n")


def open_tokens(path: str | Path, dtype: str | None = None) -> np.ndarray:
    """A read-only view of the file. dtype: instead of what PATH.json says."""
    if dtype is None:
        dtype = json.loads(Path(f"{path}.json").read_text())["dtype"]
    if dtype not in DTYPES:
        raise ValueError(f'dtype: "{dtype}" is not one of {", ".join(DTYPES)}')
    return np.memmap(path, DTYPES[dtype], mode="r")


def _mix(x: int) -> int:
    """The finaliser of splitmix64."""
    word = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & word
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
    return x ^ (x >> 31)


def shuffled(seed: int, epoch: int, count: int, index: int) -> int:
    """The window that comes as the index-th of `count` in an epoch: a permutation by a Feistel network, the runtime's
    own (runtime/train/TokenFile.cpp)."""
    half = 1
    while half < 31 and 1 << 2 * half < count:
        half += 1
    mask, key = (1 << half) - 1, _mix(_mix(seed) ^ epoch)
    while True:
        left, right = index >> half, index & mask
        for step in range(6):
            left, right = right, left ^ (_mix(key ^ (right << 3 | step)) & mask)
        index = left << half | right
        if index < count:
            return index


def batches(tokens, sequences: int, length: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Input ids and labels, int64 [sequences, length] each, without end."""
    tokens = np.asarray(tokens)
    windows = (len(tokens) - 1) // length
    if windows < 1:
        raise ValueError(f"tokens: a sequence of {length} and its labels need {length + 1}, there are {len(tokens)}")
    position = 0
    while True:
        places = range(position, position + sequences)
        starts = [length * shuffled(seed, at // windows, windows, at % windows) for at in places]
        rows = np.stack([tokens[start : start + length + 1] for start in starts]).astype(np.int64)
        yield rows[:, :-1], rows[:, 1:]
        position += sequences
