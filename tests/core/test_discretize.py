"""Sampling of continuous-time systems, against SciPy and against what sampling must keep."""

import contextlib
import warnings

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from oracles import EPS, stein_condition

import lticore as lti

METHODS = ("zoh", "bilinear")


def continuous(rng, n=5, m=2, p=3, batch=(), complex_=False):
    A = rng.standard_normal((*batch, n, n)) - 3 * np.eye(n)
    B, C = rng.standard_normal((*batch, n, m)), rng.standard_normal((*batch, p, n))
    if complex_:
        A, B, C = (X + 1j * rng.standard_normal(X.shape) for X in (A, B, C))
    return A, B, C, rng.standard_normal((*batch, p, m))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [1e-3, 0.2, 3.0])
def test_dense_equals_scipy(method, step):
    A, B, C, D = continuous(np.random.default_rng(0))
    sys = lti.discretize(A, B, C, D, step, method)
    expected = scipy.signal.cont2discrete((A, B, C, D), step, method)
    for found, reference in zip((sys.A, sys.B, sys.C, sys.D), expected[:4], strict=True):
        # The exponential scales and squares, the bilinear form solves with I − A Δ/2: both keep
        # some eps of the norms that they multiply.
        size = 1 + step * np.linalg.norm(A, 2)
        np.testing.assert_allclose(
            found, reference, rtol=0, atol=100 * EPS * size * np.linalg.norm(reference)
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("complex_", [False, True])
def test_diagonal_equals_dense(method, complex_):
    rng = np.random.default_rng(1)
    poles = -rng.uniform(0.1, 5, 6) + (1j * rng.uniform(-9, 9, 6) if complex_ else 0)
    _, B, C, D = continuous(rng, n=6)
    sampled = lti.discretize(lti.Diagonal(poles), B, C, D, 0.3, method)
    assert isinstance(sampled.A, lti.Diagonal)
    assert np.iscomplexobj(sampled.A.poles) == complex_
    dense = lti.discretize(np.diag(poles), B, C, D, 0.3, method)
    np.testing.assert_allclose(
        lti.impulse_response(sampled, 20), lti.impulse_response(dense, 20), rtol=0, atol=1e-13
    )


def test_zoh_of_a_pole_at_zero_and_next_to_it():
    """(e^{λΔ} − 1)/λ = Δ + λΔ²/2 + …: an integrator, and a pole that 1 − e^x would lose."""
    sys = lti.discretize(lti.Diagonal([0.0, -1e-12]), np.ones((2, 1)), np.ones((1, 2)), step=0.5)
    np.testing.assert_allclose(sys.B[:, 0], [0.5, 0.5 * (1 - 0.25e-12)], rtol=1e-15)
    assert sys.A.poles[0] == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("structured", [False, True])
def test_batches_and_one_step_each(method, structured):
    rng = np.random.default_rng(2)
    A, B, C, D = continuous(rng, batch=(3,))
    if structured:
        A = lti.Diagonal(-rng.uniform(0.1, 5, (3, 5)))
    steps = np.array([0.1, 0.5, 1.0])
    sys = lti.discretize(A, B, C, D, steps, method)
    for i in range(3):
        one = lti.Diagonal(A.poles[i]) if structured else A[i]
        alone = lti.discretize(one, B[i], C[i], D[i], steps[i], method)
        np.testing.assert_allclose(
            lti.impulse_response(sys, 6)[i], lti.impulse_response(alone, 6), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("method", METHODS)
def test_descriptor_matrix_is_folded_in(method):
    rng = np.random.default_rng(3)
    A, B, C, D = continuous(rng)
    E = rng.standard_normal((5, 5)) + 4 * np.eye(5)
    folded = lti.discretize(A, B, C, D, 0.1, method, E=E)
    by_hand = lti.discretize(np.linalg.solve(E, A), np.linalg.solve(E, B), C, D, 0.1, method)
    # E is solved with either way.
    rounding = 10 * EPS * np.linalg.cond(E)
    found, expected = (lti.impulse_response(x, 10) for x in (folded, by_hand))
    assert np.linalg.norm(found - expected) <= 10 * rounding * np.linalg.norm(expected)


def test_bilinear_keeps_hankel_singular_values():
    A, B, C, D = continuous(np.random.default_rng(4), n=6)
    A = A - (np.linalg.eigvals(A).real.max() + 0.5) * np.eye(6)
    P = scipy.linalg.solve_continuous_lyapunov(A, -B @ B.T)
    Q = scipy.linalg.solve_continuous_lyapunov(A.T, -C.T @ C)
    expected = np.sqrt(np.sort(np.linalg.eigvals(P @ Q).real)[::-1])
    L = np.kron(A, np.eye(6)) + np.kron(np.eye(6), A)
    condition, size = np.linalg.cond(L), np.linalg.norm(P) * np.linalg.norm(Q)
    for step in (0.01, 1.0):
        sampled = lti.discretize(A, B, C, D, step, "bilinear")
        found = lti.hankel_singular_values(sampled)
        # Squares are right to n eps ‖P‖‖Q‖ times the conditions of both pairs of equations.
        rounding = sampled.order * EPS * (condition + stein_condition(sampled.A)) * size
        assert np.abs(found**2 - expected**2).max() <= rounding


def test_zoh_is_the_exact_step_response():
    """ẋ = −x + u from rest under u = 1: y(kΔ) = 1 − e^{−kΔ}."""
    sys = lti.discretize(lti.Diagonal([-1.0]), [[1.0]], [[1.0]], step=0.25)
    response = np.cumsum(lti.impulse_response(sys, 9)[:, 0, 0])
    np.testing.assert_allclose(response, 1 - np.exp(-0.25 * np.arange(9)), rtol=1e-14)


def test_precision_follows_the_input():
    A, B, C, D = (X.astype(np.float32) for X in continuous(np.random.default_rng(5)))
    for method in METHODS:
        assert lti.discretize(A, B, C, D, 0.1, method).A.dtype == np.float32
        assert lti.discretize(lti.Diagonal(A[0]), B, C, D, 0.1, method).B.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"step": 0.0}, lti.ArgumentError, "step must be positive"),
        ({"step": -1.0}, lti.ArgumentError, "step must be positive"),
        ({"step": np.nan}, lti.NonFiniteError, "step contains NaN"),
        ({"method": "euler"}, lti.ArgumentError, "method='euler'"),
        ({"E": np.zeros((2, 2))}, lti.SingularEquationError, "E is singular"),
        ({"E": np.eye(3)}, lti.ShapeError, "E has shape"),
        ({"A": 2 * np.eye(2), "method": "bilinear"}, lti.SingularEquationError, "2/step"),
        (
            {"A": lti.Diagonal([2.0, 1.0]), "method": "bilinear"},
            lti.SingularEquationError,
            "2/step",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    given = {"A": -np.eye(2), "B": np.ones((2, 1)), "C": np.ones((1, 2))} | arguments
    with pytest.raises(error, match=message):
        lti.discretize(**given)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("complex_", [False, True])
def test_units_of_states_and_inputs_change_no_digit(method, complex_):
    """Powers of two: the sampled system is the same in all of them, but for rounding."""
    rng = np.random.default_rng(3)
    A, B, C, D = continuous(rng, complex_=complex_)
    exponents = np.array([-150, 90, 3, 160, -40])
    up, down = np.ldexp(1.0, exponents)[:, None], np.ldexp(1.0, -exponents)[:, None]
    weight = 2.0**300
    plain = lti.discretize(A, B, C, D, 0.3, method)
    sys = lti.discretize(up * A * down.T, up * B * weight, C * down.T, D * weight, 0.3, method)
    back = (down * sys.A * up.T, down * sys.B / weight, sys.C * up.T, sys.D / weight)
    for found, expected in zip(back, (plain.A, plain.B, plain.C, plain.D), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max())


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("apart", [0.0, 1e-13, 1e-8])
def test_triangular_matrices_with_poles_next_to_each_other(apart, lower):
    """(e^A)_12 is the difference quotient of e^λ at λ_1 and λ_2, here of the digits of neither."""
    first, second = -1.0, -1.0 + apart
    A = np.array([[first, 0.5], [0.0, second]])
    A = A.T if lower else A
    found = lti.discretize(A, np.zeros((2, 1)), np.ones((1, 2)))
    gap = second - first
    quotient = 0.5 * np.exp(first) * (np.expm1(gap) / gap if gap else 1.0)
    expected = np.array([[np.exp(first), quotient], [0.0, np.exp(second)]])
    expected = expected.T if lower else expected
    np.testing.assert_allclose(found.A, expected, rtol=1e-14, atol=1e-17)


def sampled_by_mpmath(A, B, C, step, method):
    """((Ā, B̄, C̄), what each entry may be off by in units of eps) as float arrays, in 60 digits.

    The series is one of sums of products only, which are right to n eps of the sums of their sizes,
    and each doubling of the step doubles that: 1 + ‖A‖Δ times. An elimination that is refined once
    is right to n eps |M||M⁻¹||X| (Skeel). Both hold for each entry, in all units of the states.
    """
    n, m = B.shape

    def plain(X):
        return np.array(X.tolist(), dtype=object).reshape(X.rows, X.cols)

    def absolute(X):
        return X.apply(abs)

    with mpmath.workdps(60):
        A, B, C = (mpmath.matrix(X.tolist()) for X in (A, B, C))
        one = mpmath.eye(n)
        if method == "bilinear":
            pencil = one - A * step / 2
            M = pencil**-1
            exact = [M * (one + A * step / 2), M * B * step, C * M]
            size = absolute(M) * absolute(pencil)
            sizes = [size * absolute(X) for X in exact[:2]]
            sizes[0] += absolute(M) * (one + absolute(A) * step / 2)
            sizes.append(absolute(exact[2]) * absolute(pencil) * absolute(M))
            factor = 10 * n
        else:

            def both(A, B):
                whole = mpmath.zeros(n + m)
                whole[:n, :n], whole[:n, n:] = A * step, B * step
                E = mpmath.expm(whole, method="taylor")
                return E[:n, :n], E[:n, n:]

            exact = [*both(A, B), C]
            sizes = [*both(absolute(A), absolute(B)), absolute(C) * 0]
            factor = 40 * n * (1 + float(mpmath.mnorm(A, 1)) * step)
        return [plain(X) for X in exact], [plain(X) * factor for X in sizes]


#: Of chains whose states have even inputs and faint couplings.
CHAIN = np.array([[0.02, 0.01, 0], [0, -0.6766, 0.01], [0, 0, -1.64]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "A",
    [CHAIN, CHAIN.T, CHAIN + 1e-3 * np.random.default_rng(0).standard_normal((3, 3))],
    ids=["upper", "lower", "full"],
)
@pytest.mark.parametrize("units", [(0, 0, 0), (-100, 60, 7), (140, -160, 30)])
def test_each_entry_has_its_own_digits(method, A, units):
    """What evens out A makes B uneven by 2^15 here, whose small rows are right all the same."""
    up, down = np.ldexp(1.0, units)[:, None], np.ldexp(1.0, np.negative(units))
    B = np.array([[1, 0.3], [0.5, 1], [1, 2]]) * up
    A, C = up * A * down, np.array([[1.0, -0.7, 0.4]]) * down
    sys = lti.discretize(A, B, C, None, 2.0, method)
    plain = up * 0 + A / up / down
    exact, sizes = sampled_by_mpmath(plain, B / up, C / down, 2.0, method)
    found = sys.A / up / down, sys.B / up, sys.C / down
    for X, value, size in zip(found, exact, sizes, strict=True):
        # One step of refinement leaves the square of what elimination lost, in its own units.
        left = (10 * len(A) * EPS) ** 2 * 2**15 * np.abs(value).max()
        assert np.all(np.abs(X - value) <= EPS * size + left)


def test_bilinear_entries_that_elimination_alone_would_lose():
    """What slow states get of a fast one, down to 2^-48 of what stays in it: elimination is right
    to the largest entry of a column."""
    A = np.array(
        [[-0.3, -(2.0**10), 3 * 2.0**10], [2.0**-30, -0.7, 2.0**-30], [1.3, 0.1, -(2.0**30)]]
    )
    B, C = np.array([[1, 0.3], [0.5, 1], [1, 2]]), np.array([[1.0, -0.7, 0.4]])
    sys = lti.discretize(A, B, C, None, 2.0, "bilinear")
    exact, sizes = sampled_by_mpmath(A, B, C, 2.0, "bilinear")
    for X, value, size in zip((sys.A, sys.B, sys.C), exact, sizes, strict=True):
        left = (10 * len(A) * EPS) ** 2 * np.abs(value).max()
        assert np.all(np.abs(X - value) <= EPS * size + left)


#: A chain, whose last state feeds the first, and next to no other does.
FAINT = np.array(
    [
        [-2.17, -0.08, 0.0027, -0.00076, -1.82e-20, -1.24],
        [4.0, -1.0, 0, 0, 0, 0],
        [0, 8.0, -1.0, 0, 0, 0],
        [0, 0, 4.0, -1.0, 0, 0],
        [0, 0, 0, 2.0, -1.0, 0],
        [0, 0, 0, 0, 1.9e-37, -1.0],
    ]
)


@pytest.mark.parametrize("adjoint", [False, True])
def test_bilinear_of_outputs_far_apart_in_the_units_of_A(adjoint):
    """C M of an output that sees the end of a chain 2^110 times as well as its beginning, and M B
    of an input like that: each entry to some eps |M||M⁻¹|."""
    A = FAINT.T if adjoint else FAINT
    near = np.array([-4.49, -0.718, -0.136, 0.000913, -0.00947, -2.47e34])
    B, C = np.ones((6, 1)), near[None]
    B, C = (C.T, B.T) if adjoint else (B, C)
    sys = lti.discretize(A, B, C, None, 2.0, "bilinear")
    with mpmath.workdps(80):
        M = (mpmath.eye(6) - mpmath.matrix(A.tolist())) ** -1
        exact = M * mpmath.matrix(B.tolist()) * 2 if adjoint else mpmath.matrix(C.tolist()) * M
        exact = np.array([float(x) for x in exact])
        size = np.array(M.apply(abs).tolist(), dtype=float)
    found, gap = sys.B[:, 0] if adjoint else sys.C[0], np.abs(np.eye(6) - A)
    sizes = size @ gap @ np.abs(exact) if adjoint else np.abs(exact) @ gap @ size
    assert np.all(np.abs(found - exact) <= 20 * EPS * sizes)


@pytest.mark.parametrize("step", [1.0, 1e-4])
def test_slow_states_beside_fast_ones(step):
    """Poles at −1e8 and −1e-3: 1 − e^{−1e-3} keeps its digits, though eps ‖A‖ is 2e-8."""
    A = np.array([[-1e8, 3.0], [1e-6, -1e-3]])
    B, C = np.ones((2, 1)), np.ones((1, 2))
    sys = lti.discretize(A, B, C, None, step)
    (A_exact, B_exact, _), _ = sampled_by_mpmath(A, B, C, step, "zoh")
    # e^{−1e8 Δ} itself is 0, and what is off by eps of the unit matrix is next to it.
    assert abs(sys.A[1, 1] - A_exact[1, 1]) <= 4 * EPS
    np.testing.assert_allclose(sys.B, B_exact.astype(float), rtol=100 * EPS)
    np.testing.assert_allclose(sys.A[0, 1], float(A_exact[0, 1]), rtol=100 * EPS)


def test_all_that_is_left_of_fast_states():
    """e^{−40} is no difference of 1 and 1 − e^{−40}."""
    sys = lti.discretize([[-40.0, 1.0], [0.0, -41.0]], np.eye(2), np.eye(2))
    exact = np.exp(-40) * np.array([[1, 1 - np.exp(-1)], [0, np.exp(-1)]])
    # Each of six doublings doubles what is off, and eps |λ| Δ is what the pole itself may be.
    np.testing.assert_allclose(sys.A, exact, rtol=100 * 64 * EPS)
    held = np.diag(-np.expm1([-40, -41]) / [40, 41])
    held[0, 1] = 1 / (40 * 41)
    np.testing.assert_allclose(sys.B, held, rtol=100 * EPS, atol=np.exp(-40))


@pytest.mark.parametrize("method", ["zoh", "foh", "impulse"])
@pytest.mark.parametrize("fast", [-11.9, -40.0, -600.0])
def test_what_is_left_of_fast_states_beside_slow_ones(fast, method):
    """e^{−40} is no difference of 1 and 1 − e^{−40} either while another state lasts."""
    slow, (b, c) = -(2.0**-8), (0.75, 0.25)
    x, y = np.exp(fast), np.exp(slow)
    across = (y - x) / (slow - fast)
    A = np.array([[fast, 1.0], [0.0, slow]])
    found = lti.discretize(A, [[b], [c]], [[1.0, 0.0]], step=1.0, method=method)
    # Doubling the step doubles the rounding of one over which A does little, and the series of that
    # is right to some ten eps.
    rounding = 40 * abs(fast) * EPS
    np.testing.assert_allclose(found.A, [[x, across], [0, y]], rtol=rounding)
    if method == "impulse":
        np.testing.assert_allclose(found.B, [[x * b + across * c], [y * c]], rtol=rounding)
    turned = lti.discretize(A.T, [[b], [c]], [[1.0, 0.0]], step=1.0, method=method)
    np.testing.assert_allclose(turned.A, [[x, 0], [across, y]], rtol=rounding)


@pytest.mark.parametrize("pole", [-1e-310, -1e-320, 1e-320j, 0.0])
def test_poles_whose_product_with_the_step_underflows(pole):
    sys = lti.discretize(lti.Diagonal([pole]), [[1.0]], [[1.0]], step=1e-6)
    assert sys.B[0, 0] == 1e-6
    assert sys.A.poles[0] == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("structured", [False, True])
def test_signals_as_large_and_small_as_numbers_go(method, structured):
    """B̄ C̄ is as large as B C, but B Δ alone is not."""
    A = lti.Diagonal([-1e12, -2e12]) if structured else np.diag([-1e12, -2e12])
    B, C = np.full((2, 1), 1e300), np.full((1, 2), 1e-270)
    plain = lti.discretize(A, np.ones((2, 1)), np.ones((1, 2)), None, 1e10, method)
    sys = lti.discretize(A, B, C, None, 1e10, method)
    np.testing.assert_allclose(sys.B / 1e300, plain.B, rtol=10 * EPS)
    np.testing.assert_allclose(sys.C * 1e270, plain.C, rtol=10 * EPS)


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_oscillations_become_rotations(method, complex_):
    """Beside the dense matrix, in batches, with a step for each."""
    rng = np.random.default_rng(7)
    A = lti.Oscillation(
        rng.uniform(0.1, 3, (2, 3)), rng.uniform(0, 9, (2, 3)), -rng.uniform(0.1, 3, (2, 1))
    )
    B, C = rng.standard_normal((2, 7, 2)), rng.standard_normal((2, 3, 7))
    B = B + 1j if complex_ else B
    sys = lti.LTI(A, B, C, rng.standard_normal((3, 2)), dt=0)
    steps = np.array([0.1, 0.7])
    sampled = lti.discretize(sys, step=steps, method=method)
    assert isinstance(sampled.A, lti.Diagonal if complex_ else lti.Rotation)
    dense = lti.discretize(A.to_dense(), B, C, sys.D, steps, method)
    np.testing.assert_allclose(
        lti.impulse_response(sampled, 20), lti.impulse_response(dense, 20), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("method", METHODS)
def test_radii_of_weakly_damped_oscillations(method):
    """1 − ρ beside a decay of 1e-12: to the last digit of ρ."""
    for frequency in (0.5, 3.0, 300.0):
        sys = lti.LTI(lti.Oscillation([1e-12], [frequency]), np.ones((2, 1)), np.ones((1, 2)), dt=0)
        radius = lti.discretize(sys, step=2.0, method=method).A.radius[0]
        with mpmath.workdps(40):
            decay, rate = mpmath.mpf(1e-12), mpmath.mpf(frequency)
            if method == "zoh":
                exact = mpmath.exp(-2 * decay)
            else:
                h = mpmath.mpc(-decay, rate)
                exact = abs((1 + h) / (1 - h))
            assert abs(radius - float(exact)) <= EPS


def test_systems_are_sampled():
    A, B, C, D = continuous(np.random.default_rng(8))
    expected = lti.discretize(A, B, C, D, 0.25)
    systems = [lti.LTI(A, B, C, D, dt=0), (A, B, C, D, 0), scipy.signal.lti(A, B, C, D)]
    for sys in systems:
        sampled = lti.discretize(sys, step=0.25)
        assert sampled.dt == 0.25
        np.testing.assert_array_equal(sampled.A, expected.A)
        np.testing.assert_array_equal(sampled.B, expected.B)
    with pytest.raises(lti.ArgumentError, match="in discrete time already"):
        lti.discretize(expected, step=0.25)


# --- other holds, and back --------------------------------------------------------------------

STRUCTURES = ("dense", "complex dense", "diagonal", "complex diagonal", "oscillation")


def continuous_system(rng, structure, D=True, batch=()):
    A, B, C, feedthrough = continuous(rng, batch=batch, complex_=structure == "complex dense")
    n = A.shape[-1]
    if structure == "oscillation":
        A = lti.Oscillation(
            rng.uniform(0.1, 1, (*batch, 2)),
            rng.uniform(1, 6, (*batch, 2)),
            -rng.uniform(0.1, 2, (*batch, 1)),
        )
    elif "diagonal" in structure:
        A = -rng.uniform(0.1, 5, (*batch, n)) + 1j * rng.uniform(-6, 6, (*batch, n))
        A = lti.Diagonal(A if "complex" in structure else A.real)
    return lti.LTI(A, B, C, feedthrough if D else None, dt=0)


@pytest.mark.parametrize("method", ["foh", "impulse"])
@pytest.mark.parametrize("step", [1e-3, 0.2, 3.0])
def test_other_methods_are_those_of_scipy(method, step):
    A, B, C, D = continuous(np.random.default_rng(0))
    D = D if method == "foh" else np.zeros_like(D)
    sys = lti.discretize(A, B, C, D, step, method)
    expected = scipy.signal.cont2discrete((A, B, C, D), step, method)
    found = lti.impulse_response(sys, 30)
    reference = lti.impulse_response(lti.LTI(*expected[:4]), 30)
    size = 1 + step * np.linalg.norm(A, 2)
    tolerance = 100 * EPS * size * np.abs(reference).max()
    np.testing.assert_allclose(found, reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["foh", "impulse"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structures_agree_with_dense(structure, method):
    sys = continuous_system(np.random.default_rng(1), structure, D=method == "foh", batch=(2,))
    found = lti.discretize(sys, step=0.3, method=method)
    dense = lti.discretize(sys.to_dense(), step=0.3, method=method)
    expected = lti.impulse_response(dense, 20)
    np.testing.assert_allclose(
        lti.impulse_response(found, 20), expected, rtol=0, atol=1e-13 * np.abs(expected).max()
    )
    assert found.dt == 0.3


def test_ramps_are_followed_exactly():
    """Of 1/(s + a)²: y = t/a² − 2/a³ + e^{−at}(t/a² + 2/a³) for u = t."""
    a, step, t = 3.0, 0.25, 0.25 * np.arange(40)
    sys = lti.LTI([[-a, 1.0], [0.0, -a]], [[0.0], [1.0]], [[1.0, 0.0]], dt=0)
    expected = t / a**2 - 2 / a**3 + np.exp(-a * t) * (t / a**2 + 2 / a**3)
    found = lti.simulate(lti.discretize(sys, step=step, method="foh"), t[:, None])
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("pole", [-1e-12, -1e-3, -0.7, -0.999, -1.001, -40.0])
def test_first_order_hold_keeps_its_digits(pole):
    step = 1.0
    sys = lti.discretize(lti.Diagonal([pole]), [[1.0]], [[1.0]], step=step, method="foh")
    with mpmath.workdps(50):
        x = mpmath.mpf(pole)
        first = (mpmath.exp(x) - 1) / x
        expected = first**2, (first - 1) / x
    np.testing.assert_allclose([sys.B[0, 0], sys.D[0, 0]], [float(v) for v in expected], rtol=2e-15)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_samples_of_the_impulse_response(structure):
    sys = continuous_system(np.random.default_rng(2), structure, D=False)
    step = 0.2
    found = lti.impulse_response(lti.discretize(sys, step=step, method="impulse"), 12)
    expected = step * lti.impulse_response(sys, step * np.arange(12))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("frequency", [0.5, 7.0])
def test_prewarping_keeps_the_response_there(structure, frequency):
    sys = continuous_system(np.random.default_rng(3), structure)
    step = 0.4
    found = lti.discretize(sys, step=step, method="bilinear", prewarp=frequency)
    assert found.dt == step
    expected = lti.frequency_response(sys, [frequency])
    response = lti.frequency_response(found, [frequency * step])
    np.testing.assert_allclose(response, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["zoh", "foh", "bilinear", "prewarped", "impulse"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_to_continuous_is_the_inverse(structure, method):
    rng = np.random.default_rng(4)
    sys = continuous_system(rng, structure, batch=(2,), D=method != "impulse")
    options = {"method": method}
    if method == "prewarped":
        options = {"method": "bilinear", "prewarp": 5.0}
    sampled = lti.discretize(sys, step=0.3, **options)
    again = lti.to_continuous(sampled, **options)
    assert (again.D is None) == (method == "impulse")
    assert again.is_continuous
    assert type(again.A) is type(sys.A)
    omega = np.linspace(-9, 9, 15)
    expected = lti.frequency_response(sys, omega)
    # Poles turn by up to 0.3·6 < π in a step; the dense logarithm keeps some 1e-13.
    np.testing.assert_allclose(
        lti.frequency_response(again, omega), expected, rtol=0, atol=1e-11 * np.abs(expected).max()
    )


def test_other_sampling_times():
    """zoh of 1/(s + 1) at any step: pole e^{−Δ} and gain 1 at rest."""
    coarse = lti.discretize(lti.Diagonal([-1.0]), [[1.0]], [[1.0]], step=0.5)
    fine = lti.discretize(lti.to_continuous(coarse), step=0.125)
    np.testing.assert_allclose(fine.A.poles, np.exp(-0.125), rtol=1e-15)
    np.testing.assert_allclose(fine.B, 1 - np.exp([[-0.125]]), rtol=1e-14)


def test_weak_damping_survives_there_and_back():
    """1 − ρ = 1e-12 Δ: relative to it, one rounding of ρ."""
    A = lti.Rotation([1 - 2.0**-40], [1.5], [1 - 2.0**-45])
    for method in ("zoh", "bilinear"):
        found = lti.to_continuous(lti.LTI(A, np.ones((3, 1)), np.ones((1, 3)), dt=0.5), method)
        gap = 2.0**-40
        expected = -np.log1p(-gap) / 0.5
        if method == "bilinear":
            expected = 4 * gap * (2 - gap) / (1 + 2 * (1 - gap) * np.cos(1.5) + (1 - gap) ** 2)
        np.testing.assert_allclose(found.A.decay, expected, rtol=1e-15)


def test_half_turns_of_blocks_have_logarithms():
    A = lti.Rotation([0.5], [np.pi])
    found = lti.to_continuous(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)), dt=1.0))
    np.testing.assert_allclose(found.A.decay, [np.log(2)], rtol=1e-15)
    np.testing.assert_allclose(np.abs(found.A.frequency), [np.pi], rtol=1e-15)


def test_a_pair_that_rounding_turns_by_half_has_no_real_logarithm():
    """±(π − 1e-30) are one number in float64: log A is iπ then, and real only for two signs."""
    sys = lti.LTI([[-1.0, 1e-30], [-1e-30, -1.0]], np.ones((2, 1)), np.ones((1, 2)))
    with pytest.raises(lti.ArgumentError, match="not real to working precision"):
        lti.to_continuous(sys, step=1.0)


@pytest.mark.parametrize("kind", ["diagonal", "dense", "rotation"])
@pytest.mark.parametrize("pole", [-0.5, 0.0])
def test_poles_without_a_logarithm(kind, pole):
    A = {
        "diagonal": lti.Diagonal([0.5, pole]),
        "dense": np.diag([0.5, pole]),
        "rotation": lti.Rotation([], [], [0.5, pole]),
    }[kind]
    sys = lti.LTI(A, np.ones((2, 1)), np.ones((1, 2)), dt=0.1)
    with pytest.raises(lti.ArgumentError, match=f"sits at {pole:.6g}, .*bilinear"):
        lti.to_continuous(sys)
    again = lti.discretize(lti.to_continuous(sys, "bilinear"), step=0.1, method="bilinear")
    np.testing.assert_allclose(
        lti.impulse_response(again, 8), lti.impulse_response(sys, 8), rtol=0, atol=1e-14
    )


def test_bad_arguments_of_the_other_methods():
    sys = lti.LTI(lti.Diagonal([-1.0]), [[1.0]], [[1.0]], [[2.0]], dt=0)
    with pytest.raises(lti.ArgumentError, match="without D"):
        lti.discretize(sys, method="impulse")
    for prewarp in (0.0, 4.0, np.nan):
        with pytest.raises(lti.ArgumentError, match=r"between 0 and π/step = 3\.14159"):
            lti.discretize(sys, method="bilinear", prewarp=prewarp)
    with pytest.raises(lti.ArgumentError, match="is for method='bilinear'"):
        lti.discretize(sys, prewarp=1.0)
    with pytest.raises(lti.ArgumentError, match="continuous-time system already"):
        lti.to_continuous(sys)
    discrete = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]])
    with pytest.raises(lti.ArgumentError, match="pass step="):
        lti.to_continuous(discrete)
    with pytest.raises(lti.ArgumentError, match="'bilinear', 'foh', 'impulse', 'matched', 'zoh'"):
        lti.to_continuous(discrete, "tustin", step=1.0)
    with pytest.raises(lti.ArgumentError, match="begin with Δ C B"):
        lti.to_continuous(discrete, "impulse", step=1.0)
    with pytest.raises(lti.ArgumentError, match="is for method='bilinear'"):
        lti.to_continuous(discrete, step=1.0, prewarp=1.0)
    for zero, pole, name in ((-0.5, 0.5, "zero"), (0.0, 0.5, "zero"), (0.5, -0.5, "pole")):
        with pytest.raises(lti.ArgumentError, match=f"a {name} sits at"):
            lti.to_continuous(lti.from_zpk([zero], [pole]), "matched", step=1.0)
    with pytest.raises(lti.SingularEquationError, match="−1"):
        lti.to_continuous(lti.LTI([[-1.0]], [[1.0]], [[1.0]]), "bilinear", step=1.0)


@pytest.mark.parametrize("zeros", [[], [-3.0], [0.0, -1 + 2j, -1 - 2j]])
@pytest.mark.parametrize("poles", [[-1.0, -2.0, -0.5 + 4j, -0.5 - 4j], [0.0, -1.0, -2.0]])
def test_matched_poles_and_zeros(zeros, poles):
    """As python-control, which needs a gain at rest that is neither 0 nor infinite."""
    step = 0.25
    sys = lti.from_zpk(zeros, poles, 2.0, dt=0)
    found = lti.discretize(sys, step=step, method="matched")
    assert found.dt == step
    z, p, _ = lti.to_zpk(found)
    for x, expected in ((z, zeros), (p, poles)):
        expected = np.exp(step * np.asarray(expected, dtype=complex))
        np.testing.assert_allclose(np.sort_complex(x), np.sort_complex(expected), rtol=1e-10)
    # Next to rest, where an integrator or a differentiator still shows its size.
    omega = np.array([1e-5])
    expected = np.abs(lti.frequency_response(sys, omega)).item()
    assert np.abs(lti.frequency_response(found, omega * step)).item() == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("zeros", [[], [-3.0], [0.0, -1 + 2j, -1 - 2j]])
@pytest.mark.parametrize("poles", [[-1.0, -2.0, -0.5 + 4j, -0.5 - 4j], [0.0, -1.0, -2.0]])
def test_matched_poles_and_zeros_and_back(zeros, poles):
    sys = lti.from_zpk(zeros, poles, 2.0, dt=0)
    found = lti.to_continuous(lti.discretize(sys, step=0.25, method="matched"), "matched")
    assert found.is_continuous
    z, p, gain = lti.to_zpk(found)
    for x, expected in ((z, zeros), (p, poles)):
        expected = np.sort_complex(np.asarray(expected, dtype=complex))
        np.testing.assert_allclose(np.sort_complex(x), expected, rtol=1e-10, atol=1e-10)
    assert gain == pytest.approx(2.0, rel=1e-10)


def test_matched_is_for_one_input_and_one_output():
    rng = np.random.default_rng(0)
    with pytest.raises(lti.ShapeError, match="one input and one output"):
        lti.discretize(continuous_system(rng, "dense"), step=0.1, method="matched")


def test_logarithms_of_poles_next_to_zero_are_said_in_our_words():
    """Of dense poles near 1e-16 and 1e-40 SciPy's logarithm warns or fails; of one alone it is
    right: a pole e^{-90} of one state is the sample of −90."""
    found = lti.to_continuous(([[np.exp(-90.0)]], [[1.0]], [[1.0]]), step=1.0)
    np.testing.assert_allclose(found.A, [[-90.0]], rtol=1e-14)
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    A = U @ (np.triu(rng.standard_normal((6, 6)), 1) + np.diag(10.0 ** -np.arange(5, 35, 5))) @ U.T
    with warnings.catch_warnings(record=True) as seen, contextlib.suppress(lti.ArgumentError):
        warnings.simplefilter("always")
        lti.to_continuous((A, np.ones((6, 1)), np.ones((1, 6))), step=1.0)
    assert all(issubclass(x.category, lti.PrecisionWarning) for x in seen)


@pytest.mark.parametrize("method", ["zoh", "foh", "impulse"])
def test_modes_that_have_decayed_keep_their_digits(method):
    """e^{−50}, e^{−60} and their divided difference, which are nothing beside 1."""
    A = np.array([[-50.0, 1.0], [0.0, -60.0]])
    found = lti.discretize(A, [[1.0], [2.0]], [[1.0, 1.0]], step=1.0, method=method)
    x, y = np.exp(-50.0), np.exp(-60.0)
    np.testing.assert_allclose(found.A, [[x, (x - y) / 10], [0, y]], rtol=1e-12)
