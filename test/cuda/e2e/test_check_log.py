"""What the checker of call logs is for: a good log with one thing changed is found."""

import copy

import check_log
import pytest
from programs import FIXTURES, Gpus, Model


@pytest.fixture(scope="module")
def recorded(gpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    bundle = gpus.compile(FIXTURES / "llama/static-op20.onnx", "--tp", 2, "--plan", "llama", bundle=folder / "bundle")
    arguments = Model(FIXTURES / "llama/static-op20.onnx", folder).arguments(folder / "logits.npy")
    Gpus(gpus.build, {"FAKE_CUDA_LOG": str(folder / "log")}).run(bundle, *arguments, "--runs", 2, "--nccl-ub", "register")
    return check_log.read(folder / "log"), bundle


def where(log, call, **facts):
    return next(number for number, line in enumerate(log) if line["call"] == call and all(line.get(key) == value for key, value in facts.items()))


def run_ahead(log):
    """Something is done before what it waits for."""
    operation = next(line for line in log if line["call"] == "enqueue" and line["behind"])
    waited = where(log, "done", op=operation["behind"][0], pid=operation["pid"])
    log.insert(waited, log.pop(where(log, "done", op=operation["op"], pid=operation["pid"])))


def out_of_stream(log):
    first = log[where(log, "enqueue", kind="launch")]
    second = log[where(log, "enqueue", lane=first["lane"], pid=first["pid"], op=first["op"] + 1)]
    one, other = where(log, "done", op=first["op"], pid=first["pid"]), where(log, "done", op=second["op"], pid=first["pid"])
    log[one], log[other] = log[other], log[one]


def other_collective(log):
    log[where(log, "collective", rank=1)]["what"] = "all_reduce of 1 f32 (sum), call 0"


def missing_collective(log):
    log.pop(where(log, "collective", rank=1))


def unregistered(log):
    log[where(log, "collective", rank=0)]["source"] += 1 << 40


def allocates(log):
    line = log[where(log, "enqueue", kind="matmul")]
    log.insert(log.index(line), {"pid": line["pid"], "device": line["device"], "call": "allocate", "address": 0, "bytes": 1})


def waits(log):
    line = log[where(log, "enqueue", kind="matmul")]
    log.insert(log.index(line), {"pid": line["pid"], "device": line["device"], "call": "synchronize", "what": "stream"})


def missing_launch(log):
    matmul = where(log, "enqueue", kind="matmul")
    log[matmul + where(log[matmul:], "enqueue", kind="launch", pid=log[matmul]["pid"])]["kind"] = "memset"


CASES = {
    run_ahead: "which it waits for",
    out_of_stream: "ran before what lies before it in its stream",
    other_collective: "collective 0: rank 0 calls",
    missing_collective: "collective|calls, rank 1",
    unregistered: "its source is not registered",
    allocates: "entry main: .*allocate.* between its operations",
    waits: "entry main: .*synchronize.* between its operations",
    missing_launch: "begins no run of",
}


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_finds(recorded, change):
    log, bundle = recorded
    assert check_log.check(log, bundle)["runs"] == 4
    changed = copy.deepcopy(log)
    change(changed)
    with pytest.raises(check_log.Wrong, match=CASES[change]):
        check_log.check(changed, bundle)
