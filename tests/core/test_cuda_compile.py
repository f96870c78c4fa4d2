"""The CUDA kernels compile without a GPU, and fit the registers of the devices."""

import itertools
import re
import shutil
import subprocess

import emulated_cuda
import numpy as np
import pytest

ARCHITECTURES = (80, 90, 100)
DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


def asked_for():
    """(file, macros) of all kernels that lticore/kernels/gpu.py asks for, with the longest runs."""
    found = {}

    class RawModule:
        def __init__(self, *, code, options):
            (file,) = (x.name for x in emulated_cuda.KERNELS.glob("*.cu") if x.read_text() == code)
            found[file, tuple(x for x in options if x.startswith("-D"))] = None

        def get_function(self, name):
            return lambda grid, block, arguments: None

    gpu = emulated_cuda.load(None, lambda *_: RawModule)
    one, columns = np.ones(1), np.ones((1, 1), complex)
    gpu.diagonal_stein(one, one, one, one, columns)
    gpu.cauchy_factor(one, one, columns, 0.0, 1)
    gpu.rotation_products(one, one, one[:0], np.eye(2), np.eye(2))
    for X in (np.eye(2), np.eye(2) + 0j):
        gpu.polar_steps(X, X, ((1.0, 1.0, 1.0),))
    for states, double, steps, gpu._MANY_STRIPS in itertools.product(
        DTYPES, (False, True), (1, 4096), (0, 1024)
    ):
        kind = np.complex64 if issubclass(states, np.complexfloating) else np.float32
        poles = np.ones((steps, 1), np.result_type(kind, np.float64) if double else kind)
        u = np.ones((4096, 1), states)
        gpu.recur_into(u, poles, u, u[0], False)
        gpu.adjoint_into(u, poles, u, u, u[0], False)
    return list(found)


KERNELS = asked_for()


def test_every_file_is_compiled_below():
    assert {x.name for x in emulated_cuda.KERNELS.glob("*.cu")} == {file for file, _ in KERNELS}


def compile_with_nvcc(folder, file, macros, architectures):
    """What ptxas says of registers and spills."""
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not installed")
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    command = ["nvcc", "-std=c++17", "-fatbin", "-Xptxas", "-v", *targets, *macros]
    command += [str(emulated_cuda.KERNELS / file), "-o", str(folder / "kernel.fatbin")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr
    return result.stderr


@pytest.mark.parametrize("file", sorted({file for file, _ in KERNELS}))
def test_kernels_compile(tmp_path, file):
    macros = next(macros for name, macros in KERNELS if name == file)
    compile_with_nvcc(tmp_path, file, macros, ARCHITECTURES)


def test_a_broken_kernel_does_not_compile(tmp_path):
    with pytest.raises(AssertionError):
        compile_with_nvcc(tmp_path, "stein.cu", ("-Ddouble=half",), ARCHITECTURES[:1])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "macros"), KERNELS, ids=lambda x: "".join(x).replace("-D", " "))
def test_nothing_is_spilled(tmp_path, file, macros):
    """Two blocks of a recurrence share a multiprocessor: at most 128 of its 65 536 registers are a
    thread's, and all that a thread keeps finds room there."""
    said = compile_with_nvcc(tmp_path, file, macros, ARCHITECTURES)
    spills = re.findall(r"(\d+) bytes spill", said)
    registers = [int(x) for x in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) >= len(ARCHITECTURES)
    assert set(spills) == {"0"}
    assert max(registers) <= 128
