"""Powers of two for the states in which both Gramians have about equal diagonals."""

from __future__ import annotations

from ..arrays.linalg import diagonal, log2, real_part
from ..arrays.namespaces import Array, namespace


def balance_gramians(P: Array, Q: Array) -> tuple[Array, Array, Array]:
    """(t P t, Q/t², t) with about equal diagonals, and the scale t, (..., n, 1)."""
    t = balancing_scale(real_part(diagonal(P)), real_part(diagonal(Q)))[..., None]
    t_row = namespace(t).matrix_transpose(t)
    return P * t * t_row, Q / t / t_row, t


def balancing_scale(p: Array, q: Array) -> Array:
    """Powers of two t, (..., n), with t² p ≈ q/t² for the diagonals p and q of P and Q.

    A power of two changes no digit: t P t and Q/t² hold the same information as P and Q.
    """
    return scale_from_logs(log2(p), log2(q))


def scale_from_logs(log_p: Array, log_q: Array) -> Array:
    xp = namespace(log_p, log_q)
    if log_p.shape[-1] == 0:
        return xp.ones_like(log_p)
    reached, observed = xp.isfinite(log_p), xp.isfinite(log_q)
    # A state that is unreachable or unobservable matters to no σ: it gets the largest √(p_i q_i)
    # of the others, so that it cannot raise the level below which pivots are dropped.
    level = xp.max(log_p + log_q, axis=-1, keepdims=True)
    level = xp.where(xp.isfinite(level), level, xp.zeros_like(level))
    log_p, log_q = (
        xp.where(reached, log_p, xp.where(observed, level - log_q, 0 * level)),
        xp.where(observed, log_q, xp.where(reached, level - log_p, 0 * level)),
    )
    return 2.0 ** xp.round((log_q - log_p) / 4)


def norms_of_rows(X: Array) -> Array:
    """(..., n) norms of the rows, whose squares may be too small or too large for numbers."""
    xp = namespace(X)
    # Complex numbers divided by denormal ones overflow.
    X = xp.abs(X)
    size = xp.max(X, axis=-1, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    return size[..., 0] * xp.sqrt(xp.sum((X / size) ** 2, axis=-1))
