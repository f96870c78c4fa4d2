"""Continuous-time systems, sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.checks import check_array, check_real, is_complex, is_single, to_double
from ..arrays.linalg import adjoint, as_complex, complex_of
from ..arrays.namespaces import Array, holds, is_numpy, namespace
from ..equations.exponential import exponential
from ..errors import ArgumentError, ArrayLibraryError, SingularEquationError
from ..matrices.balance import rescaled, state_units
from ..systems.blocks import PairBlocks
from ..systems.diagonal import Diagonal
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_single
from ..systems.modes import signals_in_modes
from ..systems.on_host import computed_on_host
from ..systems.oscillation import Oscillation
from ..systems.pairs import complex_columns, complex_rows, real_columns, real_rows
from ..systems.polar import phase
from ..systems.rotation import Rotation
from ..systems.signals import scaled, unit_signals
from ..systems.structure import StateMatrix


@overload
def discretize(
    A: LinearLike[Array],
    *,
    step: float | Array = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
) -> LTI[Array]: ...
@overload
def discretize(
    A: Diagonal[np.ndarray] | Oscillation[np.ndarray] | ArrayLike,
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
    A: StateMatrix[Array],
    B: Array,
    C: Array,
    D: Array | complex | None = None,
    step: float | Array = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
    *,
    E: Array | None = None,
) -> LTI[Array]: ...
@computed_on_host
def discretize(
    A: Any,
    B: Any = None,
    C: Any = None,
    D: Any = None,
    step: Any = 1.0,
    method: Literal["zoh", "bilinear"] = "zoh",
    *,
    E: Any = None,
) -> LTI:
    """Sample the continuous-time system E ẋ = A x + B u, y = C x + D u, or ``discretize(sys)``.

        zoh:       x_{k+1} = e^{AΔ} x_k + (∫_0^Δ e^{At} dt) B u_k        (u held between samples)
        bilinear:  s = (2/Δ)(z − 1)/(z + 1), Tustin, as in SciPy: with M = (I − AΔ/2)⁻¹
                   (M (I + AΔ/2), M B Δ, C M, D + C M B Δ/2)

    Both keep stability; bilinear also keeps Hankel singular values and the h∞ norm.

    Parameters
    ----------
    A : Diagonal, Oscillation or (..., n, n) array of the continuous system, or that system: an
        `LTI` with dt = 0, one of python-control or SciPy, a tuple (A, B, C, D, 0)
    B, C, D : as for `LTI`; left out for a system
    step : float or (...) array
        Sampling time Δ > 0, in the time unit of A; one per batch entry when an array.
    method : "zoh" or "bilinear"
    E : (..., n, n) array, optional
        Nonsingular descriptor matrix, folded into A and B; the result is then dense.

    Returns
    -------
    LTI with A diagonal for `Diagonal`, a `Rotation` for `Oscillation`, else dense; in the precision
    of the input. Its dt is the step, True when there are several.

    Accuracy: (e^{λΔ} − 1)/λ is formed without cancellation for poles near 0, and 1 − |e^{λΔ}| of an
    `Oscillation` to the last digit of the radius. Dense, entry by entry
    and so in any units of the states: zoh to some n 2.2e-16 (1 + ‖A‖Δ) of e^{|A|Δ} and of
    ∫ e^{|A|t} dt |B|, bilinear of |M||M⁻¹| times the sizes of the result.

    Cost: O(n (m + p)) structured; O(n³) dense (zoh, NumPy only: twenty products, and one or two
    for each doubling of a step below 1/‖A‖).

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    ArgumentError
        For a step that is not positive, an unknown method, and a system in discrete time.
    SingularEquationError
        When E is singular, or a pole sits at 2/Δ (bilinear).
    ArrayLibraryError
        For dense zoh of arrays that are not NumPy's.

    Source: Franklin, Powell & Workman, Digital Control of Dynamic Systems; Moler & Van Loan, SIAM
    Review 45 (2003), for the exponential.
    """
    if method not in ("zoh", "bilinear"):
        raise ArgumentError(f"method={method!r} is not 'zoh' or 'bilinear'")
    given = _given(A, B, C, D)
    if E is not None:
        given = _fold_descriptor(given, E)
    single, sys = is_single(given.B), in_double(given)
    delta = check_step(step, sys.B)
    sys = replace(sys, dt=float(delta) if delta.ndim == 0 else True)
    if isinstance(sys.A, PairBlocks):
        sampled = _sampled_blocks(sys, delta, method)
    elif isinstance(sys.A, Diagonal):
        sampled = (_zoh_diagonal if method == "zoh" else _bilinear_diagonal)(sys, delta)
    else:
        sample = _zoh_dense if method == "zoh" else _bilinear_dense
        sampled = _sampled_dense(sys.to_dense(), delta, sample)
    return in_single(sampled) if single else sampled


def _given(A: Any, B: Any, C: Any, D: Any) -> LTI:
    """The system, whose dt says nothing for the moment."""
    if B is not None or C is not None:
        return LTI(A, B, C, D)
    sys = as_linear(A, continuous=True)
    if not sys.is_continuous:
        raise ArgumentError(
            f"{sys!r} is in discrete time already (dt = {sys.dt}): only systems with dt = 0 are "
            "sampled"
        )
    return sys


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


def _sampled_dense(
    sys: LTI[Array], delta: Array, sample: Callable[[LTI[Array], Array], LTI[Array]]
) -> LTI[Array]:
    """A dense system by a method, in units of signals and states in which its numbers are about as
    large as each other: rounding and singularity are relative to the largest of them."""
    even, b, c = unit_signals(sys)
    unit: np.ndarray | float = 1.0
    row: np.ndarray | float = 1.0
    if is_numpy(sys.B):
        unit = state_units(sys.A)[..., None]
        row = np.swapaxes(unit, -1, -2)
        even = replace(even, A=rescaled(even.A, row, unit), B=even.B / unit, C=even.C * row)
    sampled = sample(even, delta)
    A = rescaled(sampled.A, unit, row) if is_numpy(sys.B) else sampled.A
    b, c = b[..., None, None], c[..., None, None]
    D = sys.D
    if sampled.D is not None:
        D = scaled(sampled.D, b + c) if D is None else D + scaled(sampled.D, b + c)
    B, C = scaled(sampled.B * unit, b), scaled(sampled.C / row, c)
    return replace(sampled, A=A, B=B, C=C, D=D)


def _zoh_diagonal(sys: LTI[Array], delta: Array) -> LTI[Array]:
    poles, held = held_inputs(sys.A.poles, delta[..., None])
    return replace(sys, A=Diagonal(poles), B=held[..., None] * sys.B)


def held_inputs(poles: Array, delta: Array) -> tuple[Array, Array]:
    """(e^{λΔ}, (e^{λΔ} − 1)/λ): poles, and factors of the inputs, under a zero-order hold."""
    xp = namespace(poles)
    exponent = poles * delta
    zero = exponent == 0
    one = xp.ones_like(exponent)
    mean = xp.where(zero, one, xp.expm1(exponent) / xp.where(zero, one, exponent))
    return xp.exp(exponent), delta * mean


def _bilinear_diagonal(sys: LTI[Array], delta: Array) -> LTI[Array]:
    xp = namespace(sys.B)
    half = sys.A.poles * delta[..., None] / 2
    gap = 1 - half
    if bool(xp.any(gap == 0)):
        raise SingularEquationError(_AT_POLE)
    B = sys.B * (delta[..., None] / gap)[..., None]
    C, D = sys.C / gap[..., None, :], _bilinear_feedthrough(sys, B)
    return replace(sys, A=Diagonal((1 + half) / gap), B=B, C=C, D=D)


def _zoh_dense(sys: LTI[Array], delta: Array) -> LTI[Array]:
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the matrix exponential of a dense system needs NumPy arrays; method='bilinear' and "
            "Diagonal systems work everywhere"
        )
    delta = delta[..., None, None]
    A, B = sys.A * delta, sys.B * delta
    for index in np.ndindex(A.shape[:-2]):
        A[index], B[index] = exponential(A[index], B[index])
    return replace(sys, A=A, B=B)


def _sampled_blocks(sys: LTI[Array], delta: Array, method: str) -> LTI[Array]:
    """Each block as the complex number that it multiplies by."""
    A: Any = sys.A
    if is_complex(sys.B):
        B, C = signals_in_modes(A, sys.B, sys.C)
        modal = replace(sys, A=Diagonal(A.mode_poles), B=B, C=C)
        return (_zoh_diagonal if method == "zoh" else _bilinear_diagonal)(modal, delta)
    (c, s), r, q = A.entries, A.real_poles, A.blocks
    xp, step = namespace(c), delta[..., None]
    poles = xp.concat([complex_of(c, -s), as_complex(r)], axis=-1)
    into, out = xp.ones_like(poles), xp.ones_like(poles)
    if method == "zoh":
        _, into = held_inputs(poles, step)
        sampled = Rotation(xp.exp(c * step), s * step, xp.exp(r * step))
    else:
        half = poles * step / 2
        gap = 1 - half
        if not holds(gap != 0):
            raise SingularEquationError(_AT_POLE)
        into, out, moved = step / gap, 1 / gap, (1 + half) / gap
        # |1 + h|² = |1 − h|² + 4 Re h: next to the circle no digit of the distance is lost.
        square = 1 + 4 * xp.real(half[..., :q]) / xp.abs(gap[..., :q]) ** 2
        radius = xp.sqrt(xp.where(square > 0, square, xp.zeros_like(square)))
        sampled = Rotation(radius, -phase(moved[..., :q]), xp.real(moved[..., q:]))
    b, c_modes = complex_rows(sys.B, q) * into[..., None], complex_columns(sys.C, q)
    c_modes = c_modes * out[..., None, :]
    B = xp.concat([real_rows(b[..., :q, :]), xp.real(b[..., q:, :])], axis=-2)
    C = xp.concat([real_columns(c_modes[..., :q]), xp.real(c_modes[..., q:])], axis=-1)
    feedthrough = sys.D if method == "zoh" else _bilinear_feedthrough(sys, B)
    return replace(sys, A=sampled, B=B, C=C, D=feedthrough)


def _bilinear_dense(sys: LTI[Array], delta: Array) -> LTI[Array]:
    xp = namespace(sys.B)
    delta = delta[..., None, None]
    identity, half = xp.eye(sys.order, dtype=sys.A.dtype), sys.A * delta / 2
    A = _solve(identity - half, identity + half, _AT_POLE)
    B = _resolved(half, sys.B * delta)
    C = adjoint(_resolved(adjoint(half), adjoint(sys.C)))
    return replace(sys, A=A, B=B, C=C, D=_bilinear_feedthrough(sys, B))


def _resolved(half: Array, X: Array) -> Array:
    """(I − H)⁻¹ X, on NumPy in the units of the states that H and X decide together: where states
    feed each other faintly, rows of X may be far apart in those of H alone."""
    identity = namespace(half).eye(half.shape[-1], dtype=half.dtype)
    if not (is_numpy(half) and is_numpy(X)):
        return _solve(identity - half, X, _AT_POLE)
    d = state_units(half, X)[..., None]
    return _solve(identity - rescaled(half, np.swapaxes(d, -1, -2), d), X / d, _AT_POLE) * d


def _bilinear_feedthrough(sys: LTI[Array], sampled_B: Array) -> Array:
    """D + C B̄/2 of the bilinear transform."""
    added = sys.C @ sampled_B / 2
    return added if sys.D is None else sys.D + added


_AT_POLE = "a pole of A sits at 2/step, where the bilinear transform is not defined"


def _solve(left: Array, right: Array, message: str) -> Array:
    """left⁻¹ right. Elimination is right to the largest entries of a column; one step of refinement
    makes it right to each entry of the equations (Skeel, Math. Comp. 35, 1980)."""
    xp = namespace(left, right)
    dtype = xp.result_type(left.dtype, right.dtype)
    left, right = xp.astype(left, dtype), xp.astype(right, dtype)
    try:
        X = xp.linalg.solve(left, right)
        return X + xp.linalg.solve(left, right - left @ X)
    except np.linalg.LinAlgError:
        raise SingularEquationError(message) from None
