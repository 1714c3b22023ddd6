#!/usr/bin/env python3
"""XLA's side of bench/train.py: the same Llama as train_peers.py trains, written in JAX, one step under jit with its state
donated, partitioned by XLA (Shardy) over two CPU devices of one process, as JAX runs on one machine.

    .venv-bench/bin/python bench/train_xla.py tp llama.onnx tokens.bin --sequences 4
    .venv-bench/bin/python bench/train_xla.py fsdp llama.onnx tokens.bin --sequences 8

tp: q, k, v, gate, up and lm_head by columns, o, down and the embedding by rows, and the batch whole. fsdp: the batch over
the devices and every matrix by rows. Options and output are those of train_peers.py; the one process has all ranks, so that
each rank's memory is its equal part.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))
from train_peers import MEMORY_STEPS, MemoryWatch, add_run_arguments, proportional_bytes, read_weights  # noqa: E402

BETA1, BETA2, EPSILON, NORM_EPSILON, ROPE_BASE = 0.9, 0.95, 1e-8, 1e-6, 10000.0
ROWS = ("o_proj", "down_proj")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("tp", "fsdp"))
    add_run_arguments(parser)
    return parser.parse_args()


def partition(name, mode):
    from jax.sharding import PartitionSpec as P

    if "norm" in name:
        return P()
    if mode == "fsdp":
        return P("devices")
    return P(None, "devices") if any(part in name for part in ROWS) else P("devices")


def make_loss(layers, head_dim, activations):
    """`activations` constrains what flows between layers: XLA chooses the rest."""
    import jax
    import jax.numpy as jnp

    def norm(x, weight):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + NORM_EPSILON) * weight

    def rotate(x):
        frequencies = ROPE_BASE ** (-jnp.arange(0, head_dim, 2) / head_dim)
        angles = jnp.outer(jnp.arange(x.shape[1]), frequencies)[None, :, None]
        first, second = jnp.split(x, 2, -1)
        cosine, sine = jnp.cos(angles), jnp.sin(angles)
        return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)

    def attention(weights, prefix, x):
        batch, length, _ = x.shape
        q, k, v = ((x @ weights[f"{prefix}.{each}_proj.weight"].T).reshape(batch, length, -1, head_dim) for each in "qkv")
        out = jax.nn.dot_product_attention(rotate(q), rotate(k), v, is_causal=True)  # keys' heads are shared in groups
        return out.reshape(batch, length, -1) @ weights[f"{prefix}.o_proj.weight"].T

    def layer(weights, prefix, x):
        x = x + attention(weights, f"{prefix}.self_attn", norm(x, weights[f"{prefix}.input_layernorm.weight"]))
        h = norm(x, weights[f"{prefix}.post_attention_layernorm.weight"])
        gate, up, down = (weights[f"{prefix}.mlp.{each}_proj.weight"].T for each in ("gate", "up", "down"))
        return activations(x + (jax.nn.silu(h @ gate) * (h @ up)) @ down)

    def loss(weights, ids, labels):
        x = activations(weights["model.embed_tokens.weight"][ids])
        for index in range(layers):
            x = layer(weights, f"model.layers.{index}", x)
        logits = norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))

    return loss


def make_step(loss, args):
    import jax
    import jax.numpy as jnp

    def step(weights, first, second, count, ids, labels):
        value, gradients = jax.value_and_grad(loss)(weights, ids, labels)
        count = count + 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)

        def update(weight, m, v):
            direction = m / (1 - BETA1**count) / (jnp.sqrt(v / (1 - BETA2**count)) + EPSILON)
            return weight * (1 - args.learning_rate * args.weight_decay) - args.learning_rate * direction

        return value, jax.tree.map(update, weights, first, second), first, second, count

    return step


def train(args):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P
    from shardc.tokens import batches, open_tokens

    mesh = Mesh(np.array(jax.devices()), ("devices",))
    jax.block_until_ready(jnp.zeros(1))
    idle = proportional_bytes()
    host, layers, head_dim = read_weights(args.model)
    shardings = {name: NamedSharding(mesh, partition(name, args.mode)) for name in host}
    batch = NamedSharding(mesh, P("devices") if args.mode == "fsdp" else P())
    place = lambda make: {name: jax.device_put(make(host[name]), shardings[name]) for name in shardings}  # noqa: E731
    weights, first, second = place(lambda x: x), place(np.zeros_like), place(np.zeros_like)
    host.clear()
    loss = make_loss(layers, head_dim, lambda x: jax.lax.with_sharding_constraint(x, batch))
    whole = NamedSharding(mesh, P())
    results = (whole, shardings, shardings, shardings, whole)
    step = jax.jit(make_step(loss, args), donate_argnums=(0, 1, 2, 3), out_shardings=results)
    count, data = jnp.zeros((), jnp.float32), batches(open_tokens(args.tokens), args.sequences, args.length)

    def run():
        nonlocal weights, first, second, count
        ids, labels = (jax.device_put(array.astype(np.int32), batch) for array in next(data))
        value, weights, first, second, count = step(weights, first, second, count, ids, labels)
        jax.block_until_ready(weights)
        return float(value)

    losses = [run() for _ in range(args.warm_up)]
    times = []
    for _ in range(args.steps):
        begin = time.perf_counter()
        losses.append(run())
        times.append(1e3 * (time.perf_counter() - begin))
    with MemoryWatch() as watch:
        losses += [run() for _ in range(MEMORY_STEPS)]
    memory = [{"pss_bytes": watch.largest / args.ranks, "idle_pss_bytes": idle / args.ranks}] * args.ranks
    facts = {"median_ms": statistics.median(times), "min_ms": min(times), "times_ms": times}
    print(json.dumps({**facts, "losses": losses, "memory": memory, "jax": jax.__version__}), flush=True)


if __name__ == "__main__":
    arguments = parse_arguments()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.ranks}"  # before jax is imported
    train(arguments)
