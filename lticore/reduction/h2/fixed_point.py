"""The two-sided fixed point of the h2 error: as published, and accelerated for its last steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg

from ...arrays.linalg import adjoint
from .descent import Descent, stationarity
from .modes import Candidate, Target, candidate_from, moved, real_states
from .objective import Projection, mixed_adjoint, project, sensitivities
from .region import Region, distance, distances, width

#: Poles that a step moves by less, in the hyperbolic metric, stand still.
_STILL = 1e-9
#: In so many steps the error of a run must have fallen by the share that is asked for.
_PATIENCE = 10
#: Steps that acceleration looks back on.
_MEMORY = 8


def tsia(target: Target, start: Candidate, max_steps: int = 100, gain: float = 0.0) -> Descent:
    """Two-sided iteration: project onto the mixed Gramians of the last reduced system.

        X: Λ X Λ̂ᴴ − X + b b̂ᴴ = 0,   W: Λᴴ W Λ̂ − W + R = 0,   R = Cᴴ Ĉ + 2 Σ_i M_i X M̂_i
        Â = (Wᴴ X)⁻¹ Wᴴ Λ X,   B̂ = (Wᴴ X)⁻¹ Wᴴ B,   outputs by projection

    and in continuous time Λ X + X Λ̂ᴴ + b b̂ᴴ = 0, Λᴴ W + W Λ̂ + R = 0.

    Fixed points are the stationary points of J. Steps need not lower J: the best one counts. A run
    that ten steps bring down by less than the share ``gain`` ends.

    Source: Xu & Zeng, IEEE TAC 56 (2011), the TSIA; for finite horizons and quadratic outputs with
    the kernels and R of those.
    """
    at = best = project(target, start)
    history, lowest, converged = [at.error], [at.error], False
    for _ in range(max_steps):
        image = _image(target, at)
        if image is None:
            break
        step = distance(target.region, at.candidate.poles, image.poles)
        at = project(target, image)
        best = at if at.certain < best.certain else best
        history.append(at.error)
        lowest.append(best.error)
        converged = step <= _STILL
        before = lowest[-1 - _PATIENCE] if len(lowest) > _PATIENCE else np.inf
        if converged or before - best.error < gain * best.error:
            break
    return Descent(best, tuple(history), len(history), stationarity(target, best), converged)


def accelerated_tsia(target: Target, start: Candidate, max_steps: int = 100) -> Descent:
    """:func:`tsia` with Anderson's acceleration: each step goes to the combination of the last
    images that would stand still if the iteration were linear, as it is near a fixed point.

    Where J would rise there, the step is the plain one, and what was remembered is forgotten.

    Source: Anderson, J. ACM 12 (1965); Walker & Ni, SIAM J. Numer. Anal. 49 (2011).
    """
    at = best = project(target, start)
    history, evaluations, converged = [at.error], 1, False
    memory: list[tuple[Candidate, Candidate]] = []
    for _ in range(max_steps):
        image = _image(target, at)
        if image is None:
            break
        step = distance(target.region, at.candidate.poles, image.poles)
        image = _matched(image, at.candidate, target.region)
        if image.pairs != at.candidate.pairs:
            memory = []
        memory = [*memory[1 - _MEMORY :], (at.candidate, image)]
        combined = _combined(memory, target.region)
        following = None if combined is None else project(target, combined)
        evaluations += combined is not None
        if following is None or following.certain > at.certain:
            memory = [] if len(memory) > 1 else memory
            following = project(target, image)
            evaluations += 1
        at = following
        best = at if at.certain < best.certain else best
        history.append(at.error)
        converged = step <= _STILL
        if converged:
            break
    return Descent(best, tuple(history), evaluations, stationarity(target, best), converged)


def _image(target: Target, at: Projection) -> Candidate | None:
    """Poles and inputs of the next step; None where there are none."""
    R, _ = sensitivities(target, at)
    W = mixed_adjoint(target, at, R)
    # Least squares for the case that X has dependent columns.
    small = scipy.linalg.lstsq(
        adjoint(W) @ at.X,
        adjoint(W) @ np.hstack([target.multiply(at.X), target.b]),
        check_finite=False,
        lapack_driver="gelsy",
    )[0]
    A, B = np.hsplit(small, [len(at.candidate.poles)])
    if target.real:
        U = real_states(at.candidate)
        A, B = (U @ A @ adjoint(U)).real, (U @ B).real
    return candidate_from(A, B, target.real, target.region) if np.all(np.isfinite(A)) else None


def _matched(candidate: Candidate, other: Candidate, region: Region) -> Candidate:
    """The modes in the order of those of ``other`` that they are nearest to, pairs among pairs, and
    rows of b in their phases."""
    if candidate.pairs != other.pairs:
        return candidate
    q = len(candidate.poles) if candidate.pairs is None else candidate.pairs
    apart = distances(region, other.poles, candidate.poles)
    order = np.arange(len(candidate.poles))
    order[:q] = scipy.optimize.linear_sum_assignment(apart[:q, :q])[1]
    if candidate.pairs is not None:
        order[q : 2 * q] = q + order[:q]
        order[2 * q :] = 2 * q + scipy.optimize.linear_sum_assignment(apart[2 * q :, 2 * q :])[1]
    b = candidate.b[order]
    inner = np.sum(b * other.b.conj(), axis=1, keepdims=True)
    size = np.abs(inner)
    phase = np.where(size > 0, inner, 1) / np.where(size > 0, size, 1)
    return replace(candidate, poles=candidate.poles[order], b=b * phase.conj())


def _combined(memory: list[tuple[Candidate, Candidate]], region: Region) -> Candidate | None:
    """Anderson's combination of the last images; None where it has no meaning."""
    if len(memory) < 2:
        return None
    last = memory[-1][1]
    scale = width(region, last.poles)
    points, images = (
        np.stack([np.concatenate([one.poles / scale, one.b.ravel()]) for one in side])
        for side in zip(*memory, strict=True)
    )
    residuals = images - points
    steps = np.diff(residuals, axis=0)
    # Real combinations keep conjugate pairs what they are.
    matrix = np.concatenate([steps.real, steps.imag], axis=1).T
    wanted = np.concatenate([residuals[-1].real, residuals[-1].imag])
    share = scipy.linalg.lstsq(matrix, wanted, check_finite=False, lapack_driver="gelsy")[0]
    found = images[-1] - share @ np.diff(images, axis=0)
    poles, b = found[: len(scale)] * scale, found[len(scale) :].reshape(last.b.shape)
    if not np.all(np.isfinite(found)) or not region.holds(poles):
        return None
    return moved(last, poles, b)
