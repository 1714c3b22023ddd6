"""The fake GPUs of the build."""

from pathlib import Path

import pytest
from programs import Gpus


@pytest.fixture(scope="session")
def gpus(request):
    build = Path(request.config.getoption("--build")).resolve()
    for name in ("bin/shardc", "bin/shard-run", "test/cuda/fake/libcuda.so.1", "test/cuda/fake/libcublasLt.so.13", "test/cuda/fake/libnccl.so.2"):
        if not (build / name).is_file():
            pytest.skip(f"{build / name} is not built")
    return Gpus(build)
