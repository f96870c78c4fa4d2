"""What every data set provides: three splits of labelled sequences, converted batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lticore.errors import ArgumentError, ShapeError


class Batch(NamedTuple):
    """What a model is given.

    inputs : (b, L, channels) float32, or (b, L) int64 tokens; (b, 2, L) for pairs of documents
    labels : (b,) int64
    lengths : (b,) or (b, 2) int64, the steps before the padding; None when nothing is padded
    """

    inputs: Tensor
    labels: Tensor
    lengths: Tensor | None


@dataclass(frozen=True)
class Split:
    """Labelled sequences, laid end to end in the type they were stored in.

    Sequence i is ``values[starts[i] : starts[i] + lengths[i]]``, so that subsets and splits share
    one array. Padding is zero: token 0, or the value 0.0 after normalisation.

    values : (total, channels) numbers, or (total,) tokens from 1 on
    starts, lengths : (N,) int64; (N, 2) for pairs of documents
    labels : (N,) int64
    mean, std : (channels,) float32 for numbers, which enter as (values − mean)/std; None for tokens
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor
    labels: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None

    def __post_init__(self) -> None:
        if self.starts.shape != self.lengths.shape or len(self.starts) != len(self.labels):
            raise ShapeError(
                f"starts {tuple(self.starts.shape)}, lengths {tuple(self.lengths.shape)} and "
                f"labels {tuple(self.labels.shape)} do not belong together"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max()) if len(self) else 0

    @cached_property
    def ragged(self) -> bool:
        """Whether sequences differ in length, that is, whether batches come with lengths."""
        return len(self) > 0 and int(self.lengths.min()) < self.longest

    def select(self, indices: Tensor) -> Split:
        """The split of these examples, in this order; the values are shared."""
        return replace(
            self,
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            labels=self.labels[indices],
        )

    def batch(self, indices: Tensor, length: int | None = None) -> Batch:
        """These examples, padded to the longest of them or to ``length`` steps.

        Raises
        ------
        ArgumentError
            When a sequence is longer than ``length``.
        """
        lengths = self.lengths[indices]
        longest = int(lengths.max())
        steps = longest if length is None else length
        if steps < longest:
            raise ArgumentError(
                f"a sequence of {longest} steps does not fit into length = {length}: load the data "
                "with that length"
            )
        step = torch.arange(steps)
        padding = step >= lengths[..., None]
        positions = (self.starts[indices][..., None] + step).masked_fill_(padding, 0)
        values = self.values[positions]
        if self.mean is None or self.std is None:
            inputs = values.long().masked_fill_(padding, 0)
        else:
            inputs = ((values.float() - self.mean) / self.std).masked_fill_(padding[..., None], 0)
        return Batch(
            inputs, self.labels[indices], lengths if self.ragged or steps > longest else None
        )


@dataclass(frozen=True)
class SequenceData:
    """A data set with its official test split and a validation split that never touches it.

    name : short name
    length : most steps a sequence may have
    classes : number of labels
    channels : numbers per step, or None for tokens
    symbols : what each token stands for, or None for numbers; token 0 is the padding
    """

    name: str
    length: int
    classes: int
    train: Split
    validation: Split
    test: Split
    channels: int | None = None
    symbols: tuple[str, ...] | None = None

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens with the padding, or None for numbers."""
        return None if self.symbols is None else len(self.symbols)

    @property
    def documents(self) -> int:
        """Sequences per example: 2 for pairs of documents, else 1."""
        return self.train.starts.shape[1] if self.train.starts.ndim == 2 else 1


def joined(first: Split, second: Split) -> Split:
    """Both splits of one data set as one, in the order of the source.

    For papers that train on all that is not the test set.
    """
    if first.values is not second.values:
        raise ArgumentError("only splits that share their values can be joined")
    both = replace(
        first,
        starts=torch.cat([first.starts, second.starts]),
        lengths=torch.cat([first.lengths, second.lengths]),
        labels=torch.cat([first.labels, second.labels]),
    )
    return both.select(both.starts.reshape(len(both), -1)[:, 0].argsort(stable=True))


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """Sorted indices of ``count`` examples with every label in its share, the same for one seed.

    Each label gets ⌊count · share⌋ examples; those still missing go to the largest remainders.
    """
    if not 0 < count <= len(labels):
        raise ArgumentError(f"cannot take {count} of {len(labels)} examples")
    random = np.random.default_rng(seed)
    present, members = np.unique(labels.numpy(), return_inverse=True)
    exact = count * np.bincount(members) / len(labels)
    taken = np.floor(exact).astype(int)
    taken[np.argsort(taken - exact, kind="stable")[: count - taken.sum()]] += 1
    chosen = [
        random.permutation(np.flatnonzero(members == label))[: taken[label]]
        for label in range(len(present))
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def held_out(split: Split, share: float = 0.1, seed: int = 0) -> tuple[Split, Split]:
    """Training and validation data from one split, stratified, always the same for one seed."""
    chosen = stratified(split.labels, round(share * len(split)), seed)
    kept = torch.ones(len(split), dtype=torch.bool)
    kept[chosen] = False
    return split.select(kept.nonzero()[:, 0]), split.select(chosen)
