"""Stein equations with dense matrices: Schur forms where LAPACK is, series everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy.linalg

from ._arrays import Array, namespace
from ._linalg import EPSILON, adjoint
from ._modes import from_modes, mode_poles, to_modes
from .errors import SingularEquationError
from .structure import Diagonal, Rotation

#: Squarings of Smith's iteration: enough for 1 − |λ| = 1e-15.
_MAX_SQUARINGS = 60
#: Below this size the triangular recursion solves column by column.
_LEAF = 64
(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)

#: ``solve(Q, adjoint_equation)`` → X; complex where the arithmetic is.
RawSolver: TypeAlias = Callable[[Array, bool], Array]


def sum_by_doubling(A: Array, Q: Array, B: Array, horizon: int) -> Array:
    """Σ_{k<T} A^k Q (Bᴴ)^k along the binary digits of T: nothing is subtracted."""
    X, A_power, B_power = Q, A, B
    for digit in bin(horizon)[3:]:
        X = X + A_power @ X @ adjoint(B_power)
        A_power, B_power = A_power @ A_power, B_power @ B_power
        if digit == "1":
            X = Q + A @ X @ adjoint(B)
            A_power, B_power = A_power @ A, B_power @ B
    return X


def sum_to_convergence(A: Array, Q: Array, B: Array) -> Array:
    """Σ_k A^k Q (Bᴴ)^k by Smith's squaring: X ← X + A X Bᴴ, A ← A², B ← B²."""
    xp = namespace(Q)
    X = Q
    for _ in range(_MAX_SQUARINGS):
        term = A @ X @ adjoint(B)
        X = X + term
        size, change = float(xp.max(xp.abs(X))), float(xp.max(xp.abs(term)))
        if change <= EPSILON * size:
            return X
        if not math.isfinite(size):
            break
        A, B = A @ A, B @ B
    raise SingularEquationError(
        "the series of A^k Q (Bᴴ)^k does not converge: some pole of A times one of B is not inside "
        "the unit circle. Unstable dense equations are solved on NumPy arrays only"
    )


def schur_solver(A: np.ndarray, B: np.ndarray, same: bool) -> RawSolver:
    """A = U T Uᴴ, B = V S Vᴴ with triangular T, S; then T Y Sᴴ − Y + Uᴴ Q V = 0, X = U Y Vᴴ.

    In the adjoint equation Tᴴ is lower triangular; reversing the order of the Schur vectors makes
    it upper triangular again.
    """
    A_schur = _schur_forms(A)
    B_schur = A_schur if same else _schur_forms(B)
    for index, (T, _) in A_schur.items():
        _refuse_reciprocal(np.diagonal(T), B_schur[index][0])

    def solve(Q: Array, adjoint_equation: bool) -> Array:
        X = np.empty(Q.shape, dtype=np.complex128)
        for index in np.ndindex(Q.shape[:-2]):
            (T, U), (S, V) = A_schur[index], B_schur[index]
            if adjoint_equation:
                (T, U), (S, V) = _reversed_adjoint(T, U), _reversed_adjoint(S, V)
            Y = _solve_triangular_stein(T, adjoint(U) @ Q[index] @ V, S)
            X[index] = U @ Y @ adjoint(V)
        return X

    return solve


def mixed_solver(A: Diagonal | Rotation, B: np.ndarray) -> RawSolver:
    """Structured A, dense B = V S Vᴴ: one elementwise division per column of the modes of X.

    Cost: O(n l²) after the Schur form of B; nothing of size n × n appears.
    """
    B_schur = _schur_forms(B)
    poles = mode_poles(A)
    for index, (S, _) in B_schur.items():
        _refuse_reciprocal(poles[index], S)

    def solve(Q: Array, adjoint_equation: bool) -> Array:
        F = to_modes(A, Q)
        Y = np.empty(F.shape, dtype=np.complex128)
        for index, (S, V) in B_schur.items():
            poles_here = poles[index]
            if adjoint_equation:
                poles_here, (S, V) = poles_here.conj(), _reversed_adjoint(S, V)
            Y[index] = _solve_diagonal_columns(poles_here, F[index] @ V, S) @ adjoint(V)
        return from_modes(A, Y)

    return solve


def _schur_forms(A: np.ndarray) -> dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]]:
    return {
        index: scipy.linalg.schur(A[index].astype(np.complex128), output="complex")
        for index in np.ndindex(A.shape[:-2])
    }


def _reversed_adjoint(T: np.ndarray, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return adjoint(T)[::-1, ::-1], U[:, ::-1]


def _solve_triangular_stein(T: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """T X Sᴴ − X + F = 0 for upper triangular T and S, by halving the larger side.

    With T = [[T1, T12], [0, T2]] the lower rows X2 do not see X1; they are solved first and enter
    the upper rows through T12 X2 Sᴴ. With S split alike the right columns come first. All work but
    the leaves is in matrix products.
    """
    n, l = F.shape
    if max(n, l) <= _LEAF:
        return _solve_triangular_columns(T, F, S)
    if n >= l:
        h = n // 2
        lower = _solve_triangular_stein(T[h:, h:], F[h:], S)
        upper = _solve_triangular_stein(T[:h, :h], F[:h] + T[:h, h:] @ (lower @ S.conj().T), S)
        return np.vstack([upper, lower])
    h = l // 2
    right = _solve_triangular_stein(T, F[:, h:], S[h:, h:])
    left = _solve_triangular_stein(T, F[:, :h] + T @ (right @ S[:h, h:].conj().T), S[:h, :h])
    return np.hstack([left, right])


def _solve_triangular_columns(T: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Column j, last first: (I − conj s_jj T) x_j = f_j + T Σ_{k>j} conj s_jk x_k."""
    n, l = F.shape
    X = np.empty((n, l), dtype=np.complex128)
    for j in range(l - 1, -1, -1):
        right = F[:, j] + T @ (X[:, j + 1 :] @ S[j, j + 1 :].conj())
        shifted = -S[j, j].conj() * T
        shifted.flat[:: n + 1] += 1
        X[:, j], _ = _trtrs(shifted, right)
    return X


def _solve_diagonal_columns(poles: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Column j, last first: (1 − conj s_jj λ) ∘ x_j = f_j + λ ∘ Σ_{k>j} conj s_jk x_k."""
    X = np.empty(F.shape, dtype=np.complex128)
    for j in range(F.shape[1] - 1, -1, -1):
        right = F[:, j] + poles * (X[:, j + 1 :] @ S[j, j + 1 :].conj())
        X[:, j] = right / (1 - S[j, j].conj() * poles)
    return X


def _refuse_reciprocal(poles: np.ndarray, S: np.ndarray) -> None:
    refuse_singular(1 - np.outer(poles, np.diagonal(S).conj()), 2 * EPSILON)


def refuse_singular(denominator: Array, rounding: Array | float) -> None:
    """Raise where some |1 − λ_i conj λ_j| is zero to within its rounding error."""
    xp = namespace(denominator)
    excess = xp.abs(denominator) - rounding
    if bool(xp.all(excess > 0)):
        return
    flat = int(xp.argmin(xp.reshape(excess, (-1,))))
    i, j = divmod(flat % (excess.shape[-2] * excess.shape[-1]), excess.shape[-1])
    raise SingularEquationError(
        f"the Stein equation is singular: the poles of modes {i} (of A) and {j} (of B) have "
        "λ_i·conj λ_j = 1 to working precision. A finite `horizon` always has a solution"
    )
