"""Hankel singular values with correct digits however small, against 120-digit arithmetic."""

import warnings
from functools import cache

import mpmath
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from models import penzl
from oracles import EPS, adjoint, hankel_values_by_mpmath
from strategies import SPECTRA, build_system, seeds

import lticore as lti
from lticore.equations.hammarling import gramian_factors_dense, solve_stein_factor

ORDER = 32


def inner(x, y):
    return sum(mpmath.conj(a) * b for a, b in zip(x, y, strict=True))


def exact_values(poles, b, c, digits=120):
    """√eig(P Q) of the modal system; poles are (radius, phase) pairs, taken as exact."""
    with mpmath.workdps(digits):
        lam = [mpmath.mpf(float(r)) * mpmath.expj(mpmath.mpf(float(t))) for r, t in poles]
        rows, columns = ([[mpmath.mpc(complex(x)) for x in row] for row in X] for X in (b, c.T))
        n = len(lam)
        P, Q = mpmath.matrix(n, n), mpmath.matrix(n, n)
        for i in range(n):
            for j in range(n):
                P[i, j] = inner(rows[j], rows[i]) / (1 - lam[i] * mpmath.conj(lam[j]))
                Q[i, j] = inner(columns[i], columns[j]) / (1 - mpmath.conj(lam[i]) * lam[j])
        squares = mpmath.eig(P * Q, left=False, right=False)
        return np.array(sorted((float(mpmath.sqrt(abs(x))) for x in squares), reverse=True))


def clustered(count):
    gap = np.geomspace(1e-3, 0.03, count)
    return 1 - gap, 0.2 * gap


def diagonal_family(b, c):
    radius, phase = clustered(len(b))
    sys = lti.LTI(lti.Diagonal(radius * np.exp(1j * phase)), b, c)
    return sys, exact_values(zip(radius, phase, strict=True), b, c)


@cache
def clustered_diagonal_family():
    return diagonal_family(np.ones((ORDER, 1)), np.ones((1, ORDER)))


def turned(sys, seed):
    """The dense system behind a random unitary change of coordinates."""
    rng = np.random.default_rng(seed)
    G, _ = np.linalg.qr(rng.standard_normal((sys.order, sys.order, 2)).view(complex)[..., 0])
    dense = sys.to_dense()
    return lti.LTI(G @ dense.A @ adjoint(G), G @ dense.B, dense.C @ adjoint(G))


def chain(n, pole=0.8, coupling=0.15):
    """n equal poles in a row: one Jordan block."""
    A = pole * np.eye(n) + coupling * np.eye(n, k=1)
    return lti.LTI(A, np.eye(n)[:, -1:], np.eye(n)[:1])


def relative_errors(sys, exact):
    return np.abs(lti.hankel_singular_values(sys, accuracy="relative") / exact - 1)


def test_all_values_of_a_clustered_diagonal_system():
    sys, exact = clustered_diagonal_family()
    assert exact[-1] < 1e-26 * exact[0]
    # The poles were rounded to Cartesian form: 1e-16 in gaps of 1e-4 between them.
    assert relative_errors(sys, exact).max() < 1e-8


