"""The handle on a bundle, on bundles of collectives that need the runtime only."""

import json

import numpy as np
import pytest
import shardc

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_facts(runtime_build, sum_bundle):
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        assert bundle.ranks == 2
        assert bundle.manifest["model"] == "test"
        assert bundle.inputs["x"] == shardc.Value("x", "f32", (2, 3))
        assert list(bundle.outputs) == ["y", "z"]
        assert repr(bundle).endswith("on 2 ranks: x: f32 [2, 3] -> y: f32 [2, 3], z: bf16 [3, 2]>")


def test_runs_again_and_again(runtime_build, sum_bundle):
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        outputs = bundle.run(x=X)
        np.testing.assert_array_equal(outputs["y"], 2 * X)
        np.testing.assert_array_equal(outputs["z"].astype(np.float32), [[1, 2], [3, 4], [5, 6]])
        np.testing.assert_array_equal(bundle.run()["y"], 2 * X)  # x keeps its value
        np.testing.assert_array_equal(bundle.run({"x": X.T.reshape(3, 2).T})["y"], 2 * X.T.reshape(3, 2).T)
        assert outputs["y"][0, 1] == 2  # results are not overwritten


def test_mistakes_leave_the_ranks_usable(runtime_build, sum_bundle):
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        bundle.run(x=X)
        for inputs, error, message in [
            ({"q": X}, ValueError, 'no input "q"; it has x'),
            ({"x": X[0]}, ValueError, r'input "x" is f32 \[2, 3\], given f32 \[3\]'),
            ({"x": X.astype(np.float64)}, ValueError, r"given f64 \[2, 3\]"),
            ({"x": np.zeros((2, 3), np.complex64)}, TypeError, 'input "x": dtype complex64 is not one of'),
        ]:
            with pytest.raises(error, match=message):
                bundle.run(inputs)
        np.testing.assert_array_equal(bundle.run()["y"], 2 * X)


def test_failures_carry_the_runtimes_status(runtime_build, sum_bundle, tmp_path):
    bundle = shardc.load(sum_bundle, build=runtime_build)
    with pytest.raises(shardc.RuntimeFailure, match='input "x" was not set') as error:
        bundle.run()
    assert (error.value.status, error.value.kind) == (4, "bad input")
    np.testing.assert_array_equal(bundle.run(x=X)["y"], 2 * X)  # on new ranks
    bundle.close()
    bundle.close()
    with pytest.raises(ValueError, match="the bundle is closed"):
        bundle.run(x=X)
    with pytest.raises(shardc.RuntimeFailure, match="manifest.json is missing"):
        shardc.load(tmp_path, build=runtime_build)
    (sum_bundle / "weights/model.safetensors").unlink()
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        with pytest.raises(shardc.RuntimeFailure, match="neither a .safetensors file nor an index") as error:
            bundle.run(x=X)
        assert error.value.status == 5


def test_state_dict(runtime_build, sum_bundle):
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        weights = bundle.state_dict()
        assert {name: array.shape for name, array in weights.items()} == {"w": (3, 2)}


def test_cache_is_carried_over(runtime_build, write_bundle):
    """An output that replaces an input: x starts as zeros, and each run doubles it."""
    x = dict(name="x", buffer=0, dtype="i64", shape=[2], shard=[[]])
    y = dict(name="y", buffer=1, dtype="i64", shape=[2], shard=[[]], alias="x")
    folder = write_bundle(
        buffers=[("x", "i64", [2], "input", 8), ("y", "i64", [2], "output", 8)],
        inputs=[x],
        outputs=[y],
        commands=[dict(op="all_reduce", group=0, reduce="sum", dtype="i64", src=0, dst=1, count=2)],
    )
    with shardc.load(folder, build=runtime_build) as bundle:
        assert bundle.outputs["y"].alias == "x"
        assert bundle.run()["y"].tolist() == [0, 0]
        assert bundle.run(x=[1, 3])["y"].tolist() == [2, 6]
        assert bundle.run()["y"].tolist() == [4, 12]


def test_trace(runtime_build, sum_bundle, tmp_path):
    with shardc.load(sum_bundle, build=runtime_build, trace=True) as bundle:
        with pytest.raises(ValueError, match="nothing has run yet"):
            bundle.write_trace(tmp_path / "t.json")
        bundle.run(x=X)
        bundle.write_trace(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    with shardc.load(sum_bundle, build=runtime_build) as bundle:
        with pytest.raises(ValueError, match="without trace=True"):
            bundle.write_trace(tmp_path / "t.json")


def test_missing_tools_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(shardc.ToolNotFound, match="lib/libshardrt.so not found.*set SHARDC_BUILD"):
        shardc.load(tmp_path, build=tmp_path)
    with pytest.raises(shardc.ToolNotFound, match="bin/shardc not found"):
        shardc.compile(tmp_path / "m.onnx", build=tmp_path)
