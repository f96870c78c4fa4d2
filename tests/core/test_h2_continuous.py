"""h2-optimal reduction in continuous time.

Oracle: √(2α)/(z + 1) H(α (z − 1)/(z + 1)) takes systems to discrete time with the h2 norm and the
number of states kept. A mode c b/(s − λ) becomes the mode of the pole (α + λ)/(α − λ) with c and
√(2α) b/(α − λ), and quadratic outputs stay as they are, since P does.
"""

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss
from oracles import central_difference, inner

import lticore as lti
from lticore.equations.lyapunov import lyapunov_slopes
from lticore.reduction.h2 import modes, objective
from lticore.reduction.h2.descent import _packed, _packed_gradient, _unpacked
from lticore.reduction.h2.gauss_newton import _normal_equations
from lticore.systems.quadratic import QuadraticOutputLTI, dense_forms

FORMS = ("linear", "dense", "factors")
STRUCTURES = ("diagonal", "oscillation", "dense")
UNIT = 1.5


def make_system(rng, structure, forms="linear", n=6, m=2, p=2):
    complex_ = structure == "diagonal"

    def draw(*shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if complex_ else x

    A = lti.Oscillation(rng.uniform(0.1, 1, 2), rng.uniform(0.5, 4, 2), -rng.uniform(0.2, 3, n - 4))
    if structure == "dense":
        T = rng.standard_normal((n, n))
        A = T @ A.to_dense() @ np.linalg.inv(T)
    if complex_:
        A = lti.Diagonal(-rng.uniform(0.1, 1, n) + 1j * rng.uniform(-4, 4, n))
    B, C = draw(n, m), draw(p, n)
    if forms == "linear":
        return lti.LTI(A, B, C, dt=0)
    M = draw(p, n, n) if forms == "dense" else (draw(p, n, 2), rng.standard_normal((p, 2)))
    return QuadraticOutputLTI(A, B, C, M, dt=0)


def make_candidate(rng, r, m, pairs=None):
    def rows(k):
        return rng.standard_normal((k, m)) + 1j * rng.standard_normal((k, m))

    if pairs is None:
        poles = -rng.uniform(0.2, 2, r) + 1j * rng.uniform(-4, 4, r)
        return modes.Candidate(poles, rows(r), None)
    half, b = -rng.uniform(0.2, 2, pairs) + 1j * rng.uniform(0.5, 4, pairs), rows(pairs)
    rest, reals = rows(r - 2 * pairs).real, -rng.uniform(0.2, 2, r - 2 * pairs)
    return modes.Candidate(
        np.concatenate([half, half.conj(), reals]), np.concatenate([b, b.conj(), rest]), pairs
    )


def sampled(poles, b):
    """The pole and the inputs of a mode in discrete time."""
    return (UNIT + poles) / (UNIT - poles), np.sqrt(2 * UNIT) * b / (UNIT - poles)[:, None]


def discrete(sys):
    """The system in discrete time, in its modes."""
    target = modes.make_target(sys, None)
    poles, b = sampled(target.poles, target.b)
    A = lti.Diagonal(poles)
    if isinstance(sys, QuadraticOutputLTI):
        return QuadraticOutputLTI(A, b, target.c, dense_forms(target.M))
    return lti.LTI(A, b, target.c)


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_errors_are_those_in_discrete_time(structure, forms):
    rng = np.random.default_rng(0)
    sys = make_system(rng, structure, forms)
    target, other = modes.make_target(sys, None), modes.make_target(discrete(sys), None)
    candidate = make_candidate(rng, 3, 2)
    at = objective.project(target, candidate)
    image = objective.project(other, modes.Candidate(*sampled(candidate.poles, candidate.b), None))
    assert target.energy == pytest.approx(other.energy, rel=1e-12)
    assert at.error == pytest.approx(image.error, rel=1e-11)
    np.testing.assert_allclose(at.c, image.c, rtol=1e-9, atol=1e-9 * np.abs(at.c).max())


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("horizon", [None, 0.05, 3.0])
def test_gradient_matches_differences(forms, horizon):
    rng = np.random.default_rng(1)
    target = modes.make_target(make_system(rng, "diagonal", forms), horizon)
    start = make_candidate(rng, 3, 2)
    g_poles, g_b = objective.gradient(target, objective.project(target, start))

    def value(poles, b):
        return target.energy * objective.project(target, modes.Candidate(poles, b, None)).error

    directions = [
        rng.standard_normal(x.shape) + 1j * rng.standard_normal(x.shape)
        for x in (start.poles, start.b)
    ]

    def along(step):
        return value(start.poles + step * directions[0], start.b + step * directions[1])

    slope = inner(g_poles, directions[0]) + inner(g_b, directions[1])
    assert slope == pytest.approx(central_difference(along, 0.0, 1.0, 1e-5), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_gradient_in_the_coordinates_of_descent(edge):
    rng = np.random.default_rng(2)
    target = modes.make_target(make_system(rng, "oscillation"), 3.0)
    region = modes.HalfPlane(edge, 3.0)
    target = modes.Target(
        *(getattr(target, x) for x in ("A", "poles", "b", "c", "M")), target.energy, True, region
    )
    start, at = (make_candidate(rng, 5, 2, pairs=2) for _ in range(2))
    x = _packed(at, start, region)
    np.testing.assert_allclose(_unpacked(x, start, region).poles, at.poles, rtol=1e-13)
    np.testing.assert_array_equal(_unpacked(x, start, region).b, at.b)
    slope = _packed_gradient(target, objective.project(target, at), start)
    direction = rng.standard_normal(len(x))

    def along(step):
        candidate = _unpacked(x + step * direction, start, region)
        return target.energy * objective.project(target, candidate).error

    expected = central_difference(along, 0.0, 1.0, 1e-5)
    assert slope @ direction == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_normal_equations_are_integrals():
    rng = np.random.default_rng(3)
    target = modes.make_target(make_system(rng, "diagonal"), None)
    at = objective.project(target, make_candidate(rng, 2, 2))
    G, g = _normal_equations(target, at)
    poles, b, c = at.candidate.poles, at.candidate.b, at.c
    nodes, weights = leggauss(60)
    ends = np.linspace(0, 150, 301)  # e^{−0.1·150} is 3e-7, its square 1e-13
    t = (ends[:-1, None] + (nodes + 1) * (ends[1] - ends[0]) / 2).ravel()
    weight = np.tile(weights * (ends[1] - ends[0]) / 2, len(ends) - 1)
    decay = np.exp(poles[:, None] * t)
    units = np.eye(2)
    columns = [
        t * decay[j] * np.multiply.outer(np.outer(c[:, j], b[j]), np.ones_like(t)) for j in range(2)
    ]
    columns += [decay[j] * np.outer(c[:, j], e)[..., None] for j in range(2) for e in units]
    columns += [decay[j] * np.outer(e, b[j])[..., None] for j in range(2) for e in units]
    J = np.stack([x.reshape(-1, len(t)) for x in columns])
    own = np.einsum("pj,jt,jm->pmt", c, decay, b)
    full = np.einsum("pj,jt,jm->pmt", target.c, np.exp(target.poles[:, None] * t), target.b)
    residual = (own - full).reshape(-1, len(t))
    expected = np.einsum("aet,t,bet->ab", J.conj(), weight, J)
    np.testing.assert_allclose(G, expected, rtol=0, atol=1e-9 * np.abs(G).max())
    expected = -np.einsum("aet,t,et->a", J.conj(), weight, residual)
    np.testing.assert_allclose(g, expected, rtol=0, atol=1e-9 * np.abs(g).max())


def response(A, B, C, s):
    return C @ np.linalg.solve(s * np.eye(len(A)) - A, B)


def slope_of_response(A, B, C, s):
    resolvent = np.linalg.inv(s * np.eye(len(A)) - A)
    return -C @ resolvent @ resolvent @ B


@pytest.mark.parametrize("method", ["tsia", "lbfgs", "lm"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_minima_interpolate_at_mirrored_poles(structure, method):
    """Meier and Luenberger's conditions: H and Ĥ agree in −conj λ̂_i along ĉ_i and b̂_i, and their
    derivatives between both. A residual r of the gradient leaves differences of about r."""
    rng = np.random.default_rng(4)
    sys = make_system(rng, structure, n=8)
    found = lti.h2_reduction(sys, 4, method=method, starts=2)
    small = found.system
    assert found.convergence.residual < 1e-5
    assert isinstance(small.A, lti.Diagonal if structure == "diagonal" else lti.Oscillation)
    assert small.dt == 0
    assert np.all(small.poles.real < 0)
    full, modal = sys.to_dense(), modes.make_target(small, None)
    reduced = small.to_dense()
    for pole, b, c in zip(modal.poles, modal.b, modal.c.T, strict=True):
        point = -np.conj(pole)
        first, second = (response(x.A, x.B, x.C, point) for x in (full, reduced))
        slopes = [slope_of_response(x.A, x.B, x.C, point) for x in (full, reduced)]
        size = np.linalg.norm(first)
        assert np.linalg.norm((first - second) @ b.conj()) <= 1e-4 * size * np.linalg.norm(b)
        assert np.linalg.norm(c.conj() @ (first - second)) <= 1e-4 * size * np.linalg.norm(c)
        both = np.linalg.norm(b) * np.linalg.norm(c) * np.linalg.norm(slopes[0])
        assert abs(c.conj() @ (slopes[0] - slopes[1]) @ b.conj()) <= 1e-4 * both


@pytest.mark.parametrize("method", ["tsia", "lbfgs", "lm"])
def test_minima_are_those_in_discrete_time(method):
    rng = np.random.default_rng(5)
    sys = make_system(rng, "oscillation", n=8)
    found = lti.h2_reduction(sys, 3, method=method, starts=6)
    image = lti.h2_reduction(discrete(sys), 3, method=method, starts=6)
    assert found.h2_error == pytest.approx(image.h2_error, rel=1e-6)


def test_units_of_time_do_not_matter():
    rng = np.random.default_rng(6)
    sys = make_system(rng, "oscillation", n=8)
    k = 2.0**40
    A = lti.Oscillation(k * sys.A.decay, k * sys.A.frequency, k * sys.A.real_poles)
    fast = lti.LTI(A, k * sys.B, sys.C, dt=0)
    slow, quick = (lti.h2_reduction(x, 3, starts=2) for x in (sys, fast))
    assert quick.h2_error == pytest.approx(np.sqrt(k) * slow.h2_error, rel=1e-9)


def test_slow_and_fast_modes_together():
    """Two systems of four states a factor 1e6 apart in time, each reduced as if alone."""
    rng = np.random.default_rng(7)
    parts = [make_system(rng, "oscillation", n=4, m=1, p=1) for _ in range(2)]
    k = 1e6
    fast = lti.LTI(
        lti.Oscillation(k * parts[1].A.decay, k * parts[1].A.frequency),
        np.sqrt(k) * parts[1].B,
        parts[1].C,
        dt=0,
    )
    found = lti.h2_reduction(parts[0] + fast, 4, starts=8)
    alone = [lti.h2_reduction(x, 2, starts=8).h2_error for x in parts]
    # The systems are orthogonal up to the ratio of their rates.
    assert found.h2_error <= np.hypot(*alone) * (1 + 1e-3)


@pytest.mark.parametrize("method", ["tsia", "lbfgs"])
def test_finite_horizons(method):
    rng = np.random.default_rng(8)
    sys = make_system(rng, "oscillation", n=8)
    limited, unlimited = (
        lti.h2_reduction(sys, 3, horizon=T, method=method, starts=4) for T in (1.5, None)
    )
    errors = [lti.h2_error(sys, r.system, horizon=1.5) for r in (limited, unlimited)]
    assert errors[0] < errors[1]
    assert limited.h2_error == pytest.approx(errors[0])
    long = lti.h2_reduction(sys, 3, horizon=400.0, method=method, starts=4)
    assert long.h2_error == pytest.approx(unlimited.h2_error, rel=1e-6)


def test_slopes_of_fast_poles_over_long_horizons():
    """∫ t e^{wt} dt is 1/w², also where (wT)² is no number."""
    A = lti.Diagonal(np.array([-1e60]))
    np.testing.assert_allclose(lyapunov_slopes(A, A, 1e100), [[0.25e-120]], rtol=1e-14)


def test_unstable_systems():
    A = lti.Diagonal([0.3, -1.0, -2.0])
    sys = lti.LTI(A, np.ones((3, 1)), np.ones((1, 3)), np.ones((1, 1)), dt=0)
    with pytest.raises(lti.UnstableSystemError, match="horizon"):
        lti.h2_reduction(sys, 1)
    T = 10.0
    found = lti.h2_reduction(sys, 1, horizon=T)
    assert abs(found.system.poles[0].real - 0.3) < 1 / T
    rest = lti.LTI(lti.Diagonal([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
    assert found.h2_error <= lti.h2_norm(rest, horizon=T)
    np.testing.assert_array_equal(found.system.D, sys.D)


# --- without eigenvectors ---------------------------------------------------------------------


def chain(continuous, n=5, speed=0.5):
    """n equal poles in a chain: 1/(s + a)^n, or 1/(z − a)^n."""
    A = np.diag(np.full(n, -speed if continuous else speed)) + np.diag(np.ones(n - 1), -1)
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[0], C[0, -1] = 1, 1
    return lti.LTI(A, B, C, dt=0 if continuous else True)


@pytest.mark.parametrize("method", ["tsia", "lbfgs", "lm"])
@pytest.mark.parametrize("continuous", [True, False])
def test_repeated_poles_without_eigenvectors(continuous, method):
    """Against the same chain with poles that are 1e-3 apart, which has eigenvectors: the minimum
    moves with the square of that."""
    sys = chain(continuous)
    spread = 1e-3 * (np.arange(5) - 2)
    nearby = lti.LTI(sys.A + np.diag(spread), sys.B, sys.C, dt=sys.dt)
    found, expected = (lti.h2_reduction(x, 2, method=method, starts=3) for x in (sys, nearby))
    assert found.h2_error == pytest.approx(expected.h2_error, rel=1e-4)
    assert found.convergence.residual < 1e-5
    assert min(found.history) * lti.h2_norm(sys) ** 2 == pytest.approx(found.h2_error**2, rel=1e-9)


@pytest.mark.parametrize("forms", FORMS)
@pytest.mark.parametrize("continuous", [True, False])
def test_schur_forms_give_the_errors_and_gradients_of_modes(continuous, forms):
    rng = np.random.default_rng(9)
    sys = make_system(rng, "dense", forms)
    if not continuous:
        sys = (
            lti.LTI(0.3 * sys.A / np.abs(np.linalg.eigvals(sys.A)).max(), sys.B, sys.C)
            if (forms == "linear")
            else QuadraticOutputLTI(
                0.3 * sys.A / np.abs(np.linalg.eigvals(sys.A)).max(), sys.B, sys.C, sys.M
            )
        )
    modal = modes.make_target(sys, None)
    schur = modes.triangular_target(sys, np.ones((sys.order, 1)), modal.real)
    candidate = make_candidate(rng, 3, 2)
    if not continuous:
        poles = candidate.poles / (1 + np.abs(candidate.poles))
        candidate = modes.Candidate(poles, candidate.b, None)
    first, second = (objective.project(target, candidate) for target in (modal, schur))
    assert schur.energy == pytest.approx(modal.energy, rel=1e-11)
    assert second.error == pytest.approx(first.error, rel=1e-9, abs=1e-13)
    for g, expected in zip(
        objective.gradient(schur, second), objective.gradient(modal, first), strict=True
    ):
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_delays_are_reduced():
    """z⁻⁴, all poles 0: of a x⁺ = λ x + u, y = c x only λ → 1 gains, and with |λ| < 1 the best
    c λ³ gives (1 − λ²) λ⁶ of the energy 1."""
    A = np.diag(np.ones(3), -1)
    B, C = np.eye(4)[:, :1], np.eye(4)[3:]
    found = lti.h2_reduction(lti.LTI(A, B, C), 1, starts=8)
    radius = np.sqrt(3 / 4)
    assert abs(found.system.poles[0]) == pytest.approx(radius, rel=1e-6)
    assert found.h2_error == pytest.approx(np.sqrt(1 - (1 - radius**2) * radius**6), rel=1e-10)


def test_horizons_need_eigenvectors():
    with pytest.raises(lti.ArgumentError, match="defective"):
        lti.h2_reduction(chain(True), 2, horizon=3.0)
