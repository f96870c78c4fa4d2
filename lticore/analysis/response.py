"""Responses of a system: simulation, impulse response, frequency response."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from ..arrays.checks import (
    broadcast_batches,
    check_array,
    check_integer,
    check_real,
    is_complex,
    is_single,
    like_precision,
    to_double,
)
from ..arrays.linalg import (
    EPSILON,
    adjoint,
    as_complex,
    complex_of,
    one_minus,
    real_part,
)
from ..arrays.namespaces import Array, asked_together, holds, is_numpy, namespace, zeros_like_shape
from ..equations.dense import schur_forms
from ..equations.exponential import exponential
from ..equations.recurrence import state_recurrence
from ..equations.shifted import solve_shifted
from ..equations.stability import in_unit_time
from ..errors import ArgumentError, ArrayLibraryError, ShapeError
from ..matrices.balance import balance_dense, radius_exponent
from ..systems.doors import LinearLike, SystemLike, as_linear, as_system
from ..systems.lti import LTI, in_double, replaced
from ..systems.modes import (
    from_modes,
    is_real,
    multiply,
    signals_in_modes,
    to_modes,
)
from ..systems.quadratic import (
    QuadraticOutputLTI,
    forms_of,
    quadratic_arrays,
    values_of,
)
from ..systems.sequences import check_timing
from ..systems.signals import scaled, unit_signals
from ..systems.structure import (
    StateMatrix,
    Structure,
    is_structured,
    map_parameters,
    same_in_blocks,
)

#: Frequencies are taken in chunks of this many complex entries (64 MB).
_CHUNK = 1 << 22
#: From this many on, one Schur form costs less than solving for each of them.
_MANY = 32
#: Binary exponents of B and C together up to which states fit beside faint ones.
_LARGE = 500
#: The exponent of rows without entries, far below those of all others.
_ABSENT = -(2.0**20)
#: Binary exponents of states from which on room is left for terms that cancel, and how much.
_NEARLY_TOO_LARGE, _ROOM = 900.0, 200.0


@asked_together
def simulate(
    sys: SystemLike[Array],
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

    CuPy: on the device; one launch for the recurrence of structured A, and one wait.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
    """
    sys = as_system(sys)
    check_timing(timing)
    inputs = check_array("inputs", inputs, ndim=2)
    if inputs.shape[-1] != sys.inputs:
        raise ShapeError(
            f"inputs has shape {tuple(inputs.shape)}, but the system has {sys.inputs} inputs: "
            f"pass (..., L, {sys.inputs})"
        )
    given: list[Any] = [sys.B, inputs, *quadratic_arrays(sys)]
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
    # Decoupled in the modes: C U (recurrence of Uᴴ B u).
    B, C = signals_in_modes(A, B, C)
    start = to_modes(A, start[..., None])[..., 0]
    states = state_recurrence(A, u @ xp.matrix_transpose(B), start)
    if timing == "delayed" and inputs.shape[-2]:
        first = xp.broadcast_to(xp.astype(start, states.dtype), (*batch, sys.order))
        states = xp.concat([first[..., None, :], states[..., :-1, :]], axis=-2)
    outputs = states @ xp.matrix_transpose(C)
    if isinstance(sys, QuadraticOutputLTI):
        states = xp.matrix_transpose(from_modes(A, xp.matrix_transpose(states)))
        outputs = outputs + values_of(forms_of(sys), states)
    elif sys.D is not None:
        outputs = outputs + u @ xp.matrix_transpose(to_double(sys.D))
    outputs = real_part(outputs) if real else outputs
    return like_precision(outputs, all(is_single(x) for x in given))


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
    """
    sys = as_linear(sys, continuous=True)
    if sys.is_continuous:
        return _impulse_at(sys, steps)
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


def _impulse_at(sys: LTI, times: Any) -> Any:
    """:func:`impulse_response` in continuous time."""
    t = to_double(check_real("times", check_array("times", times, ndim=1)))
    if t.ndim != 1 or not holds(t >= 0):
        raise ArgumentError(
            "the times of a continuous-time impulse response are (L,) and at least 0"
        )
    full = in_double(sys)
    by_time = _impulse_in_modes if is_structured(full.A) else _impulse_by_exponentials
    h = by_time(full, t)
    real = is_real(full.A) and not is_complex(full.B)
    return like_precision(real_part(h) if real else h, is_single(sys.B))


def _impulse_in_modes(sys: LTI[Array], t: Array) -> Array:
    xp, A = namespace(sys.B, t), sys.A
    decay, frequency = (x[..., None, :] for x in A.decay_modes)
    size, turn = xp.exp(-decay * t[:, None]), frequency * t[:, None]
    modes = complex_of(size * xp.cos(turn), size * xp.sin(turn))
    B, C = (as_complex(X)[..., None, :, :] for X in signals_in_modes(A, sys.B, sys.C))
    return (C * modes[..., None, :]) @ B


def _impulse_by_exponentials(sys: LTI, t: Any) -> np.ndarray:
    """From one time to the next by e^{AΔ}, in the best units of the states."""
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the impulse response of a dense continuous-time system needs NumPy arrays"
        )
    order = np.argsort(t, kind="stable")
    distances = np.diff(t[order], prepend=0.0)
    timed, time = in_unit_time(sys)
    h = np.empty((*sys.batch_shape, len(t), sys.outputs, sys.inputs), np.result_type(sys.C, sys.B))
    for index in np.ndindex(sys.batch_shape):
        A, B, C, _ = balance_dense(timed.A[index], timed.B[index], timed.C[index], True)
        # B/2^k and C/2^k are those of a unit of time 4^k as long.
        rate, X = 4.0 ** float(time[index]), B.astype(h.dtype)
        found: dict[float, np.ndarray] = {}
        for place, distance in zip(order, distances, strict=True):
            if distance > 0:
                if distance not in found:
                    found[distance] = exponential(A * (rate * distance), np.eye(len(A)))[0]
                X = found[distance] @ X
            h[index][place] = rate * (C @ X)
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


@asked_together
def frequency_response(sys: LinearLike[Array], frequencies: Array) -> Array:
    """H(e^{iω}) = C (e^{iω} I − A)⁻¹ B + D, in continuous time H(iω) = C (iω I − A)⁻¹ B + D.

    Parameters
    ----------
    frequencies : (L,) real array
        ω in radians per sample, in continuous time in rad/s.

    Returns
    -------
    (..., L, p, m) complex array, computed in float64, returned in the precision of the system.

    Where e^{iω}, or iω, is a pole the response is complex infinity: for structured A in the entries
    whose residue does not vanish, the others being finite; for dense A in all entries but those of
    zero columns of B and zero rows of C, and only if e^{iω} I − A is singular to the last digit, as
    for an integrator that is written as 1 (or 0). Other frequencies are not affected.

    Accuracy: structured systems keep their digits next to poles near the unit circle; dense ones,
    in the best units of their states on NumPy, solve with an error of about
    2.2e-16 · |C| |(e^{iω} I − A)⁻¹| (|A| + I) |(e^{iω} I − A)⁻¹ B|, entry by entry: that of the
    data, if each entry of A is known to its last digit (measured in docs/accuracy.md).

    Cost: O(L n m p) structured; dense O(n³ + L n² m) on NumPy for L ≥ 32, by triangular systems in
    one Schur form and a step of refinement, O(L n³) otherwise.

    CuPy: on the device; the host waits once.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError
    """
    sys = as_linear(sys, continuous=True)
    omega = check_real("frequencies", check_array("frequencies", frequencies, ndim=1))
    if omega.ndim != 1:
        raise ShapeError(f"frequencies must be one-dimensional, but has shape {omega.shape}")
    omega = to_double(omega)
    H = responder(sys, omega.shape[0])(omega)
    return like_precision(H, is_single(sys.B))


def responder(sys: LTI, count: int) -> Callable[[Any], Any]:
    """ω ↦ H in float64, by the method of :func:`frequency_response` for ``count`` frequencies."""
    A, B, C = map_parameters(to_double, sys.A), to_double(sys.B), to_double(sys.C)
    continuous, time = sys.is_continuous, 0.0
    respond: Callable[[Any], Any]
    if is_structured(A):
        modal = _respond_in_continuous_modes if continuous else _respond_in_modes
        respond, width = partial(modal, A, B, C), sys.order * sys.outputs
    else:
        if is_numpy(B):
            if continuous:
                # A/4^k at ω/4^k, with B/2^k and C/2^k: the same response, and A of about size one.
                time = float(np.max(np.rint(radius_exponent(A) / 2), initial=0))
                A, B, C = A * 4.0**-time, B * 2.0**-time, C * 2.0**-time
            A, B, C, _ = balance_dense(A, B, C, continuous)
        by_solving, width = partial(_respond_by_solving, A, B, C, continuous), sys.order**2
        respond = by_solving
        if count >= _MANY and is_numpy(B):
            respond = _schur_response(A, B, C, continuous, by_solving)
            width = sys.order * sys.inputs
    step = max(1, _CHUNK // max(1, width * math.prod(sys.batch_shape)))

    def in_chunks(omega: Array) -> Array:
        length = omega.shape[0]
        omega = omega * 4.0**-time
        pieces = [
            respond(omega[start : min(start + step, length)])
            for start in range(0, max(1, length), step)
        ]
        H = namespace(omega).concat(pieces, axis=-3)
        return H if sys.D is None else H + to_double(sys.D)[..., None, :, :]

    return in_chunks


def _respond_in_modes(A: Structure[Array], B: Array, C: Array, omega: Array) -> Array:
    # 1/(z − λ) = conj z/(1 − λ conj z): the second form keeps its digits near the unit circle.
    xp = namespace(B, omega)
    radius, phase = (x[..., None, :] for x in A.polar_modes)
    distance = one_minus(1 - radius, radius, phase - omega[:, None])
    conjugate_z = complex_of(xp.cos(omega), -xp.sin(omega))[:, None]
    return _sum_of_modes(A, B, C, distance, conjugate_z)


def _respond_in_continuous_modes(A: Structure[Array], B: Array, C: Array, omega: Array) -> Array:
    decay, frequency = (x[..., None, :] for x in A.decay_modes)
    distance = complex_of(decay, omega[:, None] - frequency)
    return _sum_of_modes(A, B, C, distance, 1.0)


def _sum_of_modes(
    A: Structure[Array], B: Array, C: Array, distance: Array, numerator: Array | float
) -> Array:
    """Σ c b · numerator/distance over the modes; those met, at distance 0, make entries infinite in
    which they have a residue."""
    xp = namespace(distance)
    met = distance == 0
    # Modes that are met are left out here, and looked at by themselves.
    resolvent = xp.where(met, 0 * distance, numerator / xp.where(met, 1 + distance, distance))
    modal_B, modal_C = (as_complex(X)[..., None, :, :] for X in signals_in_modes(A, B, C))
    H = (modal_C * resolvent[..., None, :]) @ modal_B
    if not holds(~met):
        residues = (modal_C * xp.astype(met, H.dtype)[..., None, :]) @ modal_B
        H = xp.where(residues != 0, xp.full_like(H, math.inf), H)
    return H


def points_of(omega: Array, continuous: bool) -> Array:
    """e^{iω}, or iω in continuous time."""
    if continuous:
        return complex_of(0 * omega, omega)
    xp = namespace(omega)
    return complex_of(xp.cos(omega), xp.sin(omega))


def _schur_response(
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    continuous: bool,
    by_solving: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """ω ↦ H by A = U T Uᴴ with triangular T, (..., L, p, m), and one step of refinement with A.

    T is that of a matrix eps ‖A‖ away from A, which shows at sharp peaks; the residual with A
    itself takes it back. Where z I − T is singular to that rounding it cannot: at eigenvalues of T,
    and near those of several states, which rounding carries further, where solutions grow as at
    one. These frequencies are solved for alone.
    """
    forms = schur_forms(A)
    largest = 1 + max((float(np.linalg.norm(T)) for T, _ in forms.values()), default=0)

    def respond(omega: np.ndarray) -> np.ndarray:
        z = points_of(omega, continuous)
        H = np.empty((*A.shape[:-2], len(z), C.shape[-2], B.shape[-1]), dtype=np.complex128)
        met = np.any([_meets(z, T) for T, _ in forms.values()], axis=0)
        # In their place something harmless is solved for here.
        shifts = np.repeat(np.where(met, largest, z), B.shape[-1])
        for index, (T, U) in forms.items():
            inputs = np.tile(B[index], len(z))
            X = solve_shifted(T, adjoint(U) @ inputs, shifts)
            met |= _grown(X, inputs, T).reshape(len(z), B.shape[-1]).any(axis=-1)
            X = U @ X
            rest = inputs - shifts * X + A[index] @ X
            X += U @ solve_shifted(T, adjoint(U) @ rest, shifts)
            outputs = (C[index] @ X).reshape(C.shape[-2], len(z), B.shape[-1])
            H[index] = np.swapaxes(outputs, 0, 1)
        if met.any():
            H[..., met, :, :] = by_solving(omega[met])
        return H

    return respond


def _meets(z: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Which z are eigenvalues of an upper triangular T to the rounding of a Schur form."""
    distance = np.abs(z[:, None] - np.diagonal(T)).min(axis=-1, initial=np.inf)
    return distance <= 16 * EPSILON * np.linalg.norm(T)


