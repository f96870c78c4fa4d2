"""Balanced truncation beyond the plain case: DC gain, horizons, unstable and complex systems."""

import re
import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, difference, fine_grid, peak_gain_on_grid, stein_by_summation
from strategies import STRUCTURES, build_system, random_unitary, seeds, systems

import lticore as lti
from lticore.internal import truncate_all_to_order
from lticore.reduction.split import split_unstable

anything_goes = pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")


def gain_at(sys, omega):
    return lti.frequency_response(sys, np.array([omega]))


# --- singular perturbation ----------------------------------------------------------------------


@given(sys=systems(spectra=("plain", "zero", "negative"), couplings=("full",)), data=st.data())
@anything_goes
def test_dc_gain_is_matched_within_the_bound(sys, data):
    order = data.draw(st.integers(1, sys.order))
    reduction = lti.balanced_truncation(sys, order=order, match_dc=True)
    H = gain_at(sys, 0.0)
    scale = np.abs(H).max() + np.max(reduction.singular_values)
    # States beyond rounding are missing: formed Gramians hold σ to √eps of the largest.
    tolerance = sys.order * np.sqrt(EPS) * scale
    assert np.abs(gain_at(reduction.system, 0.0) - H).max() <= tolerance
    grid = fine_grid(np.concatenate([np.ravel(sys.poles), np.ravel(reduction.system.poles)]))
    error = peak_gain_on_grid(difference(sys, reduction.system), grid)
    assert np.all(error <= reduction.error_bound * (1 + 1e-6) + tolerance)
    assert reduction.system.spectral_radius < 1
    assert reduction.left is None


def test_truncation_does_not_match_the_dc_gain():
    sys = build_system(np.random.default_rng(0), "rotation", n=6, m=1, p=1)
    plain = lti.balanced_truncation(sys, order=2).system
    assert np.abs(gain_at(plain, 0.0) - gain_at(sys, 0.0)).max() > 1e-3
    # It matches far away from it instead: the strictly proper parts are equal at infinity only.
    matched = lti.balanced_truncation(sys, order=2, match_dc=True).system
    assert matched.D is not None


# --- finite horizons ----------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
@given(seed=seeds(), horizon=st.integers(2, 20), order=st.integers(1, 4))
@anything_goes
def test_results_over_a_horizon_are_stable(structure, seed, horizon, order):
    sys = build_system(np.random.default_rng(seed), structure, "marginal", n=6)
    reduction = lti.balanced_truncation(sys, order=order, horizon=horizon)
    assert reduction.system.spectral_radius < 1
    assert reduction.error_bound is None
    norm = lti.h2_norm(sys, horizon=horizon)
    assert np.isfinite(reduction.h2_error)
    assert reduction.h2_error <= 2 * norm


