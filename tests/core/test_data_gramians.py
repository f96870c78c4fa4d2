"""Gramians from data beside sums step by step, and beside those of the system for white signals."""

import sys

import continuous
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from oracles import adjoint, dense
from strategies import systems

import lticore as lti

EPS = np.finfo(float).eps


def by_steps(A, B, C, u, g, timing, M=()):
    """(P, Q) as the definition has them, one sequence and one step after the other."""
    n = len(A)
    P, Q = np.zeros((2, n, n), dtype=complex)
    for inputs, cotangents in zip(u, g, strict=True):
        x, states = np.zeros(n, dtype=complex), []
        for u_k in inputs:
            after = A @ x + B @ u_k
            states.append(x if timing == "delayed" else after)
            x = after
        costate = np.zeros(n, dtype=complex)
        for x_k, g_k in zip(states[::-1], cotangents[::-1], strict=True):
            costate = adjoint(A) @ costate + adjoint(C) @ g_k
            for g_ki, M_i in zip(g_k, M, strict=False):
                costate = costate + 2 * g_ki * (M_i @ x_k)
            P += np.outer(x_k, x_k.conj())
            Q += np.outer(costate, costate.conj())
    return P / len(u), Q / len(u)


def signals(seed, sys, batch, length=7, is_complex=False):
    rng = np.random.default_rng(seed)
    u, g = (rng.standard_normal((*batch, length, width)) for width in (sys.inputs, sys.outputs))
    return (u + 1j * rng.standard_normal(u.shape), g) if is_complex else (u, g)


def close(found, expected, sys):
    """Sums of positive terms over seven steps: what a step rounds grows with the powers of A."""
    growth = max(1.0, np.linalg.norm(dense(sys.A), 2)) ** 14
    scale = np.linalg.norm(expected)
    return np.linalg.norm(found - expected) <= 100 * sys.order * EPS * growth * scale


@given(
    sys=systems(batches=((),)),
    seed=st.integers(0, 99),
    timing=st.sampled_from(("delayed", "current")),
    is_complex=st.booleans(),
)
def test_sums_step_by_step(sys, seed, timing, is_complex):
    u, g = signals(seed, sys, (4,), is_complex=is_complex)
    P, Q = lti.data_gramians(sys, [(u[:1], g[:1]), (u[1:], g[1:])], timing=timing)
    expected = by_steps(dense(sys.A), sys.B, sys.C, u, g, timing)
    for X, by_hand in zip((P, Q), expected, strict=True):
        assert close(X, by_hand, sys)
        assert np.array_equal(X, adjoint(X))
    assert np.iscomplexobj(P) == (is_complex or np.iscomplexobj(sys.B) or _complex_poles(sys))


def _complex_poles(sys):
    return np.iscomplexobj(getattr(sys.A, "poles", sys.A)) and not isinstance(sys.A, lti.Rotation)


