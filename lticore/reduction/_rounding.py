"""What rounding can do to a reduced system, to be added to its error bound.

    |δH| ≤ ‖δA‖ ‖C(zI − A)⁻¹‖ ‖(zI − A)⁻¹B‖ / (1 − ‖δA‖ ‖(zI − A)⁻¹‖)      for A + δA

at the points z of the circle next to the poles, where the resolvents peak: an estimate of the
largest change, exact to first order at each of these points.
"""

from __future__ import annotations

import numpy as np

from .._arrays import Array, is_numpy
from .._hammarling import balance_dense
from .._linalg import EPSILON, adjoint
from ..structure import is_structured, parameters
from ..systems import LTI, entry

#: Points of the circle that are looked at, those next to the poles with the smallest gaps.
_POINTS = 4


def lost_in_poles(sys: LTI, left: Array, right: Array, reduced: LTI) -> Array | float:
    """(...) change of the response by the rounding of A_r = Wᴴ A V, and of a dense A itself.

    The Schur form of a dense A is that of a matrix 2 eps ‖A‖_F away, after balancing; a product of
    n terms comes with eps |W|ᴴ |A| |V|, and a structured A keeps its poles. 0 for libraries other
    than NumPy.

    Cost: O(n³) dense, O(n r² + r³) structured.
    """
    if not is_numpy(sys.B):
        return 0.0
    found = np.zeros(sys.batch_shape)
    for index in np.ndindex(sys.batch_shape):
        full, small = entry(sys, index), entry(reduced, index)
        found[index] = _change(
            small.A, small.B, small.C, _rounding(full, left[index], right[index])
        )
        if not is_structured(full.A):
            A, B, C, _ = balance_dense(full.A, full.B, full.C)
            found[index] += _change(A, B, C, 2 * EPSILON * float(np.linalg.norm(A)))
    return found


def _rounding(sys: LTI, left: np.ndarray, right: np.ndarray) -> float:
    """‖δA_r‖ by the rounding of the products and of the poles in a dense A_r."""
    W, V = np.abs(adjoint(left)), np.abs(right)
    if is_structured(sys.A):
        # |A| |V| with at most two entries in each row of A, none above the radius.
        largest = max(np.abs(x).max(initial=0) for x in _radii(sys))
        product = 2 * largest * (W @ V)
    else:
        product = W @ (np.abs(sys.A) @ V)
    return EPSILON * float(np.linalg.norm(product))


def _radii(sys: LTI) -> tuple[np.ndarray, ...]:
    first, *rest = parameters(sys.A)
    return (first, *rest[1:])


def _change(A: np.ndarray, B: np.ndarray, C: np.ndarray, perturbation: float) -> float:
    """The estimate above for ‖δA‖_F ≤ ``perturbation``; infinite where A + δA may be unstable."""
    poles = np.linalg.eigvals(A)
    nearest = np.argsort(-np.abs(poles))[:_POINTS]
    points = np.exp(1j * np.angle(poles[nearest]))
    try:
        resolvents = np.linalg.inv(points[:, None, None] * np.eye(len(A)) - A)
    except np.linalg.LinAlgError:
        return np.inf
    growth, observed, reached = (
        np.linalg.norm(X, axis=(-2, -1)) for X in (resolvents, C @ resolvents, resolvents @ B)
    )
    first_order, left = perturbation * observed * reached, 1 - perturbation * growth
    change = np.where(left > 0, first_order / np.where(left > 0, left, 1), np.inf)
    return float(np.max(np.where(first_order > 0, change, 0)))
