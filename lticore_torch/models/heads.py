"""Heads of models: from means over time to logits."""

from __future__ import annotations

from typing import Any

from torch import nn


def pair_head(features: int, classes: int, **made: Any) -> nn.Sequential:
    """Logits W_3 relu(W_2 relu(W_1 [z_1, z_2] + b_1) + b_2) + b_3 of the means of two documents.

    Shapes: (batch, 2h) → (batch, classes); the hidden widths are h and max(⌊h/2⌋, 1).
    ``device`` and ``dtype`` as for nn.Linear.
    Source: the authors' code of Chahine et al., CompreSSM.
    """
    half = max(features // 2, 1)
    return nn.Sequential(
        nn.Linear(2 * features, features, **made),
        nn.ReLU(),
        nn.Linear(features, half, **made),
        nn.ReLU(),
        nn.Linear(half, classes, **made),
    )
