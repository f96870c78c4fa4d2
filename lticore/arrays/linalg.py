"""Linear algebra that the array API standard lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..errors import ArrayLibraryError
from .checks import is_complex
from .groups import eigenvalues_of_groups
from .namespaces import Array, is_numpy, namespace, zeros_like_shape

#: Unit roundoff spacing of float64, in which all spectral work runs.
EPSILON = float(np.finfo(np.float64).eps)
#: σ, and a function of r: the r pairs of vectors that belong to the largest.
LeadingVectors: TypeAlias = tuple[Array, Callable[[int], tuple[Array, Array]]]
#: Rows of tall matrices that are worked on together: a hundred columns of them fit the cache.
_ROWS = 2048


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


def row_blocks(n: int, each: int = _ROWS) -> list[slice]:
    """n rows in blocks of ``each``, by default of a tall matrix and so that they fit the cache."""
    return [slice(first, min(first + each, n)) for first in range(0, n, each)]


def adjoint_product(S: Array, R: Array) -> Array:
    """Sᴴ R for tall S and R, whose conjugate is never formed as a whole."""
    blocks = row_blocks(S.shape[-2]) or [slice(0, 0)]
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
    """(..., n) eigenvalues of a general matrix, complex; on NumPy those of each group of states
    that feed each other for themselves (:func:`lticore.arrays.groups.eigenvalues_of_groups`)."""
    xp = namespace(A)
    if not has_eigenvalues(A):
        raise ArrayLibraryError(
            f"{xp.__name__} has no eigenvalues of general matrices: convert the dense system to "
            "NumPy, or use a Diagonal or Rotation state matrix"
        )
    plain: Any = A
    values: Any = eigenvalues_of_groups(plain) if is_numpy(A) else xp.linalg.eigvals(A)
    return values if is_complex(values) else xp.astype(values, xp.result_type(values, xp.complex64))


def leading_svd_reference(M: Array) -> LeadingVectors[Array]:
    """Reference text of :func:`lticore.matrices.factors.leading_svd` for any array library."""
    U, sigma, Vh = namespace(M).linalg.svd(M, full_matrices=False)
    return sigma, lambda r: (U[..., :r], adjoint(Vh[..., :r, :]))


def weighted_gram_reference(X: Array, weights: Array | None) -> Array:
    """Reference text of :func:`lticore.matrices.factors.weighted_gram` for any array library."""
    return (X if weights is None else X * weights[..., None, :]) @ adjoint(X)


def directions_by(
    svd: Callable[[Array], LeadingVectors[Array]], R: Array, S: Array
) -> LeadingVectors[Array]:
    """σ of Sᴴ R = U Σ Vᴴ now, and directions(r) = (S U_r, R V_r) when asked for."""
    sigma, vectors = svd(adjoint_product(S, R))

    def directions(count: int) -> tuple[Array, Array]:
        U, V = vectors(count)
        return S @ U, R @ V

    return sigma, directions


def log2(x: Array) -> Array:
    """log2 of sizes, −∞ of nothing and of what should be a size and is negative."""
    if is_numpy(x):
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Any = np.where(x > 0, np.log2(x), -np.inf)
        return found
    xp = namespace(x)
    return xp.where(x > 0, xp.log2(xp.where(x > 0, x, xp.ones_like(x))), -xp.inf * xp.ones_like(x))


def solve_in_any_units(V: np.ndarray, B: np.ndarray) -> np.ndarray:
    """V⁻¹ B by an elimination that does not see the units of the rows, those of states."""
    unit = power_of_two(np.abs(V).max(axis=-1, keepdims=True, initial=0))
    return np.linalg.solve(V / unit, B / unit)


def power_of_two(sizes: np.ndarray) -> np.ndarray:
    """The nearest one of each size, 1 of nothing: scaling by it rounds no digit."""
    return np.exp2(np.round(np.log2(np.where(sizes > 0, sizes, 1))))


def refined_solution(A: Array, B: Array) -> Array:
    """A⁻¹ B. Elimination is right to the largest entries of a column; one step of refinement makes
    it right to each entry of the equations (Skeel, Math. Comp. 35, 1980)."""
    xp = namespace(A, B)
    X = xp.linalg.solve(A, B)
    return X + xp.linalg.solve(A, B - A @ X)
