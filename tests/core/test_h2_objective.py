"""The h2 error as a function of poles and inputs: value, gradient, projection, and descents."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, central_difference, difference, inner
from strategies import build_system, seeds

import lticore as lti
from lticore.reduction.h2 import modes as modes
from lticore.reduction.h2 import objective as objective
from lticore.reduction.h2.armijo import armijo
from lticore.reduction.h2.descent import (
    _packed,
    _packed_gradient,
    _unpacked,
    lbfgs,
    stationarity,
)
from lticore.reduction.h2.fixed_point import _matched, accelerated_tsia, tsia
from lticore.reduction.h2.gauss_newton import _normal_equations, levenberg_marquardt
from lticore.systems.quadratic import QuadraticOutputLTI, dense_forms

FORMS = ("linear", "dense", "factors")
HORIZONS = (None, 1, 7)
STRUCTURES = ("complex diagonal", "rotation with real poles", "dense", "complex dense")


def random_array(rng, shape, complex_):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_ else x


def make_system(rng, structure, forms, n=7, m=2, p=2):
    sys = build_system(rng, structure, n=n, m=m, p=p)
    n, complex_ = sys.order, "complex" in structure
    if forms == "linear":
        return sys
    if forms == "dense":
        return QuadraticOutputLTI(sys.A, sys.B, sys.C, random_array(rng, (p, n, n), complex_))
    V, s = random_array(rng, (p, n, 2), complex_), rng.standard_normal((p, 2))
    return QuadraticOutputLTI(sys.A, sys.B, sys.C, (V, s))


def make_candidate(rng, r, m, pairs=None):
    if pairs is None:
        poles = rng.uniform(0.2, 0.9, r) * np.exp(1j * rng.uniform(-3, 3, r))
        return modes.Candidate(poles, random_array(rng, (r, m), True), None)
    half = rng.uniform(0.2, 0.9, pairs) * np.exp(1j * rng.uniform(0.1, 3, pairs))
    rows, rest = random_array(rng, (pairs, m), True), rng.standard_normal((r - 2 * pairs, m))
    real = rng.uniform(-0.9, 0.9, r - 2 * pairs)
    return modes.Candidate(
        np.concatenate([half, half.conj(), real]),
        np.concatenate([rows, rows.conj(), rest]).astype(complex),
        pairs,
    )


def cases(function):
    for name, values in (("structure", STRUCTURES), ("forms", FORMS), ("horizon", HORIZONS)):
        function = pytest.mark.parametrize(name, values)(function)
    return function


def kernels_of(sys, lags):
    """Σ_k |h_k|² and Σ_jk |h_jk|² kernel by kernel, as functions of a second system's kernels."""
    A = sys.A if isinstance(sys.A, np.ndarray) else sys.A.to_dense()
    states = [sys.B]
    for _ in range(lags - 1):
        states.append(A @ states[-1])
    linear = np.stack([sys.C @ X for X in states])
    M = dense_forms(sys.M) if isinstance(sys, QuadraticOutputLTI) else None
    if M is None:
        return linear, np.zeros(())
    quadratic = np.stack([np.stack([adjoint(X) @ M @ Y for Y in states]) for X in states])
    return linear, quadratic


def built(target, at, real):
    """A projection as a system in its modes."""
    A = lti.Diagonal(at.candidate.poles)
    if dense_forms(at.M).any():
        return QuadraticOutputLTI(A, at.candidate.b, at.c, dense_forms(at.M))
    return lti.LTI(A, at.candidate.b, at.c)


@cases
def test_error_is_the_sum_over_the_kernels(structure, forms, horizon):
    rng = np.random.default_rng(0)
    sys = make_system(rng, structure, forms)
    target = modes.make_target(sys, horizon)
    at = objective.project(target, make_candidate(rng, 3, 2))
    # 0.95^600 is 4e-14; squares of it are nothing.
    lags = 300 if horizon is None else horizon
    own, other = kernels_of(sys, lags), kernels_of(built(target, at, False), lags)
    squared = sum(np.sum(np.abs(x - y) ** 2) for x, y in zip(own, other, strict=True))
    energy = sum(np.sum(np.abs(x) ** 2) for x in own)
    assert target.energy == pytest.approx(energy, rel=1e-10)
    assert at.error == pytest.approx(squared / energy, rel=1e-9)


