"""Recurrences: against explicit sums, against each other, and over long sequences."""

import numpy as np
import pytest

import lticore as lti
from lticore.equations.recurrence import (
    linear_recurrence_reference,
    recurrence_adjoint_reference,
    time_varying_recurrence_reference,
)
from lticore.kernels import cpu_recurrence

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


def random_array(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def poles_inside(rng, shape, dtype):
    poles = random_array(rng, shape, dtype)
    return (0.9 * poles / np.maximum(np.abs(poles), 1)).astype(dtype)


def tolerance(dtype):
    return 200 * np.finfo(dtype).eps


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_linear_recurrence_obeys_its_equation(batch, dtype, reverse):
    rng = np.random.default_rng(0)
    poles, u = poles_inside(rng, 5, dtype), random_array(rng, (*batch, 17, 5), dtype)
    initial = random_array(rng, (*batch, 5), dtype)
    x = lti.linear_recurrence(poles, u, initial=initial, reverse=reverse)
    assert x.dtype == dtype
    assert x.shape == u.shape
    start = initial[..., None, :]
    before = np.concatenate([x[..., 1:, :], start] if reverse else [start, x[..., :-1, :]], axis=-2)
    assert np.abs(x - (poles * before + u)).max() <= tolerance(dtype) * np.abs(x).max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_time_varying_recurrence_obeys_its_equation(batch, dtype, reverse):
    rng = np.random.default_rng(1)
    poles, u = poles_inside(rng, (*batch, 9, 4), dtype), random_array(rng, (*batch, 9, 4), dtype)
    x = lti.time_varying_recurrence(poles, u, reverse=reverse)
    zero = np.zeros_like(x[..., :1, :])
    before = np.concatenate([x[..., 1:, :], zero] if reverse else [zero, x[..., :-1, :]], axis=-2)
    assert np.abs(x - (poles * before + u)).max() <= tolerance(dtype) * np.abs(x).max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("n", "length"), [(1, 1), (127, 3), (128, 5), (300, 40)])
def test_kernel_equals_the_reference(n, length, reverse):
    rng = np.random.default_rng(2)
    poles, u = poles_inside(rng, (2, n), complex), random_array(rng, (2, length, n), complex)
    initial = random_array(rng, (2, n), complex)
    found = lti.linear_recurrence(poles, u, initial=initial, reverse=reverse)
    expected = linear_recurrence_reference(poles, u, initial, reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    varying = np.broadcast_to(poles[:, None, :], u.shape)
    again = time_varying_recurrence_reference(varying, u, initial, reverse)
    np.testing.assert_allclose(
        lti.time_varying_recurrence(varying, u, initial=initial, reverse=reverse), again, rtol=1e-13
    )
    np.testing.assert_allclose(again, expected, rtol=1e-13)


def test_reversed_in_time_is_the_recurrence_of_the_reversed_inputs():
    rng = np.random.default_rng(3)
    poles, u = poles_inside(rng, 6, complex), random_array(rng, (11, 6), complex)
    forward = lti.linear_recurrence(poles, u[::-1])
    np.testing.assert_allclose(lti.linear_recurrence(poles, u, reverse=True), forward[::-1])


def test_adjoint_identity():
    """⟨g, S u⟩ = ⟨Sᴴ g, u⟩ with Sᴴ the reversed recurrence with conjugate poles."""
    rng = np.random.default_rng(4)
    poles = poles_inside(rng, 6, complex)
    u, g = (random_array(rng, (30, 6), complex) for _ in range(2))
    left = np.vdot(g, lti.linear_recurrence(poles, u))
    right = np.vdot(lti.linear_recurrence(poles.conj(), g, reverse=True), u)
    assert left == pytest.approx(right, rel=1e-13)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [((), 1, 1), ((2, 3), 9, 5), ((2,), 40, 300), ((0,), 3, 2)])
