"""Exported models, compiled and run on real ranks, against what torch computed: a representative part of
test/models/matrix.py, which runs everything."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "models"))

import matrix  # noqa: E402

FIXTURES = ROOT / "test" / "fixtures"
MODELS = {model.name: model for model in matrix.find_models(FIXTURES)}

# Every family once on two ranks; Llama in every form that exporters write, on more ranks and sequence parallel.
CASES = [
    *((name, 2, False) for name in MODELS if name.endswith("/static-op20")),
    *((name, 2, False) for name in MODELS if name.startswith("llama/") and not name.endswith("/static-op20")),
    ("llama/static-op20", 1, False),
    ("llama/static-op20", 4, True),
    ("gpt2/static-op20", 4, False),
    ("gemma2/static-op20", 2, True),
    ("mixtral/static-op20", 2, True),
    ("deepseek_v3/static-op20", 4, False),
]


@pytest.mark.parametrize("name, tp, sequence_parallel", CASES)
def test_model_agrees_with_torch(request, name, tp, sequence_parallel):
    build = Path(request.config.getoption("--build"))
    if not (build / "bin" / "shardc").is_file():
        pytest.skip(f"{build} has no compiler")
    case = matrix.Case(MODELS[name], tp, sequence_parallel)
    outcome = matrix.run_case(case, matrix.Tools(build / "bin", isa="x86-64-v3", in_process=tp > 2))
    assert outcome.status == "passed", outcome.reason


def test_every_family_is_there():
    assert len({model.family for model in MODELS.values()}) == 10


def test_inputs_of_a_dynamic_model_have_named_dimensions():
    inputs = matrix.onnx_inputs(FIXTURES / "llama" / "dynamic-op20.onnx")
    assert inputs == {"input_ids": ["batch", "seq"]}


def test_dynamic_model_runs_with_each_shape():
    shapes = list(matrix.shapes_of(MODELS["llama/dynamic-op20"]))
    assert [dims for _, _, dims in shapes] == [
        ["--dim=batch=2", "--dim=seq=16"],
        ["--dim=batch=3", "--dim=seq=11"],
        ["--dim=batch=1", "--dim=seq=7"],
    ]


def test_difference_refuses_what_is_not_finite():
    with pytest.raises(matrix.StepError, match="not finite"):
        matrix.relative_difference(np.array([1, np.nan]), np.array([1, 2]))


def test_refusal_of_the_compiler_is_no_failure():
    assert re.search(matrix.REFUSALS, 'axis "tp" has size 4, which does not divide dimension 1 of size 6')
