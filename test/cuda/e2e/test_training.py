"""Training on fake GPUs: torch's losses; the same bits with and without graphs and in whatever order streams run."""

import json

import numpy as np
import pytest
import reference_data
from programs import harness, losses

TOLERANCE = 1e-4
STEPS = 4
MESHES = {
    "1": (),
    "dp2": ("--dp-shard", "2"),
    "tp2": ("--tp", "2"),
    "dp2-tp2": ("--dp-shard", "2", "--tp", "2"),
    "tp2-async": ("--tp", "2", "--sequence-parallel", "--async-tensor-parallel", "--async-tensor-parallel-pieces", "2"),
    "replicate2": ("--dp-replicate", "2"),
    "accumulation4": ("--dp-shard", "2", "--gradient-accumulation", "4"),
}
CASES = [("llama", mesh) for mesh in MESHES]
CASES += [("gpt2", "dp2-tp2"), ("gemma2", "dp2"), ("mamba2", "dp2"), ("qwen3_moe", "dp2"), ("nemotron_h", "dp2")]


@pytest.fixture(scope="module")
def compiled(gpus, tmp_path_factory):
    bundles = {}

    def compile_training(family, mesh):
        if (family, mesh) not in bundles:
            reference, folder = reference_data.load(family), tmp_path_factory.mktemp("training")
            run = reference.runs["accumulation4" if mesh == "accumulation4" else "adamw"]
            dims = [word for name, size in reference.dims.items() for word in ("--dim", f"{name}={size}")]
            plan = [] if family == "mamba2" else ["--plan", family]
            options = [*dims, *plan, *harness.optimizer_options(run.optimizer), *MESHES[mesh]]
            bundle = gpus.compile(reference.model, "--train", *options, bundle=folder / "bundle")
            bundles[family, mesh] = run, bundle, harness.write_data(run, folder / "tokens.bin")
        return bundles[family, mesh]

    return compile_training


def train(gpus, bundle, data, folder, *options, entry="step"):
    """Losses and gradient norms; the call log is checked."""
    log = folder / "loss.jsonl"
    arguments = ["--data", data, "--steps", STEPS, "--timeout", 30, "--log", log, *options]
    found = gpus.logged(folder / "log", bundle, *arguments, entry=entry)
    steps = losses(log)
    return np.array([step["loss"] for step in steps]), np.array([step["grad_norm"] for step in steps]), found


@pytest.mark.parametrize(("family", "mesh"), CASES)
def test_losses(gpus, compiled, tmp_path, family, mesh):
    run, bundle, data = compiled(family, mesh)
    entry = "forward_backward" if mesh == "accumulation4" else "step"
    registers = ["--nccl-ub", "window"] if mesh != "1" else []  # a single rank is refused
    got, norms, found = train(gpus.having(seed=1), bundle, data, tmp_path, *registers, entry=entry)
    np.testing.assert_allclose(got, run.losses[:STEPS], rtol=TOLERANCE)
    np.testing.assert_allclose(norms, run.grad_norms[:STEPS], rtol=TOLERANCE)
    assert found["runs"] % STEPS == 0 and (mesh == "1" or found["registered"])


def test_library_without_the_epilogues(gpus, compiled, tmp_path):
    """Gradients of biases and GELU by generated kernels, where cuBLASLt has no algorithm that makes them."""
    run, bundle, data = compiled("gpt2", "dp2-tp2")
    kernels = json.loads((bundle / "program.json").read_text())["kernels"]
    epilogues = {call["epilogue"] for kernel in kernels if "otherwise" in kernel for call in kernel["calls"]}
    assert {"gelu_aux_bias", "bias_gradient_a", "bias_gradient_b"} & epilogues
    log = tmp_path / "loss.jsonl"
    gpus.having(epilogues="plain").run(bundle, "--data", data, "--steps", STEPS, "--timeout", 30, "--log", log)
    np.testing.assert_allclose([step["loss"] for step in losses(log)], run.losses[:STEPS], rtol=TOLERANCE)


