"""Sums over a horizon of dense non-normal matrices, as good as their rounding allows.

A is A + E, ‖E‖_F of a few eps ‖A‖_F, after any backward stable transformation. What such an E does
to a result is found by adding some, in sixty digits; squares of A in its own states round by
eps ‖A‖², which does thousands of times more.
"""

import math
from functools import partial

import mpmath
import numpy as np
import pytest
import scipy.linalg

import lticore as lti

EPS = np.finfo(float).eps
HORIZON = 30
#: Random E of ‖E‖_F = eps ‖A‖_F, of which the worst is meant, and what may be worse: Schur forms
#: of order n = 8 leave some eps, and the worst direction of n² counts up to n times more.
PROBES, WORSE = 6, 40


@pytest.fixture(autouse=True)
def sixty_digits():
    with mpmath.workdps(60):
        yield


def exact(X):
    return np.vectorize(mpmath.mpf, otypes=[object])(X)


def powers(A, F):
    """Σ_k … over the horizon is over k of these: A^k F."""
    terms = [F]
    for _ in range(HORIZON - 1):
        terms.append(A @ terms[-1])
    return np.stack(terms)


def gramian(A, F):
    return sum(X @ X.T for X in powers(A, F))


def hankel_values(A, B, C):
    squares = gramian(A, B) @ gramian(A.T, C.T)
    found = mpmath.eig(mpmath.matrix(squares.tolist()), left=False, right=False)
    return np.array(sorted((mpmath.sqrt(abs(x)) for x in found), reverse=True))


def h2_norm(A, B, C):
    return np.array([mpmath.sqrt(((C @ powers(A, B)) ** 2).sum())])


def size(X):
    return mpmath.sqrt((np.asarray(X) ** 2).sum())


def share(X, expected):
    return size(X - expected) / size(expected)


def allowed(function, A, *rest):
    """(exact value, allowed relative error) of function(A, …) with all in sixty digits."""
    rng = np.random.default_rng(1)
    A, rest = exact(A), [exact(X) for X in rest]
    expected, worst = function(A, *rest), 0
    for _ in range(PROBES):
        E = exact(rng.standard_normal(A.shape))
        moved = function(A + EPS * size(A) / size(E) * E, *rest)
        worst = max(worst, share(moved, expected))
    return expected, WORSE * worst


def check(found, function, *arrays):
    expected, tolerance = allowed(function, *arrays)
    assert share(exact(found), expected) <= tolerance < 1e-5


def non_normal(seed, n=8, radius=1.1):
    """Poles within the radius, some outside the circle, behind couplings of about 10."""
    rng = np.random.default_rng(seed)
    T = np.triu(10 * rng.standard_normal((n, n)), 1) + np.diag(rng.uniform(-radius, radius, n))
    U = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return lti.LTI(U @ T @ U.T, rng.standard_normal((n, 2)), rng.standard_normal((3, n)))


SEEDS = (0, 1)


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_gramians(seed):
    sys = non_normal(seed)
    check(lti.controllability_gramian(sys, horizon=HORIZON), gramian, sys.A, sys.B)
    Q = lti.observability_gramian(sys, horizon=HORIZON)
    check(Q, lambda A, C: gramian(A.T, C.T), sys.A, sys.C)
    R, S = lti.gramian_factors(sys, horizon=HORIZON)
    check(R @ R.T, gramian, sys.A, sys.B)
    check(S @ S.T, lambda A, C: gramian(A.T, C.T), sys.A, sys.C)


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_equations(seed):
    sys, other = non_normal(seed), non_normal(seed + 10, n=5)
    Q = sys.B @ other.B.T

    def total(A, B):
        of_B = powers(B, exact(np.eye(5)))
        return sum(X @ Y.T for X, Y in zip(powers(A, exact(Q)), of_B, strict=True))

    X = lti.solve_stein(sys.A, Q, other.A, horizon=HORIZON)
    expected, of_A = allowed(total, sys.A, other.A)
    _, of_B = allowed(lambda B, A: total(A, B), other.A, sys.A)
    assert share(exact(X), expected) <= of_A + of_B < 1e-5


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_values_and_norms(seed):
    sys = non_normal(seed)
    arrays = sys.A, sys.B, sys.C
    check(lti.hankel_singular_values(sys, horizon=HORIZON), hankel_values, *arrays)
    check(lti.h2_norm(sys, horizon=HORIZON), h2_norm, *arrays)


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_errors(structure):
    sys = non_normal(2)
    other = non_normal(12, n=5, radius=0.9)
    if structure == "diagonal":
        other = lti.LTI(lti.Diagonal(np.linspace(-0.9, 0.9, 5)), other.B, other.C)
    A, B, C = other.A if structure == "dense" else other.A.to_dense(), other.B, other.C
    reduced = [exact(X) for X in (A, B, C)]

    def error(A, B, C):
        difference = C @ powers(A, B) - reduced[2] @ powers(reduced[0], reduced[1])
        return np.array([mpmath.sqrt((difference**2).sum())])

    check(lti.h2_error(sys, other, horizon=HORIZON), error, sys.A, sys.B, sys.C)


