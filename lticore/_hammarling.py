"""Triangular factors of dense Gramians, computed without the Gramians."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from ._linalg import adjoint, graded_factor
from ._stein_dense import check_pencil, norm_bound, schur_form
from .errors import UnstableSystemError

(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)


def balance_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(A d_j/d_i, B/d_i, C d_j, d) with rows and columns of A of about equal size.

    The scale d, (n, 1), consists of powers of two, so that no digit changes.

    Cost: O(n²) per sweep, a few sweeps. Source: Parlett & Reinsch, Numer. Math. 13 (1969); xGEBAL.
    """
    # scipy.linalg.matrix_balance takes large scales for indices, and warns of them.
    (gebal,) = scipy.linalg.get_lapack_funcs(("gebal",), (A,))
    _, _, _, scale, _ = gebal(A, scale=1, permute=0)
    d = scale[:, None]
    return A * d.T / d, B / d, C * d.T, d


def gramian_factors_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with P = U R Rᴴ Uᴴ and Q = U S Sᴴ Uᴴ for the Schur form A = U T Uᴴ.

    R is upper and S lower triangular, both n × n; the Hankel singular values are those of Sᴴ R.

    Cost: O(n³), a Schur form and 2n triangular solves.

    Source: Hammarling, IMA J. Numer. Anal. 2 (1982); Systems & Control Letters 17 (1991) for the
    discrete equation.
    """
    return _factors_in_schur_form(*schur_form(A), B, C)


def factors_in_states(
    T: np.ndarray, U: np.ndarray, B: np.ndarray, C: np.ndarray, real: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y) with P = X Xᴴ and Q = Y Yᴴ for A = U T Uᴴ, in the coordinates of the states.

    For real P = X Xᴴ = Re X Re Xᵀ + Im X Im Xᵀ: then X and Y are real, n × 2n, else n × n.

    Raises
    ------
    UnstableSystemError, SingularEquationError

    Warns
    -----
    PrecisionWarning
        Where the rounding of the Schur form can change a Gramian by more than 1e-6.
    """
    X, Y = (U @ factor for factor in _factors_in_schur_form(T, U, B, C))
    check_pencil(np.diagonal(T), T, norm_bound(T))
    if not real:
        return X, Y
    return np.hstack([X.real, X.imag]), np.hstack([Y.real, Y.imag])


def _factors_in_schur_form(
    T: np.ndarray, U: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    # Tᴴ is lower triangular; with the states in reverse order it is upper triangular again.
    R = solve_stein_factor(T, adjoint(U) @ B)
    S = solve_stein_factor(adjoint(T)[::-1, ::-1], (adjoint(U) @ adjoint(C))[::-1])
    return R, S[::-1, ::-1]


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
    digits, exponents = np.frexp(b.view(np.float64))
    exponent = int(exponents[digits != 0].max(initial=-10000))
    scaled = np.ldexp(digits, exponents - exponent).view(np.complex128)
    norm = np.linalg.norm(scaled)
    return float(np.ldexp(norm, exponent)), scaled / (norm or 1)
