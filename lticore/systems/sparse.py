"""Sparse state matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn

import numpy as np
import scipy

from ..arrays.checks import check_array, is_complex
from ..errors import ArgumentError, ArrayLibraryError, ShapeError
from ..matrices.sparse_factors import SparseSolver, factorized


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
    mass : the same, optional
        A regular E, such as the mass matrix of finite elements: the state matrix is then A E⁻¹, of
        the states z = E x of E ẋ = A x + B u, y = C x, to which belong B and C E⁻¹
        (:func:`lticore.from_descriptor` makes that system). It is never formed.

    Raises
    ------
    ArrayLibraryError, ShapeError, DtypeError, NonFiniteError
    SingularEquationError
        For a singular ``mass``.


    >>> from scipy.sparse import diags_array
    >>> A = diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(1000, 1000))
    >>> sys = lti.LTI(lti.Sparse(A), np.eye(1000, 1), np.eye(1, 1000), dt=0)
    >>> lti.balanced_truncation(sys, order=6).order
    6

    """

    matrix: scipy.sparse.csc_array
    mass: scipy.sparse.csc_array | None

    def __init__(self, matrix: Any, mass: Any = None) -> None:
        object.__setattr__(self, "matrix", _square_columns("matrix", matrix))
        object.__setattr__(self, "mass", None if mass is None else _square_columns("mass", mass))
        if self.mass is not None and self.mass.shape != self.matrix.shape:
            raise ShapeError(
                f"mass has shape {self.mass.shape}, but matrix {self.matrix.shape}: both are n × n"
            )
        self._solve_mass  # noqa: B018  # a singular one is refused here

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
        """The adjoint Aᴴ; that of A E⁻¹ is of another form."""
        if self.mass is not None:
            self._refuse("the adjoint of A E⁻¹")
        return Sparse(self.matrix.conj().T)

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """The entries that are stored."""
        return (self.matrix.data,)

    def of_parameters(self, entries: np.ndarray) -> Sparse:
        """The matrix with other entries in the same places."""
        return Sparse(_with_entries(self.matrix, entries), self.mass)

    @property
    def is_real(self) -> bool:
        """Whether A is a real matrix."""
        return not any(X is not None and is_complex(X.data) for X in (self.matrix, self.mass))

    @cached_property
    def _solve_mass(self) -> SparseSolver | None:
        return None if self.mass is None else factorized(self.mass)

    def without_mass(self, X: np.ndarray, trans: Literal["N", "T", "H"] = "N") -> np.ndarray:
        """E⁻¹ X, E⁻ᵀ X or E⁻ᴴ X."""
        if self._solve_mass is None or self.mass is None:
            return X
        if is_complex(X) and not is_complex(self.mass.data):
            real, imaginary = (self._solve_mass(part, trans) for part in (X.real, X.imag))
            return real + 1j * imaginary
        return self._solve_mass(X.astype(self.mass.dtype), trans)

    def multiply(self, X: np.ndarray) -> np.ndarray:
        """A X for X (n, k), in the number of stored entries times k."""
        return self.matrix @ self.without_mass(X)

    def multiply_adjoint(self, X: np.ndarray) -> np.ndarray:
        """Aᴴ X."""
        return self.without_mass(self.matrix.conj().T @ X, "H")

    def multiply_sizes(self, X: np.ndarray) -> np.ndarray:
        """|A||X|, or the sizes of the terms of A (E⁻¹ X)."""
        return abs(self.matrix) @ np.abs(self.without_mass(X))

    def solver(self, a: complex, b: complex) -> SparseSolver:
        """Of (a A + b I) X = W in the type of the pencil; with E by E (a A + b E)⁻¹ W.

        Raises
        ------
        SingularEquationError
        """
        n = self.order
        one = scipy.sparse.eye_array(n, format="csc") if self.mass is None else self.mass
        solve = factorized(scipy.sparse.csc_array(a * self.matrix + b * one))
        if self.mass is None:
            return solve
        E = self.mass
        sides = {"T": E.T, "H": E.conj().T}

        def with_mass(W: np.ndarray, trans: Literal["N", "T", "H"]) -> np.ndarray:
            if trans == "N":
                return E @ solve(W, "N")
            return solve(sides[trans] @ W, trans)

        return with_mass

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


def _square_columns(name: str, matrix: Any) -> scipy.sparse.csc_array:
    if not scipy.sparse.issparse(matrix):
        raise ArrayLibraryError(
            f"{name} ({type(matrix).__name__}) is not a sparse matrix of SciPy: pass "
            "scipy.sparse.csc_array(A), or an array as the A of an LTI itself"
        )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"{name} has shape {matrix.shape}: a state matrix is square")
    columns = scipy.sparse.csc_array(matrix)
    if not columns.has_canonical_format:
        columns = columns.copy()
        columns.sum_duplicates()
    return _with_entries(columns, columns.data)


def _with_entries(matrix: scipy.sparse.csc_array, entries: np.ndarray) -> scipy.sparse.csc_array:
    data = check_array("matrix", entries, ndim=1)
    return scipy.sparse.csc_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
