"""Modules as other tools leave them: with computed attributes, inside adapters, quantised."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from lticore.errors import ArgumentError

from .base import StateSpaceLayer

#: Where torch.ao has its quantised modules, which know no gradients and compute in float32.
_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy, in which what ``memo`` knows by its id is what it says.

    Attributes that were computed, as pruning and the old weight norm leave and as hooks compute
    anew at the next call, cannot be copied with their graphs, and are copied as values.

    Raises
    ------
    ArgumentError
        For modules that keep such tensors elsewhere.
    """
    memo = {} if memo is None else memo
    for part in module.modules():
        for x in vars(part).values():
            if isinstance(x, Tensor) and not x.is_leaf:
                memo.setdefault(id(x), x.detach().clone())
    try:
        return copy.deepcopy(module, memo)
    except RuntimeError as error:
        raise ArgumentError(f"{type(module).__name__} cannot be copied: {error}") from error


def check_own_parameters(model: nn.Module) -> None:
    """Refuse models with a layer to whose parameters an adapter adds its own while it runs, and
    those that keep them in one flat tensor: what is asked of the layer would be answered without.

    Raises
    ------
    ArgumentError
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise ArgumentError(
                f"'{name or 'the model'}', a FullyShardedDataParallel, leaves no layer its "
                "parameters: shard the model by torch.distributed.fsdp.fully_shard, which a "
                "penalty can look through"
            )
        if isinstance(module._modules.get("base_layer"), StateSpaceLayer):
            raise ArgumentError(
                f"'{name or 'the model'}', a {type(module).__name__}, adapts parameters of a "
                f"{type(module.base_layer).__name__}: merge the adapter first "
                "(merge_and_unload() of PEFT), or let it adapt other modules"
            )


def is_quantised(module: nn.Module) -> bool:
    """Whether torch.ao has made it."""
    return type(module).__module__.startswith(_QUANTISED)


def check_not_quantised(model: nn.Module, why: str) -> None:
    """
    Raises
    ------
    ArgumentError
    """
    for name, module in model.named_modules():
        if is_quantised(module):
            raise ArgumentError(
                f"'{name or 'the model'}', a {type(module).__name__} of "
                f"{type(module).__module__}, is quantised, {why}"
            )
