"""Numba kernels of equations with upper triangular matrices, Schur forms; compiled at their first
use and cached.

Real and imaginary parts lie apart, so that the inner loops, down a column of a triangle, are plain
sums of products. Compilers may join these, but reorder nothing.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import ENOUGH, threaded

_FUSED = {"contract"}
#: Norms between this and its reciprocal are right as they are computed.
_PLAIN = 1e-140
#: What a singular value must exceed the level by for the first step of inverse iteration to tell.
_FAR_ABOVE = 1e5
#: Norms beyond this are those of vectors that overflow: the matrix is singular to all digits.
_NUMBERS = 1e150


def triangular_factor(
    T: np.ndarray, B: np.ndarray, betas: np.ndarray, continuous: bool
) -> np.ndarray:
    """See :func:`lticore.equations.hammarling.triangular_factor_reference`."""
    *batch, n, _ = B.shape
    count = math.prod(batch)
    R = np.zeros((count, n, n), dtype=np.complex128)
    T, B = _real_and_imaginary(np.swapaxes(T, -1, -2)), _real_and_imaginary(B)
    _triangular_factors(T, B, betas.reshape(count, n), continuous, R, many=R.size >= ENOUGH)
    return R.reshape(*batch, n, n)


def triangular_equation(
    T: np.ndarray, F: np.ndarray, S: np.ndarray, continuous: bool
) -> np.ndarray:
    """See :func:`lticore.equations.dense.triangular_equation_reference`."""
    *batch, n, l = F.shape
    X = np.empty((math.prod(batch), l, n), dtype=np.complex128)
    columns = (_real_and_imaginary(np.swapaxes(M, -1, -2)) for M in (T, F))
    _triangular_equations(*columns, _real_and_imaginary(S), continuous, X, many=X.size >= ENOUGH)
    return np.swapaxes(X, -1, -2).reshape(*batch, n, l)


def held_poles(
    T: np.ndarray, near: np.ndarray, levels: np.ndarray, start: np.ndarray, continuous: bool
) -> np.ndarray:
    """See :func:`lticore.equations.stability.held_poles_reference`."""
    *batch, n = near.shape
    columns = np.empty((math.prod(batch), n, n), dtype=np.complex128)
    columns[:] = np.swapaxes(T, -1, -2).reshape(columns.shape)
    held = np.zeros((len(columns), n), dtype=np.bool_)
    given = near.reshape(held.shape), levels.reshape(len(columns)), start
    _hold_poles(columns, *given, continuous, held, many=columns.size >= ENOUGH)
    return held.reshape(near.shape)


def _real_and_imaginary(X: np.ndarray) -> np.ndarray:
    """(count, 2, n, k), real and imaginary parts, in memory of their own."""
    parts = np.empty((math.prod(X.shape[:-2]), 2, *X.shape[-2:]))
    parts[:, 0] = X.real.reshape(len(parts), *X.shape[-2:])
    parts[:, 1] = X.imag.reshape(len(parts), *X.shape[-2:])
    return parts


@threaded(fastmath=_FUSED, error_model="numpy")
def _triangular_factors(T, B, betas, continuous, R):  # type: ignore[no-untyped-def]
    """Row j of T is the column of the matrix; B is overwritten."""
    count, _, n, m = B.shape
    for entry in numba.prange(count):
        v, w, sums = np.empty((2, m)), np.empty((2, n)), np.empty((2, n))
        z = np.empty((2, n))
        re, im, b_re, b_im = T[entry, 0], T[entry, 1], B[entry, 0], B[entry, 1]
        for k in range(n - 1, -1, -1):
            size = _direction(b_re[k], b_im[k], v)
            if size == 0:
                continue
            beta = betas[entry, k]
            rho = size / beta
            R[entry, k, k] = rho
            tau = complex(re[k, k], im[k, k])
            for i in range(k):
                w_re, w_im = 0.0, 0.0
                for j in range(m):
                    w_re += b_re[i, j] * v[0, j] + b_im[i, j] * v[1, j]
                    w_im += b_im[i, j] * v[0, j] - b_re[i, j] * v[1, j]
                w[0, i], w[1, i] = w_re, w_im
                sums[0, i], sums[1, i] = rho * re[k, i], rho * im[k, i]
            # Σ collects ρ t + T1 r from the last state on.
            for j in range(k - 1, -1, -1):
                pole, here = complex(re[j, j], im[j, j]), complex(sums[0, j], sums[1, j])
                other = complex(w[0, j], w[1, j])
                if continuous:
                    r = -(here + beta * other) / (pole + tau.conjugate())
                    rest = beta * r - other
                else:
                    turned = tau.conjugate()
                    r = (turned * here + beta * other) / (1 - turned * pole)
                    rest = beta * (here + pole * r) - tau * other
                R[entry, j, k] = r
                z[0, j], z[1, j] = rest.real - other.real, rest.imag - other.imag
                for i in range(j):
                    sums[0, i] += re[j, i] * r.real - im[j, i] * r.imag
                    sums[1, i] += re[j, i] * r.imag + im[j, i] * r.real
            for i in range(k):
                for j in range(m):
                    b_re[i, j] += z[0, i] * v[0, j] - z[1, i] * v[1, j]
                    b_im[i, j] += z[0, i] * v[1, j] + z[1, i] * v[0, j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _direction(re, im, v):  # type: ignore[no-untyped-def]
    """|b|, and in v b/|b|, of unit length to rounding even where |b|² or b itself underflows, as it
    does in some of many hundred states: another length would spoil the rows of others, which need
    not be small."""
    squares = 0.0
    for j in range(len(re)):
        squares += re[j] * re[j] + im[j] * im[j]
    size, exponent = math.sqrt(squares), 0
    if not _PLAIN < size < 1 / _PLAIN:
        largest = 0.0
        for j in range(len(re)):
            largest = max(largest, abs(re[j]), abs(im[j]))
        exponent = math.frexp(largest)[1]
        squares = 0.0
        for j in range(len(re)):
            squares += math.ldexp(re[j], -exponent) ** 2 + math.ldexp(im[j], -exponent) ** 2
        size = math.sqrt(squares)
    for j in range(len(re)):
        v[0, j] = math.ldexp(re[j], -exponent) / size
        v[1, j] = math.ldexp(im[j], -exponent) / size
    return math.ldexp(size, exponent)


@threaded(fastmath=_FUSED, error_model="numpy")
def _triangular_equations(T, F, S, continuous, X):  # type: ignore[no-untyped-def]
    """Rows of T, F and X are columns of the matrices."""
    count, _, l, n = F.shape
    for entry in numba.prange(count):
        sums, known = np.empty((2, n)), np.empty((2, n))
        re, im = T[entry, 0], T[entry, 1]
        for j in range(l - 1, -1, -1):
            known[:] = 0
            for k in range(j + 1, l):
                s_re, s_im = S[entry, 0, j, k], -S[entry, 1, j, k]
                for i in range(n):
                    x = X[entry, k, i]
                    known[0, i] += x.real * s_re - x.imag * s_im
                    known[1, i] += x.real * s_im + x.imag * s_re
            turned = complex(S[entry, 0, j, j], -S[entry, 1, j, j])
            sums[0], sums[1] = F[entry, 0, j], F[entry, 1, j]
            for i in range(n - 1, -1, -1):
                pole, g = complex(re[i, i], im[i, i]), complex(known[0, i], known[1, i])
                here = complex(sums[0, i], sums[1, i])
                # u is what T passes on to the states above.
                if continuous:
                    u = x = -(here + g) / (turned + pole)
                else:
                    x = (here + pole * g) / (1 - turned * pole)
                    u = g + turned * x
                X[entry, j, i] = x
                for h in range(i):
                    sums[0, h] += re[i, h] * u.real - im[i, h] * u.imag
                    sums[1, h] += re[i, h] * u.imag + im[i, h] * u.real


@threaded(error_model="numpy")
def _hold_poles(T, near, levels, start, continuous, held):  # type: ignore[no-untyped-def]
    """Rows of T are columns of the matrices."""
    count, n, _ = T.shape
    for entry in numba.prange(count):
        x = np.empty(n, dtype=np.complex128)
        for i in range(n):
            if not near[entry, i]:
                continue
            pole = T[entry, i, i]
            end = complex(0.0, pole.imag) if continuous else pole / abs(pole)
            x[:] = start
            held[entry, i] = _stands_apart(T[entry], end, levels[entry], x)
            if not held[entry, i]:
                x[:] = start
                held[entry, i] = _stands_apart(T[entry], (end + pole) / 2, levels[entry], x)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _stands_apart(T, z, level, x):  # type: ignore[no-untyped-def]
    """Whether σ_min(z − T) > level, by inverse iteration from x."""
    n, largest = len(x), 0.0
    for j in range(n):
        if z == T[j, j]:
            return False
    for step in range(4):
        size = float(np.linalg.norm(x))
        for j in range(n):
            x[j] /= size
        if step % 2 == 0:
            for j in range(n - 1, -1, -1):
                x[j] /= z - T[j, j]
                for i in range(j):
                    x[i] += T[j, i] * x[j]
        else:
            for j in range(n):
                total = x[j]
                for i in range(j):
                    total += T[j, i].conjugate() * x[i]
                x[j] = total / (z - T[j, j]).conjugate()
        size = float(np.linalg.norm(x))
        if not size <= _NUMBERS:
            return False
        largest = max(largest, size)
        if largest * level * _FAR_ABOVE < 1:
            break
    return largest * level < 1
