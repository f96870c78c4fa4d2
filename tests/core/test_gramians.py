"""Gramians and their rank-revealing factors."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    EPS,
    adjoint,
    dense,
    entries,
    gramian_by_mpmath,
    gramian_rounding,
    gramians_by_scipy,
    repeated_pairs,
    size,
    stein_by_summation,
    stein_condition,
    stein_residual,
    unit_roundoff,
)
from strategies import MILD_SPECTRA, STRUCTURES, build_system, systems

import lticore as lti
from lticore.hankel.scales import balance_gramians
from lticore.matrices.factors import pivoted_cholesky, pivoted_cholesky_reference

STRUCTURED, DENSE = STRUCTURES[:4], STRUCTURES[4:]


@given(sys=systems(dtypes=("float32", "float64")))
def test_gramians_solve_their_equations(sys):
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    B, C = (x.astype(np.complex128) for x in (sys.B, sys.C))
    tolerance = 4 * unit_roundoff(sys.B) + 200 * EPS
    assert stein_residual(sys.A, P, sys.A, B @ adjoint(B)) <= tolerance
    A_adjoint = adjoint(dense(sys.A))
    assert stein_residual(A_adjoint, Q, A_adjoint, adjoint(C) @ C) <= tolerance


@given(sys=systems())
def test_gramians_are_hermitian_and_positive_semidefinite(sys):
    for X in (lti.controllability_gramian(sys), lti.observability_gramian(sys)):
        assert np.array_equal(X, adjoint(X))
        smallest = np.linalg.eigvalsh(X)[..., 0].min()
        assert smallest >= -200 * EPS * size(X)


@given(sys=systems(dtypes=("float32", "float64")), horizon=st.sampled_from((None, 3)))
def test_gramians_have_the_dtype_of_the_system(sys, horizon):
    # Hermitian, hence complex only when the system is.
    assert lti.controllability_gramian(sys, horizon=horizon).dtype == sys.dtype
    assert lti.observability_gramian(sys, horizon=horizon).dtype == sys.dtype


@given(sys=systems(), horizon=st.integers(1, 9))
def test_finite_gramians_are_the_sums(sys, horizon):
    P = lti.controllability_gramian(sys, horizon=horizon)
    Q = lti.observability_gramian(sys, horizon=horizon)
    A, B, C = dense(sys.A), sys.B, sys.C
    P_sum = stein_by_summation(A, B @ adjoint(B), A, horizon)
    Q_sum = stein_by_summation(adjoint(A), adjoint(C) @ C, adjoint(A), horizon)
    # Sums of positive semidefinite terms do not cancel, but a non-normal A can grow on the way.
    growth = max(1, *(np.linalg.norm(A, 2, axis=(-2, -1)).ravel() ** 2))
    tolerance = 50 * horizon * EPS * growth
    assert size(P - P_sum) <= tolerance * size(P_sum)
    assert size(Q - Q_sum) <= tolerance * size(Q_sum)


@given(sys=systems(spectra=MILD_SPECTRA, batches=((),)))
def test_gramians_agree_with_scipy(sys):
    (A, B, C, _) = next(entries(sys))
    P, Q = gramians_by_scipy(A, B, C)
    # Condition of the equations: 1/(1 − 0.95²) for normal, < 1e3 for the non-normal draws.
    assert size(lti.controllability_gramian(sys) - P) <= 1e4 * EPS * max(size(P), EPS)
    assert size(lti.observability_gramian(sys) - Q) <= 1e4 * EPS * max(size(Q), EPS)


@given(sys=systems())
def test_gramians_are_dual(sys):
    dual = lti.LTI(adjoint_of(sys.A), adjoint(sys.C), adjoint(sys.B))
    P, Q = lti.controllability_gramian(dual), lti.observability_gramian(sys)
    # Structured: the same factors. Dense: another Schur form of a matrix with 1 − |λ| ≥ 1e-9.
    tolerance = 100 * EPS if lti.systems.structure.is_structured(sys.A) else 1e-5
    assert size(P - Q) <= tolerance * size(Q)


def adjoint_of(A):
    return adjoint(A) if isinstance(A, np.ndarray) else A.H


@pytest.mark.parametrize("structure", STRUCTURED)
@given(data=st.data())
def test_factors_reproduce_the_gramians(structure, data):
    # Rotations round a state relative to the others it is mixed with; only diagonal Gramians stay
    # semidefinite under any scaling.
    couplings = ("full", "graded") if "diagonal" in structure else ("full",)
    sys = data.draw(systems(structures=(structure,), couplings=couplings))
    R, S = lti.gramian_factors(sys)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    # Pivots are dropped below eps in coordinates where both diagonals are the same, √(p_i q_i).
    p, q = (np.einsum("...ii->...i", X).real for X in (P, Q))
    t = ((q / p) ** 0.25)[..., None]
    largest = np.sqrt(p * q).max(axis=-1)[..., None, None]
    # n dropped pivots, and a factor 2 for t, which is rounded to a power of two.
    tolerance = 10 * sys.order * EPS * largest
    assert np.all(np.abs(R @ adjoint(R) - P) * t * t.swapaxes(-1, -2) <= tolerance)
    assert np.all(np.abs(S @ adjoint(S) - Q) / t / t.swapaxes(-1, -2) <= tolerance)


@given(sys=systems(structures=DENSE, dtypes=("float32", "float64")))
def test_dense_factors_solve_the_equations(sys):
    """They come without the Gramians, and as near to the equations as these."""
    R, S = lti.gramian_factors(sys)
    assert R.dtype == S.dtype == sys.dtype
    assert max(R.shape[-1], S.shape[-1]) <= sys.order
    R, S, B, C = (x.astype(np.complex128) for x in (R, S, sys.B, sys.C))
    tolerance = 4 * unit_roundoff(sys.B) + 200 * EPS
    assert stein_residual(sys.A, R @ adjoint(R), sys.A, B @ adjoint(B)) <= tolerance
    A_adjoint = adjoint(dense(sys.A))
    assert stein_residual(A_adjoint, S @ adjoint(S), A_adjoint, adjoint(C) @ C) <= tolerance


@given(sys=systems(structures=DENSE, spectra=MILD_SPECTRA, batches=((3,), (2, 3))))
def test_entries_of_dense_batches_are_factored_alone(sys):
    """But for the order of sums in products of a batch."""
    R, S = lti.gramian_factors(sys)
    for index in np.ndindex(sys.batch_shape):
        one = sys[index]
        alone = lti.gramian_factors(one)
        rounding = 8 * unit_roundoff(sys.B) + 200 * EPS * stein_condition(dense(one.A))
        for factor, expected in zip((R[index], S[index]), alone, strict=True):
            X, Y = (F.astype(np.complex128) @ adjoint(F) for F in (factor, expected))
            assert size(X - Y) <= rounding * size(Y)


@pytest.mark.parametrize("rtol", [1e-1, 1e-4, 1e-8])
@pytest.mark.parametrize("structure", DENSE)
def test_what_dense_factors_drop_is_small(structure, rtol):
    sys = build_system(np.random.default_rng(0), structure, "clustered", n=12, m=1, p=1)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    P, Q, t = balance_gramians(P, Q)
    R, S = lti.gramian_factors(sys, rtol=rtol)
    for factor, gramian in ((t * R, P), (S / t, Q)):
        assert 0 < factor.shape[-1] < sys.order
        rest = np.diag(gramian - factor @ adjoint(factor)).real
        assert rest.max() <= 2 * rtol * np.diag(gramian).real.max()
        # Two roundings of an equation whose condition is below 1e3 for the non-normal draws.
        assert rest.min() >= -1e3 * EPS * np.diag(gramian).real.max()
        # The factor that elimination with complete pivoting gives, up to the signs of its columns.
        expected = pivoted_cholesky(gramian, rtol=rtol)
        assert np.abs(factor) == pytest.approx(np.abs(expected), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("exponent", [10, -7])
def test_units_of_the_states_cost_no_digits_of_dense_systems(exponent):
    """The units enter A too, whose norm grows to 1e15 and more; powers of two hide no digit."""
    sys = build_system(np.random.default_rng(0), "non-normal", n=6)
    t = 2.0 ** (exponent * np.arange(6))[:, None]
    scaled = lti.LTI(sys.A * t / t.T, sys.B * t, sys.C / t.T)
    for factor, expected, unit in zip(
        lti.gramian_factors(scaled), lti.gramian_factors(sys), (t, 1 / t), strict=True
    ):
        P, expected_P = (X @ adjoint(X) for X in (factor / unit, expected))
        assert size(P - expected_P) <= 1000 * EPS * size(expected_P)


@pytest.mark.parametrize("function", [lti.gramian_factors, lti.hankel_singular_values])
def test_dense_poles_next_to_the_circle_come_with_a_warning(function):
    pole = 1 - 1e-12
    sys = lti.LTI(np.diag([0.3, pole]), np.ones((2, 1)), np.ones((1, 2)))
    # The rounding of the pole, eps/2, as a share of its distance to the circle.
    message = r"error of 1e-04 .* least 1 − \|λ\| of its poles is 1\.0e-12"
    with pytest.warns(lti.PrecisionWarning, match=message) as caught:
        function(sys)
    assert caught[0].filename == __file__


def test_an_unobservable_state_near_the_circle_hides_no_other_state():
    """Its P is 5e11, which must not set the level below which the pivots of others are dropped."""
    pole, weak = 1 - 1e-12, 1e-4
    sys = lti.LTI(lti.Diagonal([pole, 0.5]), [[1.0], [weak]], [[0.0, 1 / weak]])
    dual = lti.LTI(sys.A, sys.C.T, sys.B.T)
    for changed in (sys, dual):
        sigma = lti.hankel_singular_values(changed)
        assert sigma == pytest.approx([1 / 0.75, 0], rel=10 * EPS, abs=1e-15)


@given(sys=systems(), max_rank=st.integers(1, 4))
def test_max_rank_limits_the_columns(sys, max_rank):
    R, S = lti.gramian_factors(sys, max_rank=max_rank)
    assert R.shape[-1] <= max_rank
    assert S.shape[-1] <= max_rank


def test_rtol_reveals_the_rank():
    sys = build_system(np.random.default_rng(0), "real diagonal", "clustered", n=12)
    ranks = [lti.gramian_factors(sys, rtol=rtol)[0].shape[-1] for rtol in (0.5, 1e-4, None)]
    assert ranks == sorted(ranks)
    assert ranks[0] < 12


def test_factors_of_an_unreachable_system_have_no_columns():
    sys = lti.LTI(lti.Diagonal([0.5, 0.2]), np.zeros((2, 1)), np.ones((1, 2)))
    R, S = lti.gramian_factors(sys)
    assert R.shape == (2, 0)
    assert S.shape == (2, 2)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_units_of_the_states_do_not_matter(scale):
    """The factors are balanced by powers of two, whatever the size of B against C."""
    A, B, C = lti.Diagonal([0.5, 0.3]), np.array([[1.0], [2.0]]), np.ones((1, 2))
    plain = lti.hankel_singular_values(lti.LTI(A, B, C))
    scaled = lti.hankel_singular_values(lti.LTI(A, B * scale, C / scale))
    assert scaled == pytest.approx(plain, rel=20 * EPS)


# --- pivoted Cholesky: the kernel and its reference text --------------------------------------


def semidefinite(rng, batch, n, rank, complex_):
    X = rng.standard_normal((*batch, n, rank))
    if complex_:
        X = X + 1j * rng.standard_normal(X.shape)
    return X @ adjoint(X)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (6, 6), (7, 3), (4, 0)])
def test_kernel_and_reference_agree(complex_, batch, n, rank):
    X = semidefinite(np.random.default_rng(n), batch, n, rank, complex_)
    # Well above rounding, so that both stop at the same rank.
    kernel, reference = pivoted_cholesky(X, rtol=1e-8), pivoted_cholesky_reference(X, 1e-8, n)
    assert kernel.shape == reference.shape
    assert kernel == pytest.approx(reference, rel=1e-7, abs=1e-7)
    assert kernel @ adjoint(kernel) == pytest.approx(X, abs=1e-7)


@pytest.mark.parametrize("cholesky", [pivoted_cholesky, pivoted_cholesky_reference])
def test_pivoted_cholesky_pads_the_smaller_ranks(cholesky):
    rng = np.random.default_rng(0)
    X = np.stack([semidefinite(rng, (), 5, rank, False) for rank in (1, 3, 0)])
    L = cholesky(X, rtol=1e-8, max_rank=5)
    assert L.shape == (3, 5, 3)
    assert np.all(L[0, :, 1:] == 0)
    assert np.all(L[2] == 0)


@pytest.mark.parametrize("cholesky", [pivoted_cholesky, pivoted_cholesky_reference])
def test_pivoted_cholesky_takes_the_largest_pivot_first(cholesky):
    L = cholesky(np.diag([1.0, 9.0, 4.0]), rtol=0.0, max_rank=2)
    assert np.array_equal(L, [[0, 0], [3, 0], [0, 2]])


@pytest.mark.parametrize("which", ["P", "Q"])
def test_states_whose_feeds_cancel(which):
    """A companion form of poles between −0.63 and −0.05 delays one signal: P_ii are about equal,
    where |A| has them fall by 4^9. By powers of A in 60 digits; error ‖A‖ eps times some 100."""
    poles = -np.array([0.625, 0.6, 0.55, 0.3125, 0.3, 0.055, 0.054, 0.05, 0.05])
    A = np.vstack([-np.poly(poles)[1:], np.eye(9)[:8]])
    B = np.array([[-1.4], *([2.0**-k] for k in range(7, 63, 7))])
    with mpmath.workdps(60):
        power, x, exact = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist()), mpmath.zeros(9)
        for _ in range(400):
            exact += x * x.T
            x = power * x
        exact = np.array(exact.tolist(), dtype=float)
    sys = lti.LTI(A, B, B.T) if which == "P" else lti.LTI(A.T, B, B.T)
    found = (lti.controllability_gramian if which == "P" else lti.observability_gramian)(sys)
    sizes = np.sqrt(np.diag(exact))
    assert np.max(np.abs(found - exact) / np.outer(sizes, sizes)) <= 1e3 * EPS


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("which", ["P", "Q"])
def test_states_whose_feeds_cancel_in_large_companion_forms(which, graded):
    """ρ(|A|) = 1.9 for ρ(A) = 0.35, and units that suit |A| spread P_ii, all about equal, over 25
    decades. Rounding in the units given changes them by `gramian_rounding`."""
    A, n = repeated_pairs(20), 40
    B = np.geomspace(1, 1e-12, n)[:, None] if graded else np.eye(n)[:, :1]
    exact = gramian_by_mpmath(A, B)
    # Outputs see all states alike: of weakly observed ones P keeps less, as documented.
    sys = lti.LTI(A, B, np.ones((1, n)))
    sys = sys if which == "P" else lti.LTI(A.T, sys.C.T, B.T)
    F = lti.gramian_factors(sys)[which == "Q"]
    found = (lti.controllability_gramian if which == "P" else lti.observability_gramian)(sys)
    sizes = np.sqrt(np.diag(exact))
    for X in (found, F @ F.T):
        assert np.max(np.abs(X - exact) / np.outer(sizes, sizes)) <= gramian_rounding(A)


def companion_of_four_poles(gap, angle):
    """A companion form with two poles ``gap`` from the circle, two inside, four next to zero."""
    near, inside = (
        [1, -2 * r * np.cos(w), r * r] for r, w in ((1 - gap, angle), (0.95, angle + 0.4))
    )
    A = np.eye(8, k=-1)
    A[0] = [*-np.polymul(near, inside)[1:], -2e-17, 1e-32, 2e-49, 3e-66]
    return A, np.array([[-1.0, -2, 0, 0, -8, 0, 0, 0], [-1, 1, 0, 0, 5, -1, 3, 0]])


@pytest.mark.parametrize(("gap", "angle"), [(1e-12, 2.5), (2.5e-13, 0.8)])
def test_units_in_which_rounding_nearly_moves_poles_across(gap, angle):
    """In units that suit C the poles count as reached by the circle, in those of A alone not; the
    latter weigh the last states by 2^100 and more, and lost the others.

    The last states are observed as they pass: Q_ii = Σ_{k≥i} |c_k|² but for 2·2e-17 √(Q_00 Q_ii),
    1e-11 of it. In no more than a sixteenth of the gap rounding moves the poles, or they would be
    unstable, and the Gramian by an eighth of itself.
    """
    A, C = companion_of_four_poles(gap, angle)
    with mpmath.workdps(80):
        power, exact = mpmath.matrix(A.T.tolist()), mpmath.matrix((C.T @ C).tolist())
        for _ in range(50):
            exact, power = exact + power * exact * power.T, power * power
        exact = np.array(exact.tolist(), dtype=float)
    ones = np.ones((8, 1))
    with pytest.warns(lti.PrecisionWarning, match="relative error of"):
        Q = lti.observability_gramian((A, ones, C))
    with pytest.warns(lti.PrecisionWarning, match="relative error of"):
        P = lti.controllability_gramian((A.T, C.T, ones.T))
    passing = np.cumsum(np.sum(C**2, axis=0)[::-1])[::-1]
    for X in (P, Q):
        assert np.diag(X)[4:7] == pytest.approx(passing[4:7], rel=1e-9)
        assert np.diag(X) == pytest.approx(np.diag(exact), rel=0.125)


@pytest.mark.parametrize("dt", [True, 0])
@pytest.mark.parametrize("kind", ["diagonal", "blocks"])
def test_gramians_of_inputs_whose_squares_are_no_numbers(kind, dt):
    """b² of 1e-322 and 0 for b of 1e-161 and 1e-165, P = b²/(1 − |λ|²) of 1e-308 and more: both
    states, and inputs of very different size beside each other, keep their digits."""
    b, gap = np.array([1e-161, 1e-165, 1e-120]), 2.0 ** -np.array([40.0, 50.0, 30.0])
    if kind == "diagonal":
        A = lti.Diagonal(1 - gap if dt else -gap)
    elif dt:
        A = lti.Rotation([], [], 1 - gap)
    else:
        A = lti.Oscillation([], [], -gap)
    with mpmath.workdps(40):
        x = [mpmath.mpf(float(g)) for g in gap]
        exact = [
            [
                float(
                    mpmath.mpf(b[i])
                    * mpmath.mpf(b[j])
                    / ((x[i] + x[j]) - (x[i] * x[j] if dt else 0))
                )
                for j in range(3)
            ]
            for i in range(3)
        ]
    P = lti.controllability_gramian((A, b[:, None], np.ones((1, 3)), None, dt))
    Q = lti.observability_gramian((A, np.ones((3, 1)), b[None], None, dt))
    for X in (P, Q):
        assert pytest.approx(np.array(exact), rel=16 * EPS, abs=1e-321) == X


@pytest.mark.filterwarnings("error")
def test_a_batch_may_hold_systems_that_reach_nothing():
    """Beside one of whose states one counts in no product of both factors."""
    small = 2.0**-40
    A, C = np.diag([0.5, 0.25]), np.array([[1.0, small]])
    B = np.array([[[0.0], [0.0]], [[1.0], [small]]])
    R, _ = lti.gramian_factors(lti.LTI(A, B, C))
    assert not R[0].any()
    P = 1 / (1 - np.array([[0.25, 0.125], [0.125, 0.0625]])) * (B[1] @ B[1].T)
    np.testing.assert_allclose(R[1] @ R[1].T, P, rtol=1e-15, atol=1e-15 * P[0, 0])
    np.testing.assert_allclose(lti.hankel_norm(lti.LTI(A, B, C)), [0, 1 / 0.75], rtol=1e-14)
