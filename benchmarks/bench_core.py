"""Structured against dense: what knowing the structure is worth. Run by ``make bench``.

Each group holds one operation at one size; compare its rows. SciPy is the dense reference.
"""

import numpy as np
import pytest
import scipy.linalg

import lticore as lti

SIZES = [64, 128, 256]
WIDTH = 32


def rotation_system(order):
    rng = np.random.default_rng(0)
    q = order // 2
    A = lti.Rotation(rng.uniform(0.5, 0.999, q), rng.uniform(0, np.pi, q))
    return lti.LTI(
        A,
        rng.normal(size=(order, WIDTH)) / np.sqrt(order),
        rng.normal(size=(WIDTH, order)) / np.sqrt(order),
    )


def scipy_gramians(A, B, C):
    P = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
    Q = scipy.linalg.solve_discrete_lyapunov(A.T, C.T @ C)
    return P, Q


def scipy_hankel_values(A, B, C):
    P, Q = scipy_gramians(A, B, C)
    return np.sqrt(np.maximum(np.linalg.eigvals(P @ Q).real, 0))


@pytest.mark.parametrize("order", SIZES)
@pytest.mark.parametrize("method", ["rotation", "dense", "scipy"])
def test_hankel_singular_values(benchmark, method, order):
    sys = rotation_system(order)
    benchmark.group = f"Hankel singular values, n = {order}"
    if method == "scipy":
        dense = sys.to_dense()
        benchmark(scipy_hankel_values, dense.A, dense.B, dense.C)
    else:
        benchmark(lti.hankel_singular_values, sys if method == "rotation" else sys.to_dense())


@pytest.mark.parametrize("order", SIZES)
@pytest.mark.parametrize("method", ["rotation", "dense", "eigh"])
def test_hankel_sum_and_gradient(benchmark, method, order):
    """Beside one symmetric eigendecomposition of the same order, the yardstick of its cost."""
    sys = rotation_system(order)
    benchmark.group = f"Hankel sum and gradient, n = {order}"
    if method == "eigh":
        P = lti.controllability_gramian(sys)
        benchmark(scipy.linalg.eigh, P, driver="evd")
    else:
        benchmark(lti.hankel_sum_and_gradient, sys if method == "rotation" else sys.to_dense())


@pytest.mark.parametrize("order", SIZES)
@pytest.mark.parametrize("method", ["rotation", "dense"])
def test_balanced_truncation(benchmark, method, order):
    sys = rotation_system(order)
    benchmark.group = f"Balanced truncation to n/8, n = {order}"
    sys = sys if method == "rotation" else sys.to_dense()
    benchmark(lti.balanced_truncation, sys, order=order // 8)


@pytest.mark.parametrize("order", [10_000, 30_000, 100_000])
def test_many_states(benchmark, order):
    """One group: three times the states should take three times as long."""
    rng = np.random.default_rng(0)
    radius, angle = 1 - np.geomspace(1e-4, 0.5, order), rng.uniform(-3, 3, order)
    B, C = rng.normal(size=(order, 1)), rng.normal(size=(1, order))
    sys = lti.LTI(lti.Diagonal(radius * np.exp(1j * angle)), B, C)
    benchmark.group = "Hankel singular values of many states, 160 of them"
    benchmark.pedantic(
        lti.hankel_singular_values, (sys,), {"max_rank": 160}, rounds=3, warmup_rounds=1
    )
