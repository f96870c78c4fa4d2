"""Gradient descent with backtracking for the h2 error, as published; for comparison."""

from __future__ import annotations

import numpy as np

from ...systems.quadratic import dense_forms, transformed
from .descent import Descent, stationarity
from .modes import Candidate, Target, moved
from .objective import Projection, gradient, project, with_outputs

#: Share of the decrease promised by the slope that a step must reach.
_SUFFICIENT = 1e-4
#: Smallest step, as a share of the longest one.
_SMALLEST = 1e-12
#: What is tried first is at most this times the step before: next to the boundary steps are 1e-6 of
#: the longest one, and coming down from that took twenty evaluations for each of them.
_LONGER = 4
#: Descents that lower J by less than this share in so many steps have come to rest, if not to the
#: tolerance: gradients along poles next to the boundary are too small to tell.
_PATIENCE, _PROGRESS = 1000, 1e-6


def armijo(
    target: Target, start: Candidate, max_steps: int = 30_000, tolerance: float = 1e-3
) -> Descent:
    """Steps along the negative gradient in all of (λ̂, B̂, Ĉ, M̂): Armijo's rule tries s, s/2, s/4, …
    until one lowers J by a share of what the slope promises and keeps the poles in the region of
    the target. Here s is four times the last step, and at most 1/‖Σ‖², a unit step for the
    relative error.

    Stops where :func:`stationarity` falls to ``tolerance``, where no step helps, and without having
    converged where a thousand steps lower J by less than 1e-6 of itself, or after ``max_steps``.

    Source: Sakamoto & Sato, arXiv:2510.14542, Algorithm 1 (variables, monotonicity and stability as
    there; s is not given).
    """
    at = project(target, start)
    at = with_outputs(target, start, at.c, dense_forms(at.M))
    history, evaluations, converged = [at.error], 1, False
    step = longest = 1 / max(target.energy, 1e-300)
    for _ in range(max_steps):
        if stationarity(target, at) <= tolerance:
            converged = True
            break
        slopes = _all_gradients(target, at)
        squared = sum(float(np.sum(np.abs(g) ** 2)) for g in slopes)
        following = None
        step = min(longest, _LONGER * step)
        while following is None and step > _SMALLEST * longest:
            trial = _after_descent(target, at, slopes, step)
            evaluations += 1
            promised = _SUFFICIENT * step * squared
            if trial and target.energy * (at.error - trial.error) >= promised:
                following = trial
            else:
                step /= 2
        if following is None:
            converged = True
            break
        at = following
        history.append(at.error)
        if len(history) > _PATIENCE and history[-1] > (1 - _PROGRESS) * history[-_PATIENCE - 1]:
            break
    return Descent(at, tuple(history), evaluations, stationarity(target, at), converged)


def _all_gradients(target: Target, at: Projection) -> tuple[np.ndarray, ...]:
    """(g_λ, g_b, g_c, g_M):  g_c = 2 (Ĉ P̂ − C X),  g_M = 2 (P̂ M̂ P̂ − Xᴴ M X)."""
    g_c = 2 * (at.c @ at.P - target.c @ at.X)
    g_M = 2 * (at.P @ dense_forms(at.M) @ at.P - dense_forms(transformed(target.M, at.X)))
    return (*gradient(target, at), g_c, g_M)


def _after_descent(
    target: Target, at: Projection, slopes: tuple[np.ndarray, ...], step: float
) -> Projection | None:
    g_poles, g_b, g_c, g_M = slopes
    poles = at.candidate.poles - step * g_poles
    if not target.region.holds(poles):
        return None
    candidate = moved(at.candidate, poles, at.candidate.b - step * g_b)
    return with_outputs(target, candidate, at.c - step * g_c, at.M - step * g_M)
