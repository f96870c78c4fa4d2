"""State-space layers: linear time-invariant systems with trainable parameters."""

from .base import SSMLayer, ssm_layers
from .rotation import RotationSSM

#: Layer kinds by the name used in configurations.
LAYERS = {"rotation": RotationSSM}

__all__ = ["LAYERS", "RotationSSM", "SSMLayer", "ssm_layers"]
