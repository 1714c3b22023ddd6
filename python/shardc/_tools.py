"""Finds the shardc binary and the runtime library: in the CMake build that SHARDC_BUILD names, beside this package in a
checkout (build/), or on PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

VARIABLE = "SHARDC_BUILD"
CHECKOUT = Path(__file__).resolve().parents[2]


class ToolNotFound(FileNotFoundError):
    """A part of shardc that is not built or not installed; the message says where it was looked for."""


def _find(relative: str, binary: str, build: str | Path | None) -> Path:
    given = build or os.environ.get(VARIABLE)
    tried = [Path(given)] if given else [CHECKOUT / "build"]
    on_path = None if given else shutil.which(binary)
    if on_path:
        tried.append(Path(on_path).resolve().parent.parent)
    for folder in tried:
        if (folder / relative).is_file():
            return folder / relative
    places = ", ".join(str(folder / relative) for folder in tried)
    raise ToolNotFound(f"{relative} not found: looked for {places}; set {VARIABLE} to the CMake build folder")


def compiler(build: str | Path | None = None) -> Path:
    return _find("bin/shardc", "shardc", build)


def runtime_library(build: str | Path | None = None) -> Path:
    return _find("lib/libshardrt.so", "shard-run", build)
