"""Sparse state matrices: beside the dense methods, and with 100 000 states beside closed forms."""

import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from doors import OTHER, SYSTEM_ROWS, name_in

import lticore as lti
from lticore.equations.low_rank import (
    _rest,
    following_factor,
    low_rank_factors,
    rank_revealing,
)
from lticore.equations.shifts import sweep_of_shifts
from lticore.matrices.sparse_factors import factorized

EPS = np.finfo(np.float64).eps
RNG = np.random.default_rng(0)
#: Functions that take a sparse A, by their rows in doors.py.
SPARSE_ROWS = {
    "gramian_factors",
    "hankel_singular_values",
    "hankel_norm",
    "h2_norm",
    "h2_error",
    "frequency_response",
    "balanced_truncation",
    "from_statespace",
}


def second_differences(n):
    outer = np.ones(n - 1)
    return scipy.sparse.diags_array([outer, -2 * np.ones(n), outer], offsets=[-1, 0, 1])


def heat(n):
    return (n + 1) ** 2 * second_differences(n)


def convection(k, speeds=(10.0, 100.0)):
    """Convection and diffusion on a square of k × k points."""
    one, outer = scipy.sparse.eye_array(k), np.ones(k - 1)
    slope = (k + 1) / 2 * scipy.sparse.diags_array([-outer, outer], offsets=[-1, 1])
    x, y = (heat(k) - speed * slope for speed in speeds)
    return scipy.sparse.kron(one, x) + scipy.sparse.kron(y, one)


def chain(k):
    """Masses and springs, weakly damped: poles −0.05 ± iω with ω up to 2."""
    one = scipy.sparse.eye_array(k)
    return scipy.sparse.block_array([[None, one], [second_differences(k), -0.1 * one]])


def complex_chain(k):
    return 1j * second_differences(k) - 0.3 * scipy.sparse.eye_array(k)


def graph(n):
    """Without structure."""
    links = scipy.sparse.random(n, n, density=0.04, random_state=1)
    return 3 * links - 9 * scipy.sparse.eye_array(n)


def delays(n):
    """A ring: poles 0.05 + 0.9 z with zⁿ = 1."""
    one = scipy.sparse.eye_array(n, format="csr")
    return scipy.sparse.csc_array(0.9 * one[np.roll(np.arange(n), 1)] + 0.05 * one)


MODELS = {
    "heat": heat(60),
    "convection": convection(7),
    "chain": chain(20),
    "complex": complex_chain(30),
    "graph": graph(60),
}


@cache
def models(name, discrete, m=2, p=3):
    """The same system with a sparse and a dense A."""
    A = scipy.sparse.csc_array(MODELS[name])
    if discrete and name == "chain":
        A = delays(A.shape[0])
    elif discrete:
        one = scipy.sparse.eye_array(A.shape[0])
        step = 0.02 if name == "complex" else 0.4 / np.linalg.norm(A.toarray(), 2)
        A = one + step * A
    B, C = RNG.standard_normal((A.shape[0], m)), RNG.standard_normal((p, A.shape[0]))
    D = RNG.standard_normal((p, m)) if discrete else None
    dt = True if discrete else 0
    return lti.LTI(lti.Sparse(A), B, C, D, dt=dt), lti.LTI(A.toarray(), B, C, D, dt=dt)


both_times = pytest.mark.parametrize("discrete", [False, True])
every_model = pytest.mark.parametrize("name", MODELS)


# --- beside dense methods ---------------------------------------------------------------------


@both_times
@every_model
def test_factors_are_those_of_the_gramians(name, discrete):
    """From below: P − R Rᴴ is a Gramian itself, of less than some eps of the trace."""
    sparse, full = models(name, discrete)
    for factor, exact in zip(
        lti.gramian_factors(sparse),
        (lti.controllability_gramian(full), lti.observability_gramian(full)),
        strict=True,
    ):
        rest = exact - factor @ factor.conj().T
        assert factor.shape[1] <= sparse.order
        assert np.isrealobj(factor) == (name != "complex")
        # The rounding of steps in which fast and slow modes are solved for together.
        assert np.linalg.norm(rest) <= 1e-9 * np.trace(exact).real
        assert np.linalg.eigvalsh(rest).min() >= -1e-9 * np.trace(exact).real


