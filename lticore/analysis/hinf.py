"""The h∞ norm: the largest gain over all frequencies."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
import scipy.linalg

from ..arrays.checks import is_complex, is_single, like_precision
from ..arrays.linalg import EPSILON, adjoint
from ..arrays.namespaces import Array, is_numpy
from ..equations.dense import ACCURACY, schur_form
from ..equations.stability import (
    GAINS,
    counted_stable,
    in_unit_time,
    offering,
    require_stable,
)
from ..errors import (
    ArgumentError,
    ArrayLibraryError,
    NonFiniteError,
    warn_precision,
)
from ..hankel.gramians import balance_states
from ..matrices.balance import balance_dense
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, in_one_row, replaced, rows_of, spread
from ..systems.modes import is_real, mode_poles, to_modes
from ..systems.on_host import computed_on_host
from ..systems.signals import in_best_units, in_even_states, scaled, size_exponent, unit_signals
from ..systems.structure import is_structured
from .peaks import Peaks, gains_of, highest_on_line, largest_singular_values
from .response import Responses, points_of, responses

#: An eigenvalue of the symplectic pencil this close to the circle counts as on it. One too many
#: only adds a frequency to look at; one too few can hide a peak.
_ON_CIRCLE = 1e-4
_MAX_LEVELS = 60
#: Share by which gains differ by rounding.
_FLAT = 16 * EPSILON
#: Frequencies looked at first, besides the phases of the poles.
_SAMPLES = 64
#: Responses below this share of ‖B‖‖C‖ are not certified: they may be rounding.
_INVISIBLE = 1e-14
#: Share below the highest gain known, at which the pencil must show its crossings.
_BELOW = 1e-2
#: Frequencies of the circle are looked at once more on the line where they are further apart than
#: this share of the width of a peak.
_COARSE = 1e-8
_WHAT = "the h-infinity norm"


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
    (...) real array, or two of them. The certificate is computed by LAPACK on NumPy arrays.

    Cost: a few QZ decompositions of order 2n, mostly two, and as many QR of 2n + m + p, for each
    system of a batch; all else for the batch at once: O(n³).

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
    full, batch = in_one_row(in_double(sys)), sys.batch_shape
    if 0 in batch:
        return like_precision(np.zeros(batch), is_single(sys.B)), np.zeros(batch)
    if parts is not None:
        parts = in_one_row(spread(parts[0], batch)), in_one_row(spread(parts[1], batch))
    apart = parts is not None and _of_different_kinds(*parts)
    for one in parts if parts is not None and apart else (sys,) if is_structured(sys.A) else ():
        require_stable(one, what=_WHAT)
    full = full.to_dense() if apart else full
    timed, time = in_unit_time(full)
    whole, exponent = _system_of_size_one(timed)
    forms = None if is_structured(full.A) else schur_form(whole.A)
    if not (forms is None or apart or counted_stable(forms[0], sys.is_continuous).all()):
        # Names the mode by its place in the whole batch.
        require_stable(sys, what=_WHAT)
    unit, speed = _with_few_signals(whole), 4.0**time
    poles = mode_poles(unit.A) if forms is None else np.diagonal(forms[0], axis1=-2, axis2=-1)
    if parts is not None and apart:
        respond, terms = _difference_of_responses(parts, exponent, speed)
        turns = np.concatenate([_phases_of(x, mode_poles(x.A)) for x in parts], axis=-1)
    else:
        # Gains come from the structured system, whose poles near the circle keep their digits.
        respond, terms, turns = responses(unit, forms), _terms(unit), _phases_of(unit, poles)
    tops, levels, certain = _peaks_of_units(unit, rtol, respond, terms, poles, turns)
    gains, frequencies = scaled(levels, exponent), tops * speed
    frequencies = np.abs(frequencies) if _is_even(sys) else frequencies
    lost = np.zeros(len(tops)) if forms is None else _lost_to_rounding(whole, tops, levels, parts)
    for k in np.flatnonzero((lost > ACCURACY) | ~certain):
        _warn_of_peak(gains[k], frequencies[k], lost[k], bool(certain[k]))
    gains, frequencies = (x.reshape(batch)[()] for x in (gains, frequencies))
    if not np.all(np.isfinite(gains)):
        raise NonFiniteError("the norm overflows: scale B and C down, since norms scale with them")
    return like_precision(gains, is_single(sys.B)), frequencies


def _of_different_kinds(first: LTI, second: LTI) -> bool:
    return first.order > 0 and second.order > 0 and type(first.A) is not type(second.A)


def _warn_of_peak(norm: float, top: float, lost: float, certain: bool) -> None:
    if lost > ACCURACY:
        warn_precision(
            f"rounding of the dense A may carry a relative error of {lost:.0e} into the "
            f"h-infinity norm, the gain at frequency {top:.17g}, in the best units of the "
            "states. Diagonal and Rotation structures keep poles near the unit circle exactly"
        )
    if not certain:
        warn_precision(
            f"the h-infinity norm {norm:.17g}, the gain at frequency {top:.17g}, is a lower bound: "
            "rounding spoils the eigenvalues that would tell whether there are larger ones. "
            "Structured systems, or rows and columns of A of more equal size, may help"
        )


def _is_even(sys: LTI) -> bool:
    """Whether gains are those of real systems, the same at ω and −ω."""
    return is_real(sys.A) and not is_complex(sys.B)


def _difference_of_responses(
    parts: tuple[LTI, LTI], exponent: np.ndarray, speed: np.ndarray
) -> tuple[Responses, np.ndarray]:
    """(ω ↦ 2^−e (H − Ĥ) for ω in units of ``speed``, the size of what both are summed from)."""
    units = []
    for one in parts:
        unit, b, c = unit_signals(in_even_states(one)[0])
        C = scaled(unit.C, (b + c - exponent)[:, None, None])
        D = None if one.D is None else scaled(one.D, -exponent[:, None, None])
        units.append(replaced(unit, C=C, D=D))
    first, second = map(responses, units)

    def respond(rows: np.ndarray, omega: np.ndarray) -> np.ndarray:
        omega = omega * speed[rows, None]
        return first(rows, omega) - second(rows, omega)

    return respond, _terms(units[0]) + _terms(units[1])


def _lost_to_rounding(
    sys: LTI, omega: np.ndarray, gains: np.ndarray, parts: tuple[LTI, LTI] | None
) -> np.ndarray:
    """(count,) the share by which rounding of a dense A changes the gains, or of the gains of both
    systems of a difference: by δH = C (z − A)⁻¹ δA (z − A)⁻¹ B for |δA| ≤ eps (|A| + I), and none
    in the part that is structured. 0 where it is not seen."""
    rounded = _states_of_dense(sys, parts)
    seen_at_all = np.isfinite(omega) & (gains > _INVISIBLE * _product_of_norms(sys))
    share = np.zeros(len(omega))
    if not rounded.any() or not seen_at_all.any():
        return share
    A, B, C = sys.A[seen_at_all], sys.B[seen_at_all], sys.C[seen_at_all]
    z = points_of(omega[seen_at_all], sys.is_continuous)
    pencil = z[:, None, None] * np.eye(sys.order) - A
    reached = _solution_or_nan(pencil, B.astype(complex))
    seen = adjoint(_solution_or_nan(adjoint(pencil), adjoint(C).astype(complex)))
    shaken = np.abs(A[:, rounded]) @ np.abs(reached) + np.abs(reached[:, rounded])
    moved = np.abs(seen[:, :, rounded]) @ shaken
    size = gains[seen_at_all]
    if parts is not None:
        split = parts[0].order
        both = slice(split), slice(split, None)
        size = sum(largest_singular_values(C[:, :, x] @ reached[:, x]) for x in both)
    found = EPSILON * np.linalg.norm(moved, 2, axis=(-2, -1)) / np.where(size > 0, size, 1)
    share[seen_at_all] = np.where(np.isnan(found), np.inf, found)
    return share


def _solution_or_nan(M: np.ndarray, X: np.ndarray) -> np.ndarray:
    """M⁻¹ X, NaN where M is singular to the last digit."""
    try:
        return np.linalg.solve(M, X)
    except np.linalg.LinAlgError:
        if len(M) == 1:
            return np.full(X.shape, np.nan)
        return np.concatenate([_solution_or_nan(M[k : k + 1], X[k : k + 1]) for k in range(len(M))])


def _states_of_dense(sys: LTI, parts: tuple[LTI, LTI] | None) -> np.ndarray:
    """(n,) which states, of both ``parts`` of a difference, a dense A holds as it was given."""
    if parts is None:
        return np.ones(sys.order, dtype=bool)
    return np.concatenate([np.full(x.order, not is_structured(x.A)) for x in parts])


def _product_of_norms(sys: LTI) -> np.ndarray:
    b, c = (np.linalg.norm(X, axis=(-2, -1)) for X in (sys.B, sys.C))
    return b * c


def _system_of_size_one(sys: LTI) -> tuple[LTI, Any]:
    """(Σ', e) with Σ = 2^e Σ', in good units of the states, of the inputs and of the outputs."""
    unit, *exponents = unit_signals(in_even_states(sys)[0])
    if is_structured(sys.A):
        balanced, _ = balance_states(unit)
    else:
        balanced, _ = in_best_units(unit)
    unit, *more = unit_signals(balanced)
    exponent: Any = sum(exponents) + sum(more)
    # No power of two is the size of nothing.
    some = unit.B.any(axis=(-2, -1)) & unit.C.any(axis=(-2, -1))
    if sys.D is None or not np.any(sys.D):
        return unit, np.where(some, exponent, 0)
    common = np.maximum(exponent, size_exponent(sys.D))
    common = np.where(some | sys.D.any(axis=(-2, -1)), common, 0)
    C = scaled(unit.C, (exponent - common)[..., None, None])
    return replaced(unit, C=C, D=scaled(sys.D, -common[..., None, None])), common


def _with_few_signals(sys: LTI) -> LTI:
    """A system of the same gains, with no more inputs, or outputs, than states."""
    if sys.D is not None:
        return sys
    B, C = sys.B, sys.C
    # Gains do not see unitary changes of signals.
    if sys.inputs > sys.order:
        B = adjoint(np.linalg.qr(adjoint(B)).R)
    if sys.outputs > sys.order:
        C = np.linalg.qr(C).R
    return replaced(sys, B=B, C=C)


def _peaks_of_units(
    sys: LTI,
    rtol: float,
    respond: Responses,
    terms: np.ndarray,
    poles: np.ndarray,
    turns: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ω, largest gain, whether rounding lets one see that there is no larger one), (count,), by
    responses, which are sums of ``terms``, of poles with the phases ``turns``."""
    even, alpha, rows = _is_even(sys), _middle(poles), np.arange(len(poles))
    circular, phases = sys, turns
    if sys.is_continuous:
        circular, phases = _cayley_of(sys, alpha), 2 * np.arctan2(poles.imag, alpha[:, None])
    elif is_structured(sys.A):
        circular, _ = in_best_units(sys.to_dense())
    gain_at = gains_of(respond, even, sys.order * max(sys.inputs, sys.outputs))

    def frequency(rows: np.ndarray, phase: np.ndarray) -> np.ndarray:
        return alpha[rows, None] * np.tan(phase / 2) if sys.is_continuous else phase

    peaks = Peaks(lambda rows, phase: gain_at(rows, frequency(rows, phase)), even, len(poles))
    grid = np.linspace(-np.pi, np.pi, _SAMPLES)
    grid = np.broadcast_to(grid, (len(poles), _SAMPLES))
    least = peaks.raise_near(rows, np.concatenate([grid, phases], axis=1))
    certain = peaks.levels <= _INVISIBLE * np.maximum(_product_of_norms(circular), terms)
    _certify(circular, peaks, least, certain, rtol)
    tops, levels = frequency(rows, peaks.tops[:, None])[:, 0], peaks.levels
    if sys.is_continuous and sys.order:
        tops = np.where(np.abs(peaks.tops) >= np.pi, np.inf, tops)
        # Phases hold high frequencies to fewer digits than narrow peaks there need.
        coarse = EPSILON * (alpha[:, None] ** 2 + poles.imag**2) / alpha[:, None]
        narrow = np.flatnonzero((coarse > _COARSE * np.abs(poles.real)).any(axis=1))
        points = np.concatenate([poles.imag, frequency(rows, peaks.tops[:, None])], axis=1)[narrow]
        found, highest = highest_on_line(gain_at, narrow, points, gain_at(narrow, points))
        higher = highest > levels[narrow]
        tops[narrow[higher]], levels[narrow[higher]] = found[higher], highest[higher]
    rest = gain_at(rows, np.zeros((len(poles), 1)))[:, 0]
    # A peak at rest is flat: rounding alone puts it √eps aside.
    at_rest = (sys.order == 0) | (rest >= (1 - _FLAT) * levels)
    return np.where(at_rest, 0.0, tops), np.maximum(rest, levels), certain


def _certify(sys: LTI, peaks: Peaks, least: np.ndarray, certain: np.ndarray, rtol: float) -> None:
    """Raise the peaks of discrete-time systems until they are ``certain``, in place, or rounding
    does not let one see it; ``least`` are the least gains known."""
    rows, trusted = np.flatnonzero(~certain), np.zeros(len(certain), dtype=bool)
    for _ in range(_MAX_LEVELS):
        if not len(rows):
            break
        # First below the level, where the pencil has to show the peak that is known.
        tested = np.where(trusted[rows], 1 + rtol, 1 - _BELOW) * peaks.levels[rows]
        crossings, solved = _crossings_of(rows_of(sys, rows), tested)
        some, known = ~np.isnan(crossings).all(axis=1), trusted[rows]
        shown = known | (least[rows] >= tested)
        unsure = np.flatnonzero(solved & some & ~shown)
        shown[unsure] = peaks.are_next_to(rows[unsure], crossings[unsure], tested[unsure] / 2)
        trusted[rows] = shown
        certain[rows] = solved & known & ~some
        left = solved & shown & ~certain[rows]
        rows, crossings, tested = rows[left], crossings[left], tested[left]
        higher = peaks.raise_between(rows, crossings, tested)
        certain[rows] = ~higher & (tested > peaks.levels[rows])
        rows = rows[~certain[rows]]


def _crossings_of(sys: LTI, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(count, k) ascending phases of crossings of the levels, filled up with NaN, and of which
    systems there are any to be had."""
    found: list[np.ndarray | None] = []
    for M, N in zip(*_symplectic_pencil(sys, levels), strict=True):
        try:
            found.append(_level_crossings(M, N))
        except np.linalg.LinAlgError:  # QZ did not converge
            found.append(None)
    most = max((len(x) for x in found if x is not None), default=0)
    crossings = np.full((len(found), most), np.nan)
    for row, phases in zip(crossings, found, strict=True):
        if phases is not None:
            row[: len(phases)] = phases
    return crossings, np.array([x is not None for x in found])


def _phases_of(sys: LTI, poles: np.ndarray) -> np.ndarray:
    """(count, n) phases of the poles in [−π, π], those of a Rotation to their last digit: a peak of
    the width 1 − ρ beside a phase of size 1 may have no more."""
    turns: Any = sys.A.polar_modes[1] if is_structured(sys.A) else np.angle(poles)
    return np.where(np.abs(turns) > np.pi, np.angle(np.exp(1j * turns)), turns)


def _middle(poles: np.ndarray) -> np.ndarray:
    """(count,) α > 0 in the middle of the frequencies of a system, by the sizes of its poles."""
    some = poles != 0
    sizes = np.log(np.where(some, np.abs(poles), 1)).sum(axis=-1)
    return np.exp(sizes / np.maximum(some.sum(axis=-1), 1))


def _cayley_of(sys: LTI, alpha: np.ndarray) -> LTI:
    """The discrete-time systems with H'(e^{iθ}) = H(iα tan(θ/2)), in the best units of their
    states: with M = (αI − A)⁻¹

    A' = M (αI + A),  B' = √(2α) M B,  C' = √(2α) C M,  D' = D + C M B.
    """
    if is_structured(sys.A):
        sys, _ = in_best_units(sys.to_dense())
    A, B, C, n = sys.A, sys.B, sys.C, sys.order
    shift = alpha[:, None, None] * np.eye(n)
    both = np.linalg.solve(shift - A, np.concatenate([shift + A, B], axis=-1))
    MA, MB = both[..., :n], both[..., n:]
    root, added = np.sqrt(2 * alpha)[:, None, None], C @ MB
    C = adjoint(np.linalg.solve(adjoint(shift - A), adjoint(C)))
    A, B, C, _ = balance_dense(MA, root * MB, root * C)
    D = added if sys.D is None else sys.D + added
    return replaced(sys, A=A, B=B, C=C, D=D, dt=True)


def _terms(sys: LTI) -> np.ndarray:
    """(count,) Σ ‖b_k‖‖c_k‖/(1 − |λ_k|) for structured systems, whose responses are sums over their
    modes."""
    if not is_structured(sys.A):
        return np.zeros(sys.batch_shape)
    b, c = (np.linalg.norm(to_modes(sys.A, X), axis=-1) for X in (sys.B, adjoint(sys.C)))
    gaps: Any = sys.A.decay_modes[0] if sys.is_continuous else 1 - sys.A.polar_modes[0]
    return (b * (c / gaps)).sum(axis=-1)


def _level_crossings(M: np.ndarray, N: np.ndarray) -> np.ndarray:
    """Sorted phases ω at which some singular value of H(e^{iω}) equals the level of the
    :func:`_symplectic_pencil` M − zN: those of its eigenvalues on the unit circle."""
    if not M.size:
        return np.zeros(0)
    (ggev,) = _ggev(np.dtype(M.dtype))
    *alpha, beta, _, _, _, info = ggev(M, N, compute_vl=0, compute_vr=0)
    if info != 0:
        raise np.linalg.LinAlgError(f"the QZ iteration failed (info = {info})")
    top = alpha[0] if len(alpha) == 1 else alpha[0] + 1j * alpha[1]
    finite = np.abs(beta) > _ON_CIRCLE * np.abs(top)
    z = top[finite] / beta[finite]
    on_circle = np.abs(np.abs(z) - 1) < _ON_CIRCLE
    return np.sort(np.angle(z[on_circle]))


@cache
def _ggev(dtype: Any) -> Any:
    return scipy.linalg.get_lapack_funcs(("ggev",), dtype=dtype)


def _symplectic_pencil(sys: LTI, level: Any) -> tuple[np.ndarray, np.ndarray]:
    """(M, N), (..., 2n, 2n), of the symplectic pencil M − zN in the variables (x, λ), of
    x⁺ = A x + B u, γ y = C x + D u, λ = Aᴴ λ⁺ + Cᴴ y, γ u = Bᴴ λ⁺ + Dᴴ y with the level γ: no
    inverse is taken and γ enters scaled. The columns of u and y, which have no z, are taken away by
    a unitary matrix."""
    A, B, C = sys.A, sys.B, sys.C
    n, m, p = sys.order, sys.inputs, sys.outputs
    D = np.zeros((p, m)) if sys.D is None else sys.D
    size = 2 * n + m + p
    M, N = np.zeros((2, *sys.batch_shape, size, size), dtype=np.result_type(A, B, C, D))
    x, lam, u, y = (slice(a, b) for a, b in pairwise([0, n, 2 * n, 2 * n + m, size]))
    level = np.asarray(level)[..., None, None]
    scale = np.sqrt(level)
    M[..., x, x], M[..., x, u] = A, B / scale
    N[..., x, x] = M[..., lam, lam] = np.eye(n)
    M[..., lam, y], N[..., lam, lam] = -adjoint(C) / scale, adjoint(A)
    M[..., u, u], M[..., u, y], N[..., u, lam] = -np.eye(m), adjoint(D) / level, -adjoint(B) / scale
    M[..., y, x], M[..., y, u], M[..., y, y] = C / scale, D / level, -np.eye(p)
    Q = np.linalg.qr(M[..., 2 * n :], mode="complete").Q
    left = adjoint(Q[..., m + p :])
    return left @ M[..., : 2 * n], left @ N[..., : 2 * n]
