"""Compression of trained models: every state-space layer replaced by a smaller one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from torch import nn

import lticore
from lticore._arrays import namespace, to_numpy
from lticore._check import check_one_given
from lticore.errors import ArgumentError, PrecisionWarning

from .layers import SSMLayer, ssm_layers
from .methods import METHODS, Criteria, choose_orders

Model = TypeVar("Model", bound=nn.Module)

#: Rounding below this share of a layer's response is what float32 parameters cost.
_SMALL_ROUNDING = 1e-5
#: Frequencies of each kind at which rounding is looked for.
_SAMPLES = 16


@dataclass(frozen=True)
class LayerReport:
    """What compression did to one layer.

    name : module name
    order_before, order : stored real states
    error_bound : bound on the h∞ norm of the layer's change, 2 Σ_{i>r} σ_i for balanced truncation;
        None for methods without one
    rounding : largest change of the frequency response by the layer's own form after the reduction
        (diagonalisation, and rounding of the new parameters to their dtype), at frequencies of the
        slowest poles and evenly spread ones; not part of the bound
    singular_values : Hankel singular values before, descending, where the method computes them
    """

    name: str
    order_before: int
    order: int
    error_bound: float | None
    rounding: float
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
    def error_bounds(self) -> list[float | None]:
        """Bound on the h∞ error of each layer, before rounding."""
        return [layer.error_bound for layer in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """The report in built-in types, as JSON takes them."""
        return asdict(self) | {"orders": self.orders, "error_bounds": self.error_bounds}

    def __str__(self) -> str:
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':<{width}}  states          error bound"]
        lines += [
            f"{layer.name:<{width}}  {layer.order_before:>5} → {layer.order:<5}  "
            + ("       none" if layer.error_bound is None else f"{layer.error_bound:>11.3e}")
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
    horizon: int | None = None,
) -> tuple[Model, CompressionReport]:
    """A copy of ``model`` with smaller state-space layers of the same kinds; the original stays.

    Exactly one criterion chooses the orders. They count stored real states (2 per conjugate pair,
    1 per real pole); every layer keeps at least one.

    Parameters
    ----------
    ratio : float in [0, 1)
        Share of all states to remove, spread over the layers as the method does.
    energy : float in (0, 1]
        Share of Σσ that each layer keeps ("balanced", "balanced-complex", "h2", "tlbt", "tlh2").
    orders : one int per layer
    error : float ≥ 0
        Bound on the h∞ error of each layer: smallest r with 2 Σ_{i>r} σ_i ≤ error ("balanced",
        "balanced-complex").
    method : str
        "balanced": balanced truncation of the layer's real input-output map, states spread at one
        common energy level (:func:`lticore.allocate_orders`).
        "balanced-complex": the same for the complex system whose real part the layer is, as the
        authors' code of CompreSSM does; for layers without real poles.
        "h2": lowest h2 error (:func:`lticore.h2_reduction`), states as for "balanced".
        "tlbt", "tlh2": the same two over the first ``horizon`` steps.
        "last", "global", "uniform": modes with the highest h∞ scores, states spread by that rule
        (:func:`lticore.allocate_modal_orders`).
        All come back in rotation form with conjugate pairs folded. D is untouched, so bounds hold
        for the layer, up to the rounding that the report states (a PrecisionWarning when it is not
        small).
    horizon : int ≥ 1
        For "tlbt" and "tlh2", and for these only.

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
    if method not in METHODS:
        raise ArgumentError(f"method={method!r} is not one of {sorted(METHODS)}")
    check_one_given(ratio=ratio, energy=energy, orders=orders, error=error)
    small = copy.deepcopy(model)
    layers = ssm_layers(small)
    if not layers:
        raise ArgumentError(f"{type(model).__name__} contains no state-space layer")
    systems = [layer.to_lti() for layer in layers.values()]
    chosen, criteria = METHODS[method], Criteria(ratio, energy, orders, error, horizon)
    allocated = choose_orders(chosen, systems, criteria)
    reports = [
        _reduce_layer(name, layer, sys, order, partial(chosen.reduce, criteria=criteria))
        for (name, layer), sys, order in zip(layers.items(), systems, allocated, strict=True)
    ]
    return small, CompressionReport(
        method=method,
        layers=tuple(reports),
        parameters_before=_count(model),
        parameters_after=_count(small),
    )


def _reduce_layer(
    name: str,
    layer: SSMLayer,
    sys: lticore.LTI,
    order: int,
    reduce: Callable[[lticore.LTI, int], lticore.Reduction],
) -> LayerReport:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = reduce(sys, order)
        layer.load_lti(reduction.system)
        rounding, size = _change(reduction.system, layer.to_lti())
    bound = None if reduction.error_bound is None else float(reduction.error_bound)
    messages = [str(warning.message) for warning in caught]
    if rounding > max(bound or 0.0, _SMALL_ROUNDING * size):
        messages.append(
            f"diagonalisation and rounding to {layer.D.dtype} changed the reduced layer by "
            f"{rounding / size:.0e} of its response, beyond the error bound: poles next to the "
            "unit circle or to each other are the usual cause"
        )
    for message in messages:
        warnings.warn(f"layer '{name}': {message}", PrecisionWarning, stacklevel=4)
    return LayerReport(
        name=name,
        order_before=sys.order,
        order=layer.order,
        error_bound=bound,
        rounding=rounding,
        singular_values=_floats(reduction.singular_values),
    )


def _change(reduced: lticore.LTI, loaded: lticore.LTI) -> tuple[float, float]:
    """(largest difference of the two responses, largest response) over sampled frequencies."""
    poles = to_numpy(loaded.poles)
    slowest = poles[np.argsort(-np.abs(poles), kind="stable")[:_SAMPLES]]
    omega = np.concatenate([np.angle(slowest), np.linspace(0, np.pi, _SAMPLES)])
    frequencies = namespace(loaded.B).asarray(omega)
    response = to_numpy(lticore.frequency_response(loaded, frequencies))
    difference = response - to_numpy(lticore.frequency_response(reduced, frequencies))
    largest = (np.linalg.norm(x, 2, axis=(-2, -1)).max() for x in (difference, response))
    return float(next(largest)), float(next(largest))


def _floats(values: Any) -> tuple[float, ...]:
    return () if values is None else tuple(float(x) for x in to_numpy(values))


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
