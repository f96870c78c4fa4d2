"""Sparse state matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import scipy

from ..arrays.checks import check_array, is_complex
from ..errors import ArgumentError, ArrayLibraryError, ShapeError


@dataclass(frozen=True, eq=False)
class Sparse:
    """State matrix A as a sparse matrix of SciPy, as models of heat flow and other fields have.

    Of a system of this A exist what needs neither its poles nor n × n numbers:
    :func:`lticore.gramian_factors`, :func:`lticore.hankel_singular_values`,
    :func:`lticore.hankel_norm`, :func:`lticore.balanced_truncation`, :func:`lticore.h2_norm`,
    :func:`lticore.h2_error`, :func:`lticore.frequency_response`. All else refuses it by name and
    never fills it in. One system, on NumPy.

    Parameters
    ----------
    matrix : (n, n) sparse matrix or array of SciPy, of any format; kept as a ``csc_array``

    Raises
    ------
    ArrayLibraryError, ShapeError, DtypeError, NonFiniteError

    >>> A = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(1000, 1000))
    >>> sys = lti.LTI(lti.Sparse(A), np.eye(1000, 1), np.eye(1, 1000), dt=0)
    >>> lti.balanced_truncation(sys, order=6).order
    6
    """

    matrix: scipy.sparse.csc_array

    def __init__(self, matrix: Any) -> None:
        if not scipy.sparse.issparse(matrix):
            raise ArrayLibraryError(
                f"matrix ({type(matrix).__name__}) is not a sparse matrix of SciPy: pass "
                "scipy.sparse.csc_array(A), or an array as the A of an LTI itself"
            )
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"matrix has shape {matrix.shape}: a state matrix is square")
        columns = scipy.sparse.csc_array(matrix)
        if not columns.has_canonical_format:
            columns = columns.copy()
            columns.sum_duplicates()
        object.__setattr__(self, "matrix", _with_entries(columns, columns.data))

    @property
    def order(self) -> int:
        """Number of states n."""
        return self.matrix.shape[0]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> Any:
        return self.matrix.dtype

    @property
    def H(self) -> Sparse:
        """The adjoint Aᴴ."""
        return Sparse(self.matrix.conj().T)

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """The entries that are stored."""
        return (self.matrix.data,)

    def of_parameters(self, entries: np.ndarray) -> Sparse:
        """The matrix with other entries in the same places."""
        return Sparse(_with_entries(self.matrix, entries))

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return not is_complex(self.matrix.data)

    def multiply(self, X: np.ndarray) -> np.ndarray:
        """A X for X (n, k), in the number of stored entries times k."""
        return self.matrix @ X

    def same_in_blocks(
        self, combine: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray
    ) -> np.ndarray:
        """x (n,) with one number for all states of a block; here each state is its own."""
        return x

    def to_dense(self) -> NoReturn:
        self._refuse("its entries as an array")

    @property
    def poles(self) -> NoReturn:
        self._refuse("all of its poles")

    @property
    def radii(self) -> NoReturn:
        self._refuse("all of its poles")

    @property
    def decays(self) -> NoReturn:
        self._refuse("all of its poles")

    @property
    def mode_poles(self) -> NoReturn:
        self._refuse("all of its poles")

    def _refuse(self, what: str) -> NoReturn:
        n = self.order
        raise ArgumentError(
            f"A is sparse, of {n} states, and {what} would take {n} × {n} numbers: reduce the "
            "system first (balanced_truncation), or pass A.matrix.toarray() where that is meant"
        )


def _with_entries(matrix: scipy.sparse.csc_array, entries: np.ndarray) -> scipy.sparse.csc_array:
    data = check_array("matrix", entries, ndim=1)
    return scipy.sparse.csc_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
