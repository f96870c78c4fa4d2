"""The rotation layer of HSVR: real states in 2×2 rotation blocks, and real poles."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore._arrays import to_numpy
from lticore.errors import ArgumentError, DtypeError
from lticore.systems import in_double

from ..bridge import to_array
from ..recurrence import linear_recurrence
from .base import SSMLayer

#: 1 − ρ stays above 9e-14 (1 − |r| above 2e-13): exact in float64, where poles are formed.
_LOGIT_LIMIT = 30.0
_ATANH_LIMIT = 15.0


class RotationSSM(SSMLayer):
    """State-space layer whose A is block-diagonal: scaled rotations, then real poles.

        ρ = sigmoid(r),  α = π sigmoid(a)   per pair of states;   λ = tanh(s)   per real pole

    Every value of the parameters gives a stable system. Poles are formed in float64 whatever the
    parameters' dtype, so radii within float32 rounding of 1 stay below 1.

    Parameters
    ----------
    features : int
        Inputs and outputs h.
    order : int
        Stored real states n: 2 per rotation block and 1 per real pole.
    real_poles : int, optional
        How many of the states are real poles; n − real_poles is even. Default: n mod 2.
    radius_mean, radius_std : float
        ρ is initialised as (tanh(x) + 1)/2 with x normal of this mean and deviation.

    Shapes: forward (..., L, features) → (..., L, features).

    Initialisation (as in the authors' code): r as above, a = 2·N(0, 1), B ~ N(0, 1/n),
    C ~ N(0, 2/(h n)), D ~ N(0, 1), real poles uniform in (−1, 1)·0.9.

    Source: Schwerdtner et al., HSVR, eq. (6)-(7) and Appendix B.
    """

    def __init__(
        self,
        features: int,
        order: int,
        *,
        real_poles: int | None = None,
        radius_mean: float = 1.5,
        radius_std: float = 0.25,
    ) -> None:
        super().__init__()
        real_poles = order % 2 if real_poles is None else real_poles
        if features < 1 or order < 1:
            raise ArgumentError(f"features and order must be at least 1: {features}, {order}")
        if not 0 <= real_poles <= order or (order - real_poles) % 2:
            raise ArgumentError(
                f"order {order} cannot hold {real_poles} real poles: what remains must fill "
                "blocks of two states"
            )
        self.features = features
        blocks = (order - real_poles) // 2
        self.radius_logit = nn.Parameter(2 * (radius_mean + radius_std * torch.randn(blocks)))
        self.angle_logit = nn.Parameter(2 * torch.randn(blocks))
        self.real_atanh = nn.Parameter(torch.atanh(0.9 * (2 * torch.rand(real_poles) - 1)))
        self.B = nn.Parameter(torch.randn(order, features) / math.sqrt(order))
        self.C = nn.Parameter(torch.randn(features, order) * math.sqrt(2 / (features * order)))
        self.D = nn.Parameter(torch.randn(features))

    @property
    def order(self) -> int:
        return self.B.shape[-2]

    def system_tensors(self) -> tuple[str, tuple[Tensor, ...], Tensor, Tensor]:
        return "rotation", self._rotation(), self.B, self.C

    def _rotation(self) -> tuple[Tensor, Tensor, Tensor]:
        """(radius, angle, real poles) in float64."""
        radius = torch.sigmoid(self.radius_logit.double().clamp(max=_LOGIT_LIMIT))
        angle = math.pi * torch.sigmoid(self.angle_logit.double())
        real = torch.tanh(self.real_atanh.double().clamp(-_ATANH_LIMIT, _ATANH_LIMIT))
        return radius, angle, real

    def forward(self, u: Tensor) -> Tensor:
        # Complex arithmetic has no half precision: the layer computes in float32 at least.
        with torch.autocast(u.device.type, enabled=False):
            x, B, C, D = self._at_work(u)
            y = self._states(x @ B.mT) @ C.mT + x * D
        return y.to(u.dtype)

    def _at_work(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(u, B, C, D) in the precision of the computation."""
        if not u.is_floating_point():
            raise DtypeError(f"a layer's input must be real floating-point, but is {u.dtype}")
        dtype = torch.promote_types(self.B.dtype, torch.float32)
        return u.to(dtype), self.B.to(dtype), self.C.to(dtype), self.D.to(dtype)

    def _states(self, drive: Tensor) -> Tensor:
        """(..., L, n) states from B u, each pair as one complex number."""
        poles, real = self._poles()
        pairs = 2 * len(poles)
        drive_pairs = drive[..., :pairs].unflatten(-1, (len(poles), 2)).contiguous()
        z = linear_recurrence(poles, torch.view_as_complex(drive_pairs))
        x = linear_recurrence(real, drive[..., pairs:])
        return torch.cat([torch.view_as_real(z).flatten(-2), x], dim=-1)

    def _poles(self) -> tuple[Tensor, Tensor]:
        """λ = ρ e^{−iα} of the blocks, and the real poles."""
        radius, angle, real = self._rotation()
        return torch.polar(radius, -angle), real

    def step(self, u: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of the recurrence.

        Parameters
        ----------
        u : (..., features) tensor
        state : (..., n) tensor from the previous step, or None at the start

        Returns
        -------
        y : (..., features),   state : (..., n)
        """
        x, B, C, D = self._at_work(u)
        drive = x @ B.mT
        if state is None:
            state = torch.zeros_like(drive)
        poles, real = self._poles()
        pairs = 2 * len(poles)
        z = torch.view_as_complex(state[..., :pairs].unflatten(-1, (len(poles), 2)).contiguous())
        moved = torch.view_as_real(z * poles.to(z.dtype)).flatten(-2)
        moved = torch.cat([moved, state[..., pairs:] * real.to(state.dtype)], dim=-1)
        state = moved + drive
        return (state @ C.mT + x * D).to(u.dtype), state

    def to_lti(self) -> lticore.LTI:
        B, C, D = (to_array(x.double()) for x in (self.B, self.C, torch.diag(self.D)))
        return lticore.LTI(lticore.Rotation(*map(to_array, self._rotation())), B, C, D)

    def _load(self, sys: lticore.LTI) -> None:
        sys = in_double(lticore.to_rotation(sys))
        radius, angle, real, B, C = (
            to_numpy(x) for x in (sys.A.radius, sys.A.angle, sys.A.real_poles, sys.B, sys.C)
        )
        D = np.zeros((self.features, self.features)) if sys.D is None else to_numpy(sys.D)
        if np.any(np.diag(np.diag(D)) != D):
            raise ArgumentError("the layer's feedthrough is diagonal, but D has other entries")

        # A block turning by 2π − α is one turning by α with its second state reversed.
        angle = np.mod(angle + np.where(radius < 0, np.pi, 0), 2 * np.pi)
        flip = np.ones(sys.order)
        flip[1 : 2 * len(angle) : 2] = np.where(angle > np.pi, -1, 1)
        angle = np.minimum(angle, 2 * np.pi - angle)
        with torch.no_grad():
            new = {
                "radius_logit": _logit(np.abs(radius)),
                "angle_logit": _logit(angle / np.pi),
                "real_atanh": np.arctanh(real).clip(-_ATANH_LIMIT, _ATANH_LIMIT),
                "B": flip[:, None] * B,
                "C": C * flip,
                "D": np.diag(D),
            }
            for name, value in new.items():
                old = getattr(self, name)
                tensor = torch.tensor(value, dtype=old.dtype, device=old.device)
                setattr(self, name, nn.Parameter(tensor, requires_grad=old.requires_grad))

    def extra_repr(self) -> str:
        real = len(self.real_atanh)
        return f"features={self.features}, order={self.order}, real_poles={real}"


def _logit(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (np.log(x) - np.log1p(-x)).clip(-_LOGIT_LIMIT, _LOGIT_LIMIT)
