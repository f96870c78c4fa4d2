"""Triangular factors of dense Gramians, computed without the Gramians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint
from ..errors import UnstableSystemError, warn_precision
from ..matrices.factors import graded_factor
from .dense import (
    ACCURACY,
    factor_by_doubling,
    power_sum_bound,
    schur_form,
    sum_by_doubling_gradient,
)
from .stability import SchurSystem

(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)

#: Norms between this and its reciprocal are right as they are computed.
_PLAIN = 1e-140
#: Products C R and Sᴴ R below this share of ‖C‖‖R‖ and ‖S‖‖R‖ are no more than rounding.
_NOISE = 1e-14


def gramian_factors_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with P = U R Rᴴ Uᴴ and Q = U S Sᴴ Uᴴ for the Schur form A = U T Uᴴ.

    R is upper and S lower triangular, both n × n; the Hankel singular values are those of Sᴴ R.

    Cost: O(n³), a Schur form and 2n triangular solves.

    Source: Hammarling, IMA J. Numer. Anal. 2 (1982); Systems & Control Letters 17 (1991) for the
    discrete equation.
    """
    T, U = schur_form(A)
    return factors_in_schur_form(T, adjoint(U) @ B, C @ U)


def factors_in_schur_form(
    T: np.ndarray, B: np.ndarray, C: np.ndarray, horizon: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with T R Rᴴ Tᴴ − R Rᴴ + B Bᴴ = 0 and Tᴴ S Sᴴ T − S Sᴴ + Cᴴ C = 0, T triangular, or
    factors of the sums over a horizon.

    Raises
    ------
    UnstableSystemError
    """
    return factor_in_schur_form(T, B, horizon), adjoint_factor(T, C, horizon)


def factor_in_schur_form(T: np.ndarray, B: np.ndarray, horizon: int | None = None) -> np.ndarray:
    """R alone."""
    return solve_stein_factor(T, B) if horizon is None else factor_by_doubling(T, B, horizon)


def adjoint_factor(T: np.ndarray, C: np.ndarray, horizon: int | None = None) -> np.ndarray:
    """S alone, lower triangular over the infinite horizon."""
    # Tᴴ is lower triangular; with the states in reverse order it is upper triangular again.
    flipped = adjoint(T)[::-1, ::-1], adjoint(C)[::-1]
    return factor_in_schur_form(*flipped, horizon)[::-1, ::-1]


def in_states(U: np.ndarray, factor: np.ndarray, real: bool) -> np.ndarray:
    """X with X Xᴴ = U F Fᴴ Uᴴ; real, with twice the columns, where the product is real.

    For real P = X Xᴴ = Re X Re Xᵀ + Im X Im Xᵀ.
    """
    X = U @ factor
    return np.hstack([X.real, X.imag]) if real and np.iscomplexobj(X) else X


def warn_if_lost(
    A: np.ndarray,
    T: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    R: np.ndarray,
    horizon: int | None = None,
) -> None:
    """Warn where rounding changes tr C P Cᴴ = tr Bᴴ Q B, P = R Rᴴ, by more than 1e-6 of itself,
    unless it is zero. A is T in other orthogonal coordinates.

    To first order δ tr C P Cᴴ = 2 Re tr (Q T P δTᴴ + Q B δBᴴ + P Cᴴ δC), Q = S Sᴴ, for δT of the
    size ½ eps ‖T‖_F that the Schur form of A leaves, not quite in the worst direction; of sums
    over a horizon 2 Q T P is their gradient in T. S is computed only where a bound on it by the
    powers of A does not do.
    """
    r, t, b, c, y = (np.linalg.norm(X) for X in (R, T, B, C, C @ R))
    if y == 0 or len(T) == 1:
        return
    if y <= _NOISE * c * r:
        _warn_of_noise(A, T)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        grown = power_sum_bound(A) * (c / y) ** 2
        bound = grown * ((r * t) ** 2 + b**2) + (r * c / y) ** 2
        if EPSILON * bound <= ACCURACY:
            return
        S = adjoint_factor(T, C, horizon)
        s = np.linalg.norm(S)
        R, S = R / r, S / s
        if horizon is None:
            by_T = (r * s / y) ** 2 * np.linalg.norm(S @ ((adjoint(S) @ (T @ R)) @ adjoint(R)))
        else:
            by_T = (b * c / y) ** 2 * _slope(T, B / b, adjoint(C / c), horizon)
        share = t * by_T + (s / y) ** 2 * b * np.linalg.norm(S @ (adjoint(S) @ B))
        share += (r / y) ** 2 * c * np.linalg.norm((C @ R) @ adjoint(R))
    if not EPSILON * share <= ACCURACY:
        _warn_of_rounding(float(EPSILON * share), T)


def _slope(T: np.ndarray, B: np.ndarray, F: np.ndarray, horizon: int) -> np.floating[Any]:
    """‖g‖_F with Re tr Fᴴ δP F = 2 Re⟨g, δT⟩ for P = Σ_{k<T} T^k B Bᴴ (T^k)ᴴ."""
    W, G = B @ adjoint(B), F @ adjoint(F)
    return np.linalg.norm(sum_by_doubling_gradient(T, W, G, horizon)) / 2


def warn_if_values_lost(
    sys: SchurSystem, R: np.ndarray, S: np.ndarray, horizon: int | None = None
) -> None:
    """Warn where rounding changes singular values of Sᴴ R by more than 1e-6 of the largest, unless
    all are zero.

    σ² are the eigenvalues of Sᴴ P S and of Rᴴ Q R, which change by no more than, to first order,
    tr Sᴴ δP S = 2 Re tr (W T P δTᴴ) and tr Rᴴ δQ R = 2 Re tr (Q T V δTᴴ), with
    Tᴴ W T − W + S Sᴴ = 0 and T V Tᴴ − V + R Rᴴ = 0, for δT and sums over a horizon as above.
    """
    T, B, C = sys.T, sys.B, sys.C
    r, s, t, both = (np.linalg.norm(X) for X in (R, S, T, adjoint(S) @ R))
    if both == 0 or len(T) == 1:
        return
    if both <= _NOISE * r * s:
        _warn_of_noise(sys.A, T)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # σ_1² ≥ ‖Sᴴ R‖_F²/n.
        weight = EPSILON / 2 * (r * s / both) ** 2 * t
        if 2 * len(T) * weight * t * power_sum_bound(sys.A) <= ACCURACY:
            return
        R, S = R / r, S / s
        if horizon is None:
            V, W = solve_stein_factor(T, R), adjoint_factor(T, adjoint(S))
            share = np.linalg.norm(W @ ((adjoint(W) @ (T @ R)) @ adjoint(R)))
            share += np.linalg.norm(S @ ((adjoint(S) @ (T @ V)) @ adjoint(V)))
        else:
            share = _slope(T, B / r, S, horizon) + _slope(adjoint(T), adjoint(C) / s, R, horizon)
        share *= weight * (both / (r * s) / np.linalg.norm(adjoint(S) @ R, 2)) ** 2
    if not share <= ACCURACY:
        _warn_of_rounding(float(share), T)


def warn_if_moved(
    T: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    R: np.ndarray,
    size: float,
    horizon: int | None = None,
) -> None:
    """Warn where rounding moves the system (T, B, C) by more than 1e-6 ``size`` in the h2 norm.

    To first order by the system x⁺ = T x + B u, d⁺ = T d + δT x, y = C d, for random entries of
    δT of the size eps ‖T‖_F: the norm itself may not change where poles turn, differences do.
    """
    t, c, r = (np.linalg.norm(X) for X in (T, C, R))
    with np.errstate(over="ignore", invalid="ignore"):
        # ‖C (z − T)⁻¹‖ ≤ ‖C‖ Σ ‖T^k‖ on the circle, and R Rᴴ adds up the squares of all x.
        if EPSILON * c * power_sum_bound(T, 1) * t * r <= ACCURACY * size:
            return
        moved = t * np.random.default_rng(0).standard_normal(T.shape)
        whole = np.block([[T, moved], [np.zeros_like(T), T]])
        both = factor_in_schur_form(whole, np.concatenate([0 * B, B]), horizon)
        share = EPSILON * np.linalg.norm(C @ both[: len(T)]) / size
    if not share <= ACCURACY:
        _warn_of_rounding(float(share), T)


def _warn_of_noise(A: np.ndarray, T: np.ndarray) -> None:
    """Warn that a result is nothing but rounding, unless A is triangular but for the order of its
    states, as T is then: small products of its factors are right, for nothing was turned."""
    given, turned = (np.sort(np.abs(X), axis=None) for X in (A, T))
    if not np.array_equal(given, turned):
        _warn_of_rounding(math.inf, T)


def _warn_of_rounding(share: float, T: np.ndarray) -> None:
    """Warn that rounding may change a result by that share."""
    warn_precision(
        f"rounding of the dense A may carry a relative error of {share:.0e} into the result, in "
        f"the best units of the states: the least 1 − |λ| of its poles is "
        f"{1 - np.abs(np.linalg.eigvals(T)).max():.1e}, and its norm is {np.linalg.norm(T):.1e}. "
        "Diagonal and Rotation structures keep poles near the unit circle exactly"
    )


def leading_columns(X: np.ndarray, rtol: float, max_rank: int) -> np.ndarray:
    """F (n, r) with F Fᴴ ≈ X Xᴴ: the Cholesky factor of X Xᴴ by elimination with complete pivoting,
    without its pivots below ``rtol`` times the largest, from a pivoted QR factorisation of Xᴴ."""
    F = graded_factor(X)
    # The largest entry of each column is its pivot's root.
    heights = np.abs(F).max(axis=0)
    kept = (heights > math.sqrt(rtol) * heights[0]) & (heights > 0)
    return F[:, : min(int(np.count_nonzero(kept)), max_rank)]


def solve_stein_factor(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Upper triangular R with X = R Rᴴ, T X Tᴴ − X + B Bᴴ = 0, for upper triangular T.

    Raises
    ------
    UnstableSystemError
        When a diagonal entry of T is not inside the unit circle.
    """
    # Split off the last state: T = [[T1, t], [0, τ]], B = [[B1], [bᴴ]], R = [[R1, r], [0, ρ]].
    # With β = √(1 − |τ|²) and v = b/|b| the last row and column of the equation say
    #   ρ = |b|/β,      (I − conj τ T1) r = conj τ ρ t + β B1 v.
    # For y = T1 r + ρ t and w = B1 v the second one is r = conj τ y + β w, so that what is left,
    # B1 B1ᴴ + y yᴴ − r rᴴ, is B1 B1ᴴ with its part w along v replaced by z = β y − τ w: the
    # vectors (r, z) are (y, w) turned by a unitary matrix. R1 solves the same problem for T1 and
    # B1 + (z − w) vᴴ, and nothing is squared or subtracted.
    n = len(T)
    T = np.asfortranarray(T)  # as LAPACK takes it
    B = np.array(B, dtype=np.complex128, order="C")
    R = np.zeros((n, n), dtype=np.complex128)
    gap = 1 - np.abs(np.diagonal(T))
    if np.any(gap <= 0):
        raise UnstableSystemError(
            f"the Schur form of A has an eigenvalue of modulus {1 - gap.min():.17g}: an infinite-"
            "horizon Gramian needs all poles inside the unit circle"
        )
    for k in range(n - 1, -1, -1):
        tau = T[k, k]
        size, direction = _polar(B[k])
        if size == 0:
            continue
        beta = np.sqrt(gap[k] * (2 - gap[k]))
        rho, v = size / beta, direction.conj()
        R[k, k] = rho
        if k == 0:
            break
        T1, t, w = T[:k, :k], rho * T[:k, k], B[:k] @ v
        shifted = -tau.conj() * T1
        shifted.flat[:: k + 1] += 1
        r, _ = _trtrs(shifted, tau.conj() * t + beta * w)
        R[:k, k] = r
        B[:k] += np.outer(beta * (T1 @ r + t) - (tau + 1) * w, v.conj())
    return R


def _polar(b: np.ndarray) -> tuple[float, np.ndarray]:
    """|b| and b/|b|, of unit length to rounding even where |b|² or b itself underflows, as it does
    in some of many hundred states: another length would spoil the rows of others, which need not be
    small.
    """
    size = float(np.linalg.norm(b))
    if _PLAIN < size < 1 / _PLAIN:
        return size, b / size
    digits, exponents = np.frexp(b.view(np.float64))
    exponent = int(exponents[digits != 0].max(initial=-10000))
    scaled = np.ldexp(digits, exponents - exponent).view(np.complex128)
    norm = np.linalg.norm(scaled)
    return float(np.ldexp(norm, exponent)), scaled / (norm or 1)