@both_times
@every_model
def test_hankel_singular_values(name, discrete):
    sparse, full = models(name, discrete)
    found, expected = lti.hankel_singular_values(sparse), lti.hankel_singular_values(full)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * expected[0])
    np.testing.assert_allclose(lti.hankel_norm(sparse), expected[0], rtol=1e-9)
    assert lti.hankel_singular_values(sparse, max_rank=4).shape == (4,)


@both_times
@every_model
def test_norms_and_responses(name, discrete):
    sparse, full = models(name, discrete)
    np.testing.assert_allclose(lti.h2_norm(sparse), lti.h2_norm(full), rtol=1e-9)
    omega = np.array([0.0, 0.3, 2.5])
    expected = lti.frequency_response(full, omega)
    size = np.abs(expected).max()
    np.testing.assert_allclose(
        lti.frequency_response(sparse, omega), expected, rtol=0, atol=1e-10 * size
    )


@pytest.mark.parametrize("match_dc", [False, True])
@both_times
@every_model
def test_reductions(name, discrete, match_dc):
    sparse, full = models(name, discrete)
    found = lti.balanced_truncation(sparse, order=6, match_dc=match_dc)
    expected = lti.balanced_truncation(full, order=6, match_dc=match_dc)
    bound = expected.error_bound
    assert found.order == expected.order == 6
    assert bound * (1 - 1e-9) <= found.error_bound <= bound * 1.01
    omega = np.concatenate([[0], np.geomspace(1e-3, 3 if discrete else 1e5, 40)])
    H, H_expected, H_full = (
        lti.frequency_response(x, omega) for x in (found.system, expected.system, full)
    )
    size = np.abs(H_full).max()
    np.testing.assert_allclose(H, H_expected, rtol=0, atol=1e-8 * size)
    if match_dc:
        np.testing.assert_allclose(H[0], H_full[0], rtol=0, atol=1e-8 * size)
    np.testing.assert_allclose(found.h2_error, expected.h2_error, rtol=1e-6)
    if not (match_dc and not discrete):
        np.testing.assert_allclose(lti.h2_error(sparse, found.system), found.h2_error, rtol=1e-8)
    if not match_dc:
        np.testing.assert_allclose(found.left.conj().T @ found.right, np.eye(6), rtol=0, atol=1e-12)


def test_reductions_by_error_in_single_precision():
    sparse, _ = models("convection", False)
    exact = lti.balanced_truncation(sparse, error=1e-3)
    A = lti.Sparse(sparse.A.matrix.astype(np.float32))
    single = lti.LTI(A, *(X.astype(np.float32) for X in (sparse.B, sparse.C)), dt=0)
    found = lti.balanced_truncation(single, error=1e-3)
    assert found.system.dtype == np.float32
    assert found.order == exact.order
    assert found.error_bound <= 2e-3


def test_modes_of_a_structured_system():
    """Heat in 1 500 points whose modes are sines, beside factors from the poles."""
    n = 1500
    k = np.arange(1, n + 1)
    modes = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))
    poles = -4 * (n + 1.0) ** 2 * np.sin(np.pi * k / (2 * (n + 1))) ** 2
    B, C = np.zeros((n, 1)), np.ones((1, n)) / n
    B[400:430] = 1
    modal = lti.LTI(lti.Diagonal(poles), modes @ B, C @ modes, dt=0)
    sparse = lti.LTI(lti.Sparse(heat(n)), B, C, dt=0)
    expected = lti.hankel_singular_values(modal)
    found = lti.hankel_singular_values(sparse)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * expected[0])


# --- many states ------------------------------------------------------------------------------


def few_modes(n, which=(1, 2, 3, 5)):
    """B and C of few sines, and the system of these modes alone."""
    k, points = np.array(which), np.arange(1, n + 1)
    modes = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(points, k) / (n + 1))
    poles = -4 * (n + 1.0) ** 2 * np.sin(np.pi * k / (2 * (n + 1))) ** 2
    b, c = np.array([[1.0], [2], [-1], [0.5]]), np.array([[1.0, 1, 2, -3]])
    return modes @ b, c @ modes.T, lti.LTI(lti.Diagonal(poles), b, c, dt=0)


