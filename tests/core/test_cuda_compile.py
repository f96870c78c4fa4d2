"""The CUDA kernels compile without a GPU, and fit the registers of the devices."""

import shutil

import emulated_cuda
import pytest
from gpu_registers import ARCHITECTURES, asked_for, compile_with_nvcc, figures

KERNELS = asked_for()
NEEDS_NVCC = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


def test_every_file_is_compiled_below():
    assert {x.name for x in emulated_cuda.KERNELS.glob("*.cu")} == {file for file, _ in KERNELS}


@NEEDS_NVCC
@pytest.mark.parametrize("file", sorted({file for file, _ in KERNELS}))
def test_kernels_compile(file):
    macros = next(macros for name, macros in KERNELS if name == file)
    compile_with_nvcc(file, macros)


@NEEDS_NVCC
def test_a_broken_kernel_does_not_compile():
    with pytest.raises(AssertionError):
        compile_with_nvcc("stein.cu", ("-Ddouble=half",), ARCHITECTURES[:1])


@NEEDS_NVCC
@pytest.mark.slow
@pytest.mark.parametrize(("file", "macros"), KERNELS, ids=lambda x: "".join(x).replace("-D", " "))
def test_nothing_is_spilled(file, macros):
    """And two blocks at least share a multiprocessor: one loads while another waits."""
    rows = list(figures(file, macros, KERNELS[file, macros]))
    assert {row["architecture"] for row in rows} == set(ARCHITECTURES)
    for row in rows:
        assert row["spilled_bytes"] == 0
        assert row["blocks"] >= 2