@pytest.mark.filterwarnings("ignore::lticore.PrecisionWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients(seed):
    """Along random directions, by central differences with steps of 1e-20."""
    sys = non_normal(seed)
    value, g = lti.hankel_sum_and_gradient(sys, horizon=HORIZON)
    rng = np.random.default_rng(seed)
    steps = [exact(rng.standard_normal(X.shape)) for X in (sys.A, sys.B, sys.C)]
    h = mpmath.mpf(10) ** -20

    def slope(A, B, C):
        ends = [
            [X + sign * h * d for X, d in zip((A, B, C), steps, strict=True)] for sign in (1, -1)
        ]
        above, below = (hankel_values(*end).sum() for end in ends)
        return np.array([(above - below) / (2 * h)])

    def total(*arrays):
        return np.array([hankel_values(*arrays).sum()])

    found = sum((exact(x) * d).sum() for x, d in zip((*g.A, g.B, g.C), steps, strict=True))
    check(value, total, sys.A, sys.B, sys.C)
    check(found, slope, sys.A, sys.B, sys.C)


def test_quadratic_outputs():
    sys = non_normal(3)
    M = np.stack([np.diag(np.arange(8.0)), np.ones((8, 8))])
    quadratic = lti.QuadraticOutputLTI(sys.A, sys.B, sys.C[:2], M)

    def observability(A, B, C):
        P = gramian(A, B)
        root = C.T @ C + sum(exact(form) @ P @ exact(form) for form in M)
        return sum(X @ root @ X.T for X in powers(A.T, exact(np.eye(8))))

    Q = lti.observability_gramian(quadratic, horizon=HORIZON)
    check(Q, observability, sys.A, sys.B, sys.C[:2])


def test_units_of_the_states_do_not_matter():
    sys = non_normal(0)
    units = 2.0 ** np.array([0, 90, -70, 30, 0, -100, 60, 10])
    other = lti.LTI(sys.A * units / units[:, None], sys.B / units[:, None], sys.C * units)
    for one in (sys, other):
        check(lti.h2_norm(one, horizon=HORIZON), h2_norm, sys.A, sys.B, sys.C)
        values = lti.hankel_singular_values(one, horizon=HORIZON)
        check(values, hankel_values, sys.A, sys.B, sys.C)


def test_warnings_say_what_rounding_does():
    """The last of a chain of states is driven and seen alone, up to eps ‖A‖ that the whole chain
    amplifies by 6^11."""
    A = np.diag(np.full(12, 1.2)) + np.eye(12, k=1) * 6
    U = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    sys = lti.LTI(U @ A @ U.T, U[:, :1], U[:, :1].T)
    for function in (
        lambda: lti.controllability_gramian(sys, horizon=40),
        lambda: lti.hankel_singular_values(sys, horizon=40),
        lambda: lti.h2_norm(sys, horizon=40),
        lambda: lti.solve_stein(sys.A, sys.B @ sys.B.T, horizon=40),
    ):
        with pytest.warns(lti.PrecisionWarning, match="rounding"):
            function()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_values_of_states_that_hardly_meet(order):
    """One step: σ = |C B|, of a state 2^−60 times as large as one that is not observed yet. A is
    triangular but for the order of the states, so that nothing is rounded away."""
    A = (np.eye(3) * 0.5 + np.eye(3, k=1))[np.ix_(order, order)]
    B, C = np.array([[2.0**-60], [0], [1]])[order], np.array([[1.0, 0, 0]])[:, order]
    values = lti.hankel_singular_values(lti.LTI(A, B, C), horizon=1)
    np.testing.assert_allclose(values, [2.0**-60, 0, 0], rtol=1e-14)


def test_results_that_are_only_rounding_say_so():
    """Two modes are reached and two others seen: all is zero but for the rounding of the states;
    exactly zero without inputs, or where A keeps the modes apart."""
    U = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    A, B, C = np.diag([0.5, 0.6, 0.7, 0.8]), np.eye(4)[:, :2], np.eye(4)[2:]
    for horizon in (None, 5):
        for function in (lti.hankel_singular_values, lti.h2_norm):
            with pytest.warns(lti.PrecisionWarning, match="rounding of the dense A .* of inf"):
                function(lti.LTI(U @ A @ U.T, U @ B, C @ U.T), horizon=horizon)
            for one in (lti.LTI(A, B, C), lti.LTI(U @ A @ U.T, 0 * B, C @ U.T)):
                np.testing.assert_array_equal(function(one, horizon=horizon), 0)


@pytest.mark.parametrize("horizon", [1, 2, 3, 1000])
def test_no_warning_where_rounding_does_nothing(horizon):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 6))
    for radius in (0.9, 1.02):
        sys = lti.LTI(
            A * radius / np.abs(np.linalg.eigvals(A)).max(),
            rng.standard_normal((6, 1)),
            rng.standard_normal((1, 6)),
        )
        lti.controllability_gramian(sys, horizon=horizon)
        lti.hankel_singular_values(sys, horizon=horizon)
        lti.h2_norm(sys, horizon=horizon)
        lti.hankel_sum_and_gradient(sys, horizon=horizon)
        lti.solve_stein(sys.A, sys.B @ sys.B.T, horizon=horizon)


