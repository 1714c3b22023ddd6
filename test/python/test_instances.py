"""One bundle for several shapes: a prompt at once, then tokens one by one, into one cache, against torch's logits."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import shardc
from shardc import CompileOptions

CACHES = Path(__file__).parent / "caches"
LLAMA = Path(__file__).resolve().parents[1] / "fixtures/llama/dynamic-op23-named.onnx"
BATCH, PROMPT, CAPACITY = 2, 16, 24


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory):
    """compiled(model, tp): prompts of 16 tokens, steps of 1 and 4, with one cache."""
    folder, made = tmp_path_factory.mktemp("instances"), {}
    build = Path(request.config.getoption("--build")).resolve()
    if not (build / "bin/shardc").is_file():
        pytest.skip("no shardc")

    def make(name, tp, suffix="bundle"):
        key = (name, tp, suffix)
        if key not in made:
            made[key] = folder / f"{len(made)}.{suffix}"
            options = CompileOptions(
                tp=tp,
                dims={"batch": BATCH, "seq": PROMPT},
                shape_instances=[{"seq": 1}, {"seq": 4}],
                cache={"past": CAPACITY},
                isa=("x86-64-v3",),
            )
            shardc.compile(CACHES / f"{name}.onnx", options, made[key], build=build).close()
        return made[key]

    return make


def _prompt(name):
    arrays = np.load(CACHES / f"{name}.npz")
    return arrays["input_ids"], arrays["logits"]


@pytest.mark.parametrize("name", sorted(path.stem for path in CACHES.glob("*.onnx")))
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_prompt_then_tokens(compiler_build, compiled, name, tp):
    ids, logits = _prompt(name)
    assert ids.shape[1] == CAPACITY
    with shardc.load(compiled(name, tp), build=compiler_build, poison=True, outputs=["logits", "past"]) as bundle:
        assert list(bundle.entries) == ["main", "main@seq=1", "main@seq=4"]
        for sizes in ([16, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 4, 16, 1, 1], [16, 4, 4], [4, 16, 4]):
            got, at = [], 0
            for size in sizes:
                start = {"past": 0} if at == 0 else {}
                results = bundle.run(start, input_ids=ids[:, at : at + size])
                at += size
                assert results["past"] == at
                got.append(results["logits"])
            assert np.abs(np.concatenate(got, 1) - logits).max() < 1e-4 * np.abs(logits).max()


def test_what_is_shared(compiled):
    """Weights and caches exist once, at one place, and the arena is that of the largest instance."""
    program = json.loads((compiled("llama-op20", 2) / "program.json").read_text())
    keys = [(p["tensor"], json.dumps(p["segment"])) for p in program["parameters"]]
    assert len(keys) == len(set(keys))
    buffers = program["buffers"]
    states = [index for index, buffer in enumerate(buffers) if buffer["kind"] == "state"]
    for entry in program["entries"]:
        replaced = [value for value in entry["outputs"] if value["alias"]]
        assert sorted(value["buffer"] for value in replaced) == states
        assert sorted(value["buffer"] for value in entry["inputs"] if value["name"] != "input_ids") == states
        assert not [command for command in entry["commands"] if command["op"] == "copy"]
    assert len(set(program["kernels"])) == len(program["kernels"])


def test_arena_is_the_largest_instance(compiler_build, compiled, tmp_path):
    sizes = {}
    for seq in (PROMPT, 1):
        options = CompileOptions(tp=2, dims={"batch": BATCH, "seq": seq}, cache={"past": CAPACITY}, isa=("x86-64-v3",))
        path = tmp_path / f"{seq}.bundle"
        shardc.compile(CACHES / "llama-op20.onnx", options, path, build=compiler_build).close()
        sizes[seq] = json.loads((path / "program.json").read_text())["arena"]["bytes"]
    together = json.loads((compiled("llama-op20", 2) / "program.json").read_text())["arena"]["bytes"]
    assert sizes[1] < sizes[PROMPT] <= together <= 1.05 * sizes[PROMPT]


def test_inputs_that_fit_no_instance(compiler_build, compiled):
    ids, logits = _prompt("llama-op20")
    with shardc.load(compiled("llama-op20", 1), build=compiler_build) as bundle:
        with pytest.raises(ValueError) as error:
            bundle.run(input_ids=ids[:, :3])
        assert str(error.value) == (
            "the inputs (input_ids [2, 3]) fit no instance of the model: main takes input_ids: i64 [2, 16]; "
            "main@seq=1 takes input_ids: i64 [2, 1]; main@seq=4 takes input_ids: i64 [2, 4]"
        )
        with pytest.raises(ValueError, match=r'input "input_ids" is i64 \[2, 1\], given i64 \[2, 16\]'):
            bundle.run_entry("main@seq=1", input_ids=ids[:, :16])
        first = bundle.run(input_ids=ids[:, :1])["logits"]  # the mistakes cost nothing
        again = bundle.run(past=0)["logits"]  # the ids keep their value, and with it the instance
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - logits[:, :1]).max() < 1e-4 * np.abs(logits).max()
        bundle.run(past=0, input_ids=ids[:, :16])
        with pytest.raises(shardc.RuntimeFailure, match=r'"input_ids" is \[2, 16\], entry point "main@seq=1" takes \[2, 1\]'):
            bundle.run_entry("main@seq=1")


@pytest.mark.parametrize("suffix", ["bundle", "zip"])
def test_shard_run_chooses(compiler_build, compiled, tmp_path, suffix):
    ids, logits = _prompt("llama-op20")
    path = compiled("llama-op20", 2, suffix)

    def run(size, *more):
        np.save(tmp_path / "ids.npy", ids[:, :size])
        command = [compiler_build / "bin/shard-run", "-n", "2", path, "--input", f"input_ids={tmp_path}/ids.npy", *more]
        command += ["--output", f"logits={tmp_path}/logits.npy"]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)

    for size in (16, 1, 4):
        done = run(size)
        assert done.returncode == 0, done.stderr
        assert np.abs(np.load(tmp_path / "logits.npy") - logits[:, :size]).max() < 1e-4 * np.abs(logits).max()
    done = run(5)
    assert done.returncode == 4
    assert "the inputs (input_ids [2, 5]) fit no instance of the model: main takes input_ids i64 [2, 16]; main@seq=1" in done.stderr
    done = run(4, "--entry", "main@seq=1")
    assert done.returncode == 4 and '"input_ids" is i64 [2, 1]' in done.stderr


def test_commands_show_them(compiler_build, compiled):
    path = compiled("llama-op20", 2)

    def say(*words):
        return subprocess.run([compiler_build / "bin/shardc", *words], capture_output=True, text=True, check=True).stdout

    text = say("inspect", path)
    assert "entry     main@seq=1\n  inputs  input_ids : i64 [2,1]" in text
    text = say("explain", path)
    for entry in ("main", "main@seq=1", "main@seq=4"):
        assert f"{entry}:\n" in text and f"collectives in {entry}, " in text
    assert "entry main@seq=1: " in say("plan", path, "--entry", "main@seq=1")


def test_verify(compiler_build):
    words = ["verify", LLAMA, "--tp", "2", "--dim", "batch=2", "--dim", "seq=8", "--shape-instance", "seq=3"]
    done = subprocess.run([compiler_build / "bin/shardc", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok: tolerance") == 2 and "main@seq=3:\n" in done.stdout


def test_without_a_cache(compiler_build, tmp_path):
    """Several batch sizes and lengths, and weights that are cut alike."""
    arrays = np.load(LLAMA.with_suffix(".npz"))
    ids, logits = arrays["input_ids"], arrays["logits"]
    options = CompileOptions(
        tp=2,
        dims={"batch": ids.shape[0], "seq": ids.shape[1]},
        shape_instances=[{"batch": 1, "seq": 5}],
        isa=("x86-64-v3",),
        sequence_parallel=True,
    )
    with shardc.compile(LLAMA, options, tmp_path / "x.bundle", build=compiler_build) as bundle:
        assert np.abs(bundle.run(input_ids=ids)["logits"] - logits).max() < 1e-4 * np.abs(logits).max()
        short = bundle.run(input_ids=ids[:1, :5])["logits"]
        assert np.abs(short - logits[:1, :5]).max() < 1e-4 * np.abs(logits).max()
        assert np.abs(bundle.run(input_ids=ids)["logits"] - logits).max() < 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--shape-instance", "seq"], 2, '"seq" is not of the form NAME=N,NAME=N with each N at least 1'),
        (["--shape-instance", "seq=1,seq=2"], 2, '"seq" is given twice'),
        (["--shape-instance", "seq=2", "--shape-instance", "seq=2"], 2, '"seq=2" is given twice'),
        (["--shape-instance", "seq=2", "--train"], 2, "--shape-instance does not apply to --train"),
        (["--shape-instance", "length=2"], 1, 'has no dimension "length"'),
        (["--shape-instance", "seq=8"], 1, '--shape-instance seq=8 has the same inputs as "main"'),
    ],
)
def test_errors(compiler_build, tmp_path, words, code, message):
    command = [compiler_build / "bin/shardc", "compile", LLAMA, "--dim", "batch=2", "--dim", "seq=8", "-o", tmp_path / "x.bundle"]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == code and message in done.stderr
    assert not (tmp_path / "x.bundle").exists()
