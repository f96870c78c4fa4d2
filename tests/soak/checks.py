"""One function for each public function: call it, compare with the exact result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from flint import acb, acb_mat, arb, ctx

import lticore as lti
from lticore.convert.diagonal import MAX_CONDITION, MAX_CONDITION_SINGLE
from lticore.matrices.balance import state_units

from . import draws
from .draws import Given, structure_arrays
from .exact import (
    ZERO,
    absolute,
    adjoint,
    array,
    balanced_sizes,
    balancing_scale,
    diagonal,
    finite_sum,
    frobenius,
    hankel_values,
    identity,
    integral,
    largest,
    logarithm,
    matrix,
    number,
    solve_stein,
    solve_stein_by_kronecker,
    solve_sylvester,
    spectral_norm,
)
from .judge import (
    EPS,
    EPS_SINGLE,
    Case,
    Refused,
    Wrong,
    as_array,
    at_least,
    derivative,
    measured,
    norm_of,
    short,
)

CHECKS: dict[str, Callable[[Case], None]] = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def outputs(X):
    """C's rows with columns for each state, to gather over states."""
    return np.asarray(X).T


# --- equations and Gramians -------------------------------------------------------------------


@check
def solve_equation(case):
    """Stein's, in continuous time Lyapunov's."""
    other = case.draw
    rng = case.rng
    if rng.uniform() < 0.5:
        recipe = draws.draw_recipe(rng, largest=6)
        same = {name: getattr(case.draw.recipe, name) for name in ("batch", "dtype", "speed")}
        recipe = replace(recipe, **same)
        other = draws.build(rng, recipe)
    same = other is case.draw
    n, l = case.sys.order, other.sys.order
    horizon = drawn_horizon(case, [1, 2, 7]) if rng.uniform() < 0.25 else None
    Q = rng.standard_normal((*case.sys.batch_shape, n, l))
    Q = draws.shifted(Q, case.draw.unit[..., :, None] + other.unit[..., None, :])
    Q = Q.astype(np.float32) if case.single else Q
    if not np.all(np.isfinite(Q)):
        return
    B = None if same else other.sys.A
    function = lti.solve_lyapunov if case.continuous else lti.solve_stein
    X = case.call(function, case.sys.A, Q, B, horizon=horizon)
    for index, a, b in zip(case.indices, case.entries, other.entries, strict=True):
        if case.continuous and horizon is not None and "dense" in (a.kind, b.kind):
            a, b = a.in_dense(), b.in_dense()
        right = matrix(Q[index])

        def solve(s, t, right=right):
            found = exact_solution(s, right, t, horizon)
            if found is None:
                raise Refused("not judged: large and not stable")
            return array(found)

        try:
            value = solve(a.exact, b.exact)
        except ZeroDivisionError:
            if case.stated < 1:
                raise Wrong("a number for a singular equation, and no warning says so") from None
            continue
        pairs = zip(a.neighbours, a.neighbours if same else b.neighbours, strict=True)
        tolerance = derivative(value, [solve(s, t) for s, t in pairs]) * (100 * (n + l))
        # Sizes in the states of both sides, and in the documented units.
        terms = value
        if horizon is not None:
            first = arb(horizon) if case.continuous else arb(1)
            terms = absolute(value) + absolute(Q[index]) * first
        decided = _in_decided_units(a, b, Q[index], same)
        sizes = np.maximum(*(_sizes_on_both_sides(terms, *pair) for pair in ((a, b), decided)))
        if horizon is None and "dense" in (a.kind, b.kind):
            # A Schur method leaves a residual of some n eps ‖X‖, for ‖A‖ and ‖B‖ of moderate size,
            # which is no change of A and B (Higham, Accuracy and Stability, §16.2).
            step = draws.STEP * largest([a.exact.rate, b.exact.rate])
            left = [sizes * step * np.array(rng.standard_normal((n, l))) for _ in range(2)]
            moved = [solve(a.exact, b.exact, (right + matrix(x)).mid()) for x in left]
            tolerance = tolerance + derivative(value, moved) * (10 * (n + l))
        case.close(X[index], value, tolerance + sizes * (10 * (n + l) * EPS), "X", sizes)


def drawn_horizon(case, steps):
    """One of the numbers of steps, in continuous time as many units of time."""
    count = int(case.rng.choice(steps))
    return float(count * 2.0**-case.draw.recipe.speed) if case.continuous else count


def exact_solution(s, Q, t, horizon):
    """X of A X Bᴴ − X + Q = 0 or A X + X Bᴴ + Q = 0, for the A of s and the B of t, or the sum or
    integral over a horizon; None where that is not known."""
    few = Q.nrows() * Q.ncols() <= 40
    if not s.continuous:
        if horizon is not None:
            return finite_sum(s.A, Q, t.A, horizon)
        rate = s.radius * t.radius
        if rate < 0.999999999999999:
            return solve_stein(s.A, Q, t.A, rate)
        return solve_stein_by_kronecker(s.A, Q, t.A) if few else None
    # In moderate states: elimination loses what is 2^−400 of its neighbours.
    left, right = tuple(-x for x in s.unit), tuple(-x for x in t.unit)
    Q = replace(s, unit=left).in_rows(replace(t, unit=right).in_rows(Q.transpose()).transpose())
    A, B = s.moderate[0], t.moderate[0]
    if horizon is not None:
        X = integral(A, Q, B, horizon)
    elif few:
        X = solve_sylvester(A, Q, B)
    else:
        return None
    return s.in_rows(t.in_rows(X.transpose()).transpose())


def _sizes_on_both_sides(X, a, b):
    return b.entry_sizes(a.entry_sizes(X, 1).T, 1).T


def _in_decided_units(a, b, Q, same):
    """Both sides of a Stein equation in the units that A, B and Q decide."""

    def decided(entry, Q):
        if entry.kind != "dense" or 0 in Q.shape:
            return entry
        A, Q = (X.astype(np.result_type(X, float)) for X in (*entry.arrays, Q))
        if entry.continuous:
            A, Q = (X * 2.0**-entry.speed for X in (A, Q))
        units = state_units(A, Q, continuous=entry.continuous)
        return replace(entry, unit=np.log2(units).astype(int))

    def over(Q, entry):
        return Q / 2.0 ** entry.unit[:, None] if entry.kind == "dense" else Q

    left = decided(a, Q)
    if same:
        return left, left
    right = decided(b, over(Q, left).conj().T)
    return decided(a, over(Q.T, right).T), right


def _gramian(case, which):
    horizon = drawn_horizon(case, [1, 3, 20]) if case.rng.uniform() < 0.2 else None
    function = lti.controllability_gramian if which == "P" else lti.observability_gramian
    found = case.call(function, case.sys, horizon=horizon)
    if horizon is None:
        case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):

        def exact(s):
            if horizon is not None:
                return array(s.gramians_over(horizon)[which == "Q"])
            return array(getattr(s, which))

        value, tolerance = measured(entry, exact, case.effort)
        sign = 1 if which == "P" else -1
        sizes = _diagonal_sizes(entry, value, sign)
        level = tolerance + sizes * (10 * case.effort * EPS)
        case.close(found[index], value, level, which, sizes)


def _diagonal_sizes(entry, X, sign):
    """√(X_ii X_jj), gathered as rounding is."""
    rows = entry.entry_sizes(X, sign, sign)
    root = np.vectorize(lambda x: x.sqrt().mid(), otypes=[object])(np.diagonal(rows))
    return np.multiply.outer(root, root)


@check
def controllability_gramian(case):
    _gramian(case, "P")


@check
def observability_gramian(case):
    _gramian(case, "Q")


@check
def gramian_factors(case):
    factors = case.call(lti.gramian_factors, case.sys)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        exact = entry.exact
        level = largest(
            (p.real * q.real).sqrt()
            for p, q in zip(diagonal(exact.P), diagonal(exact.Q), strict=True)
        )
        for k, (name, sign) in enumerate((("P", 1), ("Q", -1))):
            value, tolerance = measured(
                entry, lambda s, name=name: array(getattr(s, name)), case.effort
            )
            F = matrix(factors[k][index])
            t = np.array([1 / x if k == 0 else x for x in exact.scale], dtype=object)
            # Pivots are dropped below eps times the largest one of the balanced Gramian.
            tops = [
                d.real * (1 / s**2) for d, s in zip(diagonal(getattr(exact, name)), t, strict=True)
            ]
            dropped = np.multiply.outer(t, t) * (largest([level, *tops]) * (10 * case.effort * EPS))
            sizes = _diagonal_sizes(entry, value, sign)
            eps = 10 * EPS + (4 * EPS_SINGLE if case.single else 0)
            allowed = tolerance + sizes * (case.effort * eps) + dropped
            _close_exact(case, F * adjoint(F), value, allowed, name, sizes)


def _close_exact(case, X, value, tolerance, what, sizes):
    X = array(X)
    for index in np.ndindex(value.shape):
        error, allowed = abs(X[index] - value[index]).mid(), arb(tolerance[index]) + arb(1e-320)
        case.met(error, sizes[index])
        if case.stated > 0:
            allowed += sizes[index] * case.stated
        if error > allowed:
            raise Wrong(
                f"factor of {what}{list(index)}: product {short(X[index])}, exact "
                f"{short(value[index])}, tolerance {short(allowed)}"
            )


# --- Hankel singular values -------------------------------------------------------------------


def standard_tolerances(entry, values, yardstick, effort):
    """The documented accuracy: 1e-15 (‖R‖‖S‖)²/σ_i for structured, 1e-15 ‖R‖‖S‖ for dense."""
    sizes, out = entry.exact.sizes, []
    # ‖P‖‖Q‖ > 1e6 σ_1², with Frobenius norms of at least tr P/√n.
    cancelled = sizes**2 > largest(values) ** 2 * (1e6 * max(1, len(values)))
    for value, own in zip(values, yardstick, strict=True):
        level = sizes * (1e-15 * effort)
        if entry.kind != "dense" and not cancelled:
            cap = sizes * (1e-15 * effort) ** 0.5
            guaranteed = level * sizes / value if value > 0 else cap
            level = min(cap, guaranteed) if guaranteed > level else level
        out.append(own + level)
    return out


def hankel(entry, effort):
    """(values, tolerances of the standard accuracy)."""
    if not hasattr(entry, "_hankel"):
        values, own = measured(entry, lambda s: s.hankel_values, effort)
        found = (values, standard_tolerances(entry, values, own, effort))
        object.__setattr__(entry, "_hankel", found)
    return entry._hankel


@check
def hankel_singular_values(case):
    found = case.call(lti.hankel_singular_values, case.sys)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        case.close(found[index], *hankel(entry, case.effort), "σ")