@pytest.mark.parametrize(
    "function",
    [
        lambda sys, T: lti.controllability_gramian(sys, horizon=T),
        lambda sys, T: lti.hankel_singular_values(sys, horizon=T),
        lambda sys, T: lti.h2_norm(sys, horizon=T),
        lambda sys, T: lti.h2_error(sys, sys, horizon=T),
        lambda sys, T: lti.hankel_sum_and_gradient(sys, horizon=T),
        lambda sys, T: lti.balanced_truncation(sys, order=1, horizon=T),
        lambda sys, T: lti.solve_stein(sys.A, sys.B @ sys.B.T, horizon=T),
    ],
)
def test_what_overflows_is_refused(function):
    sys = lti.LTI(np.array([[2.0, 1.0], [0.0, 0.5]]), np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.NonFiniteError, match=r"overflow.*[tT]ake a shorter"):
        function(sys, 2000)


@pytest.mark.parametrize("dt", [True, 0])
def test_products_of_factors_that_are_numbers_may_overflow(dt):
    """R and S grow to 1e180 each in 600 steps; values were NaN, and h2_reduction asked LAPACK."""
    A = np.array([[2.0 if dt else math.log(2), 1.0], [0.0, 0.5 if dt else -0.5]])
    sys = lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)), dt=dt)
    for function in (
        lti.hankel_singular_values,
        lti.hankel_sum,
        lti.hankel_sum_and_gradient,
        lambda sys, horizon: lti.balanced_truncation(sys, order=1, horizon=horizon),
        lambda sys, horizon: lti.h2_reduction(sys, order=1, horizon=horizon),
    ):
        with pytest.raises(lti.NonFiniteError, match="take a shorter"):
            function(sys, horizon=600)
    with pytest.raises(lti.NonFiniteError, match="squares are numbers over the horizon"):
        lti.h2_reduction(sys, order=1, horizon=400)


def test_states_of_a_block_that_differ_in_size():
    """One step: ‖C B‖, where the states of the block are 1 and 1e-12 and each is seen where it is
    small, so that C P Cᵀ of a formed P is noise."""
    A = lti.Rotation(np.array([0.25]), np.array([0.3]))
    B, C = np.array([[1.5], [-5e-12]]), np.array([[2e-12, 1.1]])
    one_step = abs(2e-12 * 1.5 - 1.1 * 5e-12)
    for one in (A, lti.Diagonal(np.array([0.3, 0.2]))):
        found = lti.h2_norm(lti.LTI(one, B, C), horizon=1)
        assert found == pytest.approx(one_step, rel=1e-12)
    sys = lti.LTI(A, B, C)
    expected = np.linalg.norm(lti.impulse_response(sys, 8)[1:])
    assert lti.h2_norm(sys, horizon=7) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", [26, 276, 278, 289, 290, 298])
