"""The map of a state-space layer, from inputs to outputs, as one operation."""

from __future__ import annotations

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
    reverse: bool = False,
    keep_states: bool = True,
) -> Tensor:
    """Outputs of a real system with rotation blocks and real poles, from rest.

        x_k = A x_{k−1} + B u_k,   y_k = C x_k;      reverse:  x_k = A x_{k+1} + B u_k

    A block turns its two states (x_1, x_2) as λ turns x_1 + i x_2; the states of the q blocks come
    first, two by two, and then those of the k real poles.

    Parameters
    ----------
    poles : (q,) complex tensor; real_poles : (k,) real tensor; their precision may be higher
    B : (n, h) real tensor, n = 2q + k;  C : (p, n) real tensor
    u : (..., L, h) float32 or float64 tensor; all is computed in its precision
    reverse : bool
        Run backwards in time.
    keep_states : bool
        False: for the backward pass only one state in 64 is kept, and the others are computed
        again, one chunk at a time. Memory beyond u and y falls from L n to about L n / 64 numbers
        per sequence, for one product with B more.

    Returns
    -------
    (..., L, p) tensor of the dtype of ``u``.

    Cost: O(L n (h + p)). No array of the size of the states is written but B u, which becomes
    the states in place, and its like in the backward pass.

    Differentiability: in all tensors, reverse mode any number of times, vmap (one call per entry),
    compile(fullgraph); forward mode raises.

    Raises
    ------
    ShapeError, DtypeError
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
    y, *_ = _StateSpaceMap.apply(
        poles,
        real_poles,
        B.to(u.dtype),
        C.to(u.dtype),
        u.reshape(-1, *u.shape[-2:]),
        reverse,
        keep_states,
    )
    return y.reshape(*u.shape[:-1], C.shape[0])


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


def _parts(poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor) -> tuple[_Part, _Part]:
    pairs = 2 * poles.shape[0]
    return (
        _Part(poles, B[:pairs], C[:, :pairs]),
        _Part(real_poles, B[pairs:], C[:, pairs:]),
    )


class _StateSpaceMap(Function):
    # With g the cotangent of y, that of the states is Cᵀ g; run backwards in time with conj λ it is
    # v, the cotangent of B u (see _Recurrence). Hence g_u = Bᵀ v, g_B = v uᵀ, g_C = g xᵀ and
    # g_λ = Σ_k v_k conj(x_{k−1}).

    generate_vmap_rule = True

    @staticmethod
    def forward(
        poles: Tensor,
        real_poles: Tensor,
        B: Tensor,
        C: Tensor,
        u: Tensor,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        # Arguments by name: without gradients torch.compile counts them to tell whether the
        # context comes first.
        return _map(poles, real_poles, B, C, u, reverse, keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.reverse, ctx.keep = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        *tensors, pairs, reals = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            return (*_adjoint_by_parts(tensors, g, ctx.reverse), None, None)
        return (*_map_adjoint(*tensors, pairs, reals, g, ctx.reverse, ctx.keep), None, None)


def _adjoint_by_parts(tensors: list[Tensor], g: Tensor, reverse: bool) -> tuple[Tensor, ...]:
    """The same by operations that can be differentiated again."""
    poles, real_poles, B, C, u = tensors
    g_poles, g_B, g_C, g_u = [], [], [], torch.zeros_like(u)
    for part in _parts(poles, real_poles, B, C):
        x = linear_recurrence(part.poles, part.numbers(u @ part.B.mT), reverse=reverse)
        cotangent = part.numbers((g @ part.C).contiguous())
        v = linear_recurrence(part.poles.conj(), cotangent, reverse=not reverse)
        driven, previous = (v[:, :-1], x[:, 1:]) if reverse else (v[:, 1:], x[:, :-1])
        g_poles.append((driven * previous.conj()).sum(dim=(0, 1)).to(part.poles.dtype))
        v, x = part.reals(v), part.reals(x)
        g_u = g_u + v @ part.B
        g_B.append(torch.einsum("bln,blh->nh", v, u))
        g_C.append(torch.einsum("blp,bln->pn", g, x))
    return (*g_poles, torch.cat(g_B), torch.cat(g_C, dim=1), g_u)


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
    poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor, u: Tensor, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, states of the blocks, of the real poles): all of them or those that enter a chunk."""
    count, length, _ = u.shape
    parts = _parts(poles, real_poles, B, C)
    state = [u.new_zeros(count, part.B.shape[0]) for part in parts]
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
    return y, kept[0], kept[1]


@_map.register_fake
def _(
    poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor, u: Tensor, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    count, length, _ = u.shape
    widths = (2 * poles.shape[0], real_poles.shape[0])
    pairs, reals = (u.new_empty(count, *_kept(length, w, keep)) for w in widths)
    return u.new_empty(count, length, C.shape[0]), pairs, reals


@torch.library.custom_op("lticore::state_space_map_adjoint", mutates_args=())
@_in_given_precision
def _map_adjoint(
    poles: Tensor,
    real_poles: Tensor,
    B: Tensor,
    C: Tensor,
    u: Tensor,
    pairs: Tensor,
    reals: Tensor,
    g: Tensor,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cotangents of (poles, real_poles, B, C, u)."""
    parts, kept = _parts(poles, real_poles, B, C), (pairs, reals)
    g_poles = [torch.zeros_like(part.poles) for part in parts]
    g_B, g_C, g_u = torch.zeros_like(B), torch.zeros_like(C), u.new_empty(u.shape)
    g_parts = _parts(poles, real_poles, g_B, g_C)
    passed: list[Tensor | None] = [None, None]  # conj(λ) v of the first step of the chunk after
    first, last = (-1, 0) if reverse else (0, -1)
    present = _present(parts)
    for index, span in reversed(_chunks(u.shape[1], keep, reverse)):
        for i, part in present:
            start, x = torch.zeros_like(kept[i][:, 0]), kept[i]
            if not keep:
                start, x = kept[i][:, index].contiguous(), u[:, span] @ part.B.mT
                recur_in_place(part.poles, part.numbers(x), part.numbers(start), reverse)
            v = g[:, span] @ part.C
            if (later := passed[i]) is not None:
                v[:, last] += later
            g_poles[i] += adjoint_in_place(
                part.poles, part.numbers(v), part.numbers(x), part.numbers(start), reverse
            )
            # Compiled graphs call operators where lazy conjugation is not resolved.
            leaving = part.numbers(v[:, first].contiguous())
            passed[i] = part.reals((part.poles.conj_physical() * leaving).to(leaving.dtype))
            _add_products(g_parts[i], v, x, u[:, span], g[:, span])
            _assign(g_u[:, span], v, part.B, add=part is not present[0][1])
    return g_poles[0], g_poles[1], g_B, g_C, g_u


@_map_adjoint.register_fake
def _(
    poles: Tensor, real_poles: Tensor, B: Tensor, C: Tensor, u: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (poles, real_poles, B, C, u))


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


def _one_by_one(operation: Any) -> None:
    """vmap by one call per entry."""

    def run(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
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


_one_by_one(_map)
_one_by_one(_map_adjoint)
