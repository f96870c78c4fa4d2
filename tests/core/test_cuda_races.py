"""The CUDA kernels with all their threads at once, and that a broken one is noticed."""

import emulated_cuda
import numpy as np
import pytest

from lticore.equations.cauchy import cauchy_factor_reference, lyapunov_factor_reference
from lticore.equations.modal import diagonal_stein_reference, rotation_stein_reference
from lticore.equations.recurrence import (
    recurrence_adjoint_reference,
    time_varying_recurrence_reference,
)
from lticore.errors import ArrayLibraryError
from lticore.hankel.gradients import rotation_gradient_reference
from lticore.hankel.scales import balancing_exponents_reference, sizes_of_states_reference
from lticore.matrices.factors import hermitian_part_reference, inner_product_reference
from lticore.matrices.geometric_mean import polar_steps_reference
from lticore.systems.rotation import block_poles_reference


def small_tiles(gpu, strips):
    """Several tiles and windows, shared by blocks or in one."""
    gpu._LANES, gpu._GROUPS, gpu._RUN_BYTES, gpu._MANY_STRIPS = 3, 4, 32, strips


def recurrence(gpu, strips=1024, varying=False):
    small_tiles(gpu, strips)
    rng = np.random.default_rng(0)
    u, x0 = rng.standard_normal((2, 150, 2)), rng.standard_normal((2, 2))
    poles = rng.uniform(-1, 1, (2, 150 if varying else 1, 2))
    found = gpu.time_varying_recurrence(poles, u, x0, True)
    yield found, time_varying_recurrence_reference(poles, u, x0, True)
    arguments = poles, u, found, x0, True
    yield from zip(
        gpu.recurrence_adjoint(*arguments), recurrence_adjoint_reference(*arguments), strict=True
    )


def cauchy(gpu):
    gpu._THREADS, gpu._ELIMINATION_BLOCKS, gpu._COLUMNS = 8, 3, 4
    rng = np.random.default_rng(1)
    radius, phase = rng.uniform(0, 0.9, (2, 50)), rng.uniform(-3, 3, (2, 50))
    generator = rng.standard_normal((2, 50, 2)) + 1j * rng.standard_normal((2, 50, 2))
    arguments = radius, phase, generator, 1e-12, 6
    yield np.abs(gpu.cauchy_factor(*arguments)), np.abs(cauchy_factor_reference(*arguments))
    arguments = 1 - radius, phase, generator, 1e-12, 6
    yield np.abs(gpu.lyapunov_factor(*arguments)), np.abs(lyapunov_factor_reference(*arguments))


def stein(gpu):
    gpu._THREADS = 32
    rng = np.random.default_rng(2)
    poles = [f(0, 0.9, (2, count)) for count in (3, 70) for f in (rng.uniform, rng.uniform)]
    Q = rng.standard_normal((2, 3, 70)) + 0j
    yield gpu.diagonal_stein(*poles, Q), diagonal_stein_reference(*poles, Q)
    Q = rng.standard_normal((2, 5, 139))
    poles[1][..., 2:] = poles[3][..., 69:] = 0
    yield gpu.rotation_stein(*poles, Q), rotation_stein_reference(*poles, Q)
    blocks = *poles[2:], rng.uniform(-1, 1, (2, 3))
    yield from zip(gpu.block_poles(*blocks), block_poles_reference(*blocks), strict=True)


def gradient(gpu):
    gpu._SUM_THREADS, gpu._PARTS = 16, 4
    rng = np.random.default_rng(3)
    X, P = (R + R.swapaxes(-1, -2) for R in rng.standard_normal((2, 2, 43, 43)))
    poles = rng.uniform(0, 1, (2, 20)), rng.uniform(0, 3, (2, 20)), rng.uniform(-1, 1, (2, 3))
    arguments = *poles, (X, P), (P, X @ X)
    yield from zip(
        gpu.rotation_gradient(*arguments), rotation_gradient_reference(*arguments), strict=True
    )


