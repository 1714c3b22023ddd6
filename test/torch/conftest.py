"""Options of the torch tests."""

import logging
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded: configurations are given, weights are random
# Some virtual machines announce AMX and then do not have it; references are computed without it everywhere.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def pytest_addoption(parser):
    parser.addoption("--build", default=str(ROOT / "build"), help="CMake build with the tools")
    parser.addoption("--models", default=str(ROOT / "test/fixtures"), help="folder of exported models")
    parser.addoption("--update", action="store_true", help="write the logits that torch computes into the fixtures")


def pytest_generate_tests(metafunc):
    if "fixture_npz" in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption("--models"))
        files = sorted(folder.glob("*/*.npz"))
        metafunc.parametrize("fixture_npz", files, ids=[str(file.relative_to(folder)) for file in files])


@pytest.fixture
def compiler_build(request) -> Path:
    build = Path(request.config.getoption("--build"))
    for file in (build / "bin/shardc", build / "lib/libshardrt.so"):
        if not file.is_file():
            pytest.skip(f"{file} is not built")
    return build
