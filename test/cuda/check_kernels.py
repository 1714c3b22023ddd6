"""Runs the generated kernels of a fused module on a fake GPU (test/cuda/fake) and compares them with the reference evaluation of the same functions.

Where a kernel calls cuBLASLt, what the call says is done by numpy.
"""

import functools
import json
import re

import fake_gpu
import numpy as np
from kernels import Failed, run

DTYPES = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": np.uint16, "i1": np.bool_}
DTYPES.update({f"i{bits}": np.dtype(f"int{bits}").type for bits in (8, 16, 32, 64)})
DTYPES.update({f"ui{bits}": np.dtype(f"uint{bits}").type for bits in (8, 16, 32, 64)})
EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}


def from_bf16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


class Tensor:
    """Values in the form that kernels see; bf16 as its bits, bool as bytes."""

    def __init__(self, text):
        *shape, self.element = re.match(r"tensor<(.*)>", text).group(1).split("x")
        self.shape = [int(size) for size in shape]
        self.values = np.zeros(self.shape, DTYPES[self.element])

    def randomise(self, generator):
        if self.element == "i1":
            self.values = generator.random(self.shape) < 0.75
        elif "i" in self.element:
            self.values = generator.integers(0 if self.element[0] == "u" else -1, 8, self.shape).astype(DTYPES[self.element])
        else:
            self.set(generator.uniform(-1, 1, self.shape))

    def set(self, numbers):
        self.values = to_bf16(np.asarray(numbers, np.float32)) if self.element == "bf16" else np.asarray(numbers).astype(DTYPES[self.element])
        self.values = self.values.reshape(self.shape)

    def numbers(self):
        return from_bf16(self.values) if self.element == "bf16" else self.values

    def memory(self):
        return np.ascontiguousarray(self.values).view(np.uint8) if self.element == "i1" else np.ascontiguousarray(self.values)


class KernelFunction:
    """A `func.func private @…` of a fused module, as text."""

    def __init__(self, name, text):
        self.name, self.text = name, text
        signature = text[: text.index(" attributes")] if " attributes" in text.split("\n")[0] else text.split("\n")[0]
        arguments, _, results = signature.partition(") -> ")
        self.arguments = re.findall(r"%\w+: (tensor<[^>]*>)", arguments)
        self.results = re.findall(r"tensor<[^>]*>", results)
        pairs = re.search(r"exec\.in_place = \[([^\]]*)\]", text.split("\n")[0])
        self.in_place = [tuple(map(int, pair)) for pair in re.findall(r"array<i64: (\d+), (\d+)>", pairs.group(1))] if pairs else []


def kernel_functions(text):
    functions = {}
    for match in re.finditer(r"^  func\.func private @(\S+?)\((?:.|\n)*?^  }$", text, re.M):
        if "exec.kernel" in match.group(0).split("\n")[0]:
            functions[match.group(1)] = KernelFunction(match.group(1), match.group(0))
    return functions


def evaluate(tools, function, inputs, work):
    """The reference: the interpreter of graph ops."""
    source = work / "kernel.mlir"
    body = function.text.replace(f"func.func private @{function.name}", "func.func @main", 1)
    source.write_text(body)
    command = [tools / "shard-opt", "--shard-interpret", source]
    for number, tensor in enumerate(inputs):
        np.save(work / f"in{number}.npy", tensor.values)
        command += ["--input", f"arg{number}={work / f'in{number}.npy'}"]
    for number in range(len(function.results)):
        command += ["--output", f"result{number}={work / f'out{number}.npy'}"]
    run(*command)
    results = []
    for number, text in enumerate(function.results):
        tensor = Tensor(text)
        loaded = np.load(work / f"out{number}.npy")
        tensor.values = (loaded.view(np.uint16) if tensor.element == "bf16" else loaded).reshape(tensor.shape)
        results.append(tensor)
    return results


def strided(buffer, batch, sizes, strides):
    """A view in elements, read only."""
    size = buffer.itemsize
    return np.lib.stride_tricks.as_strided(buffer.reshape(-1), [*batch[0], *sizes], [stride * size for stride in [*batch[1], *strides]])


def decoded(array, element):
    return from_bf16(array) if element == "bf16" else array


def store(target, values, element):
    target[...] = to_bf16(values.astype(np.float32)) if element == "bf16" else values


