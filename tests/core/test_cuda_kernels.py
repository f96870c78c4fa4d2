"""The CUDA kernels without a GPU: they compile, and their arithmetic is that of the references."""

import itertools
import platform
import shutil
import subprocess

import emulated_cuda
import numpy as np
import pytest

from lticore.equations.cauchy import cauchy_factor_reference
from lticore.equations.modal import diagonal_stein_reference, rotation_stein_reference
from lticore.equations.recurrence import (
    linear_recurrence_reference,
    time_varying_recurrence_reference,
)
from lticore.kernels import cpu_recurrence

ARCHITECTURES = (80, 90)
DTYPES = (np.float32, np.float64, np.complex64, np.complex128)
# What lticore/kernels/gpu.py asks for: every pair of options, and one of the longest runs.
MACROS = {
    f"recurrence-{real}-{'complex' if complex_ else 'real'}-{pole or 'constant'}-{steps}": (
        "recurrence.cu",
        (
            f"REAL={real}",
            f"POLE={pole or 'double'}",
            f"COMPLEX={complex_}",
            f"VARYING={int(pole is not None)}",
            f"STEPS={steps}",
            "LANES=16",
            "GROUPS=32",
        ),
    )
    for real, complex_, pole, steps in [
        ("float", 0, None, 32),
        ("float", 1, "float", 8),
        ("double", 1, None, 8),
        ("double", 0, "double", 8),
        ("float", 1, "double", 5),
        ("double", 1, "float", 5),
        ("float", 1, None, 32),
    ]
}
MACROS |= {"stein": ("stein.cu", ()), "cauchy": ("cauchy.cu", ("THREADS=256",))}


# --- compilation ------------------------------------------------------------------------------


def test_every_file_is_compiled_below():
    files = {path.name for path in emulated_cuda.KERNELS.glob("*.cu")}
    assert files == {file for file, _ in MACROS.values()}


@pytest.fixture(scope="module")
def compile_kernels(tmp_path_factory):
    """A function of (file, macros, architectures) that raises where the compiler objects."""
    folder = tmp_path_factory.mktemp("cubin")
    if shutil.which("nvcc"):
        return lambda *kernel: _compile_with_nvcc(folder, *kernel)
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"neither nvcc nor CuPy with NVRTC is here ({error})")
    return _compile_with_nvrtc