def test_states_of_a_block_are_balanced_together(seed):
    """Blocks that turn by half a circle and a bit, which feed some states by 9e-8 only. Values over
    a horizon are those of a Hankel matrix of Markov parameters; balanced one by one, faint states
    bring their rounding to 1e-3 of σ_1."""
    rng = np.random.default_rng(seed)
    A = lti.Rotation(rng.uniform(0.3, 0.9, 3), np.full(3, float(np.float32(np.pi))))
    B, C = np.zeros((6, 1)), np.zeros((1, 6))
    B[[1, 2, 3], 0], C[0, [1, 3, 4]] = rng.standard_normal((2, 3))
    sys, steps = lti.LTI(A, B, C), 30
    dense, x, h = A.to_dense(), B, []
    for _ in range(2 * steps):
        h.append((C @ x)[0, 0])
        x = dense @ x
    whole = scipy.linalg.svdvals(scipy.linalg.hankel(h[:steps], h[steps - 1 : -1]))
    # That of formed Gramians: some (‖R‖‖S‖)² 1e-15/σ_i.
    found = lti.hankel_singular_values(sys, horizon=steps)
    assert np.all(np.abs(found - whole[:6])[:2] <= 1e-13 * whole[0] ** 2 / whole[:2])
    value, _ = lti.hankel_sum_and_gradient(sys, horizon=steps)
    assert value == pytest.approx(whole.sum(), rel=1e-6)
    # Of a system with quadratic outputs both Gramians are formed over all time, too.
    quadratic = lti.QuadraticOutputLTI(A, B, C, np.zeros((1, 6, 6)))
    values = lti.balanced_truncation(quadratic, order=1).singular_values
    exact = lti.hankel_singular_values(sys)
    assert np.all(np.abs(values - exact)[:2] <= 1e-13 * exact[0] ** 2 / exact[:2])


@pytest.mark.parametrize("batch", [(), (2,)])
def test_one_step_of_more_signals_than_states(batch):
    """P = B Bᴴ, Q = Cᴴ C and σ those of C B, of factors that are wider than high."""
    rng = np.random.default_rng(0)
    B, C = rng.standard_normal((*batch, 2, 3)), rng.standard_normal((*batch, 4, 2))
    sys = lti.LTI(np.array([[0.5, 1.0], [0.0, 0.25]]), B, C)
    P, Q = (f(sys, horizon=1) for f in (lti.controllability_gramian, lti.observability_gramian))
    np.testing.assert_allclose(P, B @ np.swapaxes(B, -1, -2), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(Q, np.swapaxes(C, -1, -2) @ C, rtol=1e-13, atol=1e-14)
    sigma = lti.hankel_singular_values(sys, horizon=1)
    np.testing.assert_allclose(sigma, np.linalg.svd(C @ B)[1][..., :2], rtol=1e-13)
    norm = np.linalg.norm(C @ B, axis=(-2, -1))
    np.testing.assert_allclose(lti.h2_norm(sys, horizon=1), norm, rtol=1e-13)


def heat_flow(order, horizon):
    """A chain of damped states, driven at one end and seen at the other, with its P and its squared
    h2 norm from eigenvectors in closed form: A = −(2 − 2 cos θ_k) s, s = (n + 1)²/100."""
    n, scale = order, (order + 1) ** 2 / 100
    A = scale * (np.diag(np.full(n - 1, 1.0), 1) + np.diag(np.full(n - 1, 1.0), -1) - 2 * np.eye(n))
    sys = lti.LTI(A, np.eye(n, 1), np.eye(n)[-1:], dt=0)
    k = np.arange(1, n + 1)
    V = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))
    poles = -4 * scale * np.sin(np.pi * k / (2 * n + 2)) ** 2
    sums = poles[:, None] + poles
    P = V @ (np.expm1(sums * horizon) / sums * np.outer(V[0], V[0])) @ V.T
    angles = [mpmath.pi * i / (n + 1) for i in range(1, n + 1)]
    fast = [mpmath.mpf(scale) * (2 * mpmath.cos(x) - 2) for x in angles]
    gains = [2 * mpmath.sin(x) * mpmath.sin(n * x) / (n + 1) for x in angles]
    squared = mpmath.fsum(
        g * h * mpmath.expm1((a + b) * mpmath.mpf(horizon)) / (a + b)
        for a, g in zip(fast, gains, strict=True)
        for b, h in zip(fast, gains, strict=True)
    )
    return sys, P, float(mpmath.sqrt(squared))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("order", "horizon"), [(50, 1.0), (50, 100.0), (100, 2.0), (100, 10.0)])
