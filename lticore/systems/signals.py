"""Units of inputs and outputs in which systems have about size one: powers of two, which no digit
notices. Squares over- and underflow much earlier than what they are squares of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import kernels
from ..arrays.linalg import log2, real_part
from ..arrays.namespaces import (
    Array,
    Namespace,
    elementwise,
    is_finite,
    is_numpy,
    namespace,
    zeros_like_shape,
)
from ..matrices.balance import balance_dense, rescaled, state_units
from .lti import LTI, replaced
from .quadratic import System, linear_part
from .structure import is_sparse, is_structured, same_in_blocks

#: Zero counts as 2 to minus this; further than that nothing is scaled, nor need it be.
_NOTHING = 2000.0
#: States of dense systems whose rows of B, or columns of C, differ by less than 2 to this keep
#: their units: products of both, and their squares, are numbers.
_WIDE = 200.0
#: Units of states further away from one than 2 to this would leave the range of float64.
_FAR = 1000.0


def unit_signals(sys: LTI[Array]) -> tuple[LTI[Array], Array, Array]:
    """(Σ', b, c) for B = 2^b B', C = 2^c C', with largest entries of B' and C' of about 1.

    b and c are (...); D is left out. All results that grow with B and C, as Hankel singular values
    do, are 2^(b+c) times those of Σ'.
    """
    b, c = size_exponent(sys.B), size_exponent(sys.C)
    B, C = scaled(sys.B, -b[..., None, None]), scaled(sys.C, -c[..., None, None])
    return replaced(sys, B=B, C=C, D=None), b, c


def in_even_states(sys: LTI[Array]) -> tuple[LTI[Array], Any]:
    """(Σ', d): the system in units d of its states, (..., n, 1) powers of two, in which rows of B
    and columns of C are about equally large, as :func:`unit_signals` wants them: beside others a
    state whose row of B is too small for a number may have a column of C that makes up for it.

    Structured systems, whose A does not notice; dense ones on NumPy whose rows of B or columns of C
    lie far apart, in the best units of their states. All others stay as they are.
    """
    xp = namespace(sys.B)
    b, c = (log2(xp.max(xp.abs(X), axis=-1)) for X in (sys.B, xp.matrix_transpose(sys.C)))
    if is_structured(sys.A):
        b, c = (same_in_blocks(xp.maximum, sys.A, x) for x in (b, c))
        d: Any = 2.0 ** within_numbers(-even_exponents(2 * b, 2 * c))[..., None]
        return replaced(sys, B=sys.B / d, C=sys.C * xp.matrix_transpose(d)), d
    if is_numpy(sys.B) and not is_sparse(sys.A) and (_lie_far_apart(b) or _lie_far_apart(c)):
        return in_best_units(sys)
    return sys, xp.ones_like(real_part(sys.B[..., :1]))


def even_exponents(log_p: Array, log_q: Array) -> Array:
    """(..., n) whole numbers u for which 4^u p and q/4^u, squares of sizes, are about equally
    large."""
    xp = namespace(log_p, log_q)
    if log_p.shape[-1] == 0:
        return log_p
    reached, observed = xp.isfinite(log_p), xp.isfinite(log_q)
    # A state that is unreachable or unobservable matters to no σ: it gets the largest √(p_i q_i)
    # of the others, so that it cannot raise the level below which pivots are dropped.
    level = xp.max(log_p + log_q, axis=-1, keepdims=True)
    level = xp.where(xp.isfinite(level), level, xp.zeros_like(level))
    log_p, log_q = (
        xp.where(reached, log_p, xp.where(observed, level - log_q, 0 * level)),
        xp.where(observed, log_q, xp.where(reached, level - log_p, 0 * level)),
    )
    return xp.round((log_q - log_p) / 4)


def _lie_far_apart(logs: Any) -> bool:
    """Whether sizes of one system, (..., n), lie far apart from each other."""
    some = np.isfinite(logs)
    top = np.where(some, logs, -np.inf).max(axis=-1, initial=-np.inf)
    least = np.where(some, logs, np.inf).min(axis=-1, initial=np.inf)
    return bool(np.any(top - least > _WIDE))


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


@elementwise
def within_numbers(xp: Namespace, exponent: Array) -> Array:
    """The exponents of powers of two that are numbers, and whose inverses are. (The array
    standard's `clip` waits for CuPy's arrays.)"""
    return xp.where(exponent > _FAR, _FAR, xp.where(exponent < -_FAR, -_FAR, exponent))


def product_of(X: Array, Y: Array) -> Array:
    """X Y, whose terms may be too large for numbers where their sums are not: what the two modes of
    a real block bring to an output cancels in part."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = X @ Y
    if is_finite(found):
        return found
    xp = namespace(found)
    room = xp.clip(size_exponent(X) + size_exponent(Y) - _FAR, 0.0, _FAR)[..., None, None]
    return scaled(scaled(X, -room) @ Y, room)


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
