"""Families without a fixture, exported here: tensor parallel against torch's logits, and compiled for training. Nothing in the compiler knows their names."""

import subprocess

import numpy as np
import pytest
import shardc
from shardc import export

BASE = dict(num_hidden_layers=2, hidden_size=64, intermediate_size=128, num_attention_heads=8, vocab_size=256)
GROUPED = dict(BASE, num_key_value_heads=4, pad_token_id=0)
FAMILIES = {
    "BertForMaskedLM": BASE,
    "BloomForCausalLM": dict(n_layer=2, hidden_size=64, n_head=8, vocab_size=256),
    "CohereForCausalLM": GROUPED,
    "Exaone4ForCausalLM": GROUPED,
    "FalconForCausalLM": BASE,
    "GPTJForCausalLM": dict(n_layer=2, n_embd=64, n_head=8, vocab_size=256, rotary_dim=8, n_positions=128),
    "GPTNeoXForCausalLM": BASE,
    "Gemma3ForCausalLM": dict(GROUPED, head_dim=8),
    "Glm4ForCausalLM": dict(GROUPED, head_dim=8),
    "GptOssForCausalLM": dict(GROUPED, head_dim=8, num_local_experts=4),
    "GraniteForCausalLM": GROUPED,
    "MistralForCausalLM": GROUPED,
    "OPTForCausalLM": dict(num_hidden_layers=2, hidden_size=64, ffn_dim=128, num_attention_heads=8, vocab_size=256, word_embed_proj_dim=64,
                           max_position_embeddings=128, pad_token_id=0),
    "Olmo2ForCausalLM": GROUPED,
    "OlmoeForCausalLM": dict(GROUPED, num_experts=4, num_experts_per_tok=2),
    "Phi3ForCausalLM": GROUPED,
    "PhiForCausalLM": dict(BASE, num_key_value_heads=8),
    "Qwen3ForCausalLM": dict(GROUPED, head_dim=8),
    "RobertaForMaskedLM": dict(BASE, pad_token_id=1),
    "SmolLM3ForCausalLM": GROUPED,
    "StableLmForCausalLM": GROUPED,
    "Starcoder2ForCausalLM": GROUPED,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_family(tmp_path, compiler_build, family):
    exported = export.export_hf(family, tmp_path / "m.onnx", overrides=FAMILIES[family])
    with np.load(exported.reference) as reference:
        inputs = {name: reference[name] for name in reference.files if name != "logits"}
        expected = reference["logits"]
    options = shardc.CompileOptions(tp=2)
    with shardc.compile(exported.model, options, tmp_path / "m.bundle", build=compiler_build) as bundle:
        logits = bundle.run(**inputs)["logits"]
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    command = [compiler_build / "bin/shardc", "compile", exported.model, "--train", "--dp-shard", "2", "--tp", "2", "-o", tmp_path / "m.train"]
    subprocess.run(command, check=True)
