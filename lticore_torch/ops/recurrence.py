"""Linear recurrences as differentiable operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lticore.errors import DtypeError, ShapeError
from lticore.internal import (
    adjoint_into_reference,
    counted,
    kernels,
    recur_into_reference,
)

from .bridge import current_stream, has_arrays, to_array, to_tensor

#: dtype of an argument → dtype it is computed in. Kernels know no half precision.
_COMPUTED = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    **{x: x for x in (torch.float32, torch.float64, torch.complex64, torch.complex128)},
}


def linear_recurrence(
    poles: Tensor, inputs: Tensor, *, initial: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """States of n decoupled recurrences with constant coefficients.

        x_k = λ x_{k−1} + u_k,   k = 0 … L−1;      reverse:  x_k = λ x_{k+1} + u_k,   k = L−1 … 0

    Parameters
    ----------
    poles : (..., n) real or complex tensor
    inputs : (..., L, n) tensor, complex where the poles or initial states are; its precision may be
        lower
    initial : (..., n) tensor, optional
        The state before the first step processed: x_{−1}, or x_L when reversed. Default zero.
    reverse : bool
        Run backwards in time; poles are not conjugated.

    Returns
    -------
    (..., L, n) tensor of the dtype of ``inputs``; batch axes broadcast.

    Accuracy: on the CPU poles and states are carried in double precision; give poles in double
    precision for long sequences. float16 and bfloat16 are computed in float32 and rounded at the
    end; their gradients too.

    Cost: O(L n) by the kernels of lticore: on the CPU one pass over memory, backwards one and a
    half. Devices for which it has none (CUDA without CuPy, MPS): ⌈log2 L⌉ passes.

    Differentiability: in all tensors, reverse mode any number of times, vmap, compile(fullgraph);
    forward mode raises (torch.compile refuses functions that define it).

    Raises
    ------
    ShapeError
    DtypeError
        For integers and other dtypes without a kernel, and for complex poles or initial states with
        real inputs.

    >>> pole = torch.tensor([0.5], requires_grad=True)
    >>> x = lt.linear_recurrence(pole, torch.eye(3, 1))  # 1, λ, λ²
    >>> x.sum().backward()
    >>> pole.grad  # 1 + 2 λ
    tensor([2.])
    """
    return _run(poles.unsqueeze(-2), inputs, initial, reverse)


def time_varying_recurrence(
    poles: Tensor, inputs: Tensor, *, initial: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """States of n decoupled recurrences whose coefficients change with time.

        x_k = λ_k x_{k−1} + u_k,   k = 0 … L−1;      reverse:  x_k = λ_k x_{k+1} + u_k

    Parameters
    ----------
    poles : (..., L, n) real or complex tensor

    All else as for :func:`linear_recurrence`.

    >>> poles = torch.tensor([[0.0], [0.5], [2.0]])
    >>> lt.time_varying_recurrence(poles, torch.ones(3, 1)).ravel()
    tensor([1.0000, 1.5000, 4.0000])
    """
    if poles.shape[-2] != inputs.shape[-2]:
        raise ShapeError(
            f"poles has {poles.shape[-2]} time steps, but inputs has {inputs.shape[-2]}"
        )
    return _run(poles, inputs, initial, reverse)


def _run(poles: Tensor, inputs: Tensor, initial: Tensor | None, reverse: bool) -> Tensor:
    """Poles are (..., L, n), or (..., 1, n) where one serves all steps."""
    if initial is None:
        initial = inputs.new_zeros(inputs.shape[-1])
    for name, x in (("poles", poles), ("initial", initial)):
        if x.shape[-1] != inputs.shape[-1]:
            states = counted(x.shape[-1], "state")
            raise ShapeError(f"{name} has {states}, but inputs has {inputs.shape[-1]}")
    shapes = poles.shape[:-2], inputs.shape[:-2], initial.shape[:-1]
    try:
        batch = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        names = zip(("poles", "inputs", "initial"), shapes, strict=True)
        seen = ", ".join(f"{name} {tuple(shape)}" for name, shape in names)
        raise ShapeError(f"the batch shapes do not broadcast: {seen}") from None
    wide_poles, wide, start = _computable(poles, inputs, initial)
    states = _Recurrence.apply(
        wide_poles.expand(*batch, *poles.shape[-2:]),
        wide.expand(*batch, *inputs.shape[-2:]),
        start.expand(*batch, -1),
        reverse,
    )
    return states.to(inputs.dtype)


def _computable(poles: Tensor, inputs: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All in dtypes that the kernels know, complex where the inputs are."""
    for name, x in (("poles", poles), ("inputs", inputs), ("initial", initial)):
        if x.dtype not in _COMPUTED:
            raise DtypeError(
                f"{name} has dtype {x.dtype}: make it real or complex floating point, for example "
                "with .to(torch.float32)"
            )
        if x.is_complex() and not inputs.is_complex():
            raise DtypeError(
                f"{name} of dtype {x.dtype} gives complex states, but inputs has dtype "
                f"{inputs.dtype}: make inputs complex"
            )
    poles, inputs = poles.to(_COMPUTED[poles.dtype]), inputs.to(_COMPUTED[inputs.dtype])
    if inputs.is_complex():
        poles = poles.to(torch.promote_types(poles.dtype, torch.complex64))
    return poles, inputs, initial.to(inputs.dtype)


