#!/usr/bin/env python3
"""Compiles and runs what test/hub and test/onnx/contrib.py record of onnxruntime, and writes docs/hub.md.

    table.py --build build                    the report
    table.py --build build --fixtures DIR     also the models of DIR/FAMILY/VARIANT.onnx as onnxruntime optimizes them (needs that
                                              package), against the logits beside them
"""

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "test" / "onnx")]
import contrib  # noqa: E402

import shardc  # noqa: E402

HUB = Path(__file__).resolve().parent
MESHES = [(1, False), (2, False), (2, True), (4, False), (4, True)]
STEP = 4
OPTIONS = {
    "genai": ({"batch_size": 2, "kv_cache_dim": 16, "sequence_length": STEP}, {"past_sequence_length": 24}, "input_ids"),
    "packed": ({"batch": 2, "seq": STEP}, {"past": 24}, "x"),
    "bert": ({"batch": 2, "seq": 24}, {}, None),
}
INTRODUCTION = """# Models from the hub

Written by `test/hub/table.py`; do not edit. Most ONNX files of transformers that people share were written by onnxruntime's own tools, with
operators of the domain `com.microsoft`, and with weights of few bits. They become the same graph ops as the standard's operators, so that
plans by role, every cut, both targets and caches apply:

    python -m onnxruntime_genai.models.builder -i HF_FOLDER -o llama -p int4 -e cpu
    shardc compile llama/model.onnx --tp 2 --dim batch_size=1 --dim sequence_length=16 --dim kv_cache_dim=128 \\
           --cache past_sequence_length=4096 --shape-instance sequence_length=1 -o llama.bundle

    with shardc.load("llama.bundle", outputs=["logits"]) as model:
        logits = model.run(input_ids=prompt, past_sequence_length=0)["logits"]
        logits = model.run(input_ids=token)["logits"]                            # and so on; the cache stays on its ranks

* `--cache past_sequence_length=N`: the cache has room for N entries and the program counts them. The attention mask, which told the lengths, is
  no input any more: all sequences of a batch have one length. Caches that hold a window only (Gemma) have N entries too.
* Sequences of different lengths, as in onnxruntime-genai's own loop with one buffer for past and present: `--dim past_sequence_length=N --dim
  total_sequence_length=N`, and `--carry past_key_values.0.key=present.0.key` for each cache. The mask, of N columns, is an input, and says
  for each sequence where it stands.
* Weights of 2, 4 or 8 bits (MatMulNBits, GatherBlockQuantized, DequantizeLinear) become weights of floats at import, rounded once to the type of
  their scales: cut and stored as those are, so a bundle takes the memory of floats. `accuracy_level`, by which onnxruntime may round the
  other operand to 8 bits, is not followed: products are those of the floats.
* What a model quantizes as it runs (QuantizeLinear, DynamicQuantizeLinear, MatMulInteger) is computed so, in integers.
* An operator or setting that is not supported is told at import, for all nodes at once, with node, operator, attribute and value. So are
  SparseAttention, PagedAttention, MoE, caches of few bits (`kv_cache_bit_width`), window-sized caches that drop entries (without `--cache`), beam search's
  `cache_indirection`, control flow (`If`: the builder's Phi-3 with two rotary tables).
"""


def run_operators(build, recorded):
    table = collections.defaultdict(list)
    for case in contrib.cases():
        with tempfile.TemporaryDirectory() as folder:
            try:
                wrong = contrib.differences(case, recorded, Path(folder), build)
            except shardc.CompileError as error:
                wrong = [error.stderr[-300:]]
        if wrong:
            print(f"{case.name}: {wrong}", file=sys.stderr)
        table[(case.domain, case.op)].append(not wrong)
    return table


