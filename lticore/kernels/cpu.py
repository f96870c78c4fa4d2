"""Numba kernels; compiled at their first use and cached.

No ``fastmath``: reassociation would undo the differences that keep relative accuracy.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import ENOUGH, threads_for

#: States that one task carries through time together: their poles and states stay in L1.
_LANES = 128
#: An elimination of fewer states runs on one thread. Threads meet after every column: on an idle
#: machine two halve the 0.04 to 0.6 ms of a column, but where other processes keep the cores busy
#: each meeting can wait 20 to 50 ms for a thread that does not run.
_MANY = 1 << 14


def linear_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.recurrence.linear_recurrence`."""
    return time_varying_recurrence(poles[..., None, :], inputs, initial, reverse)


def time_varying_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.recurrence.time_varying_recurrence`; one pole may serve all steps.

    States are carried in double precision: memory, not arithmetic, sets the time.
    """
    *batch, length, n = inputs.shape
    count = math.prod(batch)
    states = np.empty((count, length, n), dtype=inputs.dtype)
    with threads_for(states.size >= ENOUGH):
        _recur(
            _double_if_one(poles).reshape(count, poles.shape[-2], n),
            np.ascontiguousarray(inputs).reshape(count, length, n),
            _double(initial).reshape(count, n),
            reverse,
            states,
        )
    return states.reshape(inputs.shape)


def recurrence_adjoint(
    poles: np.ndarray, cotangents: np.ndarray, states: np.ndarray, reverse: bool
) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`lticore.recurrence.recurrence_adjoint_reference`; one pass over memory."""
    *batch, length, n = cotangents.shape
    count = math.prod(batch)
    back = np.empty((count, length, n), dtype=cotangents.dtype)
    sums = np.zeros((count, n), dtype=np.result_type(cotangents.dtype, np.float64))
    with threads_for(back.size >= ENOUGH):
        _recur_back(
            _double(poles).conj().reshape(count, n),
            np.ascontiguousarray(cotangents).reshape(count, length, n),
            np.ascontiguousarray(states).reshape(count, length, n),
            reverse,
            back,
            sums,
        )
    return back.reshape(cotangents.shape), sums.reshape(*batch, n)


def _double(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, dtype=np.result_type(x.dtype, np.float64))


def _double_if_one(poles: np.ndarray) -> np.ndarray:
    """Poles of one step widened; those of all steps are read as they are."""
    return _double(poles) if poles.shape[-2] == 1 else np.ascontiguousarray(poles)


@numba.njit(cache=True, parallel=True)
def _recur(poles, inputs, initial, reverse, states):  # type: ignore[no-untyped-def]
    count, length, n = inputs.shape
    blocks = (n + _LANES - 1) // _LANES
    steps = poles.shape[1]
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * _LANES
        last = min(first + _LANES, n)
        state = initial[entry, first:last].copy()
        for k in range(length):
            time = length - 1 - k if reverse else k
            pole = poles[entry, time if steps > 1 else 0, first:last]
            drive = inputs[entry, time, first:last]
            out = states[entry, time, first:last]
            for i in range(last - first):
                state[i] = pole[i] * state[i] + drive[i]
                out[i] = state[i]


@numba.njit(cache=True, parallel=True)
def _recur_back(poles, cotangents, states, reverse, back, sums):  # type: ignore[no-untyped-def]
    count, length, n = cotangents.shape
    blocks = (n + _LANES - 1) // _LANES
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * _LANES
        last = min(first + _LANES, n)
        pole, total = poles[entry, first:last].copy(), sums[entry, first:last]
        state = np.zeros_like(pole)
        for k in range(length):
            # Against the direction of the states; the one before it in their order comes next here.
            time = k if reverse else length - 1 - k
            before = time + 1 if reverse else time - 1
            drive, out = cotangents[entry, time, first:last], back[entry, time, first:last]
            for i in range(last - first):
                state[i] = pole[i] * state[i] + drive[i]
                out[i] = state[i]
            if k < length - 1:
                previous = states[entry, before, first:last]
                for i in range(last - first):
                    total[i] += state[i] * np.conj(previous[i])


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
