"""CUDA kernels, one ``.cu`` file per operation; compiled by NVRTC at their first use.

CuPy keeps the result on disk and, in this process, per device. All work is queued on CuPy's
current stream, and the host waits for none of it except where a comment says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cupy as cp
import numpy as np

from ..arrays.linalg import adjoint
from ..errors import ArrayLibraryError

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
#: Threads of a block that adds up numbers, and blocks that share a matrix.
_SUM_THREADS, _PARTS = 128, 32
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
    return _factor_by_columns(radius, phase, generator, rtol, max_rank, False)


def lyapunov_factor(
    decay: cp.ndarray, frequency: cp.ndarray, generator: cp.ndarray, rtol: float, max_rank: int
) -> cp.ndarray:
    """The same in continuous time."""
    return _factor_by_columns(decay, frequency, generator, rtol, max_rank, True)


def _factor_by_columns(
    size: cp.ndarray,
    phase: cp.ndarray,
    generator: cp.ndarray,
    rtol: float,
    max_rank: int,
    continuous: bool,
) -> cp.ndarray:
    """(size, phase) of the poles are (ρ, θ) or, in continuous time, (δ, ω)."""
    *batch, n, m = generator.shape
    count = math.prod(batch)
    if generator.size == 0 or max_rank == 0:
        return cp.zeros((*batch, n, 0), cp.complex128)
    size, phase = (cp.ascontiguousarray(x, dtype=cp.float64) for x in (size, phase))
    generator = cp.array(generator.swapaxes(-1, -2), dtype=cp.complex128, order="C", copy=True)
    blocks = min(-(-n // _THREADS), _ELIMINATION_BLOCKS)
    grid, block = (count * blocks,), (_THREADS,)
    # Candidates are a float64 and an int64 each; of both buffers one is read, the other written.
    candidates = [cp.empty((count, blocks, 2), cp.float64) for _ in range(2)]
    winners = [cp.empty((count, blocks, m), cp.complex128) for _ in range(2)]
    stop, ranks = cp.empty(count, cp.float64), cp.zeros(count, cp.int64)
    macros = f"THREADS={_THREADS}", f"CONTINUOUS={int(continuous)}"
    nominate, eliminate = (_kernel("cauchy.cu", x, *macros) for x in ("nominate", "eliminate"))
    nominate(grid, block, (size, generator, n, m, blocks, candidates[0], winners[0]))
    pieces, rank = [], 0
    for first in range(0, max_rank, _COLUMNS):
        width = min(_COLUMNS, max_rank - first)
        columns = cp.empty((count, width, n), cp.complex128)
        for j in range(width):
            step = first + j
            here, there = step % 2, (step + 1) % 2
            state = (size, phase, generator, n, m, blocks)
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


def block_poles(
    radius: cp.ndarray, angle: cp.ndarray, real_poles: cp.ndarray
) -> tuple[cp.ndarray, cp.ndarray]:
    """See :attr:`lticore.Rotation.block_poles`."""
    q, k = radius.shape[-1], real_poles.shape[-1]
    given = [cp.ascontiguousarray(x, dtype=cp.float64) for x in (radius, angle, real_poles)]
    modulus, phase = (cp.empty((*radius.shape[:-1], q + k), cp.float64) for _ in range(2))
    if modulus.size:
        grid, block = (-(-modulus.size // _THREADS),), (_THREADS,)
        arguments = (*given, modulus, phase, q, k, modulus.size)
        _kernel("stein.cu", "block_poles")(grid, block, arguments)
    return modulus, phase


def _summing(name: str, dtype: cp.dtype) -> cp.RawKernel:
    macros = (f"COMPLEX={int(dtype.kind == 'c')}", f"THREADS={_SUM_THREADS}", f"PARTS={_PARTS}")
    return _kernel("sums.cu", name, *macros)


def _stored(X: cp.ndarray) -> tuple[cp.ndarray, bool]:
    """X, or its transpose, whichever lies in memory without gaps, and whether it is that."""
    if not X.flags.c_contiguous and X.swapaxes(-1, -2).flags.c_contiguous:
        return X.swapaxes(-1, -2), True
    return cp.ascontiguousarray(X), False


def inner_product(X: cp.ndarray, Y: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.inner_product`."""
    n, m = X.shape[-2:]
    dtype, result = cp.result_type(X.dtype, Y.dtype, cp.float64), cp.empty(X.shape[:-2], cp.float64)
    if X.size == 0:
        result.fill(0)
        return result
    (X, X_transposed), (Y, Y_transposed) = (_stored(x.astype(dtype, copy=False)) for x in (X, Y))
    partial, done = cp.empty(result.size * _PARTS, cp.float64), cp.zeros(result.size, cp.int32)
    arguments = (X, Y, result, partial, done, n, m, int(X_transposed), int(Y_transposed))
    _summing("inner_product", dtype)((partial.size,), (_SUM_THREADS,), arguments)
    return result


