"""From an ONNX file to numbers: compiled for several meshes, run in this process, compared with numpy."""

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import shardc
from onnx import TensorProto, helper, numpy_helper
from shardc import CompileOptions

RANDOM = np.random.default_rng(0)
UP, DOWN = RANDOM.standard_normal((8, 16), np.float32), RANDOM.standard_normal((16, 8), np.float32)
X = RANDOM.standard_normal((4, 8), np.float32)
EXPECTED = np.maximum(X @ UP, 0) @ DOWN


@pytest.fixture
def model(tmp_path):
    """y = relu(x up) down."""
    nodes = [
        helper.make_node("MatMul", ["x", "mlp.up_proj.weight"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "mlp.down_proj.weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(UP, "mlp.up_proj.weight"), numpy_helper.from_array(DOWN, "mlp.down_proj.weight")],
    )
    path = tmp_path / "mlp.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


PLAN = {"mlp.up_proj": "colwise", "mlp.down_proj": "rowwise"}


@pytest.mark.parametrize("options", [dict(), dict(tp=2, plan=PLAN), dict(mesh={"dp": 2, "tp": 2}, plan=PLAN)])
def test_compiled_program_computes_the_model(compiler_build, model, options):
    with shardc.compile(model, CompileOptions(dims={"batch": 4}, **options), build=compiler_build) as bundle:
        assert bundle.path == model.with_suffix(".bundle")
        np.testing.assert_allclose(bundle.run(x=X)["y"], EXPECTED, rtol=1e-5, atol=1e-5)
        weights = bundle.state_dict()
        np.testing.assert_array_equal(weights["mlp.up_proj.weight"], UP)


def test_plan_is_printed(compiler_build, model):
    text = shardc.plan(model, CompileOptions(tp=2, plan=PLAN, dims={"batch": 4}), build=compiler_build)
    assert "mlp.up_proj.weight" in text and "colwise" in text


def test_errors_keep_command_line_and_message(compiler_build, model):
    with pytest.raises(shardc.CompileError) as error:
        options = CompileOptions(tp=2, plan={"mlp.up_proj": "sideways"}, dims={"batch": 4})
        shardc.compile(model, options, build=compiler_build)
    assert error.value.returncode == 1
    assert "sideways" in error.value.stderr and "sideways" in str(error.value)
    again = subprocess.run(error.value.command, capture_output=True, text=True)
    assert again.stderr == error.value.stderr
    Path(error.value.command[error.value.command.index("--plan") + 1]).unlink()
