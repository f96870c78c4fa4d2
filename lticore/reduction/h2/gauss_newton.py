"""Gauss-Newton steps for the h2 error of systems without quadratic outputs."""

from __future__ import annotations

import numpy as np

from ...arrays.linalg import adjoint
from .descent import NOISE, Descent, stationarity
from .modes import Candidate, Target, moved
from .objective import Projection, gradient, project

#: Steps tried, each more damped than the last, before an iterate counts as stationary.
_TRIALS = 30


def levenberg_marquardt(target: Target, start: Candidate, max_steps: int = 200) -> Descent:
    """Damped Gauss-Newton steps on the impulse response, outputs projected after each.

    The residual ĥ − h is a holomorphic function of (λ̂, B̂, Ĉ), and the inner products of its
    derivatives in h2 are closed forms: the normal equations have the r (1 + m + p) unknowns of the
    reduced system only. Infinite horizon.
    """
    at = project(target, start)
    history, damping, evaluations, converged = [at.error], 1e-3, 1, False
    for _ in range(max_steps):
        if at.error <= NOISE:
            converged = True
            break
        G, g = _normal_equations(target, at)
        for _ in range(_TRIALS):
            following = _after_newton(target, at, _damped_solution(G, g, damping))
            evaluations += 1
            if following is not None and following.error < at.error:
                break
            damping *= 4
        else:
            converged = True
            break
        small = at.error - following.error <= 1e-12 * at.error
        at, damping = following, max(damping / 5, 1e-15)
        history.append(at.error)
        if small:
            converged = True
            break
    return Descent(at, tuple(history), evaluations, stationarity(target, at), converged)


def _damped_solution(G: np.ndarray, g: np.ndarray, damping: float) -> np.ndarray:
    # The second term keeps the matrix positive definite where derivatives are dependent, as those
    # by b_j and by c_j always are: only their product counts. All are zero where no input reaches
    # the candidate.
    scale = np.diagonal(G).real
    damped = G + np.diag(damping * scale + NOISE * (scale.max() or 1.0))
    return np.linalg.solve(damped, g)


def _after_newton(target: Target, at: Projection, step: np.ndarray) -> Projection | None:
    """After a step in (λ̂, b̂), with the best outputs; None when it is not stable."""
    r, m = at.candidate.b.shape
    poles = at.candidate.poles + step[:r]
    b = at.candidate.b + step[r : r + r * m].reshape(r, m)
    if not np.all(np.isfinite(step)) or not target.region.holds(poles):
        return None
    return project(target, moved(at.candidate, poles, b))


def _normal_equations(target: Target, at: Projection) -> tuple[np.ndarray, np.ndarray]:
    # Derivatives of ĥ_k = Ĉ Λ̂^k B̂ (lags k ≥ 0), with c_j a column of Ĉ and b_j a row of B̂:
    #   λ_j: k λ_j^{k−1} c_j b_j,     b_jβ: λ_j^k c_j e_βᵀ,     c_γj: λ_j^k e_γ b_j.
    # Their inner products Σ_k tr(u_kᴴ v_k) are sums over powers of w_ij = conj λ_i λ_j:
    #   Σ w^k = φ,     Σ k w^{k−1} = φ² = φ',     Σ k² w^{k−1} = (w φ')' = φ² (2 φ − 1),
    # and those with the residual ĥ − h are half the gradient. In continuous time t e^{λt} stands
    # for k λ^{k−1}, ∫ e^{wt} = φ = −1/w, ∫ t e^{wt} = φ², ∫ t² e^{wt} = 2 φ³, w = conj λ_i + λ_j.
    poles, b, c = at.candidate.poles, at.candidate.b, at.c
    (r, m), p = b.shape, len(c)
    F = at.F_own.conj()
    cc, bb = adjoint(c) @ c, b.conj() @ b.T
    by_pole, by_b, by_c = slice(0, r), slice(r, r + r * m), slice(r + r * m, None)
    G = np.zeros((r * (1 + m + p),) * 2, dtype=complex)
    G[by_pole, by_pole] = target.region.curvatures(F) * cc * bb
    G[by_b, by_b] = np.kron(F * cc, np.eye(m))
    G[by_c, by_c] = np.kron(F * bb, np.eye(p))
    # Σ_k k conj(λ_i)^{k−1} λ_j^k = λ_j φ'(w_ij).
    slope = F**2 * target.region.turned(np.ones(r), poles)
    G[by_pole, by_b] = np.einsum("ij,ib->ijb", slope * cc, b.conj()).reshape(r, r * m)
    G[by_pole, by_c] = np.einsum("ij,gi->ijg", slope * bb, c.conj()).reshape(r, r * p)
    G[by_b, by_c] = np.einsum("ij,gi,jb->ibjg", F, c.conj(), b).reshape(r * m, r * p)
    for rows, columns in ((by_pole, by_b), (by_pole, by_c), (by_b, by_c)):
        G[columns, rows] = adjoint(G[rows, columns])
    g_poles, g_b = gradient(target, at)
    g_c = 2 * (c @ at.P - target.c @ at.X)
    return G, -np.concatenate([g_poles, g_b.ravel(), g_c.T.ravel()]) / 2
