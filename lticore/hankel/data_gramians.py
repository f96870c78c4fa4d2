"""Gramians of what inputs excite and of what a loss notices, from data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..arrays.checks import is_single, like_precision, to_double
from ..arrays.linalg import adjoint_product, conjugate, row_blocks
from ..arrays.namespaces import Array, is_finite, is_numpy, namespace, zeros_like_shape
from ..equations.recurrence import state_recurrence
from ..equations.stability import NOTHING, offering
from ..errors import ArgumentError, NonFiniteError
from ..matrices.factors import hermitian_part
from ..systems.doors import SystemLike, as_system
from ..systems.quadratic import QuadraticOutputLTI, System, dense_forms, mapped
from ..systems.sequences import by_system, check_pair, check_signals, check_timing
from ..systems.structure import StateMatrix, adjoint_of, is_structured
from .gramians import controllability_gramian, observability_gramian

_NAMES = ("inputs", "cotangents")
#: States that are multiplied together at most, in numbers: a few MB on processors.
_AT_ONCE, _AT_ONCE_ON_DEVICE = 1 << 18, 1 << 26
#: Steps at least, where systems are many.
_FEWEST_STEPS = 64


@offering(NOTHING)
def data_gramians(
    sys: SystemLike[Array],
    batches: Iterable[tuple[Array | None, Array | None]],
    *,
    timing: Literal["delayed", "current"] = "delayed",
) -> tuple[Array, Array]:
    """(P, Q) of the states that given inputs excite and of those that a loss ℓ notices.

        P = mean Σ_k x_k x_kᴴ,        x_k the states under the inputs u
        Q = mean Σ_k λ_k λ_kᴴ,        λ_k = Aᴴ λ_{k+1} + Cᴴ g_k,   g_k = ∂ℓ/∂y_k,  λ_L = 0

    over the sequences, each from x = 0, summed over time. Leaving out states by a projection Π
    changes the loss by Σ_k λ_kᴴ (Π − 1) x_k to first order, so that σ_i² of these Gramians are
    squares of changes of the loss: values of several systems can be compared. White inputs of unit
    variance, and such cotangents, give L times the Gramians of the system, but for the L-th power
    of A. :func:`lticore.balanced_truncation` takes the pair as ``gramians``.

    Data are samples: of a continuous-time system give ``discretize(sys, step=…)``, which keeps the
    states under inputs that are held, so that the pair balances the system itself, too.

    Parameters
    ----------
    sys : LTI or QuadraticOutputLTI of n states, m inputs, p outputs
        With quadratic outputs Cᴴ g_k becomes Cᴴ g_k + 2 Σ_i g_ki M_i x_k: cotangents need inputs.
    batches : iterable of pairs (inputs (..., L, m), cotangents (..., L, p)), read once
        Either may be None; without any inputs P is the controllability Gramian of the system,
        without any cotangents Q the observability Gramian. L and the batch axes may differ from
        pair to pair; their last axes are those of the system's batch, and axes before them count
        as further sequences. A layer that runs backwards sees both reversed in time.
    timing : "delayed" or "current"
        As in :func:`lticore.simulate`.

    Returns
    -------
    P, Q : (..., n, n) Hermitian positive semidefinite arrays, accumulated in float64, in the
        precision of the system; real when it and the data are. Data in float32 meet B and C in
        float32: states are as exact as their inputs.

    Conditions: none on stability as long as the states stay finite, but for Gramians of the system.

    Cost: O(L n (n + m + p)) per sequence in memory of one batch of data; of a dense system in L
    steps of the interpreter for all sequences of a batch together. Quadratic outputs need memory
    for the states of a batch.

    CuPy: on the device; the host waits for each sequence.

    Raises
    ------
    ArgumentError
        For continuous time, no batches or no samples, something else than pairs, pairs of two None.
    ShapeError, DtypeError, NonFiniteError, ArrayLibraryError
    UnstableSystemError
        Where one of both is the Gramian of an unstable system.

    Source: Otto, Padovan & Rowley, Model reduction by balanced truncation of state and gradient
    covariance (2023); Lall, Marsden & Glavaški, Int. J. Robust Nonlinear Control 12 (2002).


    >>> sys, ones = lti.LTI([[0.5]], [[1.0]], [[1.0]]), np.ones((3, 1))
    >>> lti.data_gramians(sys, [(ones, ones)])  # x: 0, 1, 1.5;  λ: 1.75, 1.5, 1
    (array([[3.25]]), array([[6.3125]]))

    """
    sys = as_system(sys)
    check_timing(timing)
    full = mapped(to_double, sys)
    sums: list[Array | None] = [None, None]
    sequences = [0, 0]
    for number, batch in enumerate(batches):
        u, g = _signals(full, number, batch)
        with np.errstate(over="ignore", invalid="ignore"):
            for side, (x, total) in enumerate(zip((u, g), _grams(full, u, g, timing), strict=True)):
                if x is not None:
                    before = sums[side]
                    sums[side] = total if before is None else before + total
                    sequences[side] += _number_of_sequences(full, x)
    if max(sequences) == 0:
        raise ArgumentError("batches holds no samples: pass pairs (inputs, cotangents) with L ≥ 1")
    P, Q = (
        ordinary(full) if total is None else hermitian_part(total / count)
        for ordinary, total, count in zip(_ORDINARY, sums, sequences, strict=True)
    )
    if not all(is_finite(X) for X in (P, Q)):
        raise NonFiniteError(
            "states overflow under these inputs or cotangents: the system is unstable, or they are "
            "too large"
        )
    single = is_single(sys.B)
    return like_precision(P, single), like_precision(Q, single)


#: What stands for the side that no data are given for.
_ORDINARY = (controllability_gramian, observability_gramian)


def _signals(sys: System, number: int, batch: Any) -> list[Any]:
    """(inputs, cotangents) of a batch in float64; None where there are none, or no samples."""
    pair = check_pair(number, batch, _NAMES)
    if pair[0] is None and pair[1] is None:
        raise ArgumentError(f"batch {number} has neither inputs nor cotangents")
    if pair[0] is None and isinstance(sys, QuadraticOutputLTI):
        raise ArgumentError(
            f"batch {number} has no inputs, but what cotangents of quadratic outputs say depends "
            "on the states: give both"
        )
    names = [f"{name} of batch {number}" for name in _NAMES]
    found = check_signals(sys, names, [sys.inputs, sys.outputs], list(pair))
    data = slice(0, -2 - len(sys.batch_shape))
    return [None if x is None or 0 in (*x.shape[data], x.shape[-2]) else x for x in found]


def _number_of_sequences(sys: System, signal: Array) -> int:
    return math.prod(signal.shape[: signal.ndim - 2 - len(sys.batch_shape)])


def _grams(
    sys: System[Array], u: Array | None, g: Array | None, timing: str
) -> tuple[Array | None, Array | None]:
    """(..., n, n) Σ x_k x_kᴴ and Σ λ_k λ_kᴴ of a batch."""
    into, back = namespace(sys.B).matrix_transpose(sys.B), conjugate(sys.C)
    if isinstance(sys, QuadraticOutputLTI) and u is not None and g is not None:
        x = _states_under(sys.A, to_double(u) @ into, reverse=False)
        if timing == "delayed":
            start = zeros_like_shape(x, (*x.shape[:-2], 1, x.shape[-1]))
            x = namespace(x).concat([start, x[..., :-1, :]], axis=-2)
        drive = _drive_of_forms(sys, x, to_double(g), to_double(g) @ back)
        return _gram(sys, x), _gram(sys, _states_under(sys.A, drive, reverse=True))
    return (
        None if u is None else _gram_in_parts(sys, u, into, last=timing == "current"),
        None if g is None else _gram_in_parts(sys, g, back, reverse=True),
    )


def _drive_of_forms(sys: QuadraticOutputLTI[Array], x: Array, g: Array, drive: Array) -> Array:
    """What drives costates where y_i = … + xᴴ M_i x: dy_i = 2 Re⟨M_i x, dx⟩."""
    M = dense_forms(sys.M)
    for i in range(sys.outputs):
        turned = x @ namespace(x).matrix_transpose(M[..., i, :, :])
        drive = drive + 2 * g[..., i : i + 1] * turned
    return drive


def _gram_in_parts(
    sys: System[Array], signal: Array, into: Array, *, reverse: bool = False, last: bool = True
) -> Array:
    """Σ x xᴴ over the states that ``signal @ into`` drives, without the last one of each sequence
    unless ``last``. So many states at once that they stay in the cache: in memory they would
    take longer than all arithmetic."""
    xp, (*_, length, width) = namespace(signal), signal.shape
    count = _number_of_sequences(sys, signal)
    sequences = xp.reshape(signal, (count, *sys.batch_shape, length, width))
    each = max(1, math.prod(sys.batch_shape) * sys.order)
    at_once = _AT_ONCE if is_numpy(signal) else _AT_ONCE_ON_DEVICE
    # A step of dense systems goes through the interpreter: all sequences go together.
    together = max(1, at_once // (length * each)) if is_structured(sys.A) else count
    steps = max(_FEWEST_STEPS, at_once // (together * each))
    total: Any = 0.0
    for group in row_blocks(count, together):
        state = None
        for time in row_blocks(length, steps)[:: -1 if reverse else 1]:
            drive = _product_with_signal(sequences[group, ..., time, :], into)
            x = _states_under(sys.A, drive, reverse, state)
            state = x[..., 0 if reverse else -1, :]
            total = total + _gram(sys, x if last or time.stop < length else x[..., :-1, :])
    return total


def _product_with_signal(signal: Array, into: Array) -> Array:
    """signal @ into in float64. Data in float32 are multiplied in float32, which is as good as
    they are and twice as fast: in units of their largest, which leave no range."""
    if not is_single(signal):
        return signal @ into
    xp = namespace(signal)
    unit = _power_of_two(xp.max(xp.abs(signal), axis=-2, keepdims=True))
    weights = into * to_double(xp.matrix_transpose(unit))
    size = _power_of_two(xp.max(xp.abs(weights), axis=-2, keepdims=True))
    return ((signal / unit) @ like_precision(weights / size, single=True)) * size


def _power_of_two(x: Array) -> Array:
    """One at most x, more than half of it; 1 for zero."""
    xp = namespace(x)
    smallest = xp.finfo(x.dtype).smallest_normal
    return xp.where(x > 0, 2.0 ** xp.floor(xp.log2(xp.maximum(x, 0 * x + smallest))), 1 + 0 * x)


def _states_under(
    A: StateMatrix[Array], drive: Array, reverse: bool, start: Array | None = None
) -> Array:
    """States of A under ``drive``; reversed, costates: of Aᴴ, from the end."""
    if start is None:
        start = zeros_like_shape(drive, drive[..., 0, :].shape)
    return state_recurrence(adjoint_of(A) if reverse else A, drive, start, reverse)


def _gram(sys: System[Array], rows: Array) -> Array:
    x = by_system(sys, rows)
    return conjugate(adjoint_product(x, x))
