"""Penalties on a model's state-space layers, for compressible states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lticore.errors import ArgumentError
from lticore.internal import (
    SpectralLike,
    as_spectral_function,
    check_integer,
)

from ..layers import SSMLayer, time_invariant_layers
from ..layers.parameters import gathered
from ..ops.spectral import spectral_sum

#: A differentiable number that adds up over the state-space layers of a module.
Penalty: TypeAlias = Callable[[nn.Module], Tensor]


def hankel_sum(module: nn.Module, function: SpectralLike = "nuclear") -> Tensor:
    """Σ over all state-space layers of Σ_i φ(σ_i), differentiable in their parameters.

    Layers of one shape are computed in one batched call. The result has the dtype of the layers'
    parameters (computed in float64, also under autocast).

    Raises
    ------
    ArgumentError
        When the module has no time-invariant state-space layer.

    Source: Schwerdtner et al., HSVR, eq. (11).

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> print(f"{lt.hankel_sum(layer).item():.4f}")
    4.0000
    """
    return _summed_terms(sums.sum() for _, sums in _hankel_sums(module, function))


def hankel_mean(module: nn.Module) -> Tensor:
    """Σ over all state-space layers of the mean of their n Hankel singular values.

    As :func:`hankel_sum`. Source: Forgione, Mejari & Piga, CDC 2024, the Hankel nuclear norm.

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> print(f"{lt.hankel_mean(layer).item():.4f}")
    2.0000
    """
    return _summed_terms(sums.sum() / order for order, sums in _hankel_sums(module, "nuclear"))


def modal_mean(module: nn.Module) -> Tensor:
    """Σ over all state-space layers of the mean of |λ| over their n states.

    Errors as for :func:`hankel_sum`. Cost: O(n). Source: Forgione, Mejari & Piga, CDC 2024, the
    modal ℓ1 norm.

    >>> layer = lt.RotationSSM(1, 2)
    >>> A = lti.Diagonal([0.8, 0.6])
    >>> layer.load_lti(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2))))
    >>> print(f"{lt.modal_mean(layer).item():.4f}")
    0.7000
    """
    return _summed_terms(
        (2 * pairs.sum() + others.sum()) / layer.order
        for layer in _layers(module)
        for pairs, others in [_magnitudes(layer)]
    )


def magnitude_sum(module: nn.Module) -> Tensor:
    """Σ over all state-space layers of the ℓ1 norm of their block magnitudes: ρ of each rotation
    block, |λ| of each other pole.

    Errors as for :func:`hankel_sum`. Cost: O(n). Source: Schwerdtner et al., HSVR, Tables 6-8, the
    ℓ1 norm compared with there.

    >>> layer = lt.RotationSSM(1, 2)
    >>> A = lti.Rotation([0.8], [0.3])
    >>> layer.load_lti(lti.LTI(A, np.ones((2, 1)), np.ones((1, 2))))
    >>> print(f"{lt.magnitude_sum(layer).item():.4f}")  # one block
    0.8000
    """
    return _summed_terms(
        magnitudes.sum() for layer in _layers(module) for magnitudes in _magnitudes(layer)
    )


class Regularizer:
    """``regularizer(model)`` = weight · penalty, to be added to the training loss.

    With weight 0 it is a constant zero and computes nothing. In evaluation mode it is the value of
    every call, for validation losses; leave it out where only predictions matter.

    A model wrapped in ``DistributedDataParallel`` averages gradients over its processes. Each layer
    is then computed in one process only and counts as many times as there are processes: the
    gradient is that of one process, the values are so on average over the processes. Of a model
    sharded by ``torch.distributed.fsdp.fully_shard`` every process gathers the layers and computes
    all. (Sharding takes no parameters without entries, which layers without real poles have: name
    them in its ``ignored_params``.)

    Parameters
    ----------
    weight : float ≥ 0
    penalty : :func:`hankel_sum`, :func:`hankel_mean`, :func:`modal_mean`, :func:`magnitude_sum`, or
        another function of a module that adds up over its state-space layers
    every : int ≥ 1
        In training mode, compute it in every k-th call only (the first, the k+1-st, …), k times as
        large; in between it is a constant zero. ``calls`` counts; set it when training resumes.

    Raises
    ------
    ArgumentError
        When the model has no time-invariant state-space layer and the weight is not 0.

    >>> layer, penalty = lt.LRU(4, 8), lt.Regularizer(0.5, lt.modal_mean)
    >>> bool(penalty(layer) == 0.5 * lt.modal_mean(layer))
    True
    """

    def __init__(self, weight: float, penalty: Penalty, *, every: int = 1) -> None:
        if not 0 <= weight < float("inf"):
            raise ArgumentError(f"weight must be a finite number ≥ 0, but is {weight!r}")
        self.weight = weight
        self.penalty = penalty
        self.every = check_integer("every", every, minimum=1)
        self.calls = 0

    def __call__(self, model: nn.Module) -> Tensor:
        if self.weight == 0:
            return _zero(model)
        share, copies = _share_of_process(model)
        if not share or (model.training and self._rests()):
            return _zero(model)
        times = copies * (self.every if model.training else 1)
        return times * self.weight * self.penalty(nn.ModuleList(share))

    def _rests(self) -> bool:
        # Nothing is counted without need: a number that changes would make torch.compile start
        # again at every call.
        if self.every == 1:
            return False
        self.calls += 1
        return (self.calls - 1) % self.every != 0

    def __repr__(self) -> str:
        name = getattr(self.penalty, "__name__", repr(self.penalty))
        return f"{type(self).__name__}({self.weight}, {name}, every={self.every})"


class HankelRegularizer(Regularizer):
    """``regularizer(model)`` = weight · :func:`hankel_sum`, to be added to the training loss.

    All else as for :class:`Regularizer`.

    Parameters
    ----------
    weight : float ≥ 0
    function : "nuclear" (the paper), "log", ``lticore.schatten(p)``, ``lticore.tail(r)``, or a
        pair (φ, φ')
    every : int ≥ 1

    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> layer = lt.RotationSSM(2, 2)
    >>> layer.load_lti(lti.LTI(A, B, np.diag([3, 1]) @ B))  # σ = 3, 1
    >>> penalty = lt.HankelRegularizer(0.5)
    >>> print(f"{penalty(layer).item():.4f}")
    2.0000
    >>> loss = layer(torch.ones(2, 50, 2)).square().mean() + penalty(layer)
    >>> loss.backward()
    """

    def __init__(
        self, weight: float, function: SpectralLike = "nuclear", *, every: int = 1
    ) -> None:
        self.function = as_spectral_function(function)
        super().__init__(weight, partial(hankel_sum, function=self.function), every=every)

    def __repr__(self) -> str:
        return f"HankelRegularizer({self.weight}, {self.function.name!r}, every={self.every})"


def _layers(module: nn.Module) -> list[SSMLayer]:
    return list(time_invariant_layers(module).values())


def _share_of_process(model: nn.Module) -> tuple[list[SSMLayer], int]:
    """The layers that this process computes, and how often they count in its gradient."""
    layers = _layers(model)
    if not isinstance(model, DistributedDataParallel):
        return layers, 1
    processes = torch.distributed.get_world_size(model.process_group)
    return layers[torch.distributed.get_rank(model.process_group) :: processes], processes


def _hankel_sums(module: nn.Module, function: SpectralLike) -> Iterator[tuple[int, Tensor]]:
    """The order and the sums of each set of layers that have the same shape."""
    groups: dict[tuple[Any, ...], list[tuple[Tensor, ...]]] = {}
    for layer in _layers(module):
        structure, parameters, B, C = gathered(layer).system_tensors()
        tensors = (B, C, *parameters)
        key = (structure, *((x.shape, x.dtype, x.device) for x in tensors))
        groups.setdefault(key, []).append(tensors)
    for (structure, *_), members in groups.items():
        B, C, *stacked = (torch.stack(x) for x in zip(*members, strict=True))
        yield B.shape[-2], spectral_sum(structure, tuple(stacked), B, C, function)


def _magnitudes(layer: SSMLayer) -> tuple[Tensor, Tensor]:
    """ρ of the rotation blocks and |λ| of the other poles, in the dtype of the layer."""
    structure, parameters, B, _ = gathered(layer).system_tensors()
    if structure == "rotation":
        radius, _, real_poles = parameters
    elif structure == "diagonal":
        radius, real_poles = parameters[0][..., :0], parameters[0]
    else:
        raise ArgumentError(f"the magnitudes of {structure} state matrices are not penalised")
    return radius.abs().to(B.real.dtype), real_poles.abs().to(B.real.dtype)


def _summed_terms(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


def _zero(model: nn.Module) -> Tensor:
    return next(iter(model.parameters()), torch.zeros(())).new_zeros(())
