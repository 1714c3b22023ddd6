"""Plans as ONNX's own device configurations: written, checked by the onnx package, read back, run."""

import subprocess

import numpy as np
import onnx
import pytest
import shardc
from shardc import CompileOptions

from conftest import ROOT

FIXTURES = ROOT / "test/fixtures"


@pytest.fixture
def tool(compiler_build):
    def run(*words, fails=False):
        done = subprocess.run([compiler_build / "bin/shardc", *map(str, words)], capture_output=True, text=True)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def planned(tool, tmp_path):
    """planned(model, …): the file with a plan in it, and its loaded form."""

    def make(model, *options):
        path = tmp_path / "planned.onnx"
        tool("export-plan", FIXTURES / model, *options, "-o", path, "--force")
        return path, onnx.load(path)

    return make


def _specs(model, configuration):
    specs = {}
    for node in model.graph.node:
        for sharding in node.device_configurations:
            assert sharding.configuration_id == configuration
            for spec in sharding.sharding_spec:
                assert spec.tensor_name in [*node.input, *node.output]
                specs[spec.tensor_name] = spec
    return specs


@pytest.mark.parametrize("model", ["llama/static-op20-named.onnx", "gpt2/static-op20.onnx", "qwen3_moe/static-op20.onnx"])
@pytest.mark.parametrize("tp", [2, 8])
def test_round_trip(tool, planned, tmp_path, model, tp):
    """The program from the file's own plan is that from the plan that was written."""
    path, loaded = planned(model, "--tp", tp)
    onnx.checker.check_model(loaded)
    assert loaded.ir_version >= 11 and loaded.configuration[0].num_devices == tp
    for name, source, options in [("a", FIXTURES / model, ["--tp", tp, "--plan", "default"]), ("b", path, [])]:
        tool("compile", source, *options, "--isa", "x86-64-v3", "-o", tmp_path / name)
    assert (tmp_path / "a/program.json").read_text() == (tmp_path / "b/program.json").read_text()
    printed = tool("compile", path, "--print-plan")
    assert f'from device configuration "tp{tp}"' in printed


def test_what_is_written(planned):
    """Rows of q over all devices, four k heads shared by pairs of eight devices, columns of o."""
    _, model = planned("llama/static-op20-named.onnx", "--tp", "8", "--configuration", "eight")
    specs = _specs(model, "eight")
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}

    def cut(name):
        spec = next(spec for tensor, spec in specs.items() if tensor.endswith(name))
        (dim,) = spec.sharded_dim
        groups = {entry.key: list(entry.value) for entry in spec.index_to_device_group_map}
        return shapes[spec.tensor_name][dim.axis], dim.simple_sharding[0].num_shards, [groups.get(d, d) for d in spec.device]

    assert cut("layers.0.mlp.up_proj.weight") == (128, 8, list(range(8)))
    size, shards, devices = cut("layers.0.self_attn.k_proj.weight")
    assert (size, shards, devices) == (32, 4, [[0, 1], [2, 3], [4, 5], [6, 7]])


def test_run(planned, tmp_path, compiler_build):
    path, _ = planned("llama/static-op20-named.onnx", "--tp", "4")
    reference = np.load(FIXTURES / "llama/static-op20-named.npz")
    with shardc.compile(path, CompileOptions(isa=("x86-64-v3",)), tmp_path / "m.bundle", build=compiler_build) as bundle:
        assert bundle.ranks == 4
        logits = bundle.run(input_ids=reference["input_ids"])["logits"]
    assert np.abs(logits - reference["logits"]).max() < 1e-4 * np.abs(reference["logits"]).max()


def test_two_configurations(tool, planned, tmp_path):
    path, _ = planned("llama/static-op20-named.onnx", "--tp", "2")
    both = tmp_path / "both.onnx"
    tool("export-plan", path, "--plan", "default", "--tp", "4", "-o", both)
    message = tool("compile", both, "--print-plan", fails=True)
    assert 'which device configuration? --plan onnx:NAME chooses one; the file has "tp2", "tp4"' in message
    assert 'from device configuration "tp4"' in tool("compile", both, "--plan", "onnx:tp4", "--print-plan")
    assert 'there is no device configuration "tp8"' in tool("compile", both, "--plan", "onnx:tp8", "--print-plan", fails=True)
    assert "base plan" in tool("compile", both, "--plan", "default", "--tp", "2", "--print-plan")


def _first_spec(model, count):
    """The first sharding with `count` devices."""
    for node in model.graph.node:
        for sharding in node.device_configurations:
            for spec in sharding.sharding_spec:
                if len(spec.device) == count:
                    return node, sharding, spec
    raise AssertionError("no such spec")


def _contradict(model):
    node, sharding, spec = _first_spec(model, 2)
    spec.device[:] = [1, 0]
    copy = sharding.sharding_spec.add()
    copy.CopyFrom(spec)
    copy.device[:] = [0, 1]


def _change(**changes):
    def change(model):
        node, sharding, spec = _first_spec(model, 2)
        if "devices" in changes:
            spec.device[:] = changes["devices"]
        if "stage" in changes:
            sharding.pipeline_stage = changes["stage"]
        if "axis" in changes:
            spec.sharded_dim[0].axis = changes["axis"]
        if "name" in changes:
            spec.tensor_name = changes["name"]
        if "configuration" in changes:
            sharding.configuration_id = changes["configuration"]
        if "shards" in changes:
            spec.sharded_dim[0].simple_sharding[0].num_shards = changes["shards"]

    return change


@pytest.mark.parametrize(
    "change, options, message",
    [
        (_contradict, [], "is cut otherwise at node"),
        (_change(devices=[0, 0]), [], "device 0 has two shards"),
        (_change(devices=[0, 7]), [], "device 7 is none of the 2"),
        (_change(devices=[0]), [], "1 devices are named for 2 shards"),
        (_change(shards=3), [], "is cut into more shards than there are devices (2)"),
        (_change(stage=1), [], "is in pipeline stage 1, which is not supported"),
        (_change(axis=5), [], "axis 5 is outside the rank 2"),
        (_change(name="nobody"), [], 'tensor "nobody": is neither an input nor an output of the node'),
        (_change(configuration="other"), [], 'has a sharding for device configuration "other", which does not exist'),
        (lambda model: None, ["--tp", "4"], 'device configuration "tp2": is for 2 devices, mesh @mesh["tp"=4] has 4'),
        (lambda model: None, ["--sequence-parallel"], "sequence parallelism belongs to a plan of styles"),
    ],
)
def test_errors(tool, planned, tmp_path, change, options, message):
    path, model = planned("llama/static-op20-named.onnx", "--tp", "2")
    change(model)
    onnx.save(model, path)
    assert message in tool("compile", path, *options, "--stop-after", "annotate", fails=True)


def test_wrong_command_lines(tool, tmp_path):
    model = FIXTURES / "llama/static-op20-named.onnx"
    assert "export-plan needs an output" in tool("export-plan", model, fails=True)
    assert "not activations" in tool("export-plan", model, "--sequence-parallel", "-o", tmp_path / "x.onnx", fails=True)
    assert "is not an option of shardc export-plan" in tool("export-plan", model, "--json", "-o", tmp_path / "x.onnx", fails=True)
    (tmp_path / "x.onnx").touch()
    assert "--force replaces it" in tool("export-plan", model, "-o", tmp_path / "x.onnx", fails=True)
    assert "the model has no device configuration" in tool("compile", model, "--plan", "onnx", "--print-plan", fails=True)
