"""Whether a layer and what took its place answer alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..layers import capture
from ..layers.wrapped import copied
from .registry import ConversionError

#: √ε of float32, which several packages carry their states in whatever their dtype: far above what
#: rounding does to a recurrence of few steps, and far below another formula.
TOLERATED = torch.finfo(torch.float32).eps ** 0.5


@torch.no_grad()
def difference(original: nn.Module, converted: nn.Module, inputs: tuple[Any, ...]) -> float:
    """max |y − ŷ| / max |y| in evaluation mode, of copies: some layers keep what they saw. Half
    precision, which not all layers compute in, becomes float32: their values are compared, not
    their rounding.

    Raises
    ------
    ArgumentError
        For modules that cannot be copied.
    ConversionError
        When the original fails.
    """
    if next(converted.parameters()).dtype in (torch.float16, torch.bfloat16):
        wide = copied(original).float(), copied(converted).float()
        return difference(*wide, tuple(_in_float32(x) for x in inputs))
    try:
        y = capture.tensor_of(copied(original).eval()(*inputs))
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, torch.Tensor))
        raise ConversionError(
            f"it fails itself on a random input of shape {shapes} ({error}): check=False converts "
            "it without comparing"
        ) from error
    other = capture.tensor_of(copied(converted).eval()(*inputs))
    if y.shape != other.shape:
        return float("inf")
    change, size = (float(x.abs().max()) for x in (y - other, y))
    return change / size if size > 0 else change


def _in_float32(x: Any) -> Any:
    return x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
