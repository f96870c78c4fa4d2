"""Cauchy factors in Numba; compiled at its first use and cached.

No ``fastmath``: reassociation would undo the differences that keep relative accuracy.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import threads_for

#: An elimination of fewer states runs on one thread. Threads meet after every column: on an idle
#: machine two halve the 0.04 to 0.6 ms of a column, but where other processes keep the cores busy
#: each meeting can wait 20 to 50 ms for a thread that does not run.
_MANY = 1 << 14


def cauchy_factor(
    radius: np.ndarray, phase: np.ndarray, generator: np.ndarray, rtol: float, max_rank: int
) -> np.ndarray:
    """Fused elimination steps, parallel over many states; see :func:`lticore.cauchy.cauchy_factor`.

    One pass over memory per column instead of about twenty.
    """
    *batch, n, m = generator.shape
    count = math.prod(batch)
    columns = np.zeros((count, max_rank, n), dtype=np.complex128)
    entries = zip(
        np.ascontiguousarray(radius).reshape(count, n),
        np.ascontiguousarray(phase).reshape(count, n),
        np.array(generator, order="C").reshape(count, n, m),
        columns,
        strict=True,
    )
    with threads_for(n >= _MANY):
        ranks = [
            _eliminate(one_radius, one_phase, one_generator, rtol, one_column)
            for one_radius, one_phase, one_generator, one_column in entries
        ]
    widest = max(ranks, default=0)
    return columns[:, :widest].swapaxes(-1, -2).reshape(*batch, n, widest)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _eliminate(radius, phase, generator, rtol, columns):  # type: ignore[no-untyped-def]
    n, m = generator.shape
    limit = columns.shape[0]
    remaining = np.empty(n)
    for i in numba.prange(n):
        remaining[i] = _energy(generator, i) / ((1 - radius[i]) * (1 + radius[i]))
    stop = max(rtol * remaining.max(), 0.0)
    pivot = np.empty(m, dtype=np.complex128)
    for step in range(limit):
        k = np.argmax(remaining)
        height = remaining[k]
        if not height > stop:
            return step
        radius_k, phase_k = radius[k], phase[k]
        gap_k = 1 - radius_k
        norm = math.sqrt(_energy(generator, k))
        for c in range(m):
            pivot[c] = generator[k, c] / norm
        scale = norm / math.sqrt(height)
        for i in numba.prange(n):
            half = (phase[i] - phase_k) / 2
            sine, cosine = math.sin(half), math.cos(half)
            # 1 − e^{iδ} = 2 sin² − 2i sin cos,   d = 1 − λ_i conj λ_k
            real, imaginary = 2 * sine * sine, -2 * sine * cosine
            modulus = radius[i] * radius_k
            distance = complex(
                (1 - radius[i]) + radius[i] * gap_k + modulus * real, modulus * imaginary
            )
            blaschke = (
                complex((radius[i] - radius_k) - radius[i] * real, -radius[i] * imaginary)
                / distance
            )
            along = 0j
            for c in range(m):
                along += generator[i, c] * pivot[c].conjugate()
            columns[step, i] = along * scale / distance
            if m == 1:
                generator[i, 0] *= blaschke
            else:
                change = along * (1 - blaschke)
                for c in range(m):
                    generator[i, c] -= change * pivot[c]
            remaining[i] = _energy(generator, i) / ((1 - radius[i]) * (1 + radius[i]))
        generator[k, :] = 0
        remaining[k] = 0.0
    return limit


@numba.njit(cache=True, inline="always")
def _energy(generator, i):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in range(generator.shape[1]):
        total += generator[i, c].real ** 2 + generator[i, c].imag ** 2
    return total
