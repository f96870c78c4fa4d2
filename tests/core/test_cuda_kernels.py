"""The CUDA kernels on a CPU, between guard pages: their arithmetic is that of the references."""

import itertools
import mmap

import emulated_cuda
import numpy as np
import pytest

from lticore.arrays.linalg import weighted_gram_reference
from lticore.equations.cauchy import cauchy_factor_reference, lyapunov_factor_reference
from lticore.equations.modal import diagonal_stein_reference, rotation_stein_reference
from lticore.equations.recurrence import (
    linear_recurrence_reference,
    time_varying_recurrence_reference,
)
from lticore.hankel.gradients import rotation_gradient_reference
from lticore.hankel.scales import balancing_exponents_reference, sizes_of_states_reference
from lticore.kernels import cpu_recurrence
from lticore.matrices.factors import hermitian_part_reference, inner_product_reference
from lticore.matrices.geometric_mean import polar_steps_reference
from lticore.systems.rotation import block_poles_reference

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """`lticore.kernels.gpu` with the kernels' text compiled by g++."""
    if reason := emulated_cuda.reason_to_skip():
        pytest.skip(reason)
    return emulated_cuda.load(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def small_tiles(gpu, monkeypatch):
    """Tiles of 3 lanes and 4 runs: few steps and lanes make several of them."""
    monkeypatch.setattr(gpu, "_LANES", 3)
    monkeypatch.setattr(gpu, "_GROUPS", 4)
    monkeypatch.setattr(gpu, "_RUN_BYTES", 32)
    return gpu


@pytest.fixture
def in_one_block(small_tiles, monkeypatch):
    """All tiles of a lane in turn."""
    monkeypatch.setattr(small_tiles, "_MANY_STRIPS", 0)
    return small_tiles


def random_array(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def recurrence_arguments(rng, batch, length, n, dtype, varying):
    shape = (*batch, length, n) if varying else (*batch, n)
    poles = random_array(rng, shape, dtype)
    poles /= np.maximum(np.abs(poles), 1)
    return (
        poles,
        random_array(rng, (*batch, length, n), dtype),
        random_array(rng, (*batch, n), dtype),
    )


def recurrences(gpu, varying):
    if varying:
        return gpu.time_varying_recurrence, time_varying_recurrence_reference
    return gpu.linear_recurrence, linear_recurrence_reference


def assert_close(found, expected, digits_lost=30, precision=None):
    """Up to so many roundings of ``precision``, by default that of what was found."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = np.max(np.abs(expected), initial=0)
    error = np.max(np.abs(found - expected), initial=0)
    assert error <= digits_lost * np.finfo(precision or expected.dtype).eps * scale


@pytest.mark.parametrize("kernel", ["small_tiles", "in_one_block"])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_recurrence_kernels(request, kernel, dtype, varying):
    run, reference = recurrences(request.getfixturevalue(kernel), varying)
    rng = np.random.default_rng(0)
    shapes = [((2,), 7, 5), ((2, 2), 131, 4), ((), 0, 3), ((2,), 3, 0), ((0,), 3, 2)]
    for (batch, length, n), reverse in itertools.product(shapes, (False, True)):
        arguments = recurrence_arguments(rng, batch, length, n, dtype, varying)
        copies = [x.copy() for x in arguments]
        found = run(*arguments, reverse)
        assert_close(found, reference(*arguments, reverse))
        assert all(map(np.array_equal, arguments, copies))


@pytest.mark.parametrize("kernel", ["small_tiles", "in_one_block"])
@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_adjoint_kernels(request, kernel, dtype, varying):
    gpu = request.getfixturevalue(kernel)
    rng = np.random.default_rng(10)
    shapes = [((2,), 7, 5), ((2, 2), 131, 4), ((), 400, 1), ((), 0, 3), ((2,), 3, 0), ((0,), 3, 2)]
    for (batch, length, n), reverse in itertools.product(shapes, (False, True)):
        poles, states, initial = recurrence_arguments(rng, batch, length, n, dtype, varying)
        poles = poles if varying else poles[..., None, :]
        cotangents = random_array(rng, states.shape, dtype)
        arguments = (poles, cotangents, states, initial)
        copies = [x.copy() for x in arguments]
        found = gpu.recurrence_adjoint(*arguments, reverse)
        expected = cpu_recurrence.recurrence_adjoint(*arguments, reverse)
        for x, y in zip(found, expected, strict=True):
            assert_close(x, y, 100, precision=dtype)
        assert all(map(np.array_equal, arguments, copies))
        # In place.
        gpu.adjoint_into(cotangents, poles, cotangents, states, initial, reverse)
        assert np.array_equal(cotangents, found[0])
        again = gpu.time_varying_recurrence(poles, states, initial, reverse)
        gpu.recur_into(states, poles, states, initial, reverse)
        assert np.array_equal(states, again)


@pytest.mark.parametrize("kernel", ["small_tiles", "in_one_block"])
def test_cotangents_of_poles_are_summed_in_double_precision(request, kernel):
    """Of 1e5 steps of ones, x_k = 1 and v_k = 1 throughout: their sum is the number of steps."""
    gpu = request.getfixturevalue(kernel)
    ones, zero = np.ones((100_001, 2), np.float32), np.zeros((1, 2))
    back, slopes = gpu.recurrence_adjoint(zero, ones, ones, ones[0], False)
    assert np.array_equal(back, ones)
    assert np.array_equal(slopes, np.full((1, 2), 100_001.0))


@pytest.mark.parametrize("varying", [False, True])
def test_adjoints_of_mixed_dtypes(small_tiles, varying):
    rng = np.random.default_rng(11)
    complexes = np.complexfloating
    mixtures = [x for x in MIXTURES if issubclass(x[0], complexes) == issubclass(x[1], complexes)]
    for poles, states, initial in mixtures:
        given = recurrence_arguments(rng, (2,), 61, 4, np.complex128, varying)
        p, x, start = (
            (x if issubclass(dtype, np.complexfloating) else x.real).astype(dtype)
            for x, dtype in zip(given, (poles, states, initial), strict=True)
        )
        g = random_array(rng, x.shape, states)
        arguments = (p if varying else p[:, None, :], g, x, start, False)
        found = small_tiles.recurrence_adjoint(*arguments)
        expected = cpu_recurrence.recurrence_adjoint(*arguments)
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b.astype(a.dtype), 100, precision=states)


MIXTURES = [
    (poles, inputs, initial)
    for poles, inputs, initial in itertools.product(DTYPES, repeat=3)
    if issubclass(inputs, np.complexfloating)
    or not any(issubclass(x, np.complexfloating) for x in (poles, initial))
]


@pytest.mark.parametrize("varying", [False, True])
def test_mixtures_of_dtypes(small_tiles, varying):
    """Poles and initial states of any dtype that the states' kind can hold, as on the CPU."""
    rng = np.random.default_rng(9)
    for poles, inputs, initial in MIXTURES:
        # Wide numbers that single precision does not hold.
        given = recurrence_arguments(rng, (2,), 61, 4, np.complex128, varying)
        given = [
            (x if issubclass(dtype, np.complexfloating) else x.real).astype(dtype)
            for x, dtype in zip(given, (poles, inputs, initial), strict=True)
        ]
        steps = given[0] if varying else given[0][:, None, :]
        for reverse in (False, True):
            found = small_tiles.time_varying_recurrence(steps, *given[1:], reverse)
            expected = cpu_recurrence.time_varying_recurrence(steps, *given[1:], reverse)
            assert_close(found, expected, digits_lost=2 if found.dtype.char in "fF" else 30)


def test_double_poles_of_single_inputs(gpu):
    """A geometric sum: 1, 1.99, 2.9701, …"""
    found = gpu.linear_recurrence(
        np.array([0.99]), np.ones((4, 1), np.float32), np.zeros(1, np.float32), False
    )
    np.testing.assert_allclose(found[:, 0], [1, 1.99, 2.9701, 3.940399], rtol=1e-7)


@pytest.mark.parametrize("kernel", ["small_tiles", "in_one_block"])
def test_long_single_precision_sequences_with_double_poles(request, kernel):
    """λ = e^{2πi j/L} sums to (1 − λ^k)/(1 − λ), with 1e5 steps to the digits of the result."""
    gpu = request.getfixturevalue(kernel)
    length = 100_000
    turn = 2j * np.pi * np.array([1, 3, 10]) / length
    found = gpu.linear_recurrence(
        np.exp(turn), np.ones((length, 3), np.complex64), np.zeros(3, np.complex64), False
    )
    k = np.arange(1, length + 1)[:, None]
    exact = np.expm1(k * turn) / np.expm1(turn)
    assert np.abs(found - exact).max() <= 1e-7 * np.abs(exact).max()


def test_recurrence_tiles_of_the_size_used(gpu):
    """Several tiles in time, several windows, and one, with lanes left over."""
    rng = np.random.default_rng(1)
    for length, dtype in ((600, np.complex64), (2500, np.float32), (1, np.float64)):
        arguments = recurrence_arguments(rng, (3,), length, 7, dtype, varying=False)
        found = gpu.linear_recurrence(*arguments, True)
        assert_close(found, linear_recurrence_reference(*arguments, True), digits_lost=300)


def test_recurrence_of_strided_and_broadcast_arrays(small_tiles):
    rng = np.random.default_rng(2)
    poles, inputs, initial = recurrence_arguments(rng, (2,), 60, 8, np.float64, varying=False)
    arguments = (
        np.broadcast_to(poles[0, ::2], (3, 4)),
        np.broadcast_to(inputs[1, ::-2, 1::2], (3, 30, 4)),
        np.broadcast_to(initial[:1, 4:], (3, 4)),
    )
    found = small_tiles.linear_recurrence(*arguments, False)
    assert_close(found, linear_recurrence_reference(*arguments, False))


def test_one_pole_serves_all_steps(small_tiles):
    rng = np.random.default_rng(3)
    poles, inputs, initial = recurrence_arguments(rng, (2,), 20, 5, np.complex128, varying=False)
    found = small_tiles.time_varying_recurrence(poles[:, None, :], inputs, initial, False)
    assert np.array_equal(found, small_tiles.linear_recurrence(poles, inputs, initial, False))


def test_long_single_precision_sequences_keep_their_digits(gpu):
    """The roundings of the same product in every run must not add up: |λ| = 1."""
    rng = np.random.default_rng(4)
    poles = np.exp(1j * rng.uniform(0, np.pi, 3)).astype(np.complex64)
    inputs, initial = random_array(rng, (8192, 3), np.complex64), np.zeros(3, np.complex64)
    found = gpu.linear_recurrence(poles, inputs, initial, False)
    wide = [x.astype(np.complex128) for x in (poles, inputs, initial)]
    exact = linear_recurrence_reference(*wide, False)
    assert np.abs(found - exact).max() <= 2e-6 * np.abs(exact).max()


def test_unstable_lanes_at_rest_stay_at_rest(small_tiles):
    """Products of their poles overflow, and infinity times zero is no number."""
    inputs = np.zeros((500, 2))
    inputs[-1] = 1
    found = small_tiles.linear_recurrence(np.array([1e30, 0.5]), inputs, np.zeros(2), False)
    assert np.array_equal(found, inputs)


def polar(rng, batch, count, reals=0, closest=1e-12):
    """Radii up to 1 − ``closest`` and phases, some equal; the last ``reals`` poles are real."""
    radius = 1 - closest ** rng.uniform(0, 1, (*batch, count))
    phase = rng.uniform(-np.pi, np.pi, (*batch, count))
    phase[..., : count // 2] = rng.uniform(0, np.pi)
    phase[..., count - reals :] = rng.choice([0, np.pi], (*batch, reals))
    return radius, phase


@pytest.mark.parametrize("batch", [(), (3,), (2, 2), (0,)])
@pytest.mark.parametrize(("n", "l"), [(1, 1), (7, 5), (3, 300), (0, 2), (2, 0)])
def test_diagonal_stein(gpu, n, l, batch):
    rng = np.random.default_rng(5)
    poles = (*polar(rng, batch, n), *polar(rng, batch, l))
    Q = random_array(rng, (*batch, l, n), np.complex128).swapaxes(-1, -2)
    found, expected = (f(*poles, Q) for f in (gpu.diagonal_stein, diagonal_stein_reference))
    assert found.shape == expected.shape
    # Entry by entry, also next to λ conj μ = 1.
    assert np.all(np.abs(found - expected) <= 1e-14 * np.abs(expected))


@pytest.mark.parametrize("batch", [(), (2, 2), (0,)])
@pytest.mark.parametrize("a", [(3, 0), (0, 3), (2, 3)])
@pytest.mark.parametrize("b", [(4, 0), (0, 2), (1, 1), (140, 3)])
def test_rotation_stein(gpu, a, b, batch):
    rng = np.random.default_rng(6)
    # Phases near ±π round by 4e-16, where those near 0 do not, and so does 1 − w.
    (radius_a, phase_a), (radius_b, phase_b) = (
        polar(rng, batch, q + k, k, closest=1e-3) for q, k in (a, b)
    )
    Q = rng.standard_normal((*batch, 2 * b[0] + b[1], 2 * a[0] + a[1])).swapaxes(-1, -2)
    found, expected = (
        f(radius_a, phase_a, radius_b, phase_b, Q)
        for f in (gpu.rotation_stein, rotation_stein_reference)
    )
    assert found.shape == expected.shape
    assert_close(found, expected, digits_lost=1e3)


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)])
@pytest.mark.parametrize(("pairs", "reals"), [(3, 0), (0, 4), (2, 1), (140, 3)])
def test_rotation_gradient(gpu, pairs, reals, batch):
    rng = np.random.default_rng(12)
    n = 2 * pairs + reals
    X, P, Y, Q = (hermitian_part_reference(rng.standard_normal((*batch, n, n))) for _ in range(4))
    poles = rotation_poles(rng, batch, pairs, reals)
    arguments = *poles, (X, Y), (P, Q)
    for x, y in zip(
        gpu.rotation_gradient(*arguments), rotation_gradient_reference(*arguments), strict=True
    ):
        assert_close(x, y, digits_lost=200)
    for x, y in zip(gpu.block_poles(*poles), block_poles_reference(*poles), strict=True):
        assert np.array_equal(x, y)


