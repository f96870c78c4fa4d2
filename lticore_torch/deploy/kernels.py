"""One time step of layers and gates in Numba, for a few sequences at once.

All arrays are float64 and contiguous, with the sequences in front; states change in place. Sums may
be added in any order, so that they are vectors of the processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., None])


def _jit(function: Kernel) -> Kernel:
    compiled = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function)
    return cast(Kernel, compiled)


@_jit
def turn(x: np.ndarray, pairs: np.ndarray, real: np.ndarray) -> None:
    """x ← A x for A of ``pairs`` (q, 2) of real and imaginary part, and real poles."""
    q = len(pairs)
    for s in range(len(x)):
        for j in range(q):
            first = x[s, 2 * j] * pairs[j, 0] - x[s, 2 * j + 1] * pairs[j, 1]
            second = x[s, 2 * j] * pairs[j, 1] + x[s, 2 * j + 1] * pairs[j, 0]
            x[s, 2 * j], x[s, 2 * j + 1] = first, second
        for j in range(len(real)):
            x[s, 2 * q + j] *= real[j]


@_jit
def modal_step(
    u: np.ndarray,
    x: np.ndarray,
    pairs: np.ndarray,
    real: np.ndarray,
    B: np.ndarray,
    rows: np.ndarray,
    D: np.ndarray,
    z: np.ndarray,
) -> None:
    """x ← A x + B u,  z = rows x + D u,  for A of ``pairs`` (q, 2) of real and imaginary part and
    D of the first rows."""
    turn(x, pairs, real)
    for s in range(len(u)):
        for j in range(x.shape[1]):
            total = 0.0
            for i in range(u.shape[1]):
                total += B[j, i] * u[s, i]
            x[s, j] += total
        for j in range(rows.shape[0]):
            total = D[j] * u[s, j] if j < len(D) else 0.0
            for i in range(x.shape[1]):
                total += rows[j, i] * x[s, i]
            z[s, j] = total


@_jit
def channel_step(
    u: np.ndarray,
    x: np.ndarray,
    pairs: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    of_pairs: np.ndarray,
    real: np.ndarray,
    real_c: np.ndarray,
    of_real: np.ndarray,
    D: np.ndarray,
    y: np.ndarray,
) -> None:
    """One system per channel: modes with poles ``pairs``, inputs b and outputs c (q, 2) of channels
    ``of_pairs``, and real ones."""
    q = len(pairs)
    for s in range(len(u)):
        for i in range(u.shape[1]):
            y[s, i] = D[i] * u[s, i]
        for j in range(q):
            i = of_pairs[j]
            first = x[s, 2 * j] * pairs[j, 0] - x[s, 2 * j + 1] * pairs[j, 1] + b[j, 0] * u[s, i]
            second = x[s, 2 * j] * pairs[j, 1] + x[s, 2 * j + 1] * pairs[j, 0] + b[j, 1] * u[s, i]
            x[s, 2 * j], x[s, 2 * j + 1] = first, second
            y[s, i] += c[j, 0] * first + c[j, 1] * second
        for j in range(len(real)):
            i = of_real[j]
            x[s, 2 * q + j] = real[j] * x[s, 2 * q + j] + u[s, i]
            y[s, i] += real_c[j] * x[s, 2 * q + j]


@_jit
def selective_step(
    u: np.ndarray,
    x: np.ndarray,
    step: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    rates: np.ndarray,
    real: np.ndarray,
    D: np.ndarray,
    y: np.ndarray,
) -> None:
    """x ← e^{Δ a} x + Δ b u,  y = c x + D u, for the ``step`` Δ of each channel, ``rates`` a (q, 2)
    of decay and frequency, and ``real`` (channels, k); x (sequences, channels, n)."""
    q = len(rates)
    for s in range(len(u)):
        for i in range(u.shape[1]):
            drive, total = step[s, i] * u[s, i], 0.0
            for j in range(q):
                size, angle = math.exp(-step[s, i] * rates[j, 0]), step[s, i] * rates[j, 1]
                cosine, sine = size * math.cos(angle), -size * math.sin(angle)
                first = x[s, i, 2 * j] * cosine - x[s, i, 2 * j + 1] * sine
                second = x[s, i, 2 * j] * sine + x[s, i, 2 * j + 1] * cosine
                first += drive * b[s, 2 * j]
                second += drive * b[s, 2 * j + 1]
                x[s, i, 2 * j], x[s, i, 2 * j + 1] = first, second
                total += c[s, 2 * j] * first + c[s, 2 * j + 1] * second
            for j in range(real.shape[1]):
                k = 2 * q + j
                x[s, i, k] = x[s, i, k] * math.exp(-step[s, i] * real[i, j]) + drive * b[s, k]
                total += c[s, k] * x[s, i, k]
            y[s, i] = total + D[i] * u[s, i]


@_jit
def linear(u: np.ndarray, W: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
    """y = W u + bias."""
    for s in range(len(u)):
        for j in range(len(W)):
            total = bias[j]
            for i in range(u.shape[1]):
                total += W[j, i] * u[s, i]
            y[s, j] = total


@_jit
def gelu(z: np.ndarray) -> None:
    """z ← z Φ(z), Φ the normal distribution."""
    for s in range(len(z)):
        for i in range(z.shape[1]):
            z[s, i] *= 0.5 * (1.0 + math.erf(z[s, i] * 0.7071067811865476))


@_jit
def half_glu(v: np.ndarray, a: np.ndarray, w: np.ndarray) -> None:
    """v ← v + a ∘ sigmoid(w)."""
    for s in range(len(v)):
        for i in range(v.shape[1]):
            v[s, i] += a[s, i] / (1.0 + math.exp(-w[s, i]))


@_jit
def glu(v: np.ndarray, w: np.ndarray) -> None:
    """v ← v + w_1 ∘ sigmoid(w_2) for the halves of w."""
    h = v.shape[1]
    for s in range(len(v)):
        for i in range(h):
            v[s, i] += w[s, i] / (1.0 + math.exp(-w[s, h + i]))


@_jit
def scaled_and_shifted(v: np.ndarray, scale: np.ndarray, shift: np.ndarray, z: np.ndarray) -> None:
    """z = scale ∘ v + shift."""
    for s in range(len(v)):
        for i in range(v.shape[1]):
            z[s, i] = scale[i] * v[s, i] + shift[i]


@_jit
def layer_norm(
    v: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float, z: np.ndarray
) -> None:
    """z = scale ∘ (v − mean)/√(variance + eps) + shift."""
    h = v.shape[1]
    for s in range(len(v)):
        mean = 0.0
        for i in range(h):
            mean += v[s, i]
        mean /= h
        variance = 0.0
        for i in range(h):
            variance += (v[s, i] - mean) ** 2
        factor = 1.0 / math.sqrt(variance / h + eps)
        for i in range(h):
            z[s, i] = scale[i] * (v[s, i] - mean) * factor + shift[i]
