"""The 1 797 handwritten digits of scikit-learn as sequences of 64 grey values.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository (test set), bundled with scikit-learn: nothing is downloaded.
"""

from __future__ import annotations

import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split

from .base import SequenceData

_TEST_SIZE = 450


def load_digits() -> SequenceData:
    """1 347 training and 450 test sequences, (N, 64, 1) in [0, 1], stratified, always the same."""
    images, labels = datasets.load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16, labels, test_size=_TEST_SIZE, stratify=labels, random_state=0
    )
    return SequenceData(
        name="digits",
        classes=10,
        train_inputs=torch.tensor(train_x, dtype=torch.float32)[..., None],
        train_labels=torch.tensor(train_y),
        test_inputs=torch.tensor(test_x, dtype=torch.float32)[..., None],
        test_labels=torch.tensor(test_y),
    )
