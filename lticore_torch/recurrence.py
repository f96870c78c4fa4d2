"""The linear recurrence as a differentiable operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lticore import kernels
from lticore.errors import DtypeError

from .bridge import current_stream, has_arrays, to_array, to_tensor

#: dtype of an argument → dtype it is computed in. Kernels know no half precision.
_COMPUTED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    **{x: x for x in (torch.float32, torch.float64, torch.complex64, torch.complex128)},
}


def linear_recurrence(poles: Tensor, inputs: Tensor, *, reverse: bool = False) -> Tensor:
    """States of n decoupled recurrences.

        x_k = λ x_{k−1} + u_k,  x_{−1} = 0;      reversed:  x_k = λ x_{k+1} + u_k,  x_L = 0

    Parameters
    ----------
    poles : (n,) or (..., n) real or complex tensor, batch axes as in ``inputs``
    inputs : (..., L, n) tensor, complex where the poles are; its precision may be lower

    Returns
    -------
    (..., L, n) tensor of the dtype of ``inputs``.

    Accuracy: on the CPU poles and states are carried in double precision; give poles in double
    precision for long sequences. float16 and bfloat16 are computed in float32 and rounded at the
    end; their gradients too.

    Cost: O(L n) by the kernels of lticore: on the CPU one pass over memory, backwards one and a
    half. Devices for which it has none (CUDA without CuPy, MPS): ⌈log2 L⌉ passes.

    Differentiability: reverse mode any number of times, vmap, compile(fullgraph); forward mode
    raises (torch.compile refuses functions that define it).

    Raises
    ------
    DtypeError
        For integers and other dtypes without a kernel, and for complex poles with real inputs.
    """
    wide_poles, wide = _computable(poles, inputs)
    return _LinearRecurrence.apply(wide_poles, wide, reverse).to(inputs.dtype)


def _computable(poles: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Both in dtypes that the kernels know, poles complex where the inputs are."""
    for name, x in (("poles", poles), ("inputs", inputs)):
        if x.dtype not in _COMPUTED:
            raise DtypeError(
                f"{name} has dtype {x.dtype}: make it real or complex floating point, for example "
                "with .to(torch.float32)"
            )
    if poles.is_complex() and not inputs.is_complex():
        raise DtypeError(
            f"poles of dtype {poles.dtype} give complex states, but inputs has dtype "
            f"{inputs.dtype}: make inputs complex"
        )
    poles, inputs = poles.to(_COMPUTED[poles.dtype]), inputs.to(_COMPUTED[inputs.dtype])
    if inputs.is_complex():
        poles = poles.to(torch.promote_types(poles.dtype, torch.complex64))
    return poles, inputs


