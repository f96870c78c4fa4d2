"""Zeros of transfer functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ..arrays.linalg import EPSILON, adjoint, eigenvalues, refined_solution
from ..errors import NonFiniteError, warn_precision
from ..systems.lti import LTI
from ..systems.modes import is_real, mode_poles, signals_in_modes
from ..systems.signals import in_best_units, in_even_states, scaled, unit_signals
from ..systems.structure import is_structured
from .dense import ACCURACY
from .stability import in_unit_time

#: Markov parameters below this many roundings of their terms are zero.
_ROUNDINGS = 64
#: Responses that zeros, poles and gain give to this relative error need no better zeros …
_EXACT = 1e-12
#: … nor do those of more states get any, in turns of n solutions each.
_FEW, _TURNS = 50, 50
#: Points at most at which responses are compared, and directions that they are taken from.
_POINTS = 24


def poles_zeros_gain(sys: LTI) -> tuple[np.ndarray, np.ndarray, complex]:
    """(zeros, poles, k) with H(s) = k Π(s − z_i)/Π(s − p_j), for one system of one input and one
    output on NumPy in float64.

    Zeros are the finite eigenvalues of Rosenbrock's pencil [[A − s I, B], [C, D]] by QZ, in the
    best units of states and signals: those of a system whose matrices differ in the last digits.
    As many count as infinite as Markov parameters D, C B, C A B, … vanish, and one. Where these do
    not give the responses between them, they are refined (:func:`refined_zeros`); the gain is that
    of H where it is known best.

    Source: Emami-Naeini & Van Dooren, Automatica 18 (1982), for the pencil.
    """
    timed, time = in_unit_time(sys)
    even, b, c = unit_signals(in_even_states(timed)[0])
    A, B, C = plain_matrices(even)
    structured = is_structured(even.A)
    poles = np.asarray(mode_poles(even.A) if structured else eigenvalues(A), complex)
    n, D = len(A), 0.0 if sys.D is None else complex(sys.D[0, 0])
    rate = 4.0 ** float(np.asarray(time))
    if not (B.any() and C.any()):
        # Nothing but D: its zeros are where it has poles.
        return poles * rate if D else np.zeros(0, complex), poles * rate, D
    unit = np.asarray(b + c)
    D = complex(scaled(np.asarray(D), -unit))
    excess = _relative_degree(A, B, C, D)
    if excess > n:
        # Of large powers of A terms may hide all there is.
        H, _, rounding = _responses(A, B, C, D, _points_between(poles))
        if not np.any(np.abs(H) > _ROUNDINGS * rounding):
            return np.zeros(0, complex), poles * rate, 0.0
        excess = n
    zeros = _finite_zeros(A, B, C, D, excess)
    if excess and len(zeros) < n - excess:
        zeros = _finite_zeros(*_without_integrations(A, B, C, D, excess))
    real = is_real(sys.A) and not np.iscomplexobj(sys.B)
    pairs = conjugate_pairs if real else np.asarray
    poles = pairs(poles)
    fits = [_with_gain(A, B, C, D, pairs(zeros), poles)]
    if fits[0].error > _EXACT and n <= _FEW:
        refined = refined_zeros(A, B, C, D, zeros, poles)
        fits.append(_with_gain(A, B, C, D, pairs(refined), poles))
    fit = min(fits, key=lambda x: x.error)
    if not fit.error <= ACCURACY:
        warn_precision(
            f"zeros, poles and gain give responses with a relative error of {fit.error:.0e}, at "
            f"|s| = {fit.place * rate:.1e} and elsewhere: next to large ones, rounding moves small "
            "poles of a dense A, and zeros that many outputs of modes add up to. Parts with poles "
            "of about one size are better taken one by one"
        )
    # In logarithms: of many zeros at infinity the powers of the rate may be too large for numbers.
    with np.errstate(over="ignore", invalid="ignore"):
        gain = np.exp(fit.log_gain + (n - len(zeros)) * math.log(rate))
        gain = scaled(np.asarray(gain), unit)
    if not np.isfinite(gain):
        raise NonFiniteError(
            f"the gain of {excess} zeros at infinity overflows: scale B or C down, or take another "
            "unit of time"
        )
    return fit.zeros * rate, poles * rate, complex(gain)


def _without_integrations(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, excess: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, complex]:
    """A system with these finite zeros, whose D does not vanish, of ``excess`` states fewer.

    Where D = 0, y = 0 holds the last of the states with C = (0, …, 0, γ) at zero, and 0 = A_n x +
    B_n u is the output of the others with the input that does so. Zeros at infinity are one
    defective eigenvalue of the pencil, and rounding may take finite ones for these. (Elsewhere the
    pencil is better: its entries keep the sizes that Q mixes.)
    """
    for _ in range(excess):
        Q = np.linalg.qr(adjoint(C), mode="complete").Q[:, ::-1]
        A, B = adjoint(Q) @ A @ Q, adjoint(Q) @ B
        A, B, C, D = A[:-1, :-1], B[:-1], A[-1:, :-1], complex(B[-1, 0])
    return A, B, C, D


def _finite_zeros(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, excess: int = 0
) -> np.ndarray:
    """The n − ``excess`` zeros by QZ, and fewer where rounding takes some for infinite."""
    n = len(A)
    pencil = np.block([[A, B], [C, np.array([[D]])]])
    alpha, beta = scipy.linalg.eigvals(
        pencil, np.diag(np.append(np.ones(n), 0.0)), homogeneous_eigvals=True
    )
    finite = np.argsort(np.abs(beta) / np.maximum(np.abs(alpha), np.abs(beta)))[1 + excess :]
    finite = finite[beta[finite] != 0]
    return alpha[finite] / beta[finite]


def conjugate_pairs(x: np.ndarray) -> np.ndarray:
    """Numbers that are conjugate to each other but for rounding, exactly so."""
    left, found = list(x), []
    while left:
        one = left.pop()
        other = min(left, key=lambda y: abs(y - one.conjugate()), default=None)
        alone = abs(2 * one.imag)
        if other is None or abs(other - one.conjugate()) >= alone:
            found.append(complex(one.real))
            continue
        left.remove(other)
        mean = (one + other.conjugate()) / 2
        found += [mean, mean.conjugate()]
    return np.array(found, dtype=complex)


def plain_matrices(sys: LTI) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, B, C) as arrays, in the best units of the states or in the modes."""
    if is_structured(sys.A):
        B, C = signals_in_modes(sys.A, sys.B, sys.C)
        return np.diag(np.asarray(mode_poles(sys.A))), B, C
    best, _ = in_best_units(sys)
    return best.A, best.B, best.C


