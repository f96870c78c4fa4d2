"""ListOps against a plain reading of its definition and the statistics of the original."""

import random
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from experiments.data.listops import SYMBOLS, generate_listops, load_listops
from lticore.errors import ArgumentError

TREES = 12_000


@pytest.fixture(scope="module")
def data():
    return generate_listops(TREES, 500, 2000, seed=0)


def texts(data):
    tokens, offsets = data["tokens"], data["offsets"]
    for a, b in pairwise(offsets):
        yield [SYMBOLS[token] for token in tokens[a:b]]


def evaluate(words):
    """Value, depth of the deepest node and argument counts of a text, by recursion."""
    position = 0
    counts, depths = [], []

    def node(depth):
        nonlocal position
        word = words[position]
        position += 1
        depths.append(depth)
        if word.isdigit():
            return int(word)
        values = []
        while words[position] != "]":
            values.append(node(depth + 1))
        position += 1
        counts.append(len(values))
        middle = np.median(values)
        return {
            "[MIN": min(values),
            "[MAX": max(values),
            "[MED": int(middle),
            "[SM": sum(values) % 10,
        }[word]

    value = node(1)
    assert position == len(words)
    return value, max(depths), counts


def drawn_length(draw, depth=1):
    """Length of a tree drawn as the definition reads."""
    if depth == 10 or draw.random() > 0.25:
        return 1
    return 2 + sum(drawn_length(draw, depth + 1) for _ in range(draw.randint(2, 10)))


def test_labels_are_the_values(data):
    for words, label in zip(list(texts(data))[:500], data["label"], strict=False):
        value, depth, counts = evaluate(words)
        assert value == label
        assert depth == 10  # every accepted tree reaches the deepest level
        assert min(counts) >= 2
        assert max(counts) <= 10


def test_statistics_of_the_original(data):
    """Measured there on 3 000 trees: 8.2 % accepted, median 994, mean 1064 (± 7 each)."""
    lengths = np.diff(data["offsets"])
    assert lengths.min() > 500
    assert lengths.max() < 2000
    assert 0.080 < TREES / data["drawn"] < 0.086
    assert 940 < np.median(lengths) < 1000
    assert 1025 < lengths.mean() < 1075
    shares = np.bincount(data["label"], minlength=10) / TREES
    assert (np.abs(shares[[0, 9]] - 0.17) < 0.01).all()
    assert ((shares[1:9] > 0.068) & (shares[1:9] < 0.095)).all()


def test_operators_and_arguments_are_uniform(data):
    counts = np.bincount(data["tokens"], minlength=16)
    assert counts[0] == 0
    assert counts[11:15].sum() == counts[15]
    assert counts[11:15] / counts[15] == pytest.approx(0.25, abs=0.005)
    assert counts[1:11] / counts[1:11].sum() == pytest.approx(0.1, abs=0.002)


def test_lengths_are_distributed_as_the_definition_says(data):
    draw = random.Random(1)
    plain = []
    while len(plain) < 1500:
        length = drawn_length(draw)
        if 500 < length < 2000:
            plain.append(length)
    assert stats.ks_2samp(plain, np.diff(data["offsets"])).pvalue > 0.01


def test_short_trees_follow_the_definition_exactly():
    """Without a lower bound three quarters are digits; [OP a b ] is the next shortest."""
    draw = random.Random(0)
    plain = np.array([drawn_length(draw) for _ in range(20_000)])
    assert (plain == 1).mean() == pytest.approx(0.75, abs=0.01)
    data = generate_listops(300, 3, 20, seed=0)
    assert np.diff(data["offsets"]).min() == 4
    assert 300 / data["drawn"] < ((plain > 3) & (plain < 20)).mean() + 0.02


def test_every_tree_counts_once():
    data = generate_listops(10, 0, 2, seed=0)
    assert sorted(data["label"]) == list(range(10))
    with pytest.raises(ArgumentError, match="only 10 different trees"):
        generate_listops(11, 0, 2, seed=0)


def test_the_number_of_workers_does_not_matter(data):
    first, second = (generate_listops(1200, 500, 2000, seed=5, workers=w) for w in (1, 3))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not np.array_equal(first["label"], data["label"][:1200])


def test_splits_are_stored_and_disjoint(tmp_path):
    options = {"size": (60, 20, 10), "longer_than": 20, "shorter_than": 60}
    first, again = (load_listops(tmp_path, **options) for _ in range(2))
    assert [len(s) for s in (first.train, first.validation, first.test)] == [60, 20, 10]
    assert first.vocabulary == 16
    assert first.length == 59
    starts = [set(s.starts.tolist()) for s in (first.train, first.validation, first.test)]
    assert len(set.union(*starts)) == 90
    assert again.test.labels.tolist() == first.test.labels.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["listops-90-20-60-seed0.npz"]


@pytest.mark.parametrize("options", [{"size": (1, 0, 1)}, {"longer_than": 5, "shorter_than": 6}])
def test_bad_options(options, tmp_path):
    with pytest.raises(ArgumentError, match=r"size must be|no length"):
        load_listops(tmp_path, **options)
