"""What a model's layers look like before any state is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..layers import StateSpaceLayer
from .losses import Loss
from .methods import Method, orders_by_loss

#: √(2 KL) that nobody sees: two softmax outputs that differ by 0.005 nats.
_UNSEEN_DIVERGENCE = 0.1
#: Share of an output, or of a loss, that nobody sees.
_UNSEEN_SHARE = 0.01


@dataclass(frozen=True)
class LayerOutlook:
    """One layer of a :class:`CompressionPlan`.

    name : module name
    kind : class of the layer
    order : stored real states (S4D and selective layers: of each channel)
    singular_values : what states are judged by, descending, added over channels; by method "data"
        in units of the loss; empty for modal methods
    size : its h∞ norm, from below (:attr:`LayerReport.size`)
    flops, parameters : of the layer as it is
    order_99, order_999 : states that hold 99 % and 99.9 % of Σσ, by method "data" of Σσ²
    order_unseen : by method "data", states without which the loss of all layers' cuts together
        changes by less than 0.1 in √(2 KL), or by 1 % of the output or the user's loss

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> outlook = lt.analyze(layer).layers[0]
    >>> outlook.kind, outlook.order, np.round(outlook.singular_values, 4)
    ('RotationSSM', 2, array([3., 1.]))
    """

    name: str
    kind: str
    order: int
    singular_values: tuple[float, ...]
    size: float | None
    flops: int
    parameters: int
    order_99: int | None
    order_999: int | None
    order_unseen: int | None


def outlooks(
    layers: Mapping[str, StateSpaceLayer],
    measured: Mapping[str, Any],
    sizes: Mapping[str, float | None],
    method: Method,
    unseen: float | None,
) -> tuple[LayerOutlook, ...]:
    """``unseen`` is the change of the loss that is not seen; None where σ is in other units."""
    sigmas = {name: method.values_of_states(x) for name, x in measured.items()}
    orders = None if unseen is None else _orders_unseen(list(sigmas.values()), unseen)
    found = []
    for i, (name, layer) in enumerate(layers.items()):
        shares = sigmas[name] ** (2 if method.on_data else 1)
        found.append(
            LayerOutlook(
                name=name,
                kind=type(layer).__name__,
                order=layer.order,
                singular_values=tuple(map(float, sigmas[name])),
                size=sizes[name],
                flops=layer.flops_per_step(),
                parameters=count_parameters(layer),
                order_99=_order_for_share(shares, 0.99),
                order_999=_order_for_share(shares, 0.999),
                order_unseen=None if orders is None else orders[i],
            )
        )
    return tuple(found)


def unseen_change(loss: Loss, size: float) -> float:
    """Change of the loss, root mean square over the sequences, that nobody sees; ``size`` is that
    of :meth:`Loss.squared_size`."""
    return _UNSEEN_DIVERGENCE if loss.kind == "cross-entropy" else _UNSEEN_SHARE * size


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def resized(layer: StateSpaceLayer, order: int) -> StateSpaceLayer:
    """A new layer of this form with so many states, pairs where it can."""
    options = layer.options()
    if "real_poles" in options:
        options["real_poles"] = order % 2
    with torch.random.fork_rng():
        return type(layer)(layer.features, order, **options)


def _orders_unseen(sigmas: list[np.ndarray], unseen: float) -> list[int]:
    every = np.concatenate(sigmas)
    whole = float(every @ every)
    energy = max(1 - unseen**2 / whole, np.finfo(float).tiny) if whole > 0 else 1.0
    return orders_by_loss(sigmas, energy=energy)


def _order_for_share(shares: np.ndarray, wanted: float) -> int | None:
    if not len(shares):
        return None
    held = np.cumsum(shares)
    return 1 + int(np.argmax(held >= wanted * held[-1]))


def outlook_table(layers: Sequence[LayerOutlook]) -> list[str]:
    """The layers as lines of text."""
    width = max(len("layer"), *(len(x.name) for x in layers))
    kinds = max(len("kind"), *(len(x.kind) for x in layers))
    head = f"{'layer':<{width}}  {'kind':<{kinds}}  states    99 %  99.9 %"
    unseen = any(x.order_unseen is not None for x in layers)
    lines = [head + ("  unseen" if unseen else "")]
    for x in layers:
        columns = [x.order_99, x.order_999] + ([x.order_unseen] if unseen else [])
        shown = "".join(f"{'–' if c is None else c:>8}" for c in columns)
        lines.append(f"{x.name:<{width}}  {x.kind:<{kinds}}  {x.order:>6}{shown}")
    return lines
