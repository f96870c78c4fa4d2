"""Functions of the Hankel singular values whose sums can be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..arrays.checks import check_integer
from ..arrays.namespaces import Array, namespace
from ..errors import ArgumentError


@dataclass(frozen=True)
class SpectralFunction:
    """A pair (φ, φ') acting on all Hankel singular values (..., n) at once, descending.


    >>> square = lti.SpectralFunction("square", lambda s: s**2, lambda s: 2 * s)
    >>> sys = lti.LTI([[0.6]], [[1.6]], [[0.8]])  # σ = 1.28/(1 − 0.36) = 2
    >>> print(lti.hankel_sum(sys, square).round(4))
    4.0

    """

    name: str
    value: Callable[[Any], Any]
    derivative: Callable[[Any], Any]


#: What ``function=`` accepts: a name, a `SpectralFunction`, or a (φ, φ') pair of callables.
SpectralLike: TypeAlias = str | SpectralFunction | tuple[Callable[..., Any], ...]

_NUCLEAR = SpectralFunction(
    "nuclear", lambda sigma: sigma, lambda sigma: namespace(sigma).ones_like(sigma)
)
_LOG = SpectralFunction(
    "log", lambda sigma: namespace(sigma).log1p(sigma), lambda sigma: 1 / (1 + sigma)
)
_NAMED = {"nuclear": _NUCLEAR, "log": _LOG}


def schatten(p: float) -> SpectralFunction:
    """φ(σ) = σ^p, p > 0: ``schatten(1)`` is the nuclear norm, p < 1 favours few large values.

    For p < 1 the derivative is infinite at 0; values at or below the relative cut of
    :func:`lticore.hankel_sum_and_gradient` contribute no gradient.

    Raises
    ------
    ArgumentError
        For p ≤ 0.


    >>> lti.schatten(0.5).value(np.array([9.0, 4.0, 0.0]))
    array([3., 2., 0.])

    """
    if not p > 0:
        raise ArgumentError(f"schatten(p) needs p > 0, but p is {p!r}")
    return SpectralFunction(
        f"schatten({p!r})",
        lambda sigma: sigma**p,
        # The guarded zeros lie below the cut, where the derivative is not used.
        lambda sigma: (
            p
            * namespace(sigma).where(sigma > 0, sigma, namespace(sigma).ones_like(sigma)) ** (p - 1)
        ),
    )


def tail(r: int) -> SpectralFunction:
    """Σ_{i>r} σ_i, half the error bound of balanced truncation to order r.

    Where σ_r = σ_{r+1} the derivative is that of the sorted choice, one of many subgradients.

    Raises
    ------
    ArgumentError
        For r that is no integer ≥ 0.


    >>> lti.tail(1).value(np.array([9.0, 4.0, 1.0]))
    array([0., 4., 1.])

    """
    r = check_integer("r", r, minimum=0)

    def beyond(sigma: Array) -> Array:
        xp = namespace(sigma)
        index = xp.arange(sigma.shape[-1]) >= r
        return xp.where(index, xp.ones_like(sigma), xp.zeros_like(sigma))

    return SpectralFunction(f"tail({r})", lambda sigma: sigma * beyond(sigma), beyond)


def as_spectral_function(function: SpectralLike) -> SpectralFunction:
    """``function`` by name, as it is, or from a (φ, φ') pair."""
    if isinstance(function, SpectralFunction):
        return function
    if isinstance(function, str) and function in _NAMED:
        return _NAMED[function]
    if isinstance(function, tuple) and len(function) == 2 and all(map(callable, function)):
        return SpectralFunction(f"pair({id(function[0])}, {id(function[1])})", *function)
    raise ArgumentError(
        f"function={function!r} is not known: use {', '.join(map(repr, _NAMED))}, "
        "lticore.schatten(p), lticore.tail(r) or a pair (phi, derivative) of callables"
    )
