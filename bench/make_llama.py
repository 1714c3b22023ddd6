#!/usr/bin/env python3
"""Writes a Llama of any size as ONNX, as torch's exporter does at opset 20: attention, norms and rope in primitive
operators, parameters under their Hugging Face names, module paths in the nodes' metadata. Weights are random, drawn so
that activations and logits stay of order one. Needs onnx and numpy, not torch. Without weights a graph of full size is a
few megabytes: initializers name a file that does not exist.

    python bench/make_llama.py llama.onnx --hidden 512 --layers 8
    python bench/make_llama.py llama-405b.onnx --no-weights --hidden 16384 --layers 126 --heads 128 --kv-heads 8 \\
        --ffn 53248 --vocab 128256 --batch 1 --sequence 2048
"""

import argparse
import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclasses.dataclass
class Config:
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 1408
    vocab: int = 8192
    batch: int = 2
    sequence: int = 128
    seed: int = 0
    has_weights: bool = True

    @property
    def head_dim(self):
        return self.hidden // self.heads


class Graph:
    """Nodes and initializers; every op returns the name of its result."""

    def __init__(self, config):
        self.config = config
        self.nodes, self.initializers, self.constants = [], [], {}
        self.random = np.random.default_rng(config.seed)
        self.modules = [""]
        self.bytes = 0  # of weights that are elsewhere

    def op(self, kind, *inputs, **attributes):
        name = f"{kind.lower()}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes)
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr([*self.modules, name]))
        self.nodes.append(node)
        return name

    def weight(self, suffix, *shape):
        name = f"{self.modules[-1]}.{suffix}"
        if not self.config.has_weights:
            tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
            for key, value in ("location", "weights.bin"), ("offset", self.bytes), ("length", 4 * int(np.prod(shape))):
                tensor.external_data.add(key=key, value=str(value))
            self.bytes += 4 * int(np.prod(shape))
            self.initializers.append(tensor)
            return name
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.1
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        self.initializers.append(numpy_helper.from_array(values if len(shape) > 1 else 1 + values, name))
        return name

    def constant(self, value, dtype=np.int64):
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self.constants:
            self.constants[key] = f"val_{len(self.constants)}"
            self.initializers.append(numpy_helper.from_array(array, self.constants[key]))
        return self.constants[key]

    def module(self, name):
        return _Scope(self, name)


class _Scope:
    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def __enter__(self):
        outer = self.graph.modules[-1]
        self.graph.modules.append(f"{outer}.{self.name}" if outer else self.name)

    def __exit__(self, *_):
        self.graph.modules.pop()


def linear(g, name, x, inputs, outputs):
    with g.module(name):
        return g.op("MatMul", x, g.op("Transpose", g.weight("weight", outputs, inputs), perm=[1, 0]))


def rms_norm(g, name, x):
    with g.module(name):
        square = g.op("Pow", x, g.constant(2, np.float32))
        mean = g.op("ReduceMean", square, g.constant([-1]), keepdims=1, noop_with_empty_axes=0)
        root = g.op("Sqrt", g.op("Add", mean, g.constant(1e-6, np.float32)))
        normed = g.op("Mul", x, g.op("Reciprocal", root))
        return g.op("Mul", g.weight("weight", g.config.hidden), normed)


def split_heads(g, x):
    shape = [g.config.batch, g.config.sequence, -1, g.config.head_dim]
    return g.op("Transpose", g.op("Reshape", x, g.constant(shape), allowzero=1), perm=[0, 2, 1, 3])


def rope(g, x, cos, sin):
    half, axis, end = g.config.head_dim // 2, g.constant([3]), g.constant([2**63 - 1])
    low = g.op("Slice", x, g.constant([0]), g.constant([half]), axis, g.constant([1]))
    high = g.op("Slice", x, g.constant([half]), end, axis, g.constant([1]))
    turned = g.op("Concat", g.op("Neg", high), low, axis=-1)
    return g.op("Add", g.op("Mul", x, cos), g.op("Mul", turned, sin))


