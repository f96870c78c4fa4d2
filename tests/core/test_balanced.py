"""Balanced truncation: projections, stability, error bounds, choice of the order."""

import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import EPS, adjoint, dense, difference, fine_grid, size, squared_norm_rounding
from strategies import MILD_SPECTRA, STRUCTURES, build_system, systems

import lticore as lti


def truncate(sys, **criterion):
    """The reduction, also where rounding leaves fewer states than asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.PrecisionWarning)
        return lti.balanced_truncation(sys, **criterion)


def rounding_of_sigma(sys):
    R, S = lti.gramian_factors(sys)
    if 0 in R.shape or 0 in S.shape:
        return 0.0
    norms = np.linalg.norm(R, axis=(-2, -1)) * np.linalg.norm(S, axis=(-2, -1))
    return EPS * norms.max()


# --- projections ------------------------------------------------------------------------------


@given(sys=systems(), order=st.integers(1, 7))
def test_projections_are_biorthogonal(sys, order):
    reduction = truncate(sys, order=min(order, sys.order))
    sigma = reduction.singular_values[..., : reduction.order]
    product = adjoint(reduction.left) @ reduction.right
    # Entry (i, j) is u_iᴴ (SᴴR) v_j/√(σ_i σ_j): rounding of SᴴR divided by the smaller values.
    # Entries of a batch with fewer values than the others are padded with zero states.
    for W_V, values in zip(
        product.reshape(-1, *product.shape[-2:]), sigma.reshape(-1, reduction.order), strict=True
    ):
        kept = np.diagonal(W_V) != 0
        assert np.all(W_V[:, ~kept] == 0)
        scale = np.sqrt(values[kept][:, None] * values[kept])
        error = np.abs(W_V[np.ix_(kept, kept)] - np.eye(kept.sum())) * scale
        assert error.max(initial=0) <= 100 * rounding_of_sigma(sys)


@given(sys=systems(spectra=MILD_SPECTRA), order=st.integers(1, 7))
def test_reduced_matrices_are_the_projected_ones(sys, order):
    reduction = truncate(sys, order=min(order, sys.order))
    W, V, reduced = adjoint(reduction.left), reduction.right, reduction.system
    # Two products of n terms each.
    rounding = 2 * sys.order * EPS * size(W) * size(dense(sys.A)) * size(V)
    assert np.abs(reduced.A - W @ dense(sys.A) @ V).max() <= rounding
    assert np.array_equal(reduced.B, W @ sys.B)
    assert np.array_equal(reduced.C, sys.C @ V)
    assert (reduced.D is None) == (sys.D is None)
    if sys.D is not None:
        assert np.array_equal(reduced.D, sys.D)


@given(sys=systems(spectra=("plain", "negative"), couplings=("full",), batches=((),)))
def test_reduced_gramians_are_the_leading_values(sys):
    """A truncated balanced realisation keeps its values within those that are cut."""
    order = max(1, sys.order // 2)
    reduction = truncate(sys, order=order)
    sigma = reduction.singular_values
    values = lti.hankel_singular_values(reduction.system)
    # |σ_i(Σ_r) − σ_i(Σ)| ≤ Hankel norm of the difference ≤ error bound.
    error = np.abs(values - sigma[: reduction.order])
    assert error.max() <= reduction.error_bound + 1e6 * rounding_of_sigma(sys)


def test_full_order_is_balanced():
    sys = build_system(np.random.default_rng(4), "rotation with real poles", n=5)
    reduction = lti.balanced_truncation(sys, order=5)
    expected = np.diag(reduction.singular_values)
    tolerance = 1e-10 * reduction.singular_values[0]
    for X in (
        lti.controllability_gramian(reduction.system),
        lti.observability_gramian(reduction.system),
    ):
        assert np.abs(X - expected).max() <= tolerance


# --- what is kept -----------------------------------------------------------------------------


@given(sys=systems(), order=st.integers(1, 7))
def test_reduced_systems_are_stable(sys, order):
    assert truncate(sys, order=min(order, sys.order)).system.spectral_radius < 1


@given(sys=systems(dtypes=("float32", "float64")))
def test_real_stays_real_and_precision_stays(sys):
    reduction = truncate(sys, order=1)
    assert reduction.system.dtype == sys.dtype
    assert reduction.system.A.dtype == sys.dtype
    assert reduction.left.dtype == reduction.right.dtype == sys.dtype
    single = sys.dtype in (np.float32, np.complex64)
    for x in (reduction.singular_values, reduction.error_bound, reduction.h2_error):
        assert x.dtype == (np.float32 if single else np.float64)


@given(sys=systems(batches=((3,), (2, 3))))
def test_shapes(sys):
    reduction = truncate(sys, order=1)
    batch, n, r = sys.batch_shape, sys.order, reduction.order
    assert reduction.left.shape == reduction.right.shape == (*batch, n, r)
    assert reduction.system.B.shape == (*batch, r, sys.inputs)
    assert reduction.singular_values.shape == (*batch, n)
    assert reduction.error_bound.shape == reduction.h2_error.shape == batch


# --- errors -----------------------------------------------------------------------------------


@given(sys=systems(), order=st.integers(1, 7))
def test_error_on_a_frequency_grid_is_within_the_bound(sys, order):
    reduction = truncate(sys, order=min(order, sys.order))
    frequencies = fine_grid(sys.poles, points=60)
    H, H_r = (lti.frequency_response(x, frequencies) for x in (sys, reduction.system))
    error = np.linalg.norm(H - H_r, 2, axis=(-2, -1)).max(axis=-1)
    # The bound itself is a sum of values with absolute errors √(eps (‖R‖‖S‖)²) at worst, and the
    # responses round relative to their own size, near the circle relative to 1 − |λ| as well.
    rounding = sys.order * np.sqrt(EPS) * rounding_of_sigma(sys) / EPS
    assert np.all(error <= reduction.error_bound * (1 + 1e-6) + rounding)


@settings(max_examples=15)
@given(sys=systems(spectra=MILD_SPECTRA, couplings=("full",), batches=((),)))
def test_hinf_norm_of_the_error_is_within_the_bound(sys):
    order = max(1, sys.order // 2)
    reduction = truncate(sys, order=order)
    error = lti.hinf_norm(difference(sys, reduction.system))
    assert error <= reduction.error_bound * (1 + 1e-7) + 1e3 * rounding_of_sigma(sys)
    # No system of that order comes closer than the first value that was cut.
    if reduction.order < sys.order:
        cut = reduction.singular_values[reduction.order]
        assert error >= cut - 1e3 * rounding_of_sigma(sys)


def test_bound_is_attained_for_one_cut_value():
    """Siso, symmetric state space (A = Aᵀ, C = Bᵀ): the error is 2 Σ_{i>r} σ_i at a real point."""
    poles, b = np.array([0.1, 0.5, 0.9]), np.array([[1.0], [2.0], [0.5]])
    sys = lti.LTI(lti.Diagonal(poles), b, b.T)
    reduction = lti.balanced_truncation(sys, order=2)
    error = lti.hinf_norm(difference(sys, reduction.system))
    assert error <= reduction.error_bound * (1 + 1e-8)
    assert error >= reduction.error_bound / 2


# Both systems side by side, as one dense system, can cancel to the rounding of their matrices.
@pytest.mark.filterwarnings("ignore:rounding of the dense A:lticore.PrecisionWarning")
@given(sys=systems(spectra=MILD_SPECTRA, batches=((), (3,))))
def test_h2_error_is_that_of_the_reduced_system(sys):
    reduction = truncate(sys, order=max(1, sys.order // 2))
    whole = difference(sys, reduction.system)
    # The reduced system is brought to its modes (up to a condition of 1e6), which moves its A by
    # eps κ(V) ‖A‖; squares cancel to what their Gramians leave uncertain.
    kappa = np.minimum(lti.eigenvector_condition(reduction.system), 1e6)
    rounding = squared_norm_rounding(whole) * kappa + 1e-300
    error = np.abs(reduction.h2_error**2 - lti.h2_norm(whole) ** 2)
    assert np.all(error <= rounding)


def test_full_order_changes_nothing():
    sys = build_system(np.random.default_rng(4), "complex diagonal", n=5, feedthrough=True)
    reduction = lti.balanced_truncation(sys, order=5)
    omega = np.linspace(-3, 3, 20)
    change = lti.frequency_response(sys, omega) - lti.frequency_response(reduction.system, omega)
    assert np.abs(change).max() <= 1e-9 * lti.hinf_norm(sys)
    # Nothing but rounding.
    assert np.all(reduction.error_bound <= 1e-11 * reduction.singular_values[..., 0])


# --- choice of the order ----------------------------------------------------------------------


@given(sys=systems(spectra=MILD_SPECTRA), energy=st.floats(0.05, 1))
def test_energy_takes_the_smallest_order(sys, energy):
    reduction = truncate(sys, energy=energy)
    r, sigma = reduction.order, reduction.singular_values
    total = sigma.sum(axis=-1)
    slack = 1e-12 * total
    if energy < 1 - 1e-9:  # at energy 1 rounding lowers the order to the numerical rank
        assert np.all(sigma[..., :r].sum(axis=-1) >= energy * total - slack)
    assert r == 1 or np.any(sigma[..., : r - 1].sum(axis=-1) < energy * total + slack)


@given(sys=systems(spectra=MILD_SPECTRA), share=st.floats(1e-6, 1.5))
def test_error_takes_the_smallest_order(sys, share):
    allowed = share * float(lti.hankel_norm(sys).max()) + 1e-300
    reduction = truncate(sys, error=allowed)
    r, sigma = reduction.order, reduction.singular_values
    # The bound itself adds rounding.
    assert np.all(2 * sigma[..., r:].sum(axis=-1) <= allowed)
    assert r == 1 or np.any(2 * sigma[..., r - 1 :].sum(axis=-1) > allowed)


def test_a_batch_takes_the_largest_order_that_an_entry_needs():
    sys = build_system(np.random.default_rng(0), "rotation", batch=(4,), n=6)
    orders = [
        lti.balanced_truncation(
            lti.LTI(lti.Rotation(sys.A.radius[i], sys.A.angle[i]), sys.B[i], sys.C[i]), energy=0.8
        ).order
        for i in range(4)
    ]
    assert len(set(orders)) > 1
    assert lti.balanced_truncation(sys, energy=0.8).order == max(orders)


@pytest.mark.parametrize(("energy", "expected"), [(0.1, 1), (0.5, 5), (0.9, 9), (1.0, 10)])
def test_energy_on_the_boundary_between_two_orders(energy, expected):
    """Ten equal values: 0.9 of the energy is nine states, though 1 − 0.9 rounds below 0.1."""
    chain = lti.LTI(np.eye(10, k=-1), np.eye(10)[:, :1], np.eye(10)[-1:])
    assert lti.balanced_truncation(chain, energy=energy).order == expected


@pytest.mark.parametrize(("error", "expected"), [(0.0, 10), (1.99, 10), (2.0, 9), (100.0, 1)])
def test_error_on_the_boundary_between_two_orders(error, expected):
    chain = lti.LTI(np.eye(10, k=-1), np.eye(10)[:, :1], np.eye(10)[-1:])
    reduction = lti.balanced_truncation(chain, error=error)
    assert reduction.order == expected
    # Rounding is part of the bound.
    assert reduction.error_bound == pytest.approx(2 * (10 - expected), abs=1e-12)


# --- degenerate systems -----------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_zero_systems_become_one_zero_state(structure):
    sys = build_system(np.random.default_rng(0), structure, n=4)
    for changed in (lti.LTI(sys.A, 0 * sys.B, sys.C), lti.LTI(sys.A, sys.B, 0 * sys.C)):
        with pytest.warns(lti.PrecisionWarning, match="only 0 Hankel singular values"):
            reduction = lti.balanced_truncation(changed, order=3)
        assert reduction.order == 1
        assert np.all(reduction.system.B == 0)
        assert np.all(reduction.system.C == 0)
        assert reduction.error_bound == 0


def test_non_minimal_systems_lose_the_states_that_do_nothing():
    sys = build_system(np.random.default_rng(0), "real diagonal", n=6)
    B = sys.B.copy()
    B[3:] = 0
    changed = lti.LTI(sys.A, B, sys.C)
    with pytest.warns(lti.PrecisionWarning, match="order 6 was asked for, but only 3"):
        reduction = lti.balanced_truncation(changed, order=6)
    assert reduction.order == 3
    omega = np.linspace(0, 3, 9)
    change = lti.frequency_response(changed, omega)
    change = change - lti.frequency_response(reduction.system, omega)
    assert np.abs(change).max() <= 1e-12


def test_a_zero_system_in_a_batch_is_padded():
    sys = build_system(np.random.default_rng(0), "rotation", batch=(2,), n=4)
    B = sys.B.copy()
    B[0] = 0
    reduction = lti.balanced_truncation(lti.LTI(sys.A, B, sys.C), order=3)
    assert reduction.order == 3
    assert np.all(reduction.system.A[0] == 0)
    assert np.all(reduction.error_bound >= 0)
    assert reduction.system.spectral_radius < 1


def test_rotation_blocks_that_pass_nothing_on_leave_no_unstable_noise():
    """The input reaches one state of the block, the output sees the other, and sin π = 1e-16."""
    sys = lti.LTI(lti.Rotation([0.5], [np.pi]), [[0.0], [1.0]], [[1.0, 0.0]])
    with pytest.warns(lti.PrecisionWarning, match="only 0 Hankel singular values"):
        reduction = lti.balanced_truncation(sys, order=1)
    assert reduction.system.spectral_radius < 1


@pytest.mark.parametrize("match_dc", [False, True])
def test_poles_next_to_the_circle_stay_inside(match_dc):
    """Gaps of 1e-14 … 1e-16 are rounding in a dense A, whose eigenvalues are found in 40 digits."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        radius = np.minimum(1 - 10.0 ** -rng.uniform(14, 16, 2), np.nextafter(1, 0))
        A = lti.Rotation(radius, rng.uniform(0.3, 2.8, 2))
        sys = lti.LTI(A, rng.standard_normal((4, 1)), rng.standard_normal((1, 4)))
        found = truncate(sys, order=3, match_dc=match_dc).system
        with mpmath.workdps(40):
            poles = mpmath.eig(mpmath.matrix(found.A.tolist()), left=False, right=False)
            assert max(abs(x) for x in poles) < 1


