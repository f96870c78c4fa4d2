"""CUDA kernels, one ``.cu`` file per operation; compiled by NVRTC at their first use.

CuPy keeps the result on disk and, in this process, per device. All work is queued on CuPy's
current stream, and the host waits for none of it except where a comment says so.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cupy as cp

#: A tile of the recurrence: this many lanes, wide enough for whole lines of memory, …
_LANES = 16
#: … by this many runs of consecutive steps, one thread each.
_GROUPS = 32
#: Bytes of inputs and poles that a thread keeps in registers.
_RUN_BYTES = 128
#: So many lanes keep the memory busy without parallelism in time.
_MANY_LANES = 1 << 16
#: Threads of a block in the other kernels.
_THREADS = 256
#: Blocks of one elimination: enough for every device, and few candidates for a pivot.
_ELIMINATION_BLOCKS = 256
#: Columns of a factor between two questions to the device whether more are needed.
_COLUMNS = 32


@cache
def _kernel(file: str, name: str, *macros: str) -> cp.RawKernel:
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    options = ("-std=c++17", *(f"-D{macro}" for macro in macros))
    return cp.RawModule(code=text, options=options).get_function(name)


def linear_recurrence(
    poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool
) -> cp.ndarray:
    """See :func:`lticore.linear_recurrence`."""
    return _recur_on_device(poles, inputs, initial, reverse, varying=False)


def time_varying_recurrence(
    poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool
) -> cp.ndarray:
    """See :func:`lticore.time_varying_recurrence`; one pole may serve all steps."""
    if poles.shape[-2] == 1:
        return linear_recurrence(poles[..., 0, :], inputs, initial, reverse)
    return _recur_on_device(poles, inputs, initial, reverse, varying=True)


def _recur_on_device(
    poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool, varying: bool
) -> cp.ndarray:
    *batch, length, n = inputs.shape
    lanes = math.prod(batch) * n
    states = cp.empty(inputs.shape, inputs.dtype)
    if states.size == 0:
        return states
    # As on the CPU what is read once is widened, and all else read as it is; poles of complex
    # states are complex.
    wide = cp.result_type(inputs.dtype, cp.float64)
    pole = cp.result_type(poles.dtype, cp.complex64 if inputs.dtype.kind == "c" else cp.float32)
    poles = cp.ascontiguousarray(*((poles, pole) if varying else (_once(poles), wide)))
    inputs, initial = cp.ascontiguousarray(inputs), cp.ascontiguousarray(_once(initial), wide)
    in_sequence = lanes >= _MANY_LANES
    steps = _RUN_BYTES // (inputs.itemsize + (poles.itemsize if varying else 0))
    if not in_sequence:
        # No block waits for another when one tile holds all steps: runs may then be longer.
        fitting = 1 << math.ceil(math.log2(max(1, length / _GROUPS)))
        steps = fitting if fitting <= 2 * steps else steps
    macros = (
        f"REAL={_part(inputs.dtype)}",
        f"POLE={_part(poles.dtype)}",
        f"COMPLEX={int(inputs.dtype.kind == 'c')}",
        f"VARYING={int(varying)}",
        f"STEPS={steps}",
        f"LANES={_LANES}",
        f"GROUPS={_GROUPS}",
    )
    sizes = (lanes, n, length, int(reverse), poles.size, initial.size)
    arguments = (poles, inputs, initial, states, *sizes)
    if in_sequence:
        kernel = _kernel("recurrence.cu", "recur_in_sequence", *macros)
        kernel((-(-lanes // _THREADS),), (_THREADS,), arguments)
    else:
        kernel = _kernel("recurrence.cu", "recur_in_tiles", *macros)
        strips, tiles = -(-lanes // _LANES), -(-length // (_GROUPS * steps))
        carries = cp.empty((tiles - 1) * lanes, wide)
        signals = (cp.zeros if tiles > 1 else cp.empty)(1 + carries.size, cp.int32)
        scratch = (signals, signals[1:], carries)
        kernel((strips * tiles,), (_LANES * _GROUPS,), (*arguments, *scratch))
    return states


def _part(dtype: cp.dtype) -> str:
    """C's name of the real and imaginary parts."""
    return "float" if dtype.char in "fF" else "double"