def sums(gpu):
    gpu._SUM_THREADS, gpu._PARTS = 16, 4
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((2, 2, 43, 43))
    yield gpu.inner_product(X, Y), inner_product_reference(X, Y)
    yield gpu.sizes_of_states(X, 20), sizes_of_states_reference(X, 20)
    arguments = *rng.uniform(0, 2, (2, 2, 43)), rng.uniform(0, 1, (2, 23))
    yield from zip(
        gpu.balancing_exponents(*arguments), balancing_exponents_reference(*arguments), strict=True
    )


def polar(gpu):
    rng = np.random.default_rng(5)
    X, Y = (R @ R.swapaxes(-1, -2) / 99 for R in rng.standard_normal((2, 2, 43, 43)))
    arguments = X, Y, X @ Y, np.array([1.0, 2.0]), ((-1.5, 0.5, 1.0), (-1.75, 0.2, 0.9))
    yield from zip(gpu.polar_steps(*arguments), polar_steps_reference(*arguments), strict=True)
    yield gpu.hermitian_part(X + 1j * Y), hermitian_part_reference(X + 1j * Y)


RUNS = {
    "gradient": gradient,
    "sums": sums,
    "polar": polar,
    "in-one-block": lambda gpu: recurrence(gpu, strips=0),
    "shared": recurrence,
    "varying": lambda gpu: recurrence(gpu, varying=True),
    "cauchy": cauchy,
    "stein": stein,
}


def check(run, folder, compiler, change=("", "")):
    gpu = emulated_cuda.load(folder, compiler, change)
    for found, expected in run(gpu):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_kernels_with_all_threads_at_once(tmp_path, name):
    if reason := emulated_cuda.reason_not_to_watch():
        pytest.skip(reason)
    check(RUNS[name], tmp_path, emulated_cuda.watched_compiler)


