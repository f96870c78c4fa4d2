"""Refitted outputs: exact recovery, least squares, streams, and what the data do not say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, EPS_SINGLE, dense
from strategies import STRUCTURES, build_system, seeds

import lticore as lti
from lticore.reduction.refit import RIDGES

TIMINGS = ("delayed", "current")
#: Spectra whose states differ enough to be told apart by data.
DISTINCT = ("plain", "negative")


def white(rng, sys, shape=(3, 80)):
    """Inputs (..., L, m), complex where the system is."""
    u = rng.standard_normal((*shape, sys.inputs))
    if np.iscomplexobj(sys.B):
        u = u + 1j * rng.standard_normal(u.shape)
    return u


def spoilt(rng, sys, feedthrough=True):
    """The same A and B with other outputs."""
    C, D = sys.C + rng.standard_normal(sys.C.shape), sys.D
    if D is not None and feedthrough:
        D = D + rng.standard_normal(D.shape)
    return lti.LTI(sys.A, sys.B, C.astype(sys.dtype), None if D is None else D.astype(sys.dtype))


def states_by_stepping(sys, u, timing):
    """(L, n) states of one system, step by step from zero."""
    A, x, states = dense(sys.A), np.zeros(sys.order), []
    for step in u:
        if timing == "delayed":
            states.append(x)
        x = A @ x + sys.B @ step
        if timing == "current":
            states.append(x)
    return np.array(states)


def residual(sys, batches, timing="delayed"):
    errors = [np.linalg.norm(lti.simulate(sys, u, timing=timing) - y) for u, y in batches]
    return np.linalg.norm(errors) / np.linalg.norm([np.linalg.norm(y) for _, y in batches])


def truncated(rng, order=4, n=12):
    """A full system with feedthrough, and a reduced one in rotation form."""
    A = lti.Rotation(rng.uniform(0.5, 0.98, n // 2), rng.uniform(0.1, 3, n // 2))
    B, C, D = (rng.standard_normal(shape) for shape in ((n, 2), (3, n), (3, 2)))
    sys = lti.LTI(A, B, C, D)
    return sys, lti.to_rotation(lti.balanced_truncation(sys, order=order).system)


def coloured(rng, sys, shapes):
    """Batches of smooth inputs and the outputs of the full system."""
    batches = []
    for shape in shapes:
        u = lti.linear_recurrence(np.full(sys.inputs, 0.9), white(rng, sys, shape))
        batches.append((u, lti.simulate(sys, u)))
    return batches


# --- exact recovery ---------------------------------------------------------------------------


@given(
    seed=seeds(),
    structure=st.sampled_from(STRUCTURES),
    timing=st.sampled_from(TIMINGS),
    feedthrough=st.booleans(),
)
def test_outputs_of_the_true_system_are_found_again(seed, structure, timing, feedthrough):
    rng = np.random.default_rng(seed)
    sys = build_system(rng, structure, n=4, feedthrough=True)
    u = white(rng, sys)
    data = [(u, lti.simulate(sys, u, timing=timing))]
    fit = lti.refit_outputs(
        spoilt(rng, sys, feedthrough), data, feedthrough=feedthrough, timing=timing
    )
    identity = lti.LTI(sys.A, sys.B, np.eye(sys.order))
    X = lti.simulate(identity, u, timing=timing)
    X = np.concatenate([X, u], axis=-1) if feedthrough else X
    X = X.reshape(-1, X.shape[-1])
    condition = np.linalg.cond(X / np.linalg.norm(X, axis=0))
    if condition > 1e10:
        return  # two poles that the data cannot tell apart
    assert fit.rank == X.shape[1]
    assert fit.samples == 3 * 80
    assert fit.residual_after <= 1e3 * EPS * fit.residual_before + 1e2 * EPS
    scale = np.linalg.norm(X) / np.linalg.norm(X, axis=0)
    found = np.concatenate([fit.system.C, fit.system.D], axis=-1)[:, : len(scale)]
    wanted = np.concatenate([sys.C, sys.D], axis=-1)[:, : len(scale)]
    change = np.abs(found - wanted).max(axis=0) / scale
    assert change.max() <= 1e3 * EPS * condition * (1 + fit.residual_before)
    if not feedthrough:
        assert np.array_equal(fit.system.D, sys.D)


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("feedthrough", [False, True])
def test_the_fit_is_the_least_squares_one(timing, feedthrough):
    """Against lstsq on states computed step by step."""
    rng = np.random.default_rng(0)
    full, reduced = truncated(rng)
    u = white(rng, full, (100,))
    y = lti.simulate(full, u, timing=timing) + rng.standard_normal((100, 3))
    fit = lti.refit_outputs(reduced, [(u, y)], feedthrough=feedthrough, timing=timing)
    X = states_by_stepping(reduced, u, timing)
    if feedthrough:
        W = np.linalg.lstsq(np.hstack([X, u]), y)[0]
        assert np.allclose(fit.system.D, W[4:].T, rtol=0, atol=1e-12)
    else:
        W = np.linalg.lstsq(X, y - u @ reduced.D.T)[0]
        assert fit.system.D is not None
        assert np.array_equal(fit.system.D, reduced.D)
    assert np.allclose(fit.system.C, W[:4].T, rtol=0, atol=1e-12)
    # The residual is orthogonal to the regressors.
    left = y - lti.simulate(fit.system, u, timing=timing)
    assert np.abs(X.T @ left).max() <= 1e-12 * np.linalg.norm(X) * np.linalg.norm(y)


# --- residuals --------------------------------------------------------------------------------


@given(
    seed=seeds(),
    structure=st.sampled_from(STRUCTURES),
    dtype=st.sampled_from(["float32", "float64"]),
    rtol=st.sampled_from([0.0, 1e-12, 1e-2, 0.5]),
    feedthrough=st.booleans(),
)
def test_the_calibration_error_never_grows(seed, structure, dtype, rtol, feedthrough):
    """Also with a cut so coarse that hardly a direction is left, and in single precision."""
    rng = np.random.default_rng(seed)
    sys = build_system(rng, structure, n=5, dtype=dtype, feedthrough=bool(rng.random() < 0.5))
    u = white(rng, sys, (2, 50))
    y = lti.simulate(sys, u)
    y = y + 0.1 * rng.standard_normal(y.shape) * np.abs(y).max()
    reduced = sys if rng.random() < 0.5 else spoilt(rng, sys)
    fit = lti.refit_outputs(reduced, [(u, y)], feedthrough=feedthrough, rtol=rtol)
    assert fit.residual_after <= fit.residual_before
    assert fit.system.dtype == sys.dtype
    assert fit.residual_before.dtype == (np.float32 if dtype == "float32" else np.float64)


@given(seed=seeds(), feedthrough=st.booleans())
def test_residuals_are_those_of_the_simulations(seed, feedthrough):
    rng = np.random.default_rng(seed)
    full, reduced = truncated(rng)
    batches = coloured(rng, full, [(2, 60), (30,), (3, 1, 10)])
    fit = lti.refit_outputs(reduced, iter(batches), feedthrough=feedthrough)
    assert fit.residual_before == pytest.approx(residual(reduced, batches), rel=1e-10)
    assert fit.residual_after == pytest.approx(residual(fit.system, batches), rel=1e-10)
    assert fit.samples == 120 + 30 + 30


def test_a_truncated_system_gains_on_new_data_too():
    """Smooth inputs weigh frequencies as the h∞ norm does not."""
    rng = np.random.default_rng(3)
    gains = []
    for _ in range(10):
        full, reduced = truncated(rng)
        fit = lti.refit_outputs(reduced, coloured(rng, full, [(8, 500)]), feedthrough=True)
        new = coloured(rng, full, [(8, 500)])
        gains.append(residual(fit.system, new) / residual(reduced, new))
    assert max(gains) < 1
    assert np.median(gains) < 0.9


# --- streams ----------------------------------------------------------------------------------


@given(seed=seeds(), feedthrough=st.booleans(), timing=st.sampled_from(TIMINGS))
def test_a_stream_gives_what_one_batch_gives(seed, feedthrough, timing):
    rng = np.random.default_rng(seed)
    full, reduced = truncated(rng)
    u = white(rng, full, (12, 40))
    y = lti.simulate(full, u, timing=timing)
    options = {"feedthrough": feedthrough, "timing": timing}
    one = lti.refit_outputs(reduced, [(u, y)], **options)
    cuts = np.sort(rng.integers(0, 13, 4))
    parts = zip(np.split(u, cuts), np.split(y, cuts), strict=True)
    many = lti.refit_outputs(reduced, parts, **options)
    assert one.samples == many.samples == 480
    for x, other in ((one.system.C, many.system.C), (one.system.D, many.system.D)):
        assert np.allclose(x, other, rtol=0, atol=1e-11)
    assert many.residual_after == pytest.approx(one.residual_after, rel=1e-12)


def test_long_sequences():
    rng = np.random.default_rng(5)
    full = build_system(rng, "rotation", n=6, feedthrough=True)
    u = white(rng, full, (200_000,))
    fit = lti.refit_outputs(spoilt(rng, full), [(u, lti.simulate(full, u))], feedthrough=True)
    assert fit.residual_after <= 1e-13
    assert np.allclose(fit.system.C, full.C, rtol=0, atol=1e-12)
    assert np.allclose(fit.system.D, full.D, rtol=0, atol=1e-12)


def test_the_condition_is_not_squared():
    """Regressors of condition 1e9: normal equations would have no digit left."""
    A = lti.Diagonal([0.5, 0.5 + 1e-9])
    sys = lti.LTI(A, np.ones((2, 1)), np.array([[1.0, 2.0]]))
    u = np.random.default_rng(0).standard_normal((4, 100, 1))
    other = lti.LTI(A, sys.B, np.array([[1.5, 2.5]]))
    parts = [(x, lti.simulate(sys, x)) for x in u]
    fit = lti.refit_outputs(other, parts)
    assert fit.rank == 2
    assert np.abs(fit.system.C - sys.C).max() <= 1e-5
    assert fit.residual_after <= 1e-14


def test_graded_states_are_not_cut():
    """Units of the states do not matter: ten decades between them, full rank."""
    rng = np.random.default_rng(0)
    sys = build_system(rng, "real diagonal", n=3)
    scale = np.array([1.0, 1e-10, 1e10])
    scaled = lti.LTI(sys.A, scale[:, None] * sys.B, sys.C / scale)
    u = white(rng, sys)
    fit = lti.refit_outputs(lti.LTI(sys.A, scaled.B, 2 * scaled.C), [(u, lti.simulate(sys, u))])
    assert fit.rank == 3
    assert np.allclose(fit.system.C, scaled.C, rtol=1e-9, atol=0)


# --- what the data do not say -----------------------------------------------------------------


def test_channels_without_signal_keep_their_outputs():
    rng = np.random.default_rng(0)
    A = lti.Diagonal([0.9, 0.5, -0.3])
    B = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # the last state hears the second input only
    sys = lti.LTI(A, B, rng.standard_normal((2, 3)), rng.standard_normal((2, 2)))
    other = spoilt(rng, sys)
    u = white(rng, sys)
    u[..., 1] = 0
    fit = lti.refit_outputs(other, [(u, lti.simulate(sys, u))], feedthrough=True)
    assert fit.rank == 3
    assert fit.residual_after <= 1e-14
    assert np.allclose(fit.system.C[:, :2], sys.C[:, :2], rtol=0, atol=1e-12)
    assert np.allclose(fit.system.D[:, 0], sys.D[:, 0], rtol=0, atol=1e-12)
    assert np.array_equal(fit.system.C[:, 2], other.C[:, 2])
    assert np.array_equal(fit.system.D[:, 1], other.D[:, 1])


def test_equal_states_share_the_correction():
    """Two states that are always equal: the change of minimum norm is the same for both."""
    sys = lti.LTI(lti.Diagonal([0.5, 0.5]), np.ones((2, 1)), np.array([[1.0, 3.0]]))
    other = lti.LTI(sys.A, sys.B, np.array([[1.0, 1.0]]))
    u = np.random.default_rng(0).standard_normal((50, 1))
    fit = lti.refit_outputs(other, [(u, lti.simulate(sys, u))])
    assert fit.rank == 1
    assert np.allclose(fit.system.C, [[2.0, 2.0]], rtol=0, atol=1e-12)
    assert fit.residual_after <= 1e-14


def test_fewer_samples_than_unknowns():
    rng = np.random.default_rng(0)
    sys = build_system(rng, "rotation", n=6, feedthrough=True)
    u = white(rng, sys, (3,))
    fit = lti.refit_outputs(spoilt(rng, sys), [(u, lti.simulate(sys, u))], feedthrough=True)
    assert fit.rank == 3
    assert fit.residual_after <= 1e-13


def test_silence_changes_nothing():
    sys = build_system(np.random.default_rng(0), "rotation", n=4)
    fit = lti.refit_outputs(sys, [(np.zeros((10, 2)), np.zeros((10, 2)))], feedthrough=True)
    assert fit.rank == 0
    assert fit.residual_before == fit.residual_after == 0
    assert np.array_equal(fit.system.C, sys.C)
    assert np.array_equal(fit.system.D, np.zeros((2, 2)))


# --- batches of systems, precision, libraries -------------------------------------------------


def test_a_batch_of_systems_is_fitted_one_by_one():
    rng = np.random.default_rng(0)
    sys = build_system(rng, "rotation with real poles", batch=(2, 3), n=3, feedthrough=True)
    other = spoilt(rng, sys)
    u = white(rng, sys, (5, 2, 3, 40))  # five sequences for each of the systems
    y = lti.simulate(sys, u) + 0.1 * rng.standard_normal((5, 2, 3, 40, 2))
    fit = lti.refit_outputs(other, [(u, y)], feedthrough=True)
    assert fit.residual_after.shape == fit.rank.shape == (2, 3)
    assert fit.samples == 200
    for i in np.ndindex(2, 3):
        one = lti.refit_outputs(other[i], [(u[:, *i], y[:, *i])], feedthrough=True)
        assert np.allclose(fit.system.C[i], one.system.C, rtol=0, atol=1e-12)
        assert np.allclose(fit.system.D[i], one.system.D, rtol=0, atol=1e-12)
        assert fit.residual_after[i] == pytest.approx(one.residual_after)


def test_one_input_serves_a_batch_of_systems():
    rng = np.random.default_rng(0)
    sys = build_system(rng, "rotation", batch=(3,), n=4)
    u = white(rng, sys, (50,))
    fit = lti.refit_outputs(spoilt(rng, sys), [(u, lti.simulate(sys, u))])
    assert np.allclose(fit.system.C, sys.C, rtol=0, atol=1e-10)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_real_stays_real_and_single_precision_stays(structure):
    rng = np.random.default_rng(0)
    sys = build_system(rng, structure, n=4, dtype="float32")
    u = white(rng, sys).astype(sys.dtype)
    y = lti.simulate(sys, u)
    fit = lti.refit_outputs(spoilt(rng, sys), [(u, y)])
    assert fit.system.dtype == sys.dtype
    assert fit.residual_after <= 30 * EPS_SINGLE


def test_complex_data_of_a_real_system_make_complex_outputs():
    rng = np.random.default_rng(0)
    sys = build_system(rng, "rotation", n=4)
    u = white(rng, sys)
    fit = lti.refit_outputs(sys, [(u, 1j * lti.simulate(sys, u))])
    assert np.allclose(fit.system.C, 1j * sys.C, rtol=0, atol=1e-12)


def test_strict_arrays_give_what_numpy_gives():
    import array_api_strict

    rng = np.random.default_rng(0)
    sys = build_system(rng, "rotation", n=4, feedthrough=True)
    u = white(rng, sys)
    y = lti.simulate(sys, u) + rng.standard_normal((3, 80, 2))
    expected = lti.refit_outputs(sys, [(u, y)], feedthrough=True)

    def strict(x):
        return array_api_strict.asarray(np.array(x))

    A = lti.Rotation(strict(sys.A.radius), strict(sys.A.angle))
    other = lti.LTI(A, strict(sys.B), strict(sys.C), strict(sys.D))
    fit = lti.refit_outputs(other, [(strict(u), strict(y))], feedthrough=True)
    assert type(fit.system.C).__module__.startswith("array_api_strict")
    assert np.allclose(np.asarray(fit.system.C), expected.system.C, rtol=0, atol=1e-12)


def test_arguments_are_not_modified():
    rng = np.random.default_rng(0)
    full, reduced = truncated(rng)
    ((u, y),) = coloured(rng, full, [(2, 30)])
    arrays = (reduced.B, reduced.C, reduced.D, u, y)
    before = [x.copy() for x in arrays]
    lti.refit_outputs(reduced, [(u, y)], feedthrough=True)
    assert all(np.array_equal(x, b) for x, b in zip(arrays, before, strict=True))


# --- weights and ridges -----------------------------------------------------------------------


def test_weights_count_steps():
    """Against lstsq on weighted rows; steps of weight 0 are as good as absent."""
    rng = np.random.default_rng(20)
    full, reduced = truncated(rng)
    u = white(rng, full, (3, 60))
    y = lti.simulate(full, u) + rng.standard_normal((3, 60, 3))
    w = rng.uniform(0, 2, (3, 60))
    fit = lti.refit_outputs(reduced, [(u, y, w)])
    X = np.concatenate([states_by_stepping(reduced, one, "delayed") for one in u])
    rows, errors = w.reshape(-1, 1) * X, w.reshape(-1, 1) * (y - u @ reduced.D.T).reshape(-1, 3)
    C = np.linalg.lstsq(rows, errors)[0].T
    assert np.allclose(fit.system.C, C, rtol=0, atol=1e-12)
    left = np.linalg.norm(errors - rows @ C.T) / np.linalg.norm(w[..., None] * y)
    assert fit.residual_after == pytest.approx(left, rel=1e-12)
    w[:, 40:] = 0
    y[:, 40:] = 1e6
    short = lti.refit_outputs(reduced, [(u[:, :40], y[:, :40], w[:, :40])])
    assert np.allclose(
        lti.refit_outputs(reduced, [(u, y, w)]).system.C, short.system.C, rtol=0, atol=1e-11
    )


def by_output(X, U, E, mu):
    """(corrections of C, of the diagonal of D), output by output, by augmented least squares in
    units of the columns' norms."""
    found = []
    for u, e in zip(U.T, E.T, strict=True):
        own = np.column_stack([X, u])
        scale = np.linalg.norm(own, axis=0)
        stacked = np.concatenate([own / scale, np.sqrt(mu) * np.eye(len(scale))])
        right = np.concatenate([e, np.zeros(len(scale))])
        found.append(np.linalg.lstsq(stacked, right, rcond=1e-12)[0] / scale)
    W = np.array(found)
    return W[:, :-1], W[:, -1]


