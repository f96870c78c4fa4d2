"""Linear algebra that the array API standard lacks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from . import kernels
from ._arrays import Array, is_numpy, namespace, zeros_like_shape
from ._check import is_complex
from .errors import ArrayLibraryError

#: Unit roundoff spacing of float64, in which all spectral work runs.
EPSILON = float(np.finfo(np.float64).eps)
#: Rows of tall matrices that are worked on together: a hundred columns of them fit the cache.
_ROWS = 2048
#: Columns of a QR factorisation that are eliminated together.
_PANEL = 32


def conjugate(X: Array) -> Array:
    """conj X; X itself when it is real."""
    return namespace(X).conj(X) if is_complex(X) else X


def adjoint(X: Array) -> Array:
    """Conjugate transpose Xᴴ of the last two axes."""
    return conjugate(namespace(X).matrix_transpose(X))


def complex_of(real: Array, imaginary: Array) -> Array:
    """real + i·imaginary in the matching complex dtype."""
    xp = namespace(real, imaginary)
    dtype = xp.result_type(real.dtype, imaginary.dtype, xp.complex64)
    return xp.astype(real, dtype) + 1j * xp.astype(imaginary, dtype)


def as_complex(X: Array) -> Array:
    """X in the matching complex dtype."""
    return X if is_complex(X) else complex_of(X, namespace(X).zeros_like(X))


def real_part(X: Array) -> Array:
    """Re X; X itself when it is real."""
    return namespace(X).real(X) if is_complex(X) else X


def one_minus(gap: Array, modulus: Array, phase: Array) -> Array:
    """1 − w for |w| = modulus = 1 − gap and arg w = phase, without cancellation near w = 1.

    1 − w = gap + 2 |w| sin²(arg w / 2) − i |w| sin(arg w)
    """
    xp = namespace(gap)
    sine, cosine = xp.sin(phase / 2), xp.cos(phase / 2)
    return complex_of(gap + 2 * modulus * sine**2, -2 * modulus * sine * cosine)


def hermitian_part(X: Array) -> Array:
    """(X + Xᴴ)/2; X may be overwritten."""
    return kernels.find(hermitian_part_reference, X)(X)


def hermitian_part_reference(X: Array) -> Array:
    """Reference text of :func:`hermitian_part` for any array library."""
    return (X + adjoint(X)) / 2


def adjoint_product(S: Array, R: Array) -> Array:
    """Sᴴ R for tall S and R, whose conjugate is never formed as a whole."""
    n = S.shape[-2]
    blocks = [slice(first, min(first + _ROWS, n)) for first in range(0, max(n, 1), _ROWS)]
    product = adjoint(S[..., blocks[0], :]) @ R[..., blocks[0], :]
    for rows in blocks[1:]:
        product = product + adjoint(S[..., rows, :]) @ R[..., rows, :]
    return product


def pad_values(sigma: Array, length: int) -> Array:
    """``sigma`` cut or filled up with zeros to ``length`` values."""
    missing = length - sigma.shape[-1]
    if missing <= 0:
        return sigma[..., :length]
    zeros = zeros_like_shape(sigma, (*sigma.shape[:-1], missing))
    return namespace(sigma).concat([sigma, zeros], axis=-1)


def diagonal(X: Array) -> Array:
    """(..., n) diagonal of (..., n, n)."""
    return namespace(X).linalg.diagonal(X)


def diagonal_matrix(x: Array, offset: int = 0) -> Array:
    """(..., n + offset, n + offset) matrix with x (..., n) on the given superdiagonal."""
    xp = namespace(x)
    size = x.shape[-1] + offset
    here = xp.eye(size, k=offset, dtype=xp.bool)
    padding = [zeros_like_shape(x, (*x.shape[:-1], offset))] if offset else []
    rows = xp.concat([x, *padding], axis=-1)[..., None]
    return xp.where(here, rows, xp.zeros_like(rows))


def has_eigenvalues(X: Array) -> bool:
    """Whether the library of X has eigenvalues of general matrices."""
    return hasattr(namespace(X).linalg, "eigvals")


def eigenvalues(A: Array) -> Array:
    """(..., n) eigenvalues of a general matrix, complex."""
    xp = namespace(A)
    if not has_eigenvalues(A):
        raise ArrayLibraryError(
            f"{xp.__name__} has no eigenvalues of general matrices: convert the dense system to "
            "NumPy, or use a Diagonal or Rotation state matrix"
        )
    values = xp.linalg.eigvals(A)
    return values if is_complex(values) else xp.astype(values, xp.result_type(values, xp.complex64))


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


def leading_svd(M: Array) -> tuple[Array, Callable[[int], tuple[Array, Array]]]:
    """All singular values of M now, and the first r singular vectors when asked for.

        M = U Σ Vᴴ:   σ (..., k) descending,   vectors(r) = (U_r, V_r)

    Cost: O(n³); for r ≪ n about a quarter less than a full SVD.
    """
    return kernels.find(leading_svd_reference, M)(M)


def leading_svd_reference(M: Array) -> tuple[Array, Callable[[int], tuple[Array, Array]]]:
    """Reference text of :func:`leading_svd` for any array library."""
    U, sigma, Vh = namespace(M).linalg.svd(M, full_matrices=False)
    return sigma, lambda r: (U[..., :r], adjoint(Vh[..., :r, :]))


def directions_of_factors(R: Array, S: Array) -> tuple[Array, Callable[[int], tuple[Array, Array]]]:
    """σ of Sᴴ R = U Σ Vᴴ now, and directions(r) = (S U_r, R V_r) when asked for."""
    sigma, vectors = leading_svd(adjoint_product(S, R))

    def directions(count: int) -> tuple[Array, Array]:
        U, V = vectors(count)
        return S @ U, R @ V

    return sigma, directions


def weighted_gram(X: Array, weights: Array | None = None) -> Array:
    """X diag(w) Xᴴ, Hermitian, for X (..., n, k) and real weights (..., k), by default 1."""
    return kernels.find(weighted_gram_reference, X)(X, weights)


def weighted_gram_reference(X: Array, weights: Array | None) -> Array:
    """Reference text of :func:`weighted_gram` for any array library."""
    return (X if weights is None else X * weights[..., None, :]) @ adjoint(X)


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
    """F (n, n) with F Fᴴ = X Xᴴ and columns of falling size, by Xᴴ Π = Q T, F = Π Tᴴ."""
    T, order = scipy.linalg.qr(adjoint(X), mode="r", pivoting=True, check_finite=False)
    F = np.empty_like(adjoint(T))
    F[order] = adjoint(T)
    return F


def real_rank_factor(X: Array, *, rtol: float, max_rank: int | None = None) -> Array:
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
    blocks = [slice(first, first + _ROWS) for first in range(0, len(X), _ROWS)]
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


def power_of_two(sizes: np.ndarray) -> np.ndarray:
    """The nearest one of each size, 1 of nothing: scaling by it rounds no digit."""
    return np.exp2(np.round(np.log2(np.where(sizes > 0, sizes, 1))))


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
