"""Continuous time: equations, Gramians, values, norms and reductions against closed forms in 50
digits, Kronecker products, Cayley's map, and filters whose peaks are known."""

import itertools
import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from continuous import KINDS, state_matrix, system
from oracles import central_difference, dense
from strategies import random_unitary

import lticore as lti
from lticore.systems.lti import in_single

EPS = np.finfo(np.float64).eps


def condition(A, B):
    """‖(A ⊗ I + I ⊗ B)⁻¹‖ (‖A‖ + ‖B‖), by which rounding of A and B moves X."""
    operator = np.kron(A, np.eye(len(B))) + np.kron(np.eye(len(A)), B.conj())
    return (np.linalg.norm(A) + np.linalg.norm(B)) / np.linalg.svd(operator, compute_uv=False)[-1]


# --- structures -------------------------------------------------------------------------------


def test_oscillation_is_the_matrix_it_says():
    A = lti.Oscillation([0.5, 2.0], [3.0, 0.25], [-4.0])
    expected = scipy.linalg.block_diag([[-0.5, 3], [-3, -0.5]], [[-2, 0.25], [-0.25, -2]], -4)
    np.testing.assert_array_equal(A.to_dense(), expected)
    np.testing.assert_array_equal(A.H.to_dense(), expected.T)
    np.testing.assert_array_equal(A.poles, [-0.5 - 3j, -0.5 + 3j, -2 - 0.25j, -2 + 0.25j, -4])
    X = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(A.multiply(X), expected @ X, rtol=0, atol=10 * EPS)


def test_sums_of_oscillations_are_oscillations():
    rng = np.random.default_rng(0)
    one, other = system(rng, "oscillation"), system(rng, "diagonal", 3)
    both = one + other
    assert isinstance(both.A, lti.Oscillation)
    omega = np.linspace(-3, 3, 7)
    expected = lti.frequency_response(one, omega) + lti.frequency_response(other, omega)
    np.testing.assert_allclose(lti.frequency_response(both, omega), expected, atol=1e-13)


# --- equations --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("right", KINDS)
@pytest.mark.parametrize("left", KINDS)
def test_sylvester_equations_by_kronecker_products(left, right, batch):
    rng = np.random.default_rng(0)
    A, B = state_matrix(rng, left, 7, batch), state_matrix(rng, right, 4, batch)
    Q = rng.standard_normal((*batch, 7, 4))
    X = lti.solve_lyapunov(A, Q, B)
    for index in np.ndindex(batch):
        A_, B_, Q_ = dense(A)[index], dense(B)[index], Q[index]
        operator = np.kron(A_, np.eye(4)) + np.kron(np.eye(7), B_.conj())
        expected = -np.linalg.solve(operator, Q_.ravel()).reshape(7, 4)
        tolerance = 30 * EPS * condition(A_, B_) * np.linalg.norm(expected)
        assert np.linalg.norm(X[index] - expected) <= tolerance
    assert np.isrealobj(X) == (not ("complex" in left or "complex" in right))


@pytest.mark.parametrize("kind", KINDS)
def test_horizons_are_integrals(kind):
    """∫_0^T e^{At} Q e^{Aᴴt} dt by Gauss–Legendre with 60 points, exact to rounding here."""
    rng = np.random.default_rng(1)
    A = state_matrix(rng, kind, 5)
    Q, T = rng.standard_normal((5, 5)), 0.7
    nodes, weights = np.polynomial.legendre.leggauss(60)
    expected = sum(
        w * T / 2 * E @ Q @ E.conj().T
        for w, E in (
            (w, scipy.linalg.expm(dense(A) * T * (1 + x) / 2))
            for x, w in zip(nodes, weights, strict=True)
        )
    )
    found = lti.solve_lyapunov(A, Q, horizon=T)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    sys = lti.LTI(A, np.eye(5), np.eye(5), dt=0)
    P = lti.controllability_gramian(sys, horizon=T)
    np.testing.assert_allclose(P, lti.solve_lyapunov(A, np.eye(5), horizon=T), atol=1e-13)


def test_horizons_of_batches_of_different_speeds():
    A = np.array([[[-1.0]], [[-1e6]], [[2.0]], [[0.0]]])
    found = lti.solve_lyapunov(A, np.ones((4, 1, 1)), horizon=3.0)[:, 0, 0]
    expected = [math.expm1(6 * a) / (2 * a) for a in (-1.0, -1e6, 2.0)]
    np.testing.assert_allclose(found, [*expected, 3.0], rtol=1e-13)


def test_horizons_of_unstable_and_of_fast_systems():
    """Scalars: (e^{2aT} − 1)/(2a)."""
    for a, T in ((0.5, 3.0), (0.0, 2.0), (-1e6, 5.0), (-1e-9, 1e3)):
        expected = T if a == 0 else math.expm1(2 * a * T) / (2 * a)
        for A in (lti.Diagonal([a]), [[a]]):
            found = lti.solve_lyapunov(A, [[1.0]], horizon=T)
            assert found[0, 0] == pytest.approx(expected, rel=1e-14)


def test_structured_equations_keep_their_digits_next_to_the_axis():
    """Decays of 1e-13 beside frequencies of 1 to 1e6, in 50 digits."""
    rng = np.random.default_rng(2)
    poles = -(10.0 ** rng.uniform(-13, 3, 8)) + 1j * 10.0 ** rng.uniform(0, 6, 8)
    Q = rng.standard_normal((8, 8))
    X = lti.solve_lyapunov(lti.Diagonal(poles), Q)
    with mpmath.workdps(50):
        for i, j in np.ndindex(8, 8):
            exact = -mpmath.mpf(Q[i, j]) / (mpmath.mpc(poles[i]) + mpmath.conj(poles[j]))
            assert abs(X[i, j] - complex(exact)) <= 4 * EPS * abs(complex(exact))


