"""Whether a layer and what took its place answer alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import capture


@torch.no_grad()
def difference(original: nn.Module, converted: nn.Module, u: Tensor) -> float:
    """max |y − ŷ| / max |y| in evaluation mode; the modules' modes come back."""
    answers = []
    for module in (original, converted):
        with capture.evaluating(module):
            answers.append(capture.tensor_of(module(u)))
    y, other = answers
    if y.shape != other.shape:
        return float("inf")
    change, size = (float(x.abs().max()) for x in (y - other, y))
    return change / size if size > 0 else change


def tolerated(converted: nn.Module) -> float:
    """√ε of the parameters' precision: far above what rounding does to a recurrence of few steps,
    and far below another formula."""
    return float(torch.finfo(next(converted.parameters()).dtype).eps ** 0.5)