def repeat_heads(g, x):
    c = g.config
    groups = [c.batch, c.kv_heads, c.heads // c.kv_heads, c.sequence, c.head_dim]
    return g.op("Expand", g.op("Unsqueeze", x, g.constant([2])), g.constant(groups))


def scaled_dot_product(g, q, k, v, mask):
    c = g.config
    flat = g.op("Reshape", k, g.constant([c.batch * c.heads, c.sequence, c.head_dim]))
    turned = g.op("Transpose", flat, perm=[0, 2, 1])
    turned = g.op("Reshape", turned, g.constant([c.batch, c.heads, c.head_dim, c.sequence]), allowzero=0)
    root = g.constant(c.head_dim**-0.25, np.float32)
    scores = g.op("MatMul", g.op("Mul", q, root), g.op("Mul", turned, root))
    weights = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    weights = g.op("Where", g.op("IsNaN", weights), g.constant(0, np.float32), weights)
    return g.op("MatMul", weights, v)


def attention(g, x, cos, sin, mask):
    c = g.config
    with g.module("self_attn"):
        q = split_heads(g, linear(g, "q_proj", x, c.hidden, c.hidden))
        k = split_heads(g, linear(g, "k_proj", x, c.hidden, c.kv_heads * c.head_dim))
        v = split_heads(g, linear(g, "v_proj", x, c.hidden, c.kv_heads * c.head_dim))
        q, k = rope(g, q, cos, sin), rope(g, k, cos, sin)
        k, v = repeat_heads(g, k), repeat_heads(g, v)
        v = g.op("Reshape", v, g.constant([c.batch, c.heads, c.sequence, c.head_dim]), allowzero=1)
        mixed = g.op("Transpose", scaled_dot_product(g, q, k, v, mask), perm=[0, 2, 1, 3])
        mixed = g.op("Reshape", mixed, g.constant([c.batch, c.sequence, -1]), allowzero=1)
        return linear(g, "o_proj", mixed, c.hidden, c.hidden)


def mlp(g, x):
    c = g.config
    with g.module("mlp"):
        gate = linear(g, "gate_proj", x, c.hidden, c.ffn)
        with g.module("act_fn"):
            gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        up = linear(g, "up_proj", x, c.hidden, c.ffn)
        return linear(g, "down_proj", g.op("Mul", gate, up), c.ffn, c.hidden)


def layer(g, x, cos, sin, mask):
    x = g.op("Add", x, attention(g, rms_norm(g, "input_layernorm", x), cos, sin, mask))
    return g.op("Add", x, mlp(g, rms_norm(g, "post_attention_layernorm", x)))


def tables(g):
    """Rope tables and mask, folded to constants as the exporter does for a static sequence."""
    c = g.config
    frequencies = 10000.0 ** (-np.arange(0, c.head_dim, 2) / c.head_dim)
    angles = np.tile(np.outer(np.arange(c.sequence), frequencies), 2)[None, None]
    hidden = np.triu(np.ones((c.sequence, c.sequence)), 1) > 0
    mask = np.broadcast_to(np.where(hidden, -np.inf, 0), (c.batch, 1, c.sequence, c.sequence))
    return [g.constant(t, np.float32) for t in (np.cos(angles), np.sin(angles), mask)]


def make_llama(config):
    g = Graph(config)
    cos, sin, mask = tables(g)
    with g.module("model"):
        with g.module("embed_tokens"):
            x = g.op("Gather", g.weight("weight", config.vocab, config.hidden), "input_ids", axis=0)
        for n in range(config.layers):
            with g.module(f"layers.{n}"):
                x = layer(g, x, cos, sin, mask)
        x = rms_norm(g, "norm", x)
    linear(g, "lm_head", x, config.hidden, config.vocab)
    g.nodes[-1].output[0] = "logits"
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [config.batch, config.sequence])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [config.batch, config.sequence, config.vocab])
    graph = helper.make_graph(g.nodes, "llama", [ids], [out], g.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="pytorch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("output")
    parser.add_argument("--no-weights", dest="has_weights", action="store_false")
    for field in dataclasses.fields(Config):
        if field.type is int or field.type == "int":
            parser.add_argument("--" + field.name.replace("_", "-"), type=int, default=field.default)
    args = vars(parser.parse_args())
    output = args.pop("output")
    onnx.save(make_llama(Config(**args)), output)


if __name__ == "__main__":
    main()
