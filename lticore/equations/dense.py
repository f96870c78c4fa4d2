"""Stein equations with dense matrices: Schur forms where LAPACK is, series everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg

from .. import kernels
from ..arrays.groups import diagonal_blocks, groups_in_order
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, namespace
from ..errors import NonFiniteError, SingularEquationError, warn_precision
from ..systems.modes import from_modes, mode_poles, to_modes
from ..systems.structure import Structure
from .short_times import samples

#: Squarings of Smith's iteration: enough for 1 − |λ| = 1e-15.
_MAX_SQUARINGS = 60
#: Squarings that a cheap bound on the powers of a matrix may take.
_SQUARINGS = 10
#: Up to this order Schur forms take the workspace of the largest of these.
_SMALL = 32
#: Below this size the triangular recursion solves column by column.
_LEAF = 64

#: A solution that may be further off than this, relative to its norm, comes with a warning.
ACCURACY = 1e-6
#: ``solve(Q, adjoint_equation)`` → X; complex where the arithmetic is.
RawSolver: TypeAlias = Callable[[Array, bool], Array]


def sum_by_doubling(A: Array, Q: Array, B: Array, horizon: int) -> Array:
    """Σ_{k<T} A^k Q (Bᴴ)^k along the binary digits of T: nothing is subtracted."""
    X, A_power, B_power = Q, A, B
    # Callers look at what overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        for digit in bin(horizon)[3:]:
            X = X + A_power @ X @ adjoint(B_power)
            A_power, B_power = A_power @ A_power, B_power @ B_power
            if digit == "1":
                X = Q + A @ X @ adjoint(B)
                A_power, B_power = A_power @ A, B_power @ B
    return X


def factor_by_doubling(A: np.ndarray, B: np.ndarray, horizon: int) -> np.ndarray:
    """F, at most square, with F Fᴴ = Σ_{k<T} A^k B Bᴴ (A^k)ᴴ, along the binary digits of T.

    The sums of :func:`sum_by_doubling`, of which no square is formed.

    Raises
    ------
    NonFiniteError
    """
    F, power = _compressed(B), A
    with np.errstate(over="ignore", invalid="ignore"):
        for digit in bin(horizon)[3:]:
            F = _compressed(np.hstack([F, power @ F]))
            power = power @ power
            if digit == "1":
                F = _compressed(np.hstack([B, A @ F]))
                power = power @ A
    return _require_finite_factor(F, "a sum over the horizon", "the powers of A")


def factor_over_time(A: np.ndarray, B: np.ndarray, duration: float) -> np.ndarray:
    """F, at most square, with F Fᴴ = ∫_0^T e^{At} B Bᴴ e^{Aᴴt} dt: that of a short time, which is
    doubled, and no square of it.

    Raises
    ------
    NonFiniteError
    """
    change, F, _, doublings = samples(A, B, duration)
    with np.errstate(over="ignore", invalid="ignore"):
        F = _compressed(F)
        for _ in range(doublings):
            # Of what is slow beside A, 1 + x would lose digits.
            F = _compressed(np.hstack([F, F + change @ F]))
            change = 2 * change + change @ change
    return _require_finite_factor(F, "an integral over the horizon", "e^{At}")


def _require_finite_factor(F: np.ndarray, what: str, powers: str) -> np.ndarray:
    if not np.isfinite(F).all():
        raise NonFiniteError(
            f"{what} overflows: B, C or {powers} over it are too large. Take a shorter one"
        )
    return F


def _compressed(X: np.ndarray) -> np.ndarray:
    """F with F Fᴴ = X Xᴴ, square where X is wider."""
    n, width = X.shape
    if width <= n:
        return X
    triangle: Any = np.linalg.qr(adjoint(X), mode="r")  # NumPy's types do not know this mode
    return adjoint(triangle)


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
        # Entry by entry, since rows and columns may have units of their own. Terms underflow soon
        # after they are small, so that an entry in which the sum cancels keeps no one waiting.
        if bool(xp.all(xp.abs(term) <= EPSILON * xp.abs(X))):
            return X
        if not math.isfinite(float(xp.max(xp.abs(X)))):
            break
        A, B = A @ A, B @ B
    raise SingularEquationError(
        "the series of A^k Q (Bᴴ)^k does not converge: some pole of A times one of B is not inside "
        "the unit circle. Unstable dense equations are solved on NumPy arrays only"
    )


#: (T, U), (..., n, n) each, with A = U T Uᴴ.
SchurForms: TypeAlias = tuple[np.ndarray, np.ndarray]


def schur_solver(A_schur: SchurForms, B_schur: SchurForms, horizon: Any = None) -> RawSolver:
    """A = U T Uᴴ, B = V S Vᴴ with triangular T, S; then T Y Sᴴ − Y + Uᴴ Q V = 0, X = U Y Vᴴ.

    In the adjoint equation Tᴴ is lower triangular; reversing the order of the Schur vectors makes
    it upper triangular again. With a horizon Y is the sum of so many terms.
    """
    if horizon is None:
        poles, others = (np.diagonal(T, axis1=-2, axis2=-1) for T, _ in (A_schur, B_schur))
        _check_pairs(poles, others)
        return solver_in_schur_forms(A_schur, B_schur, _solve_triangular_stein)
    return solver_in_schur_forms(A_schur, B_schur, partial(sum_by_doubling, horizon=horizon))


def solver_in_schur_forms(
    A_schur: SchurForms, B_schur: SchurForms, solve_triangular: Callable[..., Any]
) -> RawSolver:
    """Q ↦ X = U Y Vᴴ for Y = ``solve_triangular(T, Uᴴ Q V, S)``; of the adjoint equation too."""

    def solve(Q: Any, adjoint_equation: bool) -> Any:
        (T, U), (S, V) = A_schur, B_schur
        if adjoint_equation:
            (T, U), (S, V) = reversed_adjoint(T, U), reversed_adjoint(S, V)
        return U @ solve_triangular(T, adjoint(U) @ Q @ V, S) @ adjoint(V)

    return solve


def mixed_solver(A: Structure, B: Any, names: tuple[str, str] = ("A", "B")) -> RawSolver:
    """Structured A, dense B = V S Vᴴ: one elementwise division per column of the modes of X.

    ``names`` are those of the two matrices for the caller.

    Cost: O(n l²) after the Schur form of B; nothing of size n × n appears.
    """
    B_schur = schur_form(B)
    poles = mode_poles(A)
    _check_pairs(poles, np.diagonal(B_schur[0], axis1=-2, axis2=-1), names)

    def solve(Q: Any, adjoint_equation: bool) -> Any:
        here, (S, V) = poles, B_schur
        if adjoint_equation:
            here, (S, V) = poles.conj(), reversed_adjoint(S, V)
        return from_modes(A, _solve_diagonal_columns(here, to_modes(A, Q) @ V, S) @ adjoint(V))

    return solve


def _check_pairs(
    poles: np.ndarray, others: np.ndarray, names: tuple[str, str] = ("A", "B")
) -> None:
    # How far rounding carries the poles is measured by residuals, once there is a solution.
    products = poles[..., :, None] * others.conj()[..., None, :]
    check_solvable(1 - products, 2 * EPSILON, 0.0, names)


def schur_form(A: np.ndarray) -> SchurForms:
    """Upper triangular T and unitary U, (..., n, n) and complex, with A = U T Uᴴ.

    A real matrix takes the real form first, which halves the time. Groups of states that feed each
    other keep their own poles (:func:`_schur_by_groups`).
    """
    T, U = schur_form_for_powers(A)
    return (T, U) if np.iscomplexobj(A) else complex_form(T, U)


def schur_form_for_powers(A: np.ndarray) -> SchurForms:
    """T and unitary U, (..., n, n), with A = U T Uᴴ, real for real A: T has 2 × 2 blocks for
    complex poles then.

    Squares of A round by eps ‖A‖² in all entries, which moves the poles of a non-normal A² far. In
    those of T zeros stay zeros, and the diagonal blocks, which are [[a, b], [c, a]] with bc < 0,
    keep their digits: a² + bc is Re λ² rounded by eps |λ|².
    """
    A = np.asarray_chkfinite(A)
    if A.ndim == 2:
        return _schur_by_groups(A)
    T, U = np.empty_like(A), np.empty_like(A)
    for index in np.ndindex(A.shape[:-2]):
        T[index], U[index] = _schur_by_groups(A[index])
    return T, U


def complex_form(T: np.ndarray, U: np.ndarray) -> SchurForms:
    """The complex Schur form of a real one, whose 2 × 2 blocks are [[a, b], [c, a]] with bc < 0 and
    the eigenvalues a ± μ, μ = i √(−bc), as LAPACK leaves them.

    A block has the Schur vectors (μ, c)/r and (−c, −μ)/r, r = |(μ, c)|.
    """
    shape = T.shape
    count = math.prod(shape[:-2])
    T, U = (X.astype(np.complex128).reshape(count, *shape[-2:]) for X in (T, U))
    entry, first = np.nonzero(np.diagonal(T, -1, axis1=-2, axis2=-1))
    second = first + 1
    centre, c = T[entry, first, first].real, T[entry, second, first].real
    mu = np.sqrt(-T[entry, first, second].real * c)
    r = np.hypot(mu, c)
    x, y = (1j * mu / r)[:, None], (c / r)[:, None]
    for X in (T, U):
        left, right = X[entry, :, first], X[entry, :, second]
        X[entry, :, first], X[entry, :, second] = left * x + right * y, -left * y - right * x
    upper, lower = T[entry, first], T[entry, second]
    T[entry, first], T[entry, second] = y * lower - x * upper, x * lower - y * upper
    T[entry, second, first] = 0
    T[entry, first, first], T[entry, second, second] = centre + 1j * mu, centre - 1j * mu
    return T.reshape(shape), U.reshape(shape)


def _schur_by_groups(A: np.ndarray) -> SchurForms:
    """The form of A by those of its groups of states, in whose order A is block triangular.

    Of systems in series rounding does not mix the poles, which moves those of the whole by much
    more where they are many: those of 25 sections of a filter by 1e-2, and some were unstable.
    """
    groups = groups_in_order(A)
    if groups is None:
        return _schur_of_group(A)
    forms = [_schur_of_group(block) for _, block in diagonal_blocks(A, groups)]
    order = np.concatenate(groups)
    V = scipy.linalg.block_diag(*(U for _, U in forms))
    T = adjoint(V) @ A[np.ix_(order, order)] @ V
    start = 0
    for block, _ in forms:
        end = start + len(block)
        T[start:end, :start], T[start:end, start:end] = 0, block
        start = end
    U = np.empty_like(V)
    U[order] = V
    return T, U


def _schur_of_group(A: np.ndarray) -> SchurForms:
    """By xGEES, as :func:`scipy.linalg.schur` does, which looks at small matrices for longer."""
    if not 0 < len(A) <= _SMALL:
        T, U, *_ = scipy.linalg.schur(A, check_finite=False)
        return T, U
    (gees,) = _gees(np.dtype(A.dtype))
    T, *_, U, _, info = gees(_unsorted, A, lwork=max(1, _SMALL * len(A)))
    if info != 0:
        raise np.linalg.LinAlgError(f"the QR iteration of a Schur form failed (info = {info})")
    return T, U


@cache
def _gees(dtype: Any) -> Any:
    return scipy.linalg.get_lapack_funcs(("gees",), dtype=dtype)


def _unsorted(*pole: Any) -> None:
    """No order of poles is asked for."""


def reversed_adjoint(T: np.ndarray, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return adjoint(T)[..., ::-1, ::-1], U[..., ::-1]


def _solve_triangular_stein(T: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """T X Sᴴ − X + F = 0 for upper triangular T and S, by halving the larger side.

    With T = [[T1, T12], [0, T2]] the lower rows X2 do not see X1; they are solved first and enter
    the upper rows through T12 X2 Sᴴ. With S split alike the right columns come first. All work but
    the leaves is in matrix products.
    """
    n, l = F.shape[-2:]
    if max(n, l) <= _LEAF:
        return kernels.find(triangular_equation_reference, F)(T, F, S, False)
    first, last = slice(max(n, l) // 2), slice(max(n, l) // 2, None)
    if n >= l:
        lower = _solve_triangular_stein(T[..., last, last], F[..., last, :], S)
        upper = F[..., first, :] + T[..., first, last] @ (lower @ adjoint(S))
        upper = _solve_triangular_stein(T[..., first, first], upper, S)
        return np.concatenate([upper, lower], axis=-2)
    right = _solve_triangular_stein(T, F[..., last], S[..., last, last])
    left = F[..., first] + T @ (right @ adjoint(S[..., first, last]))
    left = _solve_triangular_stein(T, left, S[..., first, first])
    return np.concatenate([left, right], axis=-1)


def triangular_equation_reference(
    T: np.ndarray, F: np.ndarray, S: np.ndarray, continuous: bool
) -> np.ndarray:
    """T X Sᴴ − X + F = 0, in continuous time T X + X Sᴴ + F = 0. Column j, last first, is
    (I − conj s_jj T) x_j = f_j + T g or −(conj s_jj I + T) x_j = f_j + g, with
    g = Σ_{k>j} conj s_jk x_k."""
    n, l = F.shape
    X, identity = np.empty((n, l), dtype=np.complex128), np.eye(n)
    for j in range(l - 1, -1, -1):
        known, own = X[:, j + 1 :] @ S[j, j + 1 :].conj(), S[j, j].conj()
        matrix = -(own * identity + T) if continuous else identity - own * T
        right = F[:, j] + (known if continuous else T @ known)
        X[:, j] = scipy.linalg.solve_triangular(matrix, right)
    return X


def _solve_diagonal_columns(poles: np.ndarray, F: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Column j, last first: (1 − conj s_jj λ) ∘ x_j = f_j + λ ∘ Σ_{k>j} conj s_jk x_k."""
    X = np.empty(F.shape, dtype=np.complex128)
    for j in range(F.shape[-1] - 1, -1, -1):
        known = X[..., j + 1 :] @ S[..., j, j + 1 :, None].conj()
        right = F[..., j] + poles * known[..., 0]
        X[..., j] = right / (1 - S[..., j, j, None].conj() * poles)
    return X


