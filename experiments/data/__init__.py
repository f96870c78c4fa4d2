"""Data sets, one file each, behind one interface: ``load(name)``."""

from .base import Batch, SequenceData, Split, joined
from .digits import load_digits

__all__ = ["Batch", "SequenceData", "Split", "joined", "load_digits"]
