"""Continuous-time systems, sampled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from ..arrays.checks import check_array, check_real, is_complex, is_single, to_double
from ..arrays.linalg import adjoint, power_of_two
from ..arrays.namespaces import Array, is_numpy, namespace
from ..errors import ArgumentError, ArrayLibraryError, SingularEquationError
from ..matrices.balance import rescaled, state_units
from ..systems.lti import LTI, in_double, in_single
from ..systems.structure import Diagonal


@overload
def discretize(
    A: Diagonal[np.ndarray] | ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    step: ArrayLike = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
    *,
    E: ArrayLike | None = None,
) -> LTI[np.ndarray]: ...
@overload
def discretize(
    A: Diagonal[Array] | Array,
    B: Array,
    C: Array,
    D: Array | complex | None = None,
    step: float | Array = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
    *,
    E: Array | None = None,
) -> LTI[Array]: ...
def discretize(
    A: Any,
    B: Any,
    C: Any,
    D: Any = None,
    step: Any = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
    *,
    E: Any = None,
) -> LTI:
    """Sample the continuous-time system E ẋ = A x + B u, y = C x + D u.

        zoh:       x_{k+1} = e^{AΔ} x_k + (∫_0^Δ e^{At} dt) B u_k        (u held between samples)
        bilinear:  s = (2/Δ)(z − 1)/(z + 1), Tustin, as in SciPy: with M = (I − AΔ/2)⁻¹
                   (M (I + AΔ/2), M B Δ, C M, D + C M B Δ/2)

    Both keep stability; bilinear also keeps Hankel singular values and the h∞ norm.

    Parameters
    ----------
    A : Diagonal, or (..., n, n) array of the continuous system
    B, C, D : as for `LTI`
    step : float or (...) array
        Sampling time Δ > 0, in the time unit of A; one per batch entry when an array.
    method : "zoh" or "bilinear"
    E : (..., n, n) array, optional
        Nonsingular descriptor matrix, folded into A and B; the result is then dense.

    Returns
    -------
    LTI with A diagonal for `Diagonal`, else dense; in the precision of the input. Its dt is the
    step, True when there are several.

    Accuracy: (e^{λΔ} − 1)/λ is formed without cancellation for poles near 0.

    Cost: O(n (m + p)) diagonal; O(n³) dense (scaling and squaring, NumPy only for zoh).

    Raises
    ------
    ArgumentError
        For a step that is not positive, or an unknown method.
    SingularEquationError
        When E is singular, or a pole sits at 2/Δ (bilinear).
    ArrayLibraryError
        For dense zoh of arrays that are not NumPy's.

    Source: Franklin, Powell & Workman, Digital Control of Dynamic Systems.
    """
    if method not in ("zoh", "bilinear"):
        raise ArgumentError(f"method={method!r} is not 'zoh' or 'bilinear'")
    # LTI validates and promotes; only its dynamics are continuous for the moment.
    given = LTI(A, B, C, D)
    if E is not None:
        given = _fold_descriptor(given, E)
    single, sys = is_single(given.B), in_double(given)
    delta = check_step(step, sys.B)
    sys = replace(sys, dt=float(delta) if delta.ndim == 0 else True)
    if isinstance(sys.A, Diagonal):
        sampled = (_zoh_diagonal if method == "zoh" else _bilinear_diagonal)(sys, delta)
    else:
        sys, unit = _in_even_units(sys.to_dense())
        sampled = (_zoh_dense if method == "zoh" else _bilinear_dense)(sys, delta)
        sampled = _in_given_units(sampled, unit)
    return in_single(sampled) if single else sampled


def check_step(step: float | Array, like: Array) -> Array:
    """Sampling times Δ > 0 in float64, numbers in the library of ``like``."""
    xp = namespace(like)
    delta = xp.asarray(step) if isinstance(step, int | float) else step
    delta = to_double(check_real("step", check_array("step", delta, ndim=0)))
    if not bool(namespace(like, delta).all(delta > 0)):
        raise ArgumentError(
            f"step must be positive, but its least value is {float(xp.min(delta))!r}: of a layer "
            "that stores log_step it is exp(log_step)"
        )
    return delta


def _fold_descriptor(sys: LTI[Array], E: Array) -> LTI[Array]:
    xp = namespace(sys.B)
    E = check_array("E", E, ndim=2)
    A = sys.to_dense().A
    if tuple(E.shape[-2:]) != tuple(A.shape[-2:]):
        raise ArgumentError(f"E has shape {tuple(E.shape)}, but A is {sys.order} × {sys.order}")
    A, B = (_solve(E, X, "the descriptor matrix E is singular") for X in (A, sys.B))
    return replace(sys, A=xp.astype(A, xp.result_type(A, sys.B)), B=B)


def _in_even_units(sys: LTI[Array]) -> tuple[LTI[Array], np.ndarray | float]:
    """The system in units of the states that even out rows and columns of A, and these units:
    norms, and with them rounding and singularity, are those of the largest entries."""
    if not is_numpy(sys.B):
        return sys, 1.0
    unit = state_units(sys.A)[..., None]
    row = np.swapaxes(unit, -1, -2)
    return replace(sys, A=rescaled(sys.A, row, unit), B=sys.B / unit, C=sys.C * row), unit


def _in_given_units(sys: LTI[Array], unit: np.ndarray | float) -> LTI[Array]:
    """The inverse of :func:`_in_even_units`."""
    row = np.swapaxes(unit, -1, -2) if isinstance(unit, np.ndarray) else unit
    return replace(sys, A=sys.A * unit / row, B=sys.B * unit, C=sys.C / row)


def _zoh_diagonal(sys: LTI[Array], delta: Array) -> LTI[Array]:
    poles, held = held_inputs(sys.A.poles, delta[..., None])
    return replace(sys, A=Diagonal(poles), B=held[..., None] * sys.B)


def held_inputs(poles: Array, delta: Array) -> tuple[Array, Array]:
    """(e^{λΔ}, (e^{λΔ} − 1)/λ): poles, and factors of the inputs, under a zero-order hold."""
    xp = namespace(poles)
    zero = poles == 0
    exponent = xp.expm1(poles * delta)
    held = xp.where(
        zero, delta + xp.zeros_like(poles), exponent / xp.where(zero, xp.ones_like(poles), poles)
    )
    return xp.exp(poles * delta), held


def _bilinear_diagonal(sys: LTI[Array], delta: Array) -> LTI[Array]:
    xp = namespace(sys.B)
    half = sys.A.poles * delta[..., None] / 2
    gap = 1 - half
    if bool(xp.any(gap == 0)):
        raise SingularEquationError(_AT_POLE)
    delta = delta[..., None, None]
    B = sys.B * delta / gap[..., None]
    C, D = sys.C / gap[..., None, :], _bilinear_feedthrough(sys, B)
    return replace(sys, A=Diagonal((1 + half) / gap), B=B, C=C, D=D)


def _zoh_dense(sys: LTI[Array], delta: Array) -> LTI[Array]:
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the matrix exponential of a dense system needs NumPy arrays; method='bilinear' and "
            "Diagonal systems work everywhere"
        )
    n, m = sys.order, sys.inputs
    # exp [[A, B], [0, 0]]Δ = [[e^{AΔ}, ∫ e^{At} dt B], [0, I]], with inputs in units of their own:
    # what B would add to the norm would be squared away at the cost of digits of e^{AΔ}.
    delta = delta[..., None, None]
    weight = power_of_two(np.max(np.abs(sys.B), axis=-2, keepdims=True, initial=0))
    upper = np.concatenate([sys.A * delta, sys.B / weight * delta], axis=-1)
    lower = np.zeros((*upper.shape[:-2], m, n + m), dtype=upper.dtype)
    both = _exponential(np.concatenate([upper, lower], axis=-2))
    A = both[..., :n, :n] if is_complex(sys.A) else both[..., :n, :n].real
    return replace(sys, A=A, B=both[..., :n, n:] * weight)


def _exponential(X: np.ndarray) -> np.ndarray:
    """e^X. SciPy takes quotients of differences for triangular matrices, which poles next to each
    other spoil; a faint block that feeds itself both ways leaves none triangular."""
    n = X.shape[-1]
    whole = np.zeros((*X.shape[:-2], n + 2, n + 2), dtype=X.dtype)
    whole[..., :n, :n] = X
    whole[..., n, n + 1] = whole[..., n + 1, n] = 2.0**-500
    return scipy.linalg.expm(whole)[..., :n, :n]


def _bilinear_dense(sys: LTI[Array], delta: Array) -> LTI[Array]:
    xp = namespace(sys.B)
    delta = delta[..., None, None]
    identity = xp.eye(sys.order, dtype=sys.A.dtype)
    gap, half = identity - sys.A * delta / 2, identity + sys.A * delta / 2
    A, B = _solve(gap, half, _AT_POLE), _solve(gap, sys.B * delta, _AT_POLE)
    C = adjoint(_solve(adjoint(gap), adjoint(sys.C), _AT_POLE))
    return replace(sys, A=A, B=B, C=C, D=_bilinear_feedthrough(sys, B))


def _bilinear_feedthrough(sys: LTI[Array], sampled_B: Array) -> Array:
    """D + C B̄/2 of the bilinear transform."""
    added = sys.C @ sampled_B / 2
    return added if sys.D is None else sys.D + added


_AT_POLE = "a pole of A sits at 2/step, where the bilinear transform is not defined"


def _solve(left: Array, right: Array, message: str) -> Array:
    xp = namespace(left, right)
    dtype = xp.result_type(left.dtype, right.dtype)
    try:
        return xp.linalg.solve(xp.astype(left, dtype), xp.astype(right, dtype))
    except np.linalg.LinAlgError:
        raise SingularEquationError(message) from None
