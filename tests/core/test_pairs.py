"""The layout of states in pairs."""

import numpy as np
import pytest

from lticore import Rotation
from lticore.systems.pairs import (
    complex_columns,
    complex_rows,
    join_pairs,
    real_columns,
    real_rows,
    same_in_pairs,
    split_pairs,
)


@pytest.mark.parametrize(("blocks", "reals"), [(3, 2), (0, 2), (2, 0), (0, 0)])
def test_parts_of_the_states_and_back(blocks, reals):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2, 2 * blocks + reals, 5))
    parts = split_pairs(X, blocks, axis=-2)
    assert [part.shape for part in parts] == [(2, blocks, 5), (2, blocks, 5), (2, reals, 5)]
    np.testing.assert_array_equal(join_pairs(*parts, axis=-2), X)
    columns = split_pairs(X[0].T, blocks)
    np.testing.assert_array_equal(columns[1], parts[1][0].T)
    np.testing.assert_array_equal(join_pairs(*columns), X[0].T)


def test_states_of_a_block_are_neighbours():
    A = Rotation([0.5, 0.6], [1.0, 2.0], [0.3]).to_dense()
    x = np.arange(1.0, 6.0)
    first, second, rest = split_pairs(x, 2)
    z = (first + 1j * second) * [0.5 * np.exp(-1j), 0.6 * np.exp(-2j)]
    np.testing.assert_allclose(A @ x, join_pairs(z.real, z.imag, 0.3 * rest), rtol=1e-15)
    np.testing.assert_array_equal(same_in_pairs(np.maximum, x, 2), [2, 2, 4, 4, 5])


def test_complex_coefficients_of_blocks():
    """y = Re(c z) for z driven by b u, and both ways back."""
    rng = np.random.default_rng(1)
    B, C = rng.standard_normal((7, 2)), rng.standard_normal((3, 7))
    b, c = complex_rows(B, 2), complex_columns(C, 2)
    assert (b.shape, c.shape) == ((5, 2), (3, 5))
    np.testing.assert_allclose((c @ b).real, C @ B, rtol=1e-14)
    np.testing.assert_array_equal(real_rows(b[:2]), B[:4])
    np.testing.assert_array_equal(real_columns(c[:, :2]), C[:, :4])
