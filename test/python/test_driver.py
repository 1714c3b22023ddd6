"""shardc and shard-run as a user meets them: the whole path, and what they say to wrong input."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "llama"
MODEL = FIXTURES / "static-op20-named.onnx"


@pytest.fixture
def tools(request):
    folder = Path(request.config.getoption("--build")).resolve() / "bin"
    if not (folder / "shardc").exists():
        pytest.skip(f"no shardc in {folder}")
    return folder


@pytest.fixture
def run(tools):
    def call(tool, *args, code=0):
        result = subprocess.run([str(tools / tool), *map(str, args)], capture_output=True, text=True, timeout=120)
        assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    arrays = np.load(MODEL.with_suffix(".npz"))
    for name in arrays:
        np.save(folder / f"{name}.npy", arrays[name])
    return folder


@pytest.fixture(scope="session")
def bundle(request, tmp_path_factory):
    """Llama for tp=2, compiled once."""
    shardc = Path(request.config.getoption("--build")).resolve() / "bin" / "shardc"
    if not shardc.exists():
        pytest.skip("no shardc")
    path = tmp_path_factory.mktemp("bundle") / "llama.bundle"
    subprocess.run([str(shardc), "compile", str(MODEL), "--tp", "2", "-o", str(path)], check=True)
    return path


def check_logits(path, expected):
    have, want = np.load(path), np.load(expected)
    assert np.abs(have - want).max() <= 1e-4 * np.abs(want).max()


def test_compiled_equals_torch(run, bundle, data, tmp_path):
    run("shard-run", "-n", 2, bundle, "--input", f"input_ids={data}/input_ids.npy", "--output", tmp_path / "o.npy")
    check_logits(tmp_path / "o.npy", data / "logits.npy")


def test_dynamic_model_with_dims(run, data, tmp_path):
    run("shardc", "compile", FIXTURES / "dynamic-op20.onnx", "--tp", 2, "--dim", "batch=2", "--dim", "seq=16", "-o", tmp_path / "b")
    arrays = np.load(FIXTURES / "dynamic-op20.npz")
    np.save(tmp_path / "i.npy", arrays["input_ids"])
    np.save(tmp_path / "l.npy", arrays["logits"])
    run("shard-run", "-n", 2, tmp_path / "b", "--input", f"input_ids={tmp_path}/i.npy", "--output", tmp_path / "o.npy")
    check_logits(tmp_path / "o.npy", tmp_path / "l.npy")


def test_explain_names_the_plan_line(run, bundle):
    text = run("shardc", "explain", bundle).stdout
    assert "colwise_gather_output of \"lm_head.weight\"" in text
    assert "self_attn.o_proj" in text and "mlp.down_proj" in text
    assert all("bytes" in entry for entry in json.loads(run("shardc", "explain", bundle, "--json").stdout))


def test_inspect(run, bundle):
    facts = json.loads(run("shardc", "inspect", bundle, "--json").stdout)
    assert facts["ranks"] == 2 and facts["inputs"][0]["name"] == "input_ids"


def test_verify(run):
    result = json.loads(run("shardc", "verify", MODEL, "--tp", 4, "--sequence-parallel", "--json").stdout)
    assert result["ok"] and [s["stage"] for s in result["stages"]][-1] == "compiled"
    # A tolerance that rounding cannot meet: exit status 3.
    run("shardc", "verify", MODEL, "--tp", 2, "--no-compiled", "--tolerance", "1e-12", code=3)


def test_print_plan_without_output(run, tmp_path):
    text = run("shardc", "compile", MODEL, "--tp", 4, "--plan", "llama", "--print-plan").stdout
    assert "model.layers.1.mlp.down_proj.weight" in text and "rowwise" in text and "built-in plan llama" in text


def test_user_plan_and_strict(run, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("layers.*.mlp.up_proj: colwise\nlayers.*.mlp.down_projection: rowwise\n")
    result = run("shardc", "compile", MODEL, "--tp", 2, "--plan", plan, "-o", tmp_path / "b")
    assert '"layers.*.mlp.down_projection" matches no parameter or module' in result.stderr
    result = run("shardc", "compile", MODEL, "--tp", 2, "--plan", plan, "--strict", "-o", tmp_path / "c", code=1)
    assert "down_projection" in result.stderr and not (tmp_path / "c").exists()


WRONG = [
    # arguments, exit status, what is said
    ([], 2, "usage"),
    (["translate", MODEL], 2, '"translate" is not a command'),
    (["compile", MODEL], 2, "compile needs an output"),
    (["compile", MODEL, "--tp", "two", "-o", "x"], 2, '--tp: "two" is not a whole number'),
    (["compile", MODEL, "--tp", "0", "-o", "x"], 2, "--tp 0"),
    (["compile", MODEL, "--tolerance", "1", "-o", "x"], 2, '"--tolerance" is not an option of shardc compile'),
    (["compile", "missing.onnx", "-o", "x"], 1, "missing.onnx"),
    (["compile", MODEL, "--dim", "batch=2", "-o", "x"], 1, "batch"),
    (["compile", MODEL, "--dim", "batch", "-o", "x"], 2, '--dim "batch" is not of the form NAME=N'),
    (["compile", MODEL, "--tp", "3", "-o", "x"], 1, f'{MODEL}: error: "model.layers.0.self_attn.q_proj.weight": 8 heads are not divisible by tp = 3'),
    (["compile", MODEL, "--train", "--reduce-dtype", "fp33", "-o", "x"], 1, '"fp33" is not f32, bf16 or f16'),
    (["compile", MODEL, "--mesh", "tp=2,tp=2", "-o", "x"], 1, "two axes named"),
    (["compile", MODEL, "--plan", "lama", "--tp", "2", "-o", "x"], 1, 'plan "lama"'),
    (["compile", FIXTURES / "dynamic-op20.onnx", "--dim", "batch=2", "-o", "x"], 1, "seq"),
    (["explain", "nothing.bundle"], 1, "nothing.bundle is not a bundle"),
]


COMMANDS = ["compile", "verify", "plan", "explain", "inspect", "export-plan", "pack", "profile"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(run, command):
    text = run("shardc", command, "--help").stdout
    assert text.startswith(f"shardc {command} ")
    assert ("--sequence-parallel" in text) == (command in ("compile", "verify", "export-plan"))
    assert ("--optimizer" in text) == (command == "compile")
    assert ("--json" in text) == (command not in ("export-plan", "pack"))
    assert text == run("shardc", command, "-h").stdout


@pytest.mark.parametrize("args, code, message", WRONG, ids=lambda x: None)
def test_wrong_command_lines(tools, tmp_path, args, code, message):
    result = subprocess.run([str(tools / "shardc"), *map(str, args)], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert not (tmp_path / "x").exists()


def test_types_go_by_torchs_names_too(run, tmp_path):
    run("shardc", "compile", MODEL, "--train", "--param-dtype", "bfloat16", "--reduce-dtype", "fp32", "-o", tmp_path / "x")
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["training"]["param_dtype"] == "bf16"


def test_existing_output_needs_force(run, tmp_path):
    out = tmp_path / "b"
    run("shardc", "compile", MODEL, "-o", out)
    assert "--force" in run("shardc", "compile", MODEL, "-o", out, code=2).stderr
    run("shardc", "compile", MODEL, "-o", out, "--force")


def test_truncated_model(run, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(MODEL.read_bytes()[:20000])
    assert "broken.onnx" in run("shardc", "compile", broken, "-o", tmp_path / "b", code=1).stderr


def test_damaged_bundle(run, bundle, data, tmp_path):
    broken = tmp_path / "broken.bundle"
    shutil.copytree(bundle, broken)
    text = (broken / "program.json").read_text()
    (broken / "program.json").write_text(text[: len(text) // 2])
    result = run("shard-run", "-n", 2, broken, "--input", f"input_ids={data}/input_ids.npy", code=3)
    assert "program.json" in result.stderr


def test_wrong_inputs_are_all_told(run, bundle, data, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((2, 8), np.int32))
    result = run("shard-run", "-n", 2, bundle, "--input", f"input_ids={tmp_path}/short.npy", "--input", f"mask={tmp_path}/short.npy", code=4)
    assert "input_ids" in result.stderr and "mask" in result.stderr and "i64" in result.stderr


def test_wrong_rank_count(run, bundle, data):
    result = run("shard-run", "-n", 3, bundle, "--input", f"input_ids={data}/input_ids.npy", code=8)
    assert "2" in result.stderr and "3" in result.stderr


def test_unwritable_output(run, bundle, data):
    run("shard-run", "-n", 2, bundle, "--input", f"input_ids={data}/input_ids.npy", "--output", "/nonexistent/folder/o.npy", code=6)


def test_latent_attention_and_experts_are_cut_by_role(run, tmp_path):
    """DeepSeek's own plan leaves its attention whole; by role (no plan, or `default`) its heads are cut like others'."""
    model = FIXTURES.parent / "deepseek_v3" / "static-op20.onnx"
    reference = np.load(model.with_suffix(".npz"))
    np.save(tmp_path / "ids.npy", reference["input_ids"])
    np.save(tmp_path / "expected.npy", reference["logits"])
    sizes = {}
    for ranks in (1, 4):
        bundle = tmp_path / f"{ranks}.bundle"
        run("shardc", "compile", model, "--tp", ranks, "--isa", "x86-64-v3", "-o", bundle)
        run("shard-run", bundle, "--input", f"input_ids={tmp_path}/ids.npy", "--output", f"logits={tmp_path}/out.npy")
        check_logits(tmp_path / "out.npy", tmp_path / "expected.npy")
        sizes[ranks] = json.loads((bundle / "manifest.json").read_text())["memory"]["parameter_bytes"]
    assert sizes[4] < 0.35 * sizes[1]  # norms, routers and the projections down to latents are whole
