"""Systems from impulse responses: known systems, filters that end, and what cannot be told."""

import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import lticore as lti
from lticore.matrices.block_hankel import BlockHankel
from lticore.matrices.lanczos import leading_triples
from lticore.reduction import impulse_response as module

RNG = np.random.default_rng(0)
POLES = lti.Rotation([0.95, 0.8], [0.3, 1.2], [0.9, -0.5])
SYSTEM = lti.LTI(
    POLES,
    RNG.standard_normal((6, 2)),
    RNG.standard_normal((3, 6)),
    RNG.standard_normal((3, 2)),
    dt=0.25,
)


def single(taps):
    """The response of one input and output."""
    return np.asarray(taps)[:, None, None]


def delay_line(taps):
    """The FIR filter Σ_k taps_k z^{−k} as a chain of delays."""
    n = len(taps) - 1
    return lti.LTI(np.eye(n, k=-1), np.eye(n, 1), taps[None, 1:], taps[:1, None])


# --- what is met ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [14, 100, 900])
def test_a_known_system_is_recovered(steps):
    """Also where the data stop long before they decay, and by products of long responses."""
    h = lti.impulse_response(SYSTEM, steps)
    found = lti.from_impulse_response(h, order=6, dt=0.25)
    assert found.order == 6
    assert found.system.dt == 0.25
    assert found.error_bound is found.left is found.right is None
    expected = lti.impulse_response(SYSTEM, 2 * steps)
    np.testing.assert_allclose(
        lti.impulse_response(found.system, 2 * steps), expected, rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(
        np.sort_complex(found.system.poles), np.sort_complex(SYSTEM.poles), atol=1e-10
    )
    assert found.h2_error < 1e-11


@pytest.mark.parametrize("criterion", [{"energy": 1 - 1e-9}, {"error": 1e-6}])
def test_the_order_of_a_known_system_is_found(criterion):
    h = lti.impulse_response(SYSTEM, 80)
    assert lti.from_impulse_response(h, **criterion).order == 6


def test_complex_batches():
    poles = np.array([[0.9j, -0.5, 0.3 + 0.2j], [0.8, 0.7j, -0.6j]])
    B, C = RNG.standard_normal((2, 2, 3, 1)) + 1j * RNG.standard_normal((2, 2, 3, 1))
    sys = lti.LTI(lti.Diagonal(poles), B, C.swapaxes(-1, -2))
    found = lti.from_impulse_response(lti.impulse_response(sys, 40), order=3)
    assert found.system.batch_shape == (2,)
    assert found.h2_error.shape == (2,)
    np.testing.assert_allclose(
        lti.impulse_response(found.system, 60), lti.impulse_response(sys, 60), atol=1e-12
    )


def test_the_error_of_a_complex_system_is_that_of_its_response():
    poles = np.array([0.9j, -0.8, 0.7 + 0.2j])
    B, C = RNG.standard_normal((2, 3, 1)) + 1j * RNG.standard_normal((2, 3, 1))
    h = lti.impulse_response(lti.LTI(lti.Diagonal(poles), B, C.T), 100)
    found = lti.from_impulse_response(h, order=2)
    missed = [
        x - found.system.C @ np.linalg.matrix_power(found.system.A, k) @ found.system.B
        for k, x in enumerate(h[1:])
    ]
    assert found.h2_error == pytest.approx(np.linalg.norm(missed), rel=1e-10)


def test_single_precision():
    """The values that float32 hides are not taken for states, and the error is that of the system
    as it was rounded."""
    h = lti.impulse_response(SYSTEM, 60).astype(np.float32)
    with pytest.warns(lti.PrecisionWarning, match="only 6 Hankel singular values"):
        found = lti.from_impulse_response(h, order=9)
    assert found.order == 6
    assert {x.dtype for x in (found.system.A, found.singular_values, found.h2_error)} == {
        np.dtype(np.float32)
    }
    rounded = lti.LTI(*(np.asarray(x, dtype=np.float64) for x in _matrices(found.system)))
    error = np.linalg.norm(lti.impulse_response(rounded, 60) - h)
    assert found.h2_error == pytest.approx(error, rel=1e-3)
    assert error < 1e-5 * np.linalg.norm(h)


def _matrices(sys):
    return sys.A, sys.B, sys.C, sys.D


@pytest.mark.parametrize("exponent", [-1000, 900])
def test_units_of_the_response_change_nothing(exponent):
    h = lti.impulse_response(SYSTEM, 40)
    one = lti.from_impulse_response(h, order=4)
    other = lti.from_impulse_response(np.ldexp(h, exponent), order=4)
    np.testing.assert_array_equal(other.system.A, one.system.A)
    np.testing.assert_array_equal(other.singular_values, np.ldexp(one.singular_values, exponent))
    np.testing.assert_allclose(other.h2_error, np.ldexp(one.h2_error, exponent), rtol=1e-14)


def test_singular_values_are_those_of_the_halves():
    h = RNG.standard_normal((14, 3, 2)) * 0.8 ** np.arange(14)[:, None, None]
    H = np.block([[h[1 + a + b] for b in range(6)] for a in range(7)])
    found = lti.from_impulse_response(h, order=2)
    np.testing.assert_allclose(
        found.singular_values, np.linalg.svd(H, compute_uv=False), rtol=1e-12
    )
    error = np.linalg.norm(h - lti.impulse_response(found.system, 14))
    assert found.h2_error == pytest.approx(error, rel=1e-12)


# --- filters that end -------------------------------------------------------------------------


def test_a_filter_is_met_by_as_many_states_as_it_has_delays():
    """Its poles are 0, and so is the response after its end."""
    taps = np.array([0.25, 1.0, -2.0, 0.5, 0.0, 3.0])
    with pytest.warns(lti.PrecisionWarning, match="taken to end after its 6 steps"):
        found = lti.from_impulse_response(single(taps), order=5)
    assert found.order == 5
    response = lti.impulse_response(found.system, 12)[:, 0, 0]
    np.testing.assert_allclose(response, np.pad(taps, (0, 6)), atol=1e-13)
    np.testing.assert_allclose(np.linalg.matrix_power(found.system.A, 5), 0, atol=1e-12)


def test_with_zeros_after_its_end_a_filter_is_truncated_as_its_delay_line():
    taps = scipy.signal.firwin(41, 0.3)
    with_zeros = np.pad(taps, (0, 41))
    for r in (6, 11):
        found = lti.from_impulse_response(single(with_zeros), order=r)
        expected = lti.balanced_truncation(delay_line(taps), order=r)
        np.testing.assert_allclose(
            found.singular_values[:r], expected.singular_values[:r], rtol=1e-12
        )
        np.testing.assert_allclose(
            lti.impulse_response(found.system, 100),
            lti.impulse_response(expected.system, 100),
            atol=1e-12,
        )
        assert lti.hinf_error(delay_line(taps), found.system) <= expected.error_bound


def test_a_filter_that_the_halves_would_let_rise_again_ends():
    """Halves of 41 taps give a system that answers with a second pulse of the size of the first."""
    taps = scipy.signal.firwin(101, 0.3)
    found = lti.from_impulse_response(single(taps), order=20)
    expected = lti.balanced_truncation(delay_line(taps), order=20)
    np.testing.assert_allclose(
        lti.impulse_response(found.system, 300), lti.impulse_response(expected.system, 300),
        atol=1e-11,
    )  # fmt: skip


def test_noise_is_met_exactly_by_all_states():
    taps = np.random.default_rng(3).standard_normal(31)
    with pytest.warns(lti.PrecisionWarning, match="its last tenth holds"):
        found = lti.from_impulse_response(single(taps), error=1e-9)
    assert found.order == 30
    np.testing.assert_allclose(lti.impulse_response(found.system, 31)[:, 0, 0], taps, atol=1e-12)


# --- stability --------------------------------------------------------------------------------


def noisy():
    k = np.arange(120)
    noise = np.random.default_rng(0).standard_normal(120)
    return single(0.999**k * np.cos(0.3 * k) + 0.3 * noise)


def test_unstable_poles_of_noise_are_reflected():
    h = noisy()
    with pytest.warns(lti.PrecisionWarning) as said:
        found = lti.from_impulse_response(h, order=40)
    messages = [str(x.message) for x in said]
    # Kung's A of halves of the response.
    H = scipy.linalg.hankel(h[1:61, 0, 0], h[60:119, 0, 0])
    U, sigma, Vh = np.linalg.svd(H)
    following = scipy.linalg.hankel(h[2:62, 0, 0], h[61:120, 0, 0])
    root = np.sqrt(sigma[:40])
    poles = np.linalg.eigvals(U[:, :40].T @ following @ Vh[:40].T / root[:, None] / root)
    count = np.sum(np.abs(poles) > 1)
    assert count > 1
    assert any(f"led to {count} unstable poles: they were reflected" in x for x in messages)
    assert any("has not decayed at its end" in x for x in messages)
    assert found.system.spectral_radius < 1
    # C is the best for the poles and B: a least-squares problem.
    A, B = found.system.A, found.system.B
    states = [B]
    for _ in range(118):
        states.append(A @ states[-1])
    X = np.concatenate(states, axis=1).T
    best = np.linalg.lstsq(X, h[1:, 0, 0], rcond=None)[0]
    assert found.h2_error == pytest.approx(np.linalg.norm(X @ best - h[1:, 0, 0]), rel=1e-8)


def test_an_integrator_is_brought_inside():
    with pytest.warns(lti.PrecisionWarning, match="1 unstable poles"):
        found = lti.from_impulse_response(single(np.r_[0.0, np.ones(40)]), order=1)
    assert 1 - 1e-11 < found.system.A[0, 0] < 1
    assert found.h2_error < 1e-9


def test_a_response_that_grows_is_that_of_an_unstable_system():
    with pytest.warns(lti.PrecisionWarning, match="grows, and the system is unstable"):
        found = lti.from_impulse_response(single(1.1 ** np.arange(40)), order=1)
    assert found.system.A[0, 0] == pytest.approx(1.1, rel=1e-13)
    assert found.h2_error < 1e-11


def test_poles_that_single_precision_moves_across_the_circle_are_named():
    h = single((1 - 1e-9) ** np.arange(60)).astype(np.float32)
    with pytest.warns(lti.PrecisionWarning, match="stable, but not in float32"):
        lti.from_impulse_response(h, order=1)


def test_a_response_that_grows_beyond_all_numbers_after_the_data():
    with pytest.warns(lti.PrecisionWarning, match="grows"):
        found = lti.from_impulse_response(single(20.0 ** np.arange(200)), order=1)
    assert found.system.A[0, 0] == pytest.approx(20, rel=1e-12)


# --- long responses ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("columns", [1, 19])
def test_products_with_hankel_matrices(dtype, columns):
    h = RNG.standard_normal((12, 2, 3)).astype(dtype)
    if dtype is complex:
        h = h + 1j * RNG.standard_normal(h.shape)
    H = BlockHankel(h, 5, 8)
    dense = np.block([[h[a + b] for b in range(8)] for a in range(5)])
    np.testing.assert_array_equal(H.dense(), dense)
    X, Y = RNG.standard_normal((24, columns)), RNG.standard_normal((10, columns))
    np.testing.assert_allclose(H @ X, dense @ X, atol=1e-13)
    np.testing.assert_allclose(H.adjoint @ Y, dense.conj().T @ Y, atol=1e-13)
    assert H.frobenius() == pytest.approx(np.linalg.norm(dense), rel=1e-14)


@pytest.mark.parametrize("count", [10, None])
def test_leading_singular_values(count):
    """Of a graded matrix, by the values above a level; and of one that falls slowly."""
    values = 2.0 ** -np.arange(60) if count is None else 1 / np.arange(1, 61)
    U, V = (np.linalg.qr(RNG.standard_normal((n, 60)))[0] for n in (200, 150))
    H = (U * values) @ V.T

    class Matrix(np.ndarray):
        adjoint = property(lambda self: self.T)

    found = leading_triples(H.view(Matrix), count, 1e-13, 150)
    k = count or int(np.sum(values > 1e-13))
    assert found.whole or count
    np.testing.assert_allclose(found.sigma[:k], values[:k], rtol=0, atol=1e-14)
    signs = np.sum(U[:, :k] * found.U[:, :k], axis=0)
    np.testing.assert_allclose(np.abs(signs[:8]), 1, atol=1e-10)
    np.testing.assert_allclose(
        np.asarray(H @ found.V[:, :8]), found.U[:, :8] * found.sigma[:8], atol=1e-13
    )


def test_both_ways_give_the_same(monkeypatch):
    h = lti.impulse_response(SYSTEM, 150)
    whole = lti.from_impulse_response(h, order=4)
    monkeypatch.setattr(module, "_SMALL", 0)
    monkeypatch.setattr(module, "_PART", 0)
    found = lti.from_impulse_response(h, order=4)
    np.testing.assert_allclose(found.singular_values[:4], whole.singular_values[:4], rtol=1e-12)
    np.testing.assert_allclose(
        lti.impulse_response(found.system, 300), lti.impulse_response(whole.system, 300), atol=1e-12
    )
    # Values of the other half are asked for too; they are not clear.
    assert lti.from_impulse_response(h, error=1e-6).order == 6


def s4_kernel(steps):
    """Σ_n Re(c_n exp((−½ + iπn) t)) over twelve seconds, as of S4D-Lin with 16 modes."""
    rng = np.random.default_rng(7)
    t = np.linspace(0, 12, steps)
    c = rng.standard_normal(16) + 1j * rng.standard_normal(16)
    return np.real(np.exp(np.outer(t, -0.5 + 1j * np.pi * np.arange(16))) @ c) / steps


def test_a_long_kernel_in_little_memory():
    h = single(s4_kernel(20_000))
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lti.from_impulse_response(h, error=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # its Hankel matrix has 800 MB
    assert found.order == 31  # one real mode and 15 pairs
    assert found.h2_error < 1e-9 * np.linalg.norm(h)
    assert found.system.spectral_radius < 1


@pytest.mark.slow
def test_a_kernel_of_100_000_steps_to_a_given_error():
    h = single(s4_kernel(100_000))
    for error in (1e-1, 1e-3):
        found = lti.from_impulse_response(h, error=error)
        assert 2 * np.sum(found.singular_values[found.order :]) <= error
        assert found.h2_error <= error
        y = lti.impulse_response(found.system, 100_000)
        assert found.h2_error == pytest.approx(np.linalg.norm(y - h), rel=1e-6)


# --- what is refused --------------------------------------------------------------------------


def test_no_states():
    D = np.array([[[1.0, 2.0]]])
    found = lti.from_impulse_response(D, energy=0.9)
    assert found.order == 0
    np.testing.assert_array_equal(lti.impulse_response(found.system, 1), D)
    silent = lti.from_impulse_response(np.zeros((9, 2, 2)), order=2)
    assert silent.order == 0
    assert silent.h2_error == 0


def test_entries_of_lower_rank_have_states_that_do_nothing():
    h = np.stack([lti.impulse_response(SYSTEM, 40), np.zeros((40, 3, 2))])
    found = lti.from_impulse_response(h, order=6)
    assert found.order == 6
    np.testing.assert_array_equal(found.system.B[1], 0)
    np.testing.assert_allclose(found.h2_error, 0, atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"h": np.ones(4), "order": 1}, lti.ShapeError, r"h has shape \(4,\): an impulse response"),
        ({"h": np.ones((0, 1, 1)), "order": 1}, lti.ShapeError, "holds no steps"),
        ({"h": np.full((4, 1, 1), np.nan), "order": 1}, lti.NonFiniteError, "h contains NaN"),
        ({"h": np.ones((4, 1, 1))}, lti.ArgumentError, "exactly one of order=, energy= and error="),
        ({"h": np.ones((4, 2, 3)), "order": 7}, lti.ArgumentError, "at most 6 states: give a long"),
        ({"h": np.ones((1, 1, 1)), "order": 1}, lti.ArgumentError, "at most 0 states"),
        ({"h": np.ones((4, 1, 1)), "order": 0}, lti.ArgumentError, "order must be an integer of"),
        ({"h": np.ones((4, 1, 1)), "energy": 2}, lti.ArgumentError, "energy must lie in"),
        ({"h": np.ones((4, 1, 1)), "order": 1, "dt": 0}, lti.ArgumentError, "to_continuous"),
        ({"h": np.ones((4, 1, 1)), "order": 1, "dt": None}, lti.ArgumentError, "leaves open"),
        ({"h": np.ones((0, 4, 1, 1)), "order": 1}, lti.ShapeError, "batch"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        lti.from_impulse_response(**arguments)


def test_long_noise_has_too_many_values():
    h = single(np.random.default_rng(0).standard_normal(3000))
    with pytest.raises(lti.ArgumentError, match=r"fall to .* only: energy= and error= need all"):
        lti.from_impulse_response(h, energy=0.5)
