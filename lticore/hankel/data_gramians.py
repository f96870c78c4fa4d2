"""Gramians of what inputs excite and of what a loss notices, from data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..arrays.checks import is_complex, is_single, like_precision, to_double
from ..arrays.linalg import adjoint, adjoint_product, conjugate, real_part
from ..arrays.namespaces import Array, is_finite, namespace, zeros_like_shape
from ..equations.recurrence import state_recurrence
from ..equations.stability import NOTHING, offering
from ..errors import ArgumentError, NonFiniteError
from ..matrices.factors import hermitian_part
from ..systems.doors import SystemLike, as_system
from ..systems.modes import from_modes, is_real, to_modes
from ..systems.quadratic import QuadraticOutputLTI, System, dense_forms, mapped
from ..systems.sequences import by_system, check_pair, check_signals, check_timing
from ..systems.structure import StateMatrix, adjoint_of
from .gramians import controllability_gramian, observability_gramian

_NAMES = ("inputs", "cotangents")


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
        precision of the system; real when it and the data are.

    Conditions: none on stability as long as the states stay finite, but for Gramians of the system.

    Cost: O(L n (n + m + p)) per sequence in memory of one batch; of a dense system in L steps of
    the interpreter for all sequences of a batch together.

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
    sequences, real = [0, 0], is_real(full.A) and not any(map(is_complex, (full.B, full.C)))
    for number, batch in enumerate(batches):
        u, g = _signals(full, number, batch)
        real = real and not any(x is not None and is_complex(x) for x in (u, g))
        with np.errstate(over="ignore", invalid="ignore"):
            both = _states_and_costates(full, u, g, timing)
            for side, rows in enumerate(both):
                if rows is not None:
                    x = by_system(full, rows)
                    total, before = adjoint_product(x, x), sums[side]
                    sums[side] = total if before is None else before + total
                    sequences[side] += x.shape[-2] // rows.shape[-2]
    if max(sequences) == 0:
        raise ArgumentError("batches holds no samples: pass pairs (inputs, cotangents) with L ≥ 1")
    P, Q = (
        ordinary(full) if total is None else _gram_in_states(full, total / count, real)
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


def _states_and_costates(
    sys: System, u: Array | None, g: Array | None, timing: str
) -> tuple[Array | None, Array | None]:
    """Rows x_k and λ_k, (..., L, n), in the modes of a structured A."""
    A, xp = sys.A, namespace(sys.B)
    x = None
    if u is not None:
        x = _states_under(A, u @ xp.matrix_transpose(to_modes(A, sys.B)), reverse=False)
        if timing == "delayed":
            start = zeros_like_shape(x, (*x.shape[:-2], 1, x.shape[-1]))
            x = xp.concat([start, x[..., :-1, :]], axis=-2)
    if g is None:
        return x, None
    drive = g @ xp.matrix_transpose(to_modes(A, adjoint(sys.C)))
    if isinstance(sys, QuadraticOutputLTI) and x is not None:
        # y_i = xᴴ M_i x: dy_i = 2 Re⟨M_i x, dx⟩.
        states = xp.matrix_transpose(from_modes(A, xp.matrix_transpose(x)))
        M, forced = dense_forms(sys.M), zeros_like_shape(states, states.shape)
        for i in range(sys.outputs):
            turned = states @ xp.matrix_transpose(M[..., i, :, :])
            forced = forced + 2 * g[..., i : i + 1] * turned
        drive = drive + xp.matrix_transpose(to_modes(A, xp.matrix_transpose(forced)))
    return x, _states_under(A, drive, reverse=True)


def _states_under(A: StateMatrix, drive: Array, reverse: bool) -> Array:
    """States of A under ``drive``; reversed, costates: of Aᴴ, from the end."""
    start = zeros_like_shape(drive, drive[..., 0, :].shape)
    return state_recurrence(adjoint_of(A) if reverse else A, drive, start, reverse)


def _gram_in_states(sys: System, gram: Array, real: bool) -> Array:
    """Σ x xᴴ from Σ conj(x) xᵀ, the product of rows x, in the modes of a structured A."""
    A, X = sys.A, conjugate(gram)
    X = hermitian_part(from_modes(A, adjoint(from_modes(A, X))))
    return real_part(X) if real else X
