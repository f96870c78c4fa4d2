"""Complex numbers as radius and phase, poles on the right side of the circle."""

from __future__ import annotations

import math

from ..arrays.checks import is_complex, to_double
from ..arrays.namespaces import Array, Namespace, elementwise, holds, namespace, suits_products

#: 2^27 + 1, which splits the digits of a float64 into halves.
_SPLITTER = 134217729.0


def modulus(poles: Array) -> Array:
    """|λ|, rounded like the exact value next to the circle: below 1 where λ lies inside it, at
    least 1 where it does not."""
    xp = namespace(poles)
    radius = xp.abs(poles)
    eps = float(xp.finfo(radius.dtype).eps)
    # To a device the question would be as much as the answer.
    if not is_complex(poles) or (not suits_products(poles) and holds(xp.abs(radius - 1) > 2 * eps)):
        return radius
    return _on_its_side(radius, to_double(xp.real(poles)), to_double(xp.imag(poles)), eps)


@elementwise
def _on_its_side(xp: Namespace, radius: Array, x: Array, y: Array, eps: float) -> Array:
    excess = _excess(xp, x, y)
    one = 0 * radius + 1
    sided = xp.where(excess < 0, xp.minimum(radius, one - eps / 2), xp.maximum(radius, one))
    return xp.where(xp.abs(radius - 1) <= 2 * eps, sided, radius)


def _excess(xp: Namespace, x: Array, y: Array) -> Array:
    """|λ|² − 1 without rounding: the squares with their errors, the larger one less 1 first."""
    (x, rest_x), (y, rest_y) = _square_with_error(x), _square_with_error(y)
    return ((xp.maximum(x, y) - 1) + xp.minimum(x, y)) + (rest_x + rest_y)


def distance_inside(poles: Array) -> Array:
    """1 − |λ| in float64, with all digits next to the circle: of the poles as they are, where
    1 − :func:`modulus` is that of a rounded radius."""
    xp = namespace(poles)
    radius = to_double(xp.abs(poles))
    if not is_complex(poles):
        return 1 - radius
    near, one = xp.abs(radius - 1) < 0.5, xp.ones_like(radius)
    x, y = (xp.where(near, to_double(part(poles)), one) for part in (xp.real, xp.imag))
    return xp.where(near, -_excess(xp, x, y) / (1 + radius), 1 - radius)


def _square_with_error(x: Array) -> tuple[Array, Array]:
    """(p, e) with p + e = x² and p = x² as rounded (Dekker, Numer. Math. 18, 1971)."""
    large = _SPLITTER * x
    high = large - (large - x)
    low = x - high
    p = x * x
    return p, ((high * high - p) + 2 * high * low) + low * low


def phase(x: Array) -> Array:
    """arg x; 0 or π for real x."""
    xp = namespace(x)
    if is_complex(x):
        return xp.atan2(xp.imag(x), xp.real(x))
    return xp.where(x < 0, xp.full_like(x, math.pi), xp.zeros_like(x))
