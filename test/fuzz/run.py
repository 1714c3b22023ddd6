"""Damaged models and bundles: the readers must refuse them, and neither crash, nor hang, nor take all memory.

    python test/fuzz/run.py --build build [--seconds 30] [--seed 1]

Runs the mutation drivers of runtime/fuzz and lib/Import/fuzz, half of the time each. A sequence of inputs follows from its seed, which is
printed; how far it comes depends on the machine. The input of a finding is kept as build/fuzz/NAME/finding.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 4 << 30


def models(build: Path, folder: Path) -> list[Path]:
    """The models of the lit tests of Import, encoded."""
    proto = build / "lib/Import/proto"
    encode = ["protoc", f"-I{proto}", "--encode=onnx.ModelProto", "onnx.proto"]
    files = []
    for test in sorted((ROOT / "test/Import").glob("*.test")):
        for name, text in re.findall(r"^#--- (\S+)\.textproto\n(.*?)(?=^#---|\Z)", test.read_text(), re.M | re.S):
            files.append(folder / f"{test.stem}-{name}.onnx")
            files[-1].write_bytes(subprocess.run(encode, input=text.encode(), check=True, stdout=subprocess.PIPE).stdout)
    return [file for file in files if file.stat().st_size]


def run(name: str, build: Path, seconds: float, seed: int, files: list[Path]) -> bool:
    folder = build / "fuzz" / name
    command = [str(build / "bin" / name), "--seconds", str(seconds), "--seed", str(seed), *map(str, files)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # noqa: E731
    done = subprocess.run(command, cwd=folder, preexec_fn=limit, capture_output=True, text=True, errors="replace")
    print(f"{name}: " + ", ".join((done.stdout + done.stderr).strip().splitlines()[-4:]))
    if done.returncode:
        print(f"{name}: status {done.returncode}; its input: {folder / 'finding'}; again: --seed {seed}", file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=float, default=60, help="for both together")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SHARDC_FUZZ_SEED", 1)))
    args = parser.parse_args()
    build = args.build.resolve()
    for name in ("bundle-mutator", "import-mutator"):
        (build / "fuzz" / name).mkdir(parents=True, exist_ok=True)
    seeds = {
        "bundle-mutator": sorted((ROOT / "runtime/fuzz/seeds").iterdir()),
        "import-mutator": models(build, build / "fuzz/import-mutator"),
    }
    results = [run(name, build, args.seconds / 2, args.seed, files) for name, files in seeds.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
