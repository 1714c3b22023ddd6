"""Options of the training tests."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))


def pytest_addoption(parser):
    parser.addoption("--build", default=str(ROOT / "build"), help="CMake build with the tools")
    parser.addoption("--full", action="store_true", help="every combination on every mesh, for every family (an hour)")


@pytest.fixture(scope="session")
def tools(request) -> Path:
    folder = Path(request.config.getoption("--build")).resolve() / "bin"
    for name in ("shardc", "shard-run"):
        if not (folder / name).is_file():
            pytest.skip(f"{folder / name} is not built")
    return folder
