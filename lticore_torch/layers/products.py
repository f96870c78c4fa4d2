"""Matrix products that stay in full precision forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def mapped_by(W: Tensor, x: Tensor) -> Tensor:
    """W x, (..., h) → (..., m)."""
    return product(x.reshape(-1, x.shape[-1]), W.mT).reshape(*x.shape[:-1], len(W))


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b for matrices (..., l, m) and (..., m, n); batch axes broadcast.

    Gradients come when autocast, switched off around the forward pass, is on again: always in
    graphs of torch.compile, which run backward as forward was called.
    """
    return _Product.apply(a, b)


class _Product(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            return a @ b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return product(g, b.mT).sum_to_size(a.shape), product(a.mT, g).sum_to_size(b.shape)