def _grown(X: np.ndarray, inputs: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Which columns of X = (z I − T)⁻¹ w say that rounding of T can make z I − T singular: its
    least singular value is at most ‖w‖/‖x‖."""
    x, w = (np.linalg.norm(Y, axis=0) for Y in (X, inputs))
    return w < 16 * EPSILON * len(T) * np.linalg.norm(T) * x


def _respond_by_solving(A: Array, B: Array, C: Array, continuous: bool, omega: Array) -> Array:
    xp = namespace(B, omega)
    z = points_of(omega, continuous)
    pencil = z[:, None, None] * xp.eye(A.shape[-1], dtype=z.dtype) - A[..., None, :, :]
    B, C = (as_complex(X)[..., None, :, :] for X in (B, C))
    try:
        return C @ xp.linalg.solve(pencil, B)
    except np.linalg.LinAlgError:
        # Rare: one by one, to find out which are singular.
        return _solved_one_by_one(pencil, B, C)


def _solved_one_by_one(pencil: Array, B: Array, C: Array) -> Array:
    xp = namespace(pencil)
    batch = pencil.shape[:-2]
    B = xp.broadcast_to(B, (*batch, *B.shape[-2:]))
    C = xp.broadcast_to(C, (*batch, *C.shape[-2:]))
    count = math.prod(batch)
    parts = []
    for one, b, c in zip(
        *(xp.reshape(X, (count, *X.shape[-2:])) for X in (pencil, B, C)), strict=True
    ):
        try:
            parts.append(c @ xp.linalg.solve(one, b))
        except np.linalg.LinAlgError:
            # Nothing passes through inputs that reach no state, or to outputs that see none.
            reached, seen = xp.any(b != 0, axis=-2), xp.any(c != 0, axis=-1)
            pole = xp.full((c.shape[-2], b.shape[-1]), math.inf, dtype=b.dtype)
            parts.append(xp.where(seen[:, None] & reached, pole, xp.zeros_like(pole)))
    return xp.reshape(xp.stack(parts), (*batch, C.shape[-2], B.shape[-1]))
