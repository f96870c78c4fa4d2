"""Bringing a compressed model closer to its original on data, without labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import lticore
from lticore.errors import ArgumentError

from ..layers import QuadraticSSM, SSMLayer, capture
from ..ops.bridge import to_array


def refit(layers: dict[nn.Module, SSMLayer], seen: dict[nn.Module, capture.Seen]) -> None:
    """Outputs C of compressed layers fitted to what the original ones answered to their inputs.

    ``layers`` maps each original layer to its compressed one, ``seen`` to what it saw. Layers with
    quadratic outputs stay as they are. D stays.
    """
    for original, layer in layers.items():
        if isinstance(layer, QuadraticSSM):
            continue
        batches = []
        for u, y, options in zip(*_records(seen[original]), strict=True):
            if options.get("state") is not None:
                raise ArgumentError(
                    "refit= fits outputs of layers that start from rest, but the model gives one a "
                    "state: give whole sequences as calibration, or leave refit= out"
                )
            if options.get("reverse", False):
                u, y = u.flip(-2), y.flip(-2)
            u, y = (x.reshape(-1, *x.shape[-2:]).double() for x in (u, y))
            u, y = (layer.signals_of_channels(x).contiguous() for x in (u, y))
            batches.append((to_array(u), to_array(y)))
        layer.load_lti(lticore.refit_outputs(layer.to_lti(), batches, timing="current").system)


def _records(seen: capture.Seen) -> tuple[list[Any], list[Any], list[Any]]:
    return seen.inputs, seen.outputs, seen.options


@torch.enable_grad()
def fine_tune(
    small: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    target: Tensor,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train a compressed model on its original's outputs: Adam on the mean squared difference.

    In evaluation mode (no dropout, running statistics), on one batch. The parameters of the best
    step are kept, so the difference does not grow.
    """
    parameters = [p for p in small.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    modes = {module: module.training for module in small.modules()}
    small.eval()
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    best, kept = float("inf"), [p.detach().clone() for p in parameters]
    for step in range(steps + 1):
        loss = (small(*arguments) - target).square().mean()
        if loss.item() < best:
            best, kept = loss.item(), [p.detach().clone() for p in parameters]
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
            p.grad = None
    for module, mode in modes.items():
        module.training = mode
