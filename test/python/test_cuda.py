"""The handle on bundles for GPUs, on the fake libraries of test/cuda/fake."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shardc

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def fake_gpus(runtime_build, monkeypatch):
    folder = runtime_build.resolve() / "test/cuda/fake"
    libraries = {"LIBCUDA": "libcuda.so.1", "NCCL": "libnccl.so.2", "CUBLASLT": "libcublasLt.so.13"}
    for name, library in libraries.items():
        if not (folder / library).is_file():
            pytest.skip(f"{folder / library} is not built")
        monkeypatch.setenv(f"SHARDRT_{name}", str(folder / library))
    return runtime_build


@pytest.fixture
def cuda_bundle(sum_bundle):
    """sum_bundle, compiled for GPUs."""
    for name in ("program.json", "manifest.json"):
        content = json.loads((sum_bundle / name).read_text())
        content["target"] = "cuda"
        if name == "program.json":
            content["cuda"] = {area: {"offset": 256, "bytes": 0} for area in ("scratch", "workspace", "staging")}
            content["arena"]["bytes"] = 256
        else:
            program = (sum_bundle / "program.json").read_bytes()
            facts = {"path": "program.json", "bytes": len(program), "sha256": hashlib.sha256(program).hexdigest()}
            content["files"] = [facts]
        (sum_bundle / name).write_text(json.dumps(content))
    return sum_bundle


@pytest.mark.parametrize("options", [{}, {"cuda_graph": False}, {"poison": True}, {"nccl_ub": "register"}])
def test_runs(fake_gpus, cuda_bundle, options):
    with shardc.load(cuda_bundle, build=fake_gpus, **options) as bundle:
        assert bundle.target == "cuda"
        for factor in (1, 2, 3):
            outputs = bundle.run(x=factor * X)
            np.testing.assert_array_equal(outputs["y"], 2 * factor * X)
        np.testing.assert_array_equal(outputs["z"].astype(np.float32), [[1, 2], [3, 4], [5, 6]])


def test_options_of_the_other_target(fake_gpus, cuda_bundle):
    with pytest.raises(ValueError, match=r"threads: .*test.bundle was compiled for cuda"):
        shardc.load(cuda_bundle, build=fake_gpus, threads=2)
    with pytest.raises(ValueError, match="nccl_ub is 'yes'"):
        shardc.load(cuda_bundle, build=fake_gpus, nccl_ub="yes")


@pytest.mark.parametrize("option", [{"cuda_graph": True}, {"nccl_ub": "window"}, {"share_device": True}])
def test_gpu_options_for_processors(runtime_build, sum_bundle, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: .*test.bundle was compiled for cpu"):
        shardc.load(sum_bundle, build=runtime_build, **option)


def test_without_libraries(runtime_build, cuda_bundle):
    """In a process of its own: what is loaded stays."""
    script = f"""
import numpy, shardc
with shardc.load({str(cuda_bundle)!r}, build={str(runtime_build)!r}) as bundle:
    try:
        bundle.run(x=numpy.zeros((2, 3), numpy.float32))
    except shardc.RuntimeFailure as error:
        print(error.kind, error)
"""
    variables = {**os.environ, "SHARDRT_LIBCUDA": "/nowhere/libcuda.so.1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("no device "), done.stderr
    assert "cannot load /nowhere/libcuda.so.1, which SHARDRT_LIBCUDA names" in done.stdout


def test_compile_and_run(fake_gpus, compiler_build, tmp_path):
    fixture = Path(__file__).parents[1] / "fixtures/llama/static-op20-named"
    options = shardc.CompileOptions(tp=2, target="cuda", arch=("compute_80",))
    arrays = np.load(fixture.with_suffix(".npz"))
    model = fixture.with_suffix(".onnx")
    with shardc.compile(model, options, tmp_path / "llama.cuda", build=compiler_build) as bundle:
        logits = bundle.run(input_ids=arrays["input_ids"])["logits"]
    assert np.abs(logits - arrays["logits"]).max() <= 1e-4 * np.abs(arrays["logits"]).max()
