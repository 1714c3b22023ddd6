"""What generated kernels, library calls and copies move a second, from a trace with the device's times.

A kernel's bytes are those of its buffers, each once: what it has to move at least, unless it reads a part only (gathers)."""

import collections
import json
import statistics

import numpy as np

FLOAT_BYTES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2}


def random_weights(program, path, seed=0):
    """A .safetensors file with every weight that the program names."""
    tensors = {}
    for item in program["parameters"] + [item for bucket in program.get("buckets", []) for item in bucket["items"]]:
        shape, segment = list(item["shape"]), item.get("segment")
        if segment:
            dim, end = segment["dim"], segment["offset"] + segment["size"]
            shape[dim] = max(end, tensors[item["tensor"]][1][dim] if item["tensor"] in tensors else 0)
        tensors[item["tensor"]] = (item["dtype"], shape)
    header, at = {}, 0
    for name, (dtype, shape) in sorted(tensors.items()):
        size = int(np.prod(shape)) * FLOAT_BYTES[dtype]
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    random = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (dtype, shape) in sorted(tensors.items()):
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if len(shape) == 1:
                values += 1
            if dtype == "bf16":
                file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
            else:
                file.write(values.astype({"f64": np.float64, "f16": np.float16}.get(dtype, np.float32)).tobytes())


def copied_bytes(command):
    return 2 * command["bytes"] if command["op"] == "copy" else None


def kernel_table(program, trace, entry):
    """Rows of {name, calls, count, microseconds, bytes, gb_per_s}, the longest first; microseconds are those of one run."""
    commands = next(e for e in program["entries"] if e["name"] == entry)["commands"]
    runs = collections.defaultdict(lambda: collections.defaultdict(list))
    for event in trace["traceEvents"]:
        args = event.get("args", {})
        if event["ph"] == "X" and args.get("entry") == entry and "command" in args:
            runs[args["command"]][event["pid"]].append(event["dur"])
    rows = collections.defaultdict(lambda: {"count": 0, "microseconds": 0.0, "bytes": 0})
    for index, by_rank in runs.items():
        command = commands[index]
        name = program["kernels"][command["kernel"]]["name"] if command["op"] == "launch" else command["op"]
        row = rows[name]
        row["count"] += 1
        row["microseconds"] += statistics.median(by_rank[0])
        if command["op"] == "launch":
            row["calls"] = [call["kind"] for call in program["kernels"][command["kernel"]]["calls"]]
            row["bytes"] += sum(program["buffers"][buffer]["bytes"] for buffer in set(command["buffers"]))
        elif copied := copied_bytes(command):
            row["bytes"] += copied
    for name, row in rows.items():
        row["name"] = name
        row["gb_per_s"] = row["bytes"] / row["microseconds"] * 1e-3 if row["microseconds"] else 0
    return sorted(rows.values(), key=lambda row: -row["microseconds"])
