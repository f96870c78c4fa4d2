"""The rotation layer of HSVR: real states in 2×2 rotation blocks, and real poles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore.internal import real_columns, real_rows, scaled_by_first_input

from .modal import ModalSizes, ModalSSM, modal_sizes

#: 1 − ρ stays above 9e-14.
_LOGIT_LIMIT = 30.0


class RotationSSM(ModalSSM):
    """State-space layer whose A is block-diagonal: scaled rotations, then real poles.

        ρ = sigmoid(r),  α = π sigmoid(a)   per pair of states;   λ = tanh(s)   per real pole

    Parameters
    ----------
    features : int
        Inputs h.
    order : int
        Stored real states n: 2 per rotation block and 1 per real pole.
    real_poles : int, optional
        How many of the states are real poles; n − real_poles is even. Default: n mod 2.
    outputs : int, optional
        Width of the outputs p; D is then a dense (p, h) matrix, of entries N(0, 1/h). Default: as
        many as inputs, and D is diagonal.
    canonical : bool
        The e1-canonical form of Proposition 1: the first column of B is (1, 0) in every block and
        1 at every real pole, and is not trained, so that every map has few representations. A
        loaded system keeps its map and the column that it comes with is scaled to this one, which
        the first input must reach.
    radius_mean, radius_std : float
        ρ is initialised as (tanh(x) + 1)/2 with x normal of this mean and deviation.
    feedthrough_std : float
        Factor of the initial D; 0.01 in the authors' code.

    Initialisation (as in the authors' code, but for D and ``radius_mean``): r as above,
    a = 2·N(0, 1), B ~ N(0, 1/n), C ~ N(0, 2/(p n)), real poles uniform in (−1, 1)·0.9.

    Shapes: forward (..., L, features) → (..., L, outputs).

    Cost: O(L n (h + p)) for each sequence.

    Raises
    ------
    ArgumentError
        For sizes that do not fit each other.

    Source: Schwerdtner et al., HSVR, eq. (6)-(7), Proposition 1 and Appendix B.

    >>> layer = lt.RotationSSM(4, 8)
    >>> layer(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 4])
    >>> layer.to_lti()
    LTI(Rotation, order 8, 4 inputs, 4 outputs, float64)
    """

    PAIR_PARAMETERS: ClassVar[dict[str, str | None]] = {
        "radius_logit": "radius",
        "angle_logit": "angle",
    }

    radius_logit: nn.Parameter
    angle_logit: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        outputs: int | None = None,
        canonical: bool = False,
        radius_mean: float = 1.5,
        radius_std: float = 0.25,
        feedthrough_std: float = 1.0,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.features, self.canonical = features, canonical
        self.radius_mean, self.radius_std = radius_mean, radius_std
        self.feedthrough_std = feedthrough_std
        self._create(modal_sizes(features, order, real_poles, outputs), device, dtype)

    def _initial(self, sizes: ModalSizes) -> dict[str, Tensor]:
        values = super()._initial(sizes)
        return {**values, "D": self.feedthrough_std * values["D"]}

    def _initial_modes(self, sizes: ModalSizes) -> dict[str, Tensor]:
        p, n, q = sizes.outputs, sizes.order, sizes.pairs
        trained = sizes.features - 1 if self.canonical else sizes.features
        return {
            "radius_logit": 2 * (self.radius_mean + self.radius_std * torch.randn(q)),
            "angle_logit": 2 * torch.randn(q),
            "B": torch.randn(n, trained) / math.sqrt(n),
            "C": torch.randn(p, n) * math.sqrt(2 / (p * n)),
        }

    def options(self) -> dict[str, Any]:
        return {**super().options(), "canonical": self.canonical}

    def _radius_and_angle(self) -> tuple[Tensor, Tensor]:
        radius = torch.sigmoid(self.radius_logit.double().clamp(max=_LOGIT_LIMIT))
        return radius, math.pi * torch.sigmoid(self.angle_logit.double())

    def _pair_values(self, radius: np.ndarray, angle: np.ndarray) -> dict[str, np.ndarray]:
        return {"radius_logit": _logit(radius), "angle_logit": _logit(angle / np.pi)}

    def _inputs(self) -> Tensor:
        if not self.canonical:
            return self.B
        n, k = self.order, len(self.real_atanh)
        first = self.B.new_ones(n, 1)
        first[1 : n - k : 2] = 0
        return torch.cat([first, self.B], dim=1)

    def _values_of(self, sys: lticore.LTI) -> dict[str, np.ndarray]:
        values = super()._values_of(sys)
        if self.canonical:
            B, C = first_input_scaled(values["B"], values["C"], len(values["radius_logit"]))
            values |= {"B": B[:, 1:], "C": C}
        return values

    def _shapes_of(self, stored: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
        shapes = super()._shapes_of(stored)
        return {**shapes, "B": (shapes["B"][0], self.features - self.canonical)}


def first_input_scaled(B: np.ndarray, C: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, C) in coordinates whose first column of B is (1, 0) per pair and 1 per real pole.

    Raises
    ------
    ArgumentError
        Where the first input does not reach a pair or a real pole.
    """
    b, c = scaled_by_first_input(B, C, blocks)
    pairs, reals = slice(blocks), slice(blocks, None)
    B = np.concatenate([real_rows(b[pairs]), b[reals].real])
    C = np.concatenate([real_columns(c[:, pairs]), c[:, reals].real], axis=1)
    return B, C


def _logit(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (np.log(x) - np.log1p(-x)).clip(-_LOGIT_LIMIT, _LOGIT_LIMIT)
