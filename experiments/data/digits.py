"""The 1 797 handwritten digits of scikit-learn as sequences of 64 grey values.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository (test set), bundled with scikit-learn: nothing is downloaded.
"""

from __future__ import annotations

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from .base import SequenceData, held_out
from .images import image_split

_TEST_SIZE = 450


def load_digits() -> SequenceData:
    """1 212 training, 135 validation and 450 test sequences in [0, 1], stratified."""
    images, labels = datasets.load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images.astype(np.uint8), labels, test_size=_TEST_SIZE, stratify=labels, random_state=0
    )
    train, validation = held_out(image_split(train_x, train_y, white=16))
    return SequenceData(
        name="digits",
        length=64,
        classes=10,
        channels=1,
        train=train,
        validation=validation,
        test=image_split(test_x, test_y, white=16),
    )
