"""Balanced truncation by the square-root method."""

from __future__ import annotations

from .._arrays import Array, namespace
from .._check import check_integer, check_one_given, is_single, like_precision
from .._linalg import EPSILON, adjoint, has_eigenvalues, leading_svd, pad_values
from .._modes import multiply
from ..errors import ArgumentError, ShapeError, warn_precision
from ..gramians import scaled_factors
from ..norms import h2_error
from ..structure import Rotation, StateMatrix
from ..systems import LTI, in_double, in_single
from .orders import order_for_energy, order_for_error
from .result import Reduction


def balanced_truncation(
    sys: LTI,
    *,
    order: int | None = None,
    energy: float | None = None,
    error: float | None = None,
) -> Reduction:
    """Keep the r best reachable and observable states.

        Sᴴ R = U Σ Vᴴ,   W = S U_r Σ_r^{−½},   V = R V_r Σ_r^{−½},   (Wᴴ A V, Wᴴ B, C V, D)
        ‖H − H_r‖_h∞ ≤ 2 Σ_{i>r} σ_i

    Exactly one criterion chooses r; in a batch the largest r that any entry needs is used for all.

    Parameters
    ----------
    order : int in 1 … n
        r itself.
    energy : float in (0, 1]
        Smallest r with Σ_{i≤r} σ_i ≥ energy · Σ σ_i.
    error : float ≥ 0
        Smallest r with 2 Σ_{i>r} σ_i ≤ error, an absolute bound on the h∞ error.

    Returns
    -------
    Reduction : the reduced system is dense (see `to_rotation`, `diagonalize`), real for real input,
        stable, and has the D of the full one. Conditions: all |poles| < 1; the system need not be
        minimal. Values at the level of rounding leave nothing to keep: r is lowered to the
        number of larger ones with a PrecisionWarning; a system with B = 0 or C = 0 becomes one
        state with zero input and output.

    Cost: O(n² (m + p) + n³) structured or dense, one SVD of the numerical rank.

    Raises
    ------
    UnstableSystemError
    ShapeError
        For an empty batch.
    ArgumentError
        When not exactly one criterion is given, or it is out of range.

    Source: Tombs & Postlethwaite, Int. J. Control 46 (1987); discrete-time bound: Al-Saggaf &
    Franklin, IEEE TAC 32 (1987), and Enns (1984).
    """
    xp = namespace(sys.B)
    full = in_double(sys)
    if 0 in sys.batch_shape:
        raise ShapeError(
            f"the batch shape {sys.batch_shape} holds no system, so no order can be chosen"
        )
    R, S, t = scaled_factors(full)
    sigma, vectors = leading_svd(adjoint(S) @ R)
    sigma = pad_values(sigma, sys.order)
    wanted = _choose_order(sigma, order, energy, error)

    clear = sigma > _rounding_level(full.A, R, S)  # the same for R/t and t S
    rank = int(xp.max(xp.sum(xp.astype(clear, xp.int64), axis=-1)))
    order = min(wanted, rank)
    U, V = vectors(max(order, 1))
    SU, RV = t * (S @ U), (R @ V) / t
    while True:
        kept = clear & (xp.arange(sys.order) < order)
        left, right, reduced = _project(full, SU, RV, sigma, kept, max(order, 1))
        # The exact truncation is stable: one that is not lives on values spoilt by rounding.
        if order == 0 or _is_stable(reduced):
            break
        order -= 1
    if order < wanted:
        warn_precision(
            f"order {wanted} was asked for, but only {order} Hankel singular values stand clear "
            f"of rounding: the reduced system has {reduced.order} states"
        )
    single = is_single(sys.B)
    return Reduction(
        system=in_single(reduced) if single else reduced,
        order=reduced.order,
        singular_values=like_precision(sigma, single),
        error_bound=like_precision(2 * xp.sum(xp.where(kept, 0.0, sigma), axis=-1), single),
        h2_error=like_precision(h2_error(full, reduced), single),
        left=like_precision(left, single),
        right=like_precision(right, single),
    )


def _project(
    sys: LTI, SU: Array, RV: Array, sigma: Array, kept: Array, order: int
) -> tuple[Array, Array, LTI]:
    """(W, V, reduced system) with ``order`` states; those that are not ``kept`` are zero, as in
    batch entries of lower rank than the others."""
    xp = namespace(SU, RV)
    scale = xp.where(kept, 1 / xp.sqrt(xp.where(kept, sigma, 1.0)), 0.0)[..., None, :order]
    left, right = pad_values(SU, order) * scale, pad_values(RV, order) * scale
    reduced = LTI(
        adjoint(left) @ multiply(sys.A, right), adjoint(left) @ sys.B, sys.C @ right, sys.D
    )
    return left, right, reduced


def _is_stable(sys: LTI) -> bool:
    # Libraries without eigenvalues of general matrices cannot tell; there we trust the theory.
    return not has_eigenvalues(sys.B) or sys.spectral_radius < 1


def _choose_order(
    sigma: Array, order: int | None, energy: float | None, error: float | None
) -> int:
    check_one_given(order=order, energy=energy, error=error)
    if energy is not None:
        return order_for_energy(sigma, energy)
    if error is not None:
        return order_for_error(sigma, error)
    order = check_integer("order", order, minimum=1)
    if order > sigma.shape[-1]:
        raise ArgumentError(f"order is {order}, but the system has only {sigma.shape[-1]} states")
    return order


def _rounding_level(A: StateMatrix, R: Array, S: Array) -> Array:
    """(..., 1) size of the rounding errors in SᴴR: eps · Σ_i ‖R_i‖‖S_i‖ over the states i.

    The sum bounds Σσ from above and does not change when the states are rescaled. The two states
    of a rotation block are computed from the same two modes, so they round, and count, together.
    """
    xp = namespace(R, S)
    r, s = (xp.sum(xp.abs(X) ** 2, axis=-1) for X in (R, S))
    if isinstance(A, Rotation):
        pairs, rest = 2 * A.blocks, slice(2 * A.blocks, None)
        r, s = (
            xp.concat([x[..., 0:pairs:2] + x[..., 1:pairs:2], x[..., rest]], axis=-1)
            for x in (r, s)
        )
    return EPSILON * xp.sum(xp.sqrt(r) * xp.sqrt(s), axis=-1, keepdims=True)
