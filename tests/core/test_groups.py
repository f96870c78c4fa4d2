"""Groups of states that feed each other, and units in which they are balanced."""

import numpy as np
import pytest

import lticore as lti
from lticore.arrays.groups import eigenvalues_of_groups, groups_in_order
from lticore.matrices.balance import balance_dense, state_units


def test_entries_of_a_batch_have_poles_of_their_own():
    A = np.array([[[0.5, 7.0], [0.0, 0.25]], [[0.125, 0.0], [-3.0, -0.75]]])
    np.testing.assert_array_equal(eigenvalues_of_groups(A), [[0.5, 0.25], [0.125, -0.75]])
    np.testing.assert_array_equal(
        np.sort(lti.LTI(A, A, A).poles.real), [[0.25, 0.5], [-0.75, 0.125]]
    )


def test_groups_stand_before_those_that_they_are_fed_by():
    """Three in a row, the last of two states: 0 feeds 1, which feeds 2 and 3."""
    A = np.diag([0.1, 0.2, 0.3, 0.4])
    A[1, 0] = A[2, 1] = A[2, 3] = A[3, 2] = 1.0
    assert [x.tolist() for x in groups_in_order(A)] == [[2, 3], [1], [0]]
    assert groups_in_order(A[2:, 2:]) is None


def test_no_input_or_output_is_larger_than_the_way_between_them():
    """|B| and |C| in the units are at most √h = √max r o, r = (θ − |A|)⁻¹|B|, o = (θ − |A|ᵀ)⁻¹|C|,
    but for powers of two; as they stand B is 2^20 times that."""
    A, B, C = np.diag([0.5, 0.25]), np.array([[1.0], [2.0**40]]), np.array([[2.0**40, 1.0]])
    r, o = B[:, 0] / (1 - np.diag(A)), C[0] / (1 - np.diag(A))
    root = np.sqrt((r * o).max())
    _, B, C, _ = balance_dense(A, B, C)
    assert max(B.max(), C.max()) <= 2 * root
    assert B.max() >= root / 4


@pytest.mark.parametrize("continuous", [False, True])
def test_an_output_of_nothing_decides_nothing(continuous):
    """The units are those without it, but for one common factor."""
    A = np.array([[-0.5, 0.1, 0.0], [0.0, -0.4, 0.2], [0.1, 0.0, -0.3]])
    B = np.ldexp(1.0, [[-90], [0], [60]])
    for given, without in (((B, 0 * B.T), (B, None)), ((0 * B, B.T), (None, B.T))):
        found, expected = (state_units(A, *x, continuous=continuous) for x in (given, without))
        ratio = found / expected
        np.testing.assert_array_equal(ratio, ratio[0])
