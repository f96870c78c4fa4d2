"""Sampling, and its inverse, of dense systems."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.checks import is_complex
from ..arrays.linalg import adjoint, eigenvalues, log2, refined_solution
from ..arrays.namespaces import Array, is_numpy, namespace
from ..equations.dense import ACCURACY
from ..equations.exponential import exponential
from ..errors import ArgumentError, ArrayLibraryError, SingularEquationError, warn_precision
from ..matrices.balance import rescaled, state_units
from ..systems.lti import LTI, spread
from ..systems.signals import in_even_states, scaled, size_exponent, unit_signals
from .modes import AT_MINUS_ONE, AT_POLE, raise_no_logarithm

#: Imaginary parts of a logarithm of a real matrix, relative to its size, that are rounding.
_REAL = 1e-8
_NO_MEAN = "the mean of e^{At} over a step is singular"


def converted_dense(
    sys: LTI[Array], delta: Array, convert: Callable[[LTI[Array], Array], LTI[Array]]
) -> LTI[Array]:
    """A dense system by a method, in units of signals and states in which its numbers are about as
    large as each other: rounding and singularity are relative to the largest of them."""
    even, d = in_even_states(sys)
    even, b, c = unit_signals(even)
    up: Any = log2(d)
    if is_numpy(sys.B):
        unit = state_units(even.A, continuous=sys.is_continuous)[..., None]
        row = np.swapaxes(unit, -1, -2)
        even = replace(even, A=rescaled(even.A, row, unit), B=even.B / unit, C=even.C * row)
        up = up + np.log2(unit)
    found = convert(even, delta)
    down = -namespace(up).matrix_transpose(up)
    b, c = b[..., None, None], c[..., None, None]
    D = sys.D
    if found.D is not None:
        D = scaled(found.D, b + c) if D is None else D + scaled(found.D, b + c)
    A, B, C = scaled(found.A, up, down), scaled(found.B, up, b), scaled(found.C, down, c)
    return replace(found, A=A, B=B, C=C, D=D)


# --- sampling -----------------------------------------------------------------------------------


def hold(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """(e^{AΔ}, Δ φ_1(AΔ) B, C): inputs held between samples."""
    return _by_exponential(sys, delta, _held)


def ramp(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """(e^{AΔ}, Δ φ_1(AΔ)² B, C, D + Δ C φ_2(AΔ) B): inputs that are straight between samples."""
    return _by_exponential(sys, delta, _ramped)


def half_ramp(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """(e^{AΔ}, Δ φ_2(AΔ) B, C): inputs that rise from 0 to u within a step."""
    return _by_exponential(sys, delta, _half_ramped)


def strike(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """(e^{AΔ}, Δ e^{AΔ} B, C, Δ C B): samples of the impulse response."""
    return _by_exponential(sys, delta, _struck)


def _by_exponential(
    sys: LTI[np.ndarray],
    delta: np.ndarray,
    sample: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]],
) -> LTI[np.ndarray]:
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the matrix exponential of a dense system needs NumPy arrays; method='bilinear' and "
            "Diagonal systems work everywhere"
        )
    sys = spread(sys, np.broadcast_shapes(sys.batch_shape, delta.shape))
    delta = delta[..., None, None]
    A, B = sys.A * delta, sys.B * delta
    through = np.zeros((*sys.batch_shape, sys.outputs, sys.inputs), np.result_type(sys.C, B))
    for index in np.ndindex(sys.batch_shape):
        A[index], B[index], through[index] = sample(A[index], B[index], sys.C[index])
    return replace(sys, A=A, B=B, D=through if through.any() else None)


def _held(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    return *exponential(A, B), np.zeros((len(C), B.shape[-1]))


def _ramped(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    power, once, after = _moments(A, B)
    _, twice = exponential(A, once)
    return power, twice, C @ after


def _half_ramped(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    power, _, after = _moments(A, B)
    return power, after, np.zeros((len(C), B.shape[-1]))


def _moments(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(e^A, φ_1(A) B, φ_2(A) B): of ẋ = A x + B v, v̇ = w the integral of the exponential over one
    step holds φ_2(A) B. The others come from A itself, which may need fewer doublings.
    """
    n, m = B.shape
    # Large inputs would look like states that rise far.
    size = size_exponent(B)
    chain = np.block([[A, scaled(B, -size)], [np.zeros((m, n + m))]])
    _, after = exponential(chain, np.eye(n + m, dtype=A.dtype)[:, n:])
    return *exponential(A, B), scaled(after[:n], size)