def test_a_hundred_thousand_states():
    n = 100_000
    B, C, exact = few_modes(n)
    sys = lti.LTI(lti.Sparse(heat(n)), B, C, dt=0)
    found = lti.balanced_truncation(sys, order=3)
    sigma = lti.hankel_singular_values(exact)
    # Arithmetic changes A by eps ‖A‖, and with it the slowest pole, −π².
    rounding = EPS * 4 * n**2 / np.pi**2
    np.testing.assert_allclose(found.singular_values[:4], sigma, rtol=0, atol=rounding * sigma[0])
    assert found.singular_values.shape == (n,)
    expected = lti.balanced_truncation(exact, order=3)
    omega = np.array([0.0, 1, 10, 30, 100, 300])
    H, H_expected = (lti.frequency_response(x.system, omega) for x in (found, expected))
    assert np.abs(H - H_expected).max() <= 4 * rounding * sigma[0]
    np.testing.assert_allclose(found.h2_error, expected.h2_error, rtol=1e-2)
    assert lti.hinf_error(exact, found.system) <= found.error_bound


# --- refusals ---------------------------------------------------------------------------------


@both_times
@pytest.mark.parametrize("row", sorted(set(SYSTEM_ROWS) - SPARSE_ROWS))
def test_what_needs_poles_or_entries_refuses(row, discrete):
    n = 100_000
    A = lti.Sparse(scipy.sparse.eye_array(n) * (0.5 if discrete else -1.0))
    sys = lti.LTI(A, np.ones((n, 2)), np.ones((2, n)), dt=True if discrete else 0)
    refused = rf"^{re.escape(name_in(row))} has a sparse A of 100000|continuous-time"
    with pytest.raises(lti.ArgumentError, match=refused):
        SYSTEM_ROWS[row](sys, 2)


def small(dt=True, scale=0.5):
    return lti.LTI(lti.Sparse(scipy.sparse.eye_array(3) * scale), np.eye(3, 2), np.eye(2, 3), dt=dt)


@pytest.mark.parametrize(
    "ask",
    [
        lambda sys: sys.poles,
        lambda sys: sys.spectral_radius,
        lambda sys: sys.to_dense(),
        lambda sys: sys + OTHER,
        lambda sys: OTHER @ sys,
        lambda sys: lti.solve_stein(sys.A, np.eye(3)),
        lambda sys: lti.solve_lyapunov(np.eye(3), np.eye(3), sys.A),
        lambda sys: lti.discretize(sys.A, sys.B, sys.C),
        lambda sys: lti.balanced_truncation(sys, order=1, unstable="keep"),
        lambda sys: lti.balanced_truncation(sys, order=1, horizon=3),
        lambda sys: lti.balanced_truncation(sys, order=1, gramians=(np.eye(3), np.eye(3))),
        lambda sys: lti.hankel_singular_values(sys, horizon=3),
        lambda sys: lti.hankel_singular_values(sys, accuracy="relative"),
        lambda sys: lti.gramian_factors(sys, horizon=3),
        lambda sys: lti.h2_norm(sys, horizon=3),
        lambda sys: lti.h2_error(sys, OTHER, horizon=3),
        lambda sys: lti.h2_error(OTHER, sys),
        lambda sys: lti.controllability_gramian(
            lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, np.zeros((2, 3, 3)))
        ),
    ],
)
def test_what_would_fill_it_in_refuses(ask):
    with pytest.raises(lti.ArgumentError, match=r"sparse"):
        ask(small())


def test_what_keeps_it_sparse():
    sys = small()
    assert repr(sys) == "LTI(Sparse, order 3, 2 inputs, 2 outputs, float64)"
    omega = np.array([0.1, 1.0])
    H = lti.frequency_response(sys, omega)
    np.testing.assert_array_equal(lti.frequency_response(-2 * sys, omega), -2 * H)
    X = RNG.standard_normal((3, 2))
    np.testing.assert_array_equal(sys.A.multiply(X), X / 2)
    assert (sys.A.H.matrix != sys.A.matrix.T).nnz == 0


