"""CuPy without a device: its names and signatures over NumPy, and the kernels over a CPU.

What is counted stands in ``DEVICE``; ``installed()`` puts ``cupy`` here in place of the real one.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import array_api_compat
import emulated_cuda
import numpy as np

from .arrays import SIGNATURES, ndarray, unwrapped
from .counts import DEVICE
from .functions import array, asarray, ascontiguousarray, from_dlpack, fuse, module

cupy, linalg, fft, random = map(module, ("cupy", "cupy.linalg", "cupy.fft", "cupy.random"))
cuda, runtime, device = map(ModuleType, ("cupy.cuda", "cupy.cuda.runtime", "cupy.cuda.device"))


class Device:
    def __init__(self, device=None):
        DEVICE.require()
        self.id = getattr(device, "id", DEVICE.current if device is None else device)

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return self.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        self._before, DEVICE.current = DEVICE.current, self.id
        return self

    def __exit__(self, *_):
        DEVICE.current = self._before


class CUDARuntimeError(RuntimeError):
    pass


def empty(shape, dtype=float, order="C"):
    """No numbers, so that what is left out is seen."""
    return ndarray(emulated_cuda.empty(shape, dtype))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return empty(shape or prototype.shape, dtype or prototype.dtype)


class RawModule:
    """Kernels take arrays, integers and floats of Python; a grid of Python's integers."""

    def __init__(self, *, code, options):
        self._module = _compiled(code, options)

    def get_function(self, name):
        kernel = self._module.get_function(name)

        def launch(grid, block, arguments):
            assert all(type(x) is int for x in (*grid, *block))
            assert all(type(x) in (ndarray, int, float) for x in arguments)
            DEVICE.launch(f"kernel {name}")
            kernel(grid, block, [unwrapped(x) for x in arguments])

        return launch


@functools.cache
def _compiled(code, options):
    folder = Path(tempfile.mkdtemp(prefix="cupy-standin-"))
    return emulated_cuda.compiler(folder)(code=code, options=options)


class Stream:
    """The one queue there is; of a captured graph a launch does nothing."""

    ptr = 0

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def is_capturing(self):
        DEVICE.require()
        return DEVICE.capturing

    def synchronize(self):
        DEVICE.wait("stream")

    def begin_capture(self):
        DEVICE.capturing = True

    def end_capture(self):
        DEVICE.capturing = False
        return SimpleNamespace(launch=lambda stream: None)


class Event:
    def record(self, stream=None):
        self.time = time.perf_counter()

    def synchronize(self):
        DEVICE.wait("event")


def _properties(device):
    return {
        "name": b"stand-in",
        "major": 0,
        "minor": 0,
        **dict.fromkeys(("multiProcessorCount", "l2CacheSize", "totalGlobalMem"), 1),
    }


runtime.CUDARuntimeError, runtime.getDeviceCount, runtime.is_hip = (
    CUDARuntimeError,
    lambda: 1,
    False,
)
runtime.getDeviceProperties = _properties
runtime.driverGetVersion = runtime.runtimeGetVersion = lambda: 0
cuda.Device, cuda.runtime, cuda.get_current_stream = Device, runtime, Stream
cuda.Stream, cuda.ExternalStream, cuda.Event = Stream, Stream, Event
cuda.get_elapsed_time = lambda start, end: 1e3 * (end.time - start.time)
cuda.device, device.Device, cuda.__path__ = device, Device, []
device.get_cublas_handle = lambda: 0
cuda.cublas = emulated_cuda.cublas(lambda: DEVICE.launch("matmul"))
vars(cupy).update(
    ndarray=ndarray, asarray=asarray, array=array, ascontiguousarray=ascontiguousarray,
    from_dlpack=from_dlpack, fuse=fuse, empty=empty, empty_like=empty_like, RawModule=RawModule,
    RawKernel=object, linalg=linalg, fft=fft, random=random, cuda=cuda, bool_=np.bool_,
    __version__=SIGNATURES["version"], __path__=[],
)  # fmt: skip
cupy.__all__ = [x for x in vars(cupy) if not x.startswith("_")]
MODULES = {x.__name__: x for x in (cupy, linalg, fft, random, cuda, runtime, device)}
#: Modules that look at CuPy once.
LOOK_ONCE = ("cupy.", "array_api_compat.cupy.", "lticore.kernels.gpu.", "lticore.kernels.host.")


@contextmanager
def installed():
    """``import cupy`` finds this one; the counts begin anew."""
    from lticore import kernels

    def taken():
        names = [x for x in sys.modules if f"{x}.".startswith(LOOK_ONCE)]
        kernels._load.cache_clear()
        # `from array_api_compat import cupy` asks the package before the modules.
        vars(array_api_compat).pop("cupy", None)
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    sys.modules.update(MODULES)
    sys.modules.update(_ours)
    DEVICE.reset()
    try:
        yield cupy
    finally:
        _ours.update(taken())
        sys.modules.update(before)


#: Those modules with this CuPy, from the first use on.
_ours: dict[str, ModuleType] = {}
