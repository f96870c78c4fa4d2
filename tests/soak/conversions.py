"""Checks of what takes systems from one form or time to another."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.sparse
from flint import acb, acb_mat, arb

import lticore as lti

from . import draws
from .checks import (
    check,
    check_direction,
    compare_samples,
    drawn_horizon,
    modal_order,
    modal_sizes,
    sampled,
)
from .draws import Given
from .exact import (
    ZERO,
    absolute,
    adjoint,
    array,
    balanced_sizes,
    balancing_scale,
    frobenius,
    hankel_values,
    identity,
    largest,
    logarithm,
    matrix,
    number,
    solve_stein,
    solve_sylvester,
)
from .judge import EPS, EPS_SINGLE, Wrong, derivative, measured, norm_of, short


def phi(s, step):
    """(e^{AΔ}, φ_1(AΔ), φ_2(AΔ)) in moderate states."""
    n, X = s.order, s.moderate[0] * arb(step)
    whole = acb_mat(3 * n, 3 * n)
    for i, j in np.ndindex(n, n):
        whole[i, j] = X[i, j]
    for i in range(2 * n):
        whole[i, n + i] = 1
    E = whole.exp().mid()

    def block(k):
        return acb_mat(n, n, [E[i, k * n + j] for i, j in np.ndindex(n, n)])

    return block(0), block(1), block(2)


def in_units(s, A, B, C, D):
    """Arrays in the given states of matrices in moderate ones."""
    up, down = (np.array([arb(2) ** (k * int(e)) for e in s.unit]) for k in (1, -1))
    return array(A) * up[:, None] * down, array(B) * up[:, None], array(C) * down, array(D)


def sampled_by(s, step, method):
    if method == "zoh":
        return sampled(s, step, "zoh")
    if method not in ("foh", "impulse"):
        # "bilinear", or the step that keeps a frequency.
        return sampled(s, step if method == "bilinear" else method, "bilinear")
    E, once, twice = phi(s, step)
    _, B, C = s.moderate
    delta = acb(arb(step))
    if method == "impulse":
        return in_units(s, E, E * B * delta, C, C * B * delta)
    return in_units(s, E, once * once * B * delta, C, s.D + C * twice * B * delta)


def time_step(case, sizes):
    speed = case.draw.recipe.speed
    return float(case.rng.choice(sizes)) * 2.0 ** -(speed or 0)


@check
def discretize_other_inputs(case):
    """Between samples straight, or impulses, or Tustin's with a frequency that is kept."""
    method = str(case.rng.choice(["foh", "impulse", "prewarp"]))
    if not case.continuous:
        return
    sys, step, options = case.sys, time_step(case, [1e-6, 0.3, 2.0]), {}
    if method == "impulse":
        sys = lti.LTI(sys.A, sys.B, sys.C, dt=0)
    effective = method
    if method == "prewarp":
        omega = float(case.rng.uniform(0.01, 3)) / step
        options, method = {"prewarp": omega}, "bilinear"
        effective = float((2 * (arb(omega) * arb(step) / 2).tan() / arb(omega)).mid())
    found = case.call(lti.discretize, sys, step=step, method=method, **options)
    compare_samples(case, found, sys, lambda s: sampled_by(s, step, effective), step, method)


@check
def simulate_in_continuous_time(case):
    """Samples, for inputs that are held, or straight between them."""
    sys, rng = case.sys, case.rng
    length, hold = int(rng.choice([1, 6])), str(rng.choice(["zoh", "foh"]))
    if not case.continuous:
        return
    step = time_step(case, [0.01, 0.3])
    u = rng.standard_normal((*sys.batch_shape, length, sys.inputs)).astype(case.draw.recipe.dtype)
    found = case.call(lti.simulate, sys, u, step=step, hold=hold)
    for index, entry in zip(case.indices, case.entries, strict=True):

        def outputs(s, u=u[index]):
            E, once, twice = phi(s, step)
            _, B, C = s.moderate
            held, rising = once * B * arb(step), twice * B * arb(step)
            x, values = acb_mat(s.order, 1), []
            for k in range(length):
                now = matrix(u[k][:, None])
                values.append(array(C * x + s.D * now)[:, 0])
                x = E * x + held * now
                if hold == "foh" and k + 1 < length:
                    x = x + rising * (matrix(u[k + 1][:, None]) - now)
                x = x.mid()
            return np.stack(values)

        value, own = measured(entry, outputs, case.effort)
        A, B, C = entry.exact.moderate
        E, once, _ = phi(entry.exact, step)
        growth = arb(1)
        for _ in range(length):
            growth = growth * (1 + frobenius(E))
        terms = frobenius(C) * frobenius(once) * frobenius(B) * step * norm_of(u[index]) * growth
        size = (terms + frobenius(entry.exact.D) * norm_of(u[index])) * (1 + frobenius(A) * step)
        case.close(found[index], value, own + size * (100 * case.effort * EPS * length), "y")


