"""Factors without Gramians: the elimination itself, and what is built on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, hankel_values_by_mpmath
from strategies import SPECTRA, build_system, seeds

import lticore as lti
from lticore import kernels
from lticore.equations.cauchy import (
    cauchy_factor,
    cauchy_factor_reference,
    lyapunov_factor_reference,
)
from lticore.hankel import gramians
from lticore.hankel.gramians import (
    DEFAULT_RTOL,
    balance_states,
    double_gramians,
    low_rank_pays,
)
from lticore.hankel.scales import balance_gramians
from lticore.kernels import cpu_cauchy
from lticore.matrices.factors import pivoted_cholesky

STRUCTURED = ("real diagonal", "complex diagonal", "rotation", "rotation with real poles")


@pytest.fixture(scope="module", autouse=True)
def small_systems_take_the_way_of_large_ones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gramians, "_MANY", 1)
        patch.setattr(gramians, "_FEW", 8)
        yield


def wide_system(seed, structure, spectrum="plain", coupling="full", batch=(), n=16, m=2, p=1):
    """Many more states than inputs and outputs, so that the Gramians are not formed."""
    rng = np.random.default_rng(seed)
    sys = build_system(rng, structure, spectrum, coupling, batch, n=n, m=m, p=p)
    assert low_rank_pays(sys)
    return sys


def formed_factors(sys):
    P, Q, t = balance_gramians(*double_gramians(sys))
    R, S = (pivoted_cholesky(X, rtol=DEFAULT_RTOL) for X in (P, Q))
    return R / t, S * t


# --- the elimination --------------------------------------------------------------------------


@given(seed=seeds(), spectrum=st.sampled_from(SPECTRA), m=st.integers(1, 4))
def test_factor_reproduces_the_closed_form(seed, spectrum, m):
    sys = build_system(np.random.default_rng(seed), "complex diagonal", spectrum, n=12, m=m)
    radius, phase = np.abs(sys.A.poles), np.angle(sys.A.poles)
    L = cauchy_factor((radius, phase), sys.B, rtol=0.0)
    P = lti.solve_stein(sys.A, sys.B @ adjoint(sys.B))
    # Entrywise: each error is relative to the geometric mean of two diagonal entries.
    size = np.sqrt(np.outer(np.diag(P).real, np.diag(P).real))
    assert np.all(np.abs(L @ adjoint(L) - P) <= 200 * EPS * size)


def test_one_column_keeps_relative_accuracy():
    """Pivots of a Cauchy matrix of clustered poles fall far below rounding, and stay right."""
    import mpmath

    n = 24
    radius, phase = 1 - np.geomspace(1e-3, 0.03, n), np.zeros(n)
    L = cauchy_factor((radius, phase), np.ones((n, 1), dtype=complex), rtol=0.0)
    # Complete pivoting: the largest entry of a column is its pivot.
    pivots = np.abs(L).max(axis=0) ** 2
    assert pivots[-1] / pivots[0] < 1e-17
    with mpmath.workdps(120):
        r = [mpmath.mpf(float(x)) for x in radius]
        P = mpmath.matrix([[1 / (1 - x * y) for y in r] for x in r])
        ratio = mpmath.det(P) / mpmath.fprod([mpmath.mpf(float(x)) for x in pivots])
    assert float(ratio) == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("rtol", [1e-4, 1e-8, 1e-12])
def test_what_is_dropped_is_small(rtol):
    sys = wide_system(0, "complex diagonal", "clustered")
    radius, phase = np.abs(sys.A.poles), np.angle(sys.A.poles)
    L = cauchy_factor((radius, phase), sys.B, rtol=rtol)
    P = lti.controllability_gramian(sys)
    assert L.shape[-1] < sys.order
    rest = np.diag(P - L @ adjoint(L)).real
    assert rest.max() <= 2 * rtol * np.diag(P).real.max()


def test_rank_is_bounded_and_batches_are_padded():
    sys = wide_system(0, "complex diagonal", batch=(2,))
    radius, phase = np.abs(sys.A.poles), np.angle(sys.A.poles)
    generator = sys.B.copy()
    generator[1] = 0
    assert cauchy_factor((radius, phase), generator, rtol=0.0, max_rank=3).shape == (2, 16, 3)
    L = cauchy_factor((radius, phase), generator, rtol=1e-12)
    assert np.all(L[1] == 0)
    alone = cauchy_factor((radius[0], phase[0]), generator[0], rtol=1e-12)
    np.testing.assert_allclose(L[0], alone, rtol=0, atol=1e-14 * np.abs(alone).max())


def test_nothing_reached_gives_no_columns():
    sys = wide_system(0, "rotation")
    silent = lti.LTI(sys.A, 0 * sys.B, sys.C)
    R, S = lti.gramian_factors(silent)
    assert R.shape[-1] == 0
    assert S.shape[-1] > 0
    assert np.all(lti.hankel_singular_values(silent) == 0)


# --- built on it ------------------------------------------------------------------------------


@given(
    seed=seeds(),
    structure=st.sampled_from(STRUCTURED),
    spectrum=st.sampled_from(SPECTRA),
    coupling=st.sampled_from(("full", "non-minimal", "graded")),
    batch=st.sampled_from(((), (2,))),
)
def test_factors_reproduce_both_gramians(seed, structure, spectrum, coupling, batch):
    sys = wide_system(seed, structure, spectrum, coupling, batch)
    R, S = lti.gramian_factors(sys)
    # Pivots are dropped below eps of the largest where both Gramians have about one diagonal.
    balanced, t = balance_states(sys)
    P, Q = lti.controllability_gramian(balanced), lti.observability_gramian(balanced)
    for factor, gramian in ((t * R, P), (S / t, Q)):
        assert np.isrealobj(factor) == np.isrealobj(gramian)
        assert factor.shape[-1] <= sys.order
        largest = np.einsum("...ii->...i", gramian).real.max(axis=-1)[..., None, None]
        error = np.abs(factor @ adjoint(factor) - gramian)
        assert np.all(error <= 4 * sys.order * EPS * largest)


@given(seed=seeds(), structure=st.sampled_from(STRUCTURED), spectrum=st.sampled_from(SPECTRA))
def test_values_agree_with_those_of_formed_gramians(seed, structure, spectrum):
    sys = wide_system(seed, structure, spectrum)
    R, S = formed_factors(sys)
    expected = np.linalg.svd(adjoint(S) @ R, compute_uv=False)
    found = lti.hankel_singular_values(sys)
    # What formed Gramians guarantee: eps (‖R‖‖S‖)² in the square.
    level = np.linalg.norm(R) * np.linalg.norm(S)
    difference = np.abs(found[: len(expected)] ** 2 - expected**2)
    assert np.all(difference <= 1000 * EPS * level**2)


@pytest.mark.parametrize("structure", ["complex diagonal", "rotation"])
def test_values_far_below_those_of_formed_gramians_are_right(structure):
    """Clustered poles: formed Gramians keep no digit below about 1e-12 σ_1."""
    n = 16
    gap = np.geomspace(1e-2, 0.3, n // 2 if structure == "rotation" else n)
    if structure == "rotation":
        A = lti.Rotation(1 - gap, 0.2 * gap)
    else:
        A = lti.Diagonal((1 - gap) * np.exp(0.2j * gap))
    sys = lti.LTI(A, np.ones((n, 1)), np.ones((1, n)))
    found = lti.hankel_singular_values(sys)
    expected = hankel_values_by_mpmath(sys.to_dense().A, sys.B, sys.C)
    right = np.abs(found - expected) <= 1e-3 * expected
    assert expected[right].min() < 1e-12 * expected[0]
    assert np.all(np.abs(found - expected) <= 1e-14 * expected[0])


@given(seed=seeds(), structure=st.sampled_from(STRUCTURED), order=st.integers(1, 10))
def test_truncation_obeys_its_bound(seed, structure, order):
    sys = wide_system(seed, structure)
    reduction = lti.balanced_truncation(sys, order=order)
    assert np.isrealobj(reduction.system.B) == np.isrealobj(sys.B)
    omega = np.linspace(-np.pi, np.pi, 200)
    error = lti.frequency_response(sys, omega) - lti.frequency_response(reduction.system, omega)
    largest = np.linalg.norm(error, 2, axis=(-2, -1)).max()
    rounding = 1e-12 * reduction.singular_values[0] * 16
    assert largest <= reduction.error_bound + rounding
    assert reduction.system.spectral_radius < 1


@pytest.mark.parametrize("structure", STRUCTURED)
def test_norms_agree_with_the_impulse_response(structure):
    sys = wide_system(1, structure)
    h = lti.impulse_response(sys, 2000)
    assert lti.h2_norm(sys) == pytest.approx(np.linalg.norm(h), rel=1e-12)
    reduced = lti.balanced_truncation(sys, order=4).system
    change = h - lti.impulse_response(reduced, 2000)
    assert lti.h2_error(sys, reduced) == pytest.approx(np.linalg.norm(change), rel=1e-6)


def test_many_states_need_no_square_matrix():
    """2·10⁴ states: an n × n Gramian alone would take 3.2 GB."""
    n = 20_000
    rng = np.random.default_rng(0)
    A = lti.Rotation(1 - np.geomspace(1e-3, 0.5, n // 2), rng.uniform(0, np.pi, n // 2))
    B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    sys = lti.LTI(A, B, C)
    sigma = lti.hankel_singular_values(sys, max_rank=20)
    assert sigma.shape == (20,)
    assert np.all(np.diff(sigma) <= 0)
    assert sigma[-1] > 0


# --- the compiled kernel ----------------------------------------------------------------------


@pytest.fixture(params=[cauchy_factor_reference, lyapunov_factor_reference])
def reference(request):
    return request.param


@pytest.fixture
def kernel(reference):
    return kernels.find(reference, np.zeros(1))


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_kernel_equals_the_reference(kernel, reference, spectrum, m):
    sys = build_system(
        np.random.default_rng(5), "complex diagonal", spectrum, batch=(2,), n=30, m=m
    )
    size = np.abs(sys.A.poles)
    if reference is lyapunov_factor_reference:
        size = 1 - size  # a decay
    arrays = size, np.angle(sys.A.poles), sys.B
    copies = [x.copy() for x in arrays]
    assert kernel is not reference
    # Stops early enough that both take the same pivots.
    found = kernel(*arrays, 1e-6, 30)
    expected = reference(*arrays, 1e-6, 30)
    assert found.shape == expected.shape
    product, reference = (X @ adjoint(X) for X in (found, expected))
    assert np.abs(product - reference).max() <= 1e-13 * np.abs(reference).max()
    for x, copy in zip(arrays, copies, strict=True):
        assert np.array_equal(x, copy)


def test_kernel_stops_at_the_rank(kernel, reference):
    size, phase = np.full(8, 0.5), np.full(8, 0.3)
    square = 1.0 if reference is lyapunov_factor_reference else 1 / 0.75
    L = kernel(size, phase, np.ones((8, 1), dtype=complex), 1e-12, 8)
    assert L.shape == (8, 1)
    np.testing.assert_allclose(np.abs(L) ** 2, square, rtol=1e-14)
    assert kernel(size, phase, np.zeros((8, 1), dtype=complex), 1e-12, 8).shape == (8, 0)


def test_pivots_of_a_cauchy_matrix_in_continuous_time():
    """det [1/(x_i + x_j)] = Π_{i<j} (x_i − x_j)² / Π_{ij} (x_i + x_j), to relative accuracy."""
    x = np.geomspace(1e-3, 0.03, 24)
    upper = np.triu_indices(len(x), 1)
    difference, total = np.subtract.outer(x, x)[upper], np.add.outer(x, x)
    exact = 2 * np.log(np.abs(difference)).sum() - np.log(total).sum()
    reference = lyapunov_factor_reference
    for factor in (reference, kernels.find(reference, x)):
        L = factor(x, np.zeros_like(x), np.ones((len(x), 1), dtype=complex), 0.0, len(x))
        pivots = np.abs(L).max(axis=0) ** 2
        assert pivots[-1] / pivots[0] < 1e-17
        # 24 pivots, each with a relative error of some 24 roundings.
        assert np.log(pivots).sum() == pytest.approx(exact, abs=1e-11)


def test_kernel_takes_threads_for_many_states_only(kernel, reference, monkeypatch):
    """Threads meet after every column, which few states are not worth."""
    seen, eliminate = [], cpu_cauchy._eliminate

    def watched(*arguments, many):
        seen.append(many)
        return eliminate(*arguments, many=many)

    monkeypatch.setattr(cpu_cauchy, "_eliminate", watched)
    size, phase = np.full(8, 0.5), np.linspace(0, 1, 8)
    arrays = size, phase, np.ones((8, 1), dtype=complex)
    alone = kernel(*arrays, 1e-12, 8)
    monkeypatch.setattr(cpu_cauchy, "_MANY", 8)
    together = kernel(*arrays, 1e-12, 8)
    assert seen == [False, True]
    if reference is lyapunov_factor_reference:
        exact = 1 / (1 - 1j * np.subtract.outer(phase, phase))
    else:
        exact = 1 / (1 - 0.25 * np.exp(1j * np.subtract.outer(phase, phase)))
    # The two are compiled apart, and where pivots tie, a rounding decides. What is left out is
    # semidefinite, and its diagonal at most 1e-12 of the largest entry.
    for L in (alone, together):
        assert np.abs(L @ adjoint(L) - exact).max() <= 1.1e-12 * np.abs(exact).max()


def test_columns_grow_with_the_rank(kernel, monkeypatch):
    """Blocks of columns end before, at and after the rank: the same factor every time."""
    sys = build_system(np.random.default_rng(6), "complex diagonal", batch=(3,), n=30, m=2)
    generator = sys.B.copy()
    generator[1, 5:] = 0  # of rank 5
    generator[2] = 0
    arrays = np.abs(sys.A.poles), np.angle(sys.A.poles), generator
    for limit in (1, 5, 7, 30):
        at_once = kernel(*arrays, 1e-10, limit)
        for columns in (1, 3, 5, 7, 40):
            monkeypatch.setattr(cpu_cauchy, "_COLUMNS", columns)
            assert np.array_equal(kernel(*arrays, 1e-10, limit), at_once)
            monkeypatch.undo()
