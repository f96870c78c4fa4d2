"""A copy of a model whose layers have fewer states."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from torch import nn

from lticore.errors import ArgumentError
from lticore.internal import to_numpy, warn_precision

from ..layers import StateSpaceLayer
from ..layers.base import Reduce
from ..layers.responses import change_of_response
from ..layers.wrapped import copied
from .report import LayerReport

Model = TypeVar("Model", bound=nn.Module)

#: Rounding below this share of a layer's response is what float32 parameters cost.
_SMALL_ROUNDING = 1e-5


def with_reduced_layers(
    model: Model,
    judged: Mapping[str, Any],
    sizes: Mapping[str, float | None],
    orders: Mapping[str, int],
    reduce: Reduce,
) -> tuple[Model, list[LayerReport]]:
    """A copy of the model in which the layers named in ``orders`` have these, and a report of each
    layer in ``judged``.

    sizes : of the layers' responses, as ``layers.responses.size_of_response`` finds them
    """
    small = _separate_copy(model)
    layers = dict(small.named_modules())
    reports = []
    for name, sys in judged.items():
        layer: Any = layers[name]
        if name in orders:
            reports.append(_reduce_layer(name, layer, sys, sizes[name], orders[name], reduce))
        else:
            flops = layer.flops_per_step()
            kept = LayerReport(
                name=name,
                kind=type(layer).__name__,
                order_before=layer.order,
                order=layer.order,
                error_bound=0.0,
                rounding=0.0,
                singular_values=(),
                flops_before=flops,
                flops=flops,
                size=sizes[name],
            )
            reports.append(kept)
    return small, reports


def _separate_copy(model: Model) -> Model:
    small: Model = copied(model)
    for original, other in zip(model.modules(), small.modules(), strict=True):
        if "forward" in vars(other) and other.forward is original.forward:
            raise ArgumentError(
                f"the forward of a {type(original).__name__} was replaced by a function that "
                "copies share, so that the copy would run the original: compile with "
                "module.compile() or torch.compile(module) instead of its forward"
            )
    return small


def _reduce_layer(
    name: str,
    layer: StateSpaceLayer,
    judged: Any,
    size: float | None,
    order: int,
    reduce: Reduce,
) -> LayerReport:
    flops_before = layer.flops_per_step()
    bound, rounding, response = None, None, 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        taken = layer.reduce_states(order, judged, reduce)
        if taken:
            rounding, response = change_of_response(
                [reduction.system for reduction, _ in taken], [held for _, held in taken]
            )
    if taken:
        bound = _largest([reduction.error_bound for reduction, _ in taken])
        values = _added([reduction.singular_values for reduction, _ in taken])
    else:
        values = judged.singular_values
    messages = [str(x.message) for x in caught]
    if rounding is not None and rounding > max(bound or 0.0, _SMALL_ROUNDING * response):
        messages.append(
            f"diagonalisation and rounding to {layer.D.dtype} changed the reduced layer by "
            f"{rounding / response:.0e} of its response, beyond the error bound: poles next to the "
            "unit circle or to each other are the usual cause"
        )
    for message, count in Counter(messages).items():
        times = f" ({count} channels)" if count > 1 else ""
        warn_precision(f"layer '{name}'{times}: {message}")
    return LayerReport(
        name=name,
        kind=type(layer).__name__,
        order_before=judged.order,
        order=layer.order,
        error_bound=bound,
        rounding=rounding,
        singular_values=tuple(map(float, values)),
        flops_before=flops_before,
        flops=layer.flops_per_step(),
        size=size,
    )


def _largest(bounds: list[Any]) -> float | None:
    if any(x is None for x in bounds):
        return None
    return max(float(to_numpy(x).max()) for x in bounds)


def _added(values: list[Any]) -> np.ndarray:
    """Singular values of the channels, added; none where a method computes none."""
    if any(x is None for x in values):
        return np.zeros(0)
    return np.sum([y for x in values for y in np.atleast_2d(to_numpy(x))], axis=0)