def growth_bound(A: np.ndarray, continuous: bool = False, exponent: int = 2) -> np.ndarray:
    """(...) a bound on ‖X‖/‖Q‖ for X = Σ_k A^k Q (A^k)ᴴ, in continuous time ∫ e^{At} Q e^{Aᴴt} dt;
    with exponent 1 on ‖(z − A)⁻¹‖ at the boundary of stability. Infinite where a few products find
    none."""
    if not continuous:
        return power_sum_bound(A, exponent)
    # ‖e^{At}‖ ≤ e^{μt} for the largest eigenvalue μ of (A + Aᴴ)/2.
    rate = -np.linalg.eigvalsh((A + adjoint(A)) / 2).max(axis=-1, initial=-np.inf)
    if np.all(rate > 0):
        return 1 / (exponent * rate)
    # With M = (α − A)⁻¹ and A' = M (α + A) (Cayley) A' X A'ᴴ − X + 2α M Q Mᴴ = 0, and on the circle
    # (iω − A)⁻¹ = (z + 1) M (z − A')⁻¹.
    n = A.shape[-1]
    alpha = np.linalg.norm(A, axis=(-2, -1)) / n**0.5
    shift = alpha[..., None, None] * np.eye(n)
    try:
        M = np.linalg.inv(shift - A)
    except np.linalg.LinAlgError:
        return np.full(A.shape[:-2], np.inf)
    size = np.linalg.norm(M, axis=(-2, -1))
    before = 2 * alpha * size**2 if exponent == 2 else 2 * size
    return before * power_sum_bound(M @ (shift + A), exponent)


