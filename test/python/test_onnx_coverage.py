"""A sample of the ONNX node tests that test/onnx/coverage.py found to pass: each must still pass."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
#: About 100 tests, the same every time: spread evenly over the sorted names, so over all operators.
SAMPLE = 100

pytest.importorskip("onnx")
_spec = importlib.util.spec_from_file_location("onnx_coverage", ROOT / "test" / "onnx" / "coverage.py")
coverage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(coverage)


#: On fake GPUs: about 40, and what once did not compile. Functions that GPUs lack are said by name (lib/Lower/Cuda).
GPU_SAMPLE = 40
ONCE_WRONG = {"test_matmul_1d_1d", "test_constantofshape_int_shape_zero", "test_isnan_float16"}
NOT_ON_GPUS = ("test_pow", "test_mod", "test_attention_4d_causal_fp16")  # the last: an ulp beyond, tensor cores take probabilities in f16


def sampled(size):
    names = coverage.EXPECTED.read_text().split()
    return set(names[:: max(1, len(names) // size)])


def gpu_sample():
    return {name for name in sampled(GPU_SAMPLE) if not name.startswith(NOT_ON_GPUS)} | ONCE_WRONG


@pytest.mark.parametrize(("target", "names"), [("cpu", sampled(SAMPLE)), ("cuda", gpu_sample())], ids=["cpu", "cuda"])
def test_expected_tests_still_pass(request, target, names):
    build = request.config.getoption("--build")
    cases = [case for case in coverage.load_cases() if case.name in names]
    problems = coverage.run_all(coverage.Runner(build, target), cases, workers=2)
    gone = sorted(names - set(problems))
    wrong = [f"{name}: {problem[:300]}" for name, problem in problems.items() if problem]
    assert not gone, f"this onnx wheel does not have {', '.join(gone)}"
    assert not wrong, "\n".join(wrong)
