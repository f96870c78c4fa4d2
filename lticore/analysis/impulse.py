"""Impulse and step responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.checks import (
    check_array,
    check_integer,
    check_real,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import (
    as_complex,
    complex_of,
    real_part,
)
from ..arrays.namespaces import (
    Array,
    asked_together,
    holds,
    is_finite,
    is_numpy,
    namespace,
    zeros_like_shape,
)
from ..equations.exponential import exponential
from ..equations.stability import in_unit_time
from ..errors import ArgumentError, ArrayLibraryError, NonFiniteError
from ..matrices.balance import balance_dense
from ..sampling.modes import held_inputs
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, replaced
from ..systems.modes import (
    is_real,
    mode_poles,
    multiply,
    signals_in_modes,
)
from ..systems.signals import product_of, scaled, unit_signals
from ..systems.structure import (
    StateMatrix,
    Structure,
    is_structured,
    same_in_blocks,
)

#: Binary exponents of B and C together up to which states fit beside faint ones.
_LARGE = 500
#: The exponent of rows without entries, far below those of all others.
_ABSENT = -(2.0**20)
#: Binary exponents of states from which on room is left for terms that cancel, and how much.
_NEARLY_TOO_LARGE, _ROOM = 900.0, 200.0


@asked_together
def impulse_response(sys: LinearLike[Array], steps: int | Array) -> Array:
    """Markov parameters h_0 = D, h_k = C A^{k−1} B; in continuous time h(t) = C e^{At} B.

    Parameters
    ----------
    steps : int ≥ 1; in continuous time a (L,) real array of times t ≥ 0, in any order
        The impulse D δ(t) that continuous systems pass on at t = 0 is left out.

    Returns
    -------
    (..., steps, p, m) array: D, C B, C A B, …, or the values at the times; computed in float64,
    returned in the precision of the system.

    Cost: O(steps · n m p), plus O(steps · n² m) when dense, and in continuous time O(n³) for each
    distinct distance between neighbouring times.

    CuPy: on the device; the host waits once.

    Raises
    ------
    ArgumentError
        For steps < 1, and times before 0.
    ArrayLibraryError
        For dense continuous-time systems that are not NumPy arrays.
    NonFiniteError
        In continuous time where the response grows beyond all numbers.


    >>> lti.impulse_response(lti.LTI([[0.5]], [[1.0]], [[1.0]], 3.0), 4).ravel()
    array([3.  , 1.  , 0.5 , 0.25])

    """
    sys = as_linear(sys, continuous=True)
    if sys.is_continuous:
        return _at_times(sys, steps, _impulse_in_modes, _impulse_by_exponentials)
    steps = check_integer("steps", steps, minimum=1)
    xp = namespace(sys.B)
    full: LTI = in_double(sys)
    A, B, C = full.A, full.B, full.C
    if is_structured(A):
        B, C = _even_states(A, B, C)
    elif is_numpy(B):
        A, B, C, _ = balance_dense(A, B, C)
    # States in units of the outputs underflow only where the response does; beyond 2^500, which
    # leaves room for faint poles, these units are kept as exponents that follow the states.
    unit, b, c = unit_signals(replaced(full, A=A, B=B, C=C))
    size = (b + c)[..., None, None]
    far = not holds(size <= _LARGE)
    X, rest = _in_even_rows(A, unit.B, size) if far else (scaled(unit.B, size), size)
    terms = []
    for _ in range(steps - 1):
        terms.append(_product(unit.C, X, rest) if far else unit.C @ X)
        X, rest = _next_in_even_rows(A, X, rest) if far else (multiply(A, X), rest)
    dtype = xp.result_type(C, X)
    D = full.D
    if D is None:
        D = zeros_like_shape(B, (*sys.batch_shape, sys.outputs, sys.inputs))
    response = xp.stack([xp.astype(term, dtype) for term in (D, *terms)], axis=-3)
    return like_precision(response, is_single(sys.B))


@asked_together
def step_response(sys: LinearLike[Array], steps: int | Array) -> Array:
    """Outputs for inputs that are 1 from 0 on, each input alone: Σ_{j≤k} h_j; in continuous time
    D + ∫_0^t C e^{Aτ} B dτ.

    Parameters
    ----------
    steps : int ≥ 1; in continuous time a (L,) real array of times t ≥ 0, in any order

    Returns
    -------
    (..., steps, p, m) array: D, D + C B, …, or the values at the times; computed in float64,
    returned in the precision of the system.

    Cost and errors as for :func:`lticore.impulse_response`.

    CuPy: on the device; the host waits once.

    >>> sys = lti.LTI([[-1.0]], [[1.0]], [[1.0]], dt=0)
    >>> lti.step_response(sys, [0.5, 1.0]).ravel().round(4)  # 1 − e^{−t}
    array([0.3935, 0.6321])
    """
    sys = as_linear(sys, continuous=True)
    if not sys.is_continuous:
        h = impulse_response(in_double(sys), steps)
        return like_precision(namespace(h).cumulative_sum(h, axis=-3), is_single(sys.B))
    return _at_times(sys, steps, _step_in_modes, _step_by_exponentials)


def _at_times(
    sys: LTI, times: Any, in_modes: Callable[..., Any], by_exponentials: Callable[..., Any]
) -> Any:
    """A response in continuous time, by the function for the kind of its A."""
    t = to_double(check_real("times", check_array("times", times, ndim=1)))
    if t.ndim != 1 or not holds(t >= 0):
        raise ArgumentError("the times of a continuous-time response are (L,) and at least 0")
    full = in_double(sys)
    with np.errstate(over="ignore", invalid="ignore"):
        h = (in_modes if is_structured(full.A) else by_exponentials)(full, t)
    if not is_finite(h):
        raise NonFiniteError(
            "the response overflows: it grows beyond all numbers until the last of the times, up "
            f"to {float(namespace(t).max(t)):.3g}. Ask for earlier ones, or scale B or C down"
        )
    real = is_real(full.A) and not is_complex(full.B)
    return like_precision(real_part(h) if real else h, is_single(sys.B))


def _impulse_in_modes(sys: LTI[Array], t: Array) -> Array:
    xp, A = namespace(sys.B, t), sys.A
    decay, frequency = (x[..., None, :] for x in A.decay_modes)
    size, turn = xp.exp(-decay * t[:, None]), frequency * t[:, None]
    modes = complex_of(size * xp.cos(turn), size * xp.sin(turn))
    B, C = (as_complex(X)[..., None, :, :] for X in signals_in_modes(A, sys.B, sys.C))
    return product_of(C * modes[..., None, :], B)


def _step_in_modes(sys: LTI[Array], t: Array) -> Array:
    xp, A = namespace(sys.B, t), sys.A
    _, held = held_inputs(mode_poles(A)[..., None, :], t[:, None])
    B, C = (as_complex(X)[..., None, :, :] for X in signals_in_modes(A, sys.B, sys.C))
    y = product_of(C * held[..., None, :], B)
    return y if sys.D is None else y + xp.astype(sys.D, y.dtype)[..., None, :, :]


def _impulse_by_exponentials(sys: LTI, t: Any) -> np.ndarray:
    return _by_exponentials(sys, t, driven=False)


def _step_by_exponentials(sys: LTI, t: Any) -> np.ndarray:
    y = _by_exponentials(sys, t, driven=True)
    return y if sys.D is None else y + sys.D[..., None, :, :]


def _by_exponentials(sys: LTI, t: Any, driven: bool) -> np.ndarray:
    """From one time to the next by e^{AΔ}, in the best units of the states: of states that start
    at B, or from rest with inputs that are held."""
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "responses over time of dense continuous-time systems need NumPy arrays"
        )
    order = np.argsort(t, kind="stable")
    distances = np.diff(t[order], prepend=0.0)
    timed, time = in_unit_time(sys)
    h = np.empty((*sys.batch_shape, len(t), sys.outputs, sys.inputs), np.result_type(sys.C, sys.B))
    for index in np.ndindex(sys.batch_shape):
        A, B, C, _ = balance_dense(timed.A[index], timed.B[index], timed.C[index], True)
        # B/2^k and C/2^k are those of a unit of time 4^k as long.
        rate, X = 4.0 ** float(time[index]), B.astype(h.dtype)
        gain = 1.0 if driven else rate
        X = 0 * X if driven else X
        found: dict[float, tuple[np.ndarray, np.ndarray]] = {}
        for place, distance in zip(order, distances, strict=True):
            if distance > 0:
                if distance not in found:
                    # ∫ of B over rate · distance, in the unit of time in which A is.
                    time_step = rate * distance
                    found[distance] = exponential(A * time_step, B * time_step)
                power, held = found[distance]
                X = power @ X + held if driven else power @ X
            h[index][place] = gain * (C @ X)
    return h


def _even_states(A: Structure[Array], B: Array, C: Array) -> tuple[Array, Array]:
    """B and C of a structured system with states in powers of two, one for both of a block, in
    which rows of B and columns of C are about equally large."""
    xp = namespace(B)
    b, c = (_row_exponents(A, X)[..., 0] for X in (B, xp.matrix_transpose(C)))
    units = 2.0 ** xp.round((c - b) / 2)
    return B * units[..., :, None], C / units[..., None, :]


def _row_exponents(A: StateMatrix[Array], X: Array) -> Array:
    """(..., n, 1) log2 of the largest entries of the rows of X, one for both states of a block;
    0 of zeros."""
    xp = namespace(X)
    x = same_in_blocks(xp.maximum, A, xp.max(xp.abs(X), axis=-1))
    seen = (x > 0) & (x < xp.inf)
    return xp.round(xp.log2(xp.where(seen, x, xp.ones_like(x))))[..., None]


def _in_even_rows(A: StateMatrix[Array], X: Array, rest: Array) -> tuple[Array, Array]:
    """(X', rest') with 2^rest' X' = 2^rest X and rows of X' of about size one."""
    row = _row_exponents(A, X)
    return scaled(X, -row), rest + row


