"""The inputs of the public test suites of python-control, slycot, SciPy and pyMOR, and the examples
of SLICOT's manual: the values that these publish, and better ones in 50 digits."""

import math

import numpy as np
import pytest
import scipy.linalg
from flint import acb, acb_mat, ctx
from models import POWER

import lticore as lti

EPS = np.finfo(np.float64).eps
DIGITS = 50


# --- values in 50 digits ----------------------------------------------------------------------


def exact(X):
    """An object array of numbers with 50 digits."""
    out = np.empty(X.shape, dtype=object)
    out.ravel()[:] = [acb(x) for x in np.asarray(X, dtype=complex).ravel().tolist()]
    return out


def matrix(X):
    return acb_mat(*X.shape, X.ravel().tolist())


def exact_solution(A, B, Q, continuous=True):
    """X of A X + X Bᴴ + Q = 0, or of A X Bᴴ − X + Q = 0, by a Kronecker product."""
    with ctx.workdps(DIGITS):
        A, B, Q = exact(A), exact(B.conj()), exact(Q)
        left, right = (exact(np.eye(len(X))) for X in (A, B))
        if continuous:
            operator = np.kron(A, right) + np.kron(left, B)
        else:
            operator = np.kron(A, B) - np.kron(left, right)
        X = matrix(operator).solve(matrix(-Q.reshape(-1, 1)))
        return np.array(X.entries(), dtype=object).reshape(Q.shape)


def double(X):
    return np.array([complex(x) for x in X.ravel()]).reshape(X.shape)


def exact_gramians(A, B, C, continuous):
    with ctx.workdps(DIGITS):
        pair = []
        for F, G in ((A, B), (A.T, C.T)):
            G = exact(G)
            pair.append(exact_solution(F, F, G @ G.T, continuous))
        return pair


def exact_values(A, B, C, continuous=True):
    """√eig(P Q), descending."""
    P, Q = exact_gramians(A, B, C, continuous)
    with ctx.workdps(DIGITS):
        squares = matrix(P @ Q).eig()
        return np.sort([float(x.real.sqrt()) for x in squares])[::-1]


def exact_h2(A, B, C, continuous=True):
    P, _ = exact_gramians(A, B, C, continuous)
    with ctx.workdps(DIGITS):
        C = exact(C)
        return float(np.trace(C @ P @ C.T).real.sqrt())


def similar(found, expected, rtol):
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * size)


# --- python-control: modelsimp ----------------------------------------------------------------

#: (s³ + 11 s² + 45 s + 32)/(s⁴ + 15 s³ + 60 s² + 200 s + 60)
COMPANION = (
    np.array([[-15.0, -7.5, -6.25, -1.875], [8, 0, 0, 0], [0, 4, 0, 0], [0, 0, 1, 0]]),
    np.array([[2.0], [0], [0], [0]]),
    np.array([[0.5, 0.6875, 0.7031, 0.5]]),
)


def test_values_of_two_states():
    A, B, C = np.array([[1.0, -2], [3, -4]]), np.array([[5.0], [7]]), np.array([[6.0, 8]])
    found = lti.hankel_singular_values((A, B, C, [[9.0]], 0))
    np.testing.assert_allclose(found, [24.42686, 0.5731395], rtol=1e-6)
    np.testing.assert_allclose(found, exact_values(A, B, C), rtol=1e-13)


@pytest.mark.parametrize(
    ("match_dc", "A", "b", "d"),
    [
        (False, [[-1.958, -1.194], [-1.194, -0.8344]], [0.9057, 0.4068], 0),
        (
            True,
            [[-4.43094773, -4.55232904], [-4.55232904, -5.36195206]],
            [1.36235673, 1.03114388],
            -0.08383902,
        ),
    ],
)
def test_reductions_of_a_companion_form(match_dc, A, b, d):
    """To the four digits that python-control and MATLAB publish, but for the signs of states."""
    sys = lti.LTI(*COMPANION, dt=0)
    small = lti.balanced_truncation(sys, order=2, match_dc=match_dc).system
    s = np.sign(small.B[:, 0]) * np.sign(b)
    np.testing.assert_allclose(s[:, None] * small.A * s, A, atol=2e-3)
    np.testing.assert_allclose(s * small.B[:, 0], b, atol=1e-4)
    np.testing.assert_allclose(s * small.C[0], b, atol=1e-4)
    np.testing.assert_allclose(small.D if small.D is not None else 0, d, atol=1e-4)
    if match_dc:
        gains = [x.C @ np.linalg.solve(-x.A, x.B) + (x.D or 0) for x in (sys, small)]
        np.testing.assert_allclose(gains[1], gains[0], rtol=1e-13)


