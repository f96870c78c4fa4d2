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

    gpu = kernels._load("gpu:product").__globals__
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
