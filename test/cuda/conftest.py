"""Options of the tests of the CUDA target."""

from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--build", default="build", help="build directory")


@pytest.fixture(scope="session")
def tools(request):
    return Path(request.config.getoption("--build")).resolve() / "bin"
