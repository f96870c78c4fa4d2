"""One notion of stable: every function asks the same question of a system."""

import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from oracles import EPS
from strategies import random_unitary

import lticore as lti
from lticore.equations.stability import stable_poles

INFINITE = {
    "controllability_gramian": lti.controllability_gramian,
    "observability_gramian": lti.observability_gramian,
    "gramian_factors": lti.gramian_factors,
    "hankel_singular_values": lti.hankel_singular_values,
    "relative": lambda sys: lti.hankel_singular_values(sys, accuracy="relative"),
    "hankel_norm": lti.hankel_norm,
    "hankel_sum": lti.hankel_sum,
    "hankel_sum_and_gradient": lti.hankel_sum_and_gradient,
    "h2_norm": lti.h2_norm,
    "h2_error": lambda sys: lti.h2_error(sys, sys),
    "hinf_norm": lti.hinf_norm,
    "balanced_truncation": lambda sys: lti.balanced_truncation(sys, order=1),
    "modal_truncation": lambda sys: lti.modal_truncation(sys, 2),
    "h2_reduction": lambda sys: lti.h2_reduction(sys, 2),
}


@pytest.mark.parametrize("name", INFINITE)
def test_undamped_oscillations_are_unstable_for_every_function(name):
    """x'' + x = u sampled: det A = 1, so both poles have modulus 1, whatever eigenvalues say."""
    for T in np.random.default_rng(1).uniform(0, np.pi, 300):
        A = np.array([[2 * np.cos(T), 1], [-1, 0]])
        sys = lti.LTI(A, np.ones((2, 1)), np.array([[1.0, 0.0]]))
        with pytest.raises(lti.UnstableSystemError, match=r"mode [01] has modulus (1|0\.9999)"):
            INFINITE[name](sys)


