"""Data sets, one file each, behind one interface."""

from .base import SequenceData
from .digits import load_digits

#: Data sets by name.
DATASETS = {"digits": load_digits}

__all__ = ["DATASETS", "SequenceData", "load_digits"]
