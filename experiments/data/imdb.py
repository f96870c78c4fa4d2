"""IMDB reviews, positive or negative, as bytes (Long Range Arena "Text") or as characters.

The official test set is never used for validation (the Long Range Arena does): a stratified tenth
of the training reviews is. Reviews longer than ``length`` are cut (2.9 % are longer than 4 096).

Vocabularies, each with the padding 0:

- bytes: byte + 1, 257 symbols, as in the Long Range Arena;
- 129 symbols, the number given by the HSVR paper, which does not list them: padding, unknown, and
  the 127 most frequent characters of the training reviews;
- minimum count 15, as in the loaders of S5 from which CompreSSM borrows: padding, unknown and the
  133 characters that occur 15 times in the training reviews, 135 in all.

Source: A. Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lticore.errors import ArgumentError

from .base import SequenceData, Split, held_out
from .cache import Arrays, converted
from .download import Remote
from .text import (
    BYTE_SYMBOLS,
    byte_tokens,
    character_tokens,
    character_vocabulary,
    count_characters,
)

_ARCHIVE = Remote(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    84125825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
_SHA256 = "dbd265133f33e649c92a96b9b97c81f69d955eb04e9e29db477702ce2773e76b"

Vocabulary = Literal["bytes", "129", "min15"]


def load_imdb(
    root: Path | str | None = None, *, vocabulary: Vocabulary = "bytes", length: int = 4096
) -> SequenceData:
    """22 500 training, 2 500 validation and 25 000 official test reviews of ``length`` or less."""
    if length < 1:
        raise ArgumentError(f"length must be at least 1, but is {length}")
    arrays = converted("imdb.npz", _SHA256, (_ARCHIVE,), lambda f: convert_imdb(f[0]), root)
    if vocabulary == "bytes":
        symbols = BYTE_SYMBOLS
    else:
        counts = count_characters(arrays["text_train"])
        symbols = (
            character_vocabulary(counts, most=129)
            if vocabulary == "129"
            else character_vocabulary(counts, least_count=15)
        )
    train, validation = held_out(_split(arrays, "train", symbols, length))
    return SequenceData(
        name="imdb" if vocabulary == "bytes" else f"imdb-{vocabulary}",
        length=length,
        classes=2,
        symbols=symbols,
        train=train,
        validation=validation,
        test=_split(arrays, "test", symbols, length),
    )


def _split(arrays: Arrays, part: str, symbols: tuple[str, ...], length: int) -> Split:
    text, offsets = arrays[f"text_{part}"], arrays[f"offsets_{part}"]
    if symbols is BYTE_SYMBOLS:
        values = byte_tokens(text)
    else:
        values, offsets = character_tokens(text, offsets, symbols)
    return Split(
        values=torch.from_numpy(values),
        starts=torch.from_numpy(offsets[:-1]),
        lengths=torch.from_numpy(np.minimum(np.diff(offsets), length)),
        labels=torch.from_numpy(arrays[f"label_{part}"].astype(np.int64)),
    )


def convert_imdb(archive: Path) -> Arrays:
    """Reviews of the official archive, negative ones first, each in the order of its number."""
    found: dict[str, dict[tuple[int, int], tuple[int, bytes]]] = {"train": {}, "test": {}}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) != 4 or parts[1] not in found or parts[2] not in ("neg", "pos"):
                continue
            file = tar.extractfile(member)
            assert file is not None
            number, rating = parts[3].removesuffix(".txt").split("_")
            found[parts[1]][int(parts[2] == "pos"), int(number)] = int(rating), file.read()
    arrays: Arrays = {}
    for part, reviews in found.items():
        keys = sorted(reviews)
        texts = [reviews[key][1] for key in keys]
        arrays[f"text_{part}"] = np.frombuffer(b"".join(texts), np.uint8)
        arrays[f"offsets_{part}"] = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        arrays[f"label_{part}"] = np.array([label for label, _ in keys], np.uint8)
        arrays[f"rating_{part}"] = np.array([reviews[key][0] for key in keys], np.uint8)
    return arrays
