"""Modules as functions of one time step, their parameters made once into what a step needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from lticore.errors import ArgumentError

from ..layers import S4D, Bidirectional, SelectiveSSM
from ..layers.base import exponential
from ..layers.modal import ModalSSM
from ..layers.wrapped import is_quantised
from ..models.blocks import SequenceBlock, SequenceClassifier, is_plain_linear
from .passing import child

#: Sequences up to which Numba's loops are faster than calls of BLAS.
_FEW = 4

#: (sequences, …) state of each layer by module name, and what else a model carries along, float64.
States: TypeAlias = dict[str, np.ndarray]
#: Norms that act on each step by itself.
NORMS = (nn.BatchNorm1d, nn.LayerNorm)
#: Modules that act on each step by itself, and do nothing in evaluation mode or are called.
_POINTWISE = (
    nn.GELU,
    nn.ReLU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.ELU,
    nn.LeakyReLU,
    nn.Identity,
    nn.Dropout,
)


@dataclass(frozen=True, eq=False)
class Part:
    """A module step by step.

    step : (inputs of one step (sequences, …), states) → outputs; states change in place
    shapes : of the states, without the sequences
    """

    step: Callable[[np.ndarray, States], np.ndarray]
    shapes: dict[str, tuple[int, ...]]


class InFloat32(nn.Module):
    """A quantised module, which takes float32 only, in a model of float64."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @property
    def in_features(self) -> Any:
        return self.module.in_features

    def forward(self, u: Tensor) -> Tensor:
        return self.module(u.float()).to(u.dtype)


