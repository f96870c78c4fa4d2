"""What a device or its arrays may have against a call, on the stand-in: errors say what to do."""

import numpy as np
import pytest
from device_systems import dense, diagonal, rotation

import lticore as lti
from lticore import kernels

SYSTEMS = (rotation, diagonal, dense)


def test_arrays_of_another_device_are_refused(standin):
    cp = standin.cupy
    with cp.cuda.Device(1):
        B = cp.ones((2, 1))
    with pytest.raises(lti.ArrayLibraryError, match=r"B lies on .*1.*with array.device"):
        lti.LTI(lti.Diagonal(cp.asarray([0.5, 0.2])), B, cp.ones((1, 2)))


@pytest.mark.parametrize("make", SYSTEMS)
def test_a_device_that_is_not_the_first(standin, make):
    cp = standin.cupy
    with cp.cuda.Device(1):
        sys = make(cp)
        sigma = lti.hankel_singular_values(sys)
        assert sigma.device.id == lti.controllability_gramian(sys).device.id == 1
    np.testing.assert_allclose(sigma.get(), lti.hankel_singular_values(make(np)), rtol=1e-10)


@pytest.mark.parametrize("call", [lti.hankel_singular_values, lti.h2_reduction, lti.to_rotation])
def test_what_computes_on_the_host_says_so_while_a_graph_is_captured(standin, call):
    sys = rotation(standin.cupy)
    arguments = (sys, 3) if call is lti.h2_reduction else (sys,)
    with (
        standin.DEVICE.capture(),
        pytest.raises(lti.ArrayLibraryError, match="computes on the host"),
    ):
        call(*arguments)


def test_kernels_that_do_not_compile_say_what_to_do(standin, monkeypatch):
    class RawModule:
        def __init__(self, **_):
            raise RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")

    gpu = kernels._load("gpu:weighted_gram").__globals__
    monkeypatch.setattr(standin.cupy, "RawModule", RawModule)
    gpu["_kernel"].cache_clear()
    u = standin.cupy.ones((4, 2))
    with pytest.raises(lti.ArrayLibraryError, match=r"UNSUPPORTED_PTX.*update the driver"):
        lti.linear_recurrence(u[0], u)


@pytest.mark.parametrize("name", ["reversed", "transposed", "strided", "nothing"])
def test_arrays_without_order_or_entries(standin, name):
    change = {
        "reversed": lambda x: x[::-1],
        "transposed": lambda x: x.swapaxes(0, 1),
        "strided": lambda x: x[:, ::2],
        "nothing": lambda x: x[:0],
    }[name]
    u = np.random.default_rng(0).standard_normal((7, 7, 4))
    found = lti.linear_recurrence(0.5 * np.ones(4), change(u))
    on_device = change(standin.cupy.asarray(u))
    poles = standin.cupy.asarray(0.5 * np.ones(4))
    np.testing.assert_allclose(lti.linear_recurrence(poles, on_device).get(), found, atol=1e-14)


@pytest.mark.parametrize(
    "call",
    [
        lti.hankel_sum_and_gradient,
        lti.hankel_singular_values,
        lti.controllability_gramian,
        lti.h2_norm,
    ],
)
def test_what_is_asked_at_the_end_still_raises(standin, call):
    cp = standin.cupy
    sys = lti.LTI(
        lti.Rotation(cp.asarray([0.5, 1.5]), cp.ones(2)), cp.ones((4, 1)), cp.ones((1, 4))
    )
    with pytest.raises(lti.UnstableSystemError, match=r"mode 1 .*1\.5"):
        call(sys)


def test_gradients_that_do_not_converge_are_decomposed(standin):
    """σ = (1, 1e-7): the smaller one lies below what products of matrices see."""
    cp = standin.cupy
    arrays = np.array([0.5, -0.5]), np.diag([1, 1e-14]), np.diag([0.75, 0.75])
    host, device = (
        lti.LTI(lti.Rotation(a[:0], a[:0], a), B, C)
        for a, B, C in (arrays, map(cp.asarray, arrays))
    )
    found, expected = (lti.hankel_sum_and_gradient(x)[0] for x in (device, host))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_arrays_of_numpy_beside_a_system_on_the_device_are_refused(standin):
    """Also by what computes on the host, where both would lie side by side."""
    sys = rotation(standin.cupy)
    with pytest.raises(lti.ArrayLibraryError, match="mix array types"):
        lti.h2_error(sys, rotation(np))
    with pytest.raises(lti.ArrayLibraryError, match="mix array types"):
        lti.hankel_error(sys, rotation(np))
    with pytest.raises(lti.ArrayLibraryError, match="mix array types"):
        lti.refit_outputs(sys, [(np.ones((9, 3)), np.ones((9, 2)))])
