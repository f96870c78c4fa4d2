"""Block Hankel matrices, by products that never form them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

#: Columns that a product transforms at once: as many as bound its memory.
_TOGETHER = 8


@dataclass(frozen=True, eq=False)
class BlockHankel:
    """H = [h_{a+b}] for a < rows and b < columns, (rows · p, columns · m).

    h : (rows + columns − 1, p, m)

    A product is a correlation over time, O((p + m + p m/k) L log L) for each of k columns.
    """

    h: np.ndarray
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        _, p, m = self.h.shape
        return self.rows * p, self.columns * m

    @property
    def dtype(self) -> np.dtype:
        return self.h.dtype

    def dense(self) -> np.ndarray:
        positions = np.arange(self.rows)[:, None] + np.arange(self.columns)
        return self.h[positions].swapaxes(1, 2).reshape(self.shape)

    def frobenius(self) -> float:
        """‖H‖_F: each h_k stands on the diagonal a + b = k."""
        k = np.arange(len(self.h))
        times = np.minimum(np.minimum(k + 1, len(k) - k), min(self.rows, self.columns))
        return float(np.sqrt(times @ np.sum(np.abs(self.h) ** 2, axis=(1, 2))))

    @cached_property
    def adjoint(self) -> BlockHankel:
        return BlockHankel(self.h.conj().swapaxes(1, 2), self.columns, self.rows)

    def __matmul__(self, X: np.ndarray) -> np.ndarray:
        """H X for X (columns · m, k)."""
        _, p, m = self.h.shape
        # y_a = Σ_b h_{a+b} x_b is the convolution of h with x backwards, at step a + columns − 1;
        # what wraps around in a circle of the length of h ends before.
        k, first = X.shape[1], self.columns - 1
        backwards = X.reshape(self.columns, m, k)[::-1]
        found = np.empty((self.rows, p, k), np.result_type(self.h, X))
        for start in range(0, k, _TOGETHER):
            some = slice(start, start + _TOGETHER)
            y = self._to_times(self._spectrum @ self._to_frequencies(backwards[:, :, some]))
            found[:, :, some] = y[first : first + self.rows]
        return found.reshape(self.rows * p, k)

    @cached_property
    def _spectrum(self) -> np.ndarray:
        return self._to_frequencies(self.h)

    @cached_property
    def _length(self) -> int:
        return int(scipy.fft.next_fast_len(len(self.h), real=not self._complex))

    @cached_property
    def _complex(self) -> bool:
        return np.iscomplexobj(self.h)

    def _to_frequencies(self, x: np.ndarray) -> np.ndarray:
        transform = scipy.fft.fft if self._complex else scipy.fft.rfft
        return transform(x, self._length, axis=0)

    def _to_times(self, x: np.ndarray) -> np.ndarray:
        transform = scipy.fft.ifft if self._complex else scipy.fft.irfft
        return transform(x, self._length, axis=0)