def test_reductions_of_a_balanced_realization():
    """Of four-digit numbers that MATLAB balanced: a truncation is the leading block."""
    A = np.array(
        [
            [-1.958, -1.194, 1.824, -1.464],
            [-1.194, -0.8344, 2.563, -1.351],
            [-1.824, -2.563, -1.124, 2.704],
            [-1.464, -1.351, -2.704, -11.08],
        ]
    )
    B = np.array([[-0.9057], [-0.4068], [-0.3263], [-0.3474]])
    C = np.array([[-0.9057, -0.4068, 0.3263, -0.3474]])
    small = lti.balanced_truncation((A, B, C, 0, 0), order=2).system
    leading = lti.LTI(A[:2, :2], B[:2], C[:, :2], dt=0)
    assert lti.hinf_error(leading, small) < 2e-3


def test_an_unstable_system_is_refused():
    A = np.array(
        [
            [4.5418, 3.3999, 5.0342, 4.3808],
            [0.3890, 0.3599, 0.4195, 0.1760],
            [-4.2117, -3.2395, -4.6760, -4.2180],
            [0.0052, 0.0429, 0.0155, 0.2743],
        ]
    )
    B, C = np.array([[1.0, 2, 3, 4]] * 2).T, np.array([[1.0, 2, 3, 4]] * 2)
    with pytest.raises(lti.UnstableSystemError, match="keep"):
        lti.balanced_truncation((A, B, C, None, 0), order=2)
    kept = lti.balanced_truncation((A, B, C, None, 0), order=3, unstable="keep")
    unstable = np.linalg.eigvals(A).real > 0
    assert np.sum(kept.system.poles.real > 0) == np.sum(unstable)


def test_fibonacci_numbers_as_a_response():
    """0, 1, 1, 2, 3, …: an unstable system of two states (Katayama, example 6.1)."""
    h = np.array([0.0, 1, 1, 2, 3, 5, 8, 13, 21, 34])
    with pytest.warns(lti.PrecisionWarning, match="unstable"):
        found = lti.from_impulse_response(h[:, None, None], order=2).system
    similar(lti.impulse_response(found, 10)[:, 0, 0], h, 1e-13)
    golden = (1 + math.sqrt(5)) / 2
    np.testing.assert_allclose(np.sort(found.poles.real), [1 - golden, golden], rtol=1e-12)


def test_two_masses_from_their_response():
    """Mechanical Vibrations, example 6.7: masses 1 and 2, sampled every 0.1 s."""
    m, k, c = (1.0, 2.0), (4.0, 2.0, 6.0), (1.0, 1.0, 2.0)
    A = np.zeros((4, 4))
    A[:2, 2:] = np.eye(2)
    for block, x in ((slice(0, 2), k), (slice(2, 4), c)):
        stiffness = np.array([[x[0] + x[1], -x[1]], [-x[1], x[1] + x[2]]])
        A[2:, block] = -stiffness / np.array(m)[:, None]
    B = np.vstack([np.zeros((2, 2)), np.diag([1.0, 0.5])])
    sys = lti.discretize(A, B, np.eye(2, 4), None, 0.1)
    h = lti.impulse_response(sys, 100)
    found = lti.from_impulse_response(h, order=4, dt=0.1).system
    similar(lti.impulse_response(found, 100), h, 1e-9)
    similar(np.sort_complex(found.poles), np.sort_complex(sys.poles), 1e-8)


# --- python-control and SciPy: matrix equations -----------------------------------------------


def companion(row):
    return np.vstack([row, np.eye(len(row) - 1, len(row))])