@check
def hankel_singular_values_over_a_horizon(case):
    horizon = drawn_horizon(case, [1, 4, 30])
    found = case.call(lti.hankel_singular_values, case.sys, horizon=horizon)
    for index, entry in zip(case.indices, case.entries, strict=True):

        def values(s):
            P, Q = s.gramians_over(horizon)
            return hankel_values(P, Q, balancing_scale(P, Q, s.unit, s.blocks))

        value, own = measured(entry, values, case.effort)
        if entry.kind == "dense" and case.sys.order:
            # What is computed is a system within rounding of A, B and C, in the documented units.
            unit = np.log2(best_units(entry)).astype(int)
            own = np.maximum(own, measured(replace(entry, unit=unit), values, case.effort)[1])
        P, Q = entry.exact.gramians_over(horizon)
        scale = balancing_scale(P, Q, entry.exact.unit, entry.blocks)
        size = balanced_sizes(P, Q, scale) * 3  # formed by sums of products
        tolerance = []
        for x, y in zip(value, own, strict=True):
            cap = size * (1e-15 * case.effort) ** 0.5
            level = size * size / x * (1e-15 * case.effort) if x > 0 else cap
            tolerance.append(y + (cap if level > cap else level) + size * (1e-15 * case.effort))
        case.close(found[index], value, tolerance, f"σ over {horizon}")


@check
def hankel_singular_values_relative(case):
    found = case.call(lti.hankel_singular_values, case.sys, accuracy="relative")
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        values, own = measured(entry, lambda s: s.hankel_values, case.effort)
        # Warnings name the share of the largest value below which values are uncertain.
        floor = largest(values) * (1e-55 + 2 * _uncertain(case))
        tolerance = [y + x * 0.02 + floor for x, y in zip(values, own, strict=True)]
        case.close(found[index], values, tolerance, "relative σ", values)


def _uncertain(case):
    shares = [re.findall(r"at most (\S+) of the largest", text) for text in case.warned]
    return max((float(x) for found in shares for x in found), default=0.0)


@check
def hankel_norm(case):
    found = case.call(lti.hankel_norm, case.sys)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        values, tolerances = hankel(entry, case.effort)
        case.close(found[index], largest(values), tolerances[0] if tolerances else ZERO, "σ_1")


def _function(case):
    name = str(case.rng.choice(["nuclear", "log", "schatten", "tail"]))
    if name == "schatten":
        return name, lti.schatten(2), lambda x: x**2
    if name == "tail":
        return name, lti.tail(1), lambda x: x
    if name == "log":
        return name, "log", lambda x: x.log1p()
    return name, "nuclear", lambda x: x


def _sum(values, tolerances, name, phi):
    first = 1 if name == "tail" else 0
    total = sum((phi(x) for x in values[first:]), ZERO)
    slopes = [
        2 * (x + t) if name == "schatten" else 1 for x, t in zip(values, tolerances, strict=True)
    ]
    allowed = sum((s * t for s, t in zip(slopes, tolerances, strict=True)), ZERO)
    return total, allowed


@check
def hankel_sum(case):
    name, function, phi = _function(case)
    found = case.call(lti.hankel_sum, case.sys, function)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        total, allowed = _sum(*hankel(entry, case.effort), name, phi)
        case.close(found[index], total, allowed + total * (10 * EPS * case.effort), name)


@check
def hankel_sum_and_gradient(case):
    if case.sys.order > 6:
        return
    name, function, phi = _function(case)
    found, gradient = case.call(lti.hankel_sum_and_gradient, case.sys, function)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        values, tolerances = hankel(entry, case.effort)
        # Values are those of formed Gramians.
        sizes = entry.exact.sizes
        formed = [
            t + (sizes**2 / x * (1e-15 * case.effort) if x > sizes * 1e-7 else sizes * 1e-7)
            for x, t in zip(values, tolerances, strict=True)
        ]
        total, allowed = _sum(values, formed, name, phi)
        case.close(found[index], total, allowed + total * 1e-12, f"{name} sum")
        top = sizes
        if not largest(values) > 0 or any(0 < x < top * 1e-4 for x in values):
            continue
        if name == "tail" and len(values) > 1 and values[0] - values[1] < top * 1e-4:
            continue
        first = 1 if name == "tail" else 0

        def total_of(s, first=first, phi=phi):
            return sum((phi(x) for x in s.hankel_values[first:]), ZERO)

        check_direction(case, entry, index, gradient, name, total_of)


def check_direction(case, entry, index, gradient, name, function):
    """⟨g, dx⟩ along a random direction against a central difference in 120 digits."""
    rng = np.random.default_rng([entry.seed, 5])
    arrays = [*entry.arrays, entry.B, entry.C]
    gradients = [*(g[index] for g in gradient.A), gradient.B[index], gradient.C[index]]
    directions, scale, slope = [], ZERO, ZERO
    for X, g in zip(arrays, gradients, strict=True):
        dx = rng.standard_normal(X.shape)
        if np.iscomplexobj(X):
            dx = dx + 1j * rng.standard_normal(X.shape)
        # In proportion to the entries, so that no unit counts for more than others.
        dx = dx * np.abs(X)
        directions.append(dx)
        for a, b in zip(np.ravel(g), np.ravel(dx), strict=True):
            if not np.isfinite(a):
                raise Wrong(f"gradient holds {a}")
            slope += (number(a).conjugate() * number(b)).real
            scale += abs(number(a)) * abs(number(b))
    step = arb(2) ** -90

    def value(t):
        return function(_moved(entry, directions, t))

    expected = ((value(step) - value(-step)) / (2 * step)).mid()
    loose = case.stated + (EPS_SINGLE * 10 if case.single else 0)
    gap = max(float(entry.exact.gap), 1e-17)
    if entry.kind == "dense" or np.iscomplexobj(arrays[0]):
        loose += 1e3 * EPS * case.effort / gap
    # Each entry of the gradient is rounded to its precision, and to its smallest number.
    least = sum((float(np.sum(np.abs(dx))) for dx in directions), 0.0) * (
        2e-45 if case.single else 5e-324
    )
    allowed = scale * (1e-5 + loose) + abs(expected) * 1e-5 + arb(least)
    if abs(slope - expected) > allowed + arb(1e-300):
        raise Wrong(
            f"gradient of {name}: slope {short(slope)}, exact {short(expected)}, terms of "
            f"{short(scale)}"
        )


def _moved(entry, directions, t):
    """The exact system at x + t dx."""
    *parts, dB, dC = directions

    def shifted(X, dX):
        M, N = matrix(np.atleast_2d(X)), matrix(np.atleast_2d(dX))
        return M + N * acb(t)

    B, C = shifted(entry.B, dB), shifted(entry.C, dC)
    moved = [shifted(X, dX) for X, dX in zip(entry.arrays, parts, strict=True)]
    A, poles = draws.exact_state_matrix(entry.kind, moved)
    unit = tuple(int(x) for x in entry.unit)
    return draws.Exact(A, B, C, matrix(entry.D), unit, poles, entry.blocks, entry.speed)


# --- Gramians of other signals, and loops -------------------------------------------------------


def _small_system(case, inputs, outputs):
    """Stable, of the same time and speed, without a batch."""
    recipe = replace(
        draws.draw_recipe(case.rng, largest=3),
        **{name: getattr(case.draw.recipe, name) for name in ("dtype", "speed")},
        inputs=inputs,
        outputs=outputs,
        batch=(),
        spectrum="plain",
        units="none",
        structure=str(case.rng.choice(["rotation with real poles", "real diagonal", "dense"])),
    )
    return draws.build(case.rng, recipe).sys


@check
def weighted_gramians(case):
    if case.sys.order > 6:
        return
    sides = ((True, True), (True, False), (False, True))[case.rng.integers(3)]
    weights = [
        _small_system(case, width, width) if side else None
        for side, width in zip(sides, (case.sys.inputs, case.sys.outputs), strict=True)
    ]
    found = case.call(
        lti.weighted_gramians, case.sys, input_weight=weights[0], output_weight=weights[1]
    )
    case.require_stable()
    given = [None if w is None else Given.of(w) for w in weights]
    for index, entry in zip(case.indices, case.entries, strict=True):
        for name, X, weight in zip("PQ", found, given, strict=True):
            sign = 1 if name == "P" else -1

            def gramian(s, w, name=name):
                if w is None:
                    return array(getattr(s, name))
                return array(_weighted(s, w) if name == "P" else _weighted(dual(s), dual(w)))

            near = weight.neighbours if weight is not None else [None, None]
            own = weight.exact if weight is not None else None
            value = gramian(entry.exact, own)
            moved = [gramian(s, own) for s in entry.neighbours]
            moved += [gramian(entry.exact, w) for w in near]
            sizes = _diagonal_sizes(entry, value, sign)
            gap = entry.exact.gap
            if weight is not None:
                gap = min(float(gap), float(weight.exact.gap))
            # Covariances of state and weight are summed, some of which may cancel; a dense
            # weight makes its states known to rounding over the gap.
            tolerance = derivative(value, moved) * (100 * case.effort)
            loose = 10 * case.effort * EPS
            if weight is not None:
                loose += 100 * case.effort * EPS / max(float(gap), 1e-17)
            if weight is not None:
                # Gramians are formed of the squares of what the weight's response is summed from.
                own = _diagonal_sizes(entry, array(getattr(entry.exact, name)), sign)
                tolerance = tolerance + own * (
                    _summed_gain(weight) ** 2 * (100 * case.effort * EPS)
                )
            case.close(X[index], value, tolerance + sizes * loose, f"weighted {name}", sizes)


def _summed_gain(entry):
    """A bound on the terms that a response is summed from."""
    b, c = modal_sizes(entry)
    s = entry.exact
    return frobenius(b) * frobenius(c) / (s.gap * s.rate) + frobenius(s.D)


def dual(s):
    """(Aᴴ, Cᴴ, Bᴴ, Dᴴ)"""
    poles = None if s.poles is None else tuple(x.conjugate() for x in s.poles)
    parts = (adjoint(X) for X in (s.A, s.C, s.B, s.D))
    return draws.Exact(*parts, tuple(-e for e in s.unit), poles, s.blocks, s.speed)


def _weighted(s, w):
    """P of the states of s whose inputs come through w."""
    n, k = s.order, w.order
    A, B = acb_mat(n + k, n + k), acb_mat(n + k, w.B.ncols())
    pieces = ((A, s.A, 0, 0), (A, s.B * w.C, 0, n), (A, w.A, n, n), (B, s.B * w.D, 0, 0))
    for X, Y, row, column in (*pieces, (B, w.B, n, 0)):
        for i, j in np.ndindex(Y.nrows(), Y.ncols()):
            X[row + i, column + j] = Y[i, j]
    unit = (*s.driven_alike(), *w.driven_alike())
    poles = (*s.spectrum, *w.spectrum)
    speed = max(s.speed, w.speed) if s.continuous else None
    whole = draws.Exact(A, B, acb_mat(1, n + k), acb_mat(1, w.B.ncols()), unit, poles, 0, speed)
    return acb_mat(n, n, [whole.P[i, j] for i, j in np.ndindex(n, n)])


