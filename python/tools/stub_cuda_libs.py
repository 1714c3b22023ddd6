"""Makes PyPI's Linux torch wheel importable on a machine without the large nvidia-* wheels.

    pip install --no-deps torch nvidia-cuda-runtime nvidia-cuda-cupti
    python python/tools/stub_cuda_libs.py .venv-torch/lib/python3.11/site-packages

The wheel links against eleven CUDA libraries (2 GB) that CPU work never calls. For each one that is not installed this
writes a tiny library of the same SONAME into nvidia/cu13/lib, where torch looks: every function that torch imports,
under the symbol version that it asks for, returning 100 (cudaErrorNoDevice). So torch.cuda.is_available() is False.

Two must be real, and are small: the CUDA runtime (torch reads error strings and stream state from it; a stub makes it
crash) and CUPTI. The driver, libcuda.so.1, must stay absent: its absence is what says that there is no GPU.

Needs readelf, nm and a C compiler (the variable CC, otherwise cc).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

DRIVER = "libcuda.so.1"
SYSTEM_LIBRARY = re.compile(r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|util|gomp|gfortran|quadmath|z)|ld-linux[-\w]*)\.so")
# Undefined symbols without a version may come from anywhere; these prefixes belong to the CUDA libraries.
CUDA_SYMBOL = re.compile(
    r"_*cuda|cu[A-Z]|cu(blas|dnn|fft|sparse|solver|pti)|nccl|nvrtc|nvJitLink|nvtx|nvml|(_Z.*)?nvshmem"
)
NO_DEVICE = 100


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed_by(library: Path) -> set[str]:
    """SONAMEs that the library is linked against."""
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", output_of("readelf", "-dW", str(library))))


def wanted_versions(library: Path) -> dict[str, set[str]]:
    """Per SONAME, the symbol versions that the library requires of it."""
    versions, file = defaultdict(set), None
    for line in output_of("readelf", "-VW", str(library)).splitlines():
        if match := re.search(r"File: (\S+)", line):
            file = match[1]
        elif file and (match := re.search(r"Name: (\S+)\s+Flags", line)):
            versions[file].add(match[1])
    return versions


def symbols_of(library: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Names that the library defines, and (name, version or "") of those that it imports."""
    defined, imported = set(), set()
    for line in output_of("nm", "-D", "--with-symbol-versions", str(library)).splitlines():
        *_, kind, symbol = line.split()
        name, _, version = symbol.replace("@@", "@").partition("@")
        if kind == "U":
            imported.add((name, version))
        elif kind not in "wv":
            defined.add(name)
    return defined, imported


def write_stub(path: Path, versions: dict[str, list[str]]) -> None:
    """A shared library of that name; `versions` maps a symbol version ("" for none) to its functions."""
    functions = [name for names in versions.values() for name in names]
    source = "".join(f"long {name}(void) {{ return {NO_DEVICE}; }}\n" for name in functions)
    script = "".join(
        f"{version} {{ {'global: ' + ' '.join(name + ';' for name in names) if names else ''} }};\n"
        for version, names in versions.items()
        if version
    )
    with tempfile.TemporaryDirectory() as directory:
        code, version_map = Path(directory, "stub.c"), Path(directory, "stub.map")
        code.write_text(source)
        version_map.write_text(script)
        compiler = os.environ.get("CC", "cc")
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-w",
            "-fno-builtin",
            f"-Wl,-soname,{path.name}",
            str(code),
            "-o",
            str(path),
        ]
        subprocess.run(command + ([f"-Wl,--version-script={version_map}"] if script else []), check=True)


def write_stubs(site_packages: Path) -> list[str]:
    """Stubs for what torch needs and nobody has; returns their names."""
    libraries = sorted((site_packages / "torch/lib").glob("*.so*"))
    if not libraries:
        raise SystemExit(f"error: {site_packages}/torch/lib holds no libraries; install torch there first")
    present = {library.name for library in libraries} | {
        path.name for path in (site_packages / "nvidia").rglob("*.so*")
    }
    needed = set().union(*map(needed_by, libraries))
    missing = sorted(name for name in needed - present - {DRIVER} if not SYSTEM_LIBRARY.match(name))

    defined, imported, wanted = set(), set(), defaultdict(set)
    for library in libraries:
        own, foreign = symbols_of(library)
        defined |= own
        imported |= foreign
        for name, versions in wanted_versions(library).items():
            wanted[name] |= versions
    names_of = defaultdict(list)
    for name, version in sorted(imported):
        if name not in defined:
            names_of[version].append(name)
    unversioned = [name for name in names_of[""] if CUDA_SYMBOL.match(name)]

    target = site_packages / "nvidia/cu13/lib"
    target.mkdir(parents=True, exist_ok=True)
    for name in missing:
        write_stub(target / name, {"": unversioned, **{version: names_of[version] for version in sorted(wanted[name])}})
        unversioned = []  # one library is enough: such a symbol may come from any
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site_packages", type=Path)
    stubs = write_stubs(parser.parse_args().site_packages)
    print(f"{len(stubs)} stubs: " + ", ".join(stubs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
