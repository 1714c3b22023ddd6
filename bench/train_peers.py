#!/usr/bin/env python3
"""PyTorch's side of bench/train.py: trains the Llama of an ONNX file (bench/make_llama.py) with the Hugging Face class on
ranks of this machine over gloo, and prints what shard-run --json prints: losses, milliseconds, memory.

    .venv-torch/bin/python bench/train_peers.py fsdp2 llama.onnx tokens.bin --sequences 8 [--compile] [--checkpointing]

fsdp2: fully_shard on each layer, then the model; --compile compiles each layer first, --bf16 computes in bfloat16 and
reduces in float32. ddp: DistributedDataParallel; --bf16 is autocast. tp: the plan of NeMo and Hugging Face: q, k, v,
gate, up and lm_head by columns, o, down and the embedding by rows. AdamW is torch's fused one (tp: its for-each one, for
distributed tensors). Data, in the order of shard-run: --sequences are those of a step over all ranks; under tp all ranks
take the same.

Memory is the proportional set size: `idle_pss_bytes` after imports and connecting, `pss_bytes` the largest seen while a
thread looked every few milliseconds, in steps that are not timed.
"""

import argparse
import ctypes
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

from common import ROOT, bfloat16_environment

MODES = ("fsdp2", "ddp", "tp")
MEMORY_STEPS = 2
SAMPLE_SECONDS = 0.005


def add_run_arguments(parser):
    """What to train on and how long, alike for all peers."""
    parser.add_argument("model")
    parser.add_argument("tokens")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=8, help="of a step, over all ranks")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7, help="timed")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    add_run_arguments(parser)
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpointing", action="store_true", help="each layer is computed again in the backward pass")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if args.mode == "tp" and args.bf16:
        parser.error("tp: --bf16 is not measured")
    return args


# ---- starting the ranks --------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(args) -> int:
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"WORLD_SIZE": str(args.ranks), "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    environment |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # or idle compiler processes share the processors
    environment |= bfloat16_environment() if args.bf16 else {}
    command = [sys.executable, __file__, *sys.argv[1:]]
    ranks = [subprocess.Popen(command, env={**environment, "RANK": str(rank)}) for rank in range(args.ranks)]
    failed = 0
    while ranks and not failed:
        time.sleep(0.05)
        codes = [rank.poll() for rank in ranks]
        failed = next((code for code in codes if code), 0)
        ranks = [rank for rank, code in zip(ranks, codes) if code is None]
    for rank in ranks:
        rank.kill()
        rank.wait()
    return 1 if failed else 0


# ---- one rank ------------------------------------------------------------------------------------------------------
def proportional_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


class MemoryWatch:
    """The largest proportional set size while it is entered."""

    def __init__(self):
        self.largest = 0

    def __enter__(self):
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def _watch(self):
        while not self.done.wait(SAMPLE_SECONDS):
            self.largest = max(self.largest, proportional_bytes())


def read_weights(path: str):
    """The file's weights by name, the number of layers, and the size of a head, which its rope tables tell."""
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(path).graph
    weights = {tensor.name: to_array(tensor) for tensor in graph.initializer if tensor.name.endswith(".weight")}
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers."))
    tables = (to_array(tensor) for tensor in graph.initializer if tensor.name.startswith("val_"))
    head_dim = next(table.shape[3] for table in tables if table.ndim == 4 and table.shape[:2] == (1, 1))
    return weights, layers, head_dim