@pytest.mark.parametrize("dense", [False, True])
def test_projections_are_biorthogonal_to_rounding(dense):
    """Values down to 1e-7 σ_1, where W and V as they come from the singular vectors miss Wᴴ V = 1
    by 1e-12: an error of all poles, relative to 1 and not to their distance from the circle."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        poles = -1 + 10.0 ** -rng.uniform(3, 8, 8)
        sys = lti.LTI(lti.Diagonal(poles), rng.standard_normal((8, 1)), rng.standard_normal((2, 8)))
        found = truncate(sys.to_dense() if dense else sys, order=7)
        W, V = found.left, found.right
        rounding = EPS * np.linalg.norm(np.abs(W.T) @ np.abs(V))
        assert np.linalg.norm(W.T @ V - np.eye(found.order)) <= 10 * rounding


def test_extreme_units_of_the_states():
    A, B, C = lti.Diagonal([0.5, 0.3]), np.array([[1.0], [2.0]]), np.ones((1, 2))
    plain = lti.balanced_truncation(lti.LTI(A, B, C), order=1).system
    scaled = lti.balanced_truncation(lti.LTI(A, B * 1e-150, C * 1e150), order=1).system
    assert pytest.approx(plain.A, rel=1e-13) == scaled.A
    assert pytest.approx(plain.B * plain.C, rel=1e-13) == scaled.B * scaled.C


def test_values_far_below_the_gramians_are_found():
    """sin π = 1e-16 couples the states: H = b/(z + 0.9)², b = 0.9 sin π; the Gramians are 5."""
    sys = lti.LTI(lti.Rotation([0.9], [np.pi]), [[0.0], [1.0]], [[1.0, 0.0]])
    b = 0.9 * np.sin(np.pi)
    unit = lti.LTI(np.array([[-0.9, 1.0], [0.0, -0.9]]), [[0.0], [1.0]], [[1.0, 0.0]])
    reduction, expected = (lti.balanced_truncation(x, order=1) for x in (sys, unit))
    assert np.allclose(reduction.singular_values, b * expected.singular_values, rtol=1e-6, atol=0)
    assert np.allclose(reduction.system.A, expected.system.A, rtol=1e-6, atol=0)
    gain, expected_gain = (r.system.C @ r.system.B for r in (reduction, expected))
    assert np.allclose(gain, b * expected_gain, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("poles", "output", "criterion"),
    [
        (np.array([0.2, 0.2 + 1e-10, 0.9, 0.9 + 1e-10]), [1.0, -1.0, 1.0, -1.0], {"order": 2}),
        (np.linspace(0.1, 0.9, 16), None, {"energy": 0.999999}),
    ],
    ids=["nearly double poles", "partial fractions"],
)
def test_bound_of_modes_that_cancel(poles, output, criterion):
    """Outputs 1e-10 and 1e-6 of single modes: rounding of formed Gramians would be seen."""
    if output is None:  # of 1/Π(z − λ_i), with residues up to 1e9
        gaps = poles[:, None] - poles + np.eye(16)
        output = 1 / np.prod(gaps, axis=-1)
    sys = lti.LTI(lti.Diagonal(poles), np.ones((len(poles), 1)), [output])
    reduction = lti.balanced_truncation(sys, **criterion)
    z = np.exp(1j * np.linspace(0, np.pi, 200))
    exact = np.sum(np.asarray(output) / (z[:, None] - poles), axis=-1)
    found = lti.frequency_response(reduction.system, np.linspace(0, np.pi, 200))[:, 0, 0]
    rounding = EPS * np.sum(np.abs(output) / (1 - poles))
    assert np.max(np.abs(found - exact)) <= reduction.error_bound + 10 * rounding


def test_the_order_may_stand_in_second_place():
    sys = build_system(np.random.default_rng(0), "rotation", n=6)
    np.testing.assert_array_equal(
        lti.balanced_truncation(sys, 2).system.A, lti.balanced_truncation(sys, order=2).system.A
    )
