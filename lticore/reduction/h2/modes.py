"""Systems in their modes and back, for the methods that work on poles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.linalg

from ...arrays.checks import is_single, like_precision, to_double
from ...arrays.linalg import EPSILON, adjoint
from ...convert.change import warn_of_modes
from ...convert.diagonal import (
    MAX_CONDITION,
    balanced_eigenvectors,
    condition_of_eigenvectors,
    require_independent,
)
from ...equations.dense import schur_form
from ...equations.stability import is_stable
from ...hankel.gramians import double_gramians
from ...matrices.balance import rescaled
from ...systems.diagonal import Diagonal
from ...systems.lti import LTI
from ...systems.modes import from_modes, is_real, mode_poles, to_modes
from ...systems.quadratic import (
    QuadraticForms,
    System,
    cross_trace,
    forms_of,
    in_coordinates,
    in_eigenbasis,
    mapped,
    quadratic_arrays,
    transformed,
)
from ...systems.rotation import Rotation
from ...systems.structure import Structure, is_structured
from .region import Circle, HalfPlane, Region

_UNIT_CIRCLE = Circle()


@dataclass(frozen=True, eq=False)
class Target:
    """A system in its modes, to be approximated; in a Schur form where A has no eigenvectors.

    A : structured, or (n, n) upper triangular,  poles (n,) in mode order, or on the diagonal
    b (n, m),  c (p, n),  M : in the modes, or those states
    energy : squared h2 norm without feedthrough
    real : whether the system is real, so that modes come in conjugate pairs
    region : where reduced systems keep their poles
    """

    A: Structure | np.ndarray
    poles: np.ndarray
    b: np.ndarray
    c: np.ndarray
    M: QuadraticForms
    energy: float
    real: bool
    region: Region

    def multiply(self, X: np.ndarray) -> np.ndarray:
        """A X in the modes, or the states of the Schur form."""
        return self.poles[:, None] * X if is_structured(self.A) else self.A @ X


@dataclass(frozen=True, eq=False)
class Candidate:
    """Poles (r,) and input rows (r, m) of a reduced system.

    pairs : for real systems the number q of conjugate pairs: poles are λ_1 … λ_q, their conjugates,
        then real ones, and the rows of b alike; None for complex systems
    """

    poles: np.ndarray
    b: np.ndarray
    pairs: int | None


def make_target(sys: System, horizon: float | None) -> Target:
    """The modes of one system in float64; dense ones are diagonalised, or where eigenvectors are
    nearly dependent brought to Schur form, in the units of their states that round least."""
    full = mapped(to_double, sys)
    real = is_real(full.A) and not any(map(np.iscomplexobj, (full.B, *quadratic_arrays(full))))
    if not is_structured(full.A):
        poles, V, d = balanced_eigenvectors(full)
        condition = float(condition_of_eigenvectors(V))
        if condition > MAX_CONDITION and horizon is None:
            return triangular_target(full, d, real)
        if condition > MAX_CONDITION:
            require_independent(condition)
            warn_of_modes(condition, condition * EPSILON)
        full = in_eigenbasis(full, poles, d * V)
    A, T = full.A, from_modes(full.A, np.eye(full.order, dtype=complex))
    b, c = to_modes(A, full.B).astype(complex), full.C @ T
    M = transformed(forms_of(full), T)
    region = region_of(full, horizon)
    P = (b @ adjoint(b)) * region.factors(A, A)
    return Target(A, mode_poles(A), b, c, M, energy_of(c, M, P), real, region)


def triangular_target(sys: System, d: np.ndarray, real: bool) -> Target:
    T, U = schur_form(rescaled(sys.A, d.T, d))
    in_states = in_coordinates(sys, d * U, A=T, B=adjoint(U) @ (sys.B / d))
    (P,) = double_gramians(in_states, None, "P")
    parts = T, np.diagonal(T), in_states.B, in_states.C, forms_of(in_states)
    return Target(*parts, energy_of(*parts[3:], P), real, region_of(sys))


def region_of(sys: System, horizon: Any = None) -> Region:
    """Where reduced systems of ``sys`` have their poles: where they are stable, or over a horizon
    where they grow e times as much over it as an unstable system itself."""
    if horizon is None or is_stable(sys.A, sys.is_continuous):
        return HalfPlane(0.0, horizon) if sys.is_continuous else Circle(1.0, horizon)
    if sys.is_continuous:
        growth = float(np.max(sys.poles.real, initial=0.0))
        return HalfPlane(growth + 1 / horizon, horizon)
    # Over T steps the share 1/T of a radius is a factor e.
    return Circle(max(1.0, sys.spectral_radius) * (1 + 1 / horizon), horizon)


def energy_of(c: np.ndarray, M: QuadraticForms, P: np.ndarray) -> float:
    """tr(c P cᴴ) + Σ_i tr(P M_i P M_i), the squared h2 norm."""
    return float(np.sum((c @ P) * c.conj()).real + cross_trace(M, P, M))


def candidate_from(
    A: np.ndarray, B: np.ndarray, real: bool, region: Region = _UNIT_CIRCLE
) -> Candidate:
    """The modes of a small dense system; poles outside the region are reflected into it.

    Rows of b have norm 1, since only their directions count: their sizes would drift away.
    """
    poles, V = np.linalg.eig(A)
    b = scipy.linalg.lstsq(V, B.astype(complex), check_finite=False, lapack_driver="gelsy")[0]
    b = unit_rows(b)
    poles = region.inside(poles)
    if not real:
        return Candidate(poles, b, None)
    above, on_axis = poles.imag > 0, poles.imag == 0
    pairs, rest = poles[above], poles[on_axis].real.astype(complex)
    rows, rest_rows = b[above], b[on_axis].real.astype(complex)
    return Candidate(
        np.concatenate([pairs, pairs.conj(), rest]),
        np.concatenate([rows, rows.conj(), rest_rows]),
        len(pairs),
    )


def unit_rows(b: np.ndarray) -> np.ndarray:
    """Rows of norm 1; rows of zeros stay."""
    size = np.linalg.norm(b, axis=1, keepdims=True)
    return b / np.where(size > 0, size, 1)


def real_states(candidate: Candidate) -> np.ndarray:
    """The unitary U from modes to real states."""
    q = candidate.pairs or 0
    return _real_states(q, len(candidate.poles) - 2 * q)


@lru_cache(maxsize=16)
def _real_states(pairs: int, reals: int) -> np.ndarray:
    structure = Rotation(np.zeros(pairs), np.zeros(pairs), np.zeros(reals))
    U = from_modes(structure, np.eye(2 * pairs + reals, dtype=complex))
    U.flags.writeable = False
    return U


def moved(candidate: Candidate, poles: np.ndarray, b: np.ndarray) -> Candidate:
    """Other poles and rows; those of real systems are made conjugate again, which they are up to
    rounding, so that it cannot grow."""
    q = candidate.pairs
    if q is not None:
        poles = np.concatenate([poles[:q], poles[:q].conj(), poles[2 * q :].real])
        b = np.concatenate([b[:q], b[:q].conj(), b[2 * q :].real])
    return Candidate(poles, b, q)


def system_of(sys: System, candidate: Candidate, c: np.ndarray, M: QuadraticForms) -> System:
    """A system like ``sys`` with these modes: real states for real systems."""
    A: Structure = Diagonal(candidate.poles)
    b = candidate.b
    if candidate.pairs is not None:
        q = candidate.pairs
        A = region_of(sys).structure(candidate.poles[:q], candidate.poles[2 * q :].real)
        U = real_states(candidate)
        b, c, M = (U @ b).real, (c @ adjoint(U)).real, _real_forms(transformed(M, adjoint(U)))
    reduced: System = (
        replace(sys, A=A, B=b, C=c) if isinstance(sys, LTI) else replace(sys, A=A, B=b, C=c, M=M)
    )
    return mapped(partial(like_precision, single=is_single(sys.B)), reduced)


def _real_forms(M: QuadraticForms) -> QuadraticForms:
    return (M[0].real, M[1]) if isinstance(M, tuple) else M.real
