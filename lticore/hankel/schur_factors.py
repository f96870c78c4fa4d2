"""Factors of the Gramians of dense systems on NumPy, from Schur forms."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from ..arrays.linalg import EPSILON, adjoint, diagonal, log2, real_part
from ..arrays.namespaces import Array, is_finite
from ..equations.hammarling import (
    adjoint_factor,
    factor_in_schur_form,
    factors_in_schur_form,
    in_states,
    leading_columns,
    trace_at_stake,
    values_at_stake,
    warn_if_lost,
    warn_if_values_lost,
)
from ..equations.stability import SchurSystem, schur_systems
from ..errors import NonFiniteError
from ..matrices.balance import refined, rescaled, state_units
from ..matrices.factors import weighted_gram
from ..systems.lti import LTI
from ..systems.signals import scaled
from .scales import norms_of_rows, scale_from_logs

#: Units of the states are changed for a norm of A that is at most this share of what it was …
_SMALLER = 0.5
#: … or larger by no more than this, where what rounding does …
_LARGER = 4.0
#: … to the states, or to products of both factors, falls to this share, worth a second Schur form.
_WORTH = 1 / 16
#: How often: factors in bad units are noise in part, and tell of better ones only.
_CHANGES = 3
WHAT = "an infinite-horizon Gramian"


def dense_factors(
    sys: LTI, rtol: float, max_rank: int | None, horizon: float | None, each: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`scaled_factors` of dense NumPy systems from Schur forms."""
    real = not np.iscomplexobj(sys.A) and not np.iscomplexobj(sys.B)
    if each:
        pairs = _factors_of_their_own(sys, horizon)
    else:
        forms, *factors = factors_together(sys, horizon)
        pairs = (forms, factors[0]), (forms, factors[1])
    R, S = (_without_noise(in_states(one.U, F, real), one.U, F) for one, F in pairs)
    (one, _), (other, _) = pairs
    # Powers of two that take the rows of both to the units of the states given.
    to_R = np.log2(one.units) + one.b[..., None, None]
    to_S = other.c[..., None, None] - np.log2(other.units)
    r, s = (log2(norms_of_rows(F)) + x[..., 0] for F, x in ((R, to_R), (S, to_S)))
    if each:
        joint = np.log2(state_units(sys.A, sys.B, sys.C, sys.is_continuous))
        r, s = _without_weaker(r - joint, s + joint)
        r, s = r + joint, s - joint
    t = scale_from_logs(2 * r, 2 * s)[..., None]
    width = sys.order if max_rank is None else min(max_rank, sys.order)
    R = leading_columns(scaled(R, to_R + np.log2(t)), rtol, width)
    S = leading_columns(scaled(S, to_S - np.log2(t)), rtol, width)
    return R, S, t


#: Systems in Schur form and one of their factors, square with zeros where it is narrower.
SchurFactor: TypeAlias = tuple[SchurSystem, np.ndarray]


def factors_together(
    sys: LTI, horizon: float | None, *, warn: bool = True
) -> tuple[SchurSystem, np.ndarray, np.ndarray]:
    """R and S of one Schur form, square, as accurate as their product can be, with a warning where
    rounding spoils singular values of that."""
    forms = schur_systems(sys, horizon, what=WHAT)
    if horizon is None:
        R, S = factors_in_schur_form(forms.T, forms.B, forms.C, None, forms.continuous)
        _, closer = _balancing_units(forms, R, S)
        at_stake = closer | values_at_stake(forms, R, S)
    else:
        R, S = np.zeros((2, *forms.T.shape), forms.T.dtype)
        closer = at_stake = np.ones(sys.batch_shape, dtype=bool)
    for index in map(tuple, np.argwhere(at_stake)):
        # Of systems that grow over a horizon squares of factors may be larger than numbers are.
        with np.errstate(over="ignore", invalid="ignore"):
            if closer[index]:
                forms[index], *pair = _balanced_factors(sys[index], forms[index], horizon)
                R[index], S[index] = map(_filled_up, pair)
            if horizon is not None:
                require_finite_values(adjoint(S[index]) @ R[index])
            if warn:
                warn_if_values_lost(forms[index], R[index], S[index])
    return forms, R, S


def _filled_up(F: np.ndarray) -> np.ndarray:
    """F with zero columns at its end."""
    square = np.zeros((len(F), len(F)), F.dtype)
    square[:, : F.shape[-1]] = F
    return square