@pytest.mark.parametrize(
    ("matrix", "error"),
    [
        (np.eye(2), lti.ArrayLibraryError),
        (scipy.sparse.csr_array((2, 3)), lti.ShapeError),
        (scipy.sparse.csr_array([[np.nan]]), lti.NonFiniteError),
        (scipy.sparse.csr_array(np.eye(2, dtype=np.longdouble)), lti.DtypeError),
    ],
)
def test_what_is_no_sparse_matrix(matrix, error):
    with pytest.raises(error, match=r"^matrix"):
        lti.Sparse(matrix)


def test_one_matrix_is_no_batch():
    with pytest.raises(lti.ShapeError, match="sparse"):
        lti.LTI(small().A, np.ones((4, 3, 1)), np.ones((1, 3)))
    with pytest.raises(lti.ShapeError, match="3 states"):
        lti.LTI(small().A, np.ones((2, 1)), np.ones((1, 2)))


def test_entries_given_twice_are_added_and_inputs_left_alone():
    A = scipy.sparse.coo_array(([1, 2, 3], ([0, 0, 1], [0, 0, 1])))
    before = A.copy()
    np.testing.assert_array_equal(lti.Sparse(A).matrix.toarray(), [[3.0, 0], [0, 3]])
    np.testing.assert_array_equal(A.data, before.data)
    twice = scipy.sparse.csc_array((np.array([1.0, 2.0]), [0, 0], [0, 2]), shape=(1, 1))
    np.testing.assert_array_equal(lti.Sparse(twice).matrix.toarray(), [[3.0]])
    assert lti.Sparse(twice).matrix.nnz == 1
    assert twice.nnz == 2


def test_sizes_of_products():
    """|A||E⁻¹ X|, entries given twice that cancel counted as none."""
    A = scipy.sparse.csc_array(
        (np.array([1.0, 5.0, -5.0, -2.0, 3.0]), [0, 1, 1, 0, 1], [0, 3, 5]), shape=(2, 2)
    )
    mass = scipy.sparse.diags_array([2.0, -4.0]).tocsc()
    X = np.array([[2.0], [-8.0]])
    np.testing.assert_array_equal(lti.Sparse(A).multiply_sizes(X), [[18.0], [24.0]])
    np.testing.assert_array_equal(lti.Sparse(A, mass).multiply_sizes(X), [[5.0], [6.0]])


# --- factors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rtol", "max_rank", "count"),
    [(0.02, None, 1), (1e-4, None, 2), (1e-7, None, 3), (1e-7, 2, 2), (1e-4, 3, 2)],
)
def test_ranks_are_those_of_eigenvalues(rtol, max_rank, count):
    """X Xᴴ = diag(16, 16e-2, 16e-6) has three eigenvalues, of which each keeps its own place."""
    turn = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1.0]])
    F = rank_revealing(np.diag([4, 0.4, 4e-3]) @ turn, rtol, max_rank)
    assert F.shape == (3, count)
    kept = np.where(np.arange(3) < count, [16, 16e-2, 16e-6], 0)
    np.testing.assert_allclose(F @ F.T, np.diag(kept), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("rate", "share"), [(0.25, 1 / 3), (0.5, 1.0), (0.9, 1.0)])
def test_what_is_to_come_is_a_geometric_series(rate, share):
    """Of Sᴴ R the last sweep added all but the first entry."""
    R, S = np.array([[1.0, 2.0], [1j, 2.0]]), np.array([[1.0, 0.0], [0.0, 4j]])
    # Sᴴ R = [[1, 2], [4, −8j]]
    sides = [SimpleNamespace(before=1, rate=x) for x in (rate, 0.1)]
    expected = share * np.sqrt(4 + 64 + 16)
    np.testing.assert_allclose(_rest(R, S, *sides), expected, rtol=1e-14)
    np.testing.assert_allclose(_rest(R, S, *sides[::-1]), expected, rtol=1e-14)


# --- stability --------------------------------------------------------------------------------


def insulated(n):
    """Heat that stays: a pole at 0."""
    A = second_differences(n).tolil()
    A[0, 0] = A[n - 1, n - 1] = -1
    return A


