"""Ways to compress: how many states each layer keeps, and how a system is reduced to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

import lticore
from lticore.errors import ArgumentError
from lticore.internal import (
    check_budget,
    complex_half,
    keep_modes,
    order_for_error,
    to_numpy,
)

from ..layers.base import channels
from ..layers.on_data import OnData
from ..layers.selective import StateGramians


@dataclass(frozen=True)
class Criteria:
    """What the user asked for; exactly one of the first four is not None."""

    ratio: float | None
    energy: float | None
    orders: Sequence[int] | None
    error: float | None
    horizon: int | None


@dataclass(frozen=True)
class Method:
    """Orders for all layers together, then a reduction of each system.

    allocate : (systems, criteria) → one order per layer; not asked where orders are given
    reduce : (system without batch axes, order, criteria) → Reduction
    criteria : which of ratio, energy, error have a meaning
    timed : whether a horizon is needed
    quadratic : whether it knows quadratic outputs
    selective : whether it knows selective layers
    on_data : whether it judges every layer on data
    """

    allocate: Callable[[list[Any], Criteria], list[int]]
    reduce: Callable[..., lticore.Reduction]
    criteria: tuple[str, ...]
    timed: bool = False
    quadratic: bool = False
    selective: bool = False
    on_data: bool = False


def choose_orders(method: Method, systems: list[Any], criteria: Criteria) -> list[int]:
    """One order per layer, after the checks common to all methods.

    ``systems`` holds, for each layer, an LTI (with a batch axis for one per channel), a
    QuadraticOutputLTI, one of both OnData, or the StateGramians of a selective layer.
    """
    if method.timed != (criteria.horizon is not None):
        raise ArgumentError(
            "methods 'tlbt' and 'tlh2' need horizon=, the number of steps that count; no other "
            "method takes it"
        )
    _check_kinds(method, systems, criteria)
    if criteria.orders is not None:
        if len(criteria.orders) != len(systems):
            raise ArgumentError(
                f"orders has {len(criteria.orders)} entries, but the model has {len(systems)} "
                "state-space layers"
            )
        return list(criteria.orders)
    for name in ("ratio", "energy", "error"):
        if getattr(criteria, name) is not None and name not in method.criteria:
            allowed = " or ".join(f"{x}=" for x in (*method.criteria, "orders"))
            raise ArgumentError(f"{name}= has no meaning for this method: give {allowed}")
    return method.allocate(systems, criteria)


def _check_kinds(method: Method, systems: list[Any], criteria: Criteria) -> None:
    linear = [sys.sys if isinstance(sys, OnData) else sys for sys in systems]
    quadratic = any(isinstance(sys, lticore.QuadraticOutputLTI) for sys in linear)
    selective = any(isinstance(sys, StateGramians) for sys in systems)
    for found, known, name in (
        (quadratic, method.quadratic, "quadratic"),
        (selective, method.selective, "selective"),
    ):
        if found and not known:
            able = [key for key, other in METHODS.items() if getattr(other, name)]
            raise ArgumentError(
                f"the model has a {name} layer, which this method does not know: use "
                f"{' or '.join(map(repr, able))}"
            )
    if criteria.error is not None and (quadratic or selective):
        raise ArgumentError(
            "error= has no meaning for quadratic and selective layers, which have no error bound: "
            "give ratio=, energy= or orders="
        )


def _values(sys: Any, horizon: int | None) -> np.ndarray:
    """Hankel singular values of a layer, added over its channels."""
    if isinstance(sys, StateGramians):
        return sys.singular_values
    if isinstance(sys, lticore.QuadraticOutputLTI):
        return to_numpy(lticore.balanced_truncation(sys, order=1, horizon=horizon).singular_values)
    sigma = to_numpy(lticore.hankel_singular_values(sys, horizon=horizon))
    return sigma.reshape(-1, sigma.shape[-1]).sum(axis=0)


def _by_energy(systems: list[Any], criteria: Criteria) -> list[int]:
    if criteria.error is not None:
        error = criteria.error
        return [
            max(order_for_error(lticore.hankel_singular_values(x), error) for x in channels(sys))
            for sys in systems
        ]
    sigmas = [_values(sys, criteria.horizon) for sys in systems]
    return lticore.allocate_orders(sigmas, ratio=criteria.ratio, energy=criteria.energy)


def _by_loss(systems: list[Any], criteria: Criteria) -> list[int]:
    return orders_by_loss(systems, ratio=criteria.ratio, energy=criteria.energy)


def orders_by_loss(
    systems: list[Any], *, ratio: float | None = None, energy: float | None = None
) -> list[int]:
    """One threshold on σ², in units of the loss, over all layers: with ``energy``, that share of
    Σσ² is kept in all."""
    squares = [sys.singular_values**2 for sys in systems]
    left = [np.append(np.cumsum(x[:0:-1])[::-1], 0.0) for x in squares]  # Σ_{i>r} σ_i², r ≥ 1
    if energy is None:
        return lticore.allocate_orders_by_error(left, ratio=ratio)
    if not 0 < energy <= 1:
        raise ArgumentError(f"energy must lie in (0, 1], but is {energy!r}")
    every = np.sort(np.concatenate(squares))
    dropped = int(np.sum(np.cumsum(every) <= (1 - energy) * every.sum()))
    return lticore.allocate_orders_by_error(left, budget=max(len(every) - dropped, len(systems)))


def _by_complex_energy(systems: list[Any], criteria: Criteria) -> list[int]:
    """Each complex value stands for two real states."""
    sigmas = [to_numpy(lticore.hankel_singular_values(complex_half(sys))) for sys in systems]
    if criteria.error is not None:
        orders = [order_for_error(sigma, criteria.error) for sigma in sigmas]
    else:
        budget = None if criteria.ratio is None else _complex_budget(systems, criteria.ratio)
        sums = [sigma.reshape(-1, sigma.shape[-1]).sum(axis=0) for sigma in sigmas]
        orders = lticore.allocate_orders(sums, budget=budget, energy=criteria.energy)
    return [2 * order for order in orders]


def _complex_budget(systems: list[Any], ratio: float) -> int:
    """Complex states of all layers together."""
    sizes = [sys.order for sys in systems]
    budget = check_budget(sizes, None, ratio)
    if budget < 2 * len(sizes):
        raise ArgumentError(
            f"a budget of {budget} states (of {sum(sizes)}) cannot give each of {len(sizes)} "
            "layers its pair of two states: lower the ratio"
        )
    return budget // 2


def _by_scores(
    rule: Literal["last", "global", "uniform"], systems: list[Any], criteria: Criteria
) -> list[int]:
    return lticore.allocate_modal_orders(systems, ratio=criteria.ratio, rule=rule)


def _truncated_balanced(sys: Any, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.balanced_truncation(sys, order=order, horizon=criteria.horizon)


def _on_data(sys: OnData, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.balanced_truncation(sys.sys, order=order, gramians=(sys.P, sys.Q))


def _complex(sys: Any, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.complex_balanced_truncation(sys, order=order)


def _modal(sys: Any, order: int, criteria: Criteria) -> lticore.Reduction:
    # A pair that no longer fits leaves a state of the budget over, which the report shows.
    return keep_modes(sys, order)


def _h2(sys: Any, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.h2_reduction(sys, order, horizon=criteria.horizon)


_ENERGY = ("ratio", "energy")
METHODS = {
    "balanced": Method(
        _by_energy, _truncated_balanced, (*_ENERGY, "error"), quadratic=True, selective=True
    ),
    "balanced-complex": Method(_by_complex_energy, _complex, (*_ENERGY, "error")),
    "data": Method(_by_loss, _on_data, _ENERGY, quadratic=True, selective=True, on_data=True),
    "h2": Method(_by_energy, _h2, _ENERGY, quadratic=True),
    "tlbt": Method(_by_energy, _truncated_balanced, _ENERGY, timed=True, quadratic=True),
    "tlh2": Method(_by_energy, _h2, _ENERGY, timed=True, quadratic=True),
    "last": Method(partial(_by_scores, "last"), _modal, ("ratio",)),
    "global": Method(partial(_by_scores, "global"), _modal, ("ratio",)),
    "uniform": Method(partial(_by_scores, "uniform"), _modal, ("ratio",)),
}
