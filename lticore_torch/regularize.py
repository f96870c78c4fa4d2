"""Penalties on the Hankel singular values of a model's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError
from lticore.spectral import SpectralLike, as_spectral_function

from .functions import spectral_sum
from .layers import ssm_layers


def hankel_sum(module: nn.Module, function: SpectralLike = "nuclear") -> Tensor:
    """Σ over all state-space layers of Σ_i φ(σ_i), differentiable in their parameters.

    Layers of one shape are computed in one batched call. The result has the dtype of the layers'
    parameters (computed in float64).

    Raises
    ------
    ArgumentError
        When the module has no state-space layer.

    Source: Schwerdtner et al., HSVR, eq. (11).
    """
    groups: dict[tuple, list[tuple[Tensor, ...]]] = {}
    for layer in ssm_layers(module).values():
        structure, parameters, B, C = layer.system_tensors()
        tensors = (B, C, *parameters)
        key = (structure, *((x.shape, x.dtype, x.device) for x in tensors))
        groups.setdefault(key, []).append(tensors)
    if not groups:
        raise ArgumentError(f"{type(module).__name__} contains no state-space layer")
    total = []
    for (structure, *_), members in groups.items():
        B, C, *stacked = (torch.stack(x) for x in zip(*members, strict=True))
        total.append(spectral_sum(structure, tuple(stacked), B, C, function).sum())
    return torch.stack(total).sum()


class HankelRegularizer:
    """``regularizer(model)`` = weight · :func:`hankel_sum`, to be added to the training loss.

    With weight 0, and for models in evaluation mode, it is a constant zero and computes nothing.

    Parameters
    ----------
    weight : float ≥ 0
    function : "nuclear" (the paper), "log", ``lticore.schatten(p)``, ``lticore.tail(r)``, or a
        pair (φ, φ')
    """

    def __init__(self, weight: float, function: SpectralLike = "nuclear") -> None:
        if not 0 <= weight < float("inf"):
            raise ArgumentError(f"weight must be a finite number ≥ 0, but is {weight!r}")
        self.weight = weight
        self.function = as_spectral_function(function)

    def __call__(self, model: nn.Module) -> Tensor:
        if self.weight == 0 or not model.training:
            like = next(iter(model.parameters()), torch.zeros(()))
            return like.new_zeros(())
        return self.weight * hankel_sum(model, self.function)

    def __repr__(self) -> str:
        return f"HankelRegularizer({self.weight}, {self.function.name!r})"