COMPLEX = np.array([[1 + 1j, 2], [3 - 4j, 5]])
COMPLEX_RIGHT = np.array([[2 - 2j, 2 + 2j], [-1 - 1j, 2]])
SQUARES = {
    "stable": ([[-1, 1], [-1, 0]], np.eye(2)),
    "two poles": ([[1, 2], [-3, -4]], [[3, 1], [1, 1]]),
    "triangular": ([[-0.6, 0], [-0.1, -0.4]], np.eye(2)),
    "triangular, another Q": ([[-0.6, 0], [-0.1, -0.4]], [[3, 1], [1, 1]]),
    "Q without symmetry": ([[1, 2], [3, 4]], [[9, 10], [11, 12]]),
    "complex": (COMPLEX, COMPLEX_RIGHT),
    "complex Q": ([[1.0, 2], [3, 5]], COMPLEX_RIGHT),
    "complex A": (COMPLEX, [[2.0, 2], [-1, 2]]),
    "Kitagawa, 1977": (
        [[3, 9, 5, 1, 4], [1, 2, 3, 8, 4], [4, 6, 6, 6, 3], [1, 5, 2, 0, 7], [5, 3, 3, 1, 5]],
        [[2, 4, 1, 0, 1], [4, 1, 0, 2, 0], [1, 0, 3, 0, 3], [0, 2, 0, 1, 0], [1, 0, 3, 0, 4]],
    ),
    "companion": (
        companion(np.array([100, 91, 82, 73, 64, 55, 46, 37, 28, 19, 10]) / 1000).astype(complex),
        np.eye(11),
    ),
    "SciPy's issue 4176": ([[0, 1], [-0.5, -1]], [[0, 0], [0, 9]]),
}


@pytest.mark.parametrize("name", SQUARES)
@pytest.mark.parametrize("solve", [lti.solve_lyapunov, lti.solve_stein])
def test_equations(solve, name):
    A, Q = (np.asarray(X) for X in SQUARES[name])
    A = A + 0.0
    continuous = solve is lti.solve_lyapunov
    if not continuous and name in ("stable", "two poles"):
        # λ_1 conj λ_2 = 1, to the last digit or but for it.
        with pytest.raises((lti.SingularEquationError, lti.PrecisionWarning)):
            solve(A, Q)
        return
    expected = double(exact_solution(A, A, Q, continuous))
    n = len(A)
    ones = np.eye(n)
    operator = (
        np.kron(A, ones) + np.kron(ones, A.conj())
        if continuous
        else np.kron(A, A.conj()) - np.eye(n * n)
    )
    size = 2 * np.linalg.norm(A) if continuous else 1 + np.linalg.norm(A) ** 2
    condition = size / np.linalg.svd(operator, compute_uv=False)[-1]
    similar(solve(A, Q), expected, 10 * n * EPS * condition)


@pytest.mark.parametrize("solve", [lti.solve_lyapunov, lti.solve_stein])
@pytest.mark.parametrize(
    ("A", "B", "Q"),
    [
        ([[5]], [[4, 3], [4, 3]], [[2, 1]]),
        ([[2, 1], [1, 2]], [[1, 2], [0.5, 0.1]], np.eye(2)),
    ],
)
def test_sylvester_equations(solve, A, B, Q):
    A, B, Q = (np.asarray(X, dtype=float) for X in (A, B, Q))
    if solve is lti.solve_lyapunov:
        B = B.T  # there the equation is A X + X B + Q = 0
    expected = double(exact_solution(A, B, Q, solve is lti.solve_lyapunov))
    similar(solve(A, Q, B), expected.real, 1e-14)


