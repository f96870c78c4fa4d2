"""AAN (Long Range Arena "Retrieval"): do two papers cite each other? Pairs of byte sequences.

A batch has inputs (b, 2, L) and lengths (b, 2): both documents pass through the same layers, each
on its own, and the pooled features z₁, z₂ meet only in the head: as [z₁, z₂] before an MLP in
CompreSSM's code and in :func:`lticore_torch.models.heads.pair_head`, as
[z₁, z₂, z₁ − z₂, z₁ ∘ z₂] in S4, S5 and the Long Range Arena's own code. Documents occur in many
pairs and are stored once. Texts are taken as they stand in the official files, and cut after
``length`` bytes.

Source: D. Radev et al., The ACL Anthology Network corpus, 2013; Y. Tay et al., Long Range Arena,
2021, files new_aan_pairs.{train,eval,test}.tsv with the columns label, id, id, text, text.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from lticore.errors import ArgumentError

from .base import SequenceData, Split
from .cache import Arrays, folders, generated
from .download import DataError
from .text import BYTE_SYMBOLS, byte_tokens

_ARCHIVE = "https://storage.googleapis.com/long-range-arena/lra_release.gz"
_PARTS = {"train": "train", "validation": "eval", "test": "test"}
_SUBFOLDERS = (".", "aan", "tsv_data", "lra_release/lra_release/tsv_data", "lra_release/tsv_data")


def load_aan(root: Path | str | None = None, *, length: int = 4000) -> SequenceData:
    """Pairs of documents in the official split: train, eval (validation) and test."""
    if length < 1:
        raise ArgumentError(f"length must be at least 1, but is {length}")
    arrays = generated(f"aan-{length}.npz", lambda: read_pairs(_folder(root), length), root)
    values = torch.from_numpy(arrays["documents"])
    starts, lengths = arrays["offsets"][:-1], np.diff(arrays["offsets"])

    def split(part: str) -> Split:
        pairs = arrays[f"pairs_{part}"]
        return Split(
            values=values,
            starts=torch.from_numpy(starts[pairs]),
            lengths=torch.from_numpy(lengths[pairs]),
            labels=torch.from_numpy(arrays[f"label_{part}"].astype(np.int64)),
        )

    return SequenceData(
        name="aan",
        length=length,
        classes=2,
        symbols=BYTE_SYMBOLS,
        train=split("train"),
        validation=split("validation"),
        test=split("test"),
    )


def read_pairs(folder: Path, length: int) -> Arrays:
    """Tokens of the distinct documents, and per split the pairs of their numbers, with labels."""
    documents: list[bytes] = []
    number: dict[bytes, int] = {}
    arrays: Arrays = {}
    csv.field_size_limit(1 << 30)
    for part, name in _PARTS.items():
        pairs, labels = [], []
        path = folder / f"new_aan_pairs.{name}.tsv"
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file, delimiter="\t"):
                if len(row) != 5:
                    raise DataError(f"{path} has a row of {len(row)} instead of 5 columns")
                labels.append(float(row[0]) > 0.5)
                pair = [text.encode()[:length] for text in row[3:]]
                for text in pair:
                    if text not in number:
                        number[text] = len(documents)
                        documents.append(text)
                pairs.append([number[text] for text in pair])
        arrays[f"pairs_{part}"] = np.array(pairs, np.int64)
        arrays[f"label_{part}"] = np.array(labels, np.uint8)
    arrays["documents"] = byte_tokens(np.frombuffer(b"".join(documents), np.uint8))
    arrays["offsets"] = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return arrays


def _folder(root: Path | str | None) -> Path:
    """The folder of the official files.

    They are not fetched here: the archive is 7.7 GB, and no official source states its sum.
    """
    names = [f"new_aan_pairs.{name}.tsv" for name in _PARTS.values()]
    for folder in folders(root):
        for subfolder in _SUBFOLDERS:
            if all((folder / subfolder / name).exists() for name in names):
                return folder / subfolder
    raise DataError(
        f"AAN is not in {' or '.join(map(str, folders(root)))}: fetch {_ARCHIVE} (7.7 GB), take "
        f"{', '.join(names)} out of it (tar -xzf, folder tsv_data) and put them into "
        f"{folders(root)[0] / 'aan'}"
    )
