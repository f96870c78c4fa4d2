"""Bounds on the change of a classifier's output by compression."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lticore
from lticore import certificate
from lticore.errors import ArgumentError
from lticore.internal import (
    LayerConstants,
    mapped,
    to_numpy,
)

from ..layers import QuadraticSSM, capture, ssm_layers
from ..layers.batches import Batch, Calibration, batches_of
from ..models.blocks import SequenceBlock, SequenceClassifier, is_plain_linear

#: 2n + m + p above which the h∞ norm costs too much, and twice the Hankel sum bounds it instead.
_LARGEST_PENCIL = 400


def output_error_bound(
    model: SequenceClassifier, small: SequenceClassifier, inputs: Calibration
) -> np.ndarray:
    """Bound on ‖f(x) − f̂(x)‖₂ for each example, from the systems and measured sizes of signals.

    The deep bound of :func:`lticore.certificate.deep_error_bound`: the change of each layer is the
    h∞ norm of the difference of its two systems, as their parameters are (rounding included), times
    the size of its input; later layers and gates multiply it by their Lipschitz constants. For
    large layers twice the sum of Hankel singular values stands for an h∞ norm.

    Parameters
    ----------
    model, small : the classifier and its compressed form; all else but the systems is the same
    inputs : positional arguments of the models: sequences, or (sequences, lengths); or an iterable
        of batches, as for :func:`compress`

    Returns
    -------
    (sequences,) float64 array. A certificate, several decades above the change itself in deep
    models.

    Cost: two runs of the models, and O((n + r + h)³) per layer.

    Raises
    ------
    ArgumentError
        For other models, those with quadratic or selective layers, which have no Lipschitz
        constant, and those whose gates are not plain linear maps (quantised, with hooks, …).

    Source: Sakamoto & Sato (2025); math in `lticore.analysis.certificate`.

    >>> config = lt.SequenceClassifierConfig(1, 10, features=4, order=8, depth=1)
    >>> model, x = lt.SequenceClassifier(config).eval(), torch.ones(2, 20, 1)
    >>> small, _ = lt.compress(model, ratio=0.5)
    >>> change = (model(x) - small(x)).detach().norm(dim=1).numpy()
    >>> bool((change <= lt.output_error_bound(model, small, x)).all())
    True
    """
    if not certifiable(model) or not certifiable(small):
        raise ArgumentError(
            "the output bound exists for a SequenceClassifier whose layers are linear and "
            "time-invariant and whose gates are plain nn.Linear modules"
        )
    blocks: Any = zip(model.blocks, small.blocks, strict=True)
    systems = [_Systems(full, cut) for full, cut in blocks]
    return np.concatenate([_bound_on_batch(model, small, systems, x) for x in batches_of(inputs)])


def _bound_on_batch(
    model: SequenceClassifier, small: SequenceClassifier, systems: list[_Systems], batch: Batch
) -> np.ndarray:
    blocks: list[list[Any]] = [list(m.blocks) for m in (model, small)]
    inner = [[x for b in half for x in (b, b.ssm)] for half in blocks]
    signals = [
        capture.run(m, batch, watched)[1] for m, watched in zip((model, small), inner, strict=True)
    ]
    constants = [
        _constants(full, cut, gains, signals)
        for full, cut, gains in zip(*blocks, systems, strict=True)
    ]
    last = certificate.deep_error_bound(constants)[-1]
    steps = signals[0][blocks[0][0]].inputs[0].shape[-2]
    given = (*batch.inputs[1:], batch.keywords.get("lengths"), None)[0]
    lengths = torch.tensor(steps) if given is None else given
    means = to_numpy(last) / np.sqrt(lengths.flatten().clamp(min=1).double().cpu().numpy())
    bound = np.linalg.norm(means.reshape(-1, model.config.documents), axis=1)
    # A head of several linear maps has ReLU between them, of slope 1.
    for linear in model.decoder.modules():
        if isinstance(linear, nn.Linear):
            bound = certificate.logit_error_bound(_array(linear.weight), bound, 1)
    return to_numpy(bound)


@dataclass(frozen=True)
class _Systems:
    """Those of a block and of its compressed form, of both directions where there are two."""

    full: SequenceBlock
    cut: SequenceBlock

    @cached_property
    def _pairs(self) -> list[tuple[Any, Any]]:
        layers = (ssm_layers(block.ssm).values() for block in (self.full, self.cut))
        return [(a.to_lti(), b.to_lti()) for a, b in zip(*layers, strict=True)]

    @cached_property
    def gain(self) -> float:
        return sum(_gain(b) + _feedthrough(b) for _, b in self._pairs)

    @cached_property
    def error(self) -> float:
        changes = [_difference(a, b) for a, b in self._pairs]
        return sum(_gain(x) + _feedthrough(x) for x in changes)


def certifiable(model: nn.Module) -> bool:
    """Whether :func:`output_error_bound` knows the model."""
    if not isinstance(model, SequenceClassifier):
        return False
    gates: list[Any] = [block.gate for block in model.blocks]
    if not all(gate is None or is_plain_linear(gate) for gate in gates):
        return False
    linear = [x for x in ssm_layers(model).values() if not isinstance(x, QuadraticSSM)]
    directions = 2 if model.config.bidirectional else 1
    return len(linear) == directions * len(model.blocks)


def _constants(
    full: SequenceBlock,
    cut: SequenceBlock,
    systems: _Systems,
    signals: list[dict[nn.Module, capture.Seen]],
) -> LayerConstants:
    sizes = [
        _norms_of_sequences(seen[b.ssm].inputs[0])
        for seen, b in zip(signals, (full, cut), strict=True)
    ]
    outputs = [
        seen[b.ssm].outputs[0].double() for seen, b in zip(signals, (full, cut), strict=True)
    ]
    before = [seen[b].inputs[0].double() for seen, b in zip(signals, (full, cut), strict=True)]
    return LayerConstants(
        nonlinearity=_gate_lipschitz(full, outputs),
        system=systems.gain,
        normalization=_norm_lipschitz(full, before),
        error=systems.error * sizes[0],
        input_size=sizes[0],
        reduced_input_size=sizes[1],
    )


def _norms_of_sequences(x: Tensor) -> np.ndarray:
    """‖x‖ over time and channels, one per sequence."""
    return x.double().flatten(1).norm(dim=1).cpu().numpy()


def _gate_lipschitz(block: SequenceBlock, outputs: list[Tensor]) -> Any:
    """On the signals of either model; the smaller supremum will do."""
    if block.gate is None:
        return certificate.GELU_LIPSCHITZ
    weight = block.gate.weight.detach().double()
    bias = block.gate.bias.detach().double()
    h = weight.shape[1]
    activated = [nn.functional.gelu(z) for z in outputs]
    if len(weight) == h:
        size, value, gate = activated, None, weight
    else:
        value, gate = weight[:h], weight[h:]
        size = [a @ value.mT + bias[:h] for a in activated]
    sup = torch.stack([x.abs().flatten(1).amax(dim=1) for x in size]).amin(dim=0).cpu().numpy()
    return certificate.gated_unit_lipschitz(
        gate.cpu().numpy(), sup, value=None if value is None else value.cpu().numpy()
    )


def _norm_lipschitz(block: SequenceBlock, before: list[Tensor]) -> float:
    norm: Any = block.norm
    h = before[0].shape[-1]
    if isinstance(norm, nn.LayerNorm):
        variance = min(float(v.var(dim=-1, correction=0).min()) for v in before)
        return certificate.layer_norm_lipschitz(_array(norm.weight), norm.eps, variance=variance)
    scale = np.ones(h) if norm.weight is None else _array(norm.weight)
    return certificate.batch_norm_lipschitz(scale, _array(norm.running_var), norm.eps)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def _gain(sys: lticore.LTI) -> float:
    """An upper bound on ‖C (zI − A)⁻¹ B‖_h∞, of all channels together; D is left out, and z does
    not change it."""
    sys = replace(sys, D=None)
    if 2 * sys.order + sys.inputs + sys.outputs <= _LARGEST_PENCIL:
        norm = lticore.hinf_norm(sys, rtol=1e-6) * (1 + 1e-6)
    else:
        norm = 2 * lticore.hankel_sum(sys)
    return float(np.max(norm))


def _feedthrough(sys: lticore.LTI) -> float:
    """‖D‖₂ of a layer, of its channels the largest."""
    return 0.0 if sys.D is None else float(np.linalg.norm(to_numpy(sys.D), 2, (-2, -1)).max())


def _difference(first: Any, second: Any) -> lticore.LTI:
    full: Any = mapped(to_numpy, first)
    return full - mapped(to_numpy, second)