def test_equations_of_no_states():
    for solve in (lti.solve_lyapunov, lti.solve_stein):
        assert solve(np.zeros((0, 0)), np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize(
    ("A", "Q"),
    [(np.ones((3, 2)), np.eye(3)), (np.eye(3), np.ones((3, 2))), (np.eye(3) / 2, np.eye(2))],
)
@pytest.mark.parametrize("solve", [lti.solve_lyapunov, lti.solve_stein])
def test_shapes_are_refused(solve, A, Q):
    with pytest.raises(lti.ShapeError):
        solve(A, Q)


def test_equations_in_descriptor_form():
    Q, E = np.array([[3.0, 1], [1, 1]]), np.array([[1.0, 2], [2, 1]])
    A = np.array([[-1.0, 2], [-3, -4]])
    X = lti.solve_lyapunov(A, Q, E=E)
    similar(A @ X @ E.T + E @ X @ A.T, -Q, 1e-13)
    A, E = np.array([[-0.6, 0], [-0.1, -0.4]]), np.array([[1.0, 1], [2, 1]])
    X = lti.solve_stein(A, Q, E=E)
    similar(A @ X @ A.T - E @ X @ E.T, -Q, 1e-13)


# --- slycot and SLICOT: sb03md, sg03ad --------------------------------------------------------


def test_the_example_of_sb03md():
    """Aᵀ X A − X = C with integers for a solution."""
    A = np.array([[3.0, 1, 1], [1, 3, 0], [0, 0, 3]])
    C = np.array([[25.0, 24, 15], [24, 32, 8], [15, 8, 40]])
    X = np.array([[2.0, 1, 1], [1, 3, 0], [1, 0, 4]])
    np.testing.assert_array_equal(A.T @ X @ A - X, C)
    similar(lti.solve_stein(A.T, -C), X, 1e-14)


def test_the_example_of_sg03ad():
    """Aᵀ X E + Eᵀ X A = −Y with integers for a solution (Penzl, example B.1)."""
    A = np.array([[3.0, 1, 1], [1, 3, 0], [1, 0, 2]])
    E = np.array([[1.0, 3, 0], [3, 2, 1], [1, 0, 1]])
    X = -np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 3]])
    Y = -(A.T @ X @ E + E.T @ X @ A)
    np.testing.assert_array_equal(Y, [[64, 73, 28], [73, 70, 25], [28, 25, 18]])
    similar(lti.solve_lyapunov(A.T, Y, E=E.T), X, 1e-13)


@pytest.mark.parametrize("t", [0, 10, 20, 30, 40])
@pytest.mark.parametrize("continuous", [True, False])
def test_examples_of_penzl(continuous, t):
    """Generalised equations of 100 states with ones for a solution, whose poles meet for large t:
    slycot asks for seven digits."""
    n = 100
    U, X = np.tril(np.ones((n, n))), np.ones((n, n))
    shift = 2.0**-t - continuous
    A = shift * np.eye(n) + np.diag(np.arange(1.0, n + 1)) + U.T
    E = np.eye(n) + 2.0**-t * U
    if continuous:
        found = lti.solve_lyapunov(A.T, -(A.T @ X @ E + E.T @ X @ A), E=E.T)
    else:
        found = lti.solve_stein(A.T, -(A.T @ X @ A - E.T @ X @ E), E=E.T)
    similar(found, X, 1e-9)


# --- slycot and SLICOT: ab09*, ab13* ----------------------------------------------------------


def test_values_of_the_power_system():
    found = lti.hankel_singular_values((*POWER, None, 0))
    published = [2.5139, 2.0846, 1.9178, 0.7666, 0.5473, 0.0253, 0.0246]
    np.testing.assert_allclose(found, published, atol=5.1e-5)
    np.testing.assert_allclose(found, exact_values(*POWER), rtol=1e-12)


def test_reductions_of_the_power_system():
    sys = lti.LTI(*POWER, dt=0)
    for match_dc in (False, True):
        found = lti.balanced_truncation(sys, error=0.1, match_dc=match_dc)
        assert found.order == 5
        tail = found.singular_values[5:].sum()
        assert found.singular_values[5] <= lti.hinf_error(sys, found.system) <= 2 * tail
        assert lti.hankel_error(sys, found.system) <= found.error_bound


def test_h2_norm_of_the_power_system():
    found = lti.h2_norm((*POWER, None, 0))
    np.testing.assert_allclose(found, exact_h2(*POWER), rtol=1e-13)


