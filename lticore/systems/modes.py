"""State matrices in the coordinates of their modes.

Each structure is a unitary change of basis away from a diagonal matrix: A = U Λ Uᴴ. A rotation
block becomes diag(λ, conj λ) in the coordinates (x_1 ± i x_2)/√2. The algorithms are written once
in these *modes*, ordered λ_1 … λ_q, conj λ_1 … conj λ_q, r_1 … r_k. Dense matrices stay in the
states given.
"""

from __future__ import annotations

import math

from ..arrays.checks import is_single, to_double
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, holds, namespace
from ..errors import warn_precision
from .blocks import PairBlocks
from .diagonal import Diagonal
from .polar import distance_inside
from .rotation import Rotation
from .structure import StateMatrix, Structure, structure_of

#: Relative errors above these are told of, in float64 and float32.
_TOLD, _TOLD_SINGLE = 1e-6, 1e-3


def is_real(A: StateMatrix) -> bool:
    """Whether A is a real matrix."""
    return structure_of(A).is_real


def multiply(A: StateMatrix[Array], X: Array) -> Array:
    """A X for X (..., n, k): O(n k) when structured."""
    return structure_of(A).multiply(X)


def to_modes(A: StateMatrix[Array], X: Array) -> Array:
    """Uᴴ X: the rows of X (..., n, k) in the modes of A; X itself of a dense A."""
    return structure_of(A).to_modes(X)


def from_modes(A: StateMatrix[Array], Y: Array) -> Array:
    """U Y: the inverse of :func:`to_modes`."""
    return structure_of(A).from_modes(Y)


def signals_in_modes(A: StateMatrix[Array], B: Array, C: Array) -> tuple[Array, Array]:
    """(Uᴴ B, C U): inputs and outputs of a system in the modes of its A."""
    return to_modes(A, B), adjoint(to_modes(A, adjoint(C)))


def poles_of(A: StateMatrix[Array]) -> Array:
    """(..., n) poles in state order: O(n) for structured A, O(n³) for dense A."""
    return structure_of(A).poles


def radii_of(A: StateMatrix[Array]) -> Array:
    """(..., n) |λ| in state order, those of a `Rotation` exact, of a `Diagonal` on the exact side
    of 1, others in float64."""
    return structure_of(A).radii


def mode_poles(A: StateMatrix[Array]) -> Array:
    """(..., n) complex poles in mode order; of a dense A its eigenvalues."""
    return structure_of(A).mode_poles


def as_diagonal(A: Structure[Array], continuous: bool) -> Diagonal[Array]:
    """The modes of a structure as numbers of their own, with a PrecisionWarning where these lose
    the distances from the unit circle that its radii have."""
    if isinstance(A, Diagonal):
        return A
    diagonal = Diagonal(mode_poles(A))
    warn_of_lost_radii(A, diagonal, continuous)
    return diagonal


def warn_of_lost_radii(
    A: Structure[Array] | PairBlocks[Array],
    diagonal: Diagonal[Array],
    continuous: bool,
    most: float = 0.0,
) -> None:
    """:func:`warn_of_lost_distances` of the modes of A in ``diagonal``, if A has radii."""
    if isinstance(A, Rotation) and not continuous:
        warn_of_lost_distances(1 - to_double(A.polar_modes[0]), diagonal, most)


def warn_of_lost_distances(distances: Array, diagonal: Diagonal[Array], most: float = 0.0) -> None:
    """Warn where poles at the exact ``distances`` 1 − |λ| in mode order from the unit circle, as
    complex numbers, lie at others: Gramians and norms grow as these fall.

    ``most`` : a relative error that callers accept
    """
    xp = namespace(distances)
    size, one, on_circle = xp.abs(distances), xp.ones_like(distances), distances == 0
    # Of the numbers themselves, and of their radii as functions take them: of a pole on the circle,
    # on which few complex numbers lie, beside the least distance that a radius can have.
    radii = 1 - diagonal.radii
    size_there = xp.where(on_circle, one * EPSILON / 2, size)
    share = xp.abs(distance_inside(diagonal.poles) - distances) / size_there
    share = xp.maximum(share, xp.abs(radii - distances) / size_there)
    share = xp.where(on_circle & (radii != 0), math.inf, share)
    if not holds(share <= max(most, _TOLD_SINGLE if is_single(diagonal.poles) else _TOLD)):
        warn_precision(
            "poles as complex numbers change their distances 1 − |λ| from the unit circle by up "
            f"to {float(xp.max(share)):.0e} of themselves, the least of which is "
            f"{float(xp.min(size)):.1e}, and norms and Gramians with them. A Rotation holds all "
            "digits of its radii, an Oscillation of its decays"
        )
