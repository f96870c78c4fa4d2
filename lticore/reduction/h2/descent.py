"""Ways to lower the h2 error of a reduced system, each from one start."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy

from ...convert.diagonal import row_norms
from .modes import Candidate, Target
from .objective import Projection, gradient, project
from .region import Region, width

#: A residual that counts as stationary.
STATIONARY = 1e-5
#: Poles at a smaller hyperbolic distance have met; and how often they may.
_MET, _CROSSINGS = 0.05, 4
#: Relative squared errors below this count as this much: their gradients are rounding.
_CLOSE = 1e-10
#: Relative changes of J that no iteration can see.
NOISE = 1e-13


@dataclass(frozen=True, eq=False)
class Descent:
    """One run of a method.

    best : the iterate with the smallest error
    history : relative squared errors of the accepted iterates, the start first
    evaluations : how often the error was computed
    residual : :func:`stationarity` of the best iterate
    converged : whether the method stopped by itself
    """

    best: Projection
    history: tuple[float, ...]
    evaluations: int
    residual: float
    converged: bool


def stationarity(target: Target, at: Projection) -> float:
    """|gradient of log J| with poles measured in the hyperbolic metric and rows of b̂ relatively.

    It does not change with units of inputs and states, nor when poles approach the boundary.
    """
    g_poles, g_b = gradient(target, at)
    poles, b = at.candidate.poles, at.candidate.b
    radial = width(target.region, poles) * np.abs(g_poles)
    rows = row_norms(b) * row_norms(g_b)
    size = target.energy * max(at.error, _CLOSE)
    (slope,) = row_norms(np.concatenate([radial, rows])[None])
    return float(slope / size) if size > 0 else 0.0


# --- quasi-Newton -------------------------------------------------------------------------------


def lbfgs(target: Target, start: Candidate, max_steps: int = 500) -> Descent:
    """L-BFGS (SciPy) on log J with λ̂ = ρ e^{−e^ν + iθ}, real poles ρ tanh s; in continuous time
    λ̂ = σ − e^ν + iω, real poles σ − e^s: all values are inside the region of the target.

    In these parameters a conjugate pair cannot become two real poles, nor two real poles a pair.
    Where a descent ends at such a meeting, it goes on from both sides of it.

    Source of the projection: Golub & Pereyra, SIAM J. Numer. Anal. 10 (1973).
    """
    run = _descend(target, start, max_steps)
    for _ in range(_CROSSINGS):
        other = _crossed(run.best.candidate, target.region)
        if run.residual <= STATIONARY or other is None:
            break
        following = _descend(target, other, max_steps)
        evaluations = run.evaluations + following.evaluations
        if following.best.certain >= run.best.certain:
            return replace(run, evaluations=evaluations)
        lower = tuple(error for error in following.history if error < run.best.error)
        run = replace(following, history=run.history + lower, evaluations=evaluations)
    return run


def _descend(target: Target, start: Candidate, max_steps: int) -> Descent:
    first = project(target, start)
    best, accepted, evaluations = [first], [first.error], [1]

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        at = project(target, _unpacked(x, start, target.region))
        evaluations[0] += 1
        best[0] = min(best[0], at, key=lambda projection: projection.certain)
        error = max(at.error, NOISE)
        return np.log(error), _packed_gradient(target, at, start) / (target.energy * error)

    def accept(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        accepted.append(float(np.exp(intermediate_result.fun)))

    converged = True
    if first.error > NOISE:
        found = scipy.optimize.minimize(
            value,
            _packed(start, start, target.region),
            jac=True,
            method="L-BFGS-B",
            callback=accept,
            options={"maxiter": max_steps, "maxfun": 4 * max_steps, "ftol": 1e-13, "gtol": 1e-8},
        )
        converged = found.status == 0
    residual = stationarity(target, best[0])
    return Descent(best[0], tuple(accepted), evaluations[0], residual, converged)


def _crossed(candidate: Candidate, region: Region) -> Candidate | None:
    """The candidate with a pair that has met the real axis as two real poles, or two real poles
    that have met as a pair; None where nothing has met."""
    if candidate.pairs is None:
        return None
    q, poles, b = candidate.pairs, candidate.poles, candidate.b
    for i in range(q):
        near = _MET * width(region, poles[i])
        if np.abs(poles[i].imag) < near:
            middle = poles[i].real + near * np.array([-1, 1])
            rows = np.stack([b[i].real + b[i].imag, b[i].real - b[i].imag])
            return _assembled(
                np.delete(poles[:q], i),
                np.delete(b[:q], i, 0),
                (np.concatenate([middle, poles[2 * q :]]), np.concatenate([rows, b[2 * q :]])),
            )
    real = poles[2 * q :].real
    for i in range(len(real)):
        for j in range(i):
            apart = _MET * float(region.between(real[i], real[j]))
            if np.abs(real[i] - real[j]) < apart:
                pole = (real[i] + real[j]) / 2 + 1j * apart
                row = b[2 * q + i] + b[2 * q + j] + 1j * (b[2 * q + i] - b[2 * q + j])
                return _assembled(
                    np.append(poles[:q], pole),
                    np.vstack([b[:q], row]),
                    (np.delete(poles[2 * q :], [i, j]), np.delete(b[2 * q :], [i, j], 0)),
                )
    return None


def _assembled(
    pairs: np.ndarray, rows: np.ndarray, reals: tuple[np.ndarray, np.ndarray]
) -> Candidate:
    return Candidate(
        np.concatenate([pairs, pairs.conj(), reals[0].real]),
        np.concatenate([rows, rows.conj(), reals[1].real]),
        len(pairs),
    )


def _free(candidate: Candidate) -> tuple[slice, slice]:
    """Positions of the poles that are free complex numbers, and of the real ones."""
    if candidate.pairs is None:
        return slice(0, len(candidate.poles)), slice(0, 0)
    return slice(0, candidate.pairs), slice(2 * candidate.pairs, len(candidate.poles))


def _packed(candidate: Candidate, start: Candidate, region: Region) -> np.ndarray:
    free, real = _free(candidate)
    poles, b = candidate.poles, candidate.b
    nu, theta = region.coordinates(poles[free], start.poles[free])
    s = region.real_coordinates(poles[real].real)
    parts = (nu, theta, s, b[free].real, b[free].imag, b[real].real)
    return np.concatenate([part.ravel() for part in parts])


def _unpacked(x: np.ndarray, start: Candidate, region: Region) -> Candidate:
    """The candidate of these parameters, with as many pairs as ``start``."""
    free, real = _free(start)
    f, k, m = len(start.poles[free]), len(start.poles[real]), start.b.shape[1]
    nu, theta, s, re, im, b_real = np.split(x, np.cumsum([f, f, k, f * m, f * m]))
    poles = region.from_coordinates(nu, theta, start.poles[free])
    b = (re + 1j * im).reshape(f, m)
    if start.pairs is None:
        return replace(start, poles=poles, b=b)
    return replace(
        start,
        poles=np.concatenate([poles, poles.conj(), region.from_real_coordinates(s)]),
        b=np.concatenate([b, b.conj(), b_real.reshape(k, m)]),
    )


def _packed_gradient(target: Target, at: Projection, start: Candidate) -> np.ndarray:
    # A pole and its conjugate move together.
    g_poles, g_b = gradient(target, at)
    poles, region = at.candidate.poles, target.region
    free, real = _free(at.candidate)
    twice = 1 if at.candidate.pairs is None else 2
    by_nu, by_theta = region.in_coordinates(g_poles[free], poles[free], start.poles[free])
    parts = (
        twice * by_nu,
        twice * by_theta,
        (g_poles[real] * region.real_slope(poles[real])).real,
        twice * g_b[free].real,
        twice * g_b[free].imag,
        g_b[real].real,
    )
    return np.concatenate([part.ravel() for part in parts])
