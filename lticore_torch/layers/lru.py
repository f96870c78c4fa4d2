"""The linear recurrent unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError

from .base import LOG_LIMIT, SMALLEST_GAP, exponential
from .modal import ModalSizes, ModalSSM, modal_sizes


class LRU(ModalSSM):
    """Linear recurrent unit: complex diagonal recurrence with normalised inputs.

        z_k = λ z_{k−1} + γ b u_k,   y_k = Re(c z_k) + D u_k,   λ = exp(−e^ν − i e^θ),   γ = e^g

    (as published up to the sign of the phase, which conjugates z), and signed real poles beside
    the pairs, tanh(s).

    Parameters
    ----------
    features : int
        Inputs h.
    order : int
        Stored real states n, 2 per complex state: the papers' state dimension N is n/2.
    real_poles : int, optional
        How many of the states are real poles. Default: n mod 2.
    outputs : int, optional
        Width of the outputs p; D is then a dense (p, h) matrix, of entries N(0, 1/h). Default: as
        many as inputs, and D is diagonal.
    min_radius, max_radius : float
        Ring of |λ| at initialisation, uniform in area.
    max_phase : float
        Phases are uniform in (0, max_phase), at most 2π.

    Initialisation: γ = √(1 − |λ|²); real and imaginary parts of b ~ N(0, 1/(2h)) and of c ~
    N(0, 2/n); D ~ N(0, 1).

    Shapes: forward (..., L, features) → (..., L, outputs).

    Cost: O(L n (h + p)) for each sequence.

    Raises
    ------
    ArgumentError
        For sizes that do not fit each other, and rings that are not inside the unit circle.

    Source: Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences (2023), §3 and
    Appendix A.

    >>> layer = lt.LRU(4, 8, min_radius=0.9, max_radius=0.99)
    >>> layer(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 4])
    >>> bool(0.9 <= layer.to_lti().spectral_radius <= 0.99)
    True
    """

    PAIR_PARAMETERS: ClassVar[dict[str, str | None]] = {
        "nu_log": "radius",
        "theta_log": "angle",
        "gamma_log": None,
    }

    nu_log: nn.Parameter
    theta_log: nn.Parameter
    gamma_log: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        outputs: int | None = None,
        min_radius: float = 0.9,
        max_radius: float = 0.999,
        max_phase: float = 2 * math.pi,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= min_radius < max_radius < 1:
            raise ArgumentError(
                f"0 ≤ min_radius < max_radius < 1 is needed, but they are {min_radius}, "
                f"{max_radius}"
            )
        if not 0 < max_phase <= 2 * math.pi:
            raise ArgumentError(f"max_phase must lie in (0, 2π], but is {max_phase}")
        self.features = features
        self.min_radius, self.max_radius, self.max_phase = min_radius, max_radius, max_phase
        self._create(modal_sizes(features, order, real_poles, outputs), device, dtype)

    def _initial_modes(self, sizes: ModalSizes) -> dict[str, Tensor]:
        inner, outer = self.min_radius**2, self.max_radius**2
        uniform = partial(torch.rand, sizes.pairs, dtype=torch.float64)
        squares = inner + (outer - inner) * uniform()
        phase = self.max_phase * uniform().clamp(min=1e-9)
        values = self._pair_values(squares.sqrt().numpy(), phase.numpy())
        # Both parts of a pair have the published variance; so has a real pole.
        B = torch.randn(sizes.order, sizes.features) / math.sqrt(2 * sizes.features)
        C = torch.randn(sizes.outputs, sizes.order) / math.sqrt(max(sizes.pairs, 1))
        return {**{name: torch.tensor(x) for name, x in values.items()}, "B": B, "C": C}

    def _radius_and_angle(self) -> tuple[Tensor, Tensor]:
        decay = exponential(self.nu_log).clamp(min=SMALLEST_GAP)
        return torch.exp(-decay), exponential(self.theta_log)

    def _scale(self) -> Tensor:
        return exponential(self.gamma_log)

    def _pair_values(self, radius: np.ndarray, angle: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore"):
            decay = -np.log(radius)
            return {
                "nu_log": np.log(decay).clip(-LOG_LIMIT, LOG_LIMIT),
                "theta_log": np.log(angle).clip(-LOG_LIMIT),
                "gamma_log": np.log((1 - radius) * (1 + radius)) / 2,
            }

    def _scale_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.exp(values["gamma_log"])
