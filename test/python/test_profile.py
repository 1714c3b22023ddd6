"""shardc profile: what it measures, and who reads the table. Numbers of this machine are checked for their structure, not their size."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "llama"
MODEL = FIXTURES / "static-op20-named.onnx"
OPS = {"all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute", "broadcast"}


@pytest.fixture
def shardc(compiler_build):
    def call(*args, code=0):
        command = [str(compiler_build / "bin" / "shardc"), *map(str, args)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return call


@pytest.fixture
def table(shardc, tmp_path):
    """Of two ranks."""
    shardc("profile", "-n", 2, "--threads", 1, "--repeats", 3, "-o", tmp_path / "machine.json")
    return tmp_path / "machine.json"


def check(table, channel, ranks):
    assert table["format"] == {"name": "shardc-machine", "version": 1}
    assert (table["machine"]["channel"], table["machine"]["ranks"], table["machine"]["target"]) == (channel, ranks, "cpu")
    assert {product["dtype"] for product in table["products"]} == {"f32", "bf16"}
    assert all(rate["gflops"] > 0 for rate in table["products"] + table["attention"])
    assert all(number > 0 for number in table["kernels"].values())
    assert all(line["latency_us"] >= 0 and line["gigabytes_per_second"] > 0 for line in table["collectives"])


def test_two_ranks(table):
    text = json.loads(table.read_text())
    check(text, "shm", 2)
    assert sorted(line["op"] for line in text["collectives"]) == sorted(OPS)
    assert {(line["axes"], line["ranks"]) for line in text["collectives"]} == {("", 2)}


@pytest.mark.skipif(not shutil.which("mpirun") or "HYDRA" not in subprocess.getoutput("mpirun --version"), reason="there is no MPICH")
def test_over_mpi(shardc):
    text = json.loads(shardc("profile", "-n", 2, "--channel", "mpi", "--threads", 1, "--quick", "--repeats", 2, "--json").stdout)
    check(text, "mpi", 2)
    assert sorted(line["op"] for line in text["collectives"]) == sorted(OPS)


def test_groups_of_a_mesh(shardc):
    result = shardc("profile", "--mesh", "dp_shard=2,pp=1,tp=2", "--channel", "inprocess", "--threads", 1, "--repeats", 1, "--json")
    text = json.loads(result.stdout)
    check(text, "inprocess", 4)
    assert {(line["axes"], line["ranks"]) for line in text["collectives"]} == {("dp_shard", 2), ("tp", 2), ("dp_shard,tp", 4)}


def test_one_rank_has_no_collectives(shardc):
    text = json.loads(shardc("profile", "--threads", 1, "--repeats", 1, "--json").stdout)
    check(text, "inprocess", 1)
    assert text["collectives"] == []


def test_a_paced_link_is_seen(shardc):
    """0.8 Gbit/s are 0.1 GB/s, far below memory; the fit has to find that the link carries no more."""
    args = ("profile", "-n", 2, "--threads", 1, "--repeats", 3, "--json", "--link-gbps", 0.8)
    gather = next(line for line in json.loads(shardc(*args).stdout)["collectives"] if line["op"] == "all_gather")
    assert gather["gigabytes_per_second"] < 0.25


def test_bundles_remember_their_table(shardc, table, tmp_path):
    bundle, plain = tmp_path / "llama.bundle", tmp_path / "plain.bundle"
    shardc("compile", MODEL, "--tp", 2, "--isa", "x86-64-v3", "--costs", table, "-o", bundle)
    shardc("compile", MODEL, "--tp", 2, "--isa", "x86-64-v3", "-o", plain)
    costs = json.loads((bundle / "manifest.json").read_text())["costs"]
    assert (costs["name"], costs["sha256"]) == ("measured", hashlib.sha256(table.read_bytes()).hexdigest())
    assert costs["table"] == json.loads(table.read_text())
    assert json.loads((plain / "manifest.json").read_text())["costs"] == {"name": "default model"}
    # What a bundle was compiled with is what plan and explain use, unless told otherwise.
    plan = json.loads(shardc("plan", bundle, "--json").stdout)
    assert costs["sha256"][:12] in plan["costs"]
    assert plan == json.loads(shardc("plan", bundle, "--costs", table, "--json").stdout)
    modelled = json.loads(shardc("plan", plain, "--json").stdout)
    assert modelled["costs"].startswith("the model") and modelled["total_us"] != plan["total_us"]
    assert costs["sha256"][:12] in shardc("explain", bundle).stdout
    assert "default model" in shardc("explain", plain).stdout
    explained = json.loads(shardc("explain", bundle, "--json").stdout)
    assert explained and all(line["us"] > 0 for line in explained)
    assert "GFLOP/s" in shardc("plan", bundle, "--gflops", 10).stdout


def test_verify_with_a_table(shardc, table):
    shardc("verify", MODEL, "--tp", 2, "--costs", table, "--no-compiled")


def test_errors(shardc, table, tmp_path):
    assert "exists; --force replaces it" in shardc("profile", "-o", table, code=2).stderr
    assert "--mesh tp=2 has 2 ranks" in shardc("profile", "-n", 3, "--mesh", "tp=2", code=1).stderr
    assert 'mesh "tp": "tp" is not of the form axis=size' in shardc("profile", "--mesh", "tp", code=1).stderr
    assert '--channel "nccl" is not shm, mpi or inprocess' in shardc("profile", "--channel", "nccl", code=2).stderr
    assert "--repeats 0 is below 1" in shardc("profile", "--repeats", 0, code=2).stderr
    assert "profile takes no file" in shardc("profile", "x.onnx", code=2).stderr
    target = tmp_path / "none" / "machine.json"
    message = shardc("profile", "--threads", 1, "--repeats", 1, "-o", target, code=1).stderr
    assert f"{target}: No such file or directory" in message
    compile_ = ("compile", MODEL, "--tp", 2, "-o", tmp_path / "x.bundle", "--costs")
    assert "No such file or directory" in shardc(*compile_, tmp_path / "none.json", code=1).stderr
    text = json.loads(table.read_text())
    for change, message in [
        ({"format": {"name": "shardc-machine", "version": 9}}, "has version 9, this shardc reads version 1"),
        ({"products": []}, '"products" is empty'),
        ({"collectives": None}, '"collectives" is missing or no list'),
        ({"attention": [{"dtype": "f32", "gflops": -1}]}, '"attention[0].gflops" is -1, must be above 0'),
    ]:
        damaged = tmp_path / "damaged.json"
        damaged.write_text(json.dumps(text | change))
        assert message in shardc(*compile_, damaged, code=1).stderr
    assert not (tmp_path / "x.bundle").exists()
    assert "--costs" in shardc("export-plan", MODEL, "--tp", 2, "--costs", table, "-o", tmp_path / "x.onnx", code=2).stderr
    shardc("compile", MODEL, "--tp", 2, "--isa", "x86-64-v3", "-o", tmp_path / "y.bundle")
    both = shardc("plan", tmp_path / "y.bundle", "--costs", table, "--gflops", 3, code=1).stderr
    assert "--gflops, --memory-gbps, --link-gbps and --latency-us are of the model that it replaces" in both
