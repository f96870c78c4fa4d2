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
from .errors import SingularEquationError, warn_precision
from .structure import Diagonal, Rotation

#: Squarings of Smith's iteration: enough for 1 − |λ| = 1e-15.
_MAX_SQUARINGS = 60
#: Below this size the triangular recursion solves column by column.
_LEAF = 64
(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)

#: A solution that may be further off than this, relative to its norm, comes with a warning.
_ACCURACY = 1e-6
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


def sum_by_doubling_gradient(A: Array, W: Array, G: Array, horizon: int) -> Array:
    """g with Re⟨G, dX⟩ = Re⟨g, dA⟩ for X = Σ_{k<T} A^k W (Aᴴ)^k, W and G Hermitian.

    Cost: as the sum itself, times three; its O(log T) partial results are kept.
    """
    # Each step of the sum is run again and kept, then all are turned round. With F = A^k,
    #   doubling:   X ← X + F X Fᴴ,  F ← F²:    X̄ ← X̄ + Fᴴ X̄ F,  F̄ ← 2 X̄ F X + F̄ Fᴴ + Fᴴ F̄
    #   one more:   X ← W + A X Aᴴ,  F ← F A:   Ā ← Ā + 2 X̄ A X + Fᴴ F̄,  X̄ ← Aᴴ X̄ A,  F̄ ← F̄ Aᴴ
    # since the cotangent X̄ is Hermitian as X is.
    X, power, steps = W, A, []
    for digit in bin(horizon)[3:]:
        steps.append((X, power, False))
        X, power = X + power @ X @ adjoint(power), power @ power
        if digit == "1":
            steps.append((X, power, True))
            X, power = W + A @ X @ adjoint(A), power @ A
    X_bar, power_bar = G, 0 * A
    A_bar = power_bar
    for X, power, one_more in reversed(steps):
        if one_more:
            A_bar = A_bar + 2 * X_bar @ A @ X + adjoint(power) @ power_bar
            X_bar, power_bar = adjoint(A) @ X_bar @ A, power_bar @ adjoint(A)
        else:
            through = 2 * X_bar @ power @ X
            power_bar = through + power_bar @ adjoint(power) + adjoint(power) @ power_bar
            X_bar = X_bar + adjoint(power) @ X_bar @ power
    return A_bar + power_bar


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
        check_pencil(np.diagonal(T), B_schur[index][0], norm=norm_bound(T))

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


def mixed_solver(
    A: Diagonal | Rotation, B: np.ndarray, names: tuple[str, str] = ("A", "B")
) -> RawSolver:
    """Structured A, dense B = V S Vᴴ: one elementwise division per column of the modes of X.

    ``names`` are those of the two matrices for the caller.

    Cost: O(n l²) after the Schur form of B; nothing of size n × n appears.
    """
    B_schur = _schur_forms(B)
    poles = mode_poles(A)
    for index, (S, _) in B_schur.items():
        check_pencil(poles[index], S, norm=np.abs(poles[index]).max(initial=0), names=names)

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
    return {index: schur_form(A[index]) for index in np.ndindex(A.shape[:-2])}


def schur_form(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper triangular T and unitary U, both complex, with A = U T Uᴴ.

    A real matrix takes the real form first, which halves the time.
    """
    if np.iscomplexobj(A):
        return scipy.linalg.schur(A, output="complex")
    return scipy.linalg.rsf2csf(*scipy.linalg.schur(A, output="real"))


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


def check_pencil(
    poles: np.ndarray, S: np.ndarray, norm: float, names: tuple[str, str] = ("A", "B")
) -> None:
    # A Schur form is that of a matrix that differs by eps times its norm.
    perturbation = EPSILON * max(1.0, norm * norm_bound(S))
    denominator = 1 - np.outer(poles, np.diagonal(S).conj())
    check_solvable(denominator, 2 * EPSILON, perturbation, names)


def norm_bound(X: np.ndarray) -> float:
    """A bound on the spectral norm: √(‖X‖_1 ‖X‖_∞)."""
    size = np.abs(X)
    return float(np.sqrt(size.sum(axis=0).max(initial=0) * size.sum(axis=1).max(initial=0)))


def check_solvable(
    denominator: Array,
    rounding: Array | float,
    perturbation: Array | float,
    names: tuple[str, str] = ("A", "B"),
) -> None:
    """Look at the pair with the smallest |1 − λ_i conj λ_j|, given as ``denominator``.

    Raise where one is zero to within its rounding error; warn where the perturbation of the
    equation by its solver changes one by more than 1e-6 of itself, and so the solution: near
    singularity, or because large matrices round by more than such a share.
    """
    xp = namespace(denominator)
    size = xp.abs(denominator)
    if not bool(xp.all(size > rounding)):
        pair = _smallest_pair(size - rounding, names)
        raise SingularEquationError(
            f"the Stein equation is singular: the poles of modes {pair} have "
            "λ_i·conj λ_j = 1 to working precision. A finite `horizon` always has a solution"
        )
    if not bool(xp.all(perturbation <= _ACCURACY * size)):
        pair, gap = _smallest_pair(size, names), float(xp.min(size))
        moved = float(xp.max(perturbation + 0 * size))
        share = float(xp.max(perturbation / size))
        error = f"the solution may carry a relative error of {share:.0e}"
        if gap * moved <= EPSILON:  # 1/gap is the larger share of the loss, moved/eps the other
            warn_precision(
                f"the Stein equation is nearly singular: the poles of modes {pair} have "
                f"|1 − λ_i·conj λ_j| = {gap:.1e}, and {error}. Diagonal and Rotation structures "
                "keep poles near the unit circle exactly"
            )
        else:
            warn_precision(
                f"the Stein equation is badly scaled: its matrices are so large that rounding "
                f"moves |1 − λ_i·conj λ_j|, {gap:.1e} for the poles of modes {pair}, by up to "
                f"{moved:.0e}, and {error}. States in units that bring rows and columns of the "
                "matrices to about equal size (scipy.linalg.matrix_balance) may lose less"
            )


def _smallest_pair(x: Array, names: tuple[str, str]) -> str:
    """Row and column of the smallest entry, in whichever batch entry it lies."""
    xp = namespace(x)
    flat = int(xp.argmin(xp.reshape(x, (-1,))))
    pair = zip(divmod(flat % (x.shape[-2] * x.shape[-1]), x.shape[-1]), names, strict=True)
    return " and ".join(f"{mode} (of {name})" for mode, name in sorted(pair, key=lambda p: p[1]))
