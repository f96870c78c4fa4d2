"""What a device or its arrays may have against a call, on the stand-in: errors say what to do."""

from functools import partial

import numpy as np
import pytest
from device_systems import dense, diagonal, right_side, rotation, signal

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


#: name → the call, of xp and a system.
CALLS = {
    "solve_stein": lambda xp, sys: partial(lti.solve_stein, sys.A, right_side(xp, sys)),
    "gramian": lambda xp, sys: partial(lti.controllability_gramian, sys),
    "values": lambda xp, sys: partial(lti.hankel_singular_values, sys),
    "gradient": lambda xp, sys: lambda: lti.hankel_sum_and_gradient(sys)[1].B,
    "h2_norm": lambda xp, sys: partial(lti.h2_norm, sys),
    "responses": lambda xp, sys: partial(lti.frequency_response, sys, xp.linspace(-3, 3, 5)),
    "impulses": lambda xp, sys: partial(lti.impulse_response, sys, 9),
    "simulate": lambda xp, sys: partial(lti.simulate, sys, signal(xp, sys)),
    "recurrence": lambda xp, sys: partial(lti.linear_recurrence, sys.C[..., 0, :] / 9, sys.C),
}


@pytest.fixture
def most_bytes(standin, monkeypatch):
    """Sets how many bytes an array may take on the device."""
    return lambda count: monkeypatch.setattr(standin.DEVICE, "most_bytes", count)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("make", SYSTEMS)
def test_too_little_memory_has_a_name(standin, most_bytes, make, name):
    sys = make(standin.cupy, (3,))
    call = CALLS[name](standin.cupy, sys)
    call()
    most_bytes(16)
    with pytest.raises(lti.MemoryLimitError, match=r"device has not enough.*allocating"):
        call()


@pytest.mark.parametrize("name", CALLS)
def test_arrays_of_numpy_need_no_device(standin, monkeypatch, name):
    """With CuPy loaded, and no driver or no device."""
    sys = rotation(np, (3,))
    expected = CALLS[name](np, sys)()
    monkeypatch.setattr(standin.DEVICE, "absent", True)
    assert np.array_equal(CALLS[name](np, sys)(), expected)
    with pytest.raises(RuntimeError, match="no CUDA-capable device"):
        standin.cupy.ones(3) + 1


def gaps(xp, x):
    """The same numbers, every second of an array that has none beside them."""
    wide = xp.full((*x.shape, 2), float("nan"), dtype=x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def turned(xp, x):
    """The same numbers, the last two axes the other way round in memory."""
    if x.ndim < 2:
        return x[::-1][::-1]
    return xp.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("lie", [gaps, turned])
@pytest.mark.parametrize("make", SYSTEMS)
def test_arrays_that_lie_otherwise_in_memory(standin, make, lie, name):
    cp, sys = standin.cupy, make(standin.cupy, (3,))
    arrays = [lie(cp, x) for x in (sys.B, sys.C, sys.D)]
    parameters = [lie(cp, x) for x in lti.systems.structure.parameters(sys.A)]
    A = parameters[0] if make is dense else type(sys.A)(*parameters)
    found = CALLS[name](cp, lti.LTI(A, *arrays))()
    expected = CALLS[name](cp, sys)().get()
    np.testing.assert_allclose(
        found.get(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max(initial=0)
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("make", SYSTEMS)
def test_batches_of_nothing(standin, make, name):
    """As NumPy's: results without entries, or the same error."""
    try:
        expected = CALLS[name](np, make(np, (0,)))()
    except lti.LticoreError as error:
        with pytest.raises(type(error)):
            CALLS[name](standin.cupy, make(standin.cupy, (0,)))()
        return
    found = CALLS[name](standin.cupy, make(standin.cupy, (0,)))()
    assert found.shape == expected.shape


@pytest.mark.parametrize("name", sorted({*CALLS} - {"solve_stein", "recurrence"}))
def test_systems_without_states(standin, name):
    """A pure gain."""

    def gain(xp):
        arrays = xp.zeros((0, 2)), xp.zeros((3, 0)), xp.ones((3, 2))
        return lti.LTI(lti.Diagonal(xp.zeros(0)), *arrays)

    found, expected = (CALLS[name](xp, gain(xp))() for xp in (standin.cupy, np))
    np.testing.assert_allclose(found.get(), expected)
