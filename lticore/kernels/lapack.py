"""LAPACK routines of SciPy behind the signatures of the reference texts."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.linalg import (
    EPSILON,
    directions_by,
    leading_svd_reference,
    weighted_gram_reference,
)
from .cpu_stein import fill_upper_triangle

#: Below this size all singular vectors cost less than the calls that avoid some.
_SMALL = 128
#: Singular values within this share of the largest are taken from one eigendecomposition.
_LEVEL = 1e-3
#: The same where the values alone count: their squares then have eight digits left.
_LEVEL_OF_VALUES = 1e-4
#: Up to this order one SVD of factors of low rank costs less than the eigendecompositions that
#: take its place.
_ONE_SVD = 64
#: Pivots within this share of the largest leave a factor without pivoting its digits.
_WELL_CONDITIONED = 1e-8


def pivoted_cholesky(X: np.ndarray, rtol: float, max_rank: int) -> np.ndarray:
    """``xPSTRF`` over the batch; see :func:`lticore.matrices.factors.pivoted_cholesky`."""
    n = X.shape[-1]
    stack = X.reshape(math.prod(X.shape[:-2]), n, n)
    (pstrf,) = scipy.linalg.get_lapack_funcs(("pstrf",), (X,))
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
        factor[pivots - 1, :rank] = np.tril(lower[:, :rank])
        widest = max(widest, rank)
    return factors[..., :widest].reshape(*X.shape[:-1], widest)


def balancing_directions(P: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, ...]:
    """Eigendecompositions of RᴴQR; see :func:`lticore.hankel.directions.balancing_directions`."""
    *batch, n, _ = P.shape
    count = math.prod(batch)
    if count == 1:
        found = _balancing_directions(P.reshape(n, n), Q.reshape(n, n))
        return tuple(x.reshape(*batch, *x.shape) for x in found)
    parts = [
        _balancing_directions(*pair)
        for pair in zip(P.reshape(count, n, n), Q.reshape(count, n, n), strict=True)
    ]
    widest = max((len(sigma) for _, sigma, _ in parts), default=0)
    SU, RV = np.zeros((2, count, n, widest), dtype=np.result_type(P, Q))
    sigma = np.zeros((count, widest))
    for entry, (left, values, right) in enumerate(parts):
        k = len(values)
        SU[entry, :, :k], sigma[entry, :k], RV[entry, :, :k] = left, values, right
    shape = (*batch, n, widest)
    return SU.reshape(shape), sigma.reshape(*batch, widest), RV.reshape(shape)


def _balancing_directions(
    P: np.ndarray, Q: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # With P = R Rᴴ, Rᴴ Q R = V Σ² Vᴴ and S U = Q R V Σ⁻¹: one factor, one eigendecomposition. But
    # squares are good for values within a few digits of the largest only.
    R, multiply = _factor_and_products(P)
    if R.shape[1] < len(P) <= _ONE_SVD:
        return _directions_by_svd(R, pivoted_cholesky(Q, EPSILON, len(Q)))
    QR = multiply(Q.T.conj(), side=1)
    squares, V = _eigh_descending(multiply(QR, trans_a=2))
    take = np.count_nonzero(squares > _LEVEL**2 * squares[:1])
    sigma = np.sqrt(squares[:take])
    RV, SU = multiply(V[:, :take]), QR @ V[:, :take]
    SU /= sigma
    if take == R.shape[1] or take == 0:
        return SU, sigma, RV
    # For the others S is needed: Sᴴ R, restricted to the other eigenvectors, is rounded relative
    # to σ_1 instead of σ_1².
    S = pivoted_cholesky(Q, EPSILON, len(Q))
    U = S.conj().T @ RV
    U /= sigma
    rest = R @ V[:, take:]
    rest = _deflated(S.conj().T @ rest, rest, U, sigma, RV)
    return _with_smaller(S, *rest, [SU], [sigma], [RV])


def _directions_by_svd(R: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    U, sigma, Vh = np.linalg.svd(S.conj().T @ R, full_matrices=False)
    clear = sigma > EPSILON * len(R) * sigma.max(initial=0)
    return S @ U[:, clear], sigma[clear], R @ Vh[clear].conj().T


def _factor_and_products(P: np.ndarray) -> tuple[np.ndarray, Callable[..., np.ndarray]]:
    """R with P = R Rᴴ, and its products with the signature of ``xTRMM``: R X, Rᴴ X, X R.

    Where P is well conditioned R is triangular, which halves the work, else rank-revealing.
    """
    triangular = _well_conditioned_factor(P)
    if triangular is not None:
        trmm = scipy.linalg.get_blas_funcs("trmm", (P,))
        return triangular, partial(trmm, 1.0, triangular, lower=1)
    R = pivoted_cholesky(P, EPSILON, len(P))

    def multiply(X: np.ndarray, side: int = 0, trans_a: int = 0) -> np.ndarray:
        factor = R.conj().T if trans_a else R
        return X @ factor if side else factor @ X

    return R, multiply


def _with_smaller(
    S: np.ndarray,
    M: np.ndarray,
    R: np.ndarray,
    lefts: list[np.ndarray],
    values: list[np.ndarray],
    rights: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The directions given and those of M = Sᴴ R, each round those near the largest left."""
    level = EPSILON * len(R) * values[0][0]
    while M.shape[1]:
        squares, V = _eigh_descending(M.conj().T @ M)
        take = np.count_nonzero(squares > _LEVEL**2 * squares[0])
        M, R = M @ V, R @ V
        sigma = np.linalg.norm(M[:, :take], axis=0)
        if not (take and sigma[0] > level):
            break
        U, RV = M[:, :take] / sigma, R[:, :take]
        lefts.append(S @ U)
        values.append(sigma)
        rights.append(RV)
        M, R = _deflated(M[:, take:], R[:, take:], U, sigma, RV)
    sigma = np.concatenate(values)
    order = np.argsort(-sigma, kind="stable")
    return np.hstack(lefts)[:, order], sigma[order], np.hstack(rights)[:, order]


