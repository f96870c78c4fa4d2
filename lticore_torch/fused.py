"""Elementwise parts of a block as single operations: fewer arrays kept and written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional


def half_glu(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """a ∘ sigmoid(W a + b),   a = gelu(z).

    Parameters
    ----------
    z : (..., h) tensor;  weight : (h, h);  bias : (h,)

    Returns
    -------
    (..., h) tensor.

    Cost: two arrays of the size of z are kept for the backward pass, z itself and the gate; gelu(z)
    is computed again. The numbers are those of the composition.

    Differentiability: reverse mode any number of times, vmap, compile(fullgraph); forward mode
    raises.
    """
    if torch.is_autocast_enabled(z.device.type):  # which casts single operations
        a = functional.gelu(z)
        return a * torch.sigmoid(functional.linear(a, weight, bias))
    value, _ = _HalfGLU.apply(z, weight, bias)
    return value


class _HalfGLU(Function):
    # With s = sigmoid(W a + b) and g the cotangent of a ∘ s, that of W a + b is
    # d = g ∘ a ∘ s(1 − s), and that of a is g ∘ s + Wᵀ d.

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        a = functional.gelu(z)
        gate = functional.linear(a, weight, bias).sigmoid_()
        return a.mul_(gate), gate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> tuple[Tensor, Tensor, Tensor]:
        z, weight, bias, gate = ctx.saved_tensors
        a = functional.gelu(z)
        if torch.is_grad_enabled():  # to be differentiated again
            gate = functional.linear(a, weight, bias).sigmoid()
        d = torch.ops.aten.sigmoid_backward(g * a, gate)
        flat_d, flat_a = (x.reshape(-1, x.shape[-1]) for x in (d, a))
        g_a = torch.addmm((g * gate).reshape(flat_d.shape), flat_d, weight).reshape(a.shape)
        g_z = torch.ops.aten.gelu_backward(g_a, z)
        return g_z, flat_d.mT @ flat_a, flat_d.sum(dim=0)
