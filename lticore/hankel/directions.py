"""The directions in the state space that belong to the Hankel singular values, and cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np

from .. import kernels
from ..arrays.linalg import EPSILON, adjoint, diagonal, pad_values, real_part
from ..arrays.namespaces import Array, Namespace, elementwise, holds, namespace, suits_products
from ..matrices.factors import (
    directions_of_factors,
    inner_product,
    pivoted_cholesky,
    weighted_gram,
)
from ..matrices.geometric_mean import nuclear_cotangents
from .functions import SpectralFunction

#: Singular directions below this share of σ_1 give their value to a sum, but no gradient.
GRADIENT_RTOL = 1e-12
#: Binary exponents beyond which roots of Gramians are brought to 1.
_FAR = 60
#: Matrix products that leave a larger share of the sum open have failed.
_CONVERGED = 1e-3
#: Where rounding costs a larger share of the sum it grows from step to step.
_ROUNDED = 2e-9


def balancing_directions(P: Array, Q: Array) -> tuple[Array, Array, Array]:
    """(S U, σ, R V) for P = R Rᴴ, Q = S Sᴴ and the decomposition Sᴴ R = U Σ Vᴴ.

    Columns (..., n, k) and σ (..., k) descending; directions at the level of rounding,
    σ_i ≤ n eps σ_1, may be zero or missing.

    Accuracy: that of the formed Gramians, about 1e-15 (‖P‖‖Q‖)/σ_i in σ_i.

    Cost: O(n³); on NumPy one factor and one symmetric eigendecomposition of the numerical rank of
    P, and more only where σ falls below 1e-3 σ_1.
    """
    return kernels.find(balancing_directions_reference, P)(P, Q)


def balancing_directions_reference(P: Array, Q: Array) -> tuple[Array, Array, Array]:
    """Reference text of :func:`balancing_directions` for any array library."""
    R, S = (pivoted_cholesky(X, rtol=EPSILON) for X in (P, Q))
    U, sigma, Vh = namespace(P).linalg.svd(adjoint(S) @ R, full_matrices=False)
    return S @ U, sigma, R @ adjoint(Vh)


def leading_directions(P: Array, Q: Array) -> tuple[Array, Callable[[int], tuple[Array, Array]]]:
    """All σ of :func:`balancing_directions` now, and its first columns when asked for.

        σ (..., k) descending,     directions(r) = (S U_r, R V_r)

    Accuracy: as there; 1e-15 ‖R‖‖S‖ in σ of what P and Q hold, or 1e-16 σ_1²/σ_i on NumPy where all
    values are within 1e-4 of the largest.

    Cost: O(n³); in the latter case that of tridiagonalising one matrix of order n.
    """
    if P.shape[-1] == 0:
        return directions_of_factors(P, Q)
    return kernels.find(leading_directions_reference, P)(P, Q)


def leading_directions_reference(
    P: Array, Q: Array
) -> tuple[Array, Callable[[int], tuple[Array, Array]]]:
    """Reference text of :func:`leading_directions` for any array library."""
    R, S = (pivoted_cholesky(X, rtol=EPSILON) for X in (P, Q))
    return directions_of_factors(R, S)


@dataclass(frozen=True, eq=False)
class Cotangents(Generic[Array]):
    """f = Σ φ(σ_i) and its derivative with respect to the Gramians.

    value : (...) f
    slope : (...) Σ φ'(σ_i) σ_i, the derivative of f(t P, Q) by log √t at t = 1, and of f(P, t Q)
    P, Q : (..., n, n) 2 G_P and 2 G_Q, with df = Re⟨G_P, dP⟩ + Re⟨G_Q, dQ⟩
    uncertainty : (...) share of f that the rounding of P and Q or an unfinished iteration may cost
    """

    value: Array
    slope: Array
    P: Array
    Q: Array
    uncertainty: Array


def gramian_cotangents(
    P: Array, Q: Array, phi: SpectralFunction, rtol: float | None
) -> Cotangents[Array]:
    """Sum and cotangents of balanced Gramians.

        G_P = ½ (S U) diag(φ'(σ)/σ) (S U)ᴴ,     G_Q = ½ (R V) diag(φ'(σ)/σ) (R V)ᴴ

    Directions with σ_i ≤ rtol · σ_1, by default 1e-12 σ_1, get no weight. CuPy arrays and φ = σ:
    by matrix products (:mod:`lticore.matrices.geometric_mean`), unless ``rtol`` is given or they
    do not converge.
    """
    # σ_i² is the eigenvalue of M Mᴴ = Sᴴ P S with eigenvector u_i. With Q, hence S, held fixed,
    #   dσ_i = u_iᴴ Sᴴ dP S u_i / (2 σ_i),   so   df = ⟨G_P, dP⟩;   G_Q follows from Mᴴ M = Rᴴ Q R.
    if P.shape[-1] == 0:
        nothing = namespace(P).sum(real_part(P), axis=(-2, -1))
        return Cotangents(nothing, nothing, P, Q, nothing)
    if phi.name == "nuclear" and rtol is None and suits_products(P):
        value, G_P, G_Q, largest, before = nuclear_cotangents(P, Q)
        squares = inner_product(P, P), inner_product(Q, Q)
        share, converged = _share_open(value, before, largest, *squares)
        if holds(converged):
            return Cotangents(value, value, G_P, G_Q, share)
    P, Q, p, q = _gramians_of_size_one(P, Q)
    found, sigma = _of_directions(*balancing_directions(P, Q), (p, q), phi, rtol)
    xp = namespace(P, Q)
    pp, qq, largest = inner_product(P, P), inner_product(Q, Q), sigma[..., 0] / (p * q)[..., 0]
    share = _rounding_of_largest(xp, largest, found.slope / (p * q)[..., 0], pp, qq)
    # Values at the level of rounding, where some φ are steep.
    noise = EPSILON * xp.sqrt(xp.sqrt(pp) * xp.sqrt(qq))[..., None] * (p * q)
    return replace(found, uncertainty=share + _share_of_noise(found.value, sigma, phi, noise))


def factor_cotangents(R: Any, S: Any, phi: SpectralFunction, rtol: float | None) -> Cotangents[Any]:
    """:func:`gramian_cotangents` of P = R Rᴴ and Q = S Sᴴ with square factors on NumPy, of which no
    square is formed."""
    if R.shape[-1] == 0:
        return gramian_cotangents(R, S, phi, rtol)
    U, sigma, Vh = np.linalg.svd(adjoint(S) @ R)
    SU, RV = S @ U, R @ adjoint(Vh)
    r, s = (np.linalg.norm(X, axis=(-2, -1))[..., None] for X in (R, S))
    # Rounding brings eps ‖P‖ ‖S u_i‖²/σ_i by the weight of a direction, which stands for σ_i.
    left, right = (np.linalg.norm(X, axis=-2) for X in (SU, RV))
    level = np.minimum(np.maximum(r * left, s * right), sigma[..., :1])
    known = sigma > math.sqrt(EPSILON) * level
    one = np.ones_like(r)
    found, sigma = _of_directions(SU, sigma, RV, (one, one), phi, rtol, known)
    # A product Sᴴ R is right to this, and with it each of its singular values.
    share = _share_of_noise(found.value, sigma, phi, EPSILON * r * s)
    return replace(found, uncertainty=share)


def _of_directions(
    SU: Array,
    sigma: Array,
    RV: Array,
    scales: tuple[Array, Array],
    phi: SpectralFunction,
    rtol: float | None,
    known: Array | None = None,
) -> tuple[Cotangents[Array], Array]:
    """(Cotangents, as if nothing were uncertain, all values) by :func:`balancing_directions` of
    Gramians 1/p² and 1/q² times as large; with weights for ``known`` directions only."""
    xp, (p, q) = namespace(SU, RV), scales
    sigma = pad_values(sigma, SU.shape[-2]) * (p * q)
    zero = xp.zeros_like(sigma)
    kept = sigma > (GRADIENT_RTOL if rtol is None else rtol) * sigma[..., :1]
    kept = kept if known is None else kept & known
    derivative = xp.where(kept, phi.derivative(sigma), zero)
    weights = derivative / xp.where(kept, sigma, zero + 1)
    weights = weights[..., : SU.shape[-1]]
    value, slope = (xp.sum(x, axis=-1) for x in (phi.value(sigma), derivative * sigma))
    # S U and R V of the Gramians given are q and p times these.
    G_P, G_Q = weighted_gram(SU, weights * q * q), weighted_gram(RV, weights * p * p)
    return Cotangents(value, slope, G_P, G_Q, zero[..., 0]), sigma


def _share_of_noise(value: Array, sigma: Array, phi: SpectralFunction, noise: Array) -> Array:
    """What ``noise`` in all values, (..., 1), does to the sum, as a share of it."""
    xp = namespace(value, sigma)
    moved = xp.sum(xp.abs(phi.value(sigma + noise) - phi.value(sigma)), axis=-1)
    size = xp.abs(value)
    zero, some = xp.zeros_like(size), size > 0
    return xp.where(some, moved / xp.where(some, size, zero + 1), zero)


def _gramians_of_size_one(P: Array, Q: Array) -> tuple[Array, Array, Array, Array]:
    """(P/p², Q/q², p, q) with diagonals up to about 1 where products of P and Q could overflow or
    underflow, else with p = q = 1; these are powers of two, (..., 1)."""
    xp = namespace(P, Q)
    roots = []
    for X in (P, Q):
        largest = xp.max(real_part(diagonal(X)), axis=-1, keepdims=True)
        largest = xp.where(largest > 0, largest, xp.ones_like(largest))
        roots.append(2.0 ** xp.round(xp.log2(largest) / 2))
    p, q = roots
    if holds((xp.abs(xp.log2(p)) < _FAR) & (xp.abs(xp.log2(q)) < _FAR)):
        return P, Q, xp.ones_like(p), xp.ones_like(q)
    return P / (p**2)[..., None], Q / (q**2)[..., None], p, q


def _rounding_of_largest(
    xp: Namespace, largest: Array, total: Array, pp: Array, qq: Array
) -> Array:
    """What errors of eps in P and Q do to σ_1, as a share of ``total``: σ_1² is an eigenvalue of
    P Q and moves by eps ‖P‖‖Q‖, whose squares are given."""
    size = xp.abs(total) * largest
    return EPSILON * xp.sqrt(pp) * xp.sqrt(qq) / xp.where(size > 0, size, 1.0)


@elementwise
def _share_open(
    xp: Namespace, value: Array, before: Array, largest: Array, pp: Array, qq: Array
) -> tuple[Array, Array]:
    """What of ``value`` is uncertain, and whether it is converged."""
    unconverged = xp.abs(value - before) / xp.where(value > 0, value, 1.0)
    rounding = _rounding_of_largest(xp, largest, value, pp, qq)
    return unconverged + rounding, (unconverged <= _CONVERGED) & (rounding <= _ROUNDED)