@pytest.mark.parametrize("n", [2, 6, 20, 60])
def test_poles_on_the_circle_are_found_in_all_orthogonal_coordinates(n):
    rng = np.random.default_rng(n)
    radius = np.concatenate([[1.0], rng.uniform(0.1, 0.95, n // 2 - 1)])
    for _ in range(20):
        A = lti.Rotation(radius, rng.uniform(0, np.pi, n // 2)).to_dense()
        Q = random_unitary(rng, (), n)
        gaps, stable = stable_poles(Q @ A @ Q.T)
        assert np.all(np.abs(gaps[~stable]) <= 100 * EPS * np.sqrt(n))
        assert np.sum(~stable) == 2


@pytest.mark.parametrize("chain", [2, 3])
def test_integrators_that_rounding_splits_are_found_together(chain):
    """A chain of k integrators is split into 1 + O(eps^{1/k})."""
    rng = np.random.default_rng(chain)
    A = np.diag([1.0] * chain + [0.9, 0.6, -0.4]) + np.diag([0.1] * (chain - 1) + [0] * 3, 1)
    for _ in range(60):
        Q = random_unitary(rng, (), len(A))
        assert np.sum(~stable_poles(Q @ A @ Q.T)[1]) == chain


@pytest.mark.parametrize("shear", [1.0, 1e3, 1e6])
def test_the_threshold_grows_with_the_condition_of_the_pole(shear):
    """[[r, s], [0, 0]]: the pole r has κ = √(1 + (s/r)²), and ‖A‖ is about κ too."""
    # Powers of two cannot balance a matrix that is turned.
    Q = random_unitary(np.random.default_rng(0), (), 2)
    for share, expected in ((0.1, False), (10, True)):
        gap = share * 16 * EPS * (1 + shear**2)
        assert stable_poles(Q @ np.array([[1 - gap, shear], [0, 0]]) @ Q.T)[1].all() == expected


def test_a_stable_pole_behind_an_integrator_is_stable():
    """The nearest point of the circle is a pole itself."""
    Q = random_unitary(np.random.default_rng(0), (), 3)
    gaps, stable = stable_poles(Q @ np.diag([1.0, 1 - 1e-9, 0.99]) @ Q.T)
    assert np.sort(gaps[stable]) == pytest.approx([1e-9, 0.01], abs=1e-14)


@pytest.mark.parametrize("n", [4, 40])
def test_normal_matrices_next_to_the_circle_are_stable(n):
    """Radius 1 − 1e-9 behind an orthogonal matrix: the h2 norm of a mode is |b||c|/√(1 − ρ²)."""
    rng = np.random.default_rng(0)
    radius = np.concatenate([[1 - 1e-9], np.full(n // 2 - 1, 0.5)])
    A = lti.Rotation(radius, rng.uniform(0.5, 2.5, n // 2)).to_dense()
    B = np.zeros((n, 2))
    B[:2] = np.eye(2)
    Q = random_unitary(rng, (), n)
    sys = lti.LTI(Q @ A @ Q.T, Q @ B, B.T @ Q.T)
    # The gap is known to the rounding of A, and the norm has half its relative error.
    rel = 8 * EPS * np.linalg.norm(A) / 1e-9
    assert lti.h2_norm(sys) == pytest.approx(np.sqrt(2 / ((1 - radius[0]) * (2 - 1e-9))), rel=rel)
    assert stable_poles(sys.A)[1].all()


def test_structures_hold_their_poles_exactly():
    radius = 1 - EPS / 2
    for A in (lti.Diagonal([radius, 0.5]), lti.Rotation([], [], [radius, 0.5])):
        sys = lti.LTI(A, np.array([[1.0], [0.0]]), np.array([[1.0, 0.0]]))
        gap = EPS / 2
        assert lti.h2_norm(sys) == pytest.approx(1 / np.sqrt(gap * (2 - gap)), rel=1e-14)
    with pytest.raises(lti.UnstableSystemError):
        lti.h2_norm(lti.LTI(np.diag([radius, 0.5]), np.ones((2, 1)), np.ones((1, 2))))


def test_moduli_next_to_one_fall_on_the_side_of_the_exact_ones():
    """Numbers next to the circle, whose |λ|² is compared with 1 in fractions."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, 2000)
    poles = (1 - EPS * rng.integers(-2, 4, 2000) / 2) * np.exp(1j * angle)
    exact = np.array([Fraction(z.real) ** 2 + Fraction(z.imag) ** 2 < 1 for z in poles])
    gaps, stable = stable_poles(lti.Diagonal(poles))
    assert np.sum(exact & (np.abs(poles) >= 1)) + np.sum(~exact & (np.abs(poles) < 1)) > 100
    np.testing.assert_array_equal(stable, exact)
    np.testing.assert_array_equal(gaps > 0, exact)
    np.testing.assert_allclose(gaps, 1 - np.abs(poles), atol=2 * EPS, rtol=0)
    on_circle = lti.LTI(lti.Diagonal(poles[~exact][:1]), [[1.0]], [[1.0]])
    assert on_circle.spectral_radius >= 1
    # Inside, though its modulus rounds to 1: the largest one below 1 stands for it.
    inside = lti.LTI(lti.Diagonal(poles[exact & (np.abs(poles) >= 1)][:1]), [[1.0]], [[1.0]])
    assert lti.hinf_norm(inside) == pytest.approx(2 / EPS, rel=1e-7)
    assert lti.hankel_norm(inside) == pytest.approx(1 / EPS, rel=1e-7)


@pytest.mark.parametrize("name", INFINITE)
def test_groups_of_states_in_series_answer_each_for_itself(name):
    """Twenty poles of a filter 0.0006 to 0.004 inside the circle, in ten sections: rounding of a
    matrix without zeros would carry them across, and rounding of these carries none."""
    for design in (
        scipy.signal.ellip(10, 1, 40, [0.3, 0.31], "bandpass", output="zpk"),
        scipy.signal.butter(10, [0.3, 0.31], "bandpass", output="zpk"),
    ):
        sys = lti.from_zpk(*design)
        gaps, stable = stable_poles(sys.A)
        assert stable.all()
        radii = np.sort(np.abs(design[1]))
        assert np.sort(1 - gaps) == pytest.approx(radii, abs=4 * EPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.PrecisionWarning)
            INFINITE[name](sys)


@pytest.mark.parametrize("unit", [1.0, 2.0**40, 2.0**-40])
def test_groups_of_any_rate_have_gaps_of_their_own(unit):
    """Twenty damped states of rates 2^−100 to 2^90, each beside one that it feeds: the slow ones
    are as stable as the fast ones, though the fast ones round by more than the slow ones move."""
    rates = unit * 2.0 ** np.arange(-100, 100, 10)
    A = np.diag(-rates) + np.diag(np.full(19, unit), 1)
    gaps, stable = stable_poles(A, continuous=True)
    assert stable.all()
    np.testing.assert_array_equal(gaps, rates)


def test_triangular_matrices_far_inside_are_stable_whatever_their_couplings():
    """Nilpotent: no rounding of A carries its poles anywhere near, though ‖A‖ = 1e6."""
    A = np.diag([1e6, 1e6], 1)
    assert stable_poles(A)[1].all()


def multiple_poles(m):
    """The companion form of (z² + 1/4)^m: poles at ±i/2 that rounding moves by eps^{1/m}."""
    p = np.zeros(2 * m + 1)
    p[::2] = [math.comb(m, k) / 4.0**k for k in range(m + 1)]
    return np.vstack([-p[None, 1:], np.eye(2 * m)[:-1]])


@pytest.mark.parametrize("m", [12, 16, 20])
@pytest.mark.parametrize("adjoint", [False, True])
def test_units_of_signals_make_no_system_unstable(m, adjoint):
    """Poles of modulus 1/2, which an input into the first state takes beyond the circle in the
    units that it asks for: those of A alone are taken then, by the functions of sums and bands too.
    The values are those of a Hankel matrix of Markov parameters, which are sums of products."""
    A, n = multiple_poles(m), 2 * m
    B, C = np.eye(n, 1), np.eye(n)[-1:]
    h, x = np.zeros(600), B[:, 0]
    for k in range(600):
        h[k], x = x[-1], A @ x
    sigma = scipy.linalg.svdvals(scipy.linalg.hankel(h[:300], h[299:599]))[:n]
    sys = lti.LTI(A.T, C.T, B.T) if adjoint else lti.LTI(A, B, C)
    assert lti.hankel_singular_values(sys) == pytest.approx(sigma, abs=1e-9 * sigma[0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        value, gradient = lti.hankel_sum_and_gradient(sys)
    assert said or abs(value / sigma.sum() - 1) <= 1e-6
    assert np.isfinite(gradient.discrepancy)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        P, Q = lti.band_gramians(sys, [(0.0, np.pi)])
    # Over all frequencies the Gramian of a chain has one number on its diagonal, Σ h_k².
    right = np.allclose(np.diag(Q if adjoint else P), h @ h, rtol=1e-5)
    assert right or said


@pytest.mark.parametrize("decay", [1e-7, 1e-10])
def test_bounds_of_oscillations_count_their_frequency(decay):
    """A_r of full order is dense: its pole moves by eps ω, which is 1e-16 ω/δ of the peak 1/2δ."""
    A = lti.Oscillation([decay], [0.9])
    rng = np.random.default_rng(2)
    sys = lti.LTI(A, rng.standard_normal((2, 2)), rng.standard_normal((1, 2)), dt=0)
    reduction = lti.balanced_truncation(sys, order=2)
    with mpmath.workdps(50):

        def response(A, B, C):
            pencil = mpmath.mpc(0, 0.9) * mpmath.eye(2) - mpmath.matrix(A.tolist())
            return mpmath.matrix(C.tolist()) * pencil**-1 * mpmath.matrix(B.tolist())

        small = reduction.system.to_dense()
        change = response(A.to_dense(), sys.B, sys.C) - response(small.A, small.B, small.C)
        error = float(mpmath.norm(change))
    assert error <= reduction.error_bound
