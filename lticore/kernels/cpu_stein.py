"""Numba kernels of the structured Stein equations; compiled at their first use and cached.

No ``fastmath``: reassociation would undo the differences that keep relative accuracy.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import ENOUGH, threaded

#: Two square tiles of this size fit the first-level cache.
_TILE = 32


def diagonal_stein(
    radius_a: np.ndarray,
    phase_a: np.ndarray,
    radius_b: np.ndarray,
    phase_b: np.ndarray,
    Q: np.ndarray,
) -> np.ndarray:
    """See :func:`lticore.equations.modal.diagonal_stein_reference`."""
    *batch, n, l = Q.shape
    X = np.empty((math.prod(batch), n, l), dtype=np.complex128)
    a, b = _polar_tables(radius_a, phase_a), _polar_tables(radius_b, phase_b)
    _diagonal_stein(
        a,
        b,
        np.ascontiguousarray(Q, dtype=np.complex128).reshape(X.shape),
        X,
        many=X.size >= ENOUGH,
    )
    return X.reshape(Q.shape)


def rotation_stein(
    radius_a: np.ndarray,
    phase_a: np.ndarray,
    radius_b: np.ndarray,
    phase_b: np.ndarray,
    Q: np.ndarray,
) -> np.ndarray:
    """See :func:`lticore.equations.modal.rotation_stein_reference`."""
    *batch, n, l = Q.shape
    X = np.empty((math.prod(batch), n, l))
    a, b = _polar_tables(radius_a, phase_a), _polar_tables(radius_b, phase_b)
    pairs_a, pairs_b = n - a.shape[-1], l - b.shape[-1]
    _rotation_stein(
        a, b, pairs_a, pairs_b, np.ascontiguousarray(Q).reshape(X.shape), X, many=X.size >= ENOUGH
    )
    return X.reshape(Q.shape)


def hermitian_part(X: np.ndarray) -> np.ndarray:
    """See :func:`lticore.matrices.factors.hermitian_part`; in place, in tiles for the cache."""
    n = X.shape[-1]
    X = np.ascontiguousarray(X)
    _make_hermitian(
        X.reshape(-1, n, n) if X.size else X.reshape(0, n, n), True, many=X.size >= ENOUGH
    )
    return X


def fill_upper_triangle(X: np.ndarray) -> np.ndarray:
    """Make (count, n, n) matrices Hermitian by their lower triangles, in place."""
    _make_hermitian(X, False, many=X.size >= ENOUGH)
    return X


@threaded()
def _make_hermitian(X, averaged):  # type: ignore[no-untyped-def]
    """From the means of X_ij and conj X_ji, or else from X_ij below the diagonal."""
    count, n, _ = X.shape
    tiles = (n + _TILE - 1) // _TILE
    for task in numba.prange(count * tiles):
        entry, first = task // tiles, (task % tiles) * _TILE
        last = min(first + _TILE, n)
        for left in range(0, last, _TILE):
            for i in range(first, last):
                for j in range(left, min(left + _TILE, i + averaged)):
                    value = X[entry, i, j]
                    if averaged:
                        value = (value + X[entry, j, i].conjugate()) / 2
                        X[entry, i, j] = value
                    X[entry, j, i] = value.conjugate()


def rotation_gradient(
    radius: np.ndarray,
    angle: np.ndarray,
    real_poles: np.ndarray,
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See :func:`lticore.hankel.gradients.rotation_gradient_reference`; in one pass."""
    *batch, q = radius.shape
    n, count = left[0].shape[-1], math.prod(batch)
    table = np.stack([radius, np.cos(angle), np.sin(angle)], axis=-2).reshape(count, 3, q)
    real_poles, total = real_poles.reshape(count, n - 2 * q), np.zeros((count, n))
    for pair in zip(left, right, strict=True):
        X, P = (np.ascontiguousarray(x).reshape(count, n, n) for x in pair)
        sums = np.empty((count, n))
        _rotation_products(table, real_poles, X, P, sums, many=X.size >= ENOUGH)
        total += sums
    total = total.reshape(*batch, n)
    return total[..., :q], radius * total[..., q : 2 * q], total[..., 2 * q :]