def test_all_values_of_a_clustered_rotation_system():
    radius, angle = clustered(ORDER // 2)
    sys = lti.LTI(lti.Rotation(radius, angle), np.ones((ORDER, 1)), np.ones((1, ORDER)))
    poles = [(r, sign * a) for sign in (-1, 1) for r, a in zip(radius, angle, strict=True)]
    # Coordinates x_1 ± i x_2 of each block, as complex rows and columns.
    b = np.concatenate([np.full(ORDER // 2, 1 + 1j), np.full(ORDER // 2, 1 - 1j)])[:, None]
    exact = exact_values(poles, b / np.sqrt(2), b.conj().T / np.sqrt(2))
    assert exact[-1] < 1e-20 * exact[0]
    assert relative_errors(sys, exact).max() < 1e-8


@pytest.mark.slow
def test_all_values_with_graded_couplings():
    grades = np.geomspace(1, 1e-10, ORDER)
    sys, exact = diagonal_family(grades[:, None], grades[None, :])
    assert exact[-1] < 1e-40 * exact[0]
    assert relative_errors(sys, exact).max() < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [2, 3])
def test_several_inputs_keep_most_values(inputs):
    rng = np.random.default_rng(0)
    b, c = rng.standard_normal((ORDER, inputs)), rng.standard_normal((inputs, ORDER))
    sys, exact = diagonal_family(b, c)
    assert np.sum(relative_errors(sys, exact) < 0.01) >= 30


@pytest.mark.parametrize("structure", ["complex diagonal", "real diagonal", "rotation"])
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_agrees_with_the_standard_values_where_these_are_good(structure, batch):
    sys = build_system(np.random.default_rng(1), structure, batch=batch)
    standard = lti.hankel_singular_values(sys)
    relative = lti.hankel_singular_values(sys, accuracy="relative")
    np.testing.assert_allclose(relative, standard, rtol=0, atol=1e-12 * standard.max())


def test_missing_directions_give_exact_zeros():
    sys = lti.LTI(lti.Diagonal([0.5, 0.5, 0.2]), [[1.0], [2.0], [0.0]], [[1.0, 1.0, 1.0]])
    sigma = lti.hankel_singular_values(sys, accuracy="relative")
    assert sigma[0] == pytest.approx(3 / 0.75, rel=1e-14)
    assert np.all(sigma[1:] == 0)
    silent = lti.LTI(sys.A, 0 * sys.B, sys.C)
    assert np.all(lti.hankel_singular_values(silent, accuracy="relative") == 0)


def test_max_rank_and_precision():
    sys = build_system(np.random.default_rng(2), "rotation", n=12, m=1, p=1, dtype="float32")
    sigma = lti.hankel_singular_values(sys, accuracy="relative", max_rank=3)
    assert sigma.shape == (3,)
    assert sigma.dtype == np.float32


# --- dense systems ----------------------------------------------------------------------------


@given(seed=seeds(), spectrum=st.sampled_from(SPECTRA), m=st.integers(1, 3))
def test_hammarling_factors_solve_the_equations(seed, spectrum, m):
    sys = build_system(np.random.default_rng(seed), "complex dense", spectrum, n=10, m=m, p=2)
    R, S = gramian_factors_dense(sys.A, sys.B, sys.C)
    assert np.all(np.tril(R, -1) == 0)
    assert np.all(np.triu(S, 1) == 0)
    # In the coordinates of the Schur form the traces stay, and so do the singular values of SᴴR.
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    near = EPS / (1 - sys.spectral_radius)
    for factor, gramian in ((R, P), (S, Q)):
        values = np.linalg.eigvalsh(gramian)
        assert np.linalg.norm(np.linalg.svd(factor)[1] ** 2 - values[::-1]) <= (
            1e3 * max(near, EPS) * max(1, np.linalg.norm(sys.A, 2) ** 2) * values[-1]
        )


@given(seed=seeds(), n=st.integers(1, 12), m=st.integers(1, 3))
def test_triangular_factor_has_a_small_residual(seed, n, m):
    rng = np.random.default_rng(seed)
    T = np.triu(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))) * 0.3
    T[np.diag_indices(n)] = rng.uniform(0, 0.999, n) * np.exp(2j * np.pi * rng.uniform(size=n))
    B = rng.standard_normal((n, m))
    R = solve_stein_factor(T, B)
    X = R @ adjoint(R)
    residual = T @ X @ adjoint(T) - X + B @ adjoint(B)
    scale = max(1, np.linalg.norm(T, 2) ** 2) * np.linalg.norm(X)
    assert np.linalg.norm(residual) <= 100 * EPS * scale


def test_factor_of_hundreds_of_states_that_one_input_reaches():
    """Every state takes its share of the input from those above. What is left falls below 1e-154,
    where its square underflows, for some of them, and must stay right for the others."""
    model = penzl(500)
    sys = lti.discretize(model.A, model.B, model.C, None, model.step, "bilinear")
    T, U = scipy.linalg.schur(sys.A, output="complex")
    B = adjoint(U) @ sys.B
    R = solve_stein_factor(T, B)
    assert np.abs(np.diagonal(R)).min() < 1e-200
    X = R @ adjoint(R)
    residual = T @ X @ adjoint(T) - X + B @ adjoint(B)
    assert np.abs(residual).max() <= 100 * EPS * np.abs(X).max()


@pytest.mark.parametrize("seed", [0, 1])
def test_all_values_of_a_dense_system_with_the_clustered_poles(seed):
    sys, exact = clustered_diagonal_family()
    assert relative_errors(turned(sys, seed), exact).max() < 1e-8


def test_all_values_of_equal_poles_in_a_row():
    """A defective A: nothing to diagonalise."""
    sys = chain(12)
    exact = hankel_values_by_mpmath(sys.A, sys.B, sys.C, digits=100)
    assert relative_errors(sys, exact).max() < 1e-8


def test_uncertain_values_of_dense_systems_are_named():
    """A triangular A whose last values, 2e-64 and 2e-99 of the largest, need more digits."""
    n = 24
    rng = np.random.default_rng(0)
    A = 0.5 * np.eye(n) + 0.1 * np.triu(rng.standard_normal((n, n)), 1)
    sys = lti.LTI(A, np.ones((n, 1)), np.ones((1, n)))
    exact = hankel_values_by_mpmath(sys.A, sys.B, sys.C, digits=220)
    with pytest.warns(lti.PrecisionWarning, match=r"\d of 24 Hankel singular values") as caught:
        errors = relative_errors(sys, exact)
    assert caught[0].filename == __file__
    # The last is wrong by decades, those before by less and less, as the roundings fall.
    assert errors[-1] > 1
    assert np.all(errors[: -int(str(caught[0].message)[0])] < 0.01)


def test_units_of_the_states_of_a_dense_system_do_not_matter():
    """Other orthogonal coordinates mix the states, which must be in comparable units for that."""
    sys = build_system(np.random.default_rng(4), "non-normal", n=8, m=1, p=1)
    t = 2.0 ** (6 * np.arange(8))[:, None]
    scaled = lti.LTI(sys.A * t / t.T, sys.B * t, sys.C / t.T)
    exact = hankel_values_by_mpmath(sys.A, sys.B, sys.C, digits=100)
    assert relative_errors(scaled, exact).max() < 1e-8


def test_a_pole_that_rounding_can_carry_to_the_circle_is_refused():
    """The last pole below 1 leaves the circle in other coordinates: no value is certain then."""
    sys = lti.LTI(np.array([[1 - EPS, 1.0], [0.0, 0.5]]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.UnstableSystemError, match="does not tell from 1"):
        lti.hankel_singular_values(sys, accuracy="relative")


@given(seed=seeds(), structure=st.sampled_from(["dense", "complex dense", "complex diagonal"]))
def test_values_that_come_without_a_warning_are_right(seed, structure):
    sys = build_system(np.random.default_rng(seed), structure, "clustered", n=7, m=2, p=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sigma = lti.hankel_singular_values(sys, accuracy="relative")
    dense = sys.to_dense()
    # Values down to 1e-41 of the largest, from squares.
    exact = hankel_values_by_mpmath(dense.A, dense.B, dense.C, digits=110)
    assert caught or np.all(np.abs(sigma / exact - 1) < 0.02)


def test_values_of_rounding_alone_are_named():
    """Three poles at 0 seen by two outputs: σ_4 = 0, and 1e-17 of the others comes out. Two of
    these agree to 1 % in one of a hundred systems."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        poles = [rng.uniform(0.2, 0.9) * np.exp(1j * rng.uniform(0.1, 3)), 0, 0, 0]
        B, C = (
            rng.standard_normal((*shape, 2)).view(complex)[..., 0] for shape in ((4, 3), (2, 4))
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sys = lti.LTI(lti.Diagonal(poles), B, C)
            sigma = lti.hankel_singular_values(sys, accuracy="relative")
        assert caught or sigma[-1] == 0, seed


def test_what_cannot_be_relatively_accurate_is_refused():
    sys = build_system(np.random.default_rng(3), "rotation")
    with pytest.raises(lti.ArgumentError, match="infinite horizon"):
        lti.hankel_singular_values(sys, accuracy="relative", horizon=5)
    with pytest.raises(lti.ArgumentError, match="accuracy='high'"):
        lti.hankel_singular_values(sys, accuracy="high")


def test_states_that_are_reached_or_observed_but_hardly_both():
    """Blocks at α = π, whose states meet through sin α = 1e-16 only: values of 1e-18 where 1e-56 is
    exact. One input and one output do not keep them from being rounding."""
    radius = np.array([0.589, 0.561, 0.576, 0.854, 0.143])
    B, C = np.zeros((10, 1)), np.zeros((1, 10))
    B[[2, 4, 7], 0] = 4.58e26, 3.33e26, -1.54e26
    C[0, [0, 1, 4, 6, 9]] = -7.4e-6, 8.3e-6, -4.6e-6, 5.3e-6, -6.1e-6
    sys = lti.LTI(lti.Rotation(radius, np.full(5, np.pi)), B, C)
    with pytest.warns(lti.PrecisionWarning, match="are uncertain"):
        lti.hankel_singular_values(sys, accuracy="relative")
