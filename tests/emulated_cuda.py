"""The CUDA kernels on a CPU: their text compiled by g++, and what they use of CuPy over NumPy."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np

import lticore.kernels

HEADER = Path(__file__).with_name("emulated_cuda.h")
KERNELS = Path(lticore.kernels.__file__).parent


class RawKernel:
    def __init__(self, launch):
        self._launch = launch

    def __call__(self, grid, block, arguments):
        # CuPy passes Python integers as 64 bits and floats as double.
        values = [
            ctypes.c_void_p(x.ctypes.data)
            if isinstance(x, np.ndarray)
            else (ctypes.c_double if isinstance(x, float) else ctypes.c_longlong)(x)
            for x in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(x) for x in values))
        self._launch(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), pointers)


def compiler(folder):
    """``RawModule`` that compiles into ``folder``."""

    class RawModule:
        def __init__(self, *, code, options):
            names = re.findall(r"__global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(", code)
            launchers = (
                f'extern "C" void launch_{name}(unsigned int grid, unsigned int block, void** all)'
                f"{{ emulation::launch<{name}>(grid, block, all); }}\n"
                for name in names
            )
            number = len(list(folder.iterdir()))
            source, library = folder / f"{number}.cpp", folder / f"{number}.so"
            source.write_text(f'#include "{HEADER}"\n{code}\n{"".join(launchers)}', "utf-8")
            flags = ("-O0", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas", "-Werror")
            command = ("g++", *flags, *options, str(source), "-o", str(library))
            subprocess.run(command, check=True)
            self._library = ctypes.CDLL(str(library))

        def get_function(self, name):
            return RawKernel(self._library[f"launch_{name}"])

    return RawModule


def empty(shape, dtype):
    """Filled with ones in every bit, NaN for numbers: what a kernel leaves out is seen."""
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 255
    return array


def load(folder):
    """`lticore.kernels.gpu` on NumPy arrays; ``folder`` takes what is compiled."""
    cupy = ModuleType("cupy")
    cupy.__dict__.update(vars(np))
    cupy.RawKernel, cupy.RawModule = RawKernel, compiler(folder)
    cupy.empty, cupy.empty_like = empty, lambda x: empty(x.shape, x.dtype)
    spec = importlib.util.spec_from_file_location("emulated_gpu", KERNELS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, cupy=cupy):
        spec.loader.exec_module(module)
    return module
