"""Batches of a model's inputs, in whatever form users have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lticore.errors import ArgumentError, NonFiniteError

#: A tensor or a tuple of positional arguments, a mapping of keyword arguments: one batch; or an
#: iterable of batches, of which pairs are (inputs, labels).
Calibration: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any] | Iterable[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """One call of a model.

    inputs, keywords : its arguments
    labels : what came beside them, if anything
    given : the batch as it came
    """

    inputs: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    labels: Any = None
    given: Any = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        named = {f"argument {i}": x for i, x in enumerate(self.inputs)} | self.keywords
        return {name: x for name, x in named.items() if isinstance(x, Tensor)}

    @property
    def count(self) -> int:
        """Number of sequences: the length of the first axis of the first tensor."""
        return next((len(x) for x in self.tensors.values() if x.ndim), 1)


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches that can be gone through again and again."""

    source: Iterable[Any]

    @cached_property
    def number(self) -> int:
        """How many there are; a loader that does not know is gone through."""
        try:
            return len(self.source)  # type: ignore[arg-type]
        except TypeError:
            return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Batch]:
        number = -1
        for number, item in enumerate(self.source):
            yield _checked(number, _batch_of(number, item))
        if number < 0:
            raise ArgumentError("calibration holds no batches")


def batches_of(calibration: Calibration) -> Batches:
    """Batches of one tensor, tuple or mapping, or of each item of an iterable.

    What can be gone through only once, a generator for example, is kept as a list.

    Raises
    ------
    ArgumentError
        For something else; for no batches, or items that are no batches, when they are reached.
    NonFiniteError
        When a batch with NaN or infinity is reached.
    """
    if isinstance(calibration, Tensor | tuple):
        inputs = calibration if isinstance(calibration, tuple) else (calibration,)
        return Batches([Batch(inputs, given=calibration)])
    if isinstance(calibration, Mapping):
        return Batches([calibration])
    if isinstance(calibration, str | bytes) or not isinstance(calibration, Iterable):
        raise ArgumentError(
            f"the data to run the model on is a {type(calibration).__name__}: give one batch, a "
            "tensor, the tuple of the model's positional arguments or a dict of keyword "
            "arguments, or an iterable of batches, a DataLoader for example"
        )
    return Batches(list(calibration) if isinstance(calibration, Iterator) else calibration)


def _batch_of(number: int, item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    labels = None
    inputs = item
    if isinstance(item, tuple | list):
        if len(item) not in (1, 2):
            raise ArgumentError(
                f"batch {number} of the calibration has {len(item)} parts: give (inputs, labels), "
                "with a tuple or dict of all arguments of the model as its inputs"
            )
        inputs, labels = (*item, None)[:2]
    if isinstance(inputs, Mapping):
        return Batch((), dict(inputs), labels, item)
    if isinstance(inputs, tuple | list):
        return Batch(tuple(inputs), {}, labels, item)
    if isinstance(inputs, Tensor):
        return Batch((inputs,), {}, labels, item)
    raise ArgumentError(
        f"batch {number} of the calibration is a {type(item).__name__}: give a tensor, a pair "
        "(inputs, labels) or a dict of keyword arguments"
    )


def _checked(number: int, batch: Batch) -> Batch:
    for name, x in batch.tensors.items():
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise NonFiniteError(f"{name} of batch {number} of the calibration has NaN or infinity")
    return batch
