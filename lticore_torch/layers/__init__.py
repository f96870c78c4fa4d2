"""State-space layers with trainable parameters: time-invariant and selective ones."""

from __future__ import annotations

from torch import nn

from lticore.errors import ArgumentError

from .base import SSMLayer, StateSpaceLayer, ssm_layers
from .bidirectional import Bidirectional
from .lru import LRU
from .quadratic import QuadraticSSM
from .rotation import RotationSSM
from .s4d import S4D
from .s5 import S5
from .selective import SelectiveSSM
from .wrapped import check_own_parameters

#: Layer kinds by the name used in configurations.
LAYERS = {
    "rotation": RotationSSM,
    "lru": LRU,
    "s5": S5,
    "s4d": S4D,
    "quadratic": QuadraticSSM,
    "selective": SelectiveSSM,
}


def state_space_layers(model: nn.Module) -> dict[str, StateSpaceLayer]:
    """The time-invariant and selective layers inside ``model``, by module name, in order."""
    found = model.named_modules()
    return {name: module for name, module in found if isinstance(module, StateSpaceLayer)}


def time_invariant_layers(model: nn.Module) -> dict[str, SSMLayer]:
    """:func:`ssm_layers`, one at least.

    Raises
    ------
    ArgumentError
        That says what there is instead; for layers whose parameters are not their own.
    """
    check_own_parameters(model)
    layers = ssm_layers(model)
    if not layers:
        raise ArgumentError(
            f"{type(model).__name__} contains no time-invariant state-space layer, only "
            f"{kinds_inside(model)}; those of lticore_torch are {', '.join(_time_invariant())}"
        )
    return layers


def kinds_inside(model: nn.Module) -> str:
    """Names of the classes of the innermost modules, and of state-space layers."""
    found = {
        type(module).__name__
        for module in model.modules()
        if isinstance(module, StateSpaceLayer) or not any(module.children())
    }
    return ", ".join(sorted(found))


def _time_invariant() -> list[str]:
    return [kind.__name__ for kind in LAYERS.values() if issubclass(kind, SSMLayer)]


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
    "StateSpaceLayer",
    "kinds_inside",
    "ssm_layers",
    "state_space_layers",
    "time_invariant_layers",
]