def test_gradients_are_added_in_place(compiled):
    """Every gradient of a layer's weights is added to what earlier micro-batches left by its product: no copy, no kernel of its own."""
    _, bundle, _ = compiled("llama", "accumulation4")
    program = json.loads((bundle / "program.json").read_text())
    buffers, entry = program["buffers"], next(entry for entry in program["entries"] if entry["name"] == "forward_backward")
    kept = {state["buffer"] for state in program["states"] if state["role"] == "gradient"}
    places = {buffers[n]["offset"]: buffers[n]["bytes"] for n in kept}

    def inside(n):
        return any(begin <= buffers[n]["offset"] < begin + size for begin, size in places.items())

    in_place = 0
    for command in entry["commands"]:
        assert command["op"] != "copy" or command["bytes"] == 4, command
        for call in program["kernels"][command["kernel"]]["calls"] if command["op"] == "launch" else []:
            if call["kind"] == "gemm" and call["accumulate"] and isinstance(call["d"]["argument"], int):
                c, d = (command["buffers"][argument] for argument in (call["c"], call["d"]["argument"]))
                in_place += c == d and inside(d)
    assert in_place == 2 * 7 + 1  # of two layers, and the head


def test_order_of_streams_changes_nothing(gpus, compiled, tmp_path):
    _, bundle, data = compiled(*CASES[1])
    results = []
    for seed in range(4):
        graph = [] if seed % 2 else ["--no-cuda-graph"]
        got, norms, _ = train(gpus.having(seed=seed), bundle, data, tmp_path, "--save", tmp_path / "checkpoint", *graph)
        results.append((got.tobytes(), norms.tobytes(), (tmp_path / "checkpoint/checkpoint.safetensors").read_bytes()))
    assert all(result == results[0] for result in results)


def test_gradients_that_are_not_finite(gpus, tmp_path):
    """Weights that overflow: the step ends with the parameter's name, and what is saved is what was loaded."""
    reference = reference_data.load("llama")
    run = reference.runs["adamw"]
    dims = [word for name, size in reference.dims.items() for word in ("--dim", f"{name}={size}")]
    options = [*dims, "--plan", "llama", *harness.optimizer_options(run.optimizer), *MESHES["dp2"], "--check-for-nan-in-grad"]
    bundle = gpus.compile(reference.model, "--train", *options, bundle=tmp_path / "bundle")
    data = harness.write_data(run, tmp_path / "tokens.bin")
    common = ["--data", data, "--timeout", 30]
    gpus.run(bundle, *common, "--steps", 1, "--save", tmp_path / "good", "--learning-rate", "1e9")  # the next step overflows
    status, ended = gpus.run(bundle, *common, "--steps", 1, "--load", tmp_path / "good", "--save", tmp_path / "kept", fails=True)
    assert status == 12
    assert "step 2: the gradient of " in ended and "numbers that are not finite on rank " in ended
    good, kept = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("good", "kept"))
    assert good == kept


def test_checkpoints_move_between_targets(gpus, compiled, tmp_path):
    """Two steps on GPUs with tensor parallelism, then two on processors with data parallelism."""
    run, first, data = compiled("llama", "tp2")
    reference, second = reference_data.load("llama"), tmp_path / "bundle"
    harness.compile_training(gpus.build / "bin", reference, run.optimizer, MESHES["dp2"], second)
    common = ["--data", data, "--timeout", 30]
    gpus.run(first, *common, "--steps", 2, "--save", tmp_path / "checkpoint")
    gpus.run(second, *common, "--steps", 2, "--load", tmp_path / "checkpoint", "--log", tmp_path / "log", "--threads", 1)
    got = np.array([step["loss"] for step in losses(tmp_path / "log")])
    np.testing.assert_allclose(got, run.losses[2:STEPS], rtol=TOLERANCE)