def test_singular_equations_name_the_pair():
    for A in (lti.Diagonal([-1.0, 2.0, 1.0]), np.diag([-1.0, 2.0, 1.0])):
        with pytest.raises(lti.SingularEquationError, match=r"0 \(of A\) and 2 \(of B\)"):
            lti.solve_lyapunov(A, np.eye(3))


@pytest.mark.parametrize("horizon", [0, -1.0, np.nan, np.inf, True, "1"])
def test_durations_are_checked(horizon):
    with pytest.raises(lti.ArgumentError, match="horizon must be a time > 0"):
        lti.solve_lyapunov([[-1.0]], [[1.0]], horizon=horizon)
    with pytest.raises(lti.ArgumentError, match="horizon must be a time > 0"):
        lti.h2_norm(lti.LTI([[-1.0]], [[1.0]], [[1.0]], dt=0), horizon=horizon)


def test_units_of_states_and_of_time_do_not_matter():
    """Powers of two, up to 2^±300 in the states and 2^±80 in time, change the last digits only."""
    rng = np.random.default_rng(3)
    A, Q = state_matrix(rng, "dense", 8), rng.standard_normal((8, 8))
    X = lti.solve_lyapunov(A, Q)
    d = 2.0 ** rng.integers(-300, 300, 8)
    for time in (2.0**-80, 1.0, 2.0**80):
        scaled = lti.solve_lyapunov(A * d[:, None] / d * time, Q * d[:, None] * d * time)
        back = scaled / d[:, None] / d
        assert np.linalg.norm(back - X) <= 100 * EPS * condition(A, A) * np.linalg.norm(X)


# --- Gramians and values ----------------------------------------------------------------------