@pytest.mark.parametrize("structure", ["rotation", "complex diagonal"])
@pytest.mark.parametrize("held_out", [0.0, 0.25])
def test_a_diagonal_feedthrough_is_fitted_output_by_output(structure, held_out):
    """With the ridge that serves the sequences held out best, over all outputs together."""
    rng = np.random.default_rng(22)
    n, m = 4, 3
    if structure == "rotation":
        A = lti.Rotation(rng.uniform(0.5, 0.98, n // 2), rng.uniform(0.1, 3, n // 2))
    else:
        A = lti.Diagonal(rng.uniform(0.5, 0.98, n) * np.exp(1j * rng.uniform(0.1, 3, n)))
    B, C, D = (rng.standard_normal(x) for x in ((n, m), (m, n), (m,)))
    sys = lti.LTI(A, B.astype(A.dtype), C.astype(A.dtype), np.diag(D).astype(A.dtype))
    u = white(rng, sys, (8, 9))
    y = lti.simulate(sys, u, timing="current")
    y = y + u @ rng.standard_normal((m, m)) + rng.standard_normal((8, 9, m))
    fit = lti.refit_outputs(
        sys, [(u, y)], feedthrough="diagonal", timing="current", held_out=held_out
    )
    X = np.stack([states_by_stepping(sys, one, "current") for one in u])
    E = y - lti.simulate(sys, u, timing="current")
    held = np.arange(8) % 4 == 3

    def fitted(rows, mu):
        return by_output(*(x[rows].reshape(-1, x.shape[-1]) for x in (X, u, E)), mu)

    mu = 0.0
    if held_out:
        left = []
        for candidate in RIDGES:
            W, d = fitted(~held, candidate)
            left.append(np.linalg.norm(E[held] - X[held] @ W.T - u[held] * d))
        mu = RIDGES[int(np.argmin(left))]
    assert fit.ridge == mu
    W, d = fitted(slice(None), mu)
    size = np.abs(W).max() + np.abs(d).max()
    assert np.allclose(fit.system.C, sys.C + W, rtol=0, atol=1e-11 * size)
    assert np.allclose(fit.system.D, sys.D + np.diag(d), rtol=0, atol=1e-11 * size)
    assert np.count_nonzero(fit.system.D) == m


def test_a_diagonal_feedthrough_of_one_channel_is_all_of_it():
    """For a batch of systems with one input and one output, and where there was no D."""
    rng = np.random.default_rng(23)
    sys = build_system(rng, "rotation", batch=(3,), n=4, m=1, p=1)
    u = white(rng, sys, (5, 3, 20))
    y = lti.simulate(sys, u) + rng.standard_normal(u.shape)
    diagonal, whole = (
        lti.refit_outputs(sys, [(u, y)], feedthrough=kind) for kind in ("diagonal", True)
    )
    assert np.allclose(diagonal.system.C, whole.system.C, rtol=0, atol=1e-10)
    assert np.allclose(diagonal.system.D, whole.system.D, rtol=0, atol=1e-10)
    assert np.allclose(diagonal.residual_after, whole.residual_after, rtol=1e-12, atol=0)
    assert np.array_equal(diagonal.rank, np.full(3, 4))
    assert np.array_equal(whole.rank, np.full(3, 5))


def test_inputs_that_the_states_tell_already_keep_their_feedthrough():
    """A state that is the input itself, and an input that is silent."""
    rng = np.random.default_rng(24)
    sys = lti.LTI(lti.Diagonal([0.0, 0.5]), [[1.0, 0], [1, 1]], np.ones((2, 2)), np.eye(2))
    u = rng.standard_normal((50, 2))
    silent = u * [1, 0]
    y = rng.standard_normal((50, 2))
    fit = lti.refit_outputs(sys, [(silent, y)], feedthrough="diagonal", timing="current")
    assert np.array_equal(fit.system.D, np.eye(2))
    X = states_by_stepping(sys, silent, "current")
    W = np.linalg.lstsq(X, y - silent)[0]
    assert np.allclose(fit.system.C, W.T, rtol=0, atol=1e-13)
    # The other output may use its own input, which no state is.
    fit = lti.refit_outputs(sys, [(u, y)], feedthrough="diagonal", timing="current")
    assert fit.system.D[0, 0] == 1
    assert fit.system.D[1, 1] != 1


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_ridge_is_the_one_that_serves_the_sequences_held_out(noise):
    """Each μ by augmented least squares on three of four sequences, tried on the fourth; then on
    all of them. Without noise and with a model that can, none is best; noise on few samples asks
    for one."""
    rng = np.random.default_rng(21)
    full, reduced = truncated(rng)
    reduced = reduced if noise else full
    u = white(rng, full, (8, 6))
    y = lti.simulate(full, u) + noise * rng.standard_normal((8, 6, 3))
    spoilt_one = spoilt(rng, reduced, feedthrough=False)
    batches = [(u[:3], y[:3]), (u[3:], y[3:])]
    fit = lti.refit_outputs(spoilt_one, batches, held_out=0.25)
    X = np.stack([states_by_stepping(spoilt_one, one, "delayed") for one in u])
    E = y - u @ spoilt_one.D.T - X @ spoilt_one.C.T
    held = np.arange(8) % 4 == 3

    def ridge(rows, mu):
        X_all, E_all = X[rows].reshape(-1, X.shape[-1]), E[rows].reshape(-1, 3)
        scale = np.linalg.norm(X_all, axis=0)
        stacked = np.concatenate([X_all / scale, np.sqrt(mu) * np.eye(len(scale))])
        right = np.concatenate([E_all, np.zeros((len(scale), 3))])
        return np.linalg.lstsq(stacked, right, rcond=1e-12)[0] / scale[:, None]

    left = [np.linalg.norm(E[held] - X[held] @ ridge(~held, mu)) for mu in RIDGES]
    assert fit.ridge == RIDGES[int(np.argmin(left))]
    assert (fit.ridge > 1e-6) == (noise > 0)
    expected = spoilt_one.C + ridge(slice(None), fit.ridge).T
    assert np.allclose(fit.system.C, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert fit.residual_after <= fit.residual_before


# --- arguments --------------------------------------------------------------------------------

U, Y = np.ones((10, 2)), np.ones((10, 3))
NAN = np.full((10, 3), np.nan)


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        ([], {}, lti.ArgumentError, "no samples"),
        ([(U[:0], Y[:0])], {}, lti.ArgumentError, "no samples"),
        ([U], {}, lti.ArgumentError, r"batch 0 is not a pair"),
        ([(U, Y), (U, Y, Y[:, 0], Y)], {}, lti.ArgumentError, "batch 1 is not a pair"),
        ([(U, Y, Y[:5, 0])], {}, lti.ShapeError, "weights of batch 0 have 5"),
        ([(U, Y, -Y[:, 0])], {}, lti.ArgumentError, "weights of batch 0 must be real and not neg"),
        ([(U, Y)], {"held_out": 1.0}, lti.ArgumentError, "held_out must lie in"),
        ([(U, Y)], {"held_out": 0.5}, lti.ArgumentError, "of 1 sequences leaves none"),
        ([(U, U)], {}, lti.ShapeError, "outputs of batch 0 have shape"),
        ([(Y, Y)], {}, lti.ShapeError, "inputs of batch 0 have shape"),
        ([(U[:5], Y)], {}, lti.ShapeError, "5 time steps, but outputs of batch 0 have 10"),
        ([(U[0], Y)], {}, lti.ShapeError, "inputs of batch 0"),
        ([(U, Y), (U, NAN)], {}, lti.NonFiniteError, "outputs of batch 1"),
        ([(np.ones((2, 10, 2)), np.ones((3, 10, 3)))], {}, lti.ShapeError, "do not broadcast"),
        ([(U, Y)], {"rtol": 1.0}, lti.ArgumentError, "rtol"),
        ([(U, Y)], {"timing": "late"}, lti.ArgumentError, "timing"),
        ([(U, Y)], {"feedthrough": "diagonal"}, lti.ArgumentError, "outputs as inputs, but .* 3"),
        ([(U, Y)], {"feedthrough": "some"}, lti.ArgumentError, "is not True, False or 'diagonal'"),
    ],
)
def test_arguments_are_checked(batches, options, error, message):
    reduced = truncated(np.random.default_rng(0))[1]
    with pytest.raises(error, match=message):
        lti.refit_outputs(reduced, batches, **options)


def test_a_full_feedthrough_is_not_fitted_by_its_diagonal():
    sys = build_system(np.random.default_rng(0), "rotation", n=4, feedthrough=True)
    u = np.ones((10, 2))
    with pytest.raises(lti.ArgumentError, match="whose D is diagonal"):
        lti.refit_outputs(sys, [(u, u)], feedthrough="diagonal")


def test_data_for_more_systems_than_there_are_is_refused():
    sys = build_system(np.random.default_rng(0), "rotation", batch=(1,), n=4)
    with pytest.raises(lti.ShapeError, match="does not end with the system's"):
        lti.refit_outputs(sys, [(np.ones((5, 10, 2)), np.ones((5, 10, 2)))])


def test_overflowing_states_are_named():
    sys = lti.LTI(lti.Diagonal([1e3]), [[1.0]], [[1.0]])
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(lti.NonFiniteError, match="overflow"),
    ):
        lti.refit_outputs(sys, [(np.ones((200, 1)), np.ones((200, 1)))])


