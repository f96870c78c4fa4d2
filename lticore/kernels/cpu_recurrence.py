"""Recurrences and their adjoints in Numba; compiled at their first use and cached.

States are carried in double precision: memory, not arithmetic, sets the time.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .threads import ENOUGH, threads_for

#: States that one task carries through time together: their poles and states stay in L1.
_LANES = 128


def linear_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.recurrence.linear_recurrence`."""
    return time_varying_recurrence(poles[..., None, :], inputs, initial, reverse)


def time_varying_recurrence(
    poles: np.ndarray, inputs: np.ndarray, initial: np.ndarray, reverse: bool
) -> np.ndarray:
    """See :func:`lticore.recurrence.time_varying_recurrence`; one pole may serve all steps."""
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
    poles: np.ndarray,
    cotangents: np.ndarray,
    states: np.ndarray,
    initial: np.ndarray,
    reverse: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """See :func:`lticore.recurrence.recurrence_adjoint_reference`; one pass over memory."""
    *batch, length, n = cotangents.shape
    count, steps = math.prod(batch), poles.shape[-2]
    wide = np.result_type(cotangents.dtype, np.float64)
    back = np.empty((count, length, n), dtype=cotangents.dtype)
    arguments = (
        _double_if_one(poles).reshape(count, steps, n),
        np.ascontiguousarray(cotangents).reshape(count, length, n),
        np.ascontiguousarray(states).reshape(count, length, n),
        np.ascontiguousarray(initial, dtype=states.dtype).reshape(count, n),
        reverse,
        back,
    )
    with threads_for(back.size >= ENOUGH):
        if steps == 1:
            g_poles = np.zeros((count, 1, n), dtype=wide)
            _recur_back(*arguments, g_poles)
        else:
            g_poles = np.empty_like(back)
            _recur_back_varying(*arguments, g_poles, np.zeros((count, n), dtype=wide))
    return back.reshape(cotangents.shape), g_poles.reshape(*batch, steps, n)


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
def _recur_back(  # type: ignore[no-untyped-def]
    poles, cotangents, states, initial, reverse, back, sums
):
    count, length, n = cotangents.shape
    blocks = (n + _LANES - 1) // _LANES
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * _LANES
        last = min(first + _LANES, n)
        pole, total = np.conj(poles[entry, 0, first:last]), sums[entry, 0, first:last]
        state = np.zeros_like(pole)
        for k in range(length):
            # Against the direction of the states; the one before it in their order comes next here.
            time = k if reverse else length - 1 - k
            before = time + 1 if reverse else time - 1
            drive, out = cotangents[entry, time, first:last], back[entry, time, first:last]
            for i in range(last - first):
                state[i] = pole[i] * state[i] + drive[i]
                out[i] = state[i]
            source = states[entry, before] if k < length - 1 else initial[entry]
            previous = source[first:last]
            for i in range(last - first):
                total[i] += state[i] * np.conj(previous[i])


@numba.njit(cache=True, parallel=True)
def _recur_back_varying(  # type: ignore[no-untyped-def]
    poles, cotangents, states, initial, reverse, back, g_poles, carried
):
    count, length, n = cotangents.shape
    blocks = (n + _LANES - 1) // _LANES
    for task in numba.prange(count * blocks):
        entry, first = task // blocks, (task % blocks) * _LANES
        last = min(first + _LANES, n)
        passed = carried[entry, first:last]  # conj(λ_{k+1}) v_{k+1}, from the step after
        for k in range(length):
            time = k if reverse else length - 1 - k
            before = time + 1 if reverse else time - 1
            pole = poles[entry, time, first:last]
            drive, out = cotangents[entry, time, first:last], back[entry, time, first:last]
            gradient = g_poles[entry, time, first:last]
            source = states[entry, before] if k < length - 1 else initial[entry]
            previous = source[first:last]
            for i in range(last - first):
                state = passed[i] + drive[i]
                out[i] = state
                gradient[i] = state * np.conj(previous[i])
                passed[i] = np.conj(pole[i]) * state
