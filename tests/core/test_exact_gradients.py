"""Gradients of Hankel sums against differences of 100-digit sums."""

import mpmath
import numpy as np
import pytest
from oracles import EPS, hankel_values_by_mpmath, inner

import lticore as lti
from lticore.systems.structure import parameters

DIGITS, STEP = 100, mpmath.mpf(10) ** -45
FUNCTIONS = {
    "nuclear": ("nuclear", sum),
    "log": ("log", lambda sigma: sum(mpmath.log(1 + s) for s in sigma)),
    "schatten(1/2)": (lti.schatten(0.5), lambda sigma: sum(map(mpmath.sqrt, sigma))),
    "schatten(2)": (lti.schatten(2), lambda sigma: sum(s * s for s in sigma)),
    "tail(6)": (lti.tail(6), lambda sigma: sum(sigma[6:])),
}


def exact(x):
    """An array as nested lists of mpmath numbers."""
    return np.vectorize(mpmath.mpmathify, otypes=[object])(x)


def exact_dense(A, arrays):
    """The matrix of A's structure with other parameters, in many digits."""
    if isinstance(A, lti.Diagonal):
        return mpmath.diag(arrays[0].tolist())
    if isinstance(A, lti.Rotation | lti.Oscillation):
        first, second, real_poles = arrays
        matrix = mpmath.zeros(A.order)
        for i, (x, y) in enumerate(zip(first, second, strict=True)):
            j = 2 * i
            if isinstance(A, lti.Rotation):
                x, y = x * mpmath.cos(y), x * mpmath.sin(y)
            else:
                x = -x
            matrix[j, j] = matrix[j + 1, j + 1] = x
            matrix[j, j + 1], matrix[j + 1, j] = y, -y
        for i, pole in enumerate(real_poles):
            matrix[2 * len(first) + i, 2 * len(first) + i] = pole
        return matrix
    return mpmath.matrix(arrays[0].tolist())


def exact_sum(sys, arrays, phi, horizon=None):
    *A, B, C = arrays
    matrices = exact_dense(sys.A, A), mpmath.matrix(B.tolist()), mpmath.matrix(C.tolist())
    if sys.is_continuous:
        return phi(hankel_values_over_time(*matrices, horizon))
    return phi(hankel_values_by_mpmath(*matrices, digits=DIGITS, exact=True))


def hankel_values_over_time(A, B, C, horizon):
    """Those of the integrals over a horizon, by Van Loan's exponential of a matrix twice as large:
    of [[−A, W], [0, Aᴴ]] t the blocks [·, G; 0, F] with ∫ e^{At} W e^{Aᴴt} dt = Fᴴ G."""

    def gramian(A, W):
        n = A.rows
        both = mpmath.zeros(2 * n)
        both[:n, :n], both[:n, n:], both[n:, n:] = -A, W, A.H
        E = mpmath.expm(horizon * both, method="taylor")
        return E[n:, n:].H * E[:n, n:]

    squares = mpmath.eig(gramian(A, B * B.H) * gramian(A.H, C.H * C), left=False, right=False)
    return sorted((mpmath.sqrt(abs(x)) for x in squares), reverse=True)


def assert_exact(sys, name, tolerance=1e-6, horizon=None):
    """Every array's gradient along one random direction; errors relative to |g||dx|."""
    function, phi = FUNCTIONS[name]
    value, gradient = lti.hankel_sum_and_gradient(sys, function, horizon=horizon)
    rng = np.random.default_rng(0)
    with mpmath.workdps(DIGITS):
        arrays = [exact(x) for x in (*parameters(sys.A), sys.B, sys.C)]
        assert abs(value / float(exact_sum(sys, arrays, phi, horizon)) - 1) <= tolerance
        for position, g in enumerate((*gradient.A, gradient.B, gradient.C)):
            direction = rng.standard_normal(g.shape)
            if np.iscomplexobj(g):
                direction = direction + 1j * rng.standard_normal(g.shape)

            def moved(sign, position=position, direction=direction):
                changed = arrays[position] + sign * STEP * exact(direction)
                others = [*arrays[:position], changed, *arrays[position + 1 :]]
                return exact_sum(sys, others, phi, horizon)

            slope = float((moved(1) - moved(-1)) / (2 * STEP))
            scale = np.linalg.norm(g) * np.linalg.norm(direction)
            assert abs(inner(g, direction) - slope) <= tolerance * scale


