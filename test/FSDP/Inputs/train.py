"""Runs entries of a training program in the interpreter, with weights by name instead of flat buckets.

    train.py MODULE.mlir ENTRY... --weights FILE.json [--input NAME=VALUE]...

The weights are cut and put where the buckets' `parameter` states have them; all other states start at zero. Entries run one after the
other, each on the states that the last one left. Prints every entry's outputs and at the end the weights, whole and by name: what a program
computes, however it lays things out. An input that is given n times has another value in each of the first n runs that take it.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

DTYPES = {"f32": np.dtype("f4"), "f16": np.dtype("f2"), "bf16": np.dtype(ml_dtypes.bfloat16)}


def axes_of(text, sizes):
    """Axes of one dimension, "tp" or "tp":(1)2, with their sizes."""
    return [(name + part, int(part.split(")")[1]) if part else sizes[name]) for name, part in re.findall(r'"(\w+)"(:\(\d+\)\d+)?', text)]


def dims_of(text, sizes):
    return [axes_of(dim, sizes) for dim in re.findall(r"\{(.*?)\}", text)]


class Program:
    def __init__(self, path, tool):
        self.path, self.tool = path, tool
        text = Path(path).read_text()
        mesh = re.search(r"shard\.mesh @\w+ \[(.*?)\]", text).group(1)
        self.sizes = {name: int(size) for name, size in re.findall(r'"(\w+)" = (\d+)', mesh)}
        self.states = {}  # name -> (dtype, elements in the interpreter's view, axes over which it is cut)
        self.arguments = {}  # entry -> names
        for entry, signature in re.findall(r"^  func\.func @(\w+)\((.*)\{$", text, re.MULTILINE):
            arguments = signature.split(") -> (")[0]
            self.arguments[entry] = re.findall(r'(?:graph\.name|shard\.state) = "(.*?)"', arguments)
            for elements, dtype, attributes, name in re.findall(
                r'tensor<(?:(\d+)x)?(\w+)> \{([^{}]*(?:\{[^{}]*\}[^{}]*)*?)shard\.state = "(.*?)"', arguments
            ):
                whole = re.search(r"global_type = tensor<(\d+)x", attributes)
                cut = re.search(r"@mesh, \[(.*?)\]", attributes).group(1)
                self.states[name] = (DTYPES[dtype], int(whole.group(1) if whole else elements or 1), dims_of(cut, self.sizes), bool(elements))
        self.items = []  # bucket, tensor, shape, segment, dims, offset
        for bucket, items in re.findall(r'shard\.bucket @"?([\w./]+?)"? ".*?" \w+ length \d+ .*? of @\w+ \[(.*)\]$', text, re.MULTILINE):
            for item in re.findall(r"\{(offset = .*?tensor<[\dx]*\w+>)\}", items):
                shape = [int(n) for n in re.search(r"type = tensor<([\dx]*)", item).group(1).split("x")[:-1]]
                segment = re.search(r"segment = array<i64: (\d+), (\d+), (\d+)>", item)
                sharding = re.search(r"@mesh, \[(.*?)\]>", item)
                dims = dims_of(sharding.group(1), self.sizes) if sharding else [[] for _ in shape]
                self.items.append((bucket, re.search(r'tensor = "(.*?)"', item).group(1), shape,
                                   [int(n) for n in segment.groups()] if segment else None, dims, int(re.search(r"offset = (\d+)", item).group(1))))

    def parts(self, bucket, shape, dims, offset):
        """Where the parts of a tensor are: slices of the tensor, and of the flat state."""
        _, elements, [cut], _ = self.states["parameter/" + bucket]
        over = [axis for axis in cut if any(axis in dim for dim in dims)]
        length = elements // np.prod([size for _, size in over], dtype=int)
        for coordinates in itertools.product(*(range(size) for _, size in over)):
            at = dict(zip(over, coordinates))
            box, local = [], []
            for size, dim in zip(shape, dims):
                index, count = 0, 1
                for axis in dim:
                    index, count = index * axis[1] + at[axis], count * axis[1]
                step = -(-size // count)
                box.append(slice(min(size, index * step), min(size, (index + 1) * step)))
                local.append(step)
            begin = offset + length * int(np.ravel_multi_index(coordinates, [size for _, size in over]) if over else 0)
            yield tuple(box), local, slice(begin, begin + int(np.prod(local, dtype=int)))

    def segment(self, tensor, segment):
        """The piece of a whole tensor, as a view."""
        if segment:
            tensor = tensor[tuple(slice(segment[1], segment[1] + segment[2]) if d == segment[0] else slice(None) for d in range(tensor.ndim))]
        return tensor

    def pack(self, weights, values):
        for bucket, tensor, shape, segment, dims, offset in self.items:
            whole = self.segment(weights[tensor], segment)
            for box, local, flat in self.parts(bucket, shape, dims, offset):
                padded = np.zeros(local, whole.dtype)
                padded[tuple(slice(0, s.stop - s.start) for s in box)] = whole[box]
                values["parameter/" + bucket][flat] = padded.ravel()

    def unpack(self, weights, values):
        for bucket, tensor, shape, segment, dims, offset in self.items:
            whole = self.segment(weights[tensor], segment)
            for box, local, flat in self.parts(bucket, shape, dims, offset):
                whole[box] = values["parameter/" + bucket][flat].reshape(local)[tuple(slice(0, s.stop - s.start) for s in box)]

    def run(self, entry, inputs, values):
        with tempfile.TemporaryDirectory() as folder:
            command = [self.tool, "--shard-interpret", self.path, "--entry", entry, "--json"]
            states = [name for name in self.arguments[entry] if name in values]
            for name in states:
                file = f"{folder}/{states.index(name)}.npy"
                array = values[name] if self.states[name][3] else values[name][0]
                np.save(file, array.view("u2") if array.dtype == DTYPES["bf16"] else array)
                command += ["--input", f"{name}={file}"]
            for name in self.arguments[entry]:
                if name in inputs:
                    command += ["--input", f"{name}={inputs[name].pop(0) if len(inputs[name]) > 1 else inputs[name][0]}"]
            first = json.loads(self.call(command))["outputs"]
            written = [output["name"] for output in first if output["name"] in values]
            self.call(command + [word for n, name in enumerate(written) for word in ("--output", f"{name}={folder}/out{n}.npy")])
            for n, name in enumerate(written):
                array = np.load(f"{folder}/out{n}.npy").ravel()
                values[name] = array.view(ml_dtypes.bfloat16) if self.states[name][0] == DTYPES["bf16"] else array
            for output in first:
                if output["name"] not in values:
                    print(f"{entry}: {output['name']} = {float(output['values'][0]):g}")

    @staticmethod
    def call(command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("entry", nargs="+")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--input", action="append", default=[])
    options = parser.parse_args()
    program = Program(options.module, "shard-opt")
    inputs = {}
    for text in options.input:
        name, value = text.split("=", 1)
        inputs.setdefault(name, []).append(value)
    weights = {name: np.array(value, "f4") for name, value in json.loads(Path(options.weights).read_text()).items()}
    values = {name: np.zeros(elements, dtype) for name, (dtype, elements, _, _) in program.states.items()}
    program.pack(weights, values)
    for entry in options.entry:
        program.run(entry, inputs, values)
    program.unpack(weights, values)
    for name, value in weights.items():
        print(f"{name} = {json.dumps(value.tolist())}")


if __name__ == "__main__":
    main()