def _struck(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    power, _ = exponential(A, B)
    return power, power @ B, C @ B


def tustin(sys: LTI[Array], delta: Array) -> LTI[Array]:
    """(M (I + AΔ/2), M B Δ, C M, D + C M B Δ/2) with M = (I − AΔ/2)⁻¹."""
    xp = namespace(sys.B)
    delta = delta[..., None, None]
    identity, half = xp.eye(sys.order, dtype=sys.A.dtype), sys.A * delta / 2
    A = solve(identity - half, identity + half, AT_POLE)
    B = _resolved(half, sys.B * delta, AT_POLE)
    C = adjoint(_resolved(adjoint(half), adjoint(sys.C), AT_POLE))
    return replace(sys, A=A, B=B, C=C, D=sys.C @ B / 2)


def _resolved(half: Array, X: Array, message: str) -> Array:
    """(I − H)⁻¹ X, on NumPy in the units of the states that H and X decide together: where states
    feed each other faintly, rows of X may be far apart in those of H alone."""
    identity = namespace(half).eye(half.shape[-1], dtype=half.dtype)
    if not (is_numpy(half) and is_numpy(X)):
        return solve(identity - half, X, message)
    d = state_units(half, X)[..., None]
    return solve(identity - rescaled(half, np.swapaxes(d, -1, -2), d), X / d, message) * d


# --- and back -----------------------------------------------------------------------------------


def unhold(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """The inverse of :func:`hold`."""
    return _by_logarithm(sys, delta, _unheld)


def unramp(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """The inverse of :func:`ramp`."""
    return _by_logarithm(sys, delta, _unramped)


def unstrike(sys: LTI[np.ndarray], delta: np.ndarray) -> LTI[np.ndarray]:
    """The inverse of :func:`strike`; D is what is left where it was Δ C B."""
    return _by_logarithm(sys, delta, _unstruck)


def _by_logarithm(
    sys: LTI[np.ndarray],
    delta: np.ndarray,
    restore: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]],
) -> LTI[np.ndarray]:
    if not is_numpy(sys.B):
        raise ArrayLibraryError(
            "the matrix logarithm of a dense system needs NumPy arrays; method='bilinear' and "
            "Diagonal systems work everywhere"
        )
    sys = spread(sys, np.broadcast_shapes(sys.batch_shape, delta.shape))
    A, B = np.empty_like(sys.A), np.empty_like(sys.B)
    through = np.zeros((*sys.batch_shape, sys.outputs, sys.inputs), np.result_type(sys.C, B))
    for index in np.ndindex(sys.batch_shape):
        log = logarithm(sys.A[index])
        B[index], through[index] = restore(log, sys.B[index], sys.C[index])
        A[index] = log
    step = delta[..., None, None]
    return replace(sys, A=A / step, B=B / step, D=through if through.any() else None)


def logarithm(A: np.ndarray) -> np.ndarray:
    """log A, principal and real for real A.

    Raises
    ------
    ArgumentError
        For a real A with a pole that is not positive, and a singular one.
    """
    if len(A) == 0:
        return A
    poles = eigenvalues(A)
    on_axis = poles[poles.imag == 0].real
    if not is_complex(A) and on_axis.min(initial=1.0) <= 0:
        raise_no_logarithm(on_axis)
    if np.any(poles == 0):
        raise_no_logarithm(poles)
    log = _scipy_logarithm(A)
    if not np.isfinite(log).all():
        raise ArgumentError(
            "A has no logarithm in working precision: some of its poles lie too near 0, from which "
            "no continuous-time system is sampled. method='bilinear' takes them"
        )
    again, _ = exponential(log, np.eye(len(A), dtype=log.dtype))
    share = float(np.linalg.norm(again - A) / np.linalg.norm(A))
    if not share <= ACCURACY:
        warn_precision(
            f"the logarithm of A carries a relative error of {share:.0e} into its samples: some "
            "poles lie too near 0 or the negative real axis. Diagonal and Rotation have exact ones"
        )
    if is_complex(A):
        return log
    if np.abs(log.imag).max() > _REAL * np.abs(log).max():
        raise ArgumentError(
            "the logarithm of A is not real to working precision: some of its poles lie too near "
            "the negative real axis"
        )
    return log.real


def _scipy_logarithm(A: np.ndarray) -> np.ndarray:
    """SciPy's, without its words, for what it is off by is measured; NaN where it ends in an
    exception, of which it has bare ones too, as where numbers leave their range."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found: np.ndarray = scipy.linalg.logm(A)
        except Exception:
            return np.full_like(A, np.nan)
    return found


def _unheld(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    return solve(_mean(A), B, _NO_MEAN), np.zeros((len(C), B.shape[-1]))


def _unramped(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    mean = _mean(A)
    B = solve(mean, solve(mean, B, _NO_MEAN), _NO_MEAN)
    _, _, after = _moments(A, B)
    return B, -(C @ after)


def _unstruck(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, ...]:
    power, _ = exponential(-A, B)
    return power @ B, -(C @ power @ B)


def _mean(A: np.ndarray) -> np.ndarray:
    """φ_1(A), the mean of e^{At} over a step."""
    _, mean = exponential(A, np.eye(len(A), dtype=A.dtype))
    return mean


def untustin(sys: LTI[Array], delta: Array) -> LTI[Array]:
    """The inverse of :func:`tustin`: (2/Δ (A + I)⁻¹ (A − I), 2/Δ (A + I)⁻¹ B, 2 C (A + I)⁻¹,
    D − C (A + I)⁻¹ B)."""
    xp = namespace(sys.B)
    delta = delta[..., None, None]
    identity = xp.eye(sys.order, dtype=sys.A.dtype)
    A = solve(identity + sys.A, sys.A - identity, AT_MINUS_ONE)
    B = _resolved(-sys.A, sys.B, AT_MINUS_ONE)
    C = adjoint(_resolved(-adjoint(sys.A), adjoint(sys.C), AT_MINUS_ONE))
    return replace(sys, A=2 * A / delta, B=2 * B / delta, C=2 * C, D=-(sys.C @ B))


def solve(left: Array, right: Array, message: str) -> Array:
    """left⁻¹ right, right to each entry of the equations."""
    xp = namespace(left, right)
    dtype = xp.result_type(left.dtype, right.dtype)
    left, right = xp.astype(left, dtype), xp.astype(right, dtype)
    try:
        return refined_solution(left, right)
    except np.linalg.LinAlgError:
        raise SingularEquationError(message) from None


#: By the method of `discretize` and `to_continuous`.
SAMPLE_DENSE: dict[str, Callable[..., LTI]] = {
    "zoh": hold,
    "foh": ramp,
    "bilinear": tustin,
    "impulse": strike,
}
RESTORE_DENSE: dict[str, Callable[..., LTI]] = {
    "zoh": unhold,
    "foh": unramp,
    "bilinear": untustin,
    "impulse": unstrike,
}
