"""Triangular factors of dense Gramians, computed without the Gramians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg

from .. import kernels
from ..arrays.linalg import EPSILON, adjoint
from ..errors import UnstableSystemError, warn_precision
from ..matrices.factors import graded_factor
from .dense import (
    ACCURACY,
    factor_by_doubling,
    factor_over_time,
    growth_bound,
    schur_form,
    sum_by_doubling_gradient,
)
from .short_times import samples
from .stability import SchurSystem

#: Norms between this and its reciprocal are right as they are computed.
_PLAIN = 1e-140
#: Products C R and Sᴴ R below this share of ‖C‖‖R‖ and ‖S‖‖R‖ are no more than rounding.
_NOISE = 1e-14


def gramian_factors_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, continuous: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with P = U R Rᴴ Uᴴ and Q = U S Sᴴ Uᴴ for the Schur form A = U T Uᴴ.

    R is upper and S lower triangular, both n × n; the Hankel singular values are those of Sᴴ R.

    Cost: O(n³), a Schur form and 2n triangular solves.

    Source: Hammarling, IMA J. Numer. Anal. 2 (1982); Systems & Control Letters 17 (1991) for the
    discrete equation.
    """
    T, U = schur_form(A)
    return factors_in_schur_form(T, adjoint(U) @ B, C @ U, continuous=continuous)


