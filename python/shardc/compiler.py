"""Runs the shardc binary."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import _tools
from .bundle import Bundle, load
from .config import CompileOptions
from .config.options import resolve_plan


class CompileError(RuntimeError):
    """shardc failed. `command` is its command line, which repeats the failure in a shell; `stderr` what it said; `returncode`
    1 for a wrong model, plan or bundle, 2 for a wrong command line."""

    def __init__(self, command: list[str], returncode: int, stderr: str):
        super().__init__(f"{stderr.strip() or 'no message'}\nshardc exited with {returncode}: {shlex.join(command)}")
        self.command, self.returncode, self.stderr = command, returncode, stderr


def _run(model: str | Path, output: str | Path | None, options: CompileOptions, build: str | Path | None) -> str:
    """The binary's stdout. A plan that is a mapping goes through a file, which stays when compilation fails, so that the
    command line can be repeated."""
    options, plan = replace(options, plan=resolve_plan(options.plan)), None
    if isinstance(options.plan, Mapping):
        with tempfile.NamedTemporaryFile("w", prefix="shardc-plan-", suffix=".json", delete=False) as file:
            json.dump({"tp_plan": dict(options.plan)}, file)
        plan = file.name
    command = [str(_tools.compiler(build)), *options.arguments(model, output, plan)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(command, done.returncode, done.stderr)
    if plan:
        Path(plan).unlink()
    return done.stdout


def compile(
    model: str | Path,
    options: CompileOptions | None = None,
    output: str | Path | None = None,
    *,
    build: str | Path | None = None,
    **load_options: Any,
) -> Bundle:
    """Compiles an .onnx or .mlir file and opens the bundle. output: default is the model's name with .bundle.
    build: the CMake build to use. Other options are those of `load`."""
    output = Path(output) if output is not None else Path(model).with_suffix(".bundle")
    _run(model, output, options or CompileOptions(), build)
    return load(output, build=build, **load_options)


def plan(model: str | Path, options: CompileOptions | None = None, *, build: str | Path | None = None) -> str:
    """Which style each parameter gets and from where, as text; nothing is compiled."""
    return _run(model, None, replace(options or CompileOptions(), print_plan=True), build)
