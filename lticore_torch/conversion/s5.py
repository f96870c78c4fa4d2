"""The S5 layer of s5-pytorch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

import lticore

from ..layers import S5, Bidirectional
from ..layers.base import system_array
from .parameters import complex_of, needed, pair_columns, pair_rows, with_parameters
from .registry import STEPS, ConversionError, Unstable, register_conversion


def from_s5(layer: Any, unstable: Unstable) -> S5 | Bidirectional:
    """Theirs, of P complex states that need not be conjugate to each other:

        ẋ = Lambda x + B u sampled with e^{log_step},   y = Re(C x) + D u

    by zero-order hold or the bilinear rule, which are ours; with ``bidir`` the second half of C
    sees the same recurrence run backwards. Ours: λ = Lambda, b = B, c = C/2 for y = 2 Re(c z), one
    pair for each complex state, 2 P states. Of P states that are conjugate in pairs half have no
    effect of their own, and compression finds them.

    That package never clips its poles: unstable ones go the way of :meth:`SSMLayer.load_lti`.

    Source: s5-pytorch 0.2.1, after Smith, Warrington & Linderman, S5.
    """
    if layer.liquid or layer.degree != 1:
        raise ConversionError(
            f"with liquid={layer.liquid} and degree={layer.degree} it is not linear in its inputs"
        )
    (Lambda,) = complex_of(layer, ("Lambda",))
    D, log_step = needed(layer, ("D", "log_step"))
    B, C = layer.get_BC_tilde()
    outputs = C.chunk(2, dim=-1) if layer.bidir else (C,)
    directions = [_one_direction(layer, Lambda, B, c, D, log_step, unstable) for c in outputs]
    return Bidirectional(*directions) if layer.bidir else directions[0]


def _one_direction(
    layer: Any,
    Lambda: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    log_step: Tensor,
    unstable: Unstable,
) -> S5:
    states, features = B.shape
    bilinear = layer.discretize.__name__ == "discretize_bilinear"
    rule: Literal["zoh", "bilinear"] = "bilinear" if bilinear else "zoh"
    # Blocks of two states: what is drawn here is replaced, and cheap.
    ours = S5(features, 2 * states, sampling=rule, blocks=states)
    stable = Lambda.real < 0
    values = {
        "decay_log": torch.log(torch.where(stable, -Lambda.real, 1)),
        "frequency": -Lambda.imag,
        "step_log": log_step,
        "B": pair_rows(B),
        "C": pair_columns(C) / 2,
        "D": D,
    }
    with_parameters(ours, values)
    if not bool(stable.all()):
        poles, inputs = layer.discretize(
            Lambda.to(torch.complex128), B.to(torch.complex128), torch.exp(log_step.double())
        )
        arrays = map(system_array, (poles.abs(), -poles.angle()))
        matrices = map(system_array, (pair_rows(inputs), pair_columns(C), torch.diag(D)))
        ours.load_lti(lticore.LTI(lticore.Rotation(*arrays), *matrices), unstable=unstable)
    return ours


def from_s5_wrapper(layer: Any, unstable: Unstable) -> S5 | Bidirectional:
    """Of the module that holds the recurrence, ``seq``, and runs it on each sequence."""
    return from_s5(layer.seq, unstable)


def _one_sequence(ours: Any) -> Tensor:
    """(L, features): the recurrence takes no batch."""
    parameter = next(ours.parameters())
    return torch.randn(STEPS, ours.features, dtype=parameter.dtype, device=parameter.device)


register_conversion("s5_model.S5SSM", from_s5, example=_one_sequence)
register_conversion("s5_model.S5", from_s5_wrapper)
