"""X = ∫_0^T e^{At} Q e^{Bᴴt} dt of dense matrices, and the gradients of such integrals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.linalg import adjoint
from .exponential import exponential
from .short_times import TERMS, doublings_of
from .two_sided import SteinSolver


def integral_by_doubling(
    A: np.ndarray, Q: np.ndarray, B: np.ndarray, duration: float
) -> np.ndarray:
    """∫_0^T e^{At} Q e^{Bᴴt} dt by a Taylor series over a short time, which is doubled: nothing is
    subtracted. One batch entry at a time."""
    X: Any = np.empty(Q.shape, dtype=np.result_type(A, Q, B))
    for index in np.ndindex(Q.shape[:-2]):
        X[index] = _integral(A[index], Q[index], B[index], duration)
    return X


def _integral(A: np.ndarray, Q: np.ndarray, B: np.ndarray, duration: float) -> np.ndarray:
    doublings = max(doublings_of(X * duration) for X in (A, B))
    step = np.ldexp(duration, -doublings)
    A, B = A * step, B * step
    term, X = step * Q, step * Q
    for k in range(2, 2 * TERMS):
        term = (A @ term + term @ adjoint(B)) / k
        X = X + term
    E_A, E_B = (exponential(x, np.eye(len(x)))[0] for x in (A, B))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(doublings):
            X = X + E_A @ X @ adjoint(E_B)
            E_A, E_B = E_A @ E_A, E_B @ E_B
    return X


def integral_by_doubling_gradient(
    A: np.ndarray, W: np.ndarray, G: np.ndarray, durations: np.ndarray
) -> np.ndarray:
    """g with Re⟨G, dX⟩ = Re⟨g, dA⟩ for X = ∫_0^T e^{At} W e^{Aᴴt} dt, W and G Hermitian; (...) T.

    Cost: as the integral itself, times three, one batch entry at a time; its partial results are
    kept.
    """
    g: Any = np.empty(A.shape, dtype=np.result_type(A, W, G))
    for index in np.ndindex(A.shape[:-2]):
        g[index] = _gradient(A[index], W[index], G[index], float(durations[index]))
    return g


def _gradient(A: np.ndarray, W: np.ndarray, G: np.ndarray, duration: float) -> np.ndarray:
    # Each step of the integral is run again and kept, then all are turned round. With h = T/2^d and
    # M = hA the sums X = Σ X_k and E = Σ E_k = e^M start from
    #   X_1 = hW,  X_k = (M X_{k−1} + X_{k−1} Mᴴ)/k,    E_0 = 1,  E_k = M E_{k−1}/k.
    # The cotangent of a term is that of its sum and what the next one hands down,
    #   X̄_{k−1} = X̄ + (Mᴴ X̄_k + X̄_k M)/k,  M̄ ← M̄ + 2 X̄_k X_{k−1}/k   (X̄_k Hermitian as X_k is),
    #   Ē_{k−1} = Ē + Mᴴ Ē_k/k,               M̄ ← M̄ + Ē_k E_{k−1}ᴴ/k,
    # and a doubling X ← X + E X Eᴴ, E ← E² is that of sums:
    #   Ē ← 2 X̄ E X + Ē Eᴴ + Eᴴ Ē,  X̄ ← X̄ + Eᴴ X̄ E.
    doublings = doublings_of(A * duration)
    step = np.ldexp(duration, -doublings)
    M = step * A
    terms: list[Any] = [step * W]
    powers: list[Any] = [np.eye(len(A), dtype=A.dtype)]
    for k in range(2, 2 * TERMS):
        terms.append((M @ terms[-1] + terms[-1] @ adjoint(M)) / k)
    for k in range(1, TERMS + 1):
        powers.append(M @ powers[-1] / k)
    X: Any = sum(terms)
    E: Any = sum(powers)
    steps = []
    # Callers look at what overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(doublings):
            steps.append((X, E))
            X, E = X + E @ X @ adjoint(E), E @ E
        X_bar, E_bar = G, 0 * A
        for X, E in reversed(steps):
            E_bar = 2 * X_bar @ E @ X + E_bar @ adjoint(E) + adjoint(E) @ E_bar
            X_bar = X_bar + adjoint(E) @ X_bar @ E
        M_bar, of_term, of_power = 0 * A, X_bar, E_bar
        for k in range(len(terms), 1, -1):
            M_bar = M_bar + 2 * of_term @ terms[k - 2] / k
            of_term = X_bar + (adjoint(M) @ of_term + of_term @ M) / k
        for k in range(len(powers) - 1, 0, -1):
            M_bar = M_bar + of_power @ adjoint(powers[k - 1]) / k
            of_power = E_bar + adjoint(M) @ of_power / k
    return step * M_bar


def integral_solver(A: np.ndarray, durations: np.ndarray) -> SteinSolver:
    """The solver over (...) horizons, of each batch entry its own, that takes A as it is: for A in
    Schur form."""

    def solve(Q: np.ndarray, adjoint_equation: bool) -> np.ndarray:
        X = np.empty(Q.shape, dtype=np.result_type(A, Q))
        for index in np.ndindex(Q.shape[:-2]):
            one = adjoint(A[index]) if adjoint_equation else A[index]
            X[index] = integral_by_doubling(one, Q[index], one, float(durations[index]))
        return X

    return lambda Q, adjoint=False: solve(Q, adjoint)
