"""The second half of `make demo`: trains a small Llama on real text (this repository's documents, byte by byte) on two ranks.

    python python/demo_train.py --build build [--steps 300]

Leaves the loss curve (demo-loss.svg) and the step's plan (demo-plan.html) in the build folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# Bytes are the vocabulary; 12 sequences of 64 bytes are one step of both ranks.
MODEL = {"hidden": 128, "layers": 4, "heads": 4, "kv-heads": 2, "ffn": 352, "vocab": 256, "batch": 12, "sequence": 64}


def run(*command) -> None:
    words = [str(word) for word in command]
    print("\n$ " + " ".join(word.replace(str(ROOT) + "/", "") for word in words), flush=True)
    subprocess.run(words, check=True)


def text() -> bytes:
    """The repository's documents, in the order of their names."""
    documents = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    return b"\n".join(document.read_bytes() for document in documents)


def plot(losses: list[float], path: Path) -> None:
    width, height, margin = 640, 320, 40
    low, high = min(losses), max(losses)
    x = [margin + i * (width - 2 * margin) / max(len(losses) - 1, 1) for i in range(len(losses))]
    y = [margin + (high - loss) * (height - 2 * margin) / max(high - low, 1e-9) for loss in losses]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/><polyline fill="none" stroke="#358" stroke-width="2" points="{points}"/>'
        f'<text x="4" y="{margin}">{high:.2f}</text><text x="4" y="{height - margin}">{low:.2f}</text>'
        f'<text x="{width / 2 - 90:.0f}" y="{height - 10}">loss (nats a byte) over {len(losses)} steps</text></svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    build = args.build.resolve()
    tools = build / "bin"
    with tempfile.TemporaryDirectory() as folder:
        model, tokens, bundle, log = (Path(folder) / name for name in ("llama.onnx", "tokens.bin", "llama.train", "loss.jsonl"))
        np.frombuffer(text(), np.uint8).astype("<u2").tofile(tokens)
        options = [word for name, value in MODEL.items() for word in (f"--{name}", value)]
        run(sys.executable, ROOT / "bench" / "make_llama.py", model, *options)
        run(tools / "shardc", "compile", model, "--train", "--strategy", "fsdp2", "--dp-shard", 2, "--optimizer", "adamw", "--learning-rate", "3e-3",
            "--lr-schedule", "cosine", "--lr-warmup-steps", 10, "--lr-decay-steps", args.steps, "--clip-grad-norm", 1, "-o", bundle)
        run(tools / "shardc", "plan", bundle, "--html", build / "demo-plan.html")
        run(tools / "shard-run", "-n", 2, bundle, "--data", tokens, "--token-dtype", "u16", "--steps", args.steps, "--log", log)
        losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    plot(losses, build / "demo-loss.svg")
    first, last = losses[0], float(np.mean(losses[-10:]))
    print(f"\nloss {first:.3f} to {last:.3f} nats a byte over {len(losses)} steps: {'falls' if last < 0.7 * first else 'DOES NOT FALL'}")
    print(f"curve: {(build / 'demo-loss.svg').name}, plan of the step: {(build / 'demo-plan.html').name}, both in {build.name}/")
    return 0 if last < 0.7 * first else 1


if __name__ == "__main__":
    sys.exit(main())
