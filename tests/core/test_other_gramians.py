"""Weighted and band-limited Gramians, against cascades and numerical integration."""

import math
import warnings
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import scipy.linalg
from oracles import EPS, dense

import lticore as lti

KINDS = ("blocks", "diagonal", "dense")
TIMES = (True, 0)


def system(rng, kind, dt, batch=()):
    """Five states; poles with a distance of at least 0.1 from the boundary."""
    if kind == "diagonal":
        if dt:
            radius = rng.uniform(0.1, 0.9, (*batch, 5))
            A = lti.Diagonal(radius * np.exp(1j * rng.uniform(-3, 3, (*batch, 5))))
        else:
            A = lti.Diagonal(-rng.uniform(0.1, 2, (*batch, 5)) + 1j * rng.normal(size=(*batch, 5)))
    elif dt:
        A = lti.Rotation(
            rng.uniform(0.1, 0.9, (*batch, 2)),
            rng.uniform(0, 3, (*batch, 2)),
            rng.uniform(-0.9, 0.9, (*batch, 1)),
        )
    else:
        A = lti.Oscillation(
            rng.uniform(0.1, 2, (*batch, 2)),
            rng.uniform(0, 5, (*batch, 2)),
            -rng.uniform(0.1, 2, (*batch, 1)),
        )
    B, C = rng.standard_normal((*batch, 5, 2)), rng.standard_normal((*batch, 3, 5))
    if kind == "dense":
        T = np.linalg.qr(rng.standard_normal((5, 5)))[0] @ np.diag([1, 2, 0.5, 1, 3])
        A, B, C = T @ dense(A) @ np.linalg.inv(T), T @ B, C @ np.linalg.inv(T)
    return lti.LTI(A, B, C, rng.standard_normal((3, 2)), dt=dt)


