#!/usr/bin/env python3
"""Generating text, side by side in one run: a prompt of 128 tokens at once, then 32 tokens one by one into a key/value
cache, on a Llama of 12 layers (201 million parameters), batch 1. shardc on one rank of two threads and on two ranks of
one (tp = 2), onnxruntime on the same file, transformers on torch, each with two threads.

Every system chooses the tokens itself (the largest logit), and all must choose the same. Each round starts every
system afresh; a token's time is the median of the rounds' medians. Needs .venv-torch (make test-torch).

    .venv-torch/bin/python bench/decode.py --build build [--rounds 3] [--write-docs]
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from common import ROOT, bfloat16_environment, describe, fail, machine, run, save, table, write_docs

sys.path.insert(0, str(ROOT / "python"))

CONFIG = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16,
              num_key_value_heads=4, vocab_size=32000, max_position_embeddings=2048)  # fmt: skip
PROMPT, TOKENS, CAPACITY = 128, 32, 256


# ---- systems: each gives a function from [1, n] token ids to the logits of the last one ---------------------------------
def start_shardc(folder, ranks):
    import shardc

    bundle = shardc.load(folder / f"tp{ranks}.bundle", threads=2 // ranks, outputs=["logits"])
    bundle.run(input_ids=np.zeros((1, 1), np.int64), past=0)
    state = {"past": 0}  # of the next run only: a cache goes on by itself

    def step(ids):
        return bundle.run(input_ids=ids, **{k: state.pop(k) for k in list(state)})["logits"][0, -1]

    return step


def start_onnxruntime(folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    value_of = onnxruntime.OrtValue.ortvalue_from_numpy
    caches = [value for value in session.get_inputs() if value.name != "input_ids"]
    feed = {cache.name: value_of(np.zeros((1, cache.shape[1], 0, cache.shape[3]), np.float32)) for cache in caches}

    def step(ids):
        results = session.run_with_ort_values(outputs, {"input_ids": value_of(ids), **feed})  # caches are not copied
        feed.update({cache.name: value for cache, value in zip(caches, results[1:])})
        return results[0].numpy()[0, -1]

    return step


def start_torch(folder):
    import torch
    from transformers import DynamicCache
    from shardc.models import random_model

    torch.set_num_threads(2)
    dtype = (folder / "dtype").read_text()
    model, cache = random_model("llama", overrides=CONFIG, dtype=dtype), DynamicCache()

    @torch.inference_mode()
    def step(ids):
        logits = model(torch.from_numpy(ids), past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits[0, -1].float().numpy()

    return step


SYSTEMS = {
    "shardc, 1 rank x 2 threads": lambda folder: start_shardc(folder, 1),
    "shardc, 2 ranks x 1 thread": lambda folder: start_shardc(folder, 2),
    "onnxruntime, 2 threads": start_onnxruntime,
    "transformers on torch, 2 threads": start_torch,
}


def measure(system, folder):
    """In a process of its own: milliseconds of the prompt and of each token, and the tokens."""
    step = SYSTEMS[system](folder)
    ids = np.random.default_rng(0).integers(3, CONFIG["vocab_size"], (1, PROMPT))
    tokens, times = [], []
    for _ in range(TOKENS + 1):
        begin = time.perf_counter()
        logits = step(ids)
        times.append(1e3 * (time.perf_counter() - begin))
        ids = np.array([[int(np.argmax(np.asarray(logits, np.float32)))]])
        tokens.append(int(ids[0, 0]))
    print(json.dumps({"prompt_ms": times[0], "token_ms": statistics.median(times[1:]), "tokens": tokens}))


# ---- the run ------------------------------------------------------------------------------------------------------
def prepare(folder, build, dtype):
    from shardc import CompileOptions, compile
    from shardc.export import export_hf

    export_hf("llama", folder / "model.onnx", overrides=CONFIG, dtype=dtype, cache=True)
    (folder / "dtype").write_text(dtype)
    for ranks in (1, 2):
        options = CompileOptions(tp=ranks, dims={"batch": 1, "seq": PROMPT}, shape_instances=[{"seq": 1}],
                                 cache={"past": CAPACITY})  # fmt: skip
        compile(folder / "model.onnx", options, folder / f"tp{ranks}.bundle", build=build).close()


def weight_count():
    """Of what a token reads: the layers' matrices and the head's."""
    hidden, heads = CONFIG["hidden_size"], CONFIG["num_attention_heads"]
    attention = 2 * hidden + 2 * hidden * CONFIG["num_key_value_heads"] // heads
    layer = hidden * (attention + 3 * CONFIG["intermediate_size"])
    return CONFIG["num_hidden_layers"] * layer + hidden * CONFIG["vocab_size"]


def report(results, dtype):
    weights = weight_count() * (4 if dtype == "float32" else 2)
    base = min(r["token_ms"] for r in results if not r["system"].startswith("shardc"))
    header = ["system", "prompt, ms", "token, ms", "ratio to the best other", "tokens/s", "GB/s of weights"]
    rows = [
        [r["system"], f"{r['prompt_ms']:.0f}", f"{r['token_ms']:.1f}", f"{r['token_ms'] / base:.2f}",
         f"{1e3 / r['token_ms']:.0f}", f"{weights / r['token_ms'] / 1e6:.0f}"]  # fmt: skip
        for r in results
    ]
    return f"{dtype}:\n\n{table(header, rows)}"


def compare(folder, rounds, dtype):
    # onnxruntime has no bf16 on processors
    names = [name for name in SYSTEMS if dtype == "float32" or not name.startswith("onnxruntime")]
    rest = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            rest[name].append(json.loads(run([sys.executable, __file__, "--measure", name, folder])))
    tokens = {name: measured[0]["tokens"] for name, measured in rest.items()}
    agree = [int(np.argmin([a == b for a, b in zip(tokens[name], tokens[names[-1]])] + [False])) for name in names]
    for name, count in zip(names, agree):
        print(f"{dtype}: {name}: the first {count} of {TOKENS + 1} tokens are {names[-1]}'s")
    if dtype == "float32" and min(agree) <= TOKENS:
        fail("the systems generate different text")
    return [
        {
            "system": name,
            "prompt_ms": statistics.median(r["prompt_ms"] for r in measured),
            "token_ms": statistics.median(r["token_ms"] for r in measured),
        }
        for name, measured in rest.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/benchmarks.md, the numbers into bench/results")
    parser.add_argument("--measure", nargs=2, metavar=("SYSTEM", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure[0], pathlib.Path(args.measure[1]))
    facts, texts, saved = machine(), [], {}
    os.environ |= bfloat16_environment()
    os.environ["SHARDC_BUILD"] = str(args.build.resolve())
    for dtype in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            prepare(folder, args.build.resolve(), dtype)
            saved[dtype] = results = compare(folder, args.rounds, dtype)
        texts.append(report(results, dtype))
    text = f"{describe(facts)}; {args.rounds} rounds of {TOKENS} tokens.\n\n" + "\n\n".join(texts)
    print(text)
    if args.write_docs:
        save("decode", facts, saved)
        write_docs("decode", text)


if __name__ == "__main__":
    main()