class _LinearRecurrence(Function):
    # With g_k the cotangent of x_k, the cotangent v_k of u_k collects what every later state
    # passes back, v_k = g_k + conj(λ) v_{k+1}: the reversed recurrence with conj λ. λ multiplies
    # x_{k−1} in every step, so g_λ = Σ_k v_k conj(x_{k−1}).

    generate_vmap_rule = True

    @staticmethod
    def forward(poles: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
        return _recurrence(poles, inputs, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        poles, _, ctx.reverse = inputs
        ctx.save_for_backward(poles, output)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor, None]:
        poles, states = ctx.saved_tensors
        if torch.is_grad_enabled():
            # To be differentiated again.
            back = linear_recurrence(poles.conj(), cotangent, reverse=not ctx.reverse)
            g_poles = (back * _previous(states, ctx.reverse).conj()).sum(dim=-2)
        else:
            back, g_poles = _recurrence_adjoint(poles, cotangent, states, ctx.reverse)
        if not ctx.needs_input_grad[0]:
            return None, back, None
        return g_poles.sum_to_size(poles.shape).to(poles.dtype), back, None


def _previous(states: Tensor, reverse: bool) -> Tensor:
    """x_{k−1} at position k (x_{k+1} when reversed), zero at the start."""
    zero = torch.zeros_like(states[..., :1, :])
    if reverse:
        return torch.cat([states[..., 1:, :], zero], dim=-2)
    return torch.cat([zero, states[..., :-1, :]], dim=-2)


@torch.library.custom_op("lticore::linear_recurrence", mutates_args=())
def _recurrence(poles: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
    """Opaque to tracing, never differentiated itself."""
    poles = _for_each(poles, inputs)
    if not has_arrays(inputs.device):
        return _by_doubling(poles, inputs, reverse)
    with current_stream(inputs.device):
        u = to_array(inputs)
        run = kernels.find("linear_recurrence", u)
        return to_tensor(run(to_array(poles), u, to_array(torch.zeros_like(poles)), reverse))


@_recurrence.register_fake
def _(poles: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
    return inputs.new_empty(inputs.shape)


@_recurrence.register_vmap
def _(info: Any, in_dims: tuple, poles: Tensor, inputs: Tensor, reverse: bool) -> tuple:
    poles, inputs = _batched(info, in_dims, poles, inputs)
    return _recurrence(poles, inputs, reverse), 0


@torch.library.custom_op("lticore::recurrence_adjoint", mutates_args=())
def _recurrence_adjoint(
    poles: Tensor, cotangent: Tensor, states: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    """(v, g_λ for each batch entry); opaque to tracing, never differentiated itself."""
    poles = _for_each(poles, cotangent)
    if not has_arrays(cotangent.device):
        back = _by_doubling(poles.conj(), cotangent, not reverse)
        sums = (back * _previous(states, reverse).conj()).sum(dim=-2)
        return back, sums.to(poles.dtype)
    with current_stream(cotangent.device):
        g, x = to_array(cotangent), to_array(states)
        back, sums = kernels.find("recurrence_adjoint", g)(to_array(poles), g, x, reverse)
        return to_tensor(back), to_tensor(sums).to(poles.dtype)


@_recurrence_adjoint.register_fake
def _(poles: Tensor, cotangent: Tensor, states: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    shape = (*cotangent.shape[:-2], cotangent.shape[-1])
    return cotangent.new_empty(cotangent.shape), poles.new_empty(shape)


@_recurrence_adjoint.register_vmap
def _(
    info: Any, in_dims: tuple, poles: Tensor, cotangent: Tensor, states: Tensor, reverse: bool
) -> tuple:
    poles, cotangent, states = _batched(info, in_dims, poles, cotangent, states)
    return _recurrence_adjoint(poles, cotangent, states, reverse), (0, 0)


def _by_doubling(poles: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
    """For devices without kernels: ⌈log2 L⌉ passes, powers of λ in the precision of the poles."""
    states, power, shift = inputs.clone(), poles[..., None, :], 1
    while shift < inputs.shape[-2]:
        # After this pass each state holds the last 2·shift inputs, weighted.
        factor = power.to(inputs.dtype)
        if reverse:
            head, tail = states[..., :-shift, :], states[..., -shift:, :]
            states = torch.cat([head + factor * states[..., shift:, :], tail], dim=-2)
        else:
            head, tail = states[..., :shift, :], states[..., shift:, :]
            states = torch.cat([head, tail + factor * states[..., :-shift, :]], dim=-2)
        power, shift = power * power, 2 * shift
    return states


def _for_each(poles: Tensor, inputs: Tensor) -> Tensor:
    """Poles for every batch entry, (..., n)."""
    return poles.expand(*inputs.shape[:-2], inputs.shape[-1])


def _batched(info: Any, in_dims: tuple, poles: Tensor, *sequences: Tensor) -> tuple[Tensor, ...]:
    """All tensors with the axis of vmap in front, poles with the batch axes of the sequences."""
    whole = [
        x.movedim(d, 0) if d is not None else x.expand(info.batch_size, *x.shape)
        for x, d in zip((poles, *sequences), in_dims, strict=False)
    ]
    missing = whole[1].ndim - 1 - whole[0].ndim
    shape = whole[0].shape
    whole[0] = whole[0].reshape(shape[0], *(1,) * missing, *shape[1:])
    return tuple(whole)
