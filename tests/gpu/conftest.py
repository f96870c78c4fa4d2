"""The GPU tests skip with a reason; REQUIRE_GPU=1 turns the skip into a failure."""

import os

import pytest


def _reason() -> str | None:
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed (pip install 'lticore[gpu13]')"
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return None if devices else "no CUDA device"


@pytest.fixture
def cupy():
    reason = _reason()
    if reason is None:
        return pytest.importorskip("cupy")
    if os.environ.get("REQUIRE_GPU") == "1":
        pytest.fail(f"REQUIRE_GPU=1, but {reason}")
    pytest.skip(reason)
