"""shardc compile --constant: inputs that shapes depend on, given when the model is compiled."""

import subprocess

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")


@pytest.fixture
def reshape(tmp_path):
    """y = x reshaped to `shape`, which is an input; and shapes to give."""
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x", onnx.TensorProto.FLOAT, [2, 3]), value("shape", onnx.TensorProto.INT64, [2])]
    outputs = [value("y", onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", inputs, outputs)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    np.save(tmp_path / "shape.npy", np.array([3, -1]))
    np.save(tmp_path / "long.npy", np.array([3, 2, 1]))
    np.save(tmp_path / "float.npy", np.array([3, 2], np.float32))
    return tmp_path


def compile_model(build, folder, *options):
    command = [build.resolve() / "bin" / "shardc", "compile", "m.onnx", "-o", "m.bundle", "--isa", "x86-64-v3", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_input_becomes_a_constant(compiler_build, reshape):
    done = compile_model(compiler_build, reshape, "--constant", "shape=shape.npy")
    assert done.returncode == 0, done.stderr
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(reshape / "x.npy", x)
    run = [compiler_build.resolve() / "bin" / "shard-run", "m.bundle", "--in-process", "--input", "x=x.npy", "--output", "y=y.npy"]
    subprocess.run(run, cwd=reshape, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(reshape / "y.npy"), x.reshape(3, 2))


@pytest.mark.parametrize(
    "option, message",
    [
        ("size=shape.npy", 'the model has no input "size"; it has "x", "shape"'),
        ("shape=long.npy", "long.npy has shape [3], the file declares [2]"),
        ("shape=float.npy", 'constant for input "shape"'),
        ("shape=absent.npy", "absent.npy"),
        ("shape", "is not of the form NAME=FILE.npy"),
    ],
)
def test_wrong_constants_are_named(compiler_build, reshape, option, message):
    done = compile_model(compiler_build, reshape, "--constant", option)
    assert done.returncode in (1, 2) and message in done.stderr, done.stderr
