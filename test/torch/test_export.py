"""The exporter on tiny models: every name kept, and onnxruntime, and shardc, compute what torch does."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import shardc
import torch
from onnx import numpy_helper
from shardc import export
from shardc.arrays import as_array, bfloat16
from shardc.safetensors import open_safetensors

LLAMA = dict(vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=8,
             num_key_value_heads=4, max_position_embeddings=128)  # fmt: skip
GPT2 = dict(vocab_size=256, n_embd=64, n_layer=2, n_head=8, n_positions=128)  # its embedding and head are tied
FAMILIES = {"llama": LLAMA, "gpt2": GPT2}


def run_onnx(path, **inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("options", [dict(), dict(dynamic=True), dict(opset=23)], ids=["static", "dynamic", "opset23"])
@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_numbers(tmp_path, family, options):
    exported = export.export_hf(family, tmp_path / "m.onnx", overrides=FAMILIES[family], **options)
    model = export.random_model(family, overrides=FAMILIES[family])
    graph = onnx.load(exported.model).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    parameters = dict(model.named_parameters())
    assert set(exported.parameters) == set(parameters)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(numpy_helper.to_array(stored[name]), parameter.detach().numpy(), err_msg=name)
    scoped = [any(p.key == "pkg.torch.onnx.name_scopes" for p in node.metadata_props) for node in graph.node]
    assert sum(scoped) > 0.9 * len(scoped)
    onnx.checker.check_model(str(exported.model), full_check=True)
    with np.load(exported.reference) as reference:
        suffixes = ["", "__2", "__3"] if "dynamic" in options else [""]
        for suffix in suffixes:
            logits = run_onnx(exported.model, input_ids=reference["input_ids" + suffix])
            np.testing.assert_allclose(logits, reference["logits" + suffix], atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_cache(tmp_path, compiler_build, family):
    exported = export.export_hf(family, tmp_path / "m.onnx", overrides=FAMILIES[family], cache=True, seq=12)
    model = export.random_model(family, overrides=FAMILIES[family])
    assert set(exported.parameters) == {name for name, _ in model.named_parameters()}
    reference = np.load(exported.reference)
    ids, logits = reference["input_ids"], reference["logits"]
    options = shardc.CompileOptions(tp=2, dims={"batch": 2, "seq": 3}, cache={"past": 12})
    with shardc.compile(exported.model, options, tmp_path / "m.bundle", build=compiler_build) as bundle:
        steps = [bundle.run(input_ids=ids[:, i : i + 3])["logits"] for i in range(0, 12, 3)]
    np.testing.assert_allclose(np.concatenate(steps, 1), logits, atol=1e-4 * np.abs(logits).max())


def test_plans_and_configuration_are_written(tmp_path):
    exported = export.export_hf("llama", tmp_path / "m.onnx", overrides=LLAMA)
    plans = json.loads(exported.plans.read_text())
    assert plans["base_model_tp_plan"]["layers.*.self_attn.q_proj"] == "colwise"
    assert plans["model._no_split_modules"] == ["LlamaDecoderLayer"]
    again = export.random_model(None, exported.config)
    assert type(again).__name__ == "LlamaForCausalLM"


def test_a_model_keeps_its_weights_though_they_are_equal(tmp_path):
    """As they are at first: norms all one, biases all zero, which the exporter alone would merge."""
    model = export.build_model("gpt2", overrides=GPT2)
    exported = export.export_hf(model, tmp_path / "m.onnx")
    assert set(exported.parameters) == {name for name, _ in model.named_parameters()}


def test_without_keep_names_most_are_lost(tmp_path):
    exported = export.export_hf("llama", tmp_path / "m.onnx", overrides=LLAMA, keep_names=False)
    assert len(exported.parameters) < 10


def test_command_line(tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", **LLAMA}))
    out = tmp_path / "out"
    assert (
        export.main(["--config", str(config), "--set", "num_hidden_layers=1", "--out", str(out), "--batch", "1"]) == 0
    )
    assert "12 parameters" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"model.onnx", "model.npz", "config.json", "plans.json"}
    assert export.main(["--config", str(config), "--out", str(out), "--opset", "26"]) == 2
    assert "opset: 26 is not between 18 and 25" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_pretrained(tmp_path, compiler_build, family):
    """A checkpoint's architecture, dtype and weights; and its graph alone, compiled with the checkpoint's weights."""
    model = export.random_model(family, overrides=FAMILIES[family], dtype="bfloat16")
    model.save_pretrained(tmp_path / "checkpoint")
    whole = export.export_hf(None, tmp_path / "whole/m.onnx", pretrained=tmp_path / "checkpoint", dtype="float32")
    stored = {tensor.name: tensor for tensor in onnx.load(whole.model).graph.initializer}
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(numpy_helper.to_array(stored[name]), parameter.detach().float().numpy())
    pretrained = dict(pretrained=tmp_path / "checkpoint", weights=False)
    graph = export.export_hf(None, tmp_path / "graph/m.onnx", dtype="float32", **pretrained)
    assert graph.parameters == whole.parameters and graph.reference is None
    assert {path.name for path in graph.model.parent.iterdir()} == {"m.onnx", "config.json", "plans.json"}
    reference = np.load(whole.reference)
    options = shardc.CompileOptions(tp=2, weights=tmp_path / "checkpoint")
    with shardc.compile(graph.model, options, tmp_path / "m.bundle", build=compiler_build) as bundle:
        logits = bundle.run(input_ids=reference["input_ids"])["logits"]
    np.testing.assert_allclose(logits, reference["logits"], atol=1e-4 * np.abs(reference["logits"]).max())
    narrow = export.export_hf(None, tmp_path / "narrow/m.onnx", **pretrained)  # in the checkpoint's own dtype
    types = {t.name: t.data_type for t in onnx.load(narrow.model, load_external_data=False).graph.initializer}
    assert {types[name] for name in narrow.parameters} == {onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model, path: export.export_hf(model, path, weights=False), "the model is built already"),
        (lambda model, path: export.export_hf(None, path, pretrained=path.parent, config={}), "has its own"),
        (lambda model, path: export.export_hf("llama", path, weights=False, keep_names=False), "keep the names"),
        (lambda model, path: export.export_hf("mamba2", path, cache=True, weights=False), "keeps more between steps"),
        (lambda model, path: export.export_hf(model, path, config={}), "the model is built already"),
        (lambda model, path: export.export_hf(model.config, path, config={}), "given twice"),
        (lambda model, path: export.export_hf(None, path, config={}), "has no model_type"),
        (lambda model, path: export.export_hf(model, path, dynamic={"ids": {}}), "ids is not an input; the inputs are"),
    ],
)
def test_wrong_arguments(tmp_path, call, message):
    model = export.build_model("llama", overrides=LLAMA)
    with pytest.raises(ValueError, match=re.escape(message)):
        call(model, tmp_path / "m.onnx")


def test_checkpoints_of_transformers_are_read(tmp_path):
    model = export.random_model("gpt2", overrides=GPT2, dtype="bfloat16")
    model.save_pretrained(tmp_path)
    weights = open_safetensors(tmp_path)
    assert weights["transformer.wte.weight"].dtype == bfloat16()
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(
            weights[name].astype(np.float32), parameter.detach().float().numpy(), err_msg=name
        )


def test_torch_tensors_are_taken_by_dlpack():
    tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert np.shares_memory(as_array(tensor), tensor.numpy())
    assert as_array(torch.nn.Parameter(tensor)).tolist() == tensor.tolist()
    for view in (tensor, tensor.T, tensor[1:, ::2], tensor[:0]):
        array = as_array(view.bfloat16())
        assert array.dtype == bfloat16() and array.shape == tuple(view.shape)
        assert array.astype(np.float32).tolist() == view.tolist()
    strided = torch.arange(12).bfloat16().reshape(3, 4)[:, 1::2].T
    assert as_array(strided).astype(np.float32).tolist() == strided.float().tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_for_two_ranks_it_computes_torchs_logits(tmp_path, compiler_build, family):
    exported = export.export_hf(family, tmp_path / "m.onnx", overrides=FAMILIES[family])
    with np.load(exported.reference) as reference:
        ids, expected = torch.from_numpy(reference["input_ids"]), reference["logits"]
    with shardc.compile(exported.model, shardc.CompileOptions(tp=2), build=compiler_build) as bundle:
        np.testing.assert_allclose(bundle.run(input_ids=ids)["logits"], expected, atol=1e-4)
        assert set(bundle.state_dict()) == set(exported.parameters)
