"""Any system in modal coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.checks import is_single, like_precision, to_double
from ..arrays.linalg import EPSILON, real_part
from ..arrays.namespaces import Array, is_numpy, namespace, zeros_like_shape
from ..errors import ArgumentError, ArrayLibraryError
from ..matrices.balance import rescaled, state_units
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, SystemLike, as_linear, as_system
from ..systems.lti import LTI, in_double, in_single
from ..systems.modes import mode_poles, signals_in_modes, warn_of_lost_radii
from ..systems.on_host import computed_on_host
from ..systems.quadratic import System, in_eigenbasis, mapped
from ..systems.structure import is_structured
from .change import warn_if_changed

#: Eigenvectors worse conditioned than this cost more than six of the 16 digits of float64. Rounding
#: splits the double pole of a dense matrix and leaves a condition of 6e6 to 1e9 (n ≤ 40), longer
#: chains a larger one: all of them are above.
MAX_CONDITION = 3e6
#: Modes rounded to float32 then keep three of its seven digits.
MAX_CONDITION_SINGLE = 1e4


@computed_on_host
def eigenvector_condition(sys: SystemLike[Array]) -> Array:
    """κ(V) = ‖V‖₂ ‖V⁻¹‖₂ of the eigenvectors of A, one per batch entry.

        A V = V Λ,     columns of V of norm 1

    in the units of the states that suit the system best, powers of two, in which conversions work.
    Modal coordinates may lose log10 κ of the 16 digits of float64. Columns of norm 1 come within √n
    of the best scaling (van der Sluis).

    Returns
    -------
    (...) real array ≥ 1 in the precision of the system: 1 for structured A, which is normal; 6e6
    and more for a defective A, whose computed eigenvectors are seldom quite dependent, or infinite
    where they are.

    Conditions: none. Cost: O(n³) dense.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArrayLibraryError
        For dense systems that are not NumPy arrays.

    Source: Bauer & Fike, Numer. Math. 2 (1960); Demmel, Numer. Math. 41 (1983).


    >>> double = lti.from_zpk([], [0.5, 0.5])  # 1/(z − 0.5)²
    >>> bool(lti.eigenvector_condition(double) > 1e6)
    True
    >>> print(lti.eigenvector_condition(lti.from_zpk([], [0.5])))
    1.0

    """
    sys = as_system(sys, continuous=True)
    if is_structured(sys.A):
        return 1 + zeros_like_shape(real_part(sys.B), sys.batch_shape)
    _require_lapack(sys.A)
    condition: Any = condition_of(mapped(to_double, sys))
    return like_precision(condition, is_single(sys.B))


def condition_of(sys: System) -> np.ndarray:
    """(...) κ(V) of :func:`eigenvector_condition` for a dense system in float64."""
    return condition_of_eigenvectors(balanced_eigenvectors(sys)[1])


def balanced_eigenvectors(sys: System) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Λ, V, d) with A D V = D V Λ and columns of V of norm 1, for the units d, (..., n, 1), of the
    states in which rounding costs least."""
    d = state_units(sys.A, sys.B, sys.C, sys.is_continuous)[..., None]
    poles, V = np.linalg.eig(rescaled(sys.A, np.swapaxes(d, -1, -2), d))
    return poles, V, d


def condition_of_eigenvectors(V: np.ndarray) -> np.ndarray:
    """(...) 2-norm conditions of (..., n, n) eigenvectors; infinite for dependent ones, and where
    float32 would not hold them."""
    if V.shape[-1] == 0:
        return np.ones(V.shape[:-2])
    values = np.linalg.svd(V, compute_uv=False)
    smallest = values[..., -1]
    dependent = smallest == 0
    condition = values[..., 0] / np.where(dependent, 1, smallest)
    return np.where(dependent | (condition > np.finfo(np.float32).max), np.inf, condition)


def check_max_condition(max_condition: float | None, single: bool = False) -> float:
    """``max_condition``, refused below 1; by default that of the precision."""
    if max_condition is None:
        return MAX_CONDITION_SINGLE if single else MAX_CONDITION
    if not max_condition >= 1:
        raise ArgumentError(
            f"max_condition must be at least 1, the condition of orthogonal eigenvectors, but is "
            f"{max_condition!r}"
        )
    return max_condition