@threaded()
def _rotation_products(table, real_poles, X, P, sums):  # type: ignore[no-untyped-def]
    """Derivatives by ρ, by α over ρ, and by the real poles, of one X A P."""
    count, _, q = table.shape
    modes = q + real_poles.shape[1]
    for task in numba.prange(count * modes):
        entry, i = task // modes, task % modes
        if i < q:
            pair = 2 * i, 2 * i + 1
            sums[entry, i], sums[entry, q + i] = _pair_products(
                i,
                table[entry],
                real_poles[entry],
                X[entry, pair[0]],
                X[entry, pair[1]],
                P[entry, pair[0]],
                P[entry, pair[1]],
            )
        else:
            row = q + i
            sums[entry, row] = _real_products(
                table[entry], real_poles[entry], X[entry, row], P[entry, row]
            )


@numba.njit(cache=True, fastmath={"reassoc"})
def _pair_products(i, table, real_poles, X1, X2, P1, P2):  # type: ignore[no-untyped-def]
    # A block Y is z → (Γ z + Ω conj z)/2 with Γ = (Y11 + Y22) + i (Y21 − Y12) and
    # Ω = (Y11 − Y22) + i (Y21 + Y12). That of X A P on the diagonal, turned by e^{iα_i}, has
    #   Γ e^{iα_i} = ½ Σ_k ρ_k (X_Γ conj P_Γ e^{i(α_i − α_k)} + X_Ω conj P_Ω e^{i(α_i + α_k)})_ik.
    # Its real part is the derivative by ρ_i, its imaginary part −1/ρ_i times that by α_i. For k = i
    # the largest term is exactly real: next to the unit circle it must not spoil the other part.
    # No multiplication is fused with an addition here, so that sin − sin below is zero.
    radius, cosine, sine = table[0], table[1], table[2]
    q = len(radius)
    c_i, s_i = cosine[i], sine[i]
    real, imaginary = 0.0, 0.0
    for k in range(q):
        x11, x12, x21, x22 = X1[2 * k], X1[2 * k + 1], X2[2 * k], X2[2 * k + 1]
        p11, p12, p21, p22 = P1[2 * k], P1[2 * k + 1], P2[2 * k], P2[2 * k + 1]
        xa, xb, pa, pb = x11 + x22, x21 - x12, p11 + p22, p21 - p12
        a, b = xa * pa + xb * pb, xb * pa - xa * pb
        xa, xb, pa, pb = x11 - x22, x21 + x12, p11 - p22, p21 + p12
        u, v = xa * pa + xb * pb, xb * pa - xa * pb
        cc, ss = c_i * cosine[k], s_i * sine[k]
        sc, cs = s_i * cosine[k], c_i * sine[k]
        real += radius[k] * (a * (cc + ss) - b * (sc - cs) + u * (cc - ss) - v * (sc + cs))
        imaginary += radius[k] * (a * (sc - cs) + b * (cc + ss) + u * (sc + cs) + v * (cc - ss))
    a, b = 0.0, 0.0
    for k in range(len(real_poles)):
        j = 2 * q + k
        a += real_poles[k] * (X1[j] * P1[j] + X2[j] * P2[j])
        b += real_poles[k] * (X2[j] * P1[j] - X1[j] * P2[j])
    return real / 2 + (a * c_i - b * s_i), -imaginary / 2 - (a * s_i + b * c_i)


@numba.njit(cache=True, fastmath={"reassoc"})
def _real_products(table, real_poles, X, P):  # type: ignore[no-untyped-def]
    radius, cosine, sine = table[0], table[1], table[2]
    q, total = len(radius), 0.0
    for k in range(q):
        x1, x2, p1, p2 = X[2 * k], X[2 * k + 1], P[2 * k], P[2 * k + 1]
        total += radius[k] * (cosine[k] * (x1 * p1 + x2 * p2) + sine[k] * (x1 * p2 - x2 * p1))
    for k in range(len(real_poles)):
        total += real_poles[k] * X[2 * q + k] * P[2 * q + k]
    return total


