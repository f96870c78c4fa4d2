"""Frequency responses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..arrays.checks import (
    check_array,
    check_real,
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
    refined_solution,
)
from ..arrays.namespaces import Array, asked_together, holds, is_numpy, namespace
from ..equations.dense import SchurForms, schur_form
from ..equations.shifted import solve_at_points
from ..errors import ShapeError, SingularEquationError
from ..matrices.balance import balance_dense, radius_exponent
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI
from ..systems.modes import (
    signals_in_modes,
)
from ..systems.signals import product_of
from ..systems.structure import (
    Structure,
    is_sparse,
    is_structured,
    map_parameters,
)

#: Frequencies are taken in chunks of this many complex entries (64 MB).
_CHUNK = 1 << 22
#: From this many on, one Schur form costs less than solving for each of them.
_MANY = 32


@asked_together
def frequency_response(sys: LinearLike[Array], frequencies: Array) -> Array:
    """H(e^{iω}) = C (e^{iω} I − A)⁻¹ B + D, in continuous time H(iω) = C (iω I − A)⁻¹ B + D.

    Parameters
    ----------
    frequencies : (L,) real array, or (..., L) with the batch axes of the system
        ω in radians per sample, in continuous time in rad/s; each system may have its own.

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
    data, if each entry of A is known to its last digit (measured in docs/accuracy.md). Where that
    is no less than the response, a matrix within rounding of A has a pole there, and the result may
    be any larger number or infinite.

    Cost: O(L n m p) structured; dense O(n³ + L n² m) on NumPy for L ≥ 32, by triangular systems in
    one Schur form and a step of refinement, O(L n³) otherwise; L factorisations of a `Sparse` A.

    CuPy: on the device; the host waits once.

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError


    >>> sys = lti.LTI([[0.5]], [[1.0]], [[1.0]])  # 1/(z − 0.5)
    >>> H = lti.frequency_response(sys, np.array([0.0, np.pi]))  # at z = ±1
    >>> abs(H).ravel().round(4)
    array([2.    , 0.6667])

    """
    sys = as_linear(sys, continuous=True, sparse=True)
    omega = check_real("frequencies", check_array("frequencies", frequencies, ndim=1))
    if omega.shape[:-1] not in ((), sys.batch_shape):
        batch = f", or those of the batch, {(*sys.batch_shape, 'L')}" if sys.batch_shape else ""
        raise ShapeError(
            f"frequencies has shape {tuple(omega.shape)}: one axis of them is needed{batch}"
        )
    omega = to_double(omega)
    H = responder(sys, omega.shape[-1])(omega)
    return like_precision(H, is_single(sys.B))


def responder(sys: LTI, count: int) -> Callable[[Any], Any]:
    """ω ↦ H in float64, by the method of :func:`frequency_response` for ``count`` frequencies, of
    shape (L,), or (..., L) with the batch."""
    A, B, C = map_parameters(to_double, sys.A), to_double(sys.B), to_double(sys.C)
    continuous, time = sys.is_continuous, None
    respond: Callable[[Any], Any]
    if is_structured(A):
        modal = _respond_in_continuous_modes if continuous else _respond_in_modes
        respond, width = partial(modal, A, B, C), sys.order * sys.outputs
    elif is_sparse(A):
        respond, width = partial(_respond_sparse, A, B, C, continuous), 1
    else:
        if is_numpy(B):
            A, B, C, time = _in_best_units_of_all(A, B, C, continuous)
        respond, width = partial(_respond_by_solving, A, B, C, continuous), sys.order**2
        if count >= _MANY and is_numpy(B):
            respond = partial(schur_response, A, B, C, schur_form(A), continuous)
            width = sys.order * sys.inputs
    step = max(1, _CHUNK // max(1, width * math.prod(sys.batch_shape)))

    def in_chunks(omega: Array) -> Array:
        length = omega.shape[-1]
        if time is not None:
            omega = omega * 4.0 ** -time[..., None]
        pieces = [
            respond(omega[..., start : min(start + step, length)])
            for start in range(0, max(1, length), step)
        ]
        H = namespace(omega).concat(pieces, axis=-3)
        return H if sys.D is None else H + to_double(sys.D)[..., None, :, :]

    return in_chunks


#: (rows, ω) ↦ H, (k, L, p, m), of the systems of a batch at the indices rows, (k,), at ω, (k, L).
Responses: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


def responses(sys: LTI, forms: SchurForms | None = None) -> Responses:
    """Responses of a batch with one axis on NumPy, structured or dense, in float64; dense ones in
    units of states and of time that suit them where their Schur forms are given."""
    A, B, C, D = sys.A, sys.B, sys.C, sys.D
    continuous, time = sys.is_continuous, np.zeros(sys.batch_shape)
    if is_structured(A):
        modal = _respond_in_continuous_modes if continuous else _respond_in_modes

        def respond(rows: np.ndarray, omega: np.ndarray) -> np.ndarray:
            return modal(map_parameters(lambda x: x[rows], A), B[rows], C[rows], omega)
    else:
        if forms is None:
            A, B, C, time = _in_best_units_of_all(A, B, C, continuous)
            forms = schur_form(A)
        T, U = forms

        def respond(rows: np.ndarray, omega: np.ndarray) -> np.ndarray:
            there = A[rows], B[rows], C[rows], (T[rows], U[rows])
            return schur_response(*there, continuous, omega * 4.0 ** -time[rows, None])

    return respond if D is None else lambda rows, omega: respond(rows, omega) + D[rows, None]


def _in_best_units_of_all(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, continuous: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A/4^k, B/2^k and C/2^k, whose response at ω/4^k is that of A, B and C at ω, in the best units
    of their states, and k, (...): A has about size one in continuous time."""
    time = np.zeros(A.shape[:-2])
    if continuous:
        time = np.rint(radius_exponent(A) / 2)
        root = 2.0 ** -time[..., None, None]
        A, B, C = A * root**2, B * root, C * root
    A, B, C, _ = balance_dense(A, B, C, continuous)
    return A, B, C, time


