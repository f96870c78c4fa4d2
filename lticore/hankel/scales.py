"""Powers of two for the states in which both Gramians have about equal diagonals."""

from __future__ import annotations

import math
import operator
from typing import Any

from .. import kernels
from ..arrays.linalg import diagonal, log2, real_part
from ..arrays.namespaces import Array, namespace
from ..systems.pairs import join_pairs, same_in_pairs
from ..systems.signals import even_exponents, whole_exponent
from ..systems.structure import StateMatrix, same_in_blocks


def balance_gramians(
    P: Array, Q: Array, A: StateMatrix[Array] | None = None
) -> tuple[Array, Array, Array]:
    """(t P t, Q/t², t) with about equal diagonals, and the scale t, (..., n, 1), one for both
    states of a block of A, whose Gramians are computed, and round, together."""
    p, q = (real_part(diagonal(X)) for X in (P, Q))
    if A is not None:
        p, q = (same_in_blocks(operator.add, A, x) for x in (p, q))
    t = balancing_scale(p, q)[..., None]
    t_row = namespace(t).matrix_transpose(t)
    return P * t * t_row, Q / t / t_row, t


def balancing_scale(p: Array, q: Array) -> Array:
    """Powers of two t, (..., n), with t² p ≈ q/t² for the diagonals p and q of P and Q.

    A power of two changes no digit: t P t and Q/t² hold the same information as P and Q.
    """
    return scale_from_logs(log2(p), log2(q))


def scale_from_logs(log_p: Array, log_q: Array) -> Array:
    exponent: Any = even_exponents(log_p, log_q)
    return 2.0**exponent


def balancing_exponents(b: Array, c: Array, drain: Array) -> tuple[Array, Array, Array, Array]:
    """(u, x, y, e), whole numbers: the states 2^u x have balanced Gramians, and with 2^x B and
    C 2^y, of about size one, Hankel singular values are 2^-e times as large.

    b, c, u, x, y : (..., n), sizes of the rows of B and the columns of C, the same in a block
    drain : (..., modes) 1 − |λ|², or −2 Re λ in continuous time, of the blocks and the real poles
    e : (...)
    """
    return kernels.find(balancing_exponents_reference, b)(b, c, drain)


def balancing_exponents_reference(
    b: Array, c: Array, drain: Array
) -> tuple[Array, Array, Array, Array]:
    """Reference text of :func:`balancing_exponents` for any array library."""
    # The diagonals of Gramians in the modes are b²/drain and c²/drain.
    log_b, log_c, log_drain = log2(b), log2(c), log2(drain)
    if (blocks := b.shape[-1] - drain.shape[-1]) > 0:
        of_blocks = log_drain[..., :blocks]
        log_drain = join_pairs(of_blocks, of_blocks, log_drain[..., blocks:])
    u = even_exponents(2 * log_b - log_drain, 2 * log_c - log_drain)
    size_b, size_c = (whole_exponent(namespace(u).max(x, axis=-1)) for x in (log_b + u, log_c - u))
    return u, u - size_b[..., None], -u - size_c[..., None], size_b + size_c


def sizes_of_states(X: Array, blocks: int) -> Array:
    """(..., n) norms of the rows of X, for both states of each of the blocks their root mean
    square."""
    return kernels.find(sizes_of_states_reference, X)(X, blocks)


def sizes_of_states_reference(X: Array, blocks: int) -> Array:
    """Reference text of :func:`sizes_of_states` for any array library."""
    sizes = norms_of_rows(X)
    return same_in_pairs(_root_mean_square, sizes, blocks) if blocks else sizes


def _root_mean_square(x: Array, y: Array) -> Array:
    return namespace(x, y).hypot(x, y) / math.sqrt(2)


def norms_of_rows(X: Array) -> Array:
    """(..., n) norms of the rows, whose squares may be too small or too large for numbers."""
    xp = namespace(X)
    # Complex numbers divided by denormal ones overflow.
    X = xp.abs(X)
    size = xp.max(X, axis=-1, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    return size[..., 0] * xp.sqrt(xp.sum((X / size) ** 2, axis=-1))