def load_model(path: str):
    """The Hugging Face model with the file's sizes and weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    arrays, layers, head_dim = read_weights(path)
    weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    vocabulary, hidden = weights["model.embed_tokens.weight"].shape
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=weights["model.layers.0.mlp.gate_proj.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=weights["model.layers.0.self_attn.q_proj.weight"].shape[0] // head_dim,
        num_key_value_heads=weights["model.layers.0.self_attn.k_proj.weight"].shape[0] // head_dim,
        vocab_size=vocabulary,
        rms_norm_eps=1e-6,
        use_cache=False,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)
    return model.train()  # it has no dropout; checkpointing needs the mode


def shard_tensors(model, mesh) -> None:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    columns, rows = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), ("o_proj", "down_proj")
    plan = {"model.embed_tokens": RowwiseParallel(input_layouts=Replicate())}
    plan["lm_head"] = ColwiseParallel(output_layouts=Replicate())
    for name, _ in model.named_modules():
        leaf = name.rsplit(".", 1)[-1]
        if leaf in columns or leaf in rows:
            plan[name] = ColwiseParallel() if leaf in columns else RowwiseParallel()
    parallelize_module(model, mesh, plan)


def distribute(model, args):
    """The model as it trains, in the order of torchtitan: checkpointing, compilation, sharding."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh("cpu", (args.ranks,), mesh_dim_names=(args.mode,))
    if args.mode == "tp":
        shard_tensors(model, mesh)
    if args.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if args.compile:
        for layer in model.model.layers:
            layer.compile()
    if args.mode == "fsdp2":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if args.bf16 else MixedPrecisionPolicy()
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
    if args.mode == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    return model


def parameter_groups(model) -> list[dict]:
    """Distributed tensors apart from others: torch updates them by other functions."""
    from torch.distributed.tensor import DTensor

    groups = {True: [], False: []}
    for parameter in model.parameters():
        groups[isinstance(parameter, DTensor)].append(parameter)
    return [{"params": group} for group in groups.values() if group]


def rank_batches(args, rank: int):
    """This rank's part of every batch."""
    import torch

    sys.path.insert(0, str(ROOT / "python"))
    from shardc.tokens import batches, open_tokens

    for pair in batches(open_tokens(args.tokens), args.sequences, args.length):
        if args.mode != "tp":
            share = args.sequences // args.ranks
            pair = (array[rank * share : (rank + 1) * share] for array in pair)
        yield tuple(torch.from_numpy(array.copy()) for array in pair)


def train(args):
    import torch
    import torch.distributed as dist
    import transformers.models.llama.modeling_llama  # noqa: F401  (idle is after all imports)
    from torch.nn import functional as F

    torch.set_num_threads(args.threads)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    dist.barrier()
    idle = proportional_bytes()
    dist.barrier()
    model = distribute(load_model(args.model), args)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading took does not count
    kind = {"foreach": True} if args.mode == "tp" else {"fused": True}
    settings = dict(lr=args.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=args.weight_decay)
    optimizer = torch.optim.AdamW(parameter_groups(model), **settings, **kind)
    data = rank_batches(args, rank)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.bf16 and args.mode == "ddp")

    def step():
        input_ids, labels = next(data)
        with autocast:
            logits = model(input_ids=input_ids).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    losses, times = [], []
    with MemoryWatch() as watch:
        for _ in range(args.warm_up):
            losses.append(step())
    for _ in range(args.steps):
        dist.barrier()
        begin = time.perf_counter()
        losses.append(step())
        dist.barrier()
        times.append(1e3 * (time.perf_counter() - begin))
    with watch:
        for _ in range(MEMORY_STEPS):
            losses.append(step())
    means = torch.stack(losses)
    dist.all_reduce(means)
    memory = [None] * args.ranks
    dist.all_gather_object(memory, {"pss_bytes": watch.largest, "idle_pss_bytes": idle})
    if rank == 0:
        facts = {"median_ms": statistics.median(times), "min_ms": min(times), "times_ms": times}
        facts |= {"losses": (means / args.ranks).tolist(), "memory": memory, "torch": torch.__version__}
        print(json.dumps(facts), flush=True)
    dist.barrier()
    os._exit(0)  # gloo's threads do not always survive being torn down


def main():
    args = parse_arguments()
    if "RANK" in os.environ:
        train(args)
    else:
        sys.exit(start_ranks(args))


if __name__ == "__main__":
    main()