def _balanced_factors(
    sys: LTI, one: SchurSystem, horizon: float | None
) -> tuple[SchurSystem, np.ndarray, np.ndarray]:
    R, S = factors_in_schur_form(one.T, one.B, one.C, one.horizon, one.continuous)
    for _ in range(_CHANGES):
        d, closer = _balancing_units(one, R, S)
        better = _in_better_units(sys, one, d, horizon) if closer else None
        if better is None:
            break
        one = better
        R, S = factors_in_schur_form(one.T, one.B, one.C, one.horizon, one.continuous)
    return one, R, S


def _balancing_units(
    one: SchurSystem, R: np.ndarray, S: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Units (..., n, 1) of the states in which R and S have equally large rows, and whether
    rounding spoils Sᴴ R far less in them, by some eps ‖A‖‖R‖‖S‖.

    Units decided by |A| let B and C decide too little where feeds of the states cancel: ρ(|A|) is
    then that of cycles which A does not have, as in companion forms.
    """
    if 0 in R.shape or 0 in S.shape:
        return one.units, np.zeros(one.units.shape[:-2], dtype=bool)
    r, s = (_above_noise(norms_of_rows(one.U @ F))[..., None] for F in (R, S))
    d = 2.0 ** np.rint(np.log2(r / s) / 2)
    A, axes = rescaled(one.A, np.swapaxes(d, -1, -2), d), (-2, -1)
    before, after = (
        math.prod(np.linalg.norm(X, axis=axes) for X in matrices)
        for matrices in ((one.A, r, s), (A, r / d, s * d))
    )
    return d, np.asarray(after < _WORTH * before)


def _above_noise(rows: np.ndarray) -> np.ndarray:
    """Norms of rows, and where there is only rounding the least that is not."""
    top = rows.max(axis=-1, keepdims=True, initial=0)
    return np.maximum(rows, np.where(top > 0, rows.shape[-1] * EPSILON * top, 1.0))


def _factors_of_their_own(sys: LTI, horizon: float | None) -> tuple[SchurFactor, SchurFactor]:
    """R and S as accurate as each can be, also in states that only one of both sees."""
    return _factor_of_its_own(sys, "P", horizon), _factor_of_its_own(sys, "Q", horizon)


def _factor_of_its_own(sys: LTI, which: str, horizon: float | None) -> SchurFactor:
    """:func:`factors_in_even_units`, with a warning where rounding spoils the trace of a Gramian in
    the best units of the states."""
    reached = which == "P"
    forms = schur_systems(sys, horizon, what=WHAT, reached=reached, observed=not reached)
    best = forms.asked.copy()
    F = factors_in_even_units(sys, forms, which, horizon)
    if reached:
        A, T, signals, factor = forms.A, forms.T, forms.B, F
        weights = forms.units / best * forms.U
    else:
        A, T = (adjoint(X)[..., ::-1, ::-1] for X in (forms.A, forms.T))
        signals, factor = adjoint(forms.C)[..., ::-1, :], F[..., ::-1, ::-1]
        weights = (best / forms.units * forms.U)[..., ::-1]
    at_stake = trace_at_stake(A, signals, weights, factor, forms.continuous)
    for index in map(tuple, np.argwhere(at_stake)):
        rest = weights[index], factor[index], forms[index].horizon, forms.continuous
        warn_if_lost(A[index], T[index], signals[index], *rest)
    return forms, F


def dense_gramian(sys: LTI, which: str, horizon: float | None) -> np.ndarray:
    """P or Q from its factor: positive semidefinite, and as accurate in each entry X_ij, relative
    to √(X_ii X_jj), as in the best units of the states."""
    real = not np.iscomplexobj(sys.A) and not np.iscomplexobj(sys.B)
    forms, F = _factor_of_its_own(sys, which, horizon)
    if which == "P":
        units = np.ldexp(forms.units, forms.b[..., None, None])
    else:
        units = np.ldexp(1 / forms.units, forms.c[..., None, None])
    return require_finite_gramian(weighted_gram(in_states(forms.U, F, real) * units), which)


def require_finite_gramian(X: Array, which: str) -> Array:
    # No entry of a positive semidefinite matrix is larger than those on its diagonal.
    if not is_finite(real_part(diagonal(X))):
        raise NonFiniteError(
            f"the Gramian {which} overflows: B, C or the powers of A over the horizon are too "
            "large. Scale B and C down, or take a shorter horizon"
        )
    return X


def require_finite_values(x: Array) -> None:
    if not is_finite(x):
        raise NonFiniteError(
            "the Hankel singular values overflow: scale B or C down, which they grow with, or take "
            "a shorter horizon"
        )


def factors_in_even_units(
    sys: LTI, forms: SchurSystem, which: str, horizon: float | None, *, both: bool = False
) -> np.ndarray:
    """R or S of a batch, in units of the states in which the factors have even rows where those are
    better than the given ones: ``forms`` are in these then, with B and C where ``both`` are asked
    for."""
    reached = which == "P"
    if horizon is None:
        F = _factor(forms, which)
        _, better = _even_units(forms, F, reached)
    else:
        F, better = np.zeros_like(forms.T), np.ones(sys.batch_shape, dtype=bool)
    for index in map(tuple, np.argwhere(better)):
        forms[index], factor = _factor_in_even_units(
            sys[index],
            forms[index],
            which,
            horizon,
            reached=both or reached,
            observed=both or not reached,
        )
        F[index] = _filled_up(factor)
    return F


def _factor_in_even_units(
    sys: LTI, one: SchurSystem, which: str, horizon: float | None, **asked: bool
) -> tuple[SchurSystem, np.ndarray]:
    F = _factor(one, which)
    for _ in range(_CHANGES):
        d, better = _even_units(one, F, which == "P")
        other = _in_better_units(sys, one, d, horizon, **asked) if better else None
        if other is None:
            break
        one = other
        F = _factor(one, which)
    return one, F


def _in_better_units(
    sys: LTI, one: SchurSystem, d: np.ndarray, horizon: float | None, **asked: bool
) -> SchurSystem | None:
    """The Schur form of ``sys`` in the units d of the states of ``one``; None where rounding would
    carry poles across the boundary in them."""
    units, time = refined(one.units, d), np.asarray(one.time)
    other = schur_systems(sys, horizon, what=WHAT, units=units, time=time, **asked)[()]
    return other if np.array_equal(other.units, other.asked) else None


def _even_units(one: SchurSystem, F: np.ndarray, reached: bool) -> tuple[np.ndarray, np.ndarray]:
    """Units (..., n, 1) of the states in which the factor has even rows r, and whether A is clearly
    smaller in them, or hardly larger and the weakest states gain, r_i² changing by some
    eps ‖A‖‖r‖ r_i.

    Units decided by |A| take too much from states whose feeds cancel, as in companion forms.
    """
    if 0 in F.shape:
        return one.units, np.zeros(one.units.shape[:-2], dtype=bool)
    rows = norms_of_rows(one.U @ F)
    n, top = rows.shape[-1], rows.max(axis=-1, keepdims=True, initial=0)
    seen = rows > n * EPSILON * top
    exponents = np.where(seen, np.rint(np.log2(np.where(seen, rows, 1))), 0.0)[..., None]
    d = 2.0 ** (exponents if reached else -exponents)
    A = rescaled(one.A, np.swapaxes(d, -1, -2), d)
    before, after = (np.linalg.norm(X, axis=(-2, -1)) for X in (one.A, A))
    whole = np.linalg.norm(rows, axis=-1)
    least = np.where(seen, rows, np.inf).min(axis=-1, initial=np.inf)
    weakest = least / np.where(whole > 0, whole, 1) * n**0.5
    with np.errstate(invalid="ignore"):
        gains = (after < _LARGER * before) & (after * weakest < _WORTH * before)
    return d, gains | (after < _SMALLER * before)


def _factor(sys: SchurSystem, which: str) -> np.ndarray:
    if which == "P":
        return factor_in_schur_form(sys.T, sys.B, sys.horizon, sys.continuous)
    return adjoint_factor(sys.T, sys.C, sys.horizon, sys.continuous)


def _without_noise(X: np.ndarray, U: np.ndarray, F: np.ndarray) -> np.ndarray:
    """X = U F with zeros in place of rounding, in the rows of states that are not reached.

    Only rows of F that U mixes round together: none in a triangular A, where rows as small as one
    likes are right.
    """
    mixed = np.where(U != 0, norms_of_rows(F)[..., None, :], 0)
    noise = X.shape[-2] * EPSILON * norms_of_rows(mixed)
    return np.where((norms_of_rows(X) > noise)[..., None], X, 0)


def _without_weaker(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log2 of the rows of both factors in common units; −∞ in the one of both that counts less in
    states that count in no product of both: the other is to be kept."""
    both, n = p + q, p.shape[-1]
    weak = np.isfinite(both) & (both < both.max(axis=-1, keepdims=True) + math.log2(n * EPSILON))
    if not weak.any():
        return p, q
    # A system of the batch may have no rows at all, all −∞; then none is weak.
    most_p, most_q = (np.maximum(x.max(axis=-1, keepdims=True), -1e4) for x in (p, q))
    first = weak & (p - most_p < q - most_q)
    return np.where(first, -np.inf, p), np.where(weak & ~first, -np.inf, q)
