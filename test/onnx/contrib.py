#!/usr/bin/env python3
"""onnxruntime's own operators (domain com.microsoft), and quantized tensors: one node each, against recorded results of onnxruntime.

    contrib.py --update               runs every case with onnxruntime (needs that package) and writes contrib.npz
    contrib.py --build build [NAME …] compiles and runs the cases whose names begin so; prints the differences

test/python/test_contrib.py runs all of them. contrib.npz holds results; a case here says what the model of one node is: operands (random
numbers from a seed), those that are constants of the file, attributes, what of the results counts.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).with_suffix(".npz")
MICROSOFT = "com.microsoft"


@dataclass
class Case:
    name: str
    op: str
    inputs: dict  # operand name -> array, or None where it is absent
    attributes: dict = field(default_factory=dict)
    constants: tuple = ()  # operands that are initializers
    outputs: tuple = ("y",)  # "" where none is wanted
    domain: str = MICROSOFT
    rows: tuple = ()  # (batch, first row that is padding) of the first result: what follows is not defined
    tolerance: float = 1e-4
    types: dict = field(default_factory=dict)  # of results that are not float
    left: np.ndarray = None  # the result, a weight, is multiplied by this input from the left
    same_as: dict = None  # operands that mean the same, where onnxruntime's CPU kernel lacks a form


def cases():
    """All of them, with the same random inputs each time (numpy promises RandomState's streams for ever)."""
    found = []

    def add(name, op, inputs, **more):
        found.append(Case(name, op, inputs, **more))

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    rng = np.random.RandomState(7)
    _add_basics(add, floats, rng)
    rng = np.random.RandomState(8)
    _add_norms(add, floats, rng)
    rng = np.random.RandomState(9)
    _add_rotary(add, floats)
    rng = np.random.RandomState(10)
    _add_multi_head(add, floats)
    rng = np.random.RandomState(11)
    _add_packed_attention(add, floats)
    rng = np.random.RandomState(12)
    _add_group_query(add, floats)
    rng = np.random.RandomState(13)
    _add_quantized_weights(add, floats, rng)
    rng = np.random.RandomState(14)
    _add_quantized_values(add, floats, rng)
    return found


def _add_basics(add, floats, rng):
    x, bias = floats(2, 5, 16), floats(16)
    add("gelu", "Gelu", {"x": x})
    add("bias_gelu", "BiasGelu", {"x": x, "bias": bias}, constants=("bias",))
    add("fast_gelu", "FastGelu", {"x": x})
    add("fast_gelu_bias", "FastGelu", {"x": x, "bias": bias})
    add("quick_gelu", "QuickGelu", {"x": x})
    add("quick_gelu_alpha", "QuickGelu", {"x": x}, attributes={"alpha": 0.7})
    add("quick_gelu_silu", "QuickGelu", {"x": x}, attributes={"alpha": 1.0})
    gemm = {"a": floats(5, 8), "b": floats(4, 8), "c": floats(4)}
    add("fused_gemm_relu", "FusedGemm", gemm, attributes={"activation": "Relu", "transB": 1, "alpha": 0.5})
    add("fused_gemm_leaky", "FusedGemm", gemm, attributes={"activation": "LeakyRelu", "activation_alpha": 0.3, "transB": 1})
    add("fused_matmul", "FusedMatMul", {"a": floats(2, 3, 8), "b": floats(8, 4)}, attributes={"alpha": 0.25})
    for trans_a, trans_b in [(1, 0), (0, 1), (1, 1)]:
        a, b = floats(2, 3, *((8, 5) if trans_a else (5, 8))), floats(2, 3, *((4, 8) if trans_b else (8, 4)))
        add(f"fused_matmul_trans{trans_a}{trans_b}", "FusedMatMul", {"a": a, "b": b}, attributes={"transA": trans_a, "transB": trans_b})
    a, b = floats(5, 2, 8), floats(2, 8, 4)
    add("fused_matmul_trans_batch", "FusedMatMul", {"a": a, "b": b}, attributes={"transBatchA": 1})
    a, b = floats(8, 2, 3, 5), floats(4, 2, 3, 8)
    both = {"transA": 1, "transB": 1, "transBatchA": 1, "transBatchB": 1}
    add("fused_matmul_trans_batch_both", "FusedMatMul", {"a": a, "b": b}, attributes=both)


def _add_norms(add, floats, rng):
    x, skip, gamma, beta, bias = floats(2, 5, 16), floats(2, 5, 16), floats(16), floats(16), floats(16)
    weights = ("gamma", "beta", "bias")
    add("simplified_norm", "SimplifiedLayerNormalization", {"x": x, "gamma": gamma}, domain="", attributes={"epsilon": 1e-5}, constants=weights)
    add("simplified_norm_axis", "SimplifiedLayerNormalization", {"x": x, "gamma": floats(5, 16)}, domain="", attributes={"axis": 1})
    sum_too, plain = ("y", "", "", "sum"), {"x": x, "skip": skip, "gamma": gamma}
    add("skip_norm", "SkipLayerNormalization", plain | {"beta": beta}, attributes={"epsilon": 1e-5}, constants=weights)
    add("skip_norm_sum", "SkipLayerNormalization", plain | {"beta": beta, "bias": bias}, outputs=sum_too, constants=weights)
    add("skip_norm_no_beta", "SkipLayerNormalization", plain | {"beta": None, "bias": bias}, outputs=sum_too)
    add("skip_norm_one_row", "SkipLayerNormalization", plain | {"skip": floats(1, 5, 16), "beta": beta}, outputs=sum_too)
    add("skip_norm_rank2", "SkipLayerNormalization", plain | {"skip": floats(5, 16), "beta": beta}, outputs=sum_too)
    add("skip_simplified", "SkipSimplifiedLayerNormalization", plain, attributes={"epsilon": 1e-6}, outputs=sum_too, constants=weights)
    add("skip_simplified_bias", "SkipSimplifiedLayerNormalization", plain | {"bias": bias}, outputs=sum_too)
    ids = rng.randint(0, 30, (2, 5)).astype(np.int32)
    kinds = rng.randint(0, 2, (2, 5)).astype(np.int32)
    tables = {"word": floats(30, 16), "position": floats(12, 16), "segment": floats(2, 16), "gamma": gamma, "beta": beta}
    names = tuple(tables)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    add("embed_norm", "EmbedLayerNormalization", {"ids": ids, "kinds": kinds} | tables, constants=names, outputs=("y", "mask_index"))
    add("embed_norm_mask", "EmbedLayerNormalization", {"ids": ids, "kinds": kinds} | tables | {"mask": mask}, constants=names,
        outputs=("y", "mask_index", "sum"), attributes={"epsilon": 1e-5})  # fmt: skip
    places = rng.randint(0, 12, (2, 5)).astype(np.int32)
    add("embed_norm_positions", "EmbedLayerNormalization",
        {"ids": ids, "kinds": None} | tables | {"segment": None, "mask": None, "places": places}, outputs=("y", "mask_index"))  # fmt: skip


def _add_rotary(add, floats):
    cos, sin = floats(32, 8), floats(32, 8)
    tables, names = {"cos": cos, "sin": sin}, ("cos", "sin")
    at, all_at = np.array([3], np.int64), np.array([[0, 1, 2, 3, 4], [7, 8, 9, 3, 1]], np.int64)
    for interleaved in (0, 1):
        how = {"interleaved": interleaved}
        add(f"rotary_{interleaved}", "RotaryEmbedding", {"x": floats(2, 5, 64), "at": at} | tables, attributes=how, constants=names)
        add(f"rotary_positions_{interleaved}", "RotaryEmbedding", {"x": floats(2, 4, 5, 16), "at": all_at} | tables, attributes=how)
    partial = {"num_heads": 2, "rotary_embedding_dim": 16}
    add("rotary_partial", "RotaryEmbedding", {"x": floats(2, 5, 64), "at": all_at} | tables, attributes=partial)


def _add_multi_head(add, floats):
    batch, queries, keys, heads, size = 2, 3, 5, 4, 8
    width = heads * size
    q, k, v = floats(batch, queries, width), floats(batch, keys, width), floats(batch, keys, width)
    how, qkv = {"num_heads": heads}, {"q": q, "k": k, "v": v}

    def one(name, inputs, outputs=("y",), same_as=None, **attributes):
        add(f"multi_head_{name}", "MultiHeadAttention", inputs, attributes=how | attributes, outputs=outputs, same_as=same_as)

    bias = floats(3 * width)
    lengths = np.array([5, 2], np.int32)
    padding = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], np.int32)
    scores = floats(1, heads, queries, keys)
    one("plain", qkv)
    one("bias", qkv | {"bias": bias})
    one("scale", qkv, scale=0.3)
    one("wide_values", qkv | {"v": floats(batch, keys, 2 * width)})
    one("lengths", qkv | {"bias": None, "mask": lengths})
    one("padding", qkv | {"bias": None, "mask": padding})
    one("mask_by_query", qkv | {"bias": None, "mask": np.stack([padding, padding[::-1], padding], 1)}, mask_filter_value=-50.0)
    one("scores", qkv | {"bias": None, "mask": None, "scores": scores})
    one("scores_and_padding", qkv | {"bias": bias, "mask": padding, "scores": floats(batch, 1, queries, keys)})
    own = {"q": q, "k": floats(batch, queries, width), "v": floats(batch, queries, width)}
    one("causal", own, unidirectional=1)
    past = {"past_k": floats(batch, heads, 4, size), "past_v": floats(batch, heads, 4, size)}
    one("past", own | {"bias": bias, "mask": None, "scores": None} | past, ("y", "present_k", "present_v"))
    one("past_causal", own | {"bias": None, "mask": None, "scores": None} | past, ("y", "present_k", "present_v"), unidirectional=1)
    one("past_padding", own | {"bias": None, "mask": np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1]], np.int32), "scores": None} | past,
        ("y", "present_k", "present_v"))  # fmt: skip
    packed = floats(batch, queries, heads, 3, size)
    parts = [packed[:, :, :, i].reshape(batch, queries, width) for i in range(3)]
    one("packed", {"qkv": packed}, same_as=dict(zip("qkv", parts)))
    packed = floats(batch, keys, heads, 2, size)
    parts = [packed[:, :, :, i].reshape(batch, keys, width) for i in range(2)]
    one("packed_kv", {"q": q, "kv": packed}, same_as={"q": q} | dict(zip("kv", parts)))
    one("cross", {"q": q, "k": floats(batch, heads, keys, size), "v": floats(batch, heads, keys, size)})


