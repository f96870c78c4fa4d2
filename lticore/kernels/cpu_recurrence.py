"""Recurrences and their adjoints in Numba; compiled at their first use and cached.

States are carried in double precision: memory, not arithmetic, sets the time.

Processors fetch memory ahead of its use in ascending order only: a recurrence that runs backwards
in time would take four times as long. So time is cut into chunks that fit the cache, each is copied
to its place in ascending order, and there the recurrence runs over it, in either direction.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import ENOUGH, threaded, threads

#: States that one task carries through time together: their poles and states stay in L1. Long rows
#: are fetched faster, but there must be tasks for all threads.
_LANES, _MANY_LANES = 128, 512
#: Numbers in a chunk: a fraction of an L2 cache.
_CHUNK = 1 << 14


def linear_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.linear_recurrence`."""
    return time_varying_recurrence(poles[..., None, :], inputs, initial, reverse)


def time_varying_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.time_varying_recurrence`; one pole may serve all steps."""
    states = np.empty(inputs.shape, dtype=inputs.dtype)
    recur_into(states, poles, inputs, initial, reverse)
    return states


def recur_into(
    states: np.ndarray, poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> None:
    """See :func:`lticore.equations.recurrence.recur_into_reference`."""
    *batch, length, n = states.shape
    count, many = math.prod(batch), states.size >= ENOUGH
    wide = np.result_type(states.dtype, np.float64)
    _recur(
        _double_if_one(poles).reshape(count, poles.shape[-2], n),
        np.ascontiguousarray(inputs).reshape(count, length, n),
        np.ascontiguousarray(initial, dtype=wide).reshape(count, n),
        reverse,
        _lanes(count, n, many),
        states.reshape(count, length, n),
        many=many,
    )


def recurrence_adjoint(
    poles: np.ndarray,
    cotangents: np.ndarray,
    states: np.ndarray,
    initial: np.ndarray,
    reverse: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`lticore.equations.recurrence.recurrence_adjoint_reference`; in one pass."""
    back = np.empty(cotangents.shape, cotangents.dtype)
    return back, adjoint_into(back, poles, cotangents, states, initial, reverse)


def adjoint_into(
    back: np.ndarray,
    poles: np.ndarray,
    cotangents: np.ndarray,
    states: np.ndarray,
    initial: np.ndarray,
    reverse: bool,
) -> np.ndarray:
    """See :func:`lticore.equations.recurrence.adjoint_into_reference`."""
    *batch, length, n = back.shape
    count, steps, many = math.prod(batch), poles.shape[-2], back.size >= ENOUGH
    wide = np.result_type(back.dtype, np.float64)
    arguments = (
        _double_if_one(poles).reshape(count, steps, n),
        np.ascontiguousarray(cotangents).reshape(count, length, n),
        np.ascontiguousarray(states).reshape(count, length, n),
        np.ascontiguousarray(initial, dtype=states.dtype).reshape(count, n),
        reverse,
        _lanes(count, n, many),
        back.reshape(count, length, n),
    )
    if steps == 1:
        g_poles = np.zeros((count, 1, n), dtype=wide)
        _recur_back(*arguments, g_poles, many=many)
    else:
        # It holds the poles of a chunk before their cotangents.
        g_poles = np.empty((count, length, n), np.result_type(poles.dtype, back.dtype))
        _recur_back_varying(*arguments, g_poles, np.zeros((count, n), dtype=wide), many=many)
    return g_poles.reshape(*batch, steps, n)


def _double_if_one(poles: np.ndarray) -> np.ndarray:
    """Poles of one step widened; those of all steps are read as they are."""
    wide = np.result_type(poles.dtype, np.float64)
    return np.ascontiguousarray(poles, dtype=wide if poles.shape[-2] == 1 else poles.dtype)


def _lanes(count: int, n: int, many: bool) -> int:
    enough = not many or count * -(-n // _MANY_LANES) >= 2 * threads()
    return max(1, min(n, _MANY_LANES if enough else _LANES))


@numba.njit(cache=True)
def _copy(source, target, entry, start, stop, first, last):  # type: ignore[no-untyped-def]
    """A chunk to its place, in ascending order."""
    for time in range(start, stop):
        row, out = source[entry, time, first:last], target[entry, time, first:last]
        for i in range(last - first):
            out[i] = row[i]


@numba.njit(cache=True)
def _chunk(index, chunks, steps, length, down):  # type: ignore[no-untyped-def]
    """Start and stop in time of the ``index``-th chunk to be processed."""
    start = (chunks - 1 - index if down else index) * steps
    return start, min(start + steps, length)


@threaded()
def _recur(poles, inputs, initial, reverse, lanes, states):  # type: ignore[no-untyped-def]
    count, length, n = inputs.shape
    blocks, steps = (n + lanes - 1) // lanes, _CHUNK // lanes
    chunks = (length + steps - 1) // steps
    varying = poles.shape[1] > 1
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * lanes
        last = min(first + lanes, n)
        state = initial[entry, first:last].copy()
        for index in range(chunks):
            start, stop = _chunk(index, chunks, steps, length, reverse)
            _copy(inputs, states, entry, start, stop, first, last)
            for k in range(stop - start):
                time = stop - 1 - k if reverse else start + k
                pole = poles[entry, time if varying else 0, first:last]
                row = states[entry, time, first:last]
                for i in range(last - first):
                    state[i] = pole[i] * state[i] + row[i]
                    row[i] = state[i]


@threaded()
def _recur_back(  # type: ignore[no-untyped-def]
    poles, cotangents, states, initial, reverse, lanes, back, sums
):
    count, length, n = cotangents.shape
    blocks, steps = (n + lanes - 1) // lanes, _CHUNK // lanes
    chunks = (length + steps - 1) // steps
    before, beginning = (1, length - 1) if reverse else (-1, 0)
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * lanes
        last = min(first + lanes, n)
        pole, total = np.conj(poles[entry, 0, first:last]), sums[entry, 0, first:last]
        state = np.zeros_like(pole)
        for index in range(chunks):
            # Against the direction of the states.
            start, stop = _chunk(index, chunks, steps, length, not reverse)
            _copy(cotangents, back, entry, start, stop, first, last)
            for k in range(stop - start):
                row = back[entry, start + k if reverse else stop - 1 - k, first:last]
                for i in range(last - first):
                    state[i] = pole[i] * state[i] + row[i]
                    row[i] = state[i]
            for time in range(start, stop):
                source = initial[entry] if time == beginning else states[entry, time + before]
                row, previous = back[entry, time, first:last], source[first:last]
                for i in range(last - first):
                    total[i] = total[i] + row[i] * np.conj(previous[i])


@threaded()
def _recur_back_varying(  # type: ignore[no-untyped-def]
    poles, cotangents, states, initial, reverse, lanes, back, g_poles, carried
):
    count, length, n = cotangents.shape
    blocks, steps = (n + lanes - 1) // lanes, _CHUNK // lanes
    chunks = (length + steps - 1) // steps
    before, beginning = (1, length - 1) if reverse else (-1, 0)
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * lanes
        last = min(first + lanes, n)
        passed = carried[entry, first:last]  # conj(λ_{k+1}) v_{k+1}, from the step after
        for index in range(chunks):
            start, stop = _chunk(index, chunks, steps, length, not reverse)
            _copy(cotangents, back, entry, start, stop, first, last)
            _copy(poles, g_poles, entry, start, stop, first, last)
            for k in range(stop - start):
                time = start + k if reverse else stop - 1 - k
                pole, row = g_poles[entry, time, first:last], back[entry, time, first:last]
                for i in range(last - first):
                    passed[i] = passed[i] + row[i]
                    row[i] = passed[i]
                for i in range(last - first):
                    passed[i] = np.conj(pole[i]) * passed[i]
            for time in range(start, stop):
                source = initial[entry] if time == beginning else states[entry, time + before]
                row, previous = back[entry, time, first:last], source[first:last]
                gradient = g_poles[entry, time, first:last]
                for i in range(last - first):
                    gradient[i] = row[i] * np.conj(previous[i])
