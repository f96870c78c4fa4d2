"""Continuous-time pairs of poles, sampled with learned step sizes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .base import SMALLEST_GAP


def sampled_zoh(decay: Tensor, frequency: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ρ, α, s) of  λ = −decay − i frequency  held over each step Δ.

        ρ e^{−iα} = e^{λΔ},   s = (e^{λΔ} − 1)/λ

    All float64, decay and step positive; s keeps its digits for small λΔ.
    Source: Smith et al., S5, eq. (6).
    """
    x = (decay * step).clamp(min=SMALLEST_GAP)
    angle = frequency * step
    radius = torch.exp(-x)
    # e^{−x−iα} − 1 without cancellation.
    real = torch.expm1(-x) * torch.cos(angle) - 2 * torch.sin(angle / 2) ** 2
    held = torch.complex(real, -radius * torch.sin(angle))
    return radius, angle, held / torch.complex(-decay, -frequency)


def sampled_bilinear(
    decay: Tensor, frequency: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(ρ, α, s) of  λ = −decay − i frequency  by the bilinear rule of S5, which leaves C alone.

        ρ e^{−iα} = (1 + λΔ/2)/(1 − λΔ/2),   s = Δ/(1 − λΔ/2)

    Source: Smith et al., S5, Appendix; unlike Tustin's rule of `lticore.discretize`.
    """
    x, y = decay * step / 2, frequency * step / 2
    # |1 + z|² = |1 − z|² − 4x with z = −x − iy.
    size = (1 + x) ** 2 + y**2
    radius = torch.sqrt((1 - (4 * x / size).clamp(min=2 * SMALLEST_GAP)).clamp(min=0))
    angle = torch.atan2(2 * y, 1 - x**2 - y**2)
    return radius, angle, step / torch.complex(1 + x, y)


#: Rules of sampling by name.
RULES = {"zoh": sampled_zoh, "bilinear": sampled_bilinear}


def continuous(
    rule: str, radius: np.ndarray, angle: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(decay, frequency) that a rule samples to ρ e^{−iα}, for 0 < ρ < 1 and 0 ≤ α ≤ π."""
    radius = np.maximum(radius, np.finfo(float).tiny)
    if rule == "zoh":
        return -np.log(radius) / step, angle / step
    # z/2 = (λ − 1)/(λ + 1) with λ = ρ e^{−iα}, over |λ + 1|².
    size = 1 + 2 * radius * np.cos(angle) + radius**2
    size = np.maximum(size, np.finfo(float).eps)
    decay = (1 - radius) * (1 + radius) / size
    return 2 * decay / step, 4 * radius * np.sin(angle) / size / step