def factors_in_schur_form(
    T: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    horizon: float | None = None,
    continuous: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with T R Rᴴ Tᴴ − R Rᴴ + B Bᴴ = 0 and Tᴴ S Sᴴ T − S Sᴴ + Cᴴ C = 0, T triangular, or
    factors of the sums over a horizon; in continuous time T R Rᴴ + R Rᴴ Tᴴ + B Bᴴ = 0 and so on.

    Raises
    ------
    UnstableSystemError
    """
    R = factor_in_schur_form(T, B, horizon, continuous)
    return R, adjoint_factor(T, C, horizon, continuous)


def factor_in_schur_form(
    T: np.ndarray, B: np.ndarray, horizon: float | None = None, continuous: bool = False
) -> np.ndarray:
    """R alone."""
    if horizon is not None:
        if continuous:
            return factor_over_time(T, B, horizon)
        return factor_by_doubling(T, B, int(horizon))
    return solve_lyapunov_factor(T, B) if continuous else solve_stein_factor(T, B)


def adjoint_factor(
    T: np.ndarray, C: np.ndarray, horizon: float | None = None, continuous: bool = False
) -> np.ndarray:
    """S alone, lower triangular over the infinite horizon."""
    # Tᴴ is lower triangular; with the states in reverse order it is upper triangular again.
    flipped = adjoint(T)[..., ::-1, ::-1], adjoint(C)[..., ::-1, :]
    return factor_in_schur_form(*flipped, horizon, continuous)[..., ::-1, ::-1]


def in_states(U: np.ndarray, factor: np.ndarray, real: bool) -> np.ndarray:
    """X with X Xᴴ = U F Fᴴ Uᴴ; real, with twice the columns, where the product is real.

    For real P = X Xᴴ = Re X Re Xᵀ + Im X Im Xᵀ.
    """
    X = U @ factor
    return np.concatenate([X.real, X.imag], axis=-1) if real and np.iscomplexobj(X) else X


def warn_if_lost(
    A: np.ndarray,
    T: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    R: np.ndarray,
    horizon: float | None = None,
    continuous: bool = False,
) -> None:
    """Warn where rounding changes tr C P Cᴴ = tr Bᴴ Q B, P = R Rᴴ, by more than 1e-6 of itself,
    unless it is zero. A is T in other orthogonal coordinates.

    To first order δ tr C P Cᴴ = 2 Re tr (Q T P δTᴴ + Q B δBᴴ + P Cᴴ δC), Q = S Sᴴ, for δT of the
    size ½ eps ‖T‖_F that the Schur form of A leaves, not quite in the worst direction; of sums
    over a horizon 2 Q T P is their gradient in T, and in continuous time Q P takes its place. S is
    computed only where a bound on it by the powers of A does not do.
    """
    if not trace_at_stake(A, B, C, R, continuous):
        return
    r, t, b, c, y = (np.linalg.norm(X) for X in (R, T, B, C, C @ R))
    if y <= _NOISE * c * r:
        _warn_of_noise(A, T, continuous)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        S = adjoint_factor(T, C, horizon, continuous)
        s = np.linalg.norm(S)
        R, S = R / r, S / s
        if horizon is None:
            by_T = (r * s / y) ** 2 * _joint(S, R if continuous else T @ R, R)
        else:
            by_T = (b * c / y) ** 2 * _slope(T, B / b, adjoint(C / c), horizon, continuous)
        share = t * by_T + (s / y) ** 2 * b * np.linalg.norm(S @ (adjoint(S) @ B))
        share += (r / y) ** 2 * c * np.linalg.norm((C @ R) @ adjoint(R))
    if not EPSILON * share <= ACCURACY:
        _warn_of_rounding(float(EPSILON * share), T, continuous)


def trace_at_stake(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, R: np.ndarray, continuous: bool
) -> np.ndarray:
    """(...) whether rounding may change tr C P Cᴴ, P = R Rᴴ, by more than 1e-6 of itself, for all
    that a bound on the powers of A tells."""
    r, t, b, c, y = (np.linalg.norm(X, axis=(-2, -1)) for X in (R, A, B, C, C @ R))
    some = (y != 0) & (A.shape[-1] > 1)
    size = np.where(some, y, 1)
    through = r**2 * t if continuous else (r * t) ** 2
    with np.errstate(over="ignore", invalid="ignore"):
        grown = growth_bound(A, continuous) * (c / size) ** 2 * (through + b**2)
        clear = EPSILON * (grown + (r * c / size) ** 2) <= ACCURACY
    return some & ~(clear & (y > _NOISE * c * r))


def _joint(S: np.ndarray, X: np.ndarray, R: np.ndarray) -> np.floating[Any]:
    """‖S Sᴴ X Rᴴ‖_F"""
    return np.linalg.norm(S @ ((adjoint(S) @ X) @ adjoint(R)))


def _slope(
    T: np.ndarray, B: np.ndarray, F: np.ndarray, horizon: Any, continuous: bool
) -> np.floating[Any]:
    """‖g‖_F with Re tr Fᴴ δP F = 2 Re⟨g, δT⟩ for P = Σ_{k<T} T^k B Bᴴ (T^k)ᴴ, or the integral: of
    samples so close together that δe^{Th} is about h δT."""
    step = 1.0
    if continuous:
        change, B, step, doublings = samples(T, B, horizon)
        T, horizon = np.eye(len(T)) + change, 2**doublings
    W, G = B @ adjoint(B), F @ adjoint(F)
    return step * np.linalg.norm(sum_by_doubling_gradient(T, W, G, horizon)) / 2


def warn_if_values_lost(sys: SchurSystem, R: np.ndarray, S: np.ndarray) -> None:
    """Warn where rounding changes singular values of Sᴴ R by more than 1e-6 of the largest, unless
    all are zero.

    σ² are the eigenvalues of Sᴴ P S and of Rᴴ Q R, which change by no more than, to first order,
    tr Sᴴ δP S = 2 Re tr (W T P δTᴴ) and tr Rᴴ δQ R = 2 Re tr (Q T V δTᴴ), with
    Tᴴ W T − W + S Sᴴ = 0 and T V Tᴴ − V + R Rᴴ = 0, for δT and sums over a horizon as above.
    """
    T, B, C, horizon, continuous = sys.T, sys.B, sys.C, sys.horizon, sys.continuous
    if not values_at_stake(sys, R, S):
        return
    r, s, t, both = (np.linalg.norm(X) for X in (R, S, T, adjoint(S) @ R))
    if both <= _NOISE * r * s:
        _warn_of_noise(sys.A, T, continuous)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        weight = EPSILON / 2 * (r * s / both) ** 2 * t
        R, S = R / r, S / s
        if horizon is None:
            V = factor_in_schur_form(T, R, None, continuous)
            W = adjoint_factor(T, adjoint(S), None, continuous)
            share = _joint(W, R if continuous else T @ R, R)
            share += _joint(S, V if continuous else T @ V, V)
        else:
            share = _slope(T, B / r, S, horizon, continuous)
            share += _slope(adjoint(T), adjoint(C) / s, R, horizon, continuous)
        share *= weight * (both / (r * s) / np.linalg.norm(adjoint(S) @ R, 2)) ** 2
    if not share <= ACCURACY:
        _warn_of_rounding(float(share), T, continuous)


def values_at_stake(sys: SchurSystem, R: np.ndarray, S: np.ndarray) -> np.ndarray:
    """(...) whether rounding may change singular values of Sᴴ R by more than 1e-6 of the largest,
    for all that a bound on the powers of A tells."""
    n = sys.T.shape[-1]
    matrices = R, S, sys.T, adjoint(S) @ R
    r, s, t, both = (np.linalg.norm(X, axis=(-2, -1)) for X in matrices)
    some = (both != 0) & (n > 1)
    with np.errstate(over="ignore", invalid="ignore"):
        # σ_1² ≥ ‖Sᴴ R‖_F²/n.
        weight = EPSILON * n * (r * s / np.where(some, both, 1)) ** 2 * t
        size = 1.0 if sys.continuous else t
        clear = weight * size * growth_bound(sys.A, sys.continuous) <= ACCURACY
    return some & ~(clear & (both > _NOISE * r * s))


def warn_if_moved(
    A: np.ndarray,
    T: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    R: np.ndarray,
    size: float,
    horizon: float | None = None,
    continuous: bool = False,
) -> None:
    """Warn where rounding moves the system (T, B, C) by more than 1e-6 ``size`` in the h2 norm. A
    is T in other orthogonal coordinates.

    To first order by the system x⁺ = T x + B u, d⁺ = T d + δT x, y = C d, for random entries of
    δT of the size eps ‖T‖_F: the norm itself may not change where poles turn, differences do.
    """
    if not move_at_stake(A, C, R, size, continuous):
        return
    t = np.linalg.norm(T)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = t * np.random.default_rng(0).standard_normal(T.shape)
        whole = np.block([[T, moved], [np.zeros_like(T), T]])
        both = factor_in_schur_form(whole, np.concatenate([0 * B, B]), horizon, continuous)
        share = EPSILON * np.linalg.norm(C @ both[: len(T)]) / size
    if not share <= ACCURACY:
        _warn_of_rounding(float(share), T, continuous)


def move_at_stake(
    A: np.ndarray, C: np.ndarray, R: np.ndarray, size: Any, continuous: bool
) -> np.ndarray:
    """(...) whether rounding may move a system so far, for all that a bound on the powers of A
    tells."""
    t, c, r = (np.linalg.norm(X, axis=(-2, -1)) for X in (A, C, R))
    with np.errstate(over="ignore", invalid="ignore"):
        # R Rᴴ adds up the squares of all x.
        moved = EPSILON * c * growth_bound(A, continuous, 1) * t * r
    return (size > 0) & ~(moved <= ACCURACY * size)


def _warn_of_noise(A: np.ndarray, T: np.ndarray, continuous: bool) -> None:
    """Warn that a result is nothing but rounding, unless A is triangular but for the order of its
    states, as T is then: small products of its factors are right, for nothing was turned."""
    given, turned = (np.sort(np.abs(X), axis=None) for X in (A, T))
    if not np.array_equal(given, turned):
        _warn_of_rounding(math.inf, T, continuous)


def _warn_of_rounding(share: float, T: np.ndarray, continuous: bool) -> None:
    """Warn that rounding may change a result by that share."""
    poles = np.linalg.eigvals(T)
    if continuous:
        least = f"−Re λ of its poles is {-poles.real.max():.1e}"
        units, kept = "the states and of time", "Oscillation structures keep poles near the axis"
    else:
        least = f"1 − |λ| of its poles is {1 - np.abs(poles).max():.1e}"
        units, kept = "the states", "Rotation structures keep poles near the unit circle"
    warn_precision(
        f"rounding of the dense A may carry a relative error of {share:.0e} into the result, in "
        f"the best units of {units}: the least {least}, and its norm is "
        f"{np.linalg.norm(T):.1e}. Diagonal and {kept} exactly"
    )


def leading_columns(X: np.ndarray, rtol: float, max_rank: int) -> np.ndarray:
    """F (..., n, r) with F Fᴴ ≈ X Xᴴ: the Cholesky factor of X Xᴴ by elimination with complete
    pivoting, without its pivots below ``rtol`` times the largest, from a pivoted QR factorisation
    of Xᴴ; in a batch r is the largest rank, and zeros fill up the others."""
    F = graded_factor(X)
    # The largest entry of each column is its pivot's root.
    heights = np.abs(F).max(axis=-2, keepdims=True, initial=0)
    kept = (heights > math.sqrt(rtol) * heights[..., :1]) & (heights > 0)
    rank = min(int(kept.sum(axis=-1).max(initial=0)), max_rank)
    return np.where(kept, F, 0)[..., :rank]


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
    gap = 1 - np.abs(np.diagonal(T, axis1=-2, axis2=-1))
    if np.any(gap <= 0):
        raise UnstableSystemError(
            f"the Schur form of A has an eigenvalue of modulus {1 - gap.min():.17g}: an infinite-"
            "horizon Gramian needs all poles inside the unit circle"
        )

    return _triangular_factor(T, B, np.sqrt(gap * (2 - gap)), continuous=False)


def solve_lyapunov_factor(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Upper triangular R with X = R Rᴴ, T X + X Tᴴ + B Bᴴ = 0, for upper triangular T.

    Raises
    ------
    UnstableSystemError
        When a diagonal entry of T is not left of the imaginary axis.
    """
    # As above with β = √(−2 Re τ):
    #   ρ = |b|/β,      −(T1 + conj τ I) r = ρ t + β w.
    # Then T1 r + ρ t = −conj τ r − β w, so that what is left of r and t in the equation for R1,
    # (T1 r + ρ t) rᴴ + r (T1 r + ρ t)ᴴ = β² r rᴴ − β (w rᴴ + r wᴴ), is z zᴴ − w wᴴ for
    # z = β r − w.
    gap = -np.diagonal(T, axis1=-2, axis2=-1).real
    if np.any(gap <= 0):
        raise UnstableSystemError(
            f"the Schur form of A has an eigenvalue with real part {-gap.min():.17g}: an infinite-"
            "horizon Gramian needs all poles left of the imaginary axis"
        )

    return _triangular_factor(T, B, np.sqrt(2 * gap), continuous=True)


def _triangular_factor(
    T: np.ndarray, B: np.ndarray, betas: np.ndarray, continuous: bool
) -> np.ndarray:
    return kernels.find(triangular_factor_reference, T)(T, B, betas, continuous)


def triangular_factor_reference(
    T: np.ndarray, B: np.ndarray, betas: np.ndarray, continuous: bool
) -> np.ndarray:
    """R of the derivations above, the last column first."""
    n = len(T)
    B = np.array(B, dtype=np.complex128, order="C")
    R = np.zeros((n, n), dtype=np.complex128)
    for k in range(n - 1, -1, -1):
        size, direction = _polar(B[k])
        if size == 0:
            continue
        rho, v = size / betas[k], direction.conj()
        R[k, k] = rho
        if k == 0:
            break
        w, t, T1, tau, beta = B[:k] @ v, rho * T[:k, k], T[:k, :k], T[k, k], betas[k]
        if continuous:
            r = scipy.linalg.solve_triangular(-T1 - tau.conj() * np.eye(k), t + beta * w)
            z = beta * r - w
        else:
            r = scipy.linalg.solve_triangular(
                np.eye(k) - tau.conj() * T1, tau.conj() * t + beta * w
            )
            z = beta * (T1 @ r + t) - tau * w
        R[:k, k] = r
        B[:k] += np.outer(z - w, v.conj())
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