@check
def step_response(case):
    if case.continuous:
        spread = 10.0 ** case.rng.uniform(-3, 2) * 2.0**-case.draw.recipe.speed
        times = case.rng.uniform(0, 3, int(case.rng.choice([1, 4]))) * spread
    else:
        times = int(case.rng.choice([1, 4, 30]))
    found = case.call(lti.step_response, case.sys, times)
    for index, entry in zip(case.indices, case.entries, strict=True):
        eps = 10 * EPS * case.effort
        if not case.continuous:
            value = np.cumsum(entry.exact.markov(times), axis=0)
            X = entry.exact.markov(times)
            own = measured(entry, lambda s: np.cumsum(s.markov(times), axis=0), case.effort)[1]
            sizes = np.cumsum(absolute(X), axis=0)
            b, c = modal_sizes(entry)
            terms = (c @ b) * 0 + norm_of(sizes)
            grown = np.array([entry.exact.radius**k for k in range(times)], dtype=object)
            if entry.kind == "dense":
                A = entry.exact.moderate[0]
                power, grown = identity(A.nrows()), []
                for _ in range(times):
                    grown.append(frobenius(power))
                    power = (A * power).mid()
                grown = np.array(grown, dtype=object)
            level = np.stack([(c @ b) * x for x in np.cumsum(grown)]) * (eps * (times + 4))
            case.close(found[index], value, own + level + terms * eps + 1e-320, "y")
            continue

        def response(s):
            _, B, C = s.moderate
            return np.stack(
                [array(s.D + C * phi(s, float(t))[1] * B * arb(float(t))) for t in times]
            )

        value, own = measured(entry, response, case.effort)
        if entry.kind == "dense":
            A, B, C = entry.exact.moderate
            levels = []
            for t in times:
                E, once, _ = phi(entry.exact, float(t))
                grown = (1 + frobenius(A) * float(t)) * (1 + frobenius(E)) ** 2
                levels.append(
                    frobenius(C) * frobenius(B) * (frobenius(once) + 1) * float(t) * grown
                )
            level = np.array(levels, dtype=object)[:, None, None] * eps
        else:
            b, c = modal_sizes(entry)
            levels = []
            for t in times:
                held = np.array([_held_size(p, float(t)) for p in modal_order(entry)], dtype=object)
                levels.append((c * held * eps) @ b)
            level = np.stack(levels)
        case.close(found[index], value, own + level + norm_of(array(entry.exact.D)) * eps, "y")


def _held_size(pole, t):
    """|(e^{λt} − 1)/λ| and, with its phase rounded, what that is a difference of."""
    if not abs(pole) * t > arb(2) ** -100:
        return arb(t)
    E = (pole * t).exp().mid()
    return (abs((E - 1) / pole) + abs(pole) * t * abs(E) / abs(pole)).mid()


# --- transfer functions -----------------------------------------------------------------------


def points(case, rate, radius, count=3):
    """Off the poles: outside the circle, or right of the axis."""
    for _ in range(count):
        size, phase = case.rng.uniform(1.1, 2), case.rng.uniform(-math.pi, math.pi)
        if case.continuous:
            yield acb(rate * size, rate * phase)
        else:
            yield acb(0, phase).exp() * max(1.0, radius) * size


def close_quotients(case, found, exact, level, what):
    for place in np.ndindex(exact.shape):
        error = abs(number(found[place]) - number(exact[place]))
        if error > arb(np.broadcast_to(np.asarray(level, object), exact.shape)[place]) + 1e-320:
            raise Wrong(
                f"{what}{list(place)}: {short(found[place])}, exact {short(exact[place])}, allowed "
                f"{short(np.broadcast_to(np.asarray(level, object), exact.shape)[place])}"
            )


