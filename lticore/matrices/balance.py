"""Units of the states of dense systems in which rounding costs least."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.linalg import log2

#: How far above the spectral radius of |A| the resolvent is taken: near enough for A to decide
#: where it can, far enough for the resolvent to be computed in float64.
_DISTANCE = 2.0**-14
#: Power iterations towards the spectral radius of |A|; more only sharpen its upper bound.
_STEPS = 8
#: log2 of what rows of B, or columns of C, may differ by to decide little.
_EVEN = -10
#: What feeds states that no input reaches, in bits below what could decide.
_FAINT = 30
_HUGE = 1 << 20
#: The share of a norm that is clearly less.
_CLEARLY = 0.9
#: The share of the largest entry that entries in a cycle must fall below for units to gain by it.
_GAIN = 0.25
#: Units further away from one than 2 to this would leave the range of float64.
_FAR = 1000
#: Over a horizon T rates count from this over T on: rounding grows by e to this at most, and chains
#: of states whose ends are hardly reached in it still get units of their own.
_BRIEF = 4.0


def balance_dense(
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    continuous: bool = False,
    slowest: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(D⁻¹ A D, D⁻¹ B, C D, d) in the units d, (..., n, 1), of :func:`state_units`."""
    d = state_units(A, B, C, continuous, slowest)[..., None]
    row = np.swapaxes(d, -1, -2)
    return rescaled(A, row, d), B / d, C * row, d


def balance_matrix(A: np.ndarray, continuous: bool = False) -> np.ndarray:
    """D⁻¹ A D in the units that A alone decides."""
    d = state_units(A, continuous=continuous)
    return rescaled(A, d[..., None, :], d[..., :, None])


def rescaled(A: Any, times: Any, over: Any) -> Any:
    """A · times / over for powers of two, whose quotient may be too large for a float64, as may A
    with one of them: in two steps, the first of which ends between A and the result."""
    exponent = np.frexp(times)[1] - np.frexp(over)[1]
    half = exponent // 2
    return A * np.ldexp(1.0, half) * np.ldexp(1.0, exponent - half)


def refined(units: np.ndarray, by: np.ndarray) -> np.ndarray:
    """units · by, both powers of two, kept in the range of units."""
    exponents = np.frexp(units)[1] + np.frexp(by)[1] - 2
    return np.ldexp(1.0, np.clip(exponents, -_FAR, _FAR))


