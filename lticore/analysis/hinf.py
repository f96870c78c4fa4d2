"""The h∞ norm: the largest gain over all frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
import scipy.linalg

from ..arrays.checks import is_complex, is_single, like_precision
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, is_numpy
from ..equations.dense import ACCURACY
from ..equations.stability import GAINS, in_unit_time, offering, require_stable
from ..errors import (
    ArgumentError,
    ArrayLibraryError,
    NonFiniteError,
    warn_precision,
)
from ..hankel.gramians import balance_states
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, replaced, spread
from ..systems.modes import is_real, mode_poles, to_modes
from ..systems.on_host import computed_on_host
from ..systems.signals import in_best_units, in_even_states, scaled, size_exponent, unit_signals
from ..systems.structure import is_structured
from .response import points_of, responder

#: An eigenvalue of the symplectic pencil this close to the circle counts as on it. One too many
#: only adds a frequency to look at; one too few can hide a peak.
_ON_CIRCLE = 1e-4
_MAX_LEVELS = 60
#: Share by which gains differ by rounding.
_FLAT = 16 * EPSILON
#: Frequencies looked at first, besides the phases of the poles.
_SAMPLES = 64
#: Local maxima of the samples that are followed to their tops, all at once.
_PEAKS = 8
#: Points on each side of a top in each step towards it, and steps.
_POINTS, _STEPS = 8, 12
#: A step that raises the highest top by less than this share is the last one.
_TOP = 1e-12
#: Responses below this share of ‖B‖‖C‖ are not certified: they may be rounding.
_INVISIBLE = 1e-14
#: Numbers between 2 to minus this and 2 to this have squares that are numbers.
_SQUARED = 400
#: Share below the highest gain known, at which the pencil must show its crossings.
_BELOW = 1e-2

Gain = Callable[[np.ndarray], np.ndarray]


@overload
def hinf_norm(
    sys: LinearLike[Array], *, rtol: float = 1e-8, return_frequency: Literal[False] = False
) -> Array: ...
@overload
def hinf_norm(
    sys: LinearLike[Array], *, rtol: float = 1e-8, return_frequency: Literal[True]
) -> tuple[Array, Array]: ...
@computed_on_host
def hinf_norm(
    sys: LinearLike[Array], *, rtol: float = 1e-8, return_frequency: bool = False
) -> Array | tuple[Array, Array]:
    """‖Σ‖_h∞ = max_ω σ_max(H(e^{iω})), or of H(iω) in continuous time, one per batch entry.

    The largest response over samples (phases of the poles included), each local maximum followed to
    its top by a bounded search. A level γ is exceeded somewhere exactly where the symplectic pencil
    of (A, B, C, D, γ) has an eigenvalue on the unit circle: the level is raised to the largest
    response found between crossings until (1 + rtol) γ has none, so that no peak can hide between
    samples. The axis of a continuous-time system is taken to the circle, iω = iα tan(θ/2), on which
    the pencil is that of a discrete-time system of the same gains (Cayley).

    Parameters
    ----------
    rtol : float in [1e-12, 1)
        The result γ satisfies γ ≤ ‖Σ‖ ≤ (1 + rtol) γ, up to the rounding of the responses
        (:func:`lticore.frequency_response`) and of the eigenvalue test, which sees no responses
        below about 1e-14 · ‖B‖‖C‖ in the best units of the states.
    return_frequency : bool
        Whether to return where the peak is, too: ω in radians per sample, in continuous time in
        rad/s, one of them where there are several; infinite where the gain rises towards that of D.

    Returns
    -------
    (...) real array, or two of them. The certificate is computed by LAPACK on NumPy arrays, one
    entry at a time.

    Cost: a few QZ decompositions of order 2n, mostly two, and as many QR of 2n + m + p: O(n³).

    CuPy: computed on the host, see docs/cupy.md.

    Raises
    ------
    UnstableSystemError, ArgumentError, ArrayLibraryError
    NonFiniteError
        Where the norm is too large for a number.

    Warns
    -----
    PrecisionWarning
        Where rounding spoils the pencil, which shows in that it does not see the largest response
        known either: the result is that response then, a lower bound. And where rounding of a
        dense A, in the best units of the states, changes that response by more than 1e-6 of itself.

    Source: Bruinsma & Steinbuch, Systems & Control Letters 14 (1990); Boyd & Balakrishnan (1990).


    >>> sys = lti.LTI([[-0.6]], [[1.0]], [[1.0]])  # at z = −1: 1/|−1 + 0.6|
    >>> norm, frequency = lti.hinf_norm(sys, return_frequency=True)
    >>> print(norm.round(4), abs(frequency).round(4))
    2.5 3.1416

    """
    if not 1e-12 <= rtol < 1:
        raise ArgumentError(f"rtol must lie in [1e-12, 1), but is {rtol!r}")
    sys = as_linear(sys, continuous=True)
    gains, frequencies = peak_gains(sys, rtol)
    if not return_frequency:
        return gains
    return gains, like_precision(frequencies, is_single(sys.B))


@offering(GAINS)
def peak_gains(
    sys: LTI, rtol: float = 1e-8, parts: tuple[LTI, LTI] | None = None
) -> tuple[Any, Any]:
    """(...) largest gains and their frequencies; of the difference of two ``parts`` as accurate as
    the gains of both. Those of different kinds answer each for itself: poles of a Rotation would
    lose digits in the Diagonal that it has in common with complex poles, and more in a matrix."""
    if not is_numpy(sys.B):
        raise ArrayLibraryError("hinf_norm needs LAPACK's QZ and so NumPy arrays")
    full, apart = in_double(sys), parts is not None and _of_different_kinds(*parts)
    for one in parts if parts is not None and apart else (sys,):
        require_stable(one, what="the h-infinity norm")
    if parts is not None:
        parts = spread(parts[0], sys.batch_shape), spread(parts[1], sys.batch_shape)
    full = full.to_dense() if apart else full
    peaks = []
    for index in np.ndindex(sys.batch_shape):
        pair = None if parts is None else (parts[0][index], parts[1][index])
        peaks.append(_peak_gain(full[index], rtol, pair, apart))
    gains, frequencies = np.moveaxis(np.reshape(peaks, (*sys.batch_shape, 2)), -1, 0)
    if not np.all(np.isfinite(gains)):
        raise NonFiniteError("the norm overflows: scale B and C down, since norms scale with them")
    return like_precision(gains, is_single(sys.B)), frequencies


def _of_different_kinds(first: LTI, second: LTI) -> bool:
    return first.order > 0 and second.order > 0 and type(first.A) is not type(second.A)


def _peak_gain(
    sys: LTI, rtol: float, parts: tuple[LTI, LTI] | None, apart: bool
) -> tuple[float, float]:
    timed, time = in_unit_time(sys)
    unit, exponent = _system_of_size_one(timed)
    if unit.D is None and not (unit.B.any() and unit.C.any()):
        return 0.0, 0.0  # no power of two is the size of nothing
    if parts is not None and apart:
        respond, terms = _difference_of_responses(parts, exponent, 4.0 ** float(time))
        turns = np.concatenate([_phases_of(x) for x in parts])
    else:
        # Gains come from the structured system, whose poles near the circle keep their digits.
        respond, terms, turns = responder(unit, _SAMPLES), _terms(unit), _phases_of(unit)
    top, level, certain = _peak_of_unit(unit, rtol, respond, terms, turns)
    if not is_structured(sys.A):
        _warn_if_lost(unit, top, level, parts)
    norm = float(scaled(np.asarray(level), np.asarray(exponent)))
    top = top * 4.0 ** float(time)
    if is_real(sys.A) and not is_complex(sys.B):
        top = abs(top)
    if not certain:
        warn_precision(
            f"the h-infinity norm {norm:.17g}, the gain at frequency {top:.17g}, is a lower bound: "
            "rounding spoils the eigenvalues that would tell whether there are larger ones. "
            "Structured systems, or rows and columns of A of more equal size, may help"
        )
    return norm, top


def _difference_of_responses(
    parts: tuple[LTI, LTI], exponent: float, speed: float
) -> tuple[Gain, float]:
    """(ω ↦ 2^−e (H − Ĥ) for ω in units of ``speed``, the size of what both are summed from)."""
    units = []
    for one in parts:
        unit, b, c = unit_signals(in_even_states(one)[0])
        C = scaled(unit.C, b + c - exponent)
        D = None if one.D is None else scaled(one.D, np.asarray(-exponent))
        units.append(replaced(unit, C=C, D=D))
    first, second = (responder(x, _SAMPLES) for x in units)
    terms = sum(map(_terms, units))
    return lambda omega: first(omega * speed) - second(omega * speed), terms


def _warn_if_lost(sys: LTI, omega: float, gain: float, parts: tuple[LTI, LTI] | None) -> None:
    """Warn where rounding of a dense A changes the gain by more than 1e-6 of itself, or of the
    gains of both systems of a difference: by δH = C (z − A)⁻¹ δA (z − A)⁻¹ B for
    |δA| ≤ eps (|A| + I), and none in the part that is structured."""
    rounded = _states_of_dense(sys, parts)
    if not math.isfinite(omega) or not rounded.any():
        return
    pencil = points_of(np.asarray(omega), sys.is_continuous) * np.eye(sys.order) - sys.A
    try:
        reached = np.linalg.solve(pencil, sys.B.astype(complex))
        seen = adjoint(np.linalg.solve(adjoint(pencil), adjoint(sys.C).astype(complex)))
    except np.linalg.LinAlgError:
        share = np.inf
    else:
        shaken = np.abs(sys.A[rounded]) @ np.abs(reached) + np.abs(reached[rounded])
        moved = np.abs(seen[:, rounded]) @ shaken
        size = gain
        if parts is not None:
            split = parts[0].order
            both = slice(split), slice(split, None)
            size = sum(float(np.linalg.norm(sys.C[:, x] @ reached[x], 2)) for x in both)
        share = EPSILON * float(np.linalg.norm(moved, 2)) / (size or 1)
    if not share <= ACCURACY and gain > _INVISIBLE * _product_of_norms(sys):
        warn_precision(
            f"rounding of the dense A may carry a relative error of {share:.0e} into the "
            f"h-infinity norm, the gain at frequency {omega:.17g}, in the best units of the "
            "states. Diagonal and Rotation structures keep poles near the unit circle exactly"
        )


def _states_of_dense(sys: LTI, parts: tuple[LTI, LTI] | None) -> np.ndarray:
    """(n,) which states, of both ``parts`` of a difference, a dense A holds as it was given."""
    if parts is None:
        return np.ones(sys.order, dtype=bool)
    return np.concatenate([np.full(x.order, not is_structured(x.A)) for x in parts])


def _product_of_norms(sys: LTI) -> float:
    return float(np.linalg.norm(sys.B) * np.linalg.norm(sys.C))


def _system_of_size_one(sys: LTI) -> tuple[LTI, float]:
    """(Σ', e) with Σ = 2^e Σ', in good units of the states, of the inputs and of the outputs."""
    unit, *exponents = unit_signals(in_even_states(sys)[0])
    if is_structured(sys.A):
        balanced, _ = balance_states(unit)
    else:
        balanced, _ = in_best_units(unit)
    unit, *more = unit_signals(balanced)
    exponent: Any = sum(exponents) + sum(more)
    if sys.D is None or not np.any(sys.D):
        return unit, exponent
    common = max(exponent, size_exponent(sys.D))
    C, D = scaled(unit.C, exponent - common), scaled(sys.D, -common)
    return LTI(unit.A, unit.B, C, D, dt=sys.dt), common


def _peak_of_unit(
    sys: LTI, rtol: float, respond: Gain, terms: float, turns: np.ndarray
) -> tuple[float, float, bool]:
    """(ω, largest gain, whether rounding lets one see that there is no larger one) by responses,
    which are sums of ``terms``, of poles with the phases ``turns``."""
    poles, real = mode_poles(sys.A), is_real(sys.A) and not is_complex(sys.B)
    alpha = _middle(poles)
    if sys.is_continuous:
        circular, phases = _cayley_of(sys.to_dense(), alpha), 2 * np.arctan2(poles.imag, alpha)
    else:
        circular, phases = sys.to_dense(), turns

    def frequency(phase: np.ndarray) -> np.ndarray:
        return alpha * np.tan(phase / 2) if sys.is_continuous else phase

    def gain_at(omega: np.ndarray) -> np.ndarray:
        if not real:
            return _largest_singular_values(respond(omega))
        # Gains of real systems are even.
        positive, where = np.unique(np.abs(omega), return_inverse=True)
        return _largest_singular_values(respond(positive))[where]

    def gain(phase: np.ndarray) -> np.ndarray:
        return gain_at(frequency(phase))

    def found(certain: bool) -> tuple[float, float, bool]:
        omega, highest = float(frequency(np.asarray(top))), level
        if sys.is_continuous and sys.order:
            # Phases hold high frequencies to fewer digits than narrow peaks there need.
            points = np.unique(np.append(poles.imag, omega))
            other = _highest(gain_at, points, gain_at(points))
            at_infinity = (math.inf if abs(top) >= math.pi else omega, highest)
            omega, highest = max(at_infinity, other, key=lambda x: x[1])
        rest = float(gain_at(np.zeros(1))[0])
        # A peak at rest is flat: rounding alone puts it √eps aside.
        at_rest = sys.order == 0 or rest >= (1 - _FLAT) * highest
        return 0.0 if at_rest else omega, max(rest, highest), certain

    dense, _ = in_best_units(circular)
    samples = np.linspace(-np.pi, np.pi, _SAMPLES)
    samples = np.unique(np.concatenate([samples, phases]))
    gains = gain(samples)
    top, level = _highest(gain, samples, gains)
    if level <= _INVISIBLE * max(_product_of_norms(dense), terms):
        return found(True)
    trusted = False
    for _ in range(_MAX_LEVELS):
        # First below the level, where the pencil has to show the peak that is known.
        tested = (1 + rtol if trusted else 1 - _BELOW) * level
        try:
            crossings = _level_crossings(dense, tested)
        except np.linalg.LinAlgError:  # QZ did not converge
            break
        if not trusted:
            trusted = _shows(crossings, top, gain, tested) or bool(gains.min() >= tested)
            if not trusted:
                break
        elif len(crossings) == 0:
            return found(True)
        # Between two neighbouring crossings the gain stays above the level, or below it.
        following = np.append(crossings[1:], crossings[:1] + 2 * np.pi)
        middles = (crossings + following) / 2
        if not np.any(gain(middles) > max(level, tested)):
            if tested > level:
                return found(True)
            continue
        points = np.concatenate([crossings, middles, [top]])
        points = np.unique(np.mod(points + np.pi, 2 * np.pi) - np.pi)
        top, level = max(_highest(gain, points, gain(points)), (top, level), key=lambda x: x[1])
    return found(False)


def _largest_singular_values(H: np.ndarray) -> np.ndarray:
    """(...) ‖H‖₂ by its square H Hᴴ, which keeps the digits of the largest value."""
    exponent = size_exponent(H)
    if np.all(np.abs(exponent) <= _SQUARED):
        exponent = 0 * exponent
    else:
        # Squares of what is small beside ‖B‖‖C‖, as D may be, are no numbers.
        H = scaled(H, -exponent[..., None, None])
    rows, columns = H.shape[-2:]
    if 1 in (rows, columns):
        norms = np.linalg.norm(H, axis=(-2, -1))
    else:
        square = H @ adjoint(H) if rows <= columns else adjoint(H) @ H
        norms = np.sqrt(np.maximum(np.linalg.eigvalsh(square)[..., -1], 0))
    return scaled(norms, exponent)


def _phases_of(sys: LTI) -> np.ndarray:
    """Phases of the poles in [−π, π], those of a Rotation to their last digit: a peak of the width
    1 − ρ beside a phase of size 1 may have no more."""
    turns: Any = sys.A.polar_modes[1] if is_structured(sys.A) else np.angle(mode_poles(sys.A))
    return np.where(np.abs(turns) > np.pi, np.angle(np.exp(1j * turns)), turns)


def _middle(poles: np.ndarray) -> float:
    """α > 0 in the middle of the frequencies of a system, by the sizes of its poles."""
    sizes = np.abs(poles[poles != 0])
    return float(np.exp(np.log(sizes).mean())) if sizes.size else 1.0


def _cayley_of(sys: LTI, alpha: float) -> LTI:
    """The discrete-time system with H'(e^{iθ}) = H(iα tan(θ/2)): with M = (αI − A)⁻¹

    A' = M (αI + A),  B' = √(2α) M B,  C' = √(2α) C M,  D' = D + C M B.
    """
    sys, _ = in_best_units(sys)
    identity = np.eye(sys.order)
    MA, MB = np.split(
        np.linalg.solve(
            alpha * identity - sys.A, np.concatenate([alpha * identity + sys.A, sys.B], axis=1)
        ),
        [sys.order],
        axis=1,
    )
    C = adjoint(np.linalg.solve(adjoint(alpha * identity - sys.A), adjoint(sys.C)))
    root, added = np.sqrt(2 * alpha), sys.C @ MB
    return LTI(MA, root * MB, root * C, added if sys.D is None else sys.D + added)


def _terms(sys: LTI) -> float:
    """Σ ‖b_k‖‖c_k‖/(1 − |λ_k|) for a structured system, whose responses are sums over its modes."""
    if not is_structured(sys.A):
        return 0.0
    b, c = (np.linalg.norm(to_modes(sys.A, X), axis=-1) for X in (sys.B, adjoint(sys.C)))
    gaps = sys.A.decay_modes[0] if sys.is_continuous else 1 - sys.A.polar_modes[0]
    return float(b @ (c / gaps))


def _shows(crossings: np.ndarray, top: float, gain: Gain, level: float) -> bool:
    """Whether the crossings next to a peak above the level are its own: the gain between them and
    the peak does not fall far below the level."""
    if len(crossings) == 0:
        return False
    phases = np.sort(np.mod(crossings - top, 2 * np.pi))
    return bool(np.all(gain(top + phases[[0, -1]]) >= level / 2))


def _highest(gain: Gain, omega: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """(ω, gain) at the highest of the local maxima near ascending samples over the whole circle."""
    lower, upper = np.roll(omega, 1), np.roll(omega, -1)
    lower[0] -= 2 * np.pi
    upper[-1] += 2 * np.pi
    local = (gains >= np.roll(gains, 1)) & (gains >= np.roll(gains, -1))
    peaks = np.flatnonzero(local)
    peaks = peaks[np.argsort(-gains[peaks])[:_PEAKS]]
    tops, highest = omega[peaks], gains[peaks]
    below, above = tops - lower[peaks], upper[peaks] - tops
    # Peaks can be many decades narrower than the distance of the samples: geometric steps first.
    shares = np.geomspace(1e-14, 1, 29)[:-1]
    for step in range(_STEPS):
        before = highest.max()
        points = _around(tops, below, above, shares)
        values = np.concatenate(
            [gain(points[:, :-1].ravel()).reshape(len(tops), -1), highest[:, None]], axis=1
        )
        best = np.argmax(values, axis=1)
        rows = np.arange(len(tops))
        centre, highest = points[rows, best], values[rows, best]
        distance = points - centre[:, None]
        limits = np.stack([-below, above], axis=1) + (tops - centre)[:, None]
        distance = np.concatenate([distance, limits], axis=1)
        # Where no number lies between, the search is at its end.
        above = np.where(distance > 0, distance, np.inf).min(axis=1)
        below = np.where(distance < 0, -distance, np.inf).min(axis=1)
        above, below = (np.where(np.isfinite(x), x, 0) for x in (above, below))
        tops = centre
        if step and highest.max() <= before * (1 + _TOP):
            break
        shares = np.arange(1, _POINTS) / _POINTS
        left = highest >= highest.max() / 2
        tops, highest, below, above = (x[left] for x in (tops, highest, below, above))
    first = int(np.argmax(highest))
    return float(tops[first]), float(highest[first])


def _around(
    tops: np.ndarray, below: np.ndarray, above: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """The shares of the ways down and up from each top, ascending, and the top itself."""
    offsets = np.concatenate([-below[:, None] * shares, above[:, None] * shares], axis=1)
    return np.concatenate([tops[:, None] + np.sort(offsets, axis=1), tops[:, None]], axis=1)


def _level_crossings(sys: LTI, level: float) -> np.ndarray:
    """Sorted phases ω at which some singular value of H(e^{iω}) equals ``level``.

    They are the unit-circle eigenvalues of the pencil of :func:`_symplectic_pencil`.
    """
    alpha, beta = scipy.linalg.eigvals(*_symplectic_pencil(sys, level), homogeneous_eigvals=True)
    finite = np.abs(beta) > _ON_CIRCLE * np.abs(alpha)
    z = alpha[finite] / beta[finite]
    on_circle = np.abs(np.abs(z) - 1) < _ON_CIRCLE
    return np.sort(np.angle(z[on_circle]))


def _symplectic_pencil(sys: LTI, level: float) -> tuple[np.ndarray, np.ndarray]:
    """(M, N) of the symplectic pencil M − zN in the variables (x, λ), of x⁺ = A x + B u,
    γ y = C x + D u, λ = Aᴴ λ⁺ + Cᴴ y, γ u = Bᴴ λ⁺ + Dᴴ y with the level γ: no inverse is taken and
    γ enters scaled. The columns of u and y, which have no z, are taken away by a unitary matrix."""
    A, B, C = sys.A, sys.B, sys.C
    n, m, p = sys.order, sys.inputs, sys.outputs
    D = np.zeros((p, m)) if sys.D is None else sys.D
    size = 2 * n + m + p
    M, N = np.zeros((2, size, size), dtype=np.result_type(A, B, C, D))
    x, lam, u, y = np.split(np.arange(size), np.cumsum([n, n, m]))
    scale = np.sqrt(level)

    def put(target: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: np.ndarray) -> None:
        target[np.ix_(rows, columns)] = block

    put(M, x, x, A)
    put(M, x, u, B / scale)
    put(N, x, x, np.eye(n))
    put(M, lam, lam, np.eye(n))
    put(M, lam, y, -adjoint(C) / scale)
    put(N, lam, lam, adjoint(A))
    put(M, u, u, -np.eye(m))
    put(M, u, y, adjoint(D) / level)
    put(N, u, lam, -adjoint(B) / scale)
    put(M, y, x, C / scale)
    put(M, y, u, D / level)
    put(M, y, y, -np.eye(p))
    states, signals = np.split(np.arange(size), [2 * n])
    Q, _ = scipy.linalg.qr(M[:, signals])
    left = adjoint(Q[:, m + p :])
    return left @ M[:, states], left @ N[:, states]
