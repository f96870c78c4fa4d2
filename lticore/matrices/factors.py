"""Factors and squares of matrices, by the fastest kernel there is."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import scipy.linalg

from .. import kernels
from ..arrays.linalg import (
    LeadingVectors,
    adjoint,
    conjugate,
    diagonal,
    directions_by,
    leading_svd_reference,
    power_of_two,
    real_part,
    row_blocks,
    weighted_gram_reference,
)
from ..arrays.namespaces import Array, is_numpy, namespace, zeros_like_shape

#: Columns of a QR factorisation that are eliminated together.
_PANEL = 32


def hermitian_part(X: Array) -> Array:
    """(X + Xᴴ)/2; X may be overwritten."""
    return kernels.find(hermitian_part_reference, X)(X)


def hermitian_part_reference(X: Array) -> Array:
    """Reference text of :func:`hermitian_part` for any array library."""
    return (X + adjoint(X)) / 2


def inner_product(X: Array, Y: Array) -> Array:
    """(...) Re⟨X, Y⟩ = Re Σ conj(X_ij) Y_ij."""
    return kernels.find(inner_product_reference, X)(X, Y)


def inner_product_reference(X: Array, Y: Array) -> Array:
    """Reference text of :func:`inner_product` for any array library."""
    return real_part(namespace(X, Y).sum(conjugate(X) * Y, axis=(-2, -1)))


def pivoted_cholesky(X: Array, *, rtol: float, max_rank: int | None = None) -> Array:
    """Rank-revealing factor L of a Hermitian positive semidefinite matrix.

        X ≈ L Lᴴ,   L (..., n, r)

    Elimination with the largest remaining diagonal entry as pivot, stopped where it falls to
    ``rtol`` times the first one, or at ``max_rank``. In a batch r is the largest rank met; the
    others are padded with zero columns. The remainder is positive semidefinite with trace at most
    n · rtol · max diag X (in exact arithmetic), so nothing is shifted and nothing is added.

    Cost: O(n r²) per matrix. Source: Higham, Accuracy and Stability of Numerical Algorithms, §10.3.
    """
    limit = X.shape[-1] if max_rank is None else min(max_rank, X.shape[-1])
    return kernels.find(pivoted_cholesky_reference, X)(X, rtol, limit)


def pivoted_cholesky_reference(X: Array, rtol: float, max_rank: int) -> Array:
    """Reference text of :func:`pivoted_cholesky` for any array library."""
    xp = namespace(X)
    batch, n = X.shape[:-2], X.shape[-1]
    X = xp.reshape(X, (math.prod(batch), n, n))
    remaining = real_part(diagonal(X))
    stop = rtol * xp.max(remaining, axis=-1, keepdims=True)
    L = zeros_like_shape(X, (X.shape[0], n, 0))
    for _ in range(max_rank):
        # A pivot no larger than `stop` (or than zero) ends the elimination of that matrix.
        alive = xp.max(remaining, axis=-1, keepdims=True) > xp.maximum(stop, xp.zeros_like(stop))
        if not bool(xp.any(alive)):
            break
        pivot = xp.argmax(remaining, axis=-1)[:, None, None]
        rows = xp.broadcast_to(pivot, (X.shape[0], 1, L.shape[-1]))
        column = xp.take_along_axis(X, xp.broadcast_to(pivot, (X.shape[0], n, 1)), axis=-1)
        column = column - L @ adjoint(xp.take_along_axis(L, rows, axis=-2))
        column = column[..., 0]
        height = xp.take_along_axis(remaining, pivot[..., 0], axis=-1)
        column = xp.where(alive, column, xp.zeros_like(column))
        column = column / xp.sqrt(xp.where(alive, height, xp.ones_like(height)))
        L = xp.concat([L, column[..., None]], axis=-1)
        remaining = remaining - xp.abs(column) ** 2
        # The pivot row is eliminated exactly; rounding must not bring it back.
        done = xp.arange(n)[None, :] == pivot[..., 0]
        remaining = xp.where(done & alive, -xp.ones_like(remaining), remaining)
    return xp.reshape(L, (*batch, n, L.shape[-1]))


def leading_svd(M: Array) -> LeadingVectors[Array]:
    """All singular values of M now, and the first r singular vectors when asked for.

        M = U Σ Vᴴ:   σ (..., k) descending,   vectors(r) = (U_r, V_r)

    Cost: O(n³); for r ≪ n about a quarter less than a full SVD.
    """
    return kernels.find(leading_svd_reference, M)(M)


def directions_of_factors(R: Array, S: Array) -> LeadingVectors[Array]:
    """σ of Sᴴ R = U Σ Vᴴ now, and directions(r) = (S U_r, R V_r) when asked for."""
    return directions_by(leading_svd, R, S)


def weighted_gram(X: Array, weights: Array | None = None) -> Array:
    """X diag(w) Xᴴ, Hermitian, for X (..., n, k) and real weights (..., k), by default 1."""
    return kernels.find(weighted_gram_reference, X)(X, weights)


def product_singular_values(S: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Singular values of Sᴴ R to relative accuracy, for complex factors with graded columns.

    With the columns scaled to unit size, Sᴴ R = D_S K D_R; K comes from one matrix product with a
    small error relative to its norm, and xGEJSV is accurate for such D_S K D_R as long as K is
    well conditioned. SciPy has the real routine only: the complex matrix X + iY becomes
    [[X, −Y], [Y, X]], which has each value twice.
    """
    sizes = [np.abs(X).max(axis=0, initial=0) for X in (S, R)]
    S, R = (X[:, size > 0] for X, size in zip((S, R), sizes, strict=True))
    d_S, d_R = (size[size > 0] for size in sizes)
    if not len(d_S) or not len(d_R):
        return np.zeros(0)
    M = d_S[:, None] * (adjoint(S / d_S) @ (R / d_R)) * d_R
    M = M if M.shape[0] >= M.shape[1] else adjoint(M)
    embedded = np.block([[M.real, -M.imag], [M.imag, M.real]])
    # joba=2: both scalings may be graded; jobr=0: no value is dropped for being small.
    values, _, _, work, _, info = scipy.linalg.lapack.dgejsv(
        embedded, joba=2, jobu=3, jobv=3, jobr=0, jobt=0, jobp=0
    )
    if info != 0:
        raise np.linalg.LinAlgError(f"the Jacobi singular value iteration failed (info = {info})")
    return (values * (work[0] / work[1]))[::2]


