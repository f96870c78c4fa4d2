"""What every data set provides."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SequenceData:
    """Labelled sequences with a fixed split.

    name : short name
    classes : number of labels
    train_inputs, test_inputs : (N, length, channels) float32
    train_labels, test_labels : (N,) int64
    """

    name: str
    classes: int
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    @property
    def length(self) -> int:
        return self.train_inputs.shape[1]

    @property
    def channels(self) -> int:
        return self.train_inputs.shape[2]
