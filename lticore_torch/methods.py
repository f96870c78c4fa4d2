"""Ways to compress: how many states each layer keeps, and how a layer is reduced to them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import lticore
from lticore._arrays import to_numpy
from lticore.errors import ArgumentError, PrecisionWarning
from lticore.reduction.complex_balanced import complex_half
from lticore.reduction.orders import check_budget, order_for_error


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
    """Orders for all layers together, then a reduction of each.

    allocate : (systems, criteria) → one order per layer; not asked where orders are given
    reduce : (system, order, criteria) → Reduction
    criteria : which of ratio, energy, error have a meaning
    timed : whether a horizon is needed
    """

    allocate: Callable[[list[lticore.LTI], Criteria], list[int]]
    reduce: Callable[..., lticore.Reduction]
    criteria: tuple[str, ...]
    timed: bool = False


def choose_orders(method: Method, systems: list[lticore.LTI], criteria: Criteria) -> list[int]:
    """One order per system, after the checks common to all methods."""
    if method.timed != (criteria.horizon is not None):
        raise ArgumentError(
            "methods 'tlbt' and 'tlh2' need horizon=, the number of steps that count; no other "
            "method takes it"
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
    return method.allocate(systems, criteria)


def _by_energy(systems: list[lticore.LTI], criteria: Criteria) -> list[int]:
    sigmas = [lticore.hankel_singular_values(sys, horizon=criteria.horizon) for sys in systems]
    if criteria.error is not None:
        return [order_for_error(sigma, criteria.error) for sigma in sigmas]
    return lticore.allocate_orders(sigmas, ratio=criteria.ratio, energy=criteria.energy)


def _by_complex_energy(systems: list[lticore.LTI], criteria: Criteria) -> list[int]:
    """Each complex value stands for two real states."""
    sigmas = [to_numpy(lticore.hankel_singular_values(complex_half(sys))) for sys in systems]
    if criteria.error is not None:
        return [2 * order_for_error(sigma, criteria.error) for sigma in sigmas]
    budget = None if criteria.ratio is None else _complex_budget(systems, criteria.ratio)
    orders = lticore.allocate_orders(sigmas, budget=budget, energy=criteria.energy)
    return [2 * order for order in orders]


def _complex_budget(systems: list[lticore.LTI], ratio: float) -> int:
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
    rule: Literal["last", "global", "uniform"], systems: list[lticore.LTI], criteria: Criteria
) -> list[int]:
    return lticore.allocate_modal_orders(systems, ratio=criteria.ratio, rule=rule)


def _balanced(sys: lticore.LTI, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.balanced_truncation(sys, order=order, horizon=criteria.horizon)


def _complex(sys: lticore.LTI, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.complex_balanced_truncation(sys, order=order)


def _modal(sys: lticore.LTI, order: int, criteria: Criteria) -> lticore.Reduction:
    with warnings.catch_warnings():
        # A pair that no longer fits leaves a state of the budget over, which the report shows.
        warnings.filterwarnings("ignore", "order .* was asked for", PrecisionWarning)
        return lticore.modal_truncation(sys, order)


def _h2(sys: lticore.LTI, order: int, criteria: Criteria) -> lticore.Reduction:
    return lticore.h2_reduction(sys, order, horizon=criteria.horizon)


_ENERGY = ("ratio", "energy")
METHODS = {
    "balanced": Method(_by_energy, _balanced, (*_ENERGY, "error")),
    "balanced-complex": Method(_by_complex_energy, _complex, (*_ENERGY, "error")),
    "h2": Method(_by_energy, _h2, _ENERGY),
    "tlbt": Method(_by_energy, _balanced, _ENERGY, timed=True),
    "tlh2": Method(_by_energy, _h2, _ENERGY, timed=True),
    "last": Method(partial(_by_scores, "last"), _modal, ("ratio",)),
    "global": Method(partial(_by_scores, "global"), _modal, ("ratio",)),
    "uniform": Method(partial(_by_scores, "uniform"), _modal, ("ratio",)),
}
