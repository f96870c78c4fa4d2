"""What compression changed, on data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..certificates.certify import certifiable, output_error_bound
from ..layers import capture
from ..layers.batches import Batches
from .losses import Loss


@dataclass(frozen=True)
class Measured:
    """As in :class:`lticore_torch.CompressionReport`."""

    output_change: float
    largest_output_change: float
    output_bound: float | None
    loss_change: float


@torch.no_grad()
def measure(model: Any, small: Any, batches: Batches, loss: Loss, *, certify: bool) -> Measured:
    """Both models on all batches in evaluation mode; ``certify`` where all but the layers is the
    same in both."""
    squares = size = largest = change = 0.0
    sequences = 0
    for batch in batches:
        outputs = [capture.run(x, batch)[0] for x in (model, small)]
        y, z = (capture.tensor_of(x).double() for x in outputs)
        difference = z - y
        squares += float(difference.square().sum())
        size += float(y.square().sum())
        largest = max(largest, float(difference.reshape(len(y), -1).norm(dim=1).max()))
        each = loss.squared_change(outputs[0], outputs[1], batch)
        change += float(each.clamp(min=0).sum())
        sequences += len(each)
    # Refitting changes systems only, which the bound compares as they are.
    full, cut = capture.unwrapped(model), capture.unwrapped(small)
    certify = certify and certifiable(full)
    bound = float(output_error_bound(full, cut, batches).max()) if certify else None
    return Measured(
        output_change=(squares / size) ** 0.5 if size > 0 else squares**0.5,
        largest_output_change=largest,
        output_bound=bound,
        loss_change=(change / max(sequences, 1)) ** 0.5,
    )
