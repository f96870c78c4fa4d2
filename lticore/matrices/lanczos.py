"""Leading singular values of a matrix that is known by its products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..arrays.linalg import adjoint

#: Columns of a block: as many as products do together at little more than the price of one.
_BLOCK = 8
#: Residuals that end the iteration, relative to the largest singular value.
_CONVERGED = 1e-13


class Operator(Protocol):
    """A matrix that need not be formed."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def adjoint(self) -> Any: ...
    def __matmul__(self, X: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class LeadingTriples:
    """U (M, k), σ (k,) descending, V (N, k) with H V ≈ U Σ.

    residual : (k,) ‖Hᴴ u_i − σ_i v_i‖
    whole : whether all singular values above the level are among them
    """

    U: np.ndarray
    sigma: np.ndarray
    V: np.ndarray
    residual: np.ndarray
    whole: bool


def leading_triples(H: Operator, count: int | None, level: float, most: int) -> LeadingTriples:
    """The ``count`` largest singular values, or all above ``level``, in spaces of at most ``most``
    dimensions.

    Block Golub–Kahan–Lanczos bidiagonalisation from a random start, every block made orthogonal to
    all before it: H V = U R with R upper triangular, Hᴴ U = V Rᴴ + V⁺ S. Singular values of R are
    those of H to within their residuals ‖S z‖, z the last rows of its left singular vectors.

    Cost: K/8 products with 8 columns each way, O((M + N) K²) time and O((M + N) K) memory for a
    space of K dimensions; K is a few blocks more than the values that stand out.

    Source: Golub, Luk & Overton, ACM TOMS 7 (1981).
    """
    rows, columns = H.shape
    most = min(most, rows, columns)
    rng = np.random.default_rng(0)
    U, V = np.zeros((rows, 0), H.dtype), np.zeros((columns, 0), H.dtype)
    R = np.zeros((0, 0), H.dtype)
    block, _ = _orthonormal(rng.standard_normal((columns, min(_BLOCK, most))).astype(H.dtype), V)
    look = float(count or 0)
    while True:
        V = np.concatenate([V, block], axis=1)
        new, above, own = _split_from(H @ block, U)
        R = np.block([[R, above], [np.zeros((new.shape[1], len(R))), own]])
        U = np.concatenate([U, new], axis=1)
        following, _, S = _split_from(H.adjoint @ new, V)
        full = len(R) + following.shape[1] > most
        if full or len(R) > look:
            left, sigma, right = np.linalg.svd(R)
            residual = np.linalg.norm(S @ left[-len(S) :], axis=0)
            clear = int(np.sum(sigma > level))
            whole = clear < len(sigma) and bool(np.all(residual[:clear] <= level))
            enough = count is not None and count < len(sigma)
            if full or whole or (enough and np.all(residual[:count] <= _CONVERGED * sigma[0])):
                return LeadingTriples(U @ left, sigma, V @ adjoint(right), residual, whole)
            look = 1.1 * len(R)
        block = following


def _split_from(X: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(new, above, own) with X = Q above + new own, ``new`` orthonormal and orthogonal to Q."""
    above = adjoint(Q) @ X
    rest = X - Q @ above
    new, own = _orthonormal(rest, Q)
    return new, above, own


def _orthonormal(X: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(new, R) with X ≈ new R and new ⟂ Q: twice is enough. Where X lacks directions these are
    rounding, made orthogonal."""
    new, R = np.linalg.qr(X - Q @ (adjoint(Q) @ X))
    new, again = np.linalg.qr(new - Q @ (adjoint(Q) @ new))
    return new, again @ R
