"""Pairs of Gramians that somebody hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from ..arrays.checks import check_array, is_single, to_double
from ..arrays.linalg import EPSILON, adjoint, diagonal, real_part
from ..arrays.namespaces import Array, as_array, holds, namespace
from ..errors import ArgumentError, ShapeError
from ..matrices.factors import hermitian_part
from ..systems.quadratic import System
from ..systems.signals import scaled, size_exponent
from .scales import balance_gramians

_EPSILON_SINGLE = 2.0**-23


@dataclass(frozen=True, eq=False)
class GivenGramians(Generic[Array]):
    """Gramians t P t = 4^b P', Q/t² = 4^(e − b) Q' with about equal diagonals of about size one.

    P, Q : P' and Q', (..., n, n) in float64
    t : (..., n, 1) powers of two;  b, e : (...) integers
    rounding : relative, of the arrays as they were given
    """

    P: Array
    Q: Array
    t: Array
    b: Array
    e: Array
    rounding: float


def check_gramians(sys: System[Array], gramians: Any) -> GivenGramians[Array]:
    """The pair, spread over the batch of the system.

    Raises
    ------
    ArgumentError
        For something else than a pair, and for matrices that are not Hermitian or not positive
        semidefinite, beyond rounding.
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError
    """
    if not isinstance(gramians, tuple | list) or len(gramians) != 2:
        raise ArgumentError(f"gramians must be a pair (P, Q), but is a {type(gramians).__name__}")
    shape = (*sys.batch_shape, sys.order, sys.order)
    found, rounding = [], EPSILON
    for name, value in zip("PQ", gramians, strict=True):
        X = check_array(f"gramians: {name}", as_array(f"gramians: {name}", value), ndim=2)
        xp = namespace(sys.B, X)
        if tuple(X.shape) not in (shape, shape[-2:]):
            raise ShapeError(
                f"gramians: {name} has shape {tuple(X.shape)}, but the system has {shape} for it"
            )
        if is_single(X):
            rounding = _EPSILON_SINGLE
        X = to_double(xp.broadcast_to(X, shape))
        _check_hermitian(name, X)
        found.append(hermitian_part(xp.asarray(X, copy=True)))
    P, Q, t = balance_gramians(*found)
    b, c = (namespace(X).round(size_exponent(X) / 2) for X in (P, Q))
    P, Q = (scaled(X, -2 * k[..., None, None]) for X, k in ((P, b), (Q, c)))
    for name, X in zip("PQ", (P, Q), strict=True):
        _check_semidefinite(name, X)
    return GivenGramians(P, Q, t, b, b + c, rounding)


def _check_hermitian(name: str, X: Array) -> None:
    """Entries against √|X_ii X_jj|, in any units of the states: none of a semidefinite X is larger,
    and of another the sign of the diagonal is not what is asked for here."""
    if 0 in X.shape:
        return
    xp = namespace(X)
    size = xp.sqrt(xp.abs(real_part(diagonal(X))))[..., None]
    skew = xp.abs(X - adjoint(X))
    if not holds(skew <= _EPSILON_SINGLE**0.5 * size * xp.matrix_transpose(size)):
        raise ArgumentError(f"gramians: {name} is not Hermitian: give (X + Xᴴ)/2")


def _check_semidefinite(name: str, X: Array) -> None:
    if 0 in X.shape:
        return
    xp = namespace(X)
    size = _roots(X)
    size = xp.where(size > 0, size, xp.ones_like(size))
    least = xp.linalg.eigvalsh(X / size / xp.matrix_transpose(size))[..., 0]
    if not holds(least >= -(_EPSILON_SINGLE**0.5)):
        raise ArgumentError(
            f"gramians: {name} is not positive semidefinite: it has the eigenvalue "
            f"{float(xp.min(least)):.1e} with its diagonal scaled to 1"
        )


def _roots(X: Array) -> Array:
    """√ of the diagonal, (..., n, 1); 0 for negative entries."""
    xp = namespace(X)
    d = real_part(diagonal(X))[..., None]
    return xp.sqrt(xp.maximum(d, xp.zeros_like(d)))
