"""Hankel singular values to relative accuracy: NumPy arrays, one system at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.linalg import EPSILON
from ..equations.hammarling import gramian_factors_dense
from ..equations.stability import require_stable
from ..errors import warn_precision
from ..matrices.factors import graded_factor, product_singular_values
from ..systems.lti import LTI
from ..systems.signals import in_best_units
from ..systems.structure import Diagonal, is_structured
from .gramians import balance_states, modal_factors

#: Two computations of a value that differ by more than this share of it call it uncertain.
_AGREEMENT = 1e-2
#: Dense systems whose eigenvectors have at most this condition number are taken to their modes.
_WELL_CONDITIONED = 1e4


def relative_values(sys: LTI, max_rank: int | None) -> Any:
    """(..., n) or (..., max_rank) values of a system in float64, padded with zeros.

    Rounding can spoil small values: in dense A and in sums over several inputs or outputs, and
    where few states are both reached and observed. They are computed again, in other orthogonal
    coordinates or from factors whose last digits differ, and a PrecisionWarning says how many are
    not the same. Dense systems are balanced first, since other coordinates mix the units of the
    states.
    """
    require_stable(sys, what="an infinite-horizon Gramian")
    length = sys.order if max_rank is None else min(max_rank, sys.order)
    sigma, again = np.zeros((2, *sys.batch_shape, length))
    if length == 0:
        return sigma
    for index in np.ndindex(sys.batch_shape):
        one = sys[index] if is_structured(sys.A) else in_best_units(sys[index])[0]
        if is_structured(sys.A) and sys.inputs == sys.outputs == 1:
            R, S = _modal_factors(one, max_rank)
            _fill(sigma[index], product_singular_values(S, R))
            R, S = _with_other_last_digits(R, S)
            _fill(again[index], product_singular_values(S, R))
        else:
            _fill(sigma[index], _values_of_one(one, max_rank))
            _fill(again[index], _values_of_one(_in_other_coordinates(one), max_rank))
    _warn_where_different(sigma, again)
    return sigma


def _fill(target: np.ndarray, values: np.ndarray) -> None:
    count = min(len(target), len(values))
    target[:count] = values[:count]


def _modal_factors(sys: LTI, max_rank: int | None) -> tuple[np.ndarray, np.ndarray]:
    return modal_factors(balance_states(sys)[0], rtol=0.0, max_rank=max_rank)


def _with_other_last_digits(*factors: np.ndarray) -> list[np.ndarray]:
    """Of one input and output every entry is known to a few eps, and no better."""
    rng = np.random.default_rng(0)
    return [X * (1 + 4 * EPSILON * rng.standard_normal(X.shape)) for X in factors]


def _values_of_one(sys: LTI, max_rank: int | None) -> np.ndarray:
    if is_structured(sys.A):
        R, S = _modal_factors(sys, max_rank)
        return product_singular_values(S, R)
    poles, V = np.linalg.eig(sys.A)
    if np.linalg.cond(V) <= _WELL_CONDITIONED:
        modal = LTI(Diagonal(poles), np.linalg.solve(V, sys.B), sys.C @ V)
        return _values_of_one(modal, max_rank)
    # The factors are graded by rows or by columns, as the states happen to lie. Each grading
    # spoils one of these computations, and what rounding adds makes small values larger.
    R, S = gramian_factors_dense(sys.A, sys.B, sys.C)
    direct = product_singular_values(S, R)
    by_columns = product_singular_values(graded_factor(S), graded_factor(R))
    count = min(len(direct), len(by_columns))
    return np.minimum(direct[:count], by_columns[:count])


def _in_other_coordinates(sys: LTI) -> LTI:
    """Inputs, outputs and the states of a dense A turned by random orthogonal matrices."""
    rng = np.random.default_rng(0)

    def turn(size: int) -> np.ndarray:
        return np.linalg.qr(rng.standard_normal((size, size)))[0]

    B, C = sys.B @ turn(sys.inputs), turn(sys.outputs) @ sys.C
    if is_structured(sys.A):
        return LTI(sys.A, B, C)
    G = turn(sys.order)
    return LTI(G @ sys.A @ G.T, G @ B, C @ G.T)


def _warn_where_different(sigma: np.ndarray, again: np.ndarray) -> None:
    """Two zeros agree."""
    largest = np.maximum(sigma, again)
    difference = np.abs(sigma - again) / np.where(largest > 0, largest, 1)
    uncertain = difference > _AGREEMENT
    if not uncertain.any():
        return
    first = np.where(sigma[..., :1] > 0, sigma[..., :1], 1)
    level = np.max(np.where(uncertain, largest / first, 0))
    reason = f"computed in two ways they differ by up to {difference.max():.0%}"
    warn_precision(
        f"{np.count_nonzero(uncertain)} of {sigma.size} Hankel singular values, at most "
        f"{level:.1e} of the largest, are uncertain: {reason}. They depend on digits that the "
        "arrays of the system do not hold"
    )
