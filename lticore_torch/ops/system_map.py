"""The map of a state-space layer, from inputs to outputs, as one operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lticore.errors import DtypeError, ShapeError

from .recurrence import adjoint_in_place, linear_recurrence, recur_in_place

#: Steps of a chunk where states are not kept.
_STEPS = 64


def state_space_map(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    *,
    initial: Tensor | None = None,
    reverse: bool = False,
    keep_states: bool = True,
    return_state: bool = False,
) -> Any:
    """Outputs of a real system with rotation blocks and real poles.

        x_k = A x_{k−1} + B u_k,   y_k = C x_k;      reverse:  x_k = A x_{k+1} + B u_k

    A block turns its two states (x_1, x_2) as λ turns x_1 + i x_2; the states of the q blocks come
    first, two by two, and then those of the k real poles.

    Parameters
    ----------
    poles : (q,) complex tensor; real_poles : (k,) real tensor; their precision may be higher
    B : (n, h) real tensor, n = 2q + k;  C : (p, n) real tensor
    u : (..., L, h) float32 or float64 tensor; all is computed in its precision
    initial : (..., n) real tensor, optional
        The state before the first step processed: x_{−1}, or x_L when reversed. Default zero.
    reverse : bool
        Run backwards in time.
    keep_states : bool
        False: for the backward pass only one state in 64 is kept, and the others are computed
        again, one chunk at a time. Memory beyond u and y falls from L n to about L n / 64 numbers
        per sequence, for one product with B more.

    return_state : bool
        Return the state after the last step processed too: the ``initial`` of what follows.

    Returns
    -------
    y : (..., L, p) tensor of the dtype of ``u``; with ``return_state`` (y, (..., n) tensor). Of no
    steps the state is the initial one.

    Cost: O(L n (h + p)). No array of the size of the states is written but B u, which becomes
    the states in place, and its like in the backward pass.

    Differentiability: in all tensors, reverse mode any number of times, vmap (one call per entry),
    compile(fullgraph); forward mode raises.

    Raises
    ------
    ShapeError, DtypeError

    >>> poles, real_poles = torch.tensor([0.5 + 0.5j]), torch.tensor([0.5])
    >>> B = torch.tensor([[1.0], [0.0], [1.0]])
    >>> C = torch.tensor([[1.0, 0.0, 2.0]])
    >>> y = lt.state_space_map(poles, real_poles, B, C, torch.eye(3, 1))
    >>> y.ravel()  # Re λ^k + 2 · 0.5^k
    tensor([3.0000, 1.5000, 0.5000])
    """
    n = 2 * poles.shape[-1] + real_poles.shape[-1]
    if n == 0:
        raise ShapeError("poles and real_poles are both empty: a system needs at least one state")
    if B.ndim != 2 or C.ndim != 2 or B.shape[0] != n or C.shape[1] != n:
        raise ShapeError(
            f"{poles.shape[-1]} blocks and {real_poles.shape[-1]} real poles are {n} states, but "
            f"B has shape {tuple(B.shape)} and C {tuple(C.shape)}"
        )
    if u.ndim < 2 or u.shape[-1] != B.shape[1]:
        raise ShapeError(f"u has shape {tuple(u.shape)}, but B takes (..., L, {B.shape[1]})")
    if u.dtype not in (torch.float32, torch.float64):
        raise DtypeError(f"u must be float32 or float64, but is {u.dtype}")
    count = math.prod(u.shape[:-2])
    start = _initial_states(initial, u, n)
    y, last, *_ = _StateSpaceMap.apply(
        poles,
        real_poles,
        B.to(u.dtype),
        C.to(u.dtype),
        u.reshape(count, *u.shape[-2:]),
        start.reshape(count, n),
        reverse,
        keep_states,
    )
    y = y.reshape(*u.shape[:-1], C.shape[0])
    return (y, last.reshape(*u.shape[:-2], n)) if return_state else y


def _initial_states(initial: Tensor | None, u: Tensor, n: int) -> Tensor:
    """One state for each sequence, (..., n)."""
    if initial is None:
        return u.new_zeros(*u.shape[:-2], n)
    if initial.shape != (*u.shape[:-2], n):
        raise ShapeError(
            f"initial has shape {tuple(initial.shape)}, but u of shape {tuple(u.shape)} and {n} "
            f"states need {(*u.shape[:-2], n)}: one state for each sequence"
        )
    if not initial.is_floating_point():
        raise DtypeError(f"initial must be real floating-point, but is {initial.dtype}")
    return initial.to(u.dtype)


@dataclass(frozen=True)
class _Part:
    """States that are all complex (blocks) or all real: they run as one recurrence."""

    poles: Tensor
    B: Tensor
    C: Tensor

    def numbers(self, x: Tensor) -> Tensor:
        """Real states (..., w) as the numbers that the recurrence computes with."""
        if not self.poles.is_complex():
            return x
        return torch.view_as_complex(x.unflatten(-1, (self.poles.shape[0], 2)))

    def reals(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x).flatten(-2) if self.poles.is_complex() else x


def _split(states: Tensor, poles: Tensor) -> tuple[Tensor, Tensor]:
    """States (..., n), or their cotangents, of the blocks and of the real poles."""
    pairs = 2 * poles.shape[0]
    # New memory: complex views need even offsets, which a state among others may not have.
    blocks, reals = (
        x.clone(memory_format=torch.contiguous_format)
        for x in (states[..., :pairs], states[..., pairs:])
    )
    return blocks, reals


def _parts(poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor) -> tuple[_Part, _Part]:
    pairs = 2 * poles.shape[0]
    return (
        _Part(poles, B[:pairs], C[:, :pairs]),
        _Part(real_poles, B[pairs:], C[:, pairs:]),
    )


class _StateSpaceMap(Function):
    # With g the cotangent of y, that of the states is Cᵀ g, of the last one Cᵀ g + g_last where it
    # is returned; run backwards in time with conj λ it is v, the cotangent of B u (see
    # _Recurrence). Hence g_u = Bᵀ v, g_B = v uᵀ, g_C = g xᵀ, g_λ = Σ_k v_k conj(x_{k−1}), and the
    # initial state x_{−1} receives conj(λ) v_0, as every state before a chunk does.

    generate_vmap_rule = True

    @staticmethod
    def forward(
        poles: Tensor,
        real_poles: Tensor,
        B: Tensor,
        C: Tensor,
        u: Tensor,
        initial: Tensor,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        # Arguments by name: without gradients torch.compile counts them to tell whether the
        # context comes first.
        return _map(poles, real_poles, B, C, u, initial, reverse, keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.reverse, ctx.keep = inputs
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[2:])

    @staticmethod
    def backward(
        ctx: Any, of_y: Tensor | None, of_last: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        *tensors, pairs, reals = ctx.saved_tensors
        poles, real_poles, B, C, u, initial = tensors
        g = u.new_zeros(*u.shape[:-1], C.shape[0]) if of_y is None else of_y
        *of_system, of_u, of_initial = ctx.needs_input_grad[:6]
        if of_last is None and of_u and not (of_initial or any(of_system)):
            g_u = _adjoint_map(poles, real_poles, B, C, g, not ctx.reverse)
            return (*(None,) * 4, g_u, *(None,) * 3)
        g_last = torch.zeros_like(initial) if of_last is None else of_last
        if torch.is_grad_enabled():  # to be differentiated again
            return (*_adjoint_by_parts(tensors, g, g_last, ctx.reverse), None, None)
        cotangents = _map_adjoint(*tensors, pairs, reals, g, g_last, ctx.reverse, ctx.keep)
        return (*cotangents, None, None)


def _adjoint_map(
    poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor, g: Tensor, reverse: bool
) -> Tensor:
    """g_u alone: the outputs of the adjoint system (Aᵀ, Cᵀ, Bᵀ), whose states nobody needs."""
    start = g.new_zeros(g.shape[0], B.shape[0])
    system = poles.conj().resolve_conj(), real_poles, C.mT.contiguous(), B.mT.contiguous()
    return _StateSpaceMap.apply(*system, g, start, reverse, False)[0]


def _adjoint_by_parts(
    tensors: list[Tensor], g: Tensor, g_last: Tensor, reverse: bool
) -> tuple[Tensor, ...]:
    """The same by operations that can be differentiated again.

    Both recurrences have one step more, in front: what drives it is the initial state.
    """
    poles, real_poles, B, C, u, initial = tensors
    if reverse:
        u, g = u.flip(1), g.flip(1)
    g_poles, g_B, g_C, g_initial, g_u = [], [], [], [], torch.zeros_like(u)
    parts = _parts(poles, real_poles, B, C)
    ends = _split(initial, poles), _split(g_last, poles)
    for part, start, g_end in zip(parts, *ends, strict=True):
        drive = torch.cat([start[:, None], u @ part.B.mT], dim=1)
        back = torch.cat([torch.zeros_like(start)[:, None], g @ part.C], dim=1)
        back = torch.cat([back[:, :-1], back[:, -1:] + g_end[:, None]], dim=1)
        x = linear_recurrence(part.poles, part.numbers(drive))
        v = linear_recurrence(part.poles.conj(), part.numbers(back), reverse=True)
        products = v[:, 1:] * x[:, :-1].conj()
        g_poles.append(products.sum(dim=(0, 1)).to(part.poles.dtype))
        v, x = part.reals(v), part.reals(x)[:, 1:]
        g_initial.append(v[:, 0])
        v = v[:, 1:]
        g_u = g_u + v @ part.B
        g_B.append(torch.einsum("bln,blh->nh", v, u))
        g_C.append(torch.einsum("blp,bln->pn", g, x))
    g_u = g_u.flip(1) if reverse else g_u
    return *g_poles, torch.cat(g_B), torch.cat(g_C, dim=1), g_u, torch.cat(g_initial, dim=1)


def _in_given_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Operators mix their arguments with arrays of their own: autocast must not cast some."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        with torch.autocast(arguments[2].device.type, enabled=False):
            return function(*arguments)

    return run


@torch.library.custom_op("lticore::state_space_map", mutates_args=())
@_in_given_precision
def _map(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    initial: Tensor,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, last state, states of the blocks, of the real poles): all of them or those that enter a
    chunk."""
    count, length, _ = u.shape
    parts = _parts(poles, real_poles, B, C)
    state = list(_split(initial, poles))
    y = u.new_empty(count, length, C.shape[0])
    kept = [u.new_empty(count, *_kept(length, part.B.shape[0], keep)) for part in parts]
    present = _present(parts)
    for index, span in _chunks(length, keep, reverse):
        for i, part in present:
            x = u[:, span] @ part.B.mT
            recur_in_place(part.poles, part.numbers(x), part.numbers(state[i]), reverse)
            if keep:
                kept[i] = x
            else:
                kept[i][:, index] = state[i]
            state[i] = x[:, 0 if reverse else -1].contiguous()
            _assign(y[:, span], x, part.C.mT, add=part is not present[0][1])
    return y, torch.cat(state, dim=1), kept[0], kept[1]