def test_a_fast_part_reduced_beside_a_slow_one():
    """ab09nd with α = −0.6: poles right of it are kept, the fast part has the published values."""
    A, B, C = POWER
    T, U, slow = scipy.linalg.schur(A, output="real", sort=lambda re, im: re > -0.6)
    assert slow == 2
    X = scipy.linalg.solve_sylvester(T[:slow, :slow], -T[slow:, slow:], -T[:slow, slow:])
    fast = (T[slow:, slow:], (U.T @ B)[slow:], (C @ U)[:, :slow] @ X + (C @ U)[:, slow:])
    published = [1.9178, 0.8621, 0.7666, 0.0336, 0.0246]
    found = lti.hankel_singular_values((*fast, None, 0))
    np.testing.assert_allclose(found, published, atol=5.1e-5)
    # The numbers that the manual gives for the whole reduced system, to four digits.
    a = np.array(
        [
            [-0.5181, -1.1084, 0, 0, 0],
            [8.8157, -0.5181, 0, 0, 0],
            [0, 0, 0.5847, 0, 1.9230],
            [0, 0, 0, -1.6606, 0],
            [0, 0, -4.3823, 0, -3.2922],
        ]
    )
    b = np.array(
        [
            [-1.2837, 1.2837],
            [-0.7522, 0.7522],
            [-0.6379, -0.6379],
            [2.0656, -2.0656],
            [-3.9315, -3.9315],
        ]
    )
    c = np.array(
        [
            [-0.1380, -0.6445, -0.6416, -0.6293, 0.2526],
            [0.6246, 0.0196, 0, 0.4107, 0],
            [0.1380, 0.6445, -0.6416, 0.6293, 0.2526],
        ]
    )
    d = np.array([[0.0582, -0.0090], [0.0015, -0.0015], [-0.0090, 0.0582]])
    small = lti.balanced_truncation((*fast, None, 0), order=3, match_dc=True).system
    kept = lti.LTI(T[:slow, :slow], (U.T @ B)[:slow] - X @ fast[1], (C @ U)[:, :slow], dt=0)
    assert lti.hinf_error(small + kept, lti.LTI(a, b, c, d, dt=0)) < 2e-3


def test_a_system_of_equal_states_without_signals():
    """slycot's issue 242: 67 equal poles, B = C = 0, only D is left."""
    sys = lti.LTI(-np.eye(67), np.zeros((67, 1)), np.zeros((1, 67)), 42.24, dt=0)
    np.testing.assert_array_equal(lti.hankel_singular_values(sys), 0)
    small = lti.minimal_realization(sys)
    assert small.order == 0
    np.testing.assert_array_equal(small.system.D, [[42.24]])


def test_h2_norms_of_an_oscillator():
    """slycot's example of ab13bd; P is diagonal, diag(1/(2 a b), 1/(2 a)) for ẍ + a ẋ + b x = u."""
    A, B, C = np.array([[0, 1.0], [-0.5, -0.1]]), np.array([[0.0], [1]]), np.eye(2)
    np.testing.assert_allclose(lti.h2_norm((A, B, C, None, 0)), math.sqrt(15), rtol=1e-13)
    sampled = lti.discretize(A, B, C, None, 0.1)
    expected = exact_h2(sampled.A, sampled.B, sampled.C, continuous=False)
    np.testing.assert_allclose(lti.h2_norm(sampled), expected, rtol=1e-12)


# --- python-control: sysnorm ------------------------------------------------------------------


def first_order(a):
    return lti.LTI([[a]], [[1.0]], [[1.0]], dt=0)


def test_norms_of_first_order():
    sys = first_order(-1.0)
    sampled = lti.discretize(sys, step=0.1)
    z = math.exp(-0.1)
    np.testing.assert_allclose(lti.hinf_norm(sys), 1, rtol=1e-14)
    np.testing.assert_allclose(lti.h2_norm(sys), math.sqrt(0.5), rtol=1e-14)
    np.testing.assert_allclose(lti.hinf_norm(sampled), 1, rtol=1e-13)
    np.testing.assert_allclose(lti.h2_norm(sampled), math.sqrt((1 - z) / (1 + z)), rtol=1e-14)
    # MATLAB's value, of which eight digits are right.
    np.testing.assert_allclose(lti.h2_norm(sampled), 0.223513699524858, rtol=2e-8)


OSCILLATOR = ([[0, 1.0], [-1, 0]], [[0.0], [1]], [[1.0, 0]], 0, 0)


