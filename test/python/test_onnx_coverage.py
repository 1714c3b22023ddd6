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


def sampled_names():
    names = coverage.EXPECTED.read_text().split()
    return names[:: max(1, len(names) // SAMPLE)]


@pytest.fixture(scope="module")
def problems(request):
    build = request.config.getoption("--build")
    names = set(sampled_names())
    cases = [case for case in coverage.load_cases() if case.name in names]
    return coverage.run_all(coverage.Runner(build), cases, workers=2)


def test_expected_tests_still_pass(problems):
    gone = sorted(set(sampled_names()) - set(problems))
    wrong = [f"{name}: {problem[:300]}" for name, problem in problems.items() if problem]
    assert not gone, f"this onnx wheel does not have {', '.join(gone)}"
    assert not wrong, "\n".join(wrong)
