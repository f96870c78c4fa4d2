"""How often a device is asked, and how often its host waits, counted on the stand-in."""

import numpy as np
import pytest
from device_systems import diagonal, rotation

import lticore as lti
from lticore.errors import ArrayLibraryError


@pytest.fixture
def counted(standin):
    """``counted(call, …)``: launches and times that the host waited."""

    def counted(call, *arguments):
        call(*arguments)  # compiles, and fills what is kept
        standin.DEVICE.reset()
        call(*arguments)
        return standin.DEVICE.launches.total(), standin.DEVICE.waits.total()

    return counted


def layers(xp, n=24, m=16, batch=(6,)):
    rng = np.random.default_rng(0)
    arrays = (
        rng.uniform(0.5, 0.999, (*batch, n // 2)),
        rng.uniform(0, np.pi, (*batch, n // 2)),
        rng.standard_normal((*batch, n, m)) / n**0.5,
        rng.standard_normal((*batch, m, n)) / n**0.5,
    )
    radius, angle, B, C = map(xp.asarray, arrays)
    return lti.LTI(lti.Rotation(radius, angle), B, C)


def test_gradient_of_six_layers(standin, counted):
    launches, waits = counted(lti.hankel_sum_and_gradient, layers(standin.cupy))
    assert launches <= 100
    assert waits == 1


def test_gradient_of_real_poles_and_diagonals(standin, counted):
    for sys in (rotation(standin.cupy, (6,)), diagonal(standin.cupy, (6,))):
        launches, waits = counted(lti.hankel_sum_and_gradient, sys)
        assert launches <= 115
        assert waits == 1


def test_gradient_in_a_graph(standin):
    """CuPy refuses to call cuBLAS while a graph is captured."""
    sys = layers(standin.cupy)
    lti.hankel_sum_and_gradient(sys)
    with standin.DEVICE.capture(), pytest.raises(ArrayLibraryError, match="captured"):
        lti.hankel_sum_and_gradient(sys)


@pytest.mark.parametrize(
    "call",
    [
        lti.hankel_singular_values,
        lti.gramian_factors,
        lti.hankel_norm,
        lambda sys: lti.hankel_error(sys, sys / 2),
        lambda sys: lti.balanced_truncation(sys, order=3),
        lambda sys: lti.modal_truncation(sys, 4),
    ],
    ids=["values", "factors", "norm", "error", "truncation", "modes"],
)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_decompositions(standin, counted, call, batch):
    """On the host, where all arrays go once: nothing that depends on the number of states."""
    counts = {counted(call, layers(standin.cupy, n, 4, batch)) for n in (6, 40)}
    ((launches, waits),) = counts
    assert launches <= 100
    assert waits <= 25


@pytest.mark.parametrize(
    "call",
    [
        lti.controllability_gramian,
        lti.h2_norm,
        lambda sys: lti.impulse_response(sys, 9),
        lambda sys: lti.simulate(sys, sys.C[..., :1].swapaxes(-1, -2) + 0 * sys.C[..., :4]),
    ],
    ids=["gramian", "h2", "impulse", "simulate"],
)
def test_calls_that_stay_on_the_device(standin, counted, call):
    counts = {counted(call, layers(standin.cupy, n, 4)) for n in (6, 40)}
    ((launches, waits),) = counts
    assert launches <= 300
    assert waits <= 25


@pytest.mark.parametrize("varying", [False, True])
def test_recurrences(standin, counted, varying):
    """One launch forward and one backward, whatever the length."""
    from lticore import kernels
    from lticore.equations.recurrence import adjoint_into_reference, recur_into_reference

    cp = standin.cupy
    for length in (3, 5000):
        u = cp.asarray(np.ones((2, length, 5), np.complex64))
        poles = cp.asarray(np.full((2, length if varying else 1, 5), 0.5 + 0j))
        start = cp.asarray(np.ones((2, 5), np.complex64))
        recur, back = (kernels.find(f, u) for f in (recur_into_reference, adjoint_into_reference))
        assert counted(recur, u, poles, u, start, False) == (1, 0)
        assert counted(back, u, poles, u, u, start, False) == (1, 0)
