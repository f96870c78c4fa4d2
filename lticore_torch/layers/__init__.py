"""State-space layers with trainable parameters: time-invariant and selective ones."""

from __future__ import annotations

from typing import Any

from torch import nn

from .base import SSMLayer, ssm_layers
from .bidirectional import Bidirectional
from .lru import LRU
from .quadratic import QuadraticSSM
from .rotation import RotationSSM
from .s4d import S4D
from .s5 import S5
from .selective import SelectiveSSM

#: Layer kinds by the name used in configurations.
LAYERS = {
    "rotation": RotationSSM,
    "lru": LRU,
    "s5": S5,
    "s4d": S4D,
    "quadratic": QuadraticSSM,
    "selective": SelectiveSSM,
}


def state_space_layers(model: nn.Module) -> dict[str, Any]:
    """The time-invariant and selective layers inside ``model``, by module name, in order."""
    kinds = (SSMLayer, SelectiveSSM)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


__all__ = [
    "LAYERS",
    "LRU",
    "S4D",
    "S5",
    "Bidirectional",
    "QuadraticSSM",
    "RotationSSM",
    "SSMLayer",
    "SelectiveSSM",
    "ssm_layers",
    "state_space_layers",
]
