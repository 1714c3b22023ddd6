"""Families without a fixture, exported here: torch's logits and losses. Nothing in the compiler knows their names."""

import json
import subprocess

import numpy as np
import pytest
import shardc
import torch
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


STEPS, WINDOWS, LENGTH = 5, 2, 16  # two sequences, both in every step


def losses_of_torch(model, tokens):
    """AdamW on the sequences of `tokens`."""
    rows = [torch.from_numpy(tokens[i * LENGTH : (i + 1) * LENGTH + 1].astype(np.int64)) for i in range(WINDOWS)]
    inputs, labels = torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(input_ids=inputs).logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """The class, and its exported model."""
    file = tmp_path_factory.mktemp(request.param) / "m.onnx"
    return request.param, export.export_hf(request.param, file, overrides=FAMILIES[request.param])


def test_logits(tmp_path, compiler_build, family):
    _, exported = family
    with np.load(exported.reference) as reference:
        inputs = {name: reference[name] for name in reference.files if name != "logits"}
        expected = reference["logits"]
    with shardc.compile(exported.model, shardc.CompileOptions(tp=2), tmp_path / "m.bundle", build=compiler_build) as bundle:
        logits = bundle.run(**inputs)["logits"]
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_losses(tmp_path, compiler_build, family):
    name, exported = family
    tokens = np.random.default_rng(1).integers(3, 250, WINDOWS * LENGTH + 1).astype(np.uint16)
    tokens.tofile(tmp_path / "tokens.bin")
    expected = losses_of_torch(export.random_model(name, overrides=FAMILIES[name]).eval(), tokens)
    for mesh in ("--dp-shard", "--tp"):
        step, log = tmp_path / f"m{mesh}", tmp_path / f"log{mesh}"
        adamw = "--optimizer adamw --beta2 0.999 --epsilon 1e-8 --weight-decay 0.01 --learning-rate 1e-3".split()
        tools = compiler_build / "bin"
        subprocess.run([tools / "shardc", "compile", exported.model, "--train", mesh, "2", *adamw, "-o", step], check=True)
        data = ["--data", tmp_path / "tokens.bin", "--token-dtype", "u16"]
        subprocess.run([tools / "shard-run", "-n", "2", step, *data, "--steps", str(STEPS), "--log", log], check=True)
        losses = [json.loads(line)["loss"] for line in log.read_text().splitlines() if '"loss"' in line][:STEPS]
        np.testing.assert_allclose(losses, expected, rtol=1e-5, err_msg=mesh)
