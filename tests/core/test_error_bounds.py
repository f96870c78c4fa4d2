"""An error bound is one in the arithmetic that was done: rounding is part of it."""

import mpmath
import numpy as np
import pytest
from oracles import EPS, fine_grid, hankel_values_by_mpmath
from strategies import random_unitary

import lticore as lti
from lticore.reduction import rounding as _rounding

rounding_is_named = pytest.mark.filterwarnings("ignore:an error of:lticore.PrecisionWarning")


def largest_error(sys, reduced, omega):
    """Largest |H − H_r| of SISO systems; H of structured systems keeps its digits."""
    return np.abs(lti.frequency_response(sys, omega) - lti.frequency_response(reduced, omega)).max()


@pytest.mark.parametrize("seed", range(4))
def test_poles_next_to_the_circle_in_a_dense_result(seed):
    """A dense A_r holds a pole to eps: |c b| eps/gap² of error beside a tail of 1."""
    rng = np.random.default_rng(seed)
    gaps = np.concatenate([1.3e-10 * 10 ** rng.uniform(0, 1, 3), rng.uniform(0.05, 0.7, 10)])
    A = lti.Rotation(1 - gaps, rng.uniform(0, 3, 13))
    sys = lti.LTI(A, rng.normal(size=(26, 1)), rng.normal(size=(1, 26)))
    reduction = lti.balanced_truncation(sys, order=13)
    error = largest_error(sys, reduction.system, fine_grid(sys.poles))
    assert error > 100 * 2 * reduction.singular_values[13:].sum()
    assert error <= reduction.error_bound <= 100 * error


@pytest.mark.parametrize("seed", range(4))
def test_chains_of_equal_poles(seed):
    """H = g^19/(z − p)^20 in orthogonal coordinates: the pole has a condition beyond 1e4, which
    rounding multiplies, and σ_1 is 9e5."""
    n, pole, gain = 20, 0.8, 0.38
    A = np.diag(np.full(n, pole)) + np.diag(np.full(n - 1, gain), -1)
    Q = random_unitary(np.random.default_rng(seed), (), n)
    sys = lti.LTI(Q @ A @ Q.T, Q[:, :1], Q[:, -1:].T)
    with pytest.warns(lti.PrecisionWarning, match="an error of 1.0e-06 was asked for, but round"):
        reduction = lti.balanced_truncation(sys, error=1e-6)
    omega = np.concatenate([np.geomspace(1e-6, np.pi, 200), [0]])
    exact = gain ** (n - 1) / (np.exp(1j * omega) - pole) ** n
    error = np.abs(lti.frequency_response(reduction.system, omega)[:, 0, 0] - exact).max()
    assert error > 1e-6
    # A bound on all roundings of the size of eps ‖A‖ is some hundred times a random one.
    assert error <= reduction.error_bound <= 1000 * error


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("states", "spread"), [(2, 5e-6), (3, 2e-7)])
def test_clustered_poles_whose_second_value_is_small(states, spread, seed):
    """σ_2 is 1e-6 of σ_1: formed Gramians, which hold squares, know it to a thousandth. A third one
    is far below what they hold."""
    rng = np.random.default_rng(seed)
    offsets = spread * rng.standard_normal((states, 2)).view(complex)[:, 0]
    shapes = ((states, 1), (3, states))
    B, C = (rng.standard_normal((*shape, 2)).view(complex)[..., 0] for shape in shapes)
    sys = lti.LTI(lti.Diagonal((-0.34 + 0.89j) * (1 + offsets)), B, C)
    reduction = lti.balanced_truncation(sys, order=1)
    dropped = hankel_values_by_mpmath(np.diag(sys.poles), B, C, digits=60)[1:].sum()
    assert 2 * dropped <= reduction.error_bound <= 2.1 * dropped


@rounding_is_named
def test_an_integrator_that_is_almost_one():
    """1/(z − 1 + 1e-15) next to mild poles; 2e-16 of its gap are lost in the dense A_r."""
    sys = lti.LTI(lti.Diagonal([1 - 1e-15, 0.9, 0.5, 0.3]), np.ones((4, 1)), np.ones((1, 4)))
    reduction = lti.balanced_truncation(sys, error=1e-3)
    assert largest_error(sys, reduction.system, fine_grid(sys.poles)) <= reduction.error_bound


