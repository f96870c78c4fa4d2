"""CUDA kernels, one ``.cu`` file per operation; compiled by NVRTC at their first use.

CuPy keeps the result on disk and, in this process, per device. All work is queued on CuPy's
current stream, and the host waits for none of it except where a comment says so.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cupy as cp

from ..arrays.linalg import adjoint
from ..errors import ArrayLibraryError
from .products import MULTIPLY

#: A tile of the recurrence: this many lanes, wide enough for whole lines of memory, …
_LANES = 16
#: … by this many runs of consecutive steps, one thread each.
_GROUPS = 16
#: Bytes that a run of steps reads, which a thread keeps in registers.
_RUN_BYTES = 64
#: So many strips of lanes keep a device busy without blocks that share the tiles of one.
_MANY_STRIPS = 1024
#: Blocks that find room on a multiprocessor, which limits the registers of a thread: one loads
#: while another waits, and nothing is spilled.
_BLOCKS = 2
#: Threads of a block in the other kernels.
_THREADS = 256
#: Threads of a block that shares out the modes of a system.
_PRODUCT_THREADS = 128
#: Blocks of one elimination: enough for every device, and few candidates for a pivot.
_ELIMINATION_BLOCKS = 256
#: Columns of a factor between two questions to the device whether more are needed.
_COLUMNS = 32


@cache
def _kernel(file: str, name: str, *macros: str) -> cp.RawKernel:
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    options = ("-std=c++17", *(f"-D{macro}" for macro in macros))
    try:
        return cp.RawModule(code=text, options=options).get_function(name)
    except Exception as error:  # of NVRTC, of the driver, or of a toolkit that is not there
        raise ArrayLibraryError(
            f"the CUDA kernels of lticore cannot be compiled or loaded here ({error}): update the "
            "driver, install CuPy with its toolkit (pip install 'lticore[gpu13]'), or move the "
            "arrays to the host"
        ) from error


def linear_recurrence(
    poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool
) -> cp.ndarray:
    """See :func:`lticore.linear_recurrence`."""
    return time_varying_recurrence(poles[..., None, :], inputs, initial, reverse)


def time_varying_recurrence(
    poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool
) -> cp.ndarray:
    """See :func:`lticore.time_varying_recurrence`; one pole may serve all steps."""
    states = cp.empty(inputs.shape, inputs.dtype)
    recur_into(states, poles, inputs, initial, reverse)
    return states


def recur_into(
    states: cp.ndarray, poles: cp.ndarray, inputs: cp.ndarray, initial: cp.ndarray, reverse: bool
) -> None:
    """See :func:`lticore.equations.recurrence.recur_into_reference`."""
    _launch_recurrence(states, poles, inputs, initial, reverse)


def recurrence_adjoint(
    poles: cp.ndarray,
    cotangents: cp.ndarray,
    states: cp.ndarray,
    initial: cp.ndarray,
    reverse: bool,
) -> tuple[cp.ndarray, cp.ndarray]:
    """See :func:`lticore.equations.recurrence.recurrence_adjoint_reference`; in one pass."""
    back = cp.empty(cotangents.shape, cotangents.dtype)
    return back, adjoint_into(back, poles, cotangents, states, initial, reverse)


def adjoint_into(
    back: cp.ndarray,
    poles: cp.ndarray,
    cotangents: cp.ndarray,
    states: cp.ndarray,
    initial: cp.ndarray,
    reverse: bool,
) -> cp.ndarray:
    """See :func:`lticore.equations.recurrence.adjoint_into_reference`."""
    varying, slope = poles.shape[-2] != 1, cp.result_type(poles.dtype, back.dtype)
    slopes = cp.empty(poles.shape, slope if varying else cp.result_type(back.dtype, cp.float64))
    if back.size == 0:
        slopes.fill(0)
    _launch_recurrence(
        back, poles, cotangents, initial, not reverse, cp.ascontiguousarray(states), slopes
    )
    return slopes


def _launch_recurrence(
    target: cp.ndarray,
    poles: cp.ndarray,
    inputs: cp.ndarray,
    initial: cp.ndarray,
    reverse: bool,
    *adjoint: cp.ndarray,
) -> None:
    """One launch; ``adjoint`` are the states of the recurrence and the cotangents of its poles."""
    *batch, length, n = inputs.shape
    lanes, varying = math.prod(batch) * n, poles.shape[-2] != 1
    if target.size == 0:
        return
    if not varying:
        poles = _once(poles[..., 0, :])
    poles, initial = (_as_kernel_argument(x, inputs.dtype) for x in (poles, _once(initial)))
    inputs = cp.ascontiguousarray(inputs)
    read = (2 if adjoint else 1) * inputs.itemsize + (poles.itemsize if varying else 0)
    most = max(1, _RUN_BYTES // read)
    steps = min(most, 1 << math.ceil(math.log2(max(1, length / _GROUPS))))
    strips, tiles = -(-lanes // _LANES), -(-length // (_GROUPS * steps))
    alone = tiles == 1 or strips >= _MANY_STRIPS
    kernel = _kernel(
        "recurrence.cu",
        "recur",
        f"REAL={_part(inputs.dtype)}",
        f"COMPLEX={int(inputs.dtype.kind == 'c')}",
        f"POLE={_part(poles.dtype)}",
        f"START={_part(initial.dtype)}",
        f"SLOPE={_part(adjoint[1].dtype) if adjoint else 'double'}",
        f"VARYING={int(varying)}",
        f"ADJOINT={int(bool(adjoint))}",
        f"ALONE={int(alone)}",
        f"STEPS={steps}",
        f"LANES={_LANES}",
        f"GROUPS={_GROUPS}",
        f"BLOCKS={_BLOCKS}",
    )
    # What blocks of the same strip hand on: see Relay in recurrence.cu.
    windows = -(-tiles // _GROUPS)
    signals = 0 if alone else 1 + (tiles + windows) * lanes + strips
    scratch = 0 if alone else (3 * tiles + windows) * lanes
    arguments = (
        *(poles, inputs, initial, target),
        *(lanes, n, length, int(reverse), poles.size, initial.size),
        (cp.empty if alone else cp.zeros)(signals, cp.int32),
        cp.empty(scratch, cp.result_type(inputs.dtype, cp.float64)),
        *(adjoint or (inputs, inputs)),
    )
    kernel((strips if alone else strips * tiles,), (_LANES * _GROUPS,), arguments)


def _as_kernel_argument(x: cp.ndarray, dtype: cp.dtype) -> cp.ndarray:
    """In its own precision, complex where the states are."""
    part = cp.result_type(x.dtype, cp.complex64 if dtype.kind == "c" else cp.float32)
    return cp.ascontiguousarray(x, part)


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


def rotation_products(
    radius: cp.ndarray, angle: cp.ndarray, real_poles: cp.ndarray, X: cp.ndarray, P: cp.ndarray
) -> tuple[cp.ndarray, cp.ndarray, cp.ndarray]:
    """See :func:`lticore.hankel.gradients.rotation_products_reference`, of real X and P."""
    pairs, modes = radius.shape[-1], radius.shape[-1] + real_poles.shape[-1]
    given = [cp.ascontiguousarray(x) for x in (radius, angle, real_poles, X, P)]
    results = [cp.empty_like(x) for x in (given[0], given[0], given[2])]
    if X.size:
        kernel = _kernel("products.cu", "rotation_products", f"THREADS={_PRODUCT_THREADS}")
        grid = (X.size // X.shape[-1] ** 2 * modes,)
        kernel(grid, (_PRODUCT_THREADS,), (*given, *results, modes, pairs))
    return results[0], results[1], results[2]


def hermitian_part(X: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.hermitian_part`."""
    Y = cp.empty_like(X)
    if X.size:
        _symmetrise(cp.ascontiguousarray(X), Y, X.size)
    return Y


