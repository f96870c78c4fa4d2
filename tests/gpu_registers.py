"""Registers, spills and blocks per multiprocessor of the CUDA kernels, as ptxas has them:
``make gpu-registers`` writes benchmarks/results/gpu-registers.json. Needs nvcc and no device."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import emulated_cuda
import numpy as np

#: Compute capabilities of A100, H100 and H200, B200.
ARCHITECTURES = (80, 90, 100)
#: Registers of a multiprocessor, and the steps in which a thread of a warp gets them.
REGISTERS, STEP = 65536, 8
DTYPES = (np.float32, np.float64, np.complex64, np.complex128)
RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu-registers.json"


def asked_for():
    """(file, macros) of all kernels that lticore/kernels/gpu.py asks for, with the longest runs, to
    the threads of their blocks."""
    found: dict[tuple[str, tuple[str, ...]], int] = {}

    class RawModule:
        def __init__(self, *, code, options):
            (file,) = (x.name for x in emulated_cuda.KERNELS.glob("*.cu") if x.read_text() == code)
            self.key = file, tuple(x for x in options if x.startswith("-D"))

        def get_function(self, name):
            return lambda grid, block, arguments: found.__setitem__(self.key, block[0])

    gpu = emulated_cuda.load(None, lambda *_: RawModule)
    one, columns = np.ones(1), np.ones((1, 1), complex)
    gpu.diagonal_stein(one, one, one, one, columns)
    gpu.cauchy_factor(one, one, columns, 0.0, 1)
    gpu.lyapunov_factor(one, one, columns, 0.0, 1)
    for X in (np.eye(2), np.eye(2) + 0j):
        gpu.inner_product(X, X)
        gpu.hermitian_part(X)
    for states, double, steps, gpu._MANY_STRIPS in itertools.product(
        DTYPES, (False, True), (1, 4096), (0, 1024)
    ):
        kind = np.complex64 if issubclass(states, np.complexfloating) else np.float32
        poles = np.ones((steps, 1), np.result_type(kind, np.float64) if double else kind)
        u = np.ones((4096, 1), states)
        gpu.recur_into(u, poles, u, u[0], False)
        gpu.adjoint_into(u, poles, u, u, u[0], False)
    return found


def compile_with_nvcc(file, macros, architectures=ARCHITECTURES):
    """What ptxas says; raises AssertionError with what nvcc objects to."""
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    command = ["nvcc", "-std=c++17", "-fatbin", "-Xptxas", "-v", *targets, *macros]
    command += [str(emulated_cuda.KERNELS / file), "-o", "/dev/null"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr
    return result.stderr


def figures(file, macros, threads):
    """One row for each kernel of a file and each architecture."""
    pattern = (
        r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<architecture>\d+)'.*?"
        r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers"
    )
    for found in re.finditer(pattern, compile_with_nvcc(file, macros), re.DOTALL):
        registers = int(found["registers"])
        yield {
            "kernel": found["kernel"],
            "macros": " ".join(x.removeprefix("-D") for x in macros),
            "architecture": int(found["architecture"]),
            "registers": registers,
            "spilled_bytes": int(found["stores"]) + int(found["loads"]),
            "blocks": REGISTERS // (-(-registers // STEP) * STEP * threads),
        }


def main():
    rows = [row for (file, macros), n in asked_for().items() for row in figures(file, macros, n)]
    lines = ",\n ".join(json.dumps(row) for row in rows)
    RESULT.write_text(f"[\n {lines}\n]\n", "utf-8")
    print(RESULT)


if __name__ == "__main__":
    main()