@pytest.mark.parametrize("sys", [first_order(1.0), OSCILLATOR])
@pytest.mark.parametrize("norm", [lti.h2_norm, lti.hinf_norm])
def test_norms_of_unstable_systems_are_refused(norm, sys):
    """python-control gives infinity, and for 1/(1 − s) the L∞ norm: here an error says why."""
    with pytest.raises(lti.UnstableSystemError):
        norm(sys)
    with pytest.raises(lti.UnstableSystemError):
        norm(lti.discretize(lti.from_statespace(sys), step=0.1))


def test_norms_of_three_states():
    """MATLAB's sixteen digits, of a random system and its samples."""
    A = np.array(
        [
            [-1.017041847539126, -0.224182952826418, 0.042538079149249],
            [-0.310374015319095, -0.516461581407780, -0.119195790221750],
            [-1.452723568727942, 1.7995860837102088, -1.491935830615152],
        ]
    )
    B = np.array(
        [
            [0.312858596637428, -0.164879019209038],
            [-0.864879917324456, 0.627707287528727],
            [-0.030051296196269, 1.093265669039484],
        ]
    )
    C = np.array(
        [
            [1.109273297614398, 0.077359091130425, -1.113500741486764],
            [-0.863652821988714, -1.214117043615409, -0.006849328103348],
        ]
    )
    sys = lti.LTI(A, B, C, dt=0)
    sampled = lti.discretize(sys, step=0.1)
    np.testing.assert_allclose(lti.hinf_norm(sys), 4.276759162964244, rtol=1e-12)
    np.testing.assert_allclose(lti.h2_norm(sys), 2.237461821810309, rtol=1e-13)
    np.testing.assert_allclose(lti.h2_norm(sys), exact_h2(A, B, C), rtol=1e-13)
    np.testing.assert_allclose(lti.hinf_norm(sampled), 4.276759162964228, rtol=1e-12)
    np.testing.assert_allclose(lti.h2_norm(sampled), 0.707434962289554, rtol=1e-12)


# --- SciPy: cont2discrete; python-control: discrete -------------------------------------------

SQUARE_ROOT_OF_E = 1.648721270700128
OUTPUTS = np.array([[0.75, 1.0], [1.0, 1.0], [1.0, 0.25]])
FEEDTHROUGH = np.array([[0.0], [0.0], [-0.33]])


@pytest.mark.parametrize(
    ("method", "a", "b", "C", "d"),
    [
        ("zoh", SQUARE_ROOT_OF_E, 0.324360635350064, OUTPUTS, [0, 0, -0.33]),
        (
            "foh",
            SQUARE_ROOT_OF_E,
            0.420839287058789,
            OUTPUTS,
            [0.260262223725224, 0.297442541400256, -0.144098411624840],
        ),
        ("bilinear", 5 / 3, 1 / 3, OUTPUTS * 4 / 3, [0.291666666666667, 1 / 3, -0.121666666666667]),
        ("impulse", SQUARE_ROOT_OF_E, 0.25, OUTPUTS * SQUARE_ROOT_OF_E, [0.4375, 0.5, 0.3125]),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, lambda A: lti.Diagonal(np.diag(A))])
def test_samples_of_an_unstable_system(kind, method, a, b, C, d):
    """ẋ = x + u/2 twice, every 0.5 s. The states of SciPy's samples of the impulse response are
    others: the responses agree."""
    D = None if method == "impulse" else FEEDTHROUGH
    sys = lti.LTI(kind(np.eye(2)), np.full((2, 1), 0.5), OUTPUTS, D, dt=0)
    found = lti.discretize(sys, step=0.5, method=method)
    expected = lti.LTI(a * np.eye(2), np.full((2, 1), b), C, np.array(d)[:, None], dt=0.5)
    if method != "impulse":
        similar(found.to_dense().A, expected.A, 1e-14)
        similar(found.B, expected.B, 1e-14)
        similar(found.C, expected.C, 1e-14)
    h = lti.impulse_response(expected, 6)
    np.testing.assert_allclose(lti.impulse_response(found, 6), h, rtol=1e-13, atol=1e-14)
    assert found.dt == 0.5