def clustered(order):
    """Poles so close to each other that values fall by a factor of 100 from one to the next."""
    gap = np.geomspace(0.02, 0.4, order)
    return gap, np.random.default_rng(order)


def clustered_diagonal(order, inputs=1):
    gap, rng = clustered(order)
    B, C = rng.standard_normal((order, inputs)), rng.standard_normal((inputs, order))
    return lti.LTI(lti.Diagonal((1 - gap) * np.exp(0.2j * gap)), B, C)


def clustered_rotation():
    gap, rng = clustered(3)
    A = lti.Rotation(1 - gap, 0.5 * gap, np.array([0.9, -0.5]))
    return lti.LTI(A, rng.standard_normal((8, 2)), rng.standard_normal((1, 8)))


def dense():
    sys = clustered_rotation()
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    return lti.LTI(turn @ sys.A.to_dense() @ turn.T, turn @ sys.B, sys.C @ turn.T)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("make", [clustered_rotation, dense])
def test_real_structures(make, name):
    assert_exact(make(), name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_diagonal(name):
    assert_exact(clustered_diagonal(7, inputs=2), name)


# --- over continuous horizons -------------------------------------------------------------------


def in_continuous_time(kind, growth=0.0):
    """Poles from −2 to −0.1, moved to the right by ``growth``, a double one among them."""
    rng = np.random.default_rng(21)
    real = np.array([-0.5, -2.0]) + growth
    A = {
        "real diagonal": lambda: lti.Diagonal(np.array([-0.1, -0.5, -0.5, -1, -2]) + growth),
        "complex diagonal": lambda: lti.Diagonal(
            np.array([-0.1, -0.5 + 1j, -0.5 + 1j, -1 - 2j, -2]) + growth
        ),
        "oscillation": lambda: lti.Oscillation([0.1 - growth, 1 - growth], [3.0, 0.5], real),
        "rotation": lambda: lti.Rotation([0.5, 2.0], [2.0, 3.0], real),
        "dense": lambda: rng.standard_normal((5, 5)) - (2 - growth) * np.eye(5),
        "complex dense": lambda: (
            rng.standard_normal((5, 5, 2)) @ [1, 1j] - (3 - growth) * np.eye(5)
        ),
    }[kind]()
    n = A.order if hasattr(A, "order") else 5
    return lti.LTI(A, rng.standard_normal((n, 2)), rng.standard_normal((3, n)), dt=0)


CONTINUOUS = (
    "real diagonal",
    "complex diagonal",
    "oscillation",
    "rotation",
    "dense",
    "complex dense",
)


@pytest.mark.parametrize(
    ("kind", "horizon"),
    [*((kind, 1.7) for kind in CONTINUOUS), ("oscillation", 0.01), ("dense", 0.01), ("dense", 40)],
)
def test_horizons_in_continuous_time(kind, horizon):
    # Over a short time states are alike: σ_5 is 1e-8 of σ_1, and squares are smooth.
    assert_exact(in_continuous_time(kind), "schatten(2)", 1e-9, horizon)


@pytest.mark.parametrize(("kind", "name"), [("complex diagonal", "nuclear"), ("dense", "log")])
def test_functions_over_horizons_in_continuous_time(kind, name):
    assert_exact(in_continuous_time(kind), name, 1e-8, 3.0)


@pytest.mark.parametrize("kind", ["real diagonal", "dense"])
def test_horizons_of_growing_systems(kind):
    assert_exact(in_continuous_time(kind, growth=2.5), "schatten(2)", 1e-9, 2.0)


@pytest.mark.parametrize("exponent", [-200, 200])
def test_horizons_in_any_unit_of_time(exponent):
    """A, B and C in another one, powers of two, with the horizon: the same sum and the gradients in
    that unit, to rounding."""
    sys, unit = in_continuous_time("dense"), 2.0**exponent
    other = lti.LTI(sys.A * unit**2, sys.B * unit, sys.C * unit, dt=0)
    value, gradient = lti.hankel_sum_and_gradient(sys, horizon=3.0)
    same, moved = lti.hankel_sum_and_gradient(other, horizon=3.0 / unit**2)
    assert same == pytest.approx(value, rel=1e-13)
    pairs = zip((*gradient.A, gradient.B, gradient.C), (*moved.A, moved.B, moved.C), strict=True)
    for (g, h), size in zip(pairs, (unit**2, unit, unit), strict=True):
        np.testing.assert_allclose(h * size, g, rtol=0, atol=1e-12 * np.abs(g).max())


def test_batches_over_horizons_in_continuous_time():
    """Entries of different speeds, each as for itself."""
    one, other = in_continuous_time("dense"), in_continuous_time("dense", growth=1.0)
    speed = np.array([1.0, 1e-9, 300.0])
    A = np.stack([one.A, other.A, one.A]) * speed[:, None, None]
    both = lti.LTI(A, np.stack([one.B, other.B, one.B]), np.stack([one.C, other.C, one.C]), dt=0)
    value, gradient = lti.hankel_sum_and_gradient(both, horizon=2.0)
    for i in range(3):
        alone, expected = lti.hankel_sum_and_gradient(both[i], horizon=2.0)
        assert value[i] == pytest.approx(alone, rel=1e-13)
        for g, h in zip((gradient.A[0], gradient.B), (expected.A[0], expected.B), strict=True):
            np.testing.assert_allclose(g[i], h, rtol=0, atol=1e-12 * np.abs(h).max())


def test_long_horizons_in_continuous_time_are_infinite_ones():
    for kind in CONTINUOUS:
        sys = in_continuous_time(kind)
        _, long = lti.hankel_sum_and_gradient(sys, lti.schatten(2), horizon=400.0)
        _, ever = lti.hankel_sum_and_gradient(sys, lti.schatten(2))
        for g, h in zip((*long.A, long.B, long.C), (*ever.A, ever.B, ever.C), strict=True):
            np.testing.assert_allclose(g, h, rtol=0, atol=1e-11 * np.abs(h).max())


def test_small_values_have_their_gradient():
    """σ_7 is 1e-5 of σ_1 here, σ_10 1e-9: nothing but their own directions is in this gradient."""
    sys = clustered_diagonal(10)
    sigma = lti.hankel_singular_values(sys)
    assert sigma[6] < 1e-5 * sigma[0]
    assert sigma[9] < 1e-8 * sigma[0]
    assert_exact(sys, "tail(6)")


def test_poles_next_to_the_circle():
    """Radii and phases are exact in a Rotation, and so is 1 − ρ."""
    rng = np.random.default_rng(4)
    A = lti.Rotation(1 - np.array([1e-9, 1e-6, 1e-3]), np.array([0.3, 1.0, 2.0]))
    sys = lti.LTI(A, rng.standard_normal((6, 2)), rng.standard_normal((2, 6)))
    # A radius has 1e18 times the gradient of its angle, which is what is left of as large terms.
    assert_exact(sys, "nuclear", tolerance=2e-5)


def test_badly_scaled_states():
    sys = clustered_rotation()
    t = 10.0 ** np.array([6, 6, -3, -3, 0, 0, 8, -7])
    assert_exact(lti.LTI(sys.A, sys.B * t[:, None], sys.C / t), "nuclear", tolerance=1e-8)


def test_squares_of_values_that_fit_though_those_of_the_signals_do_not():
    """A = 0: σ = |C B| = 1e152 and φ = σ² = 1e304, where ‖B‖‖C‖ is 2e155, whose square is infinite:
    as many digits are lost as σ is smaller, in a formed Gramian twice."""
    b, c = 1e77, np.array([1e78, -0.999e78])
    sys = lti.LTI(lti.Diagonal([0.0, 0.0]), [[b], [b]], [c])
    value, gradient = lti.hankel_sum_and_gradient(sys, lti.schatten(2))
    sigma = float(mpmath.mpf(b) * (mpmath.mpf(c[0]) + mpmath.mpf(c[1])))
    rounding = 100 * EPS * (b * abs(c).sum() / sigma) ** 2
    assert value == pytest.approx(sigma**2, rel=rounding)
    np.testing.assert_allclose(gradient.B, 2 * sigma * c[:, None], rtol=rounding)
    np.testing.assert_allclose(gradient.C, [[2 * sigma * b] * 2], rtol=rounding)
    # Of |C A B|², and so on, to second order only.
    np.testing.assert_allclose(gradient.A[0], 0, atol=rounding * sigma**2)
