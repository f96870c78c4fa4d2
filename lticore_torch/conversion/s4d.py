"""The minimal S4D of the state-spaces repository."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lticore.errors import ShapeError

from ..layers import S4D
from .parameters import needed, with_parameters
from .registry import SEQUENCES, STEPS, Unstable, register_conversion


class S4DBlock(nn.Module):
    """y = output_linear(dropout(activation(ssm(u)))), and None in the place of a state.

    What the class S4D of state-spaces computes around its recurrence, of which it keeps the
    modules. ``transposed``: inputs and outputs are (batch, features, L) instead of
    (batch, L, features). Keyword arguments are taken and not used, as there.
    """

    def __init__(
        self,
        ssm: S4D,
        activation: nn.Module,
        dropout: nn.Module,
        output_linear: nn.Module,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.ssm = ssm
        self.activation, self.dropout, self.output_linear = activation, dropout, output_linear
        self.transposed = transposed

    @property
    def features(self) -> int:
        return self.ssm.features

    @property
    def d_output(self) -> int:
        return self.ssm.features

    def forward(self, u: Tensor, **_: Any) -> tuple[Tensor, None]:
        """Raises ShapeError for sequences of no steps, which a convolution does not take."""
        y = self.ssm(u.mT if self.transposed else u).mT
        if y.shape[-1] == 0:
            raise ShapeError(f"u has shape {tuple(u.shape)}: a sequence of no steps")
        y = self.output_linear(self.dropout(self.activation(y)))
        return (y if self.transposed else y.mT), None


def from_s4d(layer: Any, unstable: Unstable) -> S4DBlock:
    """Theirs, of N/2 complex modes in each channel, whose poles are stable whatever the parameters:

        ẋ = λ x + u held over steps e^{log_dt},   y = 2 Re(C x) + D u,
        λ = −e^{log_A_real} + i A_imag

    Ours is the conjugate: ω = A_imag, and the parts of C are those of C.

    Source: Gu et al., state-spaces/s4, models/s4/s4d.py.
    """
    kernel = layer.kernel
    log_dt, log_A_real, A_imag, C = needed(kernel, ("log_dt", "log_A_real", "A_imag", "C"))
    (D,) = needed(layer, ("D",))
    features, pairs = log_A_real.shape
    values = {
        "step_log": log_dt,
        "decay_log": log_A_real.flatten(),
        "frequency": A_imag.flatten(),
        "C": C.reshape(-1, 2),
        "D": D,
        "real_atanh": D[:0],
        "real_C": D[:0],
    }
    ssm = with_parameters(S4D(features, 2 * pairs), values)
    modules = (layer.activation, layer.dropout, layer.output_linear)
    return S4DBlock(ssm, *modules, transposed=layer.transposed)


def _as_called(block: S4DBlock) -> Tensor:
    parameter = block.ssm.D
    u = torch.randn(
        SEQUENCES, block.features, STEPS, dtype=parameter.dtype, device=parameter.device
    )
    return u if block.transposed else u.mT


register_conversion("s4d.S4D", from_s4d, example=_as_called)
