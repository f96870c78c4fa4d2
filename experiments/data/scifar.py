"""Sequential CIFAR-10: 32 × 32 pixels, row by row, 1 024 steps, grey (LRA "Image") or in colour.

Every channel is normalised to mean 0 and variance 1 over the official training pictures. The
split is that of the Long Range Arena: the last tenth of the training pictures validates.
Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .base import SequenceData
from .cache import Arrays, converted
from .download import Remote
from .images import image_split, pixel_statistics

_ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    170498071,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
_GRAY_SHA256 = "d97a4ed5336537dfca9c6c09c193f31b0f2daaff3bbd1f8f1ca665bf81dbcd32"


def load_scifar(root: Path | str | None = None) -> SequenceData:
    """45 000 training, 5 000 validation and 10 000 official test sequences of 3 channels."""
    arrays = converted("cifar10.npz", None, (_ARCHIVE,), lambda f: convert_cifar(f[0]), root)
    return _sequences("scifar", arrays)


def load_scifar_gray(root: Path | str | None = None) -> SequenceData:
    """45 000 training, 5 000 validation and 10 000 official test sequences of 1 channel."""
    arrays = converted(
        "cifar10_gray.npz", _GRAY_SHA256, (_ARCHIVE,), lambda f: _gray(convert_cifar(f[0])), root
    )
    return _sequences("scifar-gray", arrays)


def _sequences(name: str, arrays: Arrays) -> SequenceData:
    statistics = pixel_statistics(arrays["x_train"])
    train = image_split(arrays["x_train"], arrays["y_train"], normalize=statistics)
    order = torch.arange(len(train))
    kept = len(train) * 9 // 10
    return SequenceData(
        name=name,
        length=1024,
        classes=10,
        channels=len(statistics[0]),
        train=train.select(order[:kept]),
        validation=train.select(order[kept:]),
        test=image_split(arrays["x_test"], arrays["y_test"], normalize=statistics),
    )


def convert_cifar(archive: Path) -> Arrays:
    """Pictures (N, 32, 32, 3) and labels of the official archive, in its order."""
    pictures, labels = {}, {}
    with tarfile.open(archive) as tar:
        for batch in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            file = tar.extractfile(f"cifar-10-batches-py/{batch}")
            assert file is not None
            content = pickle.load(file, encoding="bytes")  # the archive's sha256 has been checked
            pictures[batch] = content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            labels[batch] = np.array(content[b"labels"], np.uint8)
    test_x, test_y = pictures.pop("test_batch"), labels.pop("test_batch")
    return {
        "x_train": np.concatenate(list(pictures.values())),
        "y_train": np.concatenate(list(labels.values())),
        "x_test": np.ascontiguousarray(test_x),
        "y_test": test_y,
    }


def luma(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0.299 R + 0.587 G + 0.114 B in the 16-bit fixed point of PIL's "L", rounded."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    return np.stack([(p @ weights + 0x8000 >> 16).astype(np.uint8) for p in pictures])


def _gray(arrays: Arrays) -> Arrays:
    return {key: luma(value) if key[0] == "x" else value for key, value in arrays.items()}