@check
def polynomials(case):
    """Quotients of polynomials of several inputs and outputs, and sections of them."""
    rng, dt = case.rng, 0 if case.continuous else True
    m, p = (int(rng.integers(1, 3)) for _ in range(2))

    def polynomial(degree, first=None):
        x = rng.standard_normal(degree + 1) * 10.0 ** rng.uniform(-3, 3)
        x[0] = x[0] if first is None else first
        return x.tolist()

    denominators = [[polynomial(int(rng.integers(0, 4)), 1.5) for _ in range(m)] for _ in range(p)]
    if rng.uniform() < 0.4:
        denominators = [[denominators[0][0]] * m] * p
    numerators = [[polynomial(int(rng.integers(0, len(a)))) for a in row] for row in denominators]
    sys = case.call(lti.from_transfer_function, numerators, denominators, dt=dt)
    given = Given.of(sys)
    sos = [polynomial(2) + polynomial(2, 1.0) for _ in range(int(rng.integers(1, 4)))]
    cascade = Given.of(case.call(lti.from_sections, sos, dt=dt))
    for _ in range(3):
        z = acb(*(float(x) for x in rng.uniform(2, 8, 2)))
        exact = np.empty((p, m), dtype=object)
        for i, j in np.ndindex(p, m):
            exact[i, j] = (_at(numerators[i][j], z) / _at(denominators[i][j], z)).mid()
        _, own = measured(given, lambda s, z=z: s.transfer(z), sys.order + m + p)
        level = own + norm_of(exact) * (100 * EPS * (sys.order + 1))
        close_quotients(case, given.exact.transfer(z), exact, level, "polynomials")
        w, value = z if case.continuous else 1 / z, acb(1)
        for row in sos:
            b, a = (row[:3], row[3:]) if case.continuous else (row[2::-1], row[:2:-1])
            value = value * _at(b, w) / _at(a, w)
        _, own = measured(cascade, lambda s, z=z: s.transfer(z), 2 * len(sos) + 2)
        level = own + abs(value) * (100 * EPS * len(sos))
        exact = np.array([[value.mid()]], dtype=object)
        close_quotients(case, cascade.exact.transfer(z), exact, level, "sections")


def _at(coefficients, z):
    total = acb(0)
    for x in coefficients:
        total = total * z + number(x)
    return total


# --- descriptor form --------------------------------------------------------------------------


def _descriptor(case):
    """(E, A, and neighbours of both as matrices) of a small dense system."""
    rng, n = case.rng, int(case.rng.integers(1, 5))
    E = rng.standard_normal((n, n)) + n * np.eye(n)
    if rng.uniform() < 0.5:
        E = E * np.geomspace(1, 10.0 ** -rng.uniform(0, 6), n)
    gaps = rng.uniform(0.05, 0.9, n)
    F = -np.diag(gaps) if case.continuous else np.diag(gaps * rng.choice([-1, 1], n))
    F = F + np.triu(rng.standard_normal((n, n)), 1)
    U = draws._unitary(rng, n)
    A = E @ (U @ F @ U.T)
    return E, A, [tuple(_moved(rng, X) for X in (E, A)) for _ in range(3)]


def _moved(rng, X):
    size = frobenius(X) * draws.STEP
    return matrix(X) + matrix(rng.standard_normal(X.shape)) * acb(size)


@check
def descriptor(case):
    rng = case.rng
    E, A, near = _descriptor(case)
    n, m, p = len(E), int(rng.integers(1, 3)), int(rng.integers(1, 3))
    B, C = rng.standard_normal((n, m)), rng.standard_normal((p, n))
    found = case.call(lti.from_descriptor, E, A, B, C, dt=0 if case.continuous else True)
    given = Given.of(found)
    B, C = matrix(B), matrix(C)
    for _ in range(2):
        z = acb(*(float(x) for x in rng.uniform(1.5, 4, 2)))

        def response(E, A, z=z):
            return array(C * (E * z - A).solve(B, algorithm="approx").mid())

        value = response(matrix(E), matrix(A))
        own = derivative(value, [response(*pair) for pair in near]) * (100 * (n + m + p))
        _, moved = measured(given, lambda s, z=z: s.transfer(z), n + m + p)
        level = own + moved + norm_of(value) * (100 * EPS * n)
        close_quotients(case, given.exact.transfer(z), value, level, "from_descriptor")


