"""The handle on a training bundle: one of copies and collectives, and compiled ones."""

import json
import subprocess

import numpy as np
import pytest
import shardc

AXIS = [{"axis": 0, "pre": 1, "size": 2}]
X = np.arange(128, dtype=np.float32)
FIXTURE = "test/fixtures/llama/static-op20.onnx"


def _value(name, buffer, dtype, shape):
    return dict(name=name, buffer=buffer, dtype=dtype, shape=shape, shard=[[] for _ in shape])


@pytest.fixture
def toy(write_bundle):
    """w [10, 3] and v [7] in a bucket of 128, one half a rank. forward_backward sets the gradients to 2 x, the
    reduction doubles them once more, the optimizer replaces the parameters by them."""
    buffers = [
        ("params", "f32", [64], "state", 4),
        ("reduced", "f32", [64], "state", 4),
        ("gradients", "f32", [128], "state", 4),
        ("x", "f32", [128], "input", 4),
        ("rate", "f32", [], "input", 4),
        ("rate_out", "f32", [], "output", 4),
    ]
    common = dict(group=0, dtype="f32")
    reduce = dict(op="reduce_scatter", reduce="sum", src=2, dst=1, outer=1, inner=64, total=128, **common)
    entries = [
        dict(
            name="forward_backward",
            inputs=[_value("x", 3, "f32", [128])],
            outputs=[],
            commands=[dict(op="all_reduce", reduce="sum", src=3, dst=2, count=128, **common)],
        ),
        dict(name="finish_grad_sync", inputs=[], outputs=[], commands=[reduce]),
        dict(
            name="optimizer_step",
            inputs=[_value("learning_rate", 4, "f32", [])],
            outputs=[dict(_value("rate", 5, "f32", []), alias=None)],
            commands=[dict(op="copy", src=1, dst=0, bytes=256), dict(op="copy", src=4, dst=5, bytes=4)],
        ),
        dict(name="zero_grad", inputs=[], outputs=[], commands=[dict(op="zero", dst=2, bytes=512)]),
    ]
    items = [
        dict(tensor="w", shape=[10, 3], segment=None, shard=[[], []], offset=0, dtype="f32"),
        dict(tensor="v", shape=[7], segment=None, shard=[[]], offset=60, dtype="f32"),
    ]
    states = [
        dict(name="params", buffer=0, role="parameter", bucket=0, shard=AXIS),
        dict(name="reduced", buffer=1, role="gradient", bucket=0, shard=AXIS),
        dict(name="gradients", buffer=2, role="gradient", bucket=0, shard=[]),
    ]
    schedule = dict(name="linear", warmup_steps=2, decay_steps=0, minimum=0)
    training = dict(
        optimizer=dict(name="sgd", learning_rate=0.5, beta1=0.5, schedule=schedule),
        batch=dict(inputs=["x"], labels="labels", sequences=1, length=1),
        vocabulary=2,
    )
    weights = {name: ("F32", np.full(shape, 9, np.float32)) for name, shape in [("w", (10, 3)), ("v", (7,))]}
    return write_bundle(
        buffers,
        entries=entries,
        training=training,
        weights=weights,
        buckets=[dict(name="b", dtype="f32", length=128, shard=AXIS, items=items)],
        states=states,
    )


def test_pieces_of_a_step(runtime_build, toy):
    with shardc.load(toy, build=runtime_build) as bundle:
        assert isinstance(bundle, shardc.TrainingBundle)
        assert list(bundle.entries) == ["forward_backward", "finish_grad_sync", "optimizer_step", "zero_grad"]
        assert bundle.tensors["gradient.v"] == shardc.Tensor("gradient.v", "gradient", "f32", (7,))
        np.testing.assert_array_equal(bundle.state_dict()["w"], np.full((10, 3), 9))
        bundle.forward_backward(x=X)
        bundle.finish_grad_sync()
        gradients = bundle.gradients()
        np.testing.assert_array_equal(gradients["w"], 4 * X[:30].reshape(10, 3))
        np.testing.assert_array_equal(gradients["v"], 4 * X[60:67])
        assert bundle.optimizer_step()["rate"] == 0.25  # warm-up
        np.testing.assert_array_equal(bundle.state_dict()["v"], 4 * X[60:67])
        bundle.zero_grad()
        assert bundle.step(x=2 * X)["rate"] == 0.5
        assert bundle.step(x=2 * X, learning_rate=3)["rate"] == 3
        assert bundle.steps == 3
        np.testing.assert_array_equal(bundle.state_dict()["w"], 8 * X[:30].reshape(10, 3))
        assert bundle.scalar("bias_correction1", 2) == 0.75


