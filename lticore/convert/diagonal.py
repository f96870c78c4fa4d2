"""Any system in modal coordinates."""

from __future__ import annotations

import numpy as np

from .._arrays import Array, is_numpy, namespace
from .._check import is_single
from .._linalg import EPSILON, adjoint
from .._modes import mode_poles, to_modes
from ..errors import ArgumentError, ArrayLibraryError, warn_precision
from ..structure import Diagonal, Rotation
from ..systems import LTI, in_double, in_single

#: Eigenvectors worse conditioned than this lose half the digits of float64.
_CONDITION_LIMIT = 1e8


def diagonalize(sys: LTI) -> LTI:
    """The same system in modal coordinates, A = diag(λ).

        A V = V Λ,     (Λ, V⁻¹ B, C V, D),     each mode scaled so that ‖b_i‖ = ‖c_i‖

    Returns
    -------
    LTI with a complex `Diagonal` (real where all poles are real and A is); a `Diagonal` system
    comes back as it is.

    Accuracy: relative 2.2e-16 · cond(V) in the worst case. A PrecisionWarning states cond(V) above
    1e8, as it happens near defective A.

    Cost: O(n³) dense; O(n (m + p)) for Rotation.

    Raises
    ------
    ArrayLibraryError
        For dense systems that are not NumPy arrays.
    """
    if isinstance(sys.A, Diagonal):
        return sys
    single, full = is_single(sys.B), in_double(sys)
    if isinstance(full.A, Rotation):
        modal = _diagonalize_rotation(full)
    else:
        modal = _diagonalize_dense(full)
    return in_single(modal) if single else modal


def _diagonalize_rotation(sys: LTI) -> LTI:
    A = sys.A
    B, C = to_modes(A, sys.B), adjoint(to_modes(A, adjoint(sys.C)))
    return LTI(Diagonal(mode_poles(A)), *equal_norms(B, C), sys.D)


def _diagonalize_dense(sys: LTI) -> LTI:
    if not is_numpy(sys.A):
        raise ArrayLibraryError("diagonalizing a dense system needs LAPACK and so NumPy arrays")
    poles, V = np.linalg.eig(sys.A)
    # For an exactly defective A, solving with V would stop with a bare LAPACK error.
    condition = float(np.max(np.linalg.cond(V), initial=0))
    if not condition < 1 / EPSILON:
        raise ArgumentError(
            "A is defective to working precision (its eigenvectors are dependent, condition "
            f"{condition:.1e}): it has no diagonal form. Keep the system dense, or perturb A"
        )
    if condition > _CONDITION_LIMIT:
        warn_precision(
            f"the eigenvectors of A have condition number {condition:.1e}: modal coordinates "
            f"carry a relative error of up to {condition * EPSILON:.0e}"
        )
    return LTI(Diagonal(poles), *equal_norms(np.linalg.solve(V, sys.B), sys.C @ V), sys.D)


def equal_norms(B: Array, C: Array, block: int = 1) -> tuple[Array, Array]:
    """Scale state i so that row i of B and column i of C have the same norm (per block)."""
    xp = namespace(B, C)
    b = _block_norms(xp.sum(xp.abs(B) ** 2, axis=-1), block)
    c = _block_norms(xp.sum(xp.abs(C) ** 2, axis=-2), block)
    both = (b > 0) & (c > 0)
    # Roots before the quotient, which could overflow.
    b, c = (xp.sqrt(xp.sqrt(xp.where(both, x, xp.ones_like(x)))) for x in (b, c))
    scale = xp.repeat(c / b, block, axis=-1)
    return B * scale[..., :, None], C / scale[..., None, :]


def _block_norms(squares: Array, block: int) -> Array:
    xp = namespace(squares)
    blocks = (*squares.shape[:-1], squares.shape[-1] // block, block)
    return xp.sum(xp.reshape(squares, blocks), axis=-1)
