"""The CUDA kernels on a CPU: their text compiled by g++, and what they use of CuPy over NumPy.

``fibers.h`` runs the blocks of a launch one after another, inside this process and between guard
pages; ``threads.h`` runs all at once in a process of its own that ThreadSanitizer watches.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np

import lticore.kernels

from .cublas import cublas
from .guard import Guarded

FOLDER = Path(__file__).parent
KERNELS = Path(lticore.kernels.__file__).parent
#: Indices are of 64 bits: a loss of half of one is an error.
FLAGS = ("-Wall", "-Wconversion", "-Wno-unknown-pragmas", "-Werror")
#: Seconds after which blocks wait for each other in vain.
PATIENCE = 60


class LeftItsArrays(Exception):
    """A kernel reads or writes outside of its arrays."""


class Race(Exception):
    """Threads of a kernel use the same memory in no certain order, or wait for ever."""


def reason_to_skip():
    """Why kernels do not run here, or None."""
    if shutil.which("g++") is None or platform.system() != "Linux":
        return "the kernels run on a CPU through g++ on Linux only"
    return None


def compiler(folder, change=("", "")):
    """``RawModule`` that compiles into ``folder``, with one text in place of another."""

    class RawModule:
        def __init__(self, *, code, options):
            code = changed(code, change)
            names = names_of_kernels(code)
            launchers = (
                f'extern "C" bool launch_{name}'
                "(unsigned int grid, unsigned int block, void** all, unsigned int first)"
                f"{{ return emulation::launch<{name}>(grid, block, all, first); }}\n"
                for name in names
            )
            text = f'#include "{FOLDER / "fibers.h"}"\n{code}\n{"".join(launchers)}'
            library = compile_text(folder, text, (*options, "-O0", "-shared", "-fPIC"), ".so")
            self._library = ctypes.CDLL(str(library))

        def get_function(self, name):
            launch = self._library[f"launch_{name}"]
            launch.restype = ctypes.c_bool
            return functools.partial(run_between_guards, launch)

    return RawModule


def run_between_guards(launch, grid, block, arguments, first_block=0):
    guarded: dict[tuple, Guarded] = {}
    values = []
    for x in arguments:
        if isinstance(x, np.ndarray):
            # What is given twice is worked on in place.
            key = x.ctypes.data if x.size else id(x), x.nbytes
            if key not in guarded:
                guarded[key] = Guarded(x)
            values.append(ctypes.c_void_p(guarded[key].address))
        else:
            # CuPy passes Python integers as 64 bits and floats as double.
            values.append((ctypes.c_double if isinstance(x, float) else ctypes.c_longlong)(x))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(x) for x in values))
    numbers = map(ctypes.c_uint, (grid[0], block[0]))
    stayed = launch(*numbers, pointers, ctypes.c_uint(first_block))
    untouched = [x.give_back() for x in guarded.values()]
    if not stayed or not all(untouched):
        raise LeftItsArrays


def watched_compiler(folder, change=("", "")):
    """The same by all threads at once; a launch raises `Race` where ThreadSanitizer sees one."""

    class RawModule:
        def __init__(self, *, code, options):
            # GCC has no memory for each block of threads.
            shared = r"__shared__ ([\w ]+?) (\w+)((?:\[[^\]]*\])*);"
            into = r"auto& \2 = emulation::shared<\1\3>(__COUNTER__);"
            code = re.sub(shared, into, changed(code, change))
            calls = (
                f'if (!strcmp(name, "{name}")) emulation::launch({name});'
                for name in names_of_kernels(code)
            )
            text = (
                f'#include "{FOLDER / "threads.h"}"\n{code}\n'
                f"static void run_kernel(const char* name) {{ {' '.join(calls)} }}\n"
            )
            watched = ("-fsanitize=thread", "--param", "tsan-distinguish-volatile=1", "-pthread")
            self._program = compile_text(folder, text, (*options, "-O1", "-g", *watched), "")

        def get_function(self, name):
            return functools.partial(run_watched, self._program, name)

    return RawModule


def run_watched(program, name, grid, block, arguments):
    file = program.with_suffix(".arguments")
    words = [struct.pack("qqq", grid[0], block[0], len(arguments))]
    for x in arguments:
        if isinstance(x, np.ndarray):
            words += [struct.pack("q", x.nbytes), x.tobytes()]
        else:
            words += [struct.pack("qd" if isinstance(x, float) else "qq", -1, x)]
    file.write_bytes(b"".join(words))
    # ThreadSanitizer wants its addresses where they are without randomisation.
    command = ["setarch", "-R", str(program), name, str(file)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Race("blocks wait for each other for ever") from None
    if result.returncode:
        raise Race(result.stderr[:2000])
    arrays, at = file.read_bytes(), 0
    for x in arguments:
        if isinstance(x, np.ndarray):
            x.reshape(-1).view(np.uint8)[...] = np.frombuffer(arrays[at : at + x.nbytes], np.uint8)
            at += x.nbytes


@functools.cache
def reason_not_to_watch():
    """Why ThreadSanitizer does not watch kernels here, or None."""
    if reason_to_skip() or shutil.which("setarch") is None:
        return reason_to_skip() or "setarch is not installed"
    command = ["g++", "-fsanitize=thread", "--param", "tsan-distinguish-volatile=1"]
    command += ["-x", "c++", "-", "-o", "/dev/null"]
    result = subprocess.run(command, input="int main() {}", text=True, capture_output=True)
    return "g++ has no ThreadSanitizer" if result.returncode else None


def names_of_kernels(code):
    return re.findall(r"__global__ void (?:__launch_bounds__\(.*?\) )?(\w+)\(", code)


def changed(code, change):
    old, new = change
    assert not old or code.count(old) == 1, f"{code.count(old)} times in the kernel: {old}"
    return code.replace(old, new, 1) if old else code


def compile_text(folder, text, flags, suffix):
    number = len(list(folder.iterdir()))
    source, output = folder / f"{number}.cpp", folder / f"{number}{suffix}"
    source.write_text(text, "utf-8")
    command = ["g++", "-std=c++17", *FLAGS, *flags, str(source), "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return output


def empty(shape, dtype):
    """Filled with ones in every bit, NaN for numbers: what a kernel leaves out is seen."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[...] = 255
    return array


def load(folder, compiler=compiler, change=("", "")):
    """`lticore.kernels.gpu` on NumPy arrays; ``folder`` takes what is compiled."""
    cupy = ModuleType("cupy")
    cupy.__dict__.update(vars(np))
    cupy.RawKernel, cupy.RawModule = object, compiler(folder, change)
    cupy.empty, cupy.empty_like = empty, lambda x: empty(x.shape, x.dtype)
    cupy.fuse = lambda kernel_name: lambda function: function
    cupy.cuda = SimpleNamespace(
        cublas=cublas(),
        device=SimpleNamespace(get_cublas_handle=lambda: 0),
        get_current_stream=lambda: SimpleNamespace(is_capturing=lambda: False),
    )
    spec = importlib.util.spec_from_file_location(
        "lticore.kernels.emulated_gpu", KERNELS / "gpu.py"
    )
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, cupy=cupy):
        spec.loader.exec_module(module)
    module._address = lambda array: array.ctypes.data
    return module
