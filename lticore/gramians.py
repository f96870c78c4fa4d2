"""Gramians of a system and their rank-revealing factors."""

from __future__ import annotations

import numpy as np

from ._arrays import Array, namespace
from ._check import check_integer, is_single, like_precision, to_double
from ._linalg import adjoint, diagonal, hermitian_part, pivoted_cholesky, real_part
from ._modes import require_stable
from .errors import ArgumentError
from .stein import SteinSolver, stein_solver
from .structure import map_parameters
from .systems import LTI

#: Pivots below this share of the largest one are rounding noise of a float64 Gramian.
DEFAULT_RTOL = float(np.finfo(np.float64).eps)


def controllability_gramian(sys: LTI, *, horizon: int | None = None) -> Array:
    """P with A P Aᴴ − P + B Bᴴ = 0; with a horizon T the sum Σ_{k<T} A^k B Bᴴ (Aᴴ)^k.

    Returns
    -------
    P : (..., n, n) Hermitian positive semidefinite array, computed in float64 and returned in the
        precision of the system.

    Conditions: all |poles| < 1 unless ``horizon`` is given.

    Cost: O(n² m) structured, O(n³) dense.

    Raises
    ------
    UnstableSystemError
        Names the radius and the mode.
    """
    return like_precision(double_gramians(sys, horizon, which="P")[0], is_single(sys.B))


def observability_gramian(sys: LTI, *, horizon: int | None = None) -> Array:
    """Q with Aᴴ Q A − Q + Cᴴ C = 0; with a horizon T the sum Σ_{k<T} (Aᴴ)^k Cᴴ C A^k.

    Shapes, conditions, cost and errors as for :func:`controllability_gramian`.
    """
    return like_precision(double_gramians(sys, horizon, which="Q")[0], is_single(sys.B))


def gramian_factors(
    sys: LTI,
    *,
    rtol: float | None = None,
    max_rank: int | None = None,
    horizon: int | None = None,
) -> tuple[Array, Array]:
    """Rank-revealing factors (R, S) of both Gramians.

        P ≈ R Rᴴ,   Q ≈ S Sᴴ,   R (..., n, r),   S (..., n, s)

    The states are first scaled by powers of two so that diag P ≈ diag Q (Hankel singular values
    do not see such a scaling, rounding does), then factored by Cholesky with complete pivoting,
    dropping pivots below ``rtol`` times the largest. In a batch the ranks are the largest met,
    padded with zero columns.

    Parameters
    ----------
    rtol : float in [0, 1), default 2.2e-16
    max_rank : int ≥ 1, optional
    horizon : int ≥ 1, optional

    Cost: O(n² (m + p)) for the Gramians and O(n r²) for the factors; dense O(n³).

    Raises
    ------
    UnstableSystemError, ArgumentError
    """
    rtol, max_rank = _check_truncation(rtol, max_rank)
    P, Q = double_gramians(sys, horizon)
    R, S = factor_pair(P, Q, rtol, max_rank)
    single = is_single(sys.B)
    return like_precision(R, single), like_precision(S, single)


def double_gramians(sys: LTI, horizon: int | None = None, which: str = "PQ") -> list[Array]:
    """The Gramians named in ``which``, in float64."""
    if horizon is None:
        require_stable(sys, what="an infinite-horizon Gramian")
    else:
        horizon = check_integer("horizon", horizon, minimum=1)
    solve = stein_solver(map_parameters(to_double, sys.A), horizon=horizon)
    return [gramian(sys, solve, name) for name in which]


def gramian(sys: LTI, solve: SteinSolver, which: str) -> Array:
    """P or Q of ``sys`` by the solver of its A."""
    if which == "P":
        B = to_double(sys.B)
        return hermitian_part(solve(B @ adjoint(B)))
    C = to_double(sys.C)
    return hermitian_part(solve(adjoint(C) @ C, adjoint=True))


def factor_pair(
    P: Array, Q: Array, rtol: float = DEFAULT_RTOL, max_rank: int | None = None
) -> tuple[Array, Array]:
    """Pivoted Cholesky factors of P and Q after balancing their diagonals."""
    xp = namespace(P, Q)
    p, q = real_part(diagonal(P)), real_part(diagonal(Q))
    one = xp.ones_like(p)
    reached, observed = p > 0, q > 0
    log_p, log_q = xp.log2(xp.where(reached, p, one)), xp.log2(xp.where(observed, q, one))
    # A state that is unreachable or unobservable matters to no σ: it gets the largest √(p_i q_i)
    # of the others, so that it cannot raise the level below which pivots are dropped.
    level = xp.where(reached & observed, log_p + log_q, -xp.inf * one)
    level = xp.max(level, axis=-1, keepdims=True)
    level = xp.where(xp.isfinite(level), level, xp.zeros_like(level))
    exponent = xp.where(observed, log_q, level - log_p) - xp.where(reached, log_p, level - log_q)
    exponent = xp.where(reached | observed, exponent, xp.zeros_like(exponent))
    # A power of two changes no digit: t P t and Q/t² hold the same information as P and Q.
    t = (2.0 ** xp.round(exponent / 4))[..., None]
    t_row = xp.matrix_transpose(t)
    R = pivoted_cholesky(P * t * t_row, rtol=rtol, max_rank=max_rank) / t
    S = pivoted_cholesky(Q / t / t_row, rtol=rtol, max_rank=max_rank) * t
    return R, S


def _check_truncation(rtol: float | None, max_rank: int | None) -> tuple[float, int | None]:
    rtol = DEFAULT_RTOL if rtol is None else rtol
    if not 0 <= rtol < 1:
        raise ArgumentError(f"rtol must lie in [0, 1), but is {rtol!r}")
    return rtol, None if max_rank is None else check_integer("max_rank", max_rank, minimum=1)