BARRIER = "\n        __syncthreads();\n"
#: name → (run, text of the kernel, what stands there instead)
RACES = {
    "no wait for maps": ("shared", "wait_for(ready + (first + place) * lanes + lane);", ""),
    "no wait for states": ("shared", "wait_for(arrived + (window - 1) * lanes + lane);", ""),
    "no fence before a flag": ("shared", "__threadfence();\n    *(volatile int*)flag", "*flag"),
    "no fence after a flag": ("shared", "flag) {}\n    __threadfence();", "flag) {}"),
    "maps of no lane": ("shared", "if (inside && last) {", "if (last) {"),
    "flag before the map": (
        "shared",
        "maps[tile * lanes + lane] = map;\n            raise(ready + tile * lanes + lane);",
        "raise(ready + tile * lanes + lane);\n            maps[tile * lanes + lane] = map;",
    ),
    "flag before the state": (
        "shared",
        "passed[window * lanes + lane] = apply(map, state);\n"
        "            raise(arrived + window * lanes + lane);",
        "raise(arrived + window * lanes + lane);\n"
        "            passed[window * lanes + lane] = apply(map, state);",
    ),
    "no barrier after runs": ("shared", f"run.map();{BARRIER}", "run.map();\n"),
    "no barrier before the end": (
        "shared",
        f"if (ALONE) state = apply(all, state);{BARRIER}",
        "if (ALONE) state = apply(all, state);\n",
    ),
    "no barrier after the ticket": (
        "shared",
        "atomicAdd(relay.tickets, 1);\n    __syncthreads();",
        "atomicAdd(relay.tickets, 1);",
    ),
    "no fence after sums": ("shared", "= sum;\n        __threadfence();", "= sum;"),
    "no barrier after sums": (
        "shared",
        "        __threadfence();\n        __syncthreads();\n",
        "        __threadfence();\n",
    ),
    "no fence before the last sum": (
        "shared",
        "done + strip, 1);\n            __threadfence();",
        "done + strip, 1);",
    ),
    "no barrier before the sum": (
        "in-one-block",
        ".end = sum;\n    __syncthreads();",
        ".end = sum;",
    ),
    "candidates of the search before": (
        "cauchy",
        "    __syncthreads();\n    shared[threadIdx.x] = mine;",
        "    shared[threadIdx.x] = mine;",
    ),
    "candidates not there yet": ("cauchy", "= mine;\n    __syncthreads();", "= mine;"),
    "candidates halved too soon": ("cauchy", BARRIER, "\n"),
    "all blocks take all states": (
        "cauchy",
        "i = block * THREADS + threadIdx.x; i < n; i += blocks * THREADS) {",
        "i = threadIdx.x; i < n; i += THREADS) {",
    ),
    "sums of the block before": (
        "sums",
        "    __syncthreads();\n    shared[threadIdx.x] = mine;",
        "    shared[threadIdx.x] = mine;",
    ),
    "sums halved too soon": ("gradient", BARRIER, "\n"),
    "parts of a sum not there yet": (
        "sums",
        "partial[blockIdx.x] = sum;\n        __threadfence();",
        "partial[blockIdx.x] = sum;",
    ),
    "parts of a sum looked at too soon": (
        "sums",
        "== PARTS - 1;\n        __threadfence();",
        "== PARTS - 1;",
    ),
    "no barrier before the last part": (
        "sums",
        "    }\n    __syncthreads();\n    if (!last)",
        "    }\n    if (!last)",
    ),
    "a mirror image not there yet": ("polar", "    __syncthreads();\n", ""),
    "all threads take all columns": (
        "stein",
        "long long j = threadIdx.x; j < l; j += blockDim.x",
        "long long j = 0; j < l; ++j",
    ),
    "all threads take all modes": (
        "stein",
        "long long j = threadIdx.x; j < modes_b; j += blockDim.x",
        "long long j = 0; j < modes_b; ++j",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_races_are_noticed(tmp_path, name):
    if reason := emulated_cuda.reason_not_to_watch():
        pytest.skip(reason)
    run, *change = RACES[name]
    with pytest.raises((emulated_cuda.Race, AssertionError)):
        check(RUNS[run], tmp_path, emulated_cuda.watched_compiler, change)


#: Kernels that use memory beside their arrays.
STRAYS = {
    "steps after the last": ("shared", "k < count ? inputs[first", "true ? inputs[first"),
    "stores after the last": (
        "shared",
        "if (k < count) narrow(state, states",
        "narrow(state, states",
    ),
    "a state after the last": (
        "shared",
        "const bool is_last = ends && k == count - 1;",
        "const bool is_last = false;",
    ),
    "a pole before the first": ("varying", "(!ADJOINT || k > 0 || start > 0)", "true"),
    "poles of no lane": ("in-one-block", "poles += lane % poles_count", "poles += lane"),
    "initial states of no lane": (
        "in-one-block",
        "widen(initial[joined % initial_count])",
        "widen(initial[joined])",
    ),
    "a state too many": (
        "cauchy",
        "i < n; i += blocks * THREADS) {",
        "i <= n; i += blocks * THREADS) {",
    ),
    "products of a mode too many": ("gradient", "k < modes; k +=", "k <= modes; k +="),
    "a pole too many": ("stein", "if (at >= count) return;", ""),
    "a mirror image too wide": ("polar", "if (tile.column + k < n && tile.row + j < n)", ""),
    "a part too many": ("sums", "at < n * m;", "at <= n * m;"),
    "a column too many": ("stein", "j < l; j += blockDim.x", "j <= l; j += blockDim.x"),
    "a mode too many": ("stein", "j < modes_b; j += blockDim.x", "j <= modes_b; j += blockDim.x"),
}


@pytest.mark.parametrize("name", STRAYS)
def test_use_of_other_memory_is_noticed(tmp_path, name):
    if reason := emulated_cuda.reason_to_skip():
        pytest.skip(reason)
    run, *change = STRAYS[name]
    # What is read before an array is no number.
    with pytest.raises((emulated_cuda.LeftItsArrays, AssertionError)):
        check(RUNS[run], tmp_path, emulated_cuda.compiler, change)


@pytest.mark.parametrize(
    ("run", "index"),
    [
        ("shared", "const long long strip = ticket"),
        ("shared", "const long long from = lane"),
        ("shared", "const long long left = length"),
        ("cauchy", "const long long k = pivot.state"),
        ("stein", "const long long b = first + j"),
    ],
)
def test_indices_of_32_bits_are_noticed(tmp_path, run, index):
    if reason := emulated_cuda.reason_to_skip():
        pytest.skip(reason)
    change = index, index.replace("long long", "int", 1)
    with pytest.raises(ArrayLibraryError, match=r"conversion from .long long int. to .int. may"):
        check(RUNS[run], tmp_path, emulated_cuda.compiler, change)
