"""Key/value caches: a step that appends to one, run over and over, computes what torch computes for the whole prompt."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shardc
from shardc import CompileOptions

MODELS = sorted((Path(__file__).parent / "caches").glob("*.onnx"))
BATCH = 2


@pytest.fixture
def compiled(compiler_build, bundles):
    """compiled(model, tp, seq, capacity, …): the path of a bundle, compiled once."""
    folder, made = bundles

    def make(model: Path, tp: int, seq: int, capacity: int, **options):
        key = (model, tp, seq, capacity, *options.items())
        if key not in made:
            dims, cache = {"batch": BATCH, "seq": seq}, {"past": capacity}
            made[key] = folder / f"{len(made)}.bundle"
            chosen = CompileOptions(tp=tp, dims=dims, cache=cache, isa=("x86-64-v3",), **options)
            shardc.compile(model, chosen, made[key], build=compiler_build).close()
        return made[key]

    return make


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles"), {}


def _prompt(model: Path):
    arrays = np.load(model.with_suffix(".npz"))
    return arrays["input_ids"], arrays["logits"]


def _feed(bundle, ids, step):
    return np.concatenate([bundle.run(input_ids=ids[:, i : i + step])["logits"] for i in range(0, ids.shape[1], step)], 1)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("tp, step, sequence_parallel", [(1, 1, False), (2, 1, False), (2, 8, True), (4, 3, False), (8, 1, False)])
def test_steps_equal_the_whole_prompt(compiler_build, compiled, model, tp, step, sequence_parallel):
    ids, logits = _prompt(model)
    path = compiled(model, tp, step, ids.shape[1], sequence_parallel=sequence_parallel)
    with shardc.load(path, build=compiler_build, poison=True, outputs=["logits", "past"]) as bundle:
        difference = np.abs(_feed(bundle, ids, step) - logits).max()
        assert difference < 1e-4 * np.abs(logits).max()
        full = f'the cache "past" has room for 24 entries, entry point "main" would append {step} at position 24'
        with pytest.raises(shardc.RuntimeFailure, match=full) as error:
            bundle.run(input_ids=ids[:, :step])
        assert error.value.kind == "bad input"
        # refused before anything ran: what is there is still there
        assert bundle.run(input_ids=ids[:, -step:], past=ids.shape[1] - step)["past"] == ids.shape[1]


@pytest.mark.parametrize("model", MODELS[:1], ids=lambda path: path.stem)
def test_cache_is_written_in_place(compiled, model):
    """No copy, and one buffer for what goes in and what comes out."""
    program = json.loads((compiled(model, 2, 1, 24) / "program.json").read_text())
    entry = program["entries"][0]
    buffers = {value["name"]: value["buffer"] for value in entry["inputs"]}
    replaced = [value for value in entry["outputs"] if value["alias"]]
    assert len(replaced) == 5 and all(value["buffer"] == buffers[value["alias"]] for value in replaced)
    assert not [command for command in entry["commands"] if command["op"] == "copy"]


@pytest.mark.parametrize("model", MODELS[:1], ids=lambda path: path.stem)
def test_another_prompt_starts_at_length_zero(compiler_build, compiled, model):
    """What the last one left in the buffers has no influence. And a cache goes from one bundle to another."""
    ids, logits = _prompt(model)
    other = (ids + 11) % 200 + 3
    with shardc.load(compiled(model, 2, 1, 24), build=compiler_build) as bundle:
        _feed(bundle, other, 1)
        bundle.run(input_ids=ids[:, :1], past=0)
        rest = np.concatenate([bundle.run(input_ids=ids[:, i : i + 1])["logits"] for i in range(1, 12)], 1)
        assert np.abs(rest - logits[:, 1:12]).max() < 1e-4 * np.abs(logits).max()
    with shardc.load(compiled(model, 1, 8, 24), build=compiler_build) as prompt:
        results = prompt.run(input_ids=ids[:, :8])
    with shardc.load(compiled(model, 2, 1, 24), build=compiler_build) as bundle:
        state = {name.replace("present", "past_key_values"): value for name, value in results.items() if name != "logits"}
        step = bundle.run(state, input_ids=ids[:, 8:9])
        assert np.abs(step["logits"] - logits[:, 8:9]).max() < 1e-4 * np.abs(logits).max()


@pytest.mark.parametrize("length", [-1, 24, 1 << 40])
def test_a_length_that_is_none_is_refused(compiler_build, compiled, length):
    with shardc.load(compiled(MODELS[0], 1, 1, 24), build=compiler_build) as bundle:
        with pytest.raises(shardc.RuntimeFailure, match=f"would append 1 at position {length}"):
            bundle.run(input_ids=[[5], [6]], past=length)
        assert bundle.run(input_ids=[[5], [6]], past=0)["past"] == 1


@pytest.mark.parametrize(
    "dims, cache, message",
    [
        ({"past": 8}, {"seq": 24}, 'nothing is appended to an input along dimension "seq"'),
        ({"seq": 4, "past": 8}, {"future": 24}, 'has no dimension "future"'),
        ({"seq": 4}, {"past": 3}, 'a cache of 3 entries along "past" has no room beside the 4 that each run appends'),
        ({"seq": 4, "past": 4}, {"past": 24}, '"past" is the length of a cache, and is given the size 4 too'),
    ],
)
def test_errors(compiler_build, tmp_path, dims, cache, message):
    options = CompileOptions(dims={"batch": BATCH, **dims}, cache=cache)
    with pytest.raises(shardc.CompileError) as error:
        shardc.compile(MODELS[0], options, tmp_path / "x.bundle", build=compiler_build)
    assert message in error.value.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["--cache", "past"], '"past" is not of the form NAME=N with N at least 1'),
        (["--cache", "past=8", "--cache", "seq=8"], '"past" is a cache\'s length already'),
        (["--carry", "past_key_values.0.key"], "is not of the form INPUT=OUTPUT"),
        (["--cache", "past=8", "--train"], "--cache does not apply to --train"),
    ],
)
def test_command_line(compiler_build, tmp_path, words, message):
    command = [compiler_build / "bin/shardc", "compile", MODELS[0], "-o", tmp_path / "x.bundle", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr


def test_wanted_outputs(compiler_build, compiled):
    path = compiled(MODELS[0], 1, 1, 24)
    with pytest.raises(ValueError, match="the bundle has no scores; it has logits, past, present.0.key"):
        shardc.load(path, build=compiler_build, outputs=["scores"])
    with shardc.load(path, build=compiler_build, outputs=["logits"]) as bundle:
        assert list(bundle.run(input_ids=[[5], [6]])) == ["logits"]
