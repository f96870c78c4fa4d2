"""Hankel singular values: invariants first, then slow references."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    EPS,
    adjoint,
    entries,
    hankel_values_by_eigenvalues,
    hankel_values_by_mpmath,
)
from strategies import (
    MILD_SPECTRA,
    STRUCTURES,
    build_system,
    random_unitary,
    seeds,
    systems,
)

import lticore as lti


def level(sys):
    """(..., 1) the size ‖R‖‖S‖ that errors of Hankel values are relative to."""
    R, S = lti.gramian_factors(sys)
    if 0 in R.shape or 0 in S.shape:
        return np.zeros((*sys.batch_shape, 1))
    return (np.linalg.norm(R, axis=(-2, -1)) * np.linalg.norm(S, axis=(-2, -1)))[..., None]


def squares_agree(sys, values, expected, factor):
    """σ² is right to eps (‖R‖‖S‖)², the guarantee for formed Gramians."""
    return np.all(np.abs(values**2 - expected**2) <= factor * EPS * level(sys) ** 2)


# --- form -------------------------------------------------------------------------------------


@given(sys=systems(dtypes=("float32", "float64")))
def test_values_are_real_descending_and_not_negative(sys):
    sigma = lti.hankel_singular_values(sys)
    assert sigma.shape == (*sys.batch_shape, sys.order)
    assert np.isrealobj(sigma)
    assert np.all(sigma >= 0)
    assert np.all(np.diff(sigma, axis=-1) <= 0)


@given(sys=systems(dtypes=("float32",)))
def test_single_precision_in_single_precision_out(sys):
    assert lti.hankel_singular_values(sys).dtype == np.float32
    assert lti.hankel_sum(sys).dtype == np.float32
    assert lti.hankel_norm(sys).dtype == np.float32


@given(sys=systems(dtypes=("float32",), spectra=MILD_SPECTRA))
def test_single_precision_input_is_computed_in_double(sys):
    double = lti.systems.lti.in_double(sys)
    assert np.array_equal(
        lti.hankel_singular_values(sys), lti.hankel_singular_values(double).astype(np.float32)
    )


@given(sys=systems(), max_rank=st.integers(1, 9))
def test_max_rank_sets_the_length(sys, max_rank):
    sigma = lti.hankel_singular_values(sys, max_rank=max_rank)
    assert sigma.shape[-1] == min(max_rank, sys.order)
    # Dropped columns leave smaller factors, and so no larger values.
    full = lti.hankel_singular_values(sys)[..., : sigma.shape[-1]]
    assert np.all(sigma <= full + 100 * EPS * level(sys))


def test_values_do_not_see_the_feedthrough():
    sys = build_system(np.random.default_rng(0), "rotation", feedthrough=True)
    without = lti.LTI(sys.A, sys.B, sys.C)
    assert np.array_equal(lti.hankel_singular_values(sys), lti.hankel_singular_values(without))


# --- invariants -------------------------------------------------------------------------------


@given(sys=systems(spectra=MILD_SPECTRA), seed=seeds())
def test_similarity(sys, seed):
    T = random_unitary(np.random.default_rng(seed), (), sys.order)
    T = T * np.geomspace(1, 10, sys.order)  # cond(T) = 10
    A, B, C = sys.to_dense().A, sys.B, sys.C
    changed = lti.LTI(np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T)
    expected = lti.hankel_singular_values(sys)
    # The similarity itself rounds by cond(T)² eps, times the condition 1e3 of the equations.
    scale = np.maximum(level(sys), level(changed))
    with warnings.catch_warnings():
        if not expected.any():  # then the values of the other are rounding alone, which is said
            warnings.simplefilter("ignore", lti.PrecisionWarning)
        error = np.abs(lti.hankel_singular_values(changed) ** 2 - expected**2)
    assert np.all(error <= 1e5 * EPS * scale**2)


def test_states_that_are_reached_or_observed_in_other_coordinates():
    """H = 0: what is left of it after a change of coordinates is rounding, and called so."""
    T = random_unitary(np.random.default_rng(0), (), 2) * np.array([1, 10])
    A, B, C = np.diag([0.68, 0.3]), np.array([[0.0], [1.0]]), np.array([[1.0, 0.0]])
    assert not lti.hankel_singular_values(lti.LTI(A, B, C)).any()
    changed = lti.LTI(np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T)
    with pytest.warns(lti.PrecisionWarning, match="relative error of inf"):
        sigma = lti.hankel_singular_values(changed)
    assert np.all(sigma <= 100 * EPS * level(changed))


@given(sys=systems(structures=STRUCTURES[:4]))
def test_duality_of_structured_systems(sys):
    dual = lti.LTI(sys.A.H, adjoint(sys.C), adjoint(sys.B))
    assert squares_agree(
        sys, lti.hankel_singular_values(dual), lti.hankel_singular_values(sys), 200
    )


@given(sys=systems(structures=STRUCTURES[4:], spectra=MILD_SPECTRA))
def test_duality_of_dense_systems(sys):
    dual = lti.LTI(adjoint(sys.A), adjoint(sys.C), adjoint(sys.B))
    assert squares_agree(
        sys, lti.hankel_singular_values(dual), lti.hankel_singular_values(sys), 1e5
    )


@given(sys=systems(), gain=st.sampled_from((0.125, -4.0, 3.0)))
def test_scaling(sys, gain):
    scaled = lti.hankel_singular_values(lti.LTI(sys.A, gain * sys.B, sys.C))
    expected = abs(gain) * lti.hankel_singular_values(sys)
    assert np.all(np.abs(scaled**2 - expected**2) <= 200 * EPS * gain**2 * level(sys) ** 2)


@given(sys=systems(batches=((),), structures=STRUCTURES[:4]), exponent=st.integers(-40, 40))
def test_units_of_the_states(sys, exponent):
    """Scaling each state by a power of two changes no digit of A, and none of the values."""
    exponents = exponent * np.arange(sys.order)
    if isinstance(sys.A, lti.Rotation):
        exponents[1 : 2 * sys.A.blocks : 2] = exponents[0 : 2 * sys.A.blocks : 2]
    t = 2.0**exponents
    scaled = lti.hankel_singular_values(lti.LTI(sys.A, t[:, None] * sys.B, sys.C / t))
    expected = lti.hankel_singular_values(sys)
    assert np.all(np.abs(scaled**2 - expected**2) <= 200 * EPS * level(sys) ** 2)


@given(
    first=systems(batches=((),), structures=("dense", "non-normal"), spectra=MILD_SPECTRA),
    second=systems(batches=((),), structures=("dense", "complex dense"), spectra=MILD_SPECTRA),
)
def test_direct_sum(first, second):
    A, B, C = (
        scipy.linalg.block_diag(*pair)
        for pair in ((first.A, second.A), (first.B, second.B), (first.C, second.C))
    )
    both = lti.LTI(A, B, C)
    parts = [lti.hankel_singular_values(sys) for sys in (first, second)]
    expected = np.sort(np.concatenate(parts))[::-1]
    assert squares_agree(both, lti.hankel_singular_values(both), expected, 1e5)


@given(sys=systems(batches=((3,), (2, 3)), structures=STRUCTURES[:4]))
def test_batch_entries_are_independent(sys):
    sigma = lti.hankel_singular_values(sys)
    for index in np.ndindex(sys.batch_shape):
        A = lti.systems.structure.map_parameters(lambda x, index=index: x[index], sys.A)
        single = lti.LTI(A, sys.B[index], sys.C[index])
        assert squares_agree(single, lti.hankel_singular_values(single), sigma[index], 200)


@given(sys=systems())
def test_sum_of_squares_is_the_trace_of_the_product(sys):
    """Σ σ² = tr(P Q), without any factorisation."""
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    trace = np.sum(P * Q.swapaxes(-1, -2), axis=(-2, -1)).real
    squares = np.sum(lti.hankel_singular_values(sys) ** 2, axis=-1)
    # Dense: two methods, with poles that each knows to eps, a share eps/(1 − |λ|) of the Gramians.
    shares = (
        200 if lti.systems.structure.is_structured(sys.A) else 200 + 10 / (1 - sys.spectral_radius)
    )
    assert np.all(np.abs(squares - trace) <= shares * EPS * level(sys)[..., 0] ** 2)


# --- references -------------------------------------------------------------------------------


@given(sys=systems(spectra=MILD_SPECTRA))
def test_agrees_with_eigenvalues_of_the_product(sys):
    sigma = lti.hankel_singular_values(sys).reshape(-1, sys.order)
    scale = level(sys).reshape(-1)
    for values, size, (A, B, C, _) in zip(sigma, scale, entries(sys), strict=True):
        expected = hankel_values_by_eigenvalues(A, B, C)
        # eig(PQ) of a non-symmetric product is right to √(eps ‖P‖‖Q‖) where P or Q is singular.
        assert np.abs(values - expected).max() <= 1e3 * np.sqrt(EPS) * size


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("spectrum", ["plain", "marginal", "negative"])
def test_agrees_with_many_digits(structure, spectrum):
    sys = build_system(np.random.default_rng(7), structure, spectrum, n=4)
    ((A, B, C, _),) = entries(sys)
    expected = hankel_values_by_mpmath(A, B, C)
    # A dense matrix holds its poles to eps, a share eps/(1 − |λ|) of the distance from the circle,
    # and so does the reference, which is given one.
    factor = 1e3 if spectrum != "marginal" else 10 / (1 - sys.spectral_radius)
    error = np.abs(lti.hankel_singular_values(sys) - expected)
    assert error.max() <= factor * EPS * level(sys)


def test_weak_directions_keep_the_stated_accuracy():
    """P and Q strong where the other is weak: σ² is right to eps (‖R‖‖S‖)², no better."""
    c, s = np.cos(0.7), np.sin(0.7)
    U, weak = np.array([[c, -s], [s, c]]), 1e-6
    sys = lti.LTI(lti.Diagonal([0.5, 0.5]), U @ np.diag([1, weak]), np.diag([weak, 1]) @ U.T)
    expected = np.full(2, weak / 0.75)
    assert squares_agree(sys, lti.hankel_singular_values(sys), expected, 100)


def test_dense_systems_keep_weak_directions():
    """The same system with A as an array: no Gramian is formed, and σ is right to eps ‖R‖‖S‖."""
    c, s = np.cos(0.7), np.sin(0.7)
    U, weak = np.array([[c, -s], [s, c]]), 1e-6
    sys = lti.LTI(0.5 * np.eye(2), U @ np.diag([1, weak]), np.diag([weak, 1]) @ U.T)
    sigma = lti.hankel_singular_values(sys)
    assert np.abs(sigma - weak / 0.75).max() <= 10 * EPS * level(sys)


@pytest.mark.parametrize("structure", ["dense", "complex dense"])
def test_small_values_of_dense_systems_are_right(structure):
    """Clustered poles: values fall below those that formed Gramians keep, 1e-8 of the largest."""
    sys = build_system(np.random.default_rng(3), structure, "clustered", n=6, m=1, p=1)
    ((A, B, C, _),) = entries(sys)
    expected = hankel_values_by_mpmath(A, B, C)
    assert expected[-1] < 1e-12 * expected[0]
    error = np.abs(lti.hankel_singular_values(sys) - expected)
    assert error.max() <= 100 * EPS * level(sys)


# --- special systems --------------------------------------------------------------------------


def cascade_of_allpasses(poles):
    A, B, C, D = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), np.eye(1)
    for a in poles:
        s = np.sqrt(1 - a * a)
        A = np.block([[A, np.zeros((len(A), 1))], [s * C, np.array([[a]])]])
        B, C, D = np.vstack([B, s * D]), np.hstack([-a * C, [[s]]]), -a * D
    return lti.LTI(A, B, C, D)


def test_all_pass_systems_have_only_ones():
    sigma = lti.hankel_singular_values(cascade_of_allpasses([0.5, 0.9, -0.99, 0.3, 0.9]))
    assert sigma == pytest.approx(np.ones(5), rel=100 * EPS)


def test_delay_chain_has_only_ones():
    n = 6
    sys = lti.LTI(np.eye(n, k=-1), np.eye(n)[:, :1], np.eye(n)[-1:])
    assert np.array_equal(lti.hankel_singular_values(sys), np.ones(n))


def test_values_of_an_fir_filter_are_those_of_its_hankel_matrix():
    taps = np.array([1.0, -2.0, 0.5, 3.0])
    sys = lti.LTI(np.eye(4, k=-1), np.eye(4)[:, :1], taps[None])
    hankel = scipy.linalg.hankel(taps)
    assert lti.hankel_singular_values(sys) == pytest.approx(
        np.linalg.svd(hankel, compute_uv=False), rel=20 * EPS
    )


def test_defective_poles():
    J = 0.9 * np.eye(4) + np.eye(4, k=1)
    B, C = np.ones((4, 1)), np.ones((1, 4))
    expected = hankel_values_by_mpmath(J, B, C)
    sys = lti.LTI(J, B, C)
    assert np.abs(lti.hankel_singular_values(sys) - expected).max() <= 1e4 * EPS * level(sys)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_unreachable_and_unobservable_systems_have_zeros(structure):
    sys = build_system(np.random.default_rng(0), structure, batch=(2,))
    for changed in (
        lti.LTI(sys.A, 0 * sys.B, sys.C),
        lti.LTI(sys.A, sys.B, 0 * sys.C),
        lti.LTI(sys.A, 0 * sys.B, 0 * sys.C),
    ):
        assert np.array_equal(lti.hankel_singular_values(changed), np.zeros((2, sys.order)))


def test_one_zero_system_in_a_batch_leaves_the_others_alone():
    sys = build_system(np.random.default_rng(0), "rotation", batch=(2,))
    B = sys.B.copy()
    B[0] = 0
    sigma = lti.hankel_singular_values(lti.LTI(sys.A, B, sys.C))
    assert np.all(sigma[0] == 0)
    assert sigma[1] == pytest.approx(lti.hankel_singular_values(sys)[1], rel=100 * EPS)


@pytest.mark.parametrize(("m", "p"), [(50, 1), (1, 50), (40, 60)])
def test_many_more_inputs_or_outputs_than_states(m, p):
    sys = build_system(np.random.default_rng(0), "real diagonal", n=2, m=m, p=p)
    ((A, B, C, _),) = entries(sys)
    sigma = lti.hankel_singular_values(sys)
    assert squares_agree(sys, sigma, hankel_values_by_eigenvalues(A, B, C), 10)


@given(sys=systems(spectra=("plain",), couplings=("full",)), horizon=st.integers(1, 8))
def test_time_limited_values(sys, horizon):
    P = lti.controllability_gramian(sys, horizon=horizon)
    Q = lti.observability_gramian(sys, horizon=horizon)
    sigma = lti.hankel_singular_values(sys, horizon=horizon)
    trace = np.sum(P * Q.swapaxes(-1, -2), axis=(-2, -1)).real
    norms = np.linalg.norm(P, axis=(-2, -1)) * np.linalg.norm(Q, axis=(-2, -1))
    assert np.all(np.abs(np.sum(sigma**2, axis=-1) - trace) <= 500 * EPS * norms)
    # A longer horizon adds positive semidefinite terms to both Gramians.
    longer = lti.hankel_singular_values(sys, horizon=horizon + 3)
    assert np.all(longer[..., 0] >= sigma[..., 0] * (1 - 1e-12))


def test_time_limited_values_of_an_unstable_system():
    sys = lti.LTI(lti.Diagonal([1.5, 1.0, -1.0]), np.ones((3, 1)), np.ones((1, 3)))
    found, expected = (lti.hankel_singular_values(x, horizon=10) for x in (sys, sys.to_dense()))
    # P = Q: squares are right to eps ‖P‖².
    level = np.linalg.norm(lti.controllability_gramian(sys, horizon=10))
    assert np.abs(found**2 - expected**2).max() <= 100 * EPS * level**2


# --- sums -------------------------------------------------------------------------------------

FUNCTIONS = {
    "nuclear": ("nuclear", lambda s: s),
    "log": ("log", np.log1p),
    "schatten(1/2)": (lti.schatten(0.5), np.sqrt),
    "schatten(3)": (lti.schatten(3), lambda s: s**3),
    "tail(2)": (lti.tail(2), lambda s: s * (np.arange(s.shape[-1]) >= 2)),
    "tail(0)": (lti.tail(0), lambda s: s),
    "pair": (
        (lambda s: s**2 / (1 + s), lambda s: s * (2 + s) / (1 + s) ** 2),
        lambda s: s**2 / (1 + s),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(sys=systems(spectra=MILD_SPECTRA))
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")  # tails can be rounding only
def test_sums_of_functions(name, sys):
    function, plain = FUNCTIONS[name]
    expected = np.sum(plain(lti.hankel_singular_values(sys)), axis=-1)
    assert lti.hankel_sum(sys, function) == pytest.approx(expected, rel=100 * EPS, abs=1e-300)
    value, _ = lti.hankel_sum_and_gradient(sys, function)
    # Each routine has σ² to a few eps (‖R‖‖S‖)², so values below √eps ‖R‖‖S‖ need not agree.
    lost = np.broadcast_to(np.sqrt(10 * EPS) * level(sys), (*sys.batch_shape, sys.order))
    assert np.all(np.abs(value - expected) <= 1e-7 * expected + np.sum(plain(lost), axis=-1))


@given(sys=systems(batches=((),)))
def test_hankel_norm_is_the_first_value(sys):
    assert lti.hankel_norm(sys) == lti.hankel_singular_values(sys)[0]


def test_tail_is_half_the_bound_of_balanced_truncation():
    sys = build_system(np.random.default_rng(3), "rotation with real poles", n=7)
    reduction = lti.balanced_truncation(sys, order=3)
    tail = lti.hankel_sum(sys, lti.tail(3))
    # The bound adds what the rounding of formed Gramians may have taken: eps (‖R‖‖S‖)²/2σ of each.
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    rounding = EPS * np.trace(P) * np.trace(Q) * np.sum(1 / reduction.singular_values[3:])
    assert -1e-13 * tail <= reduction.error_bound - 2 * tail <= rounding


@given(sys=systems(structures=("real diagonal",), batches=((),), max_order=4))
def test_one_state_systems_in_closed_form(sys):
    """σ = ‖b‖‖c‖/(1 − |λ|²), for each state alone."""
    for i, pole in enumerate(sys.A.poles):
        alone = lti.LTI(lti.Diagonal([pole]), sys.B[i : i + 1], sys.C[:, i : i + 1])
        gap = 1 - abs(pole)
        expected = np.linalg.norm(alone.B) * np.linalg.norm(alone.C) / (gap * (2 - gap))
        assert lti.hankel_norm(alone) == pytest.approx(expected, rel=20 * EPS)


@pytest.mark.parametrize("exponents", [(-600, -400), (900, -900), (600, -100)])
@pytest.mark.parametrize("structure", ["rotation", "dense"])
@pytest.mark.parametrize("options", [{}, {"horizon": 7}, {"accuracy": "relative"}])
def test_inputs_and_outputs_whose_squares_do_not_exist(structure, exponents, options):
    """Powers of two in B and C come out as they went in."""
    sys = build_system(np.random.default_rng(0), structure)
    moved = lti.LTI(sys.A, np.ldexp(sys.B, exponents[0]), np.ldexp(sys.C, exponents[1]))
    plain = lti.hankel_singular_values(sys, **options)
    found = lti.hankel_singular_values(moved, **options)
    np.testing.assert_allclose(found, plain * 2.0 ** sum(exponents), rtol=1e-12)
