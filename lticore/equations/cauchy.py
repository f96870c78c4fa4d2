"""Factors of Cauchy-like matrices without forming them: the generalised Schur algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import kernels
from ..arrays.linalg import complex_of, one_minus
from ..arrays.namespaces import Array, namespace, zeros_like_shape

#: Below this many states the vectorised reference is fast enough, and needs no compilation.
_SMALL = 1024


def cauchy_factor(
    poles: tuple[Array, Array],
    generator: Array,
    *,
    rtol: float,
    max_rank: int | None = None,
    continuous: bool = False,
) -> Array:
    """Rank-revealing factor of the solution of a diagonal Lyapunov equation.

        P_ij = b_i b_jᴴ / d_ij ≈ (L Lᴴ)_ij
        discrete:    d_ij = 1 − λ_i conj λ_j,     λ_i = ρ_i e^{iθ_i}
        continuous:  d_ij = −(λ_i + conj λ_j),    λ_i = −δ_i + iω_i

    Cholesky elimination with the largest remaining diagonal entry as pivot, carried out on the
    generator b: what remains after each step is of the same form with the same poles.

    Parameters
    ----------
    poles : (ρ, θ) or (δ, ω), (..., n) real arrays, 0 ≤ ρ < 1 or δ > 0
    generator : (..., n, m) complex array
    rtol : float
        Stops where the largest remaining diagonal entry falls to ``rtol`` times the first.
    max_rank : int, optional

    Returns
    -------
    L : (..., n, r) complex array; in a batch r is the largest rank met, padded with zeros.

    Accuracy: the differences of ρ and θ, or of ω, and 1 − ρ are the only subtractions, besides
    those between the m columns; for m = 1 every entry of L has a small relative error.

    Cost: O(n m r) time, O(n (m + r)) memory; P is never formed.

    Raises
    ------
    MemoryLimitError
        Where L would take too large a part of the machine's memory (NumPy).

    Source: Gohberg, Kailath & Olshevsky, Math. Comp. 64 (1995); Gu & Eisenstat on pivoting.
    """
    n = generator.shape[-2]
    factor = lyapunov_factor_reference if continuous else cauchy_factor_reference
    if n >= _SMALL:
        factor = kernels.find(factor, generator)
    return factor(*poles, generator, rtol, n if max_rank is None else min(max_rank, n))


def cauchy_factor_reference(
    radius: Array, phase: Array, generator: Array, rtol: float, max_rank: int
) -> Array:
    """Reference text of :func:`cauchy_factor` in discrete time for any array library."""

    def to_pivot(radius: Array, phase: Array, k: Array) -> tuple[Array, Array]:
        # A common phase of all φ_i changes nothing, so e^{iθ_k} is left out of
        #   λ_i − λ_k = e^{iθ_k} (ρ_i − ρ_k − ρ_i (1 − e^{iδ})),   δ = θ_i − θ_k.
        xp = namespace(radius)
        radius_k, phase_k = (xp.take_along_axis(x, k, axis=-1) for x in (radius, phase))
        gap, gap_k, turn = 1 - radius, 1 - radius_k, phase - phase_k
        distance = one_minus(gap + radius * gap_k, radius * radius_k, turn)
        chord = one_minus(xp.zeros_like(turn), xp.ones_like(turn), turn)
        return distance, (radius - radius_k) - radius * chord

    return _eliminated(
        (radius, phase), (1 - radius) * (1 + radius), to_pivot, generator, rtol, max_rank
    )


def lyapunov_factor_reference(
    decay: Array, frequency: Array, generator: Array, rtol: float, max_rank: int
) -> Array:
    """Reference text of :func:`cauchy_factor` in continuous time for any array library."""

    def to_pivot(decay: Array, frequency: Array, k: Array) -> tuple[Array, Array]:
        xp = namespace(decay)
        decay_k, frequency_k = (xp.take_along_axis(x, k, axis=-1) for x in (decay, frequency))
        turn = frequency - frequency_k
        return complex_of(decay + decay_k, -turn), complex_of(decay_k - decay, turn)

    return _eliminated((decay, frequency), 2 * decay, to_pivot, generator, rtol, max_rank)


def _eliminated(
    poles: tuple[Array, Array],
    dissipation: Array,
    to_pivot: Callable[[Array, Array, Array], tuple[Array, Array]],
    generator: Array,
    rtol: float,
    max_rank: int,
) -> Array:
    """The elimination for d_ii, ``dissipation``, and ``to_pivot`` giving (d_ik, λ_i − λ_k)."""
    # With pivot k and v = b_kᴴ/|b_k|, column k of the Schur complement is (b_i v)|b_k|/d_ik.
    # Subtracting its square from P leaves a matrix of the same displacement structure whose
    # generator has the component along v multiplied by φ_i = (λ_i − λ_k)/d_ik, since
    #   d_ik d_kj − d_kk d_ij = (λ_i − λ_k)(conj λ_j − conj λ_k)
    # in both times:  b_i − (b_i v)(1 − φ_i) vᴴ.
    xp = namespace(*poles, generator)
    batch, (n, m) = generator.shape[:-2], generator.shape[-2:]
    count = math.prod(batch)
    first, second, dissipation = (xp.reshape(x, (count, n)) for x in (*poles, dissipation))
    generator = xp.reshape(generator, (count, n, m))
    remaining = xp.sum(xp.abs(generator) ** 2, axis=-1) / dissipation
    stop = rtol * xp.max(remaining, axis=-1, keepdims=True)
    columns = []
    for _ in range(max_rank):
        k = xp.argmax(remaining, axis=-1)[:, None]
        height = xp.take_along_axis(remaining, k, axis=-1)
        alive = height > xp.where(stop > 0, stop, xp.zeros_like(stop))
        if not bool(xp.any(alive)):
            break
        distance, difference = to_pivot(first, second, k)
        blaschke = difference / distance

        pivot = xp.take_along_axis(
            generator, xp.broadcast_to(k[:, :, None], (count, 1, m)), axis=-2
        )
        norm = xp.sqrt(xp.sum(xp.abs(pivot) ** 2, axis=-1))
        direction = pivot / xp.where(norm > 0, norm, xp.ones_like(norm))[..., None]
        along = xp.sum(generator * xp.conj(direction), axis=-1)
        scale = xp.where(alive, norm / xp.sqrt(xp.where(alive, height, 1.0)), 0.0)
        columns.append(along * scale / distance)

        if m == 1:
            generator = xp.where(alive[..., None], generator * blaschke[..., None], generator)
        else:
            change = (along * (1 - blaschke))[..., None] * direction
            generator = xp.where(alive[..., None], generator - change, generator)
        done = (xp.arange(n)[None, :] == k) & alive
        generator = xp.where(done[..., None], xp.zeros_like(generator), generator)
        remaining = xp.sum(xp.abs(generator) ** 2, axis=-1) / dissipation
    if not columns:
        return zeros_like_shape(complex_of(first, first), (*batch, n, 0))
    return xp.reshape(xp.stack(columns, axis=-1), (*batch, n, len(columns)))