def graded_factor(X: np.ndarray) -> np.ndarray:
    """F, (..., n, n) or narrower as X is, with F Fᴴ = X Xᴴ and columns of falling size, by
    Xᴴ Π = Q T, F = Π Tᴴ."""
    n, k = X.shape[-2:]
    (geqp3,) = _pivoted_qr(np.dtype(X.dtype))
    F = np.zeros((*X.shape[:-1], min(n, k)), X.dtype)
    for index in np.ndindex(X.shape[:-2]):
        packed, order, _, _, _ = geqp3(X[index].conj().T, lwork=2 * n + (n + 1) * _PANEL)
        F[index][order - 1] = np.tril(packed[: F.shape[-1]].conj().T)
    return F


@cache
def _pivoted_qr(dtype: Any) -> Any:
    return scipy.linalg.get_lapack_funcs(("geqp3",), dtype=dtype)


def real_rank_factor(X: Any, *, rtol: float, max_rank: int | None = None) -> Any:
    """F (..., n, r) with F Fᵀ ≈ X Xᵀ and as few columns as X has rank, for real X (..., n, k).

    With the rows y_i of Y scaled to about unit norm and Y = U Σ Vᵀ, all columns of X V are left out
    behind which every (y V)_i has a tail of at most ``rtol`` times the largest one:
    (F Fᵀ − X Xᵀ)_ij is of the order of rtol² ‖x_i‖‖x_j‖. Libraries other than NumPy keep X itself.

    Cost: O(n k²), and no copies of X.
    """
    n, k = X.shape[-2:]
    if not is_numpy(X) or k == 0:
        return X
    limit = min(n, k) if max_rank is None else min(n, k, max_rank)
    stack = X.reshape(math.prod(X.shape[:-2]), n, k)
    factors = [matrix @ _leading_columns(matrix, rtol)[:, :limit] for matrix in stack]
    widest = max((factor.shape[-1] for factor in factors), default=0)
    if len(factors) == 1:
        return factors[0].reshape(*X.shape[:-1], widest)
    padded = np.zeros((len(factors), n, widest))
    for target, factor in zip(padded, factors, strict=True):
        target[:, : factor.shape[-1]] = factor
    return padded.reshape(*X.shape[:-1], widest)


def _leading_columns(X: np.ndarray, rtol: float) -> np.ndarray:
    """(k, r) orthonormal columns V_r of :func:`real_rank_factor`, in passes over blocks of rows."""
    norms = power_of_two(np.linalg.norm(X, axis=-1, keepdims=True))
    k = X.shape[-1]
    blocks = row_blocks(len(X))
    T, tails = np.zeros((0, k)), np.zeros(k)
    for rows in blocks:
        stacked = np.asfortranarray(np.concatenate([T, X[rows] / norms[rows]]))
        # xGEQRT works in panels that stay in the cache, which xGEQRF does not for so few columns.
        T, _, _ = scipy.linalg.lapack.dgeqrt(min(_PANEL, *stacked.shape), stacked, overwrite_a=True)
        T = np.triu(T[:k])
    V = np.linalg.svd(T)[2].T
    for rows in blocks:
        squares = np.square((X[rows] / norms[rows]) @ V)
        sums = np.cumsum(squares[:, ::-1], axis=-1)[:, ::-1]
        tails = np.maximum(tails, sums.max(axis=0))
    return V[:, : np.count_nonzero(tails > rtol**2 * tails[0])]