def rotation_poles(rng, batch, pairs, reals):
    radius, angle = rng.uniform(-1, 1, (*batch, pairs)), rng.uniform(-3, 3, (*batch, pairs))
    return radius, angle, rng.uniform(-1, 1, (*batch, reals))


def size(X):
    return np.linalg.norm(X, axis=(-2, -1))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(("n", "m", "batch"), [(1, 1, ()), (9, 300, (2, 3)), (3, 2, (0,))])
def test_inner_products(gpu, n, m, batch, dtype):
    """Of matrices that lie in memory as they are, transposed, and with gaps."""
    rng = np.random.default_rng(14)
    X, Y = (random_array(rng, (*batch, n, m), dtype) for _ in range(2))
    U, V = (random_array(rng, (*batch, m, n), dtype).swapaxes(-1, -2) for _ in range(2))
    gaps = random_array(rng, (*batch, n, 2 * m), dtype)[..., ::2]
    for x, y in ((X, Y), (X, V), (U, Y), (U, V), (gaps, Y), (X.real, Y)):
        found, expected = gpu.inner_product(x, y), inner_product_reference(x, y)
        assert found.shape == expected.shape
        assert np.all(np.abs(found - expected) <= n * m * np.finfo(float).eps * size(x) * size(y))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(
    ("modes", "blocks", "m", "batch"), [(5, 2, 200, (2, 2)), (1, 0, 1, ()), (3, 3, 4, (0,))]
)
def test_sizes_of_states(gpu, modes, blocks, m, batch, dtype):
    rng = np.random.default_rng(15)
    X = random_array(rng, (*batch, modes + blocks, m), dtype)
    X = X * 10.0 ** rng.uniform(-300, 300, (modes + blocks, 1))
    X[..., -1, :] = 0
    for x in (X, np.ascontiguousarray(X.swapaxes(-1, -2)).swapaxes(-1, -2)):
        found, expected = (f(x, blocks) for f in (gpu.sizes_of_states, sizes_of_states_reference))
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("batch", [(), (4,), (0,)])
@pytest.mark.parametrize(("modes", "blocks"), [(5, 2), (1, 1), (200, 90), (3, 0)])
def test_balancing_exponents(gpu, modes, blocks, batch):
    """Also of states that inputs do not reach, outputs do not see, and both."""
    rng = np.random.default_rng(16)
    n = modes + blocks
    b, c = 10.0 ** rng.uniform(-200, 200, (2, *batch, n))
    drain = 10.0 ** rng.uniform(-12, 0, (*batch, modes))
    for x in (b, c):
        x[..., :2] *= rng.integers(0, 2, (*batch, 1))
        x[..., -1] *= rng.integers(0, 2, batch)
    for arguments in ((b, c, drain), (0 * b, c, drain), (0 * b, 0 * c, drain)):
        for x, y in zip(
            gpu.balancing_exponents(*arguments),
            balancing_exponents_reference(*arguments),
            strict=True,
        ):
            assert np.array_equal(x, y)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(("n", "batch"), [(1, ()), (33, (2, 2)), (5, (0,)), (0, (2,))])
