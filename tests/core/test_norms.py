"""Norms of systems and of their differences."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import (
    EPS,
    EPS_SINGLE,
    adjoint,
    dense,
    difference,
    fine_grid,
    gramian_by_mpmath,
    gramian_rounding,
    peak_gain_on_grid,
    repeated_pairs,
    squared_norm_rounding,
)
from strategies import MILD_SPECTRA, STRUCTURES, build_system, seeds, systems

import lticore as lti
from lticore.hankel import gramians

# --- h2 ---------------------------------------------------------------------------------------


@given(sys=systems(spectra=MILD_SPECTRA, structures=STRUCTURES[:6], batches=((), (2,))))
@settings(max_examples=15)
def test_h2_norm_is_the_sum_over_the_impulse_response(sys):
    h = lti.impulse_response(sys, 400)  # 0.95^800 < 1e-17
    expected = np.sqrt(np.sum(np.abs(h) ** 2, axis=(-3, -2, -1)))
    # The Gramian carries the condition of its equation, C P Cᴴ may cancel against ‖P‖.
    P = np.linalg.norm(lti.controllability_gramian(sys), axis=(-2, -1))
    size = P * np.linalg.norm(sys.C, axis=(-2, -1)) ** 2 + expected**2
    assert np.all(np.abs(lti.h2_norm(sys) ** 2 - expected**2) <= 1e4 * EPS * size)


@pytest.mark.parametrize("case", ["large", "small"])
def test_h2_norms_of_companion_forms_whose_signs_cancel(case):
    """tr C P Cᵀ from states in units of their own, in which all of P is right to the rounding of
    the states given: |A| has cycles that A does not have."""
    if case == "large":
        A, B, C = repeated_pairs(20), np.eye(40)[:, :1], np.ones((1, 40))
    else:
        A = np.eye(4, k=-1)
        A[0] = 1.1570773839890143, -0.33470701813471515, -1.86e-17, 0.0
        B = np.array([[0.0, 0.0], [-0.91, -1.6], [2.0, -0.11], [0.0, 0.0]])
        C = np.array([[0.86, 0.0, -1.0, -0.12], [-0.84, 0.0, -0.59, 0.42], [0.72, 0.0, 0.1, -1.3]])
    P = gramian_by_mpmath(A, B)
    exact = np.sqrt(np.trace(C @ P @ C.T))
    allowed = gramian_rounding(A) * np.sum((np.abs(C) @ np.sqrt(np.diag(P))) ** 2) / exact
    sys = lti.LTI(A, B, C)
    assert abs(lti.h2_norm(sys) - exact) <= allowed
    # Half of the system is left.
    half = lti.LTI(A, B / 2, C)
    assert lti.h2_error(sys, half) == pytest.approx(exact / 2, rel=0, abs=2 * allowed)


@given(sys=systems(), horizon=st.integers(1, 12))
def test_h2_norm_with_a_horizon_counts_the_first_lags_and_the_feedthrough(sys, horizon):
    h = lti.impulse_response(sys, horizon + 1)
    expected = np.sum(np.abs(h) ** 2, axis=(-3, -2, -1))
    found = lti.h2_norm(sys, horizon=horizon) ** 2
    growth = max(1, np.linalg.norm(sys.to_dense().A, 2, axis=(-2, -1)).max()) ** (2 * horizon)
    size = (np.linalg.norm(sys.B, axis=(-2, -1)) * np.linalg.norm(sys.C, axis=(-2, -1))) ** 2
    assert np.all(np.abs(found - expected) <= 100 * horizon * EPS * (expected + growth * size))


@given(sys=systems(structures=STRUCTURES[:4]))
def test_h2_norm_is_that_of_the_dual(sys):
    D = None if sys.D is None else adjoint(sys.D)
    dual = lti.LTI(sys.A.H, adjoint(sys.C), adjoint(sys.B), D)
    P = np.linalg.norm(lti.controllability_gramian(sys), axis=(-2, -1))
    Q = np.linalg.norm(lti.observability_gramian(sys), axis=(-2, -1))
    size = P * np.linalg.norm(sys.C, axis=(-2, -1)) ** 2
    size = np.maximum(size, Q * np.linalg.norm(sys.B, axis=(-2, -1)) ** 2)
    first, second = lti.h2_norm(sys), lti.h2_norm(dual)
    assert np.all(np.abs(first**2 - second**2) <= 100 * EPS * (size + first**2))


@given(sys=systems(dtypes=("float32",), spectra=MILD_SPECTRA))
def test_norms_keep_single_precision(sys):
    assert lti.h2_norm(sys).dtype == np.float32
    assert lti.h2_error(sys, sys).dtype == np.float32
    assert lti.hinf_norm(sys).dtype == np.float32
    assert lti.h2_norm(sys).shape == lti.hinf_norm(sys).shape == sys.batch_shape


@pytest.mark.parametrize("first", STRUCTURES)
@pytest.mark.parametrize("second", STRUCTURES)
def test_h2_error_is_the_norm_of_the_difference(first, second):
    rng = np.random.default_rng(0)
    sys = build_system(rng, first, n=5, feedthrough=True)
    other = build_system(rng, second, n=3)
    whole = difference(sys, other)
    expected = lti.h2_norm(whole) ** 2
    # The second system is brought to its modes, which moves its A by eps κ(V) ‖A‖.
    for pair in ((sys, other), (other, sys)):
        rounding = squared_norm_rounding(whole) * lti.eigenvector_condition(pair[1])
        assert abs(lti.h2_error(*pair) ** 2 - expected) <= rounding + 4 * EPS * expected


@given(sys=systems())
def test_h2_error_of_a_system_to_itself(sys):
    # The square cancels to 1e-16 of the norms' size, amplified by C P Cᴴ ≤ ‖C‖²‖P‖. A dense
    # system meets itself in its modes (up to a condition of 1e6), which moves A by eps κ(V) ‖A‖.
    P = np.linalg.norm(lti.controllability_gramian(sys), axis=(-2, -1))
    rounding = 100 * EPS * P * np.linalg.norm(sys.C, axis=(-2, -1)) ** 2
    if not lti.systems.structure.is_structured(sys.A):
        kappa = np.minimum(lti.eigenvector_condition(sys), 1e6)
        rounding = rounding + squared_norm_rounding(sys) * kappa
    assert np.all(lti.h2_error(sys, sys) ** 2 <= rounding)


@given(sys=systems(spectra=("plain",)), seed=seeds(), horizon=st.integers(1, 6))
def test_h2_error_with_a_horizon(sys, seed, horizon):
    other = build_system(
        np.random.default_rng(seed), "rotation", batch=(), n=2, m=sys.inputs, p=sys.outputs
    )
    responses = [lti.impulse_response(x, horizon + 1) for x in (sys, other)]
    expected = np.sum(np.abs(responses[0] - responses[1]) ** 2, axis=(-3, -2, -1))
    found = lti.h2_error(sys, other, horizon=horizon) ** 2
    # The square is a difference of sums whose terms a non-normal A can let grow.
    size = [
        (np.linalg.norm(x.B, axis=(-2, -1)) * np.linalg.norm(x.C, axis=(-2, -1))) ** 2
        for x in (sys, other)
    ]
    growth = max(1, np.linalg.norm(dense(sys.A), 2, axis=(-2, -1)).max()) ** (2 * horizon)
    assert np.all(np.abs(found - expected) <= 10 * horizon * EPS * growth * sum(size))


def test_h2_norm_of_one_state_in_closed_form():
    sys = lti.LTI(lti.Diagonal([0.6]), [[2.0]], [[3.0]], [[1.0]])
    assert lti.h2_norm(sys) == pytest.approx(np.sqrt(36 / (1 - 0.36) + 1), rel=4 * EPS)


def test_h2_norm_of_unreachable_outputs_is_zero_and_not_nan():
    """C sees what B does not reach: C P Cᴴ is rounding of either sign."""
    rng = np.random.default_rng(0)
    batch, n = 50, 4
    A = rng.uniform(-0.9, 0.9, (batch, n))
    b = rng.standard_normal((batch, n, 1))
    P = lti.controllability_gramian(lti.LTI(lti.Diagonal(A), b, np.ones((1, n))))
    weakest = adjoint(np.linalg.eigh(P)[1][..., :, :1])
    norms = lti.h2_norm(lti.LTI(lti.Diagonal(A), b, weakest))
    smallest = np.linalg.eigvalsh(P)[..., 0]
    assert np.all(np.abs(norms**2 - smallest) <= 100 * EPS * np.linalg.norm(P, axis=(-2, -1)))


@pytest.mark.parametrize("gap", [1e-8, 1e-9])
def test_h2_error_next_to_the_circle(gap):
    """The pole that both systems have counts for nothing; the limit is that of the other mode."""
    sys = lti.LTI(lti.Rotation([1 - gap, 0.5], [1.0, 2.0]), np.ones((4, 1)), np.ones((1, 4)))
    rest = lti.LTI(lti.Rotation([0.5], [2.0]), np.ones((2, 1)), np.ones((1, 2)))
    reduction = lti.balanced_truncation(sys, order=2)
    assert reduction.h2_error == pytest.approx(lti.h2_norm(rest), rel=1e-3)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("norm", [lti.h2_norm, lti.hinf_norm])
@pytest.mark.parametrize("A", [np.diag([0.5, 0.2]), lti.Diagonal([0.5, 0.2])])
def test_norms_that_overflow_are_no_numbers(A, norm):
    sys = lti.LTI(A, np.full((2, 1), 1e160), [[1e160, -1e160]])
    with pytest.raises(lti.NonFiniteError, match="the norm overflows"):
        norm(sys)


def test_a_negative_square_is_an_error(monkeypatch):
    """No system is known whose Gramian comes out so wrong: one is made up."""
    A, B, C = lti.Diagonal([0.5, 0.3]), np.ones((2, 1)), np.zeros((1, 2))
    sys = lti.QuadraticOutputLTI(A, B, C, np.diag([1.0, -1.0])[None])
    wrong = np.array([[1e-4, -1e-3], [-1e-3, 1e-4]])
    monkeypatch.setattr(gramians, "gramian", lambda *_: wrong)
    with pytest.raises(lti.SingularEquationError, match=r"squared h2 norm came out as -2\.0e-06"):
        lti.h2_norm(sys)
    with pytest.raises(lti.SingularEquationError, match="squared h2 norm came out as"):
        lti.h2_error(sys, sys, horizon=5)


def test_zero_feedthrough_is_no_feedthrough():
    sys = build_system(np.random.default_rng(0), "rotation", batch=(2,))
    zero = lti.LTI(sys.A, sys.B, sys.C, np.zeros((2, 2)))
    assert np.array_equal(lti.h2_norm(sys), lti.h2_norm(zero))
    assert np.array_equal(lti.hinf_norm(sys), lti.hinf_norm(zero))
    assert np.array_equal(lti.h2_error(sys, zero), lti.h2_error(sys, sys))


# --- h∞ ---------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(sys=systems(max_order=6))
def test_hinf_norm_is_at_least_every_gain_on_a_fine_grid(sys):
    norm = lti.hinf_norm(sys)
    assert norm.shape == sys.batch_shape
    on_grid = peak_gain_on_grid(sys, fine_grid(sys.poles, points=200))
    assert np.all(norm >= on_grid * (1 - 2e-8))


@given(sys=systems(spectra=MILD_SPECTRA, batches=((),), max_order=5))
def test_hinf_norm_is_reached_on_a_fine_grid(sys):
    # Curvature: |H''| ≤ 2 gain/(1 − |λ|)² with 1 − |λ| ≥ 0.05, on a grid of 2π/20000.
    on_grid = peak_gain_on_grid(sys, np.linspace(-np.pi, np.pi, 20001))
    size = np.linalg.norm(sys.B) * np.linalg.norm(sys.C) * 400
    assert lti.hinf_norm(sys) <= on_grid * (1 + 1e-6) + 1e-6 * size


@given(sys=systems(spectra=MILD_SPECTRA))
def test_hinf_norm_lies_between_the_hankel_norm_and_its_bound(sys):
    """σ_1 ≤ ‖Σ‖_h∞ ≤ 2 Σ σ_i for a strictly proper system."""
    sys = lti.LTI(sys.A, sys.B, sys.C)
    sigma = lti.hankel_singular_values(sys)
    norm = lti.hinf_norm(sys)
    slack = 1e-6 * norm + 1e-12
    assert np.all(norm >= sigma[..., 0] - slack)
    assert np.all(norm <= 2 * sigma.sum(axis=-1) + slack)


@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.123456789, np.pi])
def test_sharp_peaks_are_found(gap, angle):
    """One mode: the peak lies at the phase of its pole and is ‖c‖‖b‖/(1 − ρ)."""
    radius = 1 - gap
    sys = lti.LTI(lti.Diagonal(np.array([radius * np.exp(1j * angle)])), [[2.0]], [[3.0]])
    # |ρ e^{iα}| rounds to eps, a share eps/gap of the distance from the circle.
    assert lti.hinf_norm(sys) == pytest.approx(6 / (1 - radius), rel=1e-8 + 4 * EPS / gap)


@pytest.mark.parametrize("gap", [1e-6, 1e-9])
def test_a_sharp_peak_beside_a_broad_one(gap):
    rng = np.random.default_rng(0)
    weak = np.sqrt(gap) / 3
    sys = lti.LTI(
        lti.Rotation([1 - gap, 0.9], [1.2345, 0.4]),
        rng.standard_normal((4, 1)) * [[weak], [weak], [1], [1]],
        rng.standard_normal((1, 4)) * [weak, weak, 1, 1],
    )
    on_grid = peak_gain_on_grid(sys, fine_grid(sys.poles, points=4000))
    assert lti.hinf_norm(sys) == pytest.approx(on_grid, rel=1e-3)
    assert lti.hinf_norm(sys) >= on_grid * (1 - 2e-8)


@pytest.mark.parametrize("seed", [35, 106, 185, 207])
def test_graded_couplings_hide_no_crossing(seed):
    """B and C over ten decades make the pencil badly scaled; its eigenvalues leave the circle."""
    sys = build_system(
        np.random.default_rng(seed), "complex diagonal", "plain", "graded", n=6, m=2, p=2
    )
    on_grid = peak_gain_on_grid(sys, fine_grid(sys.poles, points=400))
    assert lti.hinf_norm(sys) >= on_grid * (1 - 2e-8)


def test_rotation_near_the_circle_in_single_precision():
    """The gain is that of the radius that was given, not of a dense matrix rounded to float32."""
    radius, angle = np.float32(1 - 1e-6), np.float32(0.7)
    ones = np.ones((2, 1), np.float32)
    sys = lti.LTI(lti.Rotation([radius], [angle]), ones, ones.T)
    single = lti.LTI(lti.Rotation(np.array([radius]), np.array([angle])), ones, ones.T)
    assert lti.hinf_norm(single).dtype == np.float32
    assert lti.hinf_norm(single) == pytest.approx(float(lti.hinf_norm(sys)), rel=4 * EPS_SINGLE)


@pytest.mark.parametrize(("pole", "phase"), [(0.8, 0.0), (-0.8, np.pi)])
def test_peaks_at_dc_and_nyquist(pole, phase):
    sys = lti.LTI(lti.Diagonal([pole]), [[1.0]], [[1.0]], [[np.cos(phase)]])
    assert lti.hinf_norm(sys) == pytest.approx(1 / 0.2 + 1, rel=1e-8)


def test_an_all_pass_has_norm_one():
    a = 0.7
    s = np.sqrt(1 - a * a)
    assert lti.hinf_norm(lti.LTI(lti.Diagonal([a]), [[s]], [[s]], [[-a]])) == pytest.approx(
        1, rel=1e-8
    )


def test_a_comb_that_vanishes_on_the_samples():
    """H = z⁻¹ − z⁻⁶⁴ is zero at all the 63rd roots of one, where the search starts."""
    n = 64
    B, C = np.eye(n)[:, :1], np.eye(n)[:1] - np.eye(n)[-1:]
    assert lti.hinf_norm(lti.LTI(np.eye(n, k=-1), B, C)) == pytest.approx(2, rel=1e-7)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_hinf_norm_of_a_gain_and_of_nothing(structure):
    sys = build_system(np.random.default_rng(0), structure, n=3, feedthrough=True)
    gain = lti.LTI(sys.A, 0 * sys.B, sys.C, sys.D)
    assert lti.hinf_norm(gain) == pytest.approx(np.linalg.norm(sys.D, 2), rel=1e-8)
    assert lti.hinf_norm(lti.LTI(sys.A, sys.B, 0 * sys.C)) == 0


@pytest.mark.parametrize(("m", "p"), [(30, 2), (2, 30)])
def test_many_inputs_or_outputs(m, p):
    sys = lti.LTI(lti.Diagonal([0.5]), np.ones((1, m)), np.ones((p, 1)))
    assert lti.hinf_norm(sys) == pytest.approx(2 * np.sqrt(m * p), rel=1e-8)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_hinf_norm_in_extreme_units(scale):
    A, B, C = lti.Diagonal([0.5, 0.3]), np.array([[1.0], [2.0]]), np.ones((1, 2))
    expected = lti.hinf_norm(lti.LTI(A, B, C))
    assert lti.hinf_norm(lti.LTI(A, scale * B, C / scale)) == pytest.approx(expected, rel=1e-8)
    assert lti.hinf_norm(lti.LTI(A, scale * B, C)) == pytest.approx(scale * expected, rel=1e-8)


@pytest.mark.parametrize("rtol", [0.0, 1e-13, 1.0, -1, float("nan")])
def test_rtol_of_the_hinf_norm(rtol):
    sys = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]])
    with pytest.raises(lti.ArgumentError, match=r"rtol must lie in \[1e-12, 1\)"):
        lti.hinf_norm(sys, rtol=rtol)


def test_complex_systems_next_to_the_smallest_number_beside_large_ones():
    """Their rows are measured by moduli: complex numbers are divided by squares."""
    small = lti.LTI(lti.Diagonal([0.5 - 0.1j]), [[9e-93 + 7e-94j]], [[2e-229 - 6e-229j]])
    large = lti.LTI(lti.Diagonal([0.5 + 0j]), [[1.0]], [[3.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lti.h2_error(small, large) == pytest.approx(12**0.5, rel=1e-14)
        assert lti.h2_error(large, small) == pytest.approx(12**0.5, rel=1e-14)


@pytest.mark.parametrize(
    "A", [lti.Diagonal([0.5, 0.2]), [[0.5, 0.1], [0.0, 0.2]]], ids=["diagonal", "dense"]
)
def test_norms_of_one_system_are_scalars_as_numpy_has_them(A):
    sys = lti.LTI(A, [[1.0], [1.0]], [[1.0, 1.0]])
    for norm in (lti.h2_norm, lti.hinf_norm, lti.hankel_norm, lti.hankel_sum):
        assert type(norm(sys)) is np.float64
