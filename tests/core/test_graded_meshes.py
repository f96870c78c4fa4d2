"""Heat conduction on graded meshes: symmetric matrices whose states are fast where the mesh is fine
and slow where it is coarse, best left in the units in which they are symmetric."""

import warnings

import mpmath
import numpy as np
import pytest

import lticore as lti
from lticore.matrices.balance import state_units

EPS = np.finfo(np.float64).eps


def rod(n, grade):
    """−M^{-½} K M^{-½} of linear elements on a mesh whose widths grow by e^{2 grade}."""
    h = np.exp(grade * np.linspace(-1, 1, n + 1))
    h /= h.sum()
    mass = np.sqrt((h[:-1] + h[1:]) / 2)
    K = np.diag(1 / h[:-1] + 1 / h[1:]) - np.diag(1 / h[1:-1], 1) - np.diag(1 / h[1:-1], -1)
    return -K / np.outer(mass, mass)


def heated(n, grade):
    B, C = np.zeros((n, 1)), np.zeros((1, n))
    B[n // 4], C[0, 3 * n // 4] = 1, 1
    return lti.LTI(rod(n, grade), B, C, dt=0)


@pytest.mark.parametrize("speed", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("grade", [0, 2, 6])
@pytest.mark.parametrize("n", [20, 200])
def test_units_stay_where_a_is_symmetric(n, grade, speed):
    """They went up to 2^±466, in which A is far from normal: poles moved across the axis."""
    sys = heated(n, grade)
    units = state_units(speed * sys.A, sys.B, sys.C, continuous=True)
    assert units.max() <= 4 * units.min()


def test_units_still_follow_those_of_the_states():
    sys = heated(20, 2)
    d = 2.0 ** np.random.default_rng(0).integers(-200, 200, 20)
    expected = state_units(sys.A, sys.B, sys.C, continuous=True)
    found = state_units(sys.A * d / d[:, None], sys.B / d[:, None], sys.C * d, continuous=True)
    assert np.abs(np.log2(found * d / expected)).max() <= 2


@pytest.mark.parametrize("grade", [0, 2, 4])
def test_norms_and_values_of_a_graded_rod(grade):
    """Against eigenvectors in 60 digits. Rounding of A moves poles by eps ‖A‖, a share of
    eps ‖A‖/|λ| of the slowest, and Gramians by as much."""
    sys = heated(24, grade)
    with mpmath.workdps(60):
        poles, V = mpmath.eigsy(mpmath.matrix(sys.A.tolist()))
        n = len(poles)
        b = [V[n // 4, i] for i in range(n)]
        c = [V[3 * n // 4, i] for i in range(n)]
        P = mpmath.matrix(n, n)
        Q = mpmath.matrix(n, n)
        for i in range(n):
            for j in range(n):
                P[i, j] = -b[i] * b[j] / (poles[i] + poles[j])
                Q[i, j] = -c[i] * c[j] / (poles[i] + poles[j])
        h2 = mpmath.sqrt(sum(c[i] * P[i, j] * c[j] for i in range(n) for j in range(n)))
        product, _ = mpmath.eig(P * Q)
        sigma = sorted((float(mpmath.sqrt(abs(x))) for x in product), reverse=True)
        slowest = float(-max(poles))
    rounding = 10 * EPS * np.linalg.norm(sys.A) / slowest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, norm = lti.hankel_singular_values(sys), lti.h2_norm(sys)
    assert norm == pytest.approx(float(h2), rel=rounding)
    np.testing.assert_allclose(values, sigma, rtol=0, atol=rounding * sigma[0])


def test_a_fast_actuator_in_front_of_a_slow_rod():
    """Poles 1e6 apart, the fast one feeding the slow ones: the response is a product."""
    rod_alone = heated(40, 0)
    actuator = lti.LTI([[-1e9]], [[1e9]], [[1.0]], dt=0)
    sys = rod_alone @ actuator
    omega = np.geomspace(1e-3, 1e10, 30)
    expected = lti.frequency_response(rod_alone, omega) * (1e9 / (1j * omega + 1e9))[:, None, None]
    np.testing.assert_allclose(lti.frequency_response(sys, omega), expected, rtol=1e-9)
    # Of the actuator, 1e8 times as fast as the rod, values see one part in 1e8.
    values = lti.hankel_singular_values(rod_alone)[:6]
    np.testing.assert_allclose(lti.hankel_singular_values(sys)[:6], values, rtol=1e-6)
    small = lti.balanced_truncation(sys, order=4)
    assert lti.hinf_error(sys, small.system) <= small.error_bound * (1 + 1e-6)


@pytest.mark.parametrize("n", [20, 150])
@pytest.mark.parametrize("continuous", [True, False])
def test_units_that_were_given_at_random_do_not_matter(continuous, n):
    """Balancing by rows and columns leaves units that rise along the rod: it was refused as
    unstable. The arrays differ by powers of two, which round nothing."""
    sys = heated(n, 1)
    if not continuous:
        A = np.eye(n) + sys.A / np.abs(np.linalg.eigvalsh(sys.A)).max()
        sys = lti.LTI(A, sys.B, sys.C)
    d = 2.0 ** np.random.default_rng(0).integers(-200, 200, n)
    other = lti.LTI(sys.A * d / d[:, None], sys.B / d[:, None], sys.C * d, dt=sys.dt)
    values, again = lti.hankel_singular_values(sys), lti.hankel_singular_values(other)
    # Units of both may differ by a factor, and poles by eps ‖A‖ in them.
    slowest = (
        -np.linalg.eigvalsh(sys.A).max() if continuous else 1 - np.linalg.eigvalsh(sys.A).max()
    )
    rounding = 10 * EPS * np.linalg.norm(sys.A) / slowest
    np.testing.assert_allclose(again, values, rtol=0, atol=rounding * values[0])
    assert lti.h2_norm(other) == pytest.approx(lti.h2_norm(sys), rel=rounding)