def test_polar_steps(gpu, n, batch, dtype):
    rng = np.random.default_rng(13)
    roots = [random_array(rng, (*batch, n, n), dtype) for _ in range(2)]
    P, Q = (R @ R.conj().swapaxes(-1, -2) for R in roots)
    scale = np.asarray(rng.uniform(9, 12, batch) * max(n, 1))
    steps = ((-1.5, 0.5, 1.0), (-1.75, 0.2, 0.9))
    arguments = P, Q, P @ Q, scale, steps
    for x, y in zip(gpu.polar_steps(*arguments), polar_steps_reference(*arguments), strict=True):
        assert_close(x, y, digits_lost=1e3)
    assert_close(gpu.hermitian_part(roots[0]), hermitian_part_reference(roots[0]), digits_lost=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "m", "batch"), [(3, 5, (2, 2)), (4, 1, ()), (3, 0, (2,)), (3, 2, (0,))]
)
def test_weighted_gram(gpu, n, m, batch, dtype):
    """Of a matrix as it lies in memory, and of a transposed one."""
    rng = np.random.default_rng(17)
    weights = rng.uniform(0, 1, (*batch, m)).astype(np.finfo(dtype).dtype)
    for X in (
        random_array(rng, (*batch, n, m), dtype),
        random_array(rng, (*batch, m, n), dtype).swapaxes(-1, -2),
    ):
        for w in (None, weights):
            assert_close(gpu.weighted_gram(X, w), weighted_gram_reference(X, w))


