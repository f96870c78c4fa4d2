"""Descriptor form: E ẋ = A x + B u."""

import mpmath
import numpy as np
import pytest
from oracles import EPS

import lticore as lti

TIMES = {"discrete": True, "continuous": 0}


def pencil(rng, n=6, continuous=True, complex_=False, batch=()):
    """E of condition about 10, and A = E F for a stable F."""

    def draw(*shape):
        x = rng.standard_normal((*batch, *shape))
        return x + 1j * rng.standard_normal(x.shape) if complex_ else x

    E, F = draw(n, n) + 4 * np.eye(n), draw(n, n)
    poles = np.linalg.eigvals(F)
    if continuous:
        F = F - (poles.real.max(axis=-1) + 0.3)[..., None, None] * np.eye(n)
    else:
        F = 0.9 * F / np.abs(poles).max(axis=-1)[..., None, None]
    return E, E @ F, draw(n, 2), draw(3, n)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("time", TIMES)
def test_the_response_is_that_of_the_pencil(time, batch, complex_):
    rng = np.random.default_rng(0)
    E, A, B, C = pencil(rng, continuous=time == "continuous", complex_=complex_, batch=batch)
    D = rng.standard_normal((3, 2))
    sys = lti.from_descriptor(E, A, B, C, D, dt=TIMES[time])
    assert np.iscomplexobj(sys.A) == complex_
    omega = np.array([0.0, 0.3, 2.0])
    z = 1j * omega if time == "continuous" else np.exp(1j * omega)
    expected = np.stack([C @ np.linalg.solve(x * E - A, B) + D for x in z], axis=-3)
    found = lti.frequency_response(sys, omega)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("complex_", [False, True])
def test_equations_with_a_descriptor_matrix(complex_):
    rng = np.random.default_rng(1)
    for continuous, solve in ((True, lti.solve_lyapunov), (False, lti.solve_stein)):
        E, A, B, _ = pencil(rng, continuous=continuous, complex_=complex_, batch=(2,))
        Q = B @ B.conj().swapaxes(-1, -2)
        X = solve(A, Q, E=E)
        left, right = (Y.conj().swapaxes(-1, -2) for Y in (E, A))
        terms = (
            (A @ X @ left, E @ X @ right, Q) if continuous else (A @ X @ right, -E @ X @ left, Q)
        )
        size = max(np.abs(x).max() for x in terms)
        assert np.abs(sum(terms)).max() <= 1e-11 * size
        folded = solve(
            np.linalg.solve(E, A),
            np.linalg.solve(E, np.linalg.solve(E, Q).conj().swapaxes(-1, -2)),
            horizon=2,
        )
        over = solve(A, Q, E=E, horizon=2)
        np.testing.assert_allclose(over, folded, rtol=0, atol=1e-11 * np.abs(folded).max())


def test_slow_poles_beside_an_ill_conditioned_descriptor_matrix():
    """Poles −1, −2 and −1e14, coupled: E⁻¹ A rounds the slow ones by 1e-2."""
    rng = np.random.default_rng(2)
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    S = np.array([[-1.0, 0.5, 0.3], [0, -2.0, 0.7], [0, 0, -1.0]])
    T = np.diag([1.0, 1.0, 1e-14])
    E, A = U @ T @ V.T, U @ S @ V.T
    B, C = rng.standard_normal((3, 1)), rng.standard_normal((1, 3))
    sys = lti.from_descriptor(E, A, B, C, dt=0)
    omega = np.array([0.0, 0.5, 3.0])
    with mpmath.workdps(60):
        expected = []
        Em, Am, Bm, Cm = (mpmath.matrix(X.tolist()) for X in (E, A, B, C))
        for w in omega.tolist():
            expected.append(complex((Cm * mpmath.lu_solve(mpmath.mpc(0, w) * Em - Am, Bm))[0]))
    # QZ changes E and A by some eps; the pencil is well conditioned at these frequencies.
    found = lti.frequency_response(sys, omega).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    slow = np.sort(sys.poles.real)[1:]
    np.testing.assert_allclose(slow, [-2, -1], rtol=1e-12)


def test_units_of_equations_and_states_do_not_matter():
    rng = np.random.default_rng(3)
    E, A, B, C = pencil(rng)
    r, c = (2.0 ** rng.integers(-80, 80, 6) for _ in range(2))
    plain = lti.from_descriptor(E, A, B, C, dt=0)
    other = lti.from_descriptor(r[:, None] * E * c, r[:, None] * A * c, r[:, None] * B, C * c, dt=0)
    omega = np.linspace(0, 5, 6)
    expected = lti.frequency_response(plain, omega)
    found = lti.frequency_response(other, omega)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_precision_and_no_states():
    one = np.ones((1, 1), dtype=np.float32)
    assert lti.from_descriptor(2 * one, -one, one, one, dt=0).A.dtype == np.float32
    assert lti.solve_lyapunov(-one, one, E=one).dtype == np.float32
    none = np.zeros((0, 0))
    assert lti.from_descriptor(none, none, np.zeros((0, 2)), np.zeros((1, 0))).order == 0


def test_bad_arguments():
    eye = np.eye(2)
    singular = np.diag([1.0, EPS / 8])
    with pytest.raises(lti.SingularEquationError, match=r"E is singular .* 1 of 2 poles"):
        lti.from_descriptor(np.diag([1.0, 0.0]), -eye, eye, eye)
    with pytest.raises(lti.SingularEquationError, match="pencil of A and E is singular"):
        lti.solve_lyapunov(np.diag([-1.0, 0.0]), eye, E=np.diag([1.0, 0.0]))
    # Small entries are no reason: the units of the equations differ.
    assert lti.from_descriptor(singular, -singular, eye, eye, dt=0).poles == pytest.approx([-1, -1])
    with pytest.raises(lti.ShapeError, match="E has shape"):
        lti.solve_stein(eye / 2, eye, E=np.eye(3))
    with pytest.raises(lti.ShapeError, match="Q has shape"):
        lti.solve_stein(eye / 2, np.eye(3), E=eye)
    with pytest.raises(lti.ArgumentError, match="without B"):
        lti.solve_stein(eye / 2, eye, eye / 3, E=eye)
    with pytest.raises(lti.ArgumentError, match=r"A\.to_dense\(\)"):
        lti.solve_lyapunov(lti.Diagonal([-1.0, -2.0]), eye, E=eye)