@check
def equations_of_descriptors(case):
    """A X Aᴴ − E X Eᴴ + Q = 0, or A X Eᴴ + E X Aᴴ + Q = 0."""
    E, A, near = _descriptor(case)
    n = len(E)
    F = case.rng.standard_normal((n, n))
    Q = F @ F.T
    function = lti.solve_lyapunov if case.continuous else lti.solve_stein
    found = case.call(function, A, Q, E=E)

    def solve(E, A):
        inverse = E.inv().mid()
        form, right = (inverse * A).mid(), (inverse * matrix(Q) * adjoint(inverse)).mid()
        if case.continuous:
            return array(solve_sylvester(form, right, form))
        rate = largest(abs(x).mid() for x in form.eig(algorithm="approx")) ** 2
        if not rate < 1:
            return None
        return array(solve_stein(form, right, form, rate))

    value = solve(matrix(E), matrix(A))
    moved = [solve(*pair) for pair in near]
    if value is None or any(x is None for x in moved):
        return
    level = derivative(value, moved) * (100 * n) + norm_of(value) * (100 * n * EPS)
    # What stands in E⁻¹ is solved for twice.
    inverse = matrix(E).inv().mid()
    level = level + frobenius(inverse) ** 2 * frobenius(matrix(Q)) * (10 * n * EPS)
    case.close(found, value, level, "X")


# --- minimal systems, and responses -----------------------------------------------------------


@check
def minimal_realization(case):
    sys = case.sys
    found = case.call(lti.minimal_realization, sys)
    if not 0 <= found.order <= sys.order:
        raise Wrong(f"order {found.order} of {sys.order}")
    eps = EPS_SINGLE if case.single else EPS
    # Couplings below 16 n eps are dropped, for each step of the staircase.
    rounding = 16 * max(sys.order, 1) * eps if found.order < sys.order else 0.0
    for index, entry in zip(case.indices, case.entries, strict=True):
        other = Given.of(found.system, index)
        for z in points(case, entry.exact.rate, float(entry.exact.radius), 2):
            if case.continuous and entry.exact.gap < 0:
                z = z - entry.exact.gap * entry.exact.rate * 2
            value, own = measured(entry, lambda s, z=z: s.transfer(z), case.effort)
            _, moved = measured(other, lambda s, z=z: s.transfer(z), case.effort)
            A, B, C = entry.exact.moderate
            R = (identity(A.nrows()) * z - A).inv()
            terms = frobenius(C * R) * frobenius(B) + frobenius(C) * frobenius(R * B)
            terms += frobenius(C * R) * frobenius(R * B) * frobenius(A)
            level = (own + moved) * (eps / EPS) + terms * (10 * case.effort * rounding)
            level = level + norm_of(value) * (case.stated + 10 * case.effort * eps)
            if case.said("the response"):
                continue
            close_quotients(case, other.exact.transfer(z), value, level, "minimal realization")


@check
def systems_of_impulse_responses(case):
    """Of a system of n states, by so many: its error is reported, and is that of rounding."""
    if case.continuous:
        return
    rng = case.rng
    n, m, p = (int(rng.integers(1, 4)) for _ in range(3))
    recipe = replace(
        draws.draw_recipe(rng, largest=3), order=n, inputs=m, outputs=p, batch=(), speed=None,
        dtype=case.draw.recipe.dtype, spectrum="plain", units="none", coupling="full",
        structure=str(rng.choice(["rotation with real poles", "real diagonal", "dense"])),
    )  # fmt: skip
    sys = draws.build(rng, recipe).sys
    h = case.call(lti.impulse_response, sys, 60)
    found = case.call(lti.from_impulse_response, h, order=sys.order)
    exact = [matrix(x) for x in h]
    answer = Given.of(found.system).exact.markov(len(h))
    square, size = ZERO, ZERO
    for x, y in zip(exact, answer, strict=True):
        square += frobenius(array(x) - y) ** 2
        size += frobenius(x) ** 2
    error, size = square.sqrt(), size.sqrt()
    eps = EPS_SINGLE if case.single else EPS
    if abs(arb(float(found.h2_error)) - error) > size * (100 * eps * (n + m + p)) + error * 1e-6:
        raise Wrong(f"h2_error {found.h2_error!r}, exact {short(error)}, size {short(size)}")
    values = Given.of(sys).exact.hankel_values
    spread = values[0] / values[-1] if values[-1] > 0 else arb(1e300)
    gap = max(float(Given.of(sys).exact.gap), 1e-17)
    allowed = size * spread * (1e3 * eps * (n + m + p) / gap)
    if found.order == sys.order and spread * eps * 1e3 < 1 and error > allowed:
        raise Wrong(f"off by {short(error)} of {short(size)}, allowed {short(allowed)}")


