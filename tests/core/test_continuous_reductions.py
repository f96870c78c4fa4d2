"""Complex balancing and nearby systems in continuous time."""

import numpy as np
import pytest
from continuous import system

import lticore as lti


def test_complex_balancing_is_that_of_the_cayley_map():
    """Gramians of (Λ, b, c) are those of its bilinear samples: the same values, bounds and reduced
    systems, sampled."""
    rng = np.random.default_rng(0)
    A = lti.Oscillation(rng.uniform(0.1, 2, 4), rng.uniform(0.5, 5, 4))
    sys = lti.LTI(A, rng.standard_normal((8, 2)), rng.standard_normal((3, 8)), dt=0)
    found = lti.complex_balanced_truncation(sys, order=4)
    sampled = lti.discretize(sys, step=0.5, method="bilinear")
    expected = lti.complex_balanced_truncation(sampled, order=4)
    assert isinstance(found.system.A, lti.Oscillation)
    np.testing.assert_allclose(found.singular_values, expected.singular_values, rtol=1e-10)
    assert found.error_bound == pytest.approx(expected.error_bound, rel=1e-8)
    assert lti.hinf_error(sys, found.system) <= found.error_bound
    again = lti.discretize(found.system, step=0.5, method="bilinear")
    omega = np.linspace(0, 3, 9)
    # Balanced truncation and Tustin's method agree but for singular perturbation at z = −1: the
    # truncated samples are those of another reduced system, of the same size of error.
    assert (
        np.abs(lti.frequency_response(again, omega) - lti.frequency_response(sampled, omega)).max()
        <= expected.error_bound
    )


@pytest.mark.parametrize("length", [2, 3])
def test_nearby_systems_of_chains(length):
    """1/(s + 1)^k in a chain next to other poles."""
    rng = np.random.default_rng(1)
    A = np.diag(-np.append(np.ones(length), [2.0, 3.0, 4.5]))
    A[np.arange(length - 1), np.arange(1, length)] = 1
    Q = np.linalg.qr(rng.standard_normal(A.shape))[0]
    n = len(A)
    sys = lti.LTI(Q @ A @ Q.T, rng.standard_normal((n, 1)), rng.standard_normal((1, n)), dt=0)
    nearby = lti.well_conditioned(sys)
    assert nearby.condition <= 3e6
    assert nearby.system.dt == 0
    assert nearby.system.poles.real.max() < 0
    omega = np.geomspace(1e-2, 1e2, 200)
    H, other = (lti.frequency_response(x, omega) for x in (sys, nearby.system))
    change = np.abs(other - H).max() / np.abs(H).max()
    # The change is measured at other frequencies, next to poles.
    assert 0 < change <= 10 * nearby.response_change <= 1e-7
    lti.diagonalize(nearby.system)


def test_what_is_well_conditioned_stays():
    sys = system(np.random.default_rng(2), "dense")
    assert lti.well_conditioned(sys).system is sys


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("D", [None, [[1e307]]])
def test_h2_errors_of_systems_whose_first_lag_is_no_number(D):
    """C B of 2^1029 says nothing of the error, ‖c/(s + a)‖ = c b/√(2 a) of the mode that is left
    out, in 1/s of 2^40. It is absolute, and the norm is 16 times as large."""
    A, b, c = np.array([-(2.0**40), -(2.0**44)]), [[2.0**650], [2.0**650]], [[2.0**379, 2.0**377]]
    sys = lti.LTI(lti.Diagonal(A), b, c, D, dt=0)
    found = lti.modal_truncation(sys, 1)
    assert found.h2_error == pytest.approx(2.0 ** (1027 - 22.5), rel=16 * 64 * np.finfo(float).eps)
    assert 0 < lti.balanced_truncation(sys, 1).h2_error < found.h2_error
