"""Parameters of a layer as compression replaces them and as processes share them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lticore.errors import ArgumentError

LayerT = TypeVar("LayerT", bound=nn.Module)


def check_plain_parameters(layer: nn.Module) -> None:
    """Refuse a layer of whose parameters some are made of others (weight normalisation, adapters,
    pruning): another order needs new ones, and only the user knows what is to become of those. And
    one whose parameters are sharded over processes.

    Raises
    ------
    ArgumentError
        With the call that leaves a plain parameter of the same values.
    """
    if any(map(_is_sharded, layer.parameters(recurse=False))):
        raise ArgumentError(
            f"the parameters of a {type(layer).__name__} are sharded over processes, and a layer "
            "of another order needs whole ones: load the full state dict "
            "(torch.distributed.checkpoint.state_dict.get_model_state_dict) into a model that is "
            "not sharded"
        )
    for name, call in calls_to_plain(layer).items():
        raise ArgumentError(
            f"{name} of a {type(layer).__name__} is made of other tensors, by a parametrisation or "
            f"by pruning, and a layer of another order needs plain parameters: call {call} first, "
            "which keeps the values, and parametrise or prune the new layer after it"
        )


def calls_to_plain(layer: nn.Module) -> dict[str, str]:
    """By parameter that is made of others: what makes it a parameter again."""
    calls = {
        name: f"torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
        for name in getattr(layer, "parametrizations", ())
    }
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            calls[name] = f"torch.nn.utils.prune.remove(layer, {name!r})"
        elif isinstance(hook, WeightNorm | SpectralNorm):
            kind = "weight" if isinstance(hook, WeightNorm) else "spectral"
            calls[hook.name] = f"torch.nn.utils.remove_{kind}_norm(layer, {hook.name!r})"
    return calls


def gathered(layer: LayerT) -> LayerT:
    """The layer, or where its parameters are sharded over processes one that holds them whole:
    tensors through which gradients reach the shards."""
    if not any(map(_is_sharded, layer.parameters(recurse=False))):
        return layer
    whole = copy.copy(layer)
    whole._parameters = {}
    for name, p in layer.named_parameters(recurse=False):
        whole.__dict__[name] = _whole(p)
    return whole


def _whole(p: Any) -> Tensor:
    return p.full_tensor() if _is_sharded(p) else p


def _is_sharded(p: Tensor) -> bool:
    return hasattr(p, "full_tensor")  # a DTensor, whose module takes long to import


def replace_parameters(layer: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """New parameters of the given values, each like the one of its name."""
    for name, value in values.items():
        old = getattr(layer, name)
        tensor = torch.tensor(value, dtype=old.dtype, device=old.device)
        setattr(layer, name, nn.Parameter(tensor, requires_grad=old.requires_grad))


def resized_like(
    layer: nn.Module,
    state_dict: Mapping[str, Tensor],
    prefix: str,
    shapes_of: Callable[[Mapping[str, torch.Size]], dict[str, tuple[int, ...]]],
) -> None:
    """Give a layer the sizes of a stored one, which compression may have changed.

    Where the stored shapes do not belong together it is left as it is, for torch to name what does
    not fit; and where its parameters are made of others, whose sizes it does not know.
    """
    if calls_to_plain(layer):
        return
    names = list(layer.state_dict())
    found = {name: state_dict.get(prefix + name) for name in names}
    stored = {name: tensor.shape for name, tensor in found.items() if tensor is not None}
    if len(stored) < len(names) or () in stored.values() or stored != shapes_of(stored):
        return
    for name, shape in stored.items():
        old = getattr(layer, name)
        if old.shape != shape:
            new = old.new_empty(shape)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
            setattr(layer, name, new)
