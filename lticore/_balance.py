"""Units of the states of dense systems in which rounding costs least."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import scipy.linalg

#: How far above the spectral radius of |A| the resolvent is taken: near enough for A to decide
#: where it can, far enough for the resolvent to be computed in float64.
_DISTANCE = 2.0**-14
#: Power iterations towards the spectral radius of |A|; more only sharpen its upper bound.
_STEPS = 8
#: Rows of B, or columns of C, that differ by less than this factor can decide little.
_EVEN = 2.0**-10
#: What feeds states that no input reaches, relative to the least of the others.
_FAINT = 2.0**-30
_HUGE = 1 << 20


def balance_dense(
    A: np.ndarray, B: np.ndarray, C: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(D⁻¹ A D, D⁻¹ B, C D, d) in the units d, (..., n, 1), of :func:`state_units`."""
    d = state_units(A, B, C)[..., None]
    row = np.swapaxes(d, -1, -2)
    return rescaled(A, row, d), B / d, C * row, d


def balance_matrix(A: np.ndarray) -> np.ndarray:
    """D⁻¹ A D in the units that A alone decides."""
    d = state_units(A)
    return rescaled(A, d[..., None, :], d[..., :, None])


def rescaled(A: np.ndarray, times: np.ndarray, over: np.ndarray) -> np.ndarray:
    """A · times / over for powers of two, whose quotient may be too large for a float64."""
    return np.where(A == 0, A, A * times / over)


def state_units(
    A: np.ndarray, B: np.ndarray | None = None, C: np.ndarray | None = None
) -> np.ndarray:
    """Powers of two d, (..., n), for the units of the states; no digit changes in them.

        r = (θ I − |A|)⁻¹ |B| 1,  o = (θ I − |A|ᵀ)⁻¹ |C|ᵀ 1,  θ > max(ρ(|A|), 1),  h = max r_i o_i
        d = 1 in rough units that suit A, raised to r/√h and lowered to √h/o where these ask for it

    In the units d no entry of A is much larger than θ, ρ(|A|) being the least one can reach, and
    none of B and C is larger than √h: rounding is small beside what the inputs do to the outputs.
    r and 1/o change as the states do, so that d depends little on the units that were given: also
    where parts of A are coupled faintly, in one direction or not at all, since B and C then decide.
    Without C the states are reached equally well, d = r; without B observed, d = 1/o; without both
    the rough units remain.

    Cost: n² per step of a few steps, and two linear systems; less where rows of B and columns of C
    are about equally large in the rough units, which then stay.

    Source: the bounds are those of Stoer & Witzgall, Numer. Math. 4 (1962). The rough units are
    those of Parlett & Reinsch, Numer. Math. 13 (1969); xGEBAL.
    """
    # a_ij d_j/d_i: |A| r ≤ θ r gives a_ij r_j/r_i ≤ θ, |A|ᵀ o ≤ θ o gives a_ij o_i/o_j ≤ θ, and the
    # largest and the smallest of two such scalings are one again.
    rough = _rough_units(A)
    if (B is None and C is None) or A.shape[-1] == 0:
        return rough
    sources, top = _largest(B, -1, rough, -1) if B is not None else _nothing(rough)
    sinks, bottom = _largest(C, -2, rough, 1) if C is not None else _nothing(rough)
    both = B is not None and C is not None
    whole = np.where(both, (top - bottom) // 2, top - bottom)
    if both and min(sources.min(initial=1), sinks.min(initial=1)) >= _EVEN:
        return np.ldexp(rough, whole)
    size = np.abs(rescaled(A, rough[..., None, :], rough[..., :, None]))
    theta = _above_radius(size)
    resolvent = theta[..., None, None] * np.eye(A.shape[-1]) - size
    if C is None:
        units = _supplied(resolvent, sources)
    elif B is None:
        units = 1 / _supplied(np.swapaxes(resolvent, -1, -2), sinks)
    else:
        reached = _supplied(resolvent, sources)
        observed = _supplied(np.swapaxes(resolvent, -1, -2), sinks)
        level = np.sqrt((reached * observed).max(axis=-1, keepdims=True, initial=0))
        units = np.minimum(np.maximum(1, reached / level), level / observed)
    return np.ldexp(rough, np.rint(np.log2(units)).astype(int) + whole)


def _rough_units(A: np.ndarray) -> np.ndarray:
    """(..., n) powers of two that make rows and columns of A about equally large."""
    gebal = _gebal(np.dtype(A.dtype))
    units = np.ones(A.shape[:-1])
    if A.shape[-1] == 0:
        return units
    for index in np.ndindex(A.shape[:-2]):
        units[index] = gebal(A[index], scale=1, permute=0)[3]
    return units


@cache
def _gebal(dtype: Any) -> Any:
    (gebal,) = scipy.linalg.get_lapack_funcs(("gebal",), dtype=dtype)
    return gebal


def _largest(
    X: np.ndarray, axis: int, units: np.ndarray, power: int
) -> tuple[np.ndarray, np.ndarray]:
    """(x, top): largest entries of the rows of B or columns of C in the given units, (..., n), as
    x · 2^top with the largest x between ½ and 1."""
    digits, exponents = np.frexp(np.abs(X).max(axis=axis, initial=0))
    exponents = exponents + power * (np.frexp(units)[1] - 1)
    top = np.where(digits > 0, exponents, -_HUGE).max(axis=-1, keepdims=True, initial=-_HUGE)
    x = np.ldexp(digits, np.maximum(exponents - top, -1000))
    return x, np.where(top > -_HUGE, top, 0)


def _nothing(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return units, np.zeros((*units.shape[:-1], 1), dtype=int)


def _above_radius(size: np.ndarray) -> np.ndarray:
    """(...) θ > ρ for matrices without negative entries: any x > 0 has max (|A|x)_i/x_i ≥ ρ.

    At least 1, the size of z on the unit circle, which A is compared with: less gains nothing.
    """
    x = np.ones((*size.shape[:-1], 1))
    shift = _FAINT * size.max(axis=(-2, -1), keepdims=True) + np.finfo(float).tiny
    bound = np.full(size.shape[:-2], np.inf)
    for _ in range(_STEPS):
        product = size @ x
        bound = np.minimum(bound, np.max(product / x, axis=(-2, -1)))
        x = product + shift * x
        x = x / x.max(axis=-2, keepdims=True)
    return np.maximum(1, bound) * (1 + _DISTANCE)


def _supplied(resolvent: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """resolvent⁻¹ sources, > 0 also in states that the sources do not reach."""
    x = np.linalg.solve(resolvent, sources[..., None])[..., 0]
    missing = ~(x > 0)
    if missing.any():
        least = np.where(missing, np.inf, x).min(axis=-1, keepdims=True)
        faint = np.where(np.isfinite(least), _FAINT * least, 1.0) * missing
        x = np.where(missing, 0, x) + np.abs(np.linalg.solve(resolvent, faint[..., None])[..., 0])
    return x
