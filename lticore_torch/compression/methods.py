"""Ways to compress: how many states each layer keeps, and how a system is reduced to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

import lticore
from lticore.errors import ArgumentError
from lticore.internal import (
    check_budget,
    complex_half,
    counted,
    keep_modes,
    order_for_error,
    to_numpy,
    truncate,
    truncate_all_to_order,
)

from ..layers.base import channels
from ..layers.on_data import OnData
from ..layers.state_gramians import StateGramians


@dataclass(frozen=True)
class Criteria:
    """How many states are to stay; exactly one is not None."""

    ratio: float | None
    energy: float | None
    orders: Sequence[int] | None
    error: float | None


@dataclass(frozen=True)
class Method:
    """Orders for all layers together, then a reduction of each system.

    measure : (system, horizon) → what orders go by
    allocate : (what was measured of each layer, criteria) → one order per layer; not asked where
        orders are given
    reduce : (system, order, horizon) → Reductions: of a batch one, or those of its entries
    criteria : which of ratio, energy, error have a meaning
    timed : whether a horizon is needed
    quadratic : whether it knows quadratic outputs
    selective : whether it knows selective layers
    on_data : whether it judges every layer on data
    states_of_a_value : real states that each singular value stands for
    """

    measure: Callable[[Any, int | None], Any]
    allocate: Callable[[list[Any], Criteria], list[int]]
    reduce: Callable[[Any, int, int | None], list[lticore.Reduction]]
    criteria: tuple[str, ...]
    timed: bool = False
    quadratic: bool = False
    selective: bool = False
    on_data: bool = False
    states_of_a_value: int = 1

    def values_of_states(self, measured: Any) -> np.ndarray:
        """(n,) one σ for each state, added over channels; none where modes are judged instead."""
        if not isinstance(measured, np.ndarray):
            return np.zeros(0)
        return np.repeat(measured.sum(axis=0), self.states_of_a_value)


def check_method(method: Method, systems: list[Any], horizon: int | None) -> None:
    """Refuse a horizon that the method has no use for, or misses, and layers it does not know.

    ``systems`` holds, for each layer, an LTI (with a batch axis for one per channel), a
    QuadraticOutputLTI, one of both OnData, or the StateGramians of a selective layer.
    """
    if method.timed != (horizon is not None):
        raise ArgumentError(
            "methods 'tlbt' and 'tlh2' need horizon=, the number of steps that count; no other "
            "method takes it"
        )
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


def choose_orders(
    method: Method, systems: list[Any], measured: list[Any], criteria: Criteria
) -> list[int]:
    """One order per layer, after the checks common to all methods."""
    if criteria.error is not None and not all(isinstance(sys, lticore.LTI) for sys in systems):
        raise ArgumentError(
            "error= has no meaning for quadratic and selective layers, which have no error bound, "
            "nor for Gramians from data: give ratio=, energy= or orders="
        )
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
    return method.allocate(measured, criteria)


def _as_it_is(sys: Any, horizon: int | None) -> Any:
    return sys


def _values(sys: Any, horizon: int | None) -> np.ndarray:
    """(channels, n) Hankel singular values of a layer."""
    if isinstance(sys, StateGramians):
        return sys.singular_values[None]
    if isinstance(sys, lticore.QuadraticOutputLTI):
        found = truncate(sys, order=1, horizon=horizon).reduction
        return to_numpy(found.singular_values)[None]
    return np.atleast_2d(to_numpy(lticore.hankel_singular_values(sys, horizon=horizon)))


def _by_energy(sigmas: list[np.ndarray], criteria: Criteria) -> list[int]:
    if criteria.error is not None:
        return [order_for_error(sigma, criteria.error) for sigma in sigmas]
    sums = [sigma.sum(axis=0) for sigma in sigmas]
    return lticore.allocate_orders(sums, ratio=criteria.ratio, energy=criteria.energy)


def _values_on_data(sys: Any, horizon: int | None) -> np.ndarray:
    """(1, n), of all channels together."""
    return sys.singular_values[None]


def _by_loss(sigmas: list[np.ndarray], criteria: Criteria) -> list[int]:
    return orders_by_loss([x[0] for x in sigmas], ratio=criteria.ratio, energy=criteria.energy)


def orders_by_loss(
    sigmas: list[np.ndarray], *, ratio: float | None = None, energy: float | None = None
) -> list[int]:
    """One threshold on σ², in units of the loss, over all layers: with ``energy``, that share of
    Σσ² is kept in all."""
    squares = [sigma**2 for sigma in sigmas]
    left = [np.append(np.cumsum(x[:0:-1])[::-1], 0.0) for x in squares]  # Σ_{i>r} σ_i², r ≥ 1
    if energy is None:
        return lticore.allocate_orders_by_error(left, ratio=ratio)
    if not 0 < energy <= 1:
        raise ArgumentError(f"energy must lie in (0, 1], but is {energy!r}")
    every = np.sort(np.concatenate(squares))
    dropped = int(np.sum(np.cumsum(every) <= (1 - energy) * every.sum()))
    return lticore.allocate_orders_by_error(left, budget=max(len(every) - dropped, len(squares)))


def _complex_values(sys: Any, horizon: int | None) -> np.ndarray:
    """(channels, n/2): each complex value stands for two real states."""
    return np.atleast_2d(to_numpy(lticore.hankel_singular_values(complex_half(sys))))


def _by_complex_energy(sigmas: list[np.ndarray], criteria: Criteria) -> list[int]:
    if criteria.error is not None:
        orders = [order_for_error(sigma, criteria.error) for sigma in sigmas]
    else:
        budget = None if criteria.ratio is None else _complex_budget(sigmas, criteria.ratio)
        sums = [sigma.sum(axis=0) for sigma in sigmas]
        orders = lticore.allocate_orders(sums, budget=budget, energy=criteria.energy)
    return [2 * order for order in orders]


def _complex_budget(sigmas: list[np.ndarray], ratio: float) -> int:
    """Complex states of all layers together."""
    sizes = [2 * sigma.shape[-1] for sigma in sigmas]
    budget = check_budget(sizes, None, ratio)
    if budget < 2 * len(sizes):
        raise ArgumentError(
            f"a budget of {counted(budget, 'state')} (of {sum(sizes)}) cannot give each of "
            f"{counted(len(sizes), 'layer')} its pair of two states: lower the ratio"
        )
    return budget // 2


def _by_scores(
    rule: Literal["last", "global", "uniform"], systems: list[Any], criteria: Criteria
) -> list[int]:
    return lticore.allocate_modal_orders(systems, ratio=criteria.ratio, rule=rule)


def _truncated_balanced(sys: Any, order: int, horizon: int | None) -> list[lticore.Reduction]:
    return truncate_all_to_order(sys, order, horizon=horizon)


def _one_by_one(
    reduce: Callable[[Any, int, int | None], lticore.Reduction],
) -> Callable[[Any, int, int | None], list[lticore.Reduction]]:
    return lambda sys, order, horizon: [reduce(x, order, horizon) for x in channels(sys)]


def _on_data(sys: OnData, order: int, horizon: int | None) -> list[lticore.Reduction]:
    return truncate_all_to_order(sys.sys, order, gramians=(sys.P, sys.Q))


def _complex(sys: Any, order: int, horizon: int | None) -> lticore.Reduction:
    return lticore.complex_balanced_truncation(sys, order=order)


def _modal(sys: Any, order: int, horizon: int | None) -> lticore.Reduction:
    # A pair that no longer fits leaves a state of the budget over, which the report shows.
    return keep_modes(sys, order)


def _h2(sys: Any, order: int, horizon: int | None) -> lticore.Reduction:
    return lticore.h2_reduction(sys, order, horizon=horizon)


_ENERGY = ("ratio", "energy")
_BALANCED = Method(_values, _by_energy, _truncated_balanced, (*_ENERGY, "error"), quadratic=True)
_H2 = Method(_values, _by_energy, _one_by_one(_h2), _ENERGY, quadratic=True)
METHODS = {
    "balanced": replace(_BALANCED, selective=True),
    "balanced-complex": Method(
        _complex_values,
        _by_complex_energy,
        _one_by_one(_complex),
        _BALANCED.criteria,
        states_of_a_value=2,
    ),
    "data": Method(
        _values_on_data, _by_loss, _on_data, _ENERGY, quadratic=True, selective=True, on_data=True
    ),
    "h2": _H2,
    "tlbt": replace(_BALANCED, criteria=_ENERGY, timed=True),
    "tlh2": replace(_H2, timed=True),
    "last": Method(_as_it_is, partial(_by_scores, "last"), _one_by_one(_modal), ("ratio",)),
    "global": Method(_as_it_is, partial(_by_scores, "global"), _one_by_one(_modal), ("ratio",)),
    "uniform": Method(_as_it_is, partial(_by_scores, "uniform"), _one_by_one(_modal), ("ratio",)),
}
