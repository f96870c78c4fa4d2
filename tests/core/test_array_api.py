"""One text for every array library: array-api-strict, read-only arrays, and what is refused."""

from importlib.util import find_spec

import array_api_strict
import numpy as np
import pytest
from oracles import EPS
from strategies import build_system

import lticore as lti

STRUCTURES = ("real diagonal", "complex diagonal", "rotation", "rotation with real poles")
QUANTITIES = {
    "controllability_gramian": lti.controllability_gramian,
    "observability_gramian": lti.observability_gramian,
    "controllability_gramian(horizon)": lambda sys: lti.controllability_gramian(sys, horizon=5),
    "hankel_singular_values": lti.hankel_singular_values,
    "hankel_singular_values(horizon)": lambda sys: lti.hankel_singular_values(sys, horizon=4),
    "hankel_singular_values(max_rank)": lambda sys: lti.hankel_singular_values(sys, max_rank=2),
    "hankel_sum(log)": lambda sys: lti.hankel_sum(sys, "log"),
    "hankel_sum(tail)": lambda sys: lti.hankel_sum(sys, lti.tail(2)),
    "hankel_sum(schatten)": lambda sys: lti.hankel_sum(sys, lti.schatten(0.5)),
    "hankel_norm": lti.hankel_norm,
    "h2_norm": lti.h2_norm,
    "h2_norm(horizon)": lambda sys: lti.h2_norm(sys, horizon=3),
    "impulse_response": lambda sys: lti.impulse_response(sys, 5),
    "poles": lambda sys: sys.poles,
    "value": lambda sys: lti.hankel_sum_and_gradient(sys)[0],
    "gradient B": lambda sys: lti.hankel_sum_and_gradient(sys)[1].B,
    "gradient C": lambda sys: lti.hankel_sum_and_gradient(sys, lti.schatten(0.5))[1].C,
    "gradient A": lambda sys: lti.hankel_sum_and_gradient(sys, "log")[1].A[0],
    "diagonalize": lambda sys: lti.impulse_response(lti.diagonalize(sys), 5),
}


def system(structure, batch=(), dtype="float64"):
    return build_system(
        np.random.default_rng(6), structure, batch=batch, n=5, dtype=dtype, feedthrough=True
    )


def converted(sys, convert):
    D = None if sys.D is None else convert(sys.D)
    return lti.LTI(
        lti.systems.structure.map_parameters(convert, sys.A), convert(sys.B), convert(sys.C), D
    )


def strict(x):
    return array_api_strict.asarray(np.array(x))


def is_strict(x):
    return type(x).__module__.startswith("array_api_strict")


