"""LAPACK routines of SciPy behind the signatures of the reference texts."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.linalg import get_lapack_funcs

#: Below this size all singular vectors cost less than the calls that avoid some.
_SMALL = 128


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
        # The lower triangle of Xᴴ in columns is the upper triangle of X in rows: no transposition.
        lower, pivots, rank, _ = pstrf(matrix.T.conj(), tol=rtol * largest, lower=1)
        rank = min(rank, max_rank)
        # PSTRF leaves X above the diagonal, and the untouched remainder behind `rank` columns.
        for column in range(1, rank):
            lower[:column, column] = 0
        factor[pivots - 1, :rank] = lower[:, :rank]
        widest = max(widest, rank)
    return factors[..., :widest].reshape(*X.shape[:-1], widest)


def leading_svd(
    M: np.ndarray,
) -> tuple[np.ndarray, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
    """See :func:`lticore._linalg.leading_svd`: the SVD of ``xGESDD`` in its three steps,
    M = Q B Pᴴ, B = U Σ Vᵀ, and Q U_r, P V_r for the r columns asked for only.
    """
    from .._linalg import leading_svd_reference

    *batch, m, n = M.shape
    if min(m, n) < _SMALL:
        return leading_svd_reference(M)
    parts = [_bidiagonal_svd(X if m >= n else X.T.conj()) for X in M.reshape(-1, m, n)]

    def vectors(r: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = [leading(r) for _, leading in parts]
        U, V = (np.stack(X).reshape(*batch, -1, r) for X in zip(*pairs, strict=True))
        return (U, V) if m >= n else (V, U)

    return np.stack([sigma for sigma, _ in parts]).reshape(*batch, min(m, n)), vectors


def _bidiagonal_svd(
    M: np.ndarray,
) -> tuple[np.ndarray, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
    reduced = np.array(M, order="F")
    (m, n), dtype = reduced.shape, reduced.dtype
    kind, apply = ("z", "zunmbr") if dtype == np.complex128 else ("d", "dormbr")
    work = np.empty(64 * (m + n), dtype)
    sigma, above, tau_Q, tau_P = np.empty(n), np.empty(n), np.empty(n, dtype), np.empty(n, dtype)
    _call(f"{kind}gebrd", m, n, reduced, m, sigma, above, tau_Q, tau_P, work, len(work))
    U, Vt = np.empty((n, n), order="F"), np.empty((n, n), order="F")
    unused = np.empty(1), np.empty(1, np.intc)
    storage = np.empty(3 * n * n + 4 * n), np.empty(8 * n, np.intc)
    _call("dbdsdc", "U", "I", n, sigma, above, U, n, Vt, n, *unused, *storage)

    def vectors(r: int) -> tuple[np.ndarray, np.ndarray]:
        left, right = np.zeros((m, r), dtype, order="F"), np.empty((n, r), dtype, order="F")
        left[:n], right[:] = U[:, :r], Vt[:r].T
        common = work, len(work)
        _call(apply, "Q", "L", "N", m, r, n, reduced, m, tau_Q, left, m, *common)
        _call(apply, "P", "L", "N", n, r, m, reduced, m, tau_P, right, n, *common)
        return left, right

    return sigma, vectors


@cache
def _routine(name: str, arguments: int) -> Callable[..., None]:
    """A LAPACK routine that SciPy carries without a Python wrapper."""
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("scipy.linalg.cython_lapack", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


def _call(name: str, *arguments: np.ndarray | int | str) -> None:
    """Call by reference, with ``info`` added at the end and checked."""
    info = ctypes.c_int()
    scalars = [
        ctypes.c_char(x.encode()) if isinstance(x, str) else ctypes.c_int(x)
        for x in arguments
        if not isinstance(x, np.ndarray)
    ]
    remaining = iter([*scalars, info])
    addresses = [
        x.ctypes.data if isinstance(x, np.ndarray) else ctypes.addressof(next(remaining))
        for x in (*arguments, info)
    ]
    _routine(name, len(addresses))(*addresses)
    if info.value != 0:
        raise np.linalg.LinAlgError(f"{name} failed with info = {info.value}")