def cayley(sys, alpha=1.5):
    """The discrete-time system with the same Gramians, values and gains."""
    A = dense(sys.A)
    M = np.linalg.inv(alpha * np.eye(len(A)) - A)
    D = 0 if sys.D is None else sys.D
    root = np.sqrt(2 * alpha)
    return lti.LTI(
        M @ (alpha * np.eye(len(A)) + A), root * M @ sys.B, root * sys.C @ M, D + sys.C @ M @ sys.B
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gramians_factors_and_values_are_those_of_the_cayley_map(kind):
    sys = system(np.random.default_rng(4), kind)
    discrete, A = cayley(sys), dense(sys.A)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    tolerance = 100 * EPS * condition(A, A)
    for X, root, left in ((P, sys.B, A), (Q, sys.C.conj().T, A.conj().T)):
        residual = left @ X + X @ left.conj().T + root @ root.conj().T
        assert np.linalg.norm(residual) <= tolerance * np.linalg.norm(X)
    assert np.linalg.norm(P - lti.controllability_gramian(discrete)) <= tolerance * np.linalg.norm(
        P
    )
    R, S = lti.gramian_factors(sys)
    assert np.linalg.norm(R @ R.conj().T - P) <= tolerance * np.linalg.norm(P)
    assert np.linalg.norm(S @ S.conj().T - Q) <= tolerance * np.linalg.norm(Q)
    sigma = lti.hankel_singular_values(sys)
    level = tolerance * np.sqrt(np.linalg.norm(P) * np.linalg.norm(Q))
    assert np.abs(sigma - lti.hankel_singular_values(discrete)).max() <= level
    assert lti.hankel_norm(sys) == sigma[0]
    assert lti.hankel_sum(sys) == pytest.approx(sigma.sum(), rel=1e-14)


def exact_values(poles, b, c, digits=50):
    """Hankel singular values of Σ c_i b_i/(s − a_i), with Gramians in closed form."""
    with mpmath.workdps(digits):
        a, b, c = ([mpmath.mpmathify(complex(x)) for x in v] for v in (poles, b, c))
        n = len(a)
        P, Q = mpmath.matrix(n), mpmath.matrix(n)
        for i, j in np.ndindex(n, n):
            P[i, j] = -b[i] * mpmath.conj(b[j]) / (a[i] + mpmath.conj(a[j]))
            Q[i, j] = -mpmath.conj(c[i]) * c[j] / (mpmath.conj(a[i]) + a[j])
        squares = mpmath.eig(P * Q, left=False, right=False)
        return np.sort([float(mpmath.sqrt(abs(x))) for x in squares])[::-1]


def test_values_over_many_decades_of_time():
    """Modes from 1e-3 to 1e3 per second: all 14 values, down to 1e-9 of the first, in 50 digits."""
    rng = np.random.default_rng(5)
    decay, frequency = np.geomspace(1e-3, 1e3, 7), np.geomspace(1e-2, 1e4, 7)
    A = lti.Oscillation(decay, frequency)
    B, C = rng.standard_normal((14, 1)), rng.standard_normal((1, 14))
    sys = lti.LTI(A, B, C, dt=0)
    b = np.stack([B[::2, 0] + 1j * B[1::2, 0], B[::2, 0] - 1j * B[1::2, 0]], 1).ravel()
    c = np.stack([C[0, ::2] - 1j * C[0, 1::2], C[0, ::2] + 1j * C[0, 1::2]], 1).ravel() / 2
    expected = exact_values(A.poles, b, c)
    relative = lti.hankel_singular_values(sys, accuracy="relative")
    np.testing.assert_allclose(relative, expected, rtol=1e-11)
    standard = lti.hankel_singular_values(sys)
    np.testing.assert_allclose(standard, expected, rtol=0, atol=100 * EPS * expected[0])


def test_many_states_without_gramians():
    """4 000 states by the elimination, beside the Cayley image of each mode."""
    rng = np.random.default_rng(6)
    poles = -(10.0 ** rng.uniform(-3, 1, 4000)) + 1j * rng.uniform(-9, 9, 4000)
    b, c = (rng.standard_normal(4000) + 1j * rng.standard_normal(4000) for _ in range(2))
    sys = lti.LTI(lti.Diagonal(poles), b[:, None], c[None], dt=0)
    alpha = 1.0
    moved, root = (alpha + poles) / (alpha - poles), np.sqrt(2 * alpha) / (alpha - poles)
    discrete = lti.LTI(lti.Diagonal(moved), (root * b)[:, None], (root * c)[None])
    found, expected = (lti.hankel_singular_values(x, max_rank=20) for x in (sys, discrete))
    # The map takes poles to 1e-16 of the circle, a share of 1e-13 of their distance from it.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * expected[0])


def test_poles_on_the_axis_are_unstable_everywhere():
    """In other orthogonal coordinates, where rounding puts them to either side."""
    rng = np.random.default_rng(7)
    A = lti.Oscillation([0.0, 1.0], [2.0, 3.0]).to_dense()
    for _ in range(20):
        Q = random_unitary(rng, (), 4)
        sys = lti.LTI(Q @ A @ Q.T, np.ones((4, 1)), np.ones((1, 4)), dt=0)
        for function in (
            lti.h2_norm,
            lti.hinf_norm,
            lti.hankel_norm,
            lti.controllability_gramian,
            lti.gramian_factors,
            lti.hankel_sum_and_gradient,
            lambda sys: lti.balanced_truncation(sys, order=2),
            lambda sys: lti.modal_truncation(sys, 2),
        ):
            with pytest.raises(lti.UnstableSystemError, match="left of the imaginary axis"):
                function(sys)


def test_structures_know_which_side_of_the_axis_they_are_on():
    """x is turned by 1 rad/s and decays with δ: ∫ e^{−2δt} cos² t dt = 1/(4δ) for tiny δ."""
    for decay in (1e-12, 1e-100, 1e-300):
        sys = lti.LTI(lti.Oscillation([decay], [1.0]), [[1e-6], [0.0]], [[1.0, 0.0]], dt=0)
        assert lti.h2_norm(sys) == pytest.approx(1e-6 / np.sqrt(4 * decay), rel=1e-12)
    nearest = lti.LTI(lti.Oscillation([5e-324], [1.0]), [[1.0], [0.0]], [[1.0, 0.0]], dt=0)
    with pytest.raises(lti.NonFiniteError, match="overflows"):
        lti.controllability_gramian(nearest)
    with pytest.raises(lti.UnstableSystemError):
        lti.h2_norm(lti.LTI(lti.Oscillation([0.0], [1.0]), [[1.0], [0.0]], [[1.0, 0.0]], dt=0))


# --- gradients --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["nuclear", "log"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_sums(kind, function):
    rng = np.random.default_rng(8)
    sys = system(rng, kind)
    parameters = sys.A.parameters if hasattr(sys.A, "parameters") else (sys.A,)

    def value(x):
        *A, B, C = x
        A = type(sys.A)(*A) if hasattr(sys.A, "parameters") else A[0]
        return float(lti.hankel_sum(lti.LTI(A, B, C, dt=0), function))

    point = [*parameters, sys.B, sys.C]
    direction = [rng.standard_normal(x.shape) for x in point]
    found, gradient = lti.hankel_sum_and_gradient(sys, function)
    assert found == pytest.approx(value(point), rel=1e-12)

    def along(t):
        return value([x + t * dx for x, dx in zip(point, direction, strict=True)])

    slope = central_difference(along, 0.0, 1.0, step=1e-5)
    parts = zip((*gradient.A, gradient.B, gradient.C), direction, strict=True)
    # Central differences at 1e-5: 1e-10 from the third derivative, 1e-11 from rounding.
    assert sum(np.sum((g.conj() * d).real) for g, d in parts) == pytest.approx(slope, rel=1e-7)


# --- norms and responses ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_responses_are_those_of_solving(kind):
    sys = system(np.random.default_rng(9), kind, D=np.ones((3, 2)))
    omega = np.linspace(-9, 9, 41)
    A = dense(sys.A)
    expected = [sys.C @ np.linalg.solve(1j * w * np.eye(7) - A, sys.B) + 1 for w in omega]
    largest = max(np.linalg.cond(1j * w * np.eye(7) - A) for w in omega)
    size = np.linalg.norm(sys.B) * np.linalg.norm(sys.C)
    for found in (
        lti.frequency_response(sys, omega),
        np.concatenate([lti.frequency_response(sys, part) for part in np.split(omega, [20])]),
    ):
        assert np.abs(found - expected).max() <= 30 * EPS * largest * size


def test_an_integrator_is_infinite_at_zero_only():
    for A in (lti.Diagonal([0.0, -1.0]), np.diag([0.0, -1.0])):
        sys = lti.LTI(A, [[1.0], [1.0]], [[1.0, 1.0]], dt=0)
        H = lti.frequency_response(sys, np.array([0.0, 1.0]))[:, 0, 0]
        assert np.isinf(H[0])
        assert H[1] == pytest.approx(1 / 1j + 1 / (1j + 1), rel=1e-14)


def test_h2_norms_by_residues():
    """‖H‖² = −Σ_ij r_i conj r_j/(a_i + conj a_j) in 50 digits, next to the axis too."""
    rng = np.random.default_rng(10)
    for least in (-1, -12):
        poles = -(10.0 ** rng.uniform(least, 1, 9)) + 1j * rng.standard_normal(9) * 5
        b, c = (rng.standard_normal(9) + 1j * rng.standard_normal(9) for _ in range(2))
        with mpmath.workdps(50):
            a, r = ([mpmath.mpmathify(complex(x)) for x in v] for v in (poles, b * c))
            pairs = np.ndindex(9, 9)
            square = -sum(r[i] * mpmath.conj(r[j]) / (a[i] + mpmath.conj(a[j])) for i, j in pairs)
            expected = float(mpmath.sqrt(square.real))
        sys = lti.LTI(lti.Diagonal(poles), b[:, None], c[None], dt=0)
        assert lti.h2_norm(sys) == pytest.approx(expected, rel=1e-13)


def test_h2_norms_are_infinite_unless_D_is_zero():
    sys = system(np.random.default_rng(11), "dense", D=np.ones((3, 2)))
    with pytest.raises(lti.ArgumentError, match="infinite unless D = 0"):
        lti.h2_norm(sys)
    with pytest.raises(lti.ArgumentError, match="infinite unless D = 0 for the difference"):
        lti.h2_error(sys, lti.LTI(sys.A, sys.B, sys.C, dt=0))
    assert lti.h2_norm(lti.LTI(sys.A, sys.B, sys.C, np.zeros((3, 2)), dt=0)) > 0


@pytest.mark.parametrize("speed", [-40, 0, 30])
@pytest.mark.parametrize("steps", [1, 4, 30])
def test_horizons_far_shorter_than_the_time_of_the_poles(speed, steps):
    """Integrators in a chain, whose feedback of 1e-10 moves poles to 1e-10 of what they do over
    the horizon: e^{At} b is (1, 2 + t, 3 + 2t + t²/2) all but for that, in its unit of time."""
    A = np.array([[-2e-10, -1e-20, -2e-31], [1, 0, 0], [0, 1, 0]])
    states = [np.polynomial.Polynomial(x) for x in ([1], [2, 1], [3, 2, 0.5])]
    exact = np.array([[(x * y).integ()(steps) for x in states] for y in states])
    s, b = 2.0**speed, np.array([1.0, 2, 3])[:, None]
    sys = lti.LTI(A * s, b, b[::-1].T, dt=0)
    P, Q = (
        f(sys, horizon=steps / s) * s
        for f in (lti.controllability_gramian, lti.observability_gramian)
    )
    np.testing.assert_allclose(P, exact, rtol=1e-8)
    np.testing.assert_allclose(Q[::-1, ::-1], exact, rtol=1e-8)


def exact_values_over(sys, horizon):
    """Hankel singular values over a horizon in 60 digits, of a dense system with distinct poles."""
    with mpmath.workdps(60):
        A, B, C = (mpmath.matrix(X.tolist()) for X in (sys.A, sys.B, sys.C))
        poles, V = mpmath.eig(A)

        def gramian(b, poles, sign):
            X = b * b.H
            for i, j in itertools.product(range(len(poles)), repeat=2):
                s = poles[i] + mpmath.conj(poles[j])
                X[i, j] *= mpmath.expm1(s * horizon) / s
            return X

        P = gramian(V**-1 * B, poles, 1)
        Q = gramian((C * V).H, [mpmath.conj(x) for x in poles], -1)
        squares, _ = mpmath.eig(P * Q)
        return sorted((float(mpmath.sqrt(abs(x))) for x in squares), reverse=True)


@pytest.mark.parametrize(
    ("A", "horizon", "rtol"),
    [
        # Two slow modes beside one of 5e5; one slow mode beside four of up to 1e2.
        ([[-528599.6875, -1865231.75, -5700435.0], [1, 0, 0], [0, 1, 0]], 4.0, 1e-9),
        (
            np.diag([2.0] * 4, -1)
            + np.outer(
                [1, 0, 0, 0, 0], [-133.444515, -2255.41354, -863.186436, -3088.37652, -18.3077446]
            ),
            2.0,
            1e-12,
        ),
    ],
)
@pytest.mark.parametrize("unit", [1.0, 2.0**40])
def test_values_over_a_horizon_are_right_to_rounding_and_not_to_its_root(A, horizon, rtol, unit):
    """In whatever units of the states: no Gramian, which holds squares, is formed. That A is known
    to rounding counts for eps ‖A‖T, 5e-10 in the first case."""
    A = np.array(A)
    n = len(A)
    rng = np.random.default_rng(3)
    B, C = rng.standard_normal((n, 2)), rng.standard_normal((2, n))
    exact = np.array(exact_values_over(lti.LTI(A, B, C, dt=0), horizon))
    d = unit ** np.arange(n)
    sys = lti.LTI(A / d[:, None] * d, B / d[:, None], C * d, dt=0)
    found = lti.hankel_singular_values(sys, horizon=horizon)
    np.testing.assert_allclose(found, exact, rtol=0, atol=rtol * exact[0])


def test_the_norm_of_a_slow_turn_over_a_horizon():
    """h = b c e^{−δt} sin ωt with ω/δ = 5e-11: beside the terms of its square it is rounding."""
    decay, frequency = 8.0, 4e-10
    sys = lti.LTI(lti.Oscillation([decay], [frequency]), [[0.0], [2.0]], [[-3.0, 0.0]], dt=0)
    for T in (0.01, 1.0, 100.0):
        with mpmath.workdps(40):
            d, w = mpmath.mpf(decay), mpmath.mpf(frequency)
            shape = lambda t, d=d, w=w: (mpmath.exp(-d * t) * mpmath.sin(w * t)) ** 2  # noqa: E731
            exact = 6 * mpmath.sqrt(mpmath.quad(shape, [0, min(T, 1), min(T, 10)]))
        assert lti.h2_norm(sys, horizon=T) == pytest.approx(float(exact), rel=1e-13)


def test_an_error_over_a_horizon_is_right_to_rounding_and_not_to_its_root():
    """e^{−t} and e^{−t} + 1e-10 e^{−2t}, in turned states."""
    U = np.array([[0.6, 0.8], [-0.8, 0.6]])
    A, B, C = np.diag([-1.0, -2.0]), np.array([[1.0], [1e-5]]), np.array([[1.0, 1e-5]])
    sys = lti.LTI(U @ A @ U.T, U @ B, C @ U.T, dt=0)
    for T in (0.5, 30.0):
        expected = 1e-10 * math.sqrt(-math.expm1(-4 * T) / 4)
        found = lti.h2_error(sys, ([[-1.0]], [[1.0]], [[1.0]], None, 0), horizon=T)
        assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("speed", [-40, -30, 30])
def test_horizons_of_slow_and_fast_systems(speed):
    """∫_0^{T/s} e^{sAt} Q e^{sAᴴt} dt is 1/s times that of A over T; with states in units far
    apart, which are chosen after the unit of time."""
    A = np.array([[-28.0, -218.0, -101.0], [1.0, 0, 0], [0, 1.0, 0]])
    up = np.ldexp(1.0, (21, -16, 12))
    A, Q = A * up[:, None] / up, np.outer(up, up) * [[1, 0.3, 0.1], [0.3, 2, 0.5], [0.1, 0.5, 3]]
    s = 2.0**speed
    for T in (0.1, 1.0, 30.0):
        expected = lti.solve_lyapunov(A, Q, horizon=T)
        found = lti.solve_lyapunov(A * s, Q, horizon=T / s) * s
        sizes = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.all(np.abs(found - expected) <= 1e-12 * sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_h2_errors_beside_systems_without_states(kind):
    sys = system(np.random.default_rng(18), kind)
    for A in (np.zeros((0, 0)), lti.Diagonal([])):
        nothing = lti.LTI(A, np.zeros((0, sys.inputs)), np.zeros((sys.outputs, 0)), dt=0)
        for pair in ((sys, nothing), (nothing, sys)):
            assert lti.h2_error(*pair) == pytest.approx(lti.h2_norm(sys), rel=1e-13)
        assert lti.h2_error(nothing, nothing) == 0


@pytest.mark.parametrize(
    ("decay", "frequency"), [(2.6e-13, -303.5354), (1e-12, 1e6 + 0.1), (1e-3, 1e9), (1e-14, 0.3)]
)
def test_peaks_far_narrower_than_phases_of_the_circle_tell(decay, frequency):
    """H = ((s + δ) / ((s + δ)² + ω²)) + (1 / (s + 1)) is largest next to ω, where the first part is
    1/2δ and the others are at most δ/ω and 2 of it: below the 1e-8 to which norms are found."""
    A = lti.Oscillation([decay], [frequency], [-1.0])
    sys = lti.LTI(A, [[1.0], [0.0], [1.0]], [[1.0, 0.0, 1.0]], dt=0)
    assert lti.hinf_norm(sys) == pytest.approx(1 / (2 * decay), rel=1e-8)


@pytest.mark.parametrize("frequency", [1e4, 1e6])
def test_narrow_peaks_of_dense_systems(frequency):
    """The same of a dense A, which holds its poles to eps ω: 1e-16 ω/δ of the peak."""
    decay = 1e-9 * frequency
    A = lti.Oscillation([decay], [frequency], [-1.0]).to_dense()
    sys = lti.LTI(A, [[1.0], [0.0], [1.0]], [[1.0, 0.0, 1.0]], dt=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        found = lti.hinf_norm(sys)
    assert found == pytest.approx(1 / (2 * decay), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_norms_of_differences(kind):
    rng = np.random.default_rng(12)
    sys, other = system(rng, kind), system(rng, "dense", 3)
    both = lti.h2_norm(sys) + lti.h2_norm(other)
    tolerance = 100 * EPS * condition(dense(sys.A), dense(sys.A))
    assert lti.h2_error(sys, other) == pytest.approx(lti.h2_norm(sys - other), rel=tolerance)
    assert lti.h2_error(sys, sys.to_dense()) <= tolerance * both
    assert lti.hinf_error(sys, other) == pytest.approx(lti.hinf_norm(sys - other), rel=1e-7)


def test_time_in_other_units():
    """A(s) per hour: h2 grows with √time, values and gains of B and C alike do not."""
    sys = system(np.random.default_rng(13), "dense")
    sigma, h2, hinf = (f(sys) for f in (lti.hankel_singular_values, lti.h2_norm, lti.hinf_norm))
    for k in (-60, 40):
        t = 4.0**k
        other = lti.LTI(sys.A * t, sys.B * 2.0**k, sys.C * 2.0**k, dt=0)
        np.testing.assert_array_equal(lti.hankel_singular_values(other), sigma)
        assert lti.h2_norm(other) == h2 * 2.0**k
        assert lti.hinf_norm(other) == pytest.approx(hinf, rel=1e-12)


@pytest.mark.parametrize("zeta", [0.5, 1e-2, 1e-9])
def test_the_peak_of_an_oscillator(zeta):
    """ω²/(s² + 2ζω s + ω²) has the peak 1/(2ζ√(1 − ζ²)), at any ω."""
    for omega in (1e-6, 1.0, 1e6):
        sys = lti.LTI(
            lti.Oscillation([zeta * omega], [omega * np.sqrt((1 - zeta) * (1 + zeta))]),
            [[0.0], [omega]],
            [[omega / (omega * np.sqrt(1 - zeta**2)), 0.0]],
            dt=0,
        )
        expected = 1 / (2 * zeta * np.sqrt(1 - zeta**2))
        assert lti.hinf_norm(sys) == pytest.approx(expected, rel=2e-8)


@pytest.mark.parametrize("order", range(1, 11))
@pytest.mark.parametrize("family", ["butter", "cheby1", "cheby2", "ellip", "bessel"])
def test_filters_have_their_peaks(family, order):
    """Analog lowpass filters at 2e5 rad/s as sums of modes: all have the largest gain 1."""
    design = {
        "butter": lambda: scipy.signal.buttap(order),
        "cheby1": lambda: scipy.signal.cheb1ap(order, 1),
        "cheby2": lambda: scipy.signal.cheb2ap(order, 40),
        "ellip": lambda: scipy.signal.ellipap(order, 1, 40),
        "bessel": lambda: scipy.signal.besselap(order),
    }
    zeros, poles, gain = design[family]()
    zeros, poles = np.atleast_1d(zeros, poles)
    residues = [
        gain
        * np.prod(poles[i] - zeros)
        / np.prod([poles[i] - poles[j] for j in range(order) if j != i])
        for i in range(order)
    ]
    D = [[gain]] if len(zeros) == order else None
    speed = 2e5
    sys = lti.LTI(
        lti.Diagonal(speed * poles),
        speed * np.array(residues)[:, None],
        np.ones((1, order)),
        D,
        dt=0,
    )
    # Residues of order ten are some 1e3 large and cancel.
    assert lti.hinf_norm(sys) == pytest.approx(1, rel=2e-8 + 1e-13 * np.abs(residues).sum())


# --- reduction --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", KINDS)
def test_balanced_truncation_keeps_its_promises(kind, batch):
    sys = system(np.random.default_rng(14), kind, batch=batch, D=np.ones((3, 2)))
    for match_dc in (False, True):
        reduction = lti.balanced_truncation(sys, order=4, match_dc=match_dc)
        reduced = reduction.system
        assert reduced.is_continuous
        assert np.all(reduced.poles.real < 0)
        tail = 2 * reduction.singular_values[..., 4:].sum(axis=-1)
        assert np.all(reduction.error_bound >= tail)
        # And what rounding may add: the level of the values, and that of poles in a dense A_r.
        np.testing.assert_allclose(reduction.error_bound, tail, rtol=0, atol=1e-9)
        error = lti.hinf_error(sys, reduced)
        assert np.all(error <= reduction.error_bound)
        assert np.all(error >= reduction.singular_values[..., 4] * (1 - 1e-8))
        if match_dc:
            full, small = (lti.frequency_response(x, np.zeros(1)) for x in (sys, reduced))
            np.testing.assert_allclose(small, full, atol=1e-11)
            assert np.all(np.isinf(reduction.h2_error))
        else:
            np.testing.assert_allclose(reduced.D, np.ones((*batch, 3, 2)))
            np.testing.assert_allclose(reduction.h2_error, lti.h2_error(sys, reduced))
            W, V = reduction.left, reduction.right
            eye = np.broadcast_to(np.eye(4), (*batch, 4, 4))
            np.testing.assert_allclose(W.conj().swapaxes(-1, -2) @ V, eye, atol=1e-11)


def test_reduction_of_the_cayley_map_by_the_other_method():
    """Singular perturbation in discrete time at z = −1 would be truncation in continuous time; of
    the balanced states both keep the same values."""
    sys = system(np.random.default_rng(15), "dense", 10)
    reduced = lti.balanced_truncation(sys, order=5).system
    sigma = lti.hankel_singular_values(sys)
    np.testing.assert_allclose(lti.hankel_singular_values(reduced), sigma[:5], rtol=1e-9)
    P, Q = lti.controllability_gramian(reduced), lti.observability_gramian(reduced)
    np.testing.assert_allclose(P, np.diag(sigma[:5]), atol=1e-11 * sigma[0])
    np.testing.assert_allclose(Q, np.diag(sigma[:5]), atol=1e-11 * sigma[0])


def test_criteria():
    sys = system(np.random.default_rng(16), "oscillation", 12)
    sigma = lti.hankel_singular_values(sys)
    by_error = lti.balanced_truncation(sys, error=2.5 * sigma[6:].sum())
    assert by_error.order == 6
    by_energy = lti.balanced_truncation(sys, energy=sigma[:4].sum() / sigma.sum() - 1e-9)
    assert by_energy.order == 4


@pytest.mark.parametrize("kind", ["oscillation", "dense"])
def test_unstable_modes_are_kept(kind):
    rng = np.random.default_rng(17)
    sys = system(rng, kind, 8, D=np.ones((3, 2)))
    A = lti.Oscillation([-0.3, 0.0], [1.0, 2.0])
    rest = lti.LTI(A, rng.standard_normal((4, 2)), rng.standard_normal((3, 4)), dt=0)
    if kind == "dense":
        Q = random_unitary(rng, (), 12)
        both = (sys + rest).to_dense()
        whole = lti.LTI(Q @ both.A @ Q.T, Q @ both.B, both.C @ Q.T, both.D, dt=0)
    else:
        whole = sys + rest
    reduction = lti.balanced_truncation(whole, order=8, unstable="keep")
    alone = lti.balanced_truncation(sys, order=4)
    assert reduction.order == 8
    np.testing.assert_allclose(
        reduction.singular_values[:8], alone.singular_values, atol=1e-11 * alone.singular_values[0]
    )
    poles = reduction.system.poles
    kept = np.sort_complex(poles[poles.real > -1e-9])
    np.testing.assert_allclose(kept, np.sort_complex(A.poles), atol=1e-11)
    omega = np.array([0.3, 1.5, 7.0])
    full, small, part, small_part = (
        lti.frequency_response(x, omega) for x in (whole, reduction.system, sys, alone.system)
    )
    np.testing.assert_allclose(small - full, small_part - part, atol=1e-9)
    with pytest.raises(lti.UnstableSystemError, match='`unstable="keep"`'):
        lti.balanced_truncation(whole, order=8)


def test_truncation_over_a_horizon():
    """Gramians of e^{At} over 2 seconds; unstable systems have them too."""
    sys = system(np.random.default_rng(18), "dense", 8)
    unstable = lti.LTI(sys.A + 0.5 * np.eye(8), sys.B, sys.C, dt=0)
    for one in (sys, unstable):
        P, Q = (
            f(one, horizon=2.0) for f in (lti.controllability_gramian, lti.observability_gramian)
        )
        expected = np.sqrt(np.sort(np.linalg.eigvals(P @ Q).real)[::-1])
        reduction = lti.balanced_truncation(one, order=3, horizon=2.0)
        assert reduction.error_bound is None
        np.testing.assert_allclose(reduction.singular_values[:5], expected[:5], rtol=1e-8)
        values = lti.hankel_singular_values(one, horizon=2.0)
        np.testing.assert_allclose(values[:5], expected[:5], rtol=1e-8)


def test_quadratic_outputs():
    """Q of A'Q + QA + C'C + Σ M_i P M_i = 0, and the h2 norm tr C P C' + Σ tr(P M_i P M_i)."""
    rng = np.random.default_rng(19)
    for kind in ("oscillation", "dense"):
        sys = system(rng, kind, 5, m=1, p=2)
        M = rng.standard_normal((2, 5, 5))
        M = M + M.swapaxes(1, 2)
        quadratic = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, M, dt=0)
        A, P = dense(sys.A), lti.controllability_gramian(sys)
        root = sys.C.T @ sys.C + sum(m @ P @ m for m in M)
        Q = scipy.linalg.solve_continuous_lyapunov(A.T, -root)
        tolerance = 100 * EPS * condition(A, A) ** 2
        found = lti.observability_gramian(quadratic)
        assert np.linalg.norm(found - Q) <= tolerance * np.linalg.norm(Q)
        square = np.trace(sys.C @ P @ sys.C.T) + sum(np.trace(P @ m @ P @ m) for m in M)
        assert lti.h2_norm(quadratic) ** 2 == pytest.approx(square, rel=tolerance)
        reduced = lti.balanced_truncation(quadratic, order=3)
        assert reduced.system.is_continuous


def test_float32():
    sys = system(np.random.default_rng(20), "oscillation")
    single = lti.LTI(
        lti.Oscillation(*(np.float32(x) for x in sys.A.parameters)),
        np.float32(sys.B),
        np.float32(sys.C),
        dt=0,
    )
    sigma = lti.hankel_singular_values(single)
    assert sigma.dtype == np.float32
    np.testing.assert_allclose(sigma, lti.hankel_singular_values(sys), rtol=1e-4)
    assert lti.balanced_truncation(single, order=3).system.dtype == np.float32


# --- coordinates ------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [2.0**-40, 1.0, 2.0**40])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_conversions_keep_the_response(kind, speed):
    rng = np.random.default_rng(21)
    if kind == "complex diagonal":
        given = system(rng, "oscillation", 8)
        given = lti.diagonalize(given)
    else:
        given = system(rng, kind, 8)
    A = dense(given.A) * speed if kind == "dense" else given.A.times(np.asarray(speed))
    sys = lti.LTI(A, given.B, given.C, dt=0)
    omega = speed * np.linspace(0, 9, 30)
    H = lti.frequency_response(sys, omega)
    converted = [lti.diagonalize(sys), lti.to_rotation(sys), lti.to_rotation(sys, canonical=True)]
    assert isinstance(converted[1].A, lti.Oscillation)
    assert converted[1].A.real_poles.shape == (
        (8,) if kind == "diagonal" else converted[1].A.real_poles.shape
    )
    for one in converted:
        assert one.is_continuous
        change = np.abs(lti.frequency_response(one, omega) - H).max()
        assert change <= 100 * EPS * lti.eigenvector_condition(sys) * 8 * np.abs(H).max()


@pytest.mark.parametrize("kind", KINDS)
def test_modal_truncation(kind):
    """Modes are kept as they are, and the bound is the sum of the peaks of those dropped."""
    sys = system(np.random.default_rng(22), kind, 8)
    reduction = lti.modal_truncation(sys, 4)
    poles = sys.poles
    for pole in reduction.system.poles:
        assert np.abs(poles - pole).min() <= 100 * EPS * np.abs(poles).max() * float(
            lti.eigenvector_condition(sys)
        )
    assert lti.hinf_error(sys, reduction.system) <= reduction.error_bound * (1 + 1e-7)
    if kind == "diagonal":
        peaks = np.linalg.norm(sys.B, axis=1) * np.linalg.norm(sys.C, axis=0) / -poles
        dropped = np.sort(peaks)[:4].sum()
        assert reduction.error_bound == pytest.approx(dropped, rel=1e-13)


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", KINDS)
def test_impulse_responses_at_given_times(kind, batch):
    """C e^{At} B, by SciPy's exponential; D is an impulse and left out."""
    sys = system(np.random.default_rng(23), kind, batch=batch, D=np.ones((3, 2)))
    times = np.array([0.5, 0.0, 2.0, 0.75, 1.0, 0.5])
    h = lti.impulse_response(sys, times)
    A = dense(sys.A)
    for index in np.ndindex(batch):
        for k, t in enumerate(times):
            expected = sys.C[index] @ scipy.linalg.expm(A[index] * t) @ sys.B[index]
            np.testing.assert_allclose(h[index][k], expected, rtol=0, atol=1e-12)
    assert np.isrealobj(h) == ("complex" not in kind)


def test_the_integral_of_the_response_is_the_gain_at_rest():
    """Over many equal steps, in a slow unit of time."""
    sys = system(np.random.default_rng(24), "dense")
    slow = lti.LTI(sys.A * 2.0**-40, sys.B, sys.C, dt=0)
    times = np.linspace(0, 80, 4001) * 2.0**40
    h = lti.impulse_response(slow, times)
    # Simpson's rule with steps of 0.02 beside modes of up to 5 rad/s: 1e-6.
    weights = np.ones(4001)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    integral = np.tensordot(weights, h, (0, 0)) * (times[1] / 3)
    gain = lti.frequency_response(slow, np.zeros(1))[0].real
    np.testing.assert_allclose(integral, gain, rtol=1e-5, atol=1e-5 * np.abs(gain).max())


def test_times_are_checked():
    sys = system(np.random.default_rng(25), "dense")
    for times in ([-1.0], [[1.0]], np.ones((2, 2))):
        with pytest.raises(lti.ArgumentError, match="at least 0"):
            lti.impulse_response(sys, times)


# --- random systems ---------------------------------------------------------------------------


def gramian_in_600_digits(A, W):
    """X of A X + X A' + W = 0 by a Kronecker product."""
    n = A.rows
    operator, right = mpmath.matrix(n * n), mpmath.matrix(n * n, 1)
    for i, j in np.ndindex(n, n):
        right[i * n + j] = -W[i, j]
        for k in range(n):
            operator[i * n + j, k * n + j] += A[i, k]
            operator[i * n + j, i * n + k] += A[j, k]
    x = mpmath.lu_solve(operator, right)
    return mpmath.matrix([[x[i * n + j] for j in range(n)] for i in range(n)])


def random_matrix(rng, n):
    """Companion, turned, stiff, triangular over six decades, next to the axis, or any."""
    kind = rng.integers(6)
    if kind == 0:
        A = np.diag(np.ones(n - 1), 1)
        A[-1] = -np.poly(-(10.0 ** rng.uniform(-2, 2, n)))[1:][::-1]
        return A
    if kind == 1:
        q = n // 2
        decay, frequency = 10.0 ** rng.uniform(-6, 1, q), 10.0 ** rng.uniform(-2, 2, q)
        A = lti.Oscillation(decay, frequency, -(10.0 ** rng.uniform(-3, 1, n - 2 * q))).to_dense()
        Q = random_unitary(rng, (), n)
        return Q @ A @ Q.T
    if kind == 2:
        T = rng.standard_normal((n, n))
        return T @ np.diag(-(10.0 ** rng.uniform(-4, 4, n))) @ np.linalg.inv(T)
    if kind == 3:
        T = np.triu(rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-3, 3, (n, n)), 1)
        return T - np.diag(10.0 ** rng.uniform(-2, 2, n))
    A = rng.standard_normal((n, n))
    if kind == 4:
        return A - A.T - np.diag(10.0 ** rng.uniform(-9, -2, n))
    return A - (np.linalg.eigvals(A).real.max() + 10.0 ** rng.uniform(-5, 0)) * np.eye(n)


@pytest.mark.parametrize("seed", range(40))
def test_results_are_right_or_come_with_a_warning(seed):
    """In units of the states to 2^±400 and of time to 2^±100, against 600 digits."""
    rng = np.random.default_rng(100 + seed)
    n, m, p = rng.integers(2, 6), *rng.integers(1, 3, 2)
    A = random_matrix(rng, n)
    d = 2.0 ** np.rint(rng.uniform(-1, 1, n) * rng.choice([0, 1, 60, 400]))
    time = 2.0 ** float(np.rint(rng.uniform(-1, 1) * rng.choice([0, 1, 100])))
    B, C = rng.standard_normal((n, m)) * d[:, None], rng.standard_normal((p, n)) / d
    sys = lti.LTI(A * d[:, None] / d * time, B, C, dt=0)
    with mpmath.workdps(600):
        A, B, C = (mpmath.matrix(X.tolist()) for X in (sys.A, B, C))
        P, Q = gramian_in_600_digits(A, B * B.T), gramian_in_600_digits(A.T, C.T * C)
        squares = mpmath.eig(P * Q, left=False, right=False)
        sigma = np.sort([float(mpmath.sqrt(abs(x))) for x in squares])[::-1]
        square = sum((C * P * C.T)[i, i] for i in range(p))
        h2 = float(mpmath.sqrt(square))
        roots = [mpmath.sqrt(P[i, i]) for i in range(n)]
        correlations = np.array(
            [[float(P[i, j] / roots[i] / roots[j]) for j in range(n)] for i in range(n)]
        )
        roots = np.array([float(x) for x in roots])

    def judged(function, expected):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = function()
            except lti.UnstableSystemError:
                # Poles within rounding of the axis count as unstable.
                return
        off = np.abs(found - expected).max() / np.abs(expected).max()
        # What a warning is due from, and some eps for the states.
        assert said or off <= 3e-6

    judged(lambda: lti.hankel_singular_values(sys), sigma)
    judged(lambda: lti.h2_norm(sys), np.array(h2))
    judged(lambda: lti.controllability_gramian(sys) / roots[:, None] / roots, correlations)


def test_an_h2_error_is_finite_where_a_change_of_D_is_rounded_away():
    """1/(s + 1) + 1e-9/(s + 2) + 1 in float32 without its second mode, whose gain at 0 is added to
    D in float64 and lost in float32."""
    parts = (np.diag([-1.0, -2.0]), [[1.0], [1e-9]], [[1.0, 1.0]], [[1.0]])
    sys = lti.LTI(*(np.array(X, np.float32) for X in parts), dt=0)
    found = lti.balanced_truncation(sys, order=1, match_dc=True)
    assert found.system.D == 1

    def modes(one, sign):
        """(pole, residue) each."""
        numbers = (np.diag(one.A), one.B[:, 0], one.C[0])
        rows = zip(*([Fraction(float(x)) for x in X] for X in numbers), strict=True)
        return [(pole, sign * b * c) for pole, b, c in rows]

    both = modes(sys, 1) + modes(found.system, -1)
    square = sum(r * s / -(a + b) for (a, r), (b, s) in itertools.product(both, both))
    assert found.h2_error == pytest.approx(float(square) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("kind", ["oscillation", "dense"])
@pytest.mark.parametrize("match_dc", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batches_of_different_ranks_are_reduced(kind, match_dc, dtype):
    """States for which an entry has no direction do nothing, and are stable; its D stays, so that
    its h2 error is finite beside others whose D changes."""
    rng = np.random.default_rng(21)
    batch = system(rng, kind, n=4, batch=(3,))
    C = np.array(batch.C)
    C[0] = 0
    sys = lti.LTI(batch.A, batch.B, C, dt=0)
    sys = in_single(sys) if dtype is np.float32 else sys
    found = lti.balanced_truncation(sys, order=2, match_dc=match_dc)
    assert np.all(found.system.poles.real < 0)
    assert found.error_bound[0] == found.h2_error[0] == 0
    rtol = 1e-4 if dtype is np.float32 else 1e-9
    for k in (1, 2):
        one = lti.balanced_truncation(sys[k], order=2, match_dc=match_dc)
        assert found.error_bound[k] == pytest.approx(one.error_bound, rel=rtol)
        omega = [0.0, 0.3, 2.0]
        expected = lti.frequency_response(one.system, omega)
        response = lti.frequency_response(found.system[k], omega)
        np.testing.assert_allclose(response, expected, atol=rtol * np.abs(expected).max())
        assert np.isinf(one.h2_error) == match_dc
        assert found.h2_error[k] == pytest.approx(one.h2_error, rel=rtol)
    with pytest.warns(lti.PrecisionWarning, match="only 0 Hankel singular values"):
        nothing = lti.balanced_truncation(sys[0], order=2, match_dc=match_dc)
    assert np.all(nothing.system.poles.real < 0)
