"""Hankel singular values with correct digits however small, against 120-digit arithmetic."""

import mpmath
import numpy as np
import pytest
from strategies import build_system

import lticore as lti

ORDER = 32


def inner(x, y):
    return sum(mpmath.conj(a) * b for a, b in zip(x, y, strict=True))


def exact_values(poles, b, c, digits=120):
    """√eig(P Q) of the modal system; poles are (radius, phase) pairs, taken as exact."""
    with mpmath.workdps(digits):
        lam = [mpmath.mpf(float(r)) * mpmath.expj(mpmath.mpf(float(t))) for r, t in poles]
        rows, columns = ([[mpmath.mpc(complex(x)) for x in row] for row in X] for X in (b, c.T))
        n = len(lam)
        P, Q = mpmath.matrix(n, n), mpmath.matrix(n, n)
        for i in range(n):
            for j in range(n):
                P[i, j] = inner(rows[j], rows[i]) / (1 - lam[i] * mpmath.conj(lam[j]))
                Q[i, j] = inner(columns[i], columns[j]) / (1 - mpmath.conj(lam[i]) * lam[j])
        squares = mpmath.eig(P * Q, left=False, right=False)
        return np.array(sorted((float(mpmath.sqrt(abs(x))) for x in squares), reverse=True))


def clustered(count):
    gap = np.geomspace(1e-3, 0.03, count)
    return 1 - gap, 0.2 * gap


def diagonal_family(b, c):
    radius, phase = clustered(len(b))
    sys = lti.LTI(lti.Diagonal(radius * np.exp(1j * phase)), b, c)
    return sys, exact_values(zip(radius, phase, strict=True), b, c)


def relative_errors(sys, exact):
    return np.abs(lti.hankel_singular_values(sys, accuracy="relative") / exact - 1)


def test_all_values_of_a_clustered_diagonal_system():
    sys, exact = diagonal_family(np.ones((ORDER, 1)), np.ones((1, ORDER)))
    assert exact[-1] < 1e-26 * exact[0]
    # The poles were rounded to Cartesian form: 1e-16 in gaps of 1e-4 between them.
    assert relative_errors(sys, exact).max() < 1e-8


def test_all_values_of_a_clustered_rotation_system():
    radius, angle = clustered(ORDER // 2)
    sys = lti.LTI(lti.Rotation(radius, angle), np.ones((ORDER, 1)), np.ones((1, ORDER)))
    poles = [(r, sign * a) for sign in (-1, 1) for r, a in zip(radius, angle, strict=True)]
    # Coordinates x_1 ± i x_2 of each block, as complex rows and columns.
    b = np.concatenate([np.full(ORDER // 2, 1 + 1j), np.full(ORDER // 2, 1 - 1j)])[:, None]
    exact = exact_values(poles, b / np.sqrt(2), b.conj().T / np.sqrt(2))
    assert exact[-1] < 1e-20 * exact[0]
    assert relative_errors(sys, exact).max() < 1e-8


@pytest.mark.slow
def test_all_values_with_graded_couplings():
    grades = np.geomspace(1, 1e-10, ORDER)
    sys, exact = diagonal_family(grades[:, None], grades[None, :])
    assert exact[-1] < 1e-40 * exact[0]
    assert relative_errors(sys, exact).max() < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [2, 3])
def test_several_inputs_keep_most_values(inputs):
    rng = np.random.default_rng(0)
    b, c = rng.standard_normal((ORDER, inputs)), rng.standard_normal((inputs, ORDER))
    sys, exact = diagonal_family(b, c)
    assert np.sum(relative_errors(sys, exact) < 0.01) >= 30


@pytest.mark.parametrize("structure", ["complex diagonal", "real diagonal", "rotation"])
@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_agrees_with_the_standard_values_where_these_are_good(structure, batch):
    sys = build_system(np.random.default_rng(1), structure, batch=batch)
    standard = lti.hankel_singular_values(sys)
    relative = lti.hankel_singular_values(sys, accuracy="relative")
    np.testing.assert_allclose(relative, standard, atol=1e-12 * standard.max())


def test_missing_directions_give_exact_zeros():
    sys = lti.LTI(lti.Diagonal([0.5, 0.5, 0.2]), [[1.0], [2.0], [0.0]], [[1.0, 1.0, 1.0]])
    sigma = lti.hankel_singular_values(sys, accuracy="relative")
    assert sigma[0] == pytest.approx(3 / 0.75, rel=1e-14)
    assert np.all(sigma[1:] == 0)
    silent = lti.LTI(sys.A, 0 * sys.B, sys.C)
    assert np.all(lti.hankel_singular_values(silent, accuracy="relative") == 0)


def test_max_rank_and_precision():
    sys = build_system(np.random.default_rng(2), "rotation", n=12, m=1, p=1, dtype="float32")
    sigma = lti.hankel_singular_values(sys, accuracy="relative", max_rank=3)
    assert sigma.shape == (3,)
    assert sigma.dtype == np.float32


def test_what_cannot_be_relatively_accurate_is_refused():
    sys = build_system(np.random.default_rng(3), "rotation")
    with pytest.raises(lti.ArgumentError, match="Diagonal and Rotation systems"):
        lti.hankel_singular_values(sys.to_dense(), accuracy="relative")
    with pytest.raises(lti.ArgumentError, match="infinite horizon"):
        lti.hankel_singular_values(sys, accuracy="relative", horizon=5)
    with pytest.raises(lti.ArgumentError, match="accuracy='high'"):
        lti.hankel_singular_values(sys, accuracy="high")