def _add_packed_attention(add, floats):
    batch, length, heads, size = 2, 5, 4, 8
    width = heads * size
    x, weights, bias = floats(batch, length, 24), floats(24, 3 * width) / 5, floats(3 * width)
    how, plain = {"num_heads": heads}, {"x": x, "weights": weights, "bias": bias}

    def one(name, inputs, outputs=("y",), same_as=None, **attributes):
        constants = ("weights", "bias")
        add(f"attention_{name}", "Attention", inputs, attributes=how | attributes, outputs=outputs, constants=constants, same_as=same_as)

    one("plain", plain)
    one("no_bias", plain | {"bias": None}, same_as=plain | {"bias": 0 * bias}, scale=0.2)
    one("causal", plain, unidirectional=1)
    one("lengths", plain | {"mask": np.array([5, 3], np.int32)})
    one("ends_and_starts", plain | {"mask": np.array([5, 4, 0, 2], np.int32)})
    one("padding", plain | {"mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)})
    one("padding_causal", plain | {"mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)}, unidirectional=1)
    sizes = {"qkv_hidden_sizes": [16, 16, 32]}
    one("narrow_keys", {"x": x, "weights": floats(24, 64) / 5, "bias": floats(64)}, **sizes)
    one("scores", plain | {"mask": None, "past": None, "scores": floats(1, heads, length, length)})
    past = floats(2, batch, heads, 3, size)
    one("past", plain | {"mask": None, "past": past}, ("y", "present"), unidirectional=1)
    one("present", plain, ("y", "present"), unidirectional=1)
    seen = np.array([[1] * 8, [0, 0] + [1] * 6], np.int32)
    one("past_padding", plain | {"mask": seen, "past": past}, ("y", "present"), unidirectional=1)


def _add_group_query(add, floats):
    heads, kv_heads, size = 4, 2, 16
    cos, sin = floats(32, size // 2), floats(32, size // 2)

    def one(name, batch, new, entries, last, total, packed=False, rotary=False, positions=None, scores=None, sinks=None, rows=(), **attributes):
        q, k, v = floats(batch, new, heads * size), floats(batch, new, kv_heads * size), floats(batch, new, kv_heads * size)
        inputs = {"qkv": np.concatenate([q, k, v], 2), "": None, " ": None} if packed else {"q": q, "k": k, "v": v}
        inputs |= {"past_k": floats(batch, kv_heads, entries, size), "past_v": floats(batch, kv_heads, entries, size)}
        inputs |= {"last": np.array(last, np.int32), "total": np.array(total, np.int32)}
        inputs |= {"cos": cos if rotary else None, "sin": sin if rotary else None}
        inputs |= {"positions": positions, "scores": scores, "sinks": sinks}
        attributes |= {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int(rotary)}
        constants = ("cos", "sin", "total") + (() if entries else ("past_k", "past_v"))
        add(f"group_query_{name}", "GroupQueryAttention", inputs, attributes=attributes, constants=constants,
            outputs=("y", "present_k", "present_v"), rows=rows)  # fmt: skip

    one("prompt", 2, 5, 0, [4, 4], 5)
    one("prompt_packed", 2, 5, 0, [4, 4], 5, packed=True, rotary=True)
    one("prompt_ragged", 2, 5, 0, [4, 2], 5, rotary=True, rows=((1, 3),))
    one("prompt_interleaved", 2, 5, 0, [4, 4], 5, rotary=True, rotary_interleaved=1)
    one("prompt_positions", 2, 5, 0, [4, 4], 5, rotary=True, positions=np.array([[3, 4, 5, 6, 7], [1, 2, 3, 4, 9]], np.int64))
    one("prompt_window", 2, 5, 0, [4, 4], 5, local_window_size=2)
    one("prompt_softcap", 2, 5, 0, [4, 4], 5, softcap=1.5, scale=0.6)
    one("prompt_smooth", 2, 5, 0, [4, 4], 5, smooth_softmax=1)
    one("prompt_sinks", 2, 5, 0, [4, 4], 5, sinks=floats(heads))
    one("prompt_scores", 2, 5, 0, [4, 4], 5, scores=floats(1, heads, 5, 5), softcap=1.1)
    one("prompt_both_ways", 2, 5, 0, [4, 4], 5, causal=0)
    one("prompt_both_ways_ragged", 2, 5, 0, [4, 2], 5, causal=0, rows=((1, 3),))
    one("token", 2, 1, 6, [6, 6], 7, rotary=True)
    one("token_packed", 2, 1, 6, [6, 6], 7, rotary=True, packed=True)
    one("token_ragged", 2, 1, 6, [6, 3], 7, rotary=True)
    one("token_positions", 2, 1, 6, [6, 3], 7, rotary=True, positions=np.array([[2], [5]], np.int64))
    one("token_window", 2, 1, 6, [6, 3], 7, local_window_size=3)
    one("token_scores", 2, 1, 6, [6, 3], 7, scores=floats(2, heads, 1, 7))
    one("token_sinks", 2, 1, 6, [6, 3], 7, sinks=floats(heads), softcap=2.0)
    one("chunk", 1, 3, 6, [8], 9, rotary=True)
    one("chunk_window", 1, 3, 6, [8], 9, rotary=True, local_window_size=4)
    one("chunk_positions", 1, 3, 6, [8], 9, rotary=True, positions=np.array([[2, 5, 6]], np.int64))
    # The buffer is longer than what is in it.
    one("shared_token", 2, 1, 16, [6, 3], 16, rotary=True)
    one("shared_token_short", 2, 1, 16, [6, 3], 7, rotary=True)
    one("shared_chunk", 1, 3, 16, [8], 16, rotary=True)


def _add_quantized_weights(add, floats, rng):
    """Weights of the file: they become floats before anything is imported."""
    from ml_dtypes import int4, uint4

    def integers(dtype, low, high, *shape):
        return rng.randint(low, high, shape).astype(dtype)

    def scales(*shape):
        return (rng.uniform(0.5, 1.5, shape) / 20).astype(np.float32)

    left = floats(2, 3, 8)

    def weight(name, q, scale, zero=None, **attributes):
        add(f"weight_{name}", "DequantizeLinear", {"q": q, "scale": scale, "zero": zero}, domain="", attributes=attributes,
            constants=("q", "scale", "zero"), outputs=("w",), left=left)  # fmt: skip

    u8 = integers(np.uint8, 0, 256, 8, 6)
    weight("u8", u8, scales(), np.array(117, np.uint8))
    weight("i8", u8.view(np.int8), scales())
    weight("columns", u8.view(np.int8), scales(6), integers(np.int8, -9, 9, 6), axis=1)
    weight("rows", u8, scales(8), integers(np.uint8, 90, 140, 8), axis=-2)
    weight("blocks", u8.view(np.int8), scales(3, 6), integers(np.int8, -9, 9, 3, 6), axis=0, block_size=3)
    weight("i4", integers(np.int8, -8, 8, 8, 6).astype(int4), scales(8, 2), axis=1, block_size=4)
    weight("u4", integers(np.uint8, 0, 16, 8, 5).astype(uint4), scales(5), integers(np.uint8, 0, 16, 5).astype(uint4))

    def bits(name, k, n, width, block, zeros=None, bias=None, x=None):
        blocks = -(-k // block)
        operands = {"x": floats(2, 3, k), "q": integers(np.uint8, 0, 256, n, blocks, block * width // 8), "scale": scales(n, blocks)}
        if zeros == "packed":
            operands["zero"] = integers(np.uint8, 0, 256, n, -(-blocks * width // 8))
        if bias is not None:
            operands |= {"zero": operands.get("zero"), "g_idx": None, "bias": bias}
        add(f"matmul_bits_{name}", "MatMulNBits", operands, constants=("q", "scale", "zero", "bias"),
            attributes={"K": k, "N": n, "bits": width, "block_size": block})  # fmt: skip

    bits("4", 64, 12, 4, 32)
    bits("4_zeros", 64, 12, 4, 16, zeros="packed")
    bits("4_odd_zeros", 96, 5, 4, 32, zeros="packed")
    bits("4_ragged", 40, 12, 4, 32)
    bits("8", 64, 12, 8, 32)
    bits("8_zeros", 64, 12, 8, 32, zeros="packed")
    bits("4_bias", 32, 12, 4, 16, bias=floats(12))
    ids = rng.randint(0, 10, (2, 4)).astype(np.int64)
    how = {"block_size": 16, "bits": 4, "gather_axis": 0, "quantize_axis": 1}
    table = {"q": integers(np.uint8, 0, 256, 10, 16), "ids": ids, "scale": scales(10, 2)}
    names = ("q", "scale", "zero")
    add("gather_block", "GatherBlockQuantized", table, constants=names, attributes=how)
    add("gather_block_zeros", "GatherBlockQuantized", table | {"zero": integers(np.uint8, 0, 256, 10, 1)}, constants=names, attributes=how)
    signed = integers(np.int8, -8, 8, 10, 32).astype(int4)
    how = {key: value for key, value in how.items() if key != "bits"}
    add("gather_block_i4", "GatherBlockQuantized", table | {"q": signed}, constants=names, attributes=how)


def _add_quantized_values(add, floats, rng):
    """What a model quantizes while it runs."""
    x = 3 * floats(2, 5, 6)

    def quantize(name, scale, zero, **attributes):
        dtype = "uint8" if zero is None else str(zero.dtype)
        add(f"quantize_{name}", "QuantizeLinear", {"x": x, "scale": np.asarray(scale, np.float32), "zero": zero}, domain="", attributes=attributes,
            types={"y": dtype})  # fmt: skip

    quantize("u8", np.array(0.04), np.array(120, np.uint8))
    quantize("no_zero", np.array(0.02), None)
    quantize("i8_axis", rng.uniform(0.02, 0.05, 6), rng.randint(-20, 20, 6).astype(np.int8), axis=-1)
    quantize("i8_blocks", rng.uniform(0.02, 0.05, (2, 3, 6)), rng.randint(-20, 20, (2, 3, 6)).astype(np.int8), axis=1, block_size=2)
    quantize("u16", np.array(0.001), np.array(3000, np.uint16))
    q = rng.randint(-128, 128, (2, 5, 6)).astype(np.int8)
    add("dequantize", "DequantizeLinear", {"q": q, "scale": np.array(0.03, np.float32), "zero": np.array(-5, np.int8)}, domain="")
    by_row = {"q": q, "scale": rng.uniform(0.02, 0.05, 5).astype(np.float32), "zero": rng.randint(-9, 9, 5).astype(np.int8)}
    add("dequantize_axis", "DequantizeLinear", by_row, domain="", attributes={"axis": 1})
    types = {"y": "uint8", "zero": "uint8"}
    add("dynamic_quantize", "DynamicQuantizeLinear", {"x": x}, domain="", outputs=("y", "scale", "zero"), types=types)
    add("dynamic_quantize_positive", "DynamicQuantizeLinear", {"x": np.abs(x)}, domain="", outputs=("y", "scale", "zero"), types=types)
    a, b = rng.randint(0, 256, (2, 5, 300)).astype(np.uint8), rng.randint(-128, 128, (300, 6)).astype(np.int8)
    zeros = {"a_zero": np.array(131, np.uint8), "b_zero": np.array(3, np.int8)}
    add("matmul_integer", "MatMulInteger", {"a": a, "b": b}, domain="", types={"y": "int32"})
    add("matmul_integer_zeros", "MatMulInteger", {"a": a, "b": b} | zeros, domain="", types={"y": "int32"}, constants=("b", "b_zero"))


def node_model(case: Case):
    """The case as a model of one node."""
    from onnx import TensorProto, helper, numpy_helper

    given = {name: value for name, value in case.inputs.items() if value is not None}
    names = [name if name in given else "" for name in case.inputs]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(case.op, names, list(case.outputs), "node", domain=case.domain, **case.attributes)
    info = helper.make_tensor_value_info
    inputs = [info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in given.items() if n not in case.constants]
    types = {"mask_index": "int32"} | case.types
    outputs = [info(name, helper.np_dtype_to_tensor_dtype(np.dtype(types.get(name, "float32"))), None) for name in results(case)]
    nodes = [node]
    if case.left is not None:
        nodes.append(helper.make_node("MatMul", ["left", case.outputs[0]], ["y"], "product"))
        inputs.append(info("left", TensorProto.FLOAT, case.left.shape))
    constants = [numpy_helper.from_array(v, n) for n, v in given.items() if n in case.constants]
    graph = helper.make_graph(nodes, case.name, inputs, outputs, constants)
    imports = [helper.make_opsetid("", 22), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def results(case: Case):
    return ["y"] if case.left is not None else [name for name in case.outputs if name]


def feeds(case: Case):
    given = {} if case.left is None else {"left": case.left}
    return given | {name: value for name, value in case.inputs.items() if value is not None and name not in case.constants}


def defined(case: Case, name: str, value: np.ndarray):
    """A copy without what the operator leaves undefined: rows of padding, and what a cache holds behind its entries."""
    value = value.copy()
    for batch, row in case.rows if name == "y" else ():
        value[batch, row:] = 0
    if name.startswith("present_") and "last" in case.inputs and not case.rows:
        for batch, last in enumerate(case.inputs["last"]):
            value[batch, :, last + 1 :] = 0
    return value


def update():
    import onnxruntime

    options, recorded = onnxruntime.SessionOptions(), {}
    # As the operators are defined: optimized, products of quantized weights round their other operand to 8 bits.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    for case in cases():
        run = replace(case, inputs=case.same_as or case.inputs)
        session = onnxruntime.InferenceSession(node_model(run).SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = results(run)
        for name, value in zip(names, session.run(names, feeds(run))):
            recorded[f"{case.name}/{name}"] = value
    np.savez_compressed(RECORDED, **recorded)
    print(f"{len(cases())} cases, {RECORDED.stat().st_size} bytes")


def differences(case: Case, recorded, folder: Path, build: Path):
    """What is wrong with each result: nothing, or a text."""
    import onnx

    import shardc

    path = folder / f"{case.name}.onnx"
    onnx.save(node_model(case), path)
    bundle = folder / f"{case.name}.bundle"
    with shardc.compile(path, shardc.CompileOptions(isa=("x86-64-v3",)), bundle, build=build) as program:
        computed = program.run(feeds(case))
    wrong = []
    for name in results(case):
        want, have = defined(case, name, recorded[f"{case.name}/{name}"]), computed[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            wrong.append(f"{name}: {have.dtype}{have.shape}, onnxruntime {want.dtype}{want.shape}")
            continue
        have = defined(case, name, have)
        exact = not np.issubdtype(want.dtype, np.floating)
        error, bound = np.abs(have.astype(np.float64) - want).max(), 0 if exact else case.tolerance * max(1.0, np.abs(want).max())
        if not error <= bound:
            wrong.append(f"{name}: differs by {error:.3g}, allowed are {bound:.3g}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the results of onnxruntime")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.update:
        return update()
    sys.path.insert(0, str(ROOT / "python"))
    recorded, failed = np.load(RECORDED), 0
    for case in cases():
        if options.names and not case.name.startswith(tuple(options.names)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                wrong = differences(case, recorded, Path(folder), options.build)
            except Exception as error:  # a case that does not compile says so, and the others still run
                wrong = [str(getattr(error, "stderr", error))[-600:]]
        failed += bool(wrong)
        print(f"{case.name}: {'; '.join(wrong) or 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
