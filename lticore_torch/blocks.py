"""Deep models around state-space layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError

from .layers import LAYERS, SSMLayer


@dataclass(frozen=True)
class SequenceClassifierConfig:
    """Shape of a :class:`SequenceClassifier`.

    inputs : channels of the sequence
    classes : number of labels
    features : width h of the blocks
    order : stored real states n of each layer
    depth : number of blocks
    layer : kind of state-space layer, by name
    dropout : probability, after each block's nonlinearity
    """

    inputs: int
    classes: int
    features: int
    order: int
    depth: int
    layer: str = "rotation"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("inputs", "classes", "features", "order", "depth"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"dropout must lie in [0, 1), but is {self.dropout}")
        if self.layer not in LAYERS:
            raise ArgumentError(f"layer={self.layer!r} is not one of {sorted(LAYERS)}")


class SequenceBlock(nn.Module):
    """v + dropout(a ∘ sigmoid(W a)),  a = gelu(ssm(norm(v))).

    Batch normalisation over batch and time, half-gated linear unit; (batch, L, h) → the same.
    Source: Schwerdtner et al., HSVR, Appendix B; Smith et al., S5.
    """

    def __init__(self, ssm: SSMLayer, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(ssm.features)
        self.ssm = ssm
        self.gate = nn.Linear(ssm.features, ssm.features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, v: Tensor) -> Tensor:
        normed = self.norm(v.flatten(0, -2)).reshape(v.shape)
        a = functional.gelu(self.ssm(normed))
        return v + self.dropout(a * torch.sigmoid(self.gate(a)))


class SequenceClassifier(nn.Module):
    """Linear encoder, blocks, mean over time, linear decoder: (batch, L, inputs) → logits."""

    def __init__(self, config: SequenceClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layer = LAYERS[config.layer]
        self.encoder = nn.Linear(config.inputs, config.features)
        self.blocks = nn.Sequential(
            *(
                SequenceBlock(layer(config.features, config.order), dropout=config.dropout)
                for _ in range(config.depth)
            )
        )
        self.decoder = nn.Linear(config.features, config.classes)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.decoder(self.blocks(self.encoder(sequences)).mean(dim=-2))
