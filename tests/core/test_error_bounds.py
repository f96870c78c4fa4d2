"""An error bound is one in the arithmetic that was done: rounding is part of it."""

import numpy as np
import pytest
from oracles import fine_grid
from strategies import random_unitary

import lticore as lti

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
