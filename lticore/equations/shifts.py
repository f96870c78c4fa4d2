"""Shifts of the alternating direction iteration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Points at which a rational function is looked at.
_POINTS = 240
#: A sweep over the shifts is to take the remainder down to this share …
_RATE = 0.03
#: … unless that takes more shifts than this.
_MOST = 30
#: Passes in which each shift is chosen anew beside the others, after each that is added.
_EXCHANGES = 1


def sweep_of_shifts(ritz: np.ndarray, real: bool) -> list[complex]:
    """Few shifts p_j, Re p_j < 0, for which |Π (λ − conj p_j)/(λ + p_j)| is small wherever poles λ
    may lie; of real matrices the p_j with Im p_j ≥ 0, each standing for a pair.

    The poles are thought to lie along the way from each of the stable values ``ritz`` to the next
    larger one, straight in log λ. On this way the next shift is where the product so far is
    largest (Leja–Bagby points), and then each is moved to where it does best beside the others.

    Source: Wachspress, The ADI Model Problem (2013), for real poles; Starke, SIAM J. Numer. Anal.
    28 (1991), for greedy ones.
    """
    points = _way_through(ritz, real)
    # In logarithms, row i of the shift that takes out a pole at point i.
    gains = _log_gains(points, real)
    chosen, total = [len(points) // 2], gains[len(points) // 2]
    while len(chosen) < _MOST and total.max() > np.log(_RATE):
        chosen.append(int(np.argmax(total)))
        chosen = _exchanged(chosen, gains)
        total = gains[chosen].sum(axis=0)
    # A step with p leaves nothing of a pole at conj p.
    return [complex(p) for p in (points[chosen] if real else points[chosen].conj())]


def _way_through(ritz: np.ndarray, real: bool) -> np.ndarray:
    ritz = ritz[ritz.real < 0]
    if real:
        ritz = ritz[ritz.imag >= 0]
    logs = np.log(-ritz[np.argsort(np.abs(ritz))].astype(np.complex128))
    at = np.linspace(logs.real[0], logs.real[-1], _POINTS)
    angles = np.interp(at, logs.real, logs.imag)
    return -np.exp(at + 1j * np.where(np.abs(angles) < 1e-8, 0, angles))


def _log_gains(points: np.ndarray, real: bool) -> np.ndarray:
    target, pole = points[:, None], points
    with np.errstate(divide="ignore"):
        gains = np.log(np.abs((pole - target) / (pole + target.conj())))
        if real:
            pair = np.log(np.abs((pole - target.conj()) / (pole + target)))
            gains = gains + np.where(target.imag == 0, 0, pair)
    # A pole that is met counts as one that is nearly so: differences of infinities are none.
    return np.maximum(gains, -100.0)


def _exchanged(chosen: list[int], gains: np.ndarray) -> list[int]:
    for _ in range(_EXCHANGES):
        total = gains[chosen].sum(axis=0)
        for j, old in enumerate(chosen):
            rest = total - gains[old]
            chosen[j] = int(np.argmin((rest + gains).max(axis=1)))
            total = rest + gains[chosen[j]]
    return chosen


def ritz_values(
    apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray, steps: int
) -> np.ndarray:
    """Eigenvalues of the operator in the Krylov space of ``start`` (n,), by Arnoldi's process."""
    n = len(start)
    steps = min(steps, n)
    basis = np.zeros((n, steps + 1), dtype=start.dtype, order="F")
    H = np.zeros((steps + 1, steps), dtype=start.dtype)
    basis[:, 0] = start / np.linalg.norm(start)
    for j in range(steps):
        w = apply(basis[:, j])
        size = np.linalg.norm(w)
        for _ in range(2):  # twice is enough
            along = basis[:, : j + 1].conj().T @ w
            H[: j + 1, j] += along
            w = w - basis[:, : j + 1] @ along
        H[j + 1, j] = np.linalg.norm(w)
        if not H[j + 1, j] > 1e-12 * size:
            return np.linalg.eigvals(H[: j + 1, : j + 1])
        basis[:, j + 1] = w / H[j + 1, j]
    return np.linalg.eigvals(H[:steps, :steps])
