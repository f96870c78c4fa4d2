"""Factors of Cauchy-like matrices without forming them: the generalised Schur algorithm."""

from __future__ import annotations

import math

from .. import kernels
from ..arrays.linalg import complex_of, one_minus
from ..arrays.namespaces import Array, namespace, zeros_like_shape

#: Below this many states the vectorised reference is fast enough, and needs no compilation.
_SMALL = 1024


def cauchy_factor(
    radius: Array, phase: Array, generator: Array, *, rtol: float, max_rank: int | None = None
) -> Array:
    """Rank-revealing factor of the solution of a diagonal Lyapunov equation.

        P_ij = b_i b_jᴴ / (1 − λ_i conj λ_j) ≈ (L Lᴴ)_ij,    λ_i = ρ_i e^{iθ_i}

    Cholesky elimination with the largest remaining diagonal entry as pivot, carried out on the
    generator b: what remains after each step is of the same form with the same poles.

    Parameters
    ----------
    radius, phase : (..., n) real arrays, 0 ≤ ρ < 1
    generator : (..., n, m) complex array
    rtol : float
        Stops where the largest remaining diagonal entry falls to ``rtol`` times the first.
    max_rank : int, optional

    Returns
    -------
    L : (..., n, r) complex array; in a batch r is the largest rank met, padded with zeros.

    Accuracy: the differences ρ_i − ρ_k, θ_i − θ_k and 1 − ρ are the only subtractions, besides
    those between the m columns; for m = 1 every entry of L has a small relative error.

    Cost: O(n m r) time, O(n (m + r)) memory; P is never formed.

    Raises
    ------
    MemoryLimitError
        Where L would take too large a part of the machine's memory (NumPy).

    Source: Gohberg, Kailath & Olshevsky, Math. Comp. 64 (1995); Gu & Eisenstat on pivoting.
    """
    n = radius.shape[-1]
    factor = cauchy_factor_reference
    if n >= _SMALL:
        factor = kernels.find(factor, radius)
    return factor(radius, phase, generator, rtol, n if max_rank is None else min(max_rank, n))


def cauchy_factor_reference(
    radius: Array, phase: Array, generator: Array, rtol: float, max_rank: int
) -> Array:
    """Reference text of :func:`cauchy_factor` for any array library."""
    # With pivot k, v = b_kᴴ/|b_k| and d_i = 1 − λ_i conj λ_k, column k of the Schur complement is
    # (b_i v)|b_k|/d_i. Subtracting its square from P leaves a matrix of the same displacement
    # structure whose generator has the component along v multiplied by the Blaschke factor
    # φ_i = (λ_i − λ_k)/d_i:  b_i − (b_i v)(1 − φ_i) vᴴ. A common phase of all φ_i turns v and
    # changes nothing, so e^{iθ_k} is left out of
    #   λ_i − λ_k = e^{iθ_k} (ρ_i − ρ_k − ρ_i (1 − e^{iδ})),   δ = θ_i − θ_k.
    xp = namespace(radius, phase, generator)
    batch, (n, m) = generator.shape[:-2], generator.shape[-2:]
    count = math.prod(batch)
    radius, phase = (xp.reshape(x, (count, n)) for x in (radius, phase))
    generator = xp.reshape(generator, (count, n, m))
    gap = 1 - radius
    energy = gap * (1 + radius)
    remaining = xp.sum(xp.abs(generator) ** 2, axis=-1) / energy
    stop = rtol * xp.max(remaining, axis=-1, keepdims=True)
    columns = []
    for _ in range(max_rank):
        k = xp.argmax(remaining, axis=-1)[:, None]
        height = xp.take_along_axis(remaining, k, axis=-1)
        alive = height > xp.where(stop > 0, stop, xp.zeros_like(stop))
        if not bool(xp.any(alive)):
            break
        radius_k, gap_k, phase_k = (xp.take_along_axis(x, k, axis=-1) for x in (radius, gap, phase))
        turn = phase - phase_k
        distance = one_minus(gap + radius * gap_k, radius * radius_k, turn)
        chord = one_minus(xp.zeros_like(turn), xp.ones_like(turn), turn)
        blaschke = ((radius - radius_k) - radius * chord) / distance

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
        remaining = xp.sum(xp.abs(generator) ** 2, axis=-1) / energy
    if not columns:
        return zeros_like_shape(complex_of(radius, radius), (*batch, n, 0))
    return xp.reshape(xp.stack(columns, axis=-1), (*batch, n, len(columns)))