@cases
def test_gradient_matches_differences(structure, forms, horizon):
    rng = np.random.default_rng(1)
    target = modes.make_target(make_system(rng, structure, forms), horizon)
    start = make_candidate(rng, 3, 2)
    at = objective.project(target, start)
    g_poles, g_b = objective.gradient(target, at)
    directions = random_array(rng, 3, True), random_array(rng, (3, 2), True)

    def error(poles, b):
        return target.energy * objective.project(target, modes.Candidate(poles, b, None)).error

    for g, slope, direction in (
        (g_poles, central_difference(lambda x: error(x, start.b), start.poles, directions[0]), 0),
        (g_b, central_difference(lambda x: error(start.poles, x), start.b, directions[1]), 1),
    ):
        expected = inner(g, directions[direction])
        scale = np.linalg.norm(g) * np.linalg.norm(directions[direction])
        # Truncation of step² = 1e-12 where poles are 0.1 from the circle and bend by 1/0.1²; and
        # the rounding of the value, some eps of what it is the difference of, over the step.
        rounding = (at.rounding + 10 * EPS) * target.energy
        assert abs(expected - slope) <= 1e-9 * scale + rounding / 1e-6


@cases
def test_projected_outputs_are_the_best(structure, forms, horizon):
    rng = np.random.default_rng(2)
    target = modes.make_target(make_system(rng, structure, forms), horizon)
    start = make_candidate(rng, 3, 2)
    best = objective.project(target, start)
    for scale in (1e-3, 1e-1):
        c = best.c + scale * random_array(rng, best.c.shape, True)
        M = dense_forms(best.M)
        change = scale * random_array(rng, M.shape, True)
        other = M + change + adjoint(change) if forms != "linear" else M
        assert objective.with_outputs(target, start, c, other).error > best.error


@given(seed=seeds(), pairs=st.sampled_from([None, 0, 1]), circle=st.sampled_from([1.0, 1.2]))
def test_parameters_are_unconstrained(seed, pairs, circle):
    """Packing, unpacking, and the gradient in ν and θ; over a horizon in a larger circle too."""
    rng = np.random.default_rng(seed)
    structure = "complex diagonal" if pairs is None else "rotation with real poles"
    target = modes.make_target(make_system(rng, structure, "linear"), None if circle == 1 else 20)
    region = replace(target.region, radius=circle)
    target = replace(target, region=region)
    start = make_candidate(rng, 3, 2, pairs)
    x = _packed(start, start, region)
    again = _unpacked(x, start, region)
    np.testing.assert_allclose(again.poles, start.poles, rtol=0, atol=1e-13)
    np.testing.assert_allclose(again.b, start.b, rtol=0, atol=1e-13)
    at = objective.project(target, start)
    g = _packed_gradient(target, at, start)
    direction = rng.standard_normal(len(x))

    def value(x):
        return target.energy * objective.project(target, _unpacked(x, start, region)).error

    slope = central_difference(value, x, direction)
    rounding = (at.rounding + 10 * EPS) * target.energy
    assert abs(g @ direction - slope) <= 1e-6 * np.linalg.norm(g) + rounding / 1e-6