def _next_in_even_rows(A: StateMatrix[Array], X: Array, rest: Array) -> tuple[Array, Array]:
    """The same of A (2^rest X)."""
    if is_structured(A):
        return _in_even_rows(A, multiply(A, X), rest)
    # Poles that are far smaller than entries of A, as in companion forms, spread states over more
    # than the range of numbers: each has an exponent of its own, that of its largest term.
    xp = namespace(A, X)
    before = xp.matrix_transpose(rest)
    A = xp.where(xp.any(X != 0, axis=-1)[..., None, :], A, xp.zeros_like(A))
    moved = A != 0
    size = xp.round(xp.log2(xp.abs(xp.where(moved, A, xp.ones_like(A)))))
    size = xp.where(moved, size + before, _ABSENT + 0 * before)
    largest = xp.max(size, axis=-1, keepdims=True)
    return _in_even_rows(A, scaled(A, before - largest) @ X, largest)


def _product(C: Array, X: Array, exponent: Array) -> Array:
    """C (2^exponent X), for exponents of rows of about size one that are too large for numbers."""
    xp = namespace(X)
    exponent = xp.minimum(exponent, 2000.0 + 0 * exponent)
    half = xp.floor(exponent / 2)
    # Terms beyond the largest number may cancel.
    room = xp.clip(xp.max(exponent, axis=-2, keepdims=True) - _NEARLY_TOO_LARGE, 0.0, _ROOM)
    left, right = scaled(C, xp.matrix_transpose(half)), scaled(X, exponent - half - room)
    return scaled(left @ right, room)