def _respond_in_modes(A: Structure[Array], B: Array, C: Array, omega: Array) -> Array:
    # 1/(z − λ) = conj z/(1 − λ conj z): the second form keeps its digits near the unit circle.
    xp = namespace(B, omega)
    radius, phase = (x[..., None, :] for x in A.polar_modes)
    distance = one_minus(1 - radius, radius, phase - omega[..., :, None])
    conjugate_z = complex_of(xp.cos(omega), -xp.sin(omega))[..., :, None]
    return _sum_of_modes(A, B, C, distance, conjugate_z)


def _respond_in_continuous_modes(A: Structure[Array], B: Array, C: Array, omega: Array) -> Array:
    decay, frequency = (x[..., None, :] for x in A.decay_modes)
    distance = complex_of(decay, omega[..., :, None] - frequency)
    return _sum_of_modes(A, B, C, distance, 1.0)


def _respond_sparse(
    A: Any, B: np.ndarray, C: np.ndarray, continuous: bool, omega: np.ndarray
) -> np.ndarray:
    H = np.empty((len(omega), C.shape[-2], B.shape[-1]), dtype=np.complex128)
    for k, z in enumerate(points_of(omega, continuous)):
        try:
            H[k] = C @ A.solver(-1.0, complex(z))(as_complex(B), "N")
        except SingularEquationError:
            seen, reached = np.any(C != 0, axis=-1), np.any(B != 0, axis=-2)
            H[k] = np.where(seen[:, None] & reached, math.inf, 0)
    return H


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
    H = product_of(modal_C * resolvent[..., None, :], modal_B)
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