@pytest.mark.parametrize("structure", ["rotation", "dense"])
@pytest.mark.parametrize("factored", [False, True])
def test_quadratic_outputs(structure, factored):
    rng = np.random.default_rng(0)
    A = lti.Rotation(np.array([0.9, 0.5]), np.array([0.3, 2.0]), np.array([-0.7]))
    B, C = rng.standard_normal((5, 2)), rng.standard_normal((3, 5))
    V, s = rng.standard_normal((3, 5, 2)), rng.standard_normal((3, 2))
    M = np.einsum("pnc,pc,pmc->pnm", V, s, V)
    A = A if structure == "rotation" else A.to_dense()
    sys = lti.QuadraticOutputLTI(A, B, C, (V, s) if factored else M)
    u, g = signals(1, sys, (3,))
    for timing in ("delayed", "current"):
        P, Q = lti.data_gramians(sys, [(u, g)], timing=timing)
        expected = by_steps(dense(A), B, C, u, g, timing, M)
        np.testing.assert_allclose(P, expected[0].real, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(Q, expected[1].real, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("numbers", [1, 40, 100])
@pytest.mark.parametrize("timing", ["delayed", "current"])
@pytest.mark.parametrize("structure", ["rotation", "diagonal", "dense"])
def test_parts_of_sequences_are_the_whole(monkeypatch, structure, timing, numbers):
    """One sequence or several at once, whole or in spans of time, whose last one may be of one
    step: states pass from one to the next, costates the other way."""
    monkeypatch.setattr(sys.modules[lti.data_gramians.__module__], "_AT_ONCE", numbers)
    monkeypatch.setattr(sys.modules[lti.data_gramians.__module__], "_FEWEST_STEPS", 2)
    rng = np.random.default_rng(5)
    A = lti.Rotation(np.array([0.9, 0.5]), np.array([0.3, 2.0]), np.array([-0.7]))
    if structure != "rotation":
        A = A.to_dense() if structure == "dense" else lti.Diagonal(A.poles)
    system = lti.LTI(A, rng.standard_normal((5, 2)), rng.standard_normal((3, 5)))
    u, g = signals(6, system, (4,))
    found = lti.data_gramians(system, [(u, g)], timing=timing)
    expected = by_steps(dense(A), system.B, system.C, u, g, timing)
    for X, by_hand in zip(found, expected, strict=True):
        assert close(X, by_hand, system)


def test_data_in_float32_of_any_size():
    """Products in float32, in units that keep what float32 cannot hold: inputs of 1e±30 beside
    each other, weights of 1e∓150, states in units of 1e±100. u and B have errors of 2⁻²⁴ each and
    a sum of four products as many again, states grow no further than 1/(1 − ρ) of them."""
    rng, n, rho = np.random.default_rng(8), 6, 0.5
    A = lti.Rotation(np.full(3, rho), np.array([0.3, 1.5, 2.9]))
    size, units = np.array([1e30, 1e-30, 1e-44, 1.0]), np.repeat([1e100, 1e-100, 1.0], 2)
    B, C = (rng.standard_normal(shape) for shape in ((n, 4), (4, n)))
    u, g = ((rng.standard_normal((2, 50, 4)) * size).astype(np.float32) for _ in range(2))
    system = lti.LTI(A, B / size * units[:, None], C / size[:, None] / units)
    found = lti.data_gramians(system, [(u, g)])
    wide = lti.data_gramians(system, [(u.astype(float), g.astype(float))])
    for X, expected in zip(found, wide, strict=True):
        root = np.sqrt(np.diag(expected))
        assert X.dtype == np.float64
        # Σ_j |b_j u_j| is at most some times the state: 4 standard deviations each.
        assert np.abs((X - expected) / np.outer(root, root)).max() < 2 * 6 * 2**-24 * 16 / (1 - rho)
    # Nothing drives the first state, and nothing at all the system.
    silent = lti.LTI(A, np.zeros((n, 4)), C)
    assert not lti.data_gramians(silent, [(u, g)])[0].any()
    assert not lti.data_gramians(system, [(0 * u, g)])[0].any()


@pytest.mark.parametrize("structure", ["rotation", "dense"])
def test_batches_of_systems(structure):
    """Signals of the systems lie beside each other, sequences before them."""
    rng = np.random.default_rng(2)
    A = lti.Rotation(rng.uniform(0.2, 0.9, (3, 2)), rng.uniform(0, 3, (3, 2)))
    A = A if structure == "rotation" else A.to_dense()
    sys = lti.LTI(A, rng.standard_normal((3, 4, 1)), rng.standard_normal((3, 1, 4)))
    u, g = signals(3, sys, (5, 3))
    P, Q = lti.data_gramians(sys, [(u, g)])
    for i in range(3):
        one = lti.data_gramians(sys[i], [(u[:, i], g[:, i])])
        np.testing.assert_allclose(P[i], one[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(Q[i], one[1], rtol=1e-12, atol=1e-12)


def test_white_signals_give_the_gramians_of_the_system():
    """E P/L = P_∞ but for (1 − ρ²)⁻¹ steps at the start. The mean over N L samples of x_i x_j, each
    seen about (1 + ρ²)/(1 − ρ²) times, deviates by √(2 P_ii P_jj (1 + ρ²)/((1 − ρ²) N L))."""
    rng = np.random.default_rng(4)
    rho, N, L = 0.8, 64, 4000
    A = lti.Rotation(np.array([rho, 0.5]), np.array([0.4, 1.0]))
    sys = lti.LTI(A, rng.standard_normal((4, 2)), rng.standard_normal((2, 4)))
    found = lti.data_gramians(sys, [signals(k, sys, (16,), L) for k in range(N // 16)])
    ordinary = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    memory = (1 + rho**2) / (1 - rho**2)
    for X, expected in zip(found, ordinary, strict=True):
        diagonal = np.sqrt(np.diag(expected))
        deviation = np.sqrt(2 * memory / (N * L)) + memory / L
        errors = np.abs(X / L - expected) / np.outer(diagonal, diagonal)
        assert errors.max() < 4 * deviation


def test_the_side_without_data_is_that_of_the_system():
    sys = lti.LTI(np.diag([0.5, -0.3]), np.ones((2, 1)), np.ones((1, 2)))
    u, g = signals(0, sys, (2,))
    P, Q = lti.data_gramians(sys, [(u, None)])
    assert np.array_equal(Q, lti.observability_gramian(sys))
    assert np.array_equal(P, lti.data_gramians(sys, [(u, g)])[0])
    P, Q = lti.data_gramians(sys, [(None, g)])
    assert np.array_equal(P, lti.controllability_gramian(sys))
    unstable = lti.LTI(np.diag([1.5, -0.3]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.UnstableSystemError):
        lti.data_gramians(unstable, [(u, None)])
    both = lti.data_gramians(unstable, [(u, g)])
    assert all(np.isfinite(X).all() for X in both)


def test_values_are_changes_of_the_loss():
    """Of one step of one state, ℓ = g y = g c b u: leaving it out changes ℓ by σ_1."""
    sys = lti.LTI(np.array([[0.9]]), np.array([[2.0]]), np.array([[3.0]]))
    P, Q = lti.data_gramians(sys, [(np.array([[0.7]]), np.array([[-0.2]]))], timing="current")
    assert np.sqrt(P * Q) == pytest.approx(0.2 * 3 * 2 * 0.7, rel=1e-15)


def test_single_precision():
    rng = np.random.default_rng(6)
    A = lti.Rotation(np.array([0.9], np.float32), np.array([0.3], np.float32))
    B, C = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 1), (1, 2)))
    sys = lti.LTI(A, B, C)
    u, g = (x.astype(np.float32) for x in signals(7, sys, (3,)))
    P, Q = lti.data_gramians(sys, [(u, g)])
    assert P.dtype == Q.dtype == np.float32
    wide = lti.LTI(
        lti.Rotation(*(x.astype(float) for x in (A.radius, A.angle))), *map(np.float64, (B, C))
    )
    for X, expected in zip((P, Q), lti.data_gramians(wide, [(u, g)]), strict=True):
        assert np.array_equal(X, expected.astype(np.float32))


SYS = lti.LTI(np.diag([0.5, -0.3]), np.ones((2, 1)), np.ones((1, 2)))
ONE = np.ones((2, 5, 1))


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], lti.ArgumentError, "no samples"),
        ([(np.ones((0, 5, 1)), np.ones((0, 5, 1)))], lti.ArgumentError, "no samples"),
        ([(np.ones((2, 0, 1)), None)], lti.ArgumentError, "no samples"),
        ([(ONE, None), (None, None)], lti.ArgumentError, "batch 1 has neither"),
        ([ONE], lti.ArgumentError, "batch 0 is not a pair"),
        ([(ONE, ONE[..., [0, 0]])], lti.ShapeError, "cotangents of batch 0"),
        ([(ONE, ONE[:, :3])], lti.ShapeError, "5 time steps, but cotangents of batch 0 have 3"),
        ([(ONE, ONE), (ONE * np.nan, ONE)], lti.NonFiniteError, "inputs of batch 1"),
    ],
)
def test_bad_batches_are_named(batches, error, message):
    with pytest.raises(error, match=message):
        lti.data_gramians(SYS, batches)


def test_states_that_overflow_are_refused():
    sys = lti.LTI(np.diag([1e3, 0.1]), np.ones((2, 1)), np.ones((1, 2)))
    u, g = signals(0, sys, (1,), length=200)
    with pytest.raises(lti.NonFiniteError, match="overflow"):
        lti.data_gramians(sys, [(u, g)])


def test_cotangents_of_quadratic_outputs_need_inputs():
    sys = lti.QuadraticOutputLTI(
        np.diag([0.5, -0.3]), np.ones((2, 1)), np.ones((1, 2)), np.eye(2)[None]
    )
    with pytest.raises(lti.ArgumentError, match="give both"):
        lti.data_gramians(sys, [(None, ONE)])


@pytest.mark.parametrize("kind", ["oscillation", "diagonal", "dense"])
def test_continuous_systems_are_sampled_first_and_keep_their_states(kind):
    """Refused as they are; sampled, the sums are those of the states that the system itself has at
    the samples, and the pair balances it."""
    sys, step = continuous.system(np.random.default_rng(3), kind), 0.2
    rng = np.random.default_rng(4)
    u, g = rng.standard_normal((40, 2)), rng.standard_normal((40, 3))
    with pytest.raises(
        lti.ArgumentError, match=r"continuous-time .* lticore\.discretize\(sys, step"
    ):
        lti.data_gramians(sys, [(u, g)])
    P, Q = lti.data_gramians(lti.discretize(sys, step=step), [(u, g)])
    _, x = lti.simulate(sys, u, step=step, return_states=True)
    x = x[: len(u)]
    np.testing.assert_allclose(P, x.T @ x, rtol=0, atol=1e-12 * np.linalg.norm(P))
    # e^{Aᴴh} takes costates from one sample to the one before.
    back, costate, costates = scipy.linalg.expm(step * dense(sys.A)).T, np.zeros(sys.order), []
    for g_k in g[::-1]:
        costate = back @ costate + sys.C.T @ g_k
        costates.append(costate)
    expected = np.transpose(costates) @ costates
    np.testing.assert_allclose(Q, expected, rtol=0, atol=1e-12 * np.linalg.norm(Q))
    reduction = lti.balanced_truncation(sys, sys.order, gramians=(P, Q))
    assert reduction.system.is_continuous
    omega = np.linspace(0, 5, 9)
    H, reduced = (lti.frequency_response(x, omega) for x in (sys, reduction.system))
    np.testing.assert_allclose(reduced, H, rtol=0, atol=1e-9 * np.abs(H).max())