def multiply(call, memory):
    """What cuBLASLt is told to do; `memory` maps an argument to its bytes."""
    m, n, k, batch = call["m"], call["n"], call["k"], call["batch"]

    def view(operand, sizes):
        values = decoded(memory(operand["argument"]).view(DTYPES[operand["dtype"]]), operand["dtype"])
        strides = [operand["row"], operand["column"]]
        assert 1 in strides, f"neither rows nor columns are contiguous: {operand}"
        return strided(values, (batch, operand["batch"]), sizes, strides).astype(np.float64)

    product, d = view(call["a"], [m, k]) @ view(call["b"], [k, n]), call["d"]
    if call["accumulate"]:
        product = product + view({**d, "argument": call.get("c", d["argument"])}, [m, n])
    steps = call["epilogue"].split("_")
    if "gradient" in steps:
        sums = view(call["a"], [m, k]).sum(axis=-1) if steps[-1] == "a" else view(call["b"], [k, n]).sum(axis=-2)
        store(memory(call["bias"]).view(DTYPES[d["dtype"]])[: sums.size], sums, d["dtype"])
    elif "bias" in steps:
        assert d["column"] == 1, "a bias along n needs contiguous rows"
        product = product + decoded(memory(call["bias"]).view(DTYPES[d["dtype"]])[:n], d["dtype"])
    if "aux" in steps:
        target = memory(call["aux"]).view(DTYPES[d["dtype"]])
        store(strided(target, (batch, d["batch"]), [m, n], [d["row"], d["column"]]), product, d["dtype"])
    if "relu" in steps:
        product = np.maximum(product, 0)
    if "gelu" in steps:
        product = product / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (product + 0.044715 * product**3)))
    target = memory(d["argument"]).view(DTYPES[d["dtype"]])
    store(strided(target, (batch, d["batch"]), [m, n], [d["row"], d["column"]]), product, d["dtype"])


def execute(calls, record, function, gpu, module, inputs):
    """Results of these calls of the kernel."""
    results = [Tensor(text) for text in function.results]
    buffers = [np.ascontiguousarray(tensor.memory()).reshape(-1).view(np.uint8).copy() for tensor in [*inputs, *results]]
    for argument, result in function.in_place:
        buffers[len(inputs) + result] = buffers[argument]
    scratch = np.full(record["scratch_bytes"], 0xFF, np.uint8)  # NaN: nothing is read that was not written
    written = set(range(len(inputs), len(buffers))) | {argument for argument, _ in function.in_place}

    def memory(argument):
        return buffers[argument] if isinstance(argument, int) else scratch[argument["scratch"] :]

    for call in calls:
        if call["kind"] == "gemm":
            multiply(call, memory)
        elif call["kind"] == "memset":
            memory(call["argument"])[: call["bytes"]] = 0
        else:
            arguments = call["arguments"]
            may_write = [not isinstance(argument, int) or argument in written for argument in arguments]
            views = [memory(argument) for argument in arguments]
            gpu.launch(module, call["symbol"], call["blocks"], call["threads"], views, may_write, call.get("shared", 0))
    for tensor, buffer in zip(results, buffers[len(inputs) :]):
        tensor.values = buffer.view(DTYPES[tensor.element]).reshape(tensor.shape)
    return results


def difference(got, want):
    """Largest difference in units in the last place of the result's largest value; integers differ or do not."""
    x, y = got.numbers(), want.numbers()
    if got.element not in EPSILON:
        return 0.0 if np.array_equal(x, y) else np.inf
    x, y = x.astype(np.float64), y.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return 0.0
    finite = np.abs(y[np.isfinite(y)])
    scale = finite.max() if finite.size else 0.0
    with np.errstate(invalid="ignore"):
        error = np.abs(x - y)[~same].max()
    return float("inf") if np.isnan(error) or scale == 0 else error / (EPSILON[got.element] * scale)


@functools.cache
def driver(folder):
    return fake_gpu.Driver(folder)


def check(tools, fused, work, arch="sm_80", seed=0):
    """Kernel names and how far each result is from the reference."""
    out = work / "out"
    run(tools / "shard-opt", fused, f"--shard-lower-cuda=arch={arch} output={out}", "-o", "/dev/null")
    gpu = driver(tools.parent / "test/cuda/fake")
    module = gpu.load((out / f"{arch}.ptx").read_text())
    functions, generator = kernel_functions(fused.read_text()), np.random.default_rng(seed)
    distances = {}
    for record in json.loads((out / "kernels.json").read_text())["kernels"]:
        function = functions[record["name"]]
        inputs = [Tensor(text) for text in function.arguments]
        for tensor in inputs:
            tensor.randomise(generator)
        wanted = evaluate(tools, function, inputs, work)
        distances[record["name"]] = []
        for calls in [record["calls"], *([record["otherwise"]] if "otherwise" in record else [])]:
            got = execute(calls, record, function, gpu, module, inputs)
            distances[record["name"]] += [(x.element, difference(x, y)) for x, y in zip(got, wanted)]
    return distances


__all__ = ["Failed", "check", "kernel_functions"]
