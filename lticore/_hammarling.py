"""Triangular factors of dense Gramians, computed without the Gramians."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from ._linalg import adjoint
from .errors import UnstableSystemError

(_trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), dtype=np.complex128)


def gramian_factors_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, S) with P = U R Rᴴ Uᴴ and Q = U S Sᴴ Uᴴ for the Schur form A = U T Uᴴ.

    R is upper and S lower triangular, both n × n; the Hankel singular values are those of Sᴴ R.

    Cost: O(n³), a Schur form and 2n triangular solves.

    Source: Hammarling, IMA J. Numer. Anal. 2 (1982); Systems & Control Letters 17 (1991) for the
    discrete equation.
    """
    T, U = scipy.linalg.schur(A.astype(np.complex128), output="complex")
    # Tᴴ is lower triangular; with the states in reverse order it is upper triangular again.
    R = solve_stein_factor(T, adjoint(U) @ B)
    S = solve_stein_factor(adjoint(T)[::-1, ::-1], (adjoint(U) @ adjoint(C))[::-1])
    return R, S[::-1, ::-1]


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
    B = B.astype(np.complex128)
    R = np.zeros((n, n), dtype=np.complex128)
    gap = 1 - np.abs(np.diagonal(T))
    if np.any(gap <= 0):
        raise UnstableSystemError(
            f"the Schur form of A has an eigenvalue of modulus {1 - gap.min():.17g}: an infinite-"
            "horizon Gramian needs all poles inside the unit circle"
        )
    for k in range(n - 1, -1, -1):
        tau, size = T[k, k], np.linalg.norm(B[k])
        if size == 0:
            continue
        beta = np.sqrt(gap[k] * (2 - gap[k]))
        rho, v = size / beta, B[k].conj() / size
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
