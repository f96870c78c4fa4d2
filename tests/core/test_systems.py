"""Structures and systems: shapes, poles, dense forms, promotion."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import EPS, adjoint, size
from strategies import STRUCTURES, build_system, state_matrices, systems

import lticore as lti


def is_array(A):
    return isinstance(A, np.ndarray)


def sort_complex(values):
    return np.array(sorted(values.ravel(), key=lambda z: (z.real, z.imag)))


# --- structures -------------------------------------------------------------------------------


@given(A=state_matrices(structures=STRUCTURES[:4]))
def test_adjoint_structure_is_the_adjoint_matrix(A):
    assert np.array_equal(A.H.to_dense(), adjoint(A.to_dense()))
    assert type(A.H) is type(A)


@given(A=state_matrices(structures=STRUCTURES[:4]))
def test_poles_are_the_eigenvalues_of_the_dense_form(A):
    # The trace of each power of A is the power sum of the poles, in whatever order they come.
    M = A.to_dense()
    for power in (1, 2, 3):
        trace = np.trace(np.linalg.matrix_power(M, power), axis1=-2, axis2=-1)
        assert trace == pytest.approx(np.sum(A.poles**power, axis=-1), abs=50 * A.order * EPS)


@given(A=state_matrices(structures=STRUCTURES[:4]))
def test_structure_knows_its_shape(A):
    assert A.to_dense().shape == (*A.batch_shape, A.order, A.order)
    assert A.poles.shape == (*A.batch_shape, A.order)


def test_rotation_block_is_the_documented_one():
    A = lti.Rotation([0.5], [np.pi / 6], [-0.25]).to_dense()
    c, s = 0.5 * np.cos(np.pi / 6), 0.5 * np.sin(np.pi / 6)
    assert np.array_equal(A, [[c, s, 0], [-s, c, 0], [0, 0, -0.25]])


def test_rotation_block_multiplies_a_complex_number():
    A = lti.Rotation([0.9], [0.4])
    x = np.array([1.0, 2.0])
    y = A.to_dense() @ x
    z = 0.9 * np.exp(-0.4j) * (x[0] + 1j * x[1])
    assert y[0] + 1j * y[1] == pytest.approx(z, rel=4 * EPS)
    assert A.poles[0] == pytest.approx(0.9 * np.exp(-0.4j), rel=4 * EPS)


def test_rotation_of_real_poles_only():
    A = lti.Rotation([], [], [0.5, -0.5])
    assert (A.order, A.blocks) == (2, 0)
    assert np.array_equal(A.to_dense(), np.diag([0.5, -0.5]))


def test_rotation_broadcasts_its_parameters():
    A = lti.Rotation(np.full((3, 2), 0.5), [0.1, 0.2], np.full((2, 1, 1), 0.3))
    assert A.batch_shape == (2, 3)
    assert A.to_dense().shape == (2, 3, 5, 5)


# --- systems ----------------------------------------------------------------------------------


@given(sys=systems())
def test_system_knows_its_shape(sys):
    batch = sys.batch_shape
    assert sys.B.shape == (*batch, sys.order, sys.inputs)
    assert sys.C.shape == (*batch, sys.outputs, sys.order)
    assert sys.poles.shape == (*batch, sys.order)
    assert sys.to_dense().A.shape == (*batch, sys.order, sys.order)


@given(sys=systems(spectra=("plain", "marginal", "zero", "negative")))
def test_spectral_radius_is_the_largest_modulus(sys):
    # Eigenvalues of the dense and non-normal draws move by eps · cond(V) at most, cond(V) < 1e4;
    # a zero pole of multiplicity 4 moves further, but is not the largest.
    expected = np.abs(np.linalg.eigvals(sys.to_dense().A)).max()
    assert sys.spectral_radius == pytest.approx(expected, rel=1e4 * EPS)


@given(sys=systems(dtypes=("float32", "float64")))
def test_to_dense_keeps_the_matrices(sys):
    full = sys.to_dense()
    assert is_array(full.A)
    assert np.array_equal(full.B, sys.B)
    assert np.array_equal(full.C, sys.C)
    assert full.dtype == sys.dtype
    assert full.A.dtype.itemsize == (sys.A.dtype).itemsize


@given(sys=systems(structures=STRUCTURES[:4]))
def test_dense_form_of_a_system_has_its_poles(sys):
    if sys.batch_shape:
        return
    if np.unique(np.round(sys.poles, 3)).size < sys.order:
        return  # repeated poles are ill conditioned as eigenvalues of the non-symmetric solver
    found = np.linalg.eigvals(sys.to_dense().A)
    distance = np.abs(found[:, None] - sys.poles).min(axis=0)
    assert distance.max() <= 100 * EPS


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtype_is_kept(dtype):
    ones = np.ones((2, 2), dtype=dtype)
    sys = lti.LTI(lti.Diagonal(np.full(2, 0.5, dtype=dtype)), ones, ones, ones)
    assert sys.dtype == dtype
    assert sys.A.dtype == dtype
    assert sys.D.dtype == dtype


def test_mixed_precisions_become_the_wider_one():
    half = np.full(2, 0.5, dtype=np.float32)
    sys = lti.LTI(lti.Diagonal(half), np.ones((2, 1), np.float32), np.ones((1, 2)))
    assert sys.B.dtype == sys.C.dtype == sys.A.dtype == np.float64


def test_a_complex_part_makes_the_system_complex_and_keeps_its_precision():
    half = np.full(2, 0.5, dtype=np.float32)
    ones = np.ones((2, 1), np.complex64)
    sys = lti.LTI(lti.Diagonal(half), ones, np.ones((1, 2), np.float32))
    assert sys.B.dtype == sys.C.dtype == np.complex64
    assert sys.A.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool])
def test_integers_and_booleans_become_float64(dtype):
    ones = np.ones((1, 1), dtype=dtype)
    sys = lti.LTI(lti.Diagonal(np.zeros(1, dtype=dtype)), ones, ones, ones)
    assert sys.dtype == np.float64
    assert sys.A.dtype == np.float64


def test_lists_are_accepted():
    sys = lti.LTI(lti.Diagonal([0.5, 0.25]), [[1], [2]], [[1, 1]], [[0]])
    expected = lti.LTI(
        lti.Diagonal(np.array([0.5, 0.25])), np.array([[1.0], [2.0]]), np.ones((1, 2))
    )
    assert np.array_equal(lti.hankel_singular_values(sys), lti.hankel_singular_values(expected))


@pytest.mark.parametrize("zero", [0, 0.0, 0j, np.float64(0), np.array(0), None])
def test_feedthrough_of_zero_is_none(zero):
    assert lti.LTI(lti.Diagonal([0.5, 0.25]), np.ones((2, 3)), np.ones((2, 2)), zero).D is None


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.array(2.0), np.array([[2]])])
def test_a_number_is_the_feedthrough_of_one_input_and_output(number):
    sys = lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]], number)
    assert np.array_equal(sys.D, [[2.0]])
    assert sys.D.dtype == np.float64


def test_a_number_has_no_precision_of_its_own():
    half = np.full((1, 1), 0.5, np.float32)
    assert lti.LTI(lti.Diagonal(half[0]), half, half, 2.0).dtype == np.float32
    assert lti.LTI(lti.Diagonal(half[0]), half, half, 2j).dtype == np.complex64
    strict = array_api_strict.asarray(np.array(half))
    sys = lti.LTI(lti.Diagonal(strict[0, :]), strict, strict, 2.0)
    assert sys.D.dtype == array_api_strict.float32


@pytest.mark.parametrize("number", [np.nan, np.inf, complex(0, np.nan)])
def test_numbers_that_are_not_finite_are_named(number):
    with pytest.raises(lti.NonFiniteError, match=r"^D contains NaN or infinity"):
        lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]], number)


def test_batches_broadcast_against_each_other():
    sys = lti.LTI(lti.Diagonal(np.full((3, 2), 0.5)), np.ones((2, 1, 2, 1)), np.ones((1, 2)))
    assert sys.batch_shape == (2, 3)
    assert sys.A.poles.shape == (2, 3, 2)
    assert sys.C.shape == (2, 3, 1, 2)


def test_systems_are_frozen():
    sys = build_system(np.random.default_rng(0), "rotation")
    with pytest.raises(AttributeError):
        sys.B = sys.C
    with pytest.raises(AttributeError):
        sys.A.radius = sys.A.angle


def test_matrix_subclasses_become_plain_arrays():
    class Matrix(np.ndarray):
        pass

    sys = lti.LTI(lti.Diagonal([0.5]), np.ones((1, 1)).view(Matrix), [[1.0]])
    assert type(sys.B) is np.ndarray


def test_noncontiguous_arrays_give_the_same_values():
    rng = np.random.default_rng(0)
    A = 0.2 * np.moveaxis(rng.standard_normal((4, 4, 3)), -1, 0)
    B, C = rng.standard_normal((8, 2))[::-2], np.asfortranarray(rng.standard_normal((1, 4)))
    values = lti.hankel_singular_values(lti.LTI(A, B, C))
    copies = lti.LTI(*(np.ascontiguousarray(X) for X in (A, B, C)))
    assert size(values - lti.hankel_singular_values(copies)) <= 100 * EPS * size(values)


@pytest.mark.parametrize(
    ("sys", "text"),
    [
        (
            lti.LTI(lti.Diagonal([0.5]), [[1.0]], [[1.0]]),
            "LTI(Diagonal, order 1, 1 inputs, 1 outputs, float64)",
        ),
        (
            lti.LTI(np.zeros((2, 3, 3), np.float32), np.ones((3, 1), np.float32), [[1, 1, 1]]),
            "LTI(dense, order 3, 1 inputs, 1 outputs, batch (2,), float64)",
        ),
    ],
)
def test_repr_says_what_it_is(sys, text):
    assert repr(sys) == text


@pytest.mark.parametrize("structure", STRUCTURES)
@given(data=st.data())
def test_no_function_modifies_its_input(structure, data):
    sys = data.draw(
        systems(structures=(structure,), spectra=("plain",), couplings=("full",), batches=((2,),))
    )
    arrays = [*lti.systems.structure.parameters(sys.A), sys.B, sys.C]
    before = [x.copy() for x in arrays]
    lti.controllability_gramian(sys)
    lti.observability_gramian(sys, horizon=3)
    lti.gramian_factors(sys)
    lti.hankel_sum_and_gradient(sys)
    lti.balanced_truncation(sys, energy=0.9)
    lti.hinf_norm(sys)
    lti.h2_error(sys, sys)
    lti.frequency_response(sys, np.linspace(0, 3, 4))
    lti.impulse_response(sys, 3)
    lti.diagonalize(sys)
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before, strict=True))
