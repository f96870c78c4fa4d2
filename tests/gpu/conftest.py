"""Tests of CuPy arrays run twice: on the stand-in of tests/cupy_standin in the ordinary suite, and,
marked `gpu`, on a device. These skip with a reason; REQUIRE_GPU=1 turns the skip into a failure."""

import os
from contextlib import contextmanager
from unittest import mock

import cupy_standin
import emulated_cuda
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
def real_cupy():
    reason = _reason()
    if reason is None:
        return pytest.importorskip("cupy")
    if os.environ.get("REQUIRE_GPU") == "1":
        pytest.fail(f"REQUIRE_GPU=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def standin():
    """CuPy without a device; ``standin.DEVICE`` counts what it is asked for."""
    if reason := emulated_cuda.reason_to_skip():
        pytest.skip(reason)
    with cupy_standin.installed():
        yield cupy_standin


ON_BOTH = [pytest.param("standin"), pytest.param("real_cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=ON_BOTH)
def cupy(request):
    found = request.getfixturevalue(request.param)
    return found.cupy if request.param == "standin" else found


@pytest.fixture(params=ON_BOTH)
def device(request):
    """``with device() as place``: tensors on ``place`` are arrays of CuPy to lticore. It is "cuda",
    with the stand-in "cpu"."""
    pytest.importorskip("torch")
    from lticore_torch.ops import bridge

    found = request.getfixturevalue(request.param)

    @contextmanager
    def enter():
        if request.param == "real_cupy":
            yield "cuda"
            return
        with mock.patch.dict(bridge.ARRAYS, cpu=lambda x: found.cupy.from_dlpack(x)):
            yield "cpu"

    return enter
