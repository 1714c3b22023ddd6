"""States in the machine's memory (--offload) on fake GPUs: the same bits, and an arena that is smaller by what was moved."""

import json

import pytest
import reference_data
from programs import check_log, harness, losses

STEPS = 3
OFFLOADS = ("none", "optimizer", "parameters")
MESHES = {
    "1": (),
    "dp2": ("--dp-shard", "2"),
    "dp2-tp2": ("--dp-shard", "2", "--tp", "2"),
    "bf16": ("--dp-shard", "2", "--param-dtype", "bf16"),
    "zero1": ("--dp-shard", "2", "--zero-dp-strategy", "1"),
    "muon": ("--dp-shard", "2"),
    "deferred": ("--dp-shard", "2", "--gradient-accumulation", "4"),
    "optim": ("--dp-replicate", "2", "--dp-shard", "2", "--outer-dp-sharding-strategy", "optim"),
    "full": ("--activation-checkpointing", "full", "--check-for-nan-in-grad"),
    "reduced": ("--dp-shard", "2", "--gradient-accumulation", "4", "--defer-fsdp-grad-sync", "false"),
}
MOVED = {"none": (), "optimizer": ("exp_avg", "exp_avg_sq", "momentum"), "parameters": ("exp_avg", "exp_avg_sq", "momentum", "parameter", "gradient")}


@pytest.fixture(scope="module")
def compiled(gpus, tmp_path_factory):
    bundles = {}

    def compile_training(mesh, offload):
        if (mesh, offload) not in bundles:
            reference, folder = reference_data.load("llama"), tmp_path_factory.mktemp("offload")
            run = reference.runs["muon" if mesh == "muon" else "accumulation4" if mesh in ("deferred", "reduced") else "adamw"]
            dims = [word for name, size in reference.dims.items() for word in ("--dim", f"{name}={size}")]
            options = [*dims, "--plan", "llama", *harness.optimizer_options(run.optimizer), *MESHES[mesh], "--offload", offload]
            bundle = gpus.compile(reference.model, "--train", *options, bundle=folder / "bundle")
            bundles[mesh, offload] = bundle, harness.write_data(run, folder / "tokens.bin")
        return bundles[mesh, offload]

    return compile_training


def facts(bundle):
    """Memory, and for each state its role and bytes and whether it is the machine's."""
    program = json.loads((bundle / "program.json").read_text())
    begin = program["cuda"].get("host", {"offset": program["arena"]["bytes"]})["offset"]
    states = [(state["role"], bool(state["shard"]), program["buffers"][state["buffer"]]) for state in program["states"]]
    memory = json.loads((bundle / "manifest.json").read_text())["memory"]
    return memory, [(role, cut, buffer["bytes"], buffer["offset"] >= begin) for role, cut, buffer in states]


