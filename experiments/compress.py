"""Accuracy of a trained model over truncation ratios."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lticore.errors import PrecisionWarning
from lticore_torch import CompressionPlan, CompressionReport

from .data import SequenceData
from .training import evaluate


@dataclass(frozen=True)
class TruncationPoint:
    """Test accuracy (0–1) at one truncation ratio; ratio 0 is the trained model itself."""

    ratio: float
    accuracy: float
    report: CompressionReport


def truncation_sweep(
    plan: CompressionPlan[Any], data: SequenceData, ratios: Sequence[float], **finish: Any
) -> list[TruncationPoint]:
    """Cut the trained model at each ratio, as the options of :meth:`CompressionPlan.compress`
    say, and test it.

    At ratio 0 the accuracy is that of the model as trained; the report beside it is that of a
    cut which only drops states without energy, with nothing after it.
    """
    points = []
    for ratio in (0.0, *ratios):
        with warnings.catch_warnings():
            # Cuts that are too deep show in the accuracy.
            warnings.simplefilter("ignore", PrecisionWarning)
            small, report = plan.compress(ratio=ratio, **(finish if ratio else {}))
        tested = small if ratio else plan.model
        points.append(TruncationPoint(ratio, evaluate(tested, data.test)[1], report))
    return points
