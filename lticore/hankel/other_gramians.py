"""Gramians of weighted signals and of bands of frequencies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from io import StringIO
from typing import Any

import numpy as np
import scipy.linalg

from ..arrays.checks import is_complex, is_single, like_precision
from ..arrays.linalg import adjoint, as_complex, complex_of, log2, one_minus, real_part
from ..arrays.namespaces import Array, is_numpy, namespace
from ..equations.dense import ACCURACY, schur_form
from ..equations.lyapunov import lyapunov_factors, solve_lyapunov
from ..equations.modal import series_factors
from ..equations.stability import (
    NOTHING,
    offering,
    require_stable,
    schur_systems,
)
from ..equations.stein import solve_stein
from ..equations.two_sided import random_rounding
from ..errors import (
    ArgumentError,
    ArrayLibraryError,
    PrecisionWarning,
    UnstableSystemError,
    warn_precision,
)
from ..matrices.balance import rescaled
from ..matrices.factors import hermitian_part, weighted_gram
from ..systems.algebra import common_dt
from ..systems.doors import LinearLike, as_linear
from ..systems.lti import LTI, in_double, replaced
from ..systems.modes import from_modes, is_real, multiply, to_modes
from ..systems.on_host import computed_on_host
from ..systems.signals import scaled, unit_signals
from ..systems.structure import Structure, adjoint_of, is_structured
from .gramians import double_gramians, driven_units
from .schur_factors import factors_in_even_units, require_finite_gramian

_WHAT = "a weighted Gramian"
_OF_BANDS = "a Gramian of bands"
#: Real and imaginary parts of triangular forms below this share of the largest are left out.
_FAINTEST = 1e-290


@computed_on_host
@offering(NOTHING)
def weighted_gramians(
    sys: LinearLike[Array],
    *,
    input_weight: LinearLike[Array] | None = None,
    output_weight: LinearLike[Array] | None = None,
) -> tuple[Array, Array]:
    """(P, Q) of the states of a system whose inputs come from one filter and whose outputs go
    through another, driven by white noise:

        P : states of H in H W_i,    Q : states of H in W_o H

    For ``balanced_truncation(sys, order, gramians=(P, Q))``, which then weighs errors as W_o and
    W_i do: frequency-weighted balanced truncation. With one weight the reduced system is stable,
    with two it need not be, and is made so with a warning.

    Parameters
    ----------
    input_weight : stable system with as many outputs as ``sys`` has inputs; None for 1
    output_weight : stable system with as many inputs as ``sys`` has outputs; None for 1

    Returns
    -------
    P, Q : (..., n, n) Hermitian positive semidefinite arrays in the precision of the system.

    Conditions: all poles stable; one time for all. Weights have no batch.

    Accuracy: dense A on NumPy as :func:`controllability_gramian` of the system behind its weight.
    Else that of formed Gramians, in which weights count by the squares of what their responses are
    summed from: large terms should not cancel in them.

    Cost: O(n² (m + p) + n n_w²) for structured A, O(n³ + n_w³) dense.

    CuPy: computed on the host.

    Raises
    ------
    UnstableSystemError, ArgumentError, NonFiniteError

    Source: Enns, CDC 1984.


    >>> delay = lti.LTI([[0.0]], [[1.0]], [[1.0]])
    >>> weight = lti.LTI([[0.0]], [[1.0]], [[1.0]], 1.0)  # 1 + 1/z
    >>> P, Q = lti.weighted_gramians(delay, input_weight=weight)
    >>> P.round(12), Q.round(12)
    (array([[2.]]), array([[1.]]))

    """
    sys = as_linear(sys, continuous=True)
    full = in_double(sys)
    require_stable(full, what=_WHAT)
    drive = watch = _driven
    if input_weight is not None:
        before = _weight(input_weight, "input_weight", full, outputs=full.inputs)
        drive = partial(_driven_by, weight=before)
    if output_weight is not None:
        # Of the adjoint system the outputs are inputs.
        after = _weight(output_weight, "output_weight", full, inputs=full.outputs)
        watch = partial(_driven_by, weight=_adjoint(after))
    return _both_in_even_units(full, drive, watch, is_single(sys.B))


def _both_in_even_units(
    sys: LTI[Array],
    drive: Callable[[LTI[Array]], Array],
    watch: Callable[[LTI[Array]], Array],
    single: bool,
) -> tuple[Array, Array]:
    """P of a system and Q, P of its adjoint, by functions of systems whose inputs drive all states
    alike, by about 1."""
    found = []
    for name, one, gramian in (("P", sys, drive), ("Q", _adjoint(sys), watch)):
        d = driven_units(one.A, one.B, one.is_continuous)
        row = namespace(d).matrix_transpose(d)
        dense = is_numpy(one.B) and not is_structured(one.A)
        A: Any = rescaled(one.A, row, d) if dense else one.A
        # What does not count may be no number in units that suit what does.
        unit, b, _ = unit_signals(replaced(one, A=A, B=one.B / d, C=0 * one.C))
        up = log2(d) + b[..., None, None]
        # What overflows is refused.
        with np.errstate(over="ignore"):
            X = scaled(gramian(unit), up, namespace(d).matrix_transpose(up))
        found.append(like_precision(require_finite_gramian(X, name), single))
    return found[0], found[1]


def _driven(sys: LTI[Array]) -> Array:
    (P,) = double_gramians(sys, which="P")
    return P


def _weight(
    weight: Any, name: str, sys: LTI, *, inputs: int | None = None, outputs: int | None = None
) -> LTI:
    found = in_double(as_linear(weight, name, continuous=True))
    common_dt(sys.dt, found.dt)
    if found.batch_shape:
        raise ArgumentError(f"{name} is a batch of shape {found.batch_shape}: give one system")
    have, want, what = (
        (found.inputs, inputs, "inputs") if outputs is None else (found.outputs, outputs, "outputs")
    )
    if have != want:
        raise ArgumentError(f"{name} has {have} {what}, but the system needs {want} of it")
    require_stable(found, what=f"{_WHAT} ({name})")
    return found


def _adjoint(sys: LTI[Array]) -> LTI[Array]:
    """(Aᴴ, Cᴴ, Bᴴ, Dᴴ)"""
    D = None if sys.D is None else adjoint(sys.D)
    return LTI(adjoint_of(sys.A), adjoint(sys.C), adjoint(sys.B), D, dt=sys.dt)


def _driven_by(sys: LTI, weight: LTI) -> Any:
    """The covariance of the states x of x⁺ = A x + B u, u = C_w w + D_w e, w⁺ = A_w w + B_w e, with
    those X of x and w and P_w of w:

        A X A_wᴴ − X + B U A_wᴴ + B D_w B_wᴴ = 0,         U = C_w P_w
        A P Aᴴ − P + A X C_wᴴ Bᴴ + h.c. + B (U C_wᴴ + D_w D_wᴴ) Bᴴ = 0

    in continuous time

        A X + X A_wᴴ + B U + B D_w B_wᴴ = 0,    A P + P Aᴴ + X C_wᴴ Bᴴ + h.c. + B D_w D_wᴴ Bᴴ = 0
    """
    A, B = sys.A, sys.B
    if is_numpy(B) and not is_structured(A):
        # From a factor of the covariance of both, in which nothing cancels, unless the rounding of
        # one of them carries poles of the other to the boundary.
        with suppress(UnstableSystemError):
            (P,) = double_gramians(sys @ weight, which="P")
            return P[..., weight.order :, weight.order :]
    C_w, B_w = weight.C, weight.B
    xp = namespace(B)
    D_w = xp.zeros((weight.outputs, weight.inputs)) if weight.D is None else weight.D
    (P_w,) = double_gramians(weight, which="P")
    U, BD = C_w @ P_w, B @ D_w
    if sys.is_continuous:
        X = solve_lyapunov(A, B @ U + BD @ adjoint(B_w), weight.A)
        through = X @ adjoint(C_w) @ adjoint(B)
        return hermitian_part(solve_lyapunov(A, through + adjoint(through) + weighted_gram(BD)))
    # U A_wᴴ as (A_w Uᴴ)ᴴ, which a structure does.
    moved = adjoint(multiply(weight.A, adjoint(U)))
    X = solve_stein(A, B @ moved + BD @ adjoint(B_w), weight.A)
    through = multiply(A, X @ adjoint(C_w) @ adjoint(B))
    direct = B @ (U @ adjoint(C_w)) @ adjoint(B) + weighted_gram(BD)
    return hermitian_part(solve_stein(A, through + adjoint(through) + direct))


@computed_on_host
@offering(NOTHING)
def band_gramians(
    sys: LinearLike[Array], bands: Sequence[tuple[float, float]]
) -> tuple[Array, Array]:
    """(P, Q) of a system driven, and looked at, in some bands Ω of frequencies only.

        P = (1/2π) ∫_Ω (z − A)⁻¹ B Bᴴ (z − A)⁻ᴴ dω,    Q = (1/2π) ∫_Ω (z − A)⁻ᴴ Cᴴ C (z − A)⁻¹ dω

    with z = e^{iω}, in continuous time z = iω. For ``balanced_truncation(sys, order,
    gramians=(P, Q))``: frequency-limited balanced truncation.

    Parameters
    ----------
    bands : pairs (ω_1, ω_2) with ω_1 < ω_2, in rad per sample between −π and π, in continuous time
        in rad/s up to infinity. Of real systems Ω is made symmetric: (1, 2) stands for (−2, −1)
        too. Bands that overlap count once.

    Returns
    -------
    P, Q : (..., n, n) Hermitian positive semidefinite arrays in the precision of the system, real
        for real systems. Over all frequencies they are the Gramians.

    Conditions: all poles stable.

    Accuracy: structured A: each entry of P in the modes to some eps of the size of its integrand,
    however narrow the band. Dense: that of the logarithm of a matrix (SciPy), in units of the
    states in which the Gramian over all frequencies is even.

    Cost: O(n² (m + p)) structured, O(n³) dense for each band.

    CuPy: computed on the host.

    Raises
    ------
    UnstableSystemError, ArgumentError, NonFiniteError
    ArrayLibraryError
        For dense systems that are not NumPy arrays.

    Warns
    -----
    PrecisionWarning
        Where rounding of a dense A, in these units of the states, and of its logarithm changes a
        Gramian by more than 1e-6 of itself: measured by a change of that size, of other logarithms.

    Source: Gawronski & Juang, Int. J. Systems Sci. 21 (1990).


    >>> delay = lti.LTI(lti.Diagonal([0.0]), [[1.0]], [[1.0]])
    >>> P, Q = lti.band_gramians(delay, [(0.0, np.pi / 4)])  # a quarter of all
    >>> P.round(12), Q.round(12)
    (array([[0.25]]), array([[0.25]]))

    """
    sys = as_linear(sys, continuous=True)
    full = in_double(sys)
    require_stable(full, what=_OF_BANDS)
    real = is_real(full.A) and not is_complex(full.B)
    pieces = _checked_bands(bands, real, full.is_continuous)
    if full.order == 0:
        P, Q = double_gramians(full)
        return P, Q
    gramian: Any = _in_bands if is_structured(full.A) else _dense_in_bands
    mirrored = [(-high, -low) for low, high in pieces]
    drive, watch = (lambda one, bands=x: gramian(one, bands) for x in (pieces, mirrored))
    P, Q = _both_in_even_units(full, drive, watch, is_single(sys.B))
    return (real_part(P), real_part(Q)) if real else (P, Q)


def _checked_bands(bands: Any, real: bool, continuous: bool) -> list[tuple[float, float]]:
    """Disjoint bands in ascending order, symmetric for real systems."""
    most = math.inf if continuous else math.pi
    unit = "rad/s" if continuous else "rad per sample"
    found = []
    for band in bands:
        try:
            low, high = (float(x) for x in band)
        except (TypeError, ValueError):
            raise ArgumentError(f"bands are pairs (ω_1, ω_2), but one is {band!r}") from None
        if not -most <= low < high <= most:
            raise ArgumentError(
                f"a band (ω_1, ω_2) has −{most:.4g} ≤ ω_1 < ω_2 ≤ {most:.4g} in {unit}, but one is "
                f"({low:g}, {high:g})"
            )
        found += [(low, high), (-high, -low)] if real else [(low, high)]
    if not found:
        raise ArgumentError("bands is empty: give pairs (ω_1, ω_2)")
    merged: list[tuple[float, float]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _in_bands(sys: LTI[Array], bands: list[tuple[float, float]]) -> Array:
    """In the modes P_ij = (b bᴴ)_ij d_ij⁻¹ Σ_Ω (F_i + conj F_j + Δ)/2π, with Δ = ω_2 − ω_1 in
    discrete time and 0 in continuous time, and the F of :func:`_mode_integrals`."""
    A, xp = sys.A, namespace(sys.B)
    continuous = sys.is_continuous
    inverse = lyapunov_factors(A, A) if continuous else series_factors(A, A)
    total: Any = 0.0
    for low, high in bands:
        F = _mode_integrals(A, low, high, continuous)
        width = 0.0 if continuous else high - low
        total = total + F[..., :, None] + xp.conj(F)[..., None, :] + width
    b = as_complex(to_modes(A, sys.B))
    X = weighted_gram(b) * inverse * total / (2 * math.pi)
    return hermitian_part(from_modes(A, adjoint(from_modes(A, adjoint(X)))))


def _mode_integrals(A: Structure[Array], low: float, high: float, continuous: bool) -> Array:
    """F(ω_2) − F(ω_1) of each mode, as the logarithm of a quotient near 1 where the band is narrow:

    continuous:  F = −i log(iω − λ);       discrete:  F = −i log(1 − λ e^{−iω}).
    """
    if continuous:
        decay, frequency = A.decay_modes
        xp = namespace(decay)
        if math.isinf(low) or math.isinf(high):
            # −i log(iω − λ) + i log |ω| tends to ±π/2, and i log |ω| cancels in F_i + conj F_j.
            ends = [
                complex_of(xp.full_like(decay, math.copysign(math.pi / 2, w)), 0 * decay)
                if math.isinf(w)
                else -1j * xp.log(complex_of(decay, w - frequency))
                for w in (low, high)
            ]
            return ends[1] - ends[0]
        change = complex_of(0 * decay, 0 * decay + (high - low))
        return -1j * xp.log1p(change / complex_of(decay, low - frequency))
    radius, phase = A.polar_modes
    xp = namespace(radius)
    turn, width = phase - low, high - low
    # 1 − λ e^{−iω_2} = (1 − λ e^{−iω_1}) + λ e^{−iω_1} (1 − e^{−iΔ})
    chord = complex_of(0 * turn + 2 * math.sin(width / 2) ** 2, 0 * turn + math.sin(width))
    change = complex_of(radius * xp.cos(turn), radius * xp.sin(turn)) * chord
    return -1j * xp.log1p(change / one_minus(1 - radius, radius, turn))


def _dense_in_bands(sys: LTI, bands: list[tuple[float, float]]) -> np.ndarray:
    """P of A P + P Aᴴ + F W + W Fᴴ = 0 with W = B Bᴴ and the F above of the matrix A, over 2π, and
    alike in discrete time."""
    if not is_numpy(sys.B):
        raise ArrayLibraryError("Gramians of bands of a dense system need NumPy arrays")
    X = np.empty((*sys.batch_shape, sys.order, sys.order), dtype=complex)
    rng, share = np.random.default_rng(0), 0.0
    forms = schur_systems(sys, what=_OF_BANDS, observed=False)
    # Over all frequencies P_ii is larger than over some of them.
    factors_in_even_units(sys, forms, "P", None)
    for index, one in forms.entries():
        A, B, rate = one.A, one.U @ one.B, 4.0**one.time
        scaled_bands = [(low / rate, high / rate) for low, high in bands]
        found = _gramian_of_bands(A, B, scaled_bands, sys.is_continuous)
        near = A + random_rounding(A, rng)
        again = _gramian_of_bands(near, B, scaled_bands, sys.is_continuous, apart=True)
        size, moved = (float(np.linalg.norm(x)) for x in (found, again - found))
        share = float(np.maximum(share, moved / size if size > 0 else 0.0))
        units = np.ldexp(one.units, one.b)
        X[index] = units * found * units.T
    if not share <= ACCURACY:
        warn_precision(
            f"rounding of the dense A may carry a relative error of {share:.0e} into the Gramian "
            "of bands, in the units of the states in which that of all frequencies is even. "
            "Diagonal, Rotation and Oscillation structures keep poles near the boundary exactly"
        )
    return hermitian_part(X)


def _gramian_of_bands(
    A: np.ndarray,
    B: np.ndarray,
    bands: list[tuple[float, float]],
    continuous: bool,
    apart: bool = False,
) -> np.ndarray:
    """By the logarithms of quotients, or of both ends ``apart``, whose rounding is another."""
    W, right = B @ adjoint(B), np.zeros((len(A), len(A)), dtype=complex)
    for low, high in bands:
        F = _matrix_integral(A, low, high, continuous, apart)
        width = 0.0 if continuous else high - low
        right += F @ W + W @ adjoint(F) + width * W
    solve: Any = solve_lyapunov if continuous else solve_stein
    with warnings.catch_warnings():
        # What rounding does is measured for the whole.
        warnings.simplefilter("ignore", PrecisionWarning)
        found: np.ndarray = solve(A, right / (2 * math.pi))
    return found


def _logm(X: np.ndarray) -> np.ndarray:
    """SciPy's logarithm without its words: its estimate of the error by exp log X, and divisions by
    moduli next to the smallest number in estimates of norms. Of a triangular form without such
    numbers, the differences of whose poles it divides by."""
    T, U = schur_form(X)
    T = np.ascontiguousarray(T)
    parts = T.view(np.float64)
    T = np.where(np.abs(parts) > _FAINTEST * np.abs(parts).max(), parts, 0.0).view(T.dtype)
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
        with redirect_stdout(StringIO()):  # where older SciPys print the same
            return U @ scipy.linalg.logm(T) @ adjoint(U)


def _matrix_integral(
    A: np.ndarray, low: float, high: float, continuous: bool, apart: bool
) -> np.ndarray:
    """F(ω_2) − F(ω_1) of a matrix; −i log |ω| is left out at infinite ends."""
    one, infinite = np.eye(len(A)), math.isinf(low) or math.isinf(high)

    def factor(w: float) -> np.ndarray:
        return 1j * w * one - A if continuous else one - np.exp(-1j * w) * A

    def end(w: float) -> np.ndarray:
        return math.copysign(math.pi / 2, w) * one if math.isinf(w) else -1j * _logm(factor(w))

    if apart or infinite:
        return end(high) - end(low)
    return -1j * _logm(np.linalg.solve(factor(low), factor(high)))
