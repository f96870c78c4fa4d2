"""A X Bᴴ − X + Q = 0 for every pair of structures: residuals first, then slow references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    EPS,
    adjoint,
    dense,
    double,
    size,
    stein_by_kronecker,
    stein_by_summation,
    stein_residual,
    unit_roundoff,
)
from strategies import BATCHES, SPECTRA, STRUCTURES, build_state_matrix, seeds

import lticore as lti

PAIRS = [(left, right) for left in STRUCTURES for right in STRUCTURES]


def right_hand_side(rng, batch, n, l, dtype, complex_):
    Q = rng.standard_normal((*batch, n, l))
    if complex_:
        Q = Q + 1j * rng.standard_normal(Q.shape)
    single = np.complex64 if complex_ else np.float32
    return Q.astype(single) if dtype == "float32" else Q


def order(A):
    return A.shape[-1] if isinstance(A, np.ndarray) else A.order


@st.composite
def equations(draw, left, right, spectra=SPECTRA):
    rng = np.random.default_rng(draw(seeds()))
    dtype = draw(st.sampled_from(("float64", "float32")))
    batch = draw(st.sampled_from(BATCHES))
    A, B = (
        build_state_matrix(
            rng, kind, draw(st.sampled_from(spectra)), batch, draw(st.integers(1, 6)), dtype
        )
        for kind in (left, right)
    )
    Q = right_hand_side(rng, batch, order(A), order(B), dtype, draw(st.booleans()))
    return A, Q, B


@pytest.mark.parametrize(("left", "right"), PAIRS)
@given(data=st.data())
def test_residual_is_at_rounding_level(left, right, data):
    A, Q, B = data.draw(equations(left, right))
    X = lti.solve_stein(A, Q, B)
    # Backward stable: a few roundings per entry of the result's precision and of float64 products.
    assert stein_residual(A, X, B, Q) <= 4 * unit_roundoff(X) + 200 * EPS


@pytest.mark.parametrize(("left", "right"), PAIRS)
@given(data=st.data())
def test_dtype_and_shape_follow_the_arguments(left, right, data):
    A, Q, B = data.draw(equations(left, right))
    X = lti.solve_stein(A, Q, B)
    single = Q.dtype in (np.float32, np.complex64)
    complex_ = any("complex" in str(x) for x in (left, right, Q.dtype))
    expected = {
        (True, True): np.complex64,
        (True, False): np.float32,
        (False, True): np.complex128,
        (False, False): np.float64,
    }
    assert X.dtype == expected[single, complex_]
    assert X.shape == Q.shape


@pytest.mark.parametrize(("left", "right"), PAIRS)
@given(data=st.data(), horizon=st.integers(1, 11))
def test_horizon_is_the_explicit_sum(left, right, data, horizon):
    A, Q, B = data.draw(equations(left, right))
    X = lti.solve_stein(A, Q, B, horizon=horizon)
    expected = stein_by_summation(dense(A), double(Q), dense(B), horizon)
    # Powers of non-normal matrices can be larger than the sum: measure against their norms.
    growth = stein_by_summation(
        np.linalg.norm(dense(A), 2, axis=(-2, -1))[..., None, None],
        np.ones((*Q.shape[:-2], 1, 1)),
        np.linalg.norm(dense(B), 2, axis=(-2, -1))[..., None, None],
        horizon,
    ).max() * size(double(Q))
    assert size(double(X) - expected) <= (4 * unit_roundoff(X) + 50 * horizon * EPS) * growth


@pytest.mark.parametrize("structure", STRUCTURES)
@given(data=st.data(), horizon=st.sampled_from((None, 1, 5)))
def test_adjoint_equation_pairs_with_the_equation(structure, data, horizon):
    """⟨G, X⟩ = ⟨Y, Q⟩ for A X Bᴴ − X + Q = 0 and Aᴴ Y B − Y + G = 0."""
    A, Q, B = data.draw(equations(structure, structure, spectra=("plain", "zero")))
    A, B, Q = (lti.systems.structure.map_parameters(double, x) for x in (A, B, Q))
    G = Q[..., ::-1, :] + 1
    X = lti.solve_stein(A, Q, B, horizon=horizon)
    Y = lti.solve_stein(adjoint_of(A), G, adjoint_of(B), horizon=horizon)
    left, right = np.sum(G.conj() * X), np.sum(Y.conj() * Q)
    # Poles up to 0.95 (non-normal ones with couplings) condition each equation by < 1e4.
    assert abs(left - right) <= 1e4 * EPS * (size(G) * size(X) + size(Y) * size(Q)) * X.size


def adjoint_of(A):
    return adjoint(A) if isinstance(A, np.ndarray) else A.H


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_agrees_with_the_kronecker_system(left, right):
    rng = np.random.default_rng(5)
    A, B = (build_state_matrix(rng, kind, n=n) for kind, n in ((left, 4), (right, 5)))
    Q = rng.standard_normal((order(A), order(B)))
    X = lti.solve_stein(A, Q, B)
    # cond(I − A ⊗ B̄) is below 1e4 for these.
    assert size(X - stein_by_kronecker(dense(A), Q, dense(B))) <= 1e4 * EPS * size(X)


def test_dense_recursion_above_its_leaf_size():
    rng = np.random.default_rng(0)
    A, B = (build_state_matrix(rng, "non-normal", n=n) for n in (150, 90))
    A, B = (0.8 * X / np.abs(np.linalg.eigvals(X)).max() for X in (A, B))
    Q = rng.standard_normal((150, 90))
    assert stein_residual(A, lti.solve_stein(A, Q, B), B, Q) <= 1000 * EPS
    assert stein_residual(B, lti.solve_stein(B, Q.T, A), A, Q.T) <= 1000 * EPS


def test_dense_jordan_block():
    A = 0.9 * np.eye(6) + np.eye(6, k=1)
    X = lti.solve_stein(A, np.eye(6))
    assert stein_residual(A, X, A, np.eye(6)) <= 100 * EPS


@pytest.mark.parametrize("gap", [1e-3, 1e-9, 1e-13])
def test_rotation_near_the_circle_keeps_relative_accuracy(gap):
    """Γ = 1/(1 − ρ²) on the diagonal of the modes, with the exact ρ that was given."""
    radius = 1 - gap
    exact_gap = 1 - radius
    X = lti.solve_stein(lti.Rotation([radius], [0.7]), np.eye(2))
    expected = 1 / (exact_gap * (2 - exact_gap))
    assert pytest.approx(expected * np.eye(2), rel=10 * EPS, abs=10 * EPS * expected) == X


def test_unstable_equation_has_the_unique_solution():
    A, B, Q = lti.Diagonal([2.0, 0.5]), lti.Diagonal([3.0, 0.1, -4.0]), np.ones((2, 3))
    X = lti.solve_stein(A, Q, B)
    assert stein_residual(A, X, B, Q) <= 10 * EPS


@pytest.mark.parametrize("horizon", [1, 2, 10, 10**6])
def test_horizon_on_the_circle_counts_the_terms(horizon):
    X = lti.solve_stein(lti.Diagonal([1.0, -1.0]), np.ones((2, 2)), horizon=horizon)
    # Off the diagonal the series is 1 − 1 + 1 − …; the phase π is rounded once and multiplied.
    alternating = horizon % 2
    expected = [[horizon, alternating], [alternating, horizon]]
    assert pytest.approx(np.array(expected), rel=EPS, abs=4 * horizon * EPS) == X


@pytest.mark.parametrize("pole", [0.0, 1e-300, 1e-9, 1e-5])
def test_horizon_with_poles_near_zero(pole):
    X = lti.solve_stein(lti.Diagonal([pole]), [[1.0]], horizon=3)
    assert pytest.approx(1 + pole**2 + pole**4, rel=4 * EPS) == X


def test_long_horizon_tends_to_the_infinite_one():
    A, Q = lti.Rotation([0.9, 0.5], [1.0, 2.0]), np.eye(4)
    assert lti.solve_stein(A, Q, horizon=10**6) == pytest.approx(
        lti.solve_stein(A, Q), rel=10 * EPS, abs=10 * EPS
    )


def test_batches_broadcast():
    rng = np.random.default_rng(1)
    A = build_state_matrix(rng, "rotation", batch=(3,), n=4)
    Q = rng.standard_normal((2, 1, 4, 4))
    X = lti.solve_stein(A, Q)
    assert X.shape == (2, 3, 4, 4)
    single = lti.solve_stein(lti.Rotation(A.radius[1], A.angle[1]), Q[1, 0])
    assert X[1, 1] == pytest.approx(single, rel=100 * EPS)


@pytest.mark.parametrize(
    ("A", "B"),
    [
        (lti.Diagonal([0.3, 0.5]), lti.Diagonal([2.0])),
        (np.diag([0.3, 0.5]), np.array([[2.0]])),
        (lti.Diagonal([0.3, 0.5]), np.array([[2.0]])),
    ],
)
def test_singular_pair_of_poles_is_named(A, B):
    with pytest.raises(lti.SingularEquationError, match=r"modes 1 \(of A\) and 0 \(of B\)"):
        lti.solve_stein(A, np.ones((2, 1)), B)
    assert np.all(np.isfinite(lti.solve_stein(A, np.ones((2, 1)), B, horizon=4)))


@pytest.mark.parametrize("B", [None, lti.Diagonal([1 - 1e-12, 0.2])])
def test_nearly_singular_dense_equation_names_the_pair(B):
    A = np.diag([0.3, 1 - 1e-12])
    # The rounding of the pole, eps/2 or a few of them, is a share of 1e-4 of its distance.
    message = r"error of \de-0[345] .* poles of modes 1 \(of A\) and [01] \(of B\)"
    with pytest.warns(lti.PrecisionWarning, match=message) as caught:
        X = lti.solve_stein(A, np.ones((2, 2)), B)
    assert caught[0].filename == __file__
    assert np.all(np.isfinite(X))


def test_units_of_the_states_cost_no_digits():
    """Rows and columns in units of their own: each entry is right relative to these."""
    rng = np.random.default_rng(0)
    for k in range(20):
        A, B = (build_state_matrix(rng, "non-normal", n=n) for n in (5, 4))
        Q = rng.standard_normal((5, 4))
        t, s = (2.0 ** rng.integers(-200, 200, (n, 1)) for n in (5, 4))
        X = lti.solve_stein(t * A / t.T, t * Q * s.T, s * B / s.T)
        expected = stein_by_kronecker(A, Q, B)
        # cond(I − A ⊗ B̄) is below 1e4 for these.
        assert np.abs(X / t / s.T - expected).max() <= 1e4 * EPS * np.abs(expected).max(), k
        P = lti.solve_stein(t * A / t.T, t * (Q @ Q.T) * t.T)
        expected = stein_by_kronecker(A, Q @ Q.T, A)
        assert np.abs(P / t / t.T - expected).max() <= 1e4 * EPS * np.abs(expected).max(), k


def test_large_entries_are_no_reason_to_warn():
    A = np.array([[0.5, 1e9], [0.0, 0.25]])
    X = lti.solve_stein(A, np.ones((2, 2)))
    # From the last state up: x22 (1 − 1/16) = 1, x12 (1 − 1/8) = 1 + 1e9 x22/4, and so on.
    x22 = 16 / 15
    x12 = (1 + 0.25e9 * x22) / (1 - 1 / 8)
    x11 = (1 + 1e9 * x12 + 1e18 * x22) / (1 - 1 / 4)
    np.testing.assert_allclose(X, [[x11, x12], [x12, x22]], rtol=20 * EPS)


def test_structures_next_to_the_circle_need_no_warning():
    pole = 1 - 1e-14
    X = lti.solve_stein(lti.Diagonal([0.3, pole]), np.ones((2, 2)))
    assert X[1, 1] == pytest.approx(1 / ((1 - pole) * (1 + pole)), rel=4 * EPS)


@pytest.mark.parametrize("gap", [2.0**-53, 2.0**-52, 2.0**-40])
def test_radii_next_to_one_are_stable_not_singular(gap):
    """1 − ρ² = (1 − ρ)(1 + ρ) is exact to rounding for the last radius below 1."""
    for A in (lti.Diagonal([1 - gap]), lti.Diagonal([-1 + gap]), lti.Rotation([1 - gap], [0.3])):
        X = lti.solve_stein(A, np.eye(A.order))
        np.testing.assert_allclose(np.diag(X), 1 / (gap * (2 - gap)), rtol=1e-14)


def test_reciprocal_pole_that_is_not_a_binary_fraction_is_singular():
    with pytest.raises(lti.SingularEquationError, match="modes 0"):
        lti.solve_stein(lti.Diagonal([3.0]), [[1.0]], lti.Diagonal([1 / 3]))