def balanced_over(sys, order, horizon):
    """The reduction, and whether its poles had to be reflected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = lti.balanced_truncation(sys, order=order, horizon=horizon)
    return reduction, any("unstable poles" in str(warning.message) for warning in caught)


def test_unstable_results_are_repaired_and_named():
    """Among forty systems next to the circle some projections are not stable."""
    outcomes = []
    for seed in range(40):
        sys = build_system(np.random.default_rng(seed), "rotation", "marginal", n=12, m=1, p=1)
        reduction, repaired = balanced_over(sys, 4, 6)
        outcomes.append(repaired)
        assert (reduction.left is None) == repaired
        assert reduction.system.spectral_radius < 1
    assert 0 < sum(outcomes) < 40


def test_repair_in_a_batch():
    sys = build_system(np.random.default_rng(0), "rotation", "marginal", "full", (40,), 12, 1, 1)
    reduction, repaired = balanced_over(sys, 4, 6)
    assert repaired
    assert reduction.system.batch_shape == reduction.h2_error.shape == (40,)
    assert np.all(np.abs(reduction.system.poles) < 1)


def test_unstable_systems_have_a_horizon():
    sys = lti.LTI(lti.Diagonal([1.1, 0.9, -0.5]), np.ones((3, 1)), np.ones((1, 3)))
    reduction, repaired = balanced_over(sys, 2, 15)
    assert not repaired
    assert reduction.h2_error < 0.1 * lti.h2_norm(sys, horizon=15)


@pytest.mark.parametrize("kind", ["diagonal", "dense", "quadratic", "batch"])
def test_all_of_an_unstable_system_over_a_horizon(kind):
    """Order n is another basis: the response over the horizon, pole 1.05 included, stays."""
    A = np.diag([1.05, 0.5]) if kind == "dense" else lti.Diagonal([1.05, 0.5])
    if kind == "batch":
        # Beside a stable system, whose own entry is judged alone.
        A = lti.Diagonal([[1.05, 0.5], [0.9, 0.5]])
    sys = lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)))
    if kind == "quadratic":
        sys = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, np.eye(2)[None])
    reduction, repaired = balanced_over(sys, 2, 50)
    assert not repaired
    found = np.sort(np.atleast_2d(reduction.system.poles)[0].real)
    # The poles of a projection by ill-matched directions: eps times ‖W‖‖V‖.
    assert found == pytest.approx([0.5, 1.05], abs=1e-10)
    responses = [impulse(x, 50) for x in (sys, reduction.system)]
    assert np.abs(responses[0] - responses[1]).max() <= 1e-10 * np.abs(responses[0]).max()


def impulse(sys, steps):
    linear = getattr(sys, "linear", sys)
    return lti.impulse_response(linear, steps)


def heated_rod(nodes=101, reaction=100.0, step=1e-3):
    """ẇ = w'' + c w between cold ends, heated at a quarter, measured at three: the poles c − k²π²
    are unstable for k = 1, 2, 3."""
    h = 1 / (nodes + 1)
    second = (np.diag(np.full(nodes, -2.0)) + np.eye(nodes, k=1) + np.eye(nodes, k=-1)) / h**2
    B, C = np.zeros((nodes, 1)), np.zeros((1, nodes))
    B[nodes // 4], C[0, 3 * nodes // 4] = 1 / h, 1.0
    return lti.discretize(second + reaction * np.eye(nodes), B, C, step=step)


def test_a_heated_rod_over_a_horizon():
    """By the definition of time-limited balancing, the Gramians summed step by step."""
    sys, T, order = heated_rod(), 200, 8
    assert np.sum(np.abs(sys.poles) > 1) == 3
    reduction, repaired = balanced_over(sys, order, T)
    assert not repaired
    # Plain time-limited balancing, from Gramians summed step by step.
    P = stein_by_summation(sys.A, sys.B @ sys.B.T, sys.A, T)
    Q = stein_by_summation(sys.A.T, sys.C.T @ sys.C, sys.A.T, T)
    R, S = root(P), root(Q)
    U, sigma, Vh = np.linalg.svd(S.T @ R)
    W, V = (X[:, :order] / np.sqrt(sigma[:order]) for X in (S @ U, R @ Vh.T))
    plain = lti.LTI(W.T @ sys.A @ V, W.T @ sys.B, sys.C @ V)
    exact, found, other = (impulse(x, T + 1) for x in (sys, reduction.system, plain))
    norm = np.linalg.norm(exact)
    error, plain_error = (np.linalg.norm(exact - x) / norm for x in (found, other))
    # Roots of Gramians that were formed hold √eps of their size.
    assert error == pytest.approx(plain_error, rel=1e-2, abs=np.sqrt(np.finfo(np.float64).eps))


def root(X):
    values, vectors = np.linalg.eigh(X)
    return vectors * np.sqrt(np.maximum(values, 0))


def test_long_horizons_are_infinite_ones():
    sys = build_system(np.random.default_rng(1), "rotation", n=8)
    limited, _ = balanced_over(sys, 4, 5000)
    plain = lti.balanced_truncation(sys, order=4)
    omega = np.linspace(0, 3, 20)
    np.testing.assert_allclose(
        lti.frequency_response(limited.system, omega),
        lti.frequency_response(plain.system, omega),
        rtol=1e-7,
    )


# --- unstable parts -----------------------------------------------------------------------------


def unstable_system(structure, seed=0):
    """The structure with a few poles moved out of the circle, and its number of stable states."""
    rng = np.random.default_rng(seed)
    if "dense" in structure:
        sys = unstable_system(
            "rotation with real poles" if structure == "dense" else "complex diagonal", seed
        )
        turn = np.linalg.qr(rng.standard_normal((sys.order, sys.order)))[0]
        A = sys.A.to_dense()
        return lti.LTI(turn @ A @ turn.T, turn @ sys.B, sys.C @ turn.T, sys.D)
    sys = build_system(rng, structure, n=7, feedthrough=True)
    first = [True]

    def grow(x):
        x = x.copy()
        if first and x.size:
            x[..., 0] *= 1.2 / np.abs(x[..., 0])
            first.clear()
        return x

    return lti.LTI(lti.systems.structure.map_parameters(grow, sys.A), sys.B, sys.C, sys.D)


@pytest.mark.parametrize("match_dc", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES[:6])
def test_unstable_modes_are_kept(structure, match_dc):
    sys = unstable_system(structure)
    poles = np.ravel(sys.poles)
    outside = poles[np.abs(poles) >= 1]
    assert 1 <= len(outside) < len(poles)
    with pytest.raises(lti.UnstableSystemError):
        lti.balanced_truncation(sys, order=4)
    reduction = lti.balanced_truncation(sys, order=4, unstable="keep", match_dc=match_dc)
    assert reduction.order == 4
    assert reduction.singular_values.shape == (sys.order - len(outside),)
    found = np.ravel(reduction.system.poles)
    kept = found[np.abs(found) >= 1]
    # Normal matrices with poles 0.2 apart: eps/0.2 each for the split and for the projection.
    assert np.abs(np.sort_complex(kept) - np.sort_complex(outside)).max() <= 100 * EPS
    error = peak_gain_on_grid(difference(sys, reduction.system), fine_grid(found))
    assert error <= reduction.error_bound * (1 + 1e-9)
    assert reduction.h2_error <= reduction.error_bound * np.sqrt(min(sys.inputs, sys.outputs))
    everything = lti.balanced_truncation(sys, energy=1.0, unstable="keep")
    omega = np.linspace(0.1, 3, 9)
    H = lti.frequency_response(sys, omega)
    change = np.linalg.norm(lti.frequency_response(everything.system, omega) - H, 2, axis=(-2, -1))
    # The bound counts rounding of the projection; the poles outside are 0.2 from the circle.
    assert change.max() <= everything.error_bound + 100 * EPS * np.abs(H).max()


def test_stable_systems_do_not_notice():
    sys = build_system(np.random.default_rng(2), "rotation", n=6)
    plain, kept = (
        lti.balanced_truncation(sys, order=3, unstable=choice) for choice in ("refuse", "keep")
    )
    assert np.array_equal(plain.system.A, kept.system.A)


def test_orders_count_the_unstable_modes():
    sys = unstable_system("rotation")
    with pytest.raises(lti.ArgumentError, match="order is 1, but 2 unstable modes are kept"):
        lti.balanced_truncation(sys, order=1, unstable="keep")
    with pytest.raises(lti.ArgumentError, match="order is 17, but the system has only 6 states"):
        lti.balanced_truncation(sys, order=17, unstable="keep")


@pytest.mark.parametrize("match_dc", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_the_unstable_part_alone(match_dc, dense):
    """1/(z − 1) + 1/(z − 1.5) + 1/(z − .5) + 3 without the third: its DC gain is 2, its h2 norm
    (1 − .25)^{−½}, its Hankel value 1/(1 − .25)."""
    poles = np.array([1.0, 1.5, 0.5])
    A = np.diag(poles) if dense else lti.Diagonal(poles)
    sys = lti.LTI(A, np.ones((3, 1)), np.ones((1, 3)), np.array([[3.0]]))
    reduction = lti.balanced_truncation(sys, order=2, unstable="keep", match_dc=match_dc)
    assert np.sort(reduction.system.poles.real) == pytest.approx([1, 1.5], rel=1e-14)
    assert reduction.singular_values == pytest.approx([4 / 3])
    assert reduction.error_bound == pytest.approx(8 / 3)
    # Less the gain 2, the squared norm is 4/3 + 4.
    assert reduction.h2_error == pytest.approx(np.sqrt(4 / 3 + 4 * match_dc))
    assert reduction.system.D[0, 0] == pytest.approx(3 + 2 * match_dc)
    z = np.exp(0.7j)
    expected = 1 / (z - 1) + 1 / (z - 1.5) + 3 + 2 * match_dc
    assert lti.frequency_response(reduction.system, [0.7])[0, 0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("criterion", [{"order": 2}, {"energy": 0.9}, {"error": 1.0}])
@pytest.mark.parametrize("turned", [False, True])
def test_all_of_a_system_without_a_stable_part(criterion, turned):
    """A double integrator, in its own coordinates and in others."""
    turn = random_unitary(np.random.default_rng(0), (), 2) if turned else np.eye(2)
    A = turn @ np.array([[1.0, 1.0], [0.0, 1.0]]) @ turn.T
    sys = lti.LTI(A, turn @ [[0.5], [1.0]], np.array([[1.0, 0.0]]) @ turn.T, np.array([[2.0]]))
    reduction = lti.balanced_truncation(sys, unstable="keep", **criterion)
    assert reduction.order == 2
    assert reduction.singular_values.shape == (0,)
    assert reduction.error_bound == reduction.h2_error == 0
    expected = np.concatenate([[2.0], np.arange(0.5, 9)])
    assert impulse(reduction.system, 10).ravel() == pytest.approx(expected, rel=1e-13)
    with pytest.raises(lti.ArgumentError, match="order is 1, but 2 unstable modes are kept"):
        lti.balanced_truncation(sys, order=1, unstable="keep")


def test_integrators_in_any_orthogonal_coordinates():
    """Rounding splits the double integrator into 1 ± 1e-9, or an oscillation: the split must not
    notice, and the reduction be the one of the untransformed system."""
    A = scipy.linalg.block_diag([[1, 0.1], [0, 1]], np.diag([0.9, 0.6, 0.3, -0.4]))
    B, C = np.array([[0, 0.1, 1, 1, 1, 1]]).T, np.array([[1.0, 0, 1, 1, 1, 1]])
    plain = lti.balanced_truncation(lti.LTI(A, B, C), energy=0.99, unstable="keep")
    assert plain.order == 5
    rng = np.random.default_rng(0)
    for _ in range(60):
        Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        sys = lti.LTI(Q @ A @ Q.T, Q @ B, C @ Q.T)
        turned = lti.balanced_truncation(sys, energy=0.99, unstable="keep")
        assert turned.order == 5
        # sep⁻¹ ≈ 10 for the cluster at 1 and the pole 0.9, squared by the double pole.
        assert turned.singular_values == pytest.approx(plain.singular_values, abs=1e-13)
        assert turned.h2_error == pytest.approx(plain.h2_error, rel=1e-9)
        assert turned.error_bound == pytest.approx(plain.error_bound, rel=1e-9)


def test_one_integrator_in_any_orthogonal_coordinates():
    A, ones = np.diag([1.0, 0.9, 0.6, 0.3]), np.ones((4, 1))
    plain = lti.balanced_truncation(lti.LTI(A, ones, ones.T), order=2, unstable="keep")
    rng = np.random.default_rng(1)
    for _ in range(100):
        Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        sys = lti.LTI(Q @ A @ Q.T, Q @ ones, ones.T @ Q.T)
        turned = lti.balanced_truncation(sys, order=2, unstable="keep")
        assert turned.h2_error == pytest.approx(plain.h2_error, rel=1e-11)


def test_couplings_between_both_parts_are_taken_out():
    """A triangular A, where the stable part is seen through the unstable one:
    1/((z − 2)(z − ½)) = ⅔ (1/(z − 2) − 1/(z − ½))."""
    sys = lti.LTI(np.array([[0.5, 1.0], [0.0, 2.0]]), np.array([[0.0], [1.0]]), np.eye(2)[:1])
    stable, rest = split_unstable(sys)
    steps = np.arange(9)
    assert lti.impulse_response(stable, 10).ravel()[1:] == pytest.approx(-(0.5**steps) * 2 / 3)
    assert lti.impulse_response(rest, 10).ravel()[1:] == pytest.approx(2.0**steps * 2 / 3)


def test_lowered_orders_count_the_unstable_modes():
    """Two equal poles are one state."""
    poles, ones = np.array([1.5, 0.5, 0.5, 0.3]), np.ones((4, 1))
    sys = lti.LTI(lti.Diagonal(poles), ones, ones.T)
    expected = "order 4 was asked for, but only 3 .*: the reduced system has 3 states"
    with pytest.warns(lti.PrecisionWarning, match=expected):
        assert lti.balanced_truncation(sys, order=4, unstable="keep").order == 3


@pytest.mark.parametrize("order", [2, 3])
def test_poles_on_the_circle_are_kept(order):
    poles = np.array([1.0, 0.5, 0.3])
    sys = lti.LTI(np.diag(poles), np.ones((3, 1)), np.ones((1, 3)))
    reduction = lti.balanced_truncation(sys, order=order, unstable="keep")
    assert reduction.order == order
    assert np.abs(reduction.system.poles).max() == pytest.approx(1, abs=1e-12)


# --- the complex half ---------------------------------------------------------------------------


@given(seed=seeds(), half=st.integers(1, 4), batch=st.sampled_from([(), (3,)]))
@anything_goes
def test_complex_truncation_is_within_its_bound(seed, half, batch):
    sys = build_system(np.random.default_rng(seed), "rotation", batch=batch, n=8, feedthrough=True)
    reduction = lti.complex_balanced_truncation(sys, order=2 * half)
    assert reduction.order == 2 * half
    assert isinstance(reduction.system.A, lti.Rotation)
    assert not np.iscomplexobj(reduction.system.B)
    grid = fine_grid(np.concatenate([np.ravel(sys.poles), np.ravel(reduction.system.poles)]))
    error = peak_gain_on_grid(difference(sys, reduction.system), grid)
    assert np.all(error <= reduction.error_bound * (1 + 1e-9) + 1e-9 * lti.h2_norm(sys))


def test_real_truncation_is_better_at_equal_size():
    """Over forty systems, h2 error at half the states: the real map is what counts."""
    ratios = []
    for seed in range(40):
        sys = build_system(np.random.default_rng(seed), "rotation", n=12, m=1, p=1)
        real = lti.balanced_truncation(sys, order=6).h2_error
        ratios.append(lti.complex_balanced_truncation(sys, order=6).h2_error / real)
    assert np.median(ratios) > 1.1


@pytest.mark.parametrize("order", [0, 3, -2])
def test_complex_orders_are_even(order):
    sys = build_system(np.random.default_rng(3), "rotation", n=8)
    with pytest.raises(lti.ArgumentError, match="two real states"):
        lti.complex_balanced_truncation(sys, order=order)


@pytest.mark.parametrize("order", [4.0, "4", True])
def test_complex_orders_are_integers(order):
    sys = build_system(np.random.default_rng(3), "rotation", n=8)
    with pytest.raises(lti.ArgumentError, match=f"two real states .* is {order!r}"):
        lti.complex_balanced_truncation(sys, order=order)


def test_complex_orders_are_compared_with_real_states():
    sys = build_system(np.random.default_rng(3), "rotation", n=4)
    with pytest.raises(lti.ArgumentError, match="order is 10, but the system has only 4 states"):
        lti.complex_balanced_truncation(sys, order=10)


@pytest.mark.parametrize("criterion", [{"order": 8}, {"energy": 1.0}, {"error": 0.0}])
def test_lowered_complex_orders_count_real_states(criterion):
    """Two of four equal poles add nothing."""
    A = lti.Rotation([0.5, 0.5, 0.9, 0.9], [1.0, 1.0, 2.0, 2.0])
    sys = lti.LTI(A, np.ones((8, 1)), np.ones((1, 8)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert lti.complex_balanced_truncation(sys, **criterion).order == 4
    expected = "order 8 was asked for, but .*: the reduced system has 4 states"
    assert [re.match(expected, str(warning.message)) is not None for warning in caught] == (
        [True] if "order" in criterion else []
    )


def test_silent_systems_warn_at_any_complex_order():
    sys = build_system(np.random.default_rng(3), "rotation", n=4)
    silent = lti.LTI(sys.A, 0 * sys.B, sys.C)
    with pytest.warns(lti.PrecisionWarning, match="only 0 .* the reduced system has 2 states"):
        assert lti.complex_balanced_truncation(silent, order=2).order == 2


def test_systems_without_a_complex_half():
    for structure in ("real diagonal", "rotation with real poles", "dense"):
        sys = build_system(np.random.default_rng(4), structure, n=7)
        with pytest.raises(lti.ArgumentError, match="without real poles"):
            lti.complex_balanced_truncation(sys, energy=0.9)


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 2, "unstable": "drop"}, "unstable='drop'"),
        ({"order": 2, "horizon": 0}, "horizon"),
        ({"order": 2, "horizon": 5, "match_dc": True}, "match_dc"),
        ({"error": 0.1, "horizon": 5}, "error="),
        ({"order": 2, "horizon": 5, "unstable": "keep"}, "keep"),
    ],
)
def test_options_that_contradict(options, message):
    sys = build_system(np.random.default_rng(5), "rotation", n=6)
    with pytest.raises(lti.ArgumentError, match=message):
        lti.balanced_truncation(sys, **options)


# --- all systems of a batch to one order --------------------------------------------------------


@pytest.mark.parametrize("given", [False, True])
def test_systems_of_a_batch_are_truncated_together(given):
    rng = np.random.default_rng(5)
    sys = build_system(rng, "rotation", batch=(3,), n=8, m=1, p=2)
    pair = (lti.controllability_gramian(sys), lti.observability_gramian(sys)) if given else None
    omega = np.linspace(0, 3, 20)
    (together,) = truncate_all_to_order(sys, 4, gramians=pair)
    assert together.system.batch_shape == (3,)
    assert together.order == 4
    for index, x in enumerate(sys):
        own = None if pair is None else tuple(X[index] for X in pair)
        (alone,) = truncate_all_to_order(x, 4, gramians=own)
        assert alone.system.batch_shape == ()
        assert np.array_equal(together.singular_values[index], alone.singular_values)
        one, other = (
            lti.frequency_response(y, omega) for y in (together.system[index], alone.system)
        )
        # Gramians as they were formed know the fourth value to eps (σ_1/σ_4)² < 1e-11.
        assert np.abs(one - other).max() <= 1e-10 * np.abs(other).max()


def test_a_batch_of_which_one_has_a_lower_rank_is_truncated_one_by_one():
    """Two states that the second system's outputs do not see are none in its reduction."""
    poles = np.array([[0.9, 0.5, -0.3], [0.8, 0.4, -0.6]])
    C = np.array([[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]])
    sys = lti.LTI(lti.Diagonal(poles), np.ones((2, 3, 1)), C)
    with pytest.warns(lti.PrecisionWarning, match="only 1 "):
        first, second = truncate_all_to_order(sys, 2)
    assert (first.order, second.order) == (2, 1)
    np.testing.assert_allclose(second.system.poles, [0.8], rtol=1e-14)
    assert second.singular_values[0] == pytest.approx(1 / (1 - 0.64), rel=1e-14)
