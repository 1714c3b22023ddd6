#!/usr/bin/env python3
"""Makes the models of this folder with the tools that people make theirs with, and records what onnxruntime computes.

    python test/hub/make.py [NAME ...]

Needs torch, transformers, onnx, onnxruntime and onnxruntime-genai (its model builder); the tests need none of them. Weights are
random, from a seed; each model is one file of less than 300 KB. NAME.npz: inputs and the logits that onnxruntime computed.

    genai-*     python -m onnxruntime_genai.models.builder: GroupQueryAttention with a cache, SkipSimplifiedLayerNormalization; *-int4:
                MatMulNBits
    bert        torch.onnx.export, then onnxruntime.transformers.optimizer: EmbedLayerNormalization, Attention with packed weights,
                SkipLayerNormalization, BiasGelu. The model is plain_bert.py, as transformers wrote it for years: the optimizer does not
                know what version 5 writes
    packed-past one Attention with past and present in one tensor, as the optimizer makes of GPT-2
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

HERE = Path(__file__).resolve().parent
BATCH, LENGTH, VOCABULARY, HEADS, WIDTH = 2, 24, 256, 4, 48


def randomize(model):
    """Weights that give logits of order one, and no two norms alike."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            random = torch.randn_like(weight)
            if weight.dim() > 1:
                weight.copy_(random * weight.shape[-1] ** -0.5)
            else:
                weight.copy_(0.1 * random + (1 if "norm" in name.lower() and name.endswith("weight") else 0))
    return model.eval()


def record(name, feeds, outputs=("logits",)):
    path = HERE / f"{name}.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = onnx.load(path)
    for node in model.graph.node:  # which lets products round their other operand to 8 bits
        for attribute in [a for a in node.attribute if a.name == "accuracy_level"]:
            node.attribute.remove(attribute)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    results = session.run(list(outputs), {key: value for key, value in feeds.items() if key in names})
    given = {key: value for key, value in feeds.items() if value.size}
    np.savez_compressed(HERE / f"{name}.npz", **given, **dict(zip(outputs, results)))
    print(f"{name}: {path.stat().st_size} bytes")


def tokens(seed=1):
    return np.random.RandomState(seed).randint(3, VOCABULARY, (BATCH, LENGTH)).astype(np.int64)


def save(model, name):
    onnx.save(model, HERE / f"{name}.onnx")  # one file, weights inside


def genai(name, config_class, model_class, precision, **more):
    """transformers' random weights through onnxruntime-genai's model builder."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    sizes = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)  # fmt: skip
    model = randomize(model_class(config_class(**sizes)))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/hf")
        vocabulary = {chr(256 + i): i for i in range(VOCABULARY)}  # the builder wants a tokenizer; any will do
        words = Tokenizer(models.WordLevel(vocabulary, unk_token=chr(256)))
        PreTrainedTokenizerFast(tokenizer_object=words, unk_token=chr(256), eos_token=chr(258)).save_pretrained(f"{folder}/hf")
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", f"{folder}/hf", "-o", f"{folder}/out"]
        command += ["-p", precision, "-e", "cpu", "-c", f"{folder}/cache"]
        if more:
            command += ["--extra_options", *(f"{key}={value}" for key, value in more.items())]
        subprocess.run(command, check=True, capture_output=True)
        save(onnx.load(f"{folder}/out/model.onnx"), name)
    ids = tokens()
    past = np.zeros((BATCH, 2, 0, 16), np.float32)
    feeds = {f"past_key_values.{layer}.{part}": past for layer in range(2) for part in ("key", "value")}
    record(name, feeds | {"input_ids": ids, "attention_mask": np.ones((BATCH, LENGTH), np.int64)})


def bert(name):
    from onnxruntime.transformers import optimizer
    from plain_bert import Bert

    ids, mask = tokens(), np.ones((BATCH, LENGTH), np.int64)
    mask[1, 17:] = 0
    feeds = {"input_ids": ids, "token_type_ids": ids % 2, "attention_mask": mask}
    axes = {key: {0: "batch", 1: "seq"} for key in [*feeds, "logits"]}
    model = randomize(Bert(VOCABULARY, WIDTH, HEADS, layers=2))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        torch.onnx.export(model, tuple(map(torch.tensor, feeds.values())), f"{folder}/raw.onnx", input_names=list(feeds),
                          output_names=["logits"], dynamic_axes=axes, opset_version=17, dynamo=False)  # fmt: skip
        fused = optimizer.optimize_model(f"{folder}/raw.onnx", model_type="bert", num_heads=HEADS, hidden_size=WIDTH, opt_level=0)
        fused.save_model_to_file(f"{folder}/fused.onnx")
        save(onnx.load(f"{folder}/fused.onnx"), name)
    record(name, feeds)


def packed_past(name):
    random = np.random.RandomState(0)
    weights = {"weight": random.randn(32, 96).astype(np.float32) / 6, "bias": random.randn(96).astype(np.float32)}
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Attention", ["x", "weight", "bias", "", "past"], ["y", "present"], "attention", domain="com.microsoft",
                                 num_heads=HEADS, unidirectional=1)  # fmt: skip
    inputs = [info("x", 1, ["batch", "seq", 32]), info("past", 1, [2, "batch", HEADS, "past", 8])]
    tensors = [onnx.numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = onnx.helper.make_graph([node], name, inputs, [info("y", 1, None), info("present", 1, None)], tensors)
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    save(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8), name)
    x = random.randn(BATCH, LENGTH, 32).astype(np.float32)
    record(name, {"x": x, "past": np.zeros((2, BATCH, HEADS, 0, 8), np.float32)}, outputs=("y",))


def main():
    warnings.simplefilter("ignore")
    import transformers as hf

    makers = {
        "genai-llama": lambda name: genai(name, hf.LlamaConfig, hf.LlamaForCausalLM, "fp32"),
        "genai-qwen3-int4": lambda name: genai(name, hf.Qwen3Config, hf.Qwen3ForCausalLM, "int4", int4_block_size=32),
        "bert": bert,
        "packed-past": packed_past,
    }
    for name in sys.argv[1:] or makers:
        with contextlib.redirect_stderr(io.StringIO()):
            makers[name](name)


if __name__ == "__main__":
    main()
