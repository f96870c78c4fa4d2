"""How many states to keep: in one system by energy or error, over many layers by a budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays.checks import check_array, check_integer, check_one_given
from ..arrays.namespaces import Array, as_array, to_numpy
from ..errors import ArgumentError, ShapeError, counted

#: Tails below this share of the sum are rounding noise, not energy.
_NOISE = 1e-15


def check_order(order: int | None, states: int) -> int:
    """``order`` as an int in 1 … ``states``; 0 of 0."""
    order = check_integer("order", order, minimum=min(1, states))
    if order > states:
        raise ArgumentError(f"order is {order}, but the system has only {counted(states, 'state')}")
    return order


def check_not_empty(batch_shape: tuple[int, ...]) -> None:
    if 0 in batch_shape:
        raise ShapeError(
            f"the batch shape {batch_shape} holds no system, so no order can be chosen"
        )


def order_for_energy(sigma: Array, energy: float) -> int:
    """Smallest r ≥ 1 with Σ_{i≤r} σ_i ≥ energy · Σ σ_i in every batch entry; 0 of no values.

    Compared on the tail, Σ_{i>r} σ_i ≤ (1 − energy) Σ σ_i, where small values are not lost.
    """
    if not 0 < energy <= 1:
        raise ArgumentError(f"energy must lie in (0, 1], but is {energy!r}")
    tails = _tails(to_numpy(sigma))
    allowed = (1 - energy + _NOISE) * tails[..., :1]
    return _smallest_order(tails <= allowed)


def order_for_error(sigma: Array, error: float) -> int:
    """Smallest r ≥ 1 with 2 Σ_{i>r} σ_i ≤ error in every batch entry; 0 of no values."""
    if not error >= 0:
        raise ArgumentError(f"error must be at least 0, but is {error!r}")
    tails = _tails(to_numpy(sigma))
    allowed = np.maximum(error / 2, _NOISE * tails[..., :1])
    return _smallest_order(tails <= allowed)


def allocate_orders(
    singular_values: Sequence[Array],
    *,
    budget: int | None = None,
    ratio: float | None = None,
    energy: float | None = None,
) -> list[int]:
    """Orders for several layers at one common energy level.

        r_l(γ) = smallest r ≥ 1 with Σ_{i≤r} σ_i^(l) ≥ γ Σ_i σ_i^(l)

    With ``energy`` γ is given; with ``budget`` it is the largest γ ≤ 1 with Σ_l r_l ≤ budget (ties
    are filled up in the order of the layers). The level is found exactly: raising γ adds states one
    at a time, in ascending order of the share that the states before them hold, so this is one
    sort and no bisection. States that hold no energy are never given out.

    Parameters
    ----------
    singular_values : one descending real array (n_l,) per layer; n_l may differ
    budget : int ≥ number of layers
        Total number of states.
    ratio : float in [0, 1)
        Share of states to remove: budget = round((1 − ratio) · Σ n_l).
    energy : float in (0, 1]

    Returns
    -------
    list of int, one order ≥ 1 per layer (0 of no states), together never above the budget.

    CuPy: read on the host.

    Raises
    ------
    ArgumentError
        When not exactly one criterion is given, one is out of range, or the budget is smaller
        than the number of layers.

    Source: Schwerdtner et al., HSVR, Algorithm 1 (its stopping rule and index are mended here).


    >>> values = [np.array([8.0, 1.0, 1.0]), np.array([4.0, 4.0, 2.0])]
    >>> lti.allocate_orders(values, energy=0.75)
    [1, 2]

    """
    layers = [_check_values(i, values) for i, values in enumerate(singular_values)]
    if not layers:
        raise ArgumentError("singular_values is empty: there is no layer to allocate states to")
    check_one_given(budget=budget, ratio=ratio, energy=energy)
    if energy is not None:
        return [order_for_energy(sigma, energy) for sigma in layers]
    budget = check_budget([len(sigma) for sigma in layers], budget, ratio)
    # State r + 1 of a layer is wanted as soon as γ exceeds the share of its first r states, that
    # is, in descending order of the share still missing after them.
    wanted = []
    for index, sigma in enumerate(layers):
        tails = _tails(sigma)
        missing = tails[1:-1] / max(tails[0], np.finfo(np.float64).tiny)
        wanted += [(-share, index) for share in missing if share > _NOISE]
    orders = [min(1, len(sigma)) for sigma in layers]
    for _, index in sorted(wanted)[: budget - sum(orders)]:
        orders[index] += 1
    return orders


def allocate_orders_by_error(
    errors: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    budget: int | None = None,
    ratio: float | None = None,
) -> list[int]:
    """Orders for several layers that lower a weighted sum of measured errors most.

        minimise Σ_l w_l e_l(r_l) over Σ_l r_l ≤ budget

    Greedy: the states that buy the largest decrease per state are given first. Optimal where each
    e_l is convex in r, and on the convex hulls of the errors otherwise.

    Parameters
    ----------
    errors : one real array (n_l,) per layer: e_l(r) for r = 1 … n_l, for example squared h2 errors
    weights : one number w_l ≥ 0 per layer, for example measured effects of a layer's error on the
        loss; default 1
    budget, ratio : as for :func:`allocate_orders`

    Returns
    -------
    list of int, one order ≥ 1 per layer (0 of no states), together never above the budget.

    CuPy: read on the host.

    Raises
    ------
    ArgumentError, ShapeError


    >>> errors = [np.array([9.0, 1.0, 0.0]), np.array([3.0, 2.0, 1.0])]
    >>> lti.allocate_orders_by_error(errors, budget=3)
    [2, 1]

    """
    layers = [_check_errors(i, values) for i, values in enumerate(errors)]
    budget = check_budget([len(values) for values in layers], budget, ratio)
    if weights is None:
        weights = [1.0] * len(layers)
    if len(weights) != len(layers) or not all(0 <= w < float("inf") for w in weights):
        raise ArgumentError(
            f"weights must hold one finite number ≥ 0 for each of {len(layers)} layers, but is "
            f"{list(weights)!r}"
        )
    orders = [min(1, len(values)) for values in layers]
    left = budget - sum(orders)
    while left:
        steps = [
            (weight * (e[r - 1 : r] - e[r : r + left]) / np.arange(1, 1 + len(e[r : r + left])))
            for weight, e, r in zip(weights, layers, orders, strict=True)
        ]
        gains = [step.max(initial=0.0) for step in steps]
        best = int(np.argmax(gains))
        if not gains[best] > 0:
            break
        taken = 1 + int(np.argmax(steps[best]))
        orders[best] += taken
        left -= taken
    return orders


def check_budget(sizes: Sequence[int], budget: int | None, ratio: float | None) -> int:
    """The number of states that layers of these sizes may keep together."""
    check_one_given(budget=budget, ratio=ratio)
    if not sizes:
        raise ArgumentError("there is no layer to allocate states to")
    if ratio is not None:
        if not 0 <= ratio < 1:
            raise ArgumentError(f"ratio must lie in [0, 1), but is {ratio!r}")
        budget = round((1 - ratio) * sum(sizes))
    budget = check_integer("budget", budget, minimum=0)
    if budget < sum(size > 0 for size in sizes):
        raise ArgumentError(
            f"a budget of {counted(budget, 'state')} (of {sum(sizes)}) cannot give each of "
            f"{counted(len(sizes), 'layer')} its one state: lower the ratio or raise the budget"
        )
    return budget


def _tails(sigma: np.ndarray) -> np.ndarray:
    """(..., n + 1) sums Σ_{i>r} σ_i for r = 0 … n, added from the small end."""
    sums = np.cumsum(sigma[..., ::-1].astype(np.float64), axis=-1)[..., ::-1]
    return np.concatenate([sums, np.zeros((*sums.shape[:-1], 1))], axis=-1)


def _smallest_order(enough: np.ndarray) -> int:
    """Smallest r ≥ 1 that is enough in every batch entry; ``enough`` runs over r = 0 … n."""
    return max(min(1, enough.shape[-1] - 1), int(np.max(np.argmax(enough, axis=-1))))


def _check_errors(index: int, values: Array) -> np.ndarray:
    name = f"errors[{index}]"
    error = to_numpy(check_array(name, as_array(name, values), ndim=1))
    if error.ndim != 1:
        raise ShapeError(f"{name} has shape {error.shape}: pass e(1) … e(n) of each layer")
    if np.iscomplexobj(error) or np.any(error < 0):
        raise ArgumentError(f"{name} must be real and non-negative")
    return error


def _check_values(index: int, values: Array) -> np.ndarray:
    name = f"singular_values[{index}]"
    sigma = to_numpy(check_array(name, as_array(name, values), ndim=1))
    if sigma.ndim != 1:
        raise ShapeError(f"{name} has shape {sigma.shape}: pass one vector per layer")
    if np.iscomplexobj(sigma) or np.any(sigma < 0) or np.any(np.diff(sigma) > 0):
        raise ArgumentError(f"{name} must be real, non-negative and descending")
    return sigma
