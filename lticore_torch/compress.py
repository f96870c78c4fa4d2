"""Compression of trained models: every state-space layer replaced by a smaller one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

import lticore
from lticore.errors import ArgumentError
from lticore.reduction.orders import order_for_energy, order_for_error

from .layers import SSMLayer, ssm_layers

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class LayerReport:
    """What compression did to one layer.

    name : module name
    order_before, order : stored real states
    error_bound : bound 2 Σ_{i>r} σ_i on the h∞ norm of the layer's change
    singular_values : Hankel singular values before, descending
    """

    name: str
    order_before: int
    order: int
    error_bound: float
    singular_values: tuple[float, ...]


@dataclass(frozen=True)
class CompressionReport:
    """What compression did to a model; prints as a table."""

    method: str
    layers: tuple[LayerReport, ...]
    parameters_before: int
    parameters_after: int

    @property
    def orders(self) -> list[int]:
        """Stored real states of each layer after compression."""
        return [layer.order for layer in self.layers]

    @property
    def error_bounds(self) -> list[float]:
        """Bound on the h∞ error of each layer."""
        return [layer.error_bound for layer in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """The report in built-in types, as JSON takes them."""
        return asdict(self) | {"orders": self.orders, "error_bounds": self.error_bounds}

    def __str__(self) -> str:
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':<{width}}  states          error bound"]
        lines += [
            f"{layer.name:<{width}}  {layer.order_before:>5} → {layer.order:<5}  "
            f"{layer.error_bound:>11.3e}"
            for layer in self.layers
        ]
        share = 1 - self.parameters_after / self.parameters_before
        lines.append(
            f"{self.method}: {self.parameters_before:,} → {self.parameters_after:,} parameters "
            f"(−{share:.0%})"
        )
        return "\n".join(lines)


def compress(
    model: Model,
    *,
    ratio: float | None = None,
    energy: float | None = None,
    orders: Sequence[int] | None = None,
    error: float | None = None,
    method: str = "balanced",
) -> tuple[Model, CompressionReport]:
    """A copy of ``model`` with smaller state-space layers of the same kinds; the original stays.

    Exactly one criterion chooses the orders. They count stored real states (2 per conjugate pair,
    1 per real pole); every layer keeps at least one.

    Parameters
    ----------
    ratio : float in [0, 1)
        Share of all states to remove, spread over the layers at one common energy level
        (:func:`lticore.allocate_orders`).
    energy : float in (0, 1]
        Share of Σσ that each layer keeps.
    orders : one int per layer
    error : float ≥ 0
        Bound on the h∞ error of each layer: smallest r with 2 Σ_{i>r} σ_i ≤ error.
    method : "balanced"
        Balanced truncation of the layer's real input-output map, back in rotation form with
        conjugate pairs folded. D is untouched, so the bound holds for the layer.

    Returns
    -------
    (model, report) : the copy has the dtype, device and mode of the original, and trains on.

    Cost: one balanced truncation per layer, O(n³).

    Raises
    ------
    ArgumentError
        For a model without state-space layers, an unknown method, or criteria out of range.

    Source: Schwerdtner et al., HSVR, §2.4 and Appendix C.1.
    """
    if method not in _METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(_METHODS)}")
    if sum(x is not None for x in (ratio, energy, orders, error)) != 1:
        raise ArgumentError("give exactly one of ratio=, energy=, orders= and error=")
    small = copy.deepcopy(model)
    layers = ssm_layers(small)
    if not layers:
        raise ArgumentError(f"{type(model).__name__} contains no state-space layer")
    systems = {name: layer.to_lti() for name, layer in layers.items()}
    sigmas = [lticore.hankel_singular_values(sys) for sys in systems.values()]
    reduce = _METHODS[method]
    reports = []
    for (name, layer), order in zip(
        layers.items(), _choose_orders(sigmas, ratio, energy, orders, error), strict=True
    ):
        reports.append(reduce(name, layer, systems[name], order))
    return small, CompressionReport(
        method=method,
        layers=tuple(reports),
        parameters_before=_count(model),
        parameters_after=_count(small),
    )


def _choose_orders(
    sigmas: list[Any],
    ratio: float | None,
    energy: float | None,
    orders: Sequence[int] | None,
    error: float | None,
) -> list[int]:
    if ratio is not None:
        return lticore.allocate_orders(sigmas, ratio=ratio)
    if energy is not None:
        return [order_for_energy(sigma, energy) for sigma in sigmas]
    if error is not None:
        return [order_for_error(sigma, error) for sigma in sigmas]
    assert orders is not None
    if len(orders) != len(sigmas):
        raise ArgumentError(
            f"orders has {len(orders)} entries, but the model has {len(sigmas)} state-space layers"
        )
    return list(orders)


def _reduce_balanced(name: str, layer: SSMLayer, sys: lticore.LTI, order: int) -> LayerReport:
    reduction = lticore.balanced_truncation(sys, order=order)
    layer.load_lti(reduction.system)
    return LayerReport(
        name=name,
        order_before=sys.order,
        order=layer.order,
        error_bound=float(reduction.error_bound),
        singular_values=tuple(float(x) for x in np.asarray(reduction.singular_values)),
    )


_METHODS = {"balanced": _reduce_balanced}


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
