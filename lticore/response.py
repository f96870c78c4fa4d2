"""Responses of a system: simulation, impulse response, frequency response."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from ._arrays import Array, is_numpy, namespace, zeros_like_shape
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
from ._doors import as_linear, as_system
from ._hammarling import balance_dense, schur_form
from ._linalg import adjoint, complex_of, one_minus, real_part
from ._modes import from_modes, is_real, mode_poles, multiply, polar_modes, to_modes
from .errors import ArgumentError, ShapeError, SingularEquationError
from .quadratic import QuadraticOutputLTI, System, forms_of, quadratic_arrays, values_of
from .recurrence import linear_recurrence
from .structure import StateMatrix, is_structured, map_parameters
from .systems import LTI

#: Frequencies are taken in chunks of this many complex entries (64 MB).
_CHUNK = 1 << 22
#: From this many on, one Schur form costs less than solving for each of them.
_MANY = 32
#: States that a triangular solve takes one by one.
_BLOCK = 32
_ON_POLE = "a frequency coincides with a pole on the unit circle"


def simulate(
    sys: System,
    inputs: Array,
    *,
    initial: Array | None = None,
    timing: Literal["delayed", "current"] = "delayed",
) -> Array:
    """Outputs for given inputs.

        delayed:  x_{k+1} = A x_k + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_0
        current:  x_k = A x_{k−1} + B u_k,   y_k = C x_k + D u_k,    ``initial`` = x_{−1}

    "delayed" is the standard form, "current" what sequence layers compute: the strictly proper part
    one step earlier. Quadratic outputs add x_kᴴ M_i x_k to the i-th output.

    Parameters
    ----------
    sys : LTI or QuadraticOutputLTI
    inputs : (..., L, m) array
    initial : (..., n) array, optional, default zero
    timing : "delayed" or "current"

    Returns
    -------
    (..., L, p) array, computed in float64, in the common precision of system and inputs; real when
    all are. Conditions: none; unstable systems grow.

    Cost: O(L n (m + p)) structured, O(L n²) dense; quadratic outputs O(L p n²), or O(L p n c) for
    factors of rank c.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    """
    sys = as_system(sys)
    if timing not in ("delayed", "current"):
        raise ArgumentError(f"timing={timing!r} is not 'delayed' or 'current'")
    inputs = check_array("inputs", inputs, ndim=2)
    if inputs.shape[-1] != sys.inputs:
        raise ShapeError(
            f"inputs has shape {tuple(inputs.shape)}, but the system has {sys.inputs} inputs: "
            f"pass (..., L, {sys.inputs})"
        )
    given = [sys.B, inputs, *quadratic_arrays(sys)]
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
    if isinstance(sys, QuadraticOutputLTI):
        if is_structured(A):
            states = xp.matrix_transpose(from_modes(A, xp.matrix_transpose(states)))
        outputs = outputs + values_of(forms_of(sys), states)
    elif sys.D is not None:
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
    sys = as_linear(sys)
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
    solve, with an error of 2.2e-16 times the condition of e^{iω} I − A. On NumPy and for L ≥ 32 the
    condition is that after powers of two brought the rows and columns of A to about equal size.

    Cost: O(L n m p) structured; dense O(n³ + L n² m) on NumPy for L ≥ 32, by triangular systems in
    one Schur form, O(L n³) otherwise.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
    SingularEquationError
        Where a frequency meets a pole on the unit circle.
    """
    sys = as_linear(sys)
    omega = check_real("frequencies", check_array("frequencies", frequencies, ndim=1))
    if omega.ndim != 1:
        raise ShapeError(f"frequencies must be one-dimensional, but has shape {omega.shape}")
    omega = to_double(omega)
    xp = namespace(sys.B, omega)
    length = omega.shape[0]
    A, B, C = map_parameters(to_double, sys.A), to_double(sys.B), to_double(sys.C)
    respond: Callable[..., Array] = _respond_by_solving
    width = sys.order**2
    if is_structured(A):
        respond, width = _respond_in_modes, sys.order * sys.outputs
    elif length >= _MANY and is_numpy(B):
        A, B, C = _in_schur_form(A, B, C)
        respond, width = _respond_in_schur_form, sys.order * sys.inputs
    step = max(1, _CHUNK // max(1, width * math.prod(sys.batch_shape)))
    pieces = [
        respond(A, B, C, omega[start : min(start + step, length)])
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


def _in_schur_form(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    """(T, Uᴴ B, C U) for A = U T Uᴴ with triangular T, after the states were scaled."""
    T, modal_B, modal_C = (np.empty(X.shape, dtype=np.complex128) for X in (A, B, C))
    for index in np.ndindex(A.shape[:-2]):
        balanced_A, balanced_B, balanced_C, _ = balance_dense(A[index], B[index], C[index])
        T[index], U = schur_form(balanced_A)
        modal_B[index], modal_C[index] = adjoint(U) @ balanced_B, balanced_C @ U
    return T, modal_B, modal_C


def _respond_in_schur_form(
    T: np.ndarray, B: np.ndarray, C: np.ndarray, omega: np.ndarray
) -> np.ndarray:
    z = complex_of(np.cos(omega), np.sin(omega))
    if np.any(z[:, None] == np.linalg.diagonal(T)[..., None, :]):
        raise SingularEquationError(_ON_POLE)
    H = np.empty((*T.shape[:-2], C.shape[-2], len(z), B.shape[-1]), dtype=np.complex128)
    for index in np.ndindex(T.shape[:-2]):
        states = _solve_shifted(T[index], B[index], z)
        H[index] = (C[index] @ states).reshape(H.shape[-3:])
    return np.swapaxes(H, -3, -2)


def _solve_shifted(T: np.ndarray, B: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(n, L m) with (z_l I − T) X_l = B for upper triangular T: the last states first, for all
    frequencies at once; all work but that inside the blocks is in matrix products."""
    n, m = B.shape
    X = np.tile(B.astype(np.complex128), len(z))
    z = np.repeat(z, m)
    for end in range(n, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        X[start:end] += T[start:end, end:] @ X[end:]
        for i in range(end - 1, start - 1, -1):
            X[i] += T[i, i + 1 : end] @ X[i + 1 : end]
            X[i] /= z - T[i, i]
    return X


def _respond_by_solving(A: StateMatrix, B: Array, C: Array, omega: Array) -> Array:
    xp = namespace(B, omega)
    z = complex_of(xp.cos(omega), xp.sin(omega))
    pencil = z[:, None, None] * xp.eye(A.shape[-1], dtype=z.dtype) - A[..., None, :, :]
    try:
        states = xp.linalg.solve(pencil, xp.astype(B, z.dtype)[..., None, :, :])
    except np.linalg.LinAlgError:
        raise SingularEquationError(_ON_POLE) from None
    return xp.astype(C, z.dtype)[..., None, :, :] @ states