def train(gpus, bundle, data, folder, *options, seed=0):
    """Losses and the checkpoint, as bytes."""
    log = folder / "loss.jsonl"
    common = ["--data", data, "--timeout", 30, "--log", log, "--save", folder / "checkpoint"]
    gpus.having(seed=seed).run(bundle, *common, "--steps", STEPS, *options)
    return [(step["loss"], step["grad_norm"]) for step in losses(log)], (folder / "checkpoint/checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("mesh", MESHES)
def test_the_same_bits(gpus, compiled, tmp_path, mesh):
    results = {offload: train(gpus, *compiled(mesh, offload), tmp_path, seed=number) for number, offload in enumerate(OFFLOADS)}
    assert len(results["none"][0]) == STEPS
    assert results["optimizer"] == results["none"] == results["parameters"]


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("offload", OFFLOADS[1:])
def test_memory(compiled, mesh, offload):
    """By formula: what is moved is what the roles say, and the arena loses it (copies of parameters on one GPU take some back)."""
    whole, _ = facts(compiled(mesh, "none")[0])
    memory, states = facts(compiled(mesh, offload)[0])
    for role, is_cut, _, is_host in states:
        stays = role == "gradient" and not is_cut  # products add to it in place
        assert is_host == (role in MOVED[offload] and not stays), role
    moved = sum((size + 255) // 256 * 256 for _, _, size, is_host in states if is_host)
    assert memory["host_bytes"] == moved > 0 and whole["host_bytes"] == 0
    saved, more = whole["arena_bytes"] - memory["arena_bytes"], memory["temporary_bytes"] - whole["temporary_bytes"]
    assert saved == moved - more
    if offload == "optimizer" and mesh != "muon" or mesh in ("dp2", "dp2-tp2", "zero1"):
        assert more == 0


def planned(gpus, bundle, *options):
    return json.loads(harness.call(gpus.build / "bin/shardc", "plan", bundle, "--json", *options, seconds=60))


def test_plan(gpus, compiled, tmp_path):
    """Both memories; and a slow bus is what a step waits for: with AdamW it carries two states in each direction, both ways at once."""
    bundle, _ = compiled("1", "optimizer")
    memory, _ = facts(bundle)
    table = {
        "format": {"name": "shardc-machine", "version": 1},
        "machine": {"processor": "p", "target": "cuda", "channel": "nccl", "isa": "sm_90", "ranks": 1, "threads": 1},
        "products": [{"dtype": "f32", "m": 512, "n": 512, "k": 512, "gflops": 1e6}],
        "attention": [{"dtype": "f32", "gflops": 1e6}],
        "kernels": {"launch_us": 1, "element_gigabytes_per_second": 1e3, "row_gigabytes_per_second": 1e3},
        "collectives": [],
    }
    times = []
    for rate in (1e-3, 1e3):
        table["kernels"]["host_gigabytes_per_second"] = rate
        (tmp_path / "machine.json").write_text(json.dumps(table))
        plan = planned(gpus, bundle, "--costs", tmp_path / "machine.json")
        times.append(plan["total_us"])
        assert plan["host_bytes"] == memory["host_bytes"]  # buckets are multiples of 256 bytes
        assert plan["permanent_bytes"] < memory["arena_bytes"]
    slow = memory["host_bytes"] / 1e-3 * 1e-3
    assert slow < times[0] < slow + times[1]
    assert "of offloaded states, pinned" in harness.call(gpus.build / "bin/shardc", "plan", bundle, seconds=60)


@pytest.mark.parametrize("offload", OFFLOADS[1:])
def test_what_the_driver_saw(gpus, compiled, tmp_path, offload):
    """Order and races, with and without graphs; the machine's memory is pinned and mapped, the device has the arena alone."""
    bundle, data = compiled("dp2", offload)
    memory, _ = facts(bundle)
    log = tmp_path / "log"
    for graph in ([], ["--no-cuda-graph"]):
        gpus.having(seed=5).logged(log, bundle, "--data", data, "--steps", STEPS, "--timeout", 30, *graph, entry="step")
        lines = [line for line in check_log.read(log) if line["call"] == "allocate"]
        pinned = [line["bytes"] for line in lines if line.get("mapped")]
        assert pinned.count(memory["host_bytes"]) == 2  # ranks
        device = [line["bytes"] for line in lines if "pinned" not in line]
        assert device.count(memory["arena_bytes"]) == 2


def test_checkpoints_go_between(gpus, compiled, tmp_path):
    """Saved without, resumed with: as if it had not been interrupted."""
    (plain, data), (moved, _) = compiled("dp2", "none"), compiled("dp2-tp2", "parameters")
    assert train(gpus, plain, data, tmp_path)[0]
    first = tmp_path / "checkpoint/checkpoint.safetensors"
    gpus.run(moved, "--load", tmp_path / "checkpoint", "--save", tmp_path / "again", "--timeout", 30)
    assert (tmp_path / "again/checkpoint.safetensors").read_bytes() == first.read_bytes()


def test_dead_storage_is_not_read(gpus, compiled, tmp_path):
    bundle, data = compiled("1", "parameters")
    assert train(gpus, bundle, data, tmp_path, "--poison") == train(gpus, bundle, data, tmp_path)


def test_too_little_memory_to_pin(gpus, compiled, tmp_path):
    bundle, data = compiled("dp2", "optimizer")
    memory, _ = facts(bundle)
    status, error = gpus.having(pinned=memory["host_bytes"] - 1).run(bundle, "--data", data, "--steps", 1, fails=True)
    assert f"keeps {memory['host_bytes']} bytes of states in this machine's memory (--offload), which the driver cannot pin" in error
    assert status == 11