@pytest.mark.parametrize(
    "A",
    [
        insulated(50),
        scipy.sparse.eye_array(50) * 15 + heat(50),
        scipy.sparse.block_array(
            [[None, scipy.sparse.eye_array(30)], [second_differences(30), None]]
        ),
        scipy.sparse.eye_array(20),
    ],
    ids=["a pole at 0", "a pole beyond", "undamped", "all beyond"],
)
@both_times
def test_unstable_systems_are_refused(A, discrete):
    n = A.shape[0]
    dt = True if discrete else 0
    A = scipy.sparse.eye_array(n) + 1e-5 * A if discrete else A
    sys = lti.LTI(lti.Sparse(A), np.ones((n, 1)), np.arange(1.0, n + 1)[None], dt=dt)
    for function in (lti.hankel_singular_values, lti.h2_norm):
        with pytest.raises(lti.UnstableSystemError, match="all poles"):
            function(sys)


@pytest.mark.parametrize(
    ("poles", "dt", "named"),
    [([-3.0, -1.0, 2.0], 0, "2+0j"), ([0.5, 0.9, 1.5], True, "1.5+0j")],
)
def test_the_pole_that_is_beyond_is_named(poles, dt, named):
    A = lti.Sparse(scipy.sparse.diags_array(poles).tocsc())
    sys = lti.LTI(A, np.ones((3, 1)), np.ones((1, 3)), dt=dt)
    with pytest.raises(lti.UnstableSystemError, match=re.escape(f"beyond is {named}")):
        lti.h2_norm(sys)


def test_systems_that_nothing_reaches():
    sys = lti.LTI(lti.Sparse(heat(20)), np.zeros((20, 1)), np.ones((1, 20)), dt=0)
    np.testing.assert_array_equal(lti.hankel_singular_values(sys), 0)
    assert lti.h2_norm(sys) == 0
    R, S = lti.gramian_factors(sys)
    assert R.shape[1] == 0 < S.shape[1]
    with pytest.warns(lti.PrecisionWarning, match="order 2 was asked for"):
        assert lti.balanced_truncation(sys, order=2).order == 1


@both_times
@pytest.mark.parametrize("n", [1, 2])
def test_few_states(n, discrete):
    A = scipy.sparse.diags_array([0.5, -0.25][:n])
    A = A if discrete else A - scipy.sparse.eye_array(n)
    dt = True if discrete else 0
    B, C = np.ones((n, 1)), np.arange(1.0, n + 1)[None]
    found = lti.hankel_singular_values(lti.LTI(lti.Sparse(A), B, C, dt=dt))
    expected = lti.hankel_singular_values(lti.LTI(A.toarray(), B, C, dt=dt))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * expected[0])


