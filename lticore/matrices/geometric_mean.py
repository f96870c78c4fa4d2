"""Sums of Hankel singular values and cotangents from matrix products only.

For devices on which eigenvalues and singular values are slow, and matrix products fast.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .. import kernels
from ..arrays.linalg import adjoint
from ..arrays.namespaces import Array, Namespace, elementwise, namespace
from .factors import hermitian_part, inner_product

#: Values below this share of the largest count less than once.
_CUT = 1e-6
#: After this many steps all values between _CUT and 1 are 1 to working precision.
_STEPS = 13


def nuclear_cotangents(P: Array, Q: Array) -> tuple[Array, Array, Array, Array, Array]:
    """f = Σ σ_i, twice its cotangents, an estimate of σ_1, and f before the last step.

        2 G_P = P⁻¹ # Q,     2 G_Q = P # Q⁻¹,     f = 2 tr(Q G_Q),     σ_i² = eig(P Q)

    with the geometric mean X # Y of Hermitian positive definite matrices. P and Q may be singular:
    values below 1e-6 σ_1 count with weights that fall to zero with them.

    Conditions: the states are scaled so that ‖P‖‖Q‖ is not much larger than σ_1².

    Accuracy: a few times 1e-7 relative in f at worst, where values fall smoothly below the cut;
    1e-13 where all are above. The change of f in the last step tells what is not converged.

    Cost: 53 products of n × n matrices, nothing that depends on the numbers: the host never waits.

    Source: derivation above the code. The polynomials are those of Amsel, Persson, Musco & Gower,
    The Polar Express (2025), after Lebedev and Zolotarev.
    """
    # Let P = R Rᴴ, Q = S Sᴴ and Sᴴ R = U Σ Vᴴ. For h a polynomial, P ← h(P Q) P and Q ← Q h(P Q)
    # are R V h(Σ²) Vᴴ Rᴴ and S U h(Σ²) Uᴴ Sᴴ, Hermitian again, and their product has the
    # eigenvalues (σ h(σ²))². Odd polynomials p(σ) = σ h(σ²) chosen to take [1e-6, 1] to 1 in few
    # steps leave R V Σ⁻¹ Vᴴ Rᴴ = 2 G_Q for P, S U Σ⁻¹ Uᴴ Sᴴ = 2 G_P for Q. No factor and no inverse
    # is formed, so singular P and Q do no harm: where σ is far below the cut, h multiplies by at
    # most p'(0) ≈ 4e6, and the rounding of P Q, eps σ_1², stays small.
    K = P @ Q
    # tr(K⁴)^{1/4} is at least σ_1² and at most n^{1/4} times it.
    K2 = K @ K
    size, scale = _eighth_root(inner_product(adjoint(K2), K2))
    X, Y, last = kernels.find(polar_steps_reference, P)(P, Q, K, scale, _completed_squares())
    return inner_product(X, Q), Y, X, size, inner_product(last, Q)


@elementwise
def _eighth_root(xp: Namespace, x: Array) -> tuple[Array, Array]:
    """Of x > 0, and a little more; 1 of others."""
    root = xp.where(x > 0, x, 1.0) ** 0.125
    return root, 1.01 * root


def polar_steps_reference(
    P: Array, Q: Array, K: Array, scale: Array, squares: tuple[tuple[float, float, float], ...]
) -> tuple[Array, Array, Array]:
    """(X, Y, X before the last step) after steps X ← h X, Y ← Y h with h = c (X Y + s)² + d, from
    P/scale and Q/scale; K = P Q. Reference text of the kernels of this name."""
    eye = namespace(P).eye(P.shape[-1], dtype=P.dtype)
    scale = scale[..., None, None]
    X, Y, K = P / scale, Q / scale, K / scale / scale
    last = X
    for step, (s, c, d) in enumerate(squares):
        last, L = X, (X @ Y if step else K) + s * eye
        h = c * (L @ L) + d * eye
        X, Y = hermitian_part(h @ X), hermitian_part(Y @ h)
    return X, Y, last


@cache
def _completed_squares() -> tuple[tuple[float, float, float], ...]:
    """(s, c, d) of each step with a + b K + c K² = c (K + s)² + d, which takes no sum of
    matrices beside the products."""
    return tuple((b / (2 * c), c, a - b * b / (4 * c)) for a, b, c in _coefficients())


@cache
def _coefficients() -> tuple[tuple[float, float, float], ...]:
    """(a, b, c) of the steps p(x) = a x + b x³ + c x⁵, each the best on what the last one left."""
    low, high, steps = _CUT, 1.0, []
    for _ in range(_STEPS):
        a, b, c, error = _closest_to_one(low, high)
        steps.append((a, b, c))
        low, high = 1 - error, 1 + error
    return tuple(steps)


def _closest_to_one(low: float, high: float) -> tuple[float, float, float, float]:
    """The odd quintic nearest to 1 on [low, high], and its largest deviation there.

    By Remez exchange: the deviation takes its extreme, with alternating signs, at both ends and at
    the two stationary points between.
    """
    if high - low < 1e-5:
        # The limit of a short interval; the general equations are singular there.
        return 15 / 8, -10 / 8, 3 / 8, 5 / 2 * ((high - low) / 2) ** 3
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    a = b = c = error = 0.0
    # The exchange converges quadratically: from these points in at most 5 rounds.
    for _ in range(8):
        x = np.array([low, *inner, high])
        odd_powers = np.stack([x, x**3, x**5, [1, -1, 1, -1]], axis=-1)
        a, b, c, error = map(float, np.linalg.solve(odd_powers, np.ones(4)))
        inner = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
    return a, b, c, abs(error)