def test_states_are_set_by_name(runtime_build, toy):
    with shardc.load(toy, build=runtime_build) as bundle:
        w = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
        bundle.load_state_dict({"w": w, "v": np.arange(7.0), "gradient.v": np.ones(7, np.float32)})
        states = bundle.state_dict()
        np.testing.assert_array_equal(states["w"], w)
        np.testing.assert_array_equal(states["v"], np.arange(7, dtype=np.float32))
        np.testing.assert_array_equal(bundle.gradients()["v"], np.ones(7))
        for tensors, message in [
            ({"q": w}, 'the program has no tensor "q"'),
            ({"w": w.T}, r'tensor "w" has shape \[10, 3\], given \[3, 10\]'),
            ({"w": w}, "parameters are missing: v"),
        ]:
            with pytest.raises(ValueError, match=message):
                bundle.load_state_dict(tensors)
        bundle.load_state_dict({"w": 2 * w}, strict=False)
        np.testing.assert_array_equal(bundle.state_dict()["w"], 2 * w)


def test_checkpoints(runtime_build, toy, tmp_path):
    with shardc.load(toy, build=runtime_build) as bundle:
        bundle.step(x=X)
        bundle.save(tmp_path / "c")
        bundle.step(x=3 * X)
        bundle.load(tmp_path / "c")
        assert bundle.steps == 1
        np.testing.assert_array_equal(bundle.state_dict()["v"], 4 * X[60:67])
        saved = shardc.bundle.open_safetensors(tmp_path / "c")
        np.testing.assert_array_equal(saved["w"], 4 * X[:30].reshape(10, 3))
        (tmp_path / "c/notes.txt").write_text("mine")
        for call, status, message in [
            (lambda: bundle.load(tmp_path / "none"), 5, "none: no such checkpoint"),
            (lambda: bundle.save(tmp_path / "c"), 2, 'holds "notes.txt"'),
            (lambda: bundle.save(tmp_path / "no/c"), 6, "cannot write into"),
        ]:
            with pytest.raises(shardc.RuntimeFailure, match=message) as error:
                call()
            assert error.value.status == status
        np.testing.assert_array_equal(bundle.state_dict()["v"], 4 * X[60:67])  # the ranks went on


def test_mistakes_are_named(runtime_build, toy):
    with shardc.load(toy, build=runtime_build) as bundle:
        with pytest.raises(ValueError, match='no entry point "main"; it has forward_backward, finish'):
            bundle.run_entry("main")
        with pytest.raises(ValueError, match='entry point "forward_backward" has no input "y"; it has x'):
            bundle.forward_backward(y=X)
        with pytest.raises(shardc.RuntimeFailure, match='there is no "momentum" in step 1'):
            bundle.scalar("momentum", 1)


# ---- compiled --------------------------------------------------------------------------------------------------------
MESHES = {"1": [], "dp2": ["--dp-shard", "2"], "dp2tp2": ["--dp-shard", "2", "--tp", "2"]}


