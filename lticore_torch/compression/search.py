"""The smallest model that is still good enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from lticore.errors import ArgumentError

from ..layers import capture
from .report import CompressionReport

Model = TypeVar("Model", bound=nn.Module)


def smallest_within(
    model: Model,
    states: int,
    spread: Callable[[int], Mapping[str, int] | None],
    cut: Callable[[Any], tuple[Model, CompressionReport]],
    evaluate: Callable[[Model], float],
    tolerance: float,
) -> tuple[Model, CompressionReport]:
    """The cut of fewest states with evaluate(cut) ≥ evaluate(model) − tolerance, by bisection.

    ``spread`` gives the orders for a number of states, or None where they cannot be spread. About
    log₂ ``states`` cuts are evaluated, in evaluation mode, and the fewest is found where more
    states are never worse; else one that is good enough while one of a state less is not. Warnings
    are those of the cut that is returned. Where none is good enough it is the one that keeps all.
    """
    before = _score(evaluate, model)

    def tried(orders: Any) -> tuple[float, Model, CompressionReport, list[Any]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            small, report = cut(orders)
        score = _score(evaluate, small)
        return score, small, replace(report, score_before=before, score=score), caught

    best = None
    few, enough = 0, states
    while enough - few > 1:
        middle = (few + enough) // 2
        orders = spread(middle)
        found = tried(orders) if orders is not None else None
        if found is not None and found[0] >= before - tolerance:
            best, enough = found, middle
        else:
            few = middle
    _, small, report, caught = best or tried(spread(states))
    for x in caught:
        warnings.warn_explicit(x.message, x.category, x.filename, x.lineno)
    return small, report


def _score(evaluate: Callable[[Any], float], model: Any) -> float:
    with capture.evaluating(model):
        score = float(evaluate(model))
    if score != score:
        raise ArgumentError("evaluate= returned NaN")
    return score
