"""The build under test, and bundles that need no compiler: their programs are collectives only."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))


def pytest_addoption(parser):
    parser.addoption("--build", default=str(ROOT / "build"), help="CMake build with the tools")


def _built(request, file: str) -> Path:
    build = Path(request.config.getoption("--build"))
    if not (build / file).is_file():
        pytest.skip(f"{build / file} is not built")
    return build


@pytest.fixture
def compiler_build(request) -> Path:
    _built(request, "lib/libshardrt.so")
    return _built(request, "bin/shardc")


@pytest.fixture
def runtime_build(request) -> Path:
    return _built(request, "lib/libshardrt.so")


def safetensors_bytes(tensors: dict[str, tuple[str, np.ndarray]]) -> bytes:
    """A .safetensors file of {name: (dtype, array)}."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture
def write_bundle(tmp_path):
    """Writes bundles on a mesh tp=2 by hand, from their buffers and commands."""

    def write(
        buffers, inputs=(), outputs=(), commands=(), weights=None, parameters=(), entries=None, training=None, **more
    ):
        folder = tmp_path / "test.bundle"
        (folder / "weights").mkdir(parents=True)
        offset, table = 0, []
        for name, dtype, shape, kind, item in buffers:
            size = -(-int(np.prod(shape)) * item // 64) * 64
            table.append(dict(name=name, dtype=dtype, shape=shape, offset=offset, bytes=size, kind=kind))
            offset += size
        axis = [{"axis": 0, "pre": 1, "size": 2}]
        program = dict(version=2, arena={"bytes": offset}, buffers=table)
        program.update(parameters=list(parameters), constants=[], axis_indices=[], groups=[{"axes": axis}])
        program.update(kernels=[])
        main = dict(name="main", inputs=list(inputs), outputs=list(outputs), commands=list(commands))
        program["entries"] = entries or [main]
        program.update(more)
        (folder / "program.json").write_text(json.dumps(program))
        files = [folder / "program.json"]
        if weights:
            (folder / "weights/model.safetensors").write_bytes(safetensors_bytes(weights))
        manifest = dict(format={"major": 1, "minor": 0}, producer="test", model="test", entry_points=[])
        manifest["entry_points"] = [entry["name"] for entry in program["entries"]]
        if training:
            manifest["training"] = training
        manifest.update(mesh={"axes": [{"name": "tp", "size": 2}]}, ranks=2, kernels=[])
        manifest["files"] = [
            dict(path=f.name, bytes=f.stat().st_size, sha256=hashlib.sha256(f.read_bytes()).hexdigest()) for f in files
        ]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return write


@pytest.fixture
def sum_bundle(write_bundle):
    """y = x summed over two ranks: 2 x; z = w, cut in two along its rows, gathered."""
    cut = [[{"axis": 0, "pre": 1, "size": 2}], []]
    x = dict(name="x", buffer=0, dtype="f32", shape=[2, 3], shard=[[], []])
    y = dict(name="y", buffer=1, dtype="f32", shape=[2, 3], shard=[[], []], alias=None)
    z = dict(name="z", buffer=2, dtype="bf16", shape=[3, 2], shard=cut, alias=None)
    return write_bundle(
        buffers=[
            ("x", "f32", [2, 3], "input", 4),
            ("y", "f32", [2, 3], "output", 4),
            ("w", "bf16", [2, 2], "parameter", 2),
        ],
        inputs=[x],
        outputs=[y, z],
        parameters=[
            dict(
                buffer=2, tensor="w", dtype="bf16", shape=[3, 2], segment=None, shard=cut, layout={"kind": "row_major"}
            )
        ],
        commands=[dict(op="all_reduce", group=0, reduce="sum", dtype="f32", src=0, dst=1, count=6)],
        weights={"w": ("BF16", np.array([[0x3F80, 0x4000], [0x4040, 0x4080], [0x40A0, 0x40C0]], np.uint16))},
    )
