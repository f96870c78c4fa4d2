"""The S5 layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError

from .base import exponential, log_range
from .hippo import hippo_normal
from .modal import ModalSizes, ModalSSM, modal_sizes
from .sampled import RULES, continuous, in_steps, unsampled
from .states import signed_poles


class S5(ModalSSM):
    """S5: a continuous-time diagonal system for all features, sampled with learned steps.

        ż = λ z + b u sampled with Δ,   y = 2 Re(c z) + D u,   λ = −e^δ − i ω

    one step Δ = e^τ per pair; conjugate-symmetric, so half of the spectrum is stored. Signed real
    poles beside the pairs are kept in discrete time, tanh(s): sampling reaches no negative ones.

    Parameters
    ----------
    features : int
        Inputs h.
    order : int
        Stored real states n, 2 per pair.
    real_poles : int, optional
        How many of the states are real poles. Default: n mod 2.
    outputs : int, optional
        Width of the outputs p; D is then a dense (p, h) matrix, of entries N(0, 1/h). Default: as
        many as inputs, and D is diagonal.
    sampling : "zoh" or "bilinear"
    blocks : int
        The initial A has this many equal HiPPO-N blocks; n − real_poles is a multiple of twice it.
    min_step, max_step : float
        Steps are log-uniform between them at initialisation.

    Initialisation as published: λ and eigenvectors V of HiPPO-N blocks; b = V⁻¹ B, B ~ N(0, 1/n);
    c = C V, both parts of C ~ N(0, 1/n); D ~ N(0, 1).

    Shapes: forward (..., L, features) → (..., L, outputs).

    Cost: O(L n (h + p)) for each sequence.

    Raises
    ------
    ArgumentError
        For sizes that do not fit each other.

    Source: Smith, Warrington & Linderman, Simplified State Space Layers for Sequence Modeling
    (S5), §3 and Appendix B.

    >>> layer = lt.S5(4, 16, blocks=2, outputs=6)
    >>> layer(torch.zeros(2, 50, 4)).shape
    torch.Size([2, 50, 6])
    >>> layer.to_lti()
    LTI(Rotation, order 16, 4 inputs, 6 outputs, float64)
    """

    PAIR_PARAMETERS: ClassVar[dict[str, str | None]] = {
        "decay_log": "radius",
        "frequency": "angle",
        "step_log": None,
    }
    OUTPUT_GAIN = 2.0

    decay_log: nn.Parameter
    frequency: nn.Parameter
    step_log: nn.Parameter

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        outputs: int | None = None,
        sampling: Literal["zoh", "bilinear"] = "zoh",
        blocks: int = 1,
        min_step: float = 1e-3,
        max_step: float = 1e-1,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if sampling not in RULES:
            raise ArgumentError(f"sampling={sampling!r} is not one of {sorted(RULES)}")
        sizes = modal_sizes(features, order, real_poles, outputs)
        if blocks < 1 or sizes.pairs % blocks:
            raise ArgumentError(f"{sizes.pairs} pairs of states do not fill {blocks} equal blocks")
        self.log_steps = log_range(min_step, max_step)
        self.features, self.sampling, self.blocks = features, sampling, blocks
        self._create(sizes, device, dtype)

    def _initial_modes(self, sizes: ModalSizes) -> dict[str, Tensor]:
        low, high = self.log_steps
        steps = low + (high - low) * torch.rand(sizes.pairs)
        # Pairs that a reduction has left need not fill the blocks.
        blocks = 1 if sizes.pairs % self.blocks else self.blocks
        omega, b, c = _hippo_start(sizes, blocks)
        real = torch.randn(sizes.reals, sizes.features + len(c)) / math.sqrt(sizes.order)
        from_inputs, to_outputs = real.split([sizes.features, len(c)], dim=1)
        # e^{−iα} turns the other way than the papers' e^{+iα}: conjugate b and c.
        return {
            "decay_log": torch.full((sizes.pairs,), math.log(0.5)),
            "frequency": omega,
            "step_log": steps,
            "B": torch.cat([_interleaved(b.conj()), from_inputs]),
            "C": torch.cat([_interleaved(c.T), to_outputs]).T.contiguous(),
        }

    def options(self) -> dict[str, Any]:
        return {**super().options(), "sampling": self.sampling}

    def _sampled(self) -> tuple[Tensor, Tensor, Tensor]:
        decay, step = (exponential(x) for x in (self.decay_log, self.step_log))
        return RULES[self.sampling](decay, self.frequency.double(), step)

    def _radius_and_angle(self) -> tuple[Tensor, Tensor]:
        return self._sampled()[:2]

    def _scale(self) -> Tensor:
        return self._sampled()[2]

    def _continuous(self) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        decay, step = (exponential(x) for x in (self.decay_log, self.step_log))
        poles, scale = unsampled(self.sampling, signed_poles(self.real_atanh))
        both = torch.cat([step.repeat_interleave(2), scale])
        return (*in_steps(decay, self.frequency, step), poles), both[:, None] * self.B.double()

    def _pair_values(self, radius: np.ndarray, angle: np.ndarray) -> dict[str, np.ndarray]:
        # One step for all new pairs: states of the old ones no longer exist.
        old = self.step_log.detach().double()
        step_log = float(old.mean()) if len(old) else math.log(1e-2)
        decay, frequency = continuous(self.sampling, radius, angle, np.exp(step_log))
        steps = np.full(len(radius), step_log)
        return {"decay_log": np.log(decay), "frequency": frequency, "step_log": steps}

    def _scale_of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        decay, step = (torch.tensor(np.exp(values[x])) for x in ("decay_log", "step_log"))
        return RULES[self.sampling](decay, torch.tensor(values["frequency"]), step)[2].numpy()


def _hippo_start(sizes: ModalSizes, blocks: int) -> tuple[Tensor, Tensor, Tensor]:
    """(ω (q,), b (q, h), c (p, q)) of block-diagonal HiPPO-N and random real B and complex C."""
    h, p, q = sizes.features, sizes.outputs, sizes.pairs
    size = 2 * q // blocks
    dtype = torch.get_default_dtype()
    if size == 0:
        b, c = (torch.zeros(0, m, dtype=dtype.to_complex()) for m in (h, p))
        return torch.zeros(0), b, c.T
    omega, vectors = hippo_normal(size)
    V = torch.tensor(vectors, dtype=dtype.to_complex())
    B = torch.randn(blocks, size, h) / math.sqrt(2 * q)
    C = torch.view_as_complex(torch.randn(blocks, p, size, 2)) / math.sqrt(2 * q)
    b = (V.mH @ B.to(V.dtype)).reshape(-1, h)
    c = (C @ V).movedim(0, 1).reshape(p, -1)
    return torch.tensor(omega, dtype=dtype).repeat(blocks), b, c


def _interleaved(z: Tensor) -> Tensor:
    """Rows Re z_1, Im z_1, Re z_2, … of a (q, h) complex tensor."""
    return torch.stack([z.real, z.imag], dim=1).flatten(0, 1)
