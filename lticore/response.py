"""Responses of a system: simulation, impulse response, frequency response."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ._arrays import Array, namespace, zeros_like_shape
from ._check import (
    broadcast_batches,
    check_array,
    check_integer,
    check_real,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ._linalg import adjoint, complex_of, one_minus, real_part
from ._modes import is_real, mode_poles, multiply, polar_modes, to_modes
from .errors import ArgumentError, ShapeError, SingularEquationError
from .recurrence import linear_recurrence
from .structure import StateMatrix, is_structured, map_parameters
from .systems import LTI

#: Frequencies are taken in chunks of this many complex entries (64 MB).
_CHUNK = 1 << 22
_ON_POLE = "a frequency coincides with a pole on the unit circle"


def simulate(
    sys: LTI,
    inputs: Array,
    *,
    initial: Array | None = None,
    timing: Literal["delayed", "current"] = "delayed",
) -> Array:
    """Outputs for given inputs.

        delayed:  x_{k+1} = A x_k + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_0
        current:  x_k = A x_{k−1} + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_{−1}

    "delayed" is the standard form, "current" what sequence layers compute: the strictly proper part
    one step earlier.

    Parameters
    ----------
    inputs : (..., L, m) array
    initial : (..., n) array, optional, default zero
    timing : "delayed" or "current"

    Returns
    -------
    (..., L, p) array, computed in float64, in the common precision of system and inputs; real when
    all are. Conditions: none; unstable systems grow.

    Cost: O(L n (m + p)) structured, O(L n²) dense.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    """
    if timing not in ("delayed", "current"):
        raise ArgumentError(f"timing={timing!r} is not 'delayed' or 'current'")
    inputs = check_array("inputs", inputs, ndim=2)
    if inputs.shape[-1] != sys.inputs:
        raise ShapeError(
            f"inputs has shape {tuple(inputs.shape)}, but the system has {sys.inputs} inputs: "
            f"pass (..., L, {sys.inputs})"
        )
    given = [sys.B, inputs]
    batches = {"system": sys.batch_shape, "inputs": tuple(inputs.shape[:-2])}
    if initial is not None:
        initial = check_array("initial", initial, ndim=1)
        if initial.shape[-1] != sys.order:
            raise ShapeError(
                f"initial has {initial.shape[-1]} states, but the system has {sys.order}"
            )
        given.append(initial)
        batches["initial"] = tuple(initial.shape[:-1])
    xp = namespace(*given)
    batch = broadcast_batches(**batches)
    real = is_real(sys.A) and not any(is_complex(x) for x in given)

    A = map_parameters(to_double, sys.A)
    u, B, C = to_double(inputs), to_double(sys.B), to_double(sys.C)
    start = zeros_like_shape(B[..., 0], (sys.order,)) if initial is None else to_double(initial)
    if is_structured(A):
        # Decoupled in the modes: C U (recurrence of Uᴴ B u).
        B, C = to_modes(A, B), adjoint(to_modes(A, adjoint(C)))
        start = to_modes(A, start[..., None])[..., 0]
        poles = mode_poles(A)
        states = linear_recurrence(poles, u @ xp.matrix_transpose(B), initial=start)
    else:
        states = _step_through(A, u @ xp.matrix_transpose(B), start)
    if timing == "delayed" and inputs.shape[-2]:
        first = xp.broadcast_to(xp.astype(start, states.dtype), (*batch, sys.order))
        states = xp.concat([first[..., None, :], states[..., :-1, :]], axis=-2)
    outputs = states @ xp.matrix_transpose(C)
    if sys.D is not None:
        outputs = outputs + u @ xp.matrix_transpose(to_double(sys.D))
    outputs = real_part(outputs) if real else outputs
    return like_precision(outputs, all(is_single(x) for x in given))


def _step_through(A: Array, drive: Array, start: Array) -> Array:
    """States of a dense system, one step at a time."""
    xp = namespace(A, drive, start)
    state, states = start, []
    for k in range(drive.shape[-2]):
        state = (A @ state[..., None])[..., 0] + drive[..., k, :]
        states.append(state)
    return xp.stack(states, axis=-2) if states else drive


def impulse_response(sys: LTI, steps: int) -> Array:
    """Markov parameters h_0 = D, h_k = C A^{k−1} B.

    Returns
    -------
    (..., steps, p, m) array: D, C B, C A B, …; computed in float64, returned in the precision of
    the system.

    Cost: O(steps · n m p), plus O(steps · n² m) when dense.

    Raises
    ------
    ArgumentError
        For steps < 1.
    """
    steps = check_integer("steps", steps, minimum=1)
    xp = namespace(sys.B)
    A = map_parameters(to_double, sys.A)
    C, X = to_double(sys.C), to_double(sys.B)
    terms = []
    for _ in range(steps - 1):
        terms.append(C @ X)
        X = multiply(A, X)
    dtype = (C @ X).dtype
    D = sys.D
    if D is None:
        D = zeros_like_shape(sys.B, (*sys.batch_shape, sys.outputs, sys.inputs))
    response = xp.stack([xp.astype(term, dtype) for term in (D, *terms)], axis=-3)
    return like_precision(response, is_single(sys.B))


def frequency_response(sys: LTI, frequencies: Array) -> Array:
    """H(e^{iω}) = C (e^{iω} I − A)⁻¹ B + D.

    Parameters
    ----------
    frequencies : (L,) real array
        ω in radians per sample.

    Returns
    -------
    (..., L, p, m) complex array, computed in float64, returned in the precision of the system.

    Conditions: no pole at e^{iω}.

    Accuracy: structured systems keep their digits next to poles near the unit circle; dense ones
    solve, with an error of 2.2e-16 times the condition of e^{iω} I − A.

    Cost: O(L n m p) structured, O(L n³) dense.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
    SingularEquationError
        Where a frequency meets a pole on the unit circle.
    """
    omega = check_real("frequencies", check_array("frequencies", frequencies, ndim=1))
    if omega.ndim != 1:
        raise ShapeError(f"frequencies must be one-dimensional, but has shape {omega.shape}")
    omega = to_double(omega)
    xp = namespace(sys.B, omega)
    A = map_parameters(to_double, sys.A)
    respond = _respond_in_modes if is_structured(A) else _respond_by_solving
    width = sys.order * (sys.outputs if is_structured(A) else sys.order)
    step = max(1, _CHUNK // (width * max(1, math.prod(sys.batch_shape))))
    length = omega.shape[0]
    pieces = [
        respond(A, to_double(sys.B), to_double(sys.C), omega[start : min(start + step, length)])
        for start in range(0, max(1, length), step)
    ]
    H = xp.concat(pieces, axis=-3)
    if sys.D is not None:
        H = H + to_double(sys.D)[..., None, :, :]
    return like_precision(H, is_single(sys.B))


def _respond_in_modes(A: StateMatrix, B: Array, C: Array, omega: Array) -> Array:
    # 1/(z − λ) = conj z/(1 − λ conj z): the second form keeps its digits near the unit circle.
    xp = namespace(B, omega)
    radius, phase = (x[..., None, :] for x in polar_modes(A))
    distance = one_minus(1 - radius, radius, phase - omega[:, None])
    if bool(xp.any(distance == 0)):
        raise SingularEquationError(_ON_POLE)
    resolvent = complex_of(xp.cos(omega), -xp.sin(omega))[:, None] / distance
    modal_B, modal_C = to_modes(A, B), adjoint(to_modes(A, adjoint(C)))
    return (modal_C[..., None, :, :] * resolvent[..., None, :]) @ xp.astype(
        modal_B, resolvent.dtype
    )[..., None, :, :]


def _respond_by_solving(A: StateMatrix, B: Array, C: Array, omega: Array) -> Array:
    xp = namespace(B, omega)
    z = complex_of(xp.cos(omega), xp.sin(omega))
    pencil = z[:, None, None] * xp.eye(A.shape[-1], dtype=z.dtype) - A[..., None, :, :]
    try:
        states = xp.linalg.solve(pencil, xp.astype(B, z.dtype)[..., None, :, :])
    except np.linalg.LinAlgError:
        raise SingularEquationError(_ON_POLE) from None
    return xp.astype(C, z.dtype)[..., None, :, :] @ states
