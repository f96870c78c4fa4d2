"""Sums over Hankel singular values as a differentiable operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import lticore
from lticore import SpectralFunction
from lticore.errors import ArgumentError, ArrayLibraryError
from lticore.internal import (
    SpectralLike,
    as_spectral_function,
)

from . import nuclear
from .bridge import to_array, to_tensor

#: State matrix structures by name, for the operator schema below.
_STRUCTURES: dict[str, Callable[..., Any]] = {
    "diagonal": lticore.Diagonal,
    "rotation": lticore.Rotation,
    "dense": lambda A: A,
}
#: Spectral functions by name: an operator schema takes strings, not callables.
_SPECTRAL_FUNCTIONS: dict[str, SpectralFunction] = {}


def spectral_sum(
    structure: str,
    parameters: tuple[Tensor, ...],
    B: Tensor,
    C: Tensor,
    function: SpectralLike = "nuclear",
) -> Tensor:
    """Σ φ(σ_i) of the systems (A, B, C), differentiable in all their arrays.

    Parameters
    ----------
    structure : "diagonal", "rotation" or "dense"
    parameters : tensors of A in the order of the structure: (poles,), (radius, angle, real_poles),
        (A,); batch axes lead and are the same in all tensors
    B : (..., n, m),  C : (..., p, n)
    function : as for :func:`lticore.hankel_sum`

    Returns
    -------
    (...) real tensor in the precision of B. Computed in float64, value and gradient together.

    Differentiability: reverse mode once (twice raises; forward mode raises), vmap,
    compile(fullgraph).

    Raises: as :func:`lticore.hankel_sum_and_gradient`.

    >>> pole = torch.tensor([0.6], dtype=torch.float64, requires_grad=True)
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> lt.spectral_sum("diagonal", (pole,), 0.8 * one, 0.8 * one).backward()
    >>> pole.grad  # of 0.64/(1 − λ²)
    tensor([1.8750], dtype=torch.float64)
    """
    if structure not in _STRUCTURES:
        raise ArgumentError(f"structure={structure!r} is not one of {sorted(_STRUCTURES)}")
    return _SpectralSum.apply(structure, _register(function), B, C, *parameters)[0]


def _register(function: SpectralLike) -> str:
    phi = as_spectral_function(function)
    _SPECTRAL_FUNCTIONS[phi.name] = phi
    return phi.name


# What torch.compiler.assume_constant_result does beside importing all of torch._dynamo, which takes
# as long as torch itself. Without it compiled code registers only after it has run.
_register._dynamo_marked_constant = True  # type: ignore[attr-defined]


@torch.library.custom_op("lticore::spectral_sum", mutates_args=())
def _spectral_sum(
    structure: str, function: str, B: Tensor, C: Tensor, parameters: list[Tensor]
) -> list[Tensor]:
    """[value, g_B, g_C, *g_parameters]; opaque to tracing, never differentiated itself."""
    by_products = B.device.type in nuclear.DEVICES and structure in nuclear.STRUCTURES
    found = None
    if by_products and function == "nuclear":
        found = nuclear.nuclear_sum(structure, B, C, parameters)
    if found is None:
        found = _by_decompositions(structure, function, B, C, *parameters)
    return [_cast(x, like) for x, like in zip(found, (B.real, B, C, *parameters), strict=True)]


@_spectral_sum.register_fake
def _(
    structure: str, function: str, B: Tensor, C: Tensor, parameters: list[Tensor]
) -> list[Tensor]:
    gradients = [x.new_empty(x.shape) for x in (B, C, *parameters)]
    return [B.real.new_empty(B.shape[:-2]), *gradients]


def _by_decompositions(structure: str, function: str, *tensors: Tensor) -> list[Tensor]:
    """By decompositions, with the errors and warnings that belong to them."""
    if nuclear.is_capturing(tensors[0]):
        raise ArrayLibraryError(
            "this Hankel sum is computed on the host, which cannot wait for a CUDA graph that is "
            "being captured: only sums of singular values of diagonal and rotation systems can be"
        )
    B, C, *parameters = (to_array(_at_least_single(x).cpu()) for x in tensors)
    sys = lticore.LTI(_STRUCTURES[structure](*parameters), B, C)
    value, gradient = lticore.hankel_sum_and_gradient(sys, _SPECTRAL_FUNCTIONS[function])
    arrays = value, gradient.B, gradient.C, *gradient.A
    return [to_tensor(x).to(tensors[0].device) for x in arrays]


def _at_least_single(x: Tensor) -> Tensor:
    """``x``, half precision widened to float32: lticore has no half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _cast(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the dtype of ``like``; the gradient of a real tensor is the real part."""
    x = x if like.is_complex() or not x.is_complex() else x.real
    return x.to(like.dtype).contiguous()


class _SpectralSum(Function):
    # The closed-form gradient comes with the value at a small surcharge (see lticore.hankel), so
    # forward computes both, and backward only scales it: df = Re⟨g, dx⟩.

    @staticmethod
    def forward(structure: str, function: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        B, C, *parameters = tensors
        return tuple(_spectral_sum(structure, function, B, C, parameters))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, *tensors = inputs
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.save_for_backward(*gradients, *tensors)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        half = len(ctx.saved_tensors) // 2
        gradients, tensors = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        results = [_align(cotangent, g) * g for g in gradients]
        if torch.is_grad_enabled():
            results = [_DifferentiableOnce.apply(g, *tensors) for g in results]
        return (None, None, *results)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], structure: str, function: str, *tensors: Tensor
    ) -> tuple[Any, ...]:
        batched = [
            x.movedim(d, 0) if d is not None else x.expand(info.batch_size, *x.shape)
            for x, d in zip(tensors, in_dims[2:], strict=True)
        ]
        outputs = _SpectralSum.apply(structure, function, *batched)
        return outputs, (0,) * len(outputs)


def _align(value: Tensor, gradient: Tensor) -> Tensor:
    """``value`` (...) with trailing axes to multiply ``gradient`` (..., a) or (..., a, b)."""
    return value.reshape(*value.shape, *(1,) * (gradient.ndim - value.ndim))


class _DifferentiableOnce(Function):
    """Passes a gradient on and refuses to be differentiated: silence would mean zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, *sources: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "the Hankel sum has no second derivative here: its gradient is in closed form and "
            "differentiable once. Use finite differences of the gradient for Hessian products"
        )
