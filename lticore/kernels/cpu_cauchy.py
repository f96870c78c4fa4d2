"""Cauchy factors in Numba; compiled at its first use and cached.

No ``fastmath``: reassociation would undo the differences that keep relative accuracy.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ..errors import MemoryLimitError
from .memory import main_memory
from .threads import threaded

#: An elimination of fewer states runs on one thread. Threads meet after every column: on an idle
#: machine two halve the 0.04 to 0.6 ms of a column, but where other processes keep the cores busy
#: each meeting can wait 20 to 50 ms for a thread that does not run.
_MANY = 1 << 14
#: Columns that are allocated at first, and at least at a time; the rank is not known beforehand.
_COLUMNS = 32
#: Largest part of the memory that one factor may take: there are two, and copies of them.
_SHARE = 1 / 4


def cauchy_factor(
    radius: np.ndarray, phase: np.ndarray, generator: np.ndarray, rtol: float, max_rank: int
) -> np.ndarray:
    """See :func:`lticore.equations.cauchy.cauchy_factor`; fused steps, parallel over many states.

    One pass over memory per column instead of about twenty. Memory grows with the rank.
    """
    return _eliminations(radius, phase, generator, rtol, max_rank, False)


def lyapunov_factor(
    decay: np.ndarray, frequency: np.ndarray, generator: np.ndarray, rtol: float, max_rank: int
) -> np.ndarray:
    """The same in continuous time."""
    return _eliminations(decay, frequency, generator, rtol, max_rank, True)


def _eliminations(
    size: np.ndarray,
    phase: np.ndarray,
    generator: np.ndarray,
    rtol: float,
    max_rank: int,
    continuous: bool,
) -> np.ndarray:
    """(size, phase) of the poles are (ρ, θ) or, in continuous time, (δ, ω)."""
    *batch, n, m = generator.shape
    count = math.prod(batch)
    entries = zip(
        np.ascontiguousarray(size, dtype=np.float64).reshape(count, n),
        np.ascontiguousarray(phase, dtype=np.float64).reshape(count, n),
        np.array(generator, dtype=np.complex128, order="C").reshape(count, n, m),
        strict=True,
    )
    factors = [_one_factor(*entry, rtol, max_rank, continuous) for entry in entries]
    widest = max(map(len, factors), default=0)
    columns = factors[0][None] if count == 1 else _padded_columns(factors, widest, n)
    return columns.swapaxes(-1, -2).reshape(*batch, n, widest)


def _one_factor(
    size: np.ndarray,
    phase: np.ndarray,
    generator: np.ndarray,
    rtol: float,
    max_rank: int,
    continuous: bool,
) -> np.ndarray:
    """The columns of one factor, (r, n); the generator is overwritten."""
    n = len(size)
    energy = np.sum(generator.real**2 + generator.imag**2, axis=-1)
    dissipation = 2 * size if continuous else (1 - size) * (1 + size)
    remaining = energy / dissipation
    first = remaining.max(initial=0)
    columns, rank = np.empty((0, n), dtype=np.complex128), 0
    most = min(max_rank, _SHARE * main_memory() / (n * columns.itemsize)) if n else 0
    while rank == len(columns) < max_rank:
        width = int(min(most, rank + max(_COLUMNS, rank // 4)))
        if width == rank:
            raise _too_large(columns, remaining.max() / first, rtol)
        # In place where the system can move pages, unlike a concatenation.
        columns.resize((width, n), refcheck=False)
        rank = _eliminate(
            size,
            phase,
            dissipation,
            continuous,
            generator,
            remaining,
            rtol * first,
            rank,
            columns,
            many=n >= _MANY,
        )
    columns.resize((rank, n), refcheck=False)
    return columns


def _too_large(columns: np.ndarray, left: float, rtol: float) -> MemoryLimitError:
    rank, n = columns.shape
    return MemoryLimitError(
        f"the factor of a Gramian of {n} states needs more than {rank} columns, and these take "
        f"{columns.nbytes / 1e9:.3g} GB, {_SHARE:.0%} of this machine's memory: what is left has a "
        f"diagonal entry of {left:.1e} times the largest, and {rtol:.1e} is wanted. Give max_rank= "
        "or a larger rtol= where the function takes them; else remove modes first, by "
        "modal_truncation"
    )


def _padded_columns(factors: list[np.ndarray], widest: int, n: int) -> np.ndarray:
    """(count, widest, n) columns, zero beyond each rank; the list is emptied to free memory."""
    columns = np.zeros((len(factors), widest, n), dtype=np.complex128)
    for entry in reversed(columns):
        factor = factors.pop()
        entry[: len(factor)] = factor
    return columns


@threaded(error_model="numpy")
def _eliminate(  # type: ignore[no-untyped-def]
    size, phase, dissipation, continuous, generator, remaining, stop, rank, columns
):
    """Fills ``columns`` from ``rank`` on; returns how many there are when it stops."""
    n, m = generator.shape
    pivot = np.empty(m, dtype=np.complex128)
    for step in range(rank, columns.shape[0]):
        k = np.argmax(remaining)
        height = remaining[k]
        if not height > stop:
            return step
        size_k, phase_k = size[k], phase[k]
        norm = math.sqrt(_energy(generator, k))
        for c in range(m):
            pivot[c] = generator[k, c] / norm
        scale = norm / math.sqrt(height)
        for i in numba.prange(n):
            if continuous:
                distance, difference = _decaying(size[i], size_k, phase[i] - phase_k)
            else:
                distance, difference = _turning(size[i], size_k, phase[i] - phase_k)
            blaschke = difference / distance
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
            remaining[i] = _energy(generator, i) / dissipation[i]
        generator[k, :] = 0
        remaining[k] = 0.0
    return columns.shape[0]


@numba.njit(cache=True, inline="always")
def _turning(radius, radius_k, turn):  # type: ignore[no-untyped-def]
    """(d_ik, λ_i − λ_k) in discrete time; see the reference text."""
    sine, cosine = math.sin(turn / 2), math.cos(turn / 2)
    # 1 − e^{iδ} = 2 sin² − 2i sin cos,   d = 1 − λ_i conj λ_k
    real, imaginary = 2 * sine * sine, -2 * sine * cosine
    modulus = radius * radius_k
    distance = complex((1 - radius) + radius * (1 - radius_k) + modulus * real, modulus * imaginary)
    return distance, complex((radius - radius_k) - radius * real, -radius * imaginary)


@numba.njit(cache=True, inline="always")
def _decaying(decay, decay_k, turn):  # type: ignore[no-untyped-def]
    """The same in continuous time."""
    return complex(decay + decay_k, -turn), complex(decay_k - decay, turn)


@numba.njit(cache=True, inline="always")
def _energy(generator, i):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in range(generator.shape[1]):
        total += generator[i, c].real ** 2 + generator[i, c].imag ** 2
    return total
