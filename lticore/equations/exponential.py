"""The matrix exponential, entry by entry."""

from __future__ import annotations

import numpy as np

#: Of the Taylor series of a matrix of norm at most 1: the remainder is 1/21!.
TERMS = 20
#: ‖e^A‖ from which on all modes have decayed.
_DECAYED = 0.5


def exponential(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(e^A, ∫_0^1 e^{At} dt B), by doubling the step of a Taylor series.

    Sums of products only: entries are right to some eps (1 + ‖A‖) of those of e^{|A|} and
    ∫ e^{|A|t} dt |B|, in any units of the states. Eliminations, as of a Padé approximant, are right
    to the largest entry of a row or column only.
    """
    identity = np.eye(len(A), dtype=A.dtype)
    doublings = doublings_of(A)
    A, B = np.ldexp(1.0, -doublings) * A, np.ldexp(1.0, -doublings) * B
    mean = identity  # of e^{At} over the step: Σ A^k/(k+1)!
    for k in range(TERMS, 1, -1):
        mean = identity + A @ mean / k
    change, held = A @ mean, mean @ B
    # 1 + x would lose digits of a small change x; where all modes have decayed, what is left of
    # them must not be the difference of 1 and −x.
    while doublings and np.linalg.norm(identity + change, 1) > _DECAYED:
        change, held = 2 * change + change @ change, 2 * held + change @ held
        doublings -= 1
    both = identity + change
    for _ in range(doublings):
        both, held = both @ both, held + both @ held
    return both, held


def doublings_of(A: np.ndarray) -> int:
    """How often a step is doubled from one over which ‖A‖ ≤ 1."""
    return max(0, int(np.frexp(np.abs(A).sum(axis=0).max(initial=0))[1]))
