"""Splits: batches, padding, subsets, validation data."""

import pytest
import torch

from experiments.data.base import SequenceData, Split, held_out, joined, stratified
from lticore.errors import ArgumentError, ShapeError


def tokens():
    """Three sequences of tokens in one array: 1 2 3, 4, 5 6."""
    return Split(
        values=torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.uint8),
        starts=torch.tensor([0, 3, 4]),
        lengths=torch.tensor([3, 1, 2]),
        labels=torch.tensor([0, 1, 0]),
    )


def numbers(count=4):
    """Sequences of two steps and two channels."""
    values = torch.arange(count * 4, dtype=torch.int16).reshape(-1, 2)
    return Split(
        values=values,
        starts=torch.arange(0, 2 * count, 2),
        lengths=torch.full((count,), 2),
        labels=torch.arange(count) % 2,
        mean=torch.tensor([1.0, 2.0]),
        std=torch.tensor([2.0, 4.0]),
    )


def test_tokens_are_padded_to_the_longest_of_the_batch():
    inputs, labels, lengths = tokens().batch(torch.tensor([2, 1]))
    assert inputs.dtype == torch.int64
    assert inputs.tolist() == [[5, 6], [4, 0]]
    assert labels.tolist() == [0, 1]
    assert lengths.tolist() == [2, 1]


def test_padding_to_a_fixed_length():
    inputs, _, lengths = tokens().batch(torch.tensor([0]), length=5)
    assert inputs.tolist() == [[1, 2, 3, 0, 0]]
    assert lengths.tolist() == [3]
    with pytest.raises(ArgumentError, match="3 steps does not fit into length = 2"):
        tokens().batch(torch.tensor([0]), length=2)


def test_numbers_are_normalised_and_padded_with_zero():
    inputs, _, lengths = numbers().batch(torch.tensor([1]))
    assert inputs.dtype == torch.float32
    assert inputs.tolist() == [[[1.5, 0.75], [2.5, 1.25]]]
    assert lengths is None
    inputs, _, lengths = numbers().batch(torch.tensor([1]), length=3)
    assert inputs[0, 2].tolist() == [0, 0]
    assert lengths.tolist() == [2]


def test_a_sequence_may_end_with_the_array():
    """The padding of the last sequence does not reach outside the values."""
    inputs, _, _ = tokens().batch(torch.tensor([2]), length=4)
    assert inputs.tolist() == [[5, 6, 0, 0]]


def test_pairs_of_documents():
    split = tokens()
    pairs = Split(
        split.values,
        starts=split.starts[torch.tensor([[0, 1], [2, 1]])],
        lengths=split.lengths[torch.tensor([[0, 1], [2, 1]])],
        labels=torch.tensor([1, 0]),
    )
    inputs, _, lengths = pairs.batch(torch.tensor([0, 1]))
    assert inputs.tolist() == [[[1, 2, 3], [4, 0, 0]], [[5, 6, 0], [4, 0, 0]]]
    assert lengths.tolist() == [[3, 1], [2, 1]]
    symbols = tuple("0123456")
    data = SequenceData("pairs", 3, 2, pairs, pairs, pairs, symbols=symbols)
    assert data.documents == 2
    assert data.vocabulary == 7


def test_parts_must_belong_together():
    split = tokens()
    with pytest.raises(ShapeError, match="do not belong together"):
        Split(split.values, split.starts, split.lengths[:2], split.labels)


def test_held_out_data_is_disjoint_stratified_and_always_the_same():
    count = 1000
    labels = (torch.arange(count) % 10 < 3).long()  # shares 0.7 and 0.3
    split = Split(torch.arange(count)[:, None], torch.arange(count), torch.ones(count), labels)
    train, validation = held_out(split)
    assert len(train) == 900
    assert len(validation) == 100
    assert validation.labels.sum() == 30
    assert set(train.starts.tolist()).isdisjoint(validation.starts.tolist())
    again = held_out(split)[1]
    assert torch.equal(again.starts, validation.starts)
    assert not torch.equal(held_out(split, seed=1)[1].starts, validation.starts)
    both = joined(train, validation)
    assert torch.equal(both.starts, split.starts)
    assert torch.equal(both.labels, split.labels)
    assert both.values is split.values


def test_stratified_gives_the_exact_number():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    for count in range(1, 11):
        chosen = stratified(labels, count, seed=0)
        assert len(chosen) == len(set(chosen.tolist())) == count
    assert torch.bincount(labels[stratified(labels, 5, seed=0)], minlength=3).tolist() == [4, 1, 0]
    with pytest.raises(ArgumentError, match="cannot take 11 of 10"):
        stratified(labels, 11, seed=0)


def test_only_splits_of_one_set_are_joined():
    with pytest.raises(ArgumentError, match="share their values"):
        joined(tokens(), tokens())
