"""Descriptor form: E ẋ = A x + B u with a regular E."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.checks import check_array, is_complex, is_single, like_precision, to_double
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import is_numpy, namespace
from ..errors import ArgumentError, ArrayLibraryError, ShapeError, SingularEquationError
from ..systems.structure import is_structured

#: Rounds in which rows and columns of a pencil are made about equally large.
_ROUNDS = 6


def standard_forms(E: Any, A: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A', L, Z), (..., n, n) each, of E ẋ = A x + w as ż = A' z + L w, x = Z z.

    By a generalised Schur form A = U S Zᴴ, E = U T Zᴴ of the pencil with rows and columns of about
    one size, A' = T⁻¹ S and L = T⁻¹ Uᴴ: each of the poles s_ii/t_ii stands on the diagonal as QZ
    has it, where E⁻¹ A of an ill-conditioned E would round all of them by the size of the largest.

    Raises
    ------
    SingularEquationError
        For a singular E, and a singular pencil.
    ArgumentError, ShapeError, ArrayLibraryError

    Source: Moler & Stewart, SIAM J. Numer. Anal. 10 (1973), QZ; Ward, SIAM J. Sci. Stat. Comput. 2
    (1981), for the scaling.
    """
    if is_structured(A):
        raise ArgumentError(
            "E is for dense A: of a structured one it would keep nothing. Pass A.to_dense()"
        )
    E, A = (to_double(check_array(name, X, ndim=2)) for name, X in (("E", E), ("A", A)))
    namespace(E, A)  # refuses two libraries
    if not (is_numpy(E) and is_numpy(A)):
        raise ArrayLibraryError("descriptor matrices need LAPACK's QZ and so NumPy arrays")
    if E.shape[-2:] != A.shape[-2:] or E.shape[-1] != E.shape[-2]:
        raise ShapeError(f"E has shape {E.shape}, but A {A.shape}: both are n × n")
    batch = np.broadcast_shapes(E.shape[:-2], A.shape[:-2])
    E, A = (np.broadcast_to(X, (*batch, *X.shape[-2:])) for X in (E, A))
    dtype = np.result_type(E, A)
    found = [np.empty(E.shape, dtype) for _ in range(3)]
    for index in np.ndindex(batch):
        for target, X in zip(found, _standard_form(E[index], A[index]), strict=True):
            target[index] = X
    return found[0], found[1], found[2]


def _standard_form(E: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(E)
    if n == 0:
        return A, A, A
    row, column = _even_pencil(E, A)
    E, A = E * row[:, None] * column, A * row[:, None] * column
    output = "complex" if is_complex(E) or is_complex(A) else "real"
    S, T, U, Z = scipy.linalg.qz(A, E, output=output)
    _check_regular(S, T)
    # T⁻¹ keeps the zeros below the blocks of S: of their columns there is nothing to eliminate.
    solved = scipy.linalg.solve_triangular(T, np.hstack([S, adjoint(U)]))
    return solved[:, :n], solved[:, n:] * row, column[:, None] * Z


def _even_pencil(E: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Powers of two (r, c) with which rows and columns of r E c and r A c are about one size, E and
    A each in a unit of their own."""
    size = np.zeros(E.shape)
    for X in (E, A):
        largest = np.abs(X).max()
        size = np.maximum(size, np.abs(X) / (largest if largest > 0 else 1))
    row, column = np.ones(len(E)), np.ones(len(E))
    for _ in range(_ROUNDS):
        for unit, axis in ((row, 1), (column, 0)):
            now = (size * row[:, None] * column).max(axis=axis)
            unit /= 2.0 ** np.rint(np.log2(np.where(now > 0, now, 1)))
    return row, column


def _check_regular(S: np.ndarray, T: np.ndarray) -> None:
    """T must have no diagonal entry that rounding of E explains."""
    small = np.abs(np.diagonal(T)) <= 4 * len(T) * EPSILON * np.linalg.norm(T)
    if not small.any():
        return
    of_A = np.abs(np.diagonal(S)) <= 4 * len(S) * EPSILON * np.linalg.norm(S)
    if np.any(small & of_A):
        raise SingularEquationError("the pencil of A and E is singular: no state follows from them")
    raise SingularEquationError(
        f"E is singular to working precision: {int(small.sum())} of {len(T)} poles are infinite. "
        "Take out the algebraic equations first, which these states obey without delay"
    )


def solve_in_standard_form(solve: Callable[..., Any], E: Any, A: Any, Q: Any, B: Any) -> Any:
    """X of an equation with E: Z Y Zᴴ for the Y of the equation of (A', L Q Lᴴ)."""
    if B is not None:
        raise ArgumentError("E is for equations of one matrix, without B")
    Q = check_array("Q", Q, ndim=2)
    form, left, Z = standard_forms(E, A)
    if Q.shape[-2:] != form.shape[-2:]:
        raise ShapeError(f"Q has shape {Q.shape}, but A is {form.shape[-2:]}: both are n × n")
    single = all(is_single(check_array("", X, ndim=2)) for X in (E, A, Q))
    Y = solve(form, left @ to_double(Q) @ adjoint(left))
    return like_precision(Z @ Y @ adjoint(Z), single)
