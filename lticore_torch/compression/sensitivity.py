"""What the inputs of layers excite on data, and what the loss notices of their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError

from ..layers import StateSpaceLayer, capture
from ..layers.batches import Batch, Batches
from ..layers.wrapped import check_not_quantised
from .losses import Loss


@dataclass
class Call:
    """One call of a layer: its input and output, its keyword arguments, and the cotangent of the
    output."""

    name: str
    u: Tensor
    y: Tensor
    options: dict[str, Any]
    cotangent: Tensor

    @property
    def in_time(self) -> tuple[Tensor, Tensor]:
        """Input and cotangent as the recurrence meets them."""
        return in_time(self.u, self.cotangent, self.options)


@dataclass
class Sums:
    """P and Q so far, of one layer; whether any cotangent was not zero."""

    P: Any = 0.0
    Q: Any = 0.0
    noticed: bool = False

    def add(self, pair: tuple[Any, Any], cotangent: Tensor) -> None:
        self.P, self.Q = self.P + pair[0], self.Q + pair[1]
        self.noticed = self.noticed or bool(cotangent.any())


def gramians_on_data(
    model: nn.Module, layers: Mapping[str, StateSpaceLayer], batches: Batches, loss: Loss
) -> tuple[dict[str, Any], float]:
    """By layer name, what :meth:`StateSpaceLayer.judged_by` makes of its Gramians over all batches,
    and the root mean square of :meth:`Loss.squared_size`.

        P = mean Σ_k x_k x_kᴴ,   Q = mean Σ_k λ_k λ_kᴴ,   g_k = ∂ℓ/∂y_k        over the sequences

    The model runs in evaluation mode; parameters get no gradients.

    Raises
    ------
    ArgumentError
        Where gradients do not reach a layer, or are all zero; for quantised modules.
    """
    check_not_quantised(
        model, "and no gradient passes it: compress the model as it was, and quantise the result"
    )
    sums, squares, count = {name: Sums() for name in layers}, 0.0, 0
    for number, batch in enumerate(batches):
        output, calls = calls_of(model, layers, number, batch, loss)
        for call in calls:
            sums[call.name].add(layers[call.name].sums_on(*call.in_time), call.cotangent)
        with torch.no_grad():
            squares += float(loss.squared_size(output, batch).sum())
        count += batch.count
    for name, one in sums.items():
        if not one.noticed:
            raise ArgumentError(
                f"layer '{name}': the loss does not change with its output on the calibration data"
            )
    judged = {name: layers[name].judged_by(x.P / count, x.Q / count) for name, x in sums.items()}
    return judged, (squares / max(count, 1)) ** 0.5


@torch.no_grad()
def first_order_changes(
    calls: list[Call], changed: Mapping[str, StateSpaceLayer], count: int
) -> Tensor:
    """(count,) Σ_layers Σ_k g_kᵀ (ŷ_k − y_k) of each sequence, ŷ the outputs of the ``changed``
    layers under the inputs of the original ones."""
    by_sequence = torch.zeros(count, dtype=torch.float64)
    for call in calls:
        z = capture.without_state(changed[call.name](call.u, **call.options))
        products = call.cotangent.double() * (z.double() - call.y.double())
        by_sequence += products.reshape(count, -1).sum(dim=1).cpu()
    return by_sequence


@torch.enable_grad()
def calls_of(
    model: nn.Module,
    layers: Mapping[str, StateSpaceLayer],
    number: int,
    batch: Batch,
    loss: Loss,
) -> tuple[Any, list[Call]]:
    """The model's output on a batch, and every call of the layers meanwhile, with ∂ℓ/∂y for the
    loss of each sequence."""
    names: dict[nn.Module, str] = {layer: name for name, layer in layers.items()}
    calls: list[Call] = []

    def tap(module: nn.Module, u: Tensor, y: Tensor, options: dict[str, Any]) -> Tensor:
        check_rest(options)
        # What is added to the output has the cotangent of the output, and is a leaf.
        added = torch.zeros_like(y, requires_grad=True)
        calls.append(Call(names[module], u.detach(), y.detach(), options, added))
        return y + added

    with capture.evaluating(model), capture.frozen(model), capture.watching(layers.values(), tap):
        output = model(*batch.inputs, **batch.keywords)
    capture.check_called(layers.values(), {layers[call.name] for call in calls})
    losses = loss.along(output, number)(output, batch)
    for call, g in zip(calls, _cotangents_of_calls(losses.sum(), calls), strict=True):
        call.cotangent = g
    return output, calls


def in_time(u: Tensor, g: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Input and cotangent of a call as the recurrence meets them."""
    return (u.flip(-2), g.flip(-2)) if options.get("reverse", False) else (u, g)


def check_rest(options: dict[str, Any]) -> None:
    """Refuse a call that gives the layer a state."""
    if options.get("state") is not None:
        raise ArgumentError(
            "Gramians from data are of sequences that start from rest, but the model gives a layer "
            "a state: give whole sequences"
        )


def _cotangents_of_calls(loss: Tensor, calls: list[Call]) -> list[Tensor]:
    if not loss.requires_grad:
        raise ArgumentError(
            "the loss does not depend on any layer through which gradients pass: the model runs "
            "under torch.no_grad() inside, is compiled or exported, or detaches what it computes"
        )
    found = torch.autograd.grad(loss, [call.cotangent for call in calls], allow_unused=True)
    for call, g in zip(calls, found, strict=True):
        if g is None:
            raise ArgumentError(
                f"layer '{call.name}': the loss does not depend on its output, or no gradient "
                "reaches it (torch.no_grad() or detach() on the way)"
            )
        if not bool(torch.isfinite(g).all()):
            raise ArgumentError(
                f"layer '{call.name}': the gradient of the loss has NaN or infinity"
            )
    return list(found)
