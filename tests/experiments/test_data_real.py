"""The real data sets, where LTICORE_DATA or the cache holds them; nothing is fetched."""

import hashlib

import pytest
import torch

from experiments.data import load
from experiments.data.cache import find
from experiments.data.fsdd import _AUDIO_SHA256
from experiments.data.text import readable

#: name: file, (training, validation, test), length, classes, channels, vocabulary
SETS = {
    "smnist": ("mnist.npz", (54_000, 6_000, 10_000), 784, 10, 1, None),
    "scifar-gray": ("cifar10_gray.npz", (45_000, 5_000, 10_000), 1024, 10, 1, None),
    "imdb": ("imdb.npz", (22_500, 2_500, 25_000), 4096, 2, None, 257),
    "imdb-129": ("imdb.npz", (22_500, 2_500, 25_000), 4096, 2, None, 129),
    "imdb-min15": ("imdb.npz", (22_500, 2_500, 25_000), 4096, 2, None, 135),
    "fsdd": ("fsdd.npz", (2_430, 270, 300), 18_262, 10, 1, None),
}


def load_present(name, **options):
    file = SETS[name][0]
    if not find(file):
        pytest.skip(f"{file} is in no data folder: see LTICORE_DATA")
    return load(name, **options)


@pytest.mark.parametrize("name", SETS)
def test_sizes_labels_and_values(name):
    data = load_present(name)
    _, sizes, length, classes, channels, vocabulary = SETS[name]
    splits = data.train, data.validation, data.test
    assert tuple(len(split) for split in splits) == sizes
    assert (data.length, data.classes, data.channels) == (length, classes, channels)
    assert data.vocabulary == vocabulary
    for split in splits:
        assert split.longest <= length
        shares = torch.bincount(split.labels, minlength=classes) / len(split)
        assert (shares - 1 / classes).abs().max() < 0.02
    assert set(data.train.starts.tolist()).isdisjoint(data.validation.starts.tolist())
    inputs, labels, lengths = data.train.batch(torch.arange(0, len(data.train), 500))
    assert labels.dtype == torch.int64
    if channels:
        assert inputs.dtype == torch.float32
        assert inputs.shape[2] == channels
        assert inputs.isfinite().all()
    else:
        assert inputs.dtype == torch.int64
        assert 0 < int(inputs.max()) < vocabulary
        assert (inputs > 0).sum(1).tolist() == lengths.tolist()


def test_gray_pictures_are_normalised():
    data = load_present("scifar-gray")
    values = torch.cat([data.train.values[:, 0]]).float()
    normalised = (values - data.train.mean) / data.train.std
    assert normalised.mean().item() == pytest.approx(0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1, abs=1e-3)


def test_the_vocabularies_read_the_same_review():
    texts = {}
    for name in ("imdb", "imdb-129", "imdb-min15"):
        data = load_present(name, length=60)
        tokens = data.test.batch(torch.tensor([12_500])).inputs[0].numpy()
        texts[name] = readable(tokens, data.symbols)
    assert len(set(texts.values())) == 1
    assert len(texts["imdb"]) == 60


def test_the_audio_is_that_of_the_official_version():
    data = load_present("fsdd")
    assert hashlib.sha256(data.train.values.numpy().tobytes()).hexdigest() == _AUDIO_SHA256
    assert data.test.longest == 9178
    assert load_present("fsdd", length=2000).train.longest == 2000
