"""Runs every test suite and prints one line for each; the exit status is the number of failed suites.

    python test/run_all.py --build build [--only lit,unit,...]
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def suites(build: Path):
    """Name and command of every suite, cheapest first."""
    lit = "/usr/lib/llvm-22/bin/lit"
    jobs = str(os.cpu_count() or 2)
    yield "lit", [lit, "-q", "-j", jobs, str(build / "test")]
    for binary in sorted(p for p in (build / "bin").iterdir() if p.name.endswith(("test", "tests"))):
        yield f"unit:{binary.name}", [str(binary), "--gtest_brief=1"]
    yield "fuzz", [sys.executable, str(ROOT / "test/fuzz/run.py"), "--build", str(build)]
    for folder in ("python", "cuda", "gpu", "train"):
        yield folder, [sys.executable, "-m", "pytest", "-q", str(ROOT / "test" / folder), "--build", str(build)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--only", help="comma-separated beginnings of suite names")
    args = parser.parse_args()
    wanted = args.only.split(",") if args.only else [""]
    failed = []
    for name, command in suites(args.build.resolve()):
        if not any(name.startswith(w) for w in wanted):
            continue
        start = time.time()
        code = subprocess.run(command, cwd=ROOT).returncode
        print(f"{'ok  ' if code == 0 else 'FAIL'} {name} ({time.time() - start:.1f} s)", flush=True)
        if code:
            failed.append(name)
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
