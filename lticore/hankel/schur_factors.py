"""Factors of the Gramians of dense systems on NumPy, from Schur forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    """:func:`scaled_factors` of dense NumPy systems from Schur forms, one at a time."""
    batch, n = sys.batch_shape, sys.order
    width = n if max_rank is None else min(max_rank, n)
    R, S = np.zeros((2, *batch, n, width), dtype=np.result_type(sys.A, sys.B))
    t = np.ones((*batch, n, 1))
    widest = [0, 0]
    find = _factors_of_their_own if each else _factors_together
    for index, *pair in find(sys, horizon):
        real = not np.iscomplexobj(R)
        factors = [_without_noise(in_states(one.U, F, real), one.U, F) for one, F in pair]
        # Powers of two that take the rows of both to the units of the states given.
        d, e = (np.log2(one.units) for one, _ in pair)
        exponents = d + pair[0][0].b, pair[1][0].c - e
        sizes = [log2(norms_of_rows(F)) + x[:, 0] for F, x in zip(factors, exponents, strict=True)]
        if each:
            joint = np.log2(
                state_units(sys.A[index], sys.B[index], sys.C[index], sys.is_continuous)
            )
            sizes = _without_weaker(sizes[0] - joint, sizes[1] + joint)
            sizes = [sizes[0] + joint, sizes[1] - joint]
        t[index] = scale_from_logs(2 * sizes[0], 2 * sizes[1])[:, None]
        turned = exponents[0] + np.log2(t[index]), exponents[1] - np.log2(t[index])
        for k, target in enumerate((R, S)):
            columns = leading_columns(scaled(factors[k], turned[k]), rtol, width)
            target[index][:, : columns.shape[-1]] = columns
            widest[k] = max(widest[k], columns.shape[-1])
    return R[..., : widest[0]], S[..., : widest[1]], t


#: A system in Schur form and one of its factors.
SchurFactor: TypeAlias = tuple[SchurSystem, np.ndarray]


def _factors_together(
    sys: LTI, horizon: float | None
) -> Iterator[tuple[tuple[int, ...], SchurFactor, SchurFactor]]:
    """R and S of one Schur form, as accurate as their product can be."""
    for index, one in schur_systems(sys, horizon, what=WHAT).entries():
        R, S = factors_in_schur_form(one.T, one.B, one.C, one.horizon, one.continuous)
        for _ in range(_CHANGES):
            better = _in_better_units(sys[index], one, _balancing_units(one, R, S), horizon)
            if better is None:
                break
            one = better
            R, S = factors_in_schur_form(one.T, one.B, one.C, one.horizon, one.continuous)
        warn_if_values_lost(one, R, S)
        yield index, (one, R), (one, S)


def _balancing_units(one: SchurSystem, R: np.ndarray, S: np.ndarray) -> np.ndarray | None:
    """Units (n, 1) of the states in which R and S have equally large rows, where rounding spoils
    Sᴴ R far less in them, by some eps ‖A‖‖R‖‖S‖; None elsewhere.

    Units decided by |A| let B and C decide too little where feeds of the states cancel: ρ(|A|) is
    then that of cycles which A does not have, as in companion forms.
    """
    if 0 in R.shape or 0 in S.shape:
        return None
    r, s = (_above_noise(norms_of_rows(one.U @ F))[:, None] for F in (R, S))
    d = 2.0 ** np.rint(np.log2(r / s) / 2)
    before = np.linalg.norm(one.A) * np.linalg.norm(r) * np.linalg.norm(s)
    after = np.linalg.norm(rescaled(one.A, d.T, d)) * np.linalg.norm(r / d) * np.linalg.norm(s * d)
    return d if after < _WORTH * before else None


def _above_noise(rows: np.ndarray) -> np.ndarray:
    """Norms of rows, and where there is only rounding the least that is not."""
    top = rows.max(initial=0)
    return np.maximum(rows, len(rows) * EPSILON * top if top > 0 else 1.0)


def _factors_of_their_own(
    sys: LTI, horizon: float | None
) -> Iterator[tuple[tuple[int, ...], SchurFactor, SchurFactor]]:
    """R and S as accurate as each can be, also in states that only one of both sees."""
    sides = (
        schur_systems(sys, horizon, what=WHAT, reached=reached, observed=not reached).entries()
        for reached in (True, False)
    )
    for (index, one), (_, other) in zip(*sides, strict=True):
        yield (
            index,
            _factor_of_its_own(sys, index, one, "P", horizon),
            _factor_of_its_own(sys, index, other, "Q", horizon),
        )


def _factor_of_its_own(
    sys: LTI, index: tuple[int, ...], one: SchurSystem, which: str, horizon: float | None
) -> tuple[SchurSystem, np.ndarray]:
    """:func:`factor_in_even_units`, with a warning where rounding spoils the trace of the Gramian
    in the best units of the states."""
    best = one.asked
    one, F = factor_in_even_units(sys, index, one, which, horizon)
    if 0 in F.shape:
        return one, F
    if which == "P":
        weights = one.units / best * one.U
        warn_if_lost(one.A, one.T, one.B, weights, F, one.horizon, one.continuous)
    else:
        A, T = (adjoint(X)[::-1, ::-1] for X in (one.A, one.T))
        weights = (best / one.units * one.U)[:, ::-1]
        outputs = adjoint(one.C)[::-1]
        warn_if_lost(A, T, outputs, weights, F[::-1, ::-1], one.horizon, one.continuous)
    return one, F


def dense_gramian(sys: LTI, which: str, horizon: float | None) -> np.ndarray:
    """P or Q from its factor: positive semidefinite, and as accurate in each entry X_ij, relative
    to √(X_ii X_jj), as in the best units of the states."""
    reached = which == "P"
    X = np.empty((*sys.batch_shape, sys.order, sys.order), np.result_type(sys.A, sys.B))
    real = not np.iscomplexobj(X)
    systems = schur_systems(sys, horizon, what=WHAT, reached=reached, observed=not reached)
    for index, one in systems.entries():
        one, factor = _factor_of_its_own(sys, index, one, which, horizon)
        factor = in_states(one.U, factor, real)
        units = np.ldexp(one.units, one.b) if reached else np.ldexp(1 / one.units, one.c)
        X[index] = weighted_gram(factor * units)
    return require_finite_gramian(X, which)


def require_finite_gramian(X: Array, which: str) -> Array:
    # No entry of a positive semidefinite matrix is larger than those on its diagonal.
    if not is_finite(real_part(diagonal(X))):
        raise NonFiniteError(
            f"the Gramian {which} overflows: B, C or the powers of A over the horizon are too large"
        )
    return X


def factor_in_even_units(
    sys: LTI,
    index: tuple[int, ...],
    one: SchurSystem,
    which: str,
    horizon: float | None,
    *,
    both: bool = False,
) -> tuple[SchurSystem, np.ndarray]:
    """R or S of one system of a batch, and the Schur form that it belongs to, in units of the
    states in which the factor has even rows where those are better than the given ones; with
    ``both`` that form keeps B and C."""
    reached = which == "P"
    F = _factor(one, which)
    asked = {"reached": both or reached, "observed": both or not reached}
    for _ in range(_CHANGES):
        better = _in_better_units(sys[index], one, _even_units(one, F, reached), horizon, **asked)
        if better is None:
            break
        one = better
        F = _factor(one, which)
    return one, F


def _in_better_units(
    sys: LTI, one: SchurSystem, d: np.ndarray | None, horizon: float | None, **asked: bool
) -> SchurSystem | None:
    """The Schur form of ``sys`` in the units d of the states of ``one``; None without these, and
    where rounding would carry poles across the boundary in them."""
    if d is None:
        return None
    units, time = refined(one.units, d), np.asarray(one.time)
    other = schur_systems(sys, horizon, what=WHAT, units=units, time=time, **asked)[()]
    return other if np.array_equal(other.units, other.asked) else None


def _even_units(one: SchurSystem, F: np.ndarray, reached: bool) -> np.ndarray | None:
    """Units (n, 1) of the states in which the factor has even rows r, where A is clearly smaller in
    them, or hardly larger and the weakest states gain, r_i² changing by some eps ‖A‖‖r‖ r_i; None
    elsewhere.

    Units decided by |A| take too much from states whose feeds cancel, as in companion forms.
    """
    if 0 in F.shape:
        return None
    rows = norms_of_rows(one.U @ F)
    seen = rows > len(rows) * EPSILON * rows.max(initial=0)
    exponents = np.where(seen, np.rint(np.log2(np.where(seen, rows, 1))), 0.0)[:, None]
    d = 2.0 ** (exponents if reached else -exponents)
    before, after = (float(np.linalg.norm(X)) for X in (one.A, rescaled(one.A, d.T, d)))
    weakest = rows[seen].min(initial=np.inf) / np.linalg.norm(rows) * len(rows) ** 0.5
    gains = after < _LARGER * before and after * weakest < _WORTH * before
    return d if gains or after < _SMALLER * before else None


def _factor(sys: SchurSystem, which: str) -> np.ndarray:
    if which == "P":
        return factor_in_schur_form(sys.T, sys.B, sys.horizon, sys.continuous)
    return adjoint_factor(sys.T, sys.C, sys.horizon, sys.continuous)


def _without_noise(X: np.ndarray, U: np.ndarray, F: np.ndarray) -> np.ndarray:
    """X = U F with zeros in place of rounding, in the rows of states that are not reached.

    Only rows of F that U mixes round together: none in a triangular A, where rows as small as one
    likes are right.
    """
    noise = len(X) * EPSILON * norms_of_rows(np.where(U != 0, norms_of_rows(F), 0))
    return np.where((norms_of_rows(X) > noise)[:, None], X, 0)


def _without_weaker(p: np.ndarray, q: np.ndarray) -> list[np.ndarray]:
    """log2 of the rows of both factors in common units; −∞ in the one of both that counts less in
    states that count in no product of both: the other is to be kept."""
    both = p + q
    weak = np.isfinite(both) & (both < both.max() + math.log2(len(p) * EPSILON))
    if not weak.any():
        return [p, q]
    first = weak & (p - p.max() < q - q.max())
    return [np.where(first, -np.inf, p), np.where(weak & ~first, -np.inf, q)]