@_map.register_fake
def _(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    initial: Tensor,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count, length, _ = u.shape
    widths = (2 * poles.shape[0], real_poles.shape[0])
    pairs, reals = (u.new_empty(count, *_kept(length, w, keep)) for w in widths)
    return u.new_empty(count, length, C.shape[0]), u.new_empty(initial.shape), pairs, reals


@torch.library.custom_op("lticore::state_space_map_adjoint", mutates_args=())
@_in_given_precision
def _map_adjoint(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    initial: Tensor,
    pairs: Tensor,
    reals: Tensor,
    g: Tensor,
    g_last: Tensor,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cotangents of (poles, real_poles, B, C, u, initial)."""
    parts, kept = _parts(poles, real_poles, B, C), (pairs.contiguous(), reals.contiguous())
    # Contiguous, as promised below: zeros_like would take over any layout of the arguments.
    g_poles = [part.poles.new_zeros(part.poles.shape) for part in parts]
    g_B, g_C, g_u = B.new_zeros(B.shape), C.new_zeros(C.shape), u.new_empty(u.shape)
    g_parts = _parts(poles, real_poles, g_B, g_C)
    starts = _split(initial, poles)
    # g_last, then conj(λ) v of the first step of the chunk after.
    passed = list(_split(g_last, poles))
    first, last = (-1, 0) if reverse else (0, -1)
    present = _present(parts)
    for index, span in reversed(_chunks(u.shape[1], keep, reverse)):
        for i, part in present:
            start, x = starts[i], kept[i]
            if not keep:
                start, x = kept[i][:, index].contiguous(), u[:, span] @ part.B.mT
                recur_in_place(part.poles, part.numbers(x), part.numbers(start), reverse)
            v = g[:, span] @ part.C
            v[:, last] += passed[i]
            g_poles[i] += adjoint_in_place(
                part.poles, part.numbers(v), part.numbers(x), part.numbers(start), reverse
            )
            # Compiled graphs call operators where lazy conjugation is not resolved.
            leaving = part.numbers(v[:, first].contiguous())
            passed[i] = part.reals((part.poles.conj_physical() * leaving).to(leaving.dtype))
            _add_products(g_parts[i], v, x, u[:, span], g[:, span])
            _assign(g_u[:, span], v, part.B, add=part is not present[0][1])
    return g_poles[0], g_poles[1], g_B, g_C, g_u, torch.cat(passed, dim=1)


@_map_adjoint.register_fake
def _(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    initial: Tensor,
    *_: Any,
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (poles, real_poles, B, C, u, initial))


def _present(parts: tuple[_Part, _Part]) -> list[tuple[int, _Part]]:
    """Those that have states."""
    return [(i, part) for i, part in enumerate(parts) if part.poles.shape[0]]


def _assign(target: Tensor, x: Tensor, matrix: Tensor, *, add: bool) -> None:
    """target (count, t, c) = or += x (count, t, w) times matrix (w, c)."""
    if target.is_contiguous():
        flat = target.view(-1, target.shape[-1])
        torch.addmm(flat, x.flatten(0, 1), matrix, beta=int(add), out=flat)
    elif add:
        target += x @ matrix
    else:
        target.copy_(x @ matrix)


def _add_products(g_part: _Part, v: Tensor, x: Tensor, u: Tensor, g: Tensor) -> None:
    """Adds v uᵀ to the cotangent of B and g xᵀ to that of C, over all sequences and steps."""
    v, x, u, g = (t.flatten(0, 1) for t in (v, x, u, g))
    _add_product(g_part.B, v, u)
    _add_product(g_part.C, g, x)


def _add_product(target: Tensor, a: Tensor, b: Tensor) -> None:
    """target (m, n) += aᵀ b, a (N, m), b (N, n) with N ≫ m, n.

    BLAS takes up to twice as long where m > n (MKL, N = 39 200: 22 instead of 15 ms for 512 × 8, 47
    instead of 31 for 512 × 64), so the narrow factor comes first.
    """
    if a.shape[1] <= b.shape[1]:
        target.addmm_(a.mT, b)
    else:
        target += (b.mT @ a).mT


def _chunks(length: int, keep: bool, reverse: bool) -> list[tuple[int, slice]]:
    """(index, steps) of the chunks, in the order of the recurrence: one where states are kept."""
    steps = max(1, length) if keep else _STEPS
    spans = [slice(start, min(start + steps, length)) for start in range(0, length, steps)]
    return list(enumerate(reversed(spans) if reverse else spans))


def _kept(length: int, width: int, keep: bool) -> tuple[int, int]:
    return (length if keep else -(-length // _STEPS)), width


def _register_one_by_one(operation: Any) -> None:
    """vmap by one call per entry."""

    def run(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
        entries = [
            operation(
                *(
                    x.select(d, i) if d is not None else x
                    for x, d in zip(arguments, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        results = tuple(torch.stack(x) for x in zip(*entries, strict=True))
        return results, (0,) * len(results)

    operation.register_vmap(run)


_register_one_by_one(_map)
_register_one_by_one(_map_adjoint)