@pytest.mark.parametrize("horizon", [200, None])
@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-4, 1e-6])
def test_poles_that_nearly_meet_cost_the_rounding_that_is_reported(distance, horizon):
    """Three real poles so close have outputs up to 1e5 times too large, of opposite signs: J is
    compared with the sum of squares, step by step."""
    rng = np.random.default_rng(0)
    n = 16
    A = lti.Rotation(rng.uniform(0.8, 0.97, n // 2), rng.uniform(0.2, 2.5, n // 2))
    sys = lti.LTI(A, rng.normal(size=(n, 1)), rng.normal(size=(1, n)))
    target = modes.make_target(sys, horizon)
    poles = np.array([0.9, 0.9 - distance, 0.9 - 2 * distance], dtype=complex)
    at = objective.project(target, modes.Candidate(poles, np.ones((3, 1), dtype=complex), 0))
    reduced = modes.system_of(sys, at.candidate, at.c, at.M)
    steps = 2000 if horizon is None else horizon + 1
    h, h_reduced = (lti.impulse_response(x, steps) for x in (sys, reduced))
    exact = np.sum((h - h_reduced) ** 2) / target.energy
    # Some terms of that size, as many as there are poles of both systems; and 1e-14 of the sums.
    assert abs(at.error - exact) <= n * at.rounding + 1e-13
    assert at.certain >= at.error


def test_normal_equations_are_inner_products_of_derivatives():
    rng = np.random.default_rng(3)
    target = modes.make_target(make_system(rng, "complex diagonal", "linear"), None)
    start = make_candidate(rng, 2, 2)
    at = objective.project(target, start)
    G, g = _normal_equations(target, at)

    def kernels(poles, b, c):
        return np.stack([(c * poles**k) @ b for k in range(400)])

    step, columns = 1e-6, []
    base = [start.poles, start.b, at.c]
    for position, order in ((0, "C"), (1, "C"), (2, "F")):
        for index in range(base[position].size):
            change = np.zeros(base[position].size, dtype=complex)
            change[index] = step
            change = change.reshape(base[position].shape, order=order)
            ends = [
                kernels(*[x + s * change if i == position else x for i, x in enumerate(base)])
                for s in (1, -1)
            ]
            columns.append(((ends[0] - ends[1]) / (2 * step)).ravel())
    J = np.stack(columns, axis=1)
    np.testing.assert_allclose(G, adjoint(J) @ J, rtol=0, atol=1e-7 * np.abs(G).max())
    residual = kernels(*base) - np.stack(
        [(target.c * target.poles**k) @ target.b for k in range(400)]
    )
    np.testing.assert_allclose(
        g, -adjoint(J) @ residual.ravel(), rtol=0, atol=1e-7 * np.abs(g).max()
    )


def starts_of(target, sys, order):
    linear = sys.linear if isinstance(sys, QuadraticOutputLTI) else sys
    small = lti.balanced_truncation(linear, order=order).system
    return modes.candidate_from(small.A, small.B, target.real)


METHODS = {"tsia": tsia, "accelerated": accelerated_tsia, "lbfgs": lbfgs, "lm": levenberg_marquardt}
METHODS["armijo"] = functools.partial(armijo, max_steps=1000)


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("structure", ["complex diagonal", "rotation with real poles"])
@pytest.mark.parametrize("name", METHODS)
def test_methods_reach_stationary_points(name, structure, forms):
    if name == "lm" and forms != "linear":
        return
    rng = np.random.default_rng(4)
    sys = make_system(rng, structure, forms, n=9, m=1, p=1)
    target = modes.make_target(sys, None)
    start = starts_of(target, sys, 3)
    first = objective.project(target, start).error
    run = METHODS[name](target, start)
    assert run.best.error <= first
    assert run.history[0] == pytest.approx(first)
    assert run.evaluations >= len(run.history)
    assert np.abs(run.best.candidate.poles).max() < 1
    assert run.residual == pytest.approx(stationarity(target, run.best))
    if name in ("tsia", "accelerated"):
        # The lowest iterate need not be the fixed point reached.
        assert run.best.error == pytest.approx(min(run.history))
    else:
        assert np.all(np.diff(run.history) <= 1e-12)
        # Gradient descent creeps; a thousand steps need not take it to the end.
        assert run.best.error < first if name == "armijo" else run.residual <= 1e-5
    if target.real:
        q, poles = run.best.candidate.pairs, run.best.candidate.poles
        assert np.array_equal(poles[:q].conj(), poles[q : 2 * q])
        assert np.all(poles[2 * q :].imag == 0)


@pytest.mark.parametrize("horizon", [5, 40])
@pytest.mark.parametrize("forms", FORMS)
def test_fixed_point_over_a_horizon(forms, horizon):
    rng = np.random.default_rng(5)
    sys = make_system(rng, "rotation with real poles", forms, n=9, m=1, p=1)
    target = modes.make_target(sys, horizon)
    start = starts_of(target, sys, 3)
    assert tsia(target, start).best.error <= objective.project(target, start).error


@pytest.mark.parametrize("structure", ["complex diagonal", "rotation with real poles"])
def test_acceleration_stands_still_where_the_iteration_does(structure):
    rng = np.random.default_rng(8)
    sys = make_system(rng, structure, "linear", n=12, m=2, p=2)
    target = modes.make_target(sys, None)
    start = starts_of(target, sys, 4)
    plain = tsia(target, start, max_steps=1000)
    assert plain.converged
    fast = accelerated_tsia(target, plain.best.candidate)
    assert fast.converged
    assert fast.best.error == pytest.approx(plain.best.error, rel=1e-12)
    far = accelerated_tsia(target, start)
    # Poles that move by less than 1e-9 have a slope of no more than some times that.
    assert far.converged
    assert far.residual <= 1e-7
    assert far.evaluations < plain.evaluations


def test_a_run_that_hardly_falls_ends():
    rng = np.random.default_rng(8)
    sys = make_system(rng, "rotation with real poles", "linear", n=12, m=2, p=2)
    target = modes.make_target(sys, None)
    start = starts_of(target, sys, 4)
    long, short = tsia(target, start, max_steps=1000), tsia(target, start, gain=0.01)
    assert not short.converged
    assert short.history == long.history[: len(short.history)]
    lowest = np.minimum.accumulate(short.history)
    falls = lowest[:-10] - lowest[10:] < 0.01 * lowest[10:]
    assert falls[-1]
    assert not falls[:-1].any()


@pytest.mark.parametrize("structure", ["complex diagonal", "rotation with real poles"])
def test_modes_are_matched_whatever_their_order_and_phase(structure):
    rng = np.random.default_rng(9)
    sys = make_system(rng, structure, "linear", n=9)
    target = modes.make_target(sys, None)
    poles, b = target.poles, modes.unit_rows(target.b)
    q = int((poles.imag > 0).sum()) if target.real else None
    k = len(poles) if q is None else q
    here = modes.Candidate(poles, b, q)
    order, turn = rng.permutation(k), np.exp(2j * np.pi * rng.uniform(size=(k, 1)))
    mixed_poles, mixed_b = poles[order], turn * b[order]
    if q is not None:
        rest = 2 * q + rng.permutation(len(poles) - 2 * q)
        mixed_poles = np.concatenate([mixed_poles, mixed_poles.conj(), poles[rest]])
        mixed_b = np.concatenate([mixed_b, mixed_b.conj(), -b[rest]])
    back = _matched(modes.Candidate(mixed_poles, mixed_b, q), here, target.region)
    np.testing.assert_array_equal(back.poles, here.poles)
    np.testing.assert_allclose(back.b, here.b, rtol=0, atol=8 * EPS)


def test_a_system_of_the_order_is_found_exactly():
    rng = np.random.default_rng(6)
    sys = make_system(rng, "rotation with real poles", "linear", n=5)
    target = modes.make_target(sys, None)
    candidate = starts_of(target, sys, sys.order)
    for method in (tsia, accelerated_tsia, lbfgs, levenberg_marquardt):
        assert method(target, candidate).best.error <= 1e-13


def test_stationarity_does_not_see_units():
    rng = np.random.default_rng(7)
    sys = make_system(rng, "complex diagonal", "linear")
    start = make_candidate(rng, 3, 2)
    values = []
    for gain, turn in itertools.product((1.0, 1e3), (1.0, 2.0)):
        target = modes.make_target(lti.LTI(sys.A, gain * sys.B, sys.C), None)
        scaled = modes.Candidate(start.poles, turn * start.b, None)
        values.append(stationarity(target, objective.project(target, scaled)))
    np.testing.assert_allclose(values, values[0], rtol=1e-8)


def test_unstable_modes_are_reflected():
    A = np.diag([2.0, 0.5, -4.0, 1.0])
    candidate = modes.candidate_from(A, np.eye(4), real=True)
    poles = np.sort(candidate.poles.real)
    np.testing.assert_allclose(poles, [-0.25, 0.5, 0.5, 1.0])
    assert np.abs(candidate.poles).max() < 1


def test_difference_oracle_agrees():
    rng = np.random.default_rng(8)
    sys = make_system(rng, "complex diagonal", "linear")
    target = modes.make_target(sys, None)
    at = objective.project(target, make_candidate(rng, 3, 2))
    reduced = lti.LTI(lti.Diagonal(at.candidate.poles), at.candidate.b, at.c)
    assert lti.h2_norm(difference(sys, reduced)) ** 2 == pytest.approx(
        at.error * target.energy, rel=1e-9
    )
