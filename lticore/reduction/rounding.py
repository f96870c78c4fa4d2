"""What rounding can do to a reduced system, to be added to its error bound.

    |δH| ≤ (‖δA‖ ‖C(zI − A)⁻¹‖ + ‖δC‖) (‖(zI − A)⁻¹B‖ + ‖(zI − A)⁻¹‖ ‖δB‖)/q + ‖C(zI − A)⁻¹‖ ‖δB‖,
    q = 1 − ‖δA‖ ‖(zI − A)⁻¹‖,      for A + δA, B + δB and C + δC

at the points z of the circle (of the imaginary axis in continuous time) next to the poles, where
the resolvents peak, and at a few between: an
estimate of the largest change, exact to first order at each of these points.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..analysis.norms import whole_h2_error
from ..analysis.response import points_of
from ..arrays.checks import is_single, like_precision, to_double
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import is_numpy
from ..convert.diagonal import row_norms
from ..equations.stability import in_unit_time, is_stable
from ..errors import warn_precision
from ..systems.lti import LTI
from ..systems.modes import radii_of
from ..systems.quadratic import System, linear_part, mapped
from ..systems.signals import in_best_units, in_units_of_A
from ..systems.structure import is_sparse, is_structured
from .result import Reduction

#: Points of the circle that are looked at: those next to the poles with the smallest gaps …
_POINTS = 4
#: … and as many evenly spread, for poles so far inside that the peak need not be next to one.
_SPREAD = 8


def lost_in_poles(sys: LTI, left: Any, right: Any, reduced: LTI) -> np.ndarray | float:
    """(...) change of the response by the rounding of A_r = Wᴴ A V, Wᴴ B and C V, and of a dense A
    itself.

    The Schur form of a dense A is that of a matrix 2 eps ‖A‖_F away, after balancing; products of
    n terms come with eps |W|ᴴ |A| |V| and so on, and a structured A keeps its poles. 0 for
    libraries other than NumPy.

    Cost: O(n³) dense, O(n r² + r³) structured or sparse.
    """
    if not is_numpy(sys.B):
        return 0.0
    found = _change_of_response(reduced, *_rounding_of_projections(sys, left, right))
    if not (is_structured(sys.A) or is_sparse(sys.A)):
        found = found + _change_by_schur_form(in_unit_time(sys)[0])
    # Where W and V leave the range of numbers nothing is known.
    return np.where(np.isnan(found), np.inf, found)


def _change_by_schur_form(sys: LTI) -> np.ndarray:
    """In the units of the states in which it is computed: the best, or where A may be unstable by
    rounding in them, those that A alone decides."""
    changes = []
    for units in (in_best_units, in_units_of_A):
        best, _ = units(sys)
        rounding = 2 * EPSILON * np.linalg.norm(best.A, axis=(-2, -1))
        changes.append(_change_of_response(best, rounding))
        if np.all(np.isfinite(changes[0])):
            break
    return np.where(np.isfinite(changes[0]), changes[0], changes[-1])


def _rounding_of_projections(sys: LTI, left: np.ndarray, right: np.ndarray) -> Iterator[np.ndarray]:
    """(...) ‖δA_r‖ by the rounding of the products and of the poles in a dense A_r, ‖δB_r‖, ‖δC_r‖:
    twice that of the products, for W and V, as they were formed, are as uncertain."""
    W, V = np.abs(adjoint(left)), np.abs(right)
    if is_structured(sys.A):
        # |A| |V| with at most two entries in each row of A, none above the largest pole.
        radius = np.max(radii_of(sys.A), axis=-1, initial=0)
        product = 2 * radius[..., None, None] * (W @ V)
    elif is_sparse(sys.A):
        product = W @ sys.A.multiply_sizes(right)
    else:
        product = W @ (np.abs(sys.A) @ V)
    products = product, W @ np.abs(sys.B), np.abs(sys.C) @ V
    return (2 * EPSILON * row_norms(X.reshape(*X.shape[:-2], 1, -1))[..., 0] for X in products)


def in_precision_of(sys: System, reduction: Reduction, horizon: float | None = None) -> Reduction:
    """The reduction with its arrays in the precision of the system; its errors are those of the
    reduced system as it was rounded."""
    if not is_single(sys.B):
        return reduction
    single = partial(like_precision, single=True)
    rounded = mapped(single, reduction.system)
    bound, h2 = _errors_of(sys, reduction, mapped(to_double, rounded), horizon)
    names = ("singular_values", "left", "right")
    arrays = {name: getattr(reduction, name) for name in names} | {
        "error_bound": bound,
        "h2_error": h2,
    }
    changes = {name: single(x) for name, x in arrays.items() if x is not None}
    return replace(reduction, system=rounded, **changes)


def _errors_of(
    sys: System, reduction: Reduction, rounded: System, horizon: float | None
) -> tuple[Any, Any]:
    """(error bound, h2 error) of the rounded system, None where the reduction has none."""
    bound, h2 = reduction.error_bound, reduction.h2_error
    if not is_numpy(sys.B):
        return bound, h2
    if horizon is None and not is_stable(linear_part(rounded).A, sys.is_continuous):
        if not is_stable(linear_part(sys).A, sys.is_continuous):
            return bound, h2  # what was kept of an unstable system
        warn_precision(
            "the reduced system is stable, but not in float32, which rounds its poles onto the "
            "boundary of stability or beyond: reduce the system in float64"
        )
        return None if bound is None else np.full_like(bound, np.inf), np.full_like(h2, np.inf)
    if bound is not None:
        bound = bound + _lost_in_single(reduction.system, rounded)
    if h2 is not None:
        h2 = whole_h2_error(mapped(to_double, sys), rounded, horizon)
    return bound, h2


def _lost_in_single(reduced: Any, rounded: Any) -> np.ndarray:
    """(...) change of the response of a reduced system by the rounding of its arrays."""
    old, new = reduced.to_dense(), rounded.to_dense()
    sizes = (
        np.linalg.norm(X - Y, axis=(-2, -1)) for X, Y in zip(*map(_ABC, (old, new)), strict=True)
    )
    found = _change_of_response(old, *sizes)
    return found if old.D is None else found + np.linalg.norm(old.D - new.D, axis=(-2, -1))


def _looked_at(poles: np.ndarray, continuous: bool, real: bool) -> np.ndarray:
    """(..., points) of the boundary; of ``real`` systems above the axis only."""
    gaps = -poles.real if continuous else 1 - np.abs(poles)
    nearest = np.take_along_axis(poles, np.argsort(gaps, axis=-1)[..., :_POINTS], axis=-1)
    if continuous:
        shares = np.linspace(0, 1, _SPREAD // 2)
        sizes = np.moveaxis(np.quantile(np.abs(poles), shares, axis=-1, method="nearest"), 0, -1)
        places = [nearest.imag, sizes, -sizes, np.zeros((*sizes.shape[:-1], 1))]
    else:
        even = 2 * np.pi / _SPREAD * np.arange(1 - _SPREAD // 2, 1 + _SPREAD // 2)
        places = [np.angle(nearest), np.broadcast_to(even, (*poles.shape[:-1], _SPREAD))]
    frequencies = np.concatenate(places, axis=-1)
    if real:
        frequencies = np.abs(frequencies)
        frequencies = np.unique(frequencies) if poles.ndim == 1 else frequencies
    return points_of(frequencies, continuous)


def _ABC(sys: LTI) -> tuple[Any, Any, Any]:
    return sys.A, sys.B, sys.C


def _change_of_response(sys: LTI, in_A: Any, in_B: Any = 0.0, in_C: Any = 0.0) -> np.ndarray:
    """(...) the estimate above for ‖δA‖_F ≤ ``in_A`` and so on; infinite where A + δA may be
    unstable."""
    A, B, C = sys.A, sys.B, sys.C
    if A.shape[-1] == 0:
        return np.zeros(A.shape[:-2])
    # In units of B and C, whose squares may be too large.
    b, c = (np.abs(X).max(axis=(-2, -1), initial=0) for X in (B, C))
    b, c = (np.where(x > 0, x, 1.0) for x in (b, c))
    B, C, in_B, in_C = B / b[..., None, None], C / c[..., None, None], in_B / b, in_C / c
    real = not any(map(np.iscomplexobj, (A, B, C)))
    points = _looked_at(np.linalg.eigvals(A), sys.is_continuous, real)
    resolvents = _resolvents(points, A)
    growth, observed, reached = (
        np.linalg.norm(X, axis=(-2, -1))
        for X in (resolvents, C[..., None, :, :] @ resolvents, resolvents @ B[..., None, :, :])
    )
    in_A, in_B, in_C = (np.asarray(x)[..., None] for x in (in_A, in_B, in_C))
    moved = (in_A * observed + in_C) * (reached + growth * in_B)
    left = 1 - in_A * growth
    change = np.where(left > 0, moved / np.where(left > 0, left, 1), np.inf)
    change = np.where(moved > 0, change, 0) + observed * in_B
    met = np.isinf(growth).any(axis=-1)
    largest = np.max(np.where(met[..., None], 0, change), axis=-1)
    return np.where(met, np.inf, b * (c * largest))  # b c may be no number


def _resolvents(points: np.ndarray, A: np.ndarray) -> np.ndarray:
    """(..., points, n, n) (z − A)⁻¹, infinite at eigenvalues of A."""
    pencils = points[..., None, None] * np.eye(A.shape[-1]) - A[..., None, :, :]
    try:
        return np.linalg.inv(pencils)
    except np.linalg.LinAlgError:
        inverses = np.full_like(pencils, np.inf)
        for index in np.ndindex(points.shape):
            with suppress(np.linalg.LinAlgError):
                inverses[index] = np.linalg.inv(pencils[index])
        return inverses
