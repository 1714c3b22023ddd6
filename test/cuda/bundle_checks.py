"""What docs/contracts.md §6 promises of a bundle for GPUs, checked without one: every call stays inside of what it works on."""

import json
import math
import re

BYTES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "bool": 1, "f8E4M3FN": 1, "f8E5M2": 1}
BYTES.update({f"{sign}{bits}": bits // 8 for sign in ("i", "ui") for bits in (8, 16, 32, 64)})


class Wrong(Exception):
    """The bundle breaks a promise."""


def expect(condition, message):
    if not condition:
        raise Wrong(message)


def parameters_of(ptx):
    """Number of parameters of each kernel."""
    return {name: body.count(".param") for name, body in re.findall(r"\.entry (\w+)\(([^)]*)\)", ptx)}


class Bundle:
    def __init__(self, path):
        self.path = path
        self.manifest, self.program = (json.loads((path / name).read_text()) for name in ("manifest.json", "program.json"))
        self.buffers, self.ranges = self.program["buffers"], self.program["cuda"]
        texts = [(path / image["file"]).read_text() for image in self.manifest["kernels"] if image["format"] == "ptx"]
        self.parameters = parameters_of(texts[0]) if texts else None
        self.ptx = "\n".join(texts)

    def commands(self):
        return [command for commands in [self.program["init"], *(entry["commands"] for entry in self.program["entries"])] for command in commands]

    def bytes_at(self, command, argument):
        """Bytes that a call may touch there."""
        if isinstance(argument, int):
            expect(0 <= argument < len(command["buffers"]), f"argument {argument} of a command with {len(command['buffers'])} buffers")
            return self.buffers[command["buffers"][argument]]["bytes"]
        return self.ranges["scratch"]["bytes"] - argument["scratch"]

    def check_matrix(self, call, command, matrix, sizes, what):
        strides = [matrix["row"], matrix["column"]]
        for own, other, size in ((strides[0], strides[1], sizes[1]), (strides[1], strides[0], sizes[0])):
            if other == 1 and own >= size:
                break
        else:
            raise Wrong(f"{what}: strides {strides} of a {sizes[0]} x {sizes[1]} matrix")
        extents = [*zip([*sizes, *call["batch"]], [*strides, *matrix["batch"]], strict=True)]
        needed = (1 + sum((size - 1) * stride for size, stride in extents)) * BYTES[matrix["dtype"]]
        given = self.bytes_at(command, matrix["argument"])
        expect(needed <= given, f"{what} needs {needed} bytes, there are {given}")
        place = matrix["argument"]
        expect(not (isinstance(place, int) and self.is_on_host(self.buffers[command["buffers"][place]])), f"in the machine's memory: {what} of {call}")
        if "scale" in matrix:
            expect(matrix["dtype"].startswith("f8") and self.bytes_at(command, matrix["scale"]) >= 4, f"scale of {what}: {matrix}")

    def check_call(self, call, command):
        if call["kind"] == "launch":
            expect(0 < call["threads"] <= 1024 and call["threads"] % 32 == 0 and 0 < call["blocks"] < 2**31, f"grid of {call}")
            for argument in call["arguments"]:
                self.bytes_at(command, argument)
            if self.parameters is not None:
                given, wanted = len(call["arguments"]), self.parameters.get(call["symbol"])
                expect(given == wanted, f"{call['symbol']} has {wanted} parameters, {given} are given")
        elif call["kind"] == "gemm":
            m, n, k = call["m"], call["n"], call["k"]
            for name, sizes in (("a", (m, k)), ("b", (k, n)), ("d", (m, n))):
                self.check_matrix(call, command, call[name], sizes, name)
            if "c" in call:
                expect(call["accumulate"], f"c without accumulate: {call}")
                self.check_matrix(call, command, {**call["d"], "argument": call["c"]}, (m, n), "c")
            if "aux" in call["epilogue"]:
                self.check_matrix(call, command, {**call["d"], "argument": call["aux"]}, (m, n), "aux")
            if "bias" in call["epilogue"]:
                count = m if call["epilogue"] == "bias_gradient_a" else n
                expect(count * BYTES[call["d"]["dtype"]] <= self.bytes_at(command, call["bias"]), f"bias of {call}")
        else:
            expect(call["kind"] == "memset" and call["bytes"] <= self.bytes_at(command, call["argument"]), f"{call}")

    def is_on_host(self, buffer):
        return "host" in self.ranges and buffer["offset"] >= self.ranges["host"]["offset"]

    def check_host(self):
        """The machine's memory: behind the arena, states alone, no product and no collective works there but gathers into whole buffers."""
        host = self.ranges.get("host", {"offset": self.program["arena"]["bytes"], "bytes": 0})
        expect(host["offset"] == self.program["arena"]["bytes"] and host["bytes"] == self.manifest["memory"]["host_bytes"], f"range host: {host}")
        states = [buffer for buffer in self.buffers if self.is_on_host(buffer) and buffer["kind"] == "state"]
        for buffer in filter(self.is_on_host, self.buffers):
            inside = any(s["offset"] <= buffer["offset"] and buffer["offset"] + buffer["bytes"] <= s["offset"] + s["bytes"] for s in states)
            expect(inside and buffer["kind"] in ("state", "temporary"), f"no state, and in the machine's memory: {buffer}")
        for command in self.commands():
            if "group" in command:
                ranks = math.prod(axis["size"] for axis in self.program["groups"][command["group"]]["axes"])
                gathers = command["op"] == "all_gather" and command["outer"] == 1 and command["inner"] * ranks == command["total"] and ranks > 1
                for side in ("src", "dst"):
                    reads = gathers and side == "src"
                    expect(reads or not self.is_on_host(self.buffers[command[side]]), f"in the machine's memory: {side} of {command}")

    def check(self):
        arena = self.program["arena"]["bytes"]
        expect(self.program["target"] == "cuda" == self.manifest["target"], "target")
        for name in ("scratch", "workspace", "staging"):
            place = self.ranges[name]
            expect(place["offset"] % 256 == 0 and place["offset"] + place["bytes"] <= arena, f"range {name}: {place}")
        self.check_host()
        for buffer in self.buffers:
            end = self.ranges["host"]["offset"] + self.ranges["host"]["bytes"] if self.is_on_host(buffer) else self.ranges["scratch"]["offset"]
            expect(buffer["offset"] % 64 == 0 and buffer["offset"] + buffer["bytes"] <= end, f"{buffer}")
        for image in self.manifest["kernels"]:
            expect((self.path / image["file"]).stat().st_size > 0, f"{image}")
            expect(image.get("resources", {}).get("spill_bytes", 0) == 0, f"registers are spilled: {image}")
        atomic = re.search(r"^\s*(@\S+ )?(atom|red)\.\S+", self.ptx, re.M)
        expect(not atomic, f"results depend on who comes first: {atomic and atomic.group(0).strip()}")
        launches = [command for command in self.commands() if command["op"] == "launch"]
        for command in launches:
            expect("tiles" not in command and "scratch" not in command, f"{command}")
            kernel = self.program["kernels"][command["kernel"]]
            for call in kernel["calls"] + kernel.get("otherwise", []):
                self.check_call(call, command)
        return len(launches)