def test_a_pole_is_met():
    """All that is reached and seen is infinite there, as of dense matrices."""
    A = lti.Sparse(scipy.sparse.diags_array([0.0, -1]))
    sys = lti.LTI(A, np.eye(2, 3), np.eye(2), dt=0)
    H = lti.frequency_response(sys, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(np.isinf(H[0]), [[True, True, False]] * 2)
    np.testing.assert_allclose(H[1, :, :2], np.diag([-1j, 1 / (1 + 1j)]), rtol=1e-15)


# --- parts ------------------------------------------------------------------------------------


def test_shifts_of_real_poles_are_nearly_the_best():
    """For the best J shifts and poles in [−b, −a] the product is about 2 exp(−π² J/(2 log(4 b/a)))
    (Wachspress): these are at most two fifths more for theirs."""
    for ratio in (1e2, 1e4, 1e8):
        shifts = sweep_of_shifts(-np.array([1.0, ratio]), real=True)
        poles = -np.geomspace(1, ratio, 5000)
        gain = np.abs(np.prod([(poles - p) / (poles + p) for p in shifts], axis=0)).max()
        fewest = np.log(2 / gain) * 2 * np.log(4 * ratio) / np.pi**2
        assert all(p.imag == 0 and -ratio * 1.001 <= p.real <= -0.999 for p in shifts)
        assert gain <= 0.03
        assert fewest - 1 <= len(shifts) <= 1.4 * fewest + 1


def test_shifts_of_oscillations_come_in_pairs():
    poles = -0.05 + 1j * np.linspace(0.1, 2, 30)
    shifts = sweep_of_shifts(np.concatenate([poles, poles.conj()]), real=True)
    assert all(p.real < 0 < p.imag for p in shifts)


@pytest.mark.parametrize("width", [1, 8, 9, 30])
@pytest.mark.parametrize("kind", [float, complex])
def test_solutions_by_bands_and_graphs(kind, width):
    """Both sides of the width up to which LAPACK's bands are taken."""
    n = 60
    diagonals = [RNG.standard_normal(n - abs(k)) for k in range(-width, width + 1)]
    M = scipy.sparse.diags_array(diagonals, offsets=range(-width, width + 1), format="csc")
    M = scipy.sparse.csc_array(M.astype(kind) * (1 if kind is float else 1 + 0.5j))
    M = M + scipy.sparse.eye_array(n, format="csc") * 20
    W = RNG.standard_normal((n, 3)).astype(kind)
    solve, A = factorized(M), M.toarray()
    for trans, matrix in (("N", A), ("T", A.T), ("H", A.conj().T)):
        np.testing.assert_allclose(matrix @ solve(W, trans), W, rtol=0, atol=1e-12)


@both_times
@pytest.mark.parametrize("name", ["heat", "chain", "complex"])
def test_a_system_follows_itself(name, discrete):
    """After the same shifts the factor of a dense A is that of the sparse one."""
    sparse, full = models(name, discrete)
    factors = low_rank_factors(sparse, 1e-8, "P")
    found, rest = following_factor(full, factors.shifts)
    size = np.linalg.norm(factors.R)
    np.testing.assert_allclose(found, factors.R, rtol=0, atol=1e-9 * size)
    P = lti.controllability_gramian(full)
    left = lti.controllability_gramian(lti.LTI(full.A, rest, full.C, dt=full.dt))
    np.testing.assert_allclose(P - found @ found.conj().T, left, rtol=0, atol=1e-9 * size**2)


# --- with a mass matrix -------------------------------------------------------------------------


def finite_elements(n):
    """(E, A) of heat in a rod by hat functions, which have the same eigenvectors sin(iθ_k), with
    θ_k = kπ/(n + 1), and the poles E⁻¹A has: −6 (n + 1)² (1 − cos θ_k)/(2 + cos θ_k)."""
    E = scipy.sparse.eye_array(n) + second_differences(n) / 6
    cosines = np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    return E, heat(n), -6 * (n + 1) ** 2 * (1 - cosines) / (2 + cosines)


def sines(n):
    k = np.arange(1, n + 1)
    return np.sqrt(2 / (n + 1)) * np.sin(np.outer(k, k) * np.pi / (n + 1))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j])
def test_a_mass_matrix_beside_closed_forms(discrete, factor):
    """The same system in its modes; a complex factor of E and A changes no pole."""
    n, step = 60, 2e-5
    E, A, poles = finite_elements(n)
    if discrete:
        A, poles = E + step * A, 1 + step * poles
    rng = np.random.default_rng(0)
    B, C = rng.standard_normal((n, 2)), rng.standard_normal((3, n))
    dt = True if discrete else 0
    sys = lti.from_descriptor(factor * E, factor * A, factor * B, C, dt=dt)
    assert isinstance(sys.A, lti.Sparse)
    U, mass = sines(n), (2 + np.cos(np.arange(1, n + 1) * np.pi / (n + 1))) / 3
    modes = lti.LTI(lti.Diagonal(poles), U @ B / mass[:, None], C @ U, dt=dt)
    sigma = lti.hankel_singular_values(modes)
    assert np.abs(lti.hankel_singular_values(sys) - sigma).max() <= 1e-11 * sigma[0]
    assert lti.h2_norm(sys) == pytest.approx(lti.h2_norm(modes), rel=1e-11)
    omega = np.array([0.0, 0.3, 2.0])
    H = lti.frequency_response(modes, omega)
    for found in (sys, lti.LTI(sys.A, sys.B.astype(complex), sys.C, dt=dt)):
        np.testing.assert_allclose(lti.frequency_response(found, omega), H, rtol=1e-11)
    reduction = lti.balanced_truncation(sys, order=8)
    other = lti.balanced_truncation(modes, order=8)
    assert reduction.h2_error == pytest.approx(other.h2_error, rel=1e-6)
    error = lti.frequency_response(reduction.system, omega) - H
    assert np.abs(np.linalg.svd(error, compute_uv=False)).max() <= reduction.error_bound
    # W and V are of the states E x.
    W, V = reduction.left, reduction.right
    projected = W.conj().T @ sys.A.multiply(V)
    np.testing.assert_allclose(projected, reduction.system.A, atol=1e-9 * np.abs(projected).max())
    # The adjoint of the operator, and solutions with its adjoint pencil.
    X, Y = rng.standard_normal((2, n, 1)) + 1j * rng.standard_normal((2, n, 1))
    left, right = (X.conj().T @ sys.A.multiply(Y)), (sys.A.multiply_adjoint(X).conj().T @ Y)
    assert abs(left - right).item() <= 1e-12 * np.abs(poles).max() * n
    for trans in ("N", "H"):
        Z = sys.A.solver(1.0, 0.7j - 5e4)(X, trans)
        back = sys.A.multiply(Z) if trans == "N" else sys.A.multiply_adjoint(Z)
        shift = 0.7j - 5e4
        back = back + (shift if trans == "N" else np.conj(shift)) * Z
        np.testing.assert_allclose(back, X, atol=1e-10)