@pytest.mark.parametrize("turn", [1.0, 1j])
def test_states_that_are_denormal_numbers(turn):
    """x_1 = 1e-316: a complex number divided by such a one is infinite."""
    rng = np.random.default_rng(0)
    A = np.array([[0, 1e-73 * turn], [0, 0]])
    B = np.array([[0], [1e-243 * turn]])
    sys = lti.LTI(A, B, [[1e73, 1e73], [2e73, -1e73]])
    u = rng.standard_normal((30, 1))
    y = lti.simulate(sys, u)
    start = lti.LTI(sys.A, sys.B, 0.7 * sys.C)
    refit = lti.refit_outputs(start, [(u, y)])
    assert refit.residual_before == pytest.approx(0.3, rel=1e-12)
    assert refit.residual_after <= 100 * EPS
    np.testing.assert_allclose(refit.system.C[:, 1], sys.C[:, 1], rtol=100 * EPS)


@pytest.mark.parametrize("feedthrough", [False, "diagonal", True])
@pytest.mark.parametrize(("dtype", "faint"), [(np.float64, 1e-307), (np.float32, 1e-36)])
def test_outputs_of_states_too_faint_to_tell_stay(feedthrough, dtype, faint):
    """The second state is below the rounding of y by more than the largest number."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((40, 1)).astype(dtype)
    parts = (np.diag([0.5, 0.25]), [[1.0], [faint]])
    size = dtype(1e20)
    A, B = (np.array(X, dtype) for X in parts)
    y = lti.simulate(lti.LTI(A, B, size * np.array([[1, 1]], dtype)), u)
    given = lti.LTI(A, B, size * np.array([[0.5, 1]], dtype))
    found = lti.refit_outputs(given, [(u, y)], feedthrough=feedthrough)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found.system.C / size, [[1, 1]], rtol=100 * eps)
    assert found.residual_after < 100 * eps


def test_outputs_whose_norm_overflows_are_refused():
    u = np.ones((4, 1))
    given = lti.LTI([[0.5]], [[1.0]], [[1e308]])
    with pytest.raises(lti.NonFiniteError, match="the norm of all outputs"):
        lti.refit_outputs(given, [(u, np.full((4, 1), 1.5e308))])
