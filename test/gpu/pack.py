"""Packs what a bare GPU machine needs to test bundles: shard-run, compiled fixtures, what processors computed for them, and
the checks (check.py). No compiler, no LLVM; Python 3 with numpy is all that the other machine has to have.

    python test/gpu/pack.py --build build --output build/gpu-pack         # a folder, and build/gpu-pack.tar.xz
    tar xf gpu-pack.tar.xz && python3 gpu-pack/check.py                   # there
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "test/train")]

import reference_data  # noqa: E402
from harness import optimizer_options, processor_level, write_data  # noqa: E402

MOST_BYTES = 60 << 20
ARCHS = "sm_80,sm_90a,sm_100a,compute_80"
TRAINED = ("llama", "gpt2", "qwen3_moe", "gemma2")
STEPS = 10
# A Llama large enough that kernels are bound by the memory: bench/make_llama.py.
BENCH = {"hidden": 2048, "layers": 2, "heads": 16, "kv_heads": 4, "ffn": 5632, "vocab": 8192, "batch": 4, "sequence": 1024}


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr.strip()[:2000]}")
    return done.stdout


class Pack:
    def __init__(self, build: pathlib.Path, folder: pathlib.Path, archs: str):
        self.tools, self.folder, self.archs = build / "bin", folder, archs
        self.cases = []
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("bin", "bundles", "data", "work"):
            (folder / name).mkdir(parents=True)

    def compile(self, name, model, *options):
        """The program for GPUs, which is packed, and the same one for processors."""
        gpu, cpu = self.folder / "bundles" / name, self.folder / "work" / name
        run(self.tools / "shardc", "compile", model, *options, "--target", "cuda", "--arch", self.archs, "-o", gpu)
        if cpu.parent.is_dir() and not name.startswith("bench"):
            run(self.tools / "shardc", "compile", model, *options, "--isa", processor_level(), "-o", cpu)
        return gpu, cpu

    def add_inference(self, name, model, ranks):
        """Inputs from the fixture; outputs as processors compute them."""
        gpu, cpu = self.compile(name, model, "--tp", ranks)
        entry = json.loads((gpu / "program.json").read_text())["entries"][0]
        given = np.load(model.with_suffix(".npz"))
        case = {"kind": "inference", "name": name, "ranks": ranks, "inputs": {}, "outputs": {}}
        arguments = []
        for value in entry["inputs"]:
            if value["name"] in given:
                file = f"data/{name}-{value['name']}.npy"
                np.save(self.folder / file, given[value["name"]])
                case["inputs"][value["name"]] = file
                arguments += ["--input", f"{value['name']}={self.folder / file}"]
        for value in entry["outputs"]:
            file = f"data/{name}-{value['name']}.npy"
            case["outputs"][value["name"]] = file
            arguments += ["--output", f"{value['name']}={self.folder / file}"]
        run(self.tools / "shard-run", cpu, *arguments)
        self.cases.append(case)

    def add_training(self, family, mesh_name, ranks, mesh):
        """Losses of the first steps, as processors compute them."""
        name, reference = f"{family}-train-{mesh_name}", reference_data.load(family)
        recipe = reference.runs["adamw"]
        dims = [word for dim, size in reference.dims.items() for word in ("--dim", f"{dim}={size}")]
        options = [*dims, "--plan", family, *optimizer_options(recipe.optimizer), *mesh]
        _, cpu = self.compile(name, reference.model, "--train", *options)
        tokens, log = f"data/{name}.bin", self.folder / "work" / f"{name}.jsonl"
        write_data(recipe, self.folder / tokens)
        run(self.tools / "shard-run", cpu, "--data", self.folder / tokens, "--steps", STEPS, "--log", log)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        losses = [line["loss"] for line in lines if "step" in line]
        self.cases.append({"kind": "training", "name": name, "ranks": ranks, "data": tokens, "losses": losses})

    def add_bench(self, sizes):
        """Programs whose weights are made where they run, at random."""
        model = self.folder / "work/bench.onnx"
        options = [word for key, size in sizes.items() for word in ("--" + key.replace("_", "-"), size)]
        run(sys.executable, ROOT / "bench/make_llama.py", model, *options)
        for name, options in {"bench-inference": (), "bench-train": ("--train",)}.items():
            gpu, _ = self.compile(name, model, *options)
            shutil.rmtree(gpu / "weights", ignore_errors=True)
            manifest = json.loads((gpu / "manifest.json").read_text())
            manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("weights/")]
            (gpu / "manifest.json").write_text(json.dumps(manifest, indent=1))
            tokens = {"vocabulary": sizes["vocab"], "batch": sizes["batch"], "length": sizes["sequence"]}
            self.cases.append({"kind": "bench", "name": name, "training": bool(options), **tokens})
        self.cases.append({"kind": "torch", "name": "bench-torch", "sizes": sizes})

    def finish(self, archive: pathlib.Path):
        run("strip", "-o", self.folder / "bin/shard-run", self.tools / "shard-run")
        needed = run("ldd", self.folder / "bin/shard-run")
        if "LLVM" in needed or "MLIR" in needed:
            sys.exit(f"error: shard-run is linked against a compiler:\n{needed}")
        for script in ("check.py", "bandwidth.py", "gpu_machine.py", "torch_peer.py"):
            shutil.copy(HERE / script, self.folder)
        shutil.rmtree(self.folder / "work")
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        (self.folder / "cases.json").write_text(json.dumps({"commit": commit, "archs": self.archs, "cases": self.cases}, indent=1))
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(self.folder, self.folder.name)
        size = archive.stat().st_size
        if size > MOST_BYTES:
            sys.exit(f"error: {archive} has {size} bytes, more than {MOST_BYTES}")
        print(f"{archive}: {len(self.cases)} cases, {size / 2**20:.1f} MiB")


def has_ptxas():
    roots = [os.environ.get(name) for name in ("CUDA_ROOT", "CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    return shutil.which("ptxas") or any(root and (pathlib.Path(root) / "bin/ptxas").exists() for root in roots)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build/gpu-pack")
    parser.add_argument("--families", help="comma-separated; default: all fixtures")
    parser.add_argument("--archs", help=f"default: {ARCHS}; without ptxas compute_80")
    parser.add_argument("--bench", default="", help="other sizes of the model for bandwidth: hidden=2048,layers=2,...")
    parser.add_argument("--no-bench", action="store_true", help="without that model, which takes a minute")
    args = parser.parse_args()
    archs = args.archs or (ARCHS if has_ptxas() else "compute_80")
    if not args.archs and archs != ARCHS:
        print("there is no ptxas: the pack has PTX only, which the driver compiles")
    pack = Pack(args.build.resolve(), args.output.resolve(), archs)
    folders = sorted(path for path in (ROOT / "test/fixtures").iterdir() if path.is_dir())
    wanted = args.families.split(",") if args.families else [folder.name for folder in folders]
    for folder in folders:
        if folder.name not in wanted:
            continue
        model = next(folder / name for name in ("static-op20.onnx", "static-op23.onnx") if (folder / name).exists())
        for ranks in (1, 2):
            pack.add_inference(f"{folder.name}-tp{ranks}", model, ranks)
        for dtype in ("bf16", "fp16"):
            if (folder / f"static-op20-{dtype}.onnx").exists():
                pack.add_inference(f"{folder.name}-{dtype}-tp1", folder / f"static-op20-{dtype}.onnx", 1)
        if folder.name in TRAINED:
            pack.add_training(folder.name, "1", 1, ())
            pack.add_training(folder.name, "dp2", 2, ("--dp-shard", "2"))
        print(f"{folder.name} is packed", flush=True)
    if not args.no_bench:
        given = dict(word.split("=") for word in args.bench.split(",") if word)
        pack.add_bench({**BENCH, **{name: int(size) for name, size in given.items()}})
    pack.finish(args.output.resolve().with_suffix(".tar.xz"))


if __name__ == "__main__":
    main()