def _once(x: cp.ndarray) -> cp.ndarray:
    """The vector that ``x``, (..., n), repeats for all batch entries, or else ``x`` itself."""
    return x if any(x.strides[:-1]) else x[(0,) * (x.ndim - 1)]


def diagonal_stein(
    radius_a: cp.ndarray,
    phase_a: cp.ndarray,
    radius_b: cp.ndarray,
    phase_b: cp.ndarray,
    Q: cp.ndarray,
) -> cp.ndarray:
    """See :func:`lticore.equations.modal.diagonal_stein_reference`."""
    Q = cp.ascontiguousarray(Q, dtype=cp.complex128)
    return _divide("diagonal_stein", (radius_a, phase_a, radius_b, phase_b), Q, Q.shape[-2:])


def rotation_stein(
    radius_a: cp.ndarray,
    phase_a: cp.ndarray,
    radius_b: cp.ndarray,
    phase_b: cp.ndarray,
    Q: cp.ndarray,
) -> cp.ndarray:
    """See :func:`lticore.equations.modal.rotation_stein_reference`."""
    (n, l), modes_a, modes_b = Q.shape[-2:], radius_a.shape[-1], radius_b.shape[-1]
    Q = cp.ascontiguousarray(Q, dtype=cp.float64)
    sizes = (modes_a, n - modes_a, modes_b, l - modes_b)
    return _divide("rotation_stein", (radius_a, phase_a, radius_b, phase_b), Q, sizes)


def _divide(
    name: str, poles: tuple[cp.ndarray, ...], Q: cp.ndarray, sizes: tuple[int, ...]
) -> cp.ndarray:
    """One block per pole of A, one thread per pole of B and beyond _THREADS of them several."""
    radius_a, phase_a, radius_b, phase_b = (
        cp.ascontiguousarray(x, dtype=cp.float64) for x in poles
    )
    X = cp.empty_like(Q)
    if X.size:
        threads = min(_THREADS, -(-radius_b.shape[-1] // 32) * 32)
        arguments = (radius_a, phase_a, radius_b, phase_b, Q, X, *sizes)
        _kernel("stein.cu", name)((radius_a.size,), (threads,), arguments)
    return X


def cauchy_factor(
    radius: cp.ndarray, phase: cp.ndarray, generator: cp.ndarray, rtol: float, max_rank: int
) -> cp.ndarray:
    """See :func:`lticore.equations.cauchy.cauchy_factor`; one launch per column."""
    *batch, n, m = generator.shape
    count = math.prod(batch)
    if generator.size == 0 or max_rank == 0:
        return cp.zeros((*batch, n, 0), cp.complex128)
    radius, phase = (cp.ascontiguousarray(x, dtype=cp.float64) for x in (radius, phase))
    generator = cp.array(generator.swapaxes(-1, -2), dtype=cp.complex128, order="C", copy=True)
    blocks = min(-(-n // _THREADS), _ELIMINATION_BLOCKS)
    grid, block = (count * blocks,), (_THREADS,)
    # Candidates are a float64 and an int64 each; of both buffers one is read, the other written.
    candidates = [cp.empty((count, blocks, 2), cp.float64) for _ in range(2)]
    winners = [cp.empty((count, blocks, m), cp.complex128) for _ in range(2)]
    stop, ranks = cp.empty(count, cp.float64), cp.zeros(count, cp.int64)
    nominate, eliminate = (
        _kernel("cauchy.cu", name, f"THREADS={_THREADS}") for name in ("nominate", "eliminate")
    )
    nominate(grid, block, (radius, generator, n, m, blocks, candidates[0], winners[0]))
    pieces, rank = [], 0
    for first in range(0, max_rank, _COLUMNS):
        width = min(_COLUMNS, max_rank - first)
        columns = cp.empty((count, width, n), cp.complex128)
        for j in range(width):
            step = first + j
            here, there = step % 2, (step + 1) % 2
            state = (radius, phase, generator, n, m, blocks)
            pivots = (candidates[here], winners[here], candidates[there], winners[there])
            result = (step, float(rtol), stop, ranks, columns, j, width)
            eliminate(grid, block, (*state, *pivots, *result))
        pieces.append(columns)
        # The host waits here for the device, once per block of columns.
        rank = int(ranks.max())
        if rank < first + width:
            break
    factor = cp.concatenate(pieces, axis=1)[:, :rank]
    return factor.swapaxes(-1, -2).reshape(*batch, n, rank)