def state_units(
    A: np.ndarray,
    B: np.ndarray | None = None,
    C: np.ndarray | None = None,
    continuous: bool = False,
    slowest: np.ndarray | float = 0.0,
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

    In continuous time states of one system may be fast and slow, as on a graded mesh, and |z| = 1
    is nothing to compare with: (Θ − |A|)⁻¹ stands for (iω − A)⁻¹, with θ_i the damping |Re a_ii| in
    place of the diagonal, or more where other entries of its row and column in |A| add up to more,
    and no entry of A is much larger than that, or than a few times ``slowest``, (...): 1/T over a
    horizon T, in which nothing slower happens. Any more, and the ends of a chain of damped states
    would look hardly reached, in units in which A is so far from normal that rounding makes its
    poles unstable.

    Cost: n² per step of a few steps, and two linear systems; less where rows of B and columns of C
    are about equally large in the rough units, which then stay.

    Source: the bounds are those of Stoer & Witzgall, Numer. Math. 4 (1962). The rough units are
    those of Parlett & Reinsch, Numer. Math. 13 (1969); xGEBAL.
    """
    # a_ij d_j/d_i: |A| r ≤ θ r gives a_ij r_j/r_i ≤ θ, |A|ᵀ o ≤ θ o gives a_ij o_i/o_j ≤ θ, and the
    # largest and the smallest of two such scalings are one again.
    if 0 in A.shape:
        return np.ones(A.shape[:-1])
    rough, size, thresholds = _rough_units(A, continuous, slowest)
    if B is None and C is None:
        return rough
    sources, top = _largest_entries(B, -1, rough, -1) if B is not None else _nothing(rough)
    sinks, bottom = _largest_entries(C, -2, rough, 1) if C is not None else _nothing(rough)
    both = B is not None and C is not None
    level = np.where(both, (top - bottom) // 2, top - bottom)
    even = both & (np.minimum(sources, sinks).min(axis=-1, keepdims=True) >= _EVEN)
    if even.all():
        return np.ldexp(rough, level)
    theta = thresholds()
    steps = log2(size / theta[..., :, None])
    back = log2(np.swapaxes(size, -1, -2) / theta[..., :, None])
    from_B, from_C = _paths(steps, sources), _paths(back, sinks)
    if C is None:
        exponents = _supplied(steps, from_B, _below_all(from_B))
    elif B is None:
        exponents = -_supplied(back, from_C, _below_all(from_C))
    else:
        # States that only one of both sees get from the other what decides nothing.
        h = _top(from_B + from_C, _top(from_B, 0.0) + _top(from_C, 0.0))
        reached = _supplied(steps, from_B, np.where(from_C > -np.inf, h - from_C, h / 2) - _FAINT)
        observed = _supplied(back, from_C, np.where(from_B > -np.inf, h - from_B, h / 2) - _FAINT)
        h = (reached + observed).max(axis=-1, keepdims=True) / 2
        exponents = np.minimum(np.maximum(0, reached - h), h - observed)
        # What is not reached, or not observed, decides nothing.
        driven, seen = (np.isfinite(x).any(axis=-1, keepdims=True) for x in (sources, sinks))
        exponents = np.where(seen, exponents, reached)
        exponents = np.where(driven, exponents, -observed)
    exponents = np.where(even, 0, np.rint(exponents)).astype(int) + level + np.frexp(rough)[1] - 1
    return np.ldexp(1.0, np.clip(exponents, -_FAR, _FAR))


def _rough_units(
    A: np.ndarray, continuous: bool = False, slowest: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray, Callable[[], np.ndarray]]:
    """(d, |D⁻¹ A D|, θ when asked for) for powers of two d, (..., n), in which no entry of A is
    much larger than θ, (..., n), of its row: those that make rows and columns about equally large,
    of each group of states that feed each other for itself, and then the groups beside each other.
    In continuous time without the diagonal."""
    inside = np.ones(A.shape, dtype=bool)
    for index in map(tuple, np.argwhere(~A.all(axis=(-2, -1)))):
        _, group = scipy.sparse.csgraph.connected_components(A[index] != 0, connection="strong")
        inside[index] = group[:, None] == group
    units = _units_of_even_rows(A if inside.all() else np.where(inside, A, 0))
    coupling = np.where(np.eye(A.shape[-1], dtype=bool), 0, A) if continuous else A
    size = _size_in_units(coupling, units)
    thresholds = partial(_thresholds, A, size, inside, continuous, slowest)
    if not inside.all():
        between = _paths(log2(size / thresholds()[..., :, None]), np.zeros(A.shape[:-1]))
        units = np.ldexp(units, np.rint(np.minimum(between, _FAR)).astype(int))
        size = _size_in_units(coupling, units)
    return units, size, thresholds


def _thresholds(
    A: np.ndarray,
    size: np.ndarray,
    inside: np.ndarray,
    continuous: bool,
    slowest: np.ndarray | float,
) -> np.ndarray:
    """(..., n) the θ of :func:`state_units`, by the ``size`` of A inside its groups."""
    own = np.where(inside, size, 0)
    if not continuous:
        return _above_radius(own)
    damping = np.abs(np.diagonal(A, axis1=-2, axis2=-1).real)
    return _above_sums(own, inside, np.maximum(damping, _BRIEF * np.asarray(slowest)[..., None]))


def _units_of_even_rows(A: np.ndarray) -> np.ndarray:
    """Powers of two in which rows and columns are about equally large: where pairs of entries, or
    cycles of them, are as well, A may become clearly smaller, and else nothing is changed."""
    units = _units_by_lapack(A)
    # Sizes that are no numbers are not smaller.
    with np.errstate(over="ignore"):
        size = _norm_in_units(A, units)
        for other in (_units_of_even_pairs(A), _units_of_even_cycles(A)):
            if np.all(other == 1):
                continue
            even = refined(other, _units_by_lapack(_size_in_units(A, other)))
            found = _norm_in_units(A, even)
            better = found < _CLEARLY * size
            units, size = np.where(better[..., None], even, units), np.where(better, found, size)
    return units


def _units_by_lapack(A: np.ndarray) -> np.ndarray:
    """(..., n) powers of two by xGEBAL."""
    (gebal,) = _gebal(np.dtype(A.dtype))
    units = np.empty(A.shape[:-1])
    for index in np.ndindex(A.shape[:-2]):
        units[index] = gebal(A[index], scale=1, permute=0)[3]
    return units


def _norm_in_units(A: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rescaled(A, d[..., None, :], d[..., :, None]), axis=(-2, -1))


def _units_of_even_pairs(A: np.ndarray) -> np.ndarray:
    """Powers of two in which a_ij and a_ji, where both are there, are as equally large as one gets
    them, by least squares over their logarithms: those of a matrix that is symmetric in some units.

    Balancing rows and columns is content with units that rise steadily along a chain of states,
    where each row has one large and one small entry and so has its column.

    Cost: a linear system of order n, where there is anything to even out.
    """
    n, size = A.shape[-1], np.abs(A)
    both = (size > 0) & (np.swapaxes(size, -1, -2) > 0) & ~np.eye(n, dtype=bool)
    logs = np.log2(np.where(both, size, 1))
    uneven = (logs - np.swapaxes(logs, -1, -2)) / 2
    if np.abs(uneven).max(initial=0) < 1:
        return np.ones(A.shape[:-1])
    # x_i − x_j = uneven_ij: normal equations with the Laplacian of the pairs, made regular by a
    # mean of zero over each connected set of states.
    pairs, linked = both.sum(axis=-1), np.ones(A.shape)
    for index in map(tuple, np.argwhere(pairs.max(axis=-1) < n - 1)):
        _, group = scipy.sparse.csgraph.connected_components(both[index], directed=False)
        linked[index] = group[:, None] == group
    laplacian = pairs[..., None] * np.eye(n) - both + linked
    exponents = np.linalg.solve(laplacian, uneven.sum(axis=-1)[..., None])[..., 0]
    wanted = np.abs(uneven).max(axis=(-2, -1))[..., None] >= 1
    exponents = np.where(wanted, np.clip(np.rint(exponents), -_FAR, _FAR), 0)
    return np.ldexp(1.0, exponents.astype(int))


def _units_of_even_cycles(A: np.ndarray) -> np.ndarray:
    """Powers of two in which no entry of A is larger than the largest geometric mean of entries
    along a cycle of states, which no units change: the least that the largest entry can be.

    Companion forms have cycles through all states, of many entries 1 and one coefficient of 1e-49:
    each row and each column is even as they stand, and no pair of states is uneven.

    Cost: n steps over the entries that are not 0, where pairs of states do not show that there is
    nothing to gain.

    Source: Karp, Discrete Mathematics 23 (1978), for the mean; Schneider & Schneider, Mathematics
    of Operations Research 16 (1991), for the units.
    """
    size, units = np.abs(A), np.ones(A.shape[:-1])
    roots = np.sqrt(size)
    least = _GAIN * size.max(axis=(-2, -1), keepdims=True, initial=0)
    uneven = np.all(roots * np.swapaxes(roots, -1, -2) < least, axis=(-2, -1))
    for index in map(tuple, np.argwhere(uneven)):
        units[index] = _units_of_one_cycle(size[index])
    return units


def _units_of_one_cycle(size: np.ndarray) -> np.ndarray:
    n = len(size)
    # Of rows without entries, which are in no cycle, the one of the state itself.
    np.fill_diagonal(size, np.where(size.any(axis=1), np.diagonal(size), np.finfo(float).tiny))
    to, of = np.nonzero(size)
    entries, starts = np.log2(size[to, of]), np.searchsorted(to, np.arange(n))
    # The largest product of k entries in a row that ends in each state.
    walks = np.zeros((n + 1, n))
    for k in range(n):
        walks[k + 1] = np.maximum.reduceat(entries + walks[k][of], starts)
    means = (walks[n] - walks[:n]) / (n - np.arange(n))[:, None]
    above = entries - means.min(axis=0).max()
    exponents = np.zeros(n)
    for _ in range(n):
        exponents = np.maximum(exponents, np.maximum.reduceat(above + exponents[of], starts))
    return np.ldexp(1.0, np.clip(np.rint(exponents - exponents.mean()), -_FAR, _FAR).astype(int))


def radius_exponent(A: np.ndarray) -> np.ndarray:
    """(...) log2 of an upper bound on ρ(|A|) that few units of the states bring down, rounded; 0
    where A is zero. It does not change with powers of two as units of the states."""
    if 0 in A.shape:
        return np.zeros(A.shape[:-2])
    _, size, _ = _rough_units(A)
    bound = _radius_bound(size)
    return np.rint(np.log2(np.where(bound > 0, bound, 1)))


def _size_in_units(A: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.minimum(np.abs(rescaled(A, d[..., None, :], d[..., :, None])), 2.0**_FAR)


@cache
def _gebal(dtype: Any) -> Any:
    return scipy.linalg.get_lapack_funcs(("gebal",), dtype=dtype)


def _largest_entries(
    X: np.ndarray, axis: int, units: np.ndarray, power: int
) -> tuple[np.ndarray, np.ndarray]:
    """(x, top): log2 of the largest entries of the rows of B or columns of C in the given units,
    (..., n), as x + top with the largest x between −1 and 0."""
    digits, exponents = np.frexp(np.abs(X).max(axis=axis, initial=0))
    exponents = exponents + power * (np.frexp(units)[1] - 1)
    top = np.where(digits > 0, exponents, -_HUGE).max(axis=-1, keepdims=True, initial=-_HUGE)
    x = np.where(digits > 0, log2(digits) + exponents - top, -np.inf)
    return x, np.where(top > -_HUGE, top, 0)


def _nothing(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(units.shape), np.zeros((*units.shape[:-1], 1), dtype=int)


def _above_radius(size: np.ndarray) -> np.ndarray:
    """(..., n) of one θ > ρ for matrices without negative entries.

    At least 1, the size of z on the unit circle, which A is compared with: less gains nothing.
    """
    theta = np.maximum(1, _radius_bound(size)) * (1 + _DISTANCE)
    return np.broadcast_to(theta[..., None], size.shape[:-1])


def _above_sums(size: np.ndarray, inside: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """(..., n) θ_i = max(|Re a_ii|, (1 + s⁻²) Σ), Σ the larger of the sums of row and column i in
    its group of s states, without the diagonal; where both are zero, the smallest of the others.

    Nearer to the sums the largest entries of (Θ − |A|)⁻¹ would say nothing about single inputs;
    further away they would fall by more than a constant along s states in a row, which those of
    (iω − A)⁻¹ do not for all ω.
    """
    sums = np.maximum(size.sum(axis=-1), size.sum(axis=-2))
    theta = np.maximum(damping, (1 + 1.0 / inside.sum(axis=-1) ** 2) * sums)
    least = np.where(theta > 0, theta, np.inf).min(axis=-1, keepdims=True)
    return np.where(theta > 0, theta, np.where(least < np.inf, least, 1.0))


def _radius_bound(size: np.ndarray) -> np.ndarray:
    """(...) at least ρ: any x > 0 has max (|A|x)_i/x_i ≥ ρ."""
    x = np.ones((*size.shape[:-1], 1))
    shift = 2.0**-_FAINT * size.max(axis=(-2, -1), keepdims=True) + np.finfo(float).tiny
    bound = np.full(size.shape[:-2], np.inf)
    for _ in range(_STEPS):
        product = size @ x
        bound = np.minimum(bound, np.max(product / x, axis=(-2, -1)))
        x = product + shift * x
        x = x / x.max(axis=-2, keepdims=True)
    return bound


def _supplied(steps: np.ndarray, largest: np.ndarray, faint: np.ndarray) -> np.ndarray:
    """log2 of the sums over all paths whose largest terms are given, (..., n), states that no path
    reaches having faint sources of their own."""
    # In units of the largest terms no entry of A exceeds θ, and nothing over- or underflows.
    sources = np.where(largest > -np.inf, largest, faint)
    largest = _paths(steps, sources)
    sources = np.exp2(np.maximum(sources - largest, -_FAR))
    spread = steps + largest[..., None, :] - largest[..., :, None]
    resolvent = np.eye(steps.shape[-1]) - np.exp2(np.maximum(spread, -2.0 * _FAR))
    # Rounding of a nearly singular resolvent must not end below the largest term.
    total = _solution_or_zero(resolvent, sources)
    return largest + np.log2(np.maximum(np.abs(total), 1))


def _solution_or_zero(M: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., n) M⁻¹ x, 0 where M is singular to its last digit: chains of states one of which leads
    to all that follow add up to more than there are digits for."""
    try:
        return np.linalg.solve(M, x[..., None])[..., 0]
    except np.linalg.LinAlgError:
        if M.ndim == 2:
            return np.zeros(x.shape)
        found = np.empty(x.shape)
        for index in np.ndindex(x.shape[:-1]):
            found[index] = _solution_or_zero(M[index], x[index])
        return found


def _below_all(largest: np.ndarray) -> np.ndarray:
    least = np.where(largest > -np.inf, largest, np.inf).min(axis=-1, keepdims=True)
    return np.where(least < np.inf, least - _FAINT, 0.0) + np.zeros_like(largest)


def _top(x: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return np.where(top > -np.inf, top, otherwise)


def _paths(steps: np.ndarray, start: np.ndarray) -> np.ndarray:
    """max over paths that end in each state of the sum of its start and its steps, (..., n): log2
    of the largest of the terms |a_ij| … |a_kl| b_l / θ^k."""
    found = start
    for _ in range(steps.shape[-1]):
        longer = np.maximum(found, (steps + found[..., None, :]).max(axis=-1))
        if np.array_equal(longer, found):
            break
        found = longer
    return found
