"""onnxruntime's own operators, one node at a time, against what onnxruntime computed (test/onnx/contrib.py)."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("onnx")
_spec = importlib.util.spec_from_file_location("contrib", ROOT / "test" / "onnx" / "contrib.py")
contrib = sys.modules["contrib"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contrib)


@pytest.fixture(scope="module")
def recorded():
    return np.load(contrib.RECORDED)


def test_every_case_is_recorded(recorded):
    assert {key.split("/")[0] for key in recorded.files} == {case.name for case in contrib.cases()}


@pytest.mark.parametrize("case", contrib.cases(), ids=lambda case: case.name)
def test_equals_onnxruntime(case, recorded, compiler_build, tmp_path):
    assert not contrib.differences(case, recorded, tmp_path, compiler_build)
