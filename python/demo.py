"""`make demo`: a real exported Llama, compiled for two ranks, run, and compared with what torch computed.

    python python/demo.py --build build [--tp 2]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "test" / "fixtures" / "llama" / "static-op20-named.onnx"


def run(*command) -> None:
    words = [str(word) for word in command]
    print("\n$ " + " ".join(word.replace(str(ROOT) + "/", "") for word in words), flush=True)
    subprocess.run(words, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--tp", type=int, default=2, help="number of ranks (default 2)")
    args = parser.parse_args()
    tools = args.build.resolve() / "bin"
    reference = np.load(MODEL.with_suffix(".npz"))
    with tempfile.TemporaryDirectory() as folder:
        ids, logits, bundle = (Path(folder) / name for name in ("ids.npy", "logits.npy", "llama.bundle"))
        np.save(ids, reference["input_ids"])
        run(tools / "shardc", "compile", MODEL, "--tp", args.tp, "--sequence-parallel", "--plan", "llama", "-o", bundle, "--progress")
        run(tools / "shardc", "inspect", bundle)
        run(tools / "shardc", "explain", bundle)
        start = time.time()
        run(tools / "shard-run", "-n", args.tp, bundle, "--input", f"input_ids={ids}", "--output", logits)
        seconds = time.time() - start
        difference = np.abs(np.load(logits) - reference["logits"]).max()
        largest = np.abs(reference["logits"]).max()
        good = difference <= 1e-4 * largest
        print(f"\n{args.tp} ranks, start to result {seconds:.2f} s")
        print(f"largest difference from torch's logits: {difference:.2e} of {largest:.2f}: {'equal' if good else 'WRONG'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
