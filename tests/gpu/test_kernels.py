"""The CUDA kernels on a device, beside the NumPy kernels of the same operations."""

import numpy as np
import pytest

from lticore import kernels
from lticore.equations.cauchy import cauchy_factor_reference, lyapunov_factor_reference
from lticore.equations.modal import diagonal_stein_reference, rotation_stein_reference
from lticore.equations.recurrence import (
    linear_recurrence_reference,
    recurrence_adjoint_reference,
    time_varying_recurrence_reference,
)

pytestmark = pytest.mark.gpu

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


@pytest.fixture
def cupy(real_cupy):
    """On devices only: tests/core/test_cuda_kernels.py has the same without one."""
    return real_cupy


@pytest.fixture
def run(cupy):
    """``run(reference, *arrays, …)`` on the device; NumPy arrays there and back."""

    def run(reference, *arguments):
        given = [cupy.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
        copies = [x.copy() if isinstance(x, cupy.ndarray) else x for x in given]
        result = kernels.find(reference, given[0])(*given)
        for x, copy in zip(given, copies, strict=True):
            assert not isinstance(x, cupy.ndarray) or bool((x == copy).all())
        return tuple(x.get() for x in result) if isinstance(result, tuple) else result.get()

    return run


def random_array(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def poles_on_the_circle(rng, shape, dtype):
    """|λ| just below 1: what one step hands on is still there thousands of steps later."""
    x = random_array(rng, shape, dtype)
    return (0.9999 * x / np.abs(x)).astype(dtype)


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected), initial=0) / np.max(np.abs(expected), initial=1e-300)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("batch", "length", "n"),
    [
        ((), 1, 1),
        ((3,), 100, 5),
        ((16,), 1024, 128),
        ((16,), 784, 128),
        ((2, 2), 5000, 33),  # many tiles in time
        ((), 100_000, 1),
        ((70_000,), 40, 1),  # one thread per lane
        ((2,), 0, 3),
        ((0,), 5, 3),
    ],
)
def test_recurrences(run, batch, length, n, dtype, reverse):
    rng = np.random.default_rng(0)
    poles = poles_on_the_circle(rng, (*batch, n), dtype)
    inputs = random_array(rng, (*batch, length, n), dtype)
    initial = random_array(rng, (*batch, n), dtype)
    # In double precision: single precision in sequence is the less accurate of the two.
    wide = [x.astype(np.result_type(dtype, np.float64)) for x in (poles, inputs, initial)]
    expected = kernels.find(linear_recurrence_reference, inputs)(*wide, reverse)
    tolerance = 1e-5 if np.finfo(dtype).bits == 32 else 1e-11
    found = run(linear_recurrence_reference, poles, inputs, initial, reverse)
    assert found.dtype == dtype
    assert relative_error(found, expected) <= tolerance
    varying = np.broadcast_to(poles[..., None, :], inputs.shape)
    found = run(time_varying_recurrence_reference, varying, inputs, initial, reverse)
    assert relative_error(found, expected) <= tolerance


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("length", "lanes"), [(784, 128), (5000, 33), (100, 17_000)])
def test_adjoints(run, length, lanes, dtype, varying):
    rng = np.random.default_rng(8)
    g, states = (random_array(rng, (2, length, lanes), dtype) for _ in range(2))
    poles = poles_on_the_circle(rng, (2, length if varying else 1, lanes), dtype)
    arguments = poles, g, states, states[:, 0], False
    expected = kernels.find(recurrence_adjoint_reference, g)(*arguments)
    for found, x in zip(run(recurrence_adjoint_reference, *arguments), expected, strict=True):
        assert relative_error(found, x) <= 1e4 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_varying_poles(run, dtype):
    rng = np.random.default_rng(1)
    poles, inputs = (random_array(rng, (4, 700, 50), dtype) for _ in range(2))
    poles /= np.maximum(1, np.abs(poles))
    initial = random_array(rng, (4, 50), dtype)
    expected = time_varying_recurrence_reference(poles, inputs, initial, False)
    found = run(time_varying_recurrence_reference, poles, inputs, initial, False)
    assert relative_error(found, expected) <= 100 * np.finfo(dtype).eps


def test_repeated_runs_agree(cupy):
    """Blocks run at other times each time; a wait that is missing would show."""
    rng = np.random.default_rng(2)
    poles = cupy.asarray(poles_on_the_circle(rng, (16, 128), np.complex64))
    inputs = cupy.asarray(random_array(rng, (16, 16384, 128), np.complex64))
    run = kernels.find(linear_recurrence_reference, inputs)
    first = run(poles, inputs, 0 * poles, False)
    for _ in range(50):
        assert bool((run(poles, inputs, 0 * poles, False) == first).all())