def run_model(model, tp, sequence_parallel, build):
    """The largest difference, relative to the largest logit, and the share of all weights that a rank holds."""
    dims, cache, stepped = OPTIONS[model.stem.split("-")[0]]
    recorded = np.load(model.with_suffix(".npz"))
    output = "y" if "y" in recorded.files else "logits"
    options = shardc.CompileOptions(tp=tp, sequence_parallel=sequence_parallel, dims=dims, cache=cache, isa=("x86-64-v3",))
    with tempfile.TemporaryDirectory() as folder, shardc.compile(model, options, Path(folder) / "b", build=build) as bundle:
        weights = bundle.manifest["memory"]["parameter_bytes"]
        if stepped:
            given = recorded[stepped]
            parts = [bundle.run({stepped: given[:, i : i + STEP]})[output] for i in range(0, given.shape[1], STEP)]
            have = np.concatenate(parts, 1)
        else:
            have = bundle.run({name: recorded[name] for name in bundle.inputs})[output]
    want = recorded[output]
    return np.abs(have - want).max() / np.abs(want).max(), weights


def run_optimized(fixtures, build):
    """Per family: how many exports, optimized by onnxruntime, give torch's logits at tp 1 and tp 2 with sequence parallelism."""
    import onnx
    import onnxruntime

    table = collections.defaultdict(lambda: [0, 0, 0.0, collections.Counter()])
    for path in sorted(fixtures.glob("*/static-op*.onnx")):
        if path.stem not in ("static-op17-torchscript", "static-op20", "static-op20-named", "static-op23-named"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath, options.log_severity_level = f"{folder}/model.onnx", 4
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            row, recorded = table[path.parent.name], np.load(path.with_suffix(".npz"))
            row[3].update(node.op_type for node in onnx.load(f"{folder}/model.onnx").graph.node if node.domain)
            for tp in (1, 2):
                chosen = shardc.CompileOptions(tp=tp, sequence_parallel=tp > 1, isa=("x86-64-v3",))
                with shardc.compile(f"{folder}/model.onnx", chosen, Path(folder) / f"{tp}.bundle", build=build) as bundle:
                    have = bundle.run({name: recorded[name] for name in bundle.inputs})["logits"]
                error = np.abs(have - recorded["logits"]).max() / np.abs(recorded["logits"]).max()
                row[0] += bool(error < 1e-4)
                row[1] += 1
                row[2] = max(row[2], error)
    return table


def report(build, fixtures):
    recorded = np.load(contrib.RECORDED)
    lines = [INTRODUCTION, "## Operators\n", "One node each, against onnxruntime's results (`test/onnx/contrib.py`); tolerance 1e-4, integers exact.\n"]
    lines += ["| operator | domain | passed |", "|---|---|---:|"]
    failed = 0
    for (domain, op), results in sorted(run_operators(build, recorded).items(), key=lambda item: (item[0][0] == "", item[0])):
        lines.append(f"| {op} | {domain or 'standard'} | {sum(results)}/{len(results)} |")
        failed += results.count(False)
    lines += ["\n## Models\n", "Random weights, made by the tools themselves (`test/hub/make.py`); decoders token by token with their cache, four at once."]
    lines += ["Numbers: the largest difference from onnxruntime's logits, relative to the largest; tolerance 1e-4.\n"]
    names = [f"tp {tp}{' sp' if sp else ''}" for tp, sp in MESHES]
    lines += [f"| model | {' | '.join(names)} | weights a rank, tp 2 |", "|---|" + "---|" * (len(MESHES) + 1)]
    for model in sorted(HUB.glob("*.onnx")):
        results = [run_model(model, tp, sp, build) for tp, sp in MESHES]
        failed += sum(not error < 1e-4 for error, _ in results)
        share = results[1][1] / results[0][1]
        lines.append(f"| {model.stem} | {' | '.join(f'{error:.1e}' for error, _ in results)} | {share:.0%} |")
    if fixtures:
        lines += ["\n## Exports of torch, optimized by onnxruntime\n"]
        lines += ["Its own optimizer at level `extended` before import; at tp 1 and tp 2 with sequence parallelism, against torch's logits.\n"]
        lines += ["| family | passed | largest difference | operators of `com.microsoft` |", "|---|---:|---|---|"]
        for family, (passed, count, error, operators) in run_optimized(fixtures, build).items():
            named = ", ".join(sorted(operators)) or "none"
            lines.append(f"| {family} | {passed}/{count} | {error:.1e} | {named} |")
            failed += count - passed
    return "\n".join(lines) + "\n", failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--fixtures", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "hub.md")
    options = parser.parse_args()
    text, failed = report(options.build, options.fixtures)
    options.output.write_text(text)
    print(f"{options.output}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
