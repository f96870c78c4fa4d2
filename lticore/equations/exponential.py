"""The matrix exponential, entry by entry."""

from __future__ import annotations

import numpy as np

from ..arrays.linalg import EPSILON, adjoint
from ..errors import warn_precision
from .dense import ACCURACY, schur_form
from .short_times import doublings_of, mean_over_step

#: Change of a state over a step below which 1 hides digits of it, and above which there are fewer
#: digits in it than in what is left.
_LITTLE = 0.5
#: By how much more than those of a matrix that does not rise squares may lose.
_HUMP = 2.0**30
#: Steps of power iteration towards a norm.
_STEPS = 3


def exponential(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(e^A, ∫_0^1 e^{At} dt B), by doubling the step of a Taylor series.

    Sums of products only: entries are right to some eps (1 + ‖A‖) of those of e^{|A|} and
    ∫ e^{|A|t} dt |B|, in any units of the states. Eliminations, as of a Padé approximant, are right
    to the largest entry of a row or column only.

    Where e^{At} rises far before it decays, as that of repeated poles beside large couplings does,
    squares of what is large lose what is left, in any coordinates but triangular ones, where
    nothing feeds back: then from a Schur form, as the exponential of a matrix within some eps ‖A‖
    of A. A PrecisionWarning says where such a change of A changes the results by more than 1e-6.

    Source: Al-Mohy & Higham, SIAM J. Matrix Anal. Appl. 31 (2009), for what triangles keep.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what rises far enough is no number
        power, held, hump = _by_squares(A, B)
    if not hump >= _HUMP:
        return power, held
    noise = np.random.default_rng(0).standard_normal(A.shape)
    near = A + EPSILON * np.linalg.norm(A) / len(A) * noise
    with np.errstate(over="ignore", invalid="ignore"):
        (power, held), again = (_from_schur_form(X, B) for X in (A, near))
    pairs = zip((power, held), again, strict=True)
    moved = [np.linalg.norm(x - y) / (np.linalg.norm(x) or 1.0) for x, y in pairs]
    if not max(moved) <= ACCURACY:
        warn_precision(
            f"rounding of the dense A may carry a relative error of {max(moved):.0e} into its "
            "exponential, which rises far before it decays: poles lie close together beside large "
            "couplings of their states"
        )
    return power, held


def _by_squares(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(e^A, ∫_0^1 e^{At} dt B, Π ‖E‖²/‖E²‖ over all squares that were taken): rounding of the first
    is enlarged by as much."""
    doublings = doublings_of(A)
    A, B = np.ldexp(1.0, -doublings) * A, np.ldexp(1.0, -doublings) * B
    mean = mean_over_step(A)
    change, held = A @ mean, mean @ B
    power, change = np.eye(len(A), dtype=A.dtype) + change, np.diagonal(change)
    sizes = [_norm_of(power)]
    for _ in range(doublings):
        held = held + power @ held
        power, change = _doubled_step(power, change)
        sizes.append(_norm_of(power))
    return power, held, _enlarged(np.array(sizes))


def _doubled_step(power: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E², the diagonal of E² − 1) of E and the diagonal of E − 1.

    Each diagonal entry by its own rule: 1 + x would lose digits of a small change x of a slow
    state, and what is left of a fast one must not be the difference of 1 and −x.
    """
    square, apart = power @ power, power.copy()
    np.fill_diagonal(apart, 0)
    slow = np.abs(change) < _LITTLE
    moved = change * (2 + change) + np.einsum("ij,ji->i", apart, apart)
    entries = np.where(slow, 1 + moved, np.diagonal(square))
    change = np.where(slow, moved, entries - 1)
    np.fill_diagonal(square, entries)
    return square, change


def _enlarged(sizes: np.ndarray) -> float:
    """Π s_k²/s_{k+1}, as far as these are numbers."""
    there = (sizes > 0) & (sizes < np.inf)
    logs = np.log2(sizes[: int(np.argmin(np.append(there, False)))])
    return float(np.exp2(min((2 * logs[:-1] - logs[1:]).sum(), 1000.0)))


def _norm_of(X: np.ndarray) -> float:
    """About ‖X‖_2, or a little less."""
    top = float(np.abs(X).max(initial=0))
    if not 0 < top < np.inf:
        return top
    X, x = X / top, np.random.default_rng(0).standard_normal(len(X)).astype(X.dtype)
    for _ in range(_STEPS):
        x = adjoint(X) @ (X @ x)
        x = x / (np.linalg.norm(x) or 1.0)
    return top * float(np.linalg.norm(X @ x))


def _from_schur_form(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    T, U = schur_form(A)
    power, held, _ = _by_squares(T, adjoint(U) @ B)
    power, held = U @ power @ adjoint(U), U @ held
    if np.iscomplexobj(A):
        return power, held
    return power.real, held if np.iscomplexobj(B) else held.real