def _deflated(
    M: np.ndarray, R: np.ndarray, U: np.ndarray, sigma: np.ndarray, RV: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """M and R without what rounding left in them of directions already taken: little beside those,
    but large beside the columns' own small values."""
    taken = U.conj().T @ M
    return M - U @ taken, R - RV @ (taken / sigma[:, None])


def _eigh_descending(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # −X has its eigenvalues, ascending from LAPACK, in the order that we want.
    values, V = scipy.linalg.eigh(
        np.negative(X, out=X), driver="evd", overwrite_a=True, check_finite=False
    )
    return -values, V


def weighted_gram(X: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """``xSYRK`` over the batch; see :func:`lticore.matrices.factors.weighted_gram`."""
    *batch, n, k = X.shape
    if X.size == 0 or (weights is not None and np.any(weights < 0)):
        return weighted_gram_reference(X, weights)
    if weights is not None:
        X = X * np.sqrt(weights)[..., None, :]
    count = math.prod(batch)
    if count > 1 and k * 8 <= n <= _ONE_SVD:
        X = X.reshape(count, n, k)
        return fill_upper_triangle(X @ X.conj().swapaxes(-1, -2)).reshape(*batch, n, n)
    result = np.empty((count, n, n), X.dtype)
    for one, out in zip(X.reshape(len(result), n, k), result, strict=True):
        # BLAS reads rows as columns: X is Xᵀ to it, and its upper triangle our lower one.
        if np.iscomplexobj(X):
            scipy.linalg.blas.zherk(1.0, one.T, trans=2, c=out.T, overwrite_c=1)
        elif one.flags.f_contiguous:
            scipy.linalg.blas.dsyrk(1.0, one, c=out.T, overwrite_c=1)
        else:
            scipy.linalg.blas.dsyrk(1.0, one.T, trans=1, c=out.T, overwrite_c=1)
    return fill_upper_triangle(result).reshape(*batch, n, n)


def leading_directions(P: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, Callable[..., Any]]:
    """See :func:`lticore.hankel.directions.leading_directions`: values of RᴴQR from its
    tridiagonal form, and vectors for the directions asked for only, where all values are close
    enough to the largest.
    """
    *batch, n, _ = P.shape
    parts = [
        (n > _SMALL and _leading_of_tridiagonal(*pair)) or _leading_of_factors(*pair)
        for pair in zip(P.reshape(-1, n, n), Q.reshape(-1, n, n), strict=True)
    ]
    widest = max((len(values) for values, _ in parts), default=0)
    sigma = np.zeros((len(parts), widest))
    for row, (values, _) in zip(sigma, parts, strict=True):
        row[: len(values)] = values

    def directions(count: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.zeros((2, len(parts), n, count), np.result_type(P, Q))
        for entry, (values, leading) in enumerate(parts):
            k = min(count, len(values))
            found[0, entry, :, :k], found[1, entry, :, :k] = leading(k)
        SU, RV = found.reshape(2, *batch, n, count)
        return SU, RV

    return sigma.reshape(*batch, widest), directions


def _leading_of_factors(P: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, Callable[..., Any]]:
    R, S = (pivoted_cholesky(X, EPSILON, len(X)) for X in (P, Q))
    return directions_by(leading_svd, R, S)


def _leading_of_tridiagonal(
    P: np.ndarray, Q: np.ndarray
) -> tuple[np.ndarray, Callable[..., Any]] | None:
    R = _well_conditioned_factor(P)
    if R is None:
        return None
    n, complex_ = len(P), np.iscomplexobj(P)
    names = ("hegst", "hetrd", "unmqr") if complex_ else ("sygst", "sytrd", "ormqr")
    reduce, tridiagonalize, multiply = scipy.linalg.get_lapack_funcs(names, (P,))
    # Itype 2 overwrites Q by Rᴴ Q R; all of this works on lower triangles only.
    K, _ = reduce(Q.T.conj(), R, itype=2, lower=1)
    reflectors, diagonal, above, tau, info = tridiagonalize(K, lower=1, lwork=64 * n, overwrite_a=1)
    squares, failed = scipy.linalg.lapack.dsterf(diagonal, above)
    if info or failed or not squares[0] > _LEVEL_OF_VALUES**2 * squares[-1]:
        return None
    sigma = np.sqrt(squares[::-1])

    def directions(count: int) -> tuple[np.ndarray, np.ndarray]:
        _, V = scipy.linalg.eigh_tridiagonal(
            diagonal, above, select="i", select_range=(n - count, n - 1), check_finite=False
        )
        V = np.asfortranarray(V[:, ::-1].astype(P.dtype, copy=False))
        # The reflectors leave the first row alone and stand below the diagonal, as those of a QR
        # factorisation of one row less.
        V[1:], _, _ = multiply("L", "N", reflectors[1:, :-1], tau, V[1:], 64 * n)
        RV = scipy.linalg.get_blas_funcs("trmm", (P,))(1.0, R, V, lower=1)
        return Q @ RV / sigma[:count], RV

    return sigma, directions


def _well_conditioned_factor(P: np.ndarray) -> np.ndarray | None:
    """Lower triangular R with P = R Rᴴ where its digits need no pivoting, else None."""
    R, info = scipy.linalg.get_lapack_funcs("potrf", (P,))(P.T.conj(), lower=1)
    heights = np.diagonal(R).real
    clear = info == 0 and heights.min() > math.sqrt(_WELL_CONDITIONED) * heights.max()
    return R if clear else None


def leading_svd(
    M: np.ndarray,
) -> tuple[np.ndarray, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
    """See :func:`lticore.matrices.factors.leading_svd`: the SVD of ``xGESDD`` in its three steps,
    M = Q B Pᴴ, B = U Σ Vᵀ, and Q U_r, P V_r for the r columns asked for only.
    """
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
