#!/usr/bin/env python3
"""Fetches onnx.proto, the definition of the ONNX file format, out of the onnx wheel.

    fetch_onnx_proto.py OUTPUT

The definition is somebody else's source and does not belong in this repository; CMake runs this once, at configure time.
Set SHARDC_ONNX_PROTO to a local onnx.proto to do without.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.19.0"  # any from 1.17 on has every field that the importer reads


def fetch(output: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
             "--dest", folder, f"onnx>={VERSION}"],
            check=True)
        wheel = next(pathlib.Path(folder).glob("onnx-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            text = archive.read("onnx/onnx.proto")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    partial.write_bytes(text)
    partial.rename(output)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    fetch(pathlib.Path(sys.argv[1]))
