"""What a change of a model's output counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lticore.errors import ArgumentError, NonFiniteError

from ..layers import capture
from ..layers.batches import Batch
from ..models.blocks import SequenceClassifier

#: Names of losses.
LOSSES = ("cross-entropy", "output")


@dataclass(frozen=True)
class Loss:
    """A measure of change, and what it is to first order in random directions.

    kind : "cross-entropy": √(2 KL) between the softmax of two outputs, last axis for classes;
        "output": the norm of their difference; or the user's function of output and batch, whose
        values are compared
    seed : of the directions
    """

    kind: str | Callable[[Any, Any], Any]
    seed: int

    def along(self, output: Any, number: int) -> Callable[[Any, Batch], Tensor]:
        """A function f(output, batch) → (batch,), for the output of the original model on batch
        ``number``: E (f(y + dy) − f(y))² = :meth:`squared_change`(y, y + dy) to leading order."""
        if callable(self.kind):
            return self._values
        y = capture.tensor_of(output).detach()
        generator = torch.Generator().manual_seed(hash((self.seed, number)) % 2**63)
        signs = (torch.randint(0, 2, y.shape, generator=generator) * 2 - 1).to(y.device)
        return _linear((_root_of_fisher(y, signs) if self.kind == "cross-entropy" else signs).to(y))

    def squared_change(self, before: Any, after: Any, batch: Batch) -> Tensor:
        """(batch,) from the output of the original model to another one."""
        if callable(self.kind):
            return (self._values(after, batch) - self._values(before, batch)).double().square()
        y, z = (capture.tensor_of(x).double() for x in (before, after))
        if self.kind == "output":
            return _by_sequence((z - y).square())
        changed, wanted = (functional.log_softmax(x, dim=-1) for x in (z, y))
        each = functional.kl_div(changed, wanted, log_target=True, reduction="none")
        return 2 * _by_sequence(each)

    def squared_size(self, output: Any, batch: Batch) -> Tensor:
        """(batch,) of the output itself, or of the user's loss."""
        if callable(self.kind):
            return self._values(output, batch).double().square()
        return _by_sequence(capture.tensor_of(output).double().square())

    def _values(self, output: Any, batch: Batch) -> Tensor:
        assert callable(self.kind)
        losses = self.kind(output, batch.given)
        if not isinstance(losses, Tensor):
            raise ArgumentError(f"loss must return a tensor, but returned {losses!r}")
        if losses.ndim > 1:
            raise ArgumentError(
                "loss must return the losses of the sequences, (batch,), or their mean, but "
                f"returned shape {tuple(losses.shape)}"
            )
        if not bool(torch.isfinite(losses).all()):
            raise NonFiniteError("loss returned NaN or infinity on the calibration data")
        # Of a mean each sequence's share counts: its sum over the batch has their gradients.
        return losses.expand(batch.count) if losses.ndim == 0 else losses


def choose_loss(loss: Any, model: nn.Module, output: Any, labels: Any, seed: int) -> Loss:
    """The loss asked for, or for None: cross-entropy where the output is logits, as that of a
    :class:`SequenceClassifier`, an output with that attribute, and one with integer labels for all
    but its last axis are; else "output".

    Raises
    ------
    ArgumentError
    """
    if loss is not None and not callable(loss) and loss not in LOSSES:
        raise ArgumentError(f"loss={loss!r} is neither None, nor one of {LOSSES}, nor a function")
    if loss is not None:
        return Loss(loss, seed)
    y = capture.tensor_of(output)
    integers = isinstance(labels, Tensor) and not labels.is_floating_point()
    logits = (
        isinstance(capture.unwrapped(model), SequenceClassifier)
        or isinstance(getattr(output, "logits", None), Tensor)
        or (integers and y.shape[-1] > 1 and labels.shape == y.shape[:-1])
    )
    return Loss("cross-entropy" if logits else "output", seed)


def _root_of_fisher(y: Tensor, signs: Tensor) -> Tensor:
    """R s with R Rᵀ = diag p − p pᵀ, p = softmax y, the metric of 2 KL at p.

    Gradients of the cross-entropy with labels drawn from p have the same covariance, but rarely
    drawn labels make a few of them huge: R s needs far fewer sequences.
    """
    # R = diag √p − p √pᵀ: R Rᵀ = diag p − 2 p pᵀ + p (√pᵀ √p) pᵀ.
    p = functional.softmax(y.double(), dim=-1)
    r = p.sqrt() * signs
    return r - p * r.sum(dim=-1, keepdim=True)


def _linear(weights: Tensor) -> Callable[[Any, Batch], Tensor]:
    def values(output: Any, batch: Batch) -> Tensor:
        return _by_sequence(capture.tensor_of(output) * weights)

    return values


def _by_sequence(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).sum(dim=1)