def sizes_of_states(X: cp.ndarray, blocks: int) -> cp.ndarray:
    """See :func:`lticore.hankel.scales.sizes_of_states`."""
    n, m = X.shape[-2:]
    sizes = cp.empty(X.shape[:-1], cp.float64)
    if sizes.size:
        X, transposed = _stored(X)
        grid = (sizes.size // n * (n - blocks),)
        arguments = (X, sizes, n - blocks, blocks, m, int(transposed))
        _summing("sizes_of_states", X.dtype)(grid, (_SUM_THREADS,), arguments)
    return sizes


def balancing_exponents(
    b: cp.ndarray, c: cp.ndarray, drain: cp.ndarray
) -> tuple[cp.ndarray, cp.ndarray, cp.ndarray, cp.ndarray]:
    """See :func:`lticore.hankel.scales.balancing_exponents`."""
    u, x, y = (cp.empty(b.shape, cp.float64) for _ in range(3))
    e = cp.empty(b.shape[:-1], cp.float64)
    if e.size:
        arguments = (b, c, cp.ascontiguousarray(drain), u, x, y, e, b.shape[-1], drain.shape[-1])
        _summing("balancing_exponents", b.dtype)((e.size,), (_SUM_THREADS,), arguments)
    return u, x, y, e


def rotation_gradient(
    radius: cp.ndarray,
    angle: cp.ndarray,
    real_poles: cp.ndarray,
    left: tuple[cp.ndarray, cp.ndarray],
    right: tuple[cp.ndarray, cp.ndarray],
) -> tuple[cp.ndarray, cp.ndarray, cp.ndarray]:
    """See :func:`lticore.hankel.gradients.rotation_gradient_reference`."""
    pairs, modes = radius.shape[-1], radius.shape[-1] + real_poles.shape[-1]
    matrices = (left[0], right[0], left[1], right[1])
    given = [cp.ascontiguousarray(x) for x in (radius, angle, real_poles, *matrices)]
    results = [cp.empty_like(x) for x in given[:3]]
    if (size := left[0].size) > 0:
        grid = (size // left[0].shape[-1] ** 2 * modes,)
        arguments = (*given, *results, modes, pairs)
        _summing("rotation_gradient", left[0].dtype)(grid, (_SUM_THREADS,), arguments)
    return results[0], results[1], results[2]


def hermitian_part(X: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.hermitian_part`."""
    Y = cp.empty(X.shape, X.dtype)
    if X.size:
        _run_tiles("hermitian_part", X, 1, (cp.ascontiguousarray(X), Y, X.shape[-1]))
    return Y


def _run_tiles(name: str, X: cp.ndarray, times: int, arguments: tuple[object, ...]) -> None:
    """A kernel of polar.cu over the tiles of so many times the matrices of X."""
    n, side, rows = X.shape[-1], 32, 8
    tiles = -(-n // side)
    kernel = _kernel("polar.cu", name, f"COMPLEX={int(X.dtype.kind == 'c')}")
    kernel((times * X.size // (n * n) * tiles * tiles,), (side * rows,), arguments)


def weighted_gram(X: cp.ndarray, weights: cp.ndarray | None) -> cp.ndarray:
    """See :func:`lticore.matrices.factors.weighted_gram`."""
    if cp.cuda.get_current_stream().is_capturing():
        raise ArrayLibraryError(
            "CuPy does not multiply matrices while a CUDA graph is captured: call this outside, or "
            "capture the Hankel sums of lticore_torch"
        )
    left, right = X if weights is None else X * weights[..., None, :], adjoint(X)
    if X.size == 0 or X.dtype.char not in "dD":
        return left @ right
    Z = cp.empty((*X.shape[:-1], X.shape[-2]), X.dtype)
    _multiply_into(Z, left, right)
    return Z


def polar_steps(
    P: cp.ndarray,
    Q: cp.ndarray,
    K: cp.ndarray,
    scale: cp.ndarray,
    squares: tuple[tuple[float, float, float], ...],
) -> tuple[cp.ndarray, cp.ndarray, cp.ndarray]:
    """See :func:`lticore.matrices.geometric_mean.polar_steps_reference`; four launches a step."""
    if P.size == 0:
        return P, Q, P
    n, count, dtype = P.shape[-1], math.prod(P.shape[:-2]), cp.result_type(P.dtype, Q.dtype)
    results = [cp.empty(P.shape, dtype) for _ in range(2)]
    # X, H and Y one after the other: (H, Y) times (X, H) is one batch of products.
    X, H, Y = work = cp.empty((3, count, n, n), dtype)
    Z, L = cp.empty((2, count, n, n), dtype), cp.empty((count, n, n), dtype)

    def between(X0: cp.ndarray, Y0: cp.ndarray, targets: Sequence[cp.ndarray], step: int) -> None:
        s, _, d = squares[step]
        state = (X0, Y0, *targets, L, H, K, scale, int(step == 0), n, count, s, d)
        _run_tiles("next_step", P, 2, state)

    P, Q, K = (cp.ascontiguousarray(x, dtype) for x in (P, Q, K))
    between(P, Q, (X, Y), 0)
    for step, (_, c, _) in enumerate(squares, 1):
        if step > 1:
            _multiply_into(L, X, Y, plus=1.0)
        _multiply_into(H, L, L, times=c, plus=1.0)
        _multiply_into(Z, work[1:], work[:2])
        last = step == len(squares)
        between(Z[0], Z[1], results if last else (X, Y), -1 if last else step)
    return results[0], results[1], X.reshape(P.shape)


def _multiply_into(
    Z: cp.ndarray, X: cp.ndarray, Y: cp.ndarray, times: float = 1.0, plus: float = 0.0
) -> None:
    """Z ← times · X Y + plus · Z, by one call of cuBLAS, which for all its batches reads transposed
    matrices where they lie. CuPy's matmul copies them, and adds nothing."""
    (X, X_transposed), (Y, Y_transposed) = _stored(X), _stored(Y)
    (n, m), k = Z.shape[-2:], X.shape[-2 if X_transposed else -1]
    multiply = {"d": cp.cuda.cublas.dgemmStridedBatched, "D": cp.cuda.cublas.zgemmStridedBatched}
    factors = [np.array(x, Z.dtype) for x in (times, plus)]
    # Rows of ours are columns to cuBLAS: Zᵀ = Yᵀ Xᵀ.
    multiply[Z.dtype.char](
        cp.cuda.device.get_cublas_handle(),
        *(int(Y_transposed), int(X_transposed), m, n, k),
        factors[0].ctypes.data,
        *(_address(Y), k if Y_transposed else m, k * m),
        *(_address(X), n if X_transposed else k, n * k),
        factors[1].ctypes.data,
        *(_address(Z), m, n * m, Z.size // (n * m)),
    )


def _address(X: cp.ndarray) -> int:
    return int(X.data.ptr)


@cp.fuse(kernel_name="scale")  # type: ignore[untyped-decorator]
def _scale(X: cp.ndarray, *exponents: cp.ndarray) -> cp.ndarray:
    exponent = sum(exponents[1:], start=exponents[0])
    return cp.ldexp(X, exponent.astype(cp.int32))


def scaled(X: cp.ndarray, *exponents: cp.ndarray) -> cp.ndarray:
    """See :func:`lticore.systems.signals.scaled`."""
    if X.dtype.kind != "c":
        return _scale(X, *exponents)
    parts = cp.ascontiguousarray(X)[..., None].view(X.real.dtype)
    return _scale(parts, *(e[..., None] for e in exponents)).view(X.dtype)[..., 0]
