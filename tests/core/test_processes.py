"""Kernels in forked processes and in several Python threads at once.

Each test is a fresh interpreter, since what a process did before is what matters, with two threads
for Numba whatever the machine has, and ends after a minute where it would hang.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(code, threads=2):
    """Output of ``code``, which may call what tests/processes.py defines."""
    environment = os.environ | {"NUMBA_NUM_THREADS": str(threads)}
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    result = subprocess.run(
        [sys.executable, "-c", f"from processes import *\n{code}"],
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@needs_fork
@pytest.mark.parametrize("threads", [1, 2])
def test_pools_after_parallel_kernels(threads):
    """Parallel kernels have run in the parent; then children run small and large systems."""
    code = """
import multiprocessing
for work in LARGE:
    work()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(*pool.map_async(call, [*SMALL, *LARGE]).get(280))
for work in LARGE:
    print(work())
"""
    assert set(run(code, threads)) == {"right"}


@needs_fork
def test_children_of_children_of_a_fork():
    code = """
large_recurrence()
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(large_recurrence() != "right")
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert run(code) == ["0"]


@needs_fork
def test_data_loader_workers():
    pytest.importorskip("torch")
    code = """
import torch
class Set(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return call((*SMALL, *LARGE)[index % 6])
for work in LARGE:
    work()
torch.ones(1 << 20).exp().sum()  # threads of torch's own
loader = torch.utils.data.DataLoader(
    Set(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=280
)
print(*sum(loader, []))
"""
    assert run(code) == ["right"] * 8


def test_several_threads_at_once():
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(call, 5 * (*SMALL, *LARGE)))
"""
    assert set(run(code)) == {"right"}


def test_small_systems_start_no_threads():
    code = """
from numba.np.ufunc import parallel
for work in SMALL:
    print(work())
print(parallel._is_initialized)
large_recurrence()
print(parallel._is_initialized)
"""
    assert run(code) == ["right"] * 3 + ["False", "True"]


def test_results_do_not_depend_on_the_number_of_threads():
    assert len({tuple(run("print(digest())", threads)) for threads in (2, 5)}) == 1


def test_one_thread_gives_what_many_give():
    """To rounding: there the text is compiled another time, and not every processor gets the same.

    One rounding of B or C moves the least certain of these numbers, derivatives of the sum of
    Hankel singular values by 310 poles, by 8e-13; every text makes some tens of roundings.
    """
    assert float(run("print(difference())")[0]) < 1e-10
