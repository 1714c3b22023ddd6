"""Copies an exported model as a test fixture: without stack traces, value_info and quoted Python, which are most of a small file.

    python python/tools/strip_fixture.py SOURCE_DIR/llama/static-op20.onnx ... --out test/fixtures

The .npz beside each model (inputs and torch's logits) goes with it, as do config.json and plans.json of its folder.
"""

import argparse
import shutil
from pathlib import Path

import onnx

KEPT_METADATA = {"pkg.torch.onnx.name_scopes"}


def strip(graph) -> None:
    del graph.value_info[:]
    for node in graph.node:
        kept = [(p.key, p.value) for p in node.metadata_props if p.key in KEPT_METADATA]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
        node.doc_string = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for path in args.models:
        folder = args.out / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        model = onnx.load(path)
        strip(model.graph)
        del model.metadata_props[:]
        onnx.save(model, folder / path.name)
        for extra in (path.with_suffix(".npz"), path.parent / "config.json", path.parent / "plans.json"):
            if extra.exists():
                shutil.copyfile(extra, folder / extra.name)
        print(folder / path.name, (folder / path.name).stat().st_size)


if __name__ == "__main__":
    main()