@check
def band_gramians(case):
    if case.sys.order > 5 or case.sys.batch_shape:
        return
    rng = case.rng
    if case.continuous:
        ends = 10.0 ** rng.uniform(-3, 2, 2) * rng.choice([-1, 1], 2) * 2.0**case.draw.recipe.speed
        low, high = sorted(float(x) for x in ends)
        high = math.inf if rng.uniform() < 0.2 else high
    else:
        low, high = sorted(float(x) for x in rng.uniform(-math.pi, math.pi, 2))
    found = case.call(lti.band_gramians, case.sys, [(low, high)])
    case.require_stable()
    (entry,) = case.entries
    real = "complex" not in case.draw.recipe.structure
    bands = _symmetric(low, high) if real else [(low, high)]
    mirrored = [(-b, -a) for a, b in bands]
    for name, X, sign in (("P", found[0], 1), ("Q", found[1], -1)):

        def gramian(s, name=name):
            own = s if name == "P" else dual(s)
            return array(_in_bands(own, bands if name == "P" else mirrored))

        value, own = measured(entry, gramian, case.effort)
        sizes = _diagonal_sizes(entry, array(getattr(entry.exact, name)), sign)
        # In proportion to the integrand over all frequencies; of logarithms warnings speak from
        # 1e-6 on.
        level = 1e3 * case.effort * EPS + (1e-6 if entry.kind == "dense" else 0)
        case.close(X, value, own + sizes * level, f"{name} of bands", sizes)


def _symmetric(low, high):
    """Ω and −Ω, each frequency once."""
    if low < 0 < high:
        return [(-max(-low, high), max(-low, high))]
    return [(low, high), (-high, -low)]


def _in_bands(s, bands):
    """(1/2π) ∫ (z − A)⁻¹ B Bᴴ (z − A)⁻ᴴ dω over the bands."""
    A, B, _ = s.moderate
    W, right = B * adjoint(B), acb_mat(s.order, s.order)
    for low, high in bands:
        F, width = _logarithms(s, A, low, high), acb(0 if s.continuous else arb(high) - arb(low))
        right += F * W + W * adjoint(F) + W * width
    even = replace(s, A=A, unit=(0,) * s.order)
    X = exact_solution(even, right * (1 / (2 * arb.pi())), even, None)
    return s.in_given_states(X, 1)


def _logarithms(s, A, low, high):
    """−i log((z_1 − A)⁻¹ (z_2 − A)), in discrete time with 1 − e^{−iω} A."""
    eye = identity(s.order)

    def factor(w):
        if s.continuous:
            return eye * acb(0, arb(w)) - A
        return eye - A * acb(0, -arb(w)).exp()

    if math.isinf(low) or math.isinf(high):
        # −i log(iω − A) tends to ±π/2, and what grows cancels with its adjoint.
        half = arb.pi() / 2
        upper = eye * half if math.isinf(high) else logarithm(factor(high)) * acb(0, -1)
        lower = eye * -half if math.isinf(low) else logarithm(factor(low)) * acb(0, -1)
        return upper - lower
    return logarithm((factor(low).inv() * factor(high)).mid()) * acb(0, -1)


#: Digits of the largest product of two feedthroughs.
_BESIDE_ONE = 320


@check
def feedback(case):
    sys, rng = case.sys, case.rng
    sign = int(rng.choice([-1, 1]))
    if rng.uniform() < 0.5:
        controller = _small_system(case, sys.outputs, sys.inputs)
        K = Given.of(controller).exact
    else:
        controller = rng.standard_normal((sys.inputs, sys.outputs))
        controller = controller.astype(case.draw.recipe.dtype)
        empty = acb_mat(0, 0), acb_mat(0, sys.outputs), acb_mat(sys.inputs, 0)
        K = draws.Exact(*empty, matrix(controller), ())
    found = case.call(lti.feedback, sys, controller, sign)
    for index, entry in zip(case.indices, case.entries, strict=True):
        closed, sizes = _closed_loop(entry.exact, K, sign)
        D = np.zeros((sys.outputs, sys.inputs)) if found.D is None else found.D[index]
        results = (found.A[index], found.B[index], found.C[index], D)
        for name, X, value, size in zip("ABCD", results, closed, sizes, strict=True):
            case.close(X, value, size * (10 * case.effort * EPS), f"{name} of the loop")


def _closed_loop(s, K, sign):
    """((A, B, C, D), the sizes of what they are computed from) of y = H u, u = r + sign K y."""
    m = s.B.ncols()
    with ctx.workdps(ctx.dps + _BESIDE_ONE):  # K D may be of low rank, and beyond all digits of 1
        M = identity(m) - K.D * s.D * sign
        E = M.inv().mid()
    # A solution is off by the condition of its equations.
    E_size = np.full((m, m), frobenius(E) * frobenius(M) * frobenius(E) + frobenius(E))

    def closed(A, B, C, D, A_K, B_K, C_K, D_K, E, eye, sign):
        into = B @ E * sign
        grown = eye + D @ E @ D_K * sign
        top = np.hstack([A + into @ D_K @ C, into @ C_K])
        bottom = np.hstack([B_K @ grown @ C, A_K + B_K @ D @ E @ C_K * sign])
        return (
            np.vstack([top, bottom]),
            np.vstack([B @ E, B_K @ D @ E]),
            np.hstack([grown @ C, D @ E @ C_K * sign]),
            D @ E,
        )

    parts = [array(X) for X in (s.A, s.B, s.C, s.D, K.A, K.B, K.C, K.D)]
    eye = array(identity(s.D.nrows()))
    whole = closed(*parts, array(E), eye, sign)
    return whole, closed(*map(absolute, parts), E_size, absolute(eye), 1)


# --- norms ------------------------------------------------------------------------------------


@check
def h2_norm(case):
    horizon = drawn_horizon(case, [1, 5]) if case.rng.uniform() < 0.2 else None
    found = case.call(lti.h2_norm, case.sys, horizon=horizon)
    if horizon is None:
        case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):

        def norm(s):
            squared = s.squared_h2 if horizon is None else s.squared_h2_over(horizon)
            return squared.sqrt().mid() if squared > 0 else ZERO

        value, own = measured(entry, norm, case.effort)
        own = own + value * (10 * case.effort * EPS)
        P = entry.exact.P if horizon is None else entry.exact.gramians_over(horizon)[0]
        if value < terms_of(entry, P) * 1e-6:
            # Where modes cancel, the derivative is not all that rounding δΣ does:
            #   ‖Σ + δΣ‖² = ‖Σ‖² + 2 Re⟨Σ, δΣ⟩ + ‖δΣ‖²,
            # of which |⟨Σ, δΣ⟩|/‖Σ‖ is the derivative, so that ‖Σ + δΣ‖ lies between ‖Σ‖ less that
            # and √(‖Σ‖² + ‖δΣ‖²) more than that; δΣ is known to first order in the rounding.
            moves = largest(norm(entry.exact.minus(s)) for s in entry.neighbours)
            moves = moves * (EPS / draws.STEP * 100 * case.effort)
            own = own + (value**2 + moves**2).sqrt() - value
        case.close(found[index], value, own, "h2 norm")