def integrated(sys, bands):
    """(P, Q) by Gauss-Legendre, 30 points on each of 60 parts of a band."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    A, n = dense(sys.A), sys.order
    P, Q = np.zeros((2, n, n), dtype=complex)
    for low, high in bands:
        ends = np.linspace(low, high, 61)
        for a, b in pairwise(ends):
            for x, w in zip(a + (b - a) * (1 + nodes) / 2, weights * (b - a) / 2, strict=True):
                z = np.exp(1j * x) if sys.dt else 1j * x
                R = np.linalg.inv(z * np.eye(n) - A)
                left, right = R @ sys.B, sys.C @ R
                P += w / (2 * np.pi) * left @ left.conj().T
                Q += w / (2 * np.pi) * right.conj().T @ right
    return P, Q


@pytest.mark.parametrize("dt", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_bands_are_integrals(kind, dt):
    sys = system(np.random.default_rng(0), kind, dt)
    given = [(0.5, 1.25), (2.0, 2.5), (2.25, 2.75)]
    bands = [(0.5, 1.25), (2.0, 2.75)]
    if kind != "diagonal":
        bands += [(-high, -low) for low, high in bands]
    expected = integrated(sys, bands)
    for X, Y in zip(lti.band_gramians(sys, given), expected, strict=True):
        assert np.isrealobj(X) == (kind != "diagonal")
        np.testing.assert_allclose(X, Y, rtol=0, atol=1e-12 * np.abs(Y).max())


@pytest.mark.parametrize("dt", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_frequencies_give_the_gramians(kind, dt):
    sys = system(np.random.default_rng(1), kind, dt, batch=(2,))
    most = np.pi if dt else np.inf
    whole = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    for bands in ([(-most, most)], [(0, most), (-most, 0.5)]):
        for X, Y in zip(lti.band_gramians(sys, bands), whole, strict=True):
            np.testing.assert_allclose(X, Y, rtol=0, atol=1e-12 * np.abs(Y).max())
    parts = [lti.band_gramians(sys, [band]) for band in ((-most, -1), (-1, 0.25), (0.25, most))]
    if kind == "diagonal":
        for X, Y in zip(np.sum(parts, axis=0), whole, strict=True):
            np.testing.assert_allclose(X, Y, rtol=0, atol=1e-12 * np.abs(Y).max())


def test_bands_of_a_chain_of_states_that_nothing_looks_at():
    """Outputs ask for other units of the last state than inputs, by 2^140 where A hardly couples
    back: P_44 was 3.96 instead of 3.73."""
    A = np.diag(np.ones(4), -1)
    A[0] = [1.55e-9, -2.05e-17, -6.27e-42, 1.60e-66, -1.07e-92]
    B = [[0.0, 0.0], [2.0, -0.5], [-0.75, 0.5], [0.0, 0.0], [0.0625, 3.5]]
    C = [[-0.875, 0.0, -0.5, -0.5, 0.0], [0.25, 0.0, -1.0, -0.5, 0.0]]
    sys = lti.LTI(A, np.array(B), np.array(C))
    bands = [(0.25, 1.0)]
    expected = integrated(sys, [*bands, (-1.0, -0.25)])
    for X, Y in zip(lti.band_gramians(sys, bands), expected, strict=True):
        Y = Y.real
        size = np.sqrt(np.diag(Y))
        # Sums of 3 600 terms that differ in size by 1e3 at most.
        assert (np.abs(X - Y) <= 1e-12 * np.outer(size, size)).all()


@pytest.mark.parametrize("dt", TIMES)
def test_narrow_bands_at_a_sharp_peak_keep_their_digits(dt):
    """A band of 1e-9 around a pole 1e-12 from the boundary, in 40 digits: P = ∫ |b|²/|z − λ|²/2π,
    an arctangent in continuous time and nearly one in discrete time."""
    gap, width = 1e-12, 1e-9
    pole = (1 - gap) if dt else -gap
    sys = lti.LTI(lti.Diagonal(np.array([pole + 0j])), [[1.0]], [[1.0]], dt=dt)
    (found,) = lti.band_gramians(sys, [(-width, 2 * width)])[0][0].real
    with mpmath.workdps(40):
        a = mpmath.mpf(pole)

        def density(w):
            z = mpmath.exp(1j * w) if dt else mpmath.mpc(0, w)
            return 1 / abs(z - a) ** 2

        points = [-width, -1e-11, 0, 1e-11, 2 * width]
        exact = mpmath.quad(density, [mpmath.mpf(x) for x in points]) / (2 * mpmath.pi)
    assert found == pytest.approx(float(exact), rel=1e-12 if not dt else 1e-3 * EPS / gap + 1e-12)


@pytest.mark.parametrize("dt", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_cascades(kind, dt):
    rng = np.random.default_rng(2)
    sys = system(rng, kind, dt)
    poles = [0.5, -0.25] if dt else [-0.5, -2.0]
    W = lti.LTI(lti.Diagonal(poles), rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), dt=dt)
    W = lti.LTI(W.A, W.B, W.C, rng.normal(size=(2, 3)), dt=dt)
    V = lti.LTI(np.diag(poles), rng.normal(size=(2, 3)), rng.normal(size=(1, 2)), dt=dt)
    P, Q = lti.weighted_gramians(sys, input_weight=W, output_weight=V)
    before, after = sys @ W, V @ sys
    for X, Y in (
        (P, lti.controllability_gramian(before)[2:, 2:]),
        (Q, lti.observability_gramian(after)[:5, :5]),
    ):
        np.testing.assert_allclose(X, Y, rtol=0, atol=1e-11 * np.abs(Y).max())
    alone = lti.weighted_gramians(sys)
    np.testing.assert_allclose(alone[0], lti.controllability_gramian(sys), atol=1e-11)
    np.testing.assert_allclose(alone[1], lti.observability_gramian(sys), atol=1e-11)


@pytest.mark.parametrize("dt", TIMES)
def test_reduction_is_better_where_it_is_asked_to_be(dt):
    """Twelve states over two decades: the band of the slow ones, and a low-pass weight."""
    frequency = np.geomspace(0.03, 2, 6)
    if dt:
        A = lti.Rotation(np.exp(-0.2 * frequency), frequency)
    else:
        A = lti.Oscillation(0.2 * frequency, frequency)
    B = np.tile([[1.0], [0.0]], (6, 1)) * np.repeat(np.geomspace(0.3, 3, 6), 2)[:, None]
    sys = lti.LTI(A, B, B.T, dt=dt)
    omega = np.linspace(0, 0.2, 400)

    def error(reduction):
        H, small = (lti.frequency_response(x, omega) for x in (sys, reduction.system))
        return np.abs(H - small).max()

    pole = 0.95 if dt else -0.05
    low = lti.LTI([[pole]], [[0.05]], [[1.0]], dt=dt)
    plain, limited, weighted = (
        lti.balanced_truncation(sys, order=8, gramians=pair)
        for pair in (
            None,
            lti.band_gramians(sys, [(0.0, 0.2)]),
            lti.weighted_gramians(sys, output_weight=low),
        )
    )
    assert error(limited) < error(plain) / 50
    assert error(weighted) < error(plain) / 3
    for one in (limited, weighted):
        assert one.error_bound is None
        assert one.system.dt == sys.dt


def test_bad_bands_and_weights():
    sys = system(np.random.default_rng(3), "dense", 0)
    for bands, message in (
        ([(2.0, 1.0)], r"a band \(ω_1, ω_2\) has .* ω_1 < ω_2"),
        ([(np.nan, 1.0)], r"a band \(ω_1, ω_2\)"),
        ([1.0], "bands are pairs"),
        ([], "bands is empty"),
    ):
        with pytest.raises(lti.ArgumentError, match=message):
            lti.band_gramians(sys, bands)
    with pytest.raises(lti.ArgumentError, match="rad per sample"):
        lti.band_gramians(system(np.random.default_rng(3), "dense", True), [(1.0, 4.0)])
    with pytest.raises(
        lti.ArgumentError, match="input_weight has 1 outputs, but the system needs 2"
    ):
        lti.weighted_gramians(sys, input_weight=lti.LTI([[-1.0]], [[1.0]], [[1.0]], dt=0))
    with pytest.raises(lti.ArgumentError, match=r"dt = 0\.0 and dt = True"):
        lti.weighted_gramians(sys, output_weight=lti.LTI([[0.5]], np.ones((1, 3)), [[1.0]]))
    unstable = lti.LTI([[1.0]], np.ones((1, 3)), [[1.0]], dt=0)
    with pytest.raises(lti.UnstableSystemError, match=r"\(output_weight\)"):
        lti.weighted_gramians(sys, output_weight=unstable)


@pytest.mark.parametrize("dt", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_signals_of_any_size(kind, dt):
    """Powers of two, in which signals are measured, change no digit; what overflows is refused."""
    sys = system(np.random.default_rng(8), kind, dt)
    weight = lti.LTI([[0.3 if dt else -0.3]], [[1.0, 0.5]], [[1.0], [2.0]], dt=dt)
    functions = (
        lambda x: lti.band_gramians(x, [(0.2, 1.0)]),
        lambda x: lti.weighted_gramians(x, input_weight=weight),
    )
    for function in functions:
        P, Q = function(sys)
        large = lti.LTI(sys.A, sys.B * 2.0**500, sys.C * 2.0**-480, dt=dt)
        found = function(large)
        assert np.array_equal(found[0], P * 2.0**1000)
        assert np.array_equal(found[1], Q * 2.0**-960)
        for b, c, name in ((600, -600, "P"), (-600, 600, "Q")):
            with pytest.raises(lti.NonFiniteError, match=f"the Gramian {name} overflows"):
                function(lti.LTI(sys.A, sys.B * 2.0**b, sys.C * 2.0**c, dt=dt))


@pytest.mark.parametrize("dt", TIMES)
def test_bands_of_systems_with_entries_next_to_the_smallest_number(dt):
    """A chain b = (1, 0, 0) that feeds ever smaller: P_11 = ∫_{−1}^{1} |z − a|⁻² dω/2π."""
    a = 1e-97 if dt else -1.0
    A = np.array([[a, 1e-128, 0], [1e-82, a, 0], [0, 1e-300, a]])
    P, _ = lti.band_gramians(lti.LTI(A, np.eye(3, 1), np.ones((1, 3)), dt=dt), [(0.0, 1.0)])
    assert P[0, 0] == pytest.approx(1 / np.pi if dt else 0.25, rel=1e-13)


@pytest.mark.parametrize(("dt", "where"), [(True, "unit circle"), (0, "imaginary axis")])
def test_unstable_poles_are_reflected_at_the_boundary_of_their_time(dt, where):
    """P = v v' and Q = w w' project on one state with the pole w'Av/w'v, outside for these."""
    A = np.array([[0.5, 4.0], [0.0, 0.25]]) - (0 if dt else 1) * np.eye(2)
    sys = lti.LTI(A, [[1.0], [1.0]], [[1.0, 1.0]], dt=dt)
    v, w = np.array([[1.0], [1.0]]), np.array([[1.0], [0.0]])
    pole = 4.5 if dt else 3.5
    with pytest.warns(lti.PrecisionWarning, match=f"reflected at the {where}"):
        reduced = lti.balanced_truncation(sys, order=1, gramians=(v @ v.T, w @ w.T)).system
    assert reduced.poles[0] == pytest.approx(1 / pole if dt else -pole, rel=1e-12)


@pytest.mark.parametrize("dt", TIMES)
def test_rounding_of_dense_poles_in_bands_is_said(dt):
    """A pole 1e-12 from the boundary: a dense A holds it to 1e-16, which is 1e-4 of the Gramian."""
    A = lti.Rotation([1 - 1e-12], [0.7]) if dt else lti.Oscillation([1e-12], [0.7])
    B, C = np.eye(2, 1), np.eye(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lti.band_gramians(lti.LTI(A, B, C, dt=dt), [(0.6, 0.8)])
    with pytest.warns(lti.PrecisionWarning, match="into the Gramian of bands"):
        lti.band_gramians(lti.LTI(A.to_dense(), B, C, dt=dt), [(0.6, 0.8)])


def test_logarithms_that_scipy_finds_inaccurate_are_said_in_our_words(capsys):
    """A pole near the boundary, of a chain whose states feed each other strongly."""
    A = np.diag([1 - 1e-7, 0.9, 0.8]) + 10 * np.triu(np.ones((3, 3)), 1)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    A = Q @ A @ Q.T
    first, second = (np.eye(3) - np.exp(-1j * w) * A for w in (-1e-3, 1e-3))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        scipy.linalg.logm(np.linalg.solve(first, second))
    # Older SciPys print it.
    words = "".join(str(one.message) for one in said) + capsys.readouterr().out
    assert "logm result may be inaccurate" in words
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        lti.band_gramians(lti.LTI(A, np.ones((3, 1)), np.ones((1, 3))), [(0.0, 1e-3)])
    assert capsys.readouterr().out == ""
    assert said
    assert all(issubclass(one.category, lti.PrecisionWarning) for one in said)


def test_bands_of_poles_of_which_only_denormal_numbers_tell():
    """Three delays but for a feedback of 1e-315, over half of all frequencies: with z⁻¹ = v, P is
    (1/2π) ∫ x xᴴ dω for x = (1, v, v²), whose entries are ∫ v^k dω = 2 sin(kπ/2)/k."""
    A = np.eye(3, k=-1)
    A[0, 0], A[0, 1] = -8e-159, -4e-316
    P, _ = lti.band_gramians(lti.LTI(A, [[1.0], [0], [0]], [[0.0, 0, 1]]), [(0, math.pi / 2)])
    k = np.abs(np.subtract.outer(range(3), range(3)))
    expected = np.sinc(k / 2) / 2
    np.testing.assert_allclose(P, expected, atol=1e-13)
