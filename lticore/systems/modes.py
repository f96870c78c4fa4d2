"""State matrices in the coordinates of their modes.

Each structure is a unitary change of basis away from a diagonal (or, when dense, triangular)
matrix: A = U T Uᴴ. A rotation block becomes diag(λ, conj λ) in the coordinates
(x_1 ± i x_2)/√2. The algorithms are written once in these *modes*, ordered λ_1 … λ_q,
conj λ_1 … conj λ_q, r_1 … r_k.
"""

from __future__ import annotations

import math

from ..arrays.checks import is_complex, to_double
from ..arrays.linalg import adjoint, as_complex, complex_of
from ..arrays.namespaces import Array, namespace
from .structure import Diagonal, Rotation, StateMatrix, Structure, parameters

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
        first, second, rest = _split(A, X)
        cosine = (A.radius * xp.cos(A.angle))[..., None]
        sine = (A.radius * xp.sin(A.angle))[..., None]
        return _join(
            cosine * first + sine * second,
            cosine * second - sine * first,
            A.real_poles[..., None] * rest,
        )
    return A @ X


def to_modes(A: Structure[Array], X: Array) -> Array:
    """Uᴴ X: the rows of X (..., n, k) in the modes of A."""
    if isinstance(A, Diagonal):
        return X
    xp = namespace(A.radius, X)
    first, second, rest = _split(A, X)
    first, second = first / math.sqrt(2), second / math.sqrt(2)
    if is_complex(X):
        above, below = first + 1j * second, first - 1j * second
    else:
        above, below = complex_of(first, second), complex_of(first, -second)
    return xp.concat([above, below, xp.astype(rest, above.dtype)], axis=-2)


def from_modes(A: Structure[Array], Y: Array) -> Array:
    """U Y: the inverse of :func:`to_modes`."""
    if isinstance(A, Diagonal):
        return Y
    q = A.blocks
    above, below = Y[..., :q, :], Y[..., q : 2 * q, :]
    return _join(
        (above + below) / math.sqrt(2),
        (above - below) / (1j * math.sqrt(2)),
        Y[..., 2 * q :, :],
    )


def signals_in_modes(A: Structure[Array], B: Array, C: Array) -> tuple[Array, Array]:
    """(Uᴴ B, C U): inputs and outputs of a system in the modes of its A."""
    return to_modes(A, B), adjoint(to_modes(A, adjoint(C)))


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


def mode_poles(A: Structure[Array]) -> Array:
    """(..., n) complex poles in mode order."""
    if isinstance(A, Diagonal):
        return as_complex(A.poles)
    xp = namespace(A.radius)
    above = complex_of(A.radius * xp.cos(A.angle), -A.radius * xp.sin(A.angle))
    return xp.concat([above, xp.conj(above), as_complex(A.real_poles)], axis=-1)


def phase(x: Array) -> Array:
    """arg x; 0 or π for real x."""
    xp = namespace(x)
    if is_complex(x):
        return xp.atan2(xp.imag(x), xp.real(x))
    return xp.where(x < 0, xp.full_like(x, math.pi), xp.zeros_like(x))


def _split(A: Rotation[Array], X: Array) -> tuple[Array, Array, Array]:
    """First states of the blocks, second states, and real states of X."""
    end = 2 * A.blocks
    # The standard leaves open what lies beyond the end, as 1 does where there is no state.
    return X[..., 0:end:2, :], X[..., min(1, end) : end : 2, :], X[..., end:, :]


def _join(first: Array, second: Array, rest: Array) -> Array:
    """The inverse of :func:`_split`."""
    xp = namespace(first, second, rest)
    pairs = xp.stack([first, second], axis=-2)
    pairs = xp.reshape(pairs, (*first.shape[:-2], 2 * first.shape[-2], first.shape[-1]))
    return xp.concat([pairs, xp.astype(rest, pairs.dtype)], axis=-2)
