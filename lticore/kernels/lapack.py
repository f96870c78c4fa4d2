"""LAPACK routines of SciPy behind the signatures of the reference texts."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import get_lapack_funcs


def pivoted_cholesky(X: np.ndarray, rtol: float, max_rank: int) -> np.ndarray:
    """``xPSTRF`` over the batch; see :func:`lticore._linalg.pivoted_cholesky`."""
    n = X.shape[-1]
    stack = X.reshape(math.prod(X.shape[:-2]), n, n)
    (pstrf,) = get_lapack_funcs(("pstrf",), (X,))
    factors = np.zeros_like(stack)
    widest = 0
    for matrix, factor in zip(stack, factors, strict=True):
        largest = np.max(np.diagonal(matrix).real)
        if largest <= 0:
            continue
        lower, pivots, rank, _ = pstrf(matrix, tol=rtol * largest, lower=1)
        rank = min(rank, max_rank)
        # PSTRF leaves the untouched remainder behind the first `rank` columns.
        factor[pivots - 1, :rank] = np.tril(lower)[:, :rank]
        widest = max(widest, rank)
    return factors[..., :widest].reshape(*X.shape[:-1], widest)
