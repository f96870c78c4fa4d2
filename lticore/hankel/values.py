"""Hankel singular values."""

from __future__ import annotations

from functools import partial
from typing import Literal

from ..arrays.checks import check_horizon, check_integer, is_single, like_precision
from ..arrays.linalg import EPSILON, adjoint_product, pad_values
from ..arrays.namespaces import Array, holds, is_numpy, namespace
from ..equations.stability import HORIZON, offering
from ..errors import ArgumentError, ArrayLibraryError
from ..matrices.factors import leading_svd
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double
from ..systems.on_host import computed_on_host
from ..systems.signals import in_even_states, scaled, unit_signals
from ..systems.structure import is_sparse
from .directions import leading_directions
from .gramians import (
    DEFAULT_RTOL,
    balance_states,
    has_factors,
    has_many_states,
    modal_factors,
    scaled_factors,
    scaled_gramians,
)
from .relative import relative_values
from .schur_factors import require_finite_values

#: ‖P‖‖Q‖/σ_1² of systems without much cancellation between their modes.
_CANCELLATION = 1e6


@partial(computed_on_host, unless=has_many_states)
def hankel_singular_values(
    sys: LinearLike[Array],
    *,
    accuracy: Literal["standard", "relative"] = "standard",
    max_rank: int | None = None,
    horizon: float | None = None,
) -> Array:
    """Hankel singular values σ_1 ≥ σ_2 ≥ … of (A, B, C).

        σ = singular values of Sᴴ R,   P = R Rᴴ,  Q = S Sᴴ      ( = √eig(P Q))

    Parameters
    ----------
    accuracy : "standard" or "relative"
        With "relative" every value has correct leading digits, however small, or a
        PrecisionWarning says which have not (NumPy, infinite horizon; see below).
    max_rank : int ≥ 1, optional
        Compute only from that many columns of the factors; the result then has this length.
    horizon : int ≥ 1, optional
        Values of the time-limited Gramians instead; exists for unstable systems too.

    Returns
    -------
    (..., n) or (..., max_rank) real array, descending, padded with exact zeros beyond the
    numerical rank; in the precision of the system.

    Accuracy, "standard": absolute, usually about 1e-15 · ‖R‖‖S‖ after the diagonals of P and Q are
    balanced (1e-16 · σ_1²/σ_i, where all are within 1e-4 of the largest, for n > 128 on NumPy);
    values below about 1e-12 σ_1 need not have a correct digit. The guarantee is
    1e-15 · (‖R‖‖S‖)²/σ_i, since a formed Gramian loses directions that are weak in it, and these
    can be strong in the other one. Dense systems on NumPy, and structured ones over the infinite
    horizon whose modes cancel, ‖P‖‖Q‖ > 1e6 σ_1², form none: theirs is 1e-15 · ‖R‖‖S‖, for dense
    ones of a matrix within 1e-15 ‖A‖ of A, rows and columns of A having been brought to about equal
    size.

    Accuracy, "relative": relative errors of 3e-14 to 5e-11 in the smallest values were measured;
    with several inputs or outputs add the cancellation between them. All is computed twice more, in
    other coordinates or from factors whose last digits differ, and a PrecisionWarning counts the
    values that differ by more than 0.1 %. Cases and methods: docs/accuracy.md.

    Cost: for structured A with n ≥ 1024 and n ≥ 32 max(m, p) O(n r (m + p + r)), linear in n, with
    r the numerical rank (or ``max_rank``), and no n × n matrix; else O(n² (m + p) + n³), the cubic
    part one SVD of the numerical rank. "relative": O(n² (m + p) + n³) with the constant of a Jacobi
    SVD of order 2n, one batch entry at a time, three times.

    CuPy: computed on the host, but for the factors of many states; see docs/cupy.md.

    Raises
    ------
    UnstableSystemError
    MemoryLimitError
        Where r columns of so many states are too large for this machine: give ``max_rank``.
    NonFiniteError
        Where values over a horizon overflow.
    ArgumentError
        Also for ``accuracy="relative"`` over a horizon.
    ArrayLibraryError
        For ``accuracy="relative"`` of arrays that are not NumPy's.

    Warns
    -----
    PrecisionWarning
        Uncertain values ("relative"); dense poles very near to the circle ("standard", as for
        :func:`lticore.gramian_factors`).

    Source: Tombs & Postlethwaite, Int. J. Control 46 (1987), the square-root method; Drmač &
    Veselić, SIAM J. Matrix Anal. Appl. 29 (2008), the Jacobi method; Hammarling, Systems &
    Control Letters 17 (1991).


    >>> A, B = lti.Diagonal([0.8, 0.6]), np.diag([0.6, 0.8])
    >>> sys = lti.LTI(A, B, np.diag([3, 1]) @ B)  # P = I, Q = diag(9, 1)
    >>> lti.hankel_singular_values(sys).round(4)
    array([3., 1.])

    """
    sys = as_linear(sys, continuous=True, sparse=True)
    if accuracy not in ("standard", "relative"):
        raise ArgumentError(f"accuracy={accuracy!r} is not 'standard' or 'relative'")
    horizon = check_horizon(horizon, sys.is_continuous)
    if max_rank is not None:
        max_rank = check_integer("max_rank", max_rank, minimum=1)
    full, b, c = unit_signals(in_even_states(in_double(sys))[0])
    exponent = (b + c)[..., None]
    single = is_single(sys.B)
    if accuracy == "relative":
        if horizon is not None:
            raise ArgumentError("accuracy='relative' exists for the infinite horizon only")
        if is_sparse(sys.A):
            raise ArgumentError("accuracy='relative' is not there for a sparse A")
        if not is_numpy(sys.B):
            raise ArrayLibraryError("accuracy='relative' needs LAPACK and so NumPy arrays")
        return like_precision(scaled(relative_values(full, max_rank), exponent), single)
    length = sys.order if max_rank is None else min(max_rank, sys.order)
    with offering(HORIZON):
        sigma = pad_values(_standard_values(full, max_rank, horizon), length)
    if horizon is not None:
        require_finite_values(sigma)
    return like_precision(scaled(sigma, exponent), single)


def _standard_values(sys: LTI[Array], max_rank: int | None, horizon: float | None) -> Array:
    formed = scaled_gramians(sys, horizon) if max_rank is None else None
    if formed is not None:
        P, Q, _ = formed
        sigma = leading_directions(P, Q)[0]
        if not (has_factors(sys, horizon) and modes_cancel(P, Q, sigma)):
            return sigma
    if has_factors(sys, horizon):
        rtol = DEFAULT_RTOL if formed is None else EPSILON**2
        R, S = modal_factors(balance_states(sys)[0], rtol, max_rank)
    else:
        R, S, _ = scaled_factors(sys, max_rank=max_rank, horizon=horizon)
    return leading_svd(adjoint_product(S, R))[0]


def modes_cancel(P: Array, Q: Array, sigma: Array) -> bool:
    """Whether the modes of a structured system cancel so far that formed Gramians, whose rounding
    moves σ by eps ‖P‖‖Q‖/σ, spoil even the largest value; factors without Gramians do not."""
    xp = namespace(P, Q)
    norms = [xp.linalg.matrix_norm(X) for X in (P, Q)]
    largest = xp.max(sigma, axis=-1) if sigma.shape[-1] else xp.zeros_like(norms[0])
    return not holds(norms[0] * norms[1] <= _CANCELLATION * largest**2)