def test_fused_adjoint_is_the_reference(shape, dtype, reverse, varying):
    batch, length, n = shape
    rng = np.random.default_rng(8)
    poles = poles_inside(rng, (*batch, length if varying else 1, n), dtype)
    states, g = (random_array(rng, (*batch, length, n), dtype) for _ in range(2))
    initial = random_array(rng, (*batch, n), dtype)
    back, g_poles = cpu_recurrence.recurrence_adjoint(poles, g, states, initial, reverse)
    wide = [x.astype(np.result_type(dtype, np.float64)) for x in (poles, g, states, initial)]
    expected = recurrence_adjoint_reference(*wide, reverse)
    assert back.dtype == dtype
    for x, y in zip((back, g_poles), expected, strict=True):
        assert x.shape == y.shape
        assert np.abs(x - y).max(initial=0) <= tolerance(dtype) * np.abs(y).max(initial=0)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_adjoint_pairs_with_the_recurrence(reverse, varying):
    """d⟨g, x⟩ = Re⟨v, du⟩ + Re⟨g_λ, dλ⟩ along random directions."""
    rng = np.random.default_rng(9)
    steps = 12 if varying else 1
    poles, dp = poles_inside(rng, (steps, 4), complex), random_array(rng, (steps, 4), complex)
    u, du, g = (random_array(rng, (12, 4), complex) for _ in range(3))
    initial = random_array(rng, 4, complex)

    def run(poles, u):
        every = np.broadcast_to(poles, u.shape)
        return lti.time_varying_recurrence(every, u, initial=initial, reverse=reverse)

    x = run(poles, u)
    back, g_poles = cpu_recurrence.recurrence_adjoint(poles, g, x, initial, reverse)

    def paired(t):
        return np.vdot(g, run(poles + t * dp, u + t * du)).real

    slope = (paired(1e-6) - paired(-1e-6)) / 2e-6
    assert (np.vdot(back, du) + np.vdot(g_poles, dp)).real == pytest.approx(slope, rel=1e-7)


def test_long_single_precision_sequences():
    """|λ| = 0.9999 over 16 384 steps, against float64 with the same rounded poles."""
    rng = np.random.default_rng(5)
    poles = (0.9999 * np.exp(1j * rng.uniform(0, np.pi, 64))).astype(np.complex64)
    u = random_array(rng, (2, 16384, 64), np.complex64)
    single = lti.linear_recurrence(poles, u)
    double = lti.linear_recurrence(poles.astype(complex), u.astype(complex))
    assert np.linalg.norm(single - double) <= 1e-4 * np.linalg.norm(double)


def test_broadcasting_and_promotion():
    rng = np.random.default_rng(6)
    poles = rng.uniform(-0.9, 0.9, (3, 1, 4))
    u = random_array(rng, (2, 7, 4), np.complex64)
    x = lti.linear_recurrence(poles, u)
    assert x.shape == (3, 2, 7, 4)
    assert x.dtype == np.complex128
    np.testing.assert_allclose(x[1, 0], lti.linear_recurrence(poles[1, 0], u[0]), rtol=1e-12)


def test_inputs_stay_and_may_be_read_only_or_strided():
    rng = np.random.default_rng(7)
    wide = random_array(rng, (20, 10), float)
    u = wide[::2, ::2]
    u.flags.writeable = False
    before = wide.copy()
    x = lti.linear_recurrence(np.full(5, 0.5), u)
    assert np.array_equal(wide, before)
    np.testing.assert_allclose(x, lti.linear_recurrence(np.full(5, 0.5), u.copy()))


def test_empty_sequences():
    assert lti.linear_recurrence(np.full(3, 0.5), np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert lti.linear_recurrence(np.full(3, 0.5), np.zeros((0, 4, 3))).shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.5], np.zeros((3, 2))), lti.ShapeError, "poles has 1 state, but inputs has 2"),
        (([0.5], np.zeros(3)), lti.ShapeError, "inputs has shape"),
        (([np.nan], np.zeros((3, 1))), lti.NonFiniteError, "poles contains NaN"),
        (([0.5], np.zeros((3, 1), np.float16)), lti.DtypeError, "inputs has dtype float16"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        lti.linear_recurrence(*arguments)


def test_time_steps_must_agree():
    with pytest.raises(lti.ShapeError, match="2 time steps, but inputs has 3"):
        lti.time_varying_recurrence(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(lti.ShapeError, match="initial has 2 states"):
        lti.linear_recurrence([0.5], np.zeros((3, 1)), initial=[0.0, 0.0])
