"""Systems with quadratic outputs: data, simulation, Gramians, norms, reduction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, stein_by_kronecker, stein_condition, unit_roundoff
from strategies import STRUCTURES, build_system, seeds

import lticore as lti
from lticore.systems import quadratic

FORMS = ("dense", "factors")


def random_array(rng, shape, complex_):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_ else x


def add_forms(rng, sys, forms, rank=2):
    """The system with random forms, in the precision it has."""
    p, n, complex_ = sys.outputs, sys.order, np.iscomplexobj(sys.B)
    single = sys.B.dtype in (np.float32, np.complex64)
    if forms == "dense":
        M = random_array(rng, (*sys.batch_shape, p, n, n), complex_)
        return lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, M.astype(sys.B.dtype) if single else M)
    V = random_array(rng, (*sys.batch_shape, p, n, rank), complex_)
    s = rng.standard_normal((*sys.batch_shape, p, rank))
    if single:
        V, s = V.astype(sys.B.dtype), s.astype(np.float32)
    return lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, (V, s))


@st.composite
def quadratic_systems(draw, structures=STRUCTURES, batches=((), (3,)), dtypes=("float64",)):
    rng = np.random.default_rng(draw(seeds()))
    sys = build_system(
        rng,
        draw(st.sampled_from(structures)),
        draw(st.sampled_from(("plain", "negative", "zero"))),
        batch=draw(st.sampled_from(batches)),
        n=draw(st.integers(1, 6)),
        m=draw(st.integers(1, 2)),
        p=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(dtypes)),
    )
    return add_forms(rng, sys, draw(st.sampled_from(FORMS)))


def entries(sys):
    """(A, B, C, M) of each batch entry, dense."""
    A = sys.A.to_dense() if lti.systems.structure.is_structured(sys.A) else sys.A
    M = quadratic.dense_forms(sys.M)
    for index in np.ndindex(sys.batch_shape):
        yield A[index], sys.B[index], sys.C[index], M[index]


# --- data -------------------------------------------------------------------------------------


@given(sys=quadratic_systems(dtypes=("float32", "float64")))
def test_shapes_and_precision(sys):
    M = quadratic.dense_forms(sys.M)
    assert M.shape == (*sys.batch_shape, sys.outputs, sys.order, sys.order)
    # Sums over the columns of a factor: rounded once per term and product.
    assert np.abs(M - adjoint(M)).max() <= 4 * unit_roundoff(M) * np.abs(M).max()
    kinds = {x.dtype for x in (sys.B, sys.C, *quadratic.quadratic_arrays(sys))}
    assert {np.finfo(kind).bits for kind in kinds} == {np.finfo(sys.B.dtype).bits}


def test_other_forms_are_replaced_by_their_hermitian_parts():
    M = np.array([[[0.0, 2.0], [0.0, 1.0]]])
    sys = lti.QuadraticOutputLTI(lti.Diagonal([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)), M)
    assert np.array_equal(sys.M, [[[0, 1], [1, 1]]])


@pytest.mark.parametrize(
    ("M", "error", "message"),
    [
        (np.zeros((1, 3, 3)), lti.ShapeError, "need .* 1, 2, 2"),
        (np.zeros((2, 2)), lti.ShapeError, "M has shape"),
        ((np.zeros((1, 2, 3)),), lti.ShapeError, "M has 1 factors"),
        ((np.zeros((1, 2, 3)), np.zeros((1, 2))), lti.ShapeError, "need V"),
        ((np.zeros((1, 2, 3)), np.zeros((1, 3), complex)), lti.DtypeError, "s of M must be real"),
        (np.full((1, 2, 2), np.nan), lti.NonFiniteError, "M contains NaN"),
    ],
)
def test_bad_forms(M, error, message):
    with pytest.raises(error, match=message):
        lti.QuadraticOutputLTI(lti.Diagonal([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)), M)


# --- operations on forms ----------------------------------------------------------------------


@given(seed=seeds(), kinds=st.tuples(st.sampled_from(FORMS), st.sampled_from(FORMS)))
def test_sums_over_forms_are_the_same_for_factors(seed, kinds):
    rng = np.random.default_rng(seed)
    systems = [
        add_forms(rng, build_system(rng, "complex diagonal", n=n, p=2), kind)
        for n, kind in zip((5, 3), kinds, strict=True)
    ]
    X = random_array(rng, (5, 3), True)
    M, N = (quadratic.dense_forms(sys.M) for sys in systems)
    expected = sum(a @ X @ b for a, b in zip(M, N, strict=True))
    # Products of sums of at most 5 terms: eps times the norms that are multiplied.
    size = 10 * EPS * np.linalg.norm(M) * np.linalg.norm(X)
    found = quadratic.sandwiched(systems[0].M, X, systems[1].M)
    assert np.abs(found - expected).max() <= size * np.linalg.norm(N)
    trace = sum(np.trace(adjoint(X) @ a @ X @ b) for a, b in zip(M, N, strict=True))
    found = quadratic.cross_trace(systems[0].M, X, systems[1].M)
    assert abs(found - trace) <= size * np.linalg.norm(X) * np.linalg.norm(N)
    found = quadratic.dense_forms(quadratic.transformed(systems[0].M, X))
    assert np.abs(found - adjoint(X) @ M @ X).max() <= size * np.linalg.norm(X)


# --- simulation -------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", ["delayed", "current"])
@given(sys=quadratic_systems(), seed=seeds())
def test_simulation_step_by_step(timing, sys, seed):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((*sys.batch_shape, 6, sys.inputs))
    x0 = rng.standard_normal((*sys.batch_shape, sys.order))
    found = lti.simulate(sys, u, initial=x0, timing=timing)
    found, u, x0 = (x.reshape(-1, *x.shape[len(sys.batch_shape) :]) for x in (found, u, x0))
    for entry, (A, B, C, M) in enumerate(entries(sys)):
        x, largest = x0[entry], 0.0
        for k in range(6):
            if timing == "current":
                x = A @ x + B @ u[entry, k]
            y = C @ x + np.einsum("a,iab,b->i", x.conj(), M, x)
            # x is known to k eps of the largest it can have been, and enters squared.
            largest += np.linalg.norm(x)
            size = (np.linalg.norm(C) + np.linalg.norm(M) * largest) * largest
            assert np.abs(found[entry, k] - y).max() <= 40 * EPS * size
            if timing == "delayed":
                x = A @ x + B @ u[entry, k]


def test_real_systems_have_real_outputs_in_their_precision():
    rng = np.random.default_rng(0)
    sys = add_forms(rng, build_system(rng, "rotation", dtype="float32"), "factors")
    y = lti.simulate(sys, np.ones((4, sys.inputs), np.float32))
    assert y.dtype == np.float32


# --- Gramians and norms -----------------------------------------------------------------------


@given(sys=quadratic_systems())
def test_observability_gramian_solves_its_equation(sys):
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    for index, (A, _, C, M) in zip(np.ndindex(sys.batch_shape), entries(sys), strict=True):
        W = adjoint(C) @ C + sum(form @ P[index] @ form for form in M)
        residual = adjoint(A) @ Q[index] @ A - Q[index] + W
        scale = max(1, np.linalg.norm(A, 2) ** 2)
        assert np.linalg.norm(residual) <= 500 * EPS * scale * np.linalg.norm(Q[index])


def squared_rounding(sys, horizon):
    """(…) what is uncertain in tr(C P Cᴴ) + Σ tr(P M P M): P, by n eps times its condition."""
    P = np.linalg.norm(lti.controllability_gramian(sys, horizon=horizon), axis=(-2, -1))
    condition = np.array([stein_condition(A) for A, *_ in entries(sys)]).reshape(P.shape)
    C = np.linalg.norm(sys.C, axis=(-2, -1))
    M = np.sqrt(np.sum(np.abs(quadratic.dense_forms(sys.M)) ** 2, axis=(-3, -2, -1)))
    return 10 * sys.order * EPS * condition * (P * C**2 + P**2 * M**2)


@pytest.mark.parametrize("horizon", [None, 1, 5])
@given(sys=quadratic_systems())
def test_norm_from_both_gramians_and_from_the_kernels(horizon, sys):
    """tr(Bᴴ Q B) = tr(C P Cᴴ) + Σ tr(P M P M) = Σ_k |C A^k B|² + Σ_jk |Bᴴ A^jᴴ M A^k B|²."""
    squared = lti.h2_norm(sys, horizon=horizon) ** 2
    Q = lti.observability_gramian(sys, horizon=horizon)
    dual = np.trace(adjoint(sys.B) @ Q @ sys.B, axis1=-2, axis2=-1).real
    rounding = squared_rounding(sys, horizon)
    assert np.all(np.abs(squared - dual) <= rounding)
    lags = 400 if horizon is None else horizon
    for value, share, (A, B, C, M) in zip(
        np.ravel(squared), np.ravel(rounding), entries(sys), strict=True
    ):
        states = [B]
        for _ in range(lags - 1):
            states.append(A @ states[-1])
        X = np.stack(states)
        total = np.sum(np.abs(C @ X) ** 2)
        for form in M:
            wide = X.transpose(1, 0, 2).reshape(len(A), -1)
            total += np.sum(np.abs(adjoint(wide) @ form @ wide) ** 2)
        assert abs(value - total) <= share


@pytest.mark.parametrize("horizon", [None, 6])
@given(seed=seeds(), kinds=st.tuples(*[st.sampled_from(("linear", *FORMS))] * 2))
def test_error_is_the_norm_of_the_difference(horizon, seed, kinds):
    rng = np.random.default_rng(seed)
    pair = []
    for n, kind, structure in zip((5, 3), kinds, ("dense", "rotation"), strict=True):
        sys = build_system(rng, structure, n=n, m=2, p=2)
        pair.append(sys if kind == "linear" else add_forms(rng, sys, kind))
    A, B, C, M = difference_of(*pair)
    expected = lti.h2_norm(lti.QuadraticOutputLTI(A, B, C, M), horizon=horizon)
    rounding = squared_rounding(lti.QuadraticOutputLTI(A, B, C, M), horizon)
    assert abs(lti.h2_error(*pair, horizon=horizon) ** 2 - expected**2) <= rounding


def difference_of(first, second):
    parts = []
    for sys in (first, second):
        A = sys.A.to_dense() if lti.systems.structure.is_structured(sys.A) else sys.A
        parts.append((A, sys.B, sys.C, quadratic.dense_forms(quadratic.forms_of(sys))))
    (A, B, C, M), (A_2, B_2, C_2, M_2) = parts
    n, r = len(A), len(A_2)
    whole = np.zeros((len(M), n + r, n + r), dtype=np.result_type(M, M_2))
    whole[:, :n, :n], whole[:, n:, n:] = M, -M_2
    A = np.block([[A, np.zeros((n, r))], [np.zeros((r, n)), A_2]])
    return A, np.vstack([B, B_2]), np.hstack([C, -C_2]), whole


@pytest.mark.parametrize("horizon", [None, 3])
@pytest.mark.parametrize("small", [2.0**-20, 2.0**-40])
def test_norm_where_the_linear_part_cancels(horizon, small):
    """A block without a turn holds two separate states, 1 and ``small``, of which the small one is
    seen: squares know nothing of it below 1e-8."""
    A, B = lti.Rotation([0.6], [0.0]), np.array([[1.0], [small]])
    C, M = np.array([[0.0, 1.0]]), np.diag([small, 0.0])[None]
    energy = (1 - (0.0 if horizon is None else 0.36**horizon)) / (1 - 0.36)
    expected = np.hypot(small * np.sqrt(energy), small * energy)
    found = lti.h2_norm(lti.QuadraticOutputLTI(A, B, C, M), horizon=horizon)
    np.testing.assert_allclose(found, expected, atol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("kind", ["diagonal", "dense", "factors"])
def test_norm_in_any_units_of_the_states(kind):
    """States of 2^±300, whose forms are 2^∓600, and one that is not reached, with a form of its own
    of 2^900. By hand: P_ij = b_i b_j/(1 − λ_i λ_j), ‖Σ‖² = C P Cᵀ + tr M P M P."""
    poles, unit = np.array([0.5, -0.25, 0.75]), 2.0 ** np.array([300, -300, 0])
    b, c, v = np.array([1.0, 2.0, 0.0]), np.array([1.0, 0.5, 1.0]), np.array([1.0, -2.0, 0.5])
    P = np.outer(b, b) / (1 - np.outer(poles, poles))
    M = 2.0 * np.outer(v, v)
    expected = np.sqrt(c @ P @ c + np.trace(M @ P @ M @ P))
    A = np.diag(poles) if kind == "dense" else lti.Diagonal(poles)
    large = np.array([1.0, 1.0, 2.0**450])
    if kind == "factors":
        forms = ((v * large / unit)[None, :, None], np.array([[2.0]]))
    else:
        forms = (M * np.outer(large, large) / np.outer(unit, unit))[None]
    sys = lti.QuadraticOutputLTI(A, (b * unit)[:, None], (c / unit)[None], forms)
    for horizon in (None, 2000):
        assert lti.h2_norm(sys, horizon=horizon) == pytest.approx(expected, rel=1e-14)


def test_white_noise_statistics():
    """E|e|² = h2lin² + 2 h2quad² + |ΔDC|², and the shift takes the last term away."""
    rng = np.random.default_rng(1)
    sys = add_forms(rng, build_system(rng, "rotation", n=6, m=1, p=1), "factors")
    reduced = lti.balanced_truncation(sys, order=3).system
    shift = lti.output_shift(sys, reduced)
    u = rng.standard_normal((400, 3000, 1))
    error = (lti.simulate(sys, u) - lti.simulate(reduced, u))[:, 500:]
    assert error.mean() == pytest.approx(shift[0], abs=6 * error.mean(axis=1).std() / 20)
    linear = lti.h2_error(sys.linear, reduced.linear)
    quadratic_part = np.sqrt(lti.h2_error(sys, reduced) ** 2 - linear**2)
    expected = linear**2 + 2 * quadratic_part**2
    assert np.mean((error - shift[0]) ** 2) == pytest.approx(expected, rel=0.1)


def test_gramian_by_kronecker():
    rng = np.random.default_rng(2)
    sys = add_forms(rng, build_system(rng, "dense", n=4), "dense")
    ((A, B, C, M),) = entries(sys)
    P = stein_by_kronecker(A, B @ B.T, A)
    Q = stein_by_kronecker(A.T, C.T @ C + sum(form @ P @ form for form in M), A.T)
    # P enters the right-hand side with the condition of its own equation; elimination of n²
    # unknowns rounds as often.
    error = np.linalg.norm(lti.observability_gramian(sys) - Q)
    assert error <= Q.size * EPS * stein_condition(A) ** 2 * np.linalg.norm(Q)


# --- reduction --------------------------------------------------------------------------------


@given(sys=quadratic_systems(batches=((),)), data=st.data())
@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
def test_balanced_truncation(sys, data):
    order = data.draw(st.integers(1, sys.order))
    reduction = lti.balanced_truncation(sys, order=order)
    assert reduction.error_bound is None
    small = reduction.system
    assert isinstance(small, lti.QuadraticOutputLTI)
    assert small.spectral_radius < 1
    W, V = reduction.left, reduction.right
    np.testing.assert_allclose(
        quadratic.dense_forms(small.M),
        adjoint(V) @ quadratic.dense_forms(sys.M) @ V,
        rtol=0,
        atol=20 * EPS * np.linalg.norm(V) ** 2 * np.linalg.norm(quadratic.dense_forms(sys.M)),
    )
    if reduction.order == sys.order:
        np.testing.assert_allclose(adjoint(W) @ V, np.eye(sys.order), rtol=0, atol=1e-6)
        assert reduction.h2_error <= 1e-6 * lti.h2_norm(sys)
    P, Q = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    sigma = np.sqrt(np.sort(np.maximum(np.linalg.eigvals(P @ Q).real, 0))[::-1])
    level = np.sqrt(np.linalg.norm(P) * np.linalg.norm(Q))
    assert np.abs(reduction.singular_values - sigma).max() <= 1e-6 * level


def test_factors_stay_factors():
    rng = np.random.default_rng(3)
    sys = add_forms(rng, build_system(rng, "rotation", n=6), "factors")
    for reduced in (
        lti.balanced_truncation(sys, order=3).system,
        lti.h2_reduction(sys, 3, starts=1).system,
    ):
        assert isinstance(reduced.M, tuple)
        assert reduced.M[0].shape == (2, 3, 2)
        assert not np.iscomplexobj(reduced.M[0])


def test_complex_forms_of_a_real_system():
    """Their observability Gramian is complex, so all of the system is."""
    rng = np.random.default_rng(0)
    B, C, M = (random_array(rng, s, c) for s, c in (((4, 1), 0), ((1, 4), 0), ((1, 4, 4), 1)))
    A = lti.Rotation([0.9, 0.5], [1.0, 2.0])
    found, expected = (
        lti.balanced_truncation(lti.QuadraticOutputLTI(A, b, c, M), order=2)
        for b, c in ((B, C), (B + 0j, C + 0j))
    )
    assert found.h2_error == pytest.approx(expected.h2_error, rel=1e-12)
    found_error = lti.h2_error(lti.QuadraticOutputLTI(A, B, C, M), found.system)
    assert found.h2_error == pytest.approx(found_error, rel=1e-6)


def test_options_without_meaning_are_refused():
    rng = np.random.default_rng(4)
    sys = add_forms(rng, build_system(rng, "rotation", n=6), "dense")
    with pytest.raises(lti.ArgumentError, match="match_dc"):
        lti.balanced_truncation(sys, order=2, match_dc=True)
    with pytest.raises(lti.ArgumentError, match="error="):
        lti.balanced_truncation(sys, error=1e-3)
    with pytest.raises(lti.ArgumentError, match="keep"):
        lti.balanced_truncation(sys, order=2, unstable="keep")
    with pytest.raises(lti.ArgumentError, match="linear outputs"):
        lti.h2_reduction(sys, 2, method="lm")