def _compile_with_nvcc(folder, file, macros, architectures):
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
    defines = [f"-D{macro}" for macro in macros]
    source, output = emulated_cuda.KERNELS / file, folder / "kernel.fatbin"
    command = ["nvcc", "-std=c++17", "-fatbin", *targets, *defines, str(source), "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr, result.stderr


def _compile_with_nvrtc(file, macros, architectures):
    from cupy.cuda import nvrtc

    text = (emulated_cuda.KERNELS / file).read_text(encoding="utf-8")
    for number in architectures:
        program = nvrtc.createProgram(text, file, (), ())
        options = ("-std=c++17", f"--gpu-architecture=sm_{number}", *(f"-D{x}" for x in macros))
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            pytest.fail(nvrtc.getProgramLog(program))
        assert len(nvrtc.getCUBIN(program)) > 0


@pytest.mark.parametrize("name", MACROS)
def test_kernels_compile(compile_kernels, name):
    compile_kernels(*MACROS[name], ARCHITECTURES)


def test_a_broken_kernel_does_not_compile(compile_kernels):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        compile_kernels("recurrence.cu", ("REAL=half_a_float",), ARCHITECTURES[:1])


# --- arithmetic, on the CPU -------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """`lticore.kernels.gpu` with the kernels' text compiled by g++."""
    if shutil.which("g++") is None or platform.system() != "Linux":
        pytest.skip("the kernels run on a CPU through g++ on Linux only")
    return emulated_cuda.load(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def small_tiles(gpu, monkeypatch):
    """Tiles of 3 lanes and 4 runs: few steps and lanes make several of them."""
    monkeypatch.setattr(gpu, "_LANES", 3)
    monkeypatch.setattr(gpu, "_GROUPS", 4)
    monkeypatch.setattr(gpu, "_RUN_BYTES", 32)
    return gpu


@pytest.fixture
def in_sequence(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "_MANY_LANES", 0)
    monkeypatch.setattr(gpu, "_RUN_BYTES", 32)
    return gpu


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


def assert_close(found, expected, digits_lost=30):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = np.max(np.abs(expected), initial=0)
    error = np.max(np.abs(found - expected), initial=0)
    assert error <= digits_lost * np.finfo(expected.dtype).eps * scale


@pytest.mark.parametrize("kernel", ["small_tiles", "in_sequence"])
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


MIXTURES = [
    (poles, inputs, initial)
    for poles, inputs, initial in itertools.product(DTYPES, repeat=3)
    if issubclass(inputs, np.complexfloating)
    or not any(issubclass(x, np.complexfloating) for x in (poles, initial))
]


@pytest.mark.parametrize("kernel", ["small_tiles", "in_sequence"])
@pytest.mark.parametrize("varying", [False, True])
def test_mixtures_of_dtypes(request, kernel, varying):
    """Poles and initial states of any dtype that the states' kind can hold, as on the CPU."""
    gpu = request.getfixturevalue(kernel)
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
            found = gpu.time_varying_recurrence(steps, *given[1:], reverse)
            expected = cpu_recurrence.time_varying_recurrence(steps, *given[1:], reverse)
            assert_close(found, expected, digits_lost=2 if found.dtype.char in "fF" else 30)


def test_double_poles_of_single_inputs(gpu):
    """A geometric sum: 1, 1.99, 2.9701, …"""
    found = gpu.linear_recurrence(
        np.array([0.99]), np.ones((4, 1), np.float32), np.zeros(1, np.float32), False
    )
    np.testing.assert_allclose(found[:, 0], [1, 1.99, 2.9701, 3.940399], rtol=1e-7)


@pytest.mark.parametrize("kernel", ["gpu", "in_sequence"])
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
    """Two tiles in time, and one of longer runs, with lanes left over."""
    rng = np.random.default_rng(1)
    for length, dtype in ((600, np.complex64), (1025, np.complex64), (1, np.float64)):
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


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize(("n", "batch"), [(5, (2, 2)), (90, (2,)), (150, ())])
def test_cauchy_factor(gpu, monkeypatch, n, batch, m):
    """Several blocks with several turns each, and several blocks of columns."""
    monkeypatch.setattr(gpu, "_THREADS", 16)
    monkeypatch.setattr(gpu, "_ELIMINATION_BLOCKS", 3)
    monkeypatch.setattr(gpu, "_COLUMNS", 8)
    rng = np.random.default_rng(7)
    radius, phase = 1 - 10.0 ** -rng.uniform(0.1, 4, (*batch, n)), rng.uniform(-3, 3, (*batch, n))
    generator = random_array(rng, (*batch, n, m), np.complex128)
    before = generator.copy()
    for rtol, max_rank in ((1e-10, n), (0.0, min(n, 12)), (0.0, 0)):
        found = gpu.cauchy_factor(radius, phase, generator, rtol, max_rank)
        expected = cauchy_factor_reference(radius, phase, generator, rtol, max_rank)
        # The same pivots and ranks; columns of the same size, up to a phase.
        assert found.shape == expected.shape
        assert_close(np.abs(found), np.abs(expected), digits_lost=1e6)
    assert np.array_equal(generator, before)


@pytest.mark.parametrize("m", [1, 2])
def test_cauchy_factor_of_batches_with_different_ranks(gpu, m):
    """Unreached states in one entry, equal states in the other: of those the first is chosen."""
    rng = np.random.default_rng(8)
    radius, phase = rng.uniform(0, 0.9, (2, 6)), rng.uniform(-3, 3, (2, 6))
    generator = random_array(rng, (2, 6, m), np.complex128)
    generator[0, 2:] = 0
    for x in (radius, phase, generator):
        x[1, 4] = x[1, 1]
    found = gpu.cauchy_factor(radius, phase, generator, 1e-12, 6)
    expected = cauchy_factor_reference(radius, phase, generator, 1e-12, 6)
    assert_close(np.abs(found), np.abs(expected), digits_lost=1e4)
    assert np.all(found[0, :, 2:] == 0)


def test_cauchy_factor_of_nothing(gpu):
    for shape in ((0, 5, 1), (2, 0, 1), (2, 5, 0)):
        radius = np.zeros(shape[:-1])
        found = gpu.cauchy_factor(radius, radius, np.zeros(shape, complex), 0.0, 3)
        assert found.shape == (*shape[:-1], 0)
    zero = gpu.cauchy_factor(np.zeros(5), np.zeros(5), np.zeros((5, 2), complex), 0.0, 3)
    assert zero.shape == (5, 0)