def test_samples_at_another_step():
    sys = lti.LTI(np.eye(2), np.full((2, 1), 0.5), OUTPUTS, FEEDTHROUGH, dt=0)
    found = lti.discretize(sys, step=1 / 3, method="bilinear")
    similar(found.A, 1.4 * np.eye(2), 1e-14)
    similar(found.B, np.full((2, 1), 0.2), 1e-14)
    similar(found.C, OUTPUTS * 1.2, 1e-14)
    similar(found.D, [[0.175], [0.2], [-0.205]], 1e-14)


def test_samples_of_two_states():
    A, B, C = np.array([[-0.3, 0.1], [0.2, -0.7]]), np.array([[0.0], [1]]), np.array([[1.0, 0]])
    found = lti.discretize(A, B, C, None, 0.05)
    published = [[0.985136404135682, 0.004876671474795], [0.009753342949590, 0.965629718236502]]
    np.testing.assert_allclose(found.A, published, atol=1e-15)
    np.testing.assert_allclose(found.B, [[0.000122937599964], [0.049135527547844]], atol=1e-15)


@pytest.mark.parametrize(
    ("num", "den", "step", "num_d", "den_d"),
    [
        (
            [0.25, 0.25, 0.5],
            [0.75, 0.75, 1.0],
            0.5,
            [1 / 3, -0.427419169438754, 0.221654141101125],
            [1, -1.351394049721225, 0.606530659712634],
        ),
        # SciPy's suite takes the samples of a step of 0.05 and allows 0.02.
        (
            [0.5, 0.3],
            [1.0, 0.4],
            0.05,
            [0.5, -0.485149004980066],
            [1, -0.980198673306755],
        ),
        ([1.0], [1.0, 0, 0], 0.5, [0, 0.125, 0.125], [1, -2, 1]),
    ],
)
def test_samples_of_transfer_functions(num, den, step, num_d, den_d):
    found = lti.discretize(lti.from_transfer_function(num, den, dt=0), step=step)
    expected = lti.from_transfer_function(num_d, den_d, dt=step)
    h = lti.impulse_response(expected, 20)
    np.testing.assert_allclose(lti.impulse_response(found, 20), h, rtol=1e-12, atol=1e-13)


def test_samples_of_zeros_and_poles():
    pole = 1j / math.sqrt(2)
    sys = lti.from_zpk([0.5, -0.5], [pole, -pole], 1.0, dt=0)
    zeros, poles, gain = lti.to_zpk(lti.discretize(sys, step=0.5))
    expected = [0.735356894461267, 1.23371727305860]
    np.testing.assert_allclose(np.sort(zeros.real), expected, rtol=1e-13)
    expected = [0.938148335039729 - 0.346233593780536j, 0.938148335039729 + 0.346233593780536j]
    np.testing.assert_allclose(np.sort_complex(poles), expected, rtol=1e-14)
    np.testing.assert_allclose(gain, 1, rtol=1e-14)


@pytest.mark.parametrize("first_first", [True, False])
@pytest.mark.parametrize("step", [0.1, 0.5, 1, 2])
def test_samples_of_double_integrators(step, first_first):
    A = np.array([[0.0, 1], [0, 0]]) if first_first else np.array([[0.0, 0], [1, 0]])
    B = np.array([[0.0], [1]]) if first_first else np.array([[1.0], [0]])
    found = lti.discretize(A, B, B[::-1].T, None, step)
    np.testing.assert_allclose(found.A, np.eye(2) + step * A, rtol=1e-15, atol=0)
    np.testing.assert_allclose(found.B, step * B + step**2 / 2 * A @ B, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("num", "den", "step"),
    [([1, 1], [1, 1.5, 1], 0.25), ([1, 2], [1, 1.5, 3, 1], 0.5), ([0.1], [1, 1, 2, 1], 0.5)],
)
def test_samples_keep_what_they_promise(num, den, step):
    sys = lti.from_transfer_function(num, den, dt=0)
    t = np.arange(10) * step
    for method, response in (("zoh", lti.step_response), ("impulse", lti.impulse_response)):
        found = response(lti.discretize(sys, step=step, method=method), 10)
        factor = step if method == "impulse" else 1
        similar(found, factor * response(sys, t), 1e-12)
    ramp = lti.simulate(lti.discretize(sys, step=step, method="foh"), t[:, None])
    similar(ramp, lti.simulate(sys, t[:, None], step=step, hold="foh"), 1e-12)