def test_heat_flow_over_a_horizon(order, horizon):
    """In units in which the far end counts as hardly reached, A would have unstable poles by
    rounding alone: P was 4e33 for 0.01, or overflowed."""
    sys, P, norm = heat_flow(order, horizon)
    # Rounding moves P by some n eps of its largest entry; A is normal, and stays nearly so.
    bound = 20 * order * EPS * P.max()
    assert np.abs(lti.controllability_gramian(sys, horizon=horizon) - P).max() <= bound
    mirrored = P[::-1, ::-1]  # the chain looks alike from both ends
    assert np.abs(lti.observability_gramian(sys, horizon=horizon) - mirrored).max() <= bound
    found = lti.solve_lyapunov(sys.A, sys.B @ sys.B.T, horizon=horizon)
    assert np.abs(found - P).max() <= bound
    R, _ = lti.gramian_factors(sys, horizon=horizon)
    assert np.abs(R @ R.T - P).max() <= bound
    # Of what reaches the far end rounding takes its share of all that the chain takes in.
    taken = np.sqrt(np.trace(P))
    assert abs(lti.h2_norm(sys, horizon=horizon) - norm) <= 20 * order * EPS * taken


@pytest.mark.filterwarnings("error")
def test_hankel_sum_of_heat_flow_over_a_horizon():
    """Gradients of sums have units of their own. The sum is linear in B, and in C."""
    sys, _, _ = heat_flow(50, 100.0)
    value, gradient = lti.hankel_sum_and_gradient(sys, horizon=100.0)
    np.testing.assert_allclose(value, lti.hankel_sum(sys, horizon=100.0), rtol=1e-6)
    np.testing.assert_allclose(np.sum(gradient.B * sys.B), value, rtol=1e-6)
    np.testing.assert_allclose(np.sum(gradient.C * sys.C), value, rtol=1e-6)


def mirrored_sum(order, horizon, driven, scale=1, shift=0):
    """Σ σ of the heat flow with A ← scale · A + shift · I, B = driven and C its mirror image, of
    whose Gramians Q is P seen from the other end: with P = L Lᵀ and the mirror J the values are
    those of the symmetric Lᵀ J L."""
    n, T = order, mpmath.mpf(horizon)
    rate = mpmath.mpf((n + 1) ** 2 / 100) * scale
    angles = [mpmath.pi * k / (n + 1) for k in range(1, n + 1)]
    poles = [rate * (2 * mpmath.cos(x) - 2) + shift for x in angles]
    root = mpmath.sqrt(mpmath.mpf(2) / (n + 1))
    V = mpmath.matrix([[root * mpmath.sin(x * (i + 1)) for x in angles] for i in range(n)])
    b = V.T * mpmath.matrix(driven)
    inner = [
        [b[i] * b[j] * mpmath.expm1((x + y) * T) / (x + y) for j, y in enumerate(poles)]
        for i, x in enumerate(poles)
    ]
    L = mpmath.cholesky(V * mpmath.matrix(inner) * V.T)
    M = L.T * mpmath.matrix([[L[n - 1 - i, j] for j in range(n)] for i in range(n)])
    return mpmath.fsum(abs(x) for x in mpmath.eigsy((M + M.T) / 2, eigvals_only=True))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("order", "horizon"), [(10, 0.01), (20, 1.0), (24, 0.1)])
def test_gradients_where_nothing_reaches_the_end_of_a_chain(order, horizon):
    """Sums from 1e-23 to 5e-7 beside a P of 0.1; of formed Gramians the value was off by 6e-4 at
    (20, 1), and by more than all of itself, and than the warning said, in longer chains."""
    sys, _, _ = heat_flow(order, horizon)
    value, gradient = lti.hankel_sum_and_gradient(sys, horizon=horizon)
    near, second = [[mpmath.mpf(k == i) for k in range(order)] for i in (0, 1)]
    h = mpmath.mpf(10) ** -80
    # Digits for P, whose least eigenvalues are some squares of the sum.
    with mpmath.workdps(300):
        of = partial(mirrored_sum, order, horizon)
        exact_value = of(near)
        slopes = {
            "A": (of(near, scale=1 + h) - exact_value) / h,
            "I": (of(near, shift=h) - exact_value) / h,
            "B": (of([x + h * y for x, y in zip(near, second, strict=True)]) - exact_value) / h,
        }
    found = {
        "A": np.sum(gradient.A[0] * sys.A),
        "I": np.trace(gradient.A[0]),
        "B": gradient.B[1, 0] + gradient.C[0, -2],  # both move
    }
    # Rounding takes eps ‖R‖‖S‖/σ_1, here some hundred eps, in even units of the states; gradients
    # leave out directions of a share of 1e-8, where rounding would bring more.
    assert value == pytest.approx(float(exact_value), rel=1e-12)
    assert gradient.discrepancy < 1e-7
    for name, slope in slopes.items():
        assert found[name] == pytest.approx(float(slope), rel=1e-7), name
