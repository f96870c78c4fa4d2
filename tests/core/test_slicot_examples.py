"""The examples of SLICOT's manual, and pyMOR's smallest test of IRKA: published values are rounded
to four digits, so that integers, rationals and numbers in 50 digits stand beside them."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
from models import POWER

import lticore as lti

EPS = np.finfo(np.float64).eps


# --- matrix equations: sb03*, sb04*, sg03bd ---------------------------------------------------
# Solutions in integers are exact, the others are those of a Kronecker product.


def by_kronecker(A, B, Q, continuous):
    """X of A X + X B = Q, or of A X B + X = Q, in 50 digits."""
    n, m = len(A), len(B)
    with mpmath.workdps(50):
        operator = mpmath.matrix(n * m)
        for i, j, k, h in np.ndindex(n, m, n, m):
            one = (A[i, k] * (j == h), (i == k) * B[h, j])
            other = (A[i, k] * B[h, j], (i == k) * (j == h))
            operator[i * m + j, k * m + h] = sum(map(mpmath.mpf, one if continuous else other))
        X = mpmath.lu_solve(operator, mpmath.matrix(Q.ravel().tolist()))
        return np.array([float(x) for x in X]).reshape(n, m)


def test_sb03od():
    """Aᵀ X + X A = −Bᵀ B, by the equation and by the Gramian."""
    A = np.array([[-1.0, 37, -12, -12], [-1, -10, 0, 4], [2, -4, 7, -6], [2, 2, 7, -9]])
    B = np.array([[1, 2.5, 1, 3.5], [0, 1, 0, 1], [-1, -2.5, -1, -1.5], [1, 2.5, 4, -5.5]])
    B = np.vstack([B, [-1, -2.5, -4, 3.5]])
    U = np.array([[1.0, 0, 0, 0], [3, 1, 0, 0], [2, -1, 1, 0], [-1, 1, -2, 1]])
    X = U @ U.T
    np.testing.assert_array_equal(A.T @ X + X @ A, -B.T @ B)
    operator = np.kron(A.T, np.eye(4)) + np.kron(np.eye(4), A.T)
    condition = 2 * np.linalg.norm(A) / np.linalg.svd(operator, compute_uv=False)[-1]
    tolerance = 10 * EPS * condition * np.linalg.norm(X)
    np.testing.assert_allclose(lti.solve_lyapunov(A.T, B.T @ B), X, rtol=0, atol=tolerance)
    sys = lti.LTI(A, np.eye(4), B, dt=0)
    np.testing.assert_allclose(lti.observability_gramian(sys), X, rtol=0, atol=tolerance)
    _, S = lti.gramian_factors(sys)
    np.testing.assert_allclose(S @ S.T, X, rtol=0, atol=tolerance)


def test_sb03td():
    """Aᵀ X + X A = C with all poles in the right half plane, which the equation alone allows."""
    A = np.array([[3.0, 1, 1], [1, 3, 0], [0, 0, 3]])
    C = np.array([[25.0, 24, 15], [24, 32, 8], [15, 8, 40]])
    published = [[3.2604, 2.7187, 1.8616], [2.7187, 4.4271, 0.5699], [1.8616, 0.5699, 6.0461]]
    found = lti.solve_lyapunov(A.T, -C)
    np.testing.assert_allclose(found, published, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found, by_kronecker(A.T, A, C, True), rtol=1e-14)


SMALL = (
    np.array([[2.0, 1, 3], [0, 2, 1], [6, 1, 2]]),
    np.array([[2.0, 1], [1, 6]]),
    np.array([[2.0, 1], [1, 4], [0, 5]]),
)


def test_sb04md():
    A, B, C = SMALL
    published = [[-2.7685, 0.5498], [-1.0531, 0.6865], [4.5257, -0.4389]]
    found = lti.solve_lyapunov(A, -C, B.T)
    np.testing.assert_allclose(found, published, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found, by_kronecker(A, B, C, True), rtol=1e-13)


def test_sb04pd():
    A, B, C = SMALL
    published = [[-0.3430, 0.1995], [-0.1856, 0.4192], [0.6922, -0.2952]]
    found = lti.solve_stein(A, C, -B.T)  # A X B + X = C
    np.testing.assert_allclose(found, published, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found, by_kronecker(A, B, C, False), rtol=1e-13)


def test_sb04nd():
    A = np.array(
        [
            [17.0, 24, 1, 8, 15],
            [23, 5, 7, 14, 16],
            [0, 6, 13, 20, 22],
            [0, 0, 19, 21, 3],
            [0, 0, 0, 2, 9],
        ]
    )
    B = np.array([[8.0, 1, 6], [0, 5, 7], [0, 9, 2]])
    X = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, -1], [2, -2, 1]])
    C = np.array([[62.0, -12, 26], [59, -10, 31], [70, -6, 9], [35, 31, -7], [36, -15, 7]])
    np.testing.assert_array_equal(A @ X + X @ B, C)
    np.testing.assert_allclose(lti.solve_lyapunov(A, -C, B.T), X, rtol=0, atol=1e-13)


def test_sb04qd():
    A = np.array([[1.0, 2, 3], [6, 7, 8], [9, 2, 3]])
    B = np.array([[7.0, 2, 3], [2, 1, 2], [3, 4, 1]])
    X = np.array([[2.0, 3, 6], [4, 7, 1], [5, 3, 2]])
    C = np.array([[271.0, 135, 147], [923, 494, 482], [578, 383, 287]])
    np.testing.assert_array_equal(X + A @ X @ B, C)
    np.testing.assert_allclose(lti.solve_stein(A, C, -B.T), X, rtol=1e-12)


def test_sb04rd():
    A = np.array(
        [[1.0, 2, 3, 4, 5], [6, 7, 8, 9, 1], [0, 2, 3, 4, 5], [0, 0, 6, 7, 8], [0, 0, 0, 9, 1]]
    )
    B = np.array(
        [[1.0, 2, 3, 4, 5], [0, 1, 2, 3, 4], [0, 0, 1, 2, 3], [0, 0, 0, 1, -5], [0, 0, 0, 4, 1]]
    )
    C = np.eye(5) + A @ B
    np.testing.assert_array_equal(C[:, 3], [40, 74, 36, 52, 13])
    np.testing.assert_allclose(lti.solve_stein(A, C, -B.T), np.eye(5), rtol=0, atol=1e-11)


def test_sg03bd():
    """Aᵀ X E + Eᵀ X A = −bᵀ b with X = Uᵀ U."""
    A = np.array([[-1.0, 3, -4], [0, 5, -2], [-4, 4, 1]])
    E = np.array([[2.0, 1, 3], [2, 0, 1], [4, 5, 1]])
    b = np.array([[2.0, -1, 7]])
    U = np.array([[1.6003, -0.4418, -0.1523], [0, 0.6795, -0.2499], [0, 0, 0.2041]])
    X = lti.solve_lyapunov(A.T, b.T @ b, E=E.T)
    np.testing.assert_allclose(X, U.T @ U, rtol=0, atol=4 * 5.1e-5)
    np.testing.assert_allclose(A.T @ X @ E + E.T @ X @ A, -b.T @ b, rtol=0, atol=1e-12)
    # The same from the system in descriptor form: tr(Gᵀ X G) is the squared h2 norm for input G.
    G = np.eye(3)
    sys = lti.from_descriptor(E, A, G, b, dt=0)
    np.testing.assert_allclose(lti.h2_norm(sys) ** 2, np.trace(X), rtol=1e-12)


# --- sampling: ab04md -------------------------------------------------------------------------


def test_ab04md():
    """s = (z − 1)/(z + 1), where √2 is all that states in other units change."""
    # The columns of B are the rows of the file.
    A, B = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    C, D = np.array([[-1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
    A_z, D_z = np.array([[-1.0, -4.0], [-4.0, -1.0]]), np.diag([-1.0, -3.0])
    B_z, C_z = np.diag([8**0.5, -(8**0.5)]), 8**0.5 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    sys, published = lti.LTI(A, B, C, D, dt=0), lti.LTI(A_z, B_z, C_z, D_z, dt=2)
    found = lti.discretize(sys, step=2, method="bilinear")
    np.testing.assert_allclose(found.A, A_z, rtol=1e-14)
    h = lti.impulse_response(published, 6)
    np.testing.assert_allclose(lti.impulse_response(found, 6), h, rtol=1e-14, atol=1e-11)
    back = lti.to_continuous(published, method="bilinear")
    np.testing.assert_allclose(back.A, A, rtol=1e-14)
    np.testing.assert_allclose(back.D, D, rtol=1e-14, atol=1e-14)
    omega = np.array([0.0, 0.3, 2.0])
    H = lti.frequency_response(sys, omega)
    np.testing.assert_allclose(lti.frequency_response(back, omega), H, rtol=1e-14, atol=1e-14)


# --- joining systems: ab05* -------------------------------------------------------------------

FIRST = lti.LTI(
    np.array([[1.0, 0, -1], [0, -1, 1], [1, 1, 2]]),
    np.array([[1.0, 2], [1, 0], [0, 1]]),
    np.array([[3.0, -2, 1], [0, 1, 0]]),
    np.eye(2),
)
SECOND = lti.LTI(
    np.array([[-3.0, 0, 0], [1, 0, 1], [0, -1, 2]]),
    np.array([[0.0, 1], [-1, 0], [0, 2]]),
    np.array([[1.0, 1, 0], [1, 1, -1]]),
    np.array([[1.0, 1], [0, 1]]),
)
IN_SERIES = lti.LTI(
    np.array(
        [
            [1.0, 0, -1, 0, 0, 0],
            [0, -1, 1, 0, 0, 0],
            [1, 1, 2, 0, 0, 0],
            [0, 1, 0, -3, 0, 0],
            [-3, 2, -1, 1, 0, 1],
            [0, 2, 0, 0, -1, 2],
        ]
    ),
    np.array([[1.0, 2], [1, 0], [0, 1], [0, 1], [-1, 0], [0, 2]]),
    np.array([[3.0, -1, 1, 1, 1, 0], [0, 1, 0, 1, 1, -1]]),
    np.array([[1.0, 1], [0, 1]]),
)
IN_LOOP = lti.LTI(
    np.array(
        [
            [-0.5, -0.25, -1.5, -1.25, -1.25, 0.75],
            [-1.5, -0.25, 0.5, -0.25, -0.25, -0.25],
            [1.0, 0.5, 2.0, -0.5, -0.5, 0.5],
            [0.0, 0.5, 0.0, -3.5, -0.5, 0.5],
            [-1.5, 1.25, -0.5, 1.25, 0.25, 1.25],
            [0.0, 1.0, 0.0, -1.0, -2.0, 3.0],
        ]
    ),
    np.array([[0.5, 0.75], [0.5, -0.25], [0, 0.5], [0, 0.5], [-0.5, 0.25], [0, 1]]),
    np.array([[1.5, -1.25, 0.5, -0.25, -0.25, -0.25], [0, 0.5, 0, -0.5, -0.5, 0.5]]),
    np.array([[0.5, -0.25], [0, 0.5]]),
)
IN_PARALLEL = lti.LTI(
    scipy.linalg.block_diag(FIRST.A, SECOND.A),
    np.vstack([FIRST.B, SECOND.B]),
    np.hstack([FIRST.C, SECOND.C]),
    np.array([[2.0, 1], [0, 2]]),
)


@pytest.mark.parametrize(
    ("join", "published"),
    [
        (lambda x, y: y @ x, IN_SERIES),
        (lti.feedback, IN_LOOP),
        (lambda x, y: x + y, IN_PARALLEL),
    ],
    ids=["ab05md", "ab05nd", "ab05pd"],
)
@pytest.mark.parametrize("dt", [True, 0])
def test_ab05(join, published, dt):
    """Numbers of few bits: responses of discrete-time systems come out to the last one."""
    first, second, expected = (
        lti.LTI(x.A, x.B, x.C, x.D, dt=dt) for x in (FIRST, SECOND, published)
    )
    found = join(first, second)
    assert found.dt is dt or found.dt == dt
    if dt is True:
        h = lti.impulse_response(expected, 12)
        np.testing.assert_array_equal(lti.impulse_response(found, 12), h)
    else:
        H = lti.frequency_response(expected, np.array([0.5, 1.0, 5.0]))
        close = lti.frequency_response(found, np.array([0.5, 1.0, 5.0]))
        np.testing.assert_allclose(close, H, rtol=1e-13, atol=1e-13)


# --- zeros: ab08nd ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_ab08nd(dtype):
    """ab08nz for complex numbers. No input reaches the pole at −4, no output sees the one at −1,
    which stands among the zeros of the system and leaves with the pole."""
    A = np.diag([1.0, 1, 3, -4, -1, 3]).astype(dtype)
    B = np.array([[0.0, -1], [-1, 0], [1, -1], [0, 0], [0, 1], [-1, -1]])
    C = np.array([[1.0, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1], [0, 0, 1, 0, 0, 1]])
    sys = lti.LTI(A, B, C, np.zeros((3, 2)), dt=0)
    found = lti.zeros(sys)
    np.testing.assert_allclose(np.sort(found.real), [-1, 2], rtol=1e-14)
    np.testing.assert_allclose(found.imag, 0, atol=1e-14)
    small = lti.minimal_realization(sys).system
    assert small.order == 4
    np.testing.assert_allclose(lti.zeros(small), [2], rtol=1e-13)
    omega = np.array([0.0, 1.0, 10.0])
    H = lti.frequency_response(sys, omega)
    np.testing.assert_allclose(lti.frequency_response(small, omega), H, rtol=1e-13, atol=1e-13)


# --- reductions: ab09* ------------------------------------------------------------------------


def half(A, B, C, split, side):
    """The part of a system right (0) or left (1) of Re s = split, by an ordered Schur form."""
    T, U, k = scipy.linalg.schur(A, output="real", sort=lambda re, im: re > split)
    X = scipy.linalg.solve_sylvester(T[:k, :k], -T[k:, k:], -T[:k, k:])
    B, C = U.T @ B, C @ U
    if side == 0:
        return lti.LTI(T[:k, :k], B[:k] - X @ B[k:], C[:, :k], dt=0)
    return lti.LTI(T[k:, k:], B[k:], C[:, :k] @ X + C[:, k:], dt=0)


def of_four_digits(A, B, C, D=None):
    """A published system: its numbers are off by 5e-5 each."""
    A, B, C = (np.array(X) for X in (A, B, C))
    return lti.LTI(A, B, C, None if D is None else np.array(D), dt=0)


TRUNCATED = of_four_digits(
    [
        [1.3451, 5.0399, 0, 0, 4.5315],
        [-4.0214, -3.6604, 0, 0, -0.9056],
        [0, 0, 0.5124, 1.791, 0],
        [0, 0, -4.2167, -2.99, 0],
        [1.2402, 1.6416, 0, 0, -0.0586],
    ],
    [
        [-0.3857, 0.3857],
        [-3.1753, 3.1753],
        [-0.7447, -0.7447],
        [-3.6872, -3.6872],
        [1.8197, -1.8197],
    ],
    [
        [-0.6704, 0.1828, -0.6582, 0.2222, -0.0104],
        [0.1089, 0.4867, 0, 0, 0.8651],
        [0.6704, -0.1828, -0.6582, 0.2222, 0.0104],
    ],
)
MATCHED = of_four_digits(
    [
        [1.396, 5.1248, 0, 0, 4.4331],
        [-4.1411, -3.8605, 0, 0, -0.6738],
        [0, 0, 0.5847, 1.923, 0],
        [0, 0, -4.3823, -3.2922, 0],
        [1.3261, 1.7851, 0, 0, -0.2249],
    ],
    [
        [-0.2901, 0.2901],
        [-3.4004, 3.4004],
        [-0.6379, -0.6379],
        [-3.9315, -3.9315],
        [1.9813, -1.9813],
    ],
    [
        [-0.657, 0.2053, -0.6416, 0.2526, -0.0364],
        [0.1094, 0.4875, 0, 0, 0.8641],
        [0.657, -0.2053, -0.6416, 0.2526, 0.0364],
    ],
    [[0.0498, -0.0007], [0.0010, -0.0010], [-0.0007, 0.0498]],
)


@pytest.mark.parametrize(
    ("match_dc", "published"), [(False, TRUNCATED), (True, MATCHED)], ids=["ab09ad", "ab09bd"]
)
def test_ab09(match_dc, published):
    """Five of seven states, both methods; states may have other signs, gains may not. Rounding of
    the published numbers, 5e-5 where gains are 2, moves the response by 1e-3."""
    sys = lti.LTI(*POWER, dt=0)
    found = lti.balanced_truncation(sys, error=0.1, match_dc=match_dc)
    assert found.order == 5
    assert lti.hinf_error(published, found.system) < 2e-3
    # The two differ from each other by far more.
    other = TRUNCATED if match_dc else MATCHED
    assert lti.hinf_error(other, found.system) > 2e-2


def test_ab09md():
    """Three of the five states left of Re s = −0.6; the two right of it are kept."""
    published = of_four_digits(
        [
            [-0.5181, -1.1084, 0, 0, 0],
            [8.8157, -0.5181, 0, 0, 0],
            [0, 0, 0.5124, 0, 1.791],
            [0, 0, 0, -1.446, 0],
            [0, 0, -4.2167, 0, -2.99],
        ],
        [
            [-1.2837, 1.2837],
            [-0.7522, 0.7522],
            [-0.7447, -0.7447],
            [1.9275, -1.9275],
            [-3.6872, -3.6872],
        ],
        [
            [-0.138, -0.6445, -0.6582, -0.5771, 0.2222],
            [0.6246, 0.0196, 0, 0.4131, 0],
            [0.138, 0.6445, -0.6582, 0.5771, 0.2222],
        ],
    )
    fast, slow = half(*POWER, -0.6, 1), half(*POWER, -0.6, 0)
    small = lti.balanced_truncation(fast, order=3)
    values = [1.9178, 0.8621, 0.7666, 0.0336, 0.0246]
    np.testing.assert_allclose(small.singular_values, values, rtol=0, atol=5.1e-5)
    assert lti.hinf_error(small.system + slow, published) < 2e-3


def test_ab09id():
    """An unstable controller reduced with an output weight by Enns' method: its unstable pole is
    kept, of the two stable states one."""
    A = np.array([[-26.4, 6.4023, 4.3868], [32, 0, 0], [0, 8, 0]])
    B, C = np.array([[16.0], [0], [0]]), np.array([[9.2994, 1.1624, 0.1090]])
    weight = np.diag([-1.0, 2, -3, 0, 0, 0])
    weight[0, 2] = 4
    weight[:3, 3:] = -C
    weight[3, :3] = 16
    weight[3:, 3:] = A
    output = np.array([[1.0, 1, 1, 0, 0, 0]])
    V = lti.LTI(weight, output.T, output, dt=0)
    stable, unstable = half(A, B, C, 0.0, 1), half(A, B, C, 0.0, 0)
    np.testing.assert_allclose(unstable.A, [[9.19]], rtol=0, atol=5.1e-5)
    gramians = lti.weighted_gramians(stable, output_weight=V)
    found = lti.balanced_truncation(stable, order=1, gramians=gramians)
    np.testing.assert_allclose(found.singular_values, [3.8253, 0.2005], rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found.system.A, [[-34.5297]], rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(found.system.C @ found.system.B, [[16.9329 * 6.9152]], rtol=2e-5)
    np.testing.assert_allclose(unstable.C @ unstable.B, [[11.9593 * 2.8955]], rtol=3e-5)


# --- norms: ab13cd, ab13dd --------------------------------------------------------------------


def test_ab13cd():
    """Three oscillators with damping down to 1e-6 of the frequency, where one gain is 5e5."""
    stiffness, damping = (0.5, 1.0, 2.0), (2e-4, 2e-5, 2e-6)
    blocks = [np.array([[0.0, 1], [-k, -d]]) for k, d in zip(stiffness, damping, strict=True)]
    A, B = scipy.linalg.block_diag(*blocks), np.array([[1.0], [0]] * 3)
    sys = lti.LTI(A, B, B.T, dt=0)
    norm, frequency = lti.hinf_norm(sys, return_frequency=True)
    np.testing.assert_allclose(norm, 0.5000000001e6, rtol=0, atol=5e-5)
    np.testing.assert_allclose(frequency, 0.1414213562e1, rtol=0, atol=5e-10)

    def gain(w):
        s = mpmath.mpc(0, w)
        pairs = zip(stiffness, damping, strict=True)
        return abs(sum((s + d) / (s * s + d * s + k) for k, d in pairs))

    with mpmath.workdps(50):
        ends = (mpmath.sqrt(2) - 1e-7, mpmath.sqrt(2) + 1e-7)
        top = mpmath.findroot(lambda w: mpmath.diff(gain, w), ends, solver="illinois", tol=1e-30)
        expected, at = float(gain(top)), float(top)
    # A holds the damping to eps, the pole's distance from the axis to eps √2/1e-6 of itself.
    np.testing.assert_allclose(norm, expected, rtol=1e-8)
    np.testing.assert_allclose(frequency, at, rtol=1e-9)


# --- pyMOR: IRKA ------------------------------------------------------------------------------


def test_two_states_in_one():
    """2/(s + 1) + 2/(s + 2) by one state: an interpolant at a has ‖G‖² − 2 a G(a)² left, so that
    the best a is a root of G(a) + 2 a G′(a) = 0."""
    sys = lti.LTI(np.diag([-1.0, -2]), np.array([[1.0], [2]]), np.array([[2.0, 1]]), dt=0)
    with mpmath.workdps(50):

        def G(a):
            return 2 / (a + 1) + 2 / (a + 2)

        a = mpmath.findroot(lambda a: G(a) + 2 * a * mpmath.diff(G, a), 1.4)
        left = mpmath.mpf(4) / 2 + 2 * mpmath.mpf(4) / 3 + mpmath.mpf(4) / 4 - 2 * a * G(a) ** 2
        pole, residue, error = float(-a), float(2 * a * G(a)), float(mpmath.sqrt(left))
    for method in ("tsia", "lbfgs", "lm"):
        found = lti.h2_reduction(sys, 1, method=method)
        # J is flat: a step of 1e-8 in the pole changes it by 1e-16.
        np.testing.assert_allclose(found.system.poles, [pole], rtol=1e-7)
        np.testing.assert_allclose(found.system.C @ found.system.B, [[residue]], rtol=1e-7)
        np.testing.assert_allclose(found.h2_error, error, rtol=1e-12)
