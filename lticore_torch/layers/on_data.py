"""A layer's system with Gramians of what its inputs excite and of what a loss notices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lticore.internal import truncate


@dataclass(frozen=True, eq=False)
class OnData:
    """Over NumPy arrays.

    sys : LTI, with a batch axis where there is one system per channel, or QuadraticOutputLTI
    P, Q : Gramians of :func:`lticore.data_gramians`, (n, n) or (channels, n, n)
    """

    sys: Any
    P: np.ndarray
    Q: np.ndarray

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.sys.batch_shape

    @property
    def order(self) -> int:
        return self.sys.order

    def __iter__(self) -> Iterator[OnData]:
        return (OnData(*x) for x in zip(self.sys, self.P, self.Q, strict=True))

    @cached_property
    def singular_values(self) -> np.ndarray:
        """(n,) √ of Σ σ_i² over the channels, in units of the loss."""
        sigma = truncate(self.sys, order=1, gramians=(self.P, self.Q)).reduction.singular_values
        return np.linalg.norm(sigma.reshape(-1, sigma.shape[-1]), axis=0)
