"""Whether a layer and what took its place answer alike."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from lticore.errors import ArgumentError

from ..layers import capture


@torch.no_grad()
def difference(original: nn.Module, converted: nn.Module, inputs: tuple[Any, ...]) -> float:
    """max |y − ŷ| / max |y| in evaluation mode, of copies: some layers keep what they saw.

    Raises
    ------
    ArgumentError
        For modules that cannot be copied.
    """
    y, other = (
        capture.tensor_of(copied(module, {}).eval()(*inputs)) for module in (original, converted)
    )
    if y.shape != other.shape:
        return float("inf")
    change, size = (float(x.abs().max()) for x in (y - other, y))
    return change / size if size > 0 else change


def copied(module: nn.Module, memo: dict[int, Any]) -> Any:
    """A deep copy, in which what ``memo`` knows by its id is what it says.

    Raises
    ------
    ArgumentError
    """
    try:
        return copy.deepcopy(module, memo)
    except RuntimeError as error:
        raise ArgumentError(
            f"{type(module).__name__} cannot be copied ({error}): pruned modules keep tensors that "
            "were computed, so call torch.nn.utils.prune.remove on each of them first"
        ) from error


def tolerated(converted: nn.Module) -> float:
    """√ε of the parameters' precision, at most that of float32, which several packages carry their
    states in: far above what rounding does to a recurrence of few steps, and far below another
    formula."""
    eps = (torch.finfo(x).eps for x in (next(converted.parameters()).dtype, torch.float32))
    return float(max(eps) ** 0.5)