def power_sum_bound(A: np.ndarray, exponent: int = 2) -> np.ndarray:
    """(...) a bound on Σ_k ‖A^k‖₂^exponent, or infinity where a few squarings find none.

    Σ_{k<2^s} ‖A^k‖² ≤ Π_{i<s} (1 + ‖A^{2^i}‖²), and 1/(1 − ‖A^{2^s}‖²) times that over all k.
    """
    bound, total, power = np.full(A.shape[:-2], np.inf), np.ones(A.shape[:-2]), A
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_SQUARINGS):
            size = np.linalg.norm(power, axis=(-2, -1)) ** exponent
            found = np.isinf(bound) & (size < 0.5)
            bound = np.where(found, total / np.where(found, 1 - size, 1), bound)
            if not np.any(np.isinf(bound) & (size * total < 1 / EPSILON)):
                break
            total, power = total * (1 + size), power @ power
    return bound


def check_solvable(
    denominator: Array,
    rounding: Array | float,
    perturbation: Array | float,
    names: tuple[str, str] = ("A", "B"),
) -> None:
    """Look at the pair with the smallest |1 − λ_i conj λ_j|, given as ``denominator``.

    Raise where one is zero to within its rounding error; warn where that error, ``perturbation``,
    changes one by more than 1e-6 of itself, and so the solution.
    """
    xp = namespace(denominator)
    size = xp.abs(denominator)
    if not bool(xp.all(size > rounding)):
        pair = smallest_pair(size - rounding, names)
        raise SingularEquationError(
            f"the Stein equation is singular: the poles of modes {pair} have "
            "λ_i·conj λ_j = 1 to working precision. A finite `horizon` always has a solution"
        )
    if not bool(xp.all(perturbation <= ACCURACY * size)):
        pair, gap = smallest_pair(size, names), float(xp.min(size))
        warn_precision(
            f"the Stein equation is nearly singular: the poles of modes {pair} have "
            f"|1 − λ_i·conj λ_j| = {gap:.1e}, and the solution may carry a relative error of "
            f"{float(xp.max(perturbation / size)):.0e}"
        )


def smallest_pair(x: Array, names: tuple[str, str]) -> str:
    """Row and column of the smallest entry, in whichever batch entry it lies."""
    xp = namespace(x)
    flat = int(xp.argmin(xp.reshape(x, (-1,))))
    pair = zip(divmod(flat % (x.shape[-2] * x.shape[-1]), x.shape[-1]), names, strict=True)
    return " and ".join(f"{mode} (of {name})" for mode, name in sorted(pair, key=lambda p: p[1]))