@computed_on_host
def diagonalize(
    sys: LinearLike[Array], *, max_condition: float | None = None
) -> LTI[Array, Diagonal[Array]]:
    """The same system in modal coordinates, A = diag(λ).

        A V = V Λ,     (Λ, V⁻¹ B, C V, D),     each mode scaled so that ‖b_i‖ = ‖c_i‖

    Parameters
    ----------
    max_condition : float ≥ 1, default 3e6, of float32 systems 1e4
        A PrecisionWarning states a condition κ(V) above it and the relative error of the response,
        where this exceeds ``max_condition`` times the last digit.

    Returns
    -------
    LTI with a complex `Diagonal` (real where all poles are real and A is); a `Diagonal` system
    comes back as it is.

    Accuracy: relative 2.2e-16 · κ(V) in the worst case, in float32 1.2e-7 · κ(V), with κ(V) of
    :func:`lticore.eigenvector_condition`. Near a defective A (chains of equal poles) it has no
    bound; :func:`lticore.well_conditioned` gives a nearby system with a small one. Complex numbers
    hold the distance 1 − |λ| from the unit circle to 1.1e-16, in float32 to 6e-8, and so fewer
    digits of it than the radius of a `Rotation` next to the circle: a PrecisionWarning states the
    relative error above 1e-6, in float32 1e-3, and above ``max_condition`` times the last digit.

    Cost: O(n³) dense; O(n (m + p)) for Rotation and Oscillation.

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArrayLibraryError
        For dense systems that are not NumPy arrays.
    ArgumentError
        When A is defective to working precision, κ(V) ≥ 1/2.2e-16, or max_condition < 1.


    >>> sys = lti.from_zpk([], [0.5j, -0.5j])
    >>> abs(lti.diagonalize(sys).A.poles.imag).round(12)
    array([0.5, 0.5])

    """
    sys = as_linear(sys, continuous=True)
    single, full = is_single(sys.B), in_double(sys)
    max_condition = check_max_condition(max_condition, single)
    if isinstance(sys.A, Diagonal):
        return sys
    if isinstance(full.A, PairBlocks):
        modal = _diagonalize_rotation(full)
        modal = in_single(modal) if single else modal
        most = max_condition * float(np.finfo(np.float32).eps if single else EPSILON)
        warn_of_lost_radii(full.A, modal.A, sys.is_continuous, most)
        return modal
    modal = _diagonalize_dense(full, max_condition, single)
    return in_single(modal) if single else modal


def _diagonalize_rotation(sys: LTI[Array]) -> LTI[Array]:
    A = sys.A
    B, C = signals_in_modes(A, sys.B, sys.C)
    return LTI(Diagonal(mode_poles(A)), *equal_norms(B, C), sys.D, dt=sys.dt)


def _diagonalize_dense(sys: LTI, max_condition: float, single: bool) -> LTI:
    poles, V, condition = eigenvectors(sys)
    modal = in_eigenbasis(sys, poles, V)
    modal = LTI(modal.A, *equal_norms(modal.B, modal.C), sys.D, dt=sys.dt)
    warn_if_changed(sys, modal, condition, max_condition, single)
    return modal


def eigenvectors(sys: System) -> tuple[np.ndarray, np.ndarray, float]:
    """(Λ, V, the largest condition of the batch) of a dense system, refused when dependent."""
    _require_lapack(sys.A)
    poles, V, d = balanced_eigenvectors(sys)
    # For an exactly defective A, solving with V would stop with a bare LAPACK error.
    condition = float(np.max(condition_of_eigenvectors(V), initial=0))
    require_independent(condition)
    return poles, d * V, condition


def require_independent(condition: float) -> None:
    """Refuse eigenvectors of this condition when they are dependent."""
    if not condition < 1 / EPSILON:
        raise ArgumentError(
            "A is defective to working precision (its eigenvectors are dependent, condition "
            f"{condition:.1e}): it has no diagonal form, and no modes to choose from. Keep the "
            "system dense, which balanced_truncation and h2_reduction reduce as it is, and "
            "modal_truncation by clusters of poles; or convert well_conditioned(sys).system, a "
            "nearby one"
        )


def _require_lapack(A: Array) -> None:
    if not is_numpy(A):
        raise ArrayLibraryError(
            "the eigenvectors of a dense system need LAPACK and so NumPy arrays"
        )


def equal_norms(B: Array, C: Array, block: int = 1) -> tuple[Array, Array]:
    """Scale state i so that row i of B and column i of C have the same norm (per block)."""
    xp = namespace(B, C)
    b, c = row_norms(B, block), row_norms(xp.matrix_transpose(C), block)
    both = (b > 0) & (c > 0)
    # Roots before the quotient, which could overflow.
    b, c = (xp.sqrt(xp.where(both, x, xp.ones_like(x))) for x in (b, c))
    scale = xp.repeat(c / b, block, axis=-1)
    return B * scale[..., :, None], C / scale[..., None, :]


def row_norms(rows: Array, block: int = 1) -> Array:
    """Norms of ``block`` neighbouring rows each, whose squares may over- or underflow."""
    xp = namespace(rows)
    *batch, n, width = rows.shape
    size = xp.reshape(xp.abs(rows), (*batch, n // block, block * width))
    largest = xp.max(size, axis=-1, keepdims=True)
    unit = xp.where(largest > 0, largest, xp.ones_like(largest))
    return unit[..., 0] * xp.sqrt(xp.sum((size / unit) ** 2, axis=-1))