# --- poles and zeros ---------------------------------------------------------------------------


@check
def sampled_poles_and_zeros(case):
    """method="matched": poles e^{pΔ}, zeros e^{zΔ} and the response at rest."""
    recipe, sys = case.draw.recipe, case.sys
    # Poles and zeros that meet move by roots of the rounding, which no derivative tells; zeros are
    # known to some eps ‖A‖, which is much beside poles of 1e-15 of it.
    apart = recipe.structure not in ("non-normal", "Jordan", "companion", "shift register")
    clear = apart and (recipe.units, recipe.coupling, recipe.batch) == ("none", "full", ())
    plain = recipe.spectrum in ("plain", "marginal") and 0 < sys.order <= 4
    if not (case.continuous and clear and plain):
        return
    one = lti.LTI(sys.A, sys.B[:, :1], sys.C[:1], None if sys.D is None else sys.D[:1, :1], dt=0)
    given = Given.of(one)
    step = time_step(case, [0.1, 0.5])
    CB = given.exact.C * given.exact.B
    if one.D is None and abs(CB[0, 0]) < frobenius(given.exact.C) * frobenius(given.exact.B) * 1e-3:
        return  # a zero far away
    found = case.call(lti.discretize, one, step=step, method="matched")
    again = Given.of(found)
    for _ in range(3):
        z = acb(0, case.rng.uniform(-3, 3)).exp() * case.rng.uniform(1.2, 2)

        def response(s, z=z):
            return np.array([[_matched(s, step, z)]], dtype=object)

        value, own = measured(given, response, case.effort)
        _, moved = measured(again, lambda s, z=z: s.transfer(z), case.effort)
        if case.single:
            moved = moved * (EPS_SINGLE / EPS)
        level = own + moved + absolute(value) * (100 * EPS * case.effort)
        close_quotients(case, again.exact.transfer(z), value, level, "matched")


def _matched(s, step, z):
    """k' Π(z − e^{zΔ})/Π(z − e^{pΔ}) by the numerator det(sI − A + BC) − (1 − D) det(sI − A)."""
    A, B, C = s.moderate
    own, fed = A.charpoly(), (A - B * C).charpoly()
    feedthrough = s.D[0, 0]
    count = s.order
    numerator = [(fed[k] - own[k] + feedthrough * own[k]).mid() for k in range(count + 1)]
    while numerator and not abs(numerator[-1]) > arb(2) ** -200 * abs(numerator[0]).max(
        arb(2) ** -200
    ):
        numerator.pop()
    zeros = _roots_of(numerator)
    delta, value = arb(step), number(numerator[-1])
    for x, sign in [*((x, 1) for x in zeros), *((x, -1) for x in s.spectrum)]:
        E = (x * delta).exp()
        factor = (z - E) / ((E - 1) / x if abs(x) > 0 else acb(delta))
        value = value * factor if sign > 0 else value / factor
    return value.mid()


def _roots_of(coefficients):
    if len(coefficients) < 2:
        return []
    n = len(coefficients) - 1
    companion = acb_mat(n, n)
    for i in range(1, n):
        companion[i, i - 1] = 1
    for i in range(n):
        companion[i, n - 1] = (-coefficients[i] / coefficients[n]).mid()
    return [x.mid() for x in companion.eig(algorithm="approx")]


@check
def to_continuous(case):
    """The inverse of sampling."""
    recipe, sys = case.draw.recipe, case.sys
    method = str(case.rng.choice(["zoh", "foh", "bilinear"]))
    step = float(case.rng.choice([1e-6, 0.3, 2.0]))
    # Poles at 0 and on the negative real axis have no logarithm, next to them a large one.
    clear = recipe.spectrum in ("plain", "marginal", "repeated", "clustered")
    if case.continuous or case.single or not clear or recipe.structure == "shift register":
        return
    found = case.call(lti.to_continuous, sys, method, step=step)
    compare_samples(case, found, sys, lambda s: _restored(s, step, method), 0.0, method)


