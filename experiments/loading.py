"""The data of a run: a set, made smaller as its config says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from lticore.errors import ArgumentError

from .config import DataConfig
from .data import SequenceData, Split, joined, load
from .data.base import stratified


def load_data(config: DataConfig) -> SequenceData:
    """The data set of ``config``: joined, pooled, shortened and thinned out, in this order.

    Raises
    ------
    ArgumentError
        For an unknown data set or setting of its loader (with the nearest names), pooling of what
        is not an image, or ``validation=False`` where the test set serves for validation.
    """
    options: dict[str, Any] = dict(config.options)
    data = load(config.name, **options)
    if not config.validation:
        both = joined(data.train, data.validation)
        data = replace(data, train=both, validation=both.select(torch.arange(0)))
    if config.pool > 1:
        data = _pooled(data, config.pool)
    if config.length is not None:
        data = _per_split(data, _shortened, config.length)
        data = replace(data, length=min(config.length, data.length))
    if config.train is not None:
        data = replace(data, train=_thinned(data.train, config.train))
    if config.test is not None:
        data = replace(
            data,
            validation=_thinned(data.validation, config.test),
            test=_thinned(data.test, config.test),
        )
    return data


def describe(data: SequenceData) -> dict[str, Any]:
    """What a model and a reader need to know of the data."""
    return {
        "name": data.name,
        "length": data.length,
        "classes": data.classes,
        "channels": data.channels,
        "vocabulary": data.vocabulary,
        "documents": data.documents,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
    }


def _per_split(data: SequenceData, change: Any, *arguments: Any) -> SequenceData:
    splits = ("train", "validation", "test")
    return replace(data, **{name: change(getattr(data, name), *arguments) for name in splits})


def _shortened(split: Split, length: int) -> Split:
    return replace(split, lengths=split.lengths.clamp(max=length))


def _thinned(split: Split, count: int) -> Split:
    if count >= len(split):
        return split
    return split.select(stratified(split.labels, count, seed=0))


def _pooled(data: SequenceData, pool: int) -> SequenceData:
    side = math.isqrt(data.length)
    if data.channels is None or side * side != data.length or side % pool:
        raise ArgumentError(
            f"pool={pool} averages square images whose side it divides, but {data.name} has "
            f"sequences of {data.length} steps"
        )
    smaller = _per_split(data, _pooled_split, side, pool)
    return replace(smaller, length=data.length // pool**2)


def _pooled_split(split: Split, side: int, pool: int) -> Split:
    """Images lie end to end, so all that the values hold can be pooled at once."""
    images = split.values.reshape(-1, side, side, split.values.shape[-1]).float()
    pooled = functional.avg_pool2d(images.movedim(-1, 1), pool).movedim(1, -1)
    return replace(
        split,
        values=pooled.reshape(-1, split.values.shape[-1]),
        starts=split.starts // pool**2,
        lengths=split.lengths // pool**2,
    )
