"""Compiling fixtures for GPUs and running them on the fake ones of test/cuda/fake."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TEST = Path(__file__).resolve().parents[2]
FIXTURES = TEST / "fixtures"
sys.path[:0] = [str(TEST / "train"), str(TEST / "cuda/fake"), str(TEST.parent / "python")]

import check_log  # noqa: E402
import harness  # noqa: E402


@dataclass
class Gpus:
    """The tools with the fake libraries."""

    build: Path
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.folder = self.build / "test/cuda/fake"

    def having(self, **settings):
        """Others: seed=3 is FAKE_CUDA_SEED=3."""
        return Gpus(self.build, {**self.settings, **{f"FAKE_CUDA_{name.upper()}": str(value) for name, value in settings.items()}})

    def compile(self, model, *options, bundle):
        harness.call(self.build / "bin/shardc", "compile", model, "--target", "cuda", "--arch", "compute_80", *options, "-o", bundle, seconds=120)
        return bundle

    def pack(self, bundle, file):
        harness.call(self.build / "bin/shardc", "pack", bundle, "-o", file, seconds=60)

    def start(self, *arguments, **more):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.folder), **self.settings}
        command = [str(self.build / "bin/shard-run"), *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def python(self, program, *arguments):
        """A program that uses the package, in a process of its own, as the fake libraries are found when it starts."""
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.folder), "PYTHONPATH": str(TEST.parent / "python"), **self.settings}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr

    def run(self, *arguments, fails=False):
        """What it wrote on stdout; on stderr, with its exit status, if it fails."""
        process = self.start(*arguments)
        out, error = process.communicate(timeout=240)
        assert bool(process.returncode) == fails, f"exit status {process.returncode}: {error}"
        return (process.returncode, error) if fails else out

    def logged(self, log, bundle, *arguments, entry="main"):
        """Runs, and checks the call log; what it counted."""
        log.unlink(missing_ok=True)
        Gpus(self.build, {**self.settings, "FAKE_CUDA_LOG": str(log)}).run(bundle, *arguments)
        return check_log.check(check_log.read(log), bundle, entry)


@dataclass
class Model:
    """A fixture's inputs as files, and torch's logits."""

    path: Path
    folder: Path

    def __post_init__(self):
        with np.load(self.path.with_suffix(".npz")) as arrays:
            self.logits = arrays["logits"]
            self.inputs = {name: arrays[name] for name in arrays.files if name != "logits"}

    def arguments(self, result):
        words = []
        for name, values in self.inputs.items():
            file = self.folder / f"{name}.npy"
            np.save(file, values)
            words += ["--input", f"{name}={file}"]
        return [*words, "--output", f"logits={result}", "--timeout", "30"]

    def read(self, path):
        """A result as numbers; bf16 is stored as its bits."""
        values = np.load(path)
        if values.dtype in (np.uint16, np.dtype("V2")):
            values = (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return values


def losses(path):
    return [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]
