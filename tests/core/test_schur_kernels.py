"""Kernels of equations in Schur forms against their references, and complex forms of real ones."""

import numpy as np
import pytest
import scipy.linalg
from oracles import EPS, adjoint

from lticore.equations.dense import complex_form, triangular_equation_reference
from lticore.equations.hammarling import triangular_factor_reference
from lticore.equations.stability import held_poles_reference
from lticore.kernels.cpu_schur import held_poles, triangular_equation, triangular_factor
from lticore.kernels.cpu_units import scaled
from lticore.systems.signals import scaled_reference

BATCHES = [(), (1,), (3,), (2, 2), (0,)]
SIZES = [(1, 1), (2, 5), (7, 2), (33, 3), (70, 1)]


def random_triangle(rng, batch, n, continuous):
    """Well conditioned: 1 − λ_i conj λ_j and λ_i + conj λ_j stand clear of all else."""
    T = rng.standard_normal((*batch, n, n)) + 1j * rng.standard_normal((*batch, n, n))
    T = 0.3 * np.triu(T, 1) / n
    poles = rng.uniform(0.1, 0.8, (*batch, n)) * np.exp(1j * rng.uniform(-3, 3, (*batch, n)))
    T[..., np.arange(n), np.arange(n)] = poles - 1 if continuous else poles
    return T


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_triangular_factor(n, m, batch, continuous):
    rng = np.random.default_rng(n)
    T = random_triangle(rng, batch, n, continuous)
    B = rng.standard_normal((*batch, n, m)) + 1j * rng.standard_normal((*batch, n, m))
    B[..., n // 2, :] = 0
    poles = np.diagonal(T, axis1=-2, axis2=-1)
    betas = np.sqrt(-2 * poles.real if continuous else 1 - np.abs(poles) ** 2)
    before = T.copy(), B.copy()
    found = triangular_factor(T, B, betas, continuous)
    assert found.shape == (*batch, n, n)
    assert np.array_equal(T, before[0])
    assert np.array_equal(B, before[1])
    for index in np.ndindex(batch):
        R = triangular_factor_reference(T[index], B[index], betas[index], continuous)
        # Of rows of B that fall to nothing rounding decides the direction: the phase of a column.
        X, expected = (F @ adjoint(F) for F in (found[index], R))
        assert np.abs(X - expected).max() <= 100 * n * EPS * np.abs(expected).max()
        assert np.all(np.tril(found[index], -1) == 0)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e200])
def test_directions_of_rows_whose_squares_are_no_numbers(size):
    """ρ = |b|/β, and the row above of b bᴴ counts b as a unit vector."""
    T, B = np.array([[0.5, 0], [0, 0.6]], dtype=complex), np.array([[1.0, 2.0], [3.0, 4.0j]])
    B[1] *= size
    betas = np.sqrt([0.75, 0.64])
    R = triangular_factor(T, B, betas, False)
    assert R[1, 1] == pytest.approx(5 * size / 0.8, rel=4e-3 if size < 1e-308 else 1e-15)
    # X_11 of x⁺ = 0.5 x + [1, 2] u.
    assert np.linalg.norm(R[0]) ** 2 == pytest.approx(5 / 0.75, rel=1e-14)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("n", "l"), [*SIZES, (5, 5)])
def test_triangular_equation(n, l, batch, continuous):
    rng = np.random.default_rng(n)
    T, S = (random_triangle(rng, batch, k, continuous) for k in (n, l))
    F = rng.standard_normal((*batch, n, l)) + 1j * rng.standard_normal((*batch, n, l))
    found = triangular_equation(T, F, S, continuous)
    assert found.shape == (*batch, n, l)
    for index in np.ndindex(batch):
        X = triangular_equation_reference(T[index], F[index], S[index], continuous)
        assert np.abs(found[index] - X).max() <= 100 * max(n, l) * EPS * np.abs(X).max()
        if continuous:
            residual = T[index] @ X + X @ adjoint(S[index]) + F[index]
        else:
            residual = T[index] @ X @ adjoint(S[index]) - X + F[index]
        assert np.abs(residual).max() <= 100 * max(n, l) * EPS * np.abs(X).max()


@pytest.mark.parametrize("n", [1, 2, 3, 8, 41])
def test_complex_forms_of_real_ones(n):
    A = np.random.default_rng(n).standard_normal((n, n))
    T_real, U_real = scipy.linalg.schur(A, output="real")
    T, U = complex_form(T_real, U_real)
    assert np.all(np.tril(T, -1) == 0)
    for X, Y in ((U @ T @ adjoint(U), A), (adjoint(U) @ U, np.eye(n))):
        assert np.abs(X - Y).max() <= 10 * n * EPS * max(1, np.linalg.norm(A))


def test_complex_form_of_a_block_keeps_the_digits_of_its_poles():
    """a ± i √(−bc), however uneven b and c are."""
    block = np.array([[0.25, -(2.0**40)], [2.0**-44, 0.25]])
    T, _ = complex_form(block, np.eye(2))
    assert np.array_equal(np.diagonal(T), [0.25 + 0.25j, 0.25 - 0.25j])


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("batch", BATCHES)
def test_held_poles(batch, continuous):
    """Integrators that rounding has put inside are not held, poles by themselves are."""
    rng, n = np.random.default_rng(0), 6
    T = random_triangle(rng, batch, n, continuous)
    edge = 0.0 if continuous else 1.0
    for state, gap in ((1, 1e-3), (2, 1e-15), (4, 1e-8), (5, 1e-8)):
        T[..., state, state] = edge - gap
    T[..., 4, 5] = 1.0
    near = np.zeros((*batch, n), dtype=bool)
    near[..., [1, 2, 4, 5]] = True
    levels = 16 * EPS * np.linalg.norm(T, axis=(-2, -1))
    start = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    found = held_poles(T, near, levels, start, continuous)
    expected = held_poles_reference(T, near, levels, start, continuous)
    assert np.array_equal(found, expected)
    assert np.array_equal(found, np.broadcast_to(np.arange(n) == 1, found.shape))


def test_powers_of_two_times_arrays():
    """Exact, also where 2^exponent itself is no number."""
    X = np.array([[1.5 * 2.0**-1000, 3 * 2.0**-1000], [2.0**900, 0.0]])
    exponents = np.array([[1500.0], [-1500.0]]), np.array([100.0, -100.0])
    expected = scaled_reference(X, *exponents)
    assert np.array_equal(scaled(X, *exponents), expected)
    assert np.array_equal(scaled(X + 1j * X, *exponents), expected + 1j * expected)
    assert np.array_equal(scaled(X, np.asarray(-5000.0)), 0 * X)
