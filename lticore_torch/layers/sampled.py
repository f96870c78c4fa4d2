"""Continuous-time pairs of poles, sampled with learned step sizes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lticore.errors import ArgumentError

from .base import SMALLEST_GAP


def sampled_zoh(decay: Tensor, frequency: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ρ, α, s) of  λ = −decay − i frequency  held over each step Δ.

        ρ e^{−iα} = e^{λΔ},   s = (e^{λΔ} − 1)/λ

    All float64, decay and step positive; s and its slopes keep their digits for small λΔ.
    Source: Smith et al., S5, eq. (6).
    """
    x = (decay * step).clamp(min=SMALLEST_GAP)
    angle = frequency * step
    # As written, s subtracts numbers that are nearly equal where λΔ is small, and its slope
    # (Δ e^{λΔ} − s)/λ does so whatever computes e^{λΔ} − 1. There  s = Δ e^w sinh(w)/w,  w = λΔ/2.
    near = x**2 + angle**2 < 1
    exponent, rate = torch.complex(-x, -angle), torch.complex(-decay, -frequency)
    w = exponent.masked_fill(~near, 0) / 2  # where the series overflows, its slopes would be NaN
    held = torch.where(
        near,
        step * torch.exp(w) * _sinh_quotient(w * w),
        (torch.exp(exponent) - 1) / rate.masked_fill(near, 1),
    )
    return torch.exp(-x), angle, held


def _sinh_quotient(square: Tensor) -> Tensor:
    """sinh(w)/w of w² for |w| ≤ ½, by the series Σ w^{2k}/(2k + 1)!, of which 4e-20 is left out."""
    terms = [1 / math.factorial(2 * k + 1) for k in range(8)]
    value = terms[-1] * square + terms[-2]
    for term in terms[-3::-1]:
        value = value * square + term
    return value


def sampled_bilinear(
    decay: Tensor, frequency: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(ρ, α, s) of  λ = −decay − i frequency  by the bilinear rule of S5, which leaves C alone.

        ρ e^{−iα} = (1 + λΔ/2)/(1 − λΔ/2),   s = Δ/(1 − λΔ/2)

    Source: Smith et al., S5, Appendix; unlike Tustin's rule of `lticore.discretize`.
    """
    x, y = decay * step / 2, frequency * step / 2
    size = (1 + x) ** 2 + y**2
    square = ((1 - x) ** 2 + y**2) / size
    # A pole at 0 has no slope of its radius, and none is passed on.
    radius = torch.sqrt(square.clamp(1e-300, 1 - 2 * SMALLEST_GAP))
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


def in_steps(decay: Tensor, frequency: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """(decay, frequency) with a step as the unit of time: the pole that a rule samples with 1."""
    return (decay * step).clamp(min=SMALLEST_GAP), frequency.double() * step


def unsampled(rule: str, poles: Tensor) -> tuple[Tensor, Tensor]:
    """(r, s): real poles in continuous time, in steps as unit of time, that a rule samples to the
    given ones, and what multiplies inputs of the sampled system for those of the continuous one.

        zoh        r = log λ,               s = log λ/(λ − 1)
        bilinear   r = 2 (λ − 1)/(λ + 1),   s = 2/(λ + 1)

    Raises
    ------
    ArgumentError
        For poles of zero or less, of which no real logarithm is known.
    """
    if rule == "bilinear":
        return 2 * (poles - 1) / (poles + 1), 2 / (poles + 1)
    if torch.any(poles <= 0):
        raise ArgumentError(
            f"the layer has real poles of zero or less, such as {float(poles.min().detach()):.3g}: "
            "no real system in continuous time has these as samples of held inputs. "
            'lticore.to_continuous(layer.to_lti(), "bilinear", step=1.0) finds one by another rule'
        )
    rates = torch.log(poles)
    return rates, rates / (poles - 1)