def reduced_given(reduced, index=()):
    """A reduced system as it was returned; its states have moderate units or those of its D."""
    given = Given.of(reduced, index)
    unit = np.array(
        [_exponent(given.B[i]) - _exponent(given.C[:, i]) for i in range(len(given.B))], dtype=int
    )
    return replace(given, unit=unit // 2)


def _exponent(x):
    size = float(np.max(np.abs(x), initial=0))
    return math.frexp(size)[1] if size > 0 and math.isfinite(size) else 0


def terms_of(entry, P):
    """‖|C| √diag P‖: the size of what an h2 norm is computed from, whatever the states' units."""
    c = entry.entry_sizes(entry.C.T, -1).T
    p = entry.entry_sizes(absolute(roots_of(P))[:, None], 1)
    return frobenius(c @ p)


def roots_of(P):
    return [abs(x.real).sqrt() for x in diagonal(P)]


def check_h2_error(case, found, entry, small, what="h2 error", horizon=None):
    """The documented accuracy of an h2 error: absolute, or absolute in the square."""
    full, reduced = entry.exact, small.exact
    error = full.minus(reduced)

    def squared(s):
        return s.squared_h2 if horizon is None else s.squared_h2_over(horizon)

    exact, own, other = squared(error), squared(full), squared(reduced)
    root, norms = abs(exact).sqrt(), own.sqrt() + other.sqrt()
    terms = ZERO
    for one in (entry, small):
        P = one.exact.P if horizon is None else one.exact.gramians_over(horizon)[0]
        terms += terms_of(one, P) + frobenius(one.exact.D)
    # Of the error itself, or of its square over a horizon for structured systems, which a dense
    # one beside them is in its modes.
    eps, squares = 1e-15 * case.effort, horizon is not None and entry.kind != "dense"
    allowed = terms * ((10 * eps) ** 0.5 if squares else 10 * eps)
    if not (entry.in_blocks and small.in_blocks):
        gap = max(min(float(full.gap), float(reduced.gap)), 1e-17)
        if horizon is None:
            allowed += norms * (1e-16 * 100 * case.effort / gap)
        elif case.continuous:
            turns = largest([full.rate, reduced.rate]) * horizon
            allowed += norms * turns * (1e-16 * 100 * case.effort)
        moved = [squared(a.minus(reduced)) for a in entry.neighbours]
        moved += [squared(full.minus(b)) for b in small.neighbours]
        change = largest(abs(abs(x).sqrt() - root).mid() for x in moved) * (EPS / draws.STEP)
        # Equal systems differ by this after the rounding of one of them, however small the step.
        own_moves = [squared(a.minus(full)) for a in entry.neighbours]
        own_moves += [squared(b.minus(reduced)) for b in small.neighbours]
        change += largest(abs(x).sqrt().mid() for x in own_moves) * (EPS / draws.STEP)
        allowed += change * (100 * case.effort)
    allowed += norms * case.stated + arb(1e-320)
    if case.single:
        allowed += root * (4 * EPS_SINGLE) + arb(1e-44)
    case.beyond |= bool(root > (1e35 if case.single else 1e305))
    if not np.isfinite(found):
        if root < (1e38 if case.single else 1e300) and not case.said("not in float32"):
            raise Wrong(f"{what}: {found}, exact {short(root)}")
        return
    if what == "h2 error":
        case.met(abs(number(found).real - root), norms)
    if abs(number(found).real - root) > allowed:
        raise Wrong(
            f"{what}: {found!r}, exact {short(root)}, may be off by {short(allowed)}; norm "
            f"{short(own.sqrt())}, terms {short(terms)}"
        )


def second_system(case):
    """(system, one `Given` per batch entry): the same one, one of other outputs, or another."""
    kind = case.rng.integers(3)
    sys = case.sys
    if kind == 0:
        other = sys
    elif kind == 1:
        other = lti.LTI(sys.A, sys.B, sys.C * sys.C.dtype.type(0.5), sys.D, dt=sys.dt)
    else:
        recipe = replace(
            draws.draw_recipe(case.rng, largest=4),
            **{
                name: getattr(case.draw.recipe, name)
                for name in ("inputs", "outputs", "batch", "dtype", "speed")
            },
            spectrum="plain",
            units="none",
        )
        if case.continuous:
            # Other feedthroughs have an infinite h2 error.
            recipe = replace(recipe, feedthrough=False)
        other = draws.build(case.rng, recipe).sys
    given = [Given.of(other, index) for index in case.indices]
    if kind < 2:
        pairs = zip(given, case.entries, strict=True)
        given = [replace(small, unit=entry.unit) for small, entry in pairs]
    return other, given


def require_both_stable(case, smalls):
    case.require_stable()
    if not all(small.exact.stable for small in smalls):
        raise Wrong("accepted an unstable reduced system")


@check
def h2_error(case):
    other, smalls = second_system(case)
    found = case.call(lti.h2_error, case.sys, other)
    require_both_stable(case, smalls)
    for index, entry, small in zip(case.indices, case.entries, smalls, strict=True):
        check_h2_error(case, found[index], entry, small)


def differences(entry, small):
    """(the exact error system, those of neighbours of both)."""
    full, reduced = entry.exact, small.exact
    moved = [a.minus(reduced) for a in entry.neighbours]
    return full.minus(reduced), moved + [full.minus(b) for b in small.neighbours]


@check
def hankel_error(case):
    other, smalls = second_system(case)
    found = case.call(lti.hankel_error, case.sys, other)
    require_both_stable(case, smalls)
    for index, entry, small in zip(case.indices, case.entries, smalls, strict=True):
        value = largest(entry.exact.minus(small.exact).hankel_values)
        sizes = entry.exact.sizes + small.exact.sizes
        if "dense" in (entry.kind, small.kind):
            # Both become dense: poles of the structured one round as those of a matrix do.
            entry, small = entry.in_dense(), small.in_dense()
        error, moved = differences(entry, small)
        here = as_array(largest(error.hankel_values))
        own = derivative(here, [largest(s.hankel_values) for s in moved])
        level = own * (100 * case.effort) + sizes * (1e-14 * case.effort)
        case.close(found[index], value, level, "Hankel norm of the error", sizes)


@check
def hinf_error(case):
    other, smalls = second_system(case)
    found = case.call(lti.hinf_error, case.sys, other)
    require_both_stable(case, smalls)
    for index, entry, small in zip(case.indices, case.entries, smalls, strict=True):
        error, moved = differences(entry, small)
        theta, top = error.peak
        # Small differences may be rounding where one of both is large.
        phases = [error.phase_of(x.point(x.peak[0])) for x in (entry.exact, small.exact)]
        change = largest(
            abs(s.gain_near(t) - error.gain_near(t)).mid() for s in moved for t in (theta, *phases)
        )
        level = change * (EPS / draws.STEP * 100 * case.effort)
        gains = entry.exact.peak[1] + small.exact.peak[1]
        for one in (entry, small):
            level += _invisible(one) * (1e-14 * case.effort)
            level += _cancelled(one, theta) * (10 * EPS * case.effort)
        _compare_peaks(case, found[index], theta, top, level, gains)


@check
def hinf_norm(case):
    found = case.call(lti.hinf_norm, case.sys)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        _check_peak(case, found[index], entry)


def _check_peak(case, found, entry):
    theta, top = entry.exact.peak
    moved = [s.gain_near(theta) for s in entry.neighbours]
    level = largest(abs(x - top).mid() for x in moved) * (EPS / draws.STEP * 100 * case.effort)
    level += _invisible(entry) * (1e-14 * case.effort)
    level += _cancelled(entry, theta) * (10 * EPS * case.effort)
    _compare_peaks(case, found, theta, top, level, top)


def _invisible(entry):
    """‖B‖‖C‖ in moderate states, of the twin in continuous time."""
    _, B, C = entry.exact.circle.moderate
    return frobenius(B) * frobenius(C)


def _cancelled(entry, theta):
    """Next to a pole modes may cancel down to their rounding, which is larger than all gains."""
    if entry.kind == "dense":
        return ZERO
    exact = entry.exact
    phases = [theta, *(x.arg().mid() for x in exact.circle.spectrum if abs(x) > 0)]
    terms = [modal_terms(entry, exact.point(t)) for t in phases]
    return largest(frobenius(x) for x in terms if x is not None)


def _compare_peaks(case, found, theta, top, level, stated):
    """``stated`` is what warnings are relative to."""
    eps = EPS_SINGLE if case.single else EPS
    allowed = level + top * (3e-8 + 4 * eps) + arb(2e-45 if case.single else 1e-320)
    allowed += stated * case.stated
    case.beyond |= bool(top > (1e35 if case.single else 1e305))
    if not np.isfinite(found):
        if top < (1e38 if case.single else 1e300):
            raise Wrong(f"h∞ norm {found}, exact {short(top)}")
        return
    error = number(found).real - top
    # The norm is found to 1e-8 of itself.
    share = float(abs(error) / stated) if stated > 0 else 0.0
    case.met(max(0.0, share - 1e-8) if stated > 0 else abs(error), 1)
    if (error < -allowed and not case.said("lower bound")) or error > allowed:
        raise Wrong(
            f"h∞ norm: {found!r}, exact {short(top)} at θ = {short(theta)}, may be off by "
            f"{short(allowed)}"
        )


# --- responses --------------------------------------------------------------------------------


def modal_terms(entry, z):
    """Σ_i |c_i||b_i|/|z − λ_i| of a structured system: what its response is summed from."""
    b, c = modal_sizes(entry)
    distances = np.array([abs(z - pole).mid() for pole in modal_order(entry)], dtype=object)
    if any(d == 0 for d in distances):
        return None
    return (c / distances) @ b


def modal_order(entry):
    poles = entry.exact.poles
    if entry.kind == "Diagonal":
        return poles
    q = entry.blocks
    return [x for i in range(q) for x in (poles[2 * i], poles[2 * i + 1])] + list(poles[2 * q :])


def modal_sizes(entry):
    """|b| (n, m) and |c| (p, n) in the modes, those of a block bounded by its norm."""
    b = entry.entry_sizes(entry.B, 1)
    c = entry.entry_sizes(entry.C.T, -1).T
    return b, c


@check
def frequency_response(case):
    poles = entry_phases(case)
    count = int(case.rng.choice([3, 40]))
    omega = case.rng.uniform(-math.pi, math.pi, count)
    omega[0] = float(case.rng.choice([0, math.pi, *poles]))
    if case.continuous:
        omega = omega * 10.0 ** case.rng.uniform(-2, 2) * 2.0**case.draw.recipe.speed
        omega[0] = float(case.rng.choice([0, *poles]))
    found = case.call(lti.frequency_response, case.sys, omega)
    for index, entry in zip(case.indices, case.entries, strict=True):
        for k in (0, 1, int(case.rng.integers(count))):
            z = acb(0, arb(omega[k]))
            near = z * (1 + draws.STEP)
            if not case.continuous:
                z, near = z.exp(), near.exp()
            terms = None
            if entry.kind != "dense":
                terms = modal_terms(entry, z)
            met = any(abs(z - pole) < 4 * EPS for pole in entry.exact.spectrum)
            if met and not case.continuous and np.any(np.isinf(found[index][k])):
                continue  # at −1, whose phase is no number: met where ω is the number next to it
            try:
                value, own = measured(entry, lambda s, z=z: s.transfer(z), case.effort)
                own = own + absolute(entry.exact.transfer(near) - value) * (EPS / draws.STEP)
                if terms is None:
                    A, B, C = entry.exact.moderate
                    R = (identity(A.nrows()) * z - A).inv()
                    # A is moderate, and so is z on the circle.
                    size = frobenius(A) + abs(z) if case.continuous else arb(1)
                    terms = size * frobenius(C * R) * frobenius(R * B)
                    terms += frobenius(C) * frobenius(R) * frobenius(B)
            except ZeroDivisionError:
                if np.all(np.isfinite(found[index][k])) and case.draw.recipe.coupling == "full":
                    raise Wrong(f"a number at a pole, ω = {omega[k]}") from None
                continue
            allowed = own + terms * (10 * case.effort * EPS)
            if entry.kind == "dense":
                allowed = _beside_poles(found[index][k], value, allowed)
            case.close(found[index][k], value, allowed, f"H(ω = {omega[k]})")


def _beside_poles(found, value, allowed):
    """The tolerances of a dense response with room for any larger number where they exceed it.

    With Δ = det(z − A) and its rounding δ, responses are N/(Δ + δ). Their derivative, N δ/Δ², is as
    large as N/Δ where |δ| ≥ |Δ|: a matrix within rounding of A then has a pole at z, next to which
    responses are as large as one likes.
    """
    allowed, sizes = np.broadcast_to(allowed, value.shape), absolute(value)
    unknown = np.vectorize(bool, otypes=[bool])((allowed > sizes) & (absolute(found) > sizes))
    return np.where(unknown, absolute(found) + sizes, allowed)


def entry_phases(case):
    phases = []
    for entry in case.entries[:1]:
        if case.continuous:
            return [float(x.imag.mid()) for x in entry.exact.spectrum] or [0.0]
        phases = [float(x.arg().mid()) for x in entry.exact.spectrum if abs(x) > 0]
    return phases or [0.0]


@check
def impulse_response(case):
    if case.continuous:
        _impulse_at_times(case)
        return
    steps = int(case.rng.choice([1, 4, 30]))
    found = case.call(lti.impulse_response, case.sys, steps)
    for index, entry in zip(case.indices, case.entries, strict=True):
        value = entry.exact.markov(steps)
        case.close(found[index], value, markov_tolerances(entry, steps, case.effort), "h")


def _impulse_at_times(case):
    spread = 10.0 ** case.rng.uniform(-3, 2)
    t = case.rng.uniform(0, 3, int(case.rng.choice([1, 4]))) * spread * 2.0**-case.draw.recipe.speed
    t[0] = case.rng.choice([0, t[0]])
    found = case.call(lti.impulse_response, case.sys, t)
    for index, entry in zip(case.indices, case.entries, strict=True):
        value, own = measured(entry, lambda s: s.impulse(t), case.effort)
        eps = 10 * EPS * case.effort
        if entry.kind == "dense":
            # e^{At} is known to n eps (1 + ‖A‖t) e^{‖A‖t}, and less where it is squared often.
            _, B, C = entry.exact.moderate
            growth = [_exponential_terms(entry, x) for x in t]
            level = np.array([frobenius(B) * frobenius(C) * g * eps for g in growth], dtype=object)
        else:
            b, c = modal_sizes(entry)
            poles = np.array(modal_order(entry), dtype=object)
            terms = []
            for x in t:
                decay = np.array([(p.real * float(x)).exp() for p in poles], dtype=object)
                # The phase ω t is rounded.
                turn = np.array([1 + abs(p) * float(x) for p in poles], dtype=object)
                # The exact exponential has 400 bits beside 1.
                terms.append((c * (decay * turn * eps + arb(2) ** -380)) @ b)
            level = np.stack(terms)
        level = level if entry.kind != "dense" else level[:, None, None]
        case.close(found[index], value, own + level, "h")


def _exponential_terms(entry, t):
    """Σ of what steps of e^{At} by squaring are off by, relative to eps: ‖e^{As}‖² over halves."""
    A, t = entry.exact.moderate[0], arb(float(t))
    size = frobenius(A) * t
    doublings = max(0, math.ceil(float((size + 1e-300).log() / math.log(2))))
    E, lost = (A * acb(t / arb(2) ** doublings)).exp().mid(), arb(1)
    for _ in range(doublings):
        lost = 2 * lost * frobenius(E) + frobenius(E) ** 2
        E = (E * E).mid()
    return lost


def markov_tolerances(entry, steps, effort):
    b, c, step = transition_sizes(entry)
    terms, X = [absolute(entry.D) * 0], b
    for k in range(steps - 1):
        lost = c @ (0 * X + 1e-322) * effort
        terms.append(c @ X * (10 * EPS * effort * (k + 4)) + lost)
        X = step(X)
    return np.stack(terms)


def transition_sizes(entry):
    """(|B|, |C|, X ↦ |A| X), in the modes of a structured A."""
    if entry.kind == "dense":
        A = absolute(entry.arrays[0])
        return absolute(entry.B), absolute(entry.C), lambda X: A @ X
    b, c = modal_sizes(entry)
    moduli = np.array([abs(x).mid() for x in modal_order(entry)], dtype=object)[:, None]
    return b, c, lambda X: moduli * X


@check
def simulate(case):
    sys, rng = case.sys, case.rng
    length = int(rng.choice([0, 1, 12]))
    timing = str(rng.choice(["delayed", "current"]))
    u = rng.standard_normal((*sys.batch_shape, length, sys.inputs)).astype(case.draw.recipe.dtype)
    start = rng.standard_normal((*sys.batch_shape, sys.order)) if rng.uniform() < 0.5 else None
    if start is not None:
        start = draws.shifted(start, case.draw.unit).astype(case.draw.recipe.dtype)
        if not np.all(np.isfinite(start)):
            return
    found = case.call(lti.simulate, sys, u, initial=start, timing=timing)
    for index, entry in zip(case.indices, case.entries, strict=True):
        exact = entry.exact
        b, c, step = transition_sizes(entry)
        n = exact.order
        first = np.zeros((n, 1)) if start is None else start[index][:, None]
        x, size = (
            matrix(first),
            entry.entry_sizes(first, 1) if entry.kind != "dense" else absolute(first),
        )
        d = absolute(entry.D)
        # What underflows in a state, by four products of parts, large outputs make visible.
        least = 4 * float(np.finfo(u.dtype).smallest_subnormal)
        values, allowed, lost, unseen = [], [], np.zeros((n, 1)), []
        for k in range(length):
            drive, v = matrix(u[index][k][:, None]), absolute(u[index][k][:, None])
            if timing == "delayed":
                values.append(array(exact.C * x + exact.D * drive)[:, 0])
                allowed.append((c @ size + d @ v)[:, 0])
                unseen.append((c @ lost)[:, 0])
            x, size = (exact.A * x + exact.B * drive).mid(), step(size) + b @ v
            lost = step(lost) + least
            if timing == "current":
                values.append(array(exact.C * x + exact.D * drive)[:, 0])
                allowed.append((c @ size + d @ v)[:, 0])
                unseen.append((c @ lost)[:, 0])
        if length:
            level = np.stack(allowed) * (10 * EPS * case.effort * (length + 4))
            case.close(found[index], np.stack(values), level + np.stack(unseen), "y")


@check
def recurrences(case):
    rng, dtype = case.rng, case.draw.recipe.dtype
    n, length = int(rng.integers(1, 5)), int(rng.choice([1, 2, 40]))
    varying, reverse = rng.uniform() < 0.5, bool(rng.uniform() < 0.5)
    complex_ = rng.uniform() < 0.5
    poles = rng.choice([0, 1e-160, 0.5, 1, 1.5], (length if varying else 1, n))
    poles = poles * rng.uniform(0.9, 1.0, poles.shape)
    u, start = rng.standard_normal((length, n)), rng.standard_normal(n)
    u = u * 10.0 ** rng.choice([0, 20, 30], (1, n))
    if complex_:
        poles = poles * np.exp(1j * rng.uniform(-3, 3, poles.shape))
        dtype = {"float32": "complex64", "float64": "complex128"}[dtype]
    with np.errstate(under="ignore"):
        poles, u, start = (x.astype(dtype) for x in (poles, u, start))
    function = lti.time_varying_recurrence if varying else lti.linear_recurrence
    given = poles if varying else poles[0]
    found = case.call(function, given, u, initial=start, reverse=reverse)
    x, size, values, allowed = [number(s) for s in start], absolute(start), {}, {}
    for count, k in enumerate(reversed(range(length)) if reverse else range(length)):
        lam = poles[k] if varying else poles[0]
        x = [(number(a) * s + number(v)).mid() for a, s, v in zip(lam, x, u[k], strict=True)]
        size = absolute(lam) * size + absolute(u[k])
        values[k], allowed[k] = x, size * (10 * EPS * (count + 2))
    rows = range(length)
    exact = np.array([values[k] for k in rows], dtype=object)
    level = np.array([allowed[k] for k in rows], dtype=object)
    case.close(found, exact, level, "x")


# --- reductions -------------------------------------------------------------------------------


def drawn_order(case):
    """Of a reduced system; of one without states 0."""
    n = case.sys.order
    return int(case.rng.integers(min(1, n), n + 1))


def check_reduction(case, found, index, entry, *, values=None, horizon=None, bound=True):
    """What every reduction promises."""
    small = reduced_given(found.system, index)
    if horizon is None and not small.exact.stable:
        if case.said("not in float32"):
            return small
        raise Wrong(f"unstable: poles {float(small.exact.gap):.3g} from the boundary")
    proper = not frobenius(entry.exact.D - small.exact.D) > 0
    if found.h2_error is not None and case.continuous and not proper:
        if np.isfinite(found.h2_error[index]):
            raise Wrong(f"h2 error {found.h2_error[index]} of systems with different D")
    elif found.h2_error is not None:
        error = found.h2_error[index]
        check_h2_error(case, error, entry, small, "h2 error of a reduction", horizon)
    if values is not None and found.singular_values is not None:
        case.close(found.singular_values[index], *values, "σ")
    if bound and found.error_bound is not None:
        _, error = entry.exact.minus(small.exact).peak
        given = found.error_bound[index]
        if not np.isinf(given):
            gap = max(float(entry.exact.gap), 1e-17)
            slack = error * (1e-9 + 1e2 * EPS / gap) + entry.exact.peak[1] * (
                10 * EPS * case.effort
            )
            slack += error * 2 * EPS_SINGLE + arb(2e-45) if case.single else arb(1e-320)
            # 400 bits of a resolvent of at most 2^10/gap, and units of states end at 2^±1000.
            slack += _invisible(entry) * (arb(2) ** -380 / gap)
            slack += entry.exact.peak[1] * case.stated
            at_least(given, error, "error bound", slack)
    return small


@check
def balanced_truncation(case):
    rng = case.rng
    option = str(rng.choice(["order", "energy", "error", "horizon"], p=[0.5, 0.15, 0.2, 0.15]))
    horizon = drawn_horizon(case, [2, 20]) if option == "horizon" else None
    match = bool(option != "horizon" and rng.uniform() < 0.3)
    options = {"match_dc": match}
    if option in ("order", "horizon"):
        options["order"] = drawn_order(case)
    elif option == "energy":
        options["energy"] = float(rng.choice([0.5, 0.99, 1 - 1e-9, 1.0]))
    else:
        values, _ = (
            hankel(case.entries[0], case.effort) if case.entries[0].exact.stable else ([arb(1)], 0)
        )
        options["error"] = float(largest(values)) * 10.0 ** -rng.uniform(0, 12)
        if not math.isfinite(options["error"]):
            return
    found = case.call(lti.balanced_truncation, case.sys, horizon=horizon, **options)
    if horizon is None:
        case.require_stable()
    if option == "order" and found.order != options["order"] and not case.said("was asked for"):
        zero = all(not largest(hankel(e, case.effort)[0]) > 0 for e in case.entries)
        raise Wrong(
            f"order {found.order} of {options['order']} without a warning" + " (zero)" * zero
        )
    if horizon is None:
        _note_lowered_order(case, found.order, options.get("order", 0))
    for index, entry in zip(case.indices, case.entries, strict=True):
        values = hankel(entry, case.effort) if horizon is None else None
        small = check_reduction(case, found, index, entry, values=values, horizon=horizon)
        if match:
            z = entry.exact.constant
            full, reduced = entry.exact.transfer(z), small.exact.transfer(z)
            off = norm_of(full - reduced)
            moved = [s.transfer(z) for s in (*entry.neighbours,)]
            own = largest(norm_of(x - full) for x in moved) * (EPS / draws.STEP)
            moved = [s.transfer(z) for s in small.neighbours]
            own += largest(norm_of(x - reduced) for x in moved) * (EPS / draws.STEP)
            level = own * (100 * case.effort) + entry.exact.peak[1] * 1e-9
            level += arb(float(found.error_bound[index])) * 1e-6
            level += _lost_when_constant(entry) * (10 * case.effort * EPS)
            if case.single:
                level *= EPS_SINGLE / EPS
            level += entry.exact.peak[1] * case.stated + arb(1e-320)
            if off > level:
                raise Wrong(f"H({z}) differs by {short(off)}, allowed {short(level)}")
    if option == "error" and not case.said("rounding may add more") and case.sys.batch_shape == ():
        # For an error of 0, where all values are 0, the bound is what rounding adds.
        most = 2 * options["error"] * (1 + 1e-6) + 1e-44
        if options["error"] > 0 and not found.error_bound <= most:
            raise Wrong(f"bound {found.error_bound} for error={options['error']}")


def _lost_when_constant(entry):
    """‖C (I − A)⁻¹‖ ‖(I − A)⁻¹ B‖ in states with balanced Gramians, of the twin in continuous time.

    There the poles are carried by a dense matrix of norm 1, Wᴴ A V, whose rounding δA changes H(1)
    by C (I − A)⁻¹ δA (I − A)⁻¹ B: one mode of gap g by eps/g of its gain.
    """
    exact = entry.exact.circle
    resolvent = (identity(exact.order) - exact.A).inv()
    reached, observed = array(resolvent * exact.B), array(exact.C * resolvent)
    t = np.array(exact.scale, dtype=object)
    return frobenius(reached * t[:, None]) * frobenius(observed / t)


def _note_lowered_order(case, order, wanted):
    """States that stand clear of rounding need not be refused."""
    if order < wanted:
        level = 100 * EPS * case.effort
        case.needless = any(
            e.exact.hankel_values[order] > e.exact.sizes * level for e in case.entries
        )


@check
def balanced_truncation_keeping_unstable(case):
    if case.sys.batch_shape:
        return
    (entry,) = case.entries
    order = drawn_order(case)
    found = case.call(lti.balanced_truncation, case.sys, order=order, unstable="keep")
    if entry.exact.stable and found.left is not None:
        _note_lowered_order(case, found.order, order)
        check_reduction(case, found, (), entry)


@check
def modal_truncation(case):
    order = drawn_order(case)
    score = str(case.rng.choice(["hinf", "magnitude"]))
    found = case.call(lti.modal_truncation, case.sys, order, score=score)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        check_reduction(case, found, index, entry, bound=entry.kind != "dense")


@check
def complex_balanced_truncation(case):
    recipe = case.draw.recipe
    if recipe.structure != "rotation" or case.sys.order < 2:
        return
    order = 2 * int(case.rng.integers(1, case.sys.order // 2 + 1))
    found = case.call(lti.complex_balanced_truncation, case.sys, order=order)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        check_reduction(case, found, index, entry)


@check
def h2_reduction(case):
    if case.sys.batch_shape or case.sys.order > 5:
        return
    (entry,) = case.entries
    order = drawn_order(case)
    method = str(case.rng.choice(["tsia", "lbfgs", "lm"]))
    found = case.call(lti.h2_reduction, case.sys, order, method=method, starts=1)
    case.require_stable()
    check_reduction(case, found, (), entry)
    balanced = case.call(lti.balanced_truncation, case.sys, order=order)
    theirs = entry.exact.minus(reduced_given(balanced.system).exact)
    ours = entry.exact.minus(reduced_given(found.system).exact)
    own = entry.exact.squared_h2
    slack = own * (1e-13 * case.effort) + theirs.squared_h2 * 1e-5
    slack += terms_of(entry, entry.exact.P) ** 2 * (1e-14 * case.effort)
    slack += own * case.stated
    if case.single:
        slack += own * 1e-12 + theirs.squared_h2 * 1e-3 + arb(1e-44) ** 2
    # Modes that cancel are rounded each, and poles: a radius of 1 − 1e-11 moves by 1e-5 of that.
    small = reduced_given(found.system)
    gap = max(float(small.exact.gap), 1e-17)
    eps = EPS_SINGLE if case.single else EPS
    slack += (terms_of(small, small.exact.P) * (4 * eps * case.effort / gap)) ** 2
    words = "before it converged", "balanced truncation", "not in float32"
    said = any(map(case.said, words))
    if ours.squared_h2 > theirs.squared_h2 + slack and not said:
        raise Wrong(
            f"error {short(ours.squared_h2.sqrt())}, balanced truncation "
            f"{short(theirs.squared_h2.sqrt())}, norm {short(own.sqrt())}"
        )


@check
def refit_outputs(case):
    if case.sys.batch_shape or case.sys.order > 6:
        return
    rng, sys = case.rng, case.sys
    u = rng.standard_normal((int(rng.choice([3, 30])), sys.inputs)).astype(case.draw.recipe.dtype)
    y = case.call(lti.simulate, sys, u)
    if not np.all(np.isfinite(y)):
        case.beyond = True
        return
    C = sys.C * sys.C.dtype.type(0.7)
    D = bool(rng.uniform() < 0.5)
    if D and sys.inputs == sys.outputs and sys.D is None and rng.uniform() < 0.5:
        D = "diagonal"
    given = lti.LTI(sys.A, sys.B, C, sys.D)
    found = case.call(lti.refit_outputs, given, [(u, y)], feedthrough=D)
    (entry,) = case.entries
    exact, given = entry.exact, Given.of(found.system)
    size, total, x = ZERO, ZERO, matrix(np.zeros((sys.order, 1)))
    terms, states, moved = ZERO, ZERO, ZERO
    rounding = _rounding_of_states(entry, u, case.effort)
    for k in range(len(u)):
        drive, wanted = matrix(u[k][:, None]), matrix(y[k][:, None])
        answer = given.exact.C * x + given.exact.D * drive
        total += frobenius(wanted - answer) ** 2
        terms += (frobenius(given.exact.C * x)) ** 2
        moved += frobenius(absolute(given.C) @ rounding[k]) ** 2
        states += frobenius(x) ** 2
        size += frobenius(wanted) ** 2
        x = (exact.A * x + exact.B * drive).mid()
    true = (total / size).sqrt() if size > 0 else total.sqrt()
    eps = EPS_SINGLE if case.single else EPS
    # The outputs themselves were rounded, and C is.
    allowed = arb(1e3 * case.effort * eps) * (1 + ((terms / size).sqrt() if size > 0 else 0))
    allowed += true * 1e-6 + arb(1e-300)
    # The residual is that of the states as `simulate` rounds them.
    allowed += (moved / size).sqrt() if size > 0 else moved.sqrt()
    if size > 0:
        # Outputs are computed to multiples of the smallest number, and C is rounded to them.
        least = arb(2e-45 if case.single else 5e-324)
        lost = arb(5e-324) * (len(u) * sys.outputs) ** 0.5 + least * states.sqrt()
        allowed += lost * case.effort / size.sqrt()
    if abs(number(found.residual_after).real - true) > allowed:
        raise Wrong(f"residual {found.residual_after!r}, exact {short(true)}")
    if found.residual_after > found.residual_before * (1 + 1e-12):
        raise Wrong(f"residual grew from {found.residual_before} to {found.residual_after}")


def _rounding_of_states(entry, inputs, effort):
    """(steps + 1, n, 1) bounds on the errors of computed states, to first order.

    Step j is off by δ_j ≤ 10 n eps (|A||x_j| + |B||u_j|) and n times the smallest number, and what
    follows makes A^(k−1−j) δ_j of it. Of a dense A these are powers of A itself: those of |A| grow
    where they do not.
    """
    exact, (b, _, step) = entry.exact, transition_sizes(entry)
    dense, power = entry.kind == "dense", identity(entry.exact.order)
    x, powers, made = matrix(np.zeros((exact.order, 1))), [], []
    errors = [np.full((exact.order, 1), ZERO)]
    for u in inputs:
        sizes = absolute(array(x)) if dense else entry.entry_sizes(array(x), 1)
        rounded = step(sizes) + b @ absolute(u[:, None])
        made.append(rounded * (10 * EPS * effort) + arb(5e-324) * effort)
        powers.append(absolute(array(power)))
        if dense:
            pairs = zip(powers, reversed(made), strict=True)
            errors.append(sum((P @ one for P, one in pairs), errors[0]))
        else:
            errors.append(step(errors[-1]) + made[-1])
        x = (exact.A * x + exact.B * matrix(u[:, None])).mid()
        power = (exact.A * power).mid()
    return errors


@check
def data_gramians(case):
    """A short random sequence or two, of several lengths, for each system of a batch."""
    sys, rng = case.sys, case.rng
    timing = str(rng.choice(["delayed", "current"]))
    quadratic = sys.order <= 6 and not case.sys.batch_shape and rng.uniform() < 0.3
    forms = _moderate_forms(case) if quadratic else None
    # A system without forms is linear.
    whole = sys if forms is None else lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, forms)
    sides = (
        (True, True)
        if forms is not None
        else ((True, True), (True, False), (False, True))[rng.choice(3, p=[0.8, 0.1, 0.1])]
    )
    batches = []
    for _ in range(int(rng.integers(1, 3))):
        length = int(rng.choice([1, 2, 12]))
        pair = []
        for given, width in zip(sides, (sys.inputs, sys.outputs), strict=True):
            x = rng.standard_normal((*sys.batch_shape, length, width))
            if np.iscomplexobj(sys.B) and rng.uniform() < 0.5:
                x = x + 1j * rng.standard_normal(x.shape)
            single = np.result_type(x.dtype, np.complex64) if np.iscomplexobj(x) else np.float32
            pair.append((x.astype(single) if case.single else x) if given else None)
        batches.append(tuple(pair))
    found = case.call(lti.data_gramians, whole, batches, timing=timing)
    for index, entry in zip(case.indices, case.entries, strict=True):
        data = [[None if x is None else x[index] for x in pair] for pair in batches]
        exact = _excited(entry, data, timing, forms, case.effort)
        for name, given, X, (value, allowed) in zip("PQ", sides, found, exact, strict=True):
            if given:
                case.close(X[index], value, allowed, f"{name} of data")
    if not all(sides):
        case.error = None  # what is said of the other Gramian says nothing of this one


def _moderate_forms(case):
    """(p, n, n) symmetric forms in the units of the states, or None where these are too small."""
    sys, unit = case.sys, case.draw.unit
    M = case.rng.standard_normal((sys.outputs, sys.order, sys.order))
    M = draws.shifted(M, -unit[:, None] - unit)
    M = ((M + M.swapaxes(-1, -2)) / 2).astype(case.draw.recipe.dtype)
    usable = np.all(np.isfinite(M)) and not np.any((M != 0) & (np.abs(M) < 1e-30))
    return M if usable else None


def _excited(entry, data, timing, forms, effort):
    """((P, what may be off), (Q, …)): each state is off by some eps of the sum of the sizes of all
    that it is a sum of."""
    exact, (b, c, step) = entry.exact, transition_sizes(entry)
    back = _transition_back(entry)
    A, B, C = exact.A, exact.B, exact.C
    n, count = exact.order, len(data)
    total = [acb_mat(n, n), acb_mat(n, n)]
    allowed = [np.full((n, n), ZERO), np.full((n, n), ZERO)]
    for u, g in data:
        length = len(u if u is not None else g)
        eps = 20 * EPS * effort * (length + 4)
        runs = [[], []]
        x, size = acb_mat(n, 1), np.full((n, 1), ZERO)
        for k in range(length if u is not None else 0):
            after = (A * x + B * matrix(u[k][:, None])).mid()
            grown = step(size) + b @ absolute(u[k][:, None])
            runs[0].append((x, size) if timing == "delayed" else (after, grown))
            x, size = after, grown
        y, size = acb_mat(n, 1), np.full((n, 1), ZERO)
        for k in reversed(range(length if g is not None else 0)):
            y = adjoint(A) * y + adjoint(C) * matrix(g[k][:, None])
            size = back(size) + c.T @ absolute(g[k][:, None])
            for i in range(0 if forms is None else len(forms)):
                gain = number(g[k][i])
                y += matrix(forms[i]) * runs[0][k][0] * (2 * gain)
                size = size + absolute(forms[i]) @ runs[0][k][1] * (2 * abs(gain))
            y = y.mid()
            runs[1].append((y, size))
        for side, run in enumerate(runs):
            for x, size in run:
                total[side] += x * adjoint(x)
                allowed[side] = allowed[side] + (size @ size.T) * eps + 1e-320
    return [
        (array((X * (acb(1) / count)).mid()), level / count)
        for X, level in zip(total, allowed, strict=True)
    ]


def _transition_back(entry):
    """x ↦ |A|ᵀ x for sizes, in the modes of a structured A."""
    if entry.kind == "dense":
        A = absolute(entry.arrays[0]).T
        return lambda x: A @ x
    return transition_sizes(entry)[2]


@check
def allocate_orders(case):
    rng = case.rng
    layers = [
        np.sort(10.0 ** rng.uniform(-18, 0, rng.integers(1, 7)) * rng.choice([0, 1], p=[0.1, 0.9]))[
            ::-1
        ]
        for _ in range(rng.integers(1, 5))
    ]
    total = sum(map(len, layers))
    if rng.uniform() < 0.5:
        budget = int(rng.integers(len(layers), total + 1))
        found = case.call(lti.allocate_orders, layers, budget=budget)
        if sum(found) > budget or min(found) < 1:
            raise Wrong(f"{found} for a budget of {budget}")
        errors = [np.flip(np.cumsum(np.flip(x**2))) - x**2 for x in layers]
        found = case.call(lti.allocate_orders_by_error, errors, budget=budget)
        if sum(found) > budget or min(found) < 1:
            raise Wrong(f"{found} for a budget of {budget}, by error")
    else:
        energy = float(rng.choice([0.3, 0.9, 1.0]))
        found = case.call(lti.allocate_orders, layers, energy=energy)
        for x, r in zip(layers, found, strict=True):
            exact = [arb(float(v)) for v in x]
            whole = sum(exact, ZERO)
            if sum(exact[r:], ZERO) > whole * (1 - arb(energy) + 2e-15):
                raise Wrong(f"order {r} of {x} holds too little")
            if r > 1 and sum(exact[r - 1 :], ZERO) <= whole * (1 - arb(energy)) * (1 - arb(1e-14)):
                raise Wrong(f"order {r} of {x} is too large")


@check
def allocate_modal_orders(case):
    budget = int(case.rng.integers(2, max(2, 2 * case.sys.order) + 1))
    rule = str(case.rng.choice(["last", "global", "uniform"]))
    found = case.call(lti.allocate_modal_orders, [case.sys, case.sys], budget=budget, rule=rule)
    if sum(found) > budget or min(found) < min(1, case.sys.order) or max(found) > case.sys.order:
        raise Wrong(f"{found} for a budget of {budget}")


# --- conversions ------------------------------------------------------------------------------


def same_transfer(case, entry, other, condition, what):
    """Transfer functions at points outside the circle, relative to the sums they come from."""
    rng = np.random.default_rng([entry.seed, 9])
    for _ in range(3):
        size, phase = rng.uniform(1.01, 2), rng.uniform(-math.pi, math.pi)
        if case.continuous:
            rate = entry.exact.rate
            right = rate * size + (-entry.exact.gap * 2 * rate if entry.exact.gap < 0 else 0)
            z = acb(right, rate * phase)
        else:
            radius = max(1.0, 1.1 * float(entry.exact.radius)) * size
            z = acb(0, phase).exp() * radius
        value, own = measured(entry, lambda s, z=z: s.transfer(z), case.effort)
        terms = modal_terms(other, z)
        _, moved = measured(other, lambda s, z=z: s.transfer(z), case.effort)
        eps = EPS_SINGLE if case.single else EPS
        level = own + terms * (100 * case.effort * EPS * condition + 20 * case.effort * eps)
        if case.single:
            level = level + moved * (EPS_SINGLE / EPS) + arb(1e-42)
        difference = other.exact.transfer(z)
        case.met(norm_of(difference - value), norm_of(value))
        _close_exact_arrays(difference, value, level, what)


def _close_exact_arrays(found, value, level, what):
    level = np.broadcast_to(np.asarray(level, dtype=object), value.shape)
    for index in np.ndindex(value.shape):
        if abs(found[index] - value[index]) > level[index] + arb(1e-320):
            raise Wrong(
                f"{what}: H changed from {short(value[index])} to {short(found[index])}, allowed "
                f"{short(level[index])}"
            )


def _conversion(case, function, **options):
    new = case.call(function, case.sys, **options)
    condition = np.asarray(case.call(lti.eigenvector_condition, case.sys))
    for index, entry in zip(case.indices, case.entries, strict=True):
        kappa = float(condition[index])
        real = "complex" not in case.draw.recipe.structure
        if not case.warned:
            # Without a word no more than eigenvectors of the condition cost that needs none.
            kappa = min(kappa, MAX_CONDITION_SINGLE if case.single else MAX_CONDITION)
        kappa = kappa if real or function is lti.diagonalize else kappa**2
        if not math.isfinite(kappa):
            continue
        same_transfer(case, entry, Given.of(new, index), kappa, function.__name__)


@check
def diagonalize(case):
    _conversion(case, lti.diagonalize)


@check
def to_rotation(case):
    _conversion(case, lti.to_rotation)


@check
def to_canonical_rotation(case):
    _conversion(case, lti.to_rotation, canonical=True)


def best_units(entry):
    """Powers of two, in which condition numbers are stated."""
    A, B, C = (X.astype(np.result_type(X, float)) for X in (*entry.arrays, entry.B, entry.C))
    return state_units(A, B, C, entry.continuous)


def units_of_matrix(entry):
    """Powers of two that suit A alone."""
    A = entry.arrays[0]
    return state_units(A.astype(np.result_type(A, float)), continuous=entry.continuous)


def _condition(A, d):
    """(κ(V), poles) in the units d."""
    A = acb_mat(A)
    for i, j in np.ndindex(len(d), len(d)):
        A[i, j] = A[i, j] * acb(float(d[j])) / acb(float(d[i]))
    try:
        poles, V = A.eig(right=True, algorithm="approx")
    except ValueError:
        return math.inf, []
    V = array(V)
    norms = [frobenius(V[:, j]) for j in range(len(V))]
    if not all(x > 0 and x.is_finite() for x in norms):
        return math.inf, []
    V = np.array([[complex(x / y) for x, y in zip(row, norms, strict=True)] for row in V])
    sigma = np.linalg.svd(V, compute_uv=False)
    return (sigma[0] / sigma[-1] if sigma[-1] > 0 else math.inf), poles


@check
def eigenvector_condition(case):
    found = np.asarray(case.call(lti.eigenvector_condition, case.sys))
    for index, entry in zip(case.indices, case.entries, strict=True):
        if entry.kind != "dense" or case.sys.order == 0:
            if found[index] != 1:
                raise Wrong(f"condition {found[index]} of a normal matrix")
            continue
        d = best_units(entry)
        exact, poles = _condition(entry.exact.A, d)
        if not exact < 1e6:
            continue
        A, rounding = entry.exact.A, acb(EPS / draws.STEP)
        near = replace(entry, unit=np.log2(d).astype(int)).neighbours
        moved = [_condition(A + (s.A - A) * rounding, d)[0] for s in near]
        own = max(abs(x - exact) for x in moved) * (100 * case.effort)
        if not abs(found[index] - exact) < exact * 1e-3 + own:
            gap = min(
                (abs(float(abs(a - b))) for i, a in enumerate(poles) for b in poles[:i]), default=1
            )
            # Next to repeated poles any basis of their space is one of eigenvectors.
            if gap > 1e-8:
                raise Wrong(f"condition {found[index]}, exact {exact}")


@check
def well_conditioned(case):
    limit = 10.0 ** case.rng.uniform(2, 7)
    found = case.call(lti.well_conditioned, case.sys, limit)
    for index, entry in zip(case.indices, case.entries, strict=True):
        if not found.condition[index] <= limit * (1 + 1e-6):
            raise Wrong(f"condition {found.condition[index]} above {limit}")
        if entry.kind == "dense":
            # In the units of the system or in those of A, whichever the change was made in.
            moved = array(matrix(found.system.A[index]) - entry.exact.A)
            exact = []
            for d in (best_units(entry), units_of_matrix(entry)):
                size, change = (
                    spectral_norm(X * d / d[:, None]) for X in (array(entry.exact.A), moved)
                )
                exact.append(change / size if size > 0 else ZERO)
            eps, stated = EPS_SINGLE if case.single else EPS, number(found.perturbation[index]).real
            if all(abs(stated - true) > true * 1e-3 + 10 * eps * EPS for true in exact):
                shown = " or ".join(map(short, exact))
                raise Wrong(f"perturbation {found.perturbation[index]}, exact {shown}")


@check
def statespace(case):
    if case.sys.batch_shape:
        return
    for library in ("tuple", "scipy", "control"):
        if library == "control" and np.iscomplexobj(case.sys.B):
            continue
        there = case.call(lti.to_statespace, case.sys, library)
        back = case.call(lti.from_statespace, there)
        if back.is_continuous != case.continuous:
            raise Wrong(f"another time through {library}")
        dense = case.sys.to_dense()
        D = np.zeros((case.sys.outputs, case.sys.inputs)) if case.sys.D is None else case.sys.D
        for name, X in (("A", dense.A), ("B", dense.B), ("C", dense.C), ("D", D)):
            if not np.array_equal(getattr(back, name), X):
                raise Wrong(f"{name} changed through {library}")


@check
def discretize(case):
    """A of discrete time is read as that of a continuous one, shifted to the left half plane."""
    rng = case.rng
    method = str(rng.choice(["zoh", "bilinear"]))
    step = float(rng.choice([1e-6, 0.3, 2.0]))
    sys = case.sys
    kind, arrays = structure_arrays(sys.A)
    A = sys.A
    if case.continuous:
        step *= 2.0**-case.draw.recipe.speed
        found = case.call(lti.discretize, sys, step=step, method=method)
    else:
        if kind == "Diagonal":
            A = lti.Diagonal(np.asarray(arrays[0] - arrays[0].dtype.type(1.0)))
        elif kind == "dense":
            A = np.asarray(A - np.eye(sys.order, dtype=A.dtype))
        found = case.call(lti.discretize, A, sys.B, sys.C, sys.D, step=step, method=method)
    continuous = lti.LTI(A, sys.B, sys.C, sys.D, dt=0)
    compare_samples(case, found, continuous, lambda s: sampled(s, step, method), step, method)


def compare_samples(case, found, continuous, sampled, step, what):
    """A, B, C and D beside the samples (A, B, C, D) of an exact system."""
    kind, sys = structure_arrays(continuous.A)[0], continuous
    for index, entry in zip(case.indices, case.entries, strict=True):
        given = replace(Given.of(continuous, index), unit=entry.unit, seed=entry.seed)
        names = ("A", "B", "C", "D")
        exact = sampled(given.exact)
        moved = [sampled(s) for s in given.neighbours]
        dense = found.to_dense()
        D = np.zeros((sys.outputs, sys.inputs)) if dense.D is None else dense.D[index]
        results = [dense.A[index], dense.B[index], dense.C[index], D]
        growth = 1 + float(frobenius(given.exact.moderate[0]) * step)
        for name, value, X, near in zip(
            names, exact, results, zip(*moved, strict=True), strict=True
        ):
            tolerance = derivative(value, list(near)) * (100 * case.effort)
            if name == "D":
                sizes = absolute(value) + norm_of(exact[1]) * 0
                C, B = (np.asarray(x) for x in (exact[2], exact[1]))
                sizes = sizes + absolute(given.D) + _dot_sizes(given, C, B)
            elif name == "A":
                sizes = given.entry_sizes(value, 1, -1) if kind == "dense" else absolute(value)
            elif name == "B":
                sizes = given.entry_sizes(value, 1) if kind == "dense" else absolute(value)
            else:
                sizes = given.entry_sizes(value.T, -1).T if kind == "dense" else absolute(value)
            if given.in_blocks:
                sizes = sizes + norm_of(value) * 1
                # Radius and angle are what is rounded to the precision.
                if name == "A" and case.single:
                    tolerance = tolerance + sizes * (8 * EPS_SINGLE)
            case.close(
                X, value, tolerance + sizes * (20 * case.effort * EPS * growth), f"{what} {name}"
            )


def _dot_sizes(given, C, B):
    c, b = absolute(C), absolute(B)
    if given.kind == "dense":
        c = given.entry_sizes(C.T, -1).T
        b = given.entry_sizes(B, 1)
    return c @ b


def sampled(s, step, method):
    n, m = s.order, s.B.ncols()
    delta = acb(arb(step))
    if method == "zoh":
        whole = acb_mat(n + m, n + m)
        size = frobenius(s.moderate[1])
        size = size if size > 0 else arb(1)
        for i, j in np.ndindex(n, n):
            whole[i, j] = s.A[i, j] * delta
        for i, j in np.ndindex(n, m):
            whole[i, n + j] = s.B[i, j] / size * delta
        E = array(_exponential(whole, s.unit))
        return E[:n, :n], E[:n, n:] * size, array(s.C), array(s.D)
    # In moderate units: elimination in 400 bits loses what is 2^−400 of its neighbours.
    eye, (A, B, C) = identity(n), s.moderate
    M = (eye - A * (delta / 2)).inv()
    up, down = (np.array([arb(2) ** (k * int(e)) for e in s.unit]) for k in (1, -1))
    return (
        array(M * (eye + A * (delta / 2))) * up[:, None] * down,
        array(M * B * delta) * up[:, None],
        array(C * M) * down,
        array(s.D + C * M * B * (delta / 2)),
    )


def _exponential(X, unit):
    """exp in moderate units of the states."""
    n = X.nrows()
    t = [acb(2) ** int(e) for e in unit] + [acb(1)] * (n - len(unit))
    scaled = acb_mat(n, n)
    for i, j in np.ndindex(n, n):
        scaled[i, j] = X[i, j] * t[j] / t[i]
    E = scaled.exp()
    for i, j in np.ndindex(n, n):
        E[i, j] = E[i, j] * t[i] / t[j]
    return E.mid()


@check
def published_layers(case):
    rng = case.rng
    n, m, p = (int(rng.integers(1, 5)) for _ in range(3))
    poles = rng.uniform(0, 0.99, n) * np.exp(1j * rng.uniform(-3, 3, n))
    B, C = (rng.standard_normal((*s, 2)).view(complex)[..., 0] for s in ((n, m), (p, n)))
    gamma = rng.uniform(0.1, 1, n)
    sys = case.call(lti.from_lru, poles, B, C, gamma=gamma)
    _same_real_part(case, sys, [number(x) for x in poles], matrix(gamma[:, None] * B), C)
    continuous = -(10.0 ** rng.uniform(-6, 1, n)) + 1j * rng.uniform(-5, 5, n)
    step = float(rng.choice([1e-4, 0.1]))
    sys = case.call(lti.from_s5, continuous, B, C, step=step)
    lam = [number(x) for x in continuous]
    held = [((x * arb(step)).exp() - 1) / x for x in lam]
    scaled = matrix(B)
    for i, j in np.ndindex(n, m):
        scaled[i, j] = scaled[i, j] * held[i]
    _same_real_part(case, sys, [(x * arb(step)).exp() for x in lam], scaled, 2 * C)


def _same_real_part(case, sys, poles, B, C):
    """y = Re(c z) at a point outside the circle: H(z) = (G(z) + conj G(conj z))/2."""
    z = acb(0.3, 1.4)
    b, c = array(B), np.vectorize(number, otypes=[object])(C)

    def half(w):
        return (c / np.array([w - x for x in poles], dtype=object)) @ b

    other = np.vectorize(lambda x: x.conjugate(), otypes=[object])(half(z.conjugate()))
    exact, found = (half(z) + other) / 2, Given.of(sys).exact.transfer(z)
    level = (absolute(c) @ absolute(b)) * (1e3 * EPS)
    _close_exact_arrays(found, exact, level, "a published layer")


# --- quadratic outputs and certificates -------------------------------------------------------


@check
def quadratic_outputs(case):
    if case.sys.batch_shape or case.sys.order > 6 or case.draw.recipe.units in ("extreme",):
        return
    sys, n = case.sys, case.sys.order
    M = _moderate_forms(case)
    if M is None:
        return
    quadratic = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C, M, dt=sys.dt)
    found = case.call(lti.h2_norm, quadratic)
    case.require_stable()
    (entry,) = case.entries
    forms = [matrix(X) for X in M]

    def squared(s):
        own = (s.C * s.P * adjoint(s.C)).trace().real
        return (own + sum(((s.P * X * s.P * X).trace().real for X in forms), ZERO)).mid()

    def norm(s):
        value = squared(s)
        return value.sqrt() if value > 0 else ZERO

    value, own = measured(entry, norm, case.effort)
    size = ZERO
    P = entry.exact.P
    unit = [arb(2) ** int(e) for e in entry.unit]
    for i in range(n):
        for j in range(n):
            size += sum(abs(X[i, j]) * unit[i] * unit[j] for X in forms) ** 2
    top = largest((x.real / u**2 for x, u in zip(diagonal(P), unit, strict=True)))
    floor = (size * top**2 * n * n) * (EPS * 100 * case.effort)
    # The square is a difference of terms: absolute accuracy there.
    allowed = own + (floor / value if value > floor.sqrt() else floor.sqrt())
    case.close(found, value, allowed + value * (10 * case.effort * EPS), "h2 norm (quadratic)")
    linear = lti.LTI(sys.A, sys.B, sys.C, dt=sys.dt)
    shift = case.call(lti.output_shift, quadratic, linear)

    def means(s):
        return [(X * s.P).trace().real.mid() for X in forms]

    value, own = measured(entry, means, case.effort)
    case.close(shift, value, own + size.sqrt() * top * (10 * n * case.effort * EPS), "shift")


@check
def system_lipschitz(case):
    timing = str(case.rng.choice(["delayed", "current"]))
    found = case.call(lti.certificate.system_lipschitz, case.sys, timing=timing)
    case.require_stable()
    for index, entry in zip(case.indices, case.entries, strict=True):
        exact = entry.exact
        if timing == "current":
            exact = exact.with_outputs(exact.C * exact.A, exact.D + exact.C * exact.B)
            given = replace(entry)
            object.__setattr__(given, "exact", exact)
            near = [s.with_outputs(s.C * s.A, s.D + s.C * s.B) for s in entry.neighbours]
            object.__setattr__(given, "neighbours", near)
            entry = given
        _check_peak(case, found[index], entry)


@check
def certificate_formulas(case):
    rng = case.rng
    size, gain = 10.0 ** rng.uniform(-150, 150, 2)
    sigma = np.sort(10.0 ** rng.uniform(-160, 140, 4))[::-1]
    found = case.call(lti.certificate.layer_error, size, discarded_values=sigma)
    exact = 2 * sum((arb(float(x)) for x in sigma), ZERO) * arb(size)
    case.close(np.float64(found), exact, exact * 1e-14, "layer_error")
    found = case.call(lti.certificate.layer_error, size, hinf_error=gain)
    case.close(
        np.float64(found), arb(size) * arb(gain), arb(size) * arb(gain) * 1e-14, "layer_error"
    )
    W = rng.standard_normal((3, 4)) * gain
    found = case.call(lti.certificate.logit_error_bound, W, 1.5, 7)
    exact = spectral_norm(np.vectorize(number, otypes=[object])(W)) * 1.5 / arb(7).sqrt()
    case.close(np.float64(found), exact, exact * 1e-13, "logit_error_bound")
    gamma, nu = rng.standard_normal(5), 10.0 ** rng.uniform(-20, 20, 5)
    found = case.call(lti.certificate.batch_norm_lipschitz, gamma, nu, 1e-5)
    exact = largest(
        abs(arb(float(g))) / (arb(float(v)) + arb(1e-5)).sqrt()
        for g, v in zip(gamma, nu, strict=True)
    )
    case.close(np.float64(found), exact, exact * 1e-14, "batch_norm_lipschitz")