def schur_response(
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    forms: SchurForms,
    continuous: bool,
    omega: np.ndarray,
) -> np.ndarray:
    """H at ω, (..., L, p, m), by A = U T Uᴴ with triangular T and one step of refinement with A.

    T is that of a matrix eps ‖A‖ away from A, which shows at sharp peaks; the residual with A
    itself takes it back. Where z I − T is singular to that rounding it cannot: at eigenvalues of T,
    and near those of several states, which rounding carries further, where solutions grow as at
    one. These frequencies are solved for alone.
    """
    (T, U), batch, (n, m) = forms, A.shape[:-2], B.shape[-2:]
    z = np.broadcast_to(points_of(omega, continuous), (*batch, omega.shape[-1]))[..., None, :]
    if n == 0:
        return np.zeros((*batch, z.shape[-1], C.shape[-2], m), dtype=np.complex128)
    norm = np.linalg.norm(T, axis=(-2, -1))[..., None]
    poles, size = np.diagonal(T, axis1=-2, axis2=-1)[..., None], 16 * EPSILON * norm
    distance = z - poles
    met = np.abs(distance).min(axis=-2) <= size
    if met.any():
        # In the place of eigenvalues of T something harmless is solved for here.
        z = np.where(met[..., None, :], 1 + norm[..., None, :], z)
        distance = z - poles
    inverse = 1 / distance

    def solved(X: np.ndarray) -> np.ndarray:
        return solve_at_points(T, X.reshape(*batch, n, m, -1), inverse).reshape(*batch, n, -1)

    shape = (*batch, n, m, z.shape[-1])
    signals = np.array(np.broadcast_to((adjoint(U) @ B)[..., None], shape))
    X = solved(signals)
    w = np.linalg.norm(B, axis=-2)[..., None]
    # (z I − T)⁻¹ w tells that rounding of T can make z I − T singular: the least singular value of
    # that is at most ‖w‖/‖x‖.
    met |= (w < n * size[..., None, :] * _norms(X).reshape(*batch, m, -1)).any(axis=-2)
    X = U @ X
    rest = A @ X - (z[..., None, :] * X.reshape(shape)).reshape(X.shape)
    rest.reshape(shape)[...] += B[..., None]
    X += U @ solved(adjoint(U) @ rest)
    H = np.moveaxis((C @ X).reshape(*batch, C.shape[-2], m, -1), -1, -3)
    for index in np.ndindex(batch) if met.any() else ():
        here = met[index]
        if here.any():
            system, points = (A[index], B[index], C[index]), np.broadcast_to(omega, met.shape)
            H[index][here] = _respond_by_solving(*system, continuous, points[index][here])
    return H


def _norms(X: np.ndarray) -> np.ndarray:
    """(..., k) of the columns of X."""
    with np.errstate(over="ignore"):
        return np.sqrt(np.square(X.real).sum(axis=-2) + np.square(X.imag).sum(axis=-2))


def _respond_by_solving(A: Array, B: Array, C: Array, continuous: bool, omega: Array) -> Array:
    xp = namespace(B, omega)
    z = points_of(omega, continuous)
    pencil = z[..., None, None] * xp.eye(A.shape[-1], dtype=z.dtype) - A[..., None, :, :]
    B, C = (as_complex(X)[..., None, :, :] for X in (B, C))
    try:
        return C @ refined_solution(pencil, B)
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
            parts.append(c @ refined_solution(one, b))
        except np.linalg.LinAlgError:
            # Nothing passes through inputs that reach no state, or to outputs that see none.
            reached, seen = xp.any(b != 0, axis=-2), xp.any(c != 0, axis=-1)
            pole = xp.full((c.shape[-2], b.shape[-1]), math.inf, dtype=b.dtype)
            parts.append(xp.where(seen[:, None] & reached, pole, xp.zeros_like(pole)))
    return xp.reshape(xp.stack(parts), (*batch, C.shape[-2], B.shape[-1]))
