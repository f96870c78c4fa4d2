"""Factorisations of sparse matrices for many right-hand sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import scipy
import scipy.linalg

from ..errors import SingularEquationError

#: (W, trans) ↦ M⁻¹ W, M⁻ᵀ W or M⁻ᴴ W.
SparseSolver: TypeAlias = Callable[[np.ndarray, Literal["N", "T", "H"]], np.ndarray]

#: Bands up to this width are left to LAPACK, which needs no graph of them.
_NARROW = 8
#: Pivots stay on the diagonal of matrices of symmetric pattern unless they are this much smaller
#: than others of their column.
_ON_DIAGONAL = 0.1
_SINGULAR = "a sparse matrix is singular"


def factorized(M: scipy.sparse.csc_array) -> SparseSolver:
    """Solver of M X = W for a sparse M and W of the same dtype, by LAPACK where M is a narrow band,
    else by SuperLU.

    Cost: O(n) of a band; of a mesh in the plane O(n^{3/2}) and O(n log n) for each column.

    Raises
    ------
    SingularEquationError
        Where M is singular.
    """
    if _width(M) <= _NARROW:
        return _of_band(M)
    from scipy.sparse.linalg import splu

    try:
        if _is_symmetric_in_pattern(M):
            lu = splu(
                M,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=_ON_DIAGONAL,
                options={"SymmetricMode": True},
            )
        else:
            lu = splu(M, permc_spec="COLAMD")
    except RuntimeError as error:
        raise SingularEquationError(_SINGULAR) from error
    return lu.solve


def _width(M: scipy.sparse.csc_array) -> int:
    return int(np.max(np.abs(M.indices - _columns(M)), initial=0))


def _columns(M: scipy.sparse.csc_array) -> np.ndarray:
    """The column of each entry."""
    return np.repeat(np.arange(M.shape[1]), np.diff(M.indptr))


def _is_symmetric_in_pattern(M: scipy.sparse.csc_array) -> bool:
    pattern = scipy.sparse.csc_array((np.ones_like(M.data, bool), M.indices, M.indptr), M.shape)
    return (pattern != pattern.T).nnz == 0


def _of_band(M: scipy.sparse.csc_array) -> SparseSolver:
    width = _width(M)
    # Row i of column j lies in row 2 width + i − j; the first ones are for pivoting.
    band = np.zeros((3 * width + 1, M.shape[0]), dtype=M.dtype, order="F")
    columns = _columns(M)
    band[2 * width + M.indices - columns, columns] = M.data
    factorize, solve = scipy.linalg.get_lapack_funcs(("gbtrf", "gbtrs"), (band,))
    band, pivots, info = factorize(band, width, width, overwrite_ab=True)
    if info != 0:
        raise SingularEquationError(_SINGULAR)

    def solver(W: np.ndarray, trans: Literal["N", "T", "H"] = "N") -> np.ndarray:
        X, _ = solve(band, width, width, W, pivots, trans="NTH".index(trans))
        return X

    return solver
