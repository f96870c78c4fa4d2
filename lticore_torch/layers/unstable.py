"""Poles outside the unit circle, which no layer holds."""

from __future__ import annotations

from typing import Any

import numpy as np

import lticore
from lticore.errors import ArgumentError
from lticore.internal import in_double, mapped, to_numpy, warn_precision

#: Evenly spread frequencies at which the change is looked at, beside those of the poles.
_GRID = 64


def reflected(sys: Any, largest_radius: float) -> lticore.LTI:
    """The real system with every pole outside the unit circle at 1/conj λ instead.

        c (zI − λ)⁻¹ b   →   c (zI − 1/conj λ)⁻¹ b / |λ|

    On the circle |z − λ| = |λ| |z − 1/conj λ|, so every mode keeps the size of its response at all
    frequencies; its phase changes, and what grew from step to step decays. Poles on the circle come
    to ``largest_radius``. A warning says how many there were and by how much the frequency response
    of the whole system changed.

    Raises
    ------
    ArgumentError
        For quadratic outputs.
    """
    if not isinstance(sys, lticore.LTI):
        raise ArgumentError("only systems with linear outputs have their unstable poles reflected")
    full: Any = mapped(to_numpy, in_double(lticore.to_rotation(sys)))
    radius, real = full.A.radius, full.A.real_poles
    sizes = np.concatenate([np.repeat(np.abs(radius), 2), np.abs(real)])
    outside = sizes >= 1
    if not outside.any():
        return full
    inside = np.minimum(_inward(radius), largest_radius)
    real = np.clip(_inward(real), -largest_radius, largest_radius)
    B = full.B / np.maximum(sizes, 1)[:, None]
    A = lticore.Rotation(inside, full.A.angle, real)
    stable = lticore.LTI(A, B, full.C, full.D)
    warn_precision(
        f"{int(outside.sum())} of {len(sizes)} states have poles outside the unit circle, of "
        f"radius up to {sizes.max():.6g}: they were reflected to 1/conj λ, which changes the "
        f"frequency response by {_relative_change(full, stable):.1e} of its largest value"
    )
    return stable


def _inward(poles: np.ndarray) -> np.ndarray:
    """|λ| or real λ inside the circle, with its sign."""
    return np.where(np.abs(poles) > 1, 1 / np.where(poles == 0, 1, poles), poles)


def _relative_change(full: lticore.LTI, stable: lticore.LTI) -> float:
    frequencies = np.concatenate([np.abs(full.A.angle), np.linspace(0, np.pi, _GRID)])
    before, after = (lticore.frequency_response(x, frequencies) for x in (full, stable))
    finite = np.isfinite(before).all(axis=(-2, -1))  # at a pole on the circle it is not
    change, size = (np.abs(x[finite]).max(initial=0) for x in (before - after, before))
    return float(change / size) if size > 0 else 0.0
