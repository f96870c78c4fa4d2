"""Continuous-time systems over time: held and ramped inputs, states, step responses."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.signal
from continuous import KINDS, state_matrix, system
from oracles import EPS

import lticore as lti


def exact_ramp(sys, inputs, step, initial):
    """Outputs by adaptive integration of ẋ = A x + B u for u straight between the samples."""
    dense = sys.to_dense()
    A, B, C = (np.asarray(X, dtype=complex) for X in (dense.A, dense.B, dense.C))
    states = [np.asarray(initial, dtype=complex)]
    for u, following in itertools.pairwise(inputs):
        slope = (following - u) / step
        found = scipy.integrate.solve_ivp(
            lambda t, x, u=u, slope=slope: A @ x + B @ (u + slope * t),
            (0, step),
            states[-1],
            method="DOP853",
            rtol=1e-12,
            atol=1e-13,
        )
        states.append(found.y[:, -1])
    X = np.stack(states)
    y = X @ C.T
    return (y if sys.D is None else y + inputs @ sys.D.T), X


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hold", ["zoh", "foh"])
def test_simulation_is_integration(kind, hold):
    rng = np.random.default_rng(0)
    sys = system(rng, kind, n=5, D=rng.standard_normal((3, 2)))
    step, u = 0.3, rng.standard_normal((8, 2))
    start = rng.standard_normal(5)
    y, x = lti.simulate(sys, u, step=step, hold=hold, initial=start, return_states=True)
    assert np.iscomplexobj(y) == ("complex" in kind)
    if hold == "foh":
        expected = exact_ramp(sys, u, step, start)
    else:
        sampled = lti.discretize(sys, step=step)
        expected = lti.simulate(sampled, u, initial=start, return_states=True)
    for found, other in zip((y, x), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=0, atol=1e-9 * np.abs(other).max())


@pytest.mark.parametrize("hold", ["zoh", "foh"])
def test_complex_inputs_of_oscillations_keep_their_states(hold):
    rng = np.random.default_rng(1)
    sys = system(rng, "oscillation", n=5)
    twisted = lti.LTI(sys.A, sys.B * (1 + 2j), sys.C, dt=0)
    u = rng.standard_normal((6, 2))
    y, x = lti.simulate(twisted, u, step=0.2, hold=hold, return_states=True)
    expected = lti.simulate(sys, u, step=0.2, hold=hold, return_states=True)
    np.testing.assert_allclose(y, (1 + 2j) * expected[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(x, (1 + 2j) * expected[1], rtol=0, atol=1e-13)


def test_ramps_through_an_integrator_are_parabolas():
    sys = lti.LTI(lti.Diagonal([0.0]), [[1.0]], [[1.0]], dt=0)
    t = 0.5 * np.arange(9)
    y = lti.simulate(sys, t[:, None], step=0.5, hold="foh")
    np.testing.assert_allclose(y[:, 0], t**2 / 2, rtol=1e-15)


@pytest.mark.parametrize("kind", ["oscillation", "dense"])
def test_quadratic_outputs_of_held_inputs(kind):
    rng = np.random.default_rng(2)
    sys, M = system(rng, kind, n=4), rng.standard_normal((3, 4, 4))
    M = M + M.transpose(0, 2, 1)
    u = rng.standard_normal((7, 2))
    quadratic = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, M, dt=0)
    y = lti.simulate(quadratic, u, step=0.4)
    linear, x = lti.simulate(sys, u, step=0.4, return_states=True)
    expected = linear + np.einsum("ti,pij,tj->tp", x, M, x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timing", ["delayed", "current"])
def test_states_of_simulations(kind, timing):
    """In discrete time, step by step."""
    rng = np.random.default_rng(3)
    A = state_matrix(rng, kind, 5)
    dense = A if isinstance(A, np.ndarray) else A.to_dense()
    B, C = rng.standard_normal((5, 2)), rng.standard_normal((3, 5))
    u, x = rng.standard_normal((6, 2)), rng.standard_normal(5)
    sys = lti.LTI(A, B, C)
    y, states = lti.simulate(sys, u, initial=x, timing=timing, return_states=True)
    assert states.shape == (6, 5)
    expected = []
    for row in u:
        following = dense @ x + B @ row
        expected.append(x if timing == "delayed" else following)
        x = following
    size = np.abs(expected).max()
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(y, states @ C.T, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_step_responses_are_held_ones(kind, batch):
    rng = np.random.default_rng(4)
    sys = system(rng, kind, batch=batch, D=rng.standard_normal((3, 2)))
    step = 0.25
    found = lti.step_response(sys, step * np.arange(12))
    for j in range(2):
        u = np.zeros((12, 2))
        u[:, j] = 1
        expected = lti.simulate(sys, u, step=step)
        scale = np.abs(found).max()
        np.testing.assert_allclose(found[..., j], expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("kind", ["oscillation", "dense"])
def test_step_responses_at_any_times(kind):
    """e^{−at} in closed form: (1 − e^{−t/2} (cos 3t + sin 3t/6))/9.25 for 1/(s² + s + 9.25)."""
    A = lti.Oscillation([0.5], [3.0])
    B, C = np.array([[0.0], [1.0]]), np.array([[1.0 / 3, 0.0]])
    sys = lti.LTI(A if kind == "oscillation" else A.to_dense(), B, C, dt=0)
    t = np.array([7.0, 0.0, 1e-6, 0.3, 0.3, 60.0])
    with mpmath.workdps(40):
        expected = [
            (1 - mpmath.exp(-x / 2) * (mpmath.cos(3 * x) + mpmath.sin(3 * x) / 6)) / 9.25
            for x in map(mpmath.mpf, t.tolist())
        ]
    expected = [float(x) for x in expected]
    found = lti.step_response(sys, t).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=10 * EPS)


def test_step_responses_in_discrete_time():
    rng = np.random.default_rng(5)
    B, C, D = (rng.standard_normal(shape) for shape in ((4, 2), (3, 4), (3, 2)))
    sys = lti.LTI(lti.Rotation([0.9, 0.5], [0.3, 2.0]), B, C, D)
    found = lti.step_response(sys, 10)
    for j in range(2):
        u = np.zeros((10, 2))
        u[:, j] = 1
        np.testing.assert_allclose(found[..., j], lti.simulate(sys, u), rtol=0, atol=1e-13)
    reference = scipy.signal.dstep((sys.to_dense().A, B, C, D, 1.0), n=10)[1]
    np.testing.assert_allclose(found, np.stack(reference, axis=-1), rtol=0, atol=1e-13)


def test_float32_and_batches_of_steps():
    rng = np.random.default_rng(6)
    sys = system(rng, "oscillation", batch=(2,))
    u = rng.standard_normal((2, 9, 2)).astype(np.float32)
    single = lti.LTI(
        lti.Oscillation(*(x.astype(np.float32) for x in sys.A.parameters)),
        sys.B.astype(np.float32),
        sys.C.astype(np.float32),
        dt=0,
    )
    found = lti.simulate(single, u, step=np.array([0.1, 0.7]), hold="foh")
    assert found.dtype == np.float32
    for i, step in enumerate((0.1, 0.7)):
        expected = lti.simulate(sys[i], u[i], step=step, hold="foh")
        # Parameters rounded to float32 and nine steps: some 1e-6 of the largest output.
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_bad_arguments():
    sys = system(np.random.default_rng(7), "oscillation")
    sampled, u = lti.discretize(sys, step=0.1), np.ones((4, 2))
    with pytest.raises(lti.ArgumentError, match="pass step=, the time between samples"):
        lti.simulate(sys, u)
    with pytest.raises(lti.ArgumentError, match=r"sys is sampled \(dt = 0\.1\)"):
        lti.simulate(sampled, u, step=0.1)
    with pytest.raises(lti.ArgumentError, match=r"sys is sampled \(dt = 0\.1\)"):
        lti.simulate(sampled, u, hold="foh")
    with pytest.raises(lti.ArgumentError, match="'zoh' or 'foh'"):
        lti.simulate(sys, u, step=0.1, hold="cubic")
    with pytest.raises(lti.ArgumentError, match="for discrete time"):
        lti.simulate(sys, u, step=0.1, timing="current")
    with pytest.raises(lti.ArgumentError, match="step must be positive"):
        lti.simulate(sys, u, step=-1.0)
    with pytest.raises(lti.ArgumentError, match="at least 0"):
        lti.step_response(sys, [-1.0])
    with pytest.raises(lti.ArgumentError, match="steps"):
        lti.step_response(sampled, 0)


@pytest.mark.parametrize("kind", ["oscillation", "complex diagonal", "dense"])
@pytest.mark.parametrize("hold", ["zoh", "foh"])
def test_steps_make_a_batch_of_one_system(kind, hold):
    sys, steps = system(np.random.default_rng(8), kind, n=5), np.array([0.1, 0.7])
    u = np.random.default_rng(9).standard_normal((6, 2))
    y, x = lti.simulate(sys, u, step=steps, hold=hold, return_states=True)
    for i, step in enumerate(steps):
        expected = lti.simulate(sys, u, step=step, hold=hold, return_states=True)
        np.testing.assert_allclose(y[i], expected[0], rtol=0, atol=1e-13 * np.abs(y).max())
        np.testing.assert_allclose(x[i], expected[1], rtol=0, atol=1e-13 * np.abs(x).max())


#: Symmetric and orthogonal, of quarters: a Jordan block in these coordinates has exact entries.
TURN = np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]) / 2


def jordan_block(coupling):
    """H(s) = c³/(s + 1)⁴ in coordinates in which A is full."""
    A = TURN @ (coupling * np.eye(4, k=1) - np.eye(4)) @ TURN
    return lti.LTI(A, TURN[:, 3:], TURN[:1], dt=0)


def test_responses_that_rise_far_before_they_decay():
    """h = c³ e⁻ᵗ t³/6 beside states of c³: squares of e^{At} lose it, a triangle does not."""
    c, t = 64.0, 20.0
    sys = jordan_block(c)
    exact = c**3 * math.exp(-t) * t**3 / 6
    # To first order rounding of A is ∫ C e^{A(t−s)} δA e^{As} B ds, and ‖e^{As}‖ ≤ e⁻ˢ Σ (cs)^k/k!.
    s = np.linspace(0, t, 2001)
    terms = sum((c * s) ** k / math.factorial(k) for k in range(4))
    moved = np.finfo(float).eps * np.linalg.norm(sys.A) * t * np.mean(terms * terms[::-1])
    level = 10 * 4 * math.exp(-t) * moved
    assert level < 1e-3 * exact
    assert abs(lti.impulse_response(sys, np.array([t])).item() - exact) <= level
    # ∫ of it: c³ less what is to come, by parts.
    left = math.exp(-t) * sum(t**k / math.factorial(k) for k in range(4))
    assert lti.step_response(sys, np.array([t])).item() == pytest.approx(
        c**3 * (1 - left), rel=1e-6
    )


def test_responses_that_rounding_of_the_matrix_decides_come_with_a_warning():
    with pytest.warns(lti.PrecisionWarning, match="rises far before it decays"):
        lti.impulse_response(jordan_block(1024.0), np.array([40.0]))


def test_unstable_responses_rise_without_a_warning():
    sys = lti.LTI([[1.0, 2.0], [0.0, 1.5]], [[0.0], [1.0]], [[1.0, 0.0]], dt=0)
    exact = 4 * (math.exp(60) - math.exp(40))
    assert lti.impulse_response(sys, np.array([40.0])).item() == pytest.approx(exact, rel=1e-13)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("structure", [np.diag, lti.Diagonal])
@pytest.mark.parametrize("response", [lti.impulse_response, lti.step_response])
def test_responses_beyond_all_numbers(response, structure):
    """e^{700 t} with e^{−t}: at t = 1 the largest that is a number has 308 digits."""
    sys = lti.LTI(structure(np.array([700.0, -1.0])), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    rate = 700 if response is lti.step_response else 1
    assert response(sys, [1.0]).item() == pytest.approx(math.exp(700) / rate, rel=2000 * EPS)
    for times in ([1.1], [300.0, 0.5]):
        with pytest.raises(lti.NonFiniteError, match=r"overflows.* up to (1\.1|300)\. Ask for ear"):
            response(sys, times)