@pytest.fixture(scope="module")
def tools(request, tmp_path_factory):
    """compile(name, *options) and train(bundle, *options), in a folder with tokens."""
    from conftest import ROOT, _built

    build = _built(request, "bin/shardc")
    folder = tmp_path_factory.mktemp("train")
    text = np.frombuffer(b"The same words again and again, so that a few steps are enough to learn them. " * 200, np.uint8)
    text.astype(np.uint16).tofile(folder / "tokens.bin")
    (folder / "tokens.bin.json").write_text('{"dtype": "u16"}')

    class Tools:
        path = folder

        def call(self, *command):
            return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)

        def compile(self, name, *options):
            if not (folder / name).exists():
                command = [build / "bin/shardc", "compile", ROOT / FIXTURE, "--train", *options, "-o", folder / name]
                result = self.call(*command)
                assert result.returncode == 0, result.stderr
            return folder / name

        def run(self, bundle, *options):
            return self.call(build / "bin/shard-run", bundle, *options, "--timeout", 30)

        def losses(self, bundle, steps, *options):
            log = folder / "log.jsonl"
            log.unlink(missing_ok=True)
            data = ["--data", folder / "tokens.bin", "--steps", steps, "--log", log]
            result = self.run(bundle, *data, *options)
            assert result.returncode == 0, result.stderr
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            return [line["loss"] for line in lines if "step" in line]

    return Tools()


@pytest.mark.parametrize("mesh", MESHES)
def test_compiled_steps_allocate_nothing_and_read_nothing_dead(tools, mesh):
    bundle = tools.compile(mesh, *MESHES[mesh])
    losses = tools.losses(bundle, 10, "--check-allocations")
    assert losses[-1] < losses[0]
    assert tools.losses(bundle, 10, "--poison") == losses
    assert tools.losses(bundle, 10, "--check-nan", "--in-process") == losses


def test_resumed_runs_are_bit_identical(tools):
    bundle = tools.compile("dp2", *MESHES["dp2"])
    losses = tools.losses(bundle, 10)
    assert tools.losses(bundle, 4, "--save", tools.path / "four") == losses[:4]
    assert tools.losses(bundle, 6, "--load", tools.path / "four") == losses[4:]


def test_any_mesh_loads_any_other(tools):
    bundles = {mesh: tools.compile(mesh, *options) for mesh, options in MESHES.items()}
    tools.losses(bundles["dp2"], 3, "--save", tools.path / "three")
    wanted = tools.losses(bundles["dp2"], 3, "--load", tools.path / "three")
    original = (tools.path / "three/checkpoint.safetensors").read_bytes()
    for mesh, bundle in bundles.items():
        copy = tools.path / f"copy-{mesh}"
        assert tools.run(bundle, "--load", tools.path / "three", "--save", copy).returncode == 0
        assert (copy / "checkpoint.safetensors").read_bytes() == original
        np.testing.assert_allclose(tools.losses(bundle, 3, "--load", copy), wanted, rtol=1e-5)


def test_handle_trains_as_shard_run_does(tools, compiler_build):
    path = tools.compile("dp2", *MESHES["dp2"])
    pieces = tools.compile("pieces", *MESHES["dp2"], "--separate-entry-points")
    results = []
    for bundle_path in (path, pieces):
        with shardc.load(bundle_path, build=compiler_build, threads=1) as bundle:
            batch = bundle.manifest["training"]["batch"]
            shape = (batch["sequences"], batch["length"])
            ids = np.arange(np.prod(shape)).reshape(shape) % 50
            losses = [float(bundle.step(input_ids=ids, labels=(ids + 1) % 50)["loss"]) for _ in range(5)]
            results.append((losses, bundle.state_dict()))
    assert results[0][0] == results[1][0]
    assert results[0][0][-1] < results[0][0][0]
    for name, array in results[0][1].items():
        np.testing.assert_array_equal(array, results[1][1][name], err_msg=name)
    with shardc.load(pieces, build=compiler_build) as bundle:
        bundle.forward_backward(input_ids=ids, labels=(ids + 1) % 50)
        bundle.finish_grad_sync()
        gradients, states = bundle.gradients(), bundle.state_dict()
        assert gradients.keys() == states.keys()
        # a step against the gradient makes the loss smaller
        results = [bundle.forward_backward(input_ids=ids, labels=(ids + 1) % 50)["loss"]]
        bundle.load_state_dict({name: states[name] - 0.01 * gradients[name] for name in states})
        results.append(bundle.forward_backward(input_ids=ids, labels=(ids + 1) % 50)["loss"])
        assert results[1] < results[0]
