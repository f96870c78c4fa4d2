"""The h2 error of a reduced system as a function of its poles and inputs: value and gradient.

The reduced system is diagonal here, in complex modes, and the full one too, or triangular. For
given poles λ̂ and inputs B̂ the best outputs are known in closed form, so the error is a function of
λ̂ and B̂ alone (variable projection).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...arrays.linalg import EPSILON, adjoint
from ...systems.diagonal import Diagonal
from ...systems.quadratic import QuadraticForms, cross_trace, sandwiched, transformed
from ...systems.structure import Structure, is_structured
from .modes import Candidate, Target, energy_of

#: Directions of the reduced Gramian below this share of the largest are not fitted.
_FIT_RTOL = 1e-13


@dataclass(frozen=True, eq=False)
class Projection:
    """A candidate with its best outputs.

    c (p, r), M : outputs,   error : J/‖Σ‖², the relative squared h2 error
    rounding : size of the rounding errors in ``error``, eps Σ |Ĉ||P̂||Ĉ|ᴴ/‖Σ‖²
    X (n, r), P (r, r) : mixed and own Gramian;  F, F_own : φ(λ_i conj λ̂_j), None without modes, and
        φ(λ̂_i conj λ̂_j)
    """

    candidate: Candidate
    c: np.ndarray
    M: QuadraticForms
    error: float
    X: np.ndarray
    P: np.ndarray
    F: np.ndarray | None
    F_own: np.ndarray
    rounding: float

    @property
    def certain(self) -> float:
        """The error with the rounding against it, by which iterates are compared: poles that have
        nearly met have large outputs of opposite sign, in whose differences a gain can be noise."""
        return self.error + self.rounding


def project(target: Target, candidate: Candidate) -> Projection:
    """The outputs Ĉ = C Π, M̂ = Πᴴ M Π, Π = X P̂⁻¹, that are best for the candidate.

    With X_ij = (b b̂ᴴ)_ij φ(λ_i conj λ̂_j) and P̂_ij = (b̂ b̂ᴴ)_ij φ(λ̂_i conj λ̂_j), of λ_i + conj λ̂_j
    in continuous time (:mod:`lticore.reduction.h2.region`); without modes X by triangular solves.
    """
    gramians = _gramians(target, candidate)
    fit = gramians[0] @ inverse_where_clear(gramians[1])
    return _projection(target, candidate, target.c @ fit, transformed(target.M, fit), gramians)


def with_outputs(
    target: Target, candidate: Candidate, c: np.ndarray, M: QuadraticForms
) -> Projection:
    """The candidate with given outputs instead of the best ones."""
    return _projection(target, candidate, c, M, _gramians(target, candidate))


def _projection(
    target: Target,
    candidate: Candidate,
    c: np.ndarray,
    M: QuadraticForms,
    gramians: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray],
) -> Projection:
    X, P, F, F_own = gramians
    error, rounding = _relative_error(target, c, M, X, P), _rounding_of_energy(target, c, P)
    return Projection(candidate, c, M, error, X, P, F, F_own, rounding)


def _gramians(
    target: Target, candidate: Candidate
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """(X, P̂, F, F_own)"""
    b, own, A = candidate.b, Diagonal(candidate.poles), target.A
    F_own = target.region.factors(own, own)
    P, mixed = (b @ adjoint(b)) * F_own, target.b @ adjoint(b)
    if is_structured(A):
        F = target.region.factors(A, own)
        return mixed * F, P, F, F_own
    return target.region.solve_triangular(A, candidate.poles.conj(), mixed), P, None, F_own


def mixed_adjoint(target: Target, at: Projection, R: np.ndarray) -> np.ndarray:
    """W of the adjoint equation of X: Aᴴ W Λ̂ − W + R = 0, in continuous time
    Aᴴ W + W Λ̂ + R = 0."""
    if at.F is not None:
        return R * at.F.conj()
    # Upper triangular with the states in reverse.
    triangular: Any = target.A
    T = adjoint(triangular)[::-1, ::-1]
    return target.region.solve_triangular(T, at.candidate.poles, R[::-1])[::-1]


def _relative_error(
    target: Target, c: np.ndarray, M: QuadraticForms, X: np.ndarray, P: np.ndarray
) -> float:
    """J/‖Σ‖² with J = ‖Σ‖² + ‖Σ̂‖² − 2 Re[tr(C X Ĉᴴ) + Σ_i tr(Xᴴ M_i X M̂_i)].

    Right to 1e-16; negative values from rounding become 0.
    """
    if target.energy == 0:
        return 0.0
    mixed = np.sum((target.c @ X) * c.conj()).real + cross_trace(target.M, X, M)
    squared = target.energy + energy_of(c, M, P) - 2 * float(mixed)
    return max(squared, 0.0) / target.energy


def _rounding_of_energy(target: Target, c: np.ndarray, P: np.ndarray) -> float:
    size = np.abs(c)
    return EPSILON * float(np.sum((size @ np.abs(P)) * size)) / (target.energy or 1.0)


def inverse_where_clear(P: np.ndarray) -> np.ndarray:
    """P⁻¹ on the directions that are clear of rounding, with the diagonal scaled to 1 first."""
    size = np.sqrt(np.maximum(np.diagonal(P).real, 0))
    scale = 1 / np.where(size > 0, size, 1)
    values, U = np.linalg.eigh(scale[:, None] * P * scale)
    kept = values > _FIT_RTOL * max(values[-1], 0)
    U = scale[:, None] * U[:, kept]
    return (U / values[kept]) @ adjoint(U)


def sensitivities(target: Target, at: Projection) -> tuple[np.ndarray, np.ndarray]:
    """(R, S): ½ of minus the derivative of J with respect to X, and of J to P̂.

    R = Cᴴ Ĉ + 2 Σ_i M_i X M̂_i,   S = Ĉᴴ Ĉ + 2 Σ_i M̂_i P̂ M̂_i
    """
    R = adjoint(target.c) @ at.c + 2 * sandwiched(target.M, at.X, at.M)
    S = adjoint(at.c) @ at.c + 2 * sandwiched(at.M, at.P, at.M)
    return R, S


def gradient(target: Target, at: Projection) -> tuple[np.ndarray, np.ndarray]:
    """(g_λ, g_b) of J at fixed outputs: dJ = Re⟨g_λ, dλ̂⟩ + Re⟨g_b, db̂⟩.

    At the best outputs J is stationary in them, so this is also the gradient of the projected J.
    """
    # X and P̂ depend on b̂ through b b̂ᴴ and b̂ b̂ᴴ, on λ̂ through their equations: with Y and W the
    # solutions of the adjoint ones for S and R, and in discrete time
    #   g_b = 2 (Y b̂ − Wᴴ b),   g_λ,j = 2 Σ_i conj(Y_ij) (Λ̂ P̂)_ij − 2 Σ_i conj(W_ij) (A X)_ij.
    # In continuous time P̂ and X stand for Λ̂ P̂ and A X (``turned``). Over a horizon φ_T is no
    # solution of such an equation, and in the modes
    #   g_λ,j = 2 Σ_i conj(S_ij) (b̂ b̂ᴴ)_ij φ_T'(λ̂_i conj λ̂_j) λ̂_i
    #           − 2 Σ_i conj(R_ij) (b b̂ᴴ)_ij φ_T'(λ_i conj λ̂_j) λ_i.
    R, S = sensitivities(target, at)
    W, Y = mixed_adjoint(target, at, R), S * at.F_own.conj()
    b, poles, region = at.candidate.b, at.candidate.poles[:, None], target.region
    left, right, X, P = W, Y, at.X, at.P
    if region.horizon is not None:
        own, A = Diagonal(at.candidate.poles), cast("Structure", target.A)
        left, right = R, S
        X = (target.b @ adjoint(b)) * region.slopes(A, own)
        P = (b @ adjoint(b)) * region.slopes(own, own)
    g_poles = np.sum(right.conj() * region.turned(P, poles * P), axis=0)
    g_poles -= np.sum(left.conj() * region.turned(X, target.multiply(X)), axis=0)
    return 2 * g_poles, 2 * (Y @ b - adjoint(W) @ target.b)
