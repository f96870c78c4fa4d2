"""Triangular systems with many shifts."""

from __future__ import annotations

import numpy as np

#: States that are taken one by one.
_BLOCK = 32


def solve_shifted(
    T: np.ndarray, X: np.ndarray, shifts: np.ndarray, weights: np.ndarray | float = 1.0
) -> np.ndarray:
    """(z_l I − w_l T)⁻¹ x_l for each column x_l of X, for upper triangular T: the last states
    first, all columns at once; all work but that inside the blocks is in matrix products. X is used
    up."""
    for end in range(len(T), 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        X[start:end] += weights * (T[start:end, end:] @ X[end:])
        for i in range(end - 1, start - 1, -1):
            X[i] += weights * (T[i, i + 1 : end] @ X[i + 1 : end])
            X[i] /= shifts - weights * T[i, i]
    return X


def solve_at_points(T: np.ndarray, X: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(z_l I − T)⁻¹ x_kl for the columns of X, (..., n, k, L), of a batch of upper triangular T,
    given ``inverse``, (..., n, L), 1/(z_l − t_ii). X is used up."""
    n = T.shape[-1]
    flat = X.reshape(*X.shape[:-2], -1)
    for end in range(n, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        if end < n:
            flat[..., start:end, :] += T[..., start:end, end:] @ flat[..., end:, :]
        for i in range(end - 1, start - 1, -1):
            if i + 1 < end:
                row = T[..., i : i + 1, i + 1 : end] @ flat[..., i + 1 : end, :]
                flat[..., i, :] += row[..., 0, :]
            X[..., i, :, :] *= inverse[..., i, None, :]
    return X
