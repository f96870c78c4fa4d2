"""h2-optimal reduction, as users call it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import build_system, seeds

import lticore as lti
from lticore.reduction.h2 import reduce as h2
from lticore.reduction.h2.modes import Candidate
from lticore.reduction.h2.objective import project

METHODS = ("tsia", "lbfgs", "lm")
anything_goes = pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")


def s4d(seed, n=64):
    """One channel of S4D-Lin after zero-order hold, with a random step and random outputs."""
    rng = np.random.default_rng(seed)
    step, k = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1))), np.arange(n // 2)
    pole = -0.5 + 1j * np.pi * k
    c = rng.standard_normal((n // 2, 2)).view(complex)[:, 0]
    b = (np.exp(step * pole) - 1) / pole
    modal = np.exp(step * pole)
    B, C = np.stack([b.real, b.imag], axis=1), np.stack([c.real, -c.imag], axis=1)
    A = lti.Rotation(np.abs(modal), -np.angle(modal))
    return lti.LTI(A, B.reshape(n, 1), C.reshape(1, n))


@settings(max_examples=10)
@given(
    seed=seeds(),
    structure=st.sampled_from(
        ["real diagonal", "complex diagonal", "rotation with real poles", "dense", "complex dense"]
    ),
    method=st.sampled_from(METHODS),
    order=st.integers(1, 4),
)
@anything_goes
def test_never_worse_than_balanced_truncation(seed, structure, method, order):
    sys = build_system(np.random.default_rng(seed), structure, n=6, feedthrough=True)
    reduction = lti.h2_reduction(sys, order, method=method, starts=2)
    begin = lti.balanced_truncation(sys, order=order)
    norm = lti.h2_norm(sys)
    assert reduction.h2_error**2 <= begin.h2_error**2 + 1e-12 * norm**2
    assert reduction.system.spectral_radius < 1
    assert reduction.order == order
    assert reduction.error_bound is None
    assert np.array_equal(reduction.system.D, sys.D)
    real = not np.iscomplexobj(sys.B) and structure != "complex diagonal"
    assert np.iscomplexobj(reduction.system.B) != real
    assert isinstance(reduction.system.A, lti.Rotation if real else lti.Diagonal)
    # The error that the iteration reports is that of the system returned.
    energy = norm**2 - np.sum(np.abs(sys.D) ** 2)
    reported = min(reduction.history) * energy
    assert reduction.h2_error**2 == pytest.approx(reported, rel=1e-6, abs=1e-12 * norm**2)


@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_on_a_well_behaved_system(method):
    sys = s4d(2)
    begin = lti.balanced_truncation(sys, order=8)
    reduction = lti.h2_reduction(sys, 8, method=method, starts=3)
    assert reduction.convergence.converged
    assert reduction.convergence.residual < 1e-4
    assert reduction.h2_error**2 < 0.7 * begin.h2_error**2
    assert len(reduction.convergence.starts) == 4
    assert min(reduction.convergence.starts) == pytest.approx(min(reduction.history))


def test_gradient_descent_comes_close_and_takes_long():
    sys = s4d(2, n=16)
    slow = lti.h2_reduction(sys, 4, method="armijo", starts=0)
    fast = lti.h2_reduction(sys, 4, method="tsia", starts=0)
    assert slow.h2_error == pytest.approx(fast.h2_error, rel=1e-2)
    assert slow.convergence.evaluations > 5 * fast.convergence.evaluations
    assert np.all(np.diff(slow.history) <= 0)


def test_more_starts_are_never_worse_and_seeds_repeat():
    sys = s4d(1)
    few, many, again = (lti.h2_reduction(sys, 6, starts=k) for k in (0, 6, 6))
    assert many.h2_error <= few.h2_error
    assert np.array_equal(many.system.B, again.system.B)


@pytest.mark.parametrize("method", ["tsia", "lbfgs"])
def test_finite_horizons(method):
    """TLH2: better over the horizon than what is best over all time."""
    sys = s4d(5, n=32)
    horizon = 60
    limited = lti.h2_reduction(sys, 4, horizon=horizon, method=method)
    unlimited = lti.h2_reduction(sys, 4, method=method)
    errors = [lti.h2_error(sys, r.system, horizon=horizon) for r in (limited, unlimited)]
    assert errors[0] < errors[1]
    assert limited.h2_error == pytest.approx(errors[0])
    # Long horizons are infinite ones.
    long = lti.h2_reduction(sys, 4, horizon=200_000, method=method)
    assert long.h2_error == pytest.approx(unlimited.h2_error, rel=1e-6)


def test_unstable_systems_over_a_horizon():
    sys = lti.LTI(lti.Diagonal([1.05, 0.9, 0.5, 0.2]), np.ones((4, 1)), np.ones((1, 4)))
    with pytest.raises(lti.UnstableSystemError):
        lti.h2_reduction(sys, 2)
    reduction = lti.h2_reduction(sys, 2, horizon=10)
    assert reduction.h2_error < 0.1 * lti.h2_norm(sys, horizon=10)


@pytest.mark.parametrize("method", ["tsia", "lbfgs"])
def test_all_of_an_unstable_system_over_a_horizon(method):
    sys = lti.LTI(lti.Diagonal([1.05, 0.5]), np.ones((2, 1)), np.ones((1, 2)))
    reduction = lti.h2_reduction(sys, 2, horizon=50, method=method)
    assert np.sort(reduction.system.poles.real) == pytest.approx([0.5, 1.05], abs=1e-9)
    responses = [lti.impulse_response(x, 51) for x in (sys, reduction.system)]
    norm = np.linalg.norm(responses[0])
    assert np.linalg.norm(responses[0] - responses[1]) <= 1e-9 * norm
    # Accurate to 1e-8 of the norm as a root of a difference of squares.
    assert reduction.h2_error <= 1e-7 * norm


@pytest.mark.parametrize("method", ["tsia", "lbfgs"])
@pytest.mark.parametrize(
    ("A", "order"),
    [(lti.Diagonal([1.5, 0.5, 0.2]), 1), (lti.Rotation([1.1, 0.5], [1.0, 2.0]), 2)],
)
def test_reductions_of_unstable_systems_follow_their_growth(A, order, method):
    """The fast pole is what counts over the horizon, and nothing stable can stand for it."""
    n, T = A.order, 20
    sys = lti.LTI(A, np.ones((n, 1)), np.ones((1, n)))
    reduction = lti.h2_reduction(sys, order, horizon=T, method=method)
    radius = sys.spectral_radius
    assert abs(reduction.system.spectral_radius / radius - 1) < 1 / T
    rest = lti.LTI(lti.Diagonal([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)))
    if isinstance(A, lti.Rotation):
        rest = lti.LTI(lti.Rotation([0.5], [2.0]), np.ones((2, 1)), np.ones((1, 2)))
    # Leaving out the slow modes is one of the candidates.
    assert reduction.h2_error <= lti.h2_norm(rest, horizon=T)


def test_the_order_of_the_system_leaves_nothing():
    sys = build_system(np.random.default_rng(0), "rotation with real poles", n=5)
    reduction = lti.h2_reduction(sys, 5, starts=0)
    assert reduction.h2_error <= 1e-7 * lti.h2_norm(sys)


@anything_goes
@pytest.mark.parametrize("change", ["B", "C"])
def test_zero_systems(change):
    sys = build_system(np.random.default_rng(1), "rotation", n=6)
    parts = {"B": sys.B, "C": sys.C} | {change: 0 * getattr(sys, change)}
    reduction = lti.h2_reduction(lti.LTI(sys.A, **parts), 2)
    assert reduction.h2_error == 0
    for x in (reduction.system.B, reduction.system.C, reduction.system.A.radius):
        assert np.all(np.isfinite(x))


def test_single_precision_stays():
    sys = build_system(np.random.default_rng(2), "rotation", n=6, dtype="float32")
    reduction = lti.h2_reduction(sys, 2, starts=1)
    for x in (reduction.system.B, reduction.h2_error, reduction.singular_values):
        assert np.asarray(x).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "order"),
        ({"order": 9}, "only 6 states"),
        ({"order": 2, "method": "newton"}, "method='newton'"),
        ({"order": 2, "starts": -1}, "starts"),
        ({"order": 2, "horizon": 0}, "horizon"),
        ({"order": 2, "method": "lm", "horizon": 5}, "infinite horizon"),
    ],
)
def test_bad_arguments(arguments, message):
    sys = build_system(np.random.default_rng(3), "rotation", n=6)
    with pytest.raises(lti.ArgumentError, match=message):
        lti.h2_reduction(sys, **arguments)


def test_batches_are_refused():
    sys = build_system(np.random.default_rng(4), "rotation", n=6, batch=(2,))
    with pytest.raises(lti.ShapeError, match="one by one"):
        lti.h2_reduction(sys, 2)


def test_a_search_that_loses_where_it_began_says_so(monkeypatch):
    """As poles do that lie so close together that their modes cancel; here a method that only
    stays away from the poles of the system."""
    search = h2.METHODS["lm"]

    def away(target, start):
        run = search(target, start)
        far = Candidate(np.zeros(1, dtype=complex), run.best.candidate.b, start.pairs)
        return dataclasses.replace(run, best=project(target, far))

    monkeypatch.setitem(h2.METHODS, "lm", away)
    sys = lti.LTI(lti.Diagonal([0.9 + 0j, 0.1]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.warns(lti.PrecisionWarning, match="balanced truncation .* cancel"):
        reduction = lti.h2_reduction(sys, 1, method="lm", starts=0)
    # The best one-step response: D = 0, h_1 = 2, and all later lags are lost.
    lost = 0.81 / (1 - 0.81) + 0.01 / (1 - 0.01) + 2 * 0.09 / (1 - 0.09)
    np.testing.assert_allclose(reduction.h2_error, np.sqrt(lost), rtol=1e-12)


def test_a_start_that_no_input_reaches():
    """The only real pole, where a search for one state begins, is not reached."""
    A = lti.Rotation([0.5], [2.0], [0.9])
    sys = lti.LTI(A, [[0.0], [1.0], [0.0]], [[1.0, 0.0, 1.0]])
    found = lti.h2_reduction(sys, 1, method="lm", starts=1)
    # h_k = 0.5^(k−1) sin 2(k−1); of all c a^(k−1) the best has the error ‖h‖² − (1 − a²) g(a)²,
    # g(a) = Σ h_k a^(k−1) = Im 1/(1 − a 0.5 e^{2i}): by brute force over a.
    a = np.linspace(-1, 1, 2_000_001)[1:-1]
    gain = (1 - a**2) * np.imag(1 / (1 - a * 0.5 * np.exp(2j))) ** 2
    square = np.sum((0.5 ** np.arange(60) * np.sin(2 * np.arange(60))) ** 2)
    # The grid misses the minimum by (1e-6)² of it, the search stops within 1e-9.
    np.testing.assert_allclose(found.h2_error, np.sqrt(square - gain.max()), rtol=1e-9)