def in_double(model: nn.Module) -> nn.Module:
    """The model, in place, in float64 as far as its modules can be."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if is_quantised(module):
            model.set_submodule(name, InFloat32(module))
    return model.double()


@singledispatch
def part_of(module: Any, name: str) -> Part:
    """The module in evaluation mode, in float64.

    Raises
    ------
    ArgumentError
        For a module that needs the whole sequence, or that is not known.
    """
    raise ArgumentError(
        f"'{name or 'the model'}', a {type(module).__name__}, is not known to stream: models are "
        "made of state-space layers, SequenceBlock, nn.Linear, nn.Embedding, nn.LayerNorm, "
        "activations and nn.Sequential of these, or are a SequenceClassifier"
    )


@part_of.register
def _(module: Bidirectional, name: str) -> Part:
    raise ArgumentError(
        f"'{name or 'the model'}' is bidirectional: its second direction needs the end of the "
        "sequence first. Run it on whole sequences, or train a unidirectional model"
    )


@part_of.register
def _(layer: ModalSSM, name: str) -> Part:
    from . import kernels

    poles, real = (_as_array(x) for x in layer._poles())
    pairs = np.ascontiguousarray(np.stack([poles.real, poles.imag], axis=-1))
    _, B, rows, D = map(_as_array, layer._at_work(layer.D))
    count, outputs = len(rows), layer.outputs
    dense = None if D.ndim == 1 else D
    diagonal = D if dense is None else np.zeros(0)

    def step(u: np.ndarray, states: States) -> np.ndarray:
        x = states[name]
        if len(u) <= _FEW:
            z = np.empty((len(u), count))
            kernels.modal_step(u, x, pairs, real, B, rows, diagonal, z)
        else:
            kernels.turn(x, pairs, real)
            x += u @ B.T
            z = x @ rows.T
            if dense is None:
                z[:, : len(D)] += D * u
        if dense is not None:
            z += u @ dense.T
        return z if count == outputs else _as_array(layer._combined(torch.from_numpy(z)))

    return Part(step, {name: (layer.order,)})


@part_of.register
def _(layer: S4D, name: str) -> Part:
    from . import kernels

    poles, real, b = (_as_array(x) for x in layer._sampled_modes())
    pairs, inputs = (np.ascontiguousarray(np.stack([x.real, x.imag], axis=-1)) for x in (poles, b))
    outputs, real_outputs, D = map(_as_array, (2 * layer.C, layer.real_C, layer.D))
    of_pairs, of_real = _as_array(layer.pair_channel), _as_array(layer.real_channel)

    def step(u: np.ndarray, states: States) -> np.ndarray:
        y = np.empty_like(u)
        kernels.channel_step(
            u, states[name], pairs, inputs, outputs, of_pairs, real, real_outputs, of_real, D, y
        )
        return y

    return Part(step, {name: (layer._width(),)})


@part_of.register
def _(layer: SelectiveSSM, name: str) -> Part:
    from . import kernels

    down, up, bias, B, C, D = map(
        _as_array, (layer.step_down, layer.step_up, layer.step_bias, layer.B, layer.C, layer.D)
    )
    rates = np.ascontiguousarray(
        np.stack([_as_array(exponential(layer.decay_log)), _as_array(layer.frequency)], axis=-1)
    )
    shared = exponential(layer.real_log)
    real = _as_array(shared.expand(layer.features, shared.shape[-1]))

    def step(u: np.ndarray, states: States) -> np.ndarray:
        y, steps = np.empty_like(u), np.logaddexp(u @ down.T @ up.T + bias, 0)
        b, c = u @ B.T, u @ C.T
        kernels.selective_step(u, states[name], steps, b, c, rates, real, D, y)
        return y

    return Part(step, {name: (layer.features, layer.order)})


@part_of.register
def _(block: SequenceBlock, name: str) -> Part:
    from . import kernels

    ssm = part_of(block.ssm, child(name, "ssm"))
    norm = _norm(block.norm, child(name, "norm"))
    gate = None if block.gate is None else _called(block.gate)
    h = block.ssm.features

    def step(v: np.ndarray, states: States) -> np.ndarray:
        a = ssm.step(norm(v), states)
        kernels.gelu(a)
        if gate is None:
            return v + a
        w, y = gate(a), v.copy()
        if w.shape[1] == h:
            kernels.half_glu(y, a, w)
        else:
            kernels.glu(y, w)
        return y

    return Part(step, ssm.shapes)


@part_of.register
def _(model: SequenceClassifier, name: str) -> Part:
    if model.config.documents > 1:
        raise ArgumentError(
            "a classifier of pairs of documents does not stream: each of its two documents is a "
            "sequence of its own. Stream its encoder and blocks as nn.Sequential"
        )
    encode = _called(model.encoder)
    blocks = [part_of(x, child(name, f"blocks.{key}")) for key, x in model.blocks.named_children()]
    decode = _called(model.decoder)

    def step(u: np.ndarray, states: States) -> np.ndarray:
        v = encode(u)
        for block in blocks:
            v = block.step(v, states)
        states["sum"] += v
        states["steps"] += 1
        return decode(states["sum"] / states["steps"])

    shapes = {key: x for block in blocks for key, x in block.shapes.items()}
    return Part(step, {**shapes, "sum": (model.config.features,), "steps": (1,)})


@part_of.register
def _(model: nn.Sequential, name: str) -> Part:
    parts = [part_of(x, child(name, key)) for key, x in model.named_children()]

    def step(u: np.ndarray, states: States) -> np.ndarray:
        for part in parts:
            u = part.step(u, states)
        return u

    return Part(step, {key: x for part in parts for key, x in part.shapes.items()})


@part_of.register
def _(module: nn.Linear, name: str) -> Part:
    return _stateless(_called(module))


@part_of.register
def _(module: nn.Embedding, name: str) -> Part:
    return _stateless(_called(module))


@part_of.register
def _(module: InFloat32, name: str) -> Part:
    return _stateless(_called(module))


@part_of.register
def _(module: nn.LayerNorm, name: str) -> Part:
    return _stateless(_norm(module, name))


def _pointwise(module: nn.Module, name: str) -> Part:
    return _stateless(_called(module))


for _kind in _POINTWISE:
    part_of.register(_kind, _pointwise)


def _stateless(step: Callable[[np.ndarray], np.ndarray]) -> Part:
    return Part(lambda u, states: step(u), {})


def _called(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """A module that acts on each step by itself; a plain linear map without torch."""
    if is_plain_linear(module):
        return _plain_linear(_as_array(module.weight), _as_array(module.bias))  # type: ignore[arg-type]
    return lambda u: module(torch.from_numpy(u)).numpy()


def _plain_linear(W: np.ndarray, bias: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from . import kernels

    def step(u: np.ndarray) -> np.ndarray:
        if len(u) > _FEW:
            return u @ W.T + bias
        y = np.empty((len(u), len(W)))
        kernels.linear(u, W, bias, y)
        return y

    return step


def _norm(norm: nn.Module, name: str) -> Callable[[np.ndarray], np.ndarray]:
    from . import kernels

    if type(norm) is nn.BatchNorm1d and norm.running_mean is not None:
        mean, variance = _as_array(norm.running_mean), _as_array(norm.running_var)  # type: ignore[arg-type]
        scale, shift = _scale_and_shift(norm, len(mean))
        scale = scale / np.sqrt(variance + norm.eps)
        shift = shift - scale * mean

        def affine(v: np.ndarray) -> np.ndarray:
            z = np.empty_like(v)
            kernels.scaled_and_shifted(v, scale, shift, z)
            return z

        return affine
    if type(norm) is nn.LayerNorm and len(norm.normalized_shape) == 1:
        scale, shift = _scale_and_shift(norm, norm.normalized_shape[0])
        eps = norm.eps

        def over_features(v: np.ndarray) -> np.ndarray:
            z = np.empty_like(v)
            kernels.layer_norm(v, scale, shift, eps, z)
            return z

        return over_features
    raise ArgumentError(
        f"'{name}', a {type(norm).__name__}, is not known to act on each step by itself: blocks "
        "that stream have nn.BatchNorm1d with running statistics or nn.LayerNorm over the features"
    )


def _scale_and_shift(norm: Any, h: int) -> tuple[np.ndarray, np.ndarray]:
    scale = np.ones(h) if norm.weight is None else _as_array(norm.weight)
    return scale, np.zeros(h) if norm.bias is None else _as_array(norm.bias)


def _as_array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy())
