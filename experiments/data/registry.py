"""All data sets by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lticore.errors import ArgumentError

from .aan import load_aan
from .base import SequenceData, Split, stratified
from .digits import load_digits
from .fsdd import load_fsdd
from .imdb import load_imdb
from .listops import load_listops
from .pathfinder import load_pathfinder
from .scifar import load_scifar, load_scifar_gray
from .smnist import load_smnist


@dataclass(frozen=True)
class Entry:
    """How to load a data set, and what it is in a few words."""

    load: Callable[..., SequenceData]
    summary: str


#: Data sets by name.
DATASETS = {
    "digits": Entry(load_digits, "8 × 8 handwritten digits, bundled with scikit-learn"),
    "smnist": Entry(load_smnist, "28 × 28 handwritten digits (12 MB to fetch)"),
    "scifar-gray": Entry(load_scifar_gray, "32 × 32 grey pictures, LRA Image (170 MB to fetch)"),
    "scifar": Entry(load_scifar, "32 × 32 colour pictures (170 MB to fetch)"),
    "imdb": Entry(load_imdb, "film reviews as bytes, LRA Text (84 MB to fetch)"),
    "imdb-129": Entry(partial(load_imdb, vocabulary="129"), "film reviews, 129 characters"),
    "imdb-min15": Entry(
        partial(load_imdb, vocabulary="min15"), "film reviews, characters that occur 15 times"
    ),
    "listops": Entry(load_listops, "nested operations on digits, LRA ListOps (generated)"),
    "pathfinder": Entry(load_pathfinder, "32 × 32 snakes, PATH (generated)"),
    "pathfinder64": Entry(partial(load_pathfinder, side=64), "64 × 64 snakes (generated)"),
    "pathfinder128": Entry(
        partial(load_pathfinder, side=128), "128 × 128 snakes, PATH-X (generated)"
    ),
    "path-x": Entry(partial(load_pathfinder, side=128), "the same as pathfinder128"),
    "aan": Entry(load_aan, "pairs of papers, LRA Retrieval (7.7 GB, to be fetched by hand)"),
    "fsdd": Entry(load_fsdd, "spoken digits, raw audio (to fetch)"),
}


def load(
    name: str,
    *,
    root: Path | str | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
    **options: Any,
) -> SequenceData:
    """A data set by name; fetched or generated first, if no data folder holds it.

    root : data folder; by default LTICORE_DATA, then the user's cache
    train_examples : at most so many training examples
    test_examples : at most so many validation and so many test examples
    options : those of the set's own function, such as ``length`` or ``size``

    Subsets are stratified and always the same.

    Raises
    ------
    ArgumentError
        For an unknown name or option, with the nearest ones.
    DataError
        When the data can be neither found nor fetched.
    """
    if name not in DATASETS:
        raise ArgumentError(f"there is no data set {name!r}: {_nearest(name, DATASETS)}")
    loader = DATASETS[name].load
    known = inspect.signature(loader).parameters
    for option in options:
        if option not in known:
            offered = [*(k for k in known if k != "root"), "train_examples", "test_examples"]
            raise ArgumentError(f"{name} has no option {option!r}: {_nearest(option, offered)}")
    data = loader(**({"root": root} if "root" in known else {}), **options)
    return replace(
        data,
        train=_at_most(data.train, train_examples),
        validation=_at_most(data.validation, test_examples),
        test=_at_most(data.test, test_examples),
    )


def _at_most(split: Split, count: int | None) -> Split:
    if count is None or count >= len(split):
        return split
    return split.select(stratified(split.labels, count, seed=0))


def _nearest(word: str, offered: Iterable[str]) -> str:
    words = list(offered)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(words)}"
