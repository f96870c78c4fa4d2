"""State matrices in the coordinates of their modes.

Each structure is a unitary change of basis away from a diagonal matrix: A = U Λ Uᴴ. A rotation
block becomes diag(λ, conj λ) in the coordinates (x_1 ± i x_2)/√2. The algorithms are written once
in these *modes*, ordered λ_1 … λ_q, conj λ_1 … conj λ_q, r_1 … r_k. Dense matrices stay in the
states given.
"""

from __future__ import annotations

from ..arrays.linalg import adjoint
from ..arrays.namespaces import Array
from .structure import StateMatrix, structure_of


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