def test_all_of_a_system():
    """Nothing is dropped: the bound is that of rounding, a small multiple of eps."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 12))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    sys = lti.LTI(A, rng.normal(size=(12, 1)), rng.normal(size=(1, 12)))
    reduction = lti.balanced_truncation(sys, order=12)
    error = largest_error(sys, reduction.system, fine_grid(sys.poles))
    assert 0 < error <= reduction.error_bound <= 1e-11 * reduction.singular_values[0]


def one_state(pole, b, c):
    return lti.LTI(*(np.array([[x]], dtype=np.float32) for x in (pole, b, c)))


def exact_difference(sys, reduced):
    """(h∞ at ω = 0, h2) norms of c b/(z − λ) − ĉ b̂/(z − λ̂) in exact arithmetic."""
    with mpmath.workdps(60):
        (p, g), (q, h) = (
            (mpmath.mpf(float(x.A[0, 0])), mpmath.mpf(float(x.C[0, 0])) * float(x.B[0, 0]))
            for x in (sys, reduced)
        )
        square = g**2 / (1 - p**2) + h**2 / (1 - q**2) - 2 * g * h / (1 - p * q)
        return float(abs(g / (1 - p) - h / (1 - q))), float(mpmath.sqrt(square))


@pytest.mark.parametrize("pole", [0.9119561910629272, 1 - 2.0**-20])
@pytest.mark.parametrize("match_dc", [False, True])
def test_rounding_to_single_precision_is_an_error_too(pole, match_dc):
    """Nothing is dropped, but b and c come out of a product with other digits, and are rounded."""
    sys = one_state(pole, 1.484384298324585, -1.3950999975204468)
    reduction = lti.balanced_truncation(sys, order=1, match_dc=match_dc)
    peak, h2 = exact_difference(sys, reduction.system)
    assert 0 < peak <= float(reduction.error_bound) <= 100 * peak
    # As documented: 1e-16 ‖Σ‖² in the square, and 1e-16/(1 − |λ|) ‖Σ̂‖ for a dense pole.
    norm = float(lti.h2_norm(sys))
    allowed = EPS * (2 * norm / h2 + 2 / (1 - pole)) * norm + 2e-7 * h2
    assert abs(float(reduction.h2_error) - h2) <= allowed < 0.5 * h2


def test_errors_of_modes_in_single_precision():
    """Eigenvectors of condition 2e4: modes of float32 differ from the system by 1e-3 of it."""
    A = np.array([[0.9, 1], [0, 0.9001]], dtype=np.float32)
    sys = lti.LTI(A, np.array([[0], [1]], np.float32), np.array([[1, 7]], np.float32))
    reduction = lti.modal_truncation(sys, 2)
    p = [float(x) for x in np.diag(A)]
    with mpmath.workdps(60):
        q = [mpmath.mpf(float(x)) for x in reduction.system.A.real_poles]
        first = float(A[0, 1]) / (mpmath.mpf(p[0]) - p[1])
        residues = [first, 7 - first]
        residues += [
            -mpmath.mpf(float(b)) * float(c)
            for b, c in zip(reduction.system.B[:, 0], reduction.system.C[0], strict=True)
        ]
        poles = [mpmath.mpf(x) for x in p] + q
        square = sum(
            r * s / (1 - x * y)
            for r, x in zip(residues, poles, strict=True)
            for s, y in zip(residues, poles, strict=True)
        )
        exact = float(mpmath.sqrt(square))
    assert exact > 1e-4
    allowed = EPS * float(lti.h2_norm(sys)) ** 2 + 2e-7 * exact**2
    assert abs(float(reduction.h2_error) ** 2 - exact**2) <= allowed < 0.2 * exact**2


def test_a_pole_that_single_precision_rounds_to_one():
    """λ = 1 − 2e-8 in two states, and 1 as the only entry of a float32 A."""
    A = np.array([[1, -1e-4], [1e-4, 0.5]], dtype=np.float32)
    sys = lti.LTI(A, np.ones((2, 1), np.float32), np.ones((1, 2), np.float32))
    with pytest.warns(lti.PrecisionWarning, match="not in float32"):
        reduction = lti.balanced_truncation(sys, order=1)
    assert reduction.system.A[0, 0] == 1
    assert reduction.error_bound == reduction.h2_error == np.inf


@pytest.mark.parametrize("moved", [(1e-3, 0, 0), (0, 1e-3, 0), (0, 0, 1e-3), (2e-3, 3e-3, 5e-3)])
def test_the_change_of_one_state_is_that_of_its_response(moved):
    """|δH| at z = 1 of c b/(z − a), all positive, where the estimate is an equation."""
    a, b, c = 0.75, 2.0, 3.0
    found = _rounding._change_of_response(lti.LTI([[a]], [[b]], [[c]]), *moved)
    in_a, in_b, in_c = moved
    exact = (c + in_c) * (b + in_b) / (1 - a - in_a) - c * b / (1 - a)
    # Both numbers are differences or sums of a few terms of the size of c b/(1 − a) = 24.
    assert abs(found - exact) <= 8 * EPS * 24
