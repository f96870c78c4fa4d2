"""Elementwise parts of a block as single operations: fewer arrays kept and written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional


def half_glu(z: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    """a ∘ sigmoid(W a + b),   a = gelu(z) ∘ mask.

    Parameters
    ----------
    z : (..., h) tensor;  weight : (h, h);  bias : (h,)
    mask : tensor that broadcasts to z, optional: constant factors, such as those of dropout

    Returns
    -------
    (..., h) tensor.

    Cost: two arrays of the size of z are kept for the backward pass, z itself and the gate; gelu(z)
    is computed again. The numbers are those of the composition.

    Differentiability: reverse mode any number of times, vmap, compile(fullgraph); forward mode
    raises.

    >>> z = torch.tensor([0.0, 1.0])
    >>> lt.half_glu(z, torch.zeros(2, 2), torch.zeros(2))  # gelu(z)/2
    tensor([0.0000, 0.4207])
    """
    if torch.is_autocast_enabled(z.device.type):  # which casts single operations
        a = _activated(z, mask)
        return a * torch.sigmoid(functional.linear(a, weight, bias))
    value, _ = _HalfGLU.apply(z, weight, bias, mask)
    return value


def _activated(z: Tensor, mask: Tensor | None) -> Tensor:
    a = functional.gelu(z)
    return a if mask is None else a * mask


class _HalfGLU(Function):
    # With s = sigmoid(W a + b) and g the cotangent of a ∘ s, that of W a + b is
    # d = g ∘ a ∘ s(1 − s), and that of a is g ∘ s + Wᵀ d. The mask is a constant.

    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        a = _activated(z, mask)
        gate = functional.linear(a, weight, bias).sigmoid_()
        return a.mul_(gate), gate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> tuple[Tensor | None, ...]:
        z, weight, bias, mask, gate = ctx.saved_tensors
        a = _activated(z, mask)
        if torch.is_grad_enabled():  # to be differentiated again
            gate = functional.linear(a, weight, bias).sigmoid()
        d = torch.ops.aten.sigmoid_backward(g * a, gate)
        flat_d, flat_a = (x.reshape(-1, x.shape[-1]) for x in (d, a))
        g_a = torch.addmm((g * gate).reshape(flat_d.shape), flat_d, weight).reshape(a.shape)
        g_z = torch.ops.aten.gelu_backward(g_a if mask is None else g_a * mask, z)
        return g_z, flat_d.mT @ flat_a, flat_d.sum(dim=0), None
