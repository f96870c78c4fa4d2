"""Data sets, one file each, behind one interface: ``load(name)``."""

from .base import Batch, SequenceData, Split, joined
from .digits import load_digits
from .download import DataError
from .registry import DATASETS, load

__all__ = [
    "DATASETS",
    "Batch",
    "DataError",
    "SequenceData",
    "Split",
    "joined",
    "load",
    "load_digits",
]
