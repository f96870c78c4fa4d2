"""Sequences through models that go on from the states they have."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..layers import StateSpaceLayer
from ..models.blocks import SequenceBlock, SequenceClassifier
from .plain import PlainLayer

#: (sequences, …) state of each layer by module name, and what else a model carries along.
TensorStates: TypeAlias = dict[str, Tensor]


def child(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


@singledispatch
def passed(module: Any, v: Tensor, states: TensorStates, name: str) -> Tensor:
    """Outputs for the inputs v (sequences, L, …) that follow; the states of ``module``, called
    ``name``, are replaced by those after the last step. What is no layer acts on each step alone.
    """
    return module(v)


def _with_state(module: nn.Module, v: Tensor, states: TensorStates, name: str) -> Tensor:
    y, states[name] = module(v, state=states[name], return_state=True)
    return y


passed.register(StateSpaceLayer, _with_state)
passed.register(PlainLayer, _with_state)


@passed.register
def _(block: SequenceBlock, v: Tensor, states: TensorStates, name: str) -> Tensor:
    return _with_state(block, v, states, child(name, "ssm"))


@passed.register
def _(model: nn.Sequential, v: Tensor, states: TensorStates, name: str) -> Tensor:
    for key, module in model.named_children():
        v = passed(module, v, states, child(name, key))
    return v


@passed.register
def _(model: SequenceClassifier, v: Tensor, states: TensorStates, name: str) -> Tensor:
    """The logits of the sequence so far, after each step."""
    v = model.encoder(v)
    for key, block in model.blocks.named_children():
        v = passed(block, v, states, child(name, f"blocks.{key}"))
    sums = states["sum"][:, None] + v.cumsum(dim=1)
    counts = torch.arange(1, 1 + v.shape[1], device=v.device, dtype=v.dtype)[:, None]
    steps = states["steps"][:, None] + counts
    if v.shape[1]:
        states["sum"], states["steps"] = sums[:, -1], steps[:, -1]
    return model.decoder(sums / steps)
