"""What compression changed, on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..certificates.certify import certifiable, output_error_bound
from ..layers import StateSpaceLayer, capture, state_space_layers
from ..layers.batches import Batches
from .losses import Loss
from .sensitivity import calls_of, first_order_changes


@dataclass(frozen=True)
class Measured:
    """As in :class:`lticore_torch.CompressionReport`."""

    output_change: float
    largest_output_change: float
    output_bound: float | None
    loss_change: float
    predicted_loss_change: float | None


@torch.no_grad()
def measure(
    model: Any,
    small: Any,
    batches: Batches,
    loss: Loss,
    *,
    cut: Mapping[str, StateSpaceLayer] | None,
    certify: bool,
) -> Measured:
    """Both models on all batches in evaluation mode.

    cut : layers whose first-order change of the loss is predicted too, if any
    certify : where all but the layers is the same in both models
    """
    squares = size = largest = change = predicted = 0.0
    sequences = 0
    layers = {name: x for name, x in state_space_layers(model).items() if name in (cut or ())}
    for number, batch in enumerate(batches):
        if cut is None:
            output, _ = capture.run(model, batch)
        else:
            output, calls = calls_of(model, layers, number, batch, loss)
            predicted += float(first_order_changes(calls, cut, batch.count).square().sum())
            del calls  # memory of a second model would come beside it
        outputs = [output, capture.run(small, batch)[0]]
        y, z = (capture.tensor_of(x).double() for x in outputs)
        difference = z - y
        squares += float(difference.square().sum())
        size += float(y.square().sum())
        largest = max(largest, float(difference.reshape(len(y), -1).norm(dim=1).max()))
        each = loss.squared_change(outputs[0], outputs[1], batch)
        change += float(each.clamp(min=0).sum())
        sequences += len(each)
    # Refitting changes systems only, which the bound compares as they are.
    both = capture.unwrapped(model), capture.unwrapped(small)
    certify = certify and certifiable(both[0])
    bound = float(output_error_bound(*both, batches).max()) if certify else None
    return Measured(
        output_change=(squares / size) ** 0.5 if size > 0 else squares**0.5,
        largest_output_change=largest,
        output_bound=bound,
        loss_change=(change / max(sequences, 1)) ** 0.5,
        predicted_loss_change=None if cut is None else (predicted / max(sequences, 1)) ** 0.5,
    )
