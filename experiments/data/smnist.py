"""Sequential MNIST: 28 × 28 grey values in [0, 1], row by row, 784 steps.

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits; the files and
their sums are those of the mirror that TensorFlow Datasets uses.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import SequenceData, held_out
from .cache import Arrays, converted
from .download import DataError, Remote
from .images import image_split

_URL = "https://storage.googleapis.com/cvdf-datasets/mnist"
_REMOTES = tuple(
    Remote(f"{_URL}/{name}", size, digest)
    for name, size, digest in (
        (
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    )
)
_SHA256 = "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"


def load_smnist(root: Path | str | None = None) -> SequenceData:
    """54 000 training, 6 000 validation (stratified) and 10 000 official test sequences."""
    arrays = converted("mnist.npz", _SHA256, _REMOTES, convert_mnist, root)
    train, validation = held_out(image_split(arrays["x_train"], arrays["y_train"]))
    return SequenceData(
        name="smnist",
        length=784,
        classes=10,
        channels=1,
        train=train,
        validation=validation,
        test=image_split(arrays["x_test"], arrays["y_test"]),
    )


def convert_mnist(files: list[Path]) -> Arrays:
    """The official files: training pictures and labels, test pictures and labels."""
    names = ("x_train", "y_train", "x_test", "y_test")
    return {name: read_idx(file) for name, file in zip(names, files, strict=True)}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Bytes in the IDX format: 0, 0, type 8, number of dimensions, big-endian sizes, data."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} does not hold bytes in the IDX format")
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