def _polar_tables(radius: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(count, 5, n): 1 − ρ, ρ, θ, sin(θ/2), cos(θ/2): all that a pair of poles needs."""
    half = phase / 2
    table = np.stack([1 - radius, radius, phase, np.sin(half), np.cos(half)], axis=-2)
    return table.reshape(math.prod(radius.shape[:-1]), 5, radius.shape[-1])


@numba.njit(inline="always")
def _sine(half, product):  # type: ignore[no-untyped-def]
    """sin(half) by its series where |half| < ½, else ``product``, right to an absolute eps.

    ``product`` is sin a cos b − cos a sin b, which cancels where a and b are close.
    """
    z = half * half
    series = half * (
        1
        + z
        * (
            -1 / 6
            + z
            * (
                1 / 120
                + z * (-1 / 5040 + z * (1 / 362880 + z * (-1 / 39916800 + z * (1 / 6227020800))))
            )
        )
    )
    return series if abs(half) < 0.5 else product


@numba.njit(cache=True, error_model="numpy")
def _factors(a, b, sign, real, imaginary):  # type: ignore[no-untyped-def]
    """1/(1 − λ conj μ_j) for ``sign`` = 1, 1/(1 − λ μ_j) for −1; one λ, all μ."""
    g, radius, phase, sine, cosine = a[0], a[1], a[2], a[3], a[4]
    for j in range(b.shape[1]):
        eta_sine = sign * b[3, j]
        s = _sine((phase - sign * b[2, j]) / 2, sine * b[4, j] - cosine * eta_sine)
        c = cosine * b[4, j] + sine * eta_sine
        modulus = radius * b[1, j]
        x = (g + b[0, j] - g * b[0, j]) + 2 * modulus * s * s
        y = 2 * modulus * s * c
        scale = 1 / (x * x + y * y)
        real[j], imaginary[j] = x * scale, y * scale


@threaded(error_model="numpy")
def _diagonal_stein(a, b, Q, X):  # type: ignore[no-untyped-def]
    count, n, _ = Q.shape
    for task in numba.prange(count * n):
        entry, i = task // n, task % n
        _diagonal_row(a[entry, :, i].copy(), b[entry], Q[entry, i], X[entry, i])


@numba.njit(cache=True, error_model="numpy")
def _diagonal_row(pole, b, Q, X):  # type: ignore[no-untyped-def]
    factor = np.empty((2, b.shape[1]))
    _factors(pole, b, 1, factor[0], factor[1])
    for j in range(b.shape[1]):
        X[j] = Q[j] * complex(factor[0, j], factor[1, j])


@threaded(error_model="numpy")
def _rotation_stein(a, b, pairs_a, pairs_b, Q, X):  # type: ignore[no-untyped-def]
    count, modes = Q.shape[0], a.shape[2]
    for task in numba.prange(count * modes):
        entry, i = task // modes, task % modes
        pole = a[entry, :, i].copy()
        if i < pairs_a:
            first, second = 2 * i, 2 * i + 1
            _pair_rows(
                pole,
                b[entry],
                pairs_b,
                Q[entry, first],
                Q[entry, second],
                X[entry, first],
                X[entry, second],
            )
        else:
            row = i + pairs_a
            _real_row(pole, b[entry], pairs_b, Q[entry, row], X[entry, row])


@numba.njit(cache=True, error_model="numpy")
def _pair_rows(pole, b, pairs, Q1, Q2, X1, X2):  # type: ignore[no-untyped-def]
    modes = b.shape[1]
    factor = np.empty((4, modes))
    G1, G2, H1, H2 = factor[0], factor[1], factor[2], factor[3]
    _factors(pole, b, 1, G1, G2)
    _factors(pole, b, -1, H1, H2)
    for j in range(pairs):
        q11, q12, q21, q22 = Q1[2 * j], Q1[2 * j + 1], Q2[2 * j], Q2[2 * j + 1]
        x, y, u, v = q11 + q22, q21 - q12, q11 - q22, q21 + q12
        x, y = x * G1[j] - y * G2[j], x * G2[j] + y * G1[j]
        u, v = u * H1[j] - v * H2[j], u * H2[j] + v * H1[j]
        X1[2 * j], X1[2 * j + 1] = 0.5 * (x + u), 0.5 * (v - y)
        X2[2 * j], X2[2 * j + 1] = 0.5 * (y + v), 0.5 * (x - u)
    for j in range(pairs, modes):
        k = j + pairs
        X1[k], X2[k] = Q1[k] * G1[j] - Q2[k] * G2[j], Q1[k] * G2[j] + Q2[k] * G1[j]


@numba.njit(cache=True, error_model="numpy")
def _real_row(pole, b, pairs, Q, X):  # type: ignore[no-untyped-def]
    modes = b.shape[1]
    factor = np.empty((2, modes))
    G1, G2 = factor[0], factor[1]
    _factors(pole, b, 1, G1, G2)
    for j in range(pairs):
        x, y = Q[2 * j], Q[2 * j + 1]
        X[2 * j], X[2 * j + 1] = x * G1[j] + y * G2[j], y * G1[j] - x * G2[j]
    for j in range(pairs, modes):
        X[j + pairs] = Q[j + pairs] * G1[j]
