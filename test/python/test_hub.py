"""Models as people have them on disk, made by other tools (test/hub/make.py): compiled, run, compared with what onnxruntime computed."""

from pathlib import Path

import numpy as np
import pytest

import shardc
from shardc import CompileOptions

HUB = Path(__file__).resolve().parents[1] / "hub"
DECODERS = sorted(HUB.glob("genai-*.onnx"))
BATCH, LENGTH = 2, 24
DIMS = {"batch_size": BATCH, "kv_cache_dim": 16}


def _recorded(model: Path):
    return np.load(model.with_suffix(".npz"))


def _close(have, want):
    assert have.shape == want.shape
    assert np.abs(have - want).max() < 1e-4 * np.abs(want).max()


@pytest.fixture(scope="module")
def compiled(request, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("hub"), {}

    def make(build, model: Path, **options):
        key = (model, str(sorted(options.items())))
        if key not in made:
            made[key] = folder / f"{len(made)}.bundle"
            shardc.compile(model, CompileOptions(isa=("x86-64-v3",), **options), made[key], build=build).close()
        return made[key]

    return make


@pytest.mark.parametrize("model", DECODERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("tp, step, sequence_parallel", [(1, 1, False), (2, 1, False), (2, 8, True), (4, 3, False)])
def test_decoder_with_its_cache(compiler_build, compiled, model, tp, step, sequence_parallel):
    """What the model builder of onnxruntime-genai writes. The attention mask is none of the inputs: the length says it all."""
    recorded = _recorded(model)
    ids, logits = recorded["input_ids"], recorded["logits"]
    options = dict(tp=tp, sequence_parallel=sequence_parallel, dims=DIMS | {"sequence_length": step})
    path = compiled(compiler_build, model, cache={"past_sequence_length": LENGTH}, **options)
    with shardc.load(path, build=compiler_build, poison=True, outputs=["logits"]) as bundle:
        assert "attention_mask" not in bundle.inputs
        parts = [bundle.run(input_ids=ids[:, i : i + step])["logits"] for i in range(0, LENGTH, step)]
        _close(np.concatenate(parts, 1), logits)
        with pytest.raises(shardc.RuntimeFailure, match='the cache "past_sequence_length" has room for 24 entries'):
            bundle.run(input_ids=ids[:, :step])


@pytest.mark.parametrize("model", DECODERS, ids=lambda path: path.stem)
def test_prompt_then_tokens(compiler_build, compiled, model):
    recorded = _recorded(model)
    ids, logits = recorded["input_ids"], recorded["logits"]
    options = dict(dims=DIMS | {"sequence_length": 16}, shape_instances=[{"sequence_length": 1}])
    path = compiled(compiler_build, model, tp=2, cache={"past_sequence_length": LENGTH}, **options)
    with shardc.load(path, build=compiler_build, outputs=["logits"]) as bundle:
        parts = [bundle.run(input_ids=ids[:, :16])["logits"]]
        parts += [bundle.run(input_ids=ids[:, i : i + 1])["logits"] for i in range(16, LENGTH)]
        _close(np.concatenate(parts, 1), logits)


@pytest.mark.parametrize("tp", [1, 2])
def test_sequences_of_different_lengths(compiler_build, compiled, tp):
    """The loop of onnxruntime-genai with one buffer for past and present: each sequence's mask says where it stands."""
    model, late = DECODERS[0], 5
    recorded = _recorded(model)
    ids, logits = recorded["input_ids"], recorded["logits"]
    carry = {f"past_key_values.{layer}.{part}": f"present.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")}
    dims = DIMS | {"sequence_length": 1, "past_sequence_length": LENGTH, "total_sequence_length": LENGTH}
    path = compiled(compiler_build, model, tp=tp, dims=dims, carry=carry)
    with shardc.load(path, build=compiler_build, poison=True, outputs=["logits"]) as bundle:
        for step in range(LENGTH):
            at = np.array([step, max(0, step - late)])
            mask = (np.arange(LENGTH) <= at[:, None]).astype(np.int64)
            token = np.take_along_axis(ids, at[:, None], 1)
            have = bundle.run(input_ids=token, attention_mask=mask)["logits"][:, 0]
            _close(have, logits[np.arange(BATCH), at])


@pytest.mark.parametrize("model", DECODERS, ids=lambda path: path.stem)
def test_weights_are_cut_by_what_they_are_for(compiler_build, compiled, model):
    """Packed projections and made-up names: roles say the plan."""
    options = dict(dims=DIMS | {"sequence_length": 1}, cache={"past_sequence_length": LENGTH})
    whole, half = (
        shardc.load(compiled(compiler_build, model, tp=tp, **options), build=compiler_build) for tp in (1, 2)
    )
    with whole, half:
        assert half.manifest["memory"]["parameter_bytes"] < 0.53 * whole.manifest["memory"]["parameter_bytes"]


@pytest.mark.parametrize("tp, sequence_parallel", [(1, False), (2, False), (2, True), (4, True)])
def test_optimized_bert(compiler_build, compiled, tp, sequence_parallel):
    """What onnxruntime.transformers' optimizer writes: packed projections, fused embeddings; one sequence is padded."""
    model, dims = HUB / "bert.onnx", {"batch": BATCH, "seq": LENGTH}
    recorded = _recorded(model)
    with shardc.load(compiled(compiler_build, model, tp=1, dims=dims), build=compiler_build) as whole:
        weights = whole.manifest["memory"]["parameter_bytes"]
    path = compiled(compiler_build, model, tp=tp, sequence_parallel=sequence_parallel, dims=dims)
    with shardc.load(path, build=compiler_build) as bundle:
        _close(bundle.run({name: recorded[name] for name in bundle.inputs})["logits"], recorded["logits"])
        assert bundle.manifest["memory"]["parameter_bytes"] < (1 / tp + 0.08) * weights


@pytest.mark.parametrize("tp", [1, 2])
def test_past_and_present_in_one_tensor(compiler_build, compiled, tp):
    model = HUB / "packed-past.onnx"
    recorded = _recorded(model)
    path = compiled(compiler_build, model, tp=tp, dims={"batch": BATCH, "seq": 2}, cache={"past": LENGTH})
    with shardc.load(path, build=compiler_build, poison=True, outputs=["y"]) as bundle:
        parts = [bundle.run(x=recorded["x"][:, i : i + 2])["y"] for i in range(0, LENGTH, 2)]
        _close(np.concatenate(parts, 1), recorded["y"])
