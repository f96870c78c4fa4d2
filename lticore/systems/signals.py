"""Units of inputs and outputs in which systems have about size one: powers of two, which no digit
notices. Squares over- and underflow much earlier than what they are squares of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import kernels
from ..arrays.linalg import log2, real_part
from ..arrays.namespaces import Array, Namespace, elementwise, namespace, zeros_like_shape
from ..matrices.balance import balance_dense, rescaled, state_units
from .lti import LTI, replaced
from .quadratic import System, linear_part

#: Zero counts as 2 to minus this; further than that nothing is scaled, nor need it be.
_NOTHING = 2000.0


def unit_signals(sys: LTI[Array]) -> tuple[LTI[Array], Array, Array]:
    """(Σ', b, c) for B = 2^b B', C = 2^c C', with largest entries of B' and C' of about 1.

    b and c are (...); D is left out. All results that grow with B and C, as Hankel singular values
    do, are 2^(b+c) times those of Σ'.
    """
    b, c = size_exponent(sys.B), size_exponent(sys.C)
    B, C = scaled(sys.B, -b[..., None, None]), scaled(sys.C, -c[..., None, None])
    return replaced(sys, B=B, C=C, D=None), b, c


def in_best_units(sys: LTI) -> tuple[LTI, np.ndarray]:
    """(Σ', d): a dense system on NumPy in the units d of its states in which rounding costs least
    (:func:`lticore.matrices.balance.state_units`)."""
    A, B, C, d = balance_dense(sys.A, sys.B, sys.C, sys.is_continuous)
    return LTI(A, B, C, sys.D, dt=sys.dt), d


def in_units_of_A(sys: LTI) -> tuple[LTI, np.ndarray]:
    """(Σ', d) in the units that A alone decides: B and C may ask for such that make A so non-normal
    that rounding moves its poles across the boundary of stable ones."""
    d = state_units(sys.A, continuous=sys.is_continuous)[..., None]
    row = np.swapaxes(d, -1, -2)
    return LTI(rescaled(sys.A, row, d), sys.B / d, sys.C * row, sys.D, dt=sys.dt), d


def unit_outputs(sys: System[Array]) -> tuple[System[Array], Array, Array]:
    """(Σ', b, e) with Σ = 2^e Σ' and B = 2^b B', states and outputs of about size one, without D.
    :func:`in_signals` is the inverse."""
    unit, b, c = unit_signals(linear_part(sys))
    if isinstance(sys, LTI):
        return unit, b, b + c
    # y = C x + xᴴ M x with x = 2^b x'.
    if isinstance(sys.M, tuple):
        m = 2 * size_exponent(sys.M[0], axes=3) + size_exponent(sys.M[1])
    else:
        m = size_exponent(sys.M, axes=3)
    e = namespace(b).maximum(b + c, 2 * b + m)
    whole = replace(sys, B=unit.B)
    return with_outputs(whole, b - e, squares=b), b, e


def in_signals(sys: System[Array], b: Array, e: Array) -> System[Array]:
    """Σ for the (Σ', b, e) of :func:`unit_outputs`."""
    outputs = with_outputs(sys, e - b, squares=-b)
    B = scaled(sys.B, b[..., None, None])
    return replaced(outputs, B=B) if isinstance(outputs, LTI) else replace(outputs, B=B)


def with_outputs(
    sys: System[Array], exponent: Array, squares: Array | float = 0.0
) -> System[Array]:
    """The system with outputs 2^e times as large, quadratic ones 2^squares more; without D."""
    C = scaled(sys.C, exponent[..., None, None])
    if isinstance(sys, LTI):
        return replaced(sys, C=C, D=None)
    change = (exponent + squares)[..., None, None, None]
    if not isinstance(sys.M, tuple):
        return replace(sys, C=C, M=scaled(sys.M, change))
    V, s = sys.M
    return replace(sys, C=C, M=(V, scaled(s, change[..., 0])))


def size_exponent(X: Array, axes: int = 2) -> Array:
    """(...) log2 of the largest entry of each matrix, rounded; far below all others of zero."""
    xp = namespace(X)
    if 0 in X.shape[X.ndim - axes :]:
        return zeros_like_shape(real_part(X), tuple(X.shape[: X.ndim - axes])) - _NOTHING
    return whole_exponent(log2(xp.max(xp.abs(X), axis=tuple(range(-axes, 0)))))


@elementwise
def whole_exponent(xp: Namespace, logarithm: Array) -> Array:
    """A size's log2, rounded; far below all others that of zero."""
    some = logarithm > -xp.inf
    return xp.where(some, xp.round(xp.where(some, logarithm, 0.0)), -_NOTHING)


def scaled(X: Array, *exponents: Array | float) -> Array:
    """2^exponent X for whole exponents, the sum of those given."""
    xp = namespace(X)
    numbers: Any = (xp.asarray(e) if isinstance(e, int | float) else e for e in exponents)
    return kernels.find(scaled_reference, X)(X, *numbers)


def scaled_reference(X: Array, *exponents: Array) -> Array:
    """Reference text of :func:`scaled` for any array library. In two steps: 2^exponent alone may be
    too large for a number."""
    xp = namespace(X, *exponents)
    exponent: Any = sum(exponents[1:], start=exponents[0])
    half = xp.clip(xp.floor(exponent / 2), -_NOTHING / 2, _NOTHING / 2)
    rest = xp.clip(exponent - half, -_NOTHING / 2, _NOTHING / 2)
    return X * 2.0**half * 2.0**rest
