"""The real-gated linear recurrent unit of RecurrentGemma in Hugging Face transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers.base import check_input, wide
from ..ops.recurrence import time_varying_recurrence
from .parameters import needed, with_parameters
from .registry import SEQUENCES, STEPS, Unstable, register_conversion

#: c of the paper, in log a = −c softplus(Λ) r.
_SHARPNESS = 8.0


class RGLRU(nn.Module):
    """Real-gated linear recurrent unit: one state per channel, gates of what it reads.

        h_k = a_k h_{k−1} + √(1 − a_k²) i_k x_k,   log a_k = −8 softplus(Λ) r_k
        r = sigmoid(W_r x + w_r),   i = sigmoid(W_i x + w_i),   W of one block for each head

    It is linear in its state, so the recurrence of this library computes it, whole sequences at
    once. It is no state-space layer to penalise or compress: no channel has a state to spare.

    ``recurrent_states`` (batch, width) is the state after the last call and the start of the next,
    None for zero; where a position is 0 a sequence begins: a = 0, and the input is not scaled.

    Shapes: (batch, L, width), positions (batch, L) → (batch, L, width).

    Source: De et al., Griffin (2024), §2.4.
    """

    recurrent_param: nn.Parameter
    input_gate_weight: nn.Parameter
    input_gate_bias: nn.Parameter
    recurrent_gate_weight: nn.Parameter
    recurrent_gate_bias: nn.Parameter

    def __init__(self) -> None:
        super().__init__()
        self.recurrent_states: Tensor | None = None

    def forward(self, activations: Tensor, position_ids: Tensor) -> Tensor:
        dtype = wide(activations.dtype)
        x = check_input(activations, len(self.recurrent_param)).to(dtype)
        begins = (position_ids == 0)[..., None]
        log_decay = (
            -_SHARPNESS
            * self._gate(x, self.recurrent_gate_weight, self.recurrent_gate_bias)
            * functional.softplus(self.recurrent_param.to(dtype))
        )
        # The root has no slope at 0, and none is passed on.
        scale = (-torch.expm1(2 * log_decay)).clamp(min=torch.finfo(dtype).tiny).sqrt()
        drive = x * self._gate(x, self.input_gate_weight, self.input_gate_bias)
        drive = torch.where(begins, drive, drive * scale)
        decay = torch.where(begins, 0, torch.exp(log_decay))
        start = self.recurrent_states
        states = time_varying_recurrence(
            decay, drive, initial=None if start is None else start.to(dtype)
        )
        if states.shape[1]:
            self.recurrent_states = states[:, -1]
        return states.to(activations.dtype)

    @staticmethod
    def _gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        heads = x.unflatten(-1, bias.shape)
        gates = torch.einsum("...hi,hij->...hj", heads, weight.to(x.dtype)) + bias.to(x.dtype)
        return torch.sigmoid(gates).flatten(-2)


def from_recurrent_gemma(layer: Any, unstable: Unstable) -> RGLRU:
    """transformers.models.recurrent_gemma.modeling_recurrent_gemma.RecurrentGemmaRglru 5.24, whose
    parameters have the same names; poles are stable whatever they are."""
    names = (
        "recurrent_param",
        "input_gate_weight",
        "input_gate_bias",
        "recurrent_gate_weight",
        "recurrent_gate_bias",
    )
    values: dict[str, Tensor] = dict(zip(names, needed(layer, names), strict=True))
    ours = with_parameters(RGLRU(), values)
    ours.recurrent_states = layer.recurrent_states
    return ours


def _activations(converted: RGLRU) -> tuple[Tensor, Tensor]:
    """Sequences, of which the second begins anew half-way."""
    like = converted.recurrent_param
    positions = torch.arange(STEPS, device=like.device).repeat(SEQUENCES, 1)
    positions[1] %= STEPS // 2
    shape = (SEQUENCES, STEPS, len(like))
    return torch.randn(shape, dtype=like.dtype, device=like.device), positions


register_conversion(
    "modeling_recurrent_gemma.RecurrentGemmaRglru", from_recurrent_gemma, example=_activations
)
