"""Dense systems as parallel parts: one for each cluster of poles that rounding holds together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint, solve_in_any_units
from ..convert.change import relative_difference, sample_frequencies, unit_response
from ..convert.diagonal import MAX_CONDITION
from ..equations.dense import schur_form_for_powers
from ..errors import warn_precision
from ..matrices.balance import rescaled, state_units
from ..systems.lti import LTI

#: Largest entry of X that decouples, at a condition of about the square of it.
_MAX_COUPLING = MAX_CONDITION**0.5


@dataclass(frozen=True, eq=False)
class ParallelForm:
    """One system as Wᴴ A V = diag(A_1, …, A_g), Wᴴ B, C V with Wᴴ V = I.

    sizes : (g,) orders of the blocks, each upper triangular, of real A but for 2×2 blocks
    left, right : W, V
    """

    system: LTI
    sizes: np.ndarray
    left: np.ndarray
    right: np.ndarray


def parallel_form(sys: LTI) -> ParallelForm:
    """One dense system on NumPy by clusters of its poles, as few in each as can be.

    With T = [[T1, T12], [0, T2]] a Schur form, leading block first,

        T1 X − X T2 + T12 = 0   decouples:   T [[I, X], [0, I]] = [[I, X], [0, I]] diag(T1, T2),

    and where X is large the nearest of the other poles joins T1. Poles that are equal, or that
    rounding splits, come together in this way; others of any distance do not where nothing couples
    them.

    Cost: O(n³), for large clusters O(n³) for each of their poles.

    Warns
    -----
    PrecisionWarning
        Where the parts add up to another response, by more than 1e-9 of its peak.

    Source: Bavely & Stewart, SIAM J. Numer. Anal. 16 (1979); SLICOT MB03RD.
    """
    d = state_units(sys.A, sys.B, sys.C, sys.is_continuous)[:, None]
    T, V = schur_form_for_powers(rescaled(sys.A, d.T, d))
    n, start, sizes = len(T), 0, []
    while start < n:
        end = start + _block_size(T, start)
        while end < n:
            X = _decoupling(T, start, end)
            if np.abs(X).max() <= _MAX_COUPLING:
                T[start:end, end:] = 0
                V[:, end:] += V[:, start:end] @ X
                break
            T, V = _nearest_first(T, V, start, end)
            end += _block_size(T, end)
        sizes.append(end - start)
        start = end
    left, right = adjoint(solve_in_any_units(V, np.eye(n))) / d, d * V
    form = replace(sys, A=T, B=adjoint(left) @ sys.B, C=sys.C @ right)
    _warn_if_changed(sys, form)
    return ParallelForm(form, np.array(sizes), left, right)


def _block_size(T: np.ndarray, start: int) -> int:
    """1, or 2 for the block of a conjugate pair in a real Schur form."""
    return 2 if start + 1 < len(T) and T[start + 1, start] != 0 else 1


def _decoupling(T: np.ndarray, start: int, end: int) -> np.ndarray:
    """X with T1 X − X T2 + T12 = 0; large or no number where T1 and T2 share a pole."""
    T1, T2, T12 = T[start:end, start:end], T[end:, end:], T[start:end, end:]
    (solve,) = scipy.linalg.get_lapack_funcs(("trsyl",), (T,))
    X, scale, _ = solve(T1, T2, -T12, isgn=-1)
    # A common pole is moved by rounding, and what nothing couples stays so.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return X / scale


def _nearest_first(
    T: np.ndarray, V: np.ndarray, start: int, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """The Schur form with that pole behind ``end`` next which is nearest to one before it."""
    poles = _poles_in_order(T[start:, start:])
    distances = np.abs(poles[: end - start, None] - poles[end - start :]).min(axis=0)
    (move,) = scipy.linalg.get_lapack_funcs(("trexc",), (T,))
    # Where two poles are too close to be swapped the one stays that belongs to the other.
    T, V, _ = move(T, V, end + 1 + int(np.argmin(distances)), end + 1)
    return T, V


def _poles_in_order(T: np.ndarray) -> np.ndarray:
    """(n,) eigenvalues of a Schur form, pairs of 2×2 blocks [[a, b], [c, a]] by a ± √(bc)."""
    poles = np.diagonal(T).astype(complex)
    first = np.flatnonzero(np.diagonal(T, -1))
    turn = np.sqrt((T[first, first + 1] * T[first + 1, first]).astype(complex))
    poles[first] += turn
    poles[first + 1] -= turn
    return poles


def _warn_if_changed(sys: LTI, form: LTI) -> None:
    given, found = replace(sys, D=None), replace(form, D=None)
    omega = sample_frequencies(sys)
    share = relative_difference(unit_response(given, omega), unit_response(found, omega, given))
    if not share <= MAX_CONDITION * EPSILON:
        warn_precision(
            f"clusters of nearly equal poles are so far from orthogonal that their parts carry a "
            f"relative error of up to {share:.0e}: balanced_truncation needs no such parts"
        )
