"""Kernels that a decoder layer launches, ours beside PyTorch's: `launches.py --torch PYTHON [--output docs/cuda-launches.md]`.

Ours are counted in the bundle of a fixture compiled for one GPU: calls of the commands of one layer, generated kernels and cuBLASLt alike.
PyTorch's are counted by launches_torch.py, in an interpreter that has torch, transformers and triton.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import kernels

FAMILIES = ["llama", "qwen2", "gpt2"]


def layers_of(program, entry):
    """Calls by layer: the forward layers, then the backward ones in the order in which they run."""
    layers = collections.defaultdict(list)
    for command in entry["commands"]:
        if command["op"] == "launch" and "layer" in command:
            kernel = program["kernels"][command["kernel"]]
            layers[command["layer"]] += [(call["kind"], kernel["name"]) for call in kernel["calls"]]
    return [calls for _, calls in sorted(layers.items())]


def count_ours(tools, model, options):
    with tempfile.TemporaryDirectory() as folder:
        bundle = pathlib.Path(folder) / "model.bundle"
        kernels.run(tools / "shardc", "compile", model, "--target", "cuda", "--arch", "compute_80", "-o", bundle, *options)
        program = json.loads((bundle / "program.json").read_text())
    return layers_of(program, program["entries"][0])


def attention_extra(calls):
    """Launches of attention and its gradient beyond one each: PyTorch's count has one node for either."""
    launches = collections.Counter(name for kind, name in calls if kind == "launch" and "attention" in name)
    return sum(count - 1 for count in launches.values())


def describe(calls):
    gemms = sum(kind == "gemm" for kind, _ in calls)
    return len(calls) - attention_extra(calls), gemms, attention_extra(calls)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=kernels.ROOT / "build", type=pathlib.Path)
    parser.add_argument("--torch", required=True, help="a Python with torch, transformers and triton (also by PYTHONPATH)")
    parser.add_argument("--output", type=pathlib.Path, help="write the table into this file")
    args = parser.parse_args()
    script = pathlib.Path(__file__).with_name("launches_torch.py")
    done = subprocess.run([args.torch, script, kernels.ROOT / "test/fixtures", *FAMILIES], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    torch, tools, models = json.loads(done.stdout), args.build.resolve() / "bin", dict(kernels.fixtures())
    lines = []
    for family in FAMILIES:
        inference = count_ours(tools, models[family], ["--tp", "1"])[0]
        training = count_ours(tools, models[family], ["--train", "--mesh", "dp_shard=1"])
        count = len(training) // 2
        theirs = torch["families"][family]
        for name, calls, way in (("inference", inference, "forward"), ("forward", training[0], "forward"), ("backward", training[count], "backward")):
            total, gemms, extra = describe(calls)
            lines.append(f"| {family} | {name} | {total} | {gemms} | {extra} | {theirs['compile'][way]} | {theirs['eager'][way]} |")
    text = HEAD.format(torch=torch["torch"]) + "\n".join(lines) + "\n"
    print(text)
    if args.output:
        args.output.write_text(text)


HEAD = """# Launches of a decoder layer on NVIDIA GPUs

Made by `test/cuda/launches.py --output docs/cuda-launches.md`; counted, nothing ran on a GPU. One layer of the fixtures, f32, one GPU, no checkpointing.

* Ours: the calls of one layer in the bundle's program, of which so many are cuBLASLt's. "forward" is that of training and keeps what the backward pass needs.
* torch.compile (PyTorch {torch}): the nodes that Inductor's scheduler has left after fusion, for the graphs of AOTAutograd (min-cut partitioning) of the
  same layer of transformers with attention by `scaled_dot_product_attention`, lowered for a CUDA device of an H100's properties.
* Eager: ATen operators of that layer that reach a backend, but for views; each is one launch at least.
* Attention and its gradient are one node there, and counted once here too; "beyond" is what ours launch more for them.
* GPT-2's packed query, key and value are three matrices, each of which tp cuts: three products for torch's one.

| family | pass | ours | of these cuBLASLt | beyond | torch.compile | eager |
|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    main()
