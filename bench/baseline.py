#!/usr/bin/env python3
"""Runs the model of bench/run.py under another system in this process and prints what shard-run --bench --json prints.

    python bench/baseline.py onnxruntime llama.onnx ids.npy --threads 2 --runs 10 [--output logits.npy]

torch runs the same weights through its own operators (F.rms_norm, F.scaled_dot_product_attention), eagerly.
"""

import argparse
import json
import statistics
import time

START = time.perf_counter()  # before the heavy imports: they are part of the time to the first result


def load_onnxruntime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, {"input_ids": ids})[0]


def load_torch(path, threads):
    import onnx
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    model = onnx.load(path)
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    tables = [w for name, w in weights.items() if name.startswith("val_") and w.dim() == 4 and w.is_floating_point()]
    cos, sin = (t for t in tables if t.shape[1] == 1 and t.shape[0] == 1)
    head_dim = cos.shape[-1]

    def linear(name, x):
        return F.linear(x, weights[name + ".weight"])

    def norm(name, x):
        return F.rms_norm(x, x.shape[-1:], weights[name + ".weight"], 1e-6)

    def heads(x):
        return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)

    def rope(x):
        low, high = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-high, low), dim=-1) * sin

    def attention(prefix, x):
        q, k, v = (heads(linear(prefix + name, x)) for name in ("q_proj", "k_proj", "v_proj"))
        mixed = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True, enable_gqa=True)
        return linear(prefix + "o_proj", mixed.transpose(1, 2).flatten(2))

    @torch.inference_mode()
    def run(ids):
        x = F.embedding(torch.from_numpy(ids), weights["model.embed_tokens.weight"])
        for n in range(layers):
            prefix = f"model.layers.{n}."
            x = x + attention(prefix + "self_attn.", norm(prefix + "input_layernorm", x))
            y = norm(prefix + "post_attention_layernorm", x)
            y = F.silu(linear(prefix + "mlp.gate_proj", y)) * linear(prefix + "mlp.up_proj", y)
            x = x + linear(prefix + "mlp.down_proj", y)
        return linear("lm_head", norm("model.norm", x)).numpy()

    return run


def memory():
    with open("/proc/self/smaps_rollup") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    with open("/proc/self/status") as f:
        peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
    return {"pss_bytes": pss * 1024, "peak_rss_bytes": peak * 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("system", choices=["onnxruntime", "torch"])
    parser.add_argument("model")
    parser.add_argument("ids")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", help="write the logits as .npy")
    args = parser.parse_args()

    import numpy as np

    run = (load_onnxruntime if args.system == "onnxruntime" else load_torch)(args.model, args.threads)
    ids = np.load(args.ids)
    logits = run(ids)
    first = time.perf_counter() - START
    times = []
    for _ in range(args.runs):
        begin = time.perf_counter()
        run(ids)
        times.append(1e3 * (time.perf_counter() - begin))
    if args.output:
        np.save(args.output, logits)
    facts = {"median_ms": statistics.median(times), "min_ms": min(times), "first_result_ms": 1e3 * first}
    print(json.dumps({**facts, "threads": args.threads, "memory": [memory()]}))


if __name__ == "__main__":
    main()
