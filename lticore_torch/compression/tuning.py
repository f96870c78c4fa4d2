"""Bringing a compressed model closer to its original on data, without labels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import lticore
from lticore.errors import ArgumentError

from ..layers import QuadraticSSM, SSMLayer, StateSpaceLayer, capture
from ..layers.batches import Batch, Batches
from ..ops.bridge import to_array
from .losses import Loss
from .sensitivity import calls_of

#: Every so many batches, or sequences where batches are few, one is for choosing.
HELD_OUT = 4
#: How often the held-out part is looked at.
_LOOKS = 8
#: Share of the steps in which the learning rate rises.
_WARMUP = 0.1


def refit(
    model: nn.Module,
    small: nn.Module,
    layers: Sequence[tuple[StateSpaceLayer, StateSpaceLayer]],
    batches: Batches,
    loss: Loss,
    *,
    weighted: bool,
) -> None:
    """Outputs C and D of compressed layers fitted to what the original ones answered.

    ``layers`` are pairs of an original layer and its compressed one. One after the other, in the
    order in which they are called: inputs are those in the model as far as it is reduced and
    fitted, targets the outputs in the original; every fourth sequence, where there are as many,
    chooses a ridge. Where ``weighted``, steps count by the size of the loss's gradient there. D
    takes over what fast modes that were cut answered at once.

    A fit that the loss likes less than what was there, on every fourth batch (of fewer than four on
    every fourth sequence), is given up: least squares see every step by itself, where errors may
    add up over the steps. Layers with quadratic outputs and selective ones stay as they are.
    """
    changed: dict[nn.Module, StateSpaceLayer] = dict(layers)
    _, seen = capture.run(model, next(iter(batches)), changed)
    held_out = 1 / HELD_OUT if sum(batch.count for batch in batches) >= HELD_OUT else 0.0
    left = _held_out(batches, lambda batch: _changes(small, model, batch, loss))
    for original in seen:
        layer = changed[original]
        if isinstance(layer, SSMLayer) and not isinstance(layer, QuadraticSSM):
            answers = _answers(model, small, (original, layer), batches, loss if weighted else None)
            found = lticore.refit_outputs(
                layer.to_lti(), answers, feedthrough="diagonal", timing="current", held_out=held_out
            )
            before = copy.deepcopy(layer.state_dict())
            layer.load_lti(found.system)
            now = _held_out(batches, lambda batch: _changes(small, model, batch, loss))
            if now < left:
                left = now
            else:
                layer.load_state_dict(before)


def _changes(small: nn.Module, model: nn.Module, batch: Batch, loss: Loss) -> Tensor:
    before, after = (capture.run(m, batch)[0] for m in (model, small))
    return loss.squared_change(before, after, batch)


def _answers(
    model: nn.Module,
    small: nn.Module,
    pair: tuple[Any, SSMLayer],
    batches: Batches,
    loss: Loss | None,
) -> Iterator[tuple[Any, ...]]:
    """(inputs of the compressed layer, outputs of the original one, weights), batch by batch."""
    original, layer = pair
    for number, batch in enumerate(batches):
        given = capture.run(small, batch, [layer])[1][layer]
        signals = [given.inputs]
        if loss is None:
            signals.append(capture.run(model, batch, [original])[1][original].outputs)
        else:
            _, calls = calls_of(model, {"": original}, number, batch, loss)
            signals += [[call.y for call in calls], [call.cotangent for call in calls]]
        for *parts, options in zip(*signals, given.options, strict=True):
            if options.get("state") is not None:
                raise ArgumentError(
                    "refit= fits outputs of layers that start from rest, but the model gives one a "
                    "state: give whole sequences as calibration, or leave refit= out"
                )
            if options.get("reverse", False):
                parts = [x.flip(-2) for x in parts]
            parts = [x.reshape(-1, *x.shape[-2:]).double() for x in parts]
            u, y, *g = (layer.signals_of_channels(x).contiguous() for x in parts)
            yield (to_array(u), to_array(y), *(to_array(x.norm(dim=-1)) for x in g))


@torch.enable_grad()
def distil(
    small: nn.Module,
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train a compressed model on its original's outputs.

    Adam, one batch a step and again from the first, on the Kullback–Leibler divergence of the
    original's softmax where the loss is cross-entropy, else on the mean squared difference; the
    rate rises over the first tenth of the steps and falls to zero as a cosine. In evaluation mode:
    no dropout, running statistics as they are. Every fourth batch, of fewer than four every fourth
    sequence, is held out, and the parameters that did best there are kept, so that the difference
    does not grow on it.
    """
    parameters = [p for p in small.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _rate(k, steps))
    count = batches.number
    distance = _divergence if loss.kind == "cross-entropy" else _squares
    best, kept = math.inf, [p.detach().clone() for p in parameters]
    stream = _cycle(batches)
    looks = {round(k * steps / _LOOKS) for k in range(_LOOKS + 1)}
    with capture.evaluating(small), capture.evaluating(model):
        for step in range(steps + 1):
            if step in looks:
                left = _held_out(batches, lambda x: _distances(small, model, x, distance))
                if left < best:
                    best, kept = left, [p.detach().clone() for p in parameters]
            if step == steps:
                break
            _, batch = next(x for x in stream if not _whole_held_out(x[0], count))
            each = _distances(small, model, batch, distance)
            rows = _rows_held_out(each)
            each = each[~rows] if count < HELD_OUT and not bool(rows.all()) else each
            optimizer.zero_grad()
            each.mean().backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for p, value in zip(parameters, kept, strict=True):
            p.copy_(value)
            p.grad = None


def _rate(step: int, steps: int) -> float:
    rising = max(_WARMUP * steps, 1)
    if step < rising:
        return (step + 1) / rising if rising > 1 else 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def _cycle(batches: Batches) -> Iterator[tuple[int, Batch]]:
    while True:
        yield from enumerate(batches)


def _whole_held_out(number: int, count: int) -> bool:
    return count >= HELD_OUT and number % HELD_OUT == HELD_OUT - 1


def _rows_held_out(each: Tensor) -> Tensor:
    rows = torch.arange(len(each), device=each.device) % HELD_OUT == HELD_OUT - 1
    # Of a few sequences none can be spared.
    return rows if bool(rows.any()) else ~rows


@torch.no_grad()
def _held_out(batches: Batches, distances: Callable[[Batch], Tensor]) -> float:
    """Mean over the sequences held out of their distances."""
    count = batches.number
    total, rows = 0.0, 0
    for number, batch in enumerate(batches):
        if count >= HELD_OUT and not _whole_held_out(number, count):
            continue
        each = distances(batch)
        each = each if count >= HELD_OUT else each[_rows_held_out(each)]
        total, rows = total + float(each.double().sum()), rows + len(each)
    return total / max(rows, 1)


def _distances(small: nn.Module, model: nn.Module, batch: Batch, distance: Any) -> Tensor:
    with torch.no_grad():
        target = capture.tensor_of(model(*batch.inputs, **batch.keywords))
    return distance(capture.tensor_of(small(*batch.inputs, **batch.keywords)), target)


def _divergence(y: Tensor, target: Tensor) -> Tensor:
    """Kullback–Leibler, (batch,), mean over what lies between batch and classes."""
    logs, wanted = (functional.log_softmax(x, dim=-1) for x in (y, target))
    each = functional.kl_div(logs, wanted, log_target=True, reduction="none").sum(dim=-1)
    return each.reshape(len(y), -1).mean(dim=1)


def _squares(y: Tensor, target: Tensor) -> Tensor:
    return (y - target).square().reshape(len(y), -1).mean(dim=1)
