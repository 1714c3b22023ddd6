"""shardc profile --backend cuda on fake GPUs: the table's structure, and who may read it. How fast a fake is says nothing."""

import json
import os
import subprocess

import pytest
from programs import FIXTURES, Gpus

OPS = ["all_gather", "all_reduce", "all_to_all", "broadcast", "permute", "reduce_scatter"]
MODEL = FIXTURES / "llama/static-op20-named.onnx"


def call(gpus, *arguments, code=0, library=True):
    environment = {**os.environ, **gpus.settings, **({"LD_LIBRARY_PATH": str(gpus.folder)} if library else {})}
    command = [str(gpus.build / "bin/shardc"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, f"exit status {done.returncode}: {done.stderr}"
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def table(gpus, tmp_path_factory):
    """Of a mesh of two by two."""
    path = tmp_path_factory.mktemp("profile") / "machine.json"
    call(gpus, "profile", "--backend", "cuda", "--quick", "--mesh", "dp_shard=2,tp=2", "--repeats", 1, "-o", path)
    return path


def test_structure(table):
    text = json.loads(table.read_text())
    machine = {key: text["machine"][key] for key in ("processor", "target", "channel", "isa", "ranks")}
    assert machine == {"processor": "Fake GPU 0", "target": "cuda", "channel": "nccl", "isa": "compute_80", "ranks": 4}
    assert sorted((product["dtype"], product["m"]) for product in text["products"]) == [(dtype, m) for dtype in ("bf16", "f32") for m in (8, 32, 64, 64)]
    assert [rate["dtype"] for rate in text["attention"]] == ["f32", "bf16"]
    groups = {(line["axes"], line["ranks"]) for line in text["collectives"]}
    assert groups == {("dp_shard", 2), ("tp", 2), ("dp_shard,tp", 4)}
    for group in groups:
        assert sorted(line["op"] for line in text["collectives"] if (line["axes"], line["ranks"]) == group) == OPS
    assert "host_gigabytes_per_second" in text["kernels"]
    rates = [rate["gflops"] for rate in text["products"] + text["attention"]] + [line["gigabytes_per_second"] for line in text["collectives"]]
    assert all(number > 0 for number in [*rates, *text["kernels"].values()])


def test_a_step_is_planned_with_it(gpus, table, tmp_path):
    """Compiled for GPUs; processors are another machine."""
    options = ["--train", "--dp-shard", 2, "--tp", 2, "--dim", "batch=4", "--costs", table, "-o"]
    model = FIXTURES / "llama/dynamic-op23-named.onnx"
    call(gpus, "compile", model, *options[:-1], "--dim", "seq=16", "--target", "cuda", "--arch", "compute_80", "-o", tmp_path / "b")
    assert json.loads((tmp_path / "b/manifest.json").read_text())["costs"]["table"]["machine"]["processor"] == "Fake GPU 0"
    assert "Fake GPU 0" in call(gpus, "plan", tmp_path / "b")
    assert f"--costs {table} was measured on cuda, the target is cpu" in call(gpus, "compile", MODEL, "--tp", 2, "--costs", table, "-o", tmp_path / "c", code=2)


def test_what_is_refused(gpus):
    message = call(gpus, "profile", "--backend", "cuda", "--quick", code=1, library=False)
    assert "cannot load libcuda.so.1" in message and "measuring kernels: shard-run ended with status 13" in message
    assert "measuring kernels" in call(Gpus(gpus.build, {"FAKE_CUDA_DEVICES": "1"}), "profile", "--backend", "cuda", "--quick", "-n", 2, code=1)
    for option in ("--threads", "--link-gbps"):
        assert f"{option} is for --backend cpu, the backend is cuda" in call(gpus, "profile", "--backend", "cuda", option, 2, code=2)
    assert "--arch is for --backend cuda, the backend is cpu" in call(gpus, "profile", "--arch", "sm_80", code=2)
    assert '--backend "rocm" is not cpu or cuda' in call(gpus, "profile", "--backend", "rocm", code=2)
    assert '--arch: unknown cuda architecture "sm_7"' in call(gpus, "profile", "--backend", "cuda", "--arch", "sm_7", code=1)