#: Time → (kernel, its text for all libraries, from radii the sizes of poles that it takes).
ELIMINATIONS = {
    "discrete": ("cauchy_factor", cauchy_factor_reference, lambda radius: radius),
    "continuous": ("lyapunov_factor", lyapunov_factor_reference, lambda radius: 1 - radius),
}


@pytest.mark.parametrize("time", ELIMINATIONS)
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize(("n", "batch"), [(5, (2, 2)), (90, (2,)), (150, ())])
def test_cauchy_factor(gpu, monkeypatch, n, batch, m, time):
    """Several blocks with several turns each, and several blocks of columns."""
    monkeypatch.setattr(gpu, "_THREADS", 16)
    monkeypatch.setattr(gpu, "_ELIMINATION_BLOCKS", 3)
    monkeypatch.setattr(gpu, "_COLUMNS", 8)
    name, reference, sizes = ELIMINATIONS[time]
    rng = np.random.default_rng(7)
    size = sizes(1 - 10.0 ** -rng.uniform(0.1, 4, (*batch, n)))
    phase = rng.uniform(-3, 3, (*batch, n))
    generator = random_array(rng, (*batch, n, m), np.complex128)
    before = generator.copy()
    for rtol, max_rank in ((1e-10, n), (0.0, min(n, 12)), (0.0, 0)):
        found = getattr(gpu, name)(size, phase, generator, rtol, max_rank)
        expected = reference(size, phase, generator, rtol, max_rank)
        # The same pivots and ranks; columns of the same size, up to a phase.
        assert found.shape == expected.shape
        assert_close(np.abs(found), np.abs(expected), digits_lost=1e6)
    assert np.array_equal(generator, before)


