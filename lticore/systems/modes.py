"""State matrices in the coordinates of their modes.

Each structure is a unitary change of basis away from a diagonal matrix: A = U Λ Uᴴ. A rotation
block becomes diag(λ, conj λ) in the coordinates (x_1 ± i x_2)/√2. The algorithms are written once
in these *modes*, ordered λ_1 … λ_q, conj λ_1 … conj λ_q, r_1 … r_k. Dense matrices stay in the
states given.
"""

from __future__ import annotations

import math

from ..arrays.checks import is_complex, to_double
from ..arrays.linalg import adjoint, as_complex, complex_of, eigenvalues
from ..arrays.namespaces import Array, namespace
from .pairs import join_pairs, split_pairs
from .structure import Diagonal, Rotation, StateMatrix, Structure, is_structured, parameters

#: 2^27 + 1, which splits the digits of a float64 into halves.
_SPLITTER = 134217729.0


def is_real(A: StateMatrix) -> bool:
    """Whether A is a real matrix."""
    return isinstance(A, Rotation) or not is_complex(parameters(A)[0])


def multiply(A: StateMatrix[Array], X: Array) -> Array:
    """A X for X (..., n, k): O(n k) when structured."""
    xp = namespace(*parameters(A), X)
    if isinstance(A, Diagonal):
        return A.poles[..., None] * X
    if isinstance(A, Rotation):
        first, second, rest = split_pairs(X, A.blocks, axis=-2)
        cosine = (A.radius * xp.cos(A.angle))[..., None]
        sine = (A.radius * xp.sin(A.angle))[..., None]
        return join_pairs(
            cosine * first + sine * second,
            cosine * second - sine * first,
            A.real_poles[..., None] * rest,
            axis=-2,
        )
    return A @ X


def to_modes(A: StateMatrix[Array], X: Array) -> Array:
    """Uᴴ X: the rows of X (..., n, k) in the modes of A; X itself of a dense A."""
    if not isinstance(A, Rotation):
        return X
    xp = namespace(A.radius, X)
    first, second, rest = split_pairs(X, A.blocks, axis=-2)
    first, second = first / math.sqrt(2), second / math.sqrt(2)
    if is_complex(X):
        above, below = first + 1j * second, first - 1j * second
    else:
        above, below = complex_of(first, second), complex_of(first, -second)
    return xp.concat([above, below, xp.astype(rest, above.dtype)], axis=-2)


def from_modes(A: StateMatrix[Array], Y: Array) -> Array:
    """U Y: the inverse of :func:`to_modes`."""
    if not isinstance(A, Rotation):
        return Y
    q = A.blocks
    above, below = Y[..., :q, :], Y[..., q : 2 * q, :]
    return join_pairs(
        (above + below) / math.sqrt(2),
        (above - below) / (1j * math.sqrt(2)),
        Y[..., 2 * q :, :],
        axis=-2,
    )


def signals_in_modes(A: StateMatrix[Array], B: Array, C: Array) -> tuple[Array, Array]:
    """(Uᴴ B, C U): inputs and outputs of a system in the modes of its A."""
    return to_modes(A, B), adjoint(to_modes(A, adjoint(C)))


def poles_of(A: StateMatrix[Array]) -> Array:
    """(..., n) poles in state order: O(n) for structured A, O(n³) for dense A."""
    return A.poles if is_structured(A) else eigenvalues(A)


def radii_of(A: StateMatrix[Array]) -> Array:
    """(..., n) |λ| in state order, those of a `Rotation` exact, of a `Diagonal` on the exact side
    of 1, others in float64."""
    if isinstance(A, Rotation):
        radius = join_pairs(A.radius, A.radius, A.real_poles)
        return namespace(radius).abs(radius)
    if isinstance(A, Diagonal):
        return modulus(to_double(A.poles))
    poles = eigenvalues(to_double(A))
    return namespace(poles).abs(poles)


def polar_modes(A: Structure[Array]) -> tuple[Array, Array]:
    """(radius ≥ 0, phase) of each mode's pole, (..., n) each, in mode order."""
    xp = namespace(*parameters(A))
    if isinstance(A, Diagonal):
        return modulus(A.poles), phase(A.poles)
    radius = xp.concat([A.radius, A.radius, A.real_poles], axis=-1)
    angle = xp.concat([-A.angle, A.angle, xp.zeros_like(A.real_poles)], axis=-1)
    return xp.abs(radius), angle + phase(radius)


def modulus(poles: Array) -> Array:
    """|λ|, rounded like the exact value next to the circle: below 1 where λ lies inside it, at
    least 1 where it does not."""
    xp = namespace(poles)
    radius = xp.abs(poles)
    eps = xp.finfo(radius.dtype).eps
    if not is_complex(poles) or not bool(xp.any(xp.abs(radius - 1) <= 2 * eps)):
        return radius
    # |λ|² − 1 without rounding: the squares with their errors, the larger one less 1 first.
    squares = [_square_with_error(to_double(part(poles))) for part in (xp.real, xp.imag)]
    (x, rest_x), (y, rest_y) = squares
    excess = ((xp.maximum(x, y) - 1) + xp.minimum(x, y)) + (rest_x + rest_y)
    one = xp.ones_like(radius)
    sided = xp.where(excess < 0, xp.minimum(radius, one - eps / 2), xp.maximum(radius, one))
    return xp.where(xp.abs(radius - 1) <= 2 * eps, sided, radius)


def _square_with_error(x: Array) -> tuple[Array, Array]:
    """(p, e) with p + e = x² and p = x² as rounded (Dekker, Numer. Math. 18, 1971)."""
    large = _SPLITTER * x
    high = large - (large - x)
    low = x - high
    p = x * x
    return p, ((high * high - p) + 2 * high * low) + low * low


def mode_poles(A: StateMatrix[Array]) -> Array:
    """(..., n) complex poles in mode order; of a dense A its eigenvalues."""
    if not isinstance(A, Rotation):
        return as_complex(poles_of(A))
    xp = namespace(A.radius)
    above = complex_of(A.radius * xp.cos(A.angle), -A.radius * xp.sin(A.angle))
    return xp.concat([above, xp.conj(above), as_complex(A.real_poles)], axis=-1)


def phase(x: Array) -> Array:
    """arg x; 0 or π for real x."""
    xp = namespace(x)
    if is_complex(x):
        return xp.atan2(xp.imag(x), xp.real(x))
    return xp.where(x < 0, xp.full_like(x, math.pi), xp.zeros_like(x))