def _symmetrise(X: cp.ndarray, Y: cp.ndarray, gap: int) -> None:
    n, side, rows = X.shape[-1], 32, 8
    tiles = -(-n // side)
    kernel = _kernel("polar.cu", "symmetrise", f"COMPLEX={int(X.dtype.kind == 'c')}")
    kernel((X.size // (n * n) * tiles * tiles,), (side * rows,), (X, Y, n, gap))


def product(X: cp.ndarray, Y: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.product`."""
    multiply = MULTIPLY.get()
    return X @ Y if multiply is None else multiply(X, Y)


def weighted_gram(X: cp.ndarray, weights: cp.ndarray | None) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.weighted_gram`."""
    return product(X if weights is None else X * weights[..., None, :], adjoint(X))


def polar_steps(
    X: cp.ndarray, Y: cp.ndarray, coefficients: tuple[tuple[float, float, float], ...]
) -> tuple[cp.ndarray, cp.ndarray, cp.ndarray]:
    """See :func:`lticore.matrices.geometric_mean.polar_steps_reference`; five launches a step."""
    if X.size == 0:
        return X, Y, X
    n, count = X.shape[-1], math.prod(X.shape[:-2])
    dtype = cp.result_type(X.dtype, Y.dtype)
    # X, h and Y one after the other: (h, Y) times (X, h) is one batch of products.
    work = cp.empty((3, count, n, n), dtype)
    work[0], work[2] = X.reshape(count, n, n), Y.reshape(count, n, n)
    polynomial = _kernel("polar.cu", "polynomial", f"COMPLEX={int(dtype.kind == 'c')}")
    grid, block = (-(-work[1].size // _THREADS),), (_THREADS,)
    before = work[0]
    for a, b, c in coefficients:
        K = product(work[0], work[2])
        polynomial(grid, block, (K, product(K, K), work[1], count, n, a, b, c))
        before = work[0].copy() if (a, b, c) == coefficients[-1] else before
        _symmetrise(product(work[1:], work[:2]), work, count)
    return work[0].reshape(X.shape), work[2].reshape(Y.shape), before.reshape(X.shape)


def scaled(X: cp.ndarray, exponent: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.systems.signals.scaled`."""
    if X.dtype.kind != "c":
        return cp.ldexp(X, exponent.astype(cp.int32))
    parts = cp.ascontiguousarray(X)[..., None].view(X.real.dtype)
    return cp.ldexp(parts, exponent[..., None].astype(cp.int32)).view(X.dtype)[..., 0]
