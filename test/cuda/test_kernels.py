"""Every generated kernel of some fixtures, run on a fake GPU against the interpreter of graph ops. No GPU is needed."""

import shutil
from pathlib import Path

import check_kernels
import kernels
import pytest

INPUTS = Path(__file__).parent / "Inputs"
PROGRAMS = INPUTS / "programs.mlir"
ALL_PROGRAMS = sorted(INPUTS.glob("*.mlir"))
LARGE_PROGRAMS = sorted(INPUTS.glob("large/*.mlir"))
# In units in the last place of a result's largest value. f32: sums are taken in another order, and may cancel; narrower floats are rounded
# from f32 once or twice.
BOUND = {"f64": 64, "f32": 64, "f16": 2, "bf16": 2}

FIXTURES = [
    ("llama", "mesh=tp=2"),
    ("llama", "mesh=dp_shard=2 train"),
    ("gpt2", "mesh=dp_shard=2 train"),
    ("mixtral", "mesh=tp=1"),
]


def expect_close(distances):
    assert not {name: distance for name, distance in distances.items() if any(ulps > BOUND.get(element, 0) for element, ulps in distance)}
    return distances


@pytest.mark.parametrize(("family", "options"), FIXTURES)
def test_fixture(tools, tmp_path, family, options):
    fused = kernels.fuse(tools, dict(kernels.fixtures())[family], options, tmp_path)
    checked = expect_close(check_kernels.check(tools, fused, tmp_path))
    assert len(checked) >= 12


@pytest.mark.parametrize("programs", ALL_PROGRAMS, ids=lambda path: path.stem)
def test_programs(tools, tmp_path, programs):
    fused = tmp_path / "fused.mlir"
    kernels.run(tools / "shard-opt", programs, "-o", fused)
    checked = expect_close(check_kernels.check(tools, fused, tmp_path))
    assert len(checked) == programs.read_text().count("func.func")


def test_long_reductions(tools, tmp_path):
    fused = tmp_path / "fused.mlir"
    kernels.run(tools / "shard-opt", INPUTS / "unfused/reductions.mlir", "--shard-fuse=target=cuda", "-o", fused)
    checked = expect_close(check_kernels.check(tools, fused, tmp_path))
    assert sum("reduce" in name for name in checked) == 8  # each in two


@pytest.mark.skipif(not kernels.find_toolkit(), reason="there is no ptxas")
@pytest.mark.parametrize("programs", ALL_PROGRAMS + LARGE_PROGRAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_ptxas_accepts_them(tools, tmp_path, programs):
    archs = kernels.ARCHS if programs == PROGRAMS or programs in LARGE_PROGRAMS else kernels.ARCHS[:1]
    compiled = kernels.compile_kernels(tools, programs, tmp_path, "cubin", kernels.find_toolkit(), archs)
    symbols = [call["symbol"] for kernel in compiled for call in kernel["calls"] + kernel.get("otherwise", []) if call["kind"] == "launch"]
    by_symbol = {symbol: report for kernel in compiled for symbol, report in kernel.get("compiled", {}).items()}
    assert symbols and set(symbols) == set(by_symbol)
    reports = by_symbol.values()
    assert all(set(report) == set(archs) for report in reports)
    assert not any(arch["spill_bytes"] for report in reports for arch in report.values())
    assert all((tmp_path / f"{arch}.cubin").stat().st_size for arch in archs)


def test_no_ptxas(tools, tmp_path):
    with pytest.raises(kernels.Failed, match=f"there is no ptxas in {tmp_path}; give toolkit=DIR with bin/ptxas, or emit=ptx"):
        kernels.compile_kernels(tools, PROGRAMS, tmp_path / "out", "cubin", toolkit=tmp_path)
    kernels.compile_kernels(tools, PROGRAMS, tmp_path / "out", "ptx", toolkit=tmp_path)
    assert not list((tmp_path / "out").glob("*.cubin")) and len(list((tmp_path / "out").glob("*.ptx"))) == len(kernels.ARCHS)
    shutil.rmtree(tmp_path / "out")