@pytest.mark.parametrize("time", ELIMINATIONS)
@pytest.mark.parametrize("m", [1, 2])
def test_cauchy_factor_of_batches_with_different_ranks(gpu, m, time):
    """Unreached states in one entry, equal states in the other: of those the first is chosen."""
    name, reference, sizes = ELIMINATIONS[time]
    rng = np.random.default_rng(8)
    size, phase = sizes(rng.uniform(0, 0.9, (2, 6))), rng.uniform(-3, 3, (2, 6))
    generator = random_array(rng, (2, 6, m), np.complex128)
    generator[0, 2:] = 0
    for x in (size, phase, generator):
        x[1, 4] = x[1, 1]
    found = getattr(gpu, name)(size, phase, generator, 1e-12, 6)
    expected = reference(size, phase, generator, 1e-12, 6)
    assert_close(np.abs(found), np.abs(expected), digits_lost=1e4)
    assert np.all(found[0, :, 2:] == 0)


@pytest.mark.parametrize("time", ELIMINATIONS)
def test_cauchy_factor_of_nothing(gpu, time):
    name, _, sizes = ELIMINATIONS[time]
    factor = getattr(gpu, name)
    for shape in ((0, 5, 1), (2, 0, 1), (2, 5, 0)):
        size = sizes(np.zeros(shape[:-1]))
        found = factor(size, size, np.zeros(shape, complex), 0.0, 3)
        assert found.shape == (*shape[:-1], 0)
    zero = factor(sizes(np.zeros(5)), np.zeros(5), np.zeros((5, 2), complex), 0.0, 3)
    assert zero.shape == (5, 0)


def test_more_than_2_to_the_31_elements(gpu, monkeypatch):
    """The last block alone, over memory that is there only where it looks."""
    n, length = 1 << 16, (1 << 15) + 1
    not_reserved = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
    u, x = (
        np.frombuffer(mmap.mmap(-1, 4 * n * length, flags=not_reserved), np.float32)
        for _ in range(2)
    )
    u, x = u.reshape(length, n), x.reshape(length, n)
    u[-1] = 1
    compiled = gpu._kernel

    def kernel(*macros):
        def launch(grid, block, arguments):
            # Addresses are integers of 64 bits too.
            given = [v.ctypes.data if v is u or v is x else v for v in arguments]
            compiled(*macros)(grid, block, given, first_block=grid[0] - 1)

        return launch

    monkeypatch.setattr(gpu, "_kernel", kernel)
    gpu.recur_into(x, np.zeros((1, n)), u, np.zeros(n), False)
    last = n - gpu._LANES
    assert np.all(x[-1, last:] == 1)
    assert not x[:-1, last:].any()
    assert not x[-1, :last].any()