def test_many_states_with_a_mass_matrix():
    n = 50_000
    E, A, poles = finite_elements(n)
    B, C = np.full((n, 1), 1 / n), np.full((1, n), 1 / n)
    sys = lti.from_descriptor(E, A, B, C, dt=0)
    # Of the slowest mode, and so of nearly all of it: σ_1 against that of 200 modes.
    k = np.arange(1, 400, 2)
    shape = np.sqrt(2 / (n + 1)) / np.tan(k * np.pi / (2 * (n + 1)))
    mass = (2 + np.cos(k * np.pi / (n + 1))) / 3
    b = shape[:, None] / n / mass[:, None]
    modes = lti.LTI(lti.Diagonal(poles[k - 1]), b, shape[None] / n, dt=0)
    expected = lti.hankel_singular_values(modes)[:3]
    # E costs E⁻¹ some 3 roundings, A one of (n + 1)² beside poles of 10.
    found = lti.hankel_singular_values(sys, max_rank=3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mass_matrices_that_are_none():
    one, B, C = scipy.sparse.eye_array(4), np.ones((4, 1)), np.ones((1, 4))
    singular = scipy.sparse.diags_array([1.0, 1.0, 1.0, 0.0])
    with pytest.raises(lti.SingularEquationError, match="algebraic equations"):
        lti.from_descriptor(singular, -one, B, C, dt=0)
    with pytest.raises(lti.ShapeError, match="mass has shape"):
        lti.Sparse(one, scipy.sparse.eye_array(3))
    for E, A in ((np.eye(4), -one), (one, -np.eye(4))):
        with pytest.raises(lti.ArrayLibraryError, match="not a sparse matrix of SciPy"):
            lti.from_descriptor(E, A, B, C, dt=0)
    with pytest.raises(lti.ArgumentError, match="adjoint"):
        _ = lti.Sparse(one, one).H


def test_values_far_below_the_gramians():
    """Rows of B and columns of C of 2^-20, alternately: σ are those of (A, 2^-20 B, C), with even
    rows, of ‖R‖‖S‖ 2^20 times as small."""
    rng = np.random.default_rng(0)
    n, small = 12, 2.0**-20
    poles = np.linspace(0.1, 0.8, n)
    B, C = rng.uniform(1, 2, (n, 1)), rng.uniform(1, 2, (1, n))
    uneven = np.where(np.arange(n) % 2, small, 1.0)
    A = scipy.sparse.diags_array(poles).tocsc()
    sparse = lti.LTI(lti.Sparse(A), B * uneven[:, None], C * (small / uneven))
    found = lti.hankel_singular_values(sparse)
    exact = small * lti.hankel_singular_values(lti.LTI(lti.Diagonal(poles), B, C))
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-12)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9 * exact[0])
