"""Hankel singular values to relative accuracy: NumPy arrays, one system at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays.linalg import EPSILON
from ..equations.hammarling import gramian_factors_dense
from ..equations.stability import in_unit_time, require_stable
from ..errors import warn_precision
from ..matrices.factors import graded_factor, product_singular_values
from ..systems.diagonal import Diagonal
from ..systems.lti import LTI, replaced
from ..systems.signals import in_best_units
from ..systems.structure import is_structured
from .gramians import balance_states, modal_factors

#: Computations of a value that differ by more than this share of it call it uncertain.
_AGREEMENT = 1e-3
#: How often values are computed. Two that are rounding alone agree by chance once in a thousand
#: times, three once in a million.
_WAYS = 3
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
    sigma = np.zeros((_WAYS, *sys.batch_shape, length))
    if length == 0:
        return sigma[0]
    values_of = _structured_values if is_structured(sys.A) else _dense_values
    for index in np.ndindex(sys.batch_shape):
        for way, values in enumerate(values_of(sys[index], max_rank)):
            _fill(sigma[way][index], values)
    _warn_where_different(sigma)
    return sigma[0]


def _fill(target: np.ndarray, values: np.ndarray) -> None:
    count = min(len(target), len(values))
    target[:count] = values[:count]


def _structured_values(sys: LTI, max_rank: int | None) -> Iterator[np.ndarray]:
    """Of one system in several ways, the plain one first."""
    balanced, _ = balance_states(sys)
    R, S = modal_factors(balanced, rtol=0.0, max_rank=max_rank)
    yield product_singular_values(S, R)
    for seed in range(1, _WAYS):
        if sys.inputs == sys.outputs == 1:
            R, S = _with_other_last_digits(R, S, seed=seed)
        else:
            B, C = _turned_signals(balanced, np.random.default_rng(seed))
            R, S = modal_factors(replaced(balanced, B=B, C=C), rtol=0.0, max_rank=max_rank)
        yield product_singular_values(S, R)


def _with_other_last_digits(*factors: np.ndarray, seed: int) -> list[np.ndarray]:
    """Of one input and output every entry is known to a few eps, and no better."""
    rng = np.random.default_rng(seed)
    return [X * (1 + 4 * EPSILON * rng.standard_normal(X.shape)) for X in factors]


def _dense_values(sys: LTI, max_rank: int | None) -> Iterator[np.ndarray]:
    """Of one system in several ways, the plain one first."""
    best, _ = in_best_units(in_unit_time(sys)[0])
    for seed in range(_WAYS):
        yield _values_of_dense(_in_other_coordinates(best, seed) if seed else best, max_rank)


def _values_of_dense(sys: LTI, max_rank: int | None) -> np.ndarray:
    poles, V = np.linalg.eig(sys.A)
    if np.linalg.cond(V) <= _WELL_CONDITIONED:
        modal = LTI(Diagonal(poles), np.linalg.solve(V, sys.B), sys.C @ V, dt=sys.dt)
        return next(_structured_values(modal, max_rank))
    # The factors are graded by rows or by columns, as the states happen to lie. Each grading
    # spoils one of these computations, and what rounding adds makes small values larger.
    R, S = gramian_factors_dense(sys.A, sys.B, sys.C, sys.is_continuous)
    direct = product_singular_values(S, R)
    by_columns = product_singular_values(graded_factor(S), graded_factor(R))
    count = min(len(direct), len(by_columns))
    return np.minimum(direct[:count], by_columns[:count])


def _in_other_coordinates(sys: LTI, seed: int) -> LTI:
    """Inputs, outputs and states turned by random orthogonal matrices."""
    rng = np.random.default_rng(seed)
    B, C = _turned_signals(sys, rng)
    G = _orthogonal(sys.order, rng)
    return LTI(G @ sys.A @ G.T, G @ B, C @ G.T, dt=sys.dt)


def _turned_signals(sys: LTI, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return sys.B @ _orthogonal(sys.inputs, rng), _orthogonal(sys.outputs, rng) @ sys.C


def _orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


def _warn_where_different(sigma: np.ndarray) -> None:
    """Zeros agree."""
    largest = sigma.max(axis=0)
    difference = (largest - sigma.min(axis=0)) / np.where(largest > 0, largest, 1)
    uncertain = difference > _AGREEMENT
    if not uncertain.any():
        return
    first = np.where(sigma[0, ..., :1] > 0, sigma[0, ..., :1], 1)
    level = np.max(np.where(uncertain, largest / first, 0))
    reason = f"computed in {_WAYS} ways they differ by up to {difference.max():.0%}"
    warn_precision(
        f"{np.count_nonzero(uncertain)} of {uncertain.size} Hankel singular values, at most "
        f"{level:.1e} of the largest, are uncertain: {reason}. They depend on digits that the "
        "arrays of the system do not hold"
    )
