"""Compiling and training a fixture the way a user does: `shardc compile --train`, `shard-run --data`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reference_data import Reference, Run
from shardc.tokens import shuffled, write_tokens

COMPILE_SECONDS, RUN_SECONDS = 300, 120
# Option of `shardc compile` for a key of a run's optimizer.
OPTIMIZER_OPTIONS = {"name": "--optimizer", "beta1": "--beta1", "beta2": "--beta2", "epsilon": "--epsilon",
                     "momentum": "--momentum", "weight_decay": "--weight-decay", "learning_rate": "--learning-rate",
                     "clip_norm": "--clip-grad-norm", "nesterov": "--nesterov", "newton_schulz_steps": "--newton-schulz-steps",
                     "newton_schulz_dtype": "--newton-schulz-dtype", "adjust_learning_rate": "--adjust-learning-rate"}  # fmt: skip
SCHEDULE_OPTIONS = {"name": "--lr-schedule", "warmup_steps": "--lr-warmup-steps", "decay_steps": "--lr-decay-steps",
                    "minimum": "--lr-minimum"}  # fmt: skip


class Failed(Exception):
    """A program ended with an error; holds the command and what it said."""


def call(*command, seconds: int) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise Failed(f"$ {' '.join(words)}\nexit status {done.returncode}: {done.stderr.strip()[:2000]}")
    return done.stdout


def optimizer_options(optimizer: dict) -> list[str]:
    options = []
    for key, option in OPTIMIZER_OPTIONS.items():
        if key in optimizer:
            value = optimizer[key]
            options += [option, str(value).lower() if isinstance(value, bool) else str(value or 0)]  # no clipping is a norm of 0
    if optimizer["schedule"]["name"] != "constant":
        for key, option in SCHEDULE_OPTIONS.items():
            options += [option, str(optimizer["schedule"][key])]
    return options


def processor_level() -> str:
    """The best level that runs here: compiling for one takes half the time."""
    flags = Path("/proc/cpuinfo").read_text()
    return "x86-64-v4" if "avx512vl" in flags else "x86-64-v3"


def write_data(run: Run, path: Path) -> Path:
    """The file from which the runtime takes the run's sequences in their order."""
    count = run.input_ids.shape[0] * run.input_ids.shape[1]
    write_tokens(path, run.token_file([shuffled(0, 0, count, index) for index in range(count)]))
    return path


# ---- training ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Result:
    losses: np.ndarray
    grad_norms: np.ndarray
    learning_rates: np.ndarray
    checkpoint: Path

    @property
    def digest(self) -> str:
        """Of weights and optimizer states: the file is the same, byte for byte, from whatever mesh."""
        return hashlib.sha256((self.checkpoint / "checkpoint.safetensors").read_bytes()).hexdigest()


def compile_training(tools: Path, reference: Reference, optimizer: dict, options, bundle: Path) -> None:
    dims = [word for name, size in reference.dims.items() for word in ("--dim", f"{name}={size}")]
    plan = [] if reference.family == "mamba2" else ["--plan", reference.family]  # that family has none
    command = [tools / "shardc", "compile", reference.model, "--train", "--isa", processor_level(), *dims, *plan]
    call(*command, *optimizer_options(optimizer), *options, "-o", bundle, seconds=COMPILE_SECONDS)


def train(tools: Path, bundle: Path, run: Run, folder: Path) -> Result:
    folder.mkdir(exist_ok=True)
    tokens, log, checkpoint = write_data(run, folder / "tokens.bin"), folder / "loss.jsonl", folder / "checkpoint"
    command = [tools / "shard-run", bundle, "--data", tokens, "--steps", len(run.losses)]
    command += ["--threads", "1", "--timeout", "60", "--log", log, "--save", checkpoint, "--check-allocations"]
    call(*command, seconds=RUN_SECONDS)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    columns = (np.array([line[key] for line in steps]) for key in ("loss", "grad_norm", "learning_rate"))
    return Result(*columns, checkpoint)