def read_only(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_strict_arrays_give_what_numpy_gives(structure, batch, name):
    sys = system(structure, batch)
    expected = QUANTITIES[name](sys)
    found = QUANTITIES[name](converted(sys, strict))
    assert is_strict(found)
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    # The same text up to the kernel of the Cholesky factorisation; small values are relative to
    # the largest, and their square roots and gradients are worse by a few digits.
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_strict_single_precision_stays(structure):
    sys = converted(system(structure, dtype="float32"), strict)
    assert lti.hankel_singular_values(sys).dtype == array_api_strict.float32
    assert lti.hankel_sum_and_gradient(sys)[1].B.dtype == sys.B.dtype


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize(
    "A", [lti.Diagonal([]), lti.Rotation([], [])], ids=["diagonal", "rotation"]
)
def test_strict_gains_give_what_numpy_gives(A, name):
    sys = lti.LTI(A, np.zeros((0, 2)), np.zeros((3, 0)), [[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    expected, found = QUANTITIES[name](sys), QUANTITIES[name](converted(sys, strict))
    assert is_strict(found)
    assert np.asarray(found).dtype == expected.dtype
    assert np.array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("horizon", [None, 1, 6])
@pytest.mark.parametrize("left", STRUCTURES)
@pytest.mark.parametrize("right", STRUCTURES)
def test_strict_stein_equations(left, right, horizon):
    A, B = system(left).A, system(right).A
    Q = np.random.default_rng(0).standard_normal((A.order, B.order))
    expected = lti.solve_stein(A, Q, B, horizon=horizon)
    A, B = (lti.systems.structure.map_parameters(strict, X) for X in (A, B))
    found = lti.solve_stein(A, strict(Q), B, horizon=horizon)
    assert is_strict(found)
    assert np.abs(np.asarray(found) - expected).max() <= 100 * EPS * np.abs(expected).max()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_strict_frequency_response(structure):
    sys, omega = system(structure, (2,)), np.linspace(-3, 3, 7)
    expected = lti.frequency_response(sys, omega)
    found = lti.frequency_response(converted(sys, strict), strict(omega))
    assert np.abs(np.asarray(found) - expected).max() <= 100 * EPS * np.abs(expected).max()


def test_strict_h2_error():
    first, second = system("rotation"), system("complex diagonal")
    expected = lti.h2_error(first, second)
    found = lti.h2_error(converted(first, strict), converted(second, strict))
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_strict_conversion_to_rotation():
    sys = system("rotation with real poles")
    modal = lti.diagonalize(converted(sys, strict))
    rotation = lti.to_rotation(modal)
    assert is_strict(rotation.B)
    back = converted(rotation, np.asarray)
    change = lti.impulse_response(sys, 9) - lti.impulse_response(back, 9)
    assert np.abs(change).max() <= 1e-12 * np.abs(lti.impulse_response(sys, 9)).max()


def test_strict_balanced_truncation():
    sys = system("rotation")
    expected = lti.balanced_truncation(sys, order=2)
    found = lti.balanced_truncation(converted(sys, strict), order=2)
    assert is_strict(found.system.A)
    assert float(found.error_bound) == pytest.approx(float(expected.error_bound), rel=1e-8)
    assert float(found.h2_error) == pytest.approx(float(expected.h2_error), rel=1e-6)


@pytest.mark.parametrize("structure", ["dense", "complex dense"])
def test_strict_dense_systems_by_squaring(structure):
    """Smith's iteration there, LAPACK's Schur form on NumPy."""
    sys = system(structure)
    for function in (lti.controllability_gramian, lti.hankel_singular_values):
        expected, found = function(sys), function(converted(sys, strict))
        assert is_strict(found)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-11 * scale)


def test_strict_dense_series_refuses_to_diverge():
    with pytest.raises(lti.SingularEquationError, match="does not converge"):
        lti.solve_stein(strict([[1.0, 0.0], [0.0, 0.5]]), strict([[1.0, 0.0], [0.0, 1.0]]))


def test_strict_allocation_of_orders():
    layers = [strict([3.0, 2.0, 1.0]), strict([1.0, 0.5])]
    assert lti.allocate_orders(layers, budget=4) == lti.allocate_orders(
        [np.asarray(x) for x in layers], budget=4
    )


@pytest.mark.parametrize(
    "function",
    [
        lti.hinf_norm,
        lti.diagonalize,
    ],
)
def test_dense_systems_of_other_libraries_are_told_what_works(function):
    sys = converted(system("dense"), strict)
    with pytest.raises(lti.ArrayLibraryError, match=r"NumPy"):
        function(sys)


# --- read-only NumPy arrays -------------------------------------------------------------------


@pytest.mark.parametrize("structure", [*STRUCTURES, "dense", "complex dense", "non-normal"])
def test_read_only_arrays_give_the_same(structure):
    sys = system(structure, (2,))
    frozen = converted(sys, read_only)
    functions = [*QUANTITIES.values(), lti.hinf_norm]
    for function in functions:
        assert np.array_equal(function(frozen), function(sys))


# --- mixing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda s, x: lti.LTI(lti.Diagonal(s), x[:, None], x[None, :]),
        lambda s, x: lti.LTI(lti.Diagonal(x), s[:, None], x[None, :]),
        lambda s, x: lti.Rotation(s, x),
        lambda s, x: lti.solve_stein(lti.Diagonal(s), x[:, None], lti.Diagonal(x[:1])),
        lambda s, x: lti.frequency_response(lti.LTI(lti.Diagonal(x), x[:, None], x[None, :]), s),
    ],
)
def test_mixing_libraries_is_an_error_that_names_them(build):
    x = np.array([0.5, 0.25])
    with pytest.raises(lti.ArrayLibraryError, match=r"mix array types .*array_api_strict.*ndarray"):
        build(strict(x), x)


def regular_package(name):
    """Whether ``name`` is installed (and not just a folder of tests with that name)."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


@pytest.mark.skipif(not regular_package("torch"), reason="torch is not installed")
def test_torch_tensors_are_refused_with_a_way_out():
    import torch

    x = torch.tensor([0.5, 0.25])
    half = [0.5, 0.25]
    for build, name in (
        (lambda: lti.Diagonal(x), "poles"),
        (lambda: lti.Rotation(half, x), "angle"),
        (lambda: lti.LTI(lti.Diagonal(half), x[:, None], np.ones((1, 2))), "B"),
        (lambda: lti.solve_stein(lti.Diagonal(half), torch.eye(2)), "Q"),
        (lambda: lti.allocate_orders([x], budget=1), r"singular_values\[0\]"),
    ):
        with pytest.raises(lti.ArrayLibraryError, match=f"{name} is a torch.Tensor.*lticore_torch"):
            build()