def test_responses_over_frequency():
    omega = np.array([1.0, 2, 3])
    found = lti.frequency_response(lti.from_transfer_function([1], [1, 0.5], dt=1.0), omega)
    np.testing.assert_allclose(found[:, 0, 0], 1 / (np.exp(1j * omega) + 0.5), rtol=1e-14)


def test_systems_of_different_times_are_not_joined():
    """python-control's system of three states with two inputs, in continuous and discrete time."""
    A = [[-3.0, 4, 2], [-1, -3, 0], [2, 5, 3]]
    B, C = [[1.0, 4], [-3, -3], [-2, 1]], [[4.0, 2, -3], [1, 4, 3]]
    D = [[-2.0, 4], [0, 1]]
    continuous, fast, slow = (lti.LTI(A, B, C, D, dt=dt) for dt in (0, 0.1, 0.2))
    for one, other in ((continuous, fast), (fast, slow)):
        for join in (lambda x, y: x + y, lambda x, y: x @ y, lti.feedback):
            with pytest.raises(lti.ArgumentError, match="dt"):
                join(one, other)


# --- pyMOR: Lyapunov equations, balanced truncation -------------------------------------------


def convection_diffusion(n, a=1.0, b=0.1, discrete=False):
    """pyMOR's finite differences on (0, 1); one step of Euler's method in discrete time."""
    outer = np.ones(n - 1)
    A = a * (n + 1) ** 2 * (np.diag(outer, 1) + np.diag(outer, -1) - 2 * np.eye(n))
    A += b * (n + 1) / 2 * (np.diag(outer, -1) - np.diag(outer, 1))
    return np.eye(n) + 0.1 / (4 * a * (n + 1) ** 2 + b * (n + 1)) * A if discrete else A


def mass(n):
    outer = np.ones(n - 1)
    return (4 * np.eye(n) + np.diag(outer, 1) + np.diag(outer, -1)) / 6


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("with_E", [False, True])
@pytest.mark.parametrize("n", [10, 20])
def test_convection_and_diffusion(n, with_E, discrete, m):
    """pyMOR asks for residuals of 1e-10."""
    E = mass(n) if with_E else np.eye(n)
    A = convection_diffusion(n, discrete=discrete)
    A = A - np.eye(n) + E if discrete else A
    B = np.random.default_rng(0).standard_normal((n, m))
    sys = lti.from_descriptor(E, A, B, B.T, dt=True if discrete else 0)
    R, _ = lti.gramian_factors(sys)
    solve = lti.solve_stein if discrete else lti.solve_lyapunov
    X = solve(A, B @ B.T, E=E) if with_E else solve(A, B @ B.T)
    residual = A @ X @ A.T - E @ X @ E.T if discrete else A @ X @ E.T + E @ X @ A.T
    # of the size of the terms that cancel
    size = np.linalg.norm(A, 2) * np.linalg.norm(E, 2) * np.linalg.norm(X)
    assert np.linalg.norm(residual + B @ B.T) <= 10 * n * EPS * size
    # The states of a descriptor system are others; what they give is the same.
    similar(np.trace(sys.C @ R @ R.T @ sys.C.T), np.trace(B.T @ X @ B), 1e-10)


def test_modes_of_penzl():
    """pyMOR's test of modal truncation: eight states kept of Penzl's example, twice over."""
    blocks = [np.array([[-1.0, w], [-w, -1]]) for w in (100.0, 200, 400)]
    A = scipy.linalg.block_diag(*blocks, -np.diag(np.arange(1.0, 11)))
    B = np.concatenate([np.full(6, 10.0), np.ones(10)])
    B = np.column_stack([B, np.concatenate([np.ones(6), np.full(10, 10.0)])])
    for dense in (True, False):
        form = A if dense else lti.Oscillation([1.0] * 3, [100.0, 200, 400], -np.arange(1.0, 11))
        found = lti.modal_truncation(lti.LTI(form, B, B.T, dt=0), 8)
        poles = found.system.poles
        assert found.order == 8
        assert sum(abs(w.imag) > 1 for w in poles) == 6