class _Recurrence(Function):
    # With g_k the cotangent of x_k, the cotangent v_k of u_k collects what every later state
    # passes back, v_k = g_k + conj(λ_{k+1}) v_{k+1}: the reversed recurrence with conj λ, which
    # takes each pole one step later. λ_k multiplies x_{k−1}, so g_λ_k = v_k conj(x_{k−1}), summed
    # over k where one pole serves all steps, and x_{−1} receives conj(λ_0) v_0.

    generate_vmap_rule = True

    @staticmethod
    def forward(poles: Tensor, inputs: Tensor, initial: Tensor, reverse: bool) -> Tensor:
        return _recurrence(poles, inputs, initial, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        poles, _, initial, ctx.reverse = inputs
        ctx.save_for_backward(poles, output, initial)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        poles, states, initial = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            back, g_poles = _by_parts(
                _Recurrence.apply, poles, cotangent, states, initial, ctx.reverse
            )
        else:
            back, g_poles = _recurrence_adjoint(poles, cotangent, states, initial, ctx.reverse)
        needs_poles, _, needs_initial, _ = ctx.needs_input_grad
        return (
            g_poles.to(poles.dtype) if needs_poles else None,
            back,
            _passed_back(poles, back, ctx.reverse) if needs_initial else None,
            None,
        )


def _passed_back(poles: Tensor, back: Tensor, reverse: bool) -> Tensor:
    """conj(λ_0) v_0; of no steps zero, though then the initial state was not looked at."""
    if back.shape[-2] == 0:
        return back.sum(dim=-2)
    first = -1 if reverse else 0
    return (poles[..., first, :].conj() * back[..., first, :]).to(back.dtype)


def _by_parts(
    run: Callable[..., Tensor],
    poles: Tensor,
    cotangent: Tensor,
    states: Tensor,
    initial: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """(v, g_λ) by a recurrence and a product."""
    conj, first = _conjugate(poles), initial.unsqueeze(-2)
    changes = poles.shape[-2] != 1
    if changes:  # the last step has none after it: it starts from zero, with any pole
        conj = conj.roll(1 if reverse else -1, dims=-2)
    back = run(conj, cotangent, torch.zeros_like(initial), not reverse)
    previous = (states[..., 1:, :], first) if reverse else (first, states[..., :-1, :])
    products = back * _conjugate(torch.cat(previous, dim=-2))
    return back, products if changes else products.sum(dim=-2, keepdim=True)


def _conjugate(x: Tensor) -> Tensor:
    """conj(x), formed at once: compiled graphs call operators where lazy conjugation is not
    resolved."""
    return torch.complex(x.real, -x.imag) if x.is_complex() else x


@torch.library.custom_op("lticore::recurrence", mutates_args=())
def _recurrence(poles: Tensor, inputs: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """Opaque to tracing, never differentiated itself."""
    if not has_arrays(inputs.device):
        return _by_doubling(poles, inputs, initial, reverse)
    states = inputs.new_empty(inputs.shape)
    _recur_into(states, poles, inputs, initial, reverse)
    return states


@_recurrence.register_fake
def _(poles: Tensor, inputs: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    return inputs.new_empty(inputs.shape)


@_recurrence.register_vmap
def _(
    info: Any,
    in_dims: tuple[Any, ...],
    poles: Tensor,
    inputs: Tensor,
    initial: Tensor,
    reverse: bool,
) -> tuple[Any, ...]:
    return _recurrence(*_batched(info, in_dims, poles, inputs, initial), reverse), 0


@torch.library.custom_op("lticore::recurrence_adjoint", mutates_args=())
def _recurrence_adjoint(
    poles: Tensor, cotangent: Tensor, states: Tensor, initial: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    """(v, g_λ); opaque to tracing, never differentiated itself."""
    if not has_arrays(cotangent.device):
        back, g_poles = _by_parts(_by_doubling, poles, cotangent, states, initial, reverse)
    else:
        back = cotangent.new_empty(cotangent.shape)
        g_poles = _adjoint_into(back, poles, cotangent, states, initial, reverse)
    return back, g_poles.to(poles.dtype)


@_recurrence_adjoint.register_fake
def _(
    poles: Tensor, cotangent: Tensor, states: Tensor, initial: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    return cotangent.new_empty(cotangent.shape), poles.new_empty(poles.shape)


@_recurrence_adjoint.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
    *tensors, reverse = arguments
    return _recurrence_adjoint(*_batched(info, in_dims, *tensors), reverse), (0, 0)


def recur_in_place(poles: Tensor, rows: Tensor, initial: Tensor, reverse: bool) -> None:
    """The inputs (batch, L, n), contiguous, become the states; poles are (n,). Not traced."""
    each = poles.expand(rows.shape[0], 1, -1)
    if not has_arrays(rows.device):
        rows.copy_(_by_doubling(each, rows, initial, reverse))
        return
    _recur_into(rows, each, rows, initial, reverse)


def adjoint_in_place(
    poles: Tensor, rows: Tensor, states: Tensor, initial: Tensor, reverse: bool
) -> Tensor:
    """The cotangents of the states become those of the inputs; returns that of the poles (n,)."""
    each = poles.expand(rows.shape[0], 1, -1)
    if not has_arrays(rows.device):
        back, g_poles = _by_parts(_by_doubling, each, rows, states, initial, reverse)
        rows.copy_(back)
    else:
        g_poles = _adjoint_into(rows, each, rows, states, initial, reverse)
    return g_poles.sum(dim=(0, 1)).to(poles.dtype)


def _recur_into(
    states: Tensor, poles: Tensor, inputs: Tensor, initial: Tensor, reverse: bool
) -> None:
    """Into memory of torch, whose allocator knows the streams that use it."""
    with current_stream(inputs.device):
        x, p, u, start = (to_array(t) for t in (states, poles, inputs, initial))
        kernels.find(recur_into_reference, x)(x, p, u, start, reverse)


def _adjoint_into(
    back: Tensor, poles: Tensor, cotangents: Tensor, states: Tensor, initial: Tensor, reverse: bool
) -> Tensor:
    with current_stream(back.device):
        v, p, g, x, start = (to_array(t) for t in (back, poles, cotangents, states, initial))
        return to_tensor(kernels.find(adjoint_into_reference, v)(v, p, g, x, start, reverse))


def _by_doubling(poles: Tensor, inputs: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """For devices without kernels: ⌈log2 L⌉ passes, products of λ in the precision of the poles."""
    if reverse:
        return _by_doubling(poles.flip(-2), inputs.flip(-2), initial, False).flip(-2)
    states = inputs.clone(memory_format=torch.contiguous_format)  # the results are, as promised
    products, shift = poles, 1
    states[..., :1, :] += (poles[..., :1, :] * initial.unsqueeze(-2)).to(states.dtype)
    while shift < inputs.shape[-2]:
        # After this pass each state holds the last 2·shift inputs, weighted, and each product as
        # many poles; the first ones hold fewer, and are not asked for again.
        factor = products if poles.shape[-2] == 1 else products[..., shift:, :]
        states = torch.cat(
            [
                states[..., :shift, :],
                states[..., shift:, :] + factor.to(states.dtype) * states[..., :-shift, :],
            ],
            dim=-2,
        )
        if poles.shape[-2] == 1:
            products = products * products
        else:
            older = products[..., :-shift, :]
            products = torch.cat([products[..., :shift, :], factor * older], dim=-2)
        shift *= 2
    return states


def _batched(info: Any, in_dims: tuple[Any, ...], *tensors: Tensor) -> list[Tensor]:
    """All tensors with the axis of vmap in front."""
    return [
        x.movedim(d, 0) if d is not None else x.expand(info.batch_size, *x.shape)
        for x, d in zip(tensors, in_dims, strict=False)
    ]