def _restored(s, step, method):
    A, B, C = s.moderate
    eye, n, delta = identity(s.order), s.order, acb(arb(step))
    if method == "bilinear":
        M = (A + eye).inv().mid()
        return in_units(
            s, M * (A - eye) * (2 / delta), M * B * (2 / delta), C * M * 2, s.D - C * M * B
        )
    if n == 0:
        return in_units(s, A, B, C, s.D)
    log = logarithm(A)
    _, once, twice = phi(replace(s, A=log, unit=(0,) * n), 1.0)
    mean = once.inv().mid()
    if method == "zoh":
        return in_units(s, log * (1 / delta), mean * B * (1 / delta), C, s.D)
    held = (mean * mean * B).mid()
    return in_units(s, log * (1 / delta), held * (1 / delta), C, s.D - C * twice * held)


@check
def sparse_systems(case):
    """A as a matrix of SciPy: by factors of low rank, in the states given."""
    recipe, sys = case.draw.recipe, case.sys
    plain = recipe.units in ("none", "signals") and recipe.spectrum not in ("edge", "outside")
    if case.single or recipe.batch or not plain or sys.order == 0:
        return
    dense = sys.to_dense()
    D = None if case.continuous else sys.D
    sparse = lti.LTI(lti.Sparse(scipy.sparse.csc_array(dense.A)), sys.B, sys.C, D, dt=sys.dt)
    given = Given.of(lti.LTI(dense.A, sys.B, sys.C, D, dt=sys.dt))
    omega = float(case.rng.uniform(0.1, 3)) * 2.0 ** (recipe.speed or 0)
    z = acb(0, arb(omega)) if case.continuous else acb(0, arb(omega)).exp()
    H = case.call(lti.frequency_response, sparse, np.array([omega]))[0]
    value, own = measured(given, lambda s: s.transfer(z), case.effort)
    case.close(H, value, own + norm_of(value) * (10 * case.effort * EPS), "H")
    sigma = case.call(lti.hankel_singular_values, sparse)
    if not given.exact.stable:
        raise Wrong(f"accepted poles {float(given.exact.gap):.3g} from the boundary")
    # Sweeps end where one adds less than eps to the trace of a Gramian; poles are not balanced.
    values, own = measured(given, lambda s: s.hankel_values, case.effort)
    size = (given.exact.P.trace().real * given.exact.Q.trace().real).sqrt()
    case.close(sigma, values, [x + size * (1e3 * case.effort * EPS) for x in own], "σ")
    norm = case.call(lti.h2_norm, sparse)
    value, own = measured(given, lambda s: s.squared_h2.sqrt().mid(), case.effort)
    P = given.exact.P.trace().real.sqrt()
    direct = frobenius(given.exact.C) * P + frobenius(given.exact.D)
    case.close(norm, value, own + direct * (1e3 * case.effort * EPS), "h2 norm")


@check
def hankel_sum_over_a_horizon_and_gradient(case):
    """In both times: ⟨g, dx⟩ along a random direction."""
    if case.sys.order > 5 or case.draw.recipe.units not in ("none", "signals") or case.single:
        return
    horizon = drawn_horizon(case, [2, 5])
    found, gradient = case.call(lti.hankel_sum_and_gradient, case.sys, horizon=horizon)
    for index, entry in zip(case.indices, case.entries, strict=True):

        def values(s):
            P, Q = s.gramians_over(horizon)
            return hankel_values(P, Q, balancing_scale(P, Q, s.unit, s.blocks))

        value, own = measured(entry, lambda s: sum(values(s), ZERO), case.effort)
        P, Q = entry.exact.gramians_over(horizon)
        scale = balancing_scale(P, Q, entry.exact.unit, entry.blocks)
        size, sigma = balanced_sizes(P, Q, scale) * 3, values(entry.exact)
        # Of formed Gramians, as those of the sum over all time.
        lost = [size**2 / x if x > size * 1e-8 else size * 1e8 for x in sigma]
        level = sum(lost, ZERO) * (1e-15 * case.effort)
        case.close(found[index], value, own + level, "sum over a horizon")
        if any(x < size * 1e-3 for x in sigma) or not sigma:
            continue
        check_direction(
            case, entry, index, gradient, "a sum over a horizon", lambda s: sum(values(s), ZERO)
        )
