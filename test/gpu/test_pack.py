"""The pack for GPU machines, made and checked here with the fake libraries of test/cuda/fake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def pack(request, tmp_path_factory):
    build = Path(request.config.getoption("--build")).resolve()
    for file in ("bin/shardc", "bin/shard-run", "test/cuda/fake/libcuda.so.1"):
        if not (build / file).is_file():
            pytest.skip(f"{build / file} is not built")
    folder = tmp_path_factory.mktemp("pack") / "gpu-pack"
    small = "hidden=64,layers=1,heads=4,kv_heads=2,ffn=96,vocab=128,batch=2,sequence=16"
    options = ["--families", "llama", "--archs", "compute_80", "--bench", small, "--output", folder]
    subprocess.run([sys.executable, HERE / "pack.py", "--build", build, *options], check=True, timeout=300)
    return folder, build / "test/cuda/fake"


def check(folder, *options, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"} | variables
    command = [sys.executable, folder / "check.py", "--output", folder / "results.json", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_everything_passes(pack):
    folder, fakes = pack
    done = check(folder, LD_LIBRARY_PATH=str(fakes))
    assert done.returncode == 0, done.stdout
    results = json.loads((folder / "results.json").read_text())
    assert results["failed"] == [] and len(results["results"]) == 12
    assert results["archs"] == "compute_80"
    by_name = {result["name"]: result for result in results["results"]}
    for name in ("bench-inference", "bench-train"):
        kernels = by_name[name]["kernels"]
        assert any(kernel["calls"] == ["launch"] and kernel["gb_per_s"] > 0 for kernel in kernels)
        assert any("gemm" in kernel["calls"] for kernel in kernels)


def test_wrong_numbers_are_found(pack):
    folder, fakes = pack
    cases = json.loads((folder / "cases.json").read_text())
    training = next(case for case in cases["cases"] if case["name"] == "llama-train-1")
    training["losses"][3] *= 1.001
    wrong = {**cases, "cases": [training]}
    (folder / "cases.json").write_text(json.dumps(wrong))
    try:
        done = check(folder, LD_LIBRARY_PATH=str(fakes))
    finally:
        (folder / "cases.json").write_text(json.dumps(cases))
    assert done.returncode == 1
    assert "FAIL llama-train-1 losses differ by 0.000999" in done.stdout


def test_without_a_gpu_it_says_so(pack):
    folder, _ = pack
    done = check(folder, SHARDRT_LIBCUDA="/nowhere/libcuda.so.1")
    assert done.returncode == 0
    assert done.stdout.startswith("skipped: ") and "/nowhere/libcuda.so.1" in done.stdout
