"""The machine of the checks: its GPU, where its libraries are, and shard-run on it."""

import datetime
import glob
import json
import os
import pathlib
import shutil
import site
import subprocess
import sys
import tempfile

NO_DEVICE = 13  # shard-run's exit code
SECONDS = 300


class Failed(Exception):
    """A command that should have succeeded, and what it said."""


class NoGpu(Exception):
    """There is none, or a driver or library is missing; says which."""


def library_folders():
    """Where pip put NVIDIA's libraries, in this Python or one on PATH that has torch."""
    roots = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    if python := shutil.which("python3"):
        roots += subprocess.run(
            [python, "-c", "import sys; print('\n'.join(sys.path))"], capture_output=True, text=True
        ).stdout.split()
    found = []
    for root in dict.fromkeys(root for root in roots if root):
        found += glob.glob(f"{root}/nvidia/*/lib")
    return [*dict.fromkeys(found), "/usr/local/cuda/lib64"]


class Machine:
    def __init__(self, folder: pathlib.Path):
        self.folder, self.work = folder, pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-"))
        given = [part for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join([*given, *library_folders()])}

    def facts(self):
        """Date and device; nvidia-smi tells more than shard-run."""
        facts = {"date": datetime.datetime.now().isoformat(timespec="seconds")}
        if smi := shutil.which("nvidia-smi"):
            query = ["--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"]
            facts["gpus"] = subprocess.run([smi, *query], capture_output=True, text=True).stdout.strip().splitlines()
        return facts

    def shard_run(self, bundle, *arguments, prefix=(), environment=None):
        command = [*prefix, self.folder / "bin/shard-run", self.folder / "bundles" / bundle, *arguments]
        try:
            done = subprocess.run(
                [str(part) for part in command],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env={**self.environment, **(environment or {})},
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(map(str, command))} did not end within {SECONDS} s") from None
        if done.returncode == NO_DEVICE:
            raise NoGpu(done.stderr.strip())
        if done.returncode:
            raise Failed(f"{' '.join(map(str, command))}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def json_of(self, bundle, *arguments, **options):
        return json.loads(self.shard_run(bundle, *arguments, "--json", **options))
