"""The build under test."""

from pathlib import Path


def pytest_addoption(parser):
    default = Path(__file__).resolve().parents[2] / "build"
    parser.addoption("--build", default=str(default), help="CMake build with the tools")
