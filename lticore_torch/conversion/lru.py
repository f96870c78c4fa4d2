"""The linear recurrent unit as other packages write it."""

from __future__ import annotations

from typing import Any

from ..layers import LRU
from .parameters import (
    complex_of,
    from_parts,
    needed,
    pair_columns,
    pair_rows,
    with_parameters,
)
from .registry import ConversionError, Unstable, register_conversion


def from_lru(layer: Any, unstable: Unstable) -> LRU:
    """Theirs, of N complex states, whose poles are stable whatever the parameters are:

        x_k = λ x_{k−1} + e^{gamma_log} B u_k,   y_k = Re(C x_k) + D u_k,
        λ = exp(−e^{nu_log} + i e^{theta_log})

    with complex B, C or their parts B_re, B_im, C_re, C_im, and D a vector or a matrix. Ours is the
    conjugate: z = conj x turns by e^{−iθ}, so b = conj B and c = conj C; 2 N states.

    Source: LRU-pytorch 0.1.3 (complex B, C, dense D); Zucchet, minimal-LRU (parts, diagonal D).
    """
    nu_log, theta_log, gamma_log, D = needed(layer, ("nu_log", "theta_log", "gamma_log", "D"))
    if hasattr(layer, "B_re"):
        B_re, B_im, C_re, C_im = needed(layer, ("B_re", "B_im", "C_re", "C_im"))
        B, C = from_parts(B_re, B_im), from_parts(C_re, C_im)
    else:
        B, C = complex_of(layer, ("B", "C"))
    (states, inputs), outputs = B.shape, len(C)
    if nu_log.shape != (states,) or D.shape not in {(inputs,), (outputs, inputs)}:
        raise ConversionError(
            f"nu_log has shape {tuple(nu_log.shape)} and D {tuple(D.shape)}, which do not fit B of "
            f"shape {tuple(B.shape)} and C of shape {tuple(C.shape)}"
        )
    ours = LRU(inputs, 2 * states, outputs=None if D.ndim == 1 else outputs)
    values = {
        "nu_log": nu_log,
        "theta_log": theta_log,
        "gamma_log": gamma_log,
        "B": pair_rows(B.conj()),
        "C": pair_columns(C.conj()),
        "D": D,
    }
    return with_parameters(ours, values)


register_conversion("LRU", from_lru)
