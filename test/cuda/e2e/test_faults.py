"""What goes wrong on machines with GPUs is told, and ends in time: each line of the table of exit statuses that is about them."""

import json
import os
import signal
import time

import pytest
from programs import FIXTURES, Gpus, Model

NO_KERNELS, RANK_DIED, TIMED_OUT, OUT_OF_MEMORY, NO_DEVICE, DEVICE_FAILED = 7, 9, 10, 11, 13, 14


@pytest.fixture(scope="module")
def bundle(gpus, tmp_path_factory):
    return gpus.compile(FIXTURES / "llama/static-op20.onnx", "--tp", 2, "--plan", "llama", bundle=tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def arguments(bundle, tmp_path):
    return [bundle, *Model(FIXTURES / "llama/static-op20.onnx", tmp_path).arguments(tmp_path / "logits.npy")]


CASES = {
    "memory": ({"memory": 8000000}, OUT_OF_MEMORY, ["the program needs", "bytes of device memory, 8000000 of 8000000 are free"]),
    "older GPU": ({"arch": 75}, NO_KERNELS, ["this GPU is sm_75", "the bundle has code for compute_80"]),
    "old driver": ({"driver_version": 11080}, NO_DEVICE, ["the driver is for CUDA 11.8", "needs 12.0"]),
    "one GPU": ({"devices": 1}, NO_DEVICE, ["local rank 1 has no GPU of its own, this machine shows 1"]),
    "no GPU": ({"devices": 0}, NO_DEVICE, ["CUDA_ERROR_NO_DEVICE"]),
}


@pytest.mark.parametrize("case", CASES)
def test_machine(gpus, arguments, case):
    settings, status, texts = CASES[case]
    code, error = gpus.having(**settings).run(*arguments, fails=True)
    assert code == status and all(text in error for text in texts), error


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("FAKE_NCCL_VERSION", "21805", "is NCCL 2.18.5, this runtime needs 2.28"),
        ("SHARDRT_CUBLASLT", "/none", "cannot load /none, which SHARDRT_CUBLASLT names"),
        ("SHARDRT_LIBCUDA", "/none", "a bundle for cuda needs a machine with an NVIDIA GPU and its driver"),
    ],
)
def test_libraries(gpus, arguments, variable, value, text):
    code, error = Gpus(gpus.build, {variable: value}).run(*arguments, fails=True)
    assert code == NO_DEVICE and text in error, error


def test_no_room_for_nccl(gpus, bundle, arguments):
    """The arena fits, what NCCL takes besides does not."""
    arena = json.loads((bundle / "manifest.json").read_text())["memory"]["arena_bytes"]
    settings = {"FAKE_CUDA_MEMORY": str(arena + (4 << 20)), "FAKE_NCCL_BUFFERS": str(8 << 20)}
    code, error = Gpus(gpus.build, settings).run(*arguments, fails=True)
    assert code == OUT_OF_MEMORY and "out of memory" in error and "NCCL keeps memory of its own beside the program's arena" in error, error
    Gpus(gpus.build, {**settings, "FAKE_CUDA_MEMORY": str(arena + (64 << 20))}).run(*arguments)


def test_later_gpu_takes_ptx(gpus, arguments):
    gpus.having(arch=100).run(*arguments)


def ranks_of(log):
    """Process numbers by rank, once all are in their runs."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []
    processes = {line["rank"]: line["pid"] for line in lines if line["call"] == "communicator"}
    running = {line["pid"] for line in lines if line["call"] == "launch graph"}
    return processes if len(processes) == 2 and running == set(processes.values()) else None


@pytest.mark.parametrize(("signal_number", "status", "text"), [(signal.SIGKILL, RANK_DIED, "rank 1"), (signal.SIGSTOP, TIMED_OUT, "rank 0")])
def test_peer_is_lost(gpus, arguments, tmp_path, signal_number, status, text):
    log = tmp_path / "log"
    process = Gpus(gpus.build, {"FAKE_CUDA_LOG": str(log)}).start(*arguments, "--runs", 100000, "--timeout", 3)
    processes, deadline = None, time.time() + 60
    while not processes and time.time() < deadline and process.poll() is None:
        time.sleep(0.05)
        processes = ranks_of(log)
    assert processes, "the ranks never ran"
    lost = time.time()
    os.kill(processes[1], signal_number)
    try:
        _, error = process.communicate(timeout=30)
    finally:
        try:
            os.kill(processes[1], signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert process.returncode == status and text in error and time.time() - lost < 20, error
