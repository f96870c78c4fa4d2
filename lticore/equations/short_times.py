"""The exponential of a matrix over times in which it does little, by Taylor series."""

from __future__ import annotations

import numpy as np

#: Of the Taylor series of a matrix of norm at most 1: the remainder is 1/21!.
TERMS = 20
#: Of Gauss' quadrature of e^{At} B Bᴴ e^{Aᴴt} over a step with ‖A‖ at most 1: right to 1e-18.
_NODES = 8


def samples(
    A: np.ndarray, B: np.ndarray, duration: float
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """(e^{Ah} − 1, F, h, k) for h = T/2^k, a time in which A does little: with
    F Fᴴ = ∫_0^h e^{At} B Bᴴ e^{Aᴴt} dt, by quadrature, whose weights are positive.

    Entries are right as those of :func:`lticore.equations.exponential.exponential` are.
    """
    doublings = doublings_of(A * duration)
    step = float(np.ldexp(duration, -doublings))
    A, term = step * A, B
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    x, scale = (1 + x) / 2, np.sqrt(step * weights / 2)[:, None, None]
    F = scale * term
    for k in range(1, TERMS + 1):
        term = A @ term / k
        F = F + scale * x[:, None, None] ** k * term
    return A @ mean_over_step(A), np.hstack(list(F)), step, doublings


def mean_over_step(A: np.ndarray) -> np.ndarray:
    """∫_0^1 e^{At} dt = Σ A^k/(k+1)! of a small A."""
    identity = np.eye(len(A), dtype=A.dtype)
    mean = identity
    for k in range(TERMS, 1, -1):
        mean = identity + A @ mean / k
    return mean


def doublings_of(A: np.ndarray) -> int:
    """How often a step is doubled from one over which ‖A‖ ≤ 1."""
    return max(0, int(np.frexp(np.abs(A).sum(axis=0).max(initial=0))[1]))