def _relative_degree(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex) -> int:
    """How many of D, C B, C A B, … vanish before the first that does not; n + 1 for all."""
    if D != 0:
        return 0
    X, size = B, np.abs(B)
    for k in range(1, len(A) + 1):
        if abs((C @ X).item()) > _ROUNDINGS * EPSILON * k * (np.abs(C) @ size).item():
            return k
        X, size = A @ X, np.abs(A) @ size
    return len(A) + 1


@dataclass(frozen=True)
class _ZerosAndGain:
    """Zeros with the gain that goes with them, and the largest relative error of the responses that
    they give, at |s| = ``place``, of those points where rounding lets one see it."""

    zeros: np.ndarray
    log_gain: complex
    error: float
    place: float


def _with_gain(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, zeros: np.ndarray, poles: np.ndarray
) -> _ZerosAndGain:
    points = _points_between(np.concatenate([poles, zeros]))
    H, _, rounding = _responses(A, B, C, D, points)
    with np.errstate(all="ignore"):
        share = np.nan_to_num(rounding / np.abs(H), nan=np.inf)
        gains = np.log(H) + _sums_of_logs(points, poles) - _sums_of_logs(points, zeros)
        best = int(np.argmin(share))
        off = np.abs(np.expm1(gains - gains[best]))
    off = np.where(off > _ROUNDINGS * share, off, 0)
    off[best] = share[best]
    worst = int(np.argmax(off))
    return _ZerosAndGain(zeros, complex(gains[best]), float(off[worst]), float(abs(points[worst])))


def refined_zeros(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, zeros: np.ndarray, poles: np.ndarray
) -> np.ndarray:
    """Zeros of H(s) Π(s − p_j) by the iteration of Ehrlich and Aberth, all at once from some:

        z_i ← z_i − 1/(H'/H + Σ_j 1/(z_i − p_j) − Σ_{j≠i} 1/(z_i − z_j))

    QZ finds them to the largest entries of the pencil, responses that are solved for with a step of
    refinement tell smaller ones.

    Source: Aberth, Math. Comp. 27 (1973); Bini & Robol (2014), for transfer functions.
    """
    # Real ones could not become a pair.
    aside = np.random.default_rng(0).uniform(-1e-3, 1e-3, len(zeros))
    z, moving = zeros * np.exp(1j * aside), np.ones(len(zeros), dtype=bool)
    for _ in range(_TURNS):
        at = z[moving]
        H, slope, rounding = _responses(A, B, C, D, at)
        with np.errstate(all="ignore"):
            apart = at[:, None] - z
            apart[np.arange(len(at)), np.flatnonzero(moving)] = np.inf
            ratio = slope / H + np.sum(1 / (at[:, None] - poles), axis=1)
            step = 1 / (ratio - np.sum(1 / apart, axis=1))
            step = np.where(np.isfinite(step) & (np.abs(H) > rounding), step, 0)
        z[moving] = at - step
        moving[moving] = np.abs(step) > 4 * EPSILON * np.abs(at)
        if not moving.any():
            break
    return z


def _points_between(roots: np.ndarray) -> np.ndarray:
    """Points of the plane between the sizes of the roots and beyond, as far off all as can be."""
    sizes = np.sort(np.abs(roots[roots != 0])) if np.any(roots != 0) else np.ones(1)
    radii = np.concatenate([sizes[:1] / 4, np.sqrt(sizes[1:] * sizes[:-1]), sizes[-1:] * 4])
    few = np.unique(np.linspace(0, len(radii) - 1, _POINTS).astype(int))
    points = radii[few, None] * np.exp(1j * (0.1 + np.pi * np.arange(_POINTS) / _POINTS))
    nearest = np.abs(1 - roots / points[..., None]).min(axis=-1, initial=np.inf)
    return points[np.arange(len(points)), np.argmax(nearest, axis=1)]


def _responses(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: complex, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, H', size of the rounding of H) at points, one of which at a time; NaN at poles."""
    found = np.full((3, len(points)), np.nan, dtype=complex)
    for k, s in enumerate(points):
        pencil = s * np.eye(len(A)) - A
        try:
            x = refined_solution(pencil, B.astype(complex))[:, 0]
            y = refined_solution(pencil.T, C.T.astype(complex))[:, 0]
        except np.linalg.LinAlgError:
            continue
        size = abs(D) + np.abs(C[0]) @ np.abs(x) + np.abs(y) @ (np.abs(pencil) @ np.abs(x))
        found[:, k] = D + C[0] @ x, -(y @ x), EPSILON * size
    return found[0], found[1], found[2].real


def _sums_of_logs(points: np.ndarray, roots: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(points[:, None] - roots).sum(axis=1)
    return found