def test_recurrence_of_strided_arrays_on_another_stream(cupy):
    rng = np.random.default_rng(3)
    inputs, poles = random_array(rng, (2, 600, 40), float), rng.uniform(-0.9, 0.9, (2, 20))
    expected = linear_recurrence_reference(poles, inputs[:, ::-2, ::2], 0 * poles, False)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        u, p = cupy.asarray(inputs)[:, ::-2, ::2], cupy.asarray(poles)
        found = kernels.find(linear_recurrence_reference, u)(p, u, 0 * p, False)
        stream.synchronize()
    assert relative_error(found.get(), expected) <= 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("n", [64, 1 << 16])
def test_more_than_2_to_the_31_elements(cupy, n):
    """Steady states: x = u/(1 − λ) from the first step to the last, whatever the kernel."""
    length = (1 << 31) // n + 5
    if cupy.cuda.Device().mem_info[0] < 9 * length * n:
        pytest.skip("the device has not enough free memory")
    inputs = cupy.ones((length, n), dtype=cupy.float32)
    poles = cupy.linspace(0, 0.5, n, dtype=cupy.float32)
    steady = 1 / (1 - poles)
    states = kernels.find(linear_recurrence_reference, inputs)(poles, inputs, steady, False)
    for x in (states.min(axis=0), states.max(axis=0)):
        assert float(abs(x / steady - 1).max()) <= 1e-6


def polar(rng, shape):
    radius = 1 - 10.0 ** -rng.uniform(0, 6, shape)
    return radius, rng.uniform(-3, 3, shape)


@pytest.mark.parametrize("batch", [(), (5,), (2, 2), (0,)])
@pytest.mark.parametrize(("n", "l"), [(1, 1), (40, 300), (0, 3)])
def test_diagonal_stein(run, n, l, batch):
    rng = np.random.default_rng(4)
    poles = (*polar(rng, (*batch, n)), *polar(rng, (*batch, l)))
    Q = random_array(rng, (*batch, n, l), np.complex128)
    found = run(diagonal_stein_reference, *poles, Q)
    expected = kernels.find(diagonal_stein_reference, Q)(*poles, Q)
    assert np.all(np.abs(found - expected) <= 1e-13 * np.abs(expected))


@pytest.mark.parametrize("batch", [(), (2, 2)])
@pytest.mark.parametrize("a", [(3, 0), (0, 3), (40, 7)])
@pytest.mark.parametrize("b", [(4, 0), (0, 2), (200, 3)])
def test_rotation_stein(run, a, b, batch):
    rng = np.random.default_rng(5)
    (radius_a, phase_a), (radius_b, phase_b) = (polar(rng, (*batch, q + k)) for q, k in (a, b))
    phase_a[..., a[0] :], phase_b[..., b[0] :] = 0, np.pi
    Q = rng.standard_normal((*batch, 2 * a[0] + a[1], 2 * b[0] + b[1]))
    arguments = (radius_a, phase_a, radius_b, phase_b, Q)
    found = run(rotation_stein_reference, *arguments)
    assert relative_error(found, kernels.find(rotation_stein_reference, Q)(*arguments)) <= 1e-12


@pytest.mark.parametrize("reference", [cauchy_factor_reference, lyapunov_factor_reference])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize(("n", "batch"), [(2000, ()), (300, (3,)), (100_000, ())])
def test_cauchy_factor(run, n, batch, m, reference):
    rng = np.random.default_rng(6)
    gap, phase = 10.0 ** -rng.uniform(0.1, 4, (*batch, n)), rng.uniform(-3, 3, (*batch, n))
    size = gap if reference is lyapunov_factor_reference else 1 - gap
    generator = random_array(rng, (*batch, n, m), np.complex128)
    for rtol, limit in ((1e-10, 60), (0.0, 5), (0.0, 0)):
        found = run(reference, size, phase, generator, rtol, limit)
        expected = kernels.find(reference, size)(size, phase, generator, rtol, limit)
        assert found.shape == expected.shape
        rows = slice(0, 200)
        P, product = (
            L[..., rows, :] @ L[..., rows, :].conj().swapaxes(-1, -2) for L in (expected, found)
        )
        assert relative_error(product, P) <= 1e-8
